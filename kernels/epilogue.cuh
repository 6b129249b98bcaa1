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

/* One value as a candidate: larger is better, of equal ones the lower column. */
__device__ inline uint64_t
candidate(float logit, uint32_t column)
{
	return (uint64_t) g2_rank_key(logit) << 32 | (uint32_t) ~column;
}

/* Writes the element and returns it; rows and columns that are only padding give -inf.  An operand's
 * padding is written: zeros. */
__device__ inline float
put(const g2d_product &p, uint32_t row, uint32_t column, float y)
{
	char	   *to = static_cast<char *>(p.to.x) + (size_t) row * p.to.ld;

	if (row >= p.rows || column >= p.w.n)
	{
		if (p.to.x && row < p.rows && column < p.to.ld / 2)
			g2d_put_bf16(to, column, 0.0f);
		return -INFINITY;
	}
	if (p.to.x)
		g2d_put_bf16(to, column, y);
	else
		p.y[(size_t) row * p.ld + column] = y;
	return y;
}

/* The best of a strip of a row, and whether a NaN is among it, by a half warp that has its 16 columns. */
__device__ inline void
note_best(const g2d_product &p, uint32_t row, uint32_t column, float y)
{
	const uint32_t strip = column / G2D_STRIP;
	const uint64_t best = dev_max_of(candidate(y, column), G2D_STRIP);
	const uint32_t bad = dev_max_of((uint32_t) (y != y), G2D_STRIP);

	if (column % G2D_STRIP != 0 || row >= p.rows || strip >= p.best_ld)
		return;
	p.best[(size_t) row * p.best_ld + strip] = best;
	if (bad)
		p.bad[row] = 1;			/* whoever writes it writes the same */
}

/* What becomes of a thread's sums of some rows of one column.  All that is read is asked for before the
 * first is written, which may be the same memory.  Half a warp has the 16 columns of a strip, and the
 * whole warp must come. */
template <uint32_t N>
__device__ inline void
finish(const g2d_product &p, const uint32_t (&row)[N], uint32_t column, const float (&sum)[N])
{
	float		y[N],
				residual[N];
	const float bias = p.bias && column < p.w.n ? p.bias[column] : 0.0f;

#pragma unroll
	for (uint32_t j = 0; j < N; j++)
	{
		residual[j] = p.residual && column < p.w.n && row[j] < p.rows ?
			p.residual[(size_t) row[j] * p.ld + column] : 0.0f;
		y[j] = p.bias ? g2s_add(sum[j], bias) : sum[j];
	}
	g2d_activate(p.activation, y, N);
#pragma unroll
	for (uint32_t j = 0; j < N; j++)
	{
		const float written = put(p, row[j], column, p.residual ? g2s_add(residual[j], y[j]) : y[j]);

		if (p.best)
			note_best(p, row[j], column, written);
	}
}

#endif							/* G2_EPILOGUE_CUH */
