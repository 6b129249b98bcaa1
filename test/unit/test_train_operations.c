/*
 * test_train_operations.c: each operation of training, forward and backward, against PyTorch's
 * autograd (test/vectors/make_training.py) and against finite differences.
 */
#include "train_fixture.h"

#define TOLERANCE 1e-4

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

/* ---- against PyTorch ---- */

static void
test_gelu(void **state)
{
	named_set	s;
	float		y[64],
				dx[64];
	const named *x;

	(void) state;
	read_operation("gelu", &s);
	x = get(&s, "x");
	g2t_gelu(&context, x->n, x->x, y);
	expect_near("y", y, get(&s, "y")->x, x->n, TOLERANCE);
	g2t_gelu_backward(&context, x->n, x->x, get(&s, "dy")->x, dx);
	expect_near("dx", dx, get(&s, "dx")->x, x->n, TOLERANCE);
	free_set(&s);
}

static void
test_norm(void **state)
{
	enum
	{
		N = 5, C = 24
	};
	named_set	s;
	float		y[N * C],
				dx[N * C] = {0},
				dgain[C] = {0},
				dbias[C] = {0},
				mean[N],
				rstd[N];
	g2t_norm	norm = {.dgain = dgain, .dbias = dbias, .epsilon = 1e-5f};

	(void) state;
	read_operation("norm", &s);
	assert_int_equal(get(&s, "x")->n, N * C);
	norm.gain = get(&s, "gain")->x;
	norm.bias = get(&s, "bias")->x;
	g2t_norm_forward(&context, &norm, N, C, get(&s, "x")->x, y, mean, rstd);
	expect_near("y", y, get(&s, "y")->x, N * C, TOLERANCE);
	g2t_norm_backward(&context, &norm, N, C, get(&s, "x")->x, mean, rstd, get(&s, "dy")->x, dx,
					  false);
	expect_near("dx", dx, get(&s, "dx")->x, N * C, TOLERANCE);
	expect_near("dgain", dgain, get(&s, "dgain")->x, C, TOLERANCE);
	expect_near("dbias", dbias, get(&s, "dbias")->x, C, TOLERANCE);
	free_set(&s);
}

static void
check_linear(const char *name, size_t rank, float scale)
{
	enum
	{
		N = 6, IN = 10, OUT = 14, RANK = 3
	};
	named_set	s;
	float		y[N * OUT],
				dx[N * IN],
				dw[IN * OUT] = {0},
				db[OUT] = {0},
				da1[IN * RANK] = {0},
				da2[RANK * OUT] = {0},
				low[N * RANK],
				low2[N * RANK];
	g2t_linear	l = {.in = IN, .out = OUT, .dw = dw, .db = db, .rank = rank, .scale = scale,
	.da1 = da1, .da2 = da2};

	read_operation(name, &s);
	l.w = get(&s, "w")->x;
	l.b = get(&s, "b")->x;
	if (rank > 0)
	{
		l.a1 = get(&s, "a1")->x;
		l.a2 = get(&s, "a2")->x;
	}
	g2t_linear_forward(&context, &l, N, get(&s, "x")->x, y, low);
	expect_near("y", y, get(&s, "y")->x, N * OUT, TOLERANCE);
	g2t_linear_backward(&context, &l, N, get(&s, "x")->x, get(&s, "dy")->x, dx, false, low, low2);
	expect_near("dx", dx, get(&s, "dx")->x, N * IN, TOLERANCE);
	expect_near("dw", dw, get(&s, "dw")->x, IN * OUT, TOLERANCE);
	expect_near("db", db, get(&s, "db")->x, OUT, TOLERANCE);
	if (rank > 0)
	{
		expect_near("da1", da1, get(&s, "da1")->x, IN * RANK, TOLERANCE);
		expect_near("da2", da2, get(&s, "da2")->x, RANK * OUT, TOLERANCE);
	}
	free_set(&s);
}

static void
test_linear(void **state)
{
	(void) state;
	check_linear("linear", 0, 0.0f);
	check_linear("adapter", 3, 1.5f);
}

static void
test_attention(void **state)
{
	enum
	{
		N = 80, C = 6
	};
	const uint32_t start[] = {0, 70, 71, 80};
	const g2t_batch batch = {.n = N, .n_sequences = 3, .start = start};
	const g2t_attention a = {.n_head = 2, .head_dim = 3, .scale = 1.0f / sqrtf(3.0f),
	.positions = TEST_POSITIONS};
	named_set	s;
	float		y[N * C],
				dqkv[N * 3 * C];

	(void) state;
	read_operation("attention", &s);
	g2t_attention_forward(&context, &a, &batch, get(&s, "qkv")->x, y);
	expect_near("y", y, get(&s, "y")->x, N * C, TOLERANCE);
	memset(dqkv, 0xFF, sizeof dqkv);
	g2t_attention_backward(&context, &a, &batch, get(&s, "qkv")->x, get(&s, "dy")->x, dqkv);
	expect_near("dqkv", dqkv, get(&s, "dqkv")->x, N * 3 * C, TOLERANCE);
	free_set(&s);
}

static void
test_embedding(void **state)
{
	const uint32_t start[] = {0, 4, 9};
	g2t_batch	batch = {.n = 9, .n_sequences = 2, .start = start};
	named_set	s;
	float		y[9 * 6],
				dwte[7 * 6] = {0},
				dwpe[5 * 6] = {0};

	(void) state;
	read_operation("embedding", &s);
	batch.tokens = get(&s, "ids")->ids;
	g2t_embed(&context, &batch, 6, get(&s, "wte")->x, get(&s, "wpe")->x, y);
	expect_near("y", y, get(&s, "y")->x, 9 * 6, TOLERANCE);
	g2t_embed_backward(&context, &batch, 6, get(&s, "dy")->x, dwte, dwpe);
	expect_near("dwte", dwte, get(&s, "dwte")->x, 7 * 6, TOLERANCE);
	expect_near("dwpe", dwpe, get(&s, "dwpe")->x, 5 * 6, TOLERANCE);
	free_set(&s);
}

/* Targets that are not learned have no part in loss or gradient. */
static void
test_loss(void **state)
{
	enum
	{
		N = 8, C = 6, V = 19
	};
	const uint32_t start[] = {0, N};
	g2t_batch	batch = {.n = N, .n_sequences = 1, .start = start};
	named_set	s;
	float	   *work = need_memory(g2t_loss_floats(C, V), sizeof(float)),
				dx[N * C],
				dhead[V * C] = {0},
				loss,
				scale;

	(void) state;
	read_operation("loss", &s);
	batch.targets = get(&s, "targets")->ids;
	scale = get(&s, "dy")->x[0];
	/* The kernel's scale is positive: the sign goes to the comparison. */
	loss = (float) g2t_loss(&context, &batch, C, V, get(&s, "x")->x, get(&s, "head")->x,
							fabsf(scale), dx, dhead, false, work);
	expect_near("loss", &loss, get(&s, "y")->x, 1, TOLERANCE);
	for (size_t i = 0; scale < 0 && i < G2_MAX(N * C, V * C); i++)
	{
		if (i < N * C)
			dx[i] = -dx[i];
		if (i < V * C)
			dhead[i] = -dhead[i];
	}
	expect_near("dx", dx, get(&s, "dx")->x, N * C, TOLERANCE);
	expect_near("dhead", dhead, get(&s, "dhead")->x, V * C, TOLERANCE);
	free(work);
	free_set(&s);
}

/* ---- against finite differences ---- */

/* A function of x[n] -> y[m], and the gradient of sum(y r) with respect to x. */
typedef void (*forward_fn) (const float *x, float *y);
typedef void (*backward_fn) (const float *x, const float *r, float *dx);

#define MAX_ELEMENTS 4096

static double
weighted(forward_fn forward, const float *x, const float *r, size_t m)
{
	static float y[MAX_ELEMENTS];
	double		s = 0;

	forward(x, y);
	for (size_t i = 0; i < m; i++)
		s += (double) y[i] * (double) r[i];
	return s;
}

/* Central differences of every element; float arithmetic leaves about three digits. */
static void
check_differences(const char *what, size_t n, size_t m, forward_fn forward, backward_fn backward)
{
	static float x[MAX_ELEMENTS],
				r[MAX_ELEMENTS],
				dx[MAX_ELEMENTS],
				expected[MAX_ELEMENTS];
	const float h = 1.0f / 64;

	assert_true(n <= MAX_ELEMENTS && m <= MAX_ELEMENTS);
	fill_random(n, n, x);
	fill_random(m + 1, m, r);
	memset(dx, 0, sizeof dx);
	backward(x, r, dx);
	for (size_t i = 0; i < n; i++)
	{
		float		before = x[i];
		double		above,
					below;

		x[i] = before + h;
		above = weighted(forward, x, r, m);
		x[i] = before - h;
		below = weighted(forward, x, r, m);
		x[i] = before;
		expected[i] = (float) ((above - below) / (2.0 * (double) h));
	}
	expect_near(what, dx, expected, n, 2e-3);
}

enum
{
	D_ROWS = 3, D_COLUMNS = 20
};

static void
gelu_f(const float *x, float *y)
{
	g2t_gelu(&context, 40, x, y);
}

static void
gelu_b(const float *x, const float *r, float *dx)
{
	g2t_gelu_backward(&context, 40, x, r, dx);
}

static float norm_gain[D_COLUMNS],
			norm_bias[D_COLUMNS],
			norm_mean[D_ROWS],
			norm_rstd[D_ROWS];

static void
norm_f(const float *x, float *y)
{
	g2t_norm	norm = {.gain = norm_gain, .bias = norm_bias, .epsilon = 1e-5f};

	fill_random(5, D_COLUMNS, norm_gain);
	g2t_norm_forward(&context, &norm, D_ROWS, D_COLUMNS, x, y, norm_mean, norm_rstd);
}

static void
norm_b(const float *x, const float *r, float *dx)
{
	float		y[D_ROWS * D_COLUMNS];
	g2t_norm	norm = {.gain = norm_gain, .bias = norm_bias, .epsilon = 1e-5f};

	norm_f(x, y);
	g2t_norm_backward(&context, &norm, D_ROWS, D_COLUMNS, x, norm_mean, norm_rstd, r, dx, false);
}

/* x is the weights of a product, then its bias. */
static float linear_x[D_ROWS * 7];

static g2t_linear
linear_of(const float *x, float *dx)
{
	fill_random(6, D_ROWS * 7, linear_x);
	return (g2t_linear) {.in = 7, .out = 9, .w = x, .b = x + 63, .dw = dx,
	.db = dx ? dx + 63 : NULL};
}

static void
linear_f(const float *x, float *y)
{
	g2t_linear	l = linear_of(x, NULL);

	g2t_linear_forward(&context, &l, D_ROWS, linear_x, y, NULL);
}

static void
linear_b(const float *x, const float *r, float *dx)
{
	g2t_linear	l = linear_of(x, dx);
	float		ignored[D_ROWS * 7];

	g2t_linear_backward(&context, &l, D_ROWS, linear_x, r, ignored, false, NULL, NULL);
}

/* With dropout, whose numbers are the same at each call. */
static const uint32_t attention_start[] = {0, 9, 12};

static g2t_attention
attention_shape(void)
{
	return (g2t_attention) {.n_head = 2, .head_dim = 4, .scale = 0.5f,
	.positions = TEST_POSITIONS, .dropout = {.rate = 0.3f, .key = 5, .site = 2, .step = 3}};
}

static void
attention_f(const float *x, float *y)
{
	g2t_attention a = attention_shape();
	g2t_batch	b = {.n = 12, .n_sequences = 2, .start = attention_start, .first = 100};

	g2t_attention_forward(&context, &a, &b, x, y);
}

static void
attention_b(const float *x, const float *r, float *dx)
{
	g2t_attention a = attention_shape();
	g2t_batch	b = {.n = 12, .n_sequences = 2, .start = attention_start, .first = 100};

	g2t_attention_backward(&context, &a, &b, x, r, dx);
}

static const uint32_t loss_targets[] = {3, G2_NO_TOKEN, 0, 10};
static float loss_x[4 * 5];

static double
loss_of(const float *head, float scale, float *dhead)
{
	const uint32_t start[] = {0, 4};
	g2t_batch	b = {.n = 4, .n_sequences = 1, .start = start, .targets = loss_targets};
	float	   *work = need_memory(g2t_loss_floats(5, 11), sizeof(float)),
				dx[4 * 5];
	double		loss;

	fill_random(8, 20, loss_x);
	loss = g2t_loss(&context, &b, 5, 11, loss_x, head, scale, dx, dhead, true, work);
	free(work);
	return loss;
}

static void
loss_f(const float *x, float *y)
{
	*y = (float) loss_of(x, 0.0f, NULL);
}

static void
loss_b(const float *x, const float *r, float *dx)
{
	(void) loss_of(x, fabsf(*r), dx);
	for (size_t i = 0; *r < 0 && i < 55; i++)
		dx[i] = -dx[i];
}

static void
test_differences(void **state)
{
	(void) state;
	check_differences("gelu", 40, 40, gelu_f, gelu_b);
	check_differences("norm", D_ROWS * D_COLUMNS, D_ROWS * D_COLUMNS, norm_f, norm_b);
	check_differences("linear", 63 + 9, D_ROWS * 9, linear_f, linear_b);
	check_differences("attention", 12 * 24, 12 * 8, attention_f, attention_b);
	check_differences("loss", 55, 1, loss_f, loss_b);
}

/* ---- dropout ---- */

static void
test_dropout(void **state)
{
	enum
	{
		N = 100000
	};
	float	   *x = need_memory(N, sizeof(float)),
			   *parts = need_memory(N, sizeof(float));
	g2t_dropout d = {.rate = 0.25f, .key = 9, .site = 1, .step = 7};
	size_t		dropped = 0;

	(void) state;
	for (size_t i = 0; i < N; i++)
		x[i] = parts[i] = 3.0f;
	g2t_drop(&context, &d, 40, N, x);
	for (size_t i = 0; i < N; i++)
	{
		assert_true(x[i] == 0.0f || x[i] == 3.0f * (1.0f / 0.75f));
		dropped += x[i] == 0.0f;
	}
	/* five standard deviations */
	assert_true(fabs((double) dropped / N - 0.25) < 5 * sqrt(0.25 * 0.75 / N));
	/* the numbers belong to the elements, however they are cut */
	g2t_drop(&context, &d, 40, 33, parts);
	g2t_drop(&context, &d, 73, N - 33, parts + 33);
	assert_memory_equal(x, parts, N * sizeof(float));
	d.step = 8;
	g2t_drop(&context, &d, 40, N, parts);
	assert_memory_not_equal(x, parts, N * sizeof(float));
	free(x);
	free(parts);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gelu),
		cmocka_unit_test(test_norm),
		cmocka_unit_test(test_linear),
		cmocka_unit_test(test_attention),
		cmocka_unit_test(test_embedding),
		cmocka_unit_test(test_loss),
		cmocka_unit_test(test_differences),
		cmocka_unit_test(test_dropout),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
