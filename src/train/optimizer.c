/*
 * optimizer.c: sgd with momentum, adam, adamw; schedules; clipping.
 *
 * Arithmetic as PyTorch's (torch.optim.SGD, Adam, AdamW; clip_grad_norm_), but for its order.
 */
#include "optimizer.h"

#include <math.h>

#define RANGE 65536				/* elements of a task */
#define RANGES_AT_A_TIME 256
#define LEAST_RATE 0.1			/* of the cosine, of the full rate */
#define CLIP_EPSILON 1e-6

double
g2t_rate(const g2t_optimizer *o, uint32_t step)
{
	double		done;

	if (step < o->warmup)
		return o->rate * (step + 1) / o->warmup;
	if (o->schedule == G2T_CONSTANT || o->steps <= o->warmup)
		return o->rate;
	done = (double) (step - o->warmup) / (o->steps - o->warmup);
	done = fmin(done, 1.0);
	if (o->schedule == G2T_LINEAR)
		return o->rate * (1.0 - done);
	return o->rate * (LEAST_RATE + (1.0 - LEAST_RATE) * 0.5 * (1.0 + cos(M_PI * done)));
}

typedef struct squares
{
	const float *g;
	double	   *part;			/* of each range */
} squares;

static void
square_range(const g2t_context *context, void *arg, size_t first, size_t n)
{
	const squares *s = arg;

	s->part[first / RANGE] = context->kernels->sum_squares(n, s->g + first);
}

double
g2t_gradient_norm(const g2t_context *context, const g2t_parameters *p)
{
	double		part[RANGES_AT_A_TIME],
				total = 0.0;

	for (size_t at = 0; at < p->floats; at += RANGES_AT_A_TIME * (size_t) RANGE)
	{
		size_t		n = G2_MIN(p->floats - at, RANGES_AT_A_TIME * (size_t) RANGE);

		g2t_for_ranges(context, n, RANGE, square_range, &(squares) {p->g + at, part});
		for (size_t i = 0; i < (n + RANGE - 1) / RANGE; i++)
			total += part[i];
	}
	return sqrt(total);
}

typedef struct change
{
	const g2t_parameters *p;
	const g2t_tensor *tensor;
	g2t_update	update;
	void		(*kernel) (size_t n, const g2t_update *u, const float *g, float *w, float *m,
						   float *v);
} change;

static void
change_range(const g2t_context *context, void *arg, size_t first, size_t n)
{
	const change *c = arg;
	size_t		at = c->tensor->at + first;

	(void) context;
	c->kernel(n, &c->update, c->p->g + at, c->p->w + at, c->p->m + at,
			  c->p->v ? c->p->v + at : NULL);
}

void
g2t_optimize(const g2t_context *context, const g2t_optimizer *o, uint32_t step, double norm,
			 g2t_parameters *p)
{
	const g2t_kernels *k = context->kernels;
	change		c = {.p = p, .kernel = o->method == G2T_SGD ? k->sgd
	: o->method == G2T_ADAM ? k->adam : k->adamw};
	double		scale = o->clip > 0.0 ? fmin(1.0, o->clip / (norm + CLIP_EPSILON)) : 1.0;

	c.update = (g2t_update) {
		.rate = (float) g2t_rate(o, step),
		.gradient_scale = (float) scale,
		.beta1 = (float) o->beta1,
		.beta2 = (float) o->beta2,
		.epsilon = (float) o->epsilon,
		.correction1 = (float) (1.0 - pow(o->beta1, step + 1.0)),
		.correction2_root = (float) sqrt(1.0 - pow(o->beta2, step + 1.0)),
	};
	for (uint32_t i = 0; i < p->n; i++)
	{
		c.tensor = &p->tensor[i];
		c.update.decay = c.tensor->decays ? (float) o->decay : 0.0f;
		g2t_for_ranges(context, g2t_tensor_size(c.tensor), RANGE, change_range, &c);
	}
}
