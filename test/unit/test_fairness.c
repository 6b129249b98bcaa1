/*
 * test_fairness.c: what the scheduler owes to others: shared prefixes, preemption, roles, steps
 * that are not too long.
 */
#include "scheduler_fixture.h"

/* ---- shared prefixes ---- */

/* The first n tokens of the prompt are those of others with the same number. */
static void
share_prefix(job *j, uint32_t number, uint32_t n)
{
	for (uint32_t i = 0; i < n && i < j->n_prompt; i++)
		j->prompt[i] = (number * 31 + i * 7) % g2_tokenizer_size(vocabulary.tok);
}

/* One instruction of 300 tokens before 100 texts, all at once: it is computed once. */
static void
test_prefix_once(void **state)
{
	uint64_t	prompt = 0;

	(void) state;
	use_cache = true;
	open_all(2000, 3000000);
	for (int i = 0; i < 100; i++)
	{
		job		   *j = new_job(0, 1, 320 + fake_random(20), 5);

		share_prefix(j, 1, 300);
		prompt += j->n_prompt;
		add_ok(j);
	}
	run_all();
	assert_int_equal(jobs[0].cached, 0);
	for (uint32_t i = 1; i < n_jobs; i++)
		assert_true(jobs[i].cached >= 288);
	/* All prompts, less the 9 blocks of the other 99; nothing was computed twice. */
	assert_int_equal(works[0].prompt_tokens, prompt - 99 * 288);
	assert_int_equal(works[0].prefix_hits, 99 * 288);
	close_all();
	use_cache = false;
}

static void
test_prefix_owner(void **state)
{
	(void) state;
	use_cache = true;
	open_all(2000, 3000000);
	for (int i = 0; i < 4; i++)
	{
		job		   *j = new_job(0, 1, 100, 5);

		share_prefix(j, 2, 100);
		j->options.prefix.hash[5] = i == 2;
		j->options.use_cache = i != 3;
		add_ok(j);
		run_all();
	}
	assert_int_equal(jobs[0].cached, 0);
	assert_int_equal(jobs[1].cached, 96);
	assert_int_equal(jobs[2].cached, 0);
	assert_int_equal(jobs[3].cached, 0);
	close_all();
	use_cache = false;
}

/* A hit never covers the last token of a prompt, which the first new token needs. */
static void
test_prefix_ends(void **state)
{
	(void) state;
	use_cache = true;
	open_all(200, 300000);
	for (uint32_t n = 95; n <= 98; n++)
		for (int twice = 0; twice < 2; twice++)
		{
			job		   *j = new_job(0, 1 + n % 2 * 2, n, 3);

			share_prefix(j, n, n);
			add_ok(j);
			run_all();
			assert_int_equal(j->cached, twice ? (n - 1) / 32 * 32 : 0);
		}
	close_all();
	use_cache = false;
}

/* Random groups with few different beginnings, little memory, many roles, cancels: right answers,
 * and all that is left is prefixes. */
static void
test_random_prefixes(void **state)
{
	uint64_t	hits = 0,
				preemptions = 0;

	(void) state;
	use_cache = true;
	for (int round = 0; round < 12; round++)
	{
		open_all(90, 150000);
		device.max_delay = 3;
		while (n_jobs < 150 || n_ended < n_jobs)
		{
			for (uint32_t k = n_jobs < 150 ? fake_random(5) : 0; k > 0; k--)
			{
				job		   *j = random_job();

				share_prefix(j, fake_random(4), fake_random(400));
				add_ok(j);
			}
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
		{
			hits += works[m].prefix_hits;
			preemptions += works[m].preemptions;
		}
		check_empty();
		close_all();
	}
	assert_true(hits > 10000);
	assert_true(preemptions > 100);
	use_cache = false;
}

/* ---- preemption ---- */

/* More than fits at once: all end with the right texts, the oldest without being preempted. */
static void
test_oldest_ends(void **state)
{
	uint32_t	preemptions = 0;

	(void) state;
	open_all(40, 40000);
	g2_scheduler_set_speculation(scheduler, false);	/* all grow at the same pace */
	for (int i = 0; i < 12; i++)
		add_ok(new_job(0, 1, 60, 500));
	run_all();
	assert_int_equal(jobs[0].preemptions, 0);
	assert_int_equal(jobs[0].order, 1);
	for (uint32_t i = 0; i < n_jobs; i++)
	{
		assert_int_equal(jobs[i].code, G2_OK);
		preemptions += jobs[i].preemptions;
	}
	assert_true(preemptions > 0);
	close_all();
}

/* Sequences that have just forked share the last block of their prompt and are about to copy it:
 * that room is not given away meanwhile. */
static void
test_copies_promised(void **state)
{
	(void) state;
	open_all(32, 32000);
	add_ok(new_job(0, 8, 40, 20));
	run_once();
	/* 28 blocks, of the 30 that are free when its turn comes; the eight copy 7. */
	add_ok(new_job(0, 1, 864, 10));
	run_all();
	assert_int_equal(jobs[0].preemptions + jobs[1].preemptions, 0);
	/* What is promised is not more than that: 23 blocks are left, and one for what runs grows. */
	add_ok(new_job(0, 8, 40, 20));
	run_once();
	add_ok(new_job(0, 1, 660, 10));
	run_once();
	assert_int_equal(jobs[3].group->state, G2_GROUP_RUNNING);
	run_all();
	assert_int_equal(jobs[2].preemptions + jobs[3].preemptions, 0);
	close_all();
}

/* ---- roles ---- */

static g2_role *
role_of(uint32_t session)
{
	return sessions[session]->role;
}

/* One role holds all slots and has a long queue: another's request runs in the next step. */
static void
test_newcomer(void **state)
{
	job		   *j;

	(void) state;
	open_all(4000, 20000000);
	for (int i = 0; i < 350; i++)
		add_ok(new_job(0, 1, 10, 200));
	for (int i = 0; i < 20; i++)
		run_once();
	assert_int_equal(g2_scheduler_live(scheduler), slots_of_devices[0]);
	j = new_job(0, 1, 10, 200);
	j->options.session = sessions[2];
	add_ok(j);
	for (int i = 0; i < 2 && j->group->state != G2_GROUP_RUNNING; i++)
		run_once();
	assert_int_equal(j->group->state, G2_GROUP_RUNNING);
	assert_int_equal(works[0].preemptions, 1);
	run_all();
	close_all();
}

/* The same when it is blocks that are used up. */
static void
test_newcomer_blocks(void **state)
{
	job		   *j;

	(void) state;
	open_all(60, 60000);
	for (int i = 0; i < 40; i++)
		add_ok(new_job(0, 1, 100, 200));
	for (int i = 0; i < 60; i++)
		run_once();
	j = new_job(0, 1, 100, 20);
	j->options.session = sessions[3];
	add_ok(j);
	for (int i = 0; i < 2 && j->group->state != G2_GROUP_RUNNING; i++)
		run_once();
	assert_int_equal(j->group->state, G2_GROUP_RUNNING);
	run_all();
	close_all();
}

/* Three roles with more work than there is room for, one of them in two sessions, one with
 * longer prompts: of the device's time each gets its third, +- 20 %. */
static void
test_shares(void **state)
{
	double		before[3],
				all = 0;
	uint32_t	session_tokens[4] = {0};

	(void) state;
	open_all(4000, 20000000);
	device.busy_us = 1000;
	for (int i = 0; i < 390; i++)
	{
		job		   *j = new_job(0, 1, i % 3 == 2 ? 200 : 20, 40);

		j->options.session = sessions[i % 3 == 0 ? i % 2 : 1 + i % 3];
		add_ok(j);
	}
	for (int i = 0; i < 50; i++)
		run_once();
	for (uint32_t r = 0; r < 3; r++)
		before[r] = role_of(r + 1)->service;
	while (role_of(1)->n_queued > 0 && role_of(2)->n_queued > 0 && role_of(3)->n_queued > 0)
		run_once();
	for (uint32_t r = 0; r < 3; r++)
		all += role_of(r + 1)->service - before[r];
	for (uint32_t r = 0; r < 3; r++)
	{
		double		share = (role_of(r + 1)->service - before[r]) / all;

		if (share < 0.8 / 3 || share > 1.2 / 3)
			fail_msg("role %u had %.2f of the device", r, share);
	}
	for (uint32_t i = 0; i < n_jobs; i++)
		for (uint32_t s = 0; s < 4; s++)
			session_tokens[s] += jobs[i].ended && jobs[i].options.session == sessions[s];
	/* Sessions of one role take turns. */
	assert_true(session_tokens[0] + 8 >= session_tokens[1] &&
				session_tokens[1] + 8 >= session_tokens[0]);
	run_all();
	close_all();
}

/* Who was idle for long has no credit for it. */
static void
test_no_credit(void **state)
{
	(void) state;
	open_all(4000, 20000000);
	add_ok(new_job(0, 1, 10, 1));
	jobs[0].options.session = sessions[2];
	run_all();
	for (int i = 0; i < 300; i++)
		add_ok(new_job(0, 1, 10, 100));
	for (int i = 0; i < 100; i++)
		run_once();
	for (int i = 0; i < 60; i++)
	{
		job		   *j = new_job(0, 1, 10, 100);

		j->options.session = sessions[3];
		add_ok(j);
	}
	run_once();
	assert_true(role_of(3)->service >= role_of(0)->service * 0.9);
	run_all();
	close_all();
}

/* ---- steps ---- */

/* 16 sequences decode; a prompt of 1,000 tokens arrives: no step lasts longer than three. */
static void
test_long_prompt(void **state)
{
	uint64_t	rows;

	(void) state;
	open_all(2000, 20000000);
	for (int i = 0; i < 16; i++)
		add_ok(new_job(0, 1, 10, 500));
	/* What a real device measures: 4 ms a step and 1 ms a row. */
	for (int i = 0; i < 20; i++)
	{
		rows = device.rows;
		run_once();
		device.busy_us = 4000 + (uint32_t) (device.rows - rows) * 1000;
	}
	add_ok(new_job(0, 1, 1000, 10));
	while (g2_group_prefilling(jobs[16].group))
	{
		rows = device.rows;
		run_once();
		device.busy_us = 4000 + (uint32_t) (device.rows - rows) * 1000;
		assert_true(device.busy_us <= 3 * 20000 + 1000);
	}
	run_all();
	/* With the setting: so many rows, those that decode counted. */
	g2_scheduler_set_step_tokens(scheduler, 24);
	add_ok(new_job(0, 1, 300, 10));
	run_once();
	rows = device.rows;
	run_once();
	assert_int_equal(device.rows - rows, 24);
	run_all();
	close_all();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_prefix_once), cmocka_unit_test(test_prefix_owner),
		cmocka_unit_test(test_prefix_ends), cmocka_unit_test(test_random_prefixes),
		cmocka_unit_test(test_oldest_ends), cmocka_unit_test(test_copies_promised),
		cmocka_unit_test(test_newcomer), cmocka_unit_test(test_newcomer_blocks),
		cmocka_unit_test(test_shares),
		cmocka_unit_test(test_no_credit), cmocka_unit_test(test_long_prompt),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
