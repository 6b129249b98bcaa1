/*
 * product_f32_body.h: products with f32 weights; included by kernels_body.h.
 */
/* What a tile asks the memory for while it computes: at each k one line of each of its streams,
 * which start at `at`, at + gap ...; they move on by `step` floats.  Spread
 * evenly, because bursts of requests wait for each other. */
typedef struct ahead
{
	const float *at;
	size_t		gap;
	size_t		step;
} ahead;

#define STREAMS(v) (((v) * VR_LANES + 15) / 16)

/*
 * c[m][48 columns: v vectors of them] (+)= x[m][k] w[k][48].  m and v are constants of the
 * caller, so the accumulators are registers.  `first`: they start from 0, else from c.
 */
INLINE void
tile(const int m, const int v, float *c, const float *x, size_t ldx, const float *w, uint32_t k,
	 bool first, const ahead *a)
{
	vr			acc[TILE_M][PANEL_V];
	const float *row[TILE_M],
			   *next = a->at;
	size_t		gap = a->gap,
				step = a->step;

	UNROLL
	for (int i = 0; i < m; i++)
	{
		row[i] = x + (size_t) i * ldx;
		UNROLL
		for (int j = 0; j < v; j++)
			acc[i][j] = first ? vr_zero() : vr_load(c + i * G2_PANEL + j * VR_LANES);
	}
	for (uint32_t n = 0; n < k; n++, w += G2_PANEL, next += step)
	{
		vr			b[G2_MAX(TILE_M, PANEL_V)];

		UNROLL
		for (int i = 0; i < STREAMS(v); i++)
			__builtin_prefetch(next + (size_t) i * gap, 0, 2);
		/* Whichever is shorter, the column of x or the row of w, is held in registers. */
		if (m < v)
		{
			UNROLL
			for (int i = 0; i < m; i++)
				b[i] = vr_set1(row[i][n]);
			UNROLL
			for (int j = 0; j < v; j++)
			{
				vr			e = vr_load(w + j * VR_LANES);

				UNROLL
				for (int i = 0; i < m; i++)
					acc[i][j] = vr_fma(b[i], e, acc[i][j]);
			}
		}
		else
		{
			UNROLL
			for (int j = 0; j < v; j++)
				b[j] = vr_load(w + j * VR_LANES);
			UNROLL
			for (int i = 0; i < m; i++)
			{
				vr			e = vr_set1(row[i][n]);

				UNROLL
				for (int j = 0; j < v; j++)
					acc[i][j] = vr_fma(e, b[j], acc[i][j]);
			}
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

typedef void (*tile_fn) (float *c, const float *x, size_t ldx, const float *w, uint32_t k,
						 bool first, const ahead *a);

#define TILE(m, v) \
	static __attribute__((noinline)) void \
	tile_##m(float *c, const float *x, size_t ldx, const float *w, uint32_t k, bool first, \
			 const ahead *a) \
	{ \
		tile(m, v, c, x, ldx, w, k, first, a); \
	}
TILES
#undef TILE

#define TILE(m, v) [m] = {tile_##m, v},
static const struct
{
	tile_fn		fn;
	uint32_t	vectors;
}			tiles[TILE_M + 1] = {TILES};
#undef TILE

/*
 * k rows of one panel for `rows` rows of x, a multiple of m, by tiles of m rows, strip by strip, so
 * that a strip is read from L1.  Meanwhile, if wanted, what follows the k rows comes to L2; a
 * single tile, whose loads already come from memory, does better without.
 */
static void
strips(uint32_t m, float *c, const float *x, size_t ldx, uint32_t rows, const float *w,
	   uint32_t k, bool first, bool fetch)
{
	uint32_t	v = tiles[m].vectors,
				n = rows / m,
				parts = STREAMS(v) * n;
	size_t		step = (v * VR_LANES + parts - 1) / parts;
	ahead		a = {w + (size_t) k * G2_PANEL, k * step, step};

	if (!fetch || n == 1)
		a = (ahead) {w, 0, 0};
	for (uint32_t j = 0; j < PANEL_V; j += v)
		for (uint32_t r = 0; r < rows; r += m)
		{
			tiles[m].fn(c + r * G2_PANEL + j * VR_LANES, x + r * ldx, ldx, w + j * VR_LANES, k,
						first, &a);
			a.at += k * a.step * STREAMS(v);
		}
}

static void
sweep(float *c, const float *x, size_t ldx, uint32_t rows, const float *w, uint32_t k, bool first)
{
	uint32_t	m = TILE_ROWS(rows),
				whole = rows / m * m,
				rest = rows - whole;

	strips(m, c, x, ldx, whole, w, k, first, true);
	if (rest > 0)
		strips(rest, c + whole * G2_PANEL, x + whole * ldx, ldx, rest, w, k, first, false);
}

/*
 * One row of x and two panels, w and w + stride: c[2][48] (+)= x[k] w[k][48].  Two streams keep
 * more requests to memory in flight than one, and the processor's own prefetchers do it best.
 */
static __attribute__((noinline)) void
row_pair(float *c, const float *x, const float *w, size_t stride, uint32_t k, bool first)
{
	vr			acc[2 * PANEL_V];

	UNROLL
	for (int j = 0; j < 2 * PANEL_V; j++)
		acc[j] = first ? vr_zero() : vr_load(c + j * VR_LANES);
	for (uint32_t n = 0; n < k; n++, w += G2_PANEL)
	{
		vr			e = vr_set1(x[n]);

		UNROLL
		for (int j = 0; j < PANEL_V; j++)
		{
			acc[j] = vr_fma(e, vr_load(w + j * VR_LANES), acc[j]);
			acc[PANEL_V + j] = vr_fma(e, vr_load(w + stride + j * VR_LANES), acc[PANEL_V + j]);
		}
	}
	UNROLL
	for (int j = 0; j < 2 * PANEL_V; j++)
		vr_store(c + j * VR_LANES, acc[j]);
}

/* Panels n and n + 1 for a few rows, each strip of both read from memory by the first row. */
static void
sweep_pair(const g2_product *p, float *c, uint32_t n, uint32_t row, uint32_t rows)
{
	size_t		stride = (size_t) p->k * G2_PANEL;
	uint32_t	step = rows == 1 ? p->k : TILE_K / 2;

	for (uint32_t k = 0; k < p->k; k += step)
		for (uint32_t r = 0; r < rows; r++)
			row_pair(c + r * 2 * G2_PANEL, (const float *) p->x.x + (row + r) * p->x.ld + k,
					 (const float *) p->w + n * stride + (size_t) k * G2_PANEL, stride,
					 G2_MIN(step, p->k - k), k == 0);
	for (uint32_t r = 0; r < rows; r++)
		for (uint32_t i = 0; i < 2; i++)
			finish(p, c + (2 * r + i) * G2_PANEL, n + i, row + r, 1);
}

/* Rows of the panel per strip: all where one tile takes everything; half as many where few tiles
 * share a strip, so that it is still in L1 for the rest. */
static uint32_t
strip_rows(uint32_t rows, uint32_t k)
{
	if (rows <= TILE_M && TILE_ROWS(rows) == rows && tiles[rows].vectors == PANEL_V)
		return k;
	return rows >= 2 * TILE_M && rows < 4 * TILE_M ? TILE_K / 2 : TILE_K;
}

static void
product_f32(const g2_product *p, uint32_t panel, uint32_t panel_end, uint32_t row, uint32_t row_end,
		float *scratch)
{
	for (; row < row_end; row += G2_PRODUCT_ROWS)
	{
		uint32_t	rows = G2_MIN(row_end - row, (uint32_t) G2_PRODUCT_ROWS),
					step = strip_rows(rows, p->k);

		for (uint32_t n = panel; n < panel_end; n++)
		{
			const float *w = (const float *) p->w + (size_t) n * p->k * G2_PANEL;

			if (rows <= G2_PAIR_ROWS && n + 1 < panel_end)
			{
				sweep_pair(p, scratch, n++, row, rows);
				continue;
			}
			for (uint32_t k = 0; k < p->k; k += step)
				sweep(scratch, (const float *) p->x.x + row * p->x.ld + k, p->x.ld, rows,
					  w + (size_t) k * G2_PANEL, G2_MIN(step, p->k - k), k == 0);
			finish(p, scratch, n, row, rows);
		}
	}
}
