/*
 * test_scheduler_slabs.c: models that share the slabs of a device: whatever is asked of them, all
 * texts end, and are what each would be alone; and what becomes of them when weights take memory.
 */
#include "scheduler_fixture.h"

#define SLAB 12000				/* 12, 6 or 4 blocks */

static void
test_random(void **state)
{
	uint64_t	preemptions = 0;

	(void) state;
	for (int round = 0; round < 10; round++)
	{
		use_cache = round % 2;
		open_slabs(90, 10000000, SLAB, 12);
		device.max_delay = 3;
		run_random_jobs();
		preemptions += works[0].preemptions + works[1].preemptions + works[2].preemptions;
		assert_int_equal(device.spare + pool.n_mapped, 12);
		check_empty();
		close_all();
		assert_int_equal(device.spare, 12);
	}
	use_cache = false;
	assert_true(preemptions > 0);
}

/* Texts of a model have all the memory, also where another's have all of it when they come. */
static void
test_all_for_one(void **state)
{
	(void) state;
	open_slabs(48, 10000000, SLAB, 4);
	for (uint32_t i = 0; i < 12; i++)
	{
		job		   *j = new_job(i % 3, 1, 400, i % 3 == 0 ? 780 : i % 3 == 1 ? 350 : 100);

		j->options.session = sessions[i % G2_LENGTH(sessions)];
		add_ok(j);
	}
	run_all();
	for (uint32_t i = 0; i < n_jobs; i++)
		assert_int_equal(jobs[i].code, G2_OK);
	assert_true(works[0].preemptions + works[1].preemptions + works[2].preemptions > 0);
	close_all();
}

/* Weights take a slab.  A text that would need it ends with an error, while it runs and while it
 * waits; others go on. */
static void
test_weights_take(void **state)
{
	job		   *large,
			   *waits,
			   *small;

	(void) state;
	open_slabs(48, 10000000, SLAB, 4);
	g2_scheduler_set_speculation(scheduler, false);
	large = new_job(0, 1, 600, 590);	/* 38 blocks */
	waits = new_job(0, 1, 610, 580);
	small = new_job(1, 1, 100, 50);
	add_ok(large);
	for (int i = 0; i < 20; i++)
		run_once();
	assert_true(device.spare > 0);
	add_ok(waits);
	add_ok(small);
	device.spare--;
	run_all();
	assert_int_equal(large->code, G2_E_MEMORY);
	assert_int_equal(waits->code, G2_E_MEMORY);
	assert_int_equal(small->code, G2_OK);
	/* Not even its prompt has room now. */
	add_ok(waits = new_job(0, 1, 700, 1));
	device.spare -= 2;
	run_all();
	assert_int_equal(waits->code, G2_E_MEMORY);
	close_all();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random), cmocka_unit_test(test_all_for_one),
		cmocka_unit_test(test_weights_take),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
