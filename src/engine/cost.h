/*
 * cost.h: how long a step of so many rows takes: a line through what steps have taken, by least
 * squares, in which older ones count less and less.
 *
 * The line fits both ends: a step of one row reads all weights (its cost is the line's start), one
 * of many rows is bound by arithmetic (its slope).  Only estimates come out of it, of how much a
 * visit should hold: results do not depend on them.
 */
#ifndef G2_COST_H
#define G2_COST_H

#include <stdint.h>

/* Zero-initialise. */
typedef struct g2_cost
{
	/* sums over steps, each weighted by its age: 1, rows, time, rows * rows, rows * time */
	double		n;
	double		r;
	double		t;
	double		rr;
	double		rt;
	double		base;			/* the line: microseconds of a step ... */
	double		per_row;		/* ... and of each row; 0 = not measured yet */
} g2_cost;

extern void g2_cost_learn(g2_cost *cost, uint32_t rows, double us);

/* Microseconds of a step of so many rows; 0 = not known. */
static inline double
g2_cost_step(const g2_cost *cost, uint32_t rows)
{
	return cost->per_row > 0 ? cost->base + rows * cost->per_row : 0;
}

#endif							/* G2_COST_H */
