/*
 * product_bf16.cu: products with bf16 weights, m16n8k16.
 *
 * The order of a sum is fixed, tiles are free: k is cut into chunks of 256; in each, one chain of
 * mma.sync with k ascending, from zero; chunks are added in f32, ascending.  So both kernels give
 * the same bits: the narrow one, for few rows, gives chunks to different warps and adds them
 * in order; the wide one runs through them one after the other.
 */
#include "product_tile.cuh"

#define CHUNK_UNITS 16u			/* 256 of k */
#define NARROW_WARPS 8u

/* ---- few rows ---- */

/* What the warps leave: a chunk's sums of 16 columns x 8 EIGHTS rows, [column][row]. */
template <uint32_t EIGHTS>
struct narrow_shared
{
	float		part[NARROW_WARPS][G2D_STRIP * 8 * EIGHTS];
	float		sum[G2D_STRIP * 8 * EIGHTS];
};

/* Grid: (strips, rows / (8 EIGHTS)); blockDim: as many warps as there are chunks, up to 8. */
template <uint32_t EIGHTS>
__global__ void __launch_bounds__(NARROW_WARPS * G2_WARP)
narrow_bf16_kernel(g2d_product p)
{
	const uint32_t elements = G2D_STRIP * 8 * EIGHTS,
				strip = blockIdx.x,
				first_row = blockIdx.y * 8 * EIGHTS,
				lane = threadIdx.x % G2_WARP,
				warp = threadIdx.x / G2_WARP,
				warps = blockDim.x / G2_WARP,
				chunks = (p.w.units + CHUNK_UNITS - 1) / CHUNK_UNITS;
	narrow_shared<EIGHTS> *s = dev_shared<narrow_shared<EIGHTS>>();
	const char *w = static_cast<const char *>(p.w.w) +
		(size_t) strip * p.w.units_padded * G2D_FRAGMENT + lane * 16;
	const char *x = static_cast<const char *>(p.x.x) + (size_t) (first_row + lane / 4) * p.x.ld +
		lane % 4 * 8;

	for (uint32_t i = threadIdx.x; i < elements; i += blockDim.x)
		s->sum[i] = 0.0f;
	for (uint32_t round = 0; round < chunks; round += warps)
	{
		const uint32_t first = (round + warp) * CHUNK_UNITS,
					end = first + CHUNK_UNITS < p.w.units ? first + CHUNK_UNITS : p.w.units;
		float		c[EIGHTS][4] = {};

#pragma unroll 8
		for (uint32_t unit = first; unit < end; unit++)
		{
			const uint4 a = dev_load16(w + (size_t) unit * G2D_FRAGMENT);

#pragma unroll
			for (uint32_t e = 0; e < EIGHTS; e++)
				dev_mma_bf16(c[e], a, dev_load8(x + (size_t) e * 8 * p.x.ld + unit * G2D_UNIT));
		}
#pragma unroll
		for (uint32_t e = 0; e < EIGHTS; e++)
		{
#pragma unroll
			for (uint32_t i = 0; i < 4; i++)
				s->part[warp][(lane / 4 + i / 2 * 8) * 8 * EIGHTS + e * 8 + lane % 4 * 2 + i % 2] =
					c[e][i];
		}
		dev_barrier();
		for (uint32_t i = threadIdx.x; i < elements; i += blockDim.x)
			for (uint32_t chunk = 0; chunk < warps && round + chunk < chunks; chunk++)
				s->sum[i] = g2s_add(s->sum[i], s->part[chunk][i]);
		dev_barrier();
	}
	for (uint32_t i = threadIdx.x; i < elements; i += blockDim.x)
	{
		const uint32_t column = i % G2D_STRIP,
					row = i / G2D_STRIP;

		finish_strip(p, first_row + row, strip * G2D_STRIP + column,
					 s->sum[column * 8 * EIGHTS + row]);
	}
}

/* ---- many rows ---- */

__global__ void __launch_bounds__(TILE_THREADS, 2)
wide_bf16_kernel(g2d_product p)
{
	tile_stage *stage = dev_shared<tile_stage>();
	const uint32_t first_strip = blockIdx.x * TILE_STRIPS,
				first_row = blockIdx.y * TILE_ROWS,
				stages = (p.w.units + STAGE_UNITS - 1) / STAGE_UNITS;
	const tile_part part;
	float		sum[WARP_STRIPS][WARP_EIGHTS][4] = {},
				c[WARP_STRIPS][WARP_EIGHTS][4] = {};

	tile_fetch(&stage[0], p, first_strip, first_row, 0);
	dev_async_commit();
	for (uint32_t n = 0; n < stages; n++)
	{
		const tile_stage *s = &stage[n % 2];
		const uint32_t left = p.w.units - n * STAGE_UNITS,
					units = left < STAGE_UNITS ? left : STAGE_UNITS;

		if (n + 1 < stages)
			tile_fetch(&stage[(n + 1) % 2], p, first_strip, first_row, (n + 1) * STAGE_UNITS);
		dev_async_commit();
		dev_async_wait<1>();
		dev_barrier();
		for (uint32_t u = 0; u < units; u++)
		{
#pragma unroll
			for (uint32_t i = 0; i < WARP_STRIPS; i++)
			{
				const uint4 a = s->w[part.strip + i][u][part.lane];

#pragma unroll
				for (uint32_t e = 0; e < WARP_EIGHTS; e++)
					dev_mma_bf16(c[i][e], a,
								 s->x[u][part.row + e * 8 + part.lane / 4][part.lane % 4]);
			}
		}
		if ((n + 1) * STAGE_UNITS % CHUNK_UNITS == 0 || n + 1 == stages)
		{
#pragma unroll
			for (uint32_t i = 0; i < WARP_STRIPS; i++)
			{
#pragma unroll
				for (uint32_t e = 0; e < WARP_EIGHTS; e++)
				{
#pragma unroll
					for (uint32_t j = 0; j < 4; j++)
					{
						sum[i][e][j] = g2s_add(sum[i][e][j], c[i][e][j]);
						c[i][e][j] = 0.0f;
					}
				}
			}
		}
		dev_barrier();
	}
	dev_async_wait<0>();
	tile_finish(p, part, first_strip, first_row, sum);
}

/* ---- launches ---- */

struct bf16_kernels
{
	template <uint32_t EIGHTS>
	static void
	narrow(rt_stream stream, const g2d_product *p)
	{
		const uint32_t chunks = (p->w.units + CHUNK_UNITS - 1) / CHUNK_UNITS,
					warps = chunks < NARROW_WARPS ? chunks : NARROW_WARPS;

		dev_launch(stream, narrow_bf16_kernel<EIGHTS>, narrow_grid<EIGHTS>(p), dim3(warps * G2_WARP),
				   sizeof(narrow_shared<EIGHTS>), *p);
	}

	static void
	wide(rt_stream stream, const g2d_product *p)
	{
		dev_launch(stream, wide_bf16_kernel, tile_grid(p), dim3(TILE_THREADS), 2 * sizeof(tile_stage),
				   *p);
	}
};

void
g2d_launch_product_bf16(rt_stream stream, const g2d_product *p)
{
	launch_by_rows<bf16_kernels>(stream, p);
}
