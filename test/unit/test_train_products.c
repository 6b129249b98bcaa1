/*
 * test_train_products.c: the matrix products of training, bit for bit as product.h defines them.
 */
#include "train_fixture.h"

#include "../../src/engine/kernels.h"
#include "product.h"

static g2t_context context;

static int
set_up(void **state)
{
	(void) state;
	context = open_context(2);
	return 0;
}

static int
tear_down(void **state)
{
	(void) state;
	g2t_context_close(&context);
	return 0;
}

/* As product.h says it. */
static float
sum_of_chunks(size_t k, const float *a, size_t step_a, const float *b, size_t step_b, float from)
{
	for (size_t k0 = 0; k0 < k; k0 += G2T_PRODUCT_CHUNK)
	{
		float		sum = 0.0f;

		for (size_t i = k0; i < G2_MIN(k, k0 + G2T_PRODUCT_CHUNK); i++)
			sum = fmaf(a[i * step_a], b[i * step_b], sum);
		from += sum;
	}
	return from;
}

typedef struct shape
{
	size_t		m,
				n,
				k;
} shape;

#define GAP 5					/* columns of the operands' rows that are no part of them */
#define OUTSIDE 7.0f			/* what is there in c */

static void
check_product(const shape *s, bool a_transposed, bool b_transposed, bool bias, bool add)
{
	const size_t lda = (a_transposed ? s->m : s->k) + GAP,
				ldb = (b_transposed ? s->k : s->n) + GAP,
				ldc = s->n + GAP,
				floats_a = (a_transposed ? s->k : s->m) * lda,
				floats_b = (b_transposed ? s->n : s->k) * ldb,
				step = 1 + s->m * s->n * s->k / 10000000;	/* large ones: some rows */
	float	   *a = need_memory(floats_a, sizeof(float)),
			   *b = need_memory(floats_b, sizeof(float)),
			   *from = need_memory(s->m * ldc, sizeof(float)),
			   *c = need_memory(s->m * ldc, sizeof(float)),
			   *here = need_memory(s->m * ldc, sizeof(float));
	const g2t_operand oa = {a, lda, a_transposed},
				ob = {b, ldb, b_transposed};

	fill_random(1, floats_a, a);
	fill_random(2, floats_b, b);
	for (size_t i = 0; i < s->m * ldc; i++)
		from[i] = i % ldc < s->n ? (float) (i % 13) / 13.0f : OUTSIDE;
	memcpy(c, from, s->m * ldc * sizeof(float));
	memcpy(here, from, s->m * ldc * sizeof(float));
	g2t_multiply(&context, s->m, s->n, s->k, oa, ob, bias ? b : NULL, add, c, ldc);
	g2t_multiply_here(&context, 0, s->m, s->n, s->k, oa, ob, add, here, ldc);
	if (!bias)
		assert_memory_equal(here, c, s->m * ldc * sizeof(float));
	for (size_t i = 0; i < s->m; i += step)
		for (size_t j = 0; j < ldc; j++)
		{
			float		expected = from[i * ldc + j];

			if (j < s->n)
				expected = sum_of_chunks(s->k, a_transposed ? a + i : a + i * lda,
										 a_transposed ? lda : 1, b_transposed ? b + j * ldb : b + j,
										 b_transposed ? 1 : ldb, bias ? b[j] : add ? expected : 0);
			if (c[i * ldc + j] != expected)
				fail_msg("%zux%zux%zu, row %zu, column %zu: %a instead of %a", s->m, s->n, s->k, i,
						 j, (double) c[i * ldc + j], (double) expected);
		}
	free(a);
	free(b);
	free(from);
	free(c);
	free(here);
}

/* Shapes around the sizes of tiles, panels, squares, chunks and spans, with every set of kernels; and
 * ones whose operands are too large to be packed before, with the fastest. */
static void
test_products(void **state)
{
	static const shape shapes[] = {
		{1, 1, 1}, {1, 48, 3}, {3, 7, 8}, {8, 16, 9}, {9, 47, 15}, {17, 49, 33}, {64, 96, 64},
		{70, 100, 769}, {257, 145, 40}, {5, 400, 1540}, {300, 30, 20}, {130, 8, 768}, {5, 50, 5000}, {3080, 40, 800}, {1030, 3100, 768},
	};
	const size_t large = 2;
	const g2_kernels *tables[G2_KERNEL_SETS],
			   *products = context.products;
	const g2t_kernels *kernels = context.kernels;
	int			n = g2_kernels_all(tables);

	(void) state;
	for (int t = 0; t < n; t++)
		for (size_t i = 0; i < G2_LENGTH(shapes) - (t > 0 ? large : 0); i++)
			for (int options = 0; options < 12; options++)
			{
				context.products = tables[t];
				context.kernels = g2t_kernels_at((uint32_t) t);
				if (!context.kernels)
					context.kernels = kernels;
				check_product(&shapes[i], options & 1, options & 2, options / 4 == 1,
							  options / 4 == 2);
			}
	context.products = products;
	context.kernels = kernels;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_products),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
