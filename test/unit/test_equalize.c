/*
 * test_equalize.c: outlier channels are evened out when a model is packed: which, by how much, and
 * that a model with outliers becomes the very pack of the model that it was made from.
 */
#include "outliers.h"
#include "pack_fixture.h"

#include <math.h>

#include "pack_equalize.h"

#define K 101

/* ---- which channels, and by how much ---- */

/* Of K ordinary channels the first one's ratio of sizes is s (not squared). */
static int
shift_at(double s)
{
	double		activation[K],
				weight[K];
	int8_t		shift[K];
	bool		any;
	g2_error	err = {0};

	for (int i = 0; i < K; i++)
	{
		activation[i] = 3;
		weight[i] = 0.02;
	}
	activation[0] *= s * s;
	EXPECT_OK(g2_equalize(activation, weight, K, shift, &any, &err), err);
	for (int i = 1; i < K; i++)
		assert_int_equal(shift[i], 0);
	assert_int_equal(any, shift[0] != 0);
	return shift[0];
}

static void
test_shifts(void **state)
{
	(void) state;
	assert_int_equal(shift_at(1), 0);
	assert_int_equal(shift_at(7.99), 0);
	assert_int_equal(shift_at(8.01), 2);
	assert_int_equal(shift_at(30), 2);
	assert_int_equal(shift_at(33), 3);
	assert_int_equal(shift_at(900), 5);
	assert_int_equal(shift_at(1 / 7.99), 0);
	assert_int_equal(shift_at(1 / 8.01), -2);
	assert_int_equal(shift_at(1 / 900.0), -5);
	assert_int_equal(shift_at(1e30), G2_MAX_SHIFT);
	assert_int_equal(shift_at(1e-30), -G2_MAX_SHIFT);
	assert_int_equal(shift_at(0), 0);
	for (double s = 1e-4; s < 1e4; s *= 1.0371)
	{
		double		half = log2(s) / 2;

		assert_int_equal(shift_at(s), fabs(half) < 1.5 ? 0 : lround(half));
	}
}

static void
test_nothing(void **state)
{
	double		activation[K] = {0},
				weight[K] = {0};
	int8_t		shift[K];
	bool		any = true;
	g2_error	err = {0};

	(void) state;
	EXPECT_OK(g2_equalize(activation, weight, K, shift, &any, &err), err);
	assert_false(any);
	for (int i = 0; i < K; i++)
	{
		assert_int_equal(shift[i], 0);
		activation[i] = i < 3 ? 1 : 0;
		weight[i] = i < 4 ? 1 : 0;
	}
	/* channels that are nothing do not count for the median */
	activation[0] = 10000;
	EXPECT_OK(g2_equalize(activation, weight, K, shift, &any, &err), err);
	assert_true(any);
	for (int i = 0; i < K; i++)
		assert_int_equal(shift[i], i == 0 ? 3 : 0);
}

/* ---- packs ---- */

static g2_pack *
open_format(const char *name, g2_format format, uint64_t *sum)
{
	g2_pack    *pack = NULL;
	g2_error	err = {0};

	EXPECT_OK(g2_pack_open(&fx.paths, name, format, NULL, NULL, &pack, &err), err);
	EXPECT_OK(g2_pack_verify(pack, &err), err);
	*sum = ((const g2_pack_header *) pack->map)->weights_sum;
	return pack;
}

static void
test_same_pack(void **state)
{
	static const char *const names[] = {"outliers", "shards"};

	(void) state;
	fixture_synth(&fx, "plain", &plain_model);
	make_outliers(&fx, "plain", "outliers");
	rewrite_model(&fx, "outliers", "shards",
				  &(rewrite) {.dtype = "F32", .prefix = "transformer.", .shards = 3});
	for (size_t i = 0; i < G2_LENGTH(names); i++)
		for (g2_format f = 0; f < G2_FORMATS; f++)
		{
			uint64_t	sum,
						plain_sum;
			g2_pack    *pack = open_format(names[i], f, &sum),
					   *plain = open_format("plain", f, &plain_sum);
			bool		quantized = f == G2_FORMAT_Q8 || f == G2_FORMAT_Q4;

			assert_int_equal(sum == plain_sum, quantized);
			assert_true(pack->weights.layers[0].norm1_gain[0] ==
						plain->weights.layers[0].norm1_gain[0] * (quantized ? 1 : 32));
			g2_pack_close(pack);
			g2_pack_close(plain);
		}
}

/* An allocation that fails at any place is reported, and leaves no temporary file. */
static void
test_memory(void **state)
{
	g2_pack    *pack = NULL;
	g2_error	err = {0};
	bool		ok = false;
	long		n = 1;

	(void) state;
	fixture_synth(&fx, "plain", &plain_model);
	make_outliers(&fx, "plain", "outliers");
	for (; !ok && n < 2000; n++)
	{
		g2_alloc_fail_at(n);
		ok = g2_pack_open(&fx.paths, "outliers", G2_FORMAT_Q4, NULL, NULL, &pack, &err);
		g2_alloc_fail_at(0);
		assert_true(ok || err.code == G2_E_MEMORY);
	}
	assert_true(ok && n > 20);
	assert_int_equal(tb_count(fx.packs), 1);
	g2_pack_close(pack);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_shifts),
		TEST(test_nothing),
		TEST(test_same_pack),
		TEST(test_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
