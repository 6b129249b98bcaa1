/*
 * test_results.c: answers out of the result cache: to whom, to what, and the same as computed ones.
 */
#include "engine_watch.h"

static void
open_with_results(uint64_t bytes)
{
	g2_settings s = settings();

	s.result_cache_size = bytes;
	open_with(&s);
}

/* Asks as a new session; true: the answer, which goes to *r, comes out of the cache. */
static bool
ask_as(const g2_hello *who, const g2_generate *m, reply *r)
{
	g2_completions_head head;

	free_replies(r, 1);
	attach_as(r, who);
	send_generate(r, 0, m);
	run_until(r);
	leave(r);
	head = head_of(r);
	if (head.marks & G2_HEAD_RESULT_HIT)
	{
		assert_int_equal(head.cached_tokens, head.prompt_tokens);
		assert_int_equal(head.queue_us, 0);
	}
	return head.marks & G2_HEAD_RESULT_HIT;
}

static bool
hits_as(const g2_hello *who, const g2_generate *m)
{
	reply		r = {0};
	bool		hit = ask_as(who, m, &r);

	free_replies(&r, 1);
	return hit;
}

static bool
hits(const g2_generate *m)
{
	return hits_as(&somebody, m);
}

static g2_generate
seeded(const char *prompt)
{
	g2_generate m = generate(prompt);

	m.flags |= G2_GEN_SEEDED;
	m.current_user = 10;
	m.cache_salt = g2_span_of("salt");
	return m;
}

/* ---- what is kept ---- */

static void
test_same_bytes(void **state)
{
	static char texts[40][128];
	reply		first = {0},
				second = {0};

	(void) state;
	open_with_results(1 << 20);
	for (int i = 0; i < 40; i++)
	{
		g2_generate m = random_generate(texts[i]);

		m.flags |= G2_GEN_SEEDED;
		if (i % 4 == 0)
		{
			m.n = 1;
			m.temperature = 0;
			m.flags = 0;		/* greedy: no seed has a say */
		}
		assert_false(ask_as(&somebody, &m, &first));
		assert_true(ask_as(&somebody, &m, &second));
		same_answer(&first, &second);
		m.flags ^= G2_GEN_SEEDED * (m.temperature == 0);
		m.queue_timeout_ms = 1000;
		assert_true(ask_as(&somebody, &m, &second));
		same_answer(&first, &second);
	}
	free_replies(&first, 1);
	free_replies(&second, 1);
	close_engine();
}

static void
test_not_kept(void **state)
{
	g2_generate m = seeded("a prompt"),
				other;
	static streamed s;
	reply		r = {0};

	(void) state;
	open_with_results(1 << 20);
	other = m;
	other.flags &= ~(uint32_t) G2_GEN_SEEDED;
	assert_false(hits(&other) || hits(&other));
	other = m;
	other.flags |= G2_GEN_NO_CACHE;
	assert_false(hits(&other) || hits(&other));
	assert_false(hits(&m));
	assert_true(hits(&m));
	/* It does not read what is there either. */
	assert_false(hits(&other));
	other = m;
	other.flags |= G2_GEN_STREAM;
	attach_as(&r, &somebody);
	r.streamed = &s;
	send_generate(&r, 0, &other);
	run_until(&r);
	assert_int_equal(s.n, m.max_new);
	assert_int_equal(head_of(&r).marks, 0);
	leave(&r);
	free_replies(&r, 1);
	close_engine();
}

/* An answer that nobody waited for, or an error, is none. */
static void
test_unfinished(void **state)
{
	g2_generate m = seeded("a prompt"),
				wrong;
	reply		r = {0};
	int64_t		start = g2_now_us();

	(void) state;
	open_with_results(1 << 20);
	m.max_new = 100;
	attach_as(&r, &somebody);
	send_generate(&r, 0, &m);
	while (state_of_pid(somebody.pid) != G2_STATE_DECODE)
		turn(start);
	assert_true(g2_engine_cancel(client_of(&r), 0));
	run_idle();
	assert_false(hits(&m));
	wrong = m;
	wrong.task = g2_span_of("sing");
	for (int i = 0; i < 2; i++)
	{
		send_generate(&r, 0, &wrong);
		run_until(&r);
		expect_error(&r, "22023", "sing");
		free_replies(&r, 1);
	}
	close_engine();
}

/* ---- to whom and to what ---- */

#define CHANGE(name, statement) static void name(g2_generate *m) { statement; }
static const uint32_t some_ids[] = {'a', ' ', 'p'};

CHANGE(other_prompt, m->prompt = g2_span_of("a prompt "))
CHANGE(ids, m->flags |= G2_GEN_PROMPT_IDS;
	   m->prompt = ((g2_span) {(const char *) some_ids, sizeof some_ids}))
CHANGE(longer, m->max_new++)
CHANGE(two, m->n = 2)
CHANGE(greedy, m->temperature = 0)
CHANGE(warmer, m->temperature = 1.01)
CHANGE(top_k, m->top_k = 100)
CHANGE(top_p, m->top_p = 0.99)
CHANGE(min_p, m->min_p = 0.0001)
CHANGE(penalty, m->repetition_penalty = 1.01)
CHANGE(other_seed, m->seed++)
CHANGE(stop, m->n_stops = 1; m->stops[0] = g2_span_of("zq"))
CHANGE(task, m->task = g2_span_of("shout"))
CHANGE(no_stops, m->task = g2_span_of("shout"); m->flags |= G2_GEN_NO_STOP_DEFAULTS)
CHANGE(shape, m->template_text = g2_span_of("{input}{input}"))
CHANGE(max_length, m->flags |= G2_GEN_MAX_LENGTH)
CHANGE(no_logprobs, m->flags &= ~(uint32_t) G2_GEN_LOGPROBS)
CHANGE(other_user, m->current_user = 11)
CHANGE(other_salt, m->cache_salt = g2_span_of("pepper"))
CHANGE(no_salt, m->cache_salt = g2_span_of(""))

static void (*const changes[]) (g2_generate *m) = {
	other_prompt, ids, longer, two, greedy, warmer, top_k, top_p, min_p, penalty, other_seed,
	stop, task, no_stops, shape, max_length, no_logprobs, other_user, other_salt, no_salt,
};

/* A request that differs in anything that matters is computed, and then kept beside the others. */
static void
test_options(void **state)
{
	const g2_generate m = seeded("a prompt");

	(void) state;
	open_with_results(1 << 20);
	assert_false(hits(&m));
	for (size_t i = 0; i < G2_LENGTH(changes); i++)
	{
		g2_generate other = m;

		changes[i](&other);
		if (hits(&other))
			fail_msg("change %zu has no say", i);
	}
	for (size_t i = 0; i < G2_LENGTH(changes); i++)
	{
		g2_generate other = m;

		changes[i](&other);
		assert_true(hits(&other));
	}
	assert_true(hits(&m));
	close_engine();
}

/* Whoever has another session, or role behind it, but the same database and current user may share
 * an answer; another database may not. */
static void
test_people(void **state)
{
	const g2_generate m = seeded("a prompt");
	g2_hello	who = somebody;

	(void) state;
	open_with_results(1 << 20);
	assert_false(hits(&m));
	who.pid++;
	who.session_user++;
	assert_true(hits_as(&who, &m));
	who = somebody;
	who.database++;
	assert_false(hits_as(&who, &m));
	assert_true(hits_as(&who, &m));
	assert_true(hits(&m));
	close_engine();
}

/* ---- the model ---- */

static void
swap_folders(const char *a, const char *b)
{
	const char *aside = tb_path(places.root, "aside");

	assert_int_equal(rename(fixture_folder(&places, a), aside), 0);
	assert_int_equal(rename(fixture_folder(&places, b), fixture_folder(&places, a)), 0);
	assert_int_equal(rename(aside, fixture_folder(&places, b)), 0);
}

static void
unload_tiny(void)
{
	reply		r = {0};

	send_unload(&r, 0, "tiny");
	assert_int_equal(r.type, G2_MSG_DONE);
	free_replies(&r, 1);
	leave(&r);
}

/* Answers are those of the files' contents, whatever the name and however often it is loaded. */
static void
test_contents(void **state)
{
	g2_generate m = seeded("a prompt"),
				same;
	reply		old = {0},
				other = {0};

	(void) state;
	fixture_synth(&places, "other", &(g2_synth_options) {
		.n_layer = 2, .n_embd = 32, .n_head = 2, .n_ff = 64, .n_ctx = N_CTX, .n_vocab = 257,
		.sigma = 0.5, .seed = 99,
	});
	fixture_tokenizer(fixture_folder(&places, "other"));
	open_with_results(1 << 20);
	assert_false(ask_as(&somebody, &m, &old));
	unload_tiny();
	assert_true(hits(&m));
	swap_folders("tiny", "other");
	unload_tiny();
	assert_false(ask_as(&somebody, &m, &other));
	assert_false(same_completions(old.data, old.len, other.data, other.len));
	assert_true(hits(&m));
	/* The old contents under another name, and back under their own. */
	same = m;
	same.model = g2_span_of("other");
	assert_true(ask_as(&somebody, &same, &other));
	same_answer(&old, &other);
	swap_folders("tiny", "other");
	unload_tiny();
	assert_true(ask_as(&somebody, &m, &other));
	same_answer(&old, &other);
	free_replies(&old, 1);
	free_replies(&other, 1);
	close_engine();
}

/* ---- capacity ---- */

static void
test_capacity(void **state)
{
	const g2_generate m = seeded("a prompt");
	g2_settings s = settings();
	g2_error	err;

	(void) state;
	open_with(&s);				/* with G2_NO_RESULT_CACHE */
	assert_false(hits(&m) || hits(&m));
	s.result_cache_size = 0;	/* the default */
	EXPECT_OK(g2_engine_configure(engine, &s, &err), err);
	assert_false(hits(&m));
	assert_true(hits(&m));
	s.result_cache_size = G2_NO_RESULT_CACHE;
	EXPECT_OK(g2_engine_configure(engine, &s, &err), err);
	assert_false(hits(&m) || hits(&m));
	s.result_cache_size = 1 << 16;
	EXPECT_OK(g2_engine_configure(engine, &s, &err), err);
	assert_false(hits(&m));
	/* Others drive it out. */
	for (uint64_t i = 0; i < 400; i++)
	{
		g2_generate other = m;

		other.max_new = 5;
		other.seed = 1000 + i;
		assert_false(hits(&other));
	}
	assert_false(hits(&m));
	assert_true(hits(&m));
	close_engine();
}

/* Many rows, cancelled when some are answered, and asked again: these are not computed twice, and
 * all have the answers that they have alone. */
static void
test_repeated_scan(void **state)
{
	enum {N = 60};
	static reply r[2][N];
	g2_generate m = seeded("a row");
	uint32_t	answered = 0,
				n_hits = 0;
	int64_t		start = g2_now_us();

	(void) state;
	open_with_results(1 << 20);
	attach_as(r[0], &somebody);
	attach_as(r[1], &somebody);
	for (uint32_t i = 0; i < N; i++)
	{
		m.seed = i;
		m.max_new = 1 + i;
		send_generate(r[0], i, &m);
	}
	while (answered < N / 2)
	{
		turn(start);
		answered = 0;
		for (uint32_t i = 0; i < N; i++)
			answered += r[0][i].type != 0;
	}
	leave(r[0]);
	for (uint32_t i = 0; i < N; i++)
	{
		m.seed = i;
		m.max_new = 1 + i;
		send_generate(r[1], i, &m);
	}
	run_idle();
	for (uint32_t i = 0; i < N; i++)
	{
		n_hits += head_of(&r[1][i]).marks;
		if (r[0][i].type)
		{
			assert_int_equal(head_of(&r[1][i]).marks, 1);
			same_answer(&r[0][i], &r[1][i]);
		}
	}
	assert_int_equal(n_hits, answered);
	assert_true(answered < N);
	assert_int_equal(usage_of(10, 5, "tiny").result_hits, n_hits);
	free_replies(r[0], 2 * N);
	close_engine();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_bytes),
		cmocka_unit_test(test_not_kept),
		cmocka_unit_test(test_unfinished),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_people),
		cmocka_unit_test(test_contents),
		cmocka_unit_test(test_capacity),
		cmocka_unit_test(test_repeated_scan),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
