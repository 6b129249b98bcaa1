/*
 * cuda_operations.cpp: what the scheduler wants done to sampler slots between two plans.  Listed as
 * records in one buffer, which is copied to the next plan's pinned memory and launched before it.
 */
#include "cuda_state.h"
#include "sampler_math.h"

typedef struct operation
{
	uint64_t	bytes;			/* of the record with what follows it, a multiple of 8 */
	uint64_t	slot;
} operation;

/* Where what stands behind a new record goes: a g2d_slot, then bits of seen and banned, if it has them,
 * then its biases, then its counts.  NULL: no memory. */
static char *
append(g2_backend *b, uint32_t slot, size_t behind, g2_error *err)
{
	const operation op = {G2_ROUND_UP(sizeof op + behind, (size_t) 8), slot};
	char	   *at;

	b->pending.failed = false;
	if (!g2_buf_reserve(&b->pending, op.bytes))
	{
		b->pending.failed = false;
		g2_fail_memory(err, b->pending.len + op.bytes);
		return NULL;
	}
	at = b->pending.data + b->pending.len;
	memcpy(at, &op, sizeof op);
	b->pending.len += op.bytes;
	return at + sizeof op;
}

static void
set_bit(char *bits, uint32_t i)
{
	uint64_t	word;

	memcpy(&word, bits + i / 64 * 8, sizeof word);
	word |= (uint64_t) 1 << i % 64;
	memcpy(bits + i / 64 * 8, &word, sizeof word);
}

/* Distinct tokens that the answer so far may have. */
static uint32_t
most_counted(const g2d_slot *v)
{
	return G2_MIN(v->next_index, v->most_counts);
}

static void
count_answer(g2d_slot *v, const g2_slot_state *state, g2_count *counts)
{
	const uint32_t *answer = state->history + (state->n_history - state->next_index);

	for (uint32_t i = 0; v->most_counts > 0 && i < state->next_index; i++)
		g2_count_token(counts, &v->n_counts, v->most_counts, answer[i]);
}

bool
g2d_pend_slot(g2_backend *b, uint32_t slot, const g2_slot_state *state, g2_error *err)
{
	const g2_sampling *s = &state->sampling;
	const size_t bits = G2D_SEEN_WORDS * sizeof(uint64_t),
				biases = s->n_biases * sizeof(g2_bias);
	g2d_slot	v = {};
	char	   *at,
			   *slot_at;

	v.sampling = *s;
	v.sampling.banned = NULL;
	v.sampling.biases = NULL;
	v.next_index = state->next_index;
	v.end_token = state->end_token;
	v.last_token = state->n_history > 0 ? state->history[state->n_history - 1] : G2_TOKEN_NONE;
	v.has_seen = s->repetition_penalty != 1.0f;
	v.has_banned = s->n_banned > 0;
	v.most_counts = G2_MIN(g2_counts_of(state), G2D_MOST_CTX);
	/* There are no more distinct tokens than tokens. */
	slot_at = append(b, slot, sizeof v + (v.has_seen + v.has_banned) * bits + biases +
					 most_counted(&v) * sizeof(g2_count), err);
	if (!slot_at)
		return false;
	at = slot_at + sizeof v;
	memset(at, 0, (v.has_seen + v.has_banned) * bits);
	if (v.has_seen)
	{
		for (uint32_t i = 0; i < state->n_history; i++)
			set_bit(at, state->history[i]);
		at += bits;
	}
	for (uint32_t i = 0; i < s->n_banned; i++)
		if (s->banned[i] != s->spared && s->banned[i] < G2_MAX_VOCAB &&
			g2_bias_find(s->biases, s->n_biases, s->banned[i]) == s->n_biases)
			set_bit(at, s->banned[i]);
	at += v.has_banned * bits;
	if (biases > 0)
		memcpy(at, s->biases, biases);
	count_answer(&v, state, reinterpret_cast<g2_count *>(at + biases));
	memcpy(slot_at, &v, sizeof v);
	return true;
}

size_t
g2d_pending_bytes(const g2_backend *b)
{
	return b->pending.len;
}

static bool
launch_slot(g2_backend *b, size_t slot, const char *in, g2_error *err)
{
	const size_t bits = G2D_SEEN_WORDS * sizeof(uint64_t);
	size_t		biases,
				counts;
	g2d_slot	v;

	memcpy(&v, in, sizeof v);
	if (!rt_copy_in(b->stream, &b->slots.slots[slot], in, sizeof v, err))
		return false;
	in += sizeof v;
	if (v.has_seen)
	{
		if (!rt_copy_in(b->stream, b->slots.seen + slot * G2D_SEEN_WORDS, in, bits, err))
			return false;
		in += bits;
	}
	if (v.has_banned)
	{
		if (!rt_copy_in(b->stream, b->slots.banned + slot * G2D_SEEN_WORDS, in, bits, err))
			return false;
		in += bits;
	}
	biases = v.sampling.n_biases * sizeof(g2_bias);
	counts = v.n_counts * sizeof(g2_count);
	return (biases == 0 ||
			rt_copy_in(b->stream, b->slots.biases + slot * G2_MOST_BIASES, in, biases, err)) &&
		(counts == 0 ||
		 rt_copy_in(b->stream, b->slots.counts + slot * G2D_MOST_CTX, in + biases, counts,
					err));
}

bool
g2d_pending_launch(g2_backend *b, char *in, g2_error *err)
{
	const size_t len = b->pending.len;
	operation	op;

	if (len > 0)
		memcpy(in, b->pending.data, len);
	b->pending.len = 0;
	for (size_t at = 0; at < len; at += op.bytes)
	{
		memcpy(&op, in + at, sizeof op);
		if (!launch_slot(b, (size_t) op.slot, in + at + sizeof op, err))
			return false;
	}
	return true;
}
