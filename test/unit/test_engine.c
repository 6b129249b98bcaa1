/*
 * test_engine.c: many requests at once, cancels, loads and unloads, faults, on the CPU back end
 * with a tiny model.
 */
#include "engine_driver.h"

/* Alone, and among 40 others that come and go: the same ids, texts and log-probability bits. */
static void
test_exact(void **state)
{
	enum {N = 40};
	static char texts[N][128];
	static reply alone[N],
				together[N];
	g2_generate m[N];

	(void) state;
	open_engine();
	for (uint32_t i = 0; i < N; i++)
	{
		m[i] = random_generate(texts[i]);
		send_generate(alone, i, &m[i]);
		run_until(&alone[i]);
		if (alone[i].type != G2_MSG_COMPLETIONS)
			expect_error(&alone[i], "00000", "");
		check_completions(alone[i].data, alone[i].len, m[i].n);
	}
	for (int round = 0; round < 3; round++)
	{
		int64_t		start = g2_now_us();

		for (uint32_t i = 0; i < N; i++)
		{
			send_generate(together, (i * 7) % N, &m[(i * 7) % N]);
			for (uint32_t k = round > 0 ? random_below(4) : 0; k > 0; k--)
				turn(start);
		}
		run_idle();
		for (uint32_t i = 0; i < N; i++)
			same_answer(&alone[i], &together[i]);
		free_replies(together, N);
	}
	free_replies(alone, N);
	close_engine();
}

/* Cancels at any moment: no answer after one, and nothing left behind. */
static void
test_cancel(void **state)
{
	enum {N = 60};
	static char texts[128];
	static reply r[2][N];

	(void) state;
	open_engine();
	for (int round = 0; round < 8; round++)
	{
		int64_t		start = g2_now_us();
		bool		canceled[2][N] = {{false}};
		uint32_t	n = 0;

		while (n < N)
		{
			uint32_t	victim = random_below(N),
						owner = random_below(2);
			g2_generate m = random_generate(texts);

			send_generate(r[0], n, &m);
			send_tokenize(r[1], n++, "tiny", texts, strlen(texts), false);
			if (random_below(2))
				turn(start);
			if (victim < n && g2_engine_cancel(client_of(r[owner]), victim))
			{
				assert_int_equal(r[owner][victim].type, 0);
				canceled[owner][victim] = true;
				assert_false(g2_engine_cancel(client_of(r[owner]), victim));
			}
		}
		if (round % 2)
		{
			leave(r[0]);
			for (uint32_t i = 0; i < N; i++)
				canceled[0][i] = canceled[0][i] || !r[0][i].type;
		}
		check_idle();
		for (uint32_t i = 0; i < 2 * N; i++)
			assert_int_equal(r[i / N][i % N].answers, !canceled[i / N][i % N]);
		free_replies(r[0], 2 * N);
		/* Sometimes the model is not there when they come. */
		send_unload(r[0], 0, "tiny");
		free_replies(r[0], 1);
	}
	close_engine();
}

static uint32_t
count_models(void)
{
	reply		r = {0};
	g2_reader	in;
	uint32_t	n;

	g2_engine_submit(client_of(&r), 0, G2_MSG_MODELS, NULL, 0);
	assert_int_equal(r.type, G2_MSG_MODEL_LIST);
	in = g2_read(r.data, r.len);
	n = g2_get_u32(&in);
	for (uint32_t i = 0; i < n; i++)
	{
		g2_model_row row;

		g2_model_row_get(&in, &row);
		assert_false(in.failed);
		assert_true(row.state == G2_MODEL_LOADED || row.state == G2_MODEL_LOADING);
		if (row.state == G2_MODEL_LOADED)
			assert_int_equal(row.context_length, N_CTX);
	}
	assert_true(in.at == in.end);
	free_replies(&r, 1);
	return n;
}

static void
test_loads(void **state)
{
	reply		r[10] = {0};
	g2_generate m = generate("hello");

	(void) state;
	open_engine();
	/* Two sessions that want the same model share one load. */
	for (uint64_t i = 0; i < 5; i++)
		send_load(r, i, "tiny", "", "");
	send_generate(r, 5, &m);
	assert_int_equal(count_models(), 1);
	run_idle();
	for (int i = 0; i < 5; i++)
		assert_int_equal(r[i].type, G2_MSG_DONE);
	assert_int_equal(n_loads, 1);
	/* Unloaded while it runs: that goes on; who comes later waits for a second load. */
	m.max_new = 100;
	send_generate(r, 6, &m);
	for (int i = 0; i < 4; i++)
		g2_engine_run(engine);
	send_unload(r, 7, "tiny");
	assert_int_equal(r[7].type, G2_MSG_DONE);
	assert_int_equal(count_models(), 0);
	send_generate(r, 8, &m);
	assert_int_equal(count_models(), 1);
	run_idle();
	same_answer(&r[6], &r[8]);
	assert_int_equal(n_loads, 2);
	/* Unloaded while it loads: who waits is told. */
	send_unload(r, 7, "tiny");
	free_replies(&r[9], 1);
	send_generate(r, 9, &m);
	send_unload(r, 7, "tiny");
	run_idle();
	expect_error(&r[9], "57014", "cancelled");
	assert_int_equal(count_models(), 0);
	free_replies(r, 10);
	close_engine();
}

/* Names that are no models are forgotten. */
static void
test_names(void **state)
{
	static reply r[300];

	(void) state;
	open_engine();
	for (uint64_t i = 0; i < G2_LENGTH(r); i++)
	{
		char		name[32];

		snprintf(name, sizeof name, "nosuch%u", (unsigned) i);
		send_load(r, i, name, "", "");
	}
	run_idle();
	for (size_t i = 0; i < G2_LENGTH(r); i++)
		expect_error(&r[i], "42704", "nosuch");
	assert_int_equal(count_models(), 0);
	free_replies(r, G2_LENGTH(r));
	close_engine();
}

/* Models that take turns give what they give alone. */
static void
test_two_models(void **state)
{
	enum {N = 20};
	static const uint32_t ids[] = {1, 2, 3, 4, 5};
	static reply alone[N],
				together[N];
	g2_generate m[N];

	(void) state;
	open_engine();
	for (uint32_t i = 0; i < N; i++)
	{
		m[i] = generate("");
		m[i].model = g2_span_of(i % 2 ? "bare" : "tiny");
		m[i].flags |= G2_GEN_PROMPT_IDS;
		m[i].prompt = (g2_span) {(const char *) ids, (1 + i % 5) * (uint32_t) sizeof *ids};
		m[i].max_new = 5 + i;
		send_generate(alone, i, &m[i]);
		run_until(&alone[i]);
	}
	for (uint32_t i = 0; i < N; i++)
		send_generate(together, i, &m[i]);
	run_idle();
	for (uint32_t i = 0; i < N; i++)
		same_answer(&alone[i], &together[i]);
	free_replies(alone, N);
	free_replies(together, N);
	close_engine();
}

/* A cache of one context: requests wait for each other, and one that never fits is refused. */
static void
test_small_cache(void **state)
{
	enum {N = 30};
	static reply r[N + 1];
	g2_settings s = settings();
	g2_generate m = generate("a prompt of some thirty characters");

	(void) state;
	s.kv_cache_size = 1;
	open_with(&s);
	m.max_new = 60;
	for (uint32_t i = 0; i < N; i++)
		send_generate(r, i, &m);
	m.n = 8;
	send_generate(r, N, &m);
	run_idle();
	for (uint32_t i = 1; i < N; i++)
		same_answer(&r[0], &r[i]);
	expect_error(&r[N], "53200", "KV cache");
	free_replies(r, N + 1);
	close_engine();
}

/* Three long texts do not hold up another session's short one. */
static void
test_long_texts(void **state)
{
	static reply r[3],
				other;
	const size_t n = 4 << 20;
	char	   *text = malloc(n);

	(void) state;
	assert_non_null(text);
	memset(text, 'a', n);
	open_engine();
	send_load(r, 0, "tiny", "", "");
	run_idle();
	for (uint64_t i = 0; i < 3; i++)
		send_tokenize(r, i, "tiny", text, n, true);
	send_tokenize(&other, 0, "tiny", "short", 5, true);
	run_idle();
	/* Behind the first of them at most; on the threads of short texts it would be behind two. */
	assert_true(other.order < r[1].order);
	/* Cancelled in the middle, it ends soon: well before the bound. */
	for (uint64_t i = 0; i < 3; i++)
		send_tokenize(r, i, "tiny", text, n, true);
	leave(r);
	free_replies(r, 3);
	free_replies(&other, 1);
	free(text);
	close_engine();
}

/* Closed at any moment: no answers, no leaks. */
static void
test_close(void **state)
{
	static char texts[20][128];
	static reply r[40];

	(void) state;
	for (int round = 0; round < 12; round++)
	{
		int64_t		start = g2_now_us();
		uint32_t	answers = 0,
					after = 0;

		open_engine();
		for (uint32_t i = 0; i < 20; i++)
		{
			g2_generate m = random_generate(texts[i]);

			send_generate(r, i, &m);
			send_tokenize(r, 20 + i, "tiny", texts[i], strlen(texts[i]), false);
		}
		for (int i = 0; i < round; i++)
			turn(start);
		for (uint32_t i = 0; i < 40; i++)
			answers += r[i].answers;
		abandon_engine();
		for (uint32_t i = 0; i < 40; i++)
			after += r[i].answers;
		assert_int_equal(answers, after);
		free_replies(r, 40);
	}
}

/* Every allocation fails in turn, first while the engine opens, then in one request. */
static void
test_no_memory(void **state)
{
	g2_settings s = settings();
	bool		open = false;
	uint32_t	succeeded = 0;

	(void) state;
	for (long n = 1; !open; n++)
	{
		g2_error	err;

		g2_alloc_fail_at(n);
		open = g2_engine_open(&s, on_log, NULL, &engine, &err);
		g2_alloc_fail_at(0);
		assert_true(n < 1000);
		if (!open)
			assert_int_equal(err.code, G2_E_MEMORY);
	}
	for (long n = 1; succeeded < 60; n++)
	{
		static reply r[3];
		g2_generate m = generate("hello world");

		m.n = 3;
		m.repetition_penalty = 1.5;
		m.task = g2_span_of("shout");
		client_of(r);
		g2_alloc_fail_at(n);
		send_generate(r, 0, &m);
		send_tokenize(r, 1, "tiny", "some text", 9, false);
		run_idle();
		g2_alloc_fail_at(0);
		for (int i = 0; i < 2; i++)
		{
			assert_int_equal(r[i].answers, 1);
			if (r[i].type == G2_MSG_ERROR)
				expect_error(&r[i], "53200", "out of memory");
		}
		if (r[0].type != G2_MSG_ERROR && r[1].type != G2_MSG_ERROR)
			succeeded++;
		/* Half of the time the model has to be loaded too. */
		if (n % 2)
			send_unload(r, 2, "tiny");
		free_replies(r, 3);
		check_idle();
		assert_true(n < 5000);
	}
	abandon_engine();
}

static void
test_descriptors(void **state)
{
	uint32_t	before = count_descriptors();

	(void) state;
	for (int i = 0; i < 3; i++)
	{
		reply		r = {0};

		open_engine();
		send_load(&r, 0, "tiny", "", "");
		run_idle();
		free_replies(&r, 1);
		abandon_engine();
	}
	assert_int_equal(count_descriptors(), before);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exact),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_loads),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_two_models),
		cmocka_unit_test(test_small_cache),
		cmocka_unit_test(test_long_texts),
		cmocka_unit_test(test_close),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_descriptors),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
