/*
 * test_service.c: what the scheduler owes over time: shares of roles that come and go, preemption
 * that leads somewhere, models beside each other, costs that were measured badly.
 */
#include "scheduler_fixture.h"

static g2_role *
role_of(uint32_t session)
{
	return sessions[session]->role;
}

static job *
add_job(uint32_t session, uint32_t n, uint32_t n_prompt, uint32_t max_new)
{
	job		   *j = new_job(0, n, n_prompt, max_new);

	j->options.session = sessions[session];
	add_ok(j);
	return j;
}

/* ---- shares ---- */

/* More jobs of the session while it has fewer than `least` that wait. */
static void
keep_queued(uint32_t session, uint32_t least)
{
	while (role_of(session)->n_queued < least)
		add_job(session, 1, 20, 20);
}

/* Of two roles that want everything, each gets its half from the newcomer's arrival on. */
static void
check_halves(uint32_t old, uint32_t newcomer)
{
	double		had[2],
				got[2];

	for (int i = 0; i < 90; i++)
	{
		keep_queued(old, 4);
		run_once();
	}
	keep_queued(newcomer, 4);
	had[0] = role_of(old)->service;
	had[1] = G2_MAX(role_of(newcomer)->service, people.virtual_time);
	for (int i = 0; i < 70; i++)
	{
		keep_queued(old, 4);
		keep_queued(newcomer, 4);
		run_once();
	}
	got[0] = role_of(old)->service - had[0];
	got[1] = role_of(newcomer)->service - had[1];
	if (got[0] < 0.6 * got[1] || got[1] < 0.6 * got[0])
		fail_msg("the old role had %.0f us of the device, the newcomer %.0f", got[0], got[1]);
}

/* A role that is always there but asks for little lends no credit to who comes later. */
static void
test_small_role(void **state)
{
	(void) state;
	open_all(64, 64000);
	device.busy_us = 1000;
	add_job(3, 1, 20, 300);
	check_halves(0, 2);
	run_all();
	close_all();
}

/* Nor does one whose limit keeps it waiting; and when it may go on, it has none itself. */
static void
test_throttled_role(void **state)
{
	g2_session_message m = {
		.session_user = 300, .user_name = g2_span_of("clerk"),
		.limits = {G2_LIMIT_UNSET, 1, G2_LIMIT_UNSET},
	};

	(void) state;
	open_all(64, 64000);
	device.busy_us = 1000;
	g2_session_set(sessions[3], &m);
	add_job(3, 1, 20, 250);
	add_job(3, 1, 20, 20);
	check_halves(0, 2);
	assert_true(role_of(3)->throttled);
	m.limits[G2_LIMIT_SEQUENCES] = G2_LIMIT_UNSET;
	g2_session_set(sessions[3], &m);
	run_once();
	assert_true(role_of(3)->service >= people.virtual_time - 2000);
	run_all();
	close_all();
}

/* ---- preemption ---- */

/* Two requests that do not fit together, of two roles, each longer than a visit: they may take
 * turns, but in the end both end. */
static void
test_no_livelock(void **state)
{
	(void) state;
	open_all(40, 40000);
	device.busy_us = 300000;
	add_job(0, 1, 900, 100);
	add_job(2, 1, 900, 100);
	for (int i = 0; n_ended < n_jobs; i++)
	{
		if (i > 2000)
			fail_msg("%u and %u preemptions, and no end", jobs[0].group->preemptions,
					 jobs[1].group->preemptions);
		run_once();
	}
	assert_true(jobs[0].preemptions + jobs[1].preemptions < 20);
	check_empty();
	close_all();
}

/* Who is admitted has not got its blocks yet, but they are no longer there for others. */
static void
test_no_overcommitment(void **state)
{
	(void) state;
	open_all(64, 64000);
	for (int i = 0; i < 100; i++)
		add_job(i % 2, 1, 120, 5);
	while (n_ended < n_jobs)
	{
		run_once();
		assert_true(g2_scheduler_live(scheduler) <= 16);
	}
	assert_int_equal(works[0].preemptions, 0);
	check_empty();
	close_all();
}

/* The role with the most service runs little; the place that is needed is with another one. */
static void
test_second_gives_way(void **state)
{
	(void) state;
	open_all(4000, 20000000);
	add_job(0, 1, 10, 500);
	add_job(3, 1, 10, 500);
	for (int i = 0; i < 254; i++)
		add_job(2, 1, 10, 500);
	for (int i = 0; i < 30; i++)
		run_once();
	for (int i = 1; i < 60; i++)
		add_job(3, 1, 10, 500);
	role_of(0)->service += 20000000;
	role_of(2)->service += 10000000;
	for (int i = 0; i < 10; i++)
		run_once();
	assert_int_equal(role_of(3)->n_running, 60);
	assert_int_equal(role_of(0)->n_running, 1);
	run_all();
	close_all();
}

/* ---- costs ---- */

/* One visit, which takes 4 ms a step and 60 us a row of it; its rows. */
static uint64_t
run_visit(void)
{
	uint64_t	rows = device.rows,
				steps = device.steps;

	run_once();
	rows = device.rows - rows;
	device.busy_us = (uint32_t) ((device.steps - steps) * (4000 + rows * 60));
	return rows;
}

/* Most rows of a plan while the job prefills. */
static uint64_t
most_rows(const job *j)
{
	uint64_t	most = 0;

	while (!j->ended && g2_group_prefilling(j->group))
	{
		uint64_t	rows = run_visit();

		most = G2_MAX(most, rows);
	}
	return most;
}

static void
decode_16(void)
{
	for (int i = 0; i < 16; i++)
		add_job(0, 1, 10, 700);
	for (int i = 0; i < 20; i++)
		run_visit();
}

/* One visit that the machine held up does not make long prompts hold up the others, nor its role
 * wait for what was not its doing. */
static void
test_held_up(void **state)
{
	double		service;

	(void) state;
	open_all(2000, 20000000);
	decode_16();
	service = role_of(0)->service;
	device.busy_us = 3000000;
	run_visit();
	assert_true(role_of(0)->service - service < 200000);
	/* Twice a step of 16 rows, or somewhat more. */
	assert_true(most_rows(add_job(0, 1, 700, 5)) <= 16 + 300);
	run_all();
	close_all();
}

/* The tokens of one model do not wait for the whole prompt of another. */
static void
test_prompt_beside_model(void **state)
{
	job		   *j;

	(void) state;
	open_all(2000, 20000000);
	decode_16();
	j = new_job(1, 1, 700, 5);
	add_ok(j);
	/* Twice a step of 16 rows is 165. */
	assert_true(most_rows(j) <= 200);
	run_all();
	close_all();
}

/* What is computed again because others came first does not count against the limit per minute. */
static void
test_limit_once(void **state)
{
	g2_session_message m = {
		.session_user = 100, .user_name = g2_span_of("clerk"),
		.limits = {G2_LIMIT_UNSET, G2_LIMIT_UNSET, 1000000},
	};
	uint32_t	preemptions = 0;
	double		spent = 0;

	(void) state;
	open_all(40, 40000);
	g2_session_set(sessions[0], &m);
	for (int i = 0; i < 12; i++)
		add_job(0, 1, 60, 500);
	run_all();
	for (uint32_t i = 0; i < n_jobs; i++)
	{
		preemptions += jobs[i].preemptions;
		spent += 60 + 500;
	}
	assert_true(preemptions > 0);
	assert_true(role_of(0)->minute_spent <= spent);
	close_all();
}

/* ---- the end of waiting ---- */

/* Time limits of all lengths in the queues of four sessions, and cancels among them: each ends when
 * it is due, for its own reason, and who has no limit stays. */
static void
test_many_time_limits(void **state)
{
	int64_t		start = g2_now_us();

	(void) state;
	open_all(20, 20000);
	add_job(0, 1, 500, 60);
	run_once();
	device.delay = UINT32_MAX;
	for (int i = 1; i < 300; i++)
	{
		job		   *j = new_job(0, 1, 500, 2);

		j->options.session = sessions[fake_random(4)];
		j->options.queue_timeout_ms = fake_random(3) ? 1 + fake_random(60) : 0;
		add_ok(j);
		j->canceled = fake_random(4) == 0;
	}
	for (int i = 1; i < 300; i++)
		if (jobs[i].canceled)
			g2_scheduler_cancel(scheduler, jobs[i].group);
	run_once();
	for (int i = 1; i < 300; i++)
		if (jobs[i].canceled)
			assert_int_equal(jobs[i].code, G2_E_CANCELED);
		else
			assert_true(!jobs[i].ended || jobs[i].code == G2_E_LIMIT);
	while (g2_now_us() - start < 100000 || g2_scheduler_wake_at(scheduler) != INT64_MAX)
	{
		int64_t		now = g2_now_us();

		run_once();
		for (int i = 1; i < 300; i++)
			if (!jobs[i].canceled && jobs[i].options.queue_timeout_ms > 0 && !jobs[i].ended)
				assert_true(jobs[i].group->queued_at +
							jobs[i].options.queue_timeout_ms * 1000 > now);
	}
	for (int i = 1; i < 300; i++)
		if (!jobs[i].canceled)
			assert_int_equal(jobs[i].ended, jobs[i].options.queue_timeout_ms > 0);
	device.delay = 0;
	run_all();
	close_all();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_small_role), cmocka_unit_test(test_throttled_role),
		cmocka_unit_test(test_no_livelock), cmocka_unit_test(test_no_overcommitment),
		cmocka_unit_test(test_second_gives_way), cmocka_unit_test(test_held_up),
		cmocka_unit_test(test_prompt_beside_model), cmocka_unit_test(test_limit_once),
		cmocka_unit_test(test_many_time_limits),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
