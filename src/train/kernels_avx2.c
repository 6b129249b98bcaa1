/*
 * kernels_avx2.c: the kernels of training compiled for AVX2.
 */
#if defined(__x86_64__)
#define K_TABLE g2t_kernels_avx2
#define K_NAME "avx2"
#include "kernels_body.h"
#endif
