/*
 * kernels.h: the inner loops of training that are no matrix products, one table of functions per
 * instruction set.
 *
 * As the engine's own kernels (engine/kernels.h) all tables give the same bits: the bodies are one
 * text (kernels_body.h), sums run over 16 lanes that are added in one fixed order, and fused
 * multiply-add stands only where it is written.  Kernels allocate nothing and know no threads.
 * Rows follow each other without gaps unless a stride (ld, floats) is given.
 */
#ifndef G2T_KERNELS_H
#define G2T_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* What an optimizer needs to know of one step; a learning rate of its own for each step. */
typedef struct g2t_update
{
	float		rate;
	float		decay;			/* weight decay; 0 for tensors that have none */
	float		gradient_scale;	/* clipping: what a gradient is multiplied by first */
	float		beta1;			/* adam, adamw; sgd: the momentum */
	float		beta2;
	float		epsilon;
	float		correction1;	/* 1 - beta1^t, t from 1 */
	float		correction2_root;	/* sqrt(1 - beta2^t) */
} g2t_update;

/* Where the random numbers of a dropout are: Philox4x32-10 with this key and the counter
 * (element / 4 low, element / 4 high, site, step), word element % 4. */
typedef struct g2t_dropout
{
	float		rate;			/* 0 = none */
	uint64_t	key;
	uint32_t	site;			/* which dropout of the network */
	uint32_t	step;
} g2t_dropout;

typedef struct g2t_kernels
{
	const char *name;

	/* y = gelu_new(x); x, y [n] */
	void		(*gelu) (size_t n, const float *x, float *y);

	/* dx = dy * gelu_new'(x); dx and dy may be the same */
	void		(*gelu_backward) (size_t n, const float *x, const float *dy, float *dx);

	/* y = (x - mean) * rstd * gain + bias; x, y [rows][c]; mean, rstd [rows] are results */
	void		(*norm) (size_t rows, size_t c, const float *x, const float *gain,
						 const float *bias, float epsilon, float *y, float *mean, float *rstd);

	/* dx += the gradient of x, from dy [rows][c] */
	void		(*norm_backward) (size_t rows, size_t c, const float *x, const float *gain,
								  const float *mean, const float *rstd, const float *dy,
								  float *dx);

	/* dgain, dbias of columns c0 .. c1, added over all rows in ascending order */
	void		(*norm_backward_gain) (size_t rows, size_t c, size_t c0, size_t c1,
									   const float *x, const float *mean, const float *rstd,
									   const float *dy, float *dgain, float *dbias);

	/* out[c0 .. c1] += the sums over all rows of x [rows][ld], in ascending order */
	void		(*column_sums) (size_t rows, size_t ld, size_t c0, size_t c1, const float *x,
								float *out);

	/* x[0 .. valid) = softmax(x * scale), x[valid .. n) = 0 */
	void		(*softmax) (size_t n, size_t valid, float scale, float *x);

	/* dp [n] -> scale * p * (dp - sum of dp p): the gradient of what softmax was given */
	void		(*softmax_backward) (size_t n, float scale, const float *p, float *dp);

	/* -log softmax(x)[target]; where gradient_scale > 0, x becomes (softmax(x) - 1 at the
	 * target) * gradient_scale.  x [n] */
	double		(*cross_entropy) (size_t n, uint32_t target, float gradient_scale, float *x);

	/* x[i] *= 0 or 1 / (1 - rate), chosen by the random number of element first + i */
	void		(*dropout) (size_t n, uint64_t first, const g2t_dropout *d, float *x);

	/* y[cols][ldy] = the transpose of x[rows][ldx] */
	void		(*transpose) (size_t rows, size_t cols, const float *x, size_t ldx, float *y,
							  size_t ldy);

	/* y += x */
	void		(*add) (size_t n, const float *x, float *y);

	/* the sum of squares, in double over blocks */
	double		(*sum_squares) (size_t n, const float *x);

	/* One step of an optimizer; m and v are its state (sgd: v is not used). */
	void		(*adamw) (size_t n, const g2t_update *u, const float *g, float *w, float *m,
						  float *v);
	void		(*adam) (size_t n, const g2t_update *u, const float *g, float *w, float *m,
						 float *v);
	void		(*sgd) (size_t n, const g2t_update *u, const float *g, float *w, float *m,
						float *v);
} g2t_kernels;

extern const g2t_kernels g2t_kernels_portable;
#if defined(__x86_64__)
extern const g2t_kernels g2t_kernels_avx2;
extern const g2t_kernels g2t_kernels_avx512;
#endif

/* The best table for this machine. */
extern const g2t_kernels *g2t_kernels_best(void);

/* The i-th that this machine can run, the best first; NULL behind the last: for tests. */
extern const g2t_kernels *g2t_kernels_at(uint32_t i);

#endif							/* G2T_KERNELS_H */
