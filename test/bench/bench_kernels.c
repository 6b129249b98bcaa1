/*
 * bench_kernels.c: how fast the products are, against the machine's limits and OpenBLAS.
 *
 *     bench_kernels [threads [isa [format [K N]]]]		format: f32, bf16, q8, q4
 *
 * Prints the read bandwidth (1 thread and all), what the matrix-vector product reaches of it, and
 * operations (a multiplication and an addition are two) per second and number of rows beside
 * cblas_sgemm's for the same product in f32, measured in turns, so that a machine busy with other
 * things disturbs both alike: read the ratios.  Weights are a chain of matrices larger than the
 * last cache.  OpenBLAS: only when built with G2_BENCH_OPENBLAS.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "kernels.h"
#include "model.h"
#include "pool.h"

#ifdef G2_BENCH_OPENBLAS
#include <cblas.h>
extern void openblas_set_num_threads(int n);
#endif

#define WEIGHT_BYTES ((size_t) 512 << 20)
#define MAX_ROWS 512

static g2_pool *pool;
static const g2_kernels *kernels;
static uint32_t K = 768;
static uint32_t N = 3072;
static uint32_t n_weights;
static g2_format format;
static size_t matrix_bytes;
static char *weights;			/* [n_weights][N / 48] panels */
static float *x;				/* [MAX_ROWS][K + 16] */
static g2_operand operand;		/* x in the format */
static float *y;				/* [MAX_ROWS][N + 16] */
static float *scratch;

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

static void *
pages(size_t bytes)
{
	size_t		huge = (size_t) 2 << 20;
	void	   *p = aligned_alloc(huge, G2_ROUND_UP(bytes, huge));

	if (!p)
	{
		perror("aligned_alloc");
		exit(1);
	}
	madvise(p, bytes, MADV_HUGEPAGE);
	memset(p, 0, bytes);
	return p;
}

/* ---- read bandwidth: 1 MB pieces, four streams in each ---- */

#define PIECE ((size_t) 1 << 20)

static double *sums;

static void
read_task(void *arg, uint32_t task, uint32_t thread)
{
	const uint64_t *p = (const uint64_t *) ((const char *) arg + task * PIECE);
	size_t		quarter = PIECE / sizeof *p / 4;
	uint64_t	s[8] = {0};

	(void) thread;
	for (size_t i = 0; i < quarter; i += 8)
		for (int j = 0; j < 8; j++)
			s[j] |= p[i + j] | p[quarter + i + j] | p[2 * quarter + i + j] |
				p[3 * quarter + i + j];
	sums[task] = (double) (s[0] ^ s[1] ^ s[2] ^ s[3] ^ s[4] ^ s[5] ^ s[6] ^ s[7]);
}

static double
read_bandwidth(g2_pool *p, size_t bytes)
{
	double		t = now();

	g2_pool_run(p, (uint32_t) (bytes / PIECE), read_task, weights);
	return (double) bytes / (now() - t) * 1e-9;
}

/* ---- products ---- */

typedef struct job
{
	g2_product	p;
	uint32_t	rows;
	uint32_t	group;
	uint32_t	groups;
} job;

static void
product_task(void *arg, uint32_t task, uint32_t thread)
{
	job		   *j = arg;
	uint32_t	row = task / j->groups * G2_PRODUCT_ROWS,
				panel = task % j->groups * j->group;

	kernels->product[format](&j->p, panel, G2_MIN(panel + j->group, N / G2_PANEL), row,
							 G2_MIN(row + G2_PRODUCT_ROWS, j->rows),
							 scratch + thread * G2_PRODUCT_SCRATCH);
}

/* Seconds of one product of `rows` rows, over n matrices. */
static double
time_own(uint32_t rows, uint32_t n)
{
	uint32_t	chunks = (rows + G2_PRODUCT_ROWS - 1) / G2_PRODUCT_ROWS;
	double		t = now();

	for (uint32_t i = 0; i < n; i++)
	{
		job			j = {.p = {.x = operand, .w = weights + i * matrix_bytes, .k = K,
				.activation = G2_NO_ACTIVATION, .y = y, .ldy = N + 16}, .rows = rows};

		j.group = G2_MAX(1, N / G2_PANEL * chunks / (g2_pool_threads(pool) * 16));
		if (rows <= G2_PAIR_ROWS)
			j.group = G2_ROUND_UP(j.group, 2u);	/* as cpu_forward.c does */
		j.groups = (N / G2_PANEL + j.group - 1) / j.group;
		g2_pool_run(pool, chunks * j.groups, product_task, &j);
	}
	return (now() - t) / n;
}

static double
time_openblas(uint32_t rows, uint32_t n)
{
#ifdef G2_BENCH_OPENBLAS
	double		t = now();

	if (format != G2_FORMAT_F32)
		return 1e9;

	for (uint32_t i = 0; i < n; i++)
	{
		const float *w = (const float *) weights + (size_t) i * K * N;

		if (rows == 1)
			cblas_sgemv(CblasRowMajor, CblasNoTrans, (int) N, (int) K, 1.0f, w, (int) K, x, 1,
						0.0f, y, 1);
		else
			cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int) rows, (int) N, (int) K,
						1.0f, x, (int) K + 16, w, (int) K, 0.0f, y, (int) N + 16);
	}
	return (now() - t) / n;
#else
	(void) rows;
	(void) n;
	return 0.0;
#endif
}

static double
best(double a, double b)
{
	return a < b ? a : b;
}

static void
bench_rows(uint32_t rows)
{
	uint32_t	n = rows >= 128 ? G2_MIN(n_weights, 4u) : n_weights,
				rounds = rows >= 64 ? 15 : 9;
	double		own = 1e9,
				blas = 1e9,
				bandwidth = 0.0,
				flop = 2.0 * rows * K * N;

	for (uint32_t i = 0; i < rounds; i++)
	{
		own = best(own, time_own(rows, n));
		blas = best(blas, time_openblas(rows, n));
		if (rows <= 4)
			bandwidth = -best(-bandwidth, -read_bandwidth(pool, WEIGHT_BYTES));
	}
	printf("%6u %9.1f", rows, flop / own * 1e-9);
	if (rows <= 4)
		printf("  %5.1f GB/s, %3.0f %%", 1e-9 * (double) matrix_bytes / own,
			   100e-9 * (double) matrix_bytes / own / bandwidth);
	else
		printf("                   ");
#ifdef G2_BENCH_OPENBLAS
	if (format == G2_FORMAT_F32)
		printf("  OpenBLAS %8.1f  ratio %.2f", flop / blas * 1e-9, blas / own);
#endif
	printf("\n");
	fflush(stdout);
}

/* Numbers of all sizes, scales of 1. */
static void
fill_weights(void)
{
	const size_t panel = g2_panel_bytes(format, K),
				scales = g2_panel_scales(format, K);
	const uint16_t one = 0x3f80;

	for (size_t i = 0; i < n_weights * matrix_bytes; i += 4)
	{
		uint32_t	word = (uint32_t) (i / 4) * 2654435761u;
		float		number = (float) (int32_t) word * 0x1p-31f;
		uint16_t	halves[2] = {one, one};

		if (format == G2_FORMAT_F32)
			memcpy(weights + i, &number, 4);
		else if (format == G2_FORMAT_BF16 || i % panel >= scales)
			memcpy(weights + i, halves, 4);
		else
			memcpy(weights + i, &word, 4);
	}
}

static void
make_operand(void)
{
	size_t		bytes = format == G2_FORMAT_F32 ? 0 :
		g2_operand_layout(format, MAX_ROWS, K, NULL, &operand);

	if (bytes == 0)
	{
		operand = (g2_operand) {.x = x, .ld = K + 16};
		return;
	}
	g2_operand_layout(format, MAX_ROWS, K, pages(bytes), &operand);
	kernels->convert[format](x, K + 16, 0, MAX_ROWS, K, &operand);
}

int
main(int argc, char **argv)
{
	static const uint32_t rows[] = {1, 2, 3, 4, 6, 8, 16, 32, 64, 128, 256, 512};
	uint32_t	threads = argc > 1 ? (uint32_t) atoi(argv[1]) : 1;
	g2_pool    *one;
	g2_error	err;
	double		bandwidth[2] = {0.0, 0.0};

	if (argc > 5)
	{
		K = (uint32_t) atoi(argv[4]);
		N = (uint32_t) atoi(argv[5]) / G2_PANEL * G2_PANEL;
	}
	if (!g2_format_from_name(argc > 3 ? argv[3] : "f32", &format, &err) ||
		!g2_kernels_choose(argc > 2 ? argv[2] : "auto", &kernels, &err) ||
		!g2_pool_open(1, 0, &one, &err) || !g2_pool_open(G2_MAX(threads, 1), 0, &pool, &err) ||
		K == 0 || N == 0)
	{
		fprintf(stderr, "%s\n", err.message);
		return 1;
	}
	matrix_bytes = N / G2_PANEL * g2_panel_bytes(format, K);
	n_weights = (uint32_t) (WEIGHT_BYTES / matrix_bytes) + 1;
	weights = pages(n_weights * matrix_bytes);
	x = pages((size_t) MAX_ROWS * (K + 16) * sizeof(float));
	y = pages((size_t) MAX_ROWS * (N + 16) * sizeof(float));
	scratch = pages((size_t) g2_pool_threads(pool) * G2_PRODUCT_SCRATCH * sizeof(float));
	sums = pages(WEIGHT_BYTES / PIECE * sizeof *sums);
	fill_weights();
	for (size_t i = 0; i < (size_t) MAX_ROWS * (K + 16); i++)
		x[i] = (float) (int32_t) ((uint32_t) i * 2246822519u) * 0x1p-31f;
	make_operand();
#ifdef G2_BENCH_OPENBLAS
	openblas_set_num_threads((int) threads);
#endif
	for (int i = 0; i < 7; i++)
	{
		bandwidth[0] = -best(-bandwidth[0], -read_bandwidth(one, WEIGHT_BYTES));
		bandwidth[1] = -best(-bandwidth[1], -read_bandwidth(pool, WEIGHT_BYTES));
	}
	printf("%s, %s, %u threads, K %u, N %u, weights %zu MB\n", kernels->name,
		   g2_format_name(format), g2_pool_threads(pool), K, N,
		   n_weights * matrix_bytes >> 20);
	printf("read bandwidth: 1 thread %.1f GB/s, %u threads %.1f GB/s\n", bandwidth[0],
		   g2_pool_threads(pool), bandwidth[1]);
	printf("  rows     Gop/s\n");
	for (size_t i = 0; i < G2_LENGTH(rows); i++)
		bench_rows(rows[i]);
	g2_pool_close(one);
	g2_pool_close(pool);
	return 0;
}
