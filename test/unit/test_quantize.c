/*
 * test_quantize.c: bf16, q8 and q4 of one panel, against a few lines of plain arithmetic in double;
 * the bytes are those of every machine.
 */
#include "kernels_fixture.h"

#include "bf16.h"
#include "pack.h"
#include "quantize.h"
#include "util.h"

#define K 96

typedef struct panel
{
	float		w[K][G2_PANEL];
	float		importance[K];
	_Alignas(64) uint8_t data[K * G2_PANEL * 2 + 64];
} panel;

static void
quantize(panel *p, g2_format format, bool weighted)
{
	memset(p->data, 0xa5, sizeof p->data);
	g2_quantize(format, p->w[0], K, weighted ? p->importance : NULL, p->data,
				(uint16_t *) (p->data + g2_panel_scales(format, K)));
}

static float
scale_of(const panel *p, g2_format format, uint32_t group, uint32_t column)
{
	const uint16_t *scales = (const uint16_t *) (p->data + g2_panel_scales(format, K));

	return g2_from_bf16(scales[group * G2_PANEL + column]);
}

static void
column_of(const panel *p, g2_format format, uint32_t column, float *x)
{
	const g2_matrix m = {p->data, format, K, G2_PANEL, G2_PANEL};

	g2_matrix_column(&m, column, x);
}

/* Columns of all kinds: ordinary, zero, one large weight, tiny, huge, small whole numbers. */
static void
random_panel(panel *p)
{
	for (uint32_t k = 0; k < K; k++)
	{
		p->importance[k] = k % 7 == 0 ? 900 : 0.1f + fabsf(random_float());
		for (uint32_t c = 0; c < G2_PANEL; c++)
		{
			float		x = random_float();

			switch (c % 8)
			{
				case 1:
					x = 0;
					break;
				case 2:
					x = k % G2_GROUP == 5 ? 40 * x : x;
					break;
				case 3:
					x *= 0x1p-127f;
					break;
				case 4:
					x *= 0x1p126f;
					break;
				case 5:
					x = (float) ((int32_t) random_below(255) - 127);
					break;
				default:
					break;
			}
			p->w[k][c] = x;
		}
	}
}

static double
largest_of(const panel *p, uint32_t group, uint32_t column)
{
	double		largest = 0;

	for (uint32_t k = group * G2_GROUP; k < (group + 1) * G2_GROUP; k++)
		largest = fmax(largest, fabs((double) p->w[k][column]));
	return largest;
}

/* ---- bf16, q8 ---- */

static void
test_bf16(void **state)
{
	panel	   *p = calloc(1, sizeof *p);
	float		x[K];

	(void) state;
	assert_non_null(p);
	random_panel(p);
	quantize(p, G2_FORMAT_BF16, false);
	for (uint32_t c = 0; c < G2_PANEL; c++)
	{
		column_of(p, G2_FORMAT_BF16, c, x);
		for (uint32_t k = 0; k < K; k++)
			assert_true(x[k] == g2_from_bf16(g2_to_bf16(p->w[k][c])));
	}
	free(p);
}

/* The least bf16 scale with which no weight is above 127; each weight the nearest there is. */
static void
check_q8(const panel *p, uint32_t group, uint32_t column, const float *x)
{
	double		largest = largest_of(p, group, column);
	float		scale = scale_of(p, G2_FORMAT_Q8, group, column);

	if (largest < 0x1p-112)
	{
		assert_true(scale == 0);
		for (uint32_t k = group * G2_GROUP; k < (group + 1) * G2_GROUP; k++)
			assert_true(x[k] == 0);
		return;
	}
	assert_true(scale > 0 && isfinite(scale));
	assert_true(127.0 * (double) scale >= largest * (1 - 1e-6));
	assert_true(127.0 * (double) g2_from_bf16((uint16_t) (g2_to_bf16(scale) - 1)) < largest);
	for (uint32_t k = group * G2_GROUP; k < (group + 1) * G2_GROUP; k++)
		assert_true(fabs((double) x[k] - p->w[k][column]) <= 0.5001 * (double) scale);
}

static void
test_q8(void **state)
{
	panel	   *p = calloc(1, sizeof *p);
	float		x[K];

	(void) state;
	assert_non_null(p);
	for (int round = 0; round < 20; round++)
	{
		random_panel(p);
		quantize(p, G2_FORMAT_Q8, false);
		for (size_t i = 0; i < (size_t) K * G2_PANEL; i++)
			assert_int_not_equal(p->data[i], 0);
		for (uint32_t c = 0; c < G2_PANEL; c++)
		{
			column_of(p, G2_FORMAT_Q8, c, x);
			for (uint32_t g = 0; g < K / G2_GROUP; g++)
				check_q8(p, g, c, x);
		}
	}
	/* whole numbers with 127 among them are kept as they are */
	for (uint32_t k = 0; k < K; k++)
		for (uint32_t c = 0; c < G2_PANEL; c++)
			p->w[k][c] = k % G2_GROUP == 3 ? -127 : (float) ((int32_t) random_below(255) - 127);
	quantize(p, G2_FORMAT_Q8, false);
	for (uint32_t c = 0; c < G2_PANEL; c++)
	{
		column_of(p, G2_FORMAT_Q8, c, x);
		for (uint32_t k = 0; k < K; k++)
			assert_true(x[k] == p->w[k][c]);
	}
	free(p);
}

/* ---- q4 ---- */

/* Weighted squared error with the best levels for a scale. */
static double
error_with(const panel *p, uint32_t group, uint32_t column, double scale, const float *importance)
{
	double		error = 0;

	for (uint32_t k = group * G2_GROUP; k < (group + 1) * G2_GROUP; k++)
	{
		double		level = fmin(fmax(nearbyint(p->w[k][column] / scale), -8), 7),
					off = p->w[k][column] - level * scale;

		error += (importance ? importance[k] : 1) * off * off;
	}
	return error;
}

/* The best of 2,000 scales of both signs. */
static double
least_error(const panel *p, uint32_t group, uint32_t column, const float *importance)
{
	double		largest = largest_of(p, group, column),
				least = INFINITY;

	for (int i = -1000; i <= 1000; i++)
		if (abs(i) >= 100)
			least = fmin(least, error_with(p, group, column, largest / 8 * i / 700, importance));
	return least;
}

static void
check_q4(const panel *p, uint32_t group, uint32_t column, const float *x, const float *importance,
		 double *sum, double *least)
{
	double		largest = largest_of(p, group, column),
				scale = scale_of(p, G2_FORMAT_Q4, group, column),
				error = 0;

	for (uint32_t k = group * G2_GROUP; k < (group + 1) * G2_GROUP; k++)
	{
		double		off = (double) x[k] - p->w[k][column];

		error += (importance ? importance[k] : 1) * off * off;
	}
	if (largest < 0x1p-60)
		return;					/* zero, or all that is left of tiny weights */
	/* the levels are the best ones for the scale, but for ties */
	assert_true(error <= error_with(p, group, column, scale, importance) * (1 + 1e-4));
	*sum += error / (largest * largest);
	*least += least_error(p, group, column, importance) / (largest * largest);
}

static void
test_q4(void **state)
{
	panel	   *p = calloc(1, sizeof *p);
	float		x[K];

	(void) state;
	assert_non_null(p);
	for (int weighted = 0; weighted < 2; weighted++)
	{
		double		sum = 0,
					least = 0;

		for (int round = 0; round < 3; round++)
		{
			random_panel(p);
			/* columns whose squares have no room in a float are no weights of a model */
			for (uint32_t k = 0; k < K; k++)
				for (uint32_t c = 4; c < G2_PANEL; c += 8)
					p->w[k][c] *= 0x1p-80f;
			quantize(p, G2_FORMAT_Q4, weighted);
			for (uint32_t c = 0; c < G2_PANEL; c++)
			{
				column_of(p, G2_FORMAT_Q4, c, x);
				for (uint32_t g = 0; g < K / G2_GROUP; g++)
					check_q4(p, g, c, x, weighted ? p->importance : NULL, &sum, &least);
			}
		}
		print_message("error of q4: %.4f times the least\n", sum / least);
		assert_true(sum <= 1.15 * least);
	}
	free(p);
}

/* Multiples of one step from -8 to 7, or from 8 to -7, are kept as they are; so is what matters
 * among what does not, however large that is. */
static void
test_q4_levels(void **state)
{
	panel	   *p = calloc(1, sizeof *p);
	float		x[K];

	(void) state;
	assert_non_null(p);
	for (uint32_t k = 0; k < K; k++)
		for (uint32_t c = 0; c < G2_PANEL; c++)
		{
			float		level = k % G2_GROUP == 9 ? -8 : (float) ((int32_t) random_below(16) - 8);

			p->w[k][c] = (c % 2 ? 0.25f : -0.25f) * level;
		}
	quantize(p, G2_FORMAT_Q4, false);
	for (uint32_t c = 0; c < G2_PANEL; c++)
	{
		column_of(p, G2_FORMAT_Q4, c, x);
		for (uint32_t k = 0; k < K; k++)
			assert_true(x[k] == p->w[k][c]);
	}
	for (uint32_t k = 0; k < K; k++)
	{
		p->importance[k] = k % 4 == 0;
		for (uint32_t c = 0; c < G2_PANEL; c++)
			p->w[k][c] = k % 4 == 0 ? (float) ((int32_t) random_below(15) - 7) : 20;
	}
	quantize(p, G2_FORMAT_Q4, true);
	for (uint32_t c = 0; c < G2_PANEL; c++)
	{
		column_of(p, G2_FORMAT_Q4, c, x);
		for (uint32_t k = 0; k < K; k += 4)
			assert_true(fabsf(x[k] - p->w[k][c]) <= 0.75f);
	}
	free(p);
}

/* ---- the same everywhere ---- */

static void
test_same_bytes(void **state)
{
	static const uint64_t sums[G2_FORMATS] = {
		[G2_FORMAT_BF16] = 0xd6e2ae44d38fed90,
		[G2_FORMAT_Q8] = 0x54645fa207f21786,
		[G2_FORMAT_Q4] = 0x7e2f2052ff90a830,
	};
	panel	   *p = calloc(1, sizeof *p);

	(void) state;
	assert_non_null(p);
	counter = 1u << 20;
	random_panel(p);
	for (g2_format f = G2_FORMAT_BF16; f < G2_FORMATS; f++)
	{
		uint64_t	sum;

		quantize(p, f, true);
		sum = g2_pack_sum(p->data, g2_panel_bytes(f, K) / 4, 0);
		if (sum != sums[f])
			fail_msg("format %d: sum %#llx", (int) f, (unsigned long long) sum);
	}
	free(p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bf16),
		cmocka_unit_test(test_q8),
		cmocka_unit_test(test_q4),
		cmocka_unit_test(test_q4_levels),
		cmocka_unit_test(test_same_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
