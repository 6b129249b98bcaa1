/*
 * bench_products.cpp: products of the four shapes, in microseconds: beside cuBLASLt's (bf16 beside its
 * bf16, q8 beside its int8, which has no scales), and by strips beside tiles, between which
 * g2d_shape_of chooses.  Each launch has other weights than the ones before it, so many that the
 * device's cache holds none of them, as in a model.
 */
#include <math.h>

#include "bench_device.h"
#include "cublaslt.h"

#define COLD_BYTES ((size_t) 192 << 20)	/* more than any device's cache */
#define LAUNCHES 16u			/* at least, so that the graph's own start does not show */
#define HEAD_ROWS G2D_HEAD_ROWS

namespace
{

struct matrix
{
	const char *name;
	uint32_t	k;
	uint32_t	n;
	uint32_t	most_rows;
};

std::vector<matrix>
matrices(const shape &s)
{
	const uint32_t e = s.n_embd;

	return {{"qkv", e, 3 * e, G2D_PASS_ROWS}, {"attn_out", e, e, G2D_PASS_ROWS},
		{"ff_up", e, 4 * e, G2D_PASS_ROWS}, {"ff_down", 4 * e, e, G2D_PASS_ROWS},
		{"head", e, s.n_vocab, HEAD_ROWS}};
}

/* How our speed stands to cuBLASLt's. */
struct ratios
{
	double		logs = 0.0;
	double		least = INFINITY;
	int			n = 0;

	void
	add(double ratio)
	{
		logs += log(ratio);
		least = std::min(least, ratio);
		n++;
	}

	void
	print(const char *what) const
	{
		if (n > 0)
			printf("%s: %.0f %% of cuBLASLt's speed in the geometric mean, %.0f %% at least\n", what,
				   100.0 * exp(logs / n), 100.0 * least);
	}
};

/* A matrix, its operand and result on the device; each copy of the weights is as long as either side
 * wants. */
struct product_bench
{
	bench_device &d;
	const bench_plan &plan;
	cublaslt   *lt;
	const bool	q8;
	const matrix m;
	g2d_product p = {};
	const uint32_t lt_n;		/* columns for cuBLASLt, which is slow with odd ones */
	const size_t w_bytes;
	const size_t scales;
	const uint32_t copies;
	device_memory w;
	device_memory w_scale;
	device_memory x;
	device_memory x_scale;
	device_memory y;
	device_memory workspace;

	static uint32_t
	units(const matrix &m, bool q8)
	{
		return g2d_units_padded(m.k, q8 ? 1 : 2);
	}

	product_bench(bench_device &d_, const bench_plan &plan_, cublaslt *lt_, bool q8_, const matrix &m_)
		: d(d_), plan(plan_), lt(lt_), q8(q8_), m(m_), lt_n(g2d_round_up(m.n, 64)),
		  w_bytes((size_t) g2d_round_up(m.n, G2D_OUTPUTS_ALIGN) / G2D_STRIP * units(m, q8) *
				  G2D_FRAGMENT),
		  scales((size_t) g2d_round_up(m.n, G2D_OUTPUTS_ALIGN) * units(m, q8)),
		  copies(plan.small ? 2 : (uint32_t) (COLD_BYTES / w_bytes + 1)),
		  w(d.stream, copies * w_bytes), w_scale(d.stream, q8 ? copies * scales * 2 : 16),
		  x(d.stream, (size_t) m.most_rows * units(m, q8) * G2D_UNIT),
		  x_scale(d.stream, (size_t) m.most_rows * units(m, q8) * sizeof(float)),
		  y(d.stream, (size_t) m.most_rows * g2d_round_up(m.n, G2D_OUTPUTS_ALIGN) * sizeof(float)),
		  workspace(d.stream, CUBLASLT_WORKSPACE)
	{
		p.x = {x.p, static_cast<float *>(x_scale.p), units(m, q8) * G2D_UNIT, units(m, q8)};
		p.w.format = q8 ? G2_FORMAT_Q8 : G2_FORMAT_BF16;
		p.w.k = m.k;
		p.w.n = m.n;
		p.w.n_padded = g2d_round_up(m.n, G2D_OUTPUTS_ALIGN);
		p.w.units = g2d_units(m.k, q8 ? 1 : 2);
		p.w.units_padded = units(m, q8);
		p.activation = UINT32_MAX;
		p.y = static_cast<float *>(y.p);
		p.ld = m.n;
	}

	uint32_t
	launches() const
	{
		return plan.small ? copies : std::max(copies, LAUNCHES);
	}

	const char *
	copy(uint32_t i) const
	{
		return static_cast<const char *>(w.p) + i % copies * w_bytes;
	}

	g2d_shape
	chosen(uint32_t rows) const
	{
		return g2d_shape_of(p.w.format, rows, p.w.n_padded, d.info.processors);
	}

	double
	own(uint32_t rows, g2d_shape shape)
	{
		p.rows = rows;
		p.shape = shape;
		return d.measure(plan.rounds, launches(), [this](uint32_t i) {
			p.w.w = copy(i);
			p.w.scale = static_cast<const uint16_t *>(w_scale.p) + i % copies * scales;
			(q8 ? g2d_launch_product_q8 : g2d_launch_product_bf16)(d.stream, &p);
			return true;
		});
	}

	/* 0: it has none. */
	double
	of_cublaslt(uint32_t rows)
	{
		cublaslt_product *product = lt ? cublaslt_prepare(lt, q8, rows, lt_n, m.k) : NULL;
		double		best = 0.0;

		for (int a = 0; product && a < cublaslt_algorithms(product); a++)
		{
			const double us = d.measure(plan.rounds, launches(), [this, product, a](uint32_t i) {
				return cublaslt_launch(lt, product, a, d.stream, copy(i), x.p, y.p, workspace.p);
			});

			if (us > 0.0 && (best == 0.0 || us < best))
				best = us;
		}
		cublaslt_free(lt, product);
		return best;
	}
};

void
print_heading(const char *what, const std::vector<uint32_t> &rows)
{
	printf("\n| %s |", what);
	for (uint32_t n : rows)
		printf(" %u |", n);
	printf("\n|---|");
	for (size_t i = 0; i < rows.size(); i++)
		printf("---|");
	printf("\n");
}

/* Every matrix of every shape, in both formats. */
template <typename F>
void
for_all(bench_device &d, const bench_plan &plan, cublaslt *lt, const F &f)
{
	for (const shape &s : plan.shapes)
		for (bool q8 : {false, true})
			for (const matrix &m : matrices(s))
			{
				product_bench b(d, plan, lt, q8, m);

				printf("| %s %s %s |", s.name, m.name, q8 ? "q8" : "bf16");
				f(b);
				printf("\n");
				fflush(stdout);
			}
}

void
beside_cublaslt(bench_device &d, const bench_plan &plan, cublaslt *lt)
{
	ratios		few[2],
				many[2];

	print_heading("µs (of cuBLASLt's speed) of rows", plan.rows);
	for_all(d, plan, lt, [&](product_bench &b) {
		for (uint32_t rows : plan.rows)
		{
			const bool	runs = rows <= b.m.most_rows;
			const double own = runs ? b.own(rows, b.chosen(rows)) : 0.0,
						other = runs ? b.of_cublaslt(rows) : 0.0;

			if (!runs)
				printf(" – |");
			else if (other == 0.0)
				printf(" %.1f |", own);
			else
			{
				printf(" %.1f (%.0f %%) |", own, 100.0 * other / own);
				if (rows <= 64)
					few[b.q8].add(other / own);
				else if (rows >= 1024)
					many[b.q8].add(other / own);
			}
		}
	});
	printf("\n");
	few[0].print("bf16, up to 64 rows");
	many[0].print("bf16, prompts of 1,024 rows");
	few[1].print("q8 beside int8, up to 64 rows");
	many[1].print("q8 beside int8, prompts of 1,024 rows");
}

/* The shapes that a product of so many rows might have, but for tiles that only large ones have. */
std::vector<g2d_shape>
candidates(bool q8, uint32_t rows)
{
	std::vector<g2d_shape> shapes = {G2D_TILES_64};

	if (rows <= G2D_STRIPS_MOST_ROWS)
		shapes.insert(shapes.begin(), G2D_STRIPS);
	if (!q8 && rows >= 96)
		shapes.push_back(G2D_TILES_96);
	if (!q8 && rows >= 192)
		shapes.push_back(G2D_TILES_192);
	return shapes;
}

void
all_shapes(bench_device &d, const bench_plan &plan)
{
	static const char *const names[] = {"s", "64", "96", "192"};
	const std::vector<uint32_t> rows = plan.small ? std::vector<uint32_t>{40, 200} :
		std::vector<uint32_t>{48, 64, 96, 128, 192, 256, 512, 1024};

	print_heading("µs by strips (s) and tiles of 64, 96, 192 rows (* is taken) of rows", rows);
	for_all(d, plan, NULL, [&](product_bench &b) {
		for (uint32_t n : rows)
		{
			if (n > b.m.most_rows)
				printf(" –");
			else
				for (g2d_shape shape : candidates(b.q8, n))
					printf(" %s %.1f%s", names[shape], b.own(n, shape), shape == b.chosen(n) ? "*" : "");
			printf(" |");
		}
	});
}

/* Bytes read and written in a second by the kernel that copies blocks of a cache. */
double
copy_bandwidth(bench_device &d, const bench_plan &plan)
{
	g2d_cache	cache = {NULL, plan.small ? 2u : 1024u, 64, 128, G2_FORMAT_BF16};
	const uint32_t tiles = 2 * cache.n_layer * cache.n_head;	/* of a block */
	const size_t block = (size_t) tiles * cache.head_dim * G2D_KEYS * 2;
	device_memory memory(d.stream, 2 * block);

	cache.kv = memory.p;
	return 2.0 * (double) block * 1e6 / d.measure(plan.rounds, 4, [&](uint32_t i) {
		g2d_launch_block_copy(d.stream, &cache, i % 2 * tiles, (1 - i % 2) * tiles);
		return true;
	});
}

/* Of one large product of cuBLASLt, which no kernel of mma.sync reaches. */
double
most_flops(bench_device &d, const bench_plan &plan, cublaslt *lt)
{
	const uint32_t n = plan.small ? 128 : 8192;
	matrix		m = {"", n, n, n};
	double		us;

	if (!lt)
		return 0.0;
	product_bench b(d, plan, lt, false, m);

	us = b.of_cublaslt(n);
	return us > 0.0 ? 2.0 * n * n * n * 1e6 / us : 0.0;
}

/* Which is not for an emulation: without a device it leaves memory behind. */
cublaslt *
open_cublaslt(const bench_plan &plan, const char **why)
{
	*why = "there is no device";
	return plan.small ? NULL : cublaslt_open(why);
}

}								/* namespace */

void
bench_limits(bench_device &d, bench_plan *plan)
{
	const char *why;
	cublaslt   *lt = open_cublaslt(*plan, &why);

	if (plan->bandwidth == 0.0)
		plan->bandwidth = copy_bandwidth(d, *plan);
	if (plan->flops == 0.0)
		plan->flops = most_flops(d, *plan, lt);
	cublaslt_close(lt);
}

void
bench_products(bench_device &d, const bench_plan &plan)
{
	const char *why;
	cublaslt   *lt = open_cublaslt(plan, &why);

	if (!lt)
		printf("\nskipped: products beside cuBLASLt: %s\n", why);
	beside_cublaslt(d, plan, lt);
	all_shapes(d, plan);
	cublaslt_close(lt);
}
