/*
 * avx512_primitives.h: what kernels_body.h asks for, of AVX-512 F, BW, VL and DQ: the sets
 * kernels_avx512.c, kernels_avx512vnni.c and kernels_avx512bf16.c.
 *
 * 32 registers of 16 lanes: the large f32 tile is 8 rows x 48 columns (24 accumulators); that of
 * integers is 4 rows (12 accumulators, and 12 dots).  Tests run kernels_avx512.c over SIMDe on
 * machines without AVX-512: an intrinsic that SIMDe lacks is to be added to
 * test/unit/simde_avx512.h.
 */
#include "vecmath.h"

#include "x86_lanes.h"

typedef __m512 v16;

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

INLINE __m256
upper_half(v16 x)
{
	return _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x), 1));
}

#define v16_sum(x) lanes_sum(_mm512_castps512_ps256(x), upper_half(x))
#define v16_largest(x) lanes_largest(_mm512_castps512_ps256(x), upper_half(x))
#define v16_largest_bits(x) lanes_largest_bits(_mm512_castps512_ps256(x), upper_half(x))

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

/* ---- halves and bytes ---- */

INLINE v16
v16_load_bf16(const uint16_t *p)
{
	__m512i		u = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *) p));

	return _mm512_castsi512_ps(_mm512_slli_epi32(u, 16));
}

/* To nearest even; a NaN is made quiet. */
INLINE void
v16_store_bf16(uint16_t *p, v16 x)
{
	__m512i		u = _mm512_castps_si512(x),
				odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1)),
				up = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))),
				quiet = _mm512_or_si512(u, _mm512_set1_epi32(0x400000));
	__mmask16	nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);

	up = _mm512_srli_epi32(_mm512_mask_blend_epi32(nan, up, quiet), 16);
	_mm256_storeu_si256((__m256i *) p, _mm512_cvtepi32_epi16(up));
}

INLINE v16
v16_max_bits(v16 x, v16 y)
{
	return _mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(x), _mm512_castps_si512(y)));
}

INLINE void
v16_store_bytes(int8_t *p, v16 x)
{
	_mm_storeu_si128((__m128i *) p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x)));
}

typedef __m512i vi;

INLINE vi
vi_load(const void *p)
{
	return _mm512_loadu_si512(p);
}

INLINE vi
vi_set1(const void *p)
{
	int32_t		word;

	memcpy(&word, p, sizeof word);
	return _mm512_set1_epi32(word);
}

INLINE vi
vi_low(vi x)
{
	return _mm512_and_si512(x, _mm512_set1_epi8(15));
}

INLINE vi
vi_high(vi x)
{
	return vi_low(_mm512_srli_epi16(x, 4));
}

/* acc + the dots of 4 unsigned bytes of w and signed ones of x: for the sets with VNNI.  The intrinsic
 * would do, but gcc 12 copies every accumulator before and behind it. */
#ifdef __AVX512VNNI__
INLINE vi
vi_vnni(vi acc, vi w, vi x)
{
	__asm__("vpdpbusd %2, %1, %0" : "+v" (acc) : "v" (w), "v" (x));
	return acc;
}
#endif

INLINE __m512
vr_from_int(vi x)
{
	return _mm512_cvtepi32_ps(x);
}

INLINE __m512
vr_lower(vi x)
{
	return _mm512_castsi512_ps(_mm512_slli_epi32(x, 16));
}

INLINE __m512
vr_upper(vi x)
{
	return _mm512_castsi512_ps(_mm512_and_si512(x, _mm512_set1_epi32((int) 0xffff0000u)));
}

typedef __m512 vr;

#define VR_LANES G2_LANES
#define PANEL_V 3
#define vr_zero _mm512_setzero_ps
#define vr_set1 _mm512_set1_ps
#define vr_load(p) _mm512_loadu_ps(p)
#define vr_store(p, x) _mm512_storeu_ps(p, x)
#define vr_fma _mm512_fmadd_ps
#define vr_mul _mm512_mul_ps
#define vr_load_bf16 v16_load_bf16

#define TILE_M 8
#define TILE_ROWS(n) ((n) >= 8 ? 8 : (n))
#define TILE_K 128
#define TILES \
	TILE(1, 3) TILE(2, 3) TILE(3, 3) TILE(4, 3) TILE(5, 3) TILE(6, 3) TILE(7, 3) TILE(8, 3)
#define INT_M 4
#define INT_TILES INT_TILE(1, 3) INT_TILE(2, 3) INT_TILE(3, 3) INT_TILE(4, 3)
#define INT_STRIP(rows) ((rows) > 32 ? UINT32_MAX : 8)
#define BF16_M 8
#define BF16_TILES \
	BF16_TILE(1, 3) BF16_TILE(2, 3) BF16_TILE(3, 3) BF16_TILE(4, 3) BF16_TILE(5, 3) \
	BF16_TILE(6, 3) BF16_TILE(7, 3) BF16_TILE(8, 3)
#define ATTEND_Q 8
