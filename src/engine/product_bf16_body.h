/*
 * product_bf16_body.h: products with bf16 weights; included by kernels_body.h.
 *
 * vr_dot2 (acc, w, x) adds the products of two bf16 in each lane, the lower first.  A set with an
 * instruction for it defines it (and BF16_FAMILY); else it is two fused multiply-adds.
 */
#ifndef BF16_FAMILY
#define BF16_FAMILY "fma"

INLINE vr
vr_dot2(vr acc, vi w, vi x)
{
	return vr_fma(vr_upper(w), vr_upper(x), vr_fma(vr_lower(w), vr_lower(x), acc));
}
#endif

#define BF16_STRIP 64			/* pairs of k between two writes of the accumulators */

/* c[m][v vectors] (+)= x w over `pairs` pairs of k; x: tiles of 4 rows, `tile` apart. */
INLINE void
bf16_tile(const int m, const int v, float *c, const uint16_t *x, size_t tile, const uint16_t *w,
		  uint32_t pairs, bool first)
{
	vr			acc[BF16_M][PANEL_V];

	UNROLL
	for (int i = 0; i < m; i++)
	{
		UNROLL
		for (int j = 0; j < v; j++)
			acc[i][j] = first ? vr_zero() : vr_load(c + i * G2_PANEL + j * VR_LANES);
	}
	for (uint32_t k = 0; k < pairs; k++, x += 8, w += 2 * G2_PANEL)
	{
		vi			b[PANEL_V];

		UNROLL
		for (int j = 0; j < v; j++)
			b[j] = vi_load(w + j * 2 * VR_LANES);
		UNROLL
		for (int i = 0; i < m; i++)
		{
			vi			e = vi_set1(x + i / 4 * tile + i % 4 * 2);

			UNROLL
			for (int j = 0; j < v; j++)
				acc[i][j] = vr_dot2(acc[i][j], b[j], e);
		}
	}
	UNROLL
	for (int i = 0; i < m; i++)
	{
		UNROLL
		for (int j = 0; j < v; j++)
			vr_store(c + i * G2_PANEL + j * VR_LANES, acc[i][j]);
	}
}

typedef void (*bf16_tile_fn) (float *c, const uint16_t *x, size_t tile, const uint16_t *w,
							  uint32_t pairs, bool first);

#define BF16_TILE(m, v) \
	static __attribute__((noinline)) void \
	bf16_tile_##m(float *c, const uint16_t *x, size_t tile, const uint16_t *w, uint32_t pairs, \
				  bool first) \
	{ \
		bf16_tile(m, v, c, x, tile, w, pairs, first); \
	}
BF16_TILES
#undef BF16_TILE

#define BF16_TILE(m, v) [m] = {bf16_tile_##m, v},
static const struct
{
	bf16_tile_fn fn;
	uint32_t	vectors;
}			bf16_tiles[BF16_M + 1] = {BF16_TILES};
#undef BF16_TILE

/* One row and two panels: two streams keep more requests to memory in flight. */
static __attribute__((noinline)) void
bf16_pair(float *c, const uint16_t *x, const uint16_t *w, size_t stride, uint32_t pairs)
{
	vr			acc[2 * PANEL_V];

	UNROLL
	for (int j = 0; j < 2 * PANEL_V; j++)
		acc[j] = vr_zero();
	for (uint32_t k = 0; k < pairs; k++, x += 8, w += 2 * G2_PANEL)
	{
		vi			e = vi_set1(x);

		UNROLL
		for (int j = 0; j < PANEL_V; j++)
		{
			acc[j] = vr_dot2(acc[j], vi_load(w + j * 2 * VR_LANES), e);
			acc[PANEL_V + j] = vr_dot2(acc[PANEL_V + j], vi_load(w + stride + j * 2 * VR_LANES), e);
		}
	}
	UNROLL
	for (int j = 0; j < 2 * PANEL_V; j++)
		vr_store(c + j * VR_LANES, acc[j]);
}

static void
bf16_sweep(const g2_product *p, float *c, uint32_t row, uint32_t rows, const uint16_t *w,
		   uint32_t k, uint32_t pairs, uint32_t all_pairs)
{
	const size_t tile = (size_t) all_pairs * 2 * G2_OPERAND_ROWS;

	for (uint32_t r = 0; r < rows;)
	{
		uint32_t	at = (row + r) % G2_OPERAND_ROWS,
					m = G2_MIN(rows - r, (uint32_t) BF16_M),
					v;
		const uint16_t *x = (const uint16_t *) p->x.x + (row + r) / G2_OPERAND_ROWS * tile +
			(size_t) k * 2 * G2_OPERAND_ROWS + 2 * at;

		if (at > 0 || BF16_M < G2_OPERAND_ROWS)
			m = G2_MIN(m, G2_OPERAND_ROWS - at);
		v = bf16_tiles[m].vectors;
		for (uint32_t j = 0; j < PANEL_V; j += v)
			bf16_tiles[m].fn(c + r * G2_PANEL + j * VR_LANES, x, tile, w + j * 2 * VR_LANES,
							 pairs, k == 0);
		r += m;
	}
}

static void
product_bf16(const g2_product *p, uint32_t panel, uint32_t panel_end, uint32_t row,
			 uint32_t row_end, float *scratch)
{
	const uint32_t pairs = (p->k + 1) / 2;
	const size_t stride = (size_t) pairs * 2 * G2_PANEL;

	for (; row < row_end; row += G2_PRODUCT_ROWS)
	{
		uint32_t	rows = G2_MIN(row_end - row, (uint32_t) G2_PRODUCT_ROWS),
					step = rows <= BF16_M ? pairs : BF16_STRIP;

		for (uint32_t n = panel; n < panel_end; n++)
		{
			const uint16_t *w = (const uint16_t *) p->w + n * stride;

			if (rows == 1 && n + 1 < panel_end)
			{
				const uint16_t *x = (const uint16_t *) p->x.x +
					(size_t) (row / G2_OPERAND_ROWS) * pairs * 2 * G2_OPERAND_ROWS +
					row % G2_OPERAND_ROWS * 2;

				bf16_pair(scratch, x, w, stride, pairs);
				finish(p, scratch, n++, row, 1);
				finish(p, scratch + G2_PANEL, n, row, 1);
				continue;
			}
			for (uint32_t k = 0; k < pairs; k += step)
				bf16_sweep(p, scratch, row, rows, w + (size_t) k * 2 * G2_PANEL, k,
						   G2_MIN(step, pairs - k), pairs);
			finish(p, scratch, n, row, rows);
		}
	}
}
