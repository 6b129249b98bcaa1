/*
 * cublaslt.cpp: see cublaslt.h.  Only the toolkit's header is needed to build it, and where that is not
 * there, all of it says so.
 */
#include "cublaslt.h"

#if __has_include(<cublasLt.h>)

#include <cublasLt.h>
#include <dlfcn.h>

#define NAME_OF(major) "libcublasLt.so." #major
#define LIBRARY(major) NAME_OF(major)

struct cublaslt
{
	void	   *library;
	cublasLtHandle_t handle;
	decltype(&cublasLtCreate) create;
	decltype(&cublasLtDestroy) destroy;
	decltype(&cublasLtMatmulDescCreate) desc_create;
	decltype(&cublasLtMatmulDescSetAttribute) desc_set;
	decltype(&cublasLtMatmulDescDestroy) desc_destroy;
	decltype(&cublasLtMatrixLayoutCreate) layout_create;
	decltype(&cublasLtMatrixLayoutDestroy) layout_destroy;
	decltype(&cublasLtMatmulPreferenceCreate) preference_create;
	decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;
	decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy;
	decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic;
	decltype(&cublasLtMatmul) matmul;
};

struct cublaslt_product
{
	bool		int8;
	cublasLtMatmulDesc_t desc = NULL;
	cublasLtMatrixLayout_t w = NULL;
	cublasLtMatrixLayout_t x = NULL;
	cublasLtMatrixLayout_t y = NULL;
	cublasLtMatmulHeuristicResult_t found[CUBLASLT_ALGORITHMS];
	int			n_found = 0;
};

template <typename F>
static bool
find(const cublaslt *c, const char *name, F *f)
{
	*f = reinterpret_cast<F>(dlsym(c->library, name));
	return *f != NULL;
}

static bool
find_all(cublaslt *c)
{
	return find(c, "cublasLtCreate", &c->create) && find(c, "cublasLtDestroy", &c->destroy) &&
		find(c, "cublasLtMatmulDescCreate", &c->desc_create) &&
		find(c, "cublasLtMatmulDescSetAttribute", &c->desc_set) &&
		find(c, "cublasLtMatmulDescDestroy", &c->desc_destroy) &&
		find(c, "cublasLtMatrixLayoutCreate", &c->layout_create) &&
		find(c, "cublasLtMatrixLayoutDestroy", &c->layout_destroy) &&
		find(c, "cublasLtMatmulPreferenceCreate", &c->preference_create) &&
		find(c, "cublasLtMatmulPreferenceSetAttribute", &c->preference_set) &&
		find(c, "cublasLtMatmulPreferenceDestroy", &c->preference_destroy) &&
		find(c, "cublasLtMatmulAlgoGetHeuristic", &c->heuristic) &&
		find(c, "cublasLtMatmul", &c->matmul);
}

cublaslt *
cublaslt_open(const char **why)
{
	cublaslt   *c = new cublaslt();

	c->library = dlopen(LIBRARY(CUBLAS_VER_MAJOR), RTLD_NOW | RTLD_LOCAL);
	if (!c->library)
		c->library = dlopen(CUDA_LIBRARIES "/" LIBRARY(CUBLAS_VER_MAJOR), RTLD_NOW | RTLD_LOCAL);
	*why = !c->library ? "the library is not found" :
		!find_all(c) ? "the library lacks a function" :
		c->create(&c->handle) != CUBLAS_STATUS_SUCCESS ? "it finds no device" : NULL;
	if (!*why)
		return c;
	if (c->library)
		dlclose(c->library);
	delete c;
	return NULL;
}

void
cublaslt_close(cublaslt *c)
{
	if (!c)
		return;
	c->destroy(c->handle);
	dlclose(c->library);
	delete c;
}

/* cuBLAS counts columns first: w is k x n, to be transposed, x is k x rows, y is n x rows. */
static bool
describe(cublaslt *c, cublaslt_product *p, uint32_t rows, uint32_t n, uint32_t k)
{
	const cudaDataType_t in = p->int8 ? CUDA_R_8I : CUDA_R_16BF,
				out = p->int8 ? CUDA_R_32I : CUDA_R_32F;
	const cublasOperation_t transposed = CUBLAS_OP_T;

	return c->desc_create(&p->desc, p->int8 ? CUBLAS_COMPUTE_32I : CUBLAS_COMPUTE_32F, out) ==
		CUBLAS_STATUS_SUCCESS &&
		c->desc_set(p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed) ==
		CUBLAS_STATUS_SUCCESS &&
		c->layout_create(&p->w, in, k, n, k) == CUBLAS_STATUS_SUCCESS &&
		c->layout_create(&p->x, in, k, rows, k) == CUBLAS_STATUS_SUCCESS &&
		c->layout_create(&p->y, out, n, rows, n) == CUBLAS_STATUS_SUCCESS;
}

static void
choose(cublaslt *c, cublaslt_product *p)
{
	const size_t workspace = CUBLASLT_WORKSPACE;
	cublasLtMatmulPreference_t preference;

	if (c->preference_create(&preference) != CUBLAS_STATUS_SUCCESS)
		return;
	if (c->preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
						  sizeof workspace) != CUBLAS_STATUS_SUCCESS ||
		c->heuristic(c->handle, p->desc, p->w, p->x, p->y, p->y, preference, CUBLASLT_ALGORITHMS,
					 p->found, &p->n_found) != CUBLAS_STATUS_SUCCESS)
		p->n_found = 0;
	c->preference_destroy(preference);
}

cublaslt_product *
cublaslt_prepare(cublaslt *c, bool int8, uint32_t rows, uint32_t n, uint32_t k)
{
	cublaslt_product *p = new cublaslt_product();

	p->int8 = int8;
	if (describe(c, p, rows, n, k))
		choose(c, p);
	if (p->n_found > 0)
		return p;
	cublaslt_free(c, p);
	return NULL;
}

int
cublaslt_algorithms(const cublaslt_product *p)
{
	return p->n_found;
}

void
cublaslt_free(cublaslt *c, cublaslt_product *p)
{
	if (!p)
		return;
	if (p->y)
		c->layout_destroy(p->y);
	if (p->x)
		c->layout_destroy(p->x);
	if (p->w)
		c->layout_destroy(p->w);
	if (p->desc)
		c->desc_destroy(p->desc);
	delete p;
}

bool
cublaslt_launch(cublaslt *c, const cublaslt_product *p, int algorithm, void *stream, const void *w,
				const void *x, void *y, void *workspace)
{
	const int32_t one_i = 1,
				zero_i = 0;
	const float one_f = 1.0f,
				zero_f = 0.0f;
	const void *one = p->int8 ? (const void *) &one_i : &one_f,
			   *zero = p->int8 ? (const void *) &zero_i : &zero_f;

	return c->matmul(c->handle, p->desc, one, w, p->w, x, p->x, zero, y, p->y, y, p->y,
					 &p->found[algorithm].algo, workspace, CUBLASLT_WORKSPACE,
					 static_cast<cudaStream_t>(stream)) == CUBLAS_STATUS_SUCCESS;
}

#else

cublaslt *
cublaslt_open(const char **why)
{
	*why = "its header was not there when this was built";
	return NULL;
}

void
cublaslt_close(cublaslt *)
{
}

cublaslt_product *
cublaslt_prepare(cublaslt *, bool, uint32_t, uint32_t, uint32_t)
{
	return NULL;
}

int
cublaslt_algorithms(const cublaslt_product *)
{
	return 0;
}

void
cublaslt_free(cublaslt *, cublaslt_product *)
{
}

bool
cublaslt_launch(cublaslt *, const cublaslt_product *, int, void *, const void *, const void *, void *,
				void *)
{
	return false;
}

#endif
