/*
 * cost.c: learning what steps cost.
 */
#include "cost.h"

#include "util.h"

#define KEPT 0.95				/* weight that a step keeps when the next one comes */
#define OUTLIER 4				/* times what was expected: the machine did something else */
#define SETTLED 5				/* steps, weighted, after which an outlier can be told */
#define SPREAD 0.01				/* rows that differ by less say nothing on the slope */
#define LEAST 0.001				/* a row costs at least this part of its share of a step */

void
g2_cost_learn(g2_cost *c, uint32_t rows, double us)
{
	double		expected = g2_cost_step(c, rows),
				spread;

	if (c->n >= SETTLED)
		us = G2_MIN(us, OUTLIER * expected);
	c->n = KEPT * c->n + 1;
	c->r = KEPT * c->r + rows;
	c->t = KEPT * c->t + us;
	c->rr = KEPT * c->rr + (double) rows * rows;
	c->rt = KEPT * c->rt + rows * us;
	spread = c->n * c->rr - c->r * c->r;
	if (spread > SPREAD * c->n * c->rr)
		c->per_row = G2_MAX((c->n * c->rt - c->r * c->t) / spread, LEAST * c->t / c->r);
	c->base = (c->t - c->per_row * c->r) / c->n;
	/* While rows of one number only are known, all goes to them. */
	if (c->per_row <= 0 || c->base < 0)
	{
		c->base = 0;
		c->per_row = c->t / c->r;
	}
}
