/*
 * test_ending.c: how the engine ends in good order or is switched off, and what the limits of the
 * queue and of roles refuse or hold back.
 */
#include "engine_watch.h"

#include "engine_state.h"

#define FREE G2_UNLIMITED

/* A turn that nothing but the engine's own timer begins, for what is tested. */
static void
timer_turn(void)
{
	struct pollfd ready = {.fd = g2_engine_fd(engine), .events = POLLIN};

	engine->loading_tick = INT64_MAX;
	engine->save_at = INT64_MAX;
	if (poll(&ready, 1, 10000) != 1)
		fail_msg("nothing wakes it");
	g2_engine_run(engine);
}

/* ---- restart, idle end, gpt2.enabled ---- */

/* It says at once that it will end; what to do about those that run is the server's affair. */
static void
test_restart(void **state)
{
	reply		r[2] = {0};
	g2_generate m = generate("hello");

	(void) state;
	open_engine();
	assert_int_equal(g2_engine_ending(engine), G2_ENDING_NONE);
	send_generate(r, 0, &m);
	g2_engine_submit(client_of(r), 1, G2_MSG_RESTART, NULL, 0);
	assert_int_equal(r[1].type, G2_MSG_DONE);
	assert_int_equal(g2_engine_ending(engine), G2_ENDING_RESTART);
	run_idle();
	assert_int_equal(r[0].type, G2_MSG_COMPLETIONS);
	assert_int_equal(g2_engine_ending(engine), G2_ENDING_RESTART);
	free_replies(r, 2);
	close_engine();
}

static void
test_idle(void **state)
{
	g2_settings s = settings();
	reply		r = {0};
	g2_generate m = generate("hello");
	int64_t		ended;

	(void) state;
	s.idle_timeout_s = 1;
	open_with(&s);
	send_generate(&r, 0, &m);
	engine->idle_since -= 60000000;	/* it counts from the end of the last request */
	run_until(&r);
	assert_int_equal(g2_engine_ending(engine), G2_ENDING_NONE);
	ended = g2_now_us();
	/* A look at it is a request too. */
	assert_int_equal(state_of_pid(1), 0);
	while (g2_engine_ending(engine) == G2_ENDING_NONE)
		timer_turn();
	assert_int_equal(g2_engine_ending(engine), G2_ENDING_IDLE);
	assert_true(g2_now_us() - ended >= 990000);
	free_replies(&r, 1);
	abandon_engine();
}

/* No timer at all where nothing is to happen. */
static void
test_no_idle_end(void **state)
{
	struct pollfd ready;
	reply		r = {0};
	g2_generate m = generate("hello");

	(void) state;
	open_engine();
	send_generate(&r, 0, &m);
	run_until(&r);
	engine->idle_since -= 60000000;
	engine->loading_tick = INT64_MAX;
	engine->save_at = INT64_MAX;
	for (int i = 0; i < 3; i++)
		g2_engine_run(engine);
	assert_int_equal(g2_engine_ending(engine), G2_ENDING_NONE);
	assert_true(engine->timer_at == INT64_MAX);
	ready = (struct pollfd) {.fd = g2_engine_fd(engine), .events = POLLIN};
	assert_int_equal(poll(&ready, 1, 0), 0);
	free_replies(&r, 1);
	close_engine();
}

/* An engine that ended earlier would give roles back what they have spent of their minute. */
static void
test_idle_even(void **state)
{
	reply		r = {0};
	g2_generate m = of_ids(10, 1);
	g2_settings s = settings();

	(void) state;
	s.idle_timeout_s = 1;
	open_with(&s);
	m.max_new = 60;
	attach_as(&r, &somebody);
	say_session(&r, 10, "eva", UNSET, UNSET, 35);
	send_generate(&r, 0, &m);
	run_until(&r);				/* two minutes' tokens */
	leave(&r);
	engine->idle_since -= 60000000;
	engine->loading_tick = engine->save_at = INT64_MAX;
	g2_engine_run(engine);
	assert_int_equal(g2_engine_ending(engine), G2_ENDING_NONE);
	assert_true(engine->timer_at > g2_now_us() + 60000000);
	assert_true(engine->timer_at <= g2_now_us() + 121000000);
	engine->people.roles->minute_ends -= 121000000;
	g2_engine_run(engine);
	assert_int_equal(g2_engine_ending(engine), G2_ENDING_IDLE);
	free_replies(&r, 1);
	close_engine();
}

static void
configure(const g2_settings *s)
{
	g2_error	err;

	EXPECT_OK(g2_engine_configure(engine, s, &err), err);
}

/* Whatever state a request is in: it is told. */
static void
test_disabled(void **state)
{
	enum {N = 8};
	static reply r[N + 4];
	g2_settings s = settings();
	g2_generate m = of_ids(70, 1);

	(void) state;
	m.max_new = 50;
	m.n = 32;
	for (uint32_t target = G2_STATE_LOADING; target <= G2_STATE_DECODE; target++)
	{
		if (target == G2_STATE_THROTTLED)
			continue;
		s.disabled = 0;
		open_with(&s);
		attach_as(r, &somebody);
		for (uint64_t i = 0; i < N; i++)
			send_generate(r, i, &m);
		send_load(r, N, "tiny", "", "");
		if (target != G2_STATE_LOADING)
			run_to_state(somebody.pid, target);
		s.disabled = 1;
		configure(&s);
		for (uint32_t i = 0; i <= N; i++)
			if (r[i].type != G2_MSG_DONE)
				expect_error(&r[i], "57014", "gpt2 is switched off");
		assert_int_equal(state_of_pid(somebody.pid), 0);
		assert_int_equal(g2_engine_ending(engine), G2_ENDING_DISABLED);
		send_generate(r, N + 1, &m);
		expect_error(&r[N + 1], "57014", "gpt2 is switched off");
		send_load(r, N + 2, "tiny", "", "");
		expect_error(&r[N + 2], "57014", "gpt2 is switched off");
		check_idle();
		for (uint32_t i = 0; i <= N; i++)
			assert_int_equal(r[i].answers, 1);
		s.disabled = 0;
		configure(&s);
		send_load(r, N + 3, "bare", "", "");
		run_until(&r[N + 3]);
		assert_int_equal(r[N + 3].type, G2_MSG_DONE);
		free_replies(r, N + 4);
		close_engine();
	}
	s.disabled = 1;
	open_with(&s);
	send_generate(r, 0, &m);
	expect_error(r, "57014", "gpt2 is switched off");
	assert_int_equal(g2_engine_ending(engine), G2_ENDING_DISABLED);
	free_replies(r, 1);
	close_engine();
}

/* ---- limits ---- */

static void
test_max_queued(void **state)
{
	reply		r[6] = {0};
	g2_settings s = settings();
	g2_generate m = generate("hello");

	(void) state;
	s.max_queued = 3;
	open_with(&s);
	for (uint64_t i = 0; i < 5; i++)
		send_generate(r, i, &m);
	for (int i = 3; i < 5; i++)
		expect_error(&r[i], "53400", "3 requests are waiting");
	assert_int_equal(state_of_pid(77), 0);	/* who looks is not refused */
	run_idle();
	for (int i = 1; i < 3; i++)
		same_answer(&r[0], &r[i]);
	send_generate(r, 5, &m);
	run_until(&r[5]);
	same_answer(&r[0], &r[5]);
	free_replies(r, 6);
	close_engine();
}

/* Refused up front, by the role's own limits and by those of the settings. */
static void
test_limits(void **state)
{
	static const struct
	{
		int64_t		setting[G2_N_LIMITS];
		int64_t		own[G2_N_LIMITS];
		const char *part;		/* NULL: it is answered */
	}			cases[] = {
		{{FREE, FREE, FREE}, {49, UNSET, UNSET}, "gpt2.max_tokens_per_call is 49"},
		{{FREE, FREE, FREE}, {50, 2, UNSET}, NULL},
		{{FREE, FREE, FREE}, {0, UNSET, UNSET}, "gpt2.max_tokens_per_call is 0"},
		{{FREE, FREE, FREE}, {UNSET, 1, UNSET}, "gpt2.max_concurrent_sequences is 1"},
		{{FREE, FREE, FREE}, {UNSET, 0, UNSET}, "gpt2.max_concurrent_sequences is 0"},
		{{FREE, FREE, FREE}, {UNSET, UNSET, 0}, "gpt2.max_tokens_per_minute is 0"},
		{{49, FREE, FREE}, {UNSET, UNSET, UNSET}, "gpt2.max_tokens_per_call is 49"},
		{{49, FREE, FREE}, {FREE, UNSET, UNSET}, NULL},
		{{FREE, 1, FREE}, {UNSET, UNSET, UNSET}, "gpt2.max_concurrent_sequences is 1"},
		{{FREE, 1, FREE}, {UNSET, 2, UNSET}, NULL},
		{{FREE, FREE, 0}, {UNSET, UNSET, UNSET}, "gpt2.max_tokens_per_minute is 0"},
		{{FREE, FREE, 0}, {UNSET, UNSET, 1}, NULL},
	};
	g2_settings s = settings();
	g2_generate m = of_ids(10, 1);

	(void) state;
	open_engine();
	m.n = 2;
	m.max_new = 20;
	for (size_t i = 0; i < G2_LENGTH(cases); i++)
	{
		reply		r = {0};

		s.has_limits = 1;
		memcpy(s.limits, cases[i].setting, sizeof s.limits);
		configure(&s);
		attach_as(&r, &(g2_hello) {.session_user = 100 + (uint32_t) i});
		say_session(&r, 100 + (uint32_t) i, "eva", cases[i].own[0], cases[i].own[1],
					cases[i].own[2]);
		send_generate(&r, 0, &m);
		run_until(&r);
		if (cases[i].part)
		{
			expect_error(&r, "53400", cases[i].part);
			expect_error(&r, "53400", "role \"eva\"");
		}
		else
			assert_int_equal(r.type, G2_MSG_COMPLETIONS);
		leave(&r);
		free_replies(&r, 1);
	}
	/* Where the settings hold no limits there are none. */
	s.has_limits = 0;
	configure(&s);
	assert_int_equal(engine->people.limits[G2_LIMIT_MINUTE], FREE);
	close_engine();
}

/* Over its tokens of a minute a role waits, until they have flowed back: its timer wakes it. */
static void
test_minute(void **state)
{
	reply		r[4] = {0};
	g2_generate m = of_ids(10, 1);
	int64_t		wake_at;

	(void) state;
	open_engine();
	m.max_new = 60;
	attach_as(r, &somebody);
	say_session(r, 10, "eva", UNSET, UNSET, 30);
	send_generate(r, 0, &m);
	run_until(&r[0]);			/* 40 tokens more than a minute's */
	send_generate(r, 1, &m);
	run_to_state(somebody.pid, G2_STATE_THROTTLED);
	wake_at = g2_scheduler_wake_at(engine->scheduler);
	assert_true(wake_at > g2_now_us() + 70000000 && wake_at < g2_now_us() + 83000000);
	assert_true(engine->timer_at <= wake_at);
	/* One that waits for so long at most is told why it was in vain. */
	m.queue_timeout_ms = 10;
	send_generate(r, 2, &m);
	run_until(&r[2]);
	expect_error(&r[2], "53400", "gpt2.max_tokens_per_minute is 30");
	/* Others do not wait for it. */
	send_generate(&r[3], 0, &m);
	run_until(&r[3]);
	assert_int_equal(r[3].type, G2_MSG_COMPLETIONS);
	assert_int_equal(r[1].type, 0);
	/* A higher limit counts from now on: the token above it takes less than a second. */
	say_session(r, 10, "eva", UNSET, UNSET, 69);
	g2_engine_run(engine);
	assert_int_equal(state_of_pid(somebody.pid), G2_STATE_THROTTLED);
	while (!r[1].type)
		timer_turn();
	assert_int_equal(r[1].type, G2_MSG_COMPLETIONS);
	free_replies(r, 4);
	close_engine();
}

/* Lifting a limit lets those go that wait because of it. */
static void
test_lifted(void **state)
{
	reply		r[2] = {0};
	g2_generate all = of_ids(10, 1),
				one = all;
	g2_settings s = settings();

	(void) state;
	open_engine();
	all.n = 8;
	all.max_new = one.max_new = 110;
	attach_as(&r[0], &somebody);
	attach_as(&r[1], &(g2_hello) {.pid = 1, .session_user = 10});
	say_session(&r[0], 10, "eva", UNSET, 8, 20);
	send_generate(&r[0], 0, &all);
	run_until(&r[0]);
	say_session(&r[1], 10, "eva", UNSET, 8, 20);
	send_generate(&r[1], 0, &one);
	run_to_state(1, G2_STATE_THROTTLED);
	/* Of the session's own limits one is lifted; the settings' are no limits then. */
	say_session(&r[1], 10, "eva", UNSET, 8, UNSET);
	run_until(&r[1]);
	assert_int_equal(r[1].type, G2_MSG_COMPLETIONS);
	/* Those of the settings count for what it has used before, and are lifted there. */
	s.has_limits = 1;
	s.limits[G2_LIMIT_CALL] = s.limits[G2_LIMIT_SEQUENCES] = FREE;
	s.limits[G2_LIMIT_MINUTE] = 20;
	configure(&s);
	free_replies(r, 2);
	send_generate(&r[1], 0, &one);
	run_to_state(1, G2_STATE_THROTTLED);
	s.limits[G2_LIMIT_MINUTE] = FREE;
	configure(&s);
	run_until(&r[1]);
	assert_int_equal(r[1].type, G2_MSG_COMPLETIONS);
	free_replies(r, 2);
	close_engine();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_restart), cmocka_unit_test(test_idle),
		cmocka_unit_test(test_no_idle_end), cmocka_unit_test(test_idle_even),
		cmocka_unit_test(test_disabled), cmocka_unit_test(test_max_queued),
		cmocka_unit_test(test_limits), cmocka_unit_test(test_minute), cmocka_unit_test(test_lifted),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
