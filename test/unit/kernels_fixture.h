/*
 * kernels_fixture.h: all tables of kernels that run here, and random numbers.
 *
 * With G2_TEST_SIMDE a program is linked with kernels_avx512.c compiled over SIMDe, so that its
 * logic is tested on machines without AVX-512 (they need AVX2 and FMA: SIMDe's fused multiply-add
 * is fused only there).  With G2_TEST_EVEX it has a kernels_avxvnni.c that runs on AVX-512 VNNI.
 */
#ifndef KERNELS_FIXTURE_H
#define KERNELS_FIXTURE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kernels.h"
#include "philox.h"

static const g2_kernels *sets[G2_KERNEL_SETS + 2];	/* the portable one is the first */
static int	n_sets;

static uint64_t counter;

static inline uint32_t
random_word(void)
{
	counter++;
	return g2_philox4x32(7, (uint32_t) counter, 0, 99, 0).word[0];
}

static inline uint32_t
random_below(uint32_t n)
{
	return random_word() % n;
}

static inline float
random_float(void)
{
	return (float) (int32_t) random_word() * 0x1p-30f;	/* -2 .. 2 */
}

/* n floats from the heap, exactly, so that a sanitizer sees any access beyond them. */
static inline float *
random_floats(size_t n)
{
	float	   *p = malloc((n ? n : 1) * sizeof *p);

	assert_non_null(p);
	for (size_t i = 0; i < n; i++)
		p[i] = random_float();
	return p;
}

static inline float *
copy_floats(const float *from, size_t n)
{
	float	   *p = malloc((n ? n : 1) * sizeof *p);

	assert_non_null(p);
	memcpy(p, from, n * sizeof *p);
	return p;
}

static inline void
assert_close(double value, double reference, double scale)
{
	if (!(fabs(value - reference) <= 2e-5 * (fabs(reference) + scale)))
	{
		print_error("%.9g instead of %.9g\n", value, reference);
		fail();
	}
}

static inline void
find_sets(void)
{
	const g2_kernels *all[G2_KERNEL_SETS];

	for (int n = g2_kernels_all(all); n > 0; n--)
		sets[n_sets++] = all[n - 1];
#if defined(G2_TEST_SIMDE)
	if (n_sets == 2)			/* AVX2 but no AVX-512 */
		sets[n_sets++] = &g2_kernels_avx512;
#endif
#if defined(G2_TEST_EVEX)
	if (g2_kernels_choose("avx512vnni", &all[0], NULL))
		sets[n_sets++] = &g2_kernels_avxvnni;
#endif
	for (int i = 0; i < n_sets; i++)
		print_message("kernels: %s\n", sets[i]->name);
}

#endif							/* KERNELS_FIXTURE_H */
