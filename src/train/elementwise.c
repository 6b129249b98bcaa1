/*
 * elementwise.c: operations on each element for itself.
 */
#include "operations.h"

#define STEP 16384				/* elements of a task */

typedef struct elements
{
	const float *x;
	const float *dy;
	float	   *y;
	const g2t_dropout *dropout;
	uint64_t	first;
} elements;

static void
gelu_range(const g2t_context *context, void *arg, size_t first, size_t n)
{
	const elements *e = arg;

	context->kernels->gelu(n, e->x + first, e->y + first);
}

void
g2t_gelu(const g2t_context *context, size_t n, const float *x, float *y)
{
	g2t_for_ranges(context, n, STEP, gelu_range, &(elements) {.x = x, .y = y});
}

static void
gelu_backward_range(const g2t_context *context, void *arg, size_t first, size_t n)
{
	const elements *e = arg;

	context->kernels->gelu_backward(n, e->x + first, e->dy + first, e->y + first);
}

void
g2t_gelu_backward(const g2t_context *context, size_t n, const float *x, const float *dy, float *dx)
{
	g2t_for_ranges(context, n, STEP, gelu_backward_range,
				   &(elements) {.x = x, .dy = dy, .y = dx});
}

static void
drop_range(const g2t_context *context, void *arg, size_t first, size_t n)
{
	const elements *e = arg;

	context->kernels->dropout(n, e->first + first, e->dropout, e->y + first);
}

void
g2t_drop(const g2t_context *context, const g2t_dropout *d, uint64_t first, size_t n, float *x)
{
	if (d->rate > 0.0f)
		g2t_for_ranges(context, n, STEP, drop_range,
					   &(elements) {.y = x, .dropout = d, .first = first});
}

static void
add_range(const g2t_context *context, void *arg, size_t first, size_t n)
{
	const elements *e = arg;

	context->kernels->add(n, e->x + first, e->y + first);
}

void
g2t_add(const g2t_context *context, size_t n, const float *x, float *y)
{
	g2t_for_ranges(context, n, STEP, add_range, &(elements) {.x = x, .y = y});
}
