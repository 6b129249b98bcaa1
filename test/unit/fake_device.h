/*
 * fake_device.h: a back end whose "token" is a hash of the slot's seed, the sequence's index, the
 * number of the token and every token of the sequence as it is read through the block table of a
 * fake cache.  A wrong block, a missing copy, a wrong position or order gives another token than a
 * simulation without blocks and batches does.
 *
 * A plan is run when its result is fetched, so that arrays which change in flight are noticed.
 * Its rules (backend.h) are asserted.  It uses none of the engine's memory.
 */
#ifndef FAKE_DEVICE_H
#define FAKE_DEVICE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend.h"

#define FAKE_SLOTS 1024			/* of a device at most */
#define FAKE_NOWHERE UINT32_MAX	/* the slab is not mapped */

struct g2_backend_model
{
	uint32_t	n_blocks;
	size_t		block_bytes;
	uint32_t   *cache;			/* [n_blocks][32] token + 1, 0 = never written, or FAKE_NOWHERE */
	uint32_t	in_use;			/* blocks that hold something */
	uint32_t	device;			/* that it is on */
};

typedef struct fake_slot
{
	bool		set;
	bool		ended;
	g2_sampling sampling;
	uint32_t	end_token;
	uint32_t	next_index;
	uint32_t	last_token;
	uint32_t	n_history;
	uint64_t	history;		/* hash of it */
} fake_slot;

struct g2_backend
{
	int			event_fd;
	uint32_t	n_slots[G2_MAX_DEVICES];
	fake_slot	slots[G2_MAX_DEVICES][FAKE_SLOTS];
	const uint32_t *alphabet;	/* tokens that come out */
	uint32_t	n_alphabet;
	bool		in_flight;
	g2_plan		plan;
	g2_result  *result;
	uint32_t	delay;			/* fetches until the result is there */
	/* what the test wants */
	uint32_t	max_delay;
	uint32_t	busy_us;
	size_t		slab_bytes;		/* 0: a block has memory of its own */
	uint32_t	spare;			/* slabs */
	long		fail_submit;	/* the n-th from now fails; 0 = none */
	const uint64_t *fail_once;	/* the first fails for which this is not 0; NULL = none */
	long		fail_result;
	long		fail_slot;
	/* what the test wants to know */
	uint64_t	plans;
	uint64_t	rows;
	uint64_t	steps;
	uint64_t	most_steps;
	uint32_t	most_rows[G2_MAX_DEVICES];	/* of a step */
	uint64_t	seeds[4096];	/* of slot_set, in order */
	uint32_t	n_seeds;
	g2_backend_model *visited[4096];
};

static uint64_t fake_random_state = 1;

static inline uint32_t
fake_random(uint32_t n)
{
	fake_random_state = fake_random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t) (fake_random_state >> 33) % n;
}

static inline uint64_t
fake_mix(uint64_t h, uint64_t v)
{
	h ^= v + 0x9E3779B97F4A7C15u + (h << 6) + (h >> 2);
	h *= 0xFF51AFD7ED558CCDu;
	return h ^ h >> 33;
}

#define FAKE_QUOTE 9			/* tokens after which a text repeats itself */

/* The end token comes for one in 100.  With an odd seed most tokens are those FAKE_QUOTE before
 * (back; G2_TOKEN_NONE: there is none), where they are of the alphabet. */
static inline uint32_t
fake_token(const uint32_t *alphabet, uint32_t n_alphabet, uint64_t h, uint32_t end_token,
		   uint64_t seed, uint32_t back)
{
	if (end_token != G2_TOKEN_NONE && (h >> 32) % 100 == 0)
		return end_token;
	for (uint32_t i = 0; seed % 2 == 1 && i < n_alphabet && (h >> 40) % 20 != 0; i++)
		if (alphabet[i] == back)
			return back;
	return alphabet[h % n_alphabet];
}

#define FAKE_TOP 16

/* A beam's best tokens: all there are, each with a score of its own. */
static inline void
fake_candidates(const uint32_t *alphabet, uint32_t n_alphabet, uint64_t h, uint32_t end_token,
				uint32_t n_top, uint32_t *token, double *score)
{
	uint32_t	all[FAKE_TOP],
				n = n_alphabet;

	assert_true(n < FAKE_TOP);
	memcpy(all, alphabet, n * sizeof *all);
	if (end_token != G2_TOKEN_NONE)
		all[n++] = end_token;
	assert_true(n_top <= n);
	for (uint32_t t = 0; t < n_top; t++)
	{
		uint32_t	best = 0;

		score[t] = -1e9;
		for (uint32_t i = 0; i < n; i++)
		{
			double		s = -(double) (fake_mix(h, all[i]) % 1000000) / 99991;

			if (s > score[t])
			{
				score[t] = s;
				best = i;
			}
		}
		token[t] = all[best];
		all[best] = all[--n];
	}
}

static inline double
fake_logprob(uint64_t h)
{
	return -(double) (h % 1000) / 7;
}

static inline bool
fake_due(long *counter)
{
	return *counter > 0 && --*counter == 0;
}

/* ---- the table's functions ---- */

static size_t
fake_block_bytes(const g2_backend_model *m)
{
	return m->block_bytes;
}

static g2_backend *fake;		/* kv functions get no back end */

static bool
fake_reserve(g2_backend_model *m, uint32_t n, g2_error *err)
{
	(void) err;
	m->n_blocks = n;
	m->cache = calloc((size_t) n * G2_BLOCK, sizeof *m->cache);
	assert_non_null(m->cache);
	for (uint32_t i = 0; fake->slab_bytes > 0 && i < n * G2_BLOCK; i++)
		m->cache[i] = FAKE_NOWHERE;
	return true;
}

static uint32_t
fake_slab(const g2_backend_model *m, size_t *bytes)
{
	*bytes = fake->slab_bytes > 0 ? fake->slab_bytes : m->block_bytes;
	return (uint32_t) (*bytes / m->block_bytes);
}

static uint32_t
fake_spare(const g2_backend_model *m)
{
	(void) m;
	return fake->slab_bytes > 0 ? fake->spare : UINT32_MAX;
}

static void
fake_fill_slab(g2_backend_model *m, uint32_t slab, uint32_t value)
{
	size_t		bytes;
	uint32_t	n = fake_slab(m, &bytes) * G2_BLOCK;

	assert_true((slab + 1) * n <= m->n_blocks * G2_BLOCK);
	for (uint32_t i = slab * n; i < (slab + 1) * n; i++)
	{
		assert_true((m->cache[i] == FAKE_NOWHERE) == (value != FAKE_NOWHERE));
		m->cache[i] = value;
	}
}

static bool
fake_map(g2_backend_model *m, uint32_t slab)
{
	if (fake->slab_bytes == 0)
		return true;
	if (fake->spare == 0)
		return false;
	fake->spare--;
	fake_fill_slab(m, slab, 0);
	return true;
}

static void
fake_unmap(g2_backend_model *m, uint32_t slab)
{
	if (fake->slab_bytes == 0)
		return;
	fake->spare++;
	fake_fill_slab(m, slab, FAKE_NOWHERE);
}

static uint32_t *
fake_block(g2_backend_model *m, uint32_t block)
{
	uint32_t   *at = m->cache + (size_t) block * G2_BLOCK;

	assert_true(block < m->n_blocks && at[0] != FAKE_NOWHERE);
	return at;
}

static bool
fake_copy(g2_backend_model *m, uint32_t to, uint32_t from, g2_error *err)
{
	(void) err;
	assert_false(fake->in_flight);
	assert_true(to != from);
	memcpy(fake_block(m, to), fake_block(m, from), G2_BLOCK * sizeof *m->cache);
	return true;
}

static bool
fake_zero(g2_backend_model *m, const uint32_t *blocks, uint32_t n, g2_error *err)
{
	(void) err;
	assert_false(fake->in_flight);
	for (uint32_t i = 0; i < n; i++)
		memset(fake_block(m, blocks[i]), 0, G2_BLOCK * sizeof *m->cache);
	return true;
}

static uint32_t
fake_slots(const g2_backend *b, uint32_t device)
{
	return b->n_slots[device];
}

static uint32_t
fake_number(const g2_backend_model *m)
{
	return m->device;
}

static fake_slot *
fake_slot_of(g2_backend *b, const g2_backend_model *m, uint32_t slot)
{
	assert_true(slot < b->n_slots[m->device]);
	return &b->slots[m->device][slot];
}

static bool
fake_slot_set(g2_backend *b, uint32_t slot, const g2_slot_state *state, g2_error *err)
{
	uint64_t	hash = 0;

	assert_true(state->next_index <= state->most_new && state->next_index < state->n_history);
	if (fake_due(&b->fail_slot))
		return g2_fail(err, G2_E_SYSTEM, "the slot is lost");
	for (uint32_t i = 0; i < state->n_history; i++)
		hash = fake_mix(hash, state->history[i]);
	*fake_slot_of(b, state->model, slot) = (fake_slot) {
		.set = true,
		.sampling = state->sampling,
		.end_token = state->end_token,
		.next_index = state->next_index,
		.last_token = state->history[state->n_history - 1],
		.n_history = state->n_history,
		.history = hash,
	};
	b->seeds[b->n_seeds++ % G2_LENGTH(b->seeds)] = state->sampling.seed;
	return true;
}

/* Output i is based on the draft that output i - 1 may refuse. */
static bool
fake_follows(const g2_plan *plan, uint32_t i)
{
	return i > 0 && plan->outputs[i].slot == plan->outputs[i - 1].slot &&
		plan->outputs[i].row == plan->outputs[i - 1].row + 1;
}

static void
fake_check(const g2_plan *plan)
{
	uint32_t	row = 0;
	bool		sampled[FAKE_SLOTS] = {false};

	assert_true(plan->n_rows > 0 && plan->n_steps >= 1 && plan->n_steps <= G2_MAX_STEPS);
	for (uint32_t i = 0; i < plan->n_sequences; i++)
	{
		const g2_plan_sequence *s = &plan->sequences[i];

		assert_int_equal(s->first_row, row);
		assert_true(s->n_rows > 0);
		for (uint32_t r = 0; r < s->n_rows; r++)
			assert_int_equal(plan->position[row + r], plan->position[row] + r);
		row += s->n_rows;
		if (plan->n_steps > 1)
		{
			assert_int_equal(s->n_rows, 1);
			assert_int_equal(plan->outputs[i].row, s->first_row);
			assert_int_equal(plan->outputs[i].slot, s->slot);
		}
	}
	assert_int_equal(row, plan->n_rows);
	assert_true(plan->n_steps == 1 || plan->n_outputs == plan->n_sequences);
	for (uint32_t i = 0; i < plan->n_outputs; i++)
	{
		const g2_output *o = &plan->outputs[i];

		assert_true(o->row < plan->n_rows);
		assert_true((o->want & G2_WANT_TOKEN) || o->want == G2_WANT_CANDIDATES);
		assert_true(plan->n_steps == 1 || ((o->want & G2_WANT_TOKEN) && o->n_banned == 0));
		assert_true(fake_slot_of(fake, plan->model, o->slot)->set);
		assert_true(!sampled[o->slot] || fake_follows(plan, i));
		sampled[o->slot] = true;
	}
}

static bool
fake_submit(g2_backend *b, const g2_plan *plan, g2_result *result, g2_error *err)
{
	assert_false(b->in_flight);
	fake_check(plan);
	if (fake_due(&b->fail_submit) || (b->fail_once && *b->fail_once > 0))
	{
		b->fail_once = NULL;
		return g2_fail(err, G2_E_SYSTEM, "the device is lost");
	}
	b->visited[b->plans++ % G2_LENGTH(b->visited)] = plan->model;
	b->rows += plan->n_rows;
	b->steps += plan->n_steps;
	b->most_steps = G2_MAX(b->most_steps, (uint64_t) plan->n_steps);
	b->most_rows[plan->model->device] = G2_MAX(b->most_rows[plan->model->device], plan->n_rows);
	b->in_flight = true;
	b->plan = *plan;
	b->result = result;
	b->delay = b->max_delay ? fake_random(b->max_delay) : 0;
	assert_int_equal(write(b->event_fd, &(uint64_t) {1}, 8), 8);
	return true;
}

static void
fake_write(const g2_plan_sequence *s, uint32_t position, uint32_t token)
{
	fake_block(fake->plan.model, s->blocks[position / G2_BLOCK])[position % G2_BLOCK] = token + 1;
}

/* The hash of all that the row at this position sees. */
static uint64_t
fake_read(const g2_plan_sequence *s, uint32_t position, const fake_slot *slot)
{
	g2_backend_model *m = fake->plan.model;
	uint64_t	h = fake_mix(fake_mix(slot->sampling.seed, slot->sampling.sequence),
							 slot->next_index);

	for (uint32_t p = 0; p <= position; p++)
	{
		uint32_t	v = fake_block(m, s->blocks[p / G2_BLOCK])[p % G2_BLOCK];

		if (v == 0)
			fail_msg("position %u was never written", p);
		h = fake_mix(h, v - 1);
	}
	return h;
}

static uint32_t
fake_back(const g2_plan_sequence *s, uint32_t position)
{
	uint32_t	p = position + 1 - FAKE_QUOTE;

	if (position + 1 < FAKE_QUOTE)
		return G2_TOKEN_NONE;
	return fake->plan.model->cache[s->blocks[p / G2_BLOCK] * G2_BLOCK + p % G2_BLOCK] - 1;
}

/* What a beam's slot was told is what the beam reads. */
static void
fake_check_history(const g2_plan_sequence *s, uint32_t position, const fake_slot *slot)
{
	const g2_backend_model *m = fake->plan.model;
	uint64_t	h = 0;

	for (uint32_t p = 0; p <= position; p++)
		h = fake_mix(h, m->cache[s->blocks[p / G2_BLOCK] * G2_BLOCK + p % G2_BLOCK] - 1);
	assert_int_equal(slot->n_history, position + 1);
	assert_true(slot->history == h);
}

static void
fake_step(g2_backend *b, uint32_t step)
{
	const g2_plan *plan = &b->plan;

	for (uint32_t i = 0; i < plan->n_sequences; i++)
	{
		const g2_plan_sequence *s = &plan->sequences[i];
		const fake_slot *slot = fake_slot_of(b, plan->model, s->slot);

		if (step > 0 && slot->ended)
			continue;
		for (uint32_t r = s->first_row; r < s->first_row + s->n_rows; r++)
			fake_write(s, plan->position[r] + step, step > 0 ? slot->last_token :
					   plan->token[r]);
	}
	for (uint32_t o = 0; o < plan->n_outputs; o++)
	{
		fake_slot  *slot = fake_slot_of(b, plan->model, plan->outputs[o].slot);
		size_t		at = (size_t) step * plan->n_outputs + o;
		uint32_t	row = plan->outputs[o].row,
					i = 0;
		uint64_t	h;

		b->result->token[at] = G2_TOKEN_NONE;
		if (plan->outputs[o].want == G2_WANT_CANDIDATES)
		{
			uint32_t   *top = b->result->top_token + o * plan->n_top;
			double	   *score = b->result->top_score + o * plan->n_top;

			while (row >= plan->sequences[i].first_row + plan->sequences[i].n_rows)
				i++;
			fake_check_history(&plan->sequences[i], plan->position[row], slot);
			h = fake_read(&plan->sequences[i], plan->position[row], slot);
			fake_candidates(b->alphabet, b->n_alphabet, h, slot->end_token, plan->n_top, top,
							score);
			for (uint32_t t = 0; t < plan->n_top; t++)
				b->result->top_logprob[o * plan->n_top + t] = score[t] / 2;
			continue;
		}
		if (slot->ended || (fake_follows(plan, o) && slot->last_token != plan->token[row]))
		{
			slot->last_token = G2_TOKEN_NONE;	/* the rest of a draft is refused too */
			continue;
		}
		while (row >= plan->sequences[i].first_row + plan->sequences[i].n_rows)
			i++;
		h = fake_read(&plan->sequences[i], plan->position[row] + step, slot);
		slot->last_token = fake_token(b->alphabet, b->n_alphabet, h, slot->end_token,
									  slot->sampling.seed,
									  fake_back(&plan->sequences[i], plan->position[row] + step));
		slot->ended = slot->last_token == slot->end_token;
		slot->next_index++;
		b->result->token[at] = slot->last_token;
		b->result->ended[at] = slot->ended;
		if (plan->outputs[o].want & G2_WANT_LOGPROB)
			b->result->logprob[at] = fake_logprob(h);
	}
}

static g2_result *
fake_result(g2_backend *b, bool *failed, g2_error *err)
{
	*failed = false;
	if (!b->in_flight)
		return NULL;
	if (b->delay > 0)
	{
		b->delay--;
		assert_int_equal(write(b->event_fd, &(uint64_t) {1}, 8), 8);
		return NULL;
	}
	b->in_flight = false;
	b->result->busy_us = b->busy_us;
	if (fake_due(&b->fail_result))
	{
		g2_fail(err, G2_E_SYSTEM, "the device is lost");
		*failed = true;
	}
	for (uint32_t step = 0; step < b->plan.n_steps && !*failed; step++)
		fake_step(b, step);
	return b->result;
}

static const g2_backend_api fake_api = {
	.version = G2_BACKEND_VERSION,
	.name = "fake",
	.slots = fake_slots,
	.kv_block_bytes = fake_block_bytes,
	.kv_reserve = fake_reserve,
	.kv_slab = fake_slab,
	.kv_spare = fake_spare,
	.kv_map = fake_map,
	.kv_unmap = fake_unmap,
	.kv_copy = fake_copy,
	.kv_zero = fake_zero,
	.slot_set = fake_slot_set,
	.step_submit = fake_submit,
	.step_result = fake_result,
	.device_number = fake_number,
};

#endif							/* FAKE_DEVICE_H */
