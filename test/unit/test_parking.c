/*
 * test_parking.c: sessions that nobody waits for give way to all others, and their groups end with
 * the right texts all the same.
 */
#include "scheduler_fixture.h"

static job *
job_of(uint32_t session, uint32_t n, uint32_t n_prompt, uint32_t max_new)
{
	job		   *j = new_job(0, n, n_prompt, max_new);

	j->options.session = sessions[session];
	return j;
}

static bool
runs_within(const job *j, int runs)
{
	for (int i = 0; i < runs && !j->ended && j->group->state != G2_GROUP_RUNNING; i++)
		run_once();
	return j->ended || j->group->state == G2_GROUP_RUNNING;
}

/* All slots are a cursor's that stands still: the same role's other session needs none of the
 * cursor's calls to end. */
static void
test_slots(void **state)
{
	const uint32_t n_slots = slots_of_devices[0];

	(void) state;
	open_all(4000, 20000000);
	for (uint32_t i = 0; i < n_slots; i++)
		add_ok(job_of(0, 1, 10, 300));
	for (int i = 0; i < 20; i++)
		run_once();
	assert_int_equal(g2_scheduler_live(scheduler), n_slots);
	add_ok(job_of(1, 1, 10, 50));
	assert_false(runs_within(&jobs[n_slots], 3));
	sessions[0]->parked = true;
	assert_true(runs_within(&jobs[n_slots], 2));
	assert_int_equal(works[0].preemptions, 1);
	while (!jobs[n_slots].ended)
		run_once();
	assert_true(n_ended < n_slots / 2);
	run_all();					/* the parked ones too, since nobody else wants anything */
	close_all();
}

/* The same with blocks, which even the oldest group gives up. */
static void
test_blocks(void **state)
{
	(void) state;
	open_all(60, 60000);
	g2_scheduler_set_speculation(scheduler, false);
	for (int i = 0; i < 12; i++)
		add_ok(job_of(0, 1, 100, 400));
	for (int i = 0; i < 60; i++)
		run_once();
	sessions[0]->parked = true;
	for (int i = 0; i < 3; i++)
		add_ok(job_of(1, 1, 300, 300));
	for (int i = 0; i < 3; i++)
		assert_true(runs_within(&jobs[12 + i], 3));
	while (!jobs[12].ended || !jobs[13].ended || !jobs[14].ended)
		run_once();
	for (int i = 0; i < 3; i++)
		assert_int_equal(jobs[12 + i].preemptions, 0);
	assert_int_equal(n_ended, 3);
	sessions[0]->parked = false;
	run_all();
	close_all();
}

/* The sequences that a role may run are there for the session that somebody waits for. */
static void
test_limit_of_sequences(void **state)
{
	g2_role    *role;
	uint32_t	first;

	(void) state;
	open_all(4000, 20000000);
	role = sessions[0]->role;
	people.limits[G2_LIMIT_SEQUENCES] = 4;
	for (int i = 0; i < 6; i++)
		add_ok(job_of(0, 1, 10, 300));
	for (int i = 0; i < 20; i++)
		run_once();
	assert_int_equal(role->n_running, 4);
	sessions[0]->parked = true;
	first = n_jobs;
	add_ok(job_of(1, 3, 10, 50));
	add_ok(job_of(1, 4, 10, 50));	/* needs all, so the parked ones do not come back before it */
	while (!jobs[first + 1].ended)
	{
		run_once();
		assert_true(role->n_running <= 4);
	}
	assert_int_equal(n_ended, 2);
	assert_int_equal(works[0].preemptions, 4);
	run_all();
	close_all();
}

/* So are the tokens of its minute: what parked groups have reserved does not hold it up. */
static void
test_limit_of_tokens(void **state)
{
	uint32_t	first;

	(void) state;
	open_all(4000, 20000000);
	people.limits[G2_LIMIT_MINUTE] = 600;
	for (int i = 0; i < 6; i++)
		add_ok(job_of(0, 1, 10, 300));
	for (int i = 0; i < 3; i++)
		run_once();
	assert_int_equal(sessions[0]->role->n_running, 2);
	assert_false(jobs[0].ended);
	first = n_jobs;
	add_ok(job_of(1, 1, 10, 50));
	assert_false(runs_within(&jobs[first], 2));
	sessions[0]->parked = true;
	assert_true(runs_within(&jobs[first], 2));
	people.limits[G2_LIMIT_MINUTE] = G2_UNLIMITED;
	run_all();
	assert_int_equal(sessions[0]->role->reserved, 0);
	close_all();
}

/* While there is room for all, a parked session goes on. */
static void
test_room_for_all(void **state)
{
	(void) state;
	open_all(4000, 20000000);
	sessions[0]->parked = sessions[2]->parked = true;
	for (uint32_t i = 0; i < 30; i++)
		add_ok(job_of(i % 4, 1, 50, 50));
	run_all();
	assert_int_equal(works[0].preemptions, 0);
	close_all();
}

/* A role that is parked has no part in what those that wait are owed. */
static void
test_no_credit(void **state)
{
	g2_role    *parked;

	(void) state;
	open_all(60, 60000);
	device.busy_us = 1000;
	parked = sessions[2]->role;
	sessions[2]->parked = true;
	for (int i = 0; i < 40; i++)
		add_ok(job_of(0, 1, 100, 60));
	add_ok(job_of(2, 1, 100, 60));
	for (int i = 0; i < 60; i++)
		run_once();
	assert_true(sessions[0]->role->n_queued > 0);
	assert_true(jobs[40].group->state == G2_GROUP_QUEUED);
	assert_true(people.virtual_time > 0);
	sessions[2]->parked = false;
	run_once();
	run_once();
	assert_true(jobs[40].group->state == G2_GROUP_RUNNING);
	assert_true(parked->service >= people.virtual_time / 2);
	run_all();
	close_all();
}

/* Whatever is parked when, all end, with the right texts. */
static void
test_random(void **state)
{
	uint64_t	preemptions = 0;

	(void) state;
	use_cache = true;
	for (int round = 0; round < 12; round++)
	{
		open_all(90, 150000);
		device.max_delay = 3;
		if (round % 2)
			people.limits[G2_LIMIT_SEQUENCES] = 12;
		while (n_jobs < 150 || n_ended < n_jobs)
		{
			for (uint32_t k = n_jobs < 150 ? fake_random(5) : 0; k > 0; k--)
				add_ok(random_job());
			if (fake_random(5) == 0)
				sessions[fake_random(4)]->parked = fake_random(2);
			if (n_jobs > 0 && fake_random(20) == 0)
			{
				job		   *j = &jobs[fake_random(n_jobs)];

				if (!j->ended)
					g2_scheduler_cancel(scheduler, j->group);
			}
			device.busy_us = fake_random(2000);
			run_once();
		}
		for (uint32_t m = 0; m < 3; m++)
			preemptions += works[m].preemptions;
		check_empty();
		close_all();
	}
	assert_true(preemptions > 100);
	use_cache = false;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slots), cmocka_unit_test(test_blocks),
		cmocka_unit_test(test_limit_of_sequences), cmocka_unit_test(test_limit_of_tokens),
		cmocka_unit_test(test_room_for_all), cmocka_unit_test(test_no_credit),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
