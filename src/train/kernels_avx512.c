/*
 * kernels_avx512.c: the kernels of training compiled for AVX512.
 */
#if defined(__x86_64__)
#define K_TABLE g2t_kernels_avx512
#define K_NAME "avx512"
#include "kernels_body.h"
#endif
