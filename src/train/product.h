/*
 * product.h: matrix products of training: the engine's f32 kernels on tiles of the output.
 *
 * An element is a sum over k in ascending order, by fused multiply-adds from 0 in each chunk of
 * G2T_PRODUCT_CHUNK; the chunks' sums are added to what c starts from in ascending order.  So neither
 * tiles nor threads nor instruction sets change a bit.
 */
#ifndef G2T_PRODUCT_H
#define G2T_PRODUCT_H

#include "context.h"

#define G2T_PRODUCT_CHUNK 768			/* of k; a multiple of the kernels' strips */

/* A matrix whose rows are ld floats apart; transposed: what is meant is its transpose. */
typedef struct g2t_operand
{
	const float *data;
	size_t		ld;
	bool		transposed;
} g2t_operand;

static inline g2t_operand
g2t_plain(const float *data, size_t ld)
{
	return (g2t_operand) {data, ld, false};
}

static inline g2t_operand
g2t_transposed(const float *data, size_t ld)
{
	return (g2t_operand) {data, ld, true};
}

/* Floats for packed operands: of each thread, and of all together. */
extern size_t g2t_product_scratch(void);
extern size_t g2t_product_shared(void);

/*
 * c[m][n] = a[m][k] b[k][n], plus what is in c when `add`, plus bias[n] when that is not NULL (only
 * without add).  c's rows are ldc floats apart.  Every size fits a uint32_t (g2_arch's bounds).
 */
extern void g2t_multiply(const g2t_context *context, size_t m, size_t n, size_t k, g2t_operand a,
						 g2t_operand b, const float *bias, bool add, float *c, size_t ldc);

/* The same on the calling thread alone: for products inside a task. */
extern void g2t_multiply_here(const g2t_context *context, uint32_t thread, size_t m, size_t n,
							  size_t k, g2t_operand a, g2t_operand b, bool add, float *c,
							  size_t ldc);

#endif							/* G2T_PRODUCT_H */
