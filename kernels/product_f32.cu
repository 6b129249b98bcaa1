/*
 * product_f32.cu: f32 products in the CPU's order: one accumulator an element, k ascending, fused
 * multiply-add.  The reference, without tensor cores: slow beside the other formats.
 *
 * A block: 96 columns (two panels of weights as the CPU has them), a thread each, times 1 or 8
 * rows, whose x goes through shared memory in pieces of DEPTH.
 */
#include "epilogue.cuh"

#define COLUMNS 96u
#define DEPTH 64u

/* Grid: (columns / 96, rows / ROWS). */
template <uint32_t ROWS>
__global__ void __launch_bounds__(COLUMNS)
product_f32_kernel(g2d_product p)
{
	float	   *x = dev_shared<float>();	/* [ROWS][DEPTH] */
	const uint32_t column = blockIdx.x * COLUMNS + threadIdx.x,
				row = blockIdx.y * ROWS,
				k = p.w.k;
	const bool	exists = column < p.w.n_padded;
	const float *w = static_cast<const float *>(p.w.w) +
		(size_t) (column / G2_PANEL) * k * G2_PANEL + column % G2_PANEL;
	float		sum[ROWS] = {};
	uint32_t	rows[ROWS];

	for (uint32_t first = 0; first < k; first += DEPTH)
	{
		const uint32_t depth = k - first < DEPTH ? k - first : DEPTH;

		for (uint32_t i = threadIdx.x; i < ROWS * depth; i += COLUMNS)
		{
			uint32_t	r = row + i / depth;

			x[i / depth * DEPTH + i % depth] = r < p.rows ?
				static_cast<const float *>(p.x.x)[(size_t) r * p.x.ld + first + i % depth] : 0.0f;
		}
		dev_barrier();
		for (uint32_t i = 0; exists && i < depth; i++, w += G2_PANEL)
		{
			const float e = *w;

#pragma unroll
			for (uint32_t r = 0; r < ROWS; r++)
				sum[r] = g2s_fma(x[r * DEPTH + i], e, sum[r]);
		}
		dev_barrier();
	}
#pragma unroll
	for (uint32_t r = 0; r < ROWS; r++)
		rows[r] = row + r;
	finish(p, rows, column, sum);
}

template <uint32_t ROWS>
static void
launch(rt_stream stream, const g2d_product *p)
{
	dev_launch(stream, product_f32_kernel<ROWS>,
			   dim3((p->w.n_padded + COLUMNS - 1) / COLUMNS, (p->rows + ROWS - 1) / ROWS),
			   dim3(COLUMNS), ROWS * DEPTH * sizeof(float), *p);
}

void
g2d_launch_product_f32(rt_stream stream, const g2d_product *p)
{
	if (p->rows == 1)
		launch<1>(stream, p);
	else
		launch<8>(stream, p);
}
