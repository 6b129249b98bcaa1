/*
 * kernels_avxvnni.c: the kernels for AVX2 with AVX-VNNI (Alder Lake, Sierra Forest, Zen 5).
 * Compiled with -mavx2 -mfma -mf16c -mavxvnni; called only after kernels.c has seen that processor
 * and system support them.
 *
 * With G2_TEST_EVEX the instruction is AVX-512's of the same function, for tests on processors that
 * have only that.
 */
#include "kernels.h"

#if defined(__x86_64__)

#include "avx2_primitives.h"

#if defined(G2_TEST_EVEX)
#define ENCODING ""
#else
#define ENCODING "%{vex%} "
#endif

/* Not the intrinsic: gcc 12 copies every accumulator before and behind it. */
INLINE vi
vi_dot(vi acc, vi w, vi x)
{
	__asm__(ENCODING "vpdpbusd %2, %1, %0" : "+x" (acc) : "x" (w), "x" (x));
	return acc;
}

#define vi_dot_q8 vi_dot
#define vi_dot_q4 vi_dot
#define vi_start_q8 vi_set1
#define vi_start_q4 vi_set1

#define INT_M 2
#define INT_TILES INT_TILE(1, 6) INT_TILE(2, 2)
#define SET(name) name##_avxvnni
#define SET_NAME "avxvnni"

#include "kernels_body.h"

#endif							/* __x86_64__ */
