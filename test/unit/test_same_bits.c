/*
 * test_same_bits.c: the promise that a result depends on its request alone.  The same requests,
 * each alone without drafts, and then 64 at a time in random order with drafts and every number of
 * threads, chunk size, with and without the prefix cache, and with so few blocks that groups are
 * preempted: equal token ids, texts and bits of log-probabilities.
 *
 *     GPT2_TEST_QUICK      set: fewer requests (a sanitizer is slow)
 */
#include "engine_watch.h"

#define MOST_REQUESTS 500
#define AT_ONCE 64
#define CONTEXT 768

static const g2_synth_options larger_model = {
	.n_layer = 2, .n_embd = 64, .n_head = 4, .n_ff = 128, .n_ctx = CONTEXT, .n_vocab = 257,
	.sigma = 0.5, .seed = 11,
};

static uint32_t n_requests;
static g2_generate requests[MOST_REQUESTS];
static char prompts[MOST_REQUESTS][CONTEXT];
static reply alone[MOST_REQUESTS],
			together[MOST_REQUESTS];

/* What a third of them have to be, and the tokens that this takes at least. */
static const struct
{
	g2_constraint_kind kind;
	const char *text;
	uint32_t	least;
}			constraints[] = {
	{G2_CONSTRAINT_CHOICE, "[\"a\", \"abcabcabc\", \"abd\"]", 1},
	{G2_CONSTRAINT_REGEX, "[a-z]*", 0},
	{G2_CONSTRAINT_REGEX, "(xy+ ?){3,}", 6},
	{G2_CONSTRAINT_SCHEMA, "{\"type\": \"array\", \"items\": {\"enum\": [1, null, \"abc\"]}}", 2},
};

static void
constrain(g2_generate *m)
{
	uint32_t	c = random_below(G2_LENGTH(constraints));

	if (random_below(3) > 0 || m->decoding.n_beams > 1 || m->max_new < constraints[c].least)
		return;
	m->constraint_kind = constraints[c].kind;
	m->constraint = g2_span_of(constraints[c].text);
}

/* Short and long prompts, some with a beginning that others have too. */
static void
make_requests(void)
{
	n_requests = getenv("GPT2_TEST_QUICK") ? 60 : MOST_REQUESTS;
	for (uint32_t i = 0; i < n_requests; i++)
	{
		uint32_t	shared = random_below(3) ? 64 * random_below(5) : 0,
					n = shared + 1 + random_below(random_below(8) ? 60 : 400),
					theme = random_below(3);
		g2_generate *m = &requests[i];

		for (uint32_t c = 0; c < n; c++)
			prompts[i][c] = (char) ('a' + (c < shared ? (c * 7 + theme) % 26 : random_below(26)));
		*m = generate(prompts[i]);
		m->model = g2_span_of("larger");
		m->prompt.len = n;
		m->max_new = 1 + random_below(random_below(4) ? 30 : 200);
		m->n = random_below(4) ? 1 : 1 + random_below(4);
		m->temperature = m->n > 1 || random_below(2) ? 0.8 : 0;
		m->seed = random_below(1000);
		m->top_k = random_below(2) * 20;
		m->top_p = random_below(2) ? 0.9 : 1;
		m->repetition_penalty = random_below(2) ? 1.2 : 1;
		random_decoding(m);
		m->flags = G2_GEN_LOGPROBS;
		constrain(m);
	}
}

static void
run_alone(void)
{
	g2_settings s = settings();

	s.threads = 1;
	s.no_speculation = 1;
	open_with(&s);
	for (uint32_t i = 0; i < n_requests; i++)
	{
		g2_generate m = requests[i];

		m.flags |= G2_GEN_NO_CACHE;
		send_generate(alone, i, &m);
		run_until(&alone[i]);
		assert_int_equal(alone[i].type, G2_MSG_COMPLETIONS);
	}
	close_engine();
}

/* Sends the rest in random order whenever fewer than AT_ONCE are out. */
static void
run_together(bool use_cache)
{
	uint32_t	order[MOST_REQUESTS],
				sent = 0;
	int64_t		start = g2_now_us();

	for (uint32_t i = 0; i < n_requests; i++)
	{
		uint32_t	j = random_below(i + 1);

		order[i] = order[j];
		order[j] = i;
	}
	while (sent < n_requests || g2_engine_live(engine) > 0)
	{
		while (sent < n_requests && g2_engine_live(engine) < AT_ONCE)
		{
			g2_generate m = requests[order[sent]];

			m.flags |= use_cache ? 0 : G2_GEN_NO_CACHE;
			send_generate(together, order[sent++], &m);
		}
		turn(start);
	}
}

static g2_engine_row
compare(uint32_t threads, uint32_t step_tokens, bool use_cache, uint64_t kv_cache_size)
{
	g2_settings s = settings();
	g2_engine_row row;

	s.threads = threads;
	s.step_tokens = step_tokens;
	s.kv_cache_size = kv_cache_size;
	open_with(&s);
	run_together(use_cache);
	for (uint32_t i = 0; i < n_requests; i++)
		if (together[i].type != G2_MSG_COMPLETIONS ||
			!same_completions(alone[i].data, alone[i].len, together[i].data, together[i].len))
			fail_msg("request %u differs: %u threads, %u rows a step, cache %d", i, threads,
					 step_tokens, use_cache);
	free_replies(together, n_requests);
	row = engine_row_of("larger");
	close_engine();
	return row;
}

static void
test_same_bits(void **state)
{
	static const uint32_t threads[] = {1, 2, 4},
				chunks[] = {16, 64, 512};

	(void) state;
	for (size_t t = 0; t < G2_LENGTH(threads); t++)
		for (size_t c = 0; c < G2_LENGTH(chunks); c++)
			for (int use_cache = 0; use_cache < 2; use_cache++)
			{
				g2_engine_row row = compare(threads[t], chunks[c], use_cache, 64 << 20);

				assert_int_equal(row.prefix_hits > 0, use_cache);
			}
}

/* Blocks for two contexts: what runs is preempted all the time. */
static void
test_preempted(void **state)
{
	(void) state;
	for (int use_cache = 0; use_cache < 2; use_cache++)
	{
		g2_engine_row row = compare(2, 0, use_cache, 2 * CONTEXT * 64 * 2 * 2 * sizeof(float));

		assert_true(row.preemptions > 0);
	}
}

static int
set_up_all(void **state)
{
	set_up(state);
	fixture_synth(&places, "larger", &larger_model);
	fixture_tokenizer(fixture_folder(&places, "larger"));
	make_requests();
	run_alone();
	return 0;
}

static int
tear_down_all(void **state)
{
	free_replies(alone, n_requests);
	return tear_down(state);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_bits), cmocka_unit_test(test_preempted),
	};

	return cmocka_run_group_tests(tests, set_up_all, tear_down_all);
}
