/*
 * test_scoring.c: requests that score, beside each other and beside those that generate: the same
 * bits whatever runs with them, what is refused, cancelled, kept and counted.
 */
#include "score_fixture.h"

#include "engine_state.h"
#include "engine_watch.h"
#include "prefix.h"

#define N_MIXED 60
#define EXAMPLE_BYTES 18		/* of one, whose text and label have one byte each */

static const char *const label_names[] = {"a", "bc", "def", "ghij", "x y z", "k", "lm"};

/* Some score; the text's characters are in `text` (of 512). */
static g2_score
random_score(char *text)
{
	uint32_t	n = random_below(random_below(3) ? 100 : 400);
	g2_score	m;

	for (uint32_t i = 0; i < n; i++)
		text[i] = (char) ('a' + random_below(random_below(4) ? 2 : 26));
	m = score_of(G2_SCORE_TOKENS + random_below(4), (g2_span) {text, n});
	m.stride = random_below(2) ? 1 + random_below(N_CTX - 1) : 0;
	m.flags = random_below(2) ? G2_SCORE_NO_CACHE : 0;
	if (m.kind != G2_SCORE_LABELS)
	{
		if (m.kind != G2_SCORE_EMBED && random_below(2))
			m.flags |= G2_SCORE_ADD_START;
		return m;
	}
	m.template_text = g2_span_of(random_below(2) ? "{input}: {label}" : "T{input}");
	m.n_labels = 1 + random_below(G2_LENGTH(label_names));
	for (uint32_t i = 0; i < m.n_labels; i++)
		m.labels[i] = g2_span_of(label_names[i]);
	return m;
}

/* ---- the same bits ---- */

static void
test_alone_or_not(void **state)
{
	static char texts[N_MIXED][512],
				prompts[N_MIXED][128];
	static g2_score scores[N_MIXED];
	static reply alone[N_MIXED],
				together[2 * N_MIXED];
	static g2_engine_row rows[MAX_ROWS];
	uint64_t	n_preemptions = 0;
	g2_settings s = settings();

	(void) state;
	open_engine();
	for (uint32_t i = 0; i < N_MIXED; i++)
	{
		scores[i] = random_score(texts[i]);
		send_score(alone, i, &scores[i]);
		run_until(&alone[i]);
	}
	close_engine();
	/* Little room, so that groups are preempted, and small steps. */
	for (uint32_t step = 0; step <= 40; step += 20)
	{
		s.kv_cache_size = step ? 1 << 18 : 8 << 20;
		s.step_tokens = step;
		open_with(&s);
		for (uint32_t i = 0; i < N_MIXED; i++)
		{
			g2_generate m = random_generate(prompts[i]);

			send_score(together, 2 * i, &scores[i]);
			send_generate(together, 2 * i + 1, &m);
		}
		run_idle();
		for (uint32_t i = 0; i < N_MIXED; i++)
			same_scores(&alone[i], &together[2 * i]);
		assert_int_equal(watch_engine(rows), 1);
		n_preemptions += rows[0].preemptions;
		free_replies(together, G2_LENGTH(together));
		close_engine();
	}
	assert_true(n_preemptions > 0);
	free_replies(alone, N_MIXED);
}

/* A prefix that is there is used where no score comes out of it: for labels, not for tokens. */
static void
test_prefix(void **state)
{
	static char text[100];
	g2_score	m = score_of(G2_SCORE_LABELS, (g2_span) {text, sizeof text});
	reply		r[4] = {0};
	g2_reader	in;

	(void) state;
	memset(text, 'q', sizeof text);
	open_engine();
	m.template_text = g2_span_of("{input}{label}");
	m.n_labels = 2;
	m.labels[0] = g2_span_of("yes");
	m.labels[1] = g2_span_of("no");
	for (uint32_t i = 0; i < 2; i++)
	{
		send_score(r, i, &m);
		run_until(&r[i]);
		assert_int_equal(scores_head(&r[i], &in).cached_tokens, i == 0 ? 0 : 96);
	}
	same_scores(&r[0], &r[1]);
	m.kind = G2_SCORE_TOKENS;
	for (uint32_t i = 2; i < 4; i++)
	{
		send_score(r, i, &m);
		run_until(&r[i]);
		assert_int_equal(scores_head(&r[i], &in).cached_tokens, 0);
	}
	same_scores(&r[2], &r[3]);
	free_replies(r, G2_LENGTH(r));
	close_engine();
}

/* The sums of tokens and of the loss are the same; a start token gives the first one its score. */
static void
test_sums(void **state)
{
	g2_score	m = score_of(G2_SCORE_TOKENS, g2_span_of("some text \xE6\x97\xA5 and more"));
	reply		r[2] = {0};
	g2_reader	in;
	g2_score_sum sum;
	double		total = 0;
	char		text[64];
	size_t		len = 0;
	uint32_t	n;

	(void) state;
	open_engine();
	m.flags = G2_SCORE_ADD_START;
	send_score(r, 0, &m);
	m.kind = G2_SCORE_LOSS;
	send_score(r, 1, &m);
	run_idle();
	scores_head(&r[0], &in);
	n = g2_get_u32(&in);
	assert_int_equal(n, m.text.len);
	for (uint32_t i = 0; i < n; i++)
	{
		g2_token_score token;

		g2_token_score_get(&in, &token);
		total += token.logprob;
		assert_int_equal(g2_utf8_valid_prefix(token.piece.data, token.piece.len),
						 token.piece.len);
		memcpy(text + len, token.piece.data, token.piece.len);
		len += token.piece.len;
	}
	assert_int_equal(len, m.text.len);
	assert_memory_equal(text, m.text.data, len);
	scores_head(&r[1], &in);
	g2_score_sum_get(&in, &sum);
	assert_int_equal(sum.n, n);
	assert_true(sum.logprob == total);
	free_replies(r, 2);
	close_engine();
}

/* A text that is too long for its template is cut at its end, and only as far as is needed. */
static void
test_cut(void **state)
{
	static char text[3000];
	g2_score	m = score_of(G2_SCORE_LABELS, (g2_span) {text, sizeof text});
	reply		r[2] = {0};
	g2_reader	in;

	(void) state;
	memset(text, 'w', sizeof text);
	open_engine();
	m.template_text = g2_span_of("<{input}> {label}");
	m.n_labels = 2;
	m.labels[0] = g2_span_of("yes");
	m.labels[1] = g2_span_of("no");
	send_score(r, 0, &m);
	m.text.len = N_CTX - 2 - 3;		/* < and >, and " yes" but for its last token */
	send_score(r, 1, &m);
	run_idle();
	assert_int_equal(scores_head(&r[0], &in).prompt_tokens, N_CTX - 3 + 4 + 3);
	same_scores(&r[0], &r[1]);
	free_replies(r, 2);
	close_engine();
}

/* Examples stand before the text, filled as it is. */
static void
test_examples(void **state)
{
	g2_score	m = score_of(G2_SCORE_LABELS, g2_span_of("c"));
	reply		r[2] = {0};

	(void) state;
	open_engine();
	m.template_text = g2_span_of("{labels}:{condition}:{input} {label}.");
	m.condition = g2_span_of("?");
	m.n_labels = 2;
	m.labels[0] = g2_span_of("yes");
	m.labels[1] = g2_span_of("no");
	m.n_examples = 2;
	m.example_texts[0] = g2_span_of("a");
	m.example_labels[0] = g2_span_of("no");
	m.example_texts[1] = g2_span_of("b");
	m.example_labels[1] = g2_span_of("yes");
	send_score(r, 0, &m);
	m.template_text = g2_span_of("{input}");
	m.n_examples = 0;
	m.text = g2_span_of("yes, no:?:a no.\n\nyes, no:?:b yes.\n\nyes, no:?:c");
	send_score(r, 1, &m);
	run_idle();
	same_scores(&r[0], &r[1]);
	free_replies(r, 2);
	close_engine();
}

/* ---- what is refused ---- */

typedef struct bad
{
	const char *sqlstate;
	const char *part;
	void		(*change) (g2_score *m);
} bad;

#define CHANGE(name, statement) static void name(g2_score *m) { statement; }
static char long_text[G2_MAX_SCORED + 2];

CHANGE(no_kind, m->kind = 0)
CHANGE(high_kind, m->kind = G2_SCORE_LABELS + 1)
CHANGE(no_labels, m->n_labels = 0)
CHANGE(empty_label, m->labels[1] = g2_span_of(""))
CHANGE(long_label, m->labels[1] = ((g2_span) {long_text, G2_MAX_LABEL_BYTES + 1}))
CHANGE(wide_label, m->labels[1] = ((g2_span) {long_text, N_CTX}))
CHANGE(no_prompt, m->template_text = g2_span_of("{input}{label}"); m->text = g2_span_of(""))
CHANGE(late_input, m->template_text = g2_span_of("Of {label}: {input}"))
CHANGE(no_task, m->template_text = g2_span_of(""); m->task = g2_span_of("sing"))
CHANGE(many_examples, m->n_examples = 1;
	   m->example_texts[0] = ((g2_span) {long_text, 2 * N_CTX}))
/* The first example fills all that a prompt may have, its label more: nothing is left. */
#define INPUTS_8 "{input}{input}{input}{input}{input}{input}{input}{input}"
CHANGE(full_example, m->template_text = g2_span_of(INPUTS_8 INPUTS_8 INPUTS_8 INPUTS_8 "{label}");
	   m->n_examples = 2; m->example_texts[0] = ((g2_span) {long_text, G2_MAX_TEXT / 32});
	   m->example_labels[0] = m->example_texts[1] = m->example_labels[1] = g2_span_of("no"))
CHANGE(long_salt, m->cache_salt = ((g2_span) {long_text, G2_MAX_SALT + 1}))
CHANGE(wide_stride, m->kind = G2_SCORE_LOSS; m->stride = N_CTX)
CHANGE(huge_stride, m->kind = G2_SCORE_TOKENS; m->stride = UINT32_MAX)
CHANGE(many_tokens, m->kind = G2_SCORE_EMBED;
	   m->text = ((g2_span) {long_text, G2_MAX_SCORED + 1}))
CHANGE(no_model, m->model = g2_span_of("nosuch"))
CHANGE(no_tokenizer, m->model = g2_span_of("bare"))
CHANGE(no_start, m->model = g2_span_of("bare"); m->kind = G2_SCORE_LOSS;
	   m->flags = G2_SCORE_ADD_START)

static const bad bads[] = {
	{"XX000", "kind", no_kind}, {"XX000", "kind", high_kind}, {"22023", "label", no_labels},
	{"22023", "label", empty_label}, {"54000", "label", long_label},
	{"54000", "context", wide_label}, {"22023", "before the label", no_prompt},
	{"22023", "{input} behind {label} only", late_input},
	{"22023", "sing", no_task}, {"54000", "examples", many_examples},
	{"54000", "examples and text have more than 33554432 bytes", full_example},
	{"22023", "salt", long_salt}, {"22023", "stride", wide_stride},
	{"22023", "stride", huge_stride}, {"54000", "tokens", many_tokens},
	{"42704", "nosuch", no_model}, {"0A000", "tokenizer", no_tokenizer},
	{"22023", "start token", no_start},
};

static g2_score
two_labels(void)
{
	g2_score	m = score_of(G2_SCORE_LABELS, g2_span_of("a text"));

	m.template_text = g2_span_of("{input} {label}");
	m.n_labels = 2;
	m.labels[0] = g2_span_of("yes");
	m.labels[1] = g2_span_of("no");
	return m;
}

static void
test_refused(void **state)
{
	reply		r = {0};

	(void) state;
	memset(long_text, 'x', sizeof long_text - 1);
	open_engine();
	for (size_t i = 0; i < G2_LENGTH(bads); i++)
	{
		g2_score	m = two_labels();

		bads[i].change(&m);
		send_score(&r, 0, &m);
		run_until(&r);
		expect_error(&r, bads[i].sqlstate, bads[i].part);
		free_replies(&r, 1);
	}
	close_engine();
}

/* A context of one token has no room for a token and the one that it follows; for one token's norm,
 * and for labels of one token behind a prompt of one, it has. */
static void
test_narrow_context(void **state)
{
	g2_synth_options narrow = tiny_model;
	reply		r = {0};

	(void) state;
	narrow.n_ctx = 1;
	fixture_synth(&places, "narrow", &narrow);
	fixture_tokenizer(fixture_folder(&places, "narrow"));
	open_engine();
	for (uint32_t kind = G2_SCORE_TOKENS; kind <= G2_SCORE_LABELS; kind++)
	{
		g2_score	m = two_labels();

		m.model = g2_span_of("narrow");
		m.kind = kind;
		if (kind == G2_SCORE_LABELS)
		{
			m.template_text = g2_span_of("Q{label}");
			m.labels[0] = g2_span_of("y");
			m.labels[1] = g2_span_of("n");
		}
		send_score(&r, 0, &m);
		run_until(&r);
		if (kind == G2_SCORE_TOKENS || kind == G2_SCORE_LOSS)
			expect_error(&r, "0A000", "context");
		else
			assert_int_equal(r.type, G2_MSG_SCORES);
		free_replies(&r, 1);
	}
	close_engine();
}

/* Every payload that is cut short is refused, but for one that ends before the examples. */
static void
test_short_payloads(void **state)
{
	g2_score	m = two_labels();
	g2_writer	w = {.grow = grow};
	reply		r = {0};

	(void) state;
	m.n_examples = 1;
	m.example_texts[0] = m.example_labels[0] = g2_span_of("e");
	g2_score_encode(&w, &m);
	open_engine();
	for (size_t n = 0; n < w.len; n++)
	{
		g2_engine_submit(client_of(&r), 0, G2_MSG_SCORE, w.data, n);
		run_until(&r);
		assert_int_equal(r.type, n == w.len - EXAMPLE_BYTES ? G2_MSG_SCORES : G2_MSG_ERROR);
		free_replies(&r, 1);
	}
	free(w.data);
	close_engine();
}

/* ---- cancel, memory, limits, counters ---- */

static void
test_cancel(void **state)
{
	static char texts[N_MIXED][512];
	static reply r[N_MIXED];

	(void) state;
	open_engine();
	for (uint32_t i = 0; i < N_MIXED; i++)
	{
		g2_score	m = random_score(texts[i]);

		send_score(r, i, &m);
		for (uint32_t turns = random_below(6); turns > 0 && !r[i].type; turns--)
			turn(g2_now_us());
		if (random_below(2))
			g2_engine_cancel(client_of(r), i);
	}
	close_engine();
	for (uint32_t i = 0; i < N_MIXED; i++)
		assert_true(r[i].answers <= 1 && r[i].type != G2_MSG_ERROR);
	free_replies(r, N_MIXED);
}

/* Without memory at any point there is an error, and nothing stays behind. */
static void
test_no_memory(void **state)
{
	static char text[300];
	bool		failed = true;

	(void) state;
	memset(text, 'm', sizeof text);
	open_engine();
	for (long n = 1; failed; n++)
	{
		reply		r[4] = {0};

		failed = false;
		for (uint32_t kind = G2_SCORE_TOKENS; kind <= G2_SCORE_LABELS; kind++)
		{
			g2_score	m = two_labels();

			m.kind = kind;
			if (kind != G2_SCORE_LABELS)
				m.text = (g2_span) {text, sizeof text};
			client_of(r);
			g2_alloc_fail_at(n);
			send_score(r, kind - 1, &m);
			run_until(&r[kind - 1]);
			g2_alloc_fail_at(0);
			if (r[kind - 1].type == G2_MSG_ERROR)
			{
				expect_error(&r[kind - 1], "53200", "memory");
				failed = true;
			}
		}
		leave(r);
		free_replies(r, 4);
		check_idle();
		assert_true(n < 3000);
	}
	close_engine();
}

static void
test_limits(void **state)
{
	g2_score	m = score_of(G2_SCORE_LOSS, g2_span_of("twelve bytes"));
	g2_session_message limited = {
		.session_user = somebody.session_user, .limits = {11, UNSET, UNSET},
	};
	g2_writer	w = {.grow = grow};
	g2_error	err;
	reply		r = {0};

	(void) state;
	open_engine();
	attach_as(&r, &somebody);
	for (int i = 0; i < 2; i++)
	{
		w.len = 0;
		limited.limits[G2_LIMIT_CALL] = 11 + i;
		g2_session_message_encode(&w, &limited);
		EXPECT_OK(g2_engine_tell(client_of(&r), G2_MSG_SESSION, w.data, w.len, &err), err);
		send_score(&r, 0, &m);
		run_until(&r);
		if (i == 0)
			expect_error(&r, "53400", "max_tokens_per_call");
		else
			assert_int_equal(r.type, G2_MSG_SCORES);
		free_replies(&r, 1);
	}
	free(w.data);
	close_engine();
}

/* The time limit is one of waiting for the start: a text whose first window has run waits behind
 * others for the next one as long as that takes. */
static void
test_started(void **state)
{
	static char text[300];
	g2_score	m = score_of(G2_SCORE_LOSS, (g2_span) {text, sizeof text});
	g2_generate others = generate("x");
	reply		r[5] = {0};
	int64_t		start = g2_now_us();

	(void) state;
	memset(text, 's', sizeof text);
	m.stride = 1;
	m.flags = G2_SCORE_NO_CACHE;
	m.queue_timeout_ms = 1000;
	others.n = 64;
	others.max_new = N_CTX - 2;
	open_engine();
	send_score(r, 0, &m);
	while (!r[0].type && (!engine->first->group || engine->first->scoring.window == 0))
		turn(start);
	assert_int_equal(r[0].type, 0);
	/* A shorter one for the windows that follow: so nothing has to wait for a second here. */
	engine->first->m.score.queue_timeout_ms = 1;
	for (uint64_t i = 1; i < G2_LENGTH(r); i++)
		send_generate(r, i, &others);
	run_idle();
	for (uint32_t i = 1; i < G2_LENGTH(r); i++)
		assert_int_equal(r[i].type, G2_MSG_COMPLETIONS);
	assert_int_equal(r[0].type, G2_MSG_SCORES);
	free_replies(r, G2_LENGTH(r));
	close_engine();
}

/* Windows are one call; labels are prompt tokens; nothing is made. */
static void
test_usage(void **state)
{
	static char text[300];
	g2_score	m = score_of(G2_SCORE_LOSS, (g2_span) {text, sizeof text});
	g2_usage_row row;
	reply		r = {0};

	(void) state;
	memset(text, 'u', sizeof text);
	open_engine();
	attach_as(&r, &somebody);
	send_score(&r, 0, &m);
	run_until(&r);
	row = usage_of(somebody.session_user, somebody.database, "tiny");
	assert_int_equal(row.calls, 1);
	assert_int_equal(row.completion_tokens, 0);
	/* 128, and windows at 64, 128, 192. */
	assert_int_equal(row.sequences, 4);
	assert_int_equal(row.prompt_tokens, 128 + 128 + 128 + 108);
	free_replies(&r, 1);
	m = two_labels();
	send_score(&r, 0, &m);
	run_until(&r);
	row = usage_of(somebody.session_user, somebody.database, "tiny");
	assert_int_equal(row.calls, 2);
	assert_int_equal(row.sequences, 6);
	assert_int_equal(row.prompt_tokens, 492 + 6 + 4 + 3);
	assert_int_equal(row.completion_tokens, 0);
	free_replies(&r, 1);
	close_engine();
}

static void
test_results(void **state)
{
	static char texts[N_MIXED][512];
	g2_settings s = settings();
	reply		r[2] = {0};
	g2_reader	in;

	(void) state;
	s.result_cache_size = 1 << 20;
	open_with(&s);
	for (uint32_t i = 0; i < N_MIXED; i++)
	{
		g2_score	m = random_score(texts[i]);
		bool		keeps = !(m.flags & G2_SCORE_NO_CACHE);

		m.cache_salt = (g2_span) {(const char *) &i, sizeof i};
		for (uint32_t k = 0; k < 2; k++)
		{
			send_score(r, k, &m);
			run_until(&r[k]);
			m.queue_timeout_ms = 1000;
			assert_int_equal(scores_head(&r[k], &in).marks & G2_HEAD_RESULT_HIT, k == 1 && keeps);
		}
		same_scores(&r[0], &r[1]);
		/* Another option, another answer. */
		m.flags ^= G2_SCORE_ADD_START;
		if (m.kind == G2_SCORE_LABELS)
			m.labels[0] = g2_span_of("other");
		free_replies(r, 2);
		send_score(r, 1, &m);
		run_until(&r[1]);
		assert_int_equal(scores_head(&r[1], &in).marks & G2_HEAD_RESULT_HIT, 0);
		free_replies(r, 2);
	}
	close_engine();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alone_or_not),
		cmocka_unit_test(test_prefix),
		cmocka_unit_test(test_sums),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_examples),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_narrow_context),
		cmocka_unit_test(test_short_payloads),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_started),
		cmocka_unit_test(test_usage),
		cmocka_unit_test(test_results),
	};

	return cmocka_run_group_tests_name("scoring", tests, set_up, tear_down);
}
