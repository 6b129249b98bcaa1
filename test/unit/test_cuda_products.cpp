/*
 * test_cuda_products.cpp: the CUDA kernels of products, norms and conversions, over the emulated
 * device (with G2_TEST_GPU on a real one), beside the CPU's portable ones: f32 and q8 bit for bit, bf16
 * closely.
 */
#include "cuda_product_fixture.h"

/* Of bf16; a device's sums within an instruction are rounded in a way of its own. */
#ifdef G2_TEST_GPU
static const double most_error = 1e-5;
#else
static const double most_error = 1e-6;
#endif

static const uint32_t shapes[][2] = {{37, 5}, {64, 48}, {100, 130}, {320, 33}, {33, 257}};
static const uint32_t row_counts[] = {1, 3, 8, 9, 17, 33, 70};

static void
check_exact(g2_format format)
{
	uint32_t	which = 0;

	for (const uint32_t *shape : shapes)
	{
		matrix_on_device m(format, shape[0], shape[1]);

		for (uint32_t rows : row_counts)
		{
			std::vector<float> x = random_floats((size_t) rows * shape[0]),
						y;
			extras		e = some_extras(which++, rows, shape[1]);
			std::vector<uint64_t> best;
			std::vector<uint32_t> bad;

			for (g2d_shape taken : shapes_of(format))
			{
				shape_taken = taken;
				emu_seed(which);
				y = device_product(m, x, rows, e, &best, &bad);
				assert_memory_equal(y.data(), cpu_product(m, x, rows, e).data(),
									y.size() * sizeof(float));
				check_best(y, rows, shape[1], best, bad);
			}
			shape_taken = G2D_ANY;
		}
	}
}

static void
test_f32(void **)
{
	check_exact(G2_FORMAT_F32);
}

static void
test_q8(void **)
{
	check_exact(G2_FORMAT_Q8);
}

/* Groups of zeros, of values far apart, and such as are not finite. */
static void
test_q8_odd_values(void **)
{
	const uint32_t k = 100,
				n = 40;
	matrix_on_device m(G2_FORMAT_Q8, k, n);

	for (uint32_t rows : {5u, 40u, 300u})
	{
		std::vector<float> x = random_floats(rows * k),
					y,
					want;
		extras		e = {{}, {}, G2D_NO_ACTIVATION};
		std::vector<uint64_t> best;
		std::vector<uint32_t> bad;

		for (uint32_t i = 0; i < 32; i++)
		{
			x[i] = 0.0f;
			x[k + i] *= 1e30f;
			x[2 * k + i] *= 1e-31f;
		}
		x[3 * k + 40] = NAN;
		x[4 * k + 99] = INFINITY;
		y = device_product(m, x, rows, e, &best, &bad);
		want = cpu_product(m, x, rows, e);
		for (size_t i = 0; i < y.size(); i++)
			assert_true((y[i] != y[i] && want[i] != want[i]) ||
						memcmp(&y[i], &want[i], sizeof(float)) == 0);
		assert_int_equal(bad[3] & bad[4], 1);
		assert_int_equal(bad[0] | bad[1] | bad[2], 0);
	}
}

static void
test_bf16(void **)
{
	static const uint32_t bf16_shapes[][2] = {{37, 5}, {256, 48}, {300, 130}, {1100, 33}};
	const extras none = {{}, {}, G2D_NO_ACTIVATION};

	for (const uint32_t *shape : bf16_shapes)
	{
		const uint32_t k = shape[0],
					n = shape[1],
					most = 70;
		matrix_on_device m(G2_FORMAT_BF16, k, n);
		std::vector<float> x = random_floats((size_t) most * k),
					all;
		std::vector<uint64_t> best;
		std::vector<uint32_t> bad;
		double		error = 0.0,
					norm = 0.0;

		shape_taken = G2D_TILES_64;
		all = device_product(m, x, most, none, &best, &bad);
		shape_taken = G2D_ANY;
		check_best(all, most, n, best, bad);
		for (uint32_t r = 0; r < most; r += 7)
			for (uint32_t c = 0; c < n; c++)
			{
				double		sum = 0.0;

				for (uint32_t i = 0; i < k; i++)
					sum += (double) g2d_from_bf16(g2d_to_bf16(x[(size_t) r * k + i])) *
						g2d_from_bf16(g2d_to_bf16(m.dense[(size_t) c * k + i]));
				error += pow(sum - all[(size_t) r * n + c], 2);
				norm += sum * sum;
			}
		assert_true(sqrt(error / norm) < most_error);
		/* Fewer rows: other kernels, the same bits. */
		for (uint32_t rows : {1u, 8u, 16u, 20u, 32u, 33u, 64u})
		{
			std::vector<float> some(x.begin() + 3 * k, x.begin() + (size_t) (3 + rows) * k),
						y;

			emu_seed(rows);
			y = device_product(m, some, rows, none, &best, &bad);
			assert_memory_equal(y.data(), &all[3 * n], y.size() * sizeof(float));
			check_best(y, rows, n, best, bad);
		}
	}
}

/* A product whose rows are made for the next one: what a conversion of its floats gives, the padding
 * too, whatever stood there. */
static void
test_for_next(void **)
{
	const uint32_t k = 64,
				n = 130;
	const extras none = {{}, {}, G2D_NO_ACTIVATION};
	matrix_on_device m(G2_FORMAT_BF16, k, n),
				next(G2_FORMAT_BF16, n, 1);

	for (uint32_t rows : {5u, 40u, 300u, 199u})
	{
		const std::vector<float> x = random_floats((size_t) rows * k);

		shape_taken = rows == 199 ? G2D_TILES_192 : G2D_ANY;
		const std::vector<float> y = device_product(m, x, rows, none, NULL, NULL);
		const std::vector<char> want = test_operand(next.device, y, rows).x.back();
		const on_device<char> memory(std::vector<char>(want.size(), (char) 0xff));
		test_operand o(m.device, x, rows);
		std::vector<char> got;
		g2d_product p = {};

		p.x = o.device;
		p.w = m.device;
		p.activation = G2D_NO_ACTIVATION;
		p.rows = rows;
		p.shape = shape_for(p);
		p.to = {memory.p, NULL, next.device.units_padded * G2D_UNIT, next.device.units_padded};
		launch(&p);
		got = memory.back();
		assert_memory_equal(got.data(), want.data(), (size_t) rows * p.to.ld);
		for (size_t i = (size_t) rows * p.to.ld; i < got.size(); i++)
			assert_int_equal(got[i], (char) 0xff);
	}
	shape_taken = G2D_ANY;
}

/* ---- rows ---- */

/* The rows of a q8 operand of the device against the CPU's. */
static void
same_q8(const test_operand &o, const g2_operand &want, uint32_t rows, uint32_t k)
{
	const uint32_t groups = (k + 31) / 32;
	const std::vector<char> x = o.x.back();
	const std::vector<float> scale = o.scale.back();


	for (uint32_t r = 0; r < rows; r++)
	{
		for (uint32_t i = 0; i < groups * 32; i++)
			assert_int_equal(x[(size_t) r * o.device.ld + g2d_operand_at(i)],
							 ((const int8_t *) want.x)[((size_t) (r / 4) * groups * 8 + i / 4) * 16 +
													   r % 4 * 4 + i % 4]);
		for (uint32_t g = 0; g < groups; g++)
			assert_memory_equal(&scale[(size_t) r * o.device.units_padded + g],
								&want.scale[((size_t) (r / 4) * groups + g) * 4 + r % 4],
								sizeof(float));
	}
}

static void
test_convert(void **)
{
	for (uint32_t k : {1u, 31u, 64u, 100u, 777u})
	{
		const uint32_t rows = 6;
		std::vector<float> x = random_floats(rows * k);
		g2_operand	want;
		aligned<char> memory(g2_operand_layout(G2_FORMAT_Q8, rows, k, NULL, &want));
		matrix_on_device q8(G2_FORMAT_Q8, k, 1),
					bf16(G2_FORMAT_BF16, k, 1);
		test_operand o(q8.device, x, rows),
					h(bf16.device, x, rows);

		g2_operand_layout(G2_FORMAT_Q8, rows, k, memory.at(), &want);
		cpu->convert[G2_FORMAT_Q8](x.data(), k, 0, rows, k, &want);
		same_q8(o, want, rows, k);
		const std::vector<char> halves = h.x.back();

		for (uint32_t r = 0; r < rows; r++)
			for (uint32_t i = 0; i < h.device.ld / 2; i++)
			{
				uint16_t	half;

				memcpy(&half, &halves[(size_t) r * h.device.ld + g2d_operand_at(2 * i)], 2);
				assert_int_equal(half, i < k ? g2d_to_bf16(x[r * k + i]) : 0);
			}
	}
}

static void
test_norm(void **)
{
	for (uint32_t n : {1u, 15u, 60u, 333u, 768u})
	{
		const uint32_t rows = 3;
		std::vector<float> x = random_floats(rows * n),
					gain = random_floats(n),
					bias = random_floats(n),
					y,
					want(n);
		const on_device<float> x_of(x),
					gain_of(gain),
					bias_of(bias),
					y_of(std::vector<float>(rows * n));
		const on_device<uint32_t> position({4, G2D_RESTS, 0});

		for (int with_bias = 0; with_bias < 2; with_bias++)
		{
			g2d_norm	a = {};

			a.x = x_of.at();
			a.ld = a.n = n;
			a.gain = gain_of.at();
			a.bias = with_bias ? bias_of.at() : NULL;
			a.epsilon = 1e-5f;
			a.format = G2_FORMAT_F32;
			a.to = {y_of.p, NULL, n, 0};
			a.position_of = position.at();
			g2d_launch_norm(stream, &a, rows);
			y = y_of.back();
			for (uint32_t r = 0; r < rows; r++)
			{
				cpu->layer_norm(&x[r * n], n, gain.data(), with_bias ? bias.data() : NULL, 1e-5f,
								want.data());
				if (r == 1)
					want.assign(n, 0.0f);
				assert_memory_equal(&y[r * n], want.data(), n * sizeof(float));
			}
		}
	}
}

/* ---- index arithmetic ---- */

/* Every byte of a matrix and of an operand has a place of its own. */
static void
test_layout(void **)
{
	const uint32_t units = 4,
				outputs = 48;
	std::vector<int> weights(outputs * units * G2D_UNIT),
				operand(units * G2D_UNIT);
	std::vector<int> cache((size_t) 2 * 3 * 2 * 5 * G2D_KEYS * 64);

	for (uint32_t o = 0; o < outputs; o++)
		for (uint32_t k = 0; k < units * G2D_UNIT; k++)
			weights.at(g2d_weight_at(units, o, k))++;
	for (uint32_t k = 0; k < units * G2D_UNIT; k++)
		operand.at(g2d_operand_at(k))++;
	for (uint32_t layer = 0; layer < 2; layer++)
		for (uint32_t block = 0; block < 3; block++)
			for (uint32_t part = 0; part < 2; part++)
				for (uint32_t head = 0; head < 5; head++)
					cache.at(g2d_cache_at(5, 64, layer, block * (2 * 2 * 5), part, head))++;
	for (int n : weights)
		assert_int_equal(n, 1);
	for (int n : operand)
		assert_int_equal(n, 1);
	for (size_t i = 0; i < cache.size(); i++)
		assert_int_equal(cache[i], i % (G2D_KEYS * 64) == 0);
	assert_int_equal(g2d_units(37, 1), 2);
	assert_int_equal(g2d_units_padded(37, 2), 4);
	assert_int_equal(g2d_segments(255), 1);
	assert_int_equal(g2d_segments(256), 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layout),
		cmocka_unit_test(test_convert),
		cmocka_unit_test(test_norm),
		cmocka_unit_test(test_f32),
		cmocka_unit_test(test_q8),
		cmocka_unit_test(test_q8_odd_values),
		cmocka_unit_test(test_bf16),
		cmocka_unit_test(test_for_next),
	};

	return cmocka_run_group_tests(tests, open_stream, close_stream);
}
