/*
 * embed.cu: where each row stands in this step, and its embedding.
 */
#include "device_kernels.h"

#include "device.cuh"
#include "device_math.h"

#define THREADS 128

/* Element k of an output's weights, as a float: what the CPU's g2_matrix_column gives. */
__device__ static float
weight(const g2d_matrix &m, uint32_t output, uint32_t k)
{
	const char *w = static_cast<const char *>(m.w);

	if (m.format == G2_FORMAT_F32)
		return static_cast<const float *>(m.w)[((size_t) (output / G2_PANEL) * m.k + k) * G2_PANEL +
											   output % G2_PANEL];
	if (m.format == G2_FORMAT_BF16)
		return g2d_from_bf16(*reinterpret_cast<const uint16_t *>(
			w + g2d_weight_at(m.units_padded, output, k * 2)));
	return g2s_mul((float) *reinterpret_cast<const int8_t *>(
					   w + g2d_weight_at(m.units_padded, output, k)),
				   g2d_from_bf16(m.scale[g2d_weight_scale_at(m.units_padded, output,
															 k / G2D_UNIT)]));
}

/* Grid: rows; a block a row.  Rows behind the pass's (of a graph for more) rest. */
__global__ void __launch_bounds__(THREADS)
embed_kernel(g2d_embed a)
{
	const uint32_t r = blockIdx.x,
				n = a.embed.k,
				step = a.pass->step;
	uint32_t	token = G2_TOKEN_NONE,
				position = G2D_RESTS;
	float	   *x = a.x + (size_t) r * a.ld;

	if (r < a.pass->n_rows)
	{
		const g2d_row row = a.pass->rows[r];
		const bool	previous = step > 0 || row.token == G2_TOKEN_PREVIOUS,
					may_rest = step > 0 || (row.flags & G2D_ROW_RESTS_FIRST) != 0;

		token = previous ? a.slots.slots[row.slot].last_token : row.token;
		if (!(may_rest && a.slots.slots[row.slot].ended))
			position = row.position + step;
		if (position != G2D_RESTS && token >= a.embed.n)
		{
			a.pass->failed = 1;
			position = G2D_RESTS;
		}
	}
	if (threadIdx.x == 0)
		a.position_of[r] = position;
	for (uint32_t i = threadIdx.x; i < a.ld; i += THREADS)
		x[i] = position == G2D_RESTS || i >= n ? 0.0f :
			g2s_add(weight(a.embed, token, i), a.positions[(size_t) position * n + i]);
}

void
g2d_launch_embed(rt_stream stream, const g2d_embed *a, uint32_t rows)
{
	dev_launch(stream, embed_kernel, dim3(rows), dim3(THREADS), 0, *a);
}
