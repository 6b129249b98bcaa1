/*
 * cuda_operations.cpp: what the scheduler wants done between two plans: to blocks of a cache, to a
 * sampler slot.  Listed as records in one buffer, which is copied to the next plan's pinned memory
 * and launched before it.
 */
#include "cuda_state.h"
#include "sampler_math.h"

typedef enum operation_kind
{
	OP_COPY,
	OP_ZERO,
	OP_SLOT
} operation_kind;

typedef struct operation
{
	uint64_t	bytes;			/* of the record with what follows it, a multiple of 8 */
	operation_kind kind;
	uint32_t	to;				/* COPY: block; SLOT: slot */
	uint32_t	from;			/* COPY */
	uint32_t	n;				/* ZERO: blocks */
	g2_backend_model *model;	/* COPY, ZERO */
} operation;

/* Behind the record: ZERO uint32_t [n]; SLOT a g2d_slot, then bits of seen and banned, if it has
 * them, then its biases, then its counts. */
static bool
append(g2_backend *b, operation *op, size_t behind, char **at, g2_error *err)
{
	op->bytes = G2_ROUND_UP(sizeof *op + behind, (size_t) 8);
	b->pending.failed = false;
	if (!g2_buf_reserve(&b->pending, op->bytes))
	{
		b->pending.failed = false;
		return g2_fail_memory(err, b->pending.len + op->bytes);
	}
	memcpy(b->pending.data + b->pending.len, op, sizeof *op);
	*at = b->pending.data + b->pending.len + sizeof *op;
	b->pending.len += op->bytes;
	return true;
}

bool
g2d_pend_copy(g2_backend *b, g2_backend_model *m, uint32_t to, uint32_t from, g2_error *err)
{
	operation	op = {0, OP_COPY, to, from, 0, m};
	char	   *at;

	return append(b, &op, 0, &at, err);
}

bool
g2d_pend_zero(g2_backend *b, g2_backend_model *m, const uint32_t *blocks, uint32_t n, g2_error *err)
{
	operation	op = {0, OP_ZERO, 0, 0, n, m};
	char	   *at;

	if (!append(b, &op, (size_t) n * sizeof *blocks, &at, err))
		return false;
	memcpy(at, blocks, (size_t) n * sizeof *blocks);
	return true;
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
	operation	op = {0, OP_SLOT, slot, 0, 0, NULL};
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
	if (!append(b, &op, sizeof v + (v.has_seen + v.has_banned) * bits + biases +
				most_counted(&v) * sizeof(g2_count), &at, err))
		return false;
	slot_at = at;
	at += sizeof v;
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

void
g2d_pend_drop(g2_backend *b, const g2_backend_model *m)
{
	size_t		kept = 0;
	operation	op;

	for (size_t at = 0; at < b->pending.len; at += op.bytes)
	{
		memcpy(&op, b->pending.data + at, sizeof op);
		if (op.model == m)
			continue;
		memmove(b->pending.data + kept, b->pending.data + at, op.bytes);
		kept += op.bytes;
	}
	b->pending.len = kept;
}

size_t
g2d_pending_bytes(const g2_backend *b)
{
	return b->pending.len;
}

static bool
launch_slot(g2_backend *b, const operation *op, const char *in, g2_error *err)
{
	const size_t bits = G2D_SEEN_WORDS * sizeof(uint64_t);
	size_t		biases,
				counts;
	g2d_slot	v;

	memcpy(&v, in, sizeof v);
	if (!rt_copy_in(b->stream, &b->slots.slots[op->to], in, sizeof v, err))
		return false;
	in += sizeof v;
	if (v.has_seen)
	{
		if (!rt_copy_in(b->stream, b->slots.seen + (size_t) op->to * G2D_SEEN_WORDS, in, bits, err))
			return false;
		in += bits;
	}
	if (v.has_banned)
	{
		if (!rt_copy_in(b->stream, b->slots.banned + (size_t) op->to * G2D_SEEN_WORDS, in, bits, err))
			return false;
		in += bits;
	}
	biases = v.sampling.n_biases * sizeof(g2_bias);
	counts = v.n_counts * sizeof(g2_count);
	return (biases == 0 ||
			rt_copy_in(b->stream, b->slots.biases + (size_t) op->to * G2_MOST_BIASES, in, biases, err)) &&
		(counts == 0 ||
		 rt_copy_in(b->stream, b->slots.counts + (size_t) op->to * G2D_MOST_CTX, in + biases, counts,
					err));
}

static bool
launch(g2_backend *b, const operation *op, const char *in, g2_error *err)
{
	switch (op->kind)
	{
		case OP_COPY:
			if (op->to != op->from)
				g2d_launch_block_copy(b->stream, &op->model->cache, op->to, op->from);
			return true;
		case OP_ZERO:
			/* Pinned memory can be read from the device where it is. */
			g2d_launch_block_zero(b->stream, &op->model->cache,
								  reinterpret_cast<const uint32_t *>(in), op->n);
			return true;
		default:
			return launch_slot(b, op, in, err);
	}
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
		if (!launch(b, &op, in + at + sizeof op, err))
			return false;
	}
	return true;
}
