/*
 * sampler_math.h: what sampling computes value by value, the same on every device: ranks, weights,
 * limits of the filters, the draw.  What it is for, and in which order: sampler.h.
 *
 * For C, C++ and nvcc (which include backend.h before, as C); everything in integers or in correctly
 * rounded operations.
 */
#ifndef G2_SAMPLER_MATH_H
#define G2_SAMPLER_MATH_H

#include <math.h>
#include <stdint.h>

#include "backend.h"
#include "philox.h"
#include "vecmath.h"

#define G2_SUM_BLOCK 1024u		/* ids of one partial sum in double */

/* Order of the key = order of the logit; -0 is 0, a NaN is -inf. */
G2_HD static inline uint32_t
g2_rank_key(float logit)
{
	uint32_t	bits = g2_float_bits(g2s_add(logit, 0.0f));

	bits = logit != logit ? 0xff800000u : bits;
	return bits ^ ((uint32_t) ((int32_t) bits >> 31) | 0x80000000u);
}

/* The logit of a key. */
G2_HD static inline float
g2_rank_logit(uint32_t key)
{
	return g2_bits_float(key & 0x80000000u ? key ^ 0x80000000u : ~key);
}

/* Where the token is among biases [n], whose ids ascend; n: it is not. */
G2_HD static inline uint32_t
g2_bias_find(const g2_bias *biases, uint32_t n, uint32_t token)
{
	uint32_t	lo = 0,
				hi = n;

	while (lo < hi)
	{
		uint32_t	mid = (lo + hi) / 2;

		if (biases[mid].token < token)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < n && biases[lo].token == token ? lo : n;
}

/* As transformers' RepetitionPenaltyLogitsProcessor. */
G2_HD static inline float
g2_penalized(float logit, float penalty)
{
	return logit < 0.0f ? g2s_mul(logit, penalty) : g2s_div(logit, penalty);
}

/* Less by what is taken off a token that the answer holds n > 0 times: logit - n frequency - presence,
 * as the API that these two come from defines them. */
G2_HD static inline float
g2_penalized_count(float logit, uint32_t n, float presence, float frequency)
{
	return g2s_sub(logit, g2s_add(g2s_mul((float) n, frequency), presence));
}

/* (l - max) / T */
G2_HD static inline float
g2_sample_exponent(float logit, float max, float temperature)
{
	return g2s_div(g2s_sub(logit, max), temperature);
}

/* floor(e^((l - max) / T) 2^45) */
G2_HD static inline uint64_t
g2_sample_weight(float logit, float max, float temperature)
{
	return (uint64_t) (int64_t) g2s_mul(g2s_exp(g2_sample_exponent(logit, max, temperature)), 0x1p45f);
}

/* What a token adds to the mean of exponents by weight. */
G2_HD static inline double
g2_typical_part(uint64_t weight, float exponent)
{
	return (double) weight * (double) exponent;
}

/* Order of the key = order of typicality: the nearer to the mean, the larger. */
G2_HD static inline uint32_t
g2_typical_key(double mean, float exponent)
{
	return g2_rank_key(-(float) fabs(mean - (double) exponent));
}

/* ceil(p sum), p in (0, 1) as an integer over 2^53, in 1 .. sum. */
G2_HD static inline uint64_t
g2_mass_target(float p, uint64_t sum)
{
	unsigned __int128 scaled = (unsigned __int128) (uint64_t) ((double) p * 0x1p53) * sum;
	uint64_t	target = (uint64_t) ((scaled + (((uint64_t) 1 << 53) - 1)) >> 53);

	return target > 0 ? target : 1;
}

/* The least weight that min_p keeps where the heaviest that is left has this one. */
G2_HD static inline uint64_t
g2_min_p_least(float min_p, uint64_t heaviest)
{
	return (uint64_t) ceil((double) min_p * (double) heaviest);
}

/* floor(u sum / 2^64), u the random number of the index-th token of a sequence. */
G2_HD static inline uint64_t
g2_sample_draw(uint64_t seed, uint32_t index, uint32_t sequence, uint64_t sum)
{
	g2_philox	random = g2_philox4x32(seed, index, sequence, G2_PHILOX_SAMPLE, 0);

	return (uint64_t) (((unsigned __int128) ((uint64_t) random.word[1] << 32 | random.word[0]) *
						sum) >> 64);
}

#endif							/* G2_SAMPLER_MATH_H */
