/*
 * cuda_product_fixture.h: a product on the device and on the CPU, for tests of what it gives.
 */
#ifndef CUDA_PRODUCT_FIXTURE_H
#define CUDA_PRODUCT_FIXTURE_H

#include "cuda_fixture.h"

#include "device_math.h"
#include "sampler_math.h"

static const g2_kernels *const cpu = &g2_kernels_portable;

static const uint32_t h200_processors = 132;

/* The g2d_shape that products are to take; G2D_ANY: what suits an H200. */
#define G2D_ANY (-1)
static int	shape_taken = G2D_ANY;

/* All that a format has. */
static inline std::vector<g2d_shape>
shapes_of(g2_format format)
{
	if (format == G2_FORMAT_BF16)
		return {G2D_STRIPS, G2D_TILES_64, G2D_TILES_96, G2D_TILES_192};
	return {G2D_STRIPS, G2D_TILES_64};
}

static inline g2d_shape
shape_for(const g2d_product &p)
{
	return shape_taken != G2D_ANY ? static_cast<g2d_shape>(shape_taken) :
		g2d_shape_of(p.w.format, p.rows, p.w.n_padded, h200_processors);
}

static inline void
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

static inline std::vector<float>
device_product(const matrix_on_device &m, const std::vector<float> &x, uint32_t rows, const extras &e,
			   std::vector<uint64_t> *best, std::vector<uint32_t> *bad)
{
	test_operand o(m.device, x, rows);
	std::vector<float> before(e.residual);
	const uint32_t strips = (m.cpu.n + 15) / 16;
	g2d_product p = {};

	before.resize((size_t) rows * m.cpu.n, -1.0f);
	on_device<float> bias(e.bias),
				y(before);
	on_device<uint64_t> best_of(std::vector<uint64_t>(best ? (size_t) rows * strips : 0));
	on_device<uint32_t> bad_of(std::vector<uint32_t>(best ? rows : 0));

	p.x = o.device;
	p.w = m.device;
	p.bias = bias.at();
	p.residual = e.residual.empty() ? NULL : y.at();
	p.activation = e.activation;
	p.y = y.at();
	p.ld = m.cpu.n;
	p.rows = rows;
	p.shape = shape_for(p);
	p.best = best_of.at();
	p.best_ld = strips;
	p.bad = bad_of.at();
	launch(&p);
	if (best)
	{
		*best = best_of.back();
		*bad = bad_of.back();
	}
	return y.back();
}

static inline std::vector<float>
cpu_product(matrix_on_device &m, std::vector<float> x, uint32_t rows, const extras &e)
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

static inline extras
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
static inline void
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

#endif							/* CUDA_PRODUCT_FIXTURE_H */
