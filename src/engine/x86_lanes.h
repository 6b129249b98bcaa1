/*
 * x86_lanes.h: reductions of 16 lanes, given as two halves, in registers: lane i with i + 8, then + 4,
 * + 2, + 1, as TREE of kernels_body.h.  For the sets of kernels with AVX2 or more.
 */
#ifndef G2_X86_LANES_H
#define G2_X86_LANES_H

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

INLINE float
lanes_sum(__m256 low, __m256 high)
{
	__m256		a = _mm256_add_ps(low, high);
	__m128		x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));

	x = _mm_add_ps(x, _mm_movehl_ps(x, x));
	return _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)));
}

INLINE float
lanes_largest(__m256 low, __m256 high)
{
	__m256		a = _mm256_max_ps(low, high);
	__m128		x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));

	x = _mm_max_ps(x, _mm_movehl_ps(x, x));
	return _mm_cvtss_f32(_mm_max_ss(x, _mm_shuffle_ps(x, x, 1)));
}

/* As integers, none of which is negative. */
INLINE uint32_t
lanes_largest_bits(__m256 low, __m256 high)
{
	__m256i		a = _mm256_max_epi32(_mm256_castps_si256(low), _mm256_castps_si256(high));
	__m128i		x = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));

	x = _mm_max_epi32(x, _mm_shuffle_epi32(x, 0x4e));
	x = _mm_max_epi32(x, _mm_shuffle_epi32(x, 1));
	return (uint32_t) _mm_cvtsi128_si32(x);
}

#endif							/* G2_X86_LANES_H */
