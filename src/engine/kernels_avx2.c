/*
 * kernels_avx2.c: the kernels for AVX2 with FMA (x86-64-v3).  Compiled with -mavx2 -mfma -mf16c;
 * called only after kernels.c has seen that processor and system support them.
 *
 * 16 registers of 8 lanes: the large f32 tile is 6 rows x 16 columns (12 accumulators, 2 of the
 * panel, 1 of x; a row of its strip is one cache line).  Few rows are worked off by tiles of two
 * and the panel's whole width, so that memory is read as one stream.
 */
#include "kernels.h"

#if defined(__x86_64__)

#include "avx2_primitives.h"

/* vpmaddubsw adds two products in 16 bits and saturates: 255 * 127 twice would not fit.  So q8
 * weights become signed again, and their signs move to x. */
INLINE vi
vi_dot_q8(vi acc, vi w, vi x)
{
	vi			s = _mm256_xor_si256(w, _mm256_set1_epi8((char) 0x80)),
				pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(s), _mm256_sign_epi8(x, s));

	return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

INLINE vi
vi_start_q8(const int32_t *p)
{
	(void) p;
	return _mm256_setzero_si256();
}

INLINE vi
vi_dot_q4(vi acc, vi w, vi x)
{
	return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x),
												   _mm256_set1_epi16(1)));
}

#define vi_start_q4 vi_set1

#define INT_M 2
#define INT_TILES INT_TILE(1, 6) INT_TILE(2, 2)
#define SET(name) name##_avx2
#define SET_NAME "avx2"

#include "kernels_body.h"

#endif							/* __x86_64__ */
