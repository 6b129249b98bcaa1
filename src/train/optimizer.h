/*
 * optimizer.h: from a gradient to the next weights.
 */
#ifndef G2T_OPTIMIZER_H
#define G2T_OPTIMIZER_H

#include "context.h"
#include "parameters.h"

typedef enum g2t_method
{
	G2T_ADAMW, G2T_ADAM, G2T_SGD
} g2t_method;

typedef enum g2t_schedule
{
	G2T_CONSTANT,				/* after the warm-up */
	G2T_COSINE,					/* half a period of a cosine, down to a tenth */
	G2T_LINEAR					/* down to zero */
} g2t_schedule;

typedef struct g2t_optimizer
{
	g2t_method	method;
	g2t_schedule schedule;
	uint32_t	steps;			/* of the whole training */
	uint32_t	warmup;			/* steps; the rate rises linearly to its full height */
	double		rate;
	double		decay;
	double		clip;			/* largest norm of the gradient; 0 = not clipped */
	double		beta1;			/* sgd: the momentum */
	double		beta2;
	double		epsilon;
} g2t_optimizer;

/* What it keeps of a set: sgd has no second moment. */
static inline g2t_arrays
g2t_method_arrays(g2t_method method)
{
	return method == G2T_SGD ? G2T_ONE_MOMENT : G2T_TWO_MOMENTS;
}

/* The rate of a step, which counts from 0. */
extern double g2t_rate(const g2t_optimizer *o, uint32_t step);

/* The Euclidean norm of the set's gradient; not finite when any of it is not. */
extern double g2t_gradient_norm(const g2t_context *context, const g2t_parameters *p);

/* One step: clips by the norm, changes weights and moments. */
extern void g2t_optimize(const g2t_context *context, const g2t_optimizer *o, uint32_t step,
						 double norm, g2t_parameters *p);

#endif							/* G2T_OPTIMIZER_H */
