/*
 * norm.cu: layer norm, and the conversion of rows to what a product takes.
 *
 * Sums have the CPU's order: 16 lanes, each over every 16th value, then one tree.  A half warp
 * adds; the other threads of the row's block load, and do what is done value by value.
 *
 * Rows are short, and a kernel for one row does little but wait: so loops load some values before they
 * use the first.
 */
#include "device_kernels.h"

#include "device.cuh"
#include "device_math.h"

#define THREADS 128
#define LANES 16u
#define AHEAD 8u				/* values of a thread */

/* add(x[lane], sum), then x[lane + 16] ...: the sum. */
template <typename F>
__device__ static float
lane_fold(const float *x, uint32_t n, uint32_t lane, const F &add)
{
	float		sum = 0.0f;
	uint32_t	i = lane;

	for (; i + (AHEAD - 1) * LANES < n; i += AHEAD * LANES)
	{
		float		v[AHEAD];

#pragma unroll
		for (uint32_t j = 0; j < AHEAD; j++)
			v[j] = x[i + j * LANES];
#pragma unroll
		for (uint32_t j = 0; j < AHEAD; j++)
			sum = add(v[j], sum);
	}
	for (; i < n; i += LANES)
		sum = add(x[i], sum);
	return sum;
}

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

/* Values first + threadIdx.x, + THREADS ...; zeros from n on. */
__device__ static void
load_ahead(const float *x, uint32_t first, uint32_t n, float (&v)[AHEAD])
{
#pragma unroll
	for (uint32_t j = 0; j < AHEAD; j++)
	{
		const uint32_t i = first + j * THREADS + threadIdx.x;

		v[j] = i < n ? x[i] : 0.0f;
	}
}

/* k values at x, by all threads of the block.  Padding is written too: zeros. */
__device__ static void
convert_row(const float *x, uint32_t k, g2_format format, const g2d_operand &to, size_t row)
{
	const uint32_t values = format == G2_FORMAT_Q8 ? to.ld : to.ld / 2;

	/* A warp's values of q8 are a unit, also in the order of threads. */
	for (uint32_t first = 0; first < values; first += THREADS * AHEAD)
	{
		float		v[AHEAD];

		load_ahead(x, first, k, v);
#pragma unroll
		for (uint32_t j = 0; j < AHEAD; j++)
		{
			const uint32_t i = first + j * THREADS + threadIdx.x;

			if (i >= values)	/* whole warps of q8 */
				break;
			if (format == G2_FORMAT_Q8)
				convert_group(v[j], i / G2D_UNIT, i % G2D_UNIT, to, row);
			else
				g2d_put_bf16(static_cast<char *>(to.x) + row * to.ld, i, v[j]);
		}
	}
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

	for (uint32_t first = 0; first < a.n; first += THREADS * AHEAD)
	{
		float		e[AHEAD];

		load_ahead(x, first, rests ? 0 : a.n, e);
#pragma unroll
		for (uint32_t j = 0; j < AHEAD; j++)
			if (first + j * THREADS + threadIdx.x < a.n)
				v[first + j * THREADS + threadIdx.x] = e[j];
	}
	dev_barrier();
	if (threadIdx.x < G2_WARP)	/* both halves the same */
	{
		const float sum = lane_fold(v, a.n, lane, [](float x, float s) { return g2s_add(s, x); }),
					mean = g2s_div(lane_sum(sum), (float) a.n);
		float		squares = lane_fold(v, a.n, lane, [mean](float x, float s) {
			const float d = g2s_sub(x, mean);

			return g2s_fma(d, d, s);
		});

		squares = g2s_add(g2s_div(lane_sum(squares), (float) a.n), a.epsilon);
		if (threadIdx.x == 0)
		{
			moments[0] = mean;
			moments[1] = g2s_div(1.0f, sqrtf(squares));
		}
	}
	dev_barrier();
	for (uint32_t first = 0; first < a.n; first += THREADS * AHEAD)
	{
		float		gain[AHEAD],
					bias[AHEAD];

		load_ahead(a.gain, first, a.n, gain);
		load_ahead(a.bias, first, a.bias ? a.n : 0, bias);
#pragma unroll
		for (uint32_t j = 0; j < AHEAD; j++)
		{
			const uint32_t i = first + j * THREADS + threadIdx.x;

			if (i >= a.n)
				break;
			const float d = g2s_mul(g2s_sub(v[i], moments[0]), moments[1]),
						y = a.bias ? g2s_fma(d, gain[j], bias[j]) : g2s_mul(d, gain[j]);

			v[i] = rests ? 0.0f : y;
			if (a.y)
				a.y[(size_t) r * a.n + i] = v[i];
			if (a.format == G2_FORMAT_F32)
				static_cast<float *>(a.to.x)[(size_t) r * a.to.ld + i] = v[i];
		}
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
