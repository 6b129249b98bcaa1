/*
 * context.c: threads and their memory.
 */
#include "context.h"

bool
g2t_context_open(uint32_t threads, uint32_t nice, size_t scratch_floats, g2t_context *context,
				 g2_error *err)
{
	memset(context, 0, sizeof *context);
	context->kernels = g2t_kernels_best();
	context->scratch_floats = scratch_floats;
	context->scratch = g2_alloc_array(threads, sizeof *context->scratch);
	if (!context->scratch)
		return g2_fail_memory(err, threads * sizeof *context->scratch);
	if (!g2_pool_open(threads, nice, &context->pool, err))
	{
		g2t_context_close(context);
		return false;
	}
	for (uint32_t t = 0; t < threads; t++)
	{
		context->scratch[t] = g2_alloc_array(scratch_floats, sizeof(float));
		if (!context->scratch[t])
		{
			g2t_context_close(context);
			return g2_fail_memory(err, scratch_floats * sizeof(float));
		}
	}
	return true;
}

void
g2t_context_close(g2t_context *context)
{
	uint32_t	threads = context->pool ? g2_pool_threads(context->pool) : 0;

	for (uint32_t t = 0; t < threads; t++)
		g2_free(context->scratch[t]);
	g2_free(context->scratch);
	g2_pool_close(context->pool);
	memset(context, 0, sizeof *context);
}

typedef struct ranges
{
	const g2t_context *context;
	size_t		total;
	size_t		step;
	g2t_range_fn fn;
	void	   *arg;
} ranges;

static void
run_range(void *arg, uint32_t task, uint32_t thread)
{
	const ranges *r = arg;
	size_t		first = task * r->step;

	(void) thread;
	r->fn(r->context, r->arg, first, G2_MIN(r->step, r->total - first));
}

void
g2t_for_ranges(const g2t_context *context, size_t total, size_t step, g2t_range_fn fn, void *arg)
{
	ranges		r = {context, total, step, fn, arg};

	g2_pool_run(context->pool, (uint32_t) ((total + step - 1) / step), run_range, &r);
}
