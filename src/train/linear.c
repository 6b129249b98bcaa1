/*
 * linear.c: y = x w + b.
 *
 * The adapter's product x a1 is computed again on the way back: it is small, and what is kept is
 * memory.
 */
#include "operations.h"
#include "product.h"

static void
scale_range(const g2t_context *context, void *arg, size_t first, size_t n)
{
	const struct
	{
		float	   *x;
		float		scale;
	}		   *s = arg;

	(void) context;
	for (size_t i = first; i < first + n; i++)
		s->x[i] *= s->scale;
}

static void
scale(const g2t_context *context, size_t n, float factor, float *x)
{
	struct
	{
		float	   *x;
		float		scale;
	}			s = {x, factor};

	g2t_for_ranges(context, n, 4096, scale_range, &s);
}

/* low = scale (x a1) */
static void
adapter_low(const g2t_context *context, const g2t_linear *l, size_t n, const float *x, float *low)
{
	g2t_multiply(context, n, l->rank, l->in, g2t_plain(x, l->in), g2t_plain(l->a1, l->rank), NULL,
				 false, low, l->rank);
	scale(context, n * l->rank, l->scale, low);
}

void
g2t_linear_forward(const g2t_context *context, const g2t_linear *l, size_t n, const float *x,
				   float *y, float *low)
{
	g2t_multiply(context, n, l->out, l->in, g2t_plain(x, l->in), g2t_plain(l->w, l->out), l->b,
				 false, y, l->out);
	if (l->rank == 0)
		return;
	adapter_low(context, l, n, x, low);
	g2t_multiply(context, n, l->out, l->rank, g2t_plain(low, l->rank), g2t_plain(l->a2, l->out),
				 NULL, true, y, l->out);
}

typedef struct sums
{
	size_t		n;
	size_t		ld;
	const float *x;
	float	   *out;
	bool		add;
} sums;

static void
sum_columns(const g2t_context *context, void *arg, size_t first, size_t n)
{
	const sums *s = arg;

	if (!s->add)
		memset(s->out + first, 0, n * sizeof(float));
	context->kernels->column_sums(s->n, s->ld, first, first + n, s->x, s->out);
}

static void
adapter_backward(const g2t_context *context, const g2t_linear *l, size_t n, const float *x,
				 const float *dy, float *dx, bool add, float *low, float *low2)
{
	adapter_low(context, l, n, x, low);
	g2t_multiply(context, l->rank, l->out, n, g2t_transposed(low, l->rank), g2t_plain(dy, l->out),
				 NULL, add, l->da2, l->out);
	g2t_multiply(context, n, l->rank, l->out, g2t_plain(dy, l->out), g2t_transposed(l->a2, l->out),
				 NULL, false, low2, l->rank);
	scale(context, n * l->rank, l->scale, low2);
	g2t_multiply(context, l->in, l->rank, n, g2t_transposed(x, l->in), g2t_plain(low2, l->rank),
				 NULL, add, l->da1, l->rank);
	g2t_multiply(context, n, l->in, l->rank, g2t_plain(low2, l->rank),
				 g2t_transposed(l->a1, l->rank), NULL, true, dx, l->in);
}

void
g2t_linear_backward(const g2t_context *context, const g2t_linear *l, size_t n, const float *x,
					const float *dy, float *dx, bool add, float *low, float *low2)
{
	if (l->dw)
		g2t_multiply(context, l->in, l->out, n, g2t_transposed(x, l->in), g2t_plain(dy, l->out),
					 NULL, add, l->dw, l->out);
	if (l->db)
		g2t_for_ranges(context, l->out, G2T_COLUMNS, sum_columns,
					   &(sums) {.n = n, .ld = l->out, .x = dy, .out = l->db, .add = add});
	g2t_multiply(context, n, l->in, l->out, g2t_plain(dy, l->out), g2t_transposed(l->w, l->out),
				 NULL, false, dx, l->in);
	if (l->rank > 0)
		adapter_backward(context, l, n, x, dy, dx, add, low, low2);
}
