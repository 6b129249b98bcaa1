/*
 * test_vecmath.c: the elementary functions: accuracy against double, special values, and the same
 * bits in the scalar and in every vector form.
 *
 * With G2_TEST_SIMDE (test_vecmath_simde) the AVX-512 form is the one over SIMDe, which runs on any
 * machine with AVX2.
 *
 * Arguments are every G2_TEST_STRIDE-th bit pattern of a float (environment; default 4099, 1 is
 * exhaustive and takes minutes).
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kernels.h"
#include "protocol_watch.h"
#include "vecmath.h"

static uint32_t
stride(void)
{
	const char *s = getenv("G2_TEST_STRIDE");
	long		n = s ? atol(s) : 0;

	return n > 0 ? (uint32_t) n : 4099;
}

/* Distance in units of the last place of the float nearest to the reference. */
static double
ulps(float y, double reference)
{
	float		r = (float) reference;
	double		unit;

	if (isnan(reference) || isinf(r) || isinf(y))
		return (isnan(reference) && isnan(y)) || y == r ? 0.0 : INFINITY;
	unit = fmax(ldexp(1.0, ilogb(reference == 0.0 ? 1e-45 : reference) - 23), 0x1p-149);
	return fabs((double) y - reference) / unit;
}

static void
check_accuracy(const char *name, float (*fn) (float), double (*reference) (double), float low,
			   double bound)
{
	double		worst = 0.0;
	float		at = 0.0f;
	uint32_t	step = stride();

	for (uint64_t u = 0; u <= UINT32_MAX; u += step)
	{
		float		x = g2_bits_float((uint32_t) u);
		double		e;

		if (x < low || isnan(x))
			continue;
		e = ulps(fn(x), reference((double) x));
		if (e > worst)
		{
			worst = e;
			at = x;
		}
	}
	print_message("%s: %.3f ulp at %a\n", name, worst, (double) at);
	assert_true(worst <= bound);
}

static void
test_accuracy(void **state)
{
	(void) state;
	check_accuracy("exp", g2_expf, exp, -87.3365f, 1.0);
	check_accuracy("log", g2_logf, log, 0.0f, 1.0);
	check_accuracy("tanh", g2_tanhf, tanh, -INFINITY, 2.0);
	check_accuracy("erf", g2_erff, erf, -INFINITY, 2.0);
}

static double
gelu_new_reference(double x)
{
	return 0.5 * x * (1.0 + tanh(sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
}

static double
gelu_reference(double x)
{
	return 0.5 * x * (1.0 + erf(x / sqrt(2.0)));
}

/* Activations lose digits where 1 + tanh does in f32, too: relative to |x|. */
static void
test_activations(void **state)
{
	(void) state;
	for (float x = -12.0f; x < 12.0f; x += 0.00137f)
	{
		assert_true(fabs(g2s_gelu_new(x) - gelu_new_reference(x)) <= 3e-7 * fabs(x));
		assert_true(fabs(g2s_gelu(x) - gelu_reference(x)) <= 3e-7 * fabs(x));
		assert_true(g2s_relu(x) == (x > 0.0f ? x : 0.0f));
	}
	assert_true(isnan(g2s_gelu_new(NAN)) && isnan(g2s_gelu(NAN)) && isnan(g2s_relu(NAN)));
}

static void
test_special_values(void **state)
{
	(void) state;
	assert_true(g2_expf(0.0f) == 1.0f && g2_expf(-0.0f) == 1.0f);
	assert_true(g2_expf(-INFINITY) == 0.0f && g2_expf(-88.0f) == 0.0f && g2_expf(-1e38f) == 0.0f);
	assert_true(g2_expf(INFINITY) == INFINITY && g2_expf(89.0f) == INFINITY);
	assert_true(g2_expf(88.72283f) < INFINITY && g2_expf(88.72284f) == INFINITY);
	assert_true(g2_expf(-87.3365f) > 0.0f);
	assert_true(isnan(g2_expf(NAN)) && isnan(g2_logf(NAN)) && isnan(g2_logf(-1.0f)));
	assert_true(isnan(g2_tanhf(NAN)) && isnan(g2_erff(NAN)) && isnan(g2_logf(-INFINITY)));
	assert_true(g2_logf(0.0f) == -INFINITY && g2_logf(INFINITY) == INFINITY);
	assert_true(g2_logf(1.0f) == 0.0f);
	assert_true(g2_tanhf(INFINITY) == 1.0f && g2_tanhf(-INFINITY) == -1.0f);
	assert_true(g2_erff(INFINITY) == 1.0f && g2_erff(-50.0f) == -1.0f);
	assert_true(signbit(g2_tanhf(-0.0f)) && signbit(g2_erff(-0.0f)));
}

static void
test_log_double(void **state)
{
	(void) state;
	for (double x = 1.0; x < 300000.0; x *= 1.0009)
	{
		assert_true(fabs(g2_log(x) - log(x)) <= 4.5e-16 * fmax(fabs(log(x)), 1e-3));
		assert_true(fabs(g2_log(1.0 / x) - log(1.0 / x)) <= 4.5e-16 * fmax(fabs(log(x)), 1e-3));
	}
	assert_true(isnan(g2_log(NAN)) && isinf(g2_log(INFINITY)) && g2_log(1.0) == 0.0);
}

static bool
choose(const char *name, const g2_kernels **k)
{
	if (g2_kernels_choose(name, k, NULL))
		return true;
#if defined(G2_TEST_SIMDE)
	/* SIMDe's code is AVX2's. */
	if (strncmp(name, "avx512", 6) == 0 && g2_kernels_choose("avx2", k, NULL))
	{
		*k = &g2_kernels_avx512;
		return true;
	}
#endif
	return false;
}

/* Scalar and vector forms of every table that runs here. */
static void
test_same_bits(void **state)
{
	static float (*const scalar[]) (float) = {g2s_exp, g2s_log, g2s_tanh, g2s_erf, g2s_gelu_new,
		g2s_gelu, g2s_relu};
	static const char *const sets[] = {G2_CPU_NAMES};
	enum
	{
		N = 4099				/* no multiple of 16: the tail is seen too */
	};
	static float x[N],
				y[N],
				z[N];

	(void) state;
	for (size_t s = 0; s < G2_LENGTH(sets); s++)
	{
		const g2_kernels *k;

		if (!choose(sets[s], &k))
			continue;
		print_message("math: %s\n", k->name);
		for (int fn = G2_MATH_EXP; fn <= G2_MATH_RELU; fn++)
			for (uint64_t u = 0, i = 0; u <= UINT32_MAX; u += 1021)
			{
				if (!isnan(g2_bits_float((uint32_t) u)))
					x[i++] = g2_bits_float((uint32_t) u);
				if (i < N)
					continue;
				k->map((g2_math) fn, x, y, N);
				for (i = 0; i < N; i++)
					z[i] = scalar[fn] (x[i]);
				/* NaN payloads are nobody's promise. */
				for (i = 0; i < N; i++)
					if (isnan(z[i]) && isnan(y[i]))
						y[i] = z[i];
				assert_memory_equal(y, z, sizeof y);
				i = 0;
			}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accuracy),
		cmocka_unit_test(test_activations),
		cmocka_unit_test(test_special_values),
		cmocka_unit_test(test_log_double),
		cmocka_unit_test(test_same_bits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
