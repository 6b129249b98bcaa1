/*
 * avx2_primitives.h: what kernels_body.h asks for, of AVX2 with FMA: the sets kernels_avx2.c and
 * kernels_avxvnni.c.
 */
#include "vecmath.h"

#include "x86_lanes.h"

typedef struct v16
{
	__m256		a;				/* lanes 0 .. 7 */
	__m256		b;				/* lanes 8 .. 15 */
} v16;

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

#define v16_sum(x) lanes_sum((x).a, (x).b)
#define v16_largest(x) lanes_largest((x).a, (x).b)
#define v16_largest_bits(x) lanes_largest_bits((x).a, (x).b)

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

/* ---- halves and bytes ---- */

INLINE __m256
load_bf16(const uint16_t *p)
{
	__m256i		u = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *) p));

	return _mm256_castsi256_ps(_mm256_slli_epi32(u, 16));
}

INLINE v16
v16_load_bf16(const uint16_t *p)
{
	return (v16) {load_bf16(p), load_bf16(p + 8)};
}

/* The upper halves, rounded to nearest even (a NaN made quiet), in the lower ones. */
INLINE __m256i
to_bf16(__m256 x)
{
	__m256i		u = _mm256_castps_si256(x),
				odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1)),
				up = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))),
				quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
	__m256		number = _mm256_cmp_ps(x, x, _CMP_ORD_Q);

	return _mm256_srli_epi32(_mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(quiet),
																  _mm256_castsi256_ps(up),
																  number)), 16);
}

INLINE void
v16_store_bf16(uint16_t *p, v16 x)
{
	__m256i		both = _mm256_packus_epi32(to_bf16(x.a), to_bf16(x.b));

	_mm256_storeu_si256((__m256i *) p, _mm256_permute4x64_epi64(both, 0xd8));
}

INLINE __m256
max_bits(__m256 x, __m256 y)
{
	return _mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(x), _mm256_castps_si256(y)));
}

INLINE v16
v16_max_bits(v16 x, v16 y)
{
	return BOTH(max_bits, x, y);
}

INLINE void
v16_store_bytes(int8_t *p, v16 x)
{
	__m256i		both = _mm256_packs_epi32(_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b));
	__m128i		low,
				high;

	both = _mm256_permute4x64_epi64(both, 0xd8);
	low = _mm256_castsi256_si128(both);
	high = _mm256_extracti128_si256(both, 1);
	_mm_storeu_si128((__m128i *) p, _mm_packs_epi16(low, high));
}

typedef __m256i vi;

INLINE vi
vi_load(const void *p)
{
	return _mm256_loadu_si256(p);
}

INLINE vi
vi_set1(const void *p)
{
	int32_t		word;

	memcpy(&word, p, sizeof word);
	return _mm256_set1_epi32(word);
}

INLINE vi
vi_low(vi x)
{
	return _mm256_and_si256(x, _mm256_set1_epi8(15));
}

INLINE vi
vi_high(vi x)
{
	return vi_low(_mm256_srli_epi16(x, 4));
}

INLINE __m256
vr_from_int(vi x)
{
	return _mm256_cvtepi32_ps(x);
}

INLINE __m256
vr_lower(vi x)
{
	return _mm256_castsi256_ps(_mm256_slli_epi32(x, 16));
}

INLINE __m256
vr_upper(vi x)
{
	return _mm256_castsi256_ps(_mm256_and_si256(x, _mm256_set1_epi32((int) 0xffff0000u)));
}

typedef __m256 vr;

#define VR_LANES 8
#define PANEL_V 6
#define vr_zero _mm256_setzero_ps
#define vr_set1 _mm256_set1_ps
#define vr_load _mm256_loadu_ps
#define vr_store _mm256_storeu_ps
#define vr_fma _mm256_fmadd_ps
#define vr_mul _mm256_mul_ps
#define vr_load_bf16 load_bf16

#define TILE_M 6
#define TILE_ROWS(n) ((n) >= 12 ? 6 : (n) >= 2 ? 2 : 1)
#define TILE_K 128
#define TILES TILE(1, 6) TILE(2, 6) TILE(3, 3) TILE(4, 3) TILE(5, 2) TILE(6, 2)
#define BF16_M 4
#define BF16_TILES BF16_TILE(1, 6) BF16_TILE(2, 3) BF16_TILE(3, 3) BF16_TILE(4, 2)
#define ATTEND_Q 2
