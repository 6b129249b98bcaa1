/*
 * kernels_portable.c: the kernels in plain C: the bit-exact oracle of the others, and what runs
 * where no other set does.
 */
#include "kernels.h"
#include "vecmath.h"

typedef struct v16
{
	float		f[G2_LANES];
} v16;

#define INLINE static inline
#define UNROLL

#define EACH(expr) \
	v16			r; \
	for (int i = 0; i < G2_LANES; i++) \
		r.f[i] = (expr); \
	return r

static inline v16
v16_set1(float x)
{
	EACH(x);
}

static inline v16
v16_zero(void)
{
	EACH(0.0f);
}

static inline v16
v16_load(const float *p)
{
	EACH(p[i]);
}

static inline void
v16_store(float *p, v16 a)
{
	memcpy(p, a.f, sizeof a.f);
}

static inline v16
v16_add(v16 a, v16 b)
{
	EACH(a.f[i] + b.f[i]);
}

static inline v16
v16_sub(v16 a, v16 b)
{
	EACH(a.f[i] - b.f[i]);
}

static inline v16
v16_mul(v16 a, v16 b)
{
	EACH(a.f[i] * b.f[i]);
}

static inline v16
v16_div(v16 a, v16 b)
{
	EACH(a.f[i] / b.f[i]);
}

static inline v16
v16_fma(v16 a, v16 b, v16 c)
{
	EACH(fmaf(a.f[i], b.f[i], c.f[i]));
}

static inline v16
v16_min(v16 a, v16 b)
{
	EACH(g2s_min(a.f[i], b.f[i]));
}

static inline v16
v16_max(v16 a, v16 b)
{
	EACH(g2s_max(a.f[i], b.f[i]));
}

static inline v16
v16_abs(v16 a)
{
	EACH(g2s_abs(a.f[i]));
}

static inline v16
v16_copysign(v16 a, v16 b)
{
	EACH(g2s_copysign(a.f[i], b.f[i]));
}

static inline v16
v16_lt_select(v16 a, v16 b, v16 x, v16 y)
{
	EACH(a.f[i] < b.f[i] ? x.f[i] : y.f[i]);
}

static inline v16
v16_exponent_add(v16 p, v16 t)
{
	EACH(g2s_exponent_add(p.f[i], t.f[i]));
}

static inline v16
v16_log_split(v16 x, v16 *e)
{
	EACH(g2s_log_split(x.f[i], &e->f[i]));
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
