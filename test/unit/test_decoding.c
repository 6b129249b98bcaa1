/*
 * test_decoding.c: decoding options through the engine: every error that one can have, what they do
 * to an answer, drafts beside them, what a search counts for.
 */
#include <math.h>

#include "backend.h"
#include "engine_watch.h"
#include "fixed_cost.h"

#define MANY 64

/* ---- errors ---- */

typedef struct bad
{
	const char *sqlstate;
	const char *part;
	void		(*change) (g2_generate *m);
} bad;

/* n biases of ascending ids from `first`, all the same. */
static void
set_biases(g2_generate *m, uint32_t n, uint32_t first, float bias)
{
	static g2_bias biases[MANY];

	assert_true(n <= MANY);
	for (uint32_t i = 0; i < n; i++)
		biases[i] = (g2_bias) {first + i, bias};
	m->decoding.n_biases = n;
	m->decoding.biases = (const char *) biases;
}

static void
descending_biases(g2_generate *m)
{
	static const g2_bias biases[] = {{3, 1}, {2, 1}};

	m->decoding.n_biases = 2;
	m->decoding.biases = (const char *) biases;
}

static void
set_beams(g2_generate *m, uint32_t n_beams, uint32_t n)
{
	m->n = n;
	m->temperature = 0;
	m->decoding.n_beams = n_beams;
	m->decoding.length_penalty = 1;
}

#define CHANGE(name, statement) static void name(g2_generate *m) { statement; }

CHANGE(low_typical, m->decoding.typical_p = -0.1)
CHANGE(high_typical, m->decoding.typical_p = 1.1)
CHANGE(nan_typical, m->decoding.typical_p = NAN)
CHANGE(high_presence, m->decoding.presence_penalty = 101)
CHANGE(nan_presence, m->decoding.presence_penalty = NAN)
CHANGE(low_frequency, m->decoding.frequency_penalty = -101)
CHANGE(nan_frequency, m->decoding.frequency_penalty = NAN)
CHANGE(long_ngram, m->decoding.no_repeat_ngram = G2_MAX_NGRAM + 1)
CHANGE(long_min, m->decoding.min_new = 21)
CHANGE(high_bias, set_biases(m, 1, 3, 100.5f))
CHANGE(nan_bias, set_biases(m, 1, 3, NAN))
CHANGE(strange_bias, set_biases(m, 2, 256, 1))
CHANGE(many_beams, set_beams(m, G2_MAX_BEAMS + 1, 1))
CHANGE(hot_beams, set_beams(m, 2, 1); m->temperature = 0.5)
CHANGE(few_beams, set_beams(m, 2, 3))
CHANGE(streamed_beams, set_beams(m, 2, 1); m->flags |= G2_GEN_STREAM)
CHANGE(high_length, set_beams(m, 2, 1); m->decoding.length_penalty = 11)
CHANGE(nan_length, set_beams(m, 2, 1); m->decoding.length_penalty = NAN)
CHANGE(no_start, m->model = g2_span_of("bare"); m->flags |= G2_GEN_ADD_START)
CHANGE(start_fills, m->flags |= G2_GEN_ADD_START | G2_GEN_MAX_LENGTH; m->max_new = 6)

static const bad bads[] = {
	{"22023", "typical_p", low_typical}, {"22023", "typical_p", high_typical},
	{"22023", "typical_p", nan_typical}, {"22023", "presence_penalty", high_presence},
	{"22023", "presence_penalty", nan_presence}, {"22023", "frequency_penalty", low_frequency},
	{"22023", "frequency_penalty", nan_frequency}, {"22023", "no_repeat_ngram_size", long_ngram},
	{"22023", "min_new_tokens", long_min}, {"22023", "logit_bias of token 3", high_bias},
	{"22023", "logit_bias of token 3", nan_bias}, {"22023", "257 tokens", strange_bias},
	{"XX000", "logit_bias", descending_biases}, {"22023", "num_beams", many_beams},
	{"22023", "sampling", hot_beams}, {"22023", "num_beams (2)", few_beams},
	{"22023", "streamed", streamed_beams}, {"22023", "length_penalty", high_length},
	{"22023", "length_penalty", nan_length}, {"22023", "no start token", no_start},
	{"22023", "max_length (6)", start_fills},
};

static void
test_errors(void **state)
{
	(void) state;
	open_engine();
	for (size_t i = 0; i < G2_LENGTH(bads); i++)
	{
		reply		r = {0};
		g2_generate m = generate("hello");

		bads[i].change(&m);
		send_generate(&r, 0, &m);
		run_until(&r);
		expect_error(&r, bads[i].sqlstate, bads[i].part);
		free_replies(&r, 1);
	}
	close_engine();
}

/* A vocabulary of 7 has no 8 candidates. */
static void
test_small_vocabulary(void **state)
{
	static const g2_synth_options few = {
		.n_layer = 1, .n_embd = 6, .n_head = 2, .n_ff = 7, .n_ctx = 16, .n_vocab = 7, .sigma = 0.4,
		.seed = 2,
	};
	static const uint32_t ids[] = {1, 2};
	g2_generate m = generate("");
	reply		r[2] = {0};

	(void) state;
	fixture_synth(&places, "few", &few);
	open_engine();
	m.model = g2_span_of("few");
	m.flags |= G2_GEN_PROMPT_IDS;
	m.prompt = (g2_span) {(const char *) ids, sizeof ids};
	set_beams(&m, 4, 1);
	send_generate(r, 0, &m);
	m.decoding.n_beams = 3;
	m.n = 3;
	send_generate(r, 1, &m);
	run_idle();
	expect_error(&r[0], "22023", "num_beams (4)");
	check_completions(r[1].data, r[1].len, 3);
	free_replies(r, 2);
	close_engine();
}

/* ---- answers ---- */

typedef struct answer
{
	g2_completions_head head;
	uint32_t	n[MANY];
	uint32_t	ids[MANY][N_CTX];
	double		logprob[MANY];
	uint32_t	finish[MANY];
} answer;

static answer
answer_to(const g2_generate *m)
{
	answer		a = {.n = {0}};
	reply		r = {0};
	g2_reader	in;

	send_generate(&r, 0, m);
	run_until(&r);
	assert_int_equal(r.type, G2_MSG_COMPLETIONS);
	in = g2_read(r.data, r.len);
	g2_completions_head_get(&in, &a.head);
	for (uint32_t i = 0; i < a.head.n; i++)
	{
		g2_completion c;

		g2_completion_get(&in, &c);
		assert_false(in.failed);
		a.n[i] = c.n_ids;
		memcpy(a.ids[i], c.ids, c.n_ids * sizeof(uint32_t));
		a.logprob[i] = c.logprob;
		a.finish[i] = c.finish;
	}
	free_replies(&r, 1);
	return a;
}

static void
test_bias(void **state)
{
	g2_generate m = generate("hello");
	answer		a;

	(void) state;
	open_engine();
	m.temperature = 0;
	set_biases(&m, 1, 'x', 100);
	a = answer_to(&m);
	assert_int_equal(a.n[0], 20);
	for (uint32_t i = 0; i < a.n[0]; i++)
		assert_int_equal(a.ids[0][i], 'x');
	/* The log-probability is that of the unmodified model. */
	assert_true(a.logprob[0] < -20);
	/* Towards the end token, which may not come before the fifth. */
	set_biases(&m, 1, 256, 100);
	m.decoding.min_new = 4;
	a = answer_to(&m);
	assert_int_equal(a.n[0], 5);
	assert_int_equal(a.finish[0], G2_FINISH_EOS);
	close_engine();
}

static void
test_start(void **state)
{
	g2_generate with = generate(""),
				without = generate("");
	answer		a,
				b;

	(void) state;
	open_engine();
	with.flags |= G2_GEN_ADD_START;
	a = answer_to(&with);
	b = answer_to(&without);
	assert_int_equal(a.head.prompt_tokens, 1);	/* an empty prompt has it anyway */
	assert_memory_equal(a.ids, b.ids, sizeof a.ids);
	with.prompt = without.prompt = g2_span_of("abc");
	assert_int_equal(answer_to(&with).head.prompt_tokens, 4);
	assert_int_equal(answer_to(&without).head.prompt_tokens, 3);
	close_engine();
}

static void
test_ngrams(void **state)
{
	g2_generate m = generate("abcabc");

	(void) state;
	open_engine();
	m.temperature = 0;
	m.max_new = 100;
	for (uint32_t n = 1; n <= 3; n++)
	{
		uint32_t	text[N_CTX + 8] = {'a', 'b', 'c', 'a', 'b', 'c'},
					len;
		answer		a;

		m.decoding.no_repeat_ngram = n;
		a = answer_to(&m);
		memcpy(text + 6, a.ids[0], a.n[0] * sizeof *text);
		len = 6 + a.n[0];
		for (uint32_t i = 6; i < len; i++)
			for (uint32_t j = n - 1; j < i; j++)
				assert_false(memcmp(text + i + 1 - n, text + j + 1 - n, n * sizeof *text) == 0);
	}
	close_engine();
}

/* ---- drafts ---- */

#define DRAFTS 12

/* Texts that repeat themselves, under every option, in an engine of their own; how many tokens were
 * drafted. */
static uint64_t
draft_texts(bool speculation, answer *answers)
{
	g2_settings s = settings();
	uint64_t	drafted;

	s.no_speculation = !speculation;
	open_with(&s);
	for (uint32_t i = 0; i < DRAFTS; i++)
	{
		g2_generate m = generate("abcabcabcabcabcabcabcabcabcabc");

		m.max_new = 80;
		m.temperature = i % 2 ? 0.7 : 0;
		if (i >= 2)
			m.decoding.frequency_penalty = i / 2 == 1 ? 0.3 : 0;
		m.decoding.presence_penalty = i / 2 == 2 ? -2 : 0;
		m.decoding.typical_p = i / 2 == 3 ? 0.4 : 0;
		m.decoding.min_new = i / 2 == 4 ? 60 : 0;
		if (i / 2 == 5)
			set_biases(&m, 3, 'a', 6);
		answers[i] = answer_to(&m);
	}
	drafted = engine_row_of("tiny").drafted_tokens;
	close_engine();
	assert_true(speculation || drafted == 0);
	return drafted;
}

/* The same with drafts and without. */
static void
test_drafts(void **state)
{
	static answer with[DRAFTS],
				without[DRAFTS];

	(void) state;
	(void) draft_texts(false, without);
	assert_true(draft_texts(true, with) > 0);
	for (uint32_t i = 0; i < DRAFTS; i++)
	{
		assert_int_equal(with[i].n[0], without[i].n[0]);
		assert_memory_equal(with[i].ids[0], without[i].ids[0], sizeof with[i].ids[0]);
		assert_true(with[i].logprob[0] == without[i].logprob[0]);
	}
}

/* What is above 0 is not off, however little it is. */
static void
test_least_typical(void **state)
{
	static const double values[] = {1e-300, 1e-30, 0};
	static answer a[G2_LENGTH(values)];
	g2_generate m = generate("hello");

	(void) state;
	open_engine();
	m.temperature = 1;
	m.seed = 3;
	for (size_t i = 0; i < G2_LENGTH(values); i++)
	{
		m.decoding.typical_p = values[i];
		a[i] = answer_to(&m);
	}
	assert_int_equal(a[0].n[0], a[1].n[0]);
	assert_memory_equal(a[0].ids[0], a[1].ids[0], sizeof a[0].ids[0]);
	assert_memory_not_equal(a[0].ids[0], a[2].ids[0], sizeof a[0].ids[0]);
	close_engine();
}

/* ---- what a search counts for ---- */

static void
test_beams_count(void **state)
{
	static answer a;
	g2_generate m = generate("hello");
	g2_usage_row usage;
	uint64_t	steps;

	(void) state;
	open_engine();
	set_beams(&m, 5, 3);
	set_biases(&m, 1, 256, -100);	/* no end before the length */
	a = answer_to(&m);
	assert_int_equal(a.head.n, 3);
	for (uint32_t i = 0; i < 3; i++)
	{
		assert_int_equal(a.n[i], 20);
		assert_true(i == 0 || a.logprob[i] <= a.logprob[i - 1]);
		assert_true(i == 0 || memcmp(a.ids[i], a.ids[i - 1], sizeof a.ids[i]) != 0);
	}
	usage = usage_of(0, 0, "tiny");
	assert_int_equal(usage.calls, 1);
	assert_int_equal(usage.sequences, 5);
	assert_int_equal(usage.prompt_tokens, 5);
	assert_int_equal(usage.completion_tokens, 5 * 20);
	steps = engine_row_of("tiny").steps;
	assert_true(steps <= 21);
	close_engine();
}

/* A beam is a sequence to the limits of a role. */
static void
test_beams_limits(void **state)
{
	static const struct
	{
		int64_t		call;
		int64_t		sequences;
		bool		ok;
	}			cases[] = {
		{5 + 3 * 20, 3, true}, {5 + 3 * 20 - 1, 3, false}, {5 + 3 * 20, 2, false},
	};
	g2_generate m = generate("hello");

	(void) state;
	open_engine();
	set_beams(&m, 3, 1);
	for (size_t i = 0; i < G2_LENGTH(cases); i++)
	{
		g2_writer	w = {.grow = grow};
		reply		r = {0};
		g2_error	err;

		g2_session_message_encode(&w, &(g2_session_message) {
			.session_user = 7, .user_name = g2_span_of("somebody"),
			.limits = {cases[i].call, cases[i].sequences, G2_UNLIMITED},
		});
		EXPECT_OK(g2_engine_tell(client_of(&r), G2_MSG_SESSION, w.data, w.len, &err), err);
		free(w.data);
		send_generate(&r, 0, &m);
		run_until(&r);
		if (cases[i].ok)
			check_completions(r.data, r.len, 1);
		else
			expect_error(&r, "53400", "somebody");
		free_replies(&r, 1);
		leave(&r);
	}
	close_engine();
}

/* Cancelled and abandoned in the middle: nothing is left. */
static void
test_beams_cancel(void **state)
{
	g2_generate m = generate("hello");
	reply		r = {0};

	(void) state;
	m.max_new = 100;
	set_beams(&m, 8, 8);
	for (int turns = 1; turns < 40; turns += 3)
	{
		int64_t		start = g2_now_us();

		open_engine();
		send_generate(&r, 0, &m);
		for (int i = 0; i < turns && !r.type; i++)
			turn(start);
		g2_engine_cancel(client_of(&r), 0);
		close_engine();
		free_replies(&r, 1);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_errors), cmocka_unit_test(test_small_vocabulary),
		cmocka_unit_test(test_bias), cmocka_unit_test(test_start), cmocka_unit_test(test_ngrams),
		cmocka_unit_test(test_drafts), cmocka_unit_test(test_least_typical),
		cmocka_unit_test(test_beams_count), cmocka_unit_test(test_beams_limits), cmocka_unit_test(test_beams_cancel),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
