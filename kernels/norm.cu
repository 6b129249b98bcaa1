/*
 * norm.cu: layer norm, and the conversion of rows to what a product takes.
 *
 * Sums have the CPU's order: 16 lanes, each over every 16th value, then one tree.  A half warp
 * adds; the other threads of the row's block load, and do what is done value by value.
 */
#include "device_kernels.h"

#include "device.cuh"
#include "device_math.h"

#define THREADS 128
#define LANES 16u

/* i with i + 8, + 4, + 2, + 1; all lanes get it. */
__device__ static float
lane_sum(float v)
{
	for (unsigned mask = LANES / 2; mask > 0; mask /= 2)
		v = g2s_add(v, dev_exchange(v, mask));
	return v;
}

/* A group of 32 values, one a lane, to bytes and their scale. */
__device__ static void
convert_group(float v, uint32_t unit, uint32_t lane, const g2d_operand &to, size_t row)
{
	const uint32_t largest = dev_max_of(g2_float_bits(g2s_abs(v)), G2_WARP);
	int8_t	   *x = static_cast<int8_t *>(to.x) + row * to.ld;

	x[g2d_operand_at(unit * G2D_UNIT + lane)] = g2d_group_byte(v, g2d_group_inverse(largest));
	if (lane == 0)
		to.scale[row * to.units_padded + unit] = g2d_group_scale(largest);
}

/* k values at x, by all threads of the block.  Padding is written too: zeros. */
__device__ static void
convert_row(const float *x, uint32_t k, g2_format format, const g2d_operand &to, size_t row)
{
	const uint32_t lane = threadIdx.x % G2_WARP,
				warp = threadIdx.x / G2_WARP;

	if (format == G2_FORMAT_Q8)
	{
		for (uint32_t unit = warp; unit < to.units_padded; unit += THREADS / G2_WARP)
		{
			uint32_t	i = unit * G2D_UNIT + lane;

			convert_group(i < k ? x[i] : 0.0f, unit, lane, to, row);
		}
		return;
	}
	for (uint32_t i = threadIdx.x; i < to.ld / 2; i += THREADS)
		*reinterpret_cast<uint16_t *>(static_cast<char *>(to.x) + row * to.ld +
									  g2d_operand_at(2 * i)) = i < k ? g2d_to_bf16(x[i]) : 0;
}

/* Grid: rows; a block a row; shared: n floats. */
__global__ void __launch_bounds__(THREADS)
norm_kernel(g2d_norm a)
{
	float	   *v = dev_shared<float>(),
			   *moments = v + a.n;
	const uint32_t r = blockIdx.x,
				lane = threadIdx.x % LANES;
	const bool	exists = !a.chunk || r < a.chunk->n_head_rows;
	const uint32_t from = !exists ? 0 : a.chunk ? a.chunk->head_row[r] : r;
	const bool	rests = !exists || a.position_of[from] == G2D_RESTS;
	const float *x = a.x + (size_t) from * a.ld;

	for (uint32_t i = threadIdx.x; i < a.n; i += THREADS)
		v[i] = rests ? 0.0f : x[i];
	dev_barrier();
	if (threadIdx.x < G2_WARP)	/* both halves the same */
	{
		float		sum = 0.0f,
					squares = 0.0f,
					mean;

		for (uint32_t i = lane; i < a.n; i += LANES)
			sum = g2s_add(sum, v[i]);
		mean = g2s_div(lane_sum(sum), (float) a.n);
		for (uint32_t i = lane; i < a.n; i += LANES)
		{
			float		d = g2s_sub(v[i], mean);

			squares = g2s_fma(d, d, squares);
		}
		squares = g2s_add(g2s_div(lane_sum(squares), (float) a.n), a.epsilon);
		if (threadIdx.x == 0)
		{
			moments[0] = mean;
			moments[1] = g2s_div(1.0f, sqrtf(squares));
		}
	}
	dev_barrier();
	for (uint32_t i = threadIdx.x; i < a.n; i += THREADS)
	{
		float		d = g2s_mul(g2s_sub(v[i], moments[0]), moments[1]),
					y = a.bias ? g2s_fma(d, a.gain[i], a.bias[i]) : g2s_mul(d, a.gain[i]);

		v[i] = rests ? 0.0f : y;
		if (a.y)
			a.y[(size_t) r * a.n + i] = v[i];
		if (a.format == G2_FORMAT_F32)
			static_cast<float *>(a.to.x)[(size_t) r * a.to.ld + i] = v[i];
	}
	if (a.bad && threadIdx.x == 0)
		a.bad[r] = 0;
	dev_barrier();
	if (a.format != G2_FORMAT_F32)
		convert_row(v, a.n, a.format, a.to, r);
}

void
g2d_launch_norm(rt_stream stream, const g2d_norm *a, uint32_t rows)
{
	dev_launch(stream, norm_kernel, dim3(rows), dim3(THREADS), (a->n + 2) * sizeof(float), *a);
}

/* Grid: rows; a block a row. */
__global__ void __launch_bounds__(THREADS)
convert_kernel(const float *x, uint32_t ld, uint32_t k, g2_format format, g2d_operand to)
{
	convert_row(x + (size_t) blockIdx.x * ld, k, format, to, blockIdx.x);
}

void
g2d_launch_convert(rt_stream stream, const float *x, uint32_t ld, uint32_t k, g2_format format,
				   const g2d_operand *to, uint32_t rows)
{
	dev_launch(stream, convert_kernel, dim3(rows), dim3(THREADS), 0, x, ld, k, format, *to);
}
