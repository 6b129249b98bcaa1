/*
 * product_tile.cuh: what products of bf16 and q8 share: tiles for many rows, the strips of those with
 * few, and which of them it is.
 *
 * A tile is 128 columns by some rows a block.  Each warp has 64 columns and 32 or 48 of the rows, so that
 * a multiprocessor's shared memory, 128 bytes a clock, does not fall behind its tensor cores: for a unit
 * of k a warp loads 2 KB of weights and 32 bytes of each row, and makes 16 products of mma.sync of these
 * 3 KB, or 24 of 3.5 KB.  With what copies write there, in bf16:
 *
 *   rows   warps   blocks   KB a unit   multiplications a clock, at most
 *     64       4        2          18                   910
 *     96       4        2          21                 1,170
 *    192       8        1          38                 1,293
 *
 * An A100's multiprocessor multiplies 1,024 times a clock; an H200's 2,048, of which mma.sync is said to
 * reach some 1,300.  (Blocks of 9.0; where shared memory is 99 KB, one of 96.)
 *
 * Registers: 64 or 96 sums a thread, in bf16 twice as many, of up to 255: there are 8 warps on a
 * multiprocessor, two of each scheduler.  They hide little of each other's latency, so each loads
 * ahead: the next strip's weights while one is multiplied, the next unit's rows while one is.
 *
 * k runs through stages of 2 units in a ring of four in shared memory: two or three are on their way while
 * one is multiplied.  A stage has fragments of 8 strips of weights, 8 KB, and rows of x as
 * [unit][row][32 bytes], 4 to 12 KB: the ring has 48, 56 or 80 KB.  No device has less than 99; 8.0 and
 * 9.0 have room for two.  Weights are the products' a (rows of mma.sync are columns of y), rows of x
 * their b.  Both stand as lanes take them: what a warp loads is in a row, without conflicts of banks, as
 * what it writes.
 */
#ifndef G2_PRODUCT_TILE_CUH
#define G2_PRODUCT_TILE_CUH

#include "epilogue.cuh"

#define TILE_COLUMNS G2D_OUTPUTS_ALIGN
#define TILE_STRIPS (TILE_COLUMNS / G2D_STRIP)
#define TILE_STAGES 4u
#define STAGE_UNITS 2u			/* what is padded to G2D_UNITS_ALIGN has room for whole stages */
#define WARP_STRIPS 4u			/* of a warp: 4 x 16 columns; and EIGHTS x 8 rows */
#define WARPS_ACROSS (TILE_STRIPS / WARP_STRIPS)

/* Floats of a row of 16 columns in shared memory: a warp's sums, of lane 4 g + t those of column g and
 * row 2 t, fall into different banks; so do rows that are 4 apart. */
#define STRIP_LD (G2D_STRIP + 4)

/*
 * FORMAT brings
 *   columns, rows		what a lane needs of a unit and a strip; of a unit and 8 rows
 *   scales<ROWS>		what a stage has beside the bytes; load() makes of both what a lane needs; its
 *						source starts a thread's copies
 *   sums<EIGHTS>		a lane's: add(strip, eight, columns, rows) a unit, end_stage(units so far, last)
 */
template <typename FORMAT, uint32_t WARPS, uint32_t EIGHTS>
struct tile
{
	static const uint32_t threads = WARPS * G2_WARP,
				rows = WARPS / WARPS_ACROSS * EIGHTS * 8,
				strip_copies = STAGE_UNITS * G2_WARP,	/* of 16 bytes, of a stage and strip */
				w_copies = TILE_STRIPS * strip_copies / threads,
				x_copies = rows * STAGE_UNITS * 2 / threads;
	typedef typename FORMAT::columns columns_part;
	typedef typename FORMAT::rows rows_part;
	typedef typename FORMAT::template sums<EIGHTS> sums;
	typedef typename FORMAT::template scales<rows> scales;
	typedef typename scales::source source;

	struct stage : scales
	{
		uint4		w[TILE_STRIPS][STAGE_UNITS][G2_WARP];
		uint2		x[STAGE_UNITS][rows][4];
	};

	/* The ring; and behind the last stage a strip of each warp. */
	union shared
	{
		stage		ring[TILE_STAGES];
		float		y[WARPS][EIGHTS * 8][STRIP_LD];
	};

	const g2d_product &p;
	shared	   *s;
	uint32_t	first_strip;	/* of the tile */
	uint32_t	first_row;
	uint32_t	warp_strip;		/* of the warp, in the tile */
	uint32_t	warp_row;
	uint32_t	lane;
	const char *w;				/* what the thread copies: from the first unit on, ... */
	uint32_t	w_step;			/* ... bytes to the next such place */
	uint32_t	x[x_copies];	/* of rows, from p.x.x */
	source		beside;

	__device__ tile(const g2d_product &product) : p(product), s(dev_shared<shared>()),
		first_strip(blockIdx.x * TILE_STRIPS), first_row(blockIdx.y * rows),
		warp_strip(threadIdx.x / G2_WARP % WARPS_ACROSS * WARP_STRIPS),
		warp_row(threadIdx.x / G2_WARP / WARPS_ACROSS * EIGHTS * 8), lane(threadIdx.x % G2_WARP),
		w(static_cast<const char *>(p.w.w) + (size_t) (first_strip + threadIdx.x / strip_copies) *
		  p.w.units_padded * G2D_FRAGMENT + threadIdx.x % strip_copies * 16),
		w_step(threads / strip_copies * p.w.units_padded * G2D_FRAGMENT),
		beside(p, first_strip, first_row)
	{
#pragma unroll
		for (uint32_t j = 0; j < x_copies; j++)
			x[j] = G2_MIN(first_row + copied_row(j), p.rows - 1) * p.x.ld + copied_unit() * G2D_UNIT +
				threadIdx.x % 2 * 16;
	}

	/* Of x, 8 lanes copy 4 rows of a unit, so that they write 128 bytes in a row, and 16 lanes 64 bytes of
	 * each. */
	static __device__ uint32_t
	copied_row(uint32_t j)
	{
		return (j * threads + threadIdx.x) / (8 * STAGE_UNITS) * 4 + threadIdx.x / 2 % 4;
	}

	static __device__ uint32_t
	copied_unit()
	{
		return threadIdx.x / 8 % STAGE_UNITS;
	}

	/* Starts the copies of a stage.  Rows behind the last are that one. */
	__device__ void
	fetch(uint32_t n) const
	{
		stage	   *to = &s->ring[n % TILE_STAGES];
		const uint32_t unit = n * STAGE_UNITS;

#pragma unroll
		for (uint32_t j = 0; j < w_copies; j++)
			dev_async16(&to->w[0][0][0] + j * threads + threadIdx.x,
						w + (size_t) j * w_step + unit * G2D_FRAGMENT);
#pragma unroll
		for (uint32_t j = 0; j < x_copies; j++)
			dev_async16(&to->x[copied_unit()][copied_row(j)][threadIdx.x % 2 * 2],
						static_cast<const char *>(p.x.x) + unit * G2D_UNIT + x[j]);
		beside.fetch(to, unit);
	}

	__device__ void
	load(columns_part *to, const stage *from, uint32_t u, uint32_t i) const
	{
		from->load(to, from->w[warp_strip + i][u][lane], warp_strip + i, u, lane);
	}

	__device__ void
	load(rows_part (&to)[EIGHTS], const stage *from, uint32_t u) const
	{
#pragma unroll
		for (uint32_t e = 0; e < EIGHTS; e++)
			from->load(&to[e], from->x[u][warp_row + e * 8 + lane / 4][lane % 4], warp_row + e * 8, u,
					   lane);
	}

	/* The stage, whose first parts have been loaded; loads those of the next one. */
	__device__ void
	multiply(uint32_t n, uint32_t stages, columns_part (&a)[2], rows_part (&b)[2][EIGHTS], sums *y) const
	{
		const stage *own = &s->ring[n % TILE_STAGES];

#pragma unroll
		for (uint32_t u = 0; u < STAGE_UNITS; u++)
		{
			const bool	last = u + 1 == STAGE_UNITS;
			const stage *next = last ? &s->ring[(n + 1) % TILE_STAGES] : own;

			if (n * STAGE_UNITS + u >= p.w.units)	/* padding of the last stage */
				break;
			if (last)
			{
				dev_async_wait<TILE_STAGES - 3>();
				dev_barrier();	/* the next stage is there, and all are done with the one before, ... */
				if (n + TILE_STAGES - 1 < stages)	/* ... whose place is this one's */
					fetch(n + TILE_STAGES - 1);
				dev_async_commit();
			}
			load(b[(u + 1) % 2], next, (u + 1) % STAGE_UNITS);
#pragma unroll
			for (uint32_t i = 0; i < WARP_STRIPS; i++)
			{
				if (i + 1 < WARP_STRIPS)
					load(&a[(i + 1) % 2], own, u, i + 1);
				else
					load(&a[(i + 1) % 2], next, (u + 1) % STAGE_UNITS, 0);
#pragma unroll
				for (uint32_t e = 0; e < EIGHTS; e++)
					y->add(i, e, a[i % 2], b[u % 2][e]);
			}
		}
	}

	/* What becomes of the sums: a warp's go through shared memory, a strip after the other, so that half a
	 * warp has a row of 16 columns. */
	__device__ void
	finish(const float (&sum)[WARP_STRIPS][EIGHTS][4]) const
	{
		float		(*y)[STRIP_LD] = s->y[threadIdx.x / G2_WARP];
		const uint32_t at_once = 8;	/* of a lane */

#pragma unroll 1
		for (uint32_t i = 0; i < WARP_STRIPS; i++)
		{
			const uint32_t column = (first_strip + warp_strip + i) * G2D_STRIP + lane % G2D_STRIP;

			dev_warp_barrier();	/* the strip before has been read */
#pragma unroll
			for (uint32_t k = 0; k < WARP_STRIPS; k++)	/* registers have no index but a constant */
			{
				if (k != i)
					continue;
#pragma unroll
				for (uint32_t j = 0; j < EIGHTS * 4; j++)
					y[j / 4 * 8 + lane % 4 * 2 + j % 2][lane / 4 + j % 4 / 2 * 8] = sum[k][j / 4][j % 4];
			}
			dev_warp_barrier();
#pragma unroll 1
			for (uint32_t first = 0; first < EIGHTS * 8; first += 2 * at_once)
			{
				uint32_t	row[at_once];
				float		own[at_once];

#pragma unroll
				for (uint32_t j = 0; j < at_once; j++)
				{
					row[j] = first + j / 4 * 8 + lane / G2D_STRIP * 4 + j % 4;
					own[j] = y[row[j]][lane % G2D_STRIP];
					row[j] += first_row + warp_row;
				}
				::finish(p, row, column, own);
			}
		}
	}

	__device__ void
	run() const
	{
		const uint32_t stages = (p.w.units + STAGE_UNITS - 1) / STAGE_UNITS;
		columns_part a[2];
		rows_part	b[2][EIGHTS];
		sums		y;

		for (uint32_t n = 0; n < TILE_STAGES - 1; n++)
		{
			if (n < stages)
				fetch(n);
			dev_async_commit();
		}
		dev_async_wait<TILE_STAGES - 2>();
		dev_barrier();
		load(&a[0], &s->ring[0], 0, 0);
		load(b[0], &s->ring[0], 0);
		for (uint32_t n = 0; n < stages; n++)
		{
			multiply(n, stages, a, b, &y);
			y.end_stage((n + 1) * STAGE_UNITS, n + 1 == stages);
		}
		dev_async_wait<0>();
		dev_barrier();			/* nobody reads the ring any more */
		finish(y.sum);
	}
};

template <typename FORMAT, uint32_t WARPS, uint32_t EIGHTS>
__global__ void __launch_bounds__(WARPS * G2_WARP, 8 / WARPS)
tile_kernel(g2d_product p)
{
	tile<FORMAT, WARPS, EIGHTS>(p).run();
}

template <typename FORMAT, uint32_t WARPS, uint32_t EIGHTS>
inline void
launch_tiles(rt_stream stream, const g2d_product *p)
{
	typedef tile<FORMAT, WARPS, EIGHTS> tile;

	dev_launch(stream, tile_kernel<FORMAT, WARPS, EIGHTS>,
			   dim3(p->w.n_padded / TILE_COLUMNS, (p->rows + tile::rows - 1) / tile::rows),
			   dim3(tile::threads), sizeof(typename tile::shared), *p);
}

/* ---- strips ---- */

/* A narrow kernel: strips of columns by 8 EIGHTS rows. */
template <uint32_t EIGHTS>
inline dim3
narrow_grid(const g2d_product *p)
{
	return dim3(p->w.n_padded / G2D_STRIP, (p->rows + 8 * EIGHTS - 1) / (8 * EIGHTS));
}

/* KERNELS: narrow<EIGHTS>(stream, p) of a format. */
template <typename KERNELS>
inline void
launch_strips(rt_stream stream, const g2d_product *p)
{
	if (p->rows <= 8)
		KERNELS::template narrow<1>(stream, p);
	else if (p->rows <= 16)
		KERNELS::template narrow<2>(stream, p);
	else
		KERNELS::template narrow<4>(stream, p);
}

#endif							/* G2_PRODUCT_TILE_CUH */
