/*
 * kernels_avx512vnni.c: the kernels for AVX-512 with VNNI and without BF16 (Ice Lake).  Compiled
 * with -mavx512vnni besides what kernels_avx512.c needs; called only after kernels.c has seen that
 * processor and system support them.
 */
#include "kernels.h"

#if defined(__x86_64__)

#include "avx512_primitives.h"

#define vi_dot_q8 vi_vnni
#define vi_dot_q4 vi_vnni
#define vi_start_q8 vi_set1
#define vi_start_q4 vi_set1
#define SET(name) name##_avx512vnni
#define SET_NAME "avx512vnni"

#include "kernels_body.h"

#endif							/* __x86_64__ */
