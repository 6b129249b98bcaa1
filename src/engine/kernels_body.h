/*
 * kernels_body.h: the kernels, written once; included by kernels_<set>.c after its primitives.
 *
 * An including file defines
 *   v16 and v16_<op>: 16 lanes; zero set1 load store add sub mul div fma min max abs copysign
 *		lt_select exponent_add log_split (semantics: vecmath_body.h)
 *   vr and vr_<op>: its native vector; zero set1 load store fma; VR_LANES, PANEL_V = 48 / VR_LANES
 *   vi and vi_<op>, v16_store_bf16 (to nearest even), v16_store_bytes (values -127 .. 127 to nearest
 *		even), v16_max_bits (as integers), v16_load_bf16: product_int_body.h, product_bf16_body.h
 *   v16_sum, v16_largest, v16_largest_bits (as integers), or none of them: reductions by TREE
 *   TILE_M, rows of the largest f32 tile; TILES, TILE(rows, vectors) for 1 .. TILE_M rows;
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

#if !defined(v16_sum)
INLINE float
v16_sum(v16 v)
{
	float		f[G2_LANES];

	v16_store(f, v);
	TREE(f, g2s_add);
	return f[0];
}

#define LARGER(a, b) ((a) > (b) ? (a) : (b))

INLINE uint32_t
v16_largest_bits(v16 v)
{
	uint32_t	u[G2_LANES];
	float		f[G2_LANES];

	v16_store(f, v);
	memcpy(u, f, sizeof u);
	TREE(u, LARGER);
	return u[0];
}

INLINE float
v16_largest(v16 v)
{
	float		f[G2_LANES];

	v16_store(f, v);
	TREE(f, g2s_max);
	return f[0];
}
#endif

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

#include "product_f32_body.h"
#include "product_bf16_body.h"
#include "product_int_body.h"
#include "operand_body.h"

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

/* ---- dot products ---- */

#define DOTS 4					/* rows whose sums go on at a time */

INLINE void
dots_of(const int m, const float *x, uint32_t k, const float *a, float *y)
{
	uint32_t	whole = k / G2_LANES * G2_LANES,
				rest = k - whole;
	v16			sum[DOTS];

	UNROLL
	for (int j = 0; j < m; j++)
		sum[j] = v16_zero();
	for (uint32_t i = 0; i < whole; i += G2_LANES)
	{
		v16			e = v16_load(x + i);

		UNROLL
		for (int j = 0; j < m; j++)
			sum[j] = v16_fma(e, v16_load(a + (size_t) j * k + i), sum[j]);
	}
	UNROLL
	for (int j = 0; j < m; j++)
	{
		if (rest > 0)
			sum[j] = v16_fma(v16_load_n(x + whole, rest, 0.0f),
							 v16_load_n(a + (size_t) j * k + whole, rest, 0.0f), sum[j]);
		y[j] = v16_sum(sum[j]);
	}
}

static void
dots(const float *x, uint32_t k, const float *a, uint32_t n, float *y)
{
	uint32_t	j = 0;

	for (; j + DOTS <= n; j += DOTS)
		dots_of(DOTS, x, k, a + (size_t) j * k, y + j);
	for (; j < n; j++)
		dots_of(1, x, k, a + (size_t) j * k, y + j);
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

/* Keys of a block that its query i sees, where the first one sees `seen`. */
INLINE uint32_t
keys_seen(uint32_t seen, int i)
{
	return G2_MIN(seen + (uint32_t) i, (uint32_t) G2_BLOCK);
}

/*
 * Scores of one block, p[nq][32], to weights relative to the new maximum of each query; masked keys
 * weigh exactly 0.  shrink[i]: the factor by which what was summed before shrinks.
 */
INLINE void
soften(const int nq, float *p, uint32_t seen, const attend_row *row, float *shrink)
{
	for (int i = 0; i < G2_LANES; i++)
		shrink[i] = 0.0f;
	UNROLL
	for (int i = 0; i < nq; i++)
	{
		float	   *s = p + i * G2_BLOCK,
					max;

		for (uint32_t key = keys_seen(seen, i); key < G2_BLOCK; key++)
			s[key] = -__builtin_inff();
		max = g2s_max(*row[i].max, v16_largest(v16_max(v16_load(s), v16_load(s + G2_LANES))));
		shrink[i] = *row[i].max - max;
		*row[i].max = max;
	}
	v16_store(shrink, v16_exp(v16_load(shrink)));
	UNROLL
	for (int i = 0; i < nq; i++)
	{
		float	   *s = p + i * G2_BLOCK;
		v16			max = v16_set1(*row[i].max),
					s0 = v16_exp(v16_sub(v16_load(s), max)),
					s1 = v16_exp(v16_sub(v16_load(s + G2_LANES), max));

		v16_store(s, s0);
		v16_store(s + G2_LANES, s1);
		*row[i].sum = fmaf(*row[i].sum, shrink[i], v16_sum(v16_add(s0, s1)));
	}
}

#define KV_TYPE float
#define KV_LOAD v16_load
#define KV(name) name##_f32
#include "attend_body.h"
#undef KV_TYPE
#undef KV_LOAD
#undef KV

#define KV_TYPE uint16_t
#define KV_LOAD v16_load_bf16
#define KV(name) name##_bf16
#include "attend_body.h"
#undef KV_TYPE
#undef KV_LOAD
#undef KV

#include "logits_body.h"

const g2_kernels SET(g2_kernels) = {
	.name = SET_NAME,
	.bf16_family = BF16_FAMILY,
	.product = {
		[G2_FORMAT_F32] = product_f32, [G2_FORMAT_BF16] = product_bf16,
		[G2_FORMAT_Q8] = product_q8, [G2_FORMAT_Q4] = product_q4,
	},
	.convert = {
		[G2_FORMAT_BF16] = convert_bf16, [G2_FORMAT_Q8] = convert_q8,
		[G2_FORMAT_Q4] = convert_q4,
	},
	.layer_norm = layer_norm,
	.dots = dots,
	.attend = {[G2_KV_F32] = attend_f32, [G2_KV_BF16] = attend_bf16},
	.max = largest,
	.sum_exp = sum_exp,
	.weights = weights,
	.map = map,
};
