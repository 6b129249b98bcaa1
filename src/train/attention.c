/*
 * attention.c: causal self-attention.
 *
 * A task is one head of one sequence: its queries in tiles of TILE, each against the keys up to the
 * tile's end.  Probabilities of a tile are all that is ever in memory; the way back computes them
 * again (Dao et al. 2022).
 */
#include "operations.h"
#include "product.h"

#define TILE 64					/* queries */

typedef struct attention_work
{
	const g2t_context *context;
	const g2t_attention *a;
	const g2t_batch *batch;
	const float *qkv;
	float	   *out;
	const float *dout;
	float	   *dqkv;
} attention_work;

/* One head of one sequence. */
typedef struct head
{
	uint32_t	thread;			/* that works on it */
	size_t		index;			/* of the head */
	size_t		row;			/* the sequence's first */
	size_t		n;				/* tokens */
	size_t		c;				/* n_head head_dim */
	const float *q,
			   *k,
			   *v;				/* [n], rows 3 c apart */
} head;

size_t
g2t_attention_scratch(size_t positions)
{
	return 2 * TILE * positions;
}

static head
head_of(const attention_work *w, uint32_t task, uint32_t thread)
{
	const g2t_attention *a = w->a;
	size_t		s = task / a->n_head;
	head		h = {.thread = thread, .index = task % a->n_head, .c = a->n_head * a->head_dim};

	h.row = w->batch->start[s];
	h.n = w->batch->start[s + 1] - h.row;
	h.q = w->qkv + h.row * 3 * h.c + h.index * a->head_dim;
	h.k = h.q + h.c;
	h.v = h.k + h.c;
	return h;
}

static void
multiply(const attention_work *w, const head *h, size_t m, size_t n, size_t k, g2t_operand a,
		 g2t_operand b, bool add, float *c, size_t ldc)
{
	g2t_multiply_here(w->context, h->thread, m, n, k, a, b, add, c, ldc);
}

/* p[rows][keys] = the probabilities of queries t .. t + rows, before dropout. */
static void
probabilities(const attention_work *w, const head *h, size_t t, size_t rows, size_t keys, float *p)
{
	size_t		ld = 3 * h->c;

	multiply(w, h, rows, keys, w->a->head_dim, g2t_plain(h->q + t * ld, ld),
			 g2t_transposed(h->k, ld), false, p, keys);
	for (size_t r = 0; r < rows; r++)
		w->context->kernels->softmax(keys, t + r + 1, w->a->scale, p + r * keys);
}

/* The element's number does not depend on how the batch was cut. */
static void
drop(const attention_work *w, const head *h, size_t t, size_t rows, size_t keys, float *p)
{
	const g2t_attention *a = w->a;

	if (a->dropout.rate <= 0.0f)
		return;
	for (size_t r = 0; r < rows; r++)
		w->context->kernels->dropout(keys, ((w->batch->first + h->row + t + r) * a->n_head +
											h->index) * G2_ROUND_UP(a->positions, 4),
									 &a->dropout, p + r * keys);
}

static void
forward_head(void *arg, uint32_t task, uint32_t thread)
{
	const attention_work *w = arg;
	head		h = head_of(w, task, thread);
	float	   *p = w->context->scratch[thread];

	for (size_t t = 0; t < h.n; t += TILE)
	{
		size_t		rows = G2_MIN(h.n - t, (size_t) TILE),
					keys = t + rows;

		probabilities(w, &h, t, rows, keys, p);
		drop(w, &h, t, rows, keys, p);
		multiply(w, &h, rows, w->a->head_dim, keys, g2t_plain(p, keys), g2t_plain(h.v, 3 * h.c),
				 false, w->out + (h.row + t) * h.c + h.index * w->a->head_dim, h.c);
	}
}

void
g2t_attention_forward(const g2t_context *context, const g2t_attention *a, const g2t_batch *batch,
					  const float *qkv, float *out)
{
	attention_work w = {.context = context, .a = a, .batch = batch, .qkv = qkv, .out = out};

	g2_pool_run(context->pool, (uint32_t) (batch->n_sequences * a->n_head), forward_head, &w);
}

/*
 * With P the probabilities, D the dropout's mask, O = (P D) V:
 *     dV += (P D)^T dO,  dP = (dO V^T) D,  dS = scale P (dP - sum dP P),  dQ = dS K,  dK += dS^T Q
 */
static void
backward_tile(const attention_work *w, const head *h, size_t t, float *p, float *dp)
{
	const size_t d = w->a->head_dim,
				ld = 3 * h->c,
				rows = G2_MIN(h->n - t, (size_t) TILE),
				keys = t + rows;
	const float *dout = w->dout + (h->row + t) * h->c + h->index * d;
	float	   *dq = w->dqkv + h->row * ld + h->index * d,
			   *dk = dq + h->c,
			   *dv = dk + h->c;

	probabilities(w, h, t, rows, keys, p);
	drop(w, h, t, rows, keys, p);
	multiply(w, h, keys, d, rows, g2t_transposed(p, keys), g2t_plain(dout, h->c), true, dv, ld);
	if (w->a->dropout.rate > 0.0f)
		probabilities(w, h, t, rows, keys, p);
	multiply(w, h, rows, keys, d, g2t_plain(dout, h->c), g2t_transposed(h->v, ld), false, dp, keys);
	drop(w, h, t, rows, keys, dp);
	for (size_t r = 0; r < rows; r++)
		w->context->kernels->softmax_backward(keys, w->a->scale, p + r * keys, dp + r * keys);
	multiply(w, h, rows, d, keys, g2t_plain(dp, keys), g2t_plain(h->k, ld), false, dq + t * ld, ld);
	multiply(w, h, keys, d, rows, g2t_transposed(dp, keys), g2t_plain(h->q + t * ld, ld), true, dk,
			 ld);
}

static void
backward_head(void *arg, uint32_t task, uint32_t thread)
{
	const attention_work *w = arg;
	head		h = head_of(w, task, thread);
	float	   *p = w->context->scratch[thread],
			   *dp = p + w->context->scratch_floats / 2;

	for (size_t r = 0; r < h.n; r++)
	{
		float	   *dqkv = w->dqkv + (h.row + r) * 3 * h.c + h.index * w->a->head_dim;

		memset(dqkv + h.c, 0, w->a->head_dim * sizeof(float));
		memset(dqkv + 2 * h.c, 0, w->a->head_dim * sizeof(float));
	}
	for (size_t t = 0; t < h.n; t += TILE)
		backward_tile(w, &h, t, p, dp);
}

void
g2t_attention_backward(const g2t_context *context, const g2t_attention *a, const g2t_batch *batch,
					   const float *qkv, const float *dout, float *dqkv)
{
	attention_work w = {.context = context, .a = a, .batch = batch, .qkv = qkv, .dout = dout,
	.dqkv = dqkv};

	g2_pool_run(context->pool, (uint32_t) (batch->n_sequences * a->n_head), backward_head, &w);
}
