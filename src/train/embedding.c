/*
 * embedding.c: tokens and positions to rows, and back.
 */
#include "operations.h"

typedef struct embedding
{
	const g2t_batch *batch;
	size_t		c;
	const float *wte;
	const float *wpe;
	float	   *x;
	const float *dx;
	float	   *dwte;
	float	   *dwpe;
} embedding;

/* A task is one sequence. */
static void
embed_sequence(const g2t_context *context, void *arg, size_t s, size_t n)
{
	const embedding *e = arg;
	const g2t_batch *b = e->batch;

	(void) n;
	for (uint32_t row = b->start[s]; row < b->start[s + 1]; row++)
	{
		float	   *x = e->x + row * e->c;

		memcpy(x, e->wte + b->tokens[row] * e->c, e->c * sizeof(float));
		context->kernels->add(e->c, e->wpe + (row - b->start[s]) * e->c, x);
	}
}

void
g2t_embed(const g2t_context *context, const g2t_batch *batch, size_t c, const float *wte,
		  const float *wpe, float *x)
{
	g2t_for_ranges(context, batch->n_sequences, 1, embed_sequence,
				   &(embedding) {.batch = batch, .c = c, .wte = wte, .wpe = wpe, .x = x});
}

/* A token may stand in any row, so a task has some columns of all rows, which come in order. */
static void
embed_columns_backward(const g2t_context *context, void *arg, size_t first, size_t n)
{
	const embedding *e = arg;
	const g2t_batch *b = e->batch;

	for (uint32_t s = 0; s < b->n_sequences; s++)
		for (uint32_t row = b->start[s]; row < b->start[s + 1]; row++)
		{
			const float *dx = e->dx + row * e->c + first;

			context->kernels->add(n, dx, e->dwte + b->tokens[row] * e->c + first);
			context->kernels->add(n, dx, e->dwpe + (row - b->start[s]) * e->c + first);
		}
}

void
g2t_embed_backward(const g2t_context *context, const g2t_batch *batch, size_t c, const float *dx,
				   float *dwte, float *dwpe)
{
	g2t_for_ranges(context, c, G2T_COLUMNS, embed_columns_backward,
				   &(embedding) {.batch = batch, .c = c, .dx = dx, .dwte = dwte, .dwpe = dwpe});
}
