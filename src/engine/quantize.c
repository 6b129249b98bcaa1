/*
 * quantize.c: one group of 32 rows of a panel after the other, 48 columns side by side: inner loops
 * run over columns, so that the compiler makes vectors of them and every column's sums have one
 * order.
 */
#include "quantize.h"

#include <math.h>

#include "bf16.h"
#include "util.h"

#define MAGIC 0x1.8p23f			/* added to a small number, leaves it rounded in the low bits */

typedef float row[G2_PANEL];

/* The levels that a column's extreme is tried at, of both signs: beyond 8 it is cut off, which pays
 * where what matters is smaller. */
static const float q4_tries[] = {7.25f, 8, 9, 11, 14, 18, 24, 32};

/* To nearest even; |x| < 2^22. */
static inline float
round_even(float x)
{
	return (x + MAGIC) - MAGIC;
}

/* The low 8 bits of the nearest integer. */
static inline uint32_t
low_byte(float x)
{
	return g2_float_bits(x + MAGIC) & 255;
}

static uint16_t
bf16_up(float x)
{
	uint32_t	u = g2_float_bits(x);

	return (uint16_t) ((u + 0xffffu) >> 16);
}

/* Of each column the value of largest magnitude, with its sign. */
static void
extremes(const row *w, float *extreme)
{
	memset(extreme, 0, sizeof(row));
	for (int k = 0; k < G2_GROUP; k++)
		for (int c = 0; c < G2_PANEL; c++)
			extreme[c] = fabsf(w[k][c]) > fabsf(extreme[c]) ? w[k][c] : extreme[c];
}

/* Scales to bf16; their inverses, 0 for a scale of 0 (or so small that it has none). */
static void
invert(const uint16_t *scale, float *inverse)
{
	for (int c = 0; c < G2_PANEL; c++)
	{
		float		s = g2_from_bf16(scale[c]);

		inverse[c] = fabsf(s) >= 0x1p-120f ? 1.0f / s : 0.0f;
	}
}

/* ---- q8 ---- */

static void
quantize_q8(const row *w, uint32_t *words, uint16_t *scale)
{
	float		extreme[G2_PANEL],
				inverse[G2_PANEL];

	extremes(w, extreme);
	for (int c = 0; c < G2_PANEL; c++)
	{
		float		s = fabsf(extreme[c]) / 127.0f;

		scale[c] = s >= 0x1p-120f ? bf16_up(s) : 0;
	}
	invert(scale, inverse);
	for (int quad = 0; quad < G2_GROUP / 4; quad++, w += 4, words += G2_PANEL)
		for (int c = 0; c < G2_PANEL; c++)
			words[c] = (low_byte(w[0][c] * inverse[c] + 128.0f)) |
				low_byte(w[1][c] * inverse[c] + 128.0f) << 8 |
				low_byte(w[2][c] * inverse[c] + 128.0f) << 16 |
				low_byte(w[3][c] * inverse[c] + 128.0f) << 24;
}

/* ---- q4 ---- */

static inline float
level(float x)
{
	float		q = round_even(x);

	q = q < -8.0f ? -8.0f : q;
	return q > 7.0f ? 7.0f : q;
}

/*
 * With the levels that come of these inverse scales, the best scale is lx / ll, and its error is
 * less than with no weights at all by lx^2 / ll.  Keeps the best of each column.
 */
static void
try_scale(const row *w, const float *importance, const float *inverse, float *best, float *scale)
{
	row			lx = {0},
				ll = {0};

	for (int k = 0; k < G2_GROUP; k++)
		for (int c = 0; c < G2_PANEL; c++)
		{
			float		l = level(w[k][c] * inverse[c]);

			lx[c] += importance[k] * l * w[k][c];
			ll[c] += importance[k] * l * l;
		}
	for (int c = 0; c < G2_PANEL; c++)
	{
		float		gain = ll[c] > 0 ? lx[c] * lx[c] / ll[c] : 0.0f;

		scale[c] = gain > best[c] ? lx[c] / ll[c] : scale[c];
		best[c] = gain > best[c] ? gain : best[c];
	}
}

static void
quantize_q4(const row *w, const float *importance, uint32_t *words, uint16_t *scale)
{
	float		extreme[G2_PANEL],
				inverse[G2_PANEL],
				best[G2_PANEL] = {0},
				found[G2_PANEL] = {0};

	extremes(w, extreme);
	for (size_t i = 0; i < G2_LENGTH(q4_tries); i++)
	{
		for (int c = 0; c < G2_PANEL; c++)
			inverse[c] = fabsf(extreme[c]) >= 0x1p-100f ? -q4_tries[i] / extreme[c] : 0.0f;
		try_scale(w, importance, inverse, best, found);
		for (int c = 0; c < G2_PANEL; c++)
			inverse[c] = -inverse[c];
		try_scale(w, importance, inverse, best, found);
	}
	for (int c = 0; c < G2_PANEL; c++)
		scale[c] = g2_to_bf16(found[c]);
	invert(scale, inverse);
	for (int pair = 0; pair < G2_GROUP / 8; pair++, w += 8, words += G2_PANEL)
		for (int c = 0; c < G2_PANEL; c++)
		{
			uint32_t	word = 0;

			for (int k = 0; k < 4; k++)
				word |= (low_byte(level(w[k][c] * inverse[c]) + 8.0f) |
						 low_byte(level(w[k + 4][c] * inverse[c]) + 8.0f) << 4) << 8 * k;
			words[c] = word;
		}
}

/* ---- panels ---- */

static void
to_bf16(const row *w, uint32_t k, uint16_t *to)
{
	for (uint32_t i = 0; i < k; i += 2, to += 2 * G2_PANEL)
		for (int c = 0; c < G2_PANEL; c++)
		{
			to[2 * c] = g2_to_bf16(w[i][c]);
			to[2 * c + 1] = g2_to_bf16(w[i + 1][c]);
		}
}

void
g2_quantize(g2_format format, const float *w, uint32_t k, const float *importance, void *weights,
			uint16_t *scales)
{
	static const float alike[G2_GROUP] = {[0 ... G2_GROUP - 1] = 1.0f};
	const row  *rows = (const row *) w;
	uint32_t   *words = weights;

	if (format == G2_FORMAT_BF16)
	{
		to_bf16(rows, k, weights);
		return;
	}
	for (uint32_t i = 0; i < k; i += G2_GROUP, scales += G2_PANEL)
		if (format == G2_FORMAT_Q8)
		{
			quantize_q8(rows + i, words, scales);
			words += G2_GROUP / 4 * G2_PANEL;
		}
		else
		{
			quantize_q4(rows + i, importance ? importance + i : alike, words, scales);
			words += G2_GROUP / 8 * G2_PANEL;
		}
}
