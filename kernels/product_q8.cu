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

/* A round: so many groups of each warp that their dots have 40 KB; and two rounds' scales. */
template <uint32_t EIGHTS>
struct narrow_shared
{
	static const uint32_t own = 8 / EIGHTS,
				groups = own * NARROW_WARPS,
				rows = 8 * EIGHTS;
	int32_t		dot[groups][rows][NARROW_LD];
	uint16_t	w_scale[2][groups][G2D_STRIP];
	float		x_scale[2][rows][groups];
};

/* What a warp multiplies in a round. */
template <uint32_t EIGHTS>
struct narrow_units
{
	uint4		a[narrow_shared<EIGHTS>::own];
	uint2		b[narrow_shared<EIGHTS>::own][EIGHTS];

	/* Asks for all of it before the first is needed, the last unit where there is none: its dots are not
	 * looked at. */
	__device__ void
	load(const g2d_product &p, const char *w, const char *x, uint32_t first)
	{
#pragma unroll
		for (uint32_t i = 0; i < narrow_shared<EIGHTS>::own; i++)
		{
			uint32_t	unit = first + i * NARROW_WARPS;

			unit = unit < p.w.units ? unit : p.w.units - 1;
			a[i] = dev_load16(w + (size_t) unit * G2D_FRAGMENT);
#pragma unroll
			for (uint32_t e = 0; e < EIGHTS; e++)
				b[i][e] = dev_load8(x + (size_t) e * 8 * p.x.ld + unit * G2D_UNIT);
		}
	}
};

/* Starts the copies of the scales of a round, as far as there are any, which is whole 16 bytes. */
template <uint32_t EIGHTS>
__device__ static void
fetch_round_scales(narrow_shared<EIGHTS> *s, const g2d_product &p, uint32_t strip, uint32_t first_row,
				   uint32_t round)
{
	typedef narrow_shared<EIGHTS> shared;
	const uint32_t buffer = round / shared::groups % 2,
				left = p.w.units_padded - round,
				units = left < shared::groups ? left : shared::groups;

	for (uint32_t i = threadIdx.x; i < units * G2D_STRIP / 8; i += NARROW_THREADS)
		dev_async16(&s->w_scale[buffer][0][0] + i * 8,
					p.w.scale + ((size_t) strip * p.w.units_padded + round) * G2D_STRIP + i * 8);
	for (uint32_t i = threadIdx.x; i < shared::rows * units / 4; i += NARROW_THREADS)
	{
		const uint32_t row = i / (units / 4),
					at = i % (units / 4) * 4;

		dev_async16(&s->x_scale[buffer][row][at],
					p.x.scale + (size_t) (first_row + row) * p.x.units_padded + round + at);
	}
}

/* Grid: (strips, rows / (8 EIGHTS)). */
template <uint32_t EIGHTS>
__global__ void __launch_bounds__(NARROW_THREADS, 2)
narrow_q8_kernel(g2d_product p)
{
	typedef narrow_shared<EIGHTS> shared;
	const uint32_t elements = G2D_STRIP * shared::rows,
				per_thread = (elements + NARROW_THREADS - 1) / NARROW_THREADS,
				strip = blockIdx.x,
				first_row = blockIdx.y * shared::rows,
				lane = threadIdx.x % G2_WARP,
				warp = threadIdx.x / G2_WARP;
	shared	   *s = dev_shared<shared>();
	const char *w = static_cast<const char *>(p.w.w) +
		(size_t) strip * p.w.units_padded * G2D_FRAGMENT + lane * 16;
	const char *x = static_cast<const char *>(p.x.x) + (size_t) (first_row + lane / 4) * p.x.ld +
		lane % 4 * 8;
	narrow_units<EIGHTS> units;
	float		sum[per_thread] = {};

	fetch_round_scales(s, p, strip, first_row, 0);
	dev_async_commit();
	units.load(p, w, x, warp);
	for (uint32_t round = 0; round < p.w.units; round += shared::groups)
	{
		const uint32_t next = round + shared::groups,
					groups = p.w.units < next ? p.w.units - round : shared::groups,
					buffer = round / shared::groups % 2;

#pragma unroll
		for (uint32_t own = 0; own < shared::own; own++)
		{
#pragma unroll
			for (uint32_t e = 0; e < EIGHTS; e++)
			{
				int32_t		c[4] = {};

				dev_mma_s8(c, units.a[own], units.b[own][e]);
#pragma unroll
				for (uint32_t i = 0; i < 4; i++)
					s->dot[own * NARROW_WARPS + warp][e * 8 + lane % 4 * 2 + i % 2]
						[lane / 4 + i / 2 * 8] = c[i];
			}
		}
		if (next < p.w.units)	/* is under way while this one is added up */
		{
			fetch_round_scales(s, p, strip, first_row, next);
			units.load(p, w, x, next + warp);
		}
		dev_async_commit();
		dev_async_wait<1>();
		dev_barrier();
#pragma unroll
		for (uint32_t n = 0; n < per_thread; n++)
		{
			const uint32_t element = n * NARROW_THREADS + threadIdx.x,
						column = element % G2D_STRIP,
						row = element / G2D_STRIP;

			if (element >= elements)
				continue;
#pragma unroll 4
			for (uint32_t group = 0; group < groups; group++)
				sum[n] = g2s_fma((float) s->dot[group][row][column],
								 g2s_mul(g2d_from_bf16(s->w_scale[buffer][group][column]),
										 s->x_scale[buffer][row][group]), sum[n]);
		}
		dev_barrier();
	}
#pragma unroll
	for (uint32_t n = 0; n < per_thread; n++)
	{
		const uint32_t element = n * NARROW_THREADS + threadIdx.x,
					column = strip * G2D_STRIP + element % G2D_STRIP,
					row = first_row + element / G2D_STRIP;

		if (element >= elements)	/* whole warps */
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
	tile_stage	tile[TILE_STAGES];
	stage_scales scales[TILE_STAGES];
};

__device__ static void
fetch_stage(wide_shared *s, const g2d_product &p, uint32_t first_strip, uint32_t first_row, uint32_t n)
{
	tile_fetch(&s->tile[n % TILE_STAGES], p, first_strip, first_row, n * STAGE_UNITS);
	fetch_scales(&s->scales[n % TILE_STAGES], p, first_strip, first_row, n * STAGE_UNITS);
}

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

	for (uint32_t n = 0; n < TILE_STAGES - 1; n++)
	{
		if (n < stages)
			fetch_stage(s, p, first_strip, first_row, n);
		dev_async_commit();
	}
	for (uint32_t n = 0; n < stages; n++)
	{
		const tile_stage *tile = &s->tile[n % TILE_STAGES];
		const stage_scales *scales = &s->scales[n % TILE_STAGES];
		const uint32_t left = p.w.units - n * STAGE_UNITS,
					units = left < STAGE_UNITS ? left : STAGE_UNITS,
					next = n + TILE_STAGES - 1;

		dev_async_wait<TILE_STAGES - 2>();
		dev_barrier();			/* stage n is there, and all are done with the one before it, ... */
		if (next < stages)		/* ... whose buffers are this one's */
			fetch_stage(s, p, first_strip, first_row, next);
		dev_async_commit();
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
	launch_product<q8_kernels>(stream, p);
}
