/*
 * test_constraints.c: requests with a constraint, through the engine: what comes out is what was
 * asked for, also where the budget is the least possible; drafts, other requests and caches change
 * nothing; every error.
 */
#include <cjson/cJSON.h>

#include "engine_watch.h"
#include "fixed_cost.h"

static const char schema[] =
	"{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"integer\"},"
	" \"b\": {\"enum\": [\"x\", \"yy\"]}, \"c\": {\"type\": \"array\","
	" \"items\": {\"type\": \"boolean\"}, \"maxItems\": 2}}, \"required\": [\"b\"]}";

static g2_generate
constrained(g2_constraint_kind kind, const char *text)
{
	g2_generate m = generate("hello");

	m.constraint_kind = kind;
	m.constraint = g2_span_of(text);
	return m;
}

/* The next of an answer's texts, NUL-terminated. */
static const char *
next_text(g2_reader *in, g2_completion *c)
{
	static char text[1024];

	g2_completion_get(in, c);
	assert_false(in->failed);
	assert_true(c->text.len < sizeof text);
	memcpy(text, c->text.data, c->text.len);
	text[c->text.len] = '\0';
	return text;
}

static g2_reader
begin_texts(const reply *r, uint32_t n)
{
	g2_reader	in = g2_read(r->data, r->len);
	g2_completions_head head;

	if (r->type == G2_MSG_ERROR)
		expect_error(r, "", "");
	assert_int_equal(r->type, G2_MSG_COMPLETIONS);
	g2_completions_head_get(&in, &head);
	assert_int_equal(head.n, n);
	return in;
}

/* One request by itself; the answer is the caller's. */
static void
ask(reply *r, const g2_generate *m)
{
	send_generate(r, 0, m);
	run_until(r);
}

/* ---- what comes out ---- */

static void
test_choice(void **state)
{
	static const char *const choices[] = {"red", "green", "blue", "redder"};
	g2_generate m = constrained(G2_CONSTRAINT_CHOICE, "[\"red\", \"green\", \"blue\", \"redder\"]");
	bool		seen[4] = {false};

	(void) state;
	open_engine();
	for (uint32_t seed = 0; seed < 40; seed++)
	{
		reply		r = {0};
		g2_reader	in;

		m.seed = seed;
		m.n = seed % 2 ? 3 : 1;
		m.temperature = seed % 5 == 0 ? 100 : 1;
		m.max_new = 3 + seed % 4;
		ask(&r, &m);
		in = begin_texts(&r, m.n);
		for (uint32_t i = 0; i < m.n; i++)
		{
			g2_completion c;
			const char *text = next_text(&in, &c);
			bool		found = false;

			for (int j = 0; j < 4; j++)
				if (strcmp(text, choices[j]) == 0)
					found = seen[j] = true;
			if (!found)
				fail_msg("%s", text);
			assert_true(c.n_ids <= m.max_new);
			/* Nothing can follow: not even an end token is made. */
			if (strcmp(text, "red") != 0)
			{
				assert_int_equal(c.finish, G2_FINISH_STOP);
				assert_int_equal(c.n_ids, strlen(text));
			}
		}
		free_replies(&r, 1);
	}
	for (int j = 0; j < 4; j++)
		assert_true(seen[j]);
	close_engine();
}

static bool
is_order(const char *s)
{
	size_t		letters = strspn(s, "abcdef");

	return letters >= 3 && letters <= 9 && s[letters] == '-' &&
		strspn(s + letters + 1, "0123456789") == 2 && strlen(s) == letters + 3;
}

static void
test_regex(void **state)
{
	g2_generate m = constrained(G2_CONSTRAINT_REGEX, "[a-f]{3,9}-\\d{2}");

	(void) state;
	open_engine();
	for (uint32_t i = 0; i < 60; i++)
	{
		reply		r = {0};
		g2_reader	in;
		g2_completion c;
		const char *text;

		m.seed = i;
		m.temperature = i % 3;
		m.top_k = i % 4 == 0 ? 1 : 0;
		m.top_p = i % 4 == 1 ? 0.1 : 1;
		m.min_p = i % 4 == 2 ? 0.5 : 0;
		m.repetition_penalty = i % 5 == 0 ? 5 : 1;
		m.max_new = 6 + i % 8;
		ask(&r, &m);
		in = begin_texts(&r, 1);
		text = next_text(&in, &c);
		if (!is_order(text))
			fail_msg("%s", text);
		assert_int_equal(c.finish, G2_FINISH_STOP);
		free_replies(&r, 1);
	}
	close_engine();
}

static void
test_schema(void **state)
{
	g2_generate m = constrained(G2_CONSTRAINT_SCHEMA, schema);

	(void) state;
	open_engine();
	for (uint32_t i = 0; i < 60; i++)
	{
		reply		r = {0};
		g2_reader	in;
		g2_completion c;
		cJSON	   *json,
				   *b;
		const char *text;

		m.seed = i;
		m.temperature = i % 3 * 10;
		m.max_new = 9 + i % 40;	/* {"b":"x"} */
		ask(&r, &m);
		in = begin_texts(&r, 1);
		text = next_text(&in, &c);
		json = cJSON_ParseWithOpts(text, NULL, true);
		b = cJSON_GetObjectItemCaseSensitive(json, "b");
		if (!b || (strcmp(b->valuestring, "x") != 0 && strcmp(b->valuestring, "yy") != 0))
			fail_msg("%s", text);
		assert_int_equal(c.finish, G2_FINISH_STOP);
		cJSON_Delete(json);
		free_replies(&r, 1);
	}
	close_engine();
}

/* A text that may go on ends by the end token, or where no more tokens may be made. */
static void
test_open_end(void **state)
{
	g2_generate m = constrained(G2_CONSTRAINT_REGEX, "(ab)*");
	uint32_t	ends[4] = {0};

	(void) state;
	open_engine();
	for (uint32_t i = 0; i < 200; i++)
	{
		reply		r = {0};
		g2_reader	in;
		g2_completion c;
		const char *text;

		m.seed = i;
		m.temperature = 100;
		m.max_new = 1 + i % 4;
		ask(&r, &m);
		in = begin_texts(&r, 1);
		text = next_text(&in, &c);
		assert_true(strlen(text) % 2 == 0 && strlen(text) <= m.max_new);
		assert_true(strncmp(text, "abab", strlen(text)) == 0);
		assert_true(c.finish != G2_FINISH_LENGTH || strlen(text) == m.max_new);
		ends[c.finish]++;
		free_replies(&r, 1);
	}
	assert_true(ends[G2_FINISH_LENGTH] > 0 && ends[G2_FINISH_EOS] > 0);
	/* One token is left, and two would be needed to go on: with ab made, that is the end. */
	assert_true(ends[G2_FINISH_STOP] > 0);
	close_engine();
}

/* Pieces put together are the text, and nothing is held back. */
static void
test_stream(void **state)
{
	g2_generate m = constrained(G2_CONSTRAINT_SCHEMA, schema);
	streamed	s = {0};
	reply		r = {.streamed = &s};
	g2_reader	in;
	g2_completion c;
	const char *text;

	(void) state;
	open_engine();
	m.flags |= G2_GEN_STREAM;
	ask(&r, &m);
	in = begin_texts(&r, 1);
	text = next_text(&in, &c);
	assert_int_equal(s.n, c.n_ids);
	assert_int_equal(s.len, strlen(text));
	assert_memory_equal(s.text, text, s.len);
	free_replies(&r, 1);
	close_engine();
}

/* A task's own stop strings ("e", "t") do not cut what has to be whole. */
static void
test_task(void **state)
{
	g2_generate m = constrained(G2_CONSTRAINT_CHOICE, "[\"better\"]");
	reply		r = {0};
	g2_reader	in;
	g2_completion c;

	(void) state;
	open_engine();
	m.task = g2_span_of("shout");
	ask(&r, &m);
	in = begin_texts(&r, 1);
	assert_string_equal(next_text(&in, &c), "better");
	free_replies(&r, 1);
	close_engine();
}

/* What other options ban comes nevertheless where the constraint leaves nothing else. */
static void
test_other_options(void **state)
{
	static const struct
	{
		uint32_t	id;
		float		bias;
	}			bias = {'a', -100};
	g2_generate m = constrained(G2_CONSTRAINT_REGEX, "a{5}b?");

	(void) state;
	open_engine();
	for (uint32_t i = 0; i < 64; i++)
	{
		reply		r = {0};
		g2_reader	in;
		g2_completion c;
		const char *text;

		m.seed = i;
		m.temperature = i % 3;
		m.max_new = 5 + i % 4;
		m.decoding.no_repeat_ngram = i & 1;
		m.decoding.min_new = i & 2 ? m.max_new : 0;
		m.decoding.frequency_penalty = i & 4 ? 10 : 0;
		m.decoding.typical_p = i & 8 ? 0.2 : 0;
		m.decoding.n_biases = i >> 4 & 1;
		m.decoding.biases = (const char *) &bias;
		ask(&r, &m);
		in = begin_texts(&r, 1);
		text = next_text(&in, &c);
		if (strcmp(text, "aaaaa") != 0 && strcmp(text, "aaaaab") != 0)
			fail_msg("%s", text);
		free_replies(&r, 1);
	}
	close_engine();
}

/* ---- drafts and caches change nothing ---- */

#define DRAFTS 40

/* Answers to texts that repeat themselves, in an engine of their own; how many tokens of drafts were
 * kept. */
static uint64_t
draft_texts(bool speculation, reply *answers)
{
	static const char *const regexes[] = {
		"(hello ){1,9}", "[a-z ]+", "(hello )*hell(o|ish)", "(hello |hallo )+x",
	};
	g2_settings s = settings();
	g2_engine_row row;

	s.no_speculation = !speculation;
	open_with(&s);
	for (uint32_t i = 0; i < DRAFTS; i++)
	{
		g2_generate m = constrained(G2_CONSTRAINT_REGEX, regexes[i % 4]);

		m.prompt = g2_span_of("hello hello hello hello hello ");
		m.max_new = 20 + i % 20;
		m.seed = i;
		m.temperature = i % 3 * 0.5;
		send_generate(answers, i, &m);
		run_until(&answers[i]);
	}
	row = engine_row_of("tiny");
	close_engine();
	assert_true(speculation || row.drafted_tokens == 0);
	return row.drafts_kept;
}

static void
test_drafts(void **state)
{
	static reply with[DRAFTS],
				without[DRAFTS];

	(void) state;
	(void) draft_texts(false, without);
	assert_true(draft_texts(true, with) > 0);
	for (uint32_t i = 0; i < DRAFTS; i++)
		same_answer(&with[i], &without[i]);
	free_replies(with, DRAFTS);
	free_replies(without, DRAFTS);
}

/* The constraint is part of what an answer is kept by. */
static void
test_results(void **state)
{
	static const char *const regexes[] = {"a{3}", "b{3}", "a{3}"};
	g2_settings s = settings();
	reply		r[4] = {0};

	(void) state;
	s.result_cache_size = 1 << 20;
	open_with(&s);
	for (uint32_t i = 0; i < 4; i++)
	{
		g2_generate m = i < 3 ? constrained(G2_CONSTRAINT_REGEX, regexes[i]) : generate("hello");
		g2_reader	in;
		g2_completions_head head;
		g2_completion c;
		const char *text;

		m.temperature = 0;
		send_generate(r, i, &m);
		run_until(&r[i]);
		in = g2_read(r[i].data, r[i].len);
		g2_completions_head_get(&in, &head);
		assert_int_equal(head.marks, i == 2 ? G2_HEAD_RESULT_HIT : 0);
		text = next_text(&in, &c);
		if (i < 3)
			assert_string_equal(text, i == 1 ? "bbb" : "aaa");
	}
	free_replies(r, 4);
	close_engine();
}

/* Many at once, each with its own constraint and some with the same. */
static void
test_many(void **state)
{
	static reply r[200];
	static char regexes[200][32];

	(void) state;
	open_engine();
	for (uint32_t i = 0; i < 200; i++)
	{
		g2_generate m = constrained(G2_CONSTRAINT_REGEX, regexes[i]);

		snprintf(regexes[i], sizeof regexes[i], "x{%u}", 1 + i % 10);
		m.constraint = g2_span_of(regexes[i]);
		m.seed = i;
		send_generate(r, i, &m);
	}
	run_idle();
	for (uint32_t i = 0; i < 200; i++)
	{
		g2_reader	in = begin_texts(&r[i], 1);
		g2_completion c;

		assert_int_equal(strspn(next_text(&in, &c), "x"), 1 + i % 10);
		assert_int_equal(c.text.len, 1 + i % 10);
	}
	free_replies(r, 200);
	close_engine();
}

/* ---- errors ---- */

static void
test_errors(void **state)
{
	static char long_regex[G2_MAX_CONSTRAINT + 2];
	static const struct
	{
		const char *sqlstate;
		const char *part;
		const char *model;
		g2_constraint_kind kind;
		const char *text;
		uint32_t	max_new;
	}			bad[] = {
		{"22023", "unmatched \"(\" in the regex at character 3", "tiny", G2_CONSTRAINT_REGEX, "ab(c", 9},
		{"22023", "keyword \"not\"", "tiny", G2_CONSTRAINT_SCHEMA, "{\"not\": {}}", 9},
		{"22023", "malformed JSON", "tiny", G2_CONSTRAINT_SCHEMA, "{", 9},
		{"22023", "at least one string", "tiny", G2_CONSTRAINT_CHOICE, "[]", 9},
		{"54000", "too complex", "tiny", G2_CONSTRAINT_REGEX, "((a{900}){900}){900}", 9},
		{"54000", "at most 65536 bytes", "tiny", G2_CONSTRAINT_REGEX, long_regex, 9},
		{"XX000", "malformed constraint", "tiny", G2_N_CONSTRAINTS, "a", 9},
		{"22023", "max_len is too small for the regex", "tiny", G2_CONSTRAINT_REGEX, "a{9}", 8},
		{"22023", "max_len is too small for the json_schema", "tiny", G2_CONSTRAINT_SCHEMA, schema, 8},
		{"22023", "max_len is too small for the choice", "tiny", G2_CONSTRAINT_CHOICE,
		"[\"abc\", \"defg\"]", 2},
		{"0A000", "byte-level vocabulary", "words", G2_CONSTRAINT_REGEX, "a", 9},
		{"0A000", "byte-level vocabulary", "line", G2_CONSTRAINT_REGEX, "a", 9},
		{"22023", "allows the empty text alone", "endless", G2_CONSTRAINT_REGEX, "", 9},
		{"22023", "max_len is too small for the regex", "endless", G2_CONSTRAINT_REGEX, "(abc)?", 2},
	};
	g2_generate stopped = constrained(G2_CONSTRAINT_REGEX, "a+");
	reply		r = {0};

	(void) state;
	memset(long_regex, 'a', sizeof long_regex - 1);
	open_engine();
	for (size_t i = 0; i < G2_LENGTH(bad); i++)
	{
		g2_generate m = constrained(bad[i].kind, bad[i].text);

		m.model = g2_span_of(bad[i].model);
		m.prompt = g2_span_of("ab");
		m.max_new = bad[i].max_new;
		ask(&r, &m);
		expect_error(&r, bad[i].sqlstate, bad[i].part);
		free_replies(&r, 1);
	}
	stopped.temperature = 0;
	stopped.decoding.n_beams = 2;
	ask(&r, &stopped);
	expect_error(&r, "22023", "num_beams and regex cannot both be given");
	free_replies(&r, 1);
	stopped = constrained(G2_CONSTRAINT_REGEX, "a+");
	stopped.n_stops = 1;
	stopped.stops[0] = g2_span_of("x");
	ask(&r, &stopped);
	expect_error(&r, "22023", "stop strings and regex cannot both be given");
	free_replies(&r, 1);
	close_engine();
}

/* A model without an end token: the text goes on as long as it can. */
static void
test_endless(void **state)
{
	static const struct
	{
		const char *regex;
		uint32_t	max_new;
		const char *text;
		g2_finish	finish;
	}			cases[] = {
		{"a*", 5, "aaaaa", G2_FINISH_LENGTH},
		{"(ab)*", 5, "abab", G2_FINISH_STOP},
		{"(abc)?", 9, "abc", G2_FINISH_STOP},
	};

	(void) state;
	open_engine();
	for (size_t i = 0; i < G2_LENGTH(cases); i++)
	{
		g2_generate m = constrained(G2_CONSTRAINT_REGEX, cases[i].regex);
		reply		r = {0};
		g2_reader	in;
		g2_completion c;

		m.model = g2_span_of("endless");
		m.max_new = cases[i].max_new;
		ask(&r, &m);
		in = begin_texts(&r, 1);
		assert_string_equal(next_text(&in, &c), cases[i].text);
		assert_int_equal(c.finish, cases[i].finish);
		free_replies(&r, 1);
	}
	close_engine();
}

/* The n-th allocation fails, for every n until the answer comes. */
static void
test_memory(void **state)
{
	g2_generate m = constrained(G2_CONSTRAINT_REGEX, "[a-c]{2}(x|y)*");
	bool		answered = false;
	uint32_t	refused = 0;

	(void) state;
	m.flags |= G2_GEN_NO_CACHE;
	for (long n = 1; !answered; n++)
	{
		reply		r[2] = {0};
		g2_generate load = generate("x");

		open_engine();
		load.max_new = 1;
		send_generate(r, 0, &load);
		run_until(&r[0]);
		g2_alloc_fail_at(n);
		send_generate(r, 1, &m);
		run_until(&r[1]);
		g2_alloc_fail_at(0);
		answered = r[1].type == G2_MSG_COMPLETIONS;
		if (!answered)
		{
			expect_error(&r[1], "53200", "");
			refused++;
		}
		free_replies(r, 2);
		close_engine();
	}
	assert_true(refused > 10);
}

static int
set_up_all(void **state)
{
	set_up(state);
	fixture_synth(&places, "words", &tiny_model);
	tb_text(fixture_folder(&places, "words"), "vocab.txt", "[UNK]\n[PAD]\nab\na\nb\n");
	/* Its end token is a line feed, so that no text holds one. */
	fixture_synth(&places, "line", &tiny_model);
	fixture_tokenizer(fixture_folder(&places, "line"));
	tb_text(fixture_folder(&places, "line"), "gpt2.json", "{\"end_token\": \"\\n\"}");
	/* No end token at all. */
	fixture_synth(&places, "endless", &tiny_model);
	fixture_tokenizer(fixture_folder(&places, "endless"));
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_choice),
		cmocka_unit_test(test_regex),
		cmocka_unit_test(test_schema),
		cmocka_unit_test(test_open_end),
		cmocka_unit_test(test_stream),
		cmocka_unit_test(test_task),
		cmocka_unit_test(test_other_options),
		cmocka_unit_test(test_drafts),
		cmocka_unit_test(test_results),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_endless),
		cmocka_unit_test(test_memory),
	};

	return cmocka_run_group_tests(tests, set_up_all, tear_down);
}
