/*
 * kernels_avx512.c: the kernels for AVX-512 (F, BW, VL, DQ: Skylake-SP and Zen 4 onwards).
 * Compiled with -mavx512f -mavx512bw -mavx512vl -mavx512dq; called only after kernels.c has seen
 * that processor and system support them.
 *
 * 32 registers of 16 lanes: the large tile is 8 rows x 48 columns (24 accumulators).  Intrinsics
 * stay within what SIMDe offers, so that tests run this file on machines without AVX-512.
 */
#include "kernels.h"

#if defined(__x86_64__)

#include "vecmath.h"

#include <immintrin.h>

typedef __m512 v16;

#define INLINE static inline __attribute__((always_inline))

#define v16_set1 _mm512_set1_ps
#define v16_zero _mm512_setzero_ps
#define v16_load(p) _mm512_loadu_ps(p)
#define v16_store(p, x) _mm512_storeu_ps(p, x)
#define v16_add _mm512_add_ps
#define v16_sub _mm512_sub_ps
#define v16_mul _mm512_mul_ps
#define v16_div _mm512_div_ps
#define v16_fma _mm512_fmadd_ps
#define v16_min _mm512_min_ps
#define v16_max _mm512_max_ps

INLINE v16
v16_abs(v16 x)
{
	return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), x);
}

INLINE v16
v16_copysign(v16 x, v16 y)
{
	return _mm512_or_ps(v16_abs(x), _mm512_and_ps(_mm512_set1_ps(-0.0f), y));
}

INLINE v16
v16_lt_select(v16 x, v16 y, v16 yes, v16 no)
{
	return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, y, _CMP_LT_OQ), no, yes);
}

INLINE v16
v16_exponent_add(v16 p, v16 t)
{
	__m512i		n = _mm512_slli_epi32(_mm512_castps_si512(t), 23);

	return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), n));
}

INLINE __m256
log_split(__m256 x, float *e)
{
	__m256i		bits = _mm256_castps_si256(x),
				half = _mm256_set1_epi32((int) G2_SQRT_HALF_BITS),
				k = _mm256_srai_epi32(_mm256_sub_epi32(bits, half), 23);

	_mm256_storeu_ps(e, _mm256_cvtepi32_ps(k));
	return _mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_slli_epi32(k, 23)));
}

/* By halves: not in a hot loop. */
INLINE v16
v16_log_split(v16 x, v16 *e)
{
	float		f[G2_LANES],
				exponent[G2_LANES];

	v16_store(f, x);
	for (int i = 0; i < G2_LANES; i += 8)
		_mm256_storeu_ps(f + i, log_split(_mm256_loadu_ps(f + i), exponent + i));
	*e = v16_load(exponent);
	return v16_load(f);
}

typedef __m512 vr;

#define VR_LANES G2_LANES
#define PANEL_V 3
#define vr_zero _mm512_setzero_ps
#define vr_set1 _mm512_set1_ps
#define vr_load(p) _mm512_loadu_ps(p)
#define vr_store(p, x) _mm512_storeu_ps(p, x)
#define vr_fma _mm512_fmadd_ps

#define TILE_M 8
#define TILE_ROWS(n) ((n) >= 8 ? 8 : (n))
#define TILE_K 128
#define TILES TILE(1, 3) TILE(2, 3) TILE(3, 3) TILE(4, 3) TILE(5, 3) TILE(6, 3) TILE(7, 3) TILE(8, 3)
#define ATTEND_Q 4
#define SET(name) name##_avx512
#define SET_NAME "avx512"

#include "kernels_body.h"

#endif							/* __x86_64__ */
