/*
 * test_split.c: a text that is too long: where it is cut, what is left of it, and the summaries of
 * its parts, against the same done step by step.
 */
#include "engine_driver.h"

#include "backend.h"
#include "cut.h"
#include "usage_fixture.h"

#define TEMPLATE_TOKENS 7		/* of "\nTL;DR:"; a token is a byte here */
#define MAX_NEW 8

/* ---- places ---- */

static void
expect_place(const char *text, const char *before)
{
	size_t		got = g2_cut_place(text, strlen(text));

	if (got != strlen(before))
		fail_msg("\"%s\" is cut at %zu, not behind \"%s\"", text, got, before);
}

static void
test_places(void **state)
{
	(void) state;
	expect_place("One two.  Three.\n\nFour. Five\nsix", "One two.  Three.\n\n");
	expect_place("One two, three.\n \t\nFour. Five", "One two, three.\n \t\n");
	expect_place("One two three. Four five\nsix", "One two three. ");
	expect_place("One two \"three!\" Four five\nsix", "One two \"three!\" ");
	expect_place("One two three four five\nsix seven", "One two three four five\n");
	expect_place("One two three four five six", "One two three four five ");
	expect_place("Version 1.25 and 3.5e7x", "Version 1.25 and ");
	expect_place("onetwothreefourfive", "onetwothreefourfive");
	/* Nothing in the second half. */
	expect_place("A. B\n\nC. onetwothreefourfive", "A. B\n\nC. onetwothreefourfive");
	expect_place("\xE8\xBF\x99\xE6\x98\xAF\xE3\x80\x82\xE4\xB8\x80",
				 "\xE8\xBF\x99\xE6\x98\xAF\xE3\x80\x82");
	expect_place("", "");
	assert_int_equal(g2_cut_character("\xE8\xBF\x99\xE6", 2), 2);
	assert_int_equal(g2_cut_character("a\xE8\xBF\x99", 3), 1);
	assert_int_equal(g2_cut_character("a\xE8\xBF\x99""b", 4), 4);
	assert_int_equal(g2_cut_character("\x80\x80\x80\x80\x80\x80", 5), 5);
}

/* ---- requests ---- */

static g2_generate
summary_of(const char *text, size_t len, uint32_t flags)
{
	g2_generate m = generate("");

	m.prompt = (g2_span) {text, (uint32_t) len};
	m.task = g2_span_of("summarize");
	m.temperature = 0;
	m.max_new = MAX_NEW;
	m.flags = flags;
	return m;
}

/* The completion's text, copied; with PARTS how many bytes it is of. */
static char *
ask(const g2_generate *m, uint64_t *used)
{
	reply		r = {0};
	g2_completions_head head;
	g2_completion c;
	g2_reader	in;
	char	   *text;

	send_generate(&r, 0, m);
	run_until(&r);
	assert_int_equal(r.type, G2_MSG_COMPLETIONS);
	in = g2_read(r.data, r.len);
	g2_completions_head_get(&in, &head);
	g2_completion_get(&in, &c);
	if (used)
		*used = g2_get_u64(&in);
	assert_false(in.failed);
	text = malloc(c.text.len + 1);
	assert_non_null(text);
	memcpy(text, c.text.data, c.text.len);
	text[c.text.len] = '\0';
	free_replies(&r, 1);
	leave(&r);
	return text;
}

/* Words, sentences, lines and paragraphs. */
static char *
make_text(size_t len)
{
	static const char *const ends[] = {" ", " ", " ", " ", ", ", ". ", "! ", "\n", ".\n\n", ".\n"};
	char	   *text = malloc(len + 64);
	size_t		at = 0;

	assert_non_null(text);
	while (at < len)
	{
		uint32_t	n = 1 + random_below(11);

		for (uint32_t i = 0; i < n; i++)
			text[at++] = (char) ('a' + random_below(26));
		at += (size_t) sprintf(text + at, "%s", ends[random_below(G2_LENGTH(ends))]);
	}
	text[len] = '\0';
	return text;
}

/* ---- step by step ---- */

static void
append_line(g2_buf *text, const char *line)
{
	g2_span		s = g2_cut_trim(g2_span_of(line));

	if (s.len > 0 && text->len > 0)
		g2_buf_append(text, "\n", 1);
	g2_buf_append(text, s.data, s.len);
}

/* Cuts parts off by hand and asks for each alone, until one prompt is enough. */
static char *
by_hand(const char *text, uint32_t flags)
{
	size_t		room = N_CTX - MAX_NEW - TEMPLATE_TOKENS - (flags == G2_GEN_ADD_START),
				len = strlen(text),
				at = 0;
	g2_buf		lines = {0};
	g2_generate m = summary_of(text, len, flags);
	char	   *result;

	if (len <= room)
		return ask(&m, NULL);
	while (at < len)
	{
		g2_span		left = {text + at, (uint32_t) (len - at)};
		char	   *line;

		if (g2_cut_trim(left).len == 0)
			break;
		if (g2_cut_trim(left).len > room || left.len > N_CTX * 16)
			left.len = (uint32_t) g2_cut_place(left.data, g2_cut_character(left.data, room));
		at += left.len;
		left = g2_cut_trim(left);
		m = summary_of(left.data, left.len, flags);
		line = ask(&m, NULL);
		append_line(&lines, line);
		free(line);
	}
	g2_buf_append(&lines, "", 1);
	result = lines.len > 1 ? by_hand(lines.data, flags) : strdup("");
	g2_buf_free(&lines);
	return result;
}

static void
test_rounds(void **state)
{
	static const size_t lengths[] = {1, 100, 113, 114, 130, 500, 2048, 2049, 5000, 130000};

	(void) state;
	open_engine();
	for (size_t i = 0; i < 2 * G2_LENGTH(lengths); i++)
	{
		size_t		len = lengths[i / 2];
		uint32_t	flags = i % 2 == 0 || len > 100000 ? 0 : G2_GEN_ADD_START;
		char	   *text = make_text(len),
				   *wanted = by_hand(text, flags),
				   *got;
		g2_generate m = summary_of(text, len, flags | G2_GEN_SPLIT);

		got = ask(&m, NULL);
		assert_string_equal(got, wanted);
		free(got);
		free(wanted);
		free(text);
	}
	close_engine();
}

/* A text that comes in pieces has the same parts. */
static void
test_pieces(void **state)
{
	char	   *text = make_text(9000),
			   *whole,
			   *last,
			   *got;
	g2_generate m = summary_of(text, 9000, G2_GEN_PARTS | G2_GEN_LAST);
	g2_buf		lines = {0};
	size_t		at = 0;
	uint64_t	used;

	(void) state;
	open_engine();
	whole = ask(&m, &used);
	assert_true(used >= 8990 && used <= 9000);
	for (size_t end = 100; end < 9000; end += 1 + random_below(3000))
	{
		m = summary_of(text + at, end - at, G2_GEN_PARTS);
		got = ask(&m, &used);
		assert_true(used <= end - at);
		assert_true(used == 0 || end - at > 16 * N_CTX);
		at += used;
		append_line(&lines, got);
		free(got);
	}
	m = summary_of(text + at, 9000 - at, G2_GEN_PARTS | G2_GEN_LAST);
	last = ask(&m, &used);
	append_line(&lines, last);
	g2_buf_append(&lines, "", 1);
	assert_string_equal(lines.data, whole);
	g2_buf_free(&lines);
	free(last);
	free(whole);
	free(text);
	close_engine();
}

static void
test_empty(void **state)
{
	g2_generate m = summary_of(" \n ", 3, G2_GEN_PARTS | G2_GEN_LAST);
	uint64_t	used = 7;
	char	   *text;

	(void) state;
	open_engine();
	text = ask(&m, &used);
	assert_string_equal(text, "");
	assert_int_equal(used, 0);
	free(text);
	close_engine();
}

/* ---- what is counted, and errors ---- */

static g2_usage_row
usage_now(void)
{
	reply		r = {0};
	g2_reader	in;
	g2_usage_row row = {0};

	g2_engine_submit(client_of(&r), 0, G2_MSG_USAGE, NULL, 0);
	assert_int_equal(r.type, G2_MSG_USAGE_LIST);
	in = g2_read(r.data, r.len);
	if (g2_get_u32(&in) > 0)
		g2_usage_row_get(&in, &row);
	row.model = (g2_span) {"", 0};
	free_replies(&r, 1);
	leave(&r);
	return row;
}

static void
test_usage(void **state)
{
	char	   *text = make_text(3000),
			   *got;
	g2_generate m = summary_of(text, 3000, G2_GEN_SPLIT);
	g2_usage_row row;

	(void) state;
	open_engine();
	got = ask(&m, NULL);
	free(got);
	row = usage_now();
	assert_int_equal(row.calls, 1);
	assert_true(row.sequences > 30);
	assert_true(row.prompt_tokens > 3000);
	assert_int_equal(row.errors + row.cancelled + row.truncated, 0);
	/* Cut texts are counted as such. */
	m = summary_of(text, 3000, G2_GEN_TRUNCATE_RIGHT);
	got = ask(&m, NULL);
	free(got);
	row = usage_now();
	assert_int_equal(row.calls, 2);
	assert_int_equal(row.truncated, 1);
	free(text);
	close_engine();
}

/* A constraint is for the summary of the parts, and what is wrong with it is said before them. */
static void
test_constraint(void **state)
{
	static const char *const bad[] = {"(unmatched", "twelve bytes"};
	static const g2_bias end = {256, G2_MAX_BIAS};
	char	   *text = make_text(3000),
			   *got;
	g2_generate m = summary_of(text, 3000, G2_GEN_SPLIT);

	(void) state;
	open_engine();
	m.constraint_kind = G2_CONSTRAINT_REGEX;
	for (size_t i = 0; i < G2_LENGTH(bad); i++)
	{
		reply		r = {0};

		m.constraint = g2_span_of(bad[i]);
		send_generate(&r, 0, &m);
		run_idle();
		expect_error(&r, "22023", i == 0 ? "unmatched" : "max_len is too small");
		free_replies(&r, 1);
	}
	assert_int_equal(usage_now().sequences, 0);
	m.constraint = g2_span_of("yes|no");
	got = ask(&m, NULL);
	assert_true(strcmp(got, "yes") == 0 || strcmp(got, "no") == 0);
	assert_true(usage_now().sequences > 30);
	free(got);
	/* Parts that all end at once have an empty summary, which the constraint does not allow. */
	m.decoding.n_biases = 1;
	m.decoding.biases = (const char *) &end;
	got = ask(&m, NULL);
	assert_true(strcmp(got, "yes") == 0 || strcmp(got, "no") == 0);
	free(got);
	m.constraint_kind = G2_CONSTRAINT_NONE;
	got = ask(&m, NULL);
	assert_string_equal(got, "");
	free(got);
	free(text);
	close_engine();
}

static void
test_cancel(void **state)
{
	char	   *text = make_text(20000);
	g2_generate m = summary_of(text, 20000, G2_GEN_SPLIT);

	(void) state;
	open_engine();
	for (uint32_t turns = 0; turns < 60; turns += 1 + turns / 4)
	{
		reply		r = {0};
		int64_t		start = g2_now_us();

		send_generate(&r, 0, &m);
		g2_engine_run(engine);
		for (uint32_t i = 0; i < turns && !r.type; i++)
			turn(start);
		assert_int_equal(r.type, 0);
		assert_true(g2_engine_cancel(client_of(&r), 0));
		run_idle();
		assert_int_equal(r.type, 0);
		leave(&r);
		check_idle();
	}
	free(text);
	close_engine();
}

static void
test_errors(void **state)
{
	char		template_text[N_CTX + 16];
	char	   *text = make_text(3000);
	g2_generate m = summary_of(text, 3000, G2_GEN_SPLIT);
	reply		r[4] = {0};

	(void) state;
	memset(template_text, 'x', sizeof template_text);
	memcpy(template_text + N_CTX, "{input}", 8);
	open_engine();
	m.task = (g2_span) {"", 0};
	m.template_text = g2_span_of(template_text);
	send_generate(r, 0, &m);
	m.flags = G2_GEN_TRUNCATE_LEFT;
	send_generate(r, 1, &m);
	m = summary_of(text, 3000, G2_GEN_SPLIT);
	m.n = 2;
	m.temperature = 1;
	send_generate(r, 2, &m);
	m = summary_of(text, 3000, 0);
	send_generate(r, 3, &m);
	run_idle();
	expect_error(&r[0], "54000", "template does not fit");
	expect_error(&r[1], "54000", "template does not fit");
	expect_error(&r[2], "XX000", "malformed");
	expect_error(&r[3], "54000", "prompt does not fit");
	free_replies(r, 4);
	free(text);
	close_engine();
}

/* What is left of a cut prompt is that of the text that is left. */
static void
test_cut(void **state)
{
	char	   *text = make_text(700);
	size_t		room = N_CTX - MAX_NEW - TEMPLATE_TOKENS;
	const struct
	{
		uint32_t	flags;
		const char *kept;
	}			sides[] = {
		{G2_GEN_TRUNCATE_LEFT, text + 700 - room}, {G2_GEN_TRUNCATE_RIGHT, text}
	};

	(void) state;
	open_engine();
	for (size_t i = 0; i < G2_LENGTH(sides); i++)
		for (int with_template = 0; with_template < 2; with_template++)
		{
			size_t		kept = with_template ? room : N_CTX - MAX_NEW;
			const char *from = i == 0 ? text + 700 - kept : text;
			g2_generate m = summary_of(text, 700, sides[i].flags);
			char	   *got,
					   *wanted;

			if (!with_template)
				m.task = (g2_span) {"", 0};
			got = ask(&m, NULL);
			m.prompt = (g2_span) {from, (uint32_t) kept};
			m.flags = 0;
			wanted = ask(&m, NULL);
			assert_string_equal(got, wanted);
			free(got);
			free(wanted);
		}
	free(text);
	close_engine();
}

/* Each allocation fails once: an error, or the same summary, and nothing is left behind. */
static void
test_no_memory(void **state)
{
	char	   *text = make_text(400),
			   *right;
	g2_generate m = summary_of(text, 400, G2_GEN_SPLIT);
	bool		failed = true;

	(void) state;
	open_engine();
	right = ask(&m, NULL);
	for (long n = 1; failed; n++)
	{
		reply		r = {0};
		g2_completions_head head;
		g2_completion c;
		g2_reader	in;

		client_of(&r);
		g2_alloc_fail_at(n);
		send_generate(&r, 0, &m);
		run_until(&r);
		g2_alloc_fail_at(0);
		failed = r.type == G2_MSG_ERROR;
		if (failed)
			expect_error(&r, "53200", "memory");
		else
		{
			in = g2_read(r.data, r.len);
			g2_completions_head_get(&in, &head);
			g2_completion_get(&in, &c);
			assert_int_equal(c.text.len, strlen(right));
			assert_memory_equal(c.text.data, right, c.text.len);
		}
		run_idle();
		leave(&r);
		free_replies(&r, 1);
		check_idle();
		assert_true(n < 5000);
	}
	free(right);
	free(text);
	close_engine();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_rounds),
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_usage),
		cmocka_unit_test(test_constraint),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
