/*
 * kernels_avx2.c: the kernels for AVX2 with FMA (x86-64-v3).  Compiled with -mavx2 -mfma -mf16c;
 * called only after kernels.c has seen that processor and system support them.
 *
 * 16 registers of 8 lanes: the large tile is 6 rows x 16 columns (12 accumulators, 2 of the
 * panel, 1 of x; a row of its strip is one cache line).  Few rows are worked off by tiles of two
 * and the panel's whole width, so that memory is read as one stream.
 */
#include "kernels.h"

#if defined(__x86_64__)

#include "vecmath.h"

#include <immintrin.h>

typedef struct v16
{
	__m256		a;				/* lanes 0 .. 7 */
	__m256		b;				/* lanes 8 .. 15 */
} v16;

#define INLINE static inline __attribute__((always_inline))
#define BOTH(op, x, y) ((v16) {op((x).a, (y).a), op((x).b, (y).b)})

INLINE v16
v16_set1(float x)
{
	__m256		v = _mm256_set1_ps(x);

	return (v16) {v, v};
}

INLINE v16
v16_zero(void)
{
	return (v16) {_mm256_setzero_ps(), _mm256_setzero_ps()};
}

INLINE v16
v16_load(const float *p)
{
	return (v16) {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}

INLINE void
v16_store(float *p, v16 x)
{
	_mm256_storeu_ps(p, x.a);
	_mm256_storeu_ps(p + 8, x.b);
}

INLINE v16
v16_add(v16 x, v16 y)
{
	return BOTH(_mm256_add_ps, x, y);
}

INLINE v16
v16_sub(v16 x, v16 y)
{
	return BOTH(_mm256_sub_ps, x, y);
}

INLINE v16
v16_mul(v16 x, v16 y)
{
	return BOTH(_mm256_mul_ps, x, y);
}

INLINE v16
v16_div(v16 x, v16 y)
{
	return BOTH(_mm256_div_ps, x, y);
}

INLINE v16
v16_fma(v16 x, v16 y, v16 z)
{
	return (v16) {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}

INLINE v16
v16_min(v16 x, v16 y)
{
	return BOTH(_mm256_min_ps, x, y);
}

INLINE v16
v16_max(v16 x, v16 y)
{
	return BOTH(_mm256_max_ps, x, y);
}

INLINE v16
v16_abs(v16 x)
{
	__m256		sign = _mm256_set1_ps(-0.0f);

	return (v16) {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}

INLINE v16
v16_copysign(v16 x, v16 y)
{
	v16			sign = v16_set1(-0.0f),
				magnitude = v16_abs(x),
				s = BOTH(_mm256_and_ps, sign, y);

	return BOTH(_mm256_or_ps, magnitude, s);
}

INLINE v16
v16_lt_select(v16 x, v16 y, v16 yes, v16 no)
{
	return (v16) {_mm256_blendv_ps(no.a, yes.a, _mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ)),
		_mm256_blendv_ps(no.b, yes.b, _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ))};
}

INLINE __m256
exponent_add(__m256 p, __m256 t)
{
	return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p),
												_mm256_slli_epi32(_mm256_castps_si256(t), 23)));
}

INLINE v16
v16_exponent_add(v16 p, v16 t)
{
	return BOTH(exponent_add, p, t);
}

INLINE __m256
log_split(__m256 x, __m256 *e)
{
	__m256i		bits = _mm256_castps_si256(x),
				half = _mm256_set1_epi32((int) G2_SQRT_HALF_BITS),
				k = _mm256_srai_epi32(_mm256_sub_epi32(bits, half), 23);

	*e = _mm256_cvtepi32_ps(k);
	return _mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_slli_epi32(k, 23)));
}

INLINE v16
v16_log_split(v16 x, v16 *e)
{
	return (v16) {log_split(x.a, &e->a), log_split(x.b, &e->b)};
}

typedef __m256 vr;

#define VR_LANES 8
#define PANEL_V 6
#define vr_zero _mm256_setzero_ps
#define vr_set1 _mm256_set1_ps
#define vr_load _mm256_loadu_ps
#define vr_store _mm256_storeu_ps
#define vr_fma _mm256_fmadd_ps

#define TILE_M 6
#define TILE_ROWS(n) ((n) >= 12 ? 6 : (n) >= 2 ? 2 : 1)
#define TILE_K 128
#define TILES TILE(1, 6) TILE(2, 6) TILE(3, 3) TILE(4, 3) TILE(5, 2) TILE(6, 2)
#define ATTEND_Q 2
#define SET(name) name##_avx2
#define SET_NAME "avx2"

#include "kernels_body.h"

#endif							/* __x86_64__ */
