/*
 * product.h: matrix products of training: OpenBLAS on tiles of the output.
 *
 * OpenBLAS gives other bits for another number of its threads, so it has one, whichever of its
 * builds (threads, OpenMP, none) the system has chosen; the pool's threads share the tiles, whose
 * shape is a function of the matrices' shapes alone.
 */
#ifndef G2T_PRODUCT_H
#define G2T_PRODUCT_H

#include "context.h"

/* A matrix whose rows are ld floats apart; transposed: what is meant is its transpose. */
typedef struct g2t_operand
{
	const float *data;
	size_t		ld;
	bool		transposed;
} g2t_operand;

/*
 * c[m][n] = a[m][k] b[k][n], plus what is in c when `add`, plus bias[n] when that is not NULL (only
 * without add).  c's rows are ldc floats apart.  Every size fits an int (g2_arch's bounds).
 */
extern void g2t_multiply(const g2t_context *context, size_t m, size_t n, size_t k, g2t_operand a,
						 g2t_operand b, const float *bias, bool add, float *c, size_t ldc);

/* The same on the calling thread alone, times alpha: for products inside a task. */
extern void g2t_multiply_here(size_t m, size_t n, size_t k, float alpha, g2t_operand a,
							  g2t_operand b, bool add, float *c, size_t ldc);

#endif							/* G2T_PRODUCT_H */
