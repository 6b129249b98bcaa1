/*
 * product_int_body.h: products with q8 and q4 weights; included by kernels_body.h.
 *
 * A tile of up to 4 rows takes a strip of groups of a panel: per group, exact dots of 32 k in
 * integer registers, which are then scaled into the float accumulators.  Both must fit into
 * registers, which bounds the tile.  Primitives of the set:
 *   vi, VR_LANES times 4 bytes; vi_load, vi_set1 (4 bytes to all lanes)
 *   vi_start_q8, vi_start_q4 (p): what dots start from, given -offset times the sum of x
 *   vi_dot_q8, vi_dot_q4 (acc, w, x): acc + the dot of 4 bytes in each lane
 *   vi_low, vi_high: the halves of each byte; vr_from_int; vr_load_bf16
 *   INT_M, INT_TILES, INT_TILE(rows, vectors) for 1 .. INT_M rows
 *   INT_STRIP(rows), where it is not 8: groups between two writes of the accumulators.  8 stay in L1,
 *		for all tiles of rows.  Where a tile takes a whole panel from L2 as fast, there are no writes.
 */

#if !defined(INT_STRIP)
#define INT_STRIP(rows) 8
#endif
#define INT_AHEAD 8				/* groups that memory is asked for ahead of a tile that is alone */

/* Rows of one tile of an operand, from one of its groups on. */
typedef struct int_rows
{
	const int8_t *x;			/* [groups][8][4][4] */
	const float *scale;			/* [groups][4] */
	const int32_t *start;		/* [groups][4] */
} int_rows;

/* A strip of a panel. */
typedef struct int_strip
{
	const uint8_t *w;			/* [groups] of 32 x 48 weights */
	const uint16_t *scale;		/* [groups][48] */
	uint32_t	groups;
	bool		first;			/* accumulators start from 0, else from c */
} int_strip;

/* What memory is asked for meanwhile: `lines` cache lines with each group. */
typedef struct int_ahead
{
	const char *at;
	uint32_t	lines;
} int_ahead;

INLINE size_t
int_group_bytes(const bool q4)
{
	return (size_t) G2_GROUP * G2_PANEL / (q4 ? 2 : 1);
}

/* dot[rows][vectors] of one group. */
INLINE void
int_group(const int m, const int v, const bool q4, vi (*dot)[PANEL_V], const int8_t *x,
		  const uint8_t *w)
{
	for (int q = 0; q < (q4 ? 4 : 8); q++, w += 4 * G2_PANEL)
	{
		UNROLL
		for (int j = 0; j < v; j++)
		{
			vi			b = vi_load(w + j * 4 * VR_LANES);

			UNROLL
			for (int i = 0; i < m; i++)
			{
				if (!q4)
				{
					dot[i][j] = vi_dot_q8(dot[i][j], b, vi_set1(x + (4 * q + i) * 4));
					continue;
				}
				dot[i][j] = vi_dot_q4(dot[i][j], vi_low(b), vi_set1(x + (8 * q + i) * 4));
				dot[i][j] = vi_dot_q4(dot[i][j], vi_high(b), vi_set1(x + (8 * q + 4 + i) * 4));
			}
		}
	}
}

/* c[m][48 columns: v vectors of them] (+)= x w, m and v constants of the caller. */
INLINE void
int_tile(const int m, const int v, const bool q4, float *c, int_rows x, int_strip s, int_ahead a)
{
	vr			sum[4][PANEL_V];

	UNROLL
	for (int i = 0; i < m; i++)
	{
		UNROLL
		for (int j = 0; j < v; j++)
			sum[i][j] = s.first ? vr_zero() : vr_load(c + i * G2_PANEL + j * VR_LANES);
	}
	for (uint32_t g = 0; g < s.groups; g++)
	{
		vi			dot[4][PANEL_V];

		for (uint32_t l = 0; l < a.lines; l++, a.at += 64)
			__builtin_prefetch(a.at);
		UNROLL
		for (int i = 0; i < m; i++)
		{
			UNROLL
			for (int j = 0; j < v; j++)
				dot[i][j] = q4 ? vi_start_q4(x.start + i) : vi_start_q8(x.start + i);
		}
		int_group(m, v, q4, dot, x.x, s.w);
		UNROLL
		for (int j = 0; j < v; j++)
		{
			vr			scale = vr_load_bf16(s.scale + j * VR_LANES);

			UNROLL
			for (int i = 0; i < m; i++)
				sum[i][j] = vr_fma(vr_from_int(dot[i][j]), vr_mul(scale, vr_set1(x.scale[i])),
								   sum[i][j]);
		}
		x.x += 4 * G2_GROUP;
		x.scale += 4;
		x.start += 4;
		s.w += int_group_bytes(q4);
		s.scale += G2_PANEL;
	}
	UNROLL
	for (int i = 0; i < m; i++)
	{
		UNROLL
		for (int j = 0; j < v; j++)
			vr_store(c + i * G2_PANEL + j * VR_LANES, sum[i][j]);
	}
}

typedef void (*int_tile_fn) (float *c, int_rows x, int_strip s, int_ahead a);

#define INT_TILE(m, v) \
	static __attribute__((noinline)) void \
	q8_tile_##m(float *c, int_rows x, int_strip s, int_ahead a) \
	{ \
		int_tile(m, v, false, c, x, s, a); \
	} \
	static __attribute__((noinline)) void \
	q4_tile_##m(float *c, int_rows x, int_strip s, int_ahead a) \
	{ \
		int_tile(m, v, true, c, x, s, a); \
	}
INT_TILES
#undef INT_TILE

#define INT_TILE(m, v) [m] = {{q8_tile_##m, q4_tile_##m}, v},
static const struct
{
	int_tile_fn fn[2];
	uint32_t	vectors;
}			int_tiles[INT_M + 1] = {INT_TILES};
#undef INT_TILE

/* One row and two strips, side by side in memory: two streams keep more requests in flight. */
INLINE void
int_pair(const bool q4, float *c, int_rows x, int_strip s, size_t stride)
{
	vr			sum[2][PANEL_V];
	const uint16_t *other_scale = (const uint16_t *) ((const char *) s.scale + stride);

	UNROLL
	for (int j = 0; j < PANEL_V; j++)
		sum[0][j] = sum[1][j] = vr_zero();
	for (uint32_t g = 0; g < s.groups; g++)
	{
		vi			dot[2][PANEL_V];

		UNROLL
		for (int j = 0; j < PANEL_V; j++)
			dot[0][j] = dot[1][j] = q4 ? vi_start_q4(x.start) : vi_start_q8(x.start);
		int_group(1, PANEL_V, q4, dot, x.x, s.w);
		int_group(1, PANEL_V, q4, dot + 1, x.x, s.w + stride);
		UNROLL
		for (int j = 0; j < PANEL_V; j++)
		{
			vr			e = vr_set1(*x.scale);

			sum[0][j] = vr_fma(vr_from_int(dot[0][j]),
							   vr_mul(vr_load_bf16(s.scale + j * VR_LANES), e), sum[0][j]);
			sum[1][j] = vr_fma(vr_from_int(dot[1][j]),
							   vr_mul(vr_load_bf16(other_scale + j * VR_LANES), e), sum[1][j]);
		}
		x.x += 4 * G2_GROUP;
		x.scale += 4;
		x.start += 4;
		s.w += int_group_bytes(q4);
		s.scale += G2_PANEL;
		other_scale += G2_PANEL;
	}
	UNROLL
	for (int j = 0; j < PANEL_V; j++)
	{
		vr_store(c + j * VR_LANES, sum[0][j]);
		vr_store(c + G2_PANEL + j * VR_LANES, sum[1][j]);
	}
}

static __attribute__((noinline)) void
q8_pair(float *c, int_rows x, int_strip s, size_t stride)
{
	int_pair(false, c, x, s, stride);
}

static __attribute__((noinline)) void
q4_pair(float *c, int_rows x, int_strip s, size_t stride)
{
	int_pair(true, c, x, s, stride);
}

/* Row `row` of the operand, a multiple of 4 and less than 4 more, from group g on. */
static int_rows
int_rows_at(const g2_product *p, uint32_t row, uint32_t g, uint32_t groups)
{
	size_t		at = (size_t) (row / G2_OPERAND_ROWS) * groups + g,
				r = row % G2_OPERAND_ROWS;

	return (int_rows) {
		(const int8_t *) p->x.x + at * 4 * G2_GROUP + 4 * r,
		p->x.scale + at * G2_OPERAND_ROWS + r,
		p->x.start + at * G2_OPERAND_ROWS + r,
	};
}

/* One strip for `rows` rows, by tiles; what stands behind it comes to the caches meanwhile. */
INLINE void
int_sweep(const bool q4, const g2_product *p, float *c, uint32_t row, uint32_t rows, int_strip s,
		  uint32_t g, uint32_t groups)
{
	const size_t bytes = int_group_bytes(q4);
	uint32_t	n = (rows + INT_M - 1) / INT_M;
	int_ahead	a = {(const char *) s.w + (n == 1 ? INT_AHEAD : s.groups) * bytes,
		(uint32_t) (bytes / 64 + n - 1) / n};

	for (uint32_t r = 0; r < rows; a.at += (size_t) s.groups * a.lines * 64)
	{
		/* A tile of rows stands in one tile of the operand. */
		uint32_t	m = G2_MIN(G2_MIN((uint32_t) INT_M, rows - r), 4 - (row + r) % 4),
					v = int_tiles[m].vectors;

		for (uint32_t j = 0; j < PANEL_V; j += v)
		{
			int_strip	part = s;

			part.w += j * 4 * VR_LANES;
			part.scale += j * VR_LANES;
			int_tiles[m].fn[q4] (c + r * G2_PANEL + j * VR_LANES,
								 int_rows_at(p, row + r, g, groups), part,
								 j == 0 ? a : (int_ahead) {a.at, 0});
		}
		r += m;
	}
}

INLINE void
product_int(const bool q4, const g2_product *p, uint32_t panel, uint32_t panel_end, uint32_t row,
			uint32_t row_end, float *scratch)
{
	const uint32_t groups = (p->k + G2_GROUP - 1) / G2_GROUP;
	const size_t scales = groups * int_group_bytes(q4),
				bytes = scales + G2_ROUND_UP(groups * G2_PANEL * sizeof(uint16_t), (size_t) 64);

	for (; row < row_end; row += G2_PRODUCT_ROWS)
	{
		uint32_t	rows = G2_MIN(row_end - row, (uint32_t) G2_PRODUCT_ROWS);

		for (uint32_t n = panel; n < panel_end; n++)
		{
			const uint8_t *w = (const uint8_t *) p->w + n * bytes;
			int_strip	s = {w, (const uint16_t *) (w + scales), groups, true};

			if (rows == 1 && n + 1 < panel_end)
			{
				(q4 ? q4_pair : q8_pair) (scratch, int_rows_at(p, row, 0, groups), s, bytes);
				finish(p, scratch, n++, row, 1);
				finish(p, scratch + G2_PANEL, n, row, 1);
				continue;
			}
			for (uint32_t g = 0; g < groups; g += s.groups)
			{
				s.groups = rows <= INT_M ? groups : G2_MIN((uint32_t) INT_STRIP(rows), groups - g);
				s.first = g == 0;
				int_sweep(q4, p, scratch, row, rows, s, g, groups);
				s.w += s.groups * int_group_bytes(q4);
				s.scale += s.groups * G2_PANEL;
			}
			finish(p, scratch, n, row, rows);
		}
	}
}

static void
product_q8(const g2_product *p, uint32_t panel, uint32_t panel_end, uint32_t row,
		   uint32_t row_end, float *scratch)
{
	product_int(false, p, panel, panel_end, row, row_end, scratch);
}

static void
product_q4(const g2_product *p, uint32_t panel, uint32_t panel_end, uint32_t row,
		   uint32_t row_end, float *scratch)
{
	product_int(true, p, panel, panel_end, row, row_end, scratch);
}
