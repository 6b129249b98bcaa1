/*
 * device_math.h: what kernels compute element by element, in the engine's own functions
 * (vecmath.h), so that it is bit for bit what the CPU computes.
 */
#ifndef G2_DEVICE_MATH_H
#define G2_DEVICE_MATH_H

#include "device_layout.h"
#include "engine_headers.h"
#include "vecmath.h"

#define G2D_NO_ACTIVATION UINT32_MAX

G2_HD static inline float
g2d_from_bf16(uint16_t h)
{
	return g2_bits_float((uint32_t) h << 16);
}

/* To nearest even; a NaN stays one. */
G2_HD static inline uint16_t
g2d_to_bf16(float x)
{
	uint32_t	u = g2_float_bits(x);

	if ((u & 0x7fffffffu) > 0x7f800000u)
		return (uint16_t) (u >> 16 | 0x40u);
	return (uint16_t) ((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

/* Element k of a row at x, where a product with bf16 takes it (device_layout.h). */
G2_HD static inline void
g2d_put_bf16(char *x, uint32_t k, float v)
{
	*reinterpret_cast<uint16_t *>(x + g2d_operand_at(2 * k)) = g2d_to_bf16(v);
}

/*
 * Groups of q8: the scale, and what values are multiplied with, of the largest magnitude's bits.
 * Scale and bytes are 0 where it is below 2^-100; the scale is NaN where a value is not finite.
 */
G2_HD static inline float
g2d_group_scale(uint32_t largest)
{
	if (largest < (127u - 100u) << 23)
		return 0.0f;
	if (largest >= 0x7f800000u)
		return g2_bits_float(0x7fc00000u);
	return g2s_div(g2_bits_float(largest), 127.0f);
}

G2_HD static inline float
g2d_group_inverse(uint32_t largest)
{
	if (largest < (127u - 100u) << 23 || largest >= 0x7f800000u)
		return 0.0f;
	return g2s_div(127.0f, g2_bits_float(largest));
}

/* To nearest even: adding 1.5 * 2^23 leaves the integer in the lower bits. */
G2_HD static inline int8_t
g2d_group_byte(float x, float inverse)
{
	if (inverse == 0.0f)
		return 0;
	return (int8_t) (uint8_t) g2_float_bits(g2s_add(g2s_mul(x, inverse), 12582912.0f));
}

/* x[n]; n is a constant, the loops are unrolled. */
G2_HD static inline void
g2d_activate(uint32_t activation, float *x, uint32_t n)
{
	switch (activation)
	{
		case G2_ACT_GELU_NEW:
#pragma unroll
			for (uint32_t i = 0; i < n; i++)
				x[i] = g2s_gelu_new(x[i]);
			break;
		case G2_ACT_GELU:
#pragma unroll
			for (uint32_t i = 0; i < n; i++)
				x[i] = g2s_gelu(x[i]);
			break;
		case G2_ACT_RELU:
#pragma unroll
			for (uint32_t i = 0; i < n; i++)
				x[i] = g2s_relu(x[i]);
			break;
		default:
			break;
	}
}

#endif							/* G2_DEVICE_MATH_H */
