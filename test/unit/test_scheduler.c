/*
 * test_scheduler.c: groups of all kinds through the scheduler on the fake device, each compared
 * with a simulation of it alone that knows nothing of blocks, batches, chunks or visits.
 */
#include "fake_device.h"

#include "scheduler.h"
#include "tokenizer_fixture.h"

#define MAX_GROUPS 400

/* One group and what must come of it. */
typedef struct job
{
	g2_group   *group;			/* NULL: ended */
	g2_group_options options;
	uint32_t	prompt[1024];
	uint32_t	n_prompt;
	uint32_t	model;
	bool		canceled;
	bool		ended;
	g2_code		code;			/* G2_OK: with an answer */
} job;

static model vocabulary;
static uint32_t letters[16],
			n_letters,
			end_token;
static g2_backend device;
static g2_backend_model models[3];
static g2_kv kvs[3];
static g2_work works[3];
static g2_kv_pool pool;
static g2_people people;
static g2_session *sessions[4];	/* of roles 100, 100, 200, 300 */
static g2_scheduler *scheduler;
static job jobs[MAX_GROUPS];
static uint32_t n_jobs,
			n_ended;
static bool use_cache;			/* of new jobs */

/* ---- the naive simulation ---- */

/* Not the engine's memory: what the simulation allocates is not to fail. */
typedef struct naive_text
{
	char		data[8192];
	size_t		len;
} naive_text;

static void
append_piece(naive_text *text, uint32_t token)
{
	size_t		len;
	const char *piece = g2_tokenizer_piece(vocabulary.tok, token, &len);

	assert_non_null(piece);
	assert_true(text->len + len <= sizeof text->data);
	memcpy(text->data + text->len, piece, len);
	text->len += len;
}

/* Where the first stop string begins in all of the text, or SIZE_MAX. */
static size_t
first_stop(const naive_text *text, const g2_group_options *o)
{
	for (size_t at = 0; at < text->len; at++)
		for (uint32_t i = 0; i < o->n_stops; i++)
			if (o->stops[i].len <= text->len - at &&
				memcmp(text->data + at, o->stops[i].data, o->stops[i].len) == 0)
				return at;
	return SIZE_MAX;
}

static void
compare_sequence(const job *j, uint32_t i)
{
	const g2_group_options *o = &j->options;
	const g2_sequence *got = &j->group->sequences[i];
	naive_text	text = {.len = 0};
	uint32_t	tokens[1200],
				n = j->n_prompt,
				made = 0,
				finish = 0;
	double		logprob = 0;

	memcpy(tokens, j->prompt, n * sizeof *tokens);
	while (!finish)
	{
		uint64_t	h = fake_mix(fake_mix(o->sampling.seed, i), made);
		size_t		stop;

		for (uint32_t p = 0; p < n; p++)
			h = fake_mix(h, tokens[p]);
		tokens[n] = fake_token(letters, n_letters, h, o->end_token);
		logprob += o->logprobs ? fake_logprob(h) : 0;
		made++;
		if (tokens[n] == o->end_token)
			finish = G2_FINISH_EOS;
		else
		{
			append_piece(&text, tokens[n]);
			if ((stop = first_stop(&text, o)) != SIZE_MAX)
			{
				text.len = stop;
				finish = G2_FINISH_STOP;
			}
		}
		n++;
		if (!finish && made == o->max_new)
			finish = G2_FINISH_LENGTH;
	}
	assert_int_equal(got->finish, finish);
	assert_int_equal(got->ids.len, made);
	assert_memory_equal(got->ids.data, tokens + j->n_prompt, made * sizeof *tokens);
	assert_int_equal(got->text.len, text.len);
	if (text.len > 0)
		assert_memory_equal(got->text.data, text.data, text.len);
	assert_true(got->logprob == logprob);
}

/* ---- groups ---- */

static void
group_done(g2_group *group, const g2_error *error)
{
	job		   *j = group->o.user;

	assert_ptr_equal(j->group, group);
	assert_false(j->ended);
	j->ended = true;
	j->code = error ? error->code : G2_OK;
	for (uint32_t i = 0; !error && i < group->o.n; i++)
		compare_sequence(j, i);
	g2_group_free(group);
	j->group = NULL;
	n_ended++;
}

static job *
new_job(uint32_t m, uint32_t n, uint32_t n_prompt, uint32_t max_new)
{
	job		   *j = &jobs[n_jobs];

	assert_true(n_jobs < MAX_GROUPS);
	memset(j, 0, sizeof *j);
	j->model = m;
	j->n_prompt = n_prompt;
	for (uint32_t i = 0; i < n_prompt; i++)
		j->prompt[i] = fake_random(g2_tokenizer_size(vocabulary.tok));
	j->options = (g2_group_options) {
		.sampling = {.seed = n_jobs, .temperature = 1},
		.n = n, .max_new = max_new, .end_token = G2_NO_TOKEN,
		.tokenizer = vocabulary.tok, .kv = &kvs[m], .work = &works[m], .model = &models[m],
		.session = sessions[0], .use_cache = use_cache, .prefix = {{(uint8_t) m}},
		.n_vocab = g2_tokenizer_size(vocabulary.tok), .done = group_done, .user = j,
	};
	n_jobs++;
	return j;
}

static job *
random_job(void)
{
	static const char *const stops[] = {"\n", "tht", "aath", "hthe", "the\n", "ab", "zz"};
	job		   *j = new_job(fake_random(3), 1 + fake_random(fake_random(3) ? 2 : 8),
							1 + fake_random(fake_random(10) ? 200 : 700), 1 + fake_random(80));

	if (fake_random(2))
		j->options.end_token = end_token;
	j->options.logprobs = fake_random(2);
	for (uint32_t i = fake_random(4); i > 0; i--)
	{
		const char *stop = stops[fake_random(G2_LENGTH(stops))];

		j->options.stops[j->options.n_stops++] = (g2_bytes) {stop, strlen(stop)};
	}
	return j;
}

static bool
add(job *j, g2_error *err)
{
	g2_ids		ids = {0};

	for (uint32_t i = 0; i < j->n_prompt; i++)
		if (!g2_ids_push(&ids, j->prompt[i]))
		{
			g2_free(ids.data);
			return g2_fail_memory(err, 1);
		}
	if (!g2_group_new(&j->options, &ids, &j->group, err))
	{
		g2_free(ids.data);
		return false;
	}
	if (g2_scheduler_add(scheduler, j->group, err))
		return true;
	g2_group_free(j->group);
	j->group = NULL;
	return false;
}

static void
add_ok(job *j)
{
	g2_error	err;

	if (!add(j, &err))
		fail_msg("%s", err.message);
}

/* ---- the machine around it ---- */

static void
open_all(uint32_t n_blocks, uint64_t kv_budget)
{
	g2_error	err;

	memset(&device, 0, sizeof device);
	fake = &device;
	device.event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	device.alphabet = letters;
	device.n_alphabet = n_letters;
	device.busy_us = 400;
	pool = (g2_kv_pool) {.budget = kv_budget};
	for (uint32_t m = 0; m < 3; m++)
	{
		models[m] = (g2_backend_model) {.block_bytes = 1000 * (m + 1)};
		works[m] = (g2_work) {0};
		assert_true(g2_kv_open(&kvs[m], &pool, &fake_api, &models[m],
							   n_blocks / (m + 1) + 15 * (m > 0), &err));
	}
	g2_people_init(&people);
	for (uint32_t i = 0; i < G2_LENGTH(sessions); i++)
		assert_true(g2_session_open(&people, i, 1, i < 2 ? 100 : i * 100, &sessions[i], &err));
	assert_true(g2_scheduler_open(&fake_api, &device, device.event_fd, &people, &scheduler,
								  &err));
	n_jobs = n_ended = 0;
}

/* Nothing is left of the groups but prefixes. */
static void
check_empty(void)
{
	assert_int_equal(g2_scheduler_live(scheduler), 0);
	assert_int_equal(g2_scheduler_queued(scheduler), 0);
	for (const g2_role *role = people.roles; role; role = role->next)
	{
		assert_int_equal(role->n_running, 0);
		assert_int_equal(role->n_queued, 0);
		assert_null(role->ring);
	}
	assert_int_equal(pool.used, pool.cached);
	for (uint32_t m = 0; m < 3; m++)
	{
		assert_int_equal(g2_kv_held(&kvs[m]), 0);
		for (uint32_t i = 0; i < kvs[m].n_free; i++)
			for (uint32_t p = 0; p < G2_BLOCK; p++)
				assert_int_equal(models[m].cache[kvs[m].free_blocks[i] * G2_BLOCK + p], 0);
	}
}

static void
close_all(void)
{
	g2_scheduler_close(scheduler);
	for (uint32_t i = 0; i < G2_LENGTH(sessions); i++)
		g2_session_close(sessions[i]);
	g2_people_close(&people);
	for (uint32_t m = 0; m < 3; m++)
	{
		g2_kv_close(&kvs[m]);
		free(models[m].cache);
	}
	assert_int_equal(pool.used, 0);
	assert_null(pool.oldest);
	close(device.event_fd);
}

static void
check_budget(void)
{
	uint64_t	used = 0,
				cached = 0;

	for (uint32_t m = 0; m < 3; m++)
	{
		uint32_t	held = 0;

		for (uint32_t b = 0; b < kvs[m].n_blocks; b++)
			held += kvs[m].blocks[b].references > 0;
		assert_int_equal(held, g2_kv_held(&kvs[m]));
		used += (uint64_t) (held + kvs[m].n_cached) * kvs[m].block_bytes;
		cached += (uint64_t) kvs[m].n_cached * kvs[m].block_bytes;
	}
	assert_int_equal(used, pool.used);
	assert_int_equal(cached, pool.cached);
	assert_true(used <= pool.budget);
}

static void
run_once(void)
{
	g2_scheduler_run(scheduler);
	check_budget();
	/* Nobody would ever wake it again. */
	if (!device.in_flight && n_ended < n_jobs && g2_scheduler_wake_at(scheduler) == INT64_MAX)
		fail_msg("%u groups wait and nothing is in flight", n_jobs - n_ended);
}

static void
run_all(void)
{
	for (int i = 0; n_ended < n_jobs; i++)
	{
		if (i > 200000)
			fail_msg("no end");
		run_once();
	}
	check_empty();
}

static int
set_up(void **state)
{
	static const char *const pieces[] = {"a", "b", "t", "h", "th", "the", "aa", "\n", "aaaa"};

	(void) state;
	make_small(&vocabulary);
	for (size_t i = 0; i < G2_LENGTH(pieces); i++)
	{
		letters[n_letters] = g2_tokenizer_find(vocabulary.tok, pieces[i], strlen(pieces[i]));
		assert_true(letters[n_letters++] != G2_NO_TOKEN);
	}
	end_token = g2_tokenizer_find(vocabulary.tok, "<|endoftext|>", 13);
	assert_true(end_token != G2_NO_TOKEN);
	return 0;
}

static int
tear_down(void **state)
{
	(void) state;
	free_model(&vocabulary);
	return 0;
}

/* ---- tests ---- */

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
	(void) state;
	for (int round = 0; round < 8; round++)
	{
		open_all(90, 150000);
		device.max_delay = 3;
		while (n_jobs < 150 || n_ended < n_jobs)
		{
			for (uint32_t k = n_jobs < 150 ? fake_random(4) : 0; k > 0; k--)
				add_ok(random_job());
			device.busy_us = fake_random(2000);
			run_once();
		}
		for (uint32_t i = 0; i < n_jobs; i++)
			assert_int_equal(jobs[i].code, G2_OK);
		assert_true(device.plans < device.rows);
		assert_true(works[0].preemptions + works[1].preemptions + works[2].preemptions > 0);
		check_empty();
		close_all();
	}
}

static void
test_steps(void **state)
{
	(void) state;
	open_all(80, 200000);
	device.busy_us = 10;
	for (int i = 0; i < 5; i++)
		add_ok(new_job(0, 1, 10, 80));
	run_all();
	assert_int_equal(device.most_steps, G2_VISIT_STEPS);
	assert_true(device.plans < 20);
	/* Never when a visit would take too long, or somebody waits. */
	device.most_steps = 0;
	works[0] = (g2_work) {0};
	device.busy_us = 6000;
	add_ok(new_job(0, 1, 10, 40));
	run_all();
	assert_int_equal(device.most_steps, 1);
	close_all();
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
		cmocka_unit_test(test_alone), cmocka_unit_test(test_random), cmocka_unit_test(test_steps),
		cmocka_unit_test(test_cancel), cmocka_unit_test(test_cancel_queued),
		cmocka_unit_test(test_turns), cmocka_unit_test(test_turns_prefill),
		cmocka_unit_test(test_refused), cmocka_unit_test(test_slots),
		cmocka_unit_test(test_full_house), cmocka_unit_test(test_device_fails),
		cmocka_unit_test(test_failed_leaves_room), cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_close),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
