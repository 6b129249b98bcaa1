/*
 * context.c: threads and their memory.
 */
#include "context.h"

#include "../engine/kernels.h"
#include "memory.h"
#include "product.h"

static bool
open_memory(g2t_context *context, uint32_t threads, g2_error *err)
{
	context->scratch = g2_alloc_array(threads, sizeof *context->scratch);
	context->packed = g2_alloc_array(threads, sizeof *context->packed);
	if (!context->scratch || !context->packed)
		return g2_fail_memory(err, threads * sizeof *context->scratch);
	context->shared = g2t_floats(g2t_product_shared());
	if (!context->shared)
		return g2_fail_memory(err, g2t_product_shared() * sizeof(float));
	for (uint32_t t = 0; t < threads; t++)
	{
		context->scratch[t] = g2t_floats(context->scratch_floats);
		context->packed[t] = g2t_floats(g2t_product_scratch());
		if (!context->scratch[t] || !context->packed[t])
			return g2_fail_memory(err, (context->scratch_floats + g2t_product_scratch()) *
								  sizeof(float));
	}
	return true;
}

bool
g2t_context_open(uint32_t threads, uint32_t nice, size_t scratch_floats, g2t_context *context,
				 g2_error *err)
{
	*context = (g2t_context) {
		.kernels = g2t_kernels_best(), .products = g2_kernels_best(),
		.scratch_floats = scratch_floats,
	};
	if (g2_pool_open(threads, nice, &context->pool, err) && open_memory(context, threads, err))
		return true;
	g2t_context_close(context);
	return false;
}

static void
close_memory(float **memory, uint32_t threads)
{
	for (uint32_t t = 0; memory && t < threads; t++)
		g2t_floats_free(memory[t]);
	g2_free(memory);
}

void
g2t_context_close(g2t_context *context)
{
	uint32_t	threads = context->pool ? g2_pool_threads(context->pool) : 0;

	close_memory(context->scratch, threads);
	close_memory(context->packed, threads);
	g2t_floats_free(context->shared);
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
