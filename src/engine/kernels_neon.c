/*
 * kernels_neon.c: the kernels for 64-bit ARM with the dot product instructions (ARMv8.2 DotProd:
 * Graviton 2, Ampere Altra, Apple M1 onwards).  Compiled with -march=armv8.2-a+dotprod; called only
 * after kernels.c has asked the operating system for them.
 *
 * 32 registers of 4 lanes: the large f32 tile is 4 rows x 24 columns (24 accumulators); that of
 * integers is 4 rows x 12 (12 accumulators, and 12 dots).  The instruction multiplies signed
 * bytes: q8 weights become signed again, q4's are small enough as they are.
 */
#include "kernels.h"

#if defined(__aarch64__)

#include "bf16.h"
#include "vecmath.h"

#include <arm_neon.h>

typedef struct v16
{
	float32x4_t v[4];
} v16;

#define INLINE static inline __attribute__((always_inline))

#define EACH1(fn, x) ((v16) {{fn((x).v[0]), fn((x).v[1]), fn((x).v[2]), fn((x).v[3])}})
#define EACH2(fn, x, y) \
	((v16) {{fn((x).v[0], (y).v[0]), fn((x).v[1], (y).v[1]), fn((x).v[2], (y).v[2]), \
			fn((x).v[3], (y).v[3])}})

INLINE v16
v16_set1(float x)
{
	float32x4_t v = vdupq_n_f32(x);

	return (v16) {{v, v, v, v}};
}

INLINE v16
v16_zero(void)
{
	return v16_set1(0.0f);
}

INLINE v16
v16_load(const float *p)
{
	return (v16) {{vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}};
}

INLINE void
v16_store(float *p, v16 x)
{
	for (int i = 0; i < 4; i++)
		vst1q_f32(p + 4 * i, x.v[i]);
}

#define v16_add(x, y) EACH2(vaddq_f32, x, y)
#define v16_sub(x, y) EACH2(vsubq_f32, x, y)
#define v16_mul(x, y) EACH2(vmulq_f32, x, y)
#define v16_div(x, y) EACH2(vdivq_f32, x, y)
#define v16_abs(x) EACH1(vabsq_f32, x)

/* x y + z, once rounded. */
INLINE float32x4_t
fma4(float32x4_t x, float32x4_t y, float32x4_t z)
{
	return vfmaq_f32(z, x, y);
}

INLINE v16
v16_fma(v16 x, v16 y, v16 z)
{
	return (v16) {{fma4(x.v[0], y.v[0], z.v[0]), fma4(x.v[1], y.v[1], z.v[1]),
			fma4(x.v[2], y.v[2], z.v[2]), fma4(x.v[3], y.v[3], z.v[3])}};
}

/* The second operand where they do not compare, as on the other processors. */
INLINE float32x4_t
min4(float32x4_t x, float32x4_t y)
{
	return vbslq_f32(vcltq_f32(x, y), x, y);
}

INLINE float32x4_t
max4(float32x4_t x, float32x4_t y)
{
	return vbslq_f32(vcgtq_f32(x, y), x, y);
}

INLINE v16
v16_min(v16 x, v16 y)
{
	return EACH2(min4, x, y);
}

INLINE v16
v16_max(v16 x, v16 y)
{
	return EACH2(max4, x, y);
}

INLINE float32x4_t
copysign4(float32x4_t x, float32x4_t y)
{
	return vbslq_f32(vdupq_n_u32(0x80000000u), y, x);
}

INLINE v16
v16_copysign(v16 x, v16 y)
{
	return EACH2(copysign4, x, y);
}

INLINE v16
v16_lt_select(v16 x, v16 y, v16 yes, v16 no)
{
	v16			r;

	for (int i = 0; i < 4; i++)
		r.v[i] = vbslq_f32(vcltq_f32(x.v[i], y.v[i]), yes.v[i], no.v[i]);
	return r;
}

INLINE float32x4_t
exponent_add4(float32x4_t p, float32x4_t t)
{
	return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(p),
										   vshlq_n_s32(vreinterpretq_s32_f32(t), 23)));
}

INLINE v16
v16_exponent_add(v16 p, v16 t)
{
	return EACH2(exponent_add4, p, t);
}

INLINE v16
v16_log_split(v16 x, v16 *e)
{
	v16			r;

	for (int i = 0; i < 4; i++)
	{
		int32x4_t	bits = vreinterpretq_s32_f32(x.v[i]),
					k = vshrq_n_s32(vsubq_s32(bits, vdupq_n_s32((int32_t) G2_SQRT_HALF_BITS)), 23);

		e->v[i] = vcvtq_f32_s32(k);
		r.v[i] = vreinterpretq_f32_s32(vsubq_s32(bits, vshlq_n_s32(k, 23)));
	}
	return r;
}

/* ---- halves and bytes ---- */

INLINE float32x4_t
load_bf16(const uint16_t *p)
{
	return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}

INLINE v16
v16_load_bf16(const uint16_t *p)
{
	return (v16) {{load_bf16(p), load_bf16(p + 4), load_bf16(p + 8), load_bf16(p + 12)}};
}

/* To nearest even; a NaN is made quiet. */
INLINE void
v16_store_bf16(uint16_t *p, v16 x)
{
	for (int i = 0; i < 4; i++)
	{
		uint32x4_t	u = vreinterpretq_u32_f32(x.v[i]),
					odd = vandq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(1)),
					up = vaddq_u32(u, vaddq_u32(odd, vdupq_n_u32(0x7fff))),
					quiet = vorrq_u32(u, vdupq_n_u32(0x400000));

		vst1_u16(p + 4 * i, vshrn_n_u32(vbslq_u32(vceqq_f32(x.v[i], x.v[i]), up, quiet), 16));
	}
}

INLINE float32x4_t
max_bits4(float32x4_t x, float32x4_t y)
{
	return vreinterpretq_f32_s32(vmaxq_s32(vreinterpretq_s32_f32(x), vreinterpretq_s32_f32(y)));
}

INLINE v16
v16_max_bits(v16 x, v16 y)
{
	return EACH2(max_bits4, x, y);
}

INLINE void
v16_store_bytes(int8_t *p, v16 x)
{
	int16x8_t	low = vcombine_s16(vmovn_s32(vcvtnq_s32_f32(x.v[0])),
								   vmovn_s32(vcvtnq_s32_f32(x.v[1]))),
				high = vcombine_s16(vmovn_s32(vcvtnq_s32_f32(x.v[2])),
									vmovn_s32(vcvtnq_s32_f32(x.v[3])));

	vst1q_s8(p, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
}

typedef int32x4_t vi;

INLINE vi
vi_load(const void *p)
{
	return vreinterpretq_s32_u8(vld1q_u8(p));
}

INLINE vi
vi_set1(const void *p)
{
	int32_t		word;

	memcpy(&word, p, sizeof word);
	return vdupq_n_s32(word);
}

INLINE vi
vi_low(vi x)
{
	return vreinterpretq_s32_u8(vandq_u8(vreinterpretq_u8_s32(x), vdupq_n_u8(15)));
}

INLINE vi
vi_high(vi x)
{
	return vreinterpretq_s32_u8(vshrq_n_u8(vreinterpretq_u8_s32(x), 4));
}

INLINE vi
vi_dot_q4(vi acc, vi w, vi x)
{
	return vdotq_s32(acc, vreinterpretq_s8_s32(w), vreinterpretq_s8_s32(x));
}

INLINE vi
vi_dot_q8(vi acc, vi w, vi x)
{
	return vi_dot_q4(acc, veorq_s32(w, vdupq_n_s32((int32_t) 0x80808080u)), x);
}

INLINE vi
vi_start_q8(const int32_t *p)
{
	(void) p;
	return vdupq_n_s32(0);
}

#define vi_start_q4 vi_set1
#define vr_from_int vcvtq_f32_s32

INLINE float32x4_t
vr_lower(vi x)
{
	return vreinterpretq_f32_s32(vshlq_n_s32(x, 16));
}

INLINE float32x4_t
vr_upper(vi x)
{
	return vreinterpretq_f32_s32(vandq_s32(x, vdupq_n_s32((int32_t) 0xffff0000u)));
}

typedef float32x4_t vr;

#define VR_LANES 4
#define PANEL_V 12
#define vr_zero() vdupq_n_f32(0.0f)
#define vr_set1 vdupq_n_f32
#define vr_load(p) vld1q_f32(p)
#define vr_store(p, x) vst1q_f32(p, x)
#define vr_fma fma4
#define vr_mul vmulq_f32
#define vr_load_bf16 load_bf16

#define TILE_M 4
#define TILE_ROWS(n) ((n) >= 4 ? 4 : (n))
#define TILE_K 128
#define TILES TILE(1, 12) TILE(2, 6) TILE(3, 6) TILE(4, 6)
#define INT_M 4
#define INT_TILES INT_TILE(1, 6) INT_TILE(2, 6) INT_TILE(3, 3) INT_TILE(4, 3)
#define BF16_M 4
#define BF16_TILES BF16_TILE(1, 12) BF16_TILE(2, 6) BF16_TILE(3, 6) BF16_TILE(4, 6)
#define ATTEND_Q 2
#define SET(name) name##_neon
#define SET_NAME "neon"

#include "kernels_body.h"

#endif							/* __aarch64__ */
