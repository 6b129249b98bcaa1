/*
 * epilogue.cuh: what becomes of a product's sum: bias, activation, residual; and, for the head, the
 * best of each strip of columns.  In the order of the CPU's kernels.
 */
#ifndef G2_EPILOGUE_CUH
#define G2_EPILOGUE_CUH

#include "device.cuh"
#include "device_math.h"
#include "device_kernels.h"
#include "sampler_math.h"

/* Writes the element and returns it; rows and columns that are only padding give -inf.  An operand's
 * padding is written: zeros. */
__device__ inline float
finish(const g2d_product &p, uint32_t row, uint32_t column, float sum)
{
	const size_t at = (size_t) row * p.ld + column;
	char	   *to = static_cast<char *>(p.to.x) + (size_t) row * p.to.ld;

	if (row >= p.rows || column >= p.w.n)
	{
		if (p.to.x && row < p.rows && column < p.to.ld / 2)
			g2d_put_bf16(to, column, 0.0f);
		return -INFINITY;
	}
	if (p.bias)
		sum = g2s_add(sum, p.bias[column]);
	sum = g2d_activate(p.activation, sum);
	if (p.residual)
		sum = g2s_add(p.residual[at], sum);
	if (p.to.x)
		g2d_put_bf16(to, column, sum);
	else
		p.y[at] = sum;
	return sum;
}

/* One value as a candidate: larger is better, of equal ones the lower column. */
__device__ inline uint64_t
candidate(float logit, uint32_t column)
{
	return (uint64_t) g2_rank_key(logit) << 32 | (uint32_t) ~column;
}

/* The best of a strip of a row, and whether a NaN is among it; by one thread. */
__device__ inline void
note_best(const g2d_product &p, uint32_t row, uint32_t strip, uint64_t best, bool bad)
{
	if (row >= p.rows || strip >= p.best_ld)
		return;
	p.best[(size_t) row * p.best_ld + strip] = best;
	if (bad)
		p.bad[row] = 1;			/* whoever writes it writes the same */
}

/* As finish, by a half warp that has the 16 columns of a strip, whose best is noted; the whole warp must
 * come. */
__device__ inline void
finish_strip(const g2d_product &p, uint32_t row, uint32_t column, float sum)
{
	const float y = finish(p, row, column, sum);
	uint64_t	best = candidate(y, column);
	uint32_t	bad = y != y;

	if (!p.best)
		return;
	best = dev_max_of(best, G2D_STRIP);
	bad = dev_max_of(bad, G2D_STRIP);
	if (column % G2D_STRIP == 0)
		note_best(p, row, column / G2D_STRIP, best, bad);
}

#endif							/* G2_EPILOGUE_CUH */
