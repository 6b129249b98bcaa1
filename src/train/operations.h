/*
 * operations.h: the operations of a GPT-2 network, forward and backward, one file each.
 *
 * Shapes: n rows (tokens), c = n_embd.  Rows of several sequences follow each other without
 * padding.  Gradients of weights are set, or with `add` added to what is there; a gradient that is
 * NULL is not wanted (its weights do not change).  Everything runs on the context's pool and returns
 * when it is done.
 */
#ifndef G2T_OPERATIONS_H
#define G2T_OPERATIONS_H

#include "context.h"

/* The tokens of one pass. */
typedef struct g2t_batch
{
	uint32_t	n;				/* tokens */
	uint32_t	n_sequences;
	const uint32_t *start;		/* [n_sequences + 1]: where each begins; start[n_sequences] = n */
	const uint32_t *tokens;		/* [n] */
	const uint32_t *targets;	/* [n]: the next token, or G2_NO_TOKEN where it is not learned */
	uint64_t	first;			/* row of the step that the first token is */
} g2t_batch;

#define G2T_ROWS 32				/* rows of a task that goes by rows */
#define G2T_COLUMNS 64			/* columns of a task that goes by columns */

/* ---- embedding.c ---- */

/* x[n][c] = wte[token] + wpe[position in its sequence] */
extern void g2t_embed(const g2t_context *context, const g2t_batch *batch, size_t c,
					  const float *wte, const float *wpe, float *x);
extern void g2t_embed_backward(const g2t_context *context, const g2t_batch *batch, size_t c,
							   const float *dx, float *dwte, float *dwpe);	/* always adds */

/* ---- norm.c: layer norm ---- */

typedef struct g2t_norm
{
	const float *gain;			/* [c] */
	const float *bias;			/* [c] */
	float	   *dgain;
	float	   *dbias;
	float		epsilon;
} g2t_norm;

/* y[n][c] from x[n][c]; mean[n], rstd[n] are kept for the way back. */
extern void g2t_norm_forward(const g2t_context *context, const g2t_norm *norm, size_t n, size_t c,
							 const float *x, float *y, float *mean, float *rstd);

/* dx[n][c] += the gradient of x, from dy[n][c]. */
extern void g2t_norm_backward(const g2t_context *context, const g2t_norm *norm, size_t n, size_t c,
							  const float *x, const float *mean, const float *rstd,
							  const float *dy, float *dx, bool add);

/* ---- linear.c: y = x w + b, with an adapter of low rank where there is one ---- */

typedef struct g2t_linear
{
	size_t		in,
				out;
	const float *w;				/* [in][out], as Hugging Face's Conv1D has it */
	const float *b;				/* [out] */
	float	   *dw;
	float	   *db;
	/* Hu et al. 2021: y += scale (x a1) a2 */
	size_t		rank;			/* 0 = no adapter */
	float		scale;
	const float *a1;			/* [in][rank] */
	const float *a2;			/* [rank][out] */
	float	   *da1;
	float	   *da2;
} g2t_linear;

/* low[n][rank] and low2[n][rank] are for the adapter. */
extern void g2t_linear_forward(const g2t_context *context, const g2t_linear *l, size_t n,
							   const float *x, float *y, float *low);

/* dx[n][in] = the gradient of x. */
extern void g2t_linear_backward(const g2t_context *context, const g2t_linear *l, size_t n,
								const float *x, const float *dy, float *dx, bool add, float *low,
								float *low2);

/* ---- elementwise.c ---- */

/* The tanh form of GELU (Hugging Face's gelu_new). */
extern void g2t_gelu(const g2t_context *context, size_t n, const float *x, float *y);

/* dx may be dy. */
extern void g2t_gelu_backward(const g2t_context *context, size_t n, const float *x,
							  const float *dy, float *dx);

/* x[i] is dropped or scaled by the random number of element first + i; nothing at rate 0. */
extern void g2t_drop(const g2t_context *context, const g2t_dropout *d, uint64_t first, size_t n,
					 float *x);

/* y += x */
extern void g2t_add(const g2t_context *context, size_t n, const float *x, float *y);

/* ---- attention.c: causal self-attention of each sequence ---- */

typedef struct g2t_attention
{
	size_t		n_head;
	size_t		head_dim;
	float		scale;			/* of q . k */
	g2t_dropout dropout;		/* of the probabilities */
	size_t		positions;		/* a bound of a sequence's length, the same for all batches */
} g2t_attention;

/* Floats that each thread needs. */
extern size_t g2t_attention_scratch(size_t positions);

/* qkv [n][3 c]: q, k, v of all heads; out [n][c].  Probabilities are not kept: they are computed
 * again on the way back. */
extern void g2t_attention_forward(const g2t_context *context, const g2t_attention *a,
								  const g2t_batch *batch, const float *qkv, float *out);
extern void g2t_attention_backward(const g2t_context *context, const g2t_attention *a,
								   const g2t_batch *batch, const float *qkv, const float *dout,
								   float *dqkv);

/* ---- loss.c: the head and the cross-entropy in one, over tiles of rows ---- */

#define G2T_LOSS_ROWS 256		/* rows whose logits are in memory at a time */

/* Floats of the work that g2t_loss needs. */
extern size_t g2t_loss_floats(size_t c, size_t n_vocab);

/*
 * The sum over the rows with a target of -log softmax(x head^T)[target], x [n][c], head
 * [n_vocab][c].  With gradient_scale > 0, dx [n][c] and dhead get that many times its gradient;
 * otherwise dx and dhead are not looked at.
 */
extern double g2t_loss(const g2t_context *context, const g2t_batch *batch, size_t c,
					   size_t n_vocab, const float *x, const float *head, float gradient_scale,
					   float *dx, float *dhead, bool add, float *work);

#endif							/* G2T_OPERATIONS_H */
