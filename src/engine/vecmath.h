/*
 * vecmath.h: the engine's own elementary functions, so that a result is the same bits on every
 * instruction set, compiler and C library.
 *
 * This header gives the scalar forms (g2_expf ...), for C and for nvcc; the vector forms are the
 * same text (vecmath_body.h) over 16 lanes, made by kernels_body.h, and give the same bits.
 * Everything must be compiled with -ffp-contract=off (nvcc: the _rn intrinsics below see to it).
 * fmaf is one instruction where the target has it; elsewhere it is slow, and right.
 */
#ifndef G2_VECMATH_H
#define G2_VECMATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "philox.h"				/* G2_HD */

G2_HD static inline uint32_t
g2_float_bits(float x)
{
	uint32_t	u;

	memcpy(&u, &x, sizeof u);
	return u;
}

G2_HD static inline float
g2_bits_float(uint32_t u)
{
	float		x;

	memcpy(&x, &u, sizeof x);
	return x;
}

#define G2_SCALAR(name, args, device, host) \
	G2_HD static inline float g2s_##name args { G2_EITHER(device, host) }
#ifdef __CUDA_ARCH__
#define G2_EITHER(device, host) return device;
#else
#define G2_EITHER(device, host) return host;
#endif

G2_SCALAR(set1, (float a), a, a)
G2_SCALAR(add, (float a, float b), __fadd_rn(a, b), a + b)
G2_SCALAR(sub, (float a, float b), __fsub_rn(a, b), a - b)
G2_SCALAR(mul, (float a, float b), __fmul_rn(a, b), a * b)
G2_SCALAR(div, (float a, float b), __fdiv_rn(a, b), a / b)
G2_SCALAR(fma, (float a, float b, float c), __fmaf_rn(a, b, c), fmaf(a, b, c))
G2_SCALAR(min, (float a, float b), a < b ? a : b, a < b ? a : b)
G2_SCALAR(max, (float a, float b), a > b ? a : b, a > b ? a : b)
G2_SCALAR(lt_select, (float a, float b, float x, float y), a < b ? x : y, a < b ? x : y)

#undef G2_SCALAR
#undef G2_EITHER

G2_HD static inline float
g2s_abs(float a)
{
	return g2_bits_float(g2_float_bits(a) & 0x7fffffffu);
}

G2_HD static inline float
g2s_copysign(float a, float sign)
{
	return g2_bits_float((g2_float_bits(a) & 0x7fffffffu) | (g2_float_bits(sign) & 0x80000000u));
}

G2_HD static inline float
g2s_exponent_add(float p, float t)
{
	return g2_bits_float(g2_float_bits(p) + (g2_float_bits(t) << 23));
}

#define G2_SQRT_HALF_BITS 0x3f3504f3u

G2_HD static inline float
g2s_log_split(float x, float *e)
{
	uint32_t	u = g2_float_bits(x) - G2_SQRT_HALF_BITS;
	int32_t		k = (int32_t) u >> 23;

	*e = (float) k;
	return g2_bits_float(g2_float_bits(x) - ((uint32_t) k << 23));
}

#define VM_T float
#define VM_FN G2_HD static inline
#define VM(name) g2s_##name
#include "vecmath_body.h"
#undef VM_T
#undef VM_FN
#undef VM

G2_HD static inline float
g2_expf(float x)
{
	return g2s_exp(x);
}

G2_HD static inline float
g2_logf(float x)
{
	return g2s_log(x);
}

G2_HD static inline float
g2_tanhf(float x)
{
	return g2s_tanh(x);
}

G2_HD static inline float
g2_erff(float x)
{
	return g2s_erf(x);
}

/*
 * ln x of a double x in [2^-1022, inf), at most 2 ulp: x = m 2^e, s = (m - 1) / (m + 1),
 * ln m = 2 (s + s^3/3 + s^5/5 + ...), |s| < 0.172.  For logprobs: once per row, in plain double
 * operations whose order is fixed.  +inf and NaN give themselves.
 */
G2_HD static inline double
g2_log(double x)
{
	uint64_t	u;
	int64_t		e;
	double		m,
				s,
				z,
				p = 1.0 / 23;

	if (!(x <= 0x1.fffffffffffffp+1023))
		return x;
	memcpy(&u, &x, sizeof u);
	e = (int64_t) (u - 0x3fe6a09e667f3bcdull) >> 52;	/* bits of sqrt(1/2) */
	u -= (uint64_t) e << 52;
	memcpy(&m, &u, sizeof m);
	s = (m - 1.0) / (m + 1.0);
	z = s * s;
	for (int i = 21; i >= 3; i -= 2)
		p = p * z + 1.0 / i;
	return (double) e * 0x1.62e42fefa39efp-1 + (2.0 * s + 2.0 * s * z * p);
}

/*
 * e^x in double, |x| < 700, at most 2 ulp: x = k ln 2 + r, |r| <= ln 2 / 2, and the series of e^r.
 */
G2_HD static inline double
g2_exp(double x)
{
	double		k = floor(x * 0x1.71547652b82fep+0 + 0.5),
				r = (x - k * 0x1.62e42fee00000p-1) - k * 0x1.a39ef35793c76p-33,
				p = 1.0;

	for (int i = 17; i >= 1; i--)
		p = 1.0 + p * r / i;
	return ldexp(p, (int) k);
}

#endif							/* G2_VECMATH_H */
