/*
 * cuda_library.h: the CUDA back end, which is in a library of its own.
 */
#ifndef G2_CUDA_LIBRARY_H
#define G2_CUDA_LIBRARY_H

#include "backend.h"

/* Loads it.  False with why not: no driver, no library, or one of another version. */
extern bool g2_cuda_library(const g2_backend_api **api, g2_error *err);

#endif							/* G2_CUDA_LIBRARY_H */
