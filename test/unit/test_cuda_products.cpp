/*
 * test_cuda_products.cpp: the CUDA kernels of products, norms and conversions, over the emulated
 * device, beside the CPU's portable ones: f32 and q8 bit for bit, bf16 to 1e-6; and that what a row
 * gives does not depend on how many rows there are.
 */
#include "cuda_fixture.h"

#include "device_math.h"
#include "sampler_math.h"

static const g2_kernels *const cpu = &g2_kernels_portable;

static void
launch(const g2d_product *p)
{
	if (p->w.format == G2_FORMAT_F32)
		g2d_launch_product_f32(stream, p);
	else if (p->w.format == G2_FORMAT_BF16)
		g2d_launch_product_bf16(stream, p);
	else
		g2d_launch_product_q8(stream, p);
	finish_work();
}

/* What goes into a product beside x and w. */
struct extras
{
	std::vector<float> bias;
	std::vector<float> residual;	/* [rows][n] */
	uint32_t	activation;
};

static std::vector<float>
device_product(const test_matrix &m, const std::vector<float> &x, uint32_t rows, const extras &e,
			   std::vector<uint64_t> *best, std::vector<uint32_t> *bad)
{
	test_operand o(m.device, x, rows);
	std::vector<float> y(e.residual);
	g2d_product p = {};

	y.resize((size_t) rows * m.cpu.n, -1.0f);
	p.x = o.device;
	p.w = m.device;
	p.bias = e.bias.empty() ? NULL : e.bias.data();
	p.residual = e.residual.empty() ? NULL : y.data();
	p.activation = e.activation;
	p.y = y.data();
	p.ld = m.cpu.n;
	p.rows = rows;
	p.best_ld = (m.cpu.n + 15) / 16;
	if (best)
	{
		best->assign((size_t) rows * p.best_ld, 0);
		bad->assign(rows, 0);
		p.best = best->data();
		p.bad = bad->data();
	}
	launch(&p);
	return y;
}

static std::vector<float>
cpu_product(test_matrix &m, std::vector<float> x, uint32_t rows, const extras &e)
{
	const size_t ld = m.cpu.n_padded;
	std::vector<float> y(rows * ld),
				padded(rows * ld),
				out;
	aligned<float> scratch(G2_PRODUCT_SCRATCH);
	g2_operand	operand;
	g2_product	p = {};

	if (m.cpu.format == G2_FORMAT_F32)
		operand = {x.data(), m.cpu.k, NULL, NULL};
	aligned<char> memory(m.cpu.format == G2_FORMAT_F32 ? 0 :
						 g2_operand_layout(m.cpu.format, rows, m.cpu.k, NULL, &operand));
	if (m.cpu.format == G2_FORMAT_F32)
		operand = {x.data(), m.cpu.k, NULL, NULL};
	else
	{
		g2_operand_layout(m.cpu.format, rows, m.cpu.k, memory.at(), &operand);
		cpu->convert[m.cpu.format](x.data(), m.cpu.k, 0, rows, m.cpu.k, &operand);
	}
	std::vector<float> bias(e.bias);
	bias.resize(ld);
	for (uint32_t r = 0; r < rows && !e.residual.empty(); r++)
		memcpy(&padded[r * ld], &e.residual[(size_t) r * m.cpu.n], m.cpu.n * sizeof(float));
	p.x = operand;
	p.w = m.cpu.data;
	p.k = m.cpu.k;
	p.bias = e.bias.empty() ? NULL : bias.data();
	p.activation = e.activation;
	p.residual = e.residual.empty() ? NULL : padded.data();
	p.ldr = ld;
	p.y = y.data();
	p.ldy = ld;
	cpu->product[m.cpu.format](&p, 0, (uint32_t) (ld / G2_PANEL), 0, rows, scratch.at());
	for (uint32_t r = 0; r < rows; r++)
		out.insert(out.end(), &y[r * ld], &y[r * ld + m.cpu.n]);
	return out;
}

static extras
some_extras(uint32_t which, uint32_t rows, uint32_t n)
{
	static const uint32_t activations[] = {G2D_NO_ACTIVATION, G2_ACT_GELU_NEW, G2_ACT_GELU,
		G2_ACT_RELU};
	extras		e;

	if (which % 2)
		e.bias = random_floats(n);
	if (which / 2 % 2)
		e.residual = random_floats((size_t) rows * n);
	e.activation = activations[which % 4];
	return e;
}

/* The best of each strip, from the values themselves. */
static void
check_best(const std::vector<float> &y, uint32_t rows, uint32_t n, const std::vector<uint64_t> &best,
		   const std::vector<uint32_t> &bad)
{
	const uint32_t strips = (n + 15) / 16;

	for (uint32_t r = 0; r < rows; r++)
	{
		bool		nan = false;

		for (uint32_t s = 0; s < strips; s++)
		{
			uint64_t	want = 0;

			for (uint32_t c = s * 16; c < n && c < s * 16 + 16; c++)
			{
				float		v = y[(size_t) r * n + c];
				uint64_t	k = (uint64_t) g2_rank_key(v) << 32 | (uint32_t) ~c;

				want = k > want ? k : want;
				nan |= v != v;
			}
			assert_true(best[(size_t) r * strips + s] == want);
		}
		assert_int_equal(bad[r], nan);
	}
}

static const uint32_t shapes[][2] = {{37, 5}, {64, 48}, {100, 130}, {320, 33}, {33, 257}};
static const uint32_t row_counts[] = {1, 3, 8, 9, 17, 33, 70};

static void
check_exact(g2_format format)
{
	uint32_t	which = 0;

	for (const uint32_t *shape : shapes)
	{
		test_matrix m(format, shape[0], shape[1]);

		for (uint32_t rows : row_counts)
		{
			std::vector<float> x = random_floats((size_t) rows * shape[0]),
						y;
			extras		e = some_extras(which++, rows, shape[1]);
			std::vector<uint64_t> best;
			std::vector<uint32_t> bad;

			emu_seed(which);
			y = device_product(m, x, rows, e, &best, &bad);
			assert_memory_equal(y.data(), cpu_product(m, x, rows, e).data(),
								y.size() * sizeof(float));
			check_best(y, rows, shape[1], best, bad);
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
	test_matrix m(G2_FORMAT_Q8, k, n);

	for (uint32_t rows : {5u, 40u})
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
		test_matrix m(G2_FORMAT_BF16, k, n);
		std::vector<float> x = random_floats((size_t) most * k),
					all;
		std::vector<uint64_t> best;
		std::vector<uint32_t> bad;
		double		error = 0.0,
					norm = 0.0;

		all = device_product(m, x, most, none, &best, &bad);
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
		assert_true(sqrt(error / norm) < 1e-6);
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
		test_matrix m(format, k, n);
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

/* ---- rows ---- */

/* Row r of a q8 operand of the device against the CPU's. */
static void
same_q8(const test_operand &o, const g2_operand &want, uint32_t r, uint32_t k)
{
	const uint32_t groups = (k + 31) / 32;

	for (uint32_t i = 0; i < groups * 32; i++)
		assert_int_equal(o.x[(size_t) r * o.device.ld + g2d_operand_at(i)],
						 ((const int8_t *) want.x)[((size_t) (r / 4) * groups * 8 + i / 4) * 16 +
												   r % 4 * 4 + i % 4]);
	for (uint32_t g = 0; g < groups; g++)
		assert_memory_equal(&o.scale[(size_t) r * o.device.units_padded + g],
							&want.scale[((size_t) (r / 4) * groups + g) * 4 + r % 4],
							sizeof(float));
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
		test_matrix q8(G2_FORMAT_Q8, k, 1),
					bf16(G2_FORMAT_BF16, k, 1);
		test_operand o(q8.device, x, rows),
					h(bf16.device, x, rows);

		g2_operand_layout(G2_FORMAT_Q8, rows, k, memory.at(), &want);
		cpu->convert[G2_FORMAT_Q8](x.data(), k, 0, rows, k, &want);
		for (uint32_t r = 0; r < rows; r++)
		{
			same_q8(o, want, r, k);
			for (uint32_t i = 0; i < h.device.ld / 2; i++)
			{
				uint16_t	half;

				memcpy(&half, &h.x[(size_t) r * h.device.ld + g2d_operand_at(2 * i)], 2);
				assert_int_equal(half, i < k ? g2d_to_bf16(x[r * k + i]) : 0);
			}
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
					y(rows * n),
					want(n);
		std::vector<uint32_t> position = {4, G2D_RESTS, 0};

		for (int with_bias = 0; with_bias < 2; with_bias++)
		{
			g2d_norm	a = {};

			a.x = x.data();
			a.ld = a.n = n;
			a.gain = gain.data();
			a.bias = with_bias ? bias.data() : NULL;
			a.epsilon = 1e-5f;
			a.format = G2_FORMAT_F32;
			a.to = {y.data(), NULL, n, 0};
			a.position_of = position.data();
			g2d_launch_norm(stream, &a, rows);
			finish_work();
			for (uint32_t r = 0; r < rows; r++)
			{
				cpu->layer_norm(&x[r * n], n, gain.data(), a.bias, 1e-5f, want.data());
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
					cache.at(g2d_cache_at(3, 5, 64, layer, block, part, head))++;
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
		cmocka_unit_test(test_many_rows),
	};

	return cmocka_run_group_tests(tests, open_stream, close_stream);
}
