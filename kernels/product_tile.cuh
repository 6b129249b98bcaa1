/*
 * product_tile.cuh: what products of bf16 and q8 share: the tile of those with many rows, the strip
 * of those with few, and which of the two it is.
 *
 * A tile is 128 columns x 64 rows a block, by 8 warps of 32 x 32 each, over stages of 4 units of k in
 * a ring of three buffers in shared memory: two are on their way while one is multiplied.
 *
 * What a stage brings: fragments of 8 strips of weights, 16 KB; 64 rows of x, 8 KB, as
 * [unit][row][32 bytes].  Weights are the products' a (rows of mma.sync are columns of y), rows of
 * x their b.
 */
#ifndef G2_PRODUCT_TILE_CUH
#define G2_PRODUCT_TILE_CUH

#include "epilogue.cuh"

#define TILE_THREADS 256
#define TILE_COLUMNS G2D_OUTPUTS_ALIGN
#define TILE_ROWS G2D_ROWS_ALIGN
#define TILE_STRIPS (TILE_COLUMNS / G2D_STRIP)
#define STAGE_UNITS 4u			/* = G2D_UNITS_ALIGN: stages are whole */
#define TILE_STAGES 3u			/* two blocks' fit a multiprocessor of 8.0 and 9.0, one's any */
#define WARP_STRIPS 2u			/* of a warp: 2 x 16 columns, */
#define WARP_EIGHTS 4u			/* 4 x 8 rows */

struct tile_stage
{
	uint4		w[TILE_STRIPS][STAGE_UNITS][G2_WARP];
	uint2		x[STAGE_UNITS][TILE_ROWS][4];
};

/* The part of a tile that a thread has: columns and rows of its elements. */
struct tile_part
{
	uint32_t	strip;			/* first of the warp's, in the tile */
	uint32_t	row;			/* first of the warp's rows, in the tile */
	uint32_t	lane;

	__device__ tile_part()
	{
		uint32_t	warp = threadIdx.x / G2_WARP;

		strip = warp % 4 * WARP_STRIPS;
		row = warp / 4 * WARP_EIGHTS * 8;
		lane = threadIdx.x % G2_WARP;
	}
};

/* Starts the copies of a stage.  Rows behind the last are read too: operands have room for 64.  Of x, 8
 * lanes take 4 rows of a unit, so that they write 128 bytes in a row, and a warp 128 bytes of each. */
__device__ inline void
tile_fetch(tile_stage *to, const g2d_product &p, uint32_t first_strip, uint32_t first_row,
		   uint32_t unit)
{
	const char *w = static_cast<const char *>(p.w.w),
			   *x = static_cast<const char *>(p.x.x);

#pragma unroll
	for (uint32_t n = 0; n < TILE_STRIPS * STAGE_UNITS * G2_WARP / TILE_THREADS; n++)
	{
		uint32_t	i = n * TILE_THREADS + threadIdx.x,
					strip = i / (STAGE_UNITS * G2_WARP),
					in_strip = i % (STAGE_UNITS * G2_WARP);

		dev_async16(&to->w[0][0][0] + i,
					w + ((size_t) (first_strip + strip) * p.w.units_padded + unit) * G2D_FRAGMENT +
					in_strip * 16);
	}
#pragma unroll
	for (uint32_t n = 0; n < TILE_ROWS * STAGE_UNITS * 2 / TILE_THREADS; n++)
	{
		uint32_t	i = n * TILE_THREADS + threadIdx.x,
					half = i % 2,
					u = i / 8 % STAGE_UNITS,
					row = i / (8 * STAGE_UNITS) * 4 + i / 2 % 4;

		dev_async16(&to->x[u][row][half * 2],
					x + (size_t) (first_row + row) * p.x.ld + (unit + u) * G2D_UNIT + half * 16);
	}
}

/* The epilogue of a warp's 32 x 32 sums, of a lane [strip][eight][4]. */
__device__ inline void
tile_finish(const g2d_product &p, const tile_part &part, uint32_t first_strip, uint32_t first_row,
			const float (&sum)[WARP_STRIPS][WARP_EIGHTS][4])
{
	const uint32_t g = part.lane / 4,
				t = part.lane % 4;

#pragma unroll
	for (uint32_t s = 0; s < WARP_STRIPS; s++)
	{
#pragma unroll
		for (uint32_t e = 0; e < WARP_EIGHTS; e++)
		{
#pragma unroll
			for (uint32_t i = 0; i < 2; i++)
			{
				const uint32_t strip = first_strip + part.strip + s,
							column = strip * G2D_STRIP + g,
							row = first_row + part.row + e * 8 + t * 2 + i;
				const float upper = finish(p, row, column, sum[s][e][i]),
							lower = finish(p, row, column + 8, sum[s][e][2 + i]);
				uint64_t	best;
				uint32_t	bad;

				if (!p.best)
					continue;
				best = candidate(upper, column);
				best = candidate(lower, column + 8) > best ? candidate(lower, column + 8) : best;
				bad = upper != upper || lower != lower;
				for (unsigned mask = 4; mask < G2_WARP; mask *= 2)	/* lanes of the same t */
				{
					uint64_t	other = dev_exchange(best, mask);

					best = other > best ? other : best;
					bad |= dev_exchange(bad, mask);
				}
				if (g == 0)
					note_best(p, row, strip, best, bad);
			}
		}
	}
}

inline dim3
tile_grid(const g2d_product *p)
{
	return dim3((p->w.n_padded + TILE_COLUMNS - 1) / TILE_COLUMNS,
				(p->rows + TILE_ROWS - 1) / TILE_ROWS);
}

/* ---- strips ---- */

/* Floats of a row of 16 columns in shared memory: a warp's sums, of lane 4 g + t those of column g and
 * row 2 t, fall into different banks. */
#define NARROW_LD (G2D_STRIP + 4)

/* A narrow kernel: strips of columns by 8 EIGHTS rows. */
template <uint32_t EIGHTS>
inline dim3
narrow_grid(const g2d_product *p)
{
	return dim3(p->w.n_padded / G2D_STRIP, (p->rows + 8 * EIGHTS - 1) / (8 * EIGHTS));
}

/* ---- which kernel ---- */

/* KERNELS: narrow<EIGHTS>(stream, p) and wide(stream, p) of a format, which give the same bits. */
template <typename KERNELS>
inline void
launch_product(rt_stream stream, const g2d_product *p)
{
	if (p->rows <= 8)
		KERNELS::template narrow<1>(stream, p);
	else if (p->rows <= 16)
		KERNELS::template narrow<2>(stream, p);
	else if (g2d_takes_strips(p->rows, p->w.n_padded, p->processors))
		KERNELS::template narrow<4>(stream, p);
	else
		KERNELS::wide(stream, p);
}

#endif							/* G2_PRODUCT_TILE_CUH */
