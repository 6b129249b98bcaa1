/*
 * cublaslt.h: products of cuBLASLt, a yardstick for our own.  The library is opened by dlopen, so that
 * nothing depends on it.
 */
#ifndef CUBLASLT_H
#define CUBLASLT_H

#include <stddef.h>
#include <stdint.h>

#define CUBLASLT_ALGORITHMS 4	/* at most, of which the caller takes the fastest */
#define CUBLASLT_WORKSPACE ((size_t) 32 << 20)

struct cublaslt;
struct cublaslt_product;

/* NULL: it cannot be used, and why. */
extern cublaslt *cublaslt_open(const char **why);
extern void cublaslt_close(cublaslt *c);

/* y [rows][n] = x [rows][k] w [n][k]: bf16 with f32 sums, or int8 with int32 sums; NULL: it has none for
 * this shape. */
extern cublaslt_product *cublaslt_prepare(cublaslt *c, bool int8, uint32_t rows, uint32_t n, uint32_t k);
extern int	cublaslt_algorithms(const cublaslt_product *p);
extern void cublaslt_free(cublaslt *c, cublaslt_product *p);
extern bool cublaslt_launch(cublaslt *c, const cublaslt_product *p, int algorithm, void *stream,
							const void *w, const void *x, void *y, void *workspace);

#endif							/* CUBLASLT_H */
