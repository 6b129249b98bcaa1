/*
 * kernels_body.h: the kernels, written once; included by kernels_<set>.c after its primitives.
 *
 * An including file defines
 *   v16 and v16_<op>: 16 lanes; zero set1 load store add sub mul div fma min max abs copysign
 *		lt_select exponent_add log_split (semantics: vecmath_body.h)
 *   vr and vr_<op>: its native vector; zero set1 load store fma; VR_LANES, PANEL_V = 48 / VR_LANES
 *   TILE_M, rows of the largest product tile; TILES, TILE(rows, vectors) for 1 .. TILE_M rows;
 *		TILE_ROWS(n), the tile for n rows; TILE_K, the rows of a panel between two writes of the
 *		accumulators (so that a strip of the panel stays in L1)
 *   ATTEND_Q: queries that share a load of K and V
 *   INLINE: how a function is declared; NO_UNROLL: registers are not worth unrolling for
 *   SET(name): the name of a public table
 * and gets the table SET(g2_kernels).
 */
#include <float.h>

/* Loops over registers: an array stays in registers only when these are unrolled completely. */
#if defined(NO_UNROLL)
#define UNROLL
#elif defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

#define VM_T v16
#define VM_FN INLINE
#define VM(name) v16_##name
#include "vecmath_body.h"
#undef VM_T
#undef VM_FN
#undef VM

/* ---- lanes ---- */

/* The tree of every reduction over lanes: i with i + 8, then + 4, + 2, + 1. */
#define TREE(f, combine) \
	do { \
		UNROLL for (int i = 0; i < 8; i++) f[i] = combine(f[i], f[i + 8]); \
		UNROLL for (int i = 0; i < 4; i++) f[i] = combine(f[i], f[i + 4]); \
		UNROLL for (int i = 0; i < 2; i++) f[i] = combine(f[i], f[i + 2]); \
		f[0] = combine(f[0], f[1]); \
	} while (0)

INLINE float
v16_sum(v16 v)
{
	float		f[G2_LANES];

	v16_store(f, v);
	TREE(f, g2s_add);
	return f[0];
}

INLINE float
v16_largest(v16 v)
{
	float		f[G2_LANES];

	v16_store(f, v);
	TREE(f, g2s_max);
	return f[0];
}

/* The first n < 16 elements at p; the other lanes are `fill`. */
INLINE v16
v16_load_n(const float *p, uint32_t n, float fill)
{
	float		f[G2_LANES];

	for (uint32_t i = 0; i < G2_LANES; i++)
		f[i] = i < n ? p[i] : fill;
	return v16_load(f);
}

INLINE void
v16_store_n(float *p, v16 v, uint32_t n)
{
	float		f[G2_LANES];

	v16_store(f, v);
	for (uint32_t i = 0; i < n; i++)
		p[i] = f[i];
}

/* Lanes n .. 15 become `fill`. */
INLINE v16
v16_keep(v16 v, uint32_t n, float fill)
{
	float		f[G2_LANES];

	v16_store(f, v);
	return v16_load_n(f, n, fill);
}

/* ---- products ---- */

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
	vr			acc[8][6];
	const float *row[8],
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
		vr			b[6];

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

/* Bias, activation, residual; c [rows][48] to y [rows][48 of ldy]. */
INLINE void
finish_rows(const g2_product *p, const float *c, uint32_t panel, uint32_t row, uint32_t rows,
			const uint32_t activation)
{
	size_t		column = (size_t) panel * G2_PANEL;

	for (uint32_t r = 0; r < rows; r++)
		for (uint32_t j = 0; j < G2_PANEL; j += G2_LANES)
		{
			v16			v = v16_load(c + r * G2_PANEL + j);

			if (p->bias)
				v = v16_add(v, v16_load(p->bias + column + j));
			if (activation == G2_ACT_GELU_NEW)
				v = v16_gelu_new(v);
			else if (activation == G2_ACT_GELU)
				v = v16_gelu(v);
			else if (activation == G2_ACT_RELU)
				v = v16_relu(v);
			if (p->residual)
				v = v16_add(v, v16_load(p->residual + (row + r) * p->ldr + column + j));
			v16_store(p->y + (row + r) * p->ldy + column + j, v);
		}
}

static void
finish(const g2_product *p, const float *c, uint32_t panel, uint32_t row, uint32_t rows)
{
	switch (p->activation)
	{
		case G2_ACT_GELU_NEW:
			finish_rows(p, c, panel, row, rows, G2_ACT_GELU_NEW);
			break;
		case G2_ACT_GELU:
			finish_rows(p, c, panel, row, rows, G2_ACT_GELU);
			break;
		case G2_ACT_RELU:
			finish_rows(p, c, panel, row, rows, G2_ACT_RELU);
			break;
		default:
			finish_rows(p, c, panel, row, rows, G2_NO_ACTIVATION);
	}
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
product(const g2_product *p, uint32_t panel, uint32_t panel_end, uint32_t row, uint32_t row_end,
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

/* ---- layer norm ---- */

static void
layer_norm(const float *x, uint32_t n, const float *gain, const float *bias, float epsilon,
		   float *y)
{
	uint32_t	whole = n / G2_LANES * G2_LANES,
				rest = n - whole;
	v16			sum = v16_zero(),
				squares = v16_zero(),
				mean,
				scale,
				d;

	for (uint32_t i = 0; i < whole; i += G2_LANES)
		sum = v16_add(sum, v16_load(x + i));
	if (rest > 0)
		sum = v16_add(sum, v16_load_n(x + whole, rest, 0.0f));
	mean = v16_set1(v16_sum(sum) / (float) n);
	for (uint32_t i = 0; i < whole; i += G2_LANES)
	{
		d = v16_sub(v16_load(x + i), mean);
		squares = v16_fma(d, d, squares);
	}
	if (rest > 0)
	{
		d = v16_keep(v16_sub(v16_load_n(x + whole, rest, 0.0f), mean), rest, 0.0f);
		squares = v16_fma(d, d, squares);
	}
	scale = v16_set1(1.0f / sqrtf(v16_sum(squares) / (float) n + epsilon));
	for (uint32_t i = 0; i < whole; i += G2_LANES)
	{
		d = v16_mul(v16_sub(v16_load(x + i), mean), scale);
		v16_store(y + i, bias ? v16_fma(d, v16_load(gain + i), v16_load(bias + i)) :
				  v16_mul(d, v16_load(gain + i)));
	}
	if (rest > 0)
	{
		v16			g = v16_load_n(gain + whole, rest, 0.0f);

		d = v16_mul(v16_sub(v16_load_n(x + whole, rest, 0.0f), mean), scale);
		d = bias ? v16_fma(d, g, v16_load_n(bias + whole, rest, 0.0f)) : v16_mul(d, g);
		v16_store_n(y + whole, d, rest);
	}
}

/* ---- attention ---- */

/* State of a row between blocks, in scratch: maximum, sum, and dv weighted values. */
typedef struct attend_row
{
	float	   *max;
	float	   *sum;
	float	   *value;
} attend_row;

INLINE attend_row
state_of_row(float *state, uint32_t dv, uint32_t row)
{
	float	   *s = state + (size_t) row * (dv + 2);

	return (attend_row) {s + dv, s + dv + 1, s};
}

/*
 * One query's scores of one block, p[32], of which the first n_keys are visible, to weights
 * relative to the new maximum; masked keys weigh exactly 0.  Returns the factor by which what was
 * summed before shrinks.
 */
static float
soften(float *p, uint32_t n_keys, attend_row row)
{
	v16			s0,
				s1;
	float		max,
				shrink;

	for (uint32_t i = n_keys; i < G2_BLOCK; i++)
		p[i] = -__builtin_inff();
	s0 = v16_load(p);
	s1 = v16_load(p + G2_LANES);
	max = g2s_max(*row.max, v16_largest(v16_max(s0, s1)));
	shrink = g2_expf(*row.max - max);
	s0 = v16_exp(v16_sub(s0, v16_set1(max)));
	s1 = v16_exp(v16_sub(s1, v16_set1(max)));
	v16_store(p, s0);
	v16_store(p + G2_LANES, s1);
	*row.sum = fmaf(*row.sum, shrink, v16_sum(v16_add(s0, s1)));
	*row.max = max;
	return shrink;
}

/* 16 v columns of the weighted values of nq queries: value = value shrink + sum over keys. */
INLINE void
add_values(const int nq, const int v, float *const *value, const float *p, const float *shrink,
		   const float *values, uint32_t dv, uint32_t n_keys)
{
	v16			acc[ATTEND_Q][2];

	UNROLL
	for (int q = 0; q < nq; q++)
	{
		UNROLL
		for (int j = 0; j < v; j++)
			acc[q][j] = v16_mul(v16_load(value[q] + j * G2_LANES), v16_set1(shrink[q]));
	}
	for (uint32_t key = 0; key < n_keys; key++, values += dv)
	{
		UNROLL
		for (int q = 0; q < nq; q++)
		{
			v16			w = v16_set1(p[q * G2_BLOCK + (int) key]);

			UNROLL
			for (int j = 0; j < v; j++)
				acc[q][j] = v16_fma(w, v16_load(values + j * G2_LANES), acc[q][j]);
		}
	}
	UNROLL
	for (int q = 0; q < nq; q++)
	{
		UNROLL
		for (int j = 0; j < v; j++)
			v16_store(value[q] + j * G2_LANES, acc[q][j]);
	}
}

/* Queries row .. row + nq - 1 over one block, of which all see the first n_keys keys. */
INLINE void
attend_block(const int nq, const g2_attention *a, uint32_t row, const float *keys,
			 uint32_t n_keys, float *state, float *p)
{
	const float *values = keys + (size_t) a->head_dim * G2_BLOCK,
			   *q[ATTEND_Q];
	v16			s[ATTEND_Q][2];
	float	   *value[ATTEND_Q],
				shrink[ATTEND_Q];

	UNROLL
	for (int i = 0; i < nq; i++)
	{
		q[i] = a->q + (row + (uint32_t) i) * a->ldq;
		s[i][0] = s[i][1] = v16_zero();
	}
	for (uint32_t d = 0; d < a->head_dim; d++, keys += G2_BLOCK)
	{
		v16			k0 = v16_load(keys),
					k1 = v16_load(keys + G2_LANES);

		UNROLL
		for (int i = 0; i < nq; i++)
		{
			v16			x = v16_set1(q[i][d]);

			s[i][0] = v16_fma(x, k0, s[i][0]);
			s[i][1] = v16_fma(x, k1, s[i][1]);
		}
	}
	UNROLL
	for (int i = 0; i < nq; i++)
	{
		attend_row	r = state_of_row(state, a->dv, row + (uint32_t) i);
		v16			scale = v16_set1(a->scale);

		value[i] = r.value;
		v16_store(p + i * G2_BLOCK, v16_mul(s[i][0], scale));
		v16_store(p + i * G2_BLOCK + G2_LANES, v16_mul(s[i][1], scale));
		shrink[i] = soften(p + i * G2_BLOCK, n_keys, r);
	}
	for (uint32_t c = 0; c < a->dv; c += 2 * G2_LANES)
	{
		float	   *at[ATTEND_Q];

		UNROLL
		for (int i = 0; i < nq; i++)
			at[i] = value[i] + c;
		if (a->dv - c >= 2 * G2_LANES)
			add_values(nq, 2, at, p, shrink, values + c, a->dv, n_keys);
		else
			add_values(nq, 1, at, p, shrink, values + c, a->dv, n_keys);
	}
}

static void
attend(const g2_attention *a, float *scratch)
{
	float	   *p = scratch,
			   *state = scratch + 8 * G2_BLOCK;
	uint32_t	last = a->position + a->rows - 1;

	for (uint32_t r = 0; r < a->rows; r++)
	{
		attend_row	row = state_of_row(state, a->dv, r);

		memset(row.value, 0, a->dv * sizeof(float));
		*row.max = -__builtin_inff();
		*row.sum = 0.0f;
	}
	for (uint32_t b = 0; b <= last / G2_BLOCK; b++)
	{
		const float *keys = (const float *) a->cache + a->blocks[b] * a->block_stride;
		uint32_t	start = b * G2_BLOCK,
					r = start > a->position ? start - a->position : 0;

		/* Queries inside the block see a part of it. */
		for (; r < a->rows && a->position + r < start + G2_BLOCK - 1; r++)
			attend_block(1, a, r, keys, a->position + r - start + 1, state, p);
		for (; r + ATTEND_Q <= a->rows; r += ATTEND_Q)
			attend_block(ATTEND_Q, a, r, keys, G2_BLOCK, state, p);
		for (; r < a->rows; r++)
			attend_block(1, a, r, keys, G2_BLOCK, state, p);
	}
	for (uint32_t r = 0; r < a->rows; r++)
	{
		attend_row	row = state_of_row(state, a->dv, r);

		for (uint32_t d = 0; d < a->head_dim; d++)
			a->out[r * a->ldo + d] = row.value[d] / *row.sum;
	}
}

/* ---- logits ---- */

static float
largest(const float *x, uint32_t n, bool *clean)
{
	v16			max = v16_set1(-__builtin_inff()),
				bad = v16_zero(),
				low = v16_set1(-FLT_MAX);

	for (uint32_t i = 0; i < n; i += G2_LANES)
	{
		v16			v = n - i >= G2_LANES ? v16_load(x + i) :
			v16_load_n(x + i, n - i, -__builtin_inff());

		max = v16_max(v, max);	/* a NaN in v gives the second operand */
		bad = v16_fma(v16_max(low, v), v16_zero(), bad);	/* NaN from NaN and +inf only */
	}
	*clean = v16_sum(bad) == 0.0f;
	return v16_largest(max);
}

#define ADD(a, b) ((a) + (b))

static double
sum_exp(const float *x, uint32_t n, float max)
{
	double		sum = 0.0;
	v16			m = v16_set1(max);

	for (uint32_t block = 0; block < n; block += 1024)
	{
		uint32_t	end = G2_MIN(block + 1024, n);
		double		lane[G2_LANES] = {0.0};

		for (uint32_t i = block; i < end; i += G2_LANES)
		{
			v16			v = end - i >= G2_LANES ? v16_load(x + i) :
				v16_load_n(x + i, end - i, -__builtin_inff());
			float		e[G2_LANES];

			v16_store(e, v16_exp(v16_sub(v, m)));
			for (int j = 0; j < G2_LANES; j++)
				lane[j] += (double) e[j];
		}
		TREE(lane, ADD);
		sum += lane[0];
	}
	return sum;
}

static uint64_t
weights(const float *x, uint32_t n, float max, float temperature, uint64_t *w)
{
	uint64_t	sum = 0;
	v16			m = v16_set1(max),
				t = v16_set1(temperature),
				scale = v16_set1(0x1p45f);

	for (uint32_t i = 0; i < n; i += G2_LANES)
	{
		uint32_t	lanes = G2_MIN(n - i, (uint32_t) G2_LANES);
		v16			v = lanes == G2_LANES ? v16_load(x + i) :
			v16_load_n(x + i, lanes, -__builtin_inff());
		float		e[G2_LANES];

		v16_store(e, v16_mul(v16_exp(v16_div(v16_sub(v, m), t)), scale));
		for (uint32_t j = 0; j < lanes; j++)
		{
			w[i + j] = (uint64_t) (int64_t) e[j];
			sum += w[i + j];
		}
	}
	return sum;
}

#define MAP(fn) \
	for (size_t i = 0; i < n; i += G2_LANES) \
	{ \
		size_t		rest = n - i; \
		if (rest >= G2_LANES) \
			v16_store(y + i, fn(v16_load(x + i))); \
		else \
			v16_store_n(y + i, fn(v16_load_n(x + i, (uint32_t) rest, 0.0f)), (uint32_t) rest); \
	} \
	break

static void
map(g2_math fn, const float *x, float *y, size_t n)
{
	switch (fn)
	{
		case G2_MATH_EXP:
			MAP(v16_exp);
		case G2_MATH_LOG:
			MAP(v16_log);
		case G2_MATH_TANH:
			MAP(v16_tanh);
		case G2_MATH_ERF:
			MAP(v16_erf);
		case G2_MATH_GELU_NEW:
			MAP(v16_gelu_new);
		case G2_MATH_GELU:
			MAP(v16_gelu);
		case G2_MATH_RELU:
			MAP(v16_relu);
	}
}

const g2_kernels SET(g2_kernels) = {
	.name = SET_NAME,
	.bf16_family = "fma",
	.product = {[G2_FORMAT_F32] = product},
	.layer_norm = layer_norm,
	.attend = {[G2_KV_F32] = attend},
	.max = largest,
	.sum_exp = sum_exp,
	.weights = weights,
	.map = map,
};
