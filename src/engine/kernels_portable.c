/*
 * kernels_portable.c: the kernels in plain C: the bit-exact oracle of the others, and what runs
 * where no other set does.
 */
#include "kernels.h"
#include "vecmath.h"

/* Vectors of the compiler's; it makes of them what the target has.  All functions that take them
 * are inlined or static, so how they would be passed between files does not matter. */
#pragma GCC diagnostic ignored "-Wpsabi"

typedef float v16 __attribute__((vector_size(64)));
typedef int32_t i16 __attribute__((vector_size(64)));

#define INLINE static inline
#define UNROLL

INLINE v16
v16_set1(float x)
{
	return (v16) {x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
}

INLINE v16
v16_zero(void)
{
	return (v16) {0.0f};
}

INLINE v16
v16_load(const float *p)
{
	v16			r;

	memcpy(&r, p, sizeof r);
	return r;
}

INLINE void
v16_store(float *p, v16 a)
{
	memcpy(p, &a, sizeof a);
}

INLINE v16
v16_add(v16 a, v16 b)
{
	return a + b;
}

INLINE v16
v16_sub(v16 a, v16 b)
{
	return a - b;
}

INLINE v16
v16_mul(v16 a, v16 b)
{
	return a * b;
}

INLINE v16
v16_div(v16 a, v16 b)
{
	return a / b;
}

/* Without an instruction each lane is a call, and inlining only makes the program larger. */
#ifdef FP_FAST_FMAF
INLINE v16
#else
static __attribute__((noinline)) v16
#endif
v16_fma(v16 a, v16 b, v16 c)
{
	float		x[G2_LANES],
				y[G2_LANES],
				z[G2_LANES];

	v16_store(x, a);
	v16_store(y, b);
	v16_store(z, c);
	for (int i = 0; i < G2_LANES; i++)
		z[i] = fmaf(x[i], y[i], z[i]);
	return v16_load(z);
}

INLINE v16
choose(i16 mask, v16 yes, v16 no)
{
	return (v16) ((mask & (i16) yes) | (~mask & (i16) no));
}

INLINE v16
v16_lt_select(v16 a, v16 b, v16 x, v16 y)
{
	return choose(a < b, x, y);
}

INLINE v16
v16_min(v16 a, v16 b)
{
	return choose(a < b, a, b);
}

INLINE v16
v16_max(v16 a, v16 b)
{
	return choose(a > b, a, b);
}

INLINE v16
v16_abs(v16 a)
{
	return (v16) ((i16) a & INT32_MAX);
}

INLINE v16
v16_copysign(v16 a, v16 b)
{
	return (v16) (((i16) a & INT32_MAX) | ((i16) b & INT32_MIN));
}

/* By lane: the sums wrap, as those of vector registers do. */
INLINE v16
v16_exponent_add(v16 p, v16 t)
{
	for (int i = 0; i < G2_LANES; i++)
		p[i] = g2s_exponent_add(p[i], t[i]);
	return p;
}

INLINE v16
v16_log_split(v16 x, v16 *e)
{
	for (int i = 0; i < G2_LANES; i++)
	{
		float		exponent;

		x[i] = g2s_log_split(x[i], &exponent);
		(*e)[i] = exponent;
	}
	return x;
}

typedef v16 vr;

#define VR_LANES G2_LANES
#define PANEL_V 3
#define vr_zero v16_zero
#define vr_set1 v16_set1
#define vr_load v16_load
#define vr_store v16_store
#define vr_fma v16_fma

#define TILE_M 4
#define TILE_V 3
#define TILE_K 256
#define PREFETCH (8 * G2_PANEL)
#define TAILS TAIL(1, 3) TAIL(2, 3) TAIL(3, 3)
#define ATTEND_Q 2
#define SET(name) name##_portable
#define SET_NAME "portable"

#include "kernels_body.h"
