/*
 * test_cuda_rows.cpp: what a row gives in a product does not depend on how many rows there are, nor on
 * the kernel that the device is given for so many; over the emulated device, with G2_TEST_GPU on a real
 * one.
 */
#include "cuda_product_fixture.h"

/* Up to 1,024 rows, with every shape of tile and each number of rows where one gives way to the next:
 * what a row gives is the same. */
static void
test_many_rows(void **)
{
	static const uint32_t counts[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129,
		192, 255, 256, 257, 384, 512, 513, 768, 1000, 1023};
	const extras none = {{}, {}, G2D_NO_ACTIVATION};
	const uint32_t k = 270,		/* bf16: a chunk and a part of one */
				n = 19,
				most = getenv("GPT2_TEST_QUICK") ? 130 : 1024;

	for (g2_format format : {G2_FORMAT_F32, G2_FORMAT_BF16, G2_FORMAT_Q8})
	{
		matrix_on_device m(format, k, n);
		const std::vector<float> x = random_floats((size_t) most * k);
		std::vector<uint64_t> best;
		std::vector<uint32_t> bad;
		const std::vector<float> all = device_product(m, x, most, none, &best, &bad);

		check_best(all, most, n, best, bad);
		if (format != G2_FORMAT_BF16)
			assert_memory_equal(all.data(), cpu_product(m, x, most, none).data(),
								all.size() * sizeof(float));
		for (uint32_t rows : counts)
		{
			if (rows >= most)
				break;
			/* The last rows, so that each stands elsewhere than before. */
			const std::vector<float> some(x.end() - (ptrdiff_t) rows * k, x.end());
			std::vector<float> y;

			emu_seed(rows);
			y = device_product(m, some, rows, none, &best, &bad);
			assert_memory_equal(y.data(), &all[(size_t) (most - rows) * n], y.size() * sizeof(float));
			check_best(y, rows, n, best, bad);
		}
	}
}

/* For n columns. */
static g2d_shape
chosen(uint32_t n, uint32_t rows, uint32_t processors)
{
	return g2d_shape_of(G2_FORMAT_BF16, rows, g2d_round_up(n, G2D_OUTPUTS_ALIGN), processors);
}

/* Where tiles take over: from a quarter of the multiprocessors on; and which of them. */
static void
test_choice(void **)
{
	const uint32_t h200 = h200_processors;

	assert_int_equal(chosen(50257, 32, h200), G2D_STRIPS);
	assert_int_not_equal(chosen(50257, 33, h200), G2D_STRIPS);
	assert_int_equal(chosen(2304, 64, h200), G2D_STRIPS);
	assert_int_equal(chosen(2304, 65, h200), G2D_TILES_64);
	assert_int_equal(chosen(768, 256, h200), G2D_STRIPS);
	assert_int_equal(chosen(768, 257, h200), G2D_TILES_64);
	assert_int_equal(chosen(1600, 128, h200), G2D_STRIPS);
	assert_int_equal(chosen(1600, 129, h200), G2D_TILES_64);
	assert_int_equal(chosen(1600, 64, 108), G2D_STRIPS);
	assert_int_equal(chosen(1600, 192, 108), G2D_TILES_64);
	/* 1,024 rows: one turn of 64; one of 192; two of 96 are less than three of 64. */
	assert_int_equal(chosen(768, 1024, h200), G2D_TILES_64);
	assert_int_equal(chosen(2304, 1024, h200), G2D_TILES_192);
	assert_int_equal(chosen(3072, 1024, h200), G2D_TILES_96);
	assert_int_equal(chosen(50257, 256, h200), G2D_TILES_96);
	assert_int_equal(chosen(50257, 1024, h200), G2D_TILES_192);
	assert_int_equal(g2d_shape_of(G2_FORMAT_Q8, 1024, 2304, h200), G2D_TILES_64);
}

/* The rows from the first on, with what goes into their sums. */
static extras
extras_from(const extras &all, uint32_t first, uint32_t n)
{
	extras		e = all;

	if (!e.residual.empty())
		e.residual.erase(e.residual.begin(), e.residual.begin() + (ptrdiff_t) first * n);
	return e;
}

/* The same bits from every shape, on both sides of every place where one more tile begins. */
static void
test_same_bits(void **)
{
	static const uint32_t counts[] = {1, 32, 33, 64, 65, 95, 96, 97, 128, 129, 191, 192, 193, 257};
	const uint32_t k = 330,		/* bf16: a chunk and a part of one */
				n = 141,		/* 2 tiles */
				most = 257;

	for (g2_format format : {G2_FORMAT_BF16, G2_FORMAT_Q8})
	{
		matrix_on_device m(format, k, n);
		const std::vector<float> x = random_floats((size_t) most * k);
		const extras e = some_extras(7, most, n);
		std::vector<uint64_t> best;
		std::vector<uint32_t> bad;
		std::vector<float> all;

		shape_taken = G2D_STRIPS;
		all = device_product(m, x, most, e, &best, &bad);
		if (format == G2_FORMAT_Q8)
			assert_memory_equal(all.data(), cpu_product(m, x, most, e).data(),
								all.size() * sizeof(float));
		for (g2d_shape taken : shapes_of(format))
			for (uint32_t rows : counts)
			{
				const std::vector<float> some(x.end() - (ptrdiff_t) rows * k, x.end());
				std::vector<float> y;

				shape_taken = taken;
				emu_seed(rows);
				y = device_product(m, some, rows, extras_from(e, most - rows, n), &best, &bad);
				assert_memory_equal(y.data(), &all[(size_t) (most - rows) * n],
									y.size() * sizeof(float));
				check_best(y, rows, n, best, bad);
			}
		shape_taken = G2D_ANY;
	}
}

/* The same bits from every shape at so much of k, in q8 those of the CPU. */
static void
same_at(g2_format format, uint32_t k, uint32_t n, uint32_t most)
{
	const extras none = {{}, {}, G2D_NO_ACTIVATION};
	matrix_on_device m(format, k, n);
	const std::vector<float> x = random_floats((size_t) most * k);
	std::vector<float> all;

	shape_taken = G2D_TILES_64;
	all = device_product(m, x, most, none, NULL, NULL);
	if (format == G2_FORMAT_Q8)
		assert_memory_equal(all.data(), cpu_product(m, x, most, none).data(),
							all.size() * sizeof(float));
	for (g2d_shape taken : shapes_of(format))
		for (uint32_t rows : {1u, 9u, 20u, most})
		{
			if (rows > most || (taken == G2D_TILES_64 && rows == most))
				continue;
			const std::vector<float> some(x.begin(), x.begin() + (size_t) rows * k);

			shape_taken = taken;
			emu_seed(rows);
			assert_memory_equal(device_product(m, some, rows, none, NULL, NULL).data(), all.data(),
								(size_t) rows * n * sizeof(float));
		}
	shape_taken = G2D_ANY;
}

/* Every number of units up to more than a ring and a chunk, with the last one full or in part. */
static void
test_short_k(void **)
{
	for (uint32_t units = 1; units <= 19; units++)
	{
		same_at(G2_FORMAT_BF16, units * 16 - units % 3 * 5, 5, 2);
		same_at(G2_FORMAT_Q8, units * 32 - units % 3 * 5, 5, 2);
	}
}

/* GPT-2's, and more than strips take in one round. */
static void
test_long_k(void **)
{
	for (g2_format format : {G2_FORMAT_BF16, G2_FORMAT_Q8})
		for (uint32_t k : {768u, 1024u, 1280u, 1600u, 3072u, 4400u, 6400u})
			same_at(format, k, 21, k == 4400 ? 40 : 9);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_many_rows),
		cmocka_unit_test(test_choice),
		cmocka_unit_test(test_same_bits),
		cmocka_unit_test(test_short_k),
		cmocka_unit_test(test_long_k),
	};

	return cmocka_run_group_tests(tests, open_stream, close_stream);
}
