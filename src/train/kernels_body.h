/*
 * kernels_body.h: the kernels of kernels.h, compiled once for each instruction set with K_TABLE
 * (the table's name) and K_NAME (its name in words) defined.
 *
 * Loops over `lane` are what the compiler turns into vectors: their bodies have no order among
 * lanes, and what is behind the last whole 16 goes to the first lanes.
 */
#include <math.h>
#include <string.h>

#include "kernels.h"
#include "philox.h"
#include "vecmath.h"

#define LANES 16
#define BLOCK 1024				/* elements whose sum is taken in float; blocks' sums in double */

/* One fixed tree. */
static inline float
add_lanes(const float s[LANES])
{
	float		a[8],
				b[4];

	for (int i = 0; i < 8; i++)
		a[i] = s[i] + s[i + 8];
	for (int i = 0; i < 4; i++)
		b[i] = a[i] + a[i + 4];
	return (b[0] + b[2]) + (b[1] + b[3]);
}

static inline float
sum(size_t n, const float *x)
{
	float		s[LANES] = {0};
	size_t		i = 0;

	for (; i + LANES <= n; i += LANES)
		for (int lane = 0; lane < LANES; lane++)
			s[lane] += x[i + lane];
	for (int lane = 0; i < n; i++, lane++)
		s[lane] += x[i];
	return add_lanes(s);
}

static inline float
dot(size_t n, const float *x, const float *y)
{
	float		s[LANES] = {0};
	size_t		i = 0;

	for (; i + LANES <= n; i += LANES)
		for (int lane = 0; lane < LANES; lane++)
			s[lane] = fmaf(x[i + lane], y[i + lane], s[lane]);
	for (int lane = 0; i < n; i++, lane++)
		s[lane] = fmaf(x[i], y[i], s[lane]);
	return add_lanes(s);
}

/* NaN counts as the largest, so that it is seen. */
static inline float
largest(size_t n, const float *x)
{
	float		m[LANES];
	size_t		i = 0;

	for (int lane = 0; lane < LANES; lane++)
		m[lane] = -INFINITY;
	for (; i + LANES <= n; i += LANES)
		for (int lane = 0; lane < LANES; lane++)
			m[lane] = x[i + lane] <= m[lane] ? m[lane] : x[i + lane];
	for (; i < n; i++)
		m[0] = x[i] <= m[0] ? m[0] : x[i];
	for (int lane = 1; lane < LANES; lane++)
		m[0] = m[lane] <= m[0] ? m[0] : m[lane];
	return m[0];
}

/* ---- activation ---- */

/* gelu_new(x) = x s, s = 1 / (1 + e^-2u), u = sqrt(2/pi) (x + 0.044715 x^3). */
static inline float
gelu_sigmoid(float x)
{
	float		w = fmaf(x * x, -0.0713548162726f, -1.59576912161f);

	return 1.0f / (1.0f + g2s_exp(x * w));
}

static void
gelu(size_t n, const float *x, float *y)
{
	for (size_t i = 0; i < n; i++)
		y[i] = x[i] * gelu_sigmoid(x[i]);
}

/* s + x s (1 - s) 2u' */
static void
gelu_backward(size_t n, const float *x, const float *dy, float *dx)
{
	for (size_t i = 0; i < n; i++)
	{
		float		s = gelu_sigmoid(x[i]),
					u = fmaf(x[i] * x[i], 0.2140644488178f, 1.59576912161f);

		dx[i] = dy[i] * fmaf(x[i] * u, s * (1.0f - s), s);
	}
}

/* ---- layer norm ---- */

static void
norm(size_t rows, size_t c, const float *x, const float *gain, const float *bias, float epsilon,
	 float *y, float *mean, float *rstd)
{
	for (size_t r = 0; r < rows; r++, x += c, y += c)
	{
		float		m = sum(c, x) / (float) c,
					scale;

		for (size_t i = 0; i < c; i++)
			y[i] = x[i] - m;
		scale = 1.0f / sqrtf(dot(c, y, y) / (float) c + epsilon);
		for (size_t i = 0; i < c; i++)
			y[i] = fmaf(y[i] * scale, gain[i], bias[i]);
		mean[r] = m;
		rstd[r] = scale;
	}
}

/* With n = (x - mean) rstd and d = dy gain: dx = rstd (d - mean(d) - n mean(d n)). */
static void
norm_backward(size_t rows, size_t c, const float *x, const float *gain, const float *mean,
			  const float *rstd, const float *dy, float *dx)
{
	for (size_t r = 0; r < rows; r++, x += c, dy += c, dx += c)
	{
		float		s[LANES] = {0},
					t[LANES] = {0},
					m = mean[r],
					scale = rstd[r],
					mean_d,
					mean_dn;
		size_t		i = 0;

		for (; i + LANES <= c; i += LANES)
			for (int lane = 0; lane < LANES; lane++)
			{
				float		d = dy[i + lane] * gain[i + lane];

				s[lane] += d;
				t[lane] = fmaf(d, (x[i + lane] - m) * scale, t[lane]);
			}
		for (int lane = 0; i < c; i++, lane++)
		{
			float		d = dy[i] * gain[i];

			s[lane] += d;
			t[lane] = fmaf(d, (x[i] - m) * scale, t[lane]);
		}
		mean_d = add_lanes(s) / (float) c;
		mean_dn = add_lanes(t) / (float) c;
		for (i = 0; i < c; i++)
		{
			float		n = (x[i] - m) * scale;

			dx[i] += (fmaf(dy[i], gain[i], -mean_d) - n * mean_dn) * scale;
		}
	}
}

static void
norm_backward_gain(size_t rows, size_t c, size_t c0, size_t c1, const float *x, const float *mean,
				   const float *rstd, const float *dy, float *dgain, float *dbias)
{
	for (size_t r = 0; r < rows; r++, x += c, dy += c)
		for (size_t i = c0; i < c1; i++)
		{
			dgain[i] = fmaf(dy[i], (x[i] - mean[r]) * rstd[r], dgain[i]);
			dbias[i] += dy[i];
		}
}

static void
column_sums(size_t rows, size_t ld, size_t c0, size_t c1, const float *x, float *out)
{
	for (size_t r = 0; r < rows; r++, x += ld)
		for (size_t i = c0; i < c1; i++)
			out[i] += x[i];
}

/* ---- softmax ---- */

static void
softmax(size_t n, size_t valid, float scale, float *x)
{
	float		m = largest(valid, x),
				inverse;

	for (size_t i = 0; i < valid; i++)
		x[i] = g2s_exp((x[i] - m) * scale);
	inverse = 1.0f / sum(valid, x);
	for (size_t i = 0; i < valid; i++)
		x[i] *= inverse;
	for (size_t i = valid; i < n; i++)
		x[i] = 0.0f;
}

static void
softmax_backward(size_t n, float scale, const float *p, float *dp)
{
	float		s = dot(n, p, dp);

	for (size_t i = 0; i < n; i++)
		dp[i] = (dp[i] - s) * p[i] * scale;
}

static double
cross_entropy(size_t n, uint32_t target, float gradient_scale, float *x)
{
	float		m = largest(n, x),
				at_target = x[target];
	double		total = 0.0;

	for (size_t i = 0; i < n; i += BLOCK)
	{
		size_t		k = n - i < BLOCK ? n - i : BLOCK;

		for (size_t j = 0; j < k; j++)
			x[i + j] = g2s_exp(x[i + j] - m);
		total += (double) sum(k, x + i);
	}
	if (gradient_scale > 0.0f)
	{
		float		scale = (float) ((double) gradient_scale / total);

		for (size_t i = 0; i < n; i++)
			x[i] *= scale;
		x[target] -= gradient_scale;
	}
	return g2_log(total) + ((double) m - (double) at_target);
}

/* ---- dropout ---- */

/* g2_philox4x32 of counters four .. four + 15: word w of counter `lane` is to[w][lane]. */
static inline void
philox_lanes(const g2t_dropout *d, uint64_t four, uint32_t to[4][LANES])
{
	uint32_t	k0 = (uint32_t) d->key,
				k1 = (uint32_t) (d->key >> 32);

	for (int lane = 0; lane < LANES; lane++)
	{
		to[0][lane] = (uint32_t) (four + (uint64_t) lane);
		to[1][lane] = (uint32_t) ((four + (uint64_t) lane) >> 32);
		to[2][lane] = d->site;
		to[3][lane] = d->step;
	}
	for (int round = 0; round < G2_PHILOX_ROUNDS; round++)
	{
		for (int lane = 0; lane < LANES; lane++)
		{
			uint64_t	p0 = (uint64_t) G2_PHILOX_M0 * to[0][lane],
						p1 = (uint64_t) G2_PHILOX_M1 * to[2][lane];

			to[0][lane] = (uint32_t) (p1 >> 32) ^ to[1][lane] ^ k0;
			to[1][lane] = (uint32_t) p1;
			to[2][lane] = (uint32_t) (p0 >> 32) ^ to[3][lane] ^ k1;
			to[3][lane] = (uint32_t) p0;
		}
		k0 += G2_PHILOX_K0;
		k1 += G2_PHILOX_K1;
	}
}

/* Some elements of one counter. */
static void
dropout_four(uint64_t first, size_t n, const g2t_dropout *d, uint32_t limit, float keep, float *x)
{
	uint64_t	four = first / 4;
	g2_philox	r = g2_philox4x32(d->key, (uint32_t) four, (uint32_t) (four >> 32), d->site, d->step);

	for (size_t i = 0; i < n; i++)
		x[i] *= r.word[first % 4 + i] < limit ? 0.0f : keep;
}

/* All elements of 16 counters. */
static inline void
dropout_lanes(uint64_t four, const g2t_dropout *d, uint32_t limit, float keep, float *x)
{
	uint32_t	word[4][LANES],
				of[4 * LANES];

	philox_lanes(d, four, word);
	for (int lane = 0; lane < LANES; lane++)
		for (int w = 0; w < 4; w++)
			of[4 * lane + w] = word[w][lane];
	for (int i = 0; i < 4 * LANES; i++)
		x[i] *= of[i] < limit ? 0.0f : keep;
}

/* A word below the limit drops its element. */
static void
dropout(size_t n, uint64_t first, const g2t_dropout *d, float *x)
{
	const uint32_t limit = (uint32_t) ((double) d->rate * 4294967296.0);
	const float keep = 1.0f / (1.0f - d->rate);

	for (size_t i = 0; i < n;)
	{
		size_t		here = 4 - (size_t) ((first + i) % 4);

		if (here == 4 && n - i >= 4 * LANES)
		{
			here = 4 * LANES;
			dropout_lanes((first + i) / 4, d, limit, keep, x + i);
		}
		else
		{
			here = here < n - i ? here : n - i;
			dropout_four(first + i, here, d, limit, keep, x + i);
		}
		i += here;
	}
}

/* ---- transpose ---- */

#define SIDE 8					/* of the squares that are transposed in registers */

typedef float square_row __attribute__((vector_size(SIDE * sizeof(float))));
typedef float loose_row __attribute__((vector_size(SIDE * sizeof(float)), aligned(4), may_alias));

#ifdef __clang__
#define SHUFFLE __builtin_shufflevector
#else
typedef int square_mask __attribute__((vector_size(SIDE * sizeof(int))));
#define SHUFFLE(x, y, ...) __builtin_shuffle(x, y, (square_mask) {__VA_ARGS__})
#endif

/* Pairs of elements of two rows, pairs of pairs, halves. */
static inline void
transpose_square(const float *x, size_t ldx, float *y, size_t ldy)
{
	square_row	r[SIDE],
				t[SIDE];

	for (int i = 0; i < SIDE; i++)
		r[i] = *(const loose_row *) (x + i * ldx);
	for (int i = 0; i < SIDE; i += 2)
	{
		t[i] = SHUFFLE(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
		t[i + 1] = SHUFFLE(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
	}
	for (int i = 0; i < SIDE; i += 4)
		for (int j = i; j < i + 2; j++)
		{
			r[2 * j - i] = SHUFFLE(t[j], t[j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
			r[2 * j - i + 1] = SHUFFLE(t[j], t[j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
		}
	for (int i = 0; i < SIDE / 2; i++)
	{
		*(loose_row *) (y + i * ldy) = SHUFFLE(r[i], r[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
		*(loose_row *) (y + (i + 4) * ldy) = SHUFFLE(r[i], r[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
	}
}

static void
transpose(size_t rows, size_t cols, const float *x, size_t ldx, float *y, size_t ldy)
{
	for (size_t c = 0; c < cols; c += SIDE)
		for (size_t r = 0; r < rows; r += SIDE)
		{
			if (rows - r >= SIDE && cols - c >= SIDE)
			{
				if (c % 16 == 0)
					for (int i = 0; i < SIDE; i++)
						__builtin_prefetch(x + (r + i) * ldx + c + 64);
				transpose_square(x + r * ldx + c, ldx, y + c * ldy + r, ldy);
				continue;
			}
			for (size_t i = c; i < cols && i < c + SIDE; i++)
				for (size_t j = r; j < rows && j < r + SIDE; j++)
					y[i * ldy + j] = x[j * ldx + i];
		}
}

/* ---- sums and optimizers ---- */

static void
add(size_t n, const float *x, float *y)
{
	for (size_t i = 0; i < n; i++)
		y[i] += x[i];
}

static double
sum_squares(size_t n, const float *x)
{
	double		total = 0.0;

	for (size_t i = 0; i < n; i += BLOCK)
		total += (double) dot(n - i < BLOCK ? n - i : BLOCK, x + i, x + i);
	return total;
}

static inline void
adam_element(const g2t_update *u, float g, float *w, float *m, float *v)
{
	*m = fmaf(u->beta1, *m - g, g);
	*v = fmaf(u->beta2, *v - g * g, g * g);
	*w -= u->rate / u->correction1 * *m / (sqrtf(*v) / u->correction2_root + u->epsilon);
}

/* Loshchilov, Hutter 2019: the weights decay beside the gradient. */
static void
adamw(size_t n, const g2t_update *u, const float *g, float *w, float *m, float *v)
{
	const float shrink = 1.0f - u->rate * u->decay;

	for (size_t i = 0; i < n; i++)
	{
		w[i] *= shrink;
		adam_element(u, g[i] * u->gradient_scale, &w[i], &m[i], &v[i]);
	}
}

/* Kingma, Ba 2015: the decay is part of the gradient. */
static void
adam(size_t n, const g2t_update *u, const float *g, float *w, float *m, float *v)
{
	for (size_t i = 0; i < n; i++)
		adam_element(u, fmaf(u->decay, w[i], g[i] * u->gradient_scale), &w[i], &m[i], &v[i]);
}

static void
sgd(size_t n, const g2t_update *u, const float *g, float *w, float *m, float *v)
{
	(void) v;
	for (size_t i = 0; i < n; i++)
	{
		m[i] = fmaf(u->beta1, m[i], fmaf(u->decay, w[i], g[i] * u->gradient_scale));
		w[i] = fmaf(-u->rate, m[i], w[i]);
	}
}

const g2t_kernels K_TABLE = {
	.name = K_NAME,
	.gelu = gelu,
	.gelu_backward = gelu_backward,
	.norm = norm,
	.norm_backward = norm_backward,
	.norm_backward_gain = norm_backward_gain,
	.column_sums = column_sums,
	.softmax = softmax,
	.softmax_backward = softmax_backward,
	.cross_entropy = cross_entropy,
	.dropout = dropout,
	.transpose = transpose,
	.add = add,
	.sum_squares = sum_squares,
	.adamw = adamw,
	.adam = adam,
	.sgd = sgd,
};
