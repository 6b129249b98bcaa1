/*
 * product_bf16.cu: products with bf16 weights, m16n8k16.
 *
 * The order of a sum is fixed, tiles are free: k is cut into chunks of 256; in each, one chain of
 * mma.sync with k ascending, from zero; chunks are added in f32, ascending.  So all kernels give
 * the same bits: the narrow ones, for few rows, give chunks to different warps and add them
 * in order; tiles run through them one after the other.
 */
#include "product_tile.cuh"

#define CHUNK_UNITS 16u			/* 256 of k */
#define NARROW_WARPS 16u

/* ---- few rows ---- */

/* The sums of chunks so far, each a thread's own; and what the warps leave, of as many as there are: a
 * chunk's sums of 8 EIGHTS rows x 16 columns. */
template <uint32_t EIGHTS>
struct narrow_shared
{
	float		sum[8 * EIGHTS][STRIP_LD];
	float		part[NARROW_WARPS][8 * EIGHTS][STRIP_LD];
};

/* UNITS of a chunk.  All that is loaded is asked for before the first of it is needed: a warp that
 * waited for one fragment after the other would leave most of the memory's bandwidth unused. */
template <uint32_t EIGHTS, uint32_t UNITS>
__device__ static void
multiply_units(const char *w, const char *x, uint32_t ld, float (&c)[EIGHTS][4])
{
	uint4		a[UNITS];
	uint2		b[UNITS][EIGHTS];

#pragma unroll
	for (uint32_t i = 0; i < UNITS; i++)
	{
		a[i] = dev_load16(w + i * G2D_FRAGMENT);
#pragma unroll
		for (uint32_t e = 0; e < EIGHTS; e++)
			b[i][e] = dev_load8(x + (size_t) e * 8 * ld + i * G2D_UNIT);
	}
#pragma unroll
	for (uint32_t i = 0; i < UNITS; i++)
	{
#pragma unroll
		for (uint32_t e = 0; e < EIGHTS; e++)
			dev_mma_bf16(c[e], a[i], b[i][e]);
	}
}

/* A chunk: one chain for each 8 rows, k ascending. */
template <uint32_t EIGHTS>
__device__ static void
multiply_chunk(const char *w, const char *x, uint32_t ld, uint32_t units, float (&c)[EIGHTS][4])
{
	const uint32_t at_once = EIGHTS == 1 ? CHUNK_UNITS : CHUNK_UNITS / 2;
	uint32_t	u = 0;

	for (; u + at_once <= units; u += at_once)
		multiply_units<EIGHTS, at_once>(w + (size_t) u * G2D_FRAGMENT, x + u * G2D_UNIT, ld, c);
	for (; u + 4 <= units; u += 4)
		multiply_units<EIGHTS, 4>(w + (size_t) u * G2D_FRAGMENT, x + u * G2D_UNIT, ld, c);
	for (; u < units; u++)
		multiply_units<EIGHTS, 1>(w + (size_t) u * G2D_FRAGMENT, x + u * G2D_UNIT, ld, c);
}

/* Grid: (strips, rows / (8 EIGHTS)); blockDim: narrow_warps(). */
template <uint32_t EIGHTS>
__global__ void __launch_bounds__(NARROW_WARPS * G2_WARP, 1)
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
		s->sum[i / G2D_STRIP][i % G2D_STRIP] = 0.0f;
	for (uint32_t round = 0; round < chunks; round += warps)
	{
		const uint32_t first = (round + warp) * CHUNK_UNITS;
		float		c[EIGHTS][4] = {};

		if (first < p.w.units)
			multiply_chunk<EIGHTS>(w + (size_t) first * G2D_FRAGMENT, x + first * G2D_UNIT, p.x.ld,
								   p.w.units - first < CHUNK_UNITS ? p.w.units - first : CHUNK_UNITS,
								   c);
#pragma unroll
		for (uint32_t e = 0; e < EIGHTS; e++)
		{
#pragma unroll
			for (uint32_t i = 0; i < 4; i++)
				s->part[warp][e * 8 + lane % 4 * 2 + i % 2][lane / 4 + i / 2 * 8] = c[e][i];
		}
		dev_barrier();
		for (uint32_t i = threadIdx.x; i < elements; i += blockDim.x)
		{
			const uint32_t row = i / G2D_STRIP,
						column = i % G2D_STRIP;
			float		sum = s->sum[row][column];

			for (uint32_t chunk = 0; chunk < warps && round + chunk < chunks; chunk++)
				sum = g2s_add(sum, s->part[chunk][row][column]);
			s->sum[row][column] = sum;
		}
		dev_barrier();
	}
	for (uint32_t i = threadIdx.x; i < elements; i += blockDim.x)
	{
		const uint32_t column = i % G2D_STRIP,
					row = i / G2D_STRIP;

		finish<1>(p, {first_row + row}, strip * G2D_STRIP + column, {s->sum[row][column]});
	}
}

/* ---- many rows ---- */

struct bf16_tile
{
	typedef uint4 columns;
	typedef uint2 rows;

	template <uint32_t ROWS>
	struct scales				/* there are none */
	{
		struct source
		{
			__device__ source(const g2d_product &, uint32_t, uint32_t) {}

			__device__ void
			fetch(scales *, uint32_t) const
			{
			}
		};

		template <typename PART>
		__device__ void
		load(PART *to, const PART &bytes, uint32_t, uint32_t, uint32_t) const
		{
			*to = bytes;
		}
	};

	template <uint32_t EIGHTS>
	struct sums
	{
		float		sum[WARP_STRIPS][EIGHTS][4] = {};
		float		c[WARP_STRIPS][EIGHTS][4] = {};	/* of the chunk */

		__device__ void
		add(uint32_t i, uint32_t e, const columns &a, const rows &b)
		{
			dev_mma_bf16(c[i][e], a, b);
		}

		__device__ void
		end_stage(uint32_t units, bool last)
		{
			if (units % CHUNK_UNITS != 0 && !last)
				return;
#pragma unroll
			for (uint32_t i = 0; i < WARP_STRIPS; i++)
			{
#pragma unroll
				for (uint32_t e = 0; e < EIGHTS; e++)
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
	};
};

/* ---- launches ---- */

/* A warp a chunk, where there are more in rounds of about as many. */
static uint32_t
narrow_warps(uint32_t units)
{
	const uint32_t chunks = (units + CHUNK_UNITS - 1) / CHUNK_UNITS,
				rounds = (chunks + NARROW_WARPS - 1) / NARROW_WARPS;

	return (chunks + rounds - 1) / rounds;
}

struct bf16_kernels
{
	template <uint32_t EIGHTS>
	static void
	narrow(rt_stream stream, const g2d_product *p)
	{
		typedef narrow_shared<EIGHTS> shared;
		const uint32_t warps = narrow_warps(p->w.units);

		dev_launch(stream, narrow_bf16_kernel<EIGHTS>, narrow_grid<EIGHTS>(p), dim3(warps * G2_WARP),
				   offsetof(shared, part) + warps * sizeof shared::part[0], *p);
	}
};

void
g2d_launch_product_bf16(rt_stream stream, const g2d_product *p)
{
	switch (p->shape)
	{
		case G2D_STRIPS:
			launch_strips<bf16_kernels>(stream, p);
			break;
		case G2D_TILES_64:
			launch_tiles<bf16_tile, 4, 4>(stream, p);
			break;
		case G2D_TILES_96:
			launch_tiles<bf16_tile, 4, 6>(stream, p);
			break;
		case G2D_TILES_192:
			launch_tiles<bf16_tile, 8, 6>(stream, p);
			break;
	}
}
