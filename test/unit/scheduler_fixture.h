/*
 * scheduler_fixture.h: groups of all kinds through the scheduler on the fake device, each compared
 * with a simulation of it alone that knows nothing of blocks, batches, chunks or visits.
 */
#ifndef SCHEDULER_FIXTURE_H
#define SCHEDULER_FIXTURE_H

#include "fake_device.h"

#include <math.h>

#include "beams.h"
#include "scheduler.h"
#include "tokenizer_fixture.h"

#define UNUSED __attribute__((unused))

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
	g2_error	error;
	uint32_t	streamed;		/* tokens */
	char		stream[8192];
	size_t		stream_len;
	uint32_t	cached;			/* prompt tokens from the prefix cache */
	uint32_t	preemptions;
	int64_t		order;			/* of its end, from 1 */
} job;

static model vocabulary;
static uint32_t letters[16],
			n_letters,
			end_token;
static g2_backend device;
static g2_backend_model models[3];
static g2_kv kvs[3];
static g2_work works[3];
static g2_kv_pool pool,
			other_pool;		/* of the second device */
static g2_people people;
static g2_session *sessions[4];	/* of roles 100, 100, 200, 300 */
static g2_scheduler *scheduler;
static job jobs[MAX_GROUPS];
static uint32_t n_jobs,
			n_ended;
static bool use_cache;			/* of new jobs */
static uint32_t slots_of_devices[G2_MAX_DEVICES] = {G2_MAX_SEQUENCES},
			device_of[3];		/* each model */

/* ---- the naive simulation ---- */

/* Not the engine's memory: what the simulation allocates is not to fail. */
typedef struct naive_text
{
	char		data[8192];
	size_t		len;
} naive_text;

static UNUSED void
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
static UNUSED size_t
first_stop(const naive_text *text, const g2_group_options *o)
{
	for (size_t at = 0; at < text->len; at++)
		for (uint32_t i = 0; i < o->n_stops; i++)
			if (o->stops[i].len <= text->len - at &&
				memcmp(text->data + at, o->stops[i].data, o->stops[i].len) == 0)
				return at;
	return SIZE_MAX;
}

static UNUSED void
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
		tokens[n] = fake_token(letters, n_letters, h, o->end_token, o->sampling.seed,
							   n < FAKE_QUOTE ? G2_TOKEN_NONE : tokens[n - FAKE_QUOTE]);
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

/* ---- a beam search without blocks ---- */

#define NAIVE_BEAMS 4

typedef struct naive_beam
{
	uint32_t	tokens[1200];	/* prompt and answer */
	uint32_t	n;
	double		score;
	double		logprob;
	naive_text	text;
	uint32_t	finish;
} naive_beam;

typedef struct naive_search
{
	naive_beam	running[NAIVE_BEAMS];
	naive_beam	ended[NAIVE_BEAMS + 1];
	naive_beam	next[2 * NAIVE_BEAMS];	/* candidates, the best first */
	uint32_t	n_running;
	uint32_t	n_ended;
	uint32_t	n_next;
} naive_search;

/* The beam with one more token. */
static UNUSED naive_beam
naive_extend(const job *j, const naive_beam *beam, uint32_t token, double score)
{
	const g2_group_options *o = &j->options;
	naive_beam	b = *beam;
	size_t		stop;

	b.tokens[b.n++] = token;
	b.score += score;
	b.logprob += score / 2;
	if (token == o->end_token)
		b.finish = G2_FINISH_EOS;
	else
	{
		append_piece(&b.text, token);
		if ((stop = first_stop(&b.text, o)) != SIZE_MAX)
		{
			b.text.len = stop;
			b.finish = G2_FINISH_STOP;
		}
	}
	if (!b.finish && b.n - j->n_prompt == o->max_new)
		b.finish = G2_FINISH_LENGTH;
	return b;
}

/* Puts it where it belongs, behind those that are as good; of more than `most` the last goes. */
static UNUSED void
naive_insert(naive_beam *list, uint32_t *n, uint32_t most, const naive_beam *beam)
{
	uint32_t	at = *n;

	while (at > 0 && list[at - 1].score < beam->score)
		at--;
	if (at == most)
		return;
	if (*n == most)
		--*n;
	memmove(&list[at + 1], &list[at], (*n - at) * sizeof *list);
	list[at] = *beam;
	++*n;
}

static UNUSED void
naive_step(const job *j, naive_search *s)
{
	const g2_group_options *o = &j->options;
	uint32_t	n = o->n;

	s->n_next = 0;
	for (uint32_t i = 0; i < s->n_running; i++)
	{
		const naive_beam *beam = &s->running[i];
		uint64_t	h = fake_mix(fake_mix(o->sampling.seed, i), beam->n - j->n_prompt);
		uint32_t	token[2 * NAIVE_BEAMS];
		double		score[2 * NAIVE_BEAMS];

		for (uint32_t p = 0; p < beam->n; p++)
			h = fake_mix(h, beam->tokens[p]);
		fake_candidates(letters, n_letters, h, o->end_token, 2 * n, token, score);
		for (uint32_t t = 0; t < 2 * n; t++)
		{
			naive_beam	b = naive_extend(j, beam, token[t], score[t]);

			naive_insert(s->next, &s->n_next, 2 * n, &b);
		}
	}
	s->n_running = 0;
	for (uint32_t c = 0; c < s->n_next; c++)
		if (!s->next[c].finish && s->n_running < n)
			s->running[s->n_running++] = s->next[c];
		else if (s->next[c].finish && c < n)
		{
			s->next[c].score /= pow(s->next[c].n - j->n_prompt, o->length_penalty);
			naive_insert(s->ended, &s->n_ended, n, &s->next[c]);
		}
}

static UNUSED void
compare_beams(const job *j)
{
	static naive_search s;
	const g2_group_options *o = &j->options;

	memset(&s, 0, sizeof s);
	memcpy(s.running[0].tokens, j->prompt, j->n_prompt * sizeof *j->prompt);
	s.running[0].n = j->n_prompt;
	s.n_running = 1;
	for (;;)
	{
		const naive_beam *best = &s.running[0];

		naive_step(j, &s);
		if (s.n_running == 0 || (s.n_ended == o->n &&
								 best->score / pow(best->n - j->n_prompt, o->length_penalty) <=
								 s.ended[o->n - 1].score))
			break;
	}
	assert_true(s.n_ended >= o->n_best);
	for (uint32_t i = 0; i < o->n_best; i++)
	{
		const g2_sequence *got = &j->group->beams->ended[i];
		const naive_beam *want = &s.ended[i];

		assert_int_equal(got->finish, want->finish);
		assert_int_equal(got->ids.len, want->n - j->n_prompt);
		assert_memory_equal(got->ids.data, want->tokens + j->n_prompt,
							got->ids.len * sizeof *want->tokens);
		assert_int_equal(got->text.len, want->text.len);
		if (want->text.len > 0)
			assert_memory_equal(got->text.data, want->text.data, want->text.len);
		assert_true(fabs(got->score - want->score) <= 1e-12 * fabs(want->score));
		assert_true(got->logprob == want->logprob);
	}
}

/* ---- groups ---- */

static UNUSED void
group_done(g2_group *group, const g2_error *error)
{
	job		   *j = group->o.user;

	assert_ptr_equal(j->group, group);
	assert_false(j->ended);
	j->ended = true;
	j->code = error ? error->code : G2_OK;
	if (error)
		j->error = *error;
	j->cached = group->cached_tokens;
	j->preemptions = group->preemptions;
	j->order = n_ended + 1;
	if (!error && group->o.stream)
	{
		assert_int_equal(j->streamed, group->sequences[0].ids.len);
		assert_int_equal(j->stream_len, group->sequences[0].text.len);
		assert_memory_equal(j->stream, group->sequences[0].text.data, j->stream_len);
	}
	if (!error && group->beams)
		compare_beams(j);
	for (uint32_t i = 0; !error && !group->beams && i < group->o.n; i++)
		compare_sequence(j, i);
	g2_group_free(group);
	j->group = NULL;
	n_ended++;
}

/* What has been given away is never longer than what the text is known to be. */
static UNUSED void
job_stream(g2_group *group, const g2_stream *token)
{
	job		   *j = group->o.user;

	assert_int_equal(token->pos, j->streamed);
	assert_int_equal(token->token, group->sequences[0].ids.data[j->streamed]);
	j->streamed++;
	assert_true(j->stream_len + token->piece.len <= sizeof j->stream);
	if (token->piece.len > 0)
		memcpy(j->stream + j->stream_len, token->piece.data, token->piece.len);
	j->stream_len += token->piece.len;
}

static UNUSED job *
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

static UNUSED job *
random_job(void)
{
	static const double penalties[] = {1, 0, 0.7, 2, -1};
	static const char *const stops[] = {"\n", "tht", "aath", "hthe", "the\n", "ab", "zz"};
	uint32_t	n_prompt = 1 + fake_random(fake_random(10) ? 200 : 700);
	/* Not more than fits into the smallest cache. */
	job		   *j = new_job(fake_random(3), 1 + fake_random(fake_random(3) || n_prompt > 400 ? 2 : 8),
							n_prompt, 1 + fake_random(80));

	if (fake_random(2))
		j->options.end_token = end_token;
	if (j->options.n > 1 && j->options.n <= NAIVE_BEAMS && fake_random(2))
	{
		j->options.n_best = 1 + fake_random(j->options.n);
		j->options.length_penalty = penalties[fake_random(G2_LENGTH(penalties))];
	}
	else if (j->options.n == 1 && fake_random(3) == 0)
		j->options.stream = job_stream;
	j->options.session = sessions[fake_random(G2_LENGTH(sessions))];
	j->options.no_repeat_ngram = fake_random(4) ? 0 : 3;	/* the device does not care */
	j->options.logprobs = fake_random(2);
	for (uint32_t i = fake_random(4); i > 0; i--)
	{
		const char *stop = stops[fake_random(G2_LENGTH(stops))];

		j->options.stops[j->options.n_stops++] = (g2_bytes) {stop, strlen(stop)};
	}
	return j;
}

static UNUSED bool
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

static UNUSED void
add_ok(job *j)
{
	g2_error	err;

	if (!add(j, &err))
		fail_msg("%s", err.message);
}

/* ---- the machine around it ---- */

/* slab_bytes 0: blocks have memory of their own; else there are so many slabs. */
static UNUSED void
open_slabs(uint32_t n_blocks, uint64_t kv_budget, size_t slab_bytes, uint32_t slabs)
{
	g2_error	err;

	memset(&device, 0, sizeof device);
	fake = &device;
	device.event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	device.alphabet = letters;
	device.n_alphabet = n_letters;
	device.busy_us = 400;
	device.slab_bytes = slab_bytes;
	device.spare = slabs;
	memcpy(device.n_slots, slots_of_devices, sizeof slots_of_devices);
	pool = (g2_kv_pool) {.budget = kv_budget};
	other_pool = (g2_kv_pool) {.budget = kv_budget, .index = 1};
	for (uint32_t m = 0; m < 3; m++)
	{
		models[m] = (g2_backend_model) {.block_bytes = 1000 * (m + 1), .device = device_of[m]};
		works[m] = (g2_work) {0};
		assert_true(g2_kv_open(&kvs[m], device_of[m] ? &other_pool : &pool, &fake_api, &models[m],
							   n_blocks / (m + 1) + 15 * (m > 0), &err));
	}
	g2_people_init(&people);
	for (uint32_t i = 0; i < G2_LENGTH(sessions); i++)
		assert_true(g2_session_open(&people, i, 1, i < 2 ? 100 : i * 100, &sessions[i], &err));
	assert_true(g2_scheduler_open(&fake_api, &device, device.event_fd, &people, &scheduler,
								  &err));
	n_jobs = n_ended = 0;
}

static UNUSED void
open_all(uint32_t n_blocks, uint64_t kv_budget)
{
	open_slabs(n_blocks, kv_budget, 0, 0);
}

/* Nothing is left of the groups but prefixes. */
static UNUSED void
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
	assert_int_equal(pool.used, pool.vacant);
	for (uint32_t m = 0; m < 3; m++)
	{
		assert_int_equal(kvs[m].n_held, 0);
		for (uint32_t i = 0; i < kvs[m].n_blocks; i++)
			for (uint32_t p = 0; p < G2_BLOCK && !kvs[m].blocks[i].cached; p++)
			{
				uint32_t	v = models[m].cache[i * G2_BLOCK + p];

				assert_true(v == 0 || v == FAKE_NOWHERE);
			}
	}
}

static UNUSED void
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
	assert_int_equal(pool.used + other_pool.used, 0);
	assert_null(pool.oldest);
	close(device.event_fd);
}

static void
check_budget_of(const g2_kv_pool *of)
{
	uint64_t	used = 0,
				cached = 0;

	for (uint32_t m = 0; m < 3; m++)
	{
		uint32_t	held = 0;

		if (kvs[m].pool != of)
			continue;
		for (uint32_t b = 0; b < kvs[m].n_blocks; b++)
			held += kvs[m].blocks[b].references > 0;
		assert_int_equal(held, kvs[m].n_held);
		used += (uint64_t) (held + kvs[m].n_cached) * kvs[m].block_bytes;
		cached += (uint64_t) kvs[m].n_cached * kvs[m].block_bytes;
	}
	if (device.slab_bytes == 0)
	{
		assert_int_equal(used, of->used);
		assert_int_equal(cached, of->vacant);
	}
	assert_true(used <= of->used && of->used <= of->limit);
}

static UNUSED void
check_budget(void)
{
	check_budget_of(&pool);
	check_budget_of(&other_pool);
}

static UNUSED void
run_once(void)
{
	g2_scheduler_run(scheduler);
	check_budget();
	/* Nobody would ever wake it again. */
	if (!device.in_flight && n_ended < n_jobs && g2_scheduler_wake_at(scheduler) == INT64_MAX)
		fail_msg("%u groups wait and nothing is in flight", n_jobs - n_ended);
}

static UNUSED void
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

/* They come some at a time; all end with an answer. */
static UNUSED void
run_random_jobs(void)
{
	while (n_jobs < 150 || n_ended < n_jobs)
	{
		for (uint32_t k = n_jobs < 150 ? fake_random(4) : 0; k > 0; k--)
			add_ok(random_job());
		device.busy_us = fake_random(2000);
		run_once();
	}
	for (uint32_t i = 0; i < n_jobs; i++)
		assert_int_equal(jobs[i].code, G2_OK);
}

static UNUSED int
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

static UNUSED int
tear_down(void **state)
{
	(void) state;
	free_model(&vocabulary);
	return 0;
}

#endif							/* SCHEDULER_FIXTURE_H */
