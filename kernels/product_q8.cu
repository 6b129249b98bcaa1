/*
 * product_q8.cu: products with q8 weights and activations, m16n8k32: the CPU's arithmetic.  A unit
 * is a group of 32 of k: its dot is an exact integer; groups ascending,
 *     sum = fma((float) dot, weight scale * x scale, sum)
 *
 * The narrow kernel, for few rows, gives groups to different warps and lets one thread an
 * element add them in order; the wide one runs through them one after the other.
 */
#include "product_tile.cuh"

#define NARROW_WARPS 8u
#define NARROW_THREADS (NARROW_WARPS * G2_WARP)

/* ---- few rows ---- */

/* Groups of a warp in a round: so many that the dots of a round have 16 KB. */
template <uint32_t EIGHTS>
struct narrow_shared
{
	static const uint32_t own = 4 / EIGHTS,
				groups = own * NARROW_WARPS,
				elements = G2D_STRIP * 8 * EIGHTS;	/* [row][column] */
	int32_t		dot[groups][elements];
};

/* Grid: (strips, rows / (8 EIGHTS)). */
template <uint32_t EIGHTS>
__global__ void __launch_bounds__(NARROW_THREADS)
narrow_q8_kernel(g2d_product p)
{
	typedef narrow_shared<EIGHTS> shared;
	const uint32_t strip = blockIdx.x,
				first_row = blockIdx.y * 8 * EIGHTS,
				lane = threadIdx.x % G2_WARP,
				warp = threadIdx.x / G2_WARP,
				per_thread = (shared::elements + NARROW_THREADS - 1) / NARROW_THREADS;
	shared	   *s = dev_shared<shared>();
	const char *w = static_cast<const char *>(p.w.w) +
		(size_t) strip * p.w.units_padded * G2D_FRAGMENT + lane * 16;
	const char *x = static_cast<const char *>(p.x.x) + (size_t) (first_row + lane / 4) * p.x.ld +
		lane % 4 * 8;
	float		sum[per_thread] = {};

	for (uint32_t round = 0; round < p.w.units; round += shared::groups)
	{
#pragma unroll
		for (uint32_t own = 0; own < shared::own; own++)
		{
			const uint32_t group = own * NARROW_WARPS + warp,
						unit = round + group;

			if (unit >= p.w.units)
				break;
			const uint4 a = dev_load16(w + (size_t) unit * G2D_FRAGMENT);

#pragma unroll
			for (uint32_t e = 0; e < EIGHTS; e++)
			{
				int32_t		c[4] = {};

				dev_mma_s8(c, a, dev_load8(x + (size_t) e * 8 * p.x.ld + unit * G2D_UNIT));
#pragma unroll
				for (uint32_t i = 0; i < 4; i++)
					s->dot[group][(e * 8 + lane % 4 * 2 + i % 2) * G2D_STRIP + lane / 4 +
								  i / 2 * 8] = c[i];
			}
		}
		dev_barrier();
#pragma unroll
		for (uint32_t n = 0; n < per_thread; n++)
		{
			const uint32_t element = n * NARROW_THREADS + threadIdx.x;

			if (element >= shared::elements)
				continue;
			const uint16_t *ws = p.w.scale + (size_t) strip * p.w.units_padded * G2D_STRIP +
				element % G2D_STRIP;
			const float *xs = p.x.scale + (size_t) (first_row + element / G2D_STRIP) *
				p.x.units_padded;

			for (uint32_t group = 0; group < shared::groups && round + group < p.w.units; group++)
			{
				const uint32_t unit = round + group;

				sum[n] = g2s_fma((float) s->dot[group][element],
								 g2s_mul(g2d_from_bf16(ws[unit * G2D_STRIP]), xs[unit]), sum[n]);
			}
		}
		dev_barrier();
	}
#pragma unroll
	for (uint32_t n = 0; n < per_thread; n++)
	{
		const uint32_t element = n * NARROW_THREADS + threadIdx.x,
					column = strip * G2D_STRIP + element % G2D_STRIP,
					row = first_row + element / G2D_STRIP;

		if (element >= shared::elements)	/* whole warps */
			continue;
		finish_strip(p, row, column, sum[n]);
	}
}

/* ---- many rows ---- */

/* Scales of a stage: of 16 columns of a strip, and of 4 units of a row. */
struct stage_scales
{
	uint16_t	w[TILE_STRIPS][STAGE_UNITS][G2D_STRIP];
	float		x[TILE_ROWS][STAGE_UNITS];
};

__device__ static void
fetch_scales(stage_scales *to, const g2d_product &p, uint32_t first_strip, uint32_t first_row,
			 uint32_t unit)
{
	const uint32_t lines = STAGE_UNITS * G2D_STRIP * 2 / 16;	/* of a strip */

	for (uint32_t i = threadIdx.x; i < TILE_STRIPS * lines; i += TILE_THREADS)
		dev_async16(&to->w[i / lines][0][0] + i % lines * 8,
					p.w.scale + ((size_t) (first_strip + i / lines) * p.w.units_padded + unit) *
					G2D_STRIP + i % lines * 8);
	for (uint32_t i = threadIdx.x; i < TILE_ROWS; i += TILE_THREADS)
		dev_async16(to->x[i], p.x.scale + (size_t) (first_row + i) * p.x.units_padded + unit);
}

struct wide_shared
{
	tile_stage	tile[2];
	stage_scales scales[2];
};

__global__ void __launch_bounds__(TILE_THREADS, 2)
wide_q8_kernel(g2d_product p)
{
	wide_shared *s = dev_shared<wide_shared>();
	const uint32_t first_strip = blockIdx.x * TILE_STRIPS,
				first_row = blockIdx.y * TILE_ROWS,
				stages = (p.w.units + STAGE_UNITS - 1) / STAGE_UNITS;
	const tile_part part;
	const uint32_t g = part.lane / 4,
				t = part.lane % 4;
	float		sum[WARP_STRIPS][WARP_EIGHTS][4] = {};

	tile_fetch(&s->tile[0], p, first_strip, first_row, 0);
	fetch_scales(&s->scales[0], p, first_strip, first_row, 0);
	dev_async_commit();
	for (uint32_t n = 0; n < stages; n++)
	{
		const tile_stage *tile = &s->tile[n % 2];
		const stage_scales *scales = &s->scales[n % 2];
		const uint32_t left = p.w.units - n * STAGE_UNITS,
					units = left < STAGE_UNITS ? left : STAGE_UNITS,
					next = (n + 1) * STAGE_UNITS;

		if (n + 1 < stages)
		{
			tile_fetch(&s->tile[(n + 1) % 2], p, first_strip, first_row, next);
			fetch_scales(&s->scales[(n + 1) % 2], p, first_strip, first_row, next);
		}
		dev_async_commit();
		dev_async_wait<1>();
		dev_barrier();
		for (uint32_t u = 0; u < units; u++)
		{
#pragma unroll
			for (uint32_t i = 0; i < WARP_STRIPS; i++)
			{
				const uint4 a = tile->w[part.strip + i][u][part.lane];
				const float upper = g2d_from_bf16(scales->w[part.strip + i][u][g]),
							lower = g2d_from_bf16(scales->w[part.strip + i][u][g + 8]);

#pragma unroll
				for (uint32_t e = 0; e < WARP_EIGHTS; e++)
				{
					const uint32_t row = part.row + e * 8;
					int32_t		c[4] = {};

					dev_mma_s8(c, a, tile->x[u][row + g][t]);
#pragma unroll
					for (uint32_t j = 0; j < 4; j++)
						sum[i][e][j] = g2s_fma((float) c[j],
											   g2s_mul(j < 2 ? upper : lower,
													   scales->x[row + t * 2 + j % 2][u]),
											   sum[i][e][j]);
				}
			}
		}
		dev_barrier();
	}
	dev_async_wait<0>();
	tile_finish(p, part, first_strip, first_row, sum);
}

/* ---- launches ---- */

struct q8_kernels
{
	template <uint32_t EIGHTS>
	static void
	narrow(rt_stream stream, const g2d_product *p)
	{
		dev_launch(stream, narrow_q8_kernel<EIGHTS>, narrow_grid<EIGHTS>(p), dim3(NARROW_THREADS),
				   sizeof(narrow_shared<EIGHTS>), *p);
	}

	static void
	wide(rt_stream stream, const g2d_product *p)
	{
		dev_launch(stream, wide_q8_kernel, tile_grid(p), dim3(TILE_THREADS), sizeof(wide_shared), *p);
	}
};

void
g2d_launch_product_q8(rt_stream stream, const g2d_product *p)
{
	launch_by_rows<q8_kernels>(stream, p);
}
