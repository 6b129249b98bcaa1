/*
 * pack_equalize.h: outlier channels evened out between a norm and the matrix behind it, private to
 * pack_*.c and their tests.
 */
#ifndef G2_PACK_EQUALIZE_H
#define G2_PACK_EQUALIZE_H

#include "pack_convert.h"

#define G2_MAX_SHIFT 8

/*
 * By how many powers of two each of k channels goes from the activations into the weights.
 * activation, weight: the mean (or sum) of squares in each channel, of the norm's output and of the
 * matrix's row.  With s^2 their ratio over the median of these ratios: 0 for s between 1/8 and 8,
 * else log2(s) / 2 to the nearest, so that both sides get half of it.  *any: one of them is not 0.
 * The same on every machine.  Fails for want of memory only.
 */
extern bool g2_equalize(const double *activation, const double *weight, uint32_t k,
						int8_t *shift, bool *any, g2_error *err);

/* Fills c->shift, for the matrices of q8 and q4 with a norm before them. */
extern bool g2_equalize_start(g2_converter *c, g2_error *err);
extern void g2_equalize_end(g2_converter *c);

/* Rows first .. first + rows of a tensor (a vector is one row), by c->shift. */
extern void g2_equalize_apply(const g2_converter *c, const g2_layout_tensor *t, uint64_t first,
							  uint64_t rows, float *x);

#endif							/* G2_PACK_EQUALIZE_H */
