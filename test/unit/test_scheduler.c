/*
 * test_scheduler.c: batching, steps, turns of models, cancels, faults.
 */
#include "scheduler_fixture.h"

static void
test_alone(void **state)
{
	(void) state;
	open_all(80, 200000);
	for (uint32_t n_prompt = 1; n_prompt <= 130; n_prompt++)
	{
		add_ok(new_job(n_prompt % 3, 1 + n_prompt % 3, n_prompt, 1 + n_prompt % 70));
		run_all();
	}
	assert_true(device.most_steps > 4);
	close_all();
}

static void
test_random(void **state)
{
	uint64_t	preemptions = 0;

	(void) state;
	for (int round = 0; round < 8; round++)
	{
		open_all(90, 150000);
		device.max_delay = 3;
		run_random_jobs();
		assert_true(device.plans < device.rows);
		preemptions += works[0].preemptions + works[1].preemptions + works[2].preemptions;
		check_empty();
		close_all();
	}
	/* How many there are in a round follows from what steps have taken. */
	assert_true(preemptions > 0);
}

static job *
beams_job(uint32_t n, uint32_t n_prompt, uint32_t max_new)
{
	job		   *j = new_job(0, n, n_prompt, max_new);

	j->options.n_best = n;
	j->options.length_penalty = 1;
	return j;
}

/* Preempted beams compute their tokens again in small pieces, and go on together. */
static void
test_beams(void **state)
{
	uint64_t	preemptions = 0;

	(void) state;
	for (uint32_t step_tokens = 16; step_tokens <= 50; step_tokens += 17)
	{
		open_all(40, 40000);
		g2_scheduler_set_step_tokens(scheduler, step_tokens);
		for (uint32_t i = 0; i < 12; i++)
		{
			job		   *j = beams_job(2 + i % 3, 5 + 13 * i, 60 + 7 * i);

			j->options.session = sessions[i % G2_LENGTH(sessions)];
			add_ok(j);
		}
		run_all();
		for (uint32_t i = 0; i < n_jobs; i++)
			assert_int_equal(jobs[i].code, G2_OK);
		preemptions += works[0].preemptions;
		close_all();
	}
	assert_true(preemptions > 0);
}

/* Of a search only the prompt's blocks are kept for others. */
static void
test_beams_cache(void **state)
{
	(void) state;
	use_cache = true;
	open_all(80, 200000);
	add_ok(beams_job(4, 70, 90));
	run_all();
	assert_int_equal(kvs[0].n_cached, 70 / G2_BLOCK);
	close_all();
	use_cache = false;
}

static void
test_steps(void **state)
{
	(void) state;
	open_all(80, 200000);
	g2_scheduler_set_speculation(scheduler, false);	/* a visit with drafts has one step */
	device.busy_us = 10;
	for (int i = 0; i < 5; i++)
		add_ok(new_job(0, 1, 10, 80));
	run_all();
	assert_int_equal(device.most_steps, G2_VISIT_STEPS);
	assert_true(device.plans < 80 / 3);	/* drafts are visits of one step */
	/* Never when a visit would take too long, or somebody waits. */
	device.most_steps = 0;
	works[0] = (g2_work) {0};
	device.busy_us = 6000;
	add_ok(new_job(0, 1, 10, 40));
	run_all();
	assert_int_equal(device.most_steps, 1);
	close_all();
}

/* Plans that 4 texts take whose seeds are odd (so they repeat themselves) or even. */
static uint64_t
plans_of_texts(uint32_t odd, bool speculation)
{
	uint64_t	plans;

	open_all(80, 200000);
	g2_scheduler_set_speculation(scheduler, speculation);
	device.busy_us = 6000;		/* one step a visit */
	for (uint32_t i = 0; i < 4; i++)
	{
		job		   *j = new_job(0, 1, 40, 200);

		j->options.sampling.seed = 2 * i + odd;
		j->options.logprobs = true;
		add_ok(j);
	}
	run_all();
	plans = device.plans;
	assert_true(speculation || works[0].drafted_tokens == 0);
	assert_true(works[0].drafts_kept <= works[0].drafted_tokens);
	assert_true(!speculation || !odd || works[0].drafts_kept > 400);
	check_empty();
	close_all();
	return plans;
}

static void
test_drafts(void **state)
{
	(void) state;
	assert_true(plans_of_texts(1, false) >= 200);
	assert_true(plans_of_texts(1, true) < 100);
	assert_true(plans_of_texts(0, true) > 120);
}

static void
test_cancel(void **state)
{
	(void) state;
	for (int round = 0; round < 20; round++)
	{
		uint32_t	canceled = 0;

		open_all(90, 150000);
		device.max_delay = 3;
		while (n_jobs < 60 || n_ended < n_jobs)
		{
			if (n_jobs < 60)
				add_ok(random_job());
			if (fake_random(3) == 0)
			{
				job		   *j = &jobs[fake_random(n_jobs)];

				if (!j->ended && !j->canceled)
				{
					j->canceled = true;
					canceled++;
					g2_scheduler_cancel(scheduler, j->group);
				}
			}
			run_once();
		}
		for (uint32_t i = 0; i < n_jobs; i++)
			if (jobs[i].code != G2_OK)
			{
				assert_int_equal(jobs[i].code, G2_E_CANCELED);
				assert_true(jobs[i].canceled);
			}
		assert_true(canceled > 0);
		check_empty();
		close_all();
	}
}

/* Cancelled while it waits behind a visit: gone at once, not at the visit's end. */
static void
test_cancel_queued(void **state)
{
	(void) state;
	open_all(20, 20000);
	device.max_delay = 0;
	add_ok(new_job(0, 1, 600, 20));
	run_once();
	device.delay = 100;
	add_ok(new_job(0, 1, 600, 20));
	run_once();
	g2_scheduler_cancel(scheduler, jobs[1].group);
	run_once();
	assert_true(jobs[1].ended && jobs[1].code == G2_E_CANCELED);
	device.delay = 0;
	run_all();
	assert_int_equal(jobs[0].code, G2_OK);
	close_all();
}

/* Groups of A, B, A, C: each model has its turn among any three visits. */
static void
test_turns(void **state)
{
	static const uint32_t order[] = {0, 1, 0, 2, 1, 0};

	(void) state;
	open_all(200, 2000000);
	for (size_t i = 0; i < G2_LENGTH(order); i++)
		add_ok(new_job(order[i], 1, 20, 60));
	while (n_ended == 0)
		run_once();
	assert_true(device.plans >= 150);
	for (uint64_t i = 2; i + 3 < device.plans; i++)
		for (uint32_t m = 0; m < 3; m++)
			if (device.visited[i] != &models[m] && device.visited[i - 1] != &models[m] &&
				device.visited[i - 2] != &models[m])
				fail_msg("model %u starves at visit %u", m, (unsigned) i);
	run_all();
	close_all();
}

/* A prompt that waits for room does not take another model's turns. */
static void
test_turns_prefill(void **state)
{
	uint32_t	seen = 0;

	(void) state;
	open_all(200, 2000000);
	for (int i = 0; i < 6; i++)
		add_ok(new_job(0, 1, 700, 5));
	add_ok(new_job(1, 1, 20, 8));
	for (int i = 0; i < 10; i++)
		run_once();
	for (uint64_t i = 0; i < device.plans; i++)
		seen += device.visited[i] == &models[1];
	assert_true(seen >= 4);
	run_all();
	close_all();
}

static void
test_refused(void **state)
{
	g2_error	err;

	(void) state;
	open_all(20, 10000);
	/* Model 0's blocks are 20000 bytes, above the budget: they count. */
	assert_true(add(new_job(0, 1, 600, 41), &err));
	assert_false(add(new_job(0, 1, 600, 42), &err));
	assert_int_equal(err.code, G2_E_MEMORY);
	n_jobs--;
	assert_false(add(new_job(0, 8, 63, 100), &err));
	n_jobs--;
	assert_true(add(new_job(0, 8, 64, 1), &err));
	/* One token, of which the score is wanted that it gives to the next, and there is none. */
	new_job(0, 1, 1, 0)->options.want = G2_WANT_LOGPROB;
	assert_false(add(&jobs[--n_jobs], &err));
	assert_int_equal(err.code, G2_E_INTERNAL);
	run_all();
	close_all();
}

/* 256 sequences are all the slots; the next group waits for them. */
static void
test_slots(void **state)
{
	(void) state;
	open_all(2000, 20000000);
	add_ok(new_job(0, 200, 10, 5));
	add_ok(new_job(0, 57, 10, 5));
	add_ok(new_job(0, 1, 10, 5));
	run_once();
	assert_int_equal(g2_scheduler_live(scheduler), 200);
	run_all();
	close_all();
}

/* More than 256 rows wait to decode and a prompt comes in beside them. */
static void
test_full_house(void **state)
{
	(void) state;
	open_all(2000, 20000000);
	for (int i = 0; i < 300; i++)
		add_ok(new_job(i % 2, 1, 1 + fake_random(200), 1 + fake_random(50)));
	run_all();
	close_all();
}

/* The device refuses the n-th plan, or loses it: those in it fail, the others do not notice. */
static void
test_device_fails(void **state)
{
	(void) state;
	for (int kind = 0; kind < 3; kind++)
		for (long n = 1; n < 40; n++)
		{
			uint32_t	failed = 0;

			open_all(60, 60000);
			*(kind == 0 ? &device.fail_submit : kind == 1 ? &device.fail_result :
			  &device.fail_slot) = n;
			for (int i = 0; i < 12; i++)
				add_ok(new_job(i % 3, 1 + fake_random(3), 1 + fake_random(150),
							   1 + fake_random(20)));
			run_all();
			for (uint32_t i = 0; i < n_jobs; i++)
				if (jobs[i].code != G2_OK)
				{
					assert_int_equal(jobs[i].code, G2_E_SYSTEM);
					failed++;
				}
			if (n == 1)
				assert_true(failed > 0);
			if (kind == 2)
				assert_true(failed <= 1);
			assert_true(failed < n_jobs);
			close_all();
		}
}

/* One that waits for the room of one that fails is admitted, though no visit ends. */
static void
test_failed_leaves_room(void **state)
{
	(void) state;
	open_all(20, 20000);
	add_ok(new_job(0, 1, 600, 20));
	add_ok(new_job(0, 1, 600, 20));
	device.fail_submit = 1;
	run_once();
	assert_true(jobs[0].ended);
	assert_true(device.in_flight);
	run_all();
	assert_int_equal(jobs[0].code, G2_E_SYSTEM);
	assert_int_equal(jobs[1].code, G2_OK);
	close_all();
}

/* The same where it waits for its role's limit. */
static void
test_failed_leaves_limit(void **state)
{
	(void) state;
	open_all(40, 40000);
	sessions[0]->own_limits[G2_LIMIT_SEQUENCES] = 1;
	for (int i = 0; i < 2; i++)
		add_ok(new_job(0, 1, 64, 20));
	device.fail_submit = 1;
	run_all();
	assert_int_equal(jobs[0].code, G2_E_SYSTEM);
	assert_int_equal(jobs[1].code, G2_OK);
	close_all();
}

/* The same where room was made for one that then fails: what was preempted for it must not wait for
 * an event that does not come. */
static void
test_failed_had_room_made(void **state)
{
	(void) state;
	open_all(20, 20000);
	for (int i = 0; i < 2; i++)
		add_ok(new_job(0, 1, 64, 500));
	device.fail_once = &works[0].preemptions;
	run_all();
	assert_null(device.fail_once);
	assert_int_equal(jobs[0].code, G2_E_SYSTEM);
	assert_int_equal(jobs[1].code, G2_OK);
	assert_int_equal(jobs[1].preemptions, 1);
	close_all();
}

/* Every allocation fails in turn: at most one group suffers, and nothing is left behind. */
static void
test_no_memory(void **state)
{
	bool		injected = true;

	(void) state;
	for (long n = 1; injected; n++)
	{
		uint32_t	failed = 0;

		fake_random_state = 99;
		open_all(90, 150000);
		g2_alloc_fail_at(n);
		for (int i = 0; i < 9; i++)
		{
			job		   *j = random_job();
			g2_error	err;

			if (add(j, &err))
				continue;
			assert_int_equal(err.code, G2_E_MEMORY);
			j->ended = true;
			j->code = err.code;
			n_ended++;
		}
		run_all();
		for (uint32_t i = 0; i < n_jobs; i++)
			if (jobs[i].code != G2_OK)
			{
				assert_int_equal(jobs[i].code, G2_E_MEMORY);
				failed++;
			}
		assert_true(failed <= 1);
		/* The failure was used up when this allocation succeeds. */
		g2_alloc_fail_at(0);
		injected = failed > 0 || n < 400;
		close_all();
	}
}

static void
test_close(void **state)
{
	(void) state;
	for (int round = 0; round < 20; round++)
	{
		open_all(60, 60000);
		device.max_delay = 3;
		for (int i = 0; i < 30; i++)
			add_ok(new_job(fake_random(3), 1 + fake_random(3), 1 + fake_random(100),
						   1 + fake_random(40)));
		for (int i = 0; i < round * 3; i++)
			run_once();
		close_all();
		assert_int_equal(n_ended, n_jobs);
		for (uint32_t i = 0; i < n_jobs; i++)
			assert_true(jobs[i].code == G2_OK || jobs[i].code == G2_E_CANCELED);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alone), cmocka_unit_test(test_random),
		cmocka_unit_test(test_beams), cmocka_unit_test(test_beams_cache),
		cmocka_unit_test(test_steps),
		cmocka_unit_test(test_drafts),
		cmocka_unit_test(test_cancel), cmocka_unit_test(test_cancel_queued),
		cmocka_unit_test(test_turns), cmocka_unit_test(test_turns_prefill),
		cmocka_unit_test(test_refused), cmocka_unit_test(test_slots),
		cmocka_unit_test(test_full_house), cmocka_unit_test(test_device_fails),
		cmocka_unit_test(test_failed_leaves_room), cmocka_unit_test(test_failed_leaves_limit),
		cmocka_unit_test(test_failed_had_room_made),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_close),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
