/*
 * loss.c: the head and the cross-entropy.
 *
 * Logits are computed, turned into their gradient and used up tile by tile, so that what is in
 * memory is G2T_LOSS_ROWS of them, whatever the batch.  Rows without a target cost nothing: those
 * with one are brought together first.
 */
#include "operations.h"
#include "product.h"
#include "tokenizer.h"

typedef struct loss_work
{
	size_t		c;
	size_t		n_vocab;
	size_t		n;				/* rows of the tile */
	uint32_t	row[G2T_LOSS_ROWS];	/* of the batch */
	uint32_t	target[G2T_LOSS_ROWS];
	double		loss[G2T_LOSS_ROWS];
	float		gradient_scale;
	float	   *x;				/* [n][c]: the rows; then their gradient */
	float	   *logits;			/* [n][n_vocab] */
} loss_work;

size_t
g2t_loss_floats(size_t c, size_t n_vocab)
{
	return G2T_LOSS_ROWS * (2 * c + n_vocab);
}

static void
cross_entropy_row(const g2t_context *context, void *arg, size_t row, size_t n)
{
	loss_work  *w = arg;

	(void) n;
	w->loss[row] = context->kernels->cross_entropy(w->n_vocab, w->target[row], w->gradient_scale,
												   w->logits + row * w->n_vocab);
}

/* The next rows with a target, from row `at` on; returns where the tile after it starts. */
static uint32_t
take_rows(loss_work *w, const g2t_batch *batch, uint32_t at, const float *x)
{
	for (w->n = 0; at < batch->n && w->n < G2T_LOSS_ROWS; at++)
	{
		if (batch->targets[at] == G2_NO_TOKEN)
			continue;
		w->row[w->n] = at;
		w->target[w->n] = batch->targets[at];
		memcpy(w->x + w->n * w->c, x + at * w->c, w->c * sizeof(float));
		w->n++;
	}
	return at;
}

static void
tile_backward(const g2t_context *context, const loss_work *w, const float *head, float *dx,
			  float *dhead, bool add)
{
	const g2t_operand gradient = g2t_plain(w->logits, w->n_vocab),
				gradient_t = g2t_transposed(w->logits, w->n_vocab),
				x = g2t_plain(w->x, w->c),
				h = g2t_plain(head, w->c);
	float	   *dtile = w->x + G2T_LOSS_ROWS * w->c;

	if (dhead)
		g2t_multiply(context, w->n_vocab, w->c, w->n, gradient_t, x, NULL, add, dhead, w->c);
	g2t_multiply(context, w->n, w->c, w->n_vocab, gradient, h, NULL, false, dtile, w->c);
	for (size_t i = 0; i < w->n; i++)
		memcpy(dx + w->row[i] * w->c, dtile + i * w->c, w->c * sizeof(float));
}

double
g2t_loss(const g2t_context *context, const g2t_batch *batch, size_t c, size_t n_vocab,
		 const float *x, const float *head, float gradient_scale, float *dx, float *dhead,
		 bool add, float *work)
{
	loss_work	w = {.c = c, .n_vocab = n_vocab, .gradient_scale = gradient_scale, .x = work,
	.logits = work + 2 * G2T_LOSS_ROWS * c};
	const g2t_operand rows = g2t_plain(w.x, c),
				head_t = g2t_transposed(head, c);
	double		loss = 0.0;

	if (gradient_scale > 0.0f)
		memset(dx, 0, batch->n * c * sizeof(float));
	for (uint32_t at = 0; at < batch->n;)
	{
		at = take_rows(&w, batch, at, x);
		if (w.n == 0)
			break;
		g2t_multiply(context, w.n, n_vocab, c, rows, head_t, NULL, false, w.logits, n_vocab);
		g2t_for_ranges(context, w.n, 1, cross_entropy_row, &w);
		for (size_t i = 0; i < w.n; i++)
			loss += w.loss[i];
		if (gradient_scale > 0.0f)
			tile_backward(context, &w, head, dx, dhead, add);
		add = true;
	}
	if (gradient_scale > 0.0f && dhead && !add)	/* no row has a target */
		memset(dhead, 0, n_vocab * c * sizeof(float));
	return loss;
}
