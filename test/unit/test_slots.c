/*
 * test_slots.c: how many sequences run at once is a matter of their device.
 */
#include "scheduler_fixture.h"

static job *
job_on(uint32_t m, uint32_t session, uint32_t n)
{
	job		   *j = new_job(m, n, 10, 60);

	j->options.session = sessions[session];
	return j;
}

static bool
runs(const job *j)
{
	return !j->ended && j->group->state == G2_GROUP_RUNNING;
}

/* Model 0 on a device like a CPU, the others on one like a GPU. */
static void
two_devices(void)
{
	slots_of_devices[1] = FAKE_SLOTS;
	device_of[1] = device_of[2] = 1;
}

static int
one_device(void **state)
{
	(void) state;
	slots_of_devices[0] = G2_MAX_SEQUENCES;
	slots_of_devices[1] = 0;
	memset(device_of, 0, sizeof device_of);
	return 0;
}

/* All in one step. */
static void
test_many(void **state)
{
	(void) state;
	slots_of_devices[0] = FAKE_SLOTS;
	open_all(6000, 20000000);
	for (uint32_t i = 0; i < FAKE_SLOTS / G2_MAX_SEQUENCES - 1; i++)
		add_ok(job_on(0, 0, G2_MAX_SEQUENCES));
	while (!runs(&jobs[n_jobs - 1]) || !jobs[n_jobs - 1].group->forked)
		run_once();
	for (uint32_t i = 0; i < G2_MAX_SEQUENCES; i++)
	{
		job		   *j = new_job(0, 1, 1 + i % 200, 60);

		j->options.logprobs = i % 2;
		add_ok(j);
	}
	add_ok(job_on(0, 0, 1));
	run_once();
	assert_int_equal(g2_scheduler_live(scheduler), FAKE_SLOTS);
	assert_false(runs(&jobs[n_jobs - 1]));
	run_all();
	assert_true(device.most_rows[0] >= FAKE_SLOTS);
	assert_true(device.most_rows[0] <= g2_visit_rows(FAKE_SLOTS));
	for (uint32_t i = 0; i < n_jobs; i++)
		assert_int_equal(jobs[i].code, G2_OK);
	close_all();
}

/* Each device has its own, and steps of its own size. */
static void
test_two_devices(void **state)
{
	(void) state;
	two_devices();
	open_all(6000, 60000000);
	for (uint32_t i = 0; i < FAKE_SLOTS / G2_MAX_SEQUENCES; i++)
		add_ok(job_on(1, 0, G2_MAX_SEQUENCES));
	add_ok(job_on(0, 0, G2_MAX_SEQUENCES));
	run_once();
	assert_int_equal(g2_scheduler_live(scheduler), FAKE_SLOTS + G2_MAX_SEQUENCES);
	for (uint32_t i = 0; i < 60; i++)
		add_ok(new_job(i % 3, 1, 200, 50));
	run_all();
	assert_true(device.most_rows[1] >= FAKE_SLOTS);
	assert_true(device.most_rows[0] <= g2_visit_rows(G2_MAX_SEQUENCES));
	for (uint32_t i = 0; i < n_jobs; i++)
		assert_int_equal(jobs[i].code, G2_OK);
	close_all();
}

/* What waits for a slot of one device does not keep others from the other. */
static void
test_full_device(void **state)
{
	job		   *waits,
			   *goes;

	(void) state;
	two_devices();
	open_all(6000, 60000000);
	add_ok(job_on(0, 0, G2_MAX_SEQUENCES));
	run_once();
	add_ok(waits = job_on(0, 0, 2));
	add_ok(goes = job_on(1, 1, 3));
	run_once();
	run_once();
	assert_true(runs(goes));
	assert_false(waits->ended || runs(waits));
	/* A small one of the same device stays behind it. */
	add_ok(job_on(0, 1, 1));
	while (!runs(waits))
	{
		assert_false(runs(&jobs[n_jobs - 1]));
		run_once();
	}
	run_all();
	assert_int_equal(works[0].preemptions + works[1].preemptions, 0);
	close_all();
}

/* Who finds no slot on a full device takes none of another's. */
static void
test_preempted_there(void **state)
{
	(void) state;
	two_devices();
	open_all(6000, 60000000);
	add_ok(job_on(0, 0, G2_MAX_SEQUENCES / 2));
	add_ok(job_on(0, 0, G2_MAX_SEQUENCES / 2));
	for (uint32_t i = 0; i < 20; i++)
		add_ok(job_on(1, 0, 1));	/* newer, so they would be the first to go */
	for (int i = 0; i < 20; i++)
		run_once();
	add_ok(job_on(0, 2, 1));
	run_once();
	run_once();
	assert_true(runs(&jobs[n_jobs - 1]));
	assert_int_equal(works[0].preemptions, 1);
	assert_int_equal(works[1].preemptions, 0);
	run_all();
	close_all();
}

/* Who finds no block there takes none of another's either, and does not keep others from them. */
static void
test_blocks_of_a_device(void **state)
{
	job		   *waits,
			   *goes;

	(void) state;
	two_devices();
	open_all(40, 84000);		/* 35 blocks for model 1 */
	add_ok(new_job(0, 1, 10, 600));
	for (uint32_t i = 0; i < 12; i++)
		add_ok(new_job(1, 1, 10, 300));
	for (int i = 0; i < 3; i++)
		run_once();
	add_ok(new_job(0, 1, 10, 600));	/* the newest of all */
	while (kvs[1].n_held < 20)
		run_once();
	add_ok(waits = new_job(1, 1, 700, 20));
	waits->options.session = sessions[0];
	run_once();
	run_once();
	assert_false(waits->ended || runs(waits));
	add_ok(goes = job_on(0, 1, 1));
	run_once();
	run_once();
	assert_true(goes->ended || runs(goes));
	run_all();
	for (uint32_t i = 0; i < n_jobs; i++)
		assert_int_equal(jobs[i].code, G2_OK);
	assert_int_equal(works[0].preemptions, 0);
	assert_true(works[1].preemptions > 0);
	close_all();
}

/* A request for as many texts as are allowed could never run. */
static void
test_too_few(void **state)
{
	g2_scheduler *s = NULL;
	g2_error	err = {0};

	(void) state;
	open_all(80, 200000);
	device.n_slots[0] = G2_MAX_SEQUENCES - 1;
	assert_false(g2_scheduler_open(&fake_api, &device, device.event_fd, &people, &s, &err));
	assert_int_equal(err.code, G2_E_INTERNAL);
	assert_null(s);
	close_all();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_many, one_device),
		cmocka_unit_test_teardown(test_two_devices, one_device),
		cmocka_unit_test_teardown(test_full_device, one_device),
		cmocka_unit_test_teardown(test_preempted_there, one_device),
		cmocka_unit_test_teardown(test_blocks_of_a_device, one_device),
		cmocka_unit_test(test_too_few),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
