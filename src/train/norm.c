/*
 * norm.c: layer norm.
 */
#include "operations.h"

typedef struct norm_work
{
	const g2t_norm *norm;
	size_t		n;
	size_t		c;
	const float *x;
	float	   *y;
	float	   *mean;
	float	   *rstd;
	const float *kept_mean;
	const float *kept_rstd;
	const float *dy;
	float	   *dx;
	bool		add;
} norm_work;

static void
forward_rows(const g2t_context *context, void *arg, size_t first, size_t n)
{
	const norm_work *w = arg;
	size_t		at = first * w->c;

	context->kernels->norm(n, w->c, w->x + at, w->norm->gain, w->norm->bias, w->norm->epsilon,
						   w->y + at, w->mean + first, w->rstd + first);
}

void
g2t_norm_forward(const g2t_context *context, const g2t_norm *norm, size_t n, size_t c,
				 const float *x, float *y, float *mean, float *rstd)
{
	g2t_for_ranges(context, n, G2T_ROWS, forward_rows,
				   &(norm_work) {.norm = norm, .n = n, .c = c, .x = x, .y = y, .mean = mean,
				   .rstd = rstd});
}

static void
backward_rows(const g2t_context *context, void *arg, size_t first, size_t n)
{
	const norm_work *w = arg;
	size_t		at = first * w->c;

	context->kernels->norm_backward(n, w->c, w->x + at, w->norm->gain, w->kept_mean + first,
									w->kept_rstd + first, w->dy + at, w->dx + at);
}

static void
backward_columns(const g2t_context *context, void *arg, size_t first, size_t n)
{
	const norm_work *w = arg;

	if (!w->add)
	{
		memset(w->norm->dgain + first, 0, n * sizeof(float));
		memset(w->norm->dbias + first, 0, n * sizeof(float));
	}
	context->kernels->norm_backward_gain(w->n, w->c, first, first + n, w->x, w->kept_mean,
										 w->kept_rstd, w->dy, w->norm->dgain, w->norm->dbias);
}

void
g2t_norm_backward(const g2t_context *context, const g2t_norm *norm, size_t n, size_t c,
				  const float *x, const float *mean, const float *rstd, const float *dy, float *dx,
				  bool add)
{
	norm_work	w = {.norm = norm, .n = n, .c = c, .x = x, .kept_mean = mean, .kept_rstd = rstd,
	.dy = dy, .dx = dx, .add = add};

	if (norm->dgain)
		g2t_for_ranges(context, c, G2T_COLUMNS, backward_columns, &w);
	g2t_for_ranges(context, n, G2T_ROWS, backward_rows, &w);
}
