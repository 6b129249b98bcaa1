/*
 * kernels_avx512bf16.c: the kernels for AVX-512 with VNNI and BF16 (Sapphire Rapids, Zen 4).
 * Compiled with -mavx512vnni -mavx512bf16 besides what kernels_avx512.c needs; called only after
 * kernels.c has seen that processor and system support them.
 *
 * vdpbf16ps rounds after each product and takes denormals as zeros, whatever the rounding mode, so
 * bf16 products have bits of their own here.
 */
#include "kernels.h"

#if defined(__x86_64__)

#include "avx512_primitives.h"

#define vi_dot_q8 vi_vnni
#define vi_dot_q4 vi_vnni
#define vi_start_q8 vi_set1
#define vi_start_q4 vi_set1

#define BF16_FAMILY "vdpbf16ps"

INLINE vr
vr_dot2(vr acc, vi w, vi x)
{
	return _mm512_dpbf16_ps(acc, (__m512bh) w, (__m512bh) x);
}

#define SET(name) name##_avx512bf16
#define SET_NAME "avx512bf16"

#include "kernels_body.h"

#endif							/* __x86_64__ */
