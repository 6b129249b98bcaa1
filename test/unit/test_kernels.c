/*
 * test_kernels.c: every kernel of every instruction set gives the portable kernel's bits, over
 * random shapes and odd tails; and the portable kernel agrees with a naive one in double.
 */
#include "kernels_fixture.h"

#include "bf16.h"
#include "vecmath.h"

/* ---- products ---- */

static double
act_reference(uint32_t activation, double x)
{
	switch (activation)
	{
		case G2_ACT_GELU_NEW:
			return 0.5 * x * (1.0 + tanh(sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
		case G2_ACT_GELU:
			return 0.5 * x * (1.0 + erf(x / sqrt(2.0)));
		case G2_ACT_RELU:
			return x > 0.0 ? x : 0.0;
		default:
			return x;
	}
}

static void
check_product_reference(const g2_product *p, const float *old_y, uint32_t n_padded, uint32_t rows)
{
	for (uint32_t r = 0; r < rows; r++)
		for (uint32_t c = 0; c < n_padded; c++)
		{
			double		sum = 0.0;

			for (uint32_t k = 0; k < p->k; k++)
				sum += (double) ((const float *) p->x.x)[r * p->x.ld + k] *
					((const float *) p->w)[((size_t) (c / 48) * p->k + k) * 48 + c % 48];
			sum = act_reference(p->activation, sum + (p->bias ? p->bias[c] : 0.0));
			if (p->residual)
				sum += old_y[r * p->ldy + c];
			assert_close(p->y[r * p->ldy + c], sum, sqrt(p->k));
		}
}

/* All rows at once, with every set; then row by row: the bits must not change. */
static void
product_case(uint32_t rows, uint32_t k, uint32_t panels, uint32_t activation, bool bias,
			 bool residual, bool reference)
{
	uint32_t	n = panels * G2_PANEL;
	size_t		ldx = k + random_below(20),
				ldy = n + random_below(20),
				len = (rows - 1) * ldy + n;
	float	   *x = random_floats((rows - 1) * ldx + k),
			   *w = random_floats((size_t) k * n),
			   *b = random_floats(n),
			   *y0 = random_floats(len),
			   *scratch = malloc(G2_PRODUCT_SCRATCH * sizeof(float)),
			   *first = NULL;

	for (int s = 0; s < n_sets; s++)
	{
		float	   *y = copy_floats(y0, len);
		g2_product	p = {{.x = x, .ld = ldx}, w, k, bias ? b : NULL, activation,
			residual ? y : NULL, ldy, y, ldy};

		sets[s]->product[G2_FORMAT_F32](&p, 0, panels, 0, rows, scratch);
		if (s == 0)
		{
			if (reference)
				check_product_reference(&p, y0, n, rows);
			first = y;
			continue;
		}
		assert_memory_equal(y, first, len * sizeof *y);
		memcpy(y, y0, len * sizeof *y);
		for (uint32_t r = 0; r < rows; r++)
			sets[s]->product[G2_FORMAT_F32](&p, 0, panels, r, r + 1, scratch);
		assert_memory_equal(y, first, len * sizeof *y);
		free(y);
	}
	free(first);
	free(x);
	free(w);
	free(b);
	free(y0);
	free(scratch);
}

static void
test_products(void **state)
{
	static const uint32_t acts[] = {G2_NO_ACTIVATION, G2_ACT_GELU_NEW, G2_ACT_GELU, G2_ACT_RELU};

	(void) state;
	for (uint32_t m = 1; m <= 70; m++)
		product_case(m, 1 + random_below(90), 1 + random_below(3), acts[m % 4], m % 3 != 0,
					 m % 5 < 2, true);
	/* Longer than a strip of the panel, and around its edges. */
	for (uint32_t m = 1; m <= 13; m++)
		product_case(m, 500 + random_below(300), 2, G2_NO_ACTIVATION, true, false, m < 5);
	product_case(9, 256, 1, G2_NO_ACTIVATION, false, false, true);
	product_case(130, 129, 1, G2_ACT_GELU_NEW, true, true, true);
}

/* ---- dot products ---- */

static void
test_dots(void **state)
{
	(void) state;
	for (uint32_t k = 1; k <= 130; k++)
		for (uint32_t n = 1; n <= 9; n++)
		{
			float	   *x = random_floats(k),
					   *a = random_floats((size_t) n * k),
					   *first = random_floats(n),
					   *y = random_floats(n);

			for (int s = 0; s < n_sets; s++)
			{
				sets[s]->dots(x, k, a, n, s == 0 ? first : y);
				if (s > 0)
					assert_memory_equal(y, first, n * sizeof *y);
			}
			for (uint32_t j = 0; j < n; j++)
			{
				double		sum = 0.0;

				for (uint32_t i = 0; i < k; i++)
					sum += (double) x[i] * a[(size_t) j * k + i];
				assert_close(first[j], sum, sqrt(k));
				/* whatever rows are there beside it */
				sets[0]->dots(x, k, a + (size_t) j * k, 1, y);
				assert_memory_equal(y, first + j, sizeof *y);
			}
			free(x);
			free(a);
			free(first);
			free(y);
		}
}

/* ---- layer norm ---- */

static void
test_layer_norm(void **state)
{
	(void) state;
	for (uint32_t n = 1; n <= 130; n++)
	{
		float	   *x = random_floats(n),
				   *gain = random_floats(n),
				   *bias = random_floats(n),
				   *first = random_floats(n),
				   *y = random_floats(n);
		double		mean = 0.0,
					var = 0.0;

		for (uint32_t i = 0; i < n; i++)
			mean += x[i] / (double) n;
		for (uint32_t i = 0; i < n; i++)
			var += (x[i] - mean) * (x[i] - mean) / n;
		for (int with = 0; with <= 1; with++)
			for (int s = 0; s < n_sets; s++)
			{
				float	   *to = s == 0 ? first : y;

				sets[s]->layer_norm(x, n, gain, with ? bias : NULL, 1e-5f, to);
				for (uint32_t i = 0; s == 0 && i < n; i++)
					assert_close(to[i], (x[i] - mean) / sqrt(var + 1e-5) * gain[i] +
								 (with ? bias[i] : 0.0), 1.0);
				if (s > 0)
					assert_memory_equal(y, first, n * sizeof *y);
			}
		free(x);
		free(gain);
		free(bias);
		free(first);
		free(y);
	}
}

/* ---- attention ---- */

/* K and V of a random sequence in a cache whose blocks stand in random order. */
typedef struct cache
{
	uint32_t	d;
	uint32_t	dv;
	uint32_t	n_keys;
	uint32_t	n_blocks;
	size_t		stride;
	uint32_t   *blocks;
	float	   *data;
	uint16_t   *halves;			/* the same, where data has values of bf16 only */
} cache;

static cache
random_cache(uint32_t d, uint32_t n_keys)
{
	cache		c = {.d = d, .dv = (d + 15) / 16 * 16, .n_keys = n_keys};

	c.n_blocks = (n_keys + G2_BLOCK - 1) / G2_BLOCK;
	c.stride = (size_t) G2_BLOCK * (c.d + c.dv);
	c.data = random_floats(c.stride * c.n_blocks);
	c.halves = malloc(c.stride * c.n_blocks * sizeof *c.halves);
	c.blocks = malloc(c.n_blocks * sizeof *c.blocks);
	assert_true(c.halves && c.blocks);
	for (uint32_t i = 0; i < c.n_blocks; i++)
		c.blocks[i] = i;
	for (uint32_t i = c.n_blocks - 1; i > 0; i--)
	{
		uint32_t	j = random_below(i + 1),
					t = c.blocks[i];

		c.blocks[i] = c.blocks[j];
		c.blocks[j] = t;
	}
	return c;
}

/* What lies behind the last key must not matter, not even a NaN. */
static void
spoil_unused(cache *c)
{
	for (uint32_t key = c->n_keys; key < c->n_blocks * G2_BLOCK; key++)
	{
		float	   *block = c->data + c->blocks[key / G2_BLOCK] * c->stride;

		for (uint32_t i = 0; i < c->d; i++)
			block[i * G2_BLOCK + key % G2_BLOCK] = NAN;
		for (uint32_t i = 0; i < c->dv; i++)
			block[c->d * G2_BLOCK + key % G2_BLOCK * c->dv + i] = INFINITY;
	}
}

/* data to the nearest values of bf16, and those to halves. */
static void
halve(cache *c)
{
	for (size_t i = 0; i < c->stride * c->n_blocks; i++)
	{
		c->halves[i] = g2_to_bf16(c->data[i]);
		c->data[i] = g2_from_bf16(c->halves[i]);
	}
}

static void
check_attention_reference(const cache *c, const g2_attention *a)
{
	for (uint32_t r = 0; r < a->rows; r++)
	{
		uint32_t	n = a->position + r + 1;
		double	   *p = malloc(n * sizeof *p),
					max = -INFINITY,
					sum = 0.0;

		for (uint32_t key = 0; key < n; key++)
		{
			const float *k = c->data + c->blocks[key / G2_BLOCK] * c->stride + key % G2_BLOCK;

			p[key] = 0.0;
			for (uint32_t i = 0; i < c->d; i++)
				p[key] += (double) a->q[r * a->ldq + i] * k[i * G2_BLOCK];
			p[key] *= a->scale;
			max = fmax(max, p[key]);
		}
		for (uint32_t key = 0; key < n; key++)
			sum += p[key] = exp(p[key] - max);
		for (uint32_t i = 0; i < c->d; i++)
		{
			double		value = 0.0;

			for (uint32_t key = 0; key < n; key++)
				value += p[key] / sum *
					c->data[c->blocks[key / G2_BLOCK] * c->stride + c->d * G2_BLOCK +
							key % G2_BLOCK * c->dv + i];
			assert_close(a->out[r * a->ldo + i], value, 1.0);
		}
		free(p);
	}
}

static void
attention_case(g2_kv_type type, uint32_t d, uint32_t position, uint32_t rows)
{
	cache		c = random_cache(d, position + rows);
	size_t		ldq = d + random_below(9),
				ldo = d + random_below(9),
				len = (rows - 1) * ldo + d;
	float	   *q = random_floats((rows - 1) * ldq + d),
			   *y0 = random_floats(len),
			   *scratch = malloc(G2_ATTEND_SCRATCH(c.dv) * sizeof(float)),
			   *first = NULL;

	spoil_unused(&c);
	if (type == G2_KV_BF16)
		halve(&c);
	for (int s = 0; s < n_sets; s++)
	{
		float	   *y = copy_floats(y0, len);
		g2_attention a = {q, ldq, y, ldo, rows, position, d, c.dv, 1.0f / sqrtf((float) d),
			type == G2_KV_F32 ? (void *) c.data : c.halves, c.stride, c.blocks};

		sets[s]->attend[type](&a, scratch);
		if (s == 0)
		{
			check_attention_reference(&c, &a);
			first = y;
		}
		else
			assert_memory_equal(y, first, len * sizeof *y);
		/* One query at a time. */
		memcpy(y, s == 0 ? y : y0, len * sizeof *y);
		for (uint32_t r = 0; r < rows && s > 0; r++)
		{
			g2_attention one = a;

			one.q += r * ldq;
			one.out += r * ldo;
			one.position += r;
			one.rows = 1;
			sets[s]->attend[type](&one, scratch);
		}
		if (s == 0)
			continue;
		assert_memory_equal(y, first, len * sizeof *y);
		free(y);
	}
	free(first);
	free(q);
	free(y0);
	free(scratch);
	free(c.data);
	free(c.halves);
	free(c.blocks);
}

static void
test_attention(void **state)
{
	static const uint32_t dims[] = {64, 16, 32, 1, 7, 20, 48, 80, 96, 128};

	(void) state;
	for (g2_kv_type type = G2_KV_F32; type < G2_KV_TYPES; type++)
	{
		for (int i = 0; i < 120; i++)
			attention_case(type, dims[i % 10], random_below(150),
						   1 + random_below(G2_ATTEND_ROWS));
		attention_case(type, 64, 0, 1);
		attention_case(type, 64, 0, 32);
		attention_case(type, 64, 31, 2);
		attention_case(type, 64, 1023, 1);
	}
}

/* ---- logits ---- */

static void
test_logits(void **state)
{
	(void) state;
	for (uint32_t n = 1; n < 4000; n += 1 + random_below(60))
	{
		float	   *x = random_floats(n);
		uint64_t   *w = malloc(n * sizeof *w),
				   *w0 = malloc(n * sizeof *w);
		double		sum = 0.0,
					first = 0.0;
		float		max = -INFINITY;

		for (uint32_t i = 0; i < n; i++)
		{
			x[i] *= 10.0f;
			if (i > 0 && i % 97 == 0)
				x[i] = -INFINITY;
			max = x[i] > max ? x[i] : max;
		}
		for (uint32_t i = 0; i < n; i++)
			sum += exp((double) x[i] - max);
		for (int s = 0; s < n_sets; s++)
		{
			bool		clean = false;
			uint64_t	total = 0;
			double		e;

			assert_true(sets[s]->max(x, n, &clean) == max && clean);
			e = sets[s]->sum_exp(x, n, max);
			assert_true(fabs(e - sum) <= 1e-6 * sum);
			if (s == 0)
				first = e;
			assert_memory_equal(&e, &first, sizeof e);
			total = sets[s]->weights(x, n, max, 0.7f, s == 0 ? w0 : w);
			for (uint32_t i = 0; s == 0 && i < n; i++)
			{
				float		v = g2_expf((x[i] - max) / 0.7f);

				assert_true(w0[i] == (uint64_t) ((double) v * 0x1p45));
			}
			if (s > 0)
				assert_memory_equal(w, w0, n * sizeof *w);
			for (uint32_t i = 0; i < n; i++)
				total -= w0[i];
			assert_int_equal(total, 0);
		}
		free(x);
		free(w);
		free(w0);
	}
}

static void
test_unclean_logits(void **state)
{
	float		x[37];
	bool		clean;

	(void) state;
	for (int s = 0; s < n_sets; s++)
		for (uint32_t at = 0; at < 37; at++)
		{
			for (uint32_t i = 0; i < 37; i++)
				x[i] = (float) i;
			x[at] = NAN;
			assert_true(sets[s]->max(x, 37, &clean) == (at == 36 ? 35.0f : 36.0f));
			assert_false(clean);
			x[at] = INFINITY;
			assert_true(sets[s]->max(x, 37, &clean) == INFINITY && !clean);
			x[at] = -INFINITY;
			assert_true(sets[s]->max(x, 37, &clean) == (at == 36 ? 35.0f : 36.0f) && clean);
			for (uint32_t i = 0; i < 37; i++)
				x[i] = NAN;
			assert_true(sets[s]->max(x, 37, &clean) == -INFINITY && !clean);
		}
}

static void
test_choice(void **state)
{
	const g2_kernels *k;
	g2_error	err;

	(void) state;
	assert_true(g2_kernels_choose("auto", &k, &err) && k == g2_kernels_best());
	assert_true(g2_kernels_choose(NULL, &k, &err) && k == g2_kernels_best());
	assert_true(g2_kernels_choose("portable", &k, &err) && k == &g2_kernels_portable);
	assert_false(g2_kernels_choose("sse9", &k, &err));
	assert_int_equal(err.code, G2_E_PARAM);
	if (!g2_kernels_choose("avx512", &k, &err))
	{
		assert_int_equal(err.code, G2_E_UNSUPPORTED);
		assert_non_null(strstr(err.detail, "portable"));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_products),
		cmocka_unit_test(test_layer_norm),
		cmocka_unit_test(test_dots),
		cmocka_unit_test(test_attention),
		cmocka_unit_test(test_logits),
		cmocka_unit_test(test_unclean_logits),
		cmocka_unit_test(test_choice),
	};

	find_sets();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
