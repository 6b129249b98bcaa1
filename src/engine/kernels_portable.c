/*
 * kernels_portable.c: the kernels in plain C: the bit-exact oracle of the others, and what runs
 * where no other set does.
 */
#include "bf16.h"
#include "kernels.h"
#include "vecmath.h"

/* Vectors of the compiler's, 4 lanes each: it makes of them what the target has. */
typedef float v4 __attribute__((vector_size(16)));
typedef int32_t i4 __attribute__((vector_size(16)));

typedef struct v16
{
	v4			a;
	v4			b;
	v4			c;
	v4			d;
} v16;

#define INLINE static inline

#define EACH1(fn, x) ((v16) {fn((x).a), fn((x).b), fn((x).c), fn((x).d)})
#define EACH2(fn, x, y) \
	((v16) {fn((x).a, (y).a), fn((x).b, (y).b), fn((x).c, (y).c), fn((x).d, (y).d)})

/* ---- 4 lanes ---- */

INLINE v4
v4_add(v4 x, v4 y)
{
	return x + y;
}

INLINE v4
v4_sub(v4 x, v4 y)
{
	return x - y;
}

INLINE v4
v4_mul(v4 x, v4 y)
{
	return x * y;
}

INLINE v4
v4_div(v4 x, v4 y)
{
	return x / y;
}

/* Without an instruction each lane is a call, and inlining only makes the program larger. */
#ifdef FP_FAST_FMAF
INLINE v4
#else
static __attribute__((noinline)) v4
#endif
v4_fma(v4 x, v4 y, v4 z)
{
	return (v4) {fmaf(x[0], y[0], z[0]), fmaf(x[1], y[1], z[1]), fmaf(x[2], y[2], z[2]),
		fmaf(x[3], y[3], z[3])};
}

INLINE v4
v4_choose(i4 mask, v4 yes, v4 no)
{
	return (v4) ((mask & (i4) yes) | (~mask & (i4) no));
}

INLINE v4
v4_min(v4 x, v4 y)
{
	return v4_choose(x < y, x, y);
}

INLINE v4
v4_max(v4 x, v4 y)
{
	return v4_choose(x > y, x, y);
}

INLINE v4
v4_abs(v4 x)
{
	return (v4) ((i4) x & INT32_MAX);
}

INLINE v4
v4_copysign(v4 x, v4 y)
{
	return (v4) (((i4) x & INT32_MAX) | ((i4) y & INT32_MIN));
}

INLINE v4
v4_exponent_add(v4 p, v4 t)
{
	return (v4) {g2s_exponent_add(p[0], t[0]), g2s_exponent_add(p[1], t[1]),
		g2s_exponent_add(p[2], t[2]), g2s_exponent_add(p[3], t[3])};
}

/* ---- 16 lanes ---- */

INLINE v16
v16_set1(float x)
{
	v4			v = {x, x, x, x};

	return (v16) {v, v, v, v};
}

INLINE v16
v16_zero(void)
{
	return v16_set1(0.0f);
}

INLINE v16
v16_load(const float *p)
{
	v16			r;

	memcpy(&r, p, sizeof r);
	return r;
}

INLINE void
v16_store(float *p, v16 x)
{
	memcpy(p, &x, sizeof x);
}

INLINE v16
v16_add(v16 x, v16 y)
{
	return EACH2(v4_add, x, y);
}

INLINE v16
v16_sub(v16 x, v16 y)
{
	return EACH2(v4_sub, x, y);
}

INLINE v16
v16_mul(v16 x, v16 y)
{
	return EACH2(v4_mul, x, y);
}

INLINE v16
v16_div(v16 x, v16 y)
{
	return EACH2(v4_div, x, y);
}

INLINE v16
v16_fma(v16 x, v16 y, v16 z)
{
	return (v16) {v4_fma(x.a, y.a, z.a), v4_fma(x.b, y.b, z.b), v4_fma(x.c, y.c, z.c),
		v4_fma(x.d, y.d, z.d)};
}

INLINE v16
v16_min(v16 x, v16 y)
{
	return EACH2(v4_min, x, y);
}

INLINE v16
v16_max(v16 x, v16 y)
{
	return EACH2(v4_max, x, y);
}

INLINE v16
v16_abs(v16 x)
{
	return EACH1(v4_abs, x);
}

INLINE v16
v16_copysign(v16 x, v16 y)
{
	return EACH2(v4_copysign, x, y);
}

INLINE v16
v16_lt_select(v16 x, v16 y, v16 yes, v16 no)
{
	return (v16) {v4_choose(x.a < y.a, yes.a, no.a), v4_choose(x.b < y.b, yes.b, no.b),
		v4_choose(x.c < y.c, yes.c, no.c), v4_choose(x.d < y.d, yes.d, no.d)};
}

INLINE v16
v16_exponent_add(v16 p, v16 t)
{
	return EACH2(v4_exponent_add, p, t);
}

/* By lane: not in a hot loop. */
INLINE v16
v16_log_split(v16 x, v16 *e)
{
	float		f[G2_LANES],
				exponent[G2_LANES];

	v16_store(f, x);
	for (int i = 0; i < G2_LANES; i++)
		f[i] = g2s_log_split(f[i], &exponent[i]);
	*e = v16_load(exponent);
	return v16_load(f);
}

/* ---- halves and bytes ---- */

INLINE v16
v16_load_bf16(const uint16_t *p)
{
	float		f[G2_LANES];

	for (int i = 0; i < G2_LANES; i++)
		f[i] = g2_from_bf16(p[i]);
	return v16_load(f);
}

INLINE void
v16_store_bf16(uint16_t *p, v16 x)
{
	float		f[G2_LANES];

	v16_store(f, x);
	for (int i = 0; i < G2_LANES; i++)
		p[i] = g2_to_bf16(f[i]);
}

INLINE v4
v4_max_bits(v4 x, v4 y)
{
	return v4_choose((i4) x > (i4) y, x, y);
}

INLINE v16
v16_max_bits(v16 x, v16 y)
{
	return EACH2(v4_max_bits, x, y);
}

/* Adding 1.5 * 2^23 leaves the nearest integer in the lower bits. */
INLINE void
v16_store_bytes(int8_t *p, v16 x)
{
	float		f[G2_LANES];

	v16_store(f, v16_add(x, v16_set1(0x1.8p23f)));
	for (int i = 0; i < G2_LANES; i++)
		p[i] = (int8_t) (uint8_t) g2_float_bits(f[i]);
}

typedef struct vi
{
	int32_t		i[G2_LANES];
} vi;

INLINE vi
vi_load(const void *p)
{
	vi			r;

	memcpy(&r, p, sizeof r);
	return r;
}

INLINE vi
vi_set1(const void *p)
{
	int32_t		word;
	vi			r;

	memcpy(&word, p, sizeof word);
	for (int i = 0; i < G2_LANES; i++)
		r.i[i] = word;
	return r;
}

INLINE vi
vi_and_shift(vi x, int shift, uint32_t mask)
{
	for (int i = 0; i < G2_LANES; i++)
		x.i[i] = (int32_t) ((uint32_t) x.i[i] >> shift & mask);
	return x;
}

#define vi_low(x) vi_and_shift(x, 0, 0x0f0f0f0fu)
#define vi_high(x) vi_and_shift(x, 4, 0x0f0f0f0fu)

/* Bytes of w without, of x with a sign. */
INLINE vi
vi_dot(vi acc, vi w, vi x)
{
	for (int i = 0; i < G2_LANES; i++)
	{
		uint8_t		u[4];
		int8_t		s[4];

		memcpy(u, &w.i[i], sizeof u);
		memcpy(s, &x.i[i], sizeof s);
		acc.i[i] += u[0] * s[0] + u[1] * s[1] + u[2] * s[2] + u[3] * s[3];
	}
	return acc;
}

#define vi_dot_q8 vi_dot
#define vi_dot_q4 vi_dot
#define vi_start_q8 vi_set1
#define vi_start_q4 vi_set1

INLINE v16
vr_from_int(vi x)
{
	float		f[G2_LANES];

	for (int i = 0; i < G2_LANES; i++)
		f[i] = (float) x.i[i];
	return v16_load(f);
}

INLINE v16
vr_lower(vi x)
{
	float		f[G2_LANES];

	for (int i = 0; i < G2_LANES; i++)
		f[i] = g2_bits_float((uint32_t) x.i[i] << 16);
	return v16_load(f);
}

INLINE v16
vr_upper(vi x)
{
	float		f[G2_LANES];

	for (int i = 0; i < G2_LANES; i++)
		f[i] = g2_bits_float((uint32_t) x.i[i] & 0xffff0000u);
	return v16_load(f);
}

typedef v16 vr;

#define VR_LANES G2_LANES
#define PANEL_V 3
#define vr_zero v16_zero
#define vr_set1 v16_set1
#define vr_load v16_load
#define vr_store v16_store
#define vr_fma v16_fma
#define vr_mul v16_mul
#define vr_load_bf16 v16_load_bf16

#define NO_UNROLL
#define TILE_M 4
#define TILE_ROWS(n) ((n) >= 4 ? 4 : (n))
#define TILE_K 256
#define TILES TILE(1, 3) TILE(2, 3) TILE(3, 3) TILE(4, 3)
#define INT_M 4
#define INT_TILES INT_TILE(1, 3) INT_TILE(2, 3) INT_TILE(3, 3) INT_TILE(4, 3)
#define BF16_M 4
#define BF16_TILES BF16_TILE(1, 3) BF16_TILE(2, 3) BF16_TILE(3, 3) BF16_TILE(4, 3)
#define ATTEND_Q 2
#define SET(name) name##_portable
#define SET_NAME "portable"

#include "kernels_body.h"
