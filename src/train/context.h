/*
 * context.h: what every operation of a training works with: the threads, the kernels, and memory
 * for each thread.
 *
 * An operation cuts its work into tasks whose number and shape depend on its arguments alone, so
 * that any number of threads gives the same bits.
 */
#ifndef G2T_CONTEXT_H
#define G2T_CONTEXT_H

#include "kernels.h"
#include "pool.h"

typedef struct g2t_context
{
	g2_pool    *pool;
	const g2t_kernels *kernels;
	const struct g2_kernels *products;	/* the engine's: product.c */
	float	  **packed;			/* [threads][g2t_product_scratch()]: product.c's */
	float	   *shared;			/* [g2t_product_shared()]: the same */
	float	  **scratch;		/* [threads][scratch_floats], for what a task needs in between */
	size_t		scratch_floats;
} g2t_context;

/* scratch_floats for each thread. */
extern bool g2t_context_open(uint32_t threads, uint32_t nice, size_t scratch_floats,
							 g2t_context *context, g2_error *err);
extern void g2t_context_close(g2t_context *context);

/* Calls fn(arg, first, n) for consecutive ranges that cover 0 .. total, each of `step` but the
 * last. */
typedef void (*g2t_range_fn) (const g2t_context *context, void *arg, size_t first, size_t n);
extern void g2t_for_ranges(const g2t_context *context, size_t total, size_t step,
						   g2t_range_fn fn, void *arg);

#endif							/* G2T_CONTEXT_H */
