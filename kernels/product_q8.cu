/*
 * product_q8.cu: products with q8 weights and activations, m16n8k32: the CPU's arithmetic.  A unit
 * is a group of 32 of k: its dot is an exact integer; groups ascending,
 *     sum = fma((float) dot, weight scale * x scale, sum)
 *
 * The narrow kernels, for few rows, give groups to different warps and let one thread an
 * element add them in order; tiles run through them one after the other.
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
	int32_t		dot[groups][rows][STRIP_LD];
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
		finish<1>(p, {row}, column, {sum[n]});
	}
}

/* ---- many rows ---- */

/* A dot, at most 2^19, is made as the bits of 1.5 2^23 + dot, of which one subtraction makes the float
 * that a conversion would; on an A100, conversions take four times as long. */
#define DOT_ZERO 0x4b400000

__device__ static float
dot_float(int32_t dot)
{
	return g2s_sub(g2_bits_float((uint32_t) dot), 12582912.0f);
}

/* Scales and sums take 12 instructions for each of mma.sync, 192 clocks for a unit: about as long as shared
 * memory for the 26 KB of a tile of 64 rows, so that larger ones would gain nothing. */
struct q8_tile
{
	struct columns
	{
		uint4		w;
		float		scale[2];	/* of columns g and g + 8 */
	};

	struct rows
	{
		uint2		x;
		float		scale[2];	/* of rows 2 t and 2 t + 1 */
	};

	template <uint32_t ROWS>
	struct scales
	{
		uint16_t	w_scale[TILE_STRIPS][STAGE_UNITS][G2D_STRIP];
		float		x_scale[ROWS][STAGE_UNITS];

		static const uint32_t lines = STAGE_UNITS * G2D_STRIP * 2 / 16;	/* of a strip */
		static_assert(lines * TILE_STRIPS == G2_WARP, "one copy of each of a warp's threads");

		/* A warp's threads copy 16 bytes of scales of the weights, some others' those of a row. */
		struct source
		{
			const uint16_t *w;
			const float *x;

			__device__ source(const g2d_product &p, uint32_t first_strip, uint32_t first_row)
				: w(p.w.scale + (size_t) (first_strip + threadIdx.x / lines) * p.w.units_padded *
					G2D_STRIP + threadIdx.x % lines * 8),
				  x(p.x.scale + (size_t) G2_MIN(first_row + threadIdx.x - G2_WARP, p.rows - 1) *
					p.x.units_padded) {}

			__device__ void
			fetch(scales *to, uint32_t unit) const
			{
				if (threadIdx.x < G2_WARP)
					dev_async16(&to->w_scale[0][0][0] + threadIdx.x * 8, w + unit * G2D_STRIP);
				else if (threadIdx.x < G2_WARP + ROWS)
					dev_async8(to->x_scale[threadIdx.x - G2_WARP], x + unit);
			}
		};

		__device__ void
		load(columns *to, const uint4 &bytes, uint32_t strip, uint32_t u, uint32_t lane) const
		{
			to->w = bytes;
			to->scale[0] = g2d_from_bf16(w_scale[strip][u][lane / 4]);
			to->scale[1] = g2d_from_bf16(w_scale[strip][u][lane / 4 + 8]);
		}

		__device__ void
		load(rows *to, const uint2 &bytes, uint32_t row, uint32_t u, uint32_t lane) const
		{
			to->x = bytes;
			to->scale[0] = x_scale[row + lane % 4 * 2][u];
			to->scale[1] = x_scale[row + lane % 4 * 2 + 1][u];
		}
	};

	template <uint32_t EIGHTS>
	struct sums
	{
		float		sum[WARP_STRIPS][EIGHTS][4] = {};

		__device__ void
		add(uint32_t i, uint32_t e, const columns &a, const rows &b)
		{
			int32_t		c[4] = {DOT_ZERO, DOT_ZERO, DOT_ZERO, DOT_ZERO};

			dev_mma_s8(c, a.w, b.x);
#pragma unroll
			for (uint32_t j = 0; j < 4; j++)
				sum[i][e][j] = g2s_fma(dot_float(c[j]), g2s_mul(a.scale[j / 2], b.scale[j % 2]),
									   sum[i][e][j]);
		}

		__device__ void
		end_stage(uint32_t, bool)
		{
		}
	};
};

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
};

void
g2d_launch_product_q8(rt_stream stream, const g2d_product *p)
{
	if (p->shape == G2D_STRIPS)
		launch_strips<q8_kernels>(stream, p);
	else
		launch_tiles<q8_tile, 4, 4>(stream, p);
}
