/*
 * bf16.h: the 16-bit format that is the upper half of a float.
 */
#ifndef G2_BF16_H
#define G2_BF16_H

#include <stdint.h>

#include "vecmath.h"			/* g2_float_bits, g2_bits_float */

static inline float
g2_from_bf16(uint16_t h)
{
	return g2_bits_float((uint32_t) h << 16);
}

/* To nearest even; a NaN stays one. */
static inline uint16_t
g2_to_bf16(float x)
{
	uint32_t	u = g2_float_bits(x);

	if ((u & 0x7fffffffu) > 0x7f800000u)
		return (uint16_t) (u >> 16 | 0x40u);
	return (uint16_t) ((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

#endif							/* G2_BF16_H */
