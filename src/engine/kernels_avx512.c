/*
 * kernels_avx512.c: the kernels for AVX-512 without VNNI (F, BW, VL, DQ: Skylake-SP).  Compiled
 * with -mavx512f -mavx512bw -mavx512vl -mavx512dq; called only after kernels.c has seen that
 * processor and system support them.
 */
#include "kernels.h"

#if defined(__x86_64__)

#include "avx512_primitives.h"

/* vpmaddubsw adds two products in 16 bits and saturates: 255 * 127 twice would not fit.  So q8
 * weights become signed again, and their signs move to x. */
INLINE vi
vi_dot_q8(vi acc, vi w, vi x)
{
	vi			s = _mm512_xor_si512(w, _mm512_set1_epi8((char) 0x80)),
				turned = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(s), _mm512_setzero_si512(),
											  x),
				pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(s), turned);

	return _mm512_add_epi32(acc, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}

INLINE vi
vi_start_q8(const int32_t *p)
{
	(void) p;
	return _mm512_setzero_si512();
}

INLINE vi
vi_dot_q4(vi acc, vi w, vi x)
{
	return _mm512_add_epi32(acc, _mm512_madd_epi16(_mm512_maddubs_epi16(w, x),
												   _mm512_set1_epi16(1)));
}

#define vi_start_q4 vi_set1
#define SET(name) name##_avx512
#define SET_NAME "avx512"

#include "kernels_body.h"

#endif							/* __x86_64__ */
