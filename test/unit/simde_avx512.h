/*
 * simde_avx512.h: AVX-512 over SIMDe, under the intrinsics' own names, and what SIMDe 0.7.4 lacks;
 * included before kernels_avx512.c.
 */
#include <simde/x86/avx512.h>

#include <math.h>
#include <stdint.h>
#include <string.h>

/* Its alias has the parameters of another function. */
#undef _mm512_madd_epi16
#define _mm512_madd_epi16(a, b) simde_mm512_madd_epi16(a, b)

static inline simde__m512i
lanes_from_halves(simde__m256i x)
{
	uint16_t	from[16];
	uint32_t	to[16];

	memcpy(from, &x, sizeof from);
	for (int i = 0; i < 16; i++)
		to[i] = from[i];
	return simde_mm512_loadu_si512(to);
}

static inline simde__m256i
halves_of_lanes(simde__m512i x)
{
	uint32_t	from[16];
	uint16_t	to[16];

	simde_mm512_storeu_si512(from, x);
	for (int i = 0; i < 16; i++)
		to[i] = (uint16_t) from[i];
	return simde_mm256_loadu_si256((const simde__m256i *) to);
}

static inline simde__m128i
bytes_of_lanes(simde__m512i x)
{
	uint32_t	from[16];
	uint8_t		to[16];

	simde_mm512_storeu_si512(from, x);
	for (int i = 0; i < 16; i++)
		to[i] = (uint8_t) from[i];
	return simde_mm_loadu_si128((const simde__m128i *) to);
}

static inline simde__m512i
round_lanes(simde__m512 x)
{
	float		from[16];
	int32_t		to[16];

	simde_mm512_storeu_ps(from, x);
	for (int i = 0; i < 16; i++)
		to[i] = (int32_t) nearbyintf(from[i]);
	return simde_mm512_loadu_si512(to);
}

static inline simde__m512
floats_of_lanes(simde__m512i x)
{
	int32_t		from[16];
	float		to[16];

	simde_mm512_storeu_si512(from, x);
	for (int i = 0; i < 16; i++)
		to[i] = (float) from[i];
	return simde_mm512_loadu_ps(to);
}

#define _mm512_cvtepi32_ps(x) floats_of_lanes(x)
#define _mm512_cvtepu16_epi32(x) lanes_from_halves(x)
#define _mm512_cvtepi32_epi16(x) halves_of_lanes(x)
#define _mm512_cvtepi32_epi8(x) bytes_of_lanes(x)
#define _mm512_cvtps_epi32(x) round_lanes(x)
