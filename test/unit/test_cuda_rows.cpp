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

static bool
strips(uint32_t n, uint32_t rows, uint32_t of)
{
	return g2d_takes_strips(rows, g2d_round_up(n, G2D_OUTPUTS_ALIGN), of);
}

/* Where tiles take over: from a quarter of the multiprocessors on. */
static void
test_choice(void **)
{
	const uint32_t h200 = h200_processors;

	assert_true(strips(50257, 32, h200) && !strips(50257, 33, h200));
	assert_true(strips(2304, 64, h200) && !strips(2304, 65, h200));
	assert_true(strips(768, 256, h200) && !strips(768, 257, h200));
	assert_true(strips(1600, 128, h200) && !strips(1600, 129, h200));
	assert_true(strips(1600, 64, 108) && !strips(1600, 192, 108));
	assert_true(!strips(768, 33, 0) && !strips(768, 257, UINT32_MAX));
}

/* The same bits from strips and tiles on both sides of every place where one gives way to the other,
 * whatever the device. */
static void
test_same_bits(void **)
{
	static const uint32_t counts[] = {32, 33, 64, 65, 128, 129, 192, 193, 255, 256};
	const extras none = {{}, {}, G2D_NO_ACTIVATION};
	const uint32_t k = 330,		/* bf16: a chunk and a part of one */
				n = 300,		/* 3 tiles */
				most = 257;		/* tiles on any device */

	for (g2_format format : {G2_FORMAT_BF16, G2_FORMAT_Q8})
	{
		matrix_on_device m(format, k, n);
		const std::vector<float> x = random_floats((size_t) most * k);
		std::vector<uint64_t> best;
		std::vector<uint32_t> bad;
		const std::vector<float> all = device_product(m, x, most, none, &best, &bad);

		for (uint32_t of : {0u, 13u, 37u, UINT32_MAX})
			for (uint32_t rows : counts)
			{
				const std::vector<float> some(x.end() - (ptrdiff_t) rows * k, x.end());
				std::vector<float> y;

				processors = of;
				emu_seed(rows);
				y = device_product(m, some, rows, none, &best, &bad);
				processors = h200_processors;
				assert_memory_equal(y.data(), &all[(size_t) (most - rows) * n],
									y.size() * sizeof(float));
				check_best(y, rows, n, best, bad);
			}
	}
}

/* More of k than strips take in one round. */
static void
test_long_k(void **)
{
	const extras none = {{}, {}, G2D_NO_ACTIVATION};
	const uint32_t k = 4400,
				n = 21,
				most = 40;

	for (g2_format format : {G2_FORMAT_BF16, G2_FORMAT_Q8})
	{
		matrix_on_device m(format, k, n);
		const std::vector<float> x = random_floats((size_t) most * k);
		std::vector<uint64_t> best;
		std::vector<uint32_t> bad;
		std::vector<float> all;

		processors = 0;			/* tiles */
		all = device_product(m, x, most, none, &best, &bad);
		processors = h200_processors;
		if (format == G2_FORMAT_Q8)
			assert_memory_equal(all.data(), cpu_product(m, x, most, none).data(),
								all.size() * sizeof(float));
		for (uint32_t rows : {1u, 9u, 20u, 40u})
		{
			const std::vector<float> some(x.begin(), x.begin() + (size_t) rows * k);

			emu_seed(rows);
			assert_memory_equal(device_product(m, some, rows, none, &best, &bad).data(), all.data(),
								(size_t) rows * n * sizeof(float));
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_many_rows),
		cmocka_unit_test(test_choice),
		cmocka_unit_test(test_same_bits),
		cmocka_unit_test(test_long_k),
	};

	return cmocka_run_group_tests(tests, open_stream, close_stream);
}
