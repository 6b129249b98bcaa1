/*
 * cuda_backend.h: what gpt2_cuda.so shows: one function, found by name.
 */
#ifndef G2_CUDA_BACKEND_H
#define G2_CUDA_BACKEND_H

#include "engine_headers.h"

#ifdef __cplusplus
extern "C"
{
#endif

/* The table of backend.h.  Nothing of CUDA is touched before open. */
__attribute__((visibility("default"))) extern const g2_backend_api *g2_cuda_backend(void);

#ifdef __cplusplus
}
#endif

#endif							/* G2_CUDA_BACKEND_H */
