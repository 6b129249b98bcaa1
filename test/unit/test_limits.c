/*
 * test_limits.c: limits of roles and sessions, and the end of waiting.
 */
#include "scheduler_fixture.h"

static g2_role *
role_of(uint32_t session)
{
	return sessions[session]->role;
}

/* ---- limits ---- */

static void
set_limit_of_session(uint32_t session, g2_limit limit, int64_t value)
{
	g2_session_message m = {
		.session_user = role_of(session)->oid, .user_name = g2_span_of("clerk"),
		.limits = {G2_LIMIT_UNSET, G2_LIMIT_UNSET, G2_LIMIT_UNSET},
	};

	m.limits[limit] = value;
	g2_session_set(sessions[session], &m);
}

/* In all sessions of that one's role. */
static void
set_limit(uint32_t session, g2_limit limit, int64_t value)
{
	for (uint32_t i = 0; i < G2_LENGTH(sessions); i++)
		if (role_of(i) == role_of(session))
			set_limit_of_session(i, limit, value);
}

static void
expect_refused(job *j, const char *name)
{
	g2_error	err;

	assert_false(add(j, &err));
	assert_int_equal(err.code, G2_E_LIMIT);
	if (!strstr(err.message, name) || !strstr(err.message, "\"clerk\""))
		fail_msg("%s", err.message);
	n_jobs--;
}

static void
test_call_limit(void **state)
{
	(void) state;
	open_all(200, 300000);
	set_limit(0, G2_LIMIT_CALL, 50);
	add_ok(new_job(0, 4, 10, 10));
	expect_refused(new_job(0, 4, 11, 10), "gpt2.max_tokens_per_call is 50");
	set_limit(0, G2_LIMIT_CALL, 0);
	expect_refused(new_job(0, 1, 1, 1), "gpt2.max_tokens_per_call is 0");
	set_limit(0, G2_LIMIT_SEQUENCES, 0);
	expect_refused(new_job(0, 1, 1, 1), "gpt2.max_concurrent_sequences is 0");
	set_limit(0, G2_LIMIT_SEQUENCES, 3);
	expect_refused(new_job(0, 4, 1, 1), "gpt2.max_concurrent_sequences is 3");
	set_limit(0, G2_LIMIT_MINUTE, 0);
	expect_refused(new_job(0, 1, 1, 1), "gpt2.max_tokens_per_minute is 0");
	/* What stands in the configuration counts where the role has nothing of its own. */
	set_limit(0, G2_LIMIT_MINUTE, G2_LIMIT_UNSET);
	people.limits[G2_LIMIT_CALL] = 30;
	expect_refused(new_job(0, 1, 30, 1), "gpt2.max_tokens_per_call is 30");
	set_limit(0, G2_LIMIT_CALL, G2_UNLIMITED);
	people.limits[G2_LIMIT_MINUTE] = G2_UNLIMITED;
	add_ok(new_job(0, 1, 30, 1));
	run_all();
	close_all();
}

static void
test_concurrent_limit(void **state)
{
	(void) state;
	open_all(400, 600000);
	set_limit(0, G2_LIMIT_SEQUENCES, 3);
	for (int i = 0; i < 20; i++)
	{
		job		   *j = new_job(0, 1 + i % 2, 10, 20);

		j->options.session = sessions[i % 4];
		add_ok(j);
	}
	while (n_ended < n_jobs)
	{
		run_once();
		assert_true(role_of(0)->n_running <= 3);
	}
	/* What waits when the limit is lowered below it does not wait for ever. */
	add_ok(new_job(0, 1, 10, 20));
	add_ok(new_job(0, 3, 10, 20));
	run_once();
	set_limit(0, G2_LIMIT_SEQUENCES, 2);
	run_all();
	check_empty();
	close_all();
}

static void
run_until_ended(const job *j)
{
	int64_t		start = g2_now_us();

	while (!j->ended)
	{
		run_once();
		if (g2_now_us() - start > 60000000)
			fail_msg("no end");
	}
}

/* 600 tokens a minute flow back at 10 a second: the second request waits about 0.6 s. */
static void
test_minute_limit(void **state)
{
	int64_t		start = g2_now_us(),
				wake_at;
	job		   *late;

	(void) state;
	open_all(400, 600000);
	set_limit(0, G2_LIMIT_MINUTE, 600);
	add_ok(new_job(0, 1, 595, 10));
	run_all();
	add_ok(new_job(0, 1, 10, 10));
	run_once();
	assert_true(role_of(0)->throttled);
	wake_at = g2_scheduler_wake_at(scheduler);
	assert_true(wake_at > start + 300000 && wake_at < g2_now_us() + 2000000);
	/* Others of the role wait too, but not for ever. */
	late = new_job(0, 1, 10, 10);
	late->options.queue_timeout_ms = 1;
	late->options.session = sessions[1];
	add_ok(late);
	run_until_ended(late);
	assert_int_equal(late->code, G2_E_LIMIT);
	assert_non_null(strstr(late->error.message, "gpt2.max_tokens_per_minute is 600"));
	assert_false(jobs[1].ended);
	run_until_ended(&jobs[1]);
	assert_int_equal(jobs[1].code, G2_OK);
	assert_true(g2_now_us() - start > 300000);
	check_empty();
	close_all();
}

/* What runs has the rest of its tokens reserved: those that wait do not begin all at once and go
 * beyond the limit together.  What was reserved and not used is there for the next. */
static void
test_minute_reserved(void **state)
{
	enum {LIMIT = 60000, PROMPT = 1000, NEW = 200, JOBS = 120};
	double		most = 0;

	(void) state;
	open_all(8000, 40000000);
	set_limit(0, G2_LIMIT_MINUTE, LIMIT);
	for (int i = 0; i < JOBS; i++)
	{
		job		   *j = new_job(0, 1, PROMPT, NEW);

		j->options.session = sessions[i % 2];
		add_ok(j);
	}
	while (n_ended < LIMIT / (PROMPT + NEW) - 5)
	{
		const g2_role *role = role_of(0);

		run_once();
		most = G2_MAX(most, role->minute_spent + (double) role->reserved);
		assert_true(most <= LIMIT + PROMPT + NEW);
	}
	assert_true(most > LIMIT - PROMPT);
	for (uint32_t i = 0; i < n_jobs; i++)
		if (!jobs[i].ended)
			g2_scheduler_cancel(scheduler, jobs[i].group);
	run_all();
	assert_int_equal(role_of(0)->reserved, 0);
	check_empty();
	close_all();
}

/* Sessions of a role may have other limits, but what counts against them is the role's. */
static void
test_limits_of_sessions(void **state)
{
	job		   *j;

	(void) state;
	open_all(400, 600000);
	set_limit_of_session(0, G2_LIMIT_CALL, 20);
	set_limit_of_session(1, G2_LIMIT_CALL, 40);
	expect_refused(new_job(0, 1, 15, 10), "gpt2.max_tokens_per_call is 20");
	j = new_job(0, 1, 15, 10);
	j->options.session = sessions[1];
	add_ok(j);
	run_all();
	/* 60 tokens flow back in a minute; 6000 do in 0.6 s. */
	set_limit_of_session(0, G2_LIMIT_MINUTE, 60);
	set_limit_of_session(1, G2_LIMIT_MINUTE, 6000);
	add_ok(new_job(0, 1, 90, 10));
	run_all();
	j = new_job(0, 1, 5, 5);
	j->options.queue_timeout_ms = 1;
	add_ok(j);
	run_until_ended(j);
	assert_int_equal(j->code, G2_E_LIMIT);
	assert_non_null(strstr(j->error.message, "gpt2.max_tokens_per_minute is 60"));
	j = new_job(0, 1, 5, 5);
	j->options.session = sessions[1];
	add_ok(j);
	run_until_ended(j);
	assert_int_equal(j->code, G2_OK);
	check_empty();
	close_all();
}

/* ---- what waits when a limit changes ---- */

/* Whether a job of the session waits for a limit. */
static void
expect_waiting(const job *j, bool throttled)
{
	assert_false(j->ended);
	assert_int_equal(j->group->state, G2_GROUP_QUEUED);
	assert_int_equal(g2_queue_throttled(j->options.session), throttled);
}

static job *
add_job(uint32_t session, uint32_t n)
{
	job		   *j = new_job(0, n, 10, 20);

	j->options.session = sessions[session];
	add_ok(j);
	return j;
}

/* What waits when nothing is allowed any more ends as a new call would; what runs goes on, and so
 * do others. */
static void
test_forbidden_later(void **state)
{
	static const char *const messages[G2_N_LIMITS] = {
		"role \"clerk\" may not generate: gpt2.max_tokens_per_call is 0",
		"role \"clerk\" may not generate: gpt2.max_concurrent_sequences is 0",
		"role \"clerk\" may not generate: gpt2.max_tokens_per_minute is 0",
	};

	(void) state;
	for (int limit = 0; limit < G2_N_LIMITS; limit++)
	{
		open_all(400, 600000);
		set_limit(0, G2_LIMIT_SEQUENCES, 1);
		for (int i = 0; i < 6; i++)
			add_job(i % 2, 1);
		run_once();
		add_job(2, 1);
		for (int i = 1; i < 6; i++)
			expect_waiting(&jobs[i], true);
		set_limit(0, (g2_limit) limit, 0);
		run_once();
		assert_false(jobs[0].ended);
		for (int i = 1; i < 6; i++)
		{
			assert_int_equal(jobs[i].code, G2_E_LIMIT);
			assert_string_equal(jobs[i].error.message, messages[limit]);
			assert_true(jobs[i].error.hint[0]);
		}
		run_all();
		assert_int_equal(jobs[0].code, G2_OK);
		assert_int_equal(jobs[6].code, G2_OK);
		close_all();
	}
}

/* The session that a limit of its own holds back does not hold up the others of its role. */
static void
test_own_limit(void **state)
{
	job		   *first,
			   *own,
			   *other;

	(void) state;
	open_all(400, 600000);
	set_limit_of_session(0, G2_LIMIT_SEQUENCES, 1);
	first = add_job(0, 1);
	run_once();
	own = add_job(0, 1);
	other = add_job(1, 1);
	run_once();
	expect_waiting(own, true);
	assert_int_equal(other->group->state, G2_GROUP_RUNNING);
	assert_false(first->ended);
	run_all();
	assert_true(other->order < own->order);
	/* The limit per minute likewise. */
	set_limit_of_session(0, G2_LIMIT_MINUTE, 60);
	g2_session_spend(sessions[0], 61);
	own = add_job(0, 1);
	other = add_job(1, 1);
	run_once();
	expect_waiting(own, true);
	assert_int_equal(other->group->state, G2_GROUP_RUNNING);
	set_limit_of_session(0, G2_LIMIT_MINUTE, G2_UNLIMITED);
	run_all();
	close_all();
}

/* Small groups under the same limit do not keep a large one waiting for ever. */
static void
test_large_group(void **state)
{
	job		   *large;

	(void) state;
	open_all(400, 600000);
	set_limit(0, G2_LIMIT_SEQUENCES, 3);
	add_job(1, 1);
	run_once();
	large = add_job(0, 3);
	for (int i = 0; i < 20; i++)
		add_job(1, 1);
	run_once();
	expect_waiting(large, true);
	assert_int_equal(role_of(0)->n_running, 1);
	run_all();
	assert_int_equal(large->order, 2);
	close_all();
}

/* ---- the end of waiting ---- */

/* A time limit is for the queue: once admitted, a request may take longer. */
static void
test_queue_timeout(void **state)
{
	(void) state;
	open_all(20, 20000);
	device.max_delay = 0;
	add_ok(new_job(0, 1, 500, 60));
	jobs[0].options.queue_timeout_ms = 1;
	run_once();
	for (int i = 0; i < 3; i++)
	{
		job		   *j = new_job(0, 1, 500, 60);

		j->options.queue_timeout_ms = i == 1 ? 0 : 1 + i;
		add_ok(j);
	}
	device.delay = UINT32_MAX;	/* the first one's visit lasts */
	run_until_ended(&jobs[1]);
	run_until_ended(&jobs[3]);
	device.delay = 0;
	assert_non_null(strstr(jobs[3].error.message, "gpt2.queue_timeout"));
	run_all();
	assert_int_equal(jobs[0].code, G2_OK);
	assert_int_equal(jobs[1].code, G2_E_LIMIT);
	assert_int_equal(jobs[2].code, G2_OK);
	close_all();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_call_limit), cmocka_unit_test(test_concurrent_limit),
		cmocka_unit_test(test_minute_limit), cmocka_unit_test(test_minute_reserved),
		cmocka_unit_test(test_limits_of_sessions),
		cmocka_unit_test(test_forbidden_later), cmocka_unit_test(test_own_limit),
		cmocka_unit_test(test_large_group), cmocka_unit_test(test_queue_timeout),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
