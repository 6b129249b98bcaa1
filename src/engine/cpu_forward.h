/*
 * cpu_forward.h: the forward pass on the CPU: models, the working memory of a pass, and its two
 * halves: the layers (rows of tokens to hidden states) and the head (chosen rows to logits).
 *
 * Private to the CPU back end.  All functions but the checks run on the driver thread, which
 * spreads the work over the pool; nothing here allocates.
 */
#ifndef G2_CPU_FORWARD_H
#define G2_CPU_FORWARD_H

#include <stdatomic.h>

#include "backend.h"
#include "kernels.h"
#include "pool.h"

#define G2_FORWARD_ROWS 512		/* rows that go through the layers together */
#define G2_HEAD_ROWS 64			/* rows that go through the head together */

/* A model as the back end knows it.  Written by the scheduler's thread while none of the model's
 * plans is in flight. */
struct g2_backend_model
{
	g2_backend *backend;
	const g2_weights *weights;
	uint32_t	dv;				/* head_dim rounded up to 16: row length of V in the cache */
	g2_kv_type	kv_type;
	size_t		kv_size;		/* bytes of an element of the cache */
	size_t		head_elements;	/* of one layer and head in a block: K, then V */
	size_t		block_elements; /* block = [n_layer][n_head] of those */
	void	   *kv;				/* [n_blocks] blocks; NULL until kv_reserve */
	size_t		kv_bytes;
	uint32_t	n_blocks;
	atomic_uint	holders;		/* the caller, and operations on the cache */
	size_t		ld_embd;		/* row strides of the activations */
	size_t		ld_qkv;
	size_t		ld_heads;
	size_t		ld_ff;
	size_t		ld_low;			/* 0: no adapter */
};

/* Rows of one sequence within a pass. */
typedef struct g2_span
{
	uint32_t	row;			/* first row in the pass */
	uint32_t	rows;
	uint32_t	position;		/* of the first row */
	const uint32_t *blocks;
} g2_span;

/* Up to G2_ATTEND_ROWS rows of a span: with a head, a task of attention. */
typedef struct g2_attend_tile
{
	uint32_t	span;
	uint32_t	offset;			/* first row within the span */
} g2_attend_tile;

/* Arrays of a pass, carved out of one block of memory by g2_workspace_layout. */
typedef struct g2_workspace
{
	uint32_t	n_rows;			/* rows of the pass, filled by the caller with ... */
	uint32_t   *token;			/* [rows] ids */
	uint32_t   *position;		/* [rows] */
	uint32_t	n_spans;
	g2_span    *spans;			/* [rows] */
	uint32_t	n_tiles;
	g2_attend_tile *tiles;		/* [rows] */
	float	   *x;				/* [rows][ld_embd] the residual stream */
	float	   *norm;			/* [rows][ld_embd] */
	float	   *qkv;			/* [rows][ld_qkv] */
	float	   *heads;			/* [rows][ld_heads] attention's output */
	float	   *ff;				/* [rows][ld_ff] */
	float	   *low;			/* [rows][ld_low] the rows of one product in its adapter's rank */
	void	   *operand;		/* the rows of one product, in its format; not f32 */
	uint32_t	n_head_rows;
	uint32_t   *head_row;		/* [head rows] which rows of the pass */
	float	   *final;			/* [head rows][ld_embd] the final norm's output */
	float	   *logits;			/* [head rows][head.n_padded] */
	uint32_t   *row_in_pass;	/* [plan rows] */
	uint32_t   *chosen;			/* [plan outputs] */
	uint32_t   *chosen_row;		/* [plan outputs] head row of each chosen output */
	uint32_t   *task_start;		/* [plan outputs + 1] the first chosen output of each task */
	char	   *scratch;		/* [threads][scratch_bytes] */
	size_t		scratch_bytes;
} g2_workspace;

typedef struct g2_pass
{
	g2_pool    *pool;
	const g2_kernels *kernels;
	const g2_backend_model *model;
	g2_workspace *ws;
} g2_pass;

/* 0A000, with the field named, for a graph that this back end cannot run. */
extern bool g2_cpu_model_check(const g2_weights *weights, g2_error *err);
extern void g2_cpu_model_init(g2_backend_model *model, const g2_weights *weights);

/* A model goes with its last holder: the caller, until it unloads it, and each operation on its
 * cache, which may stand in a list that went along with another model's plan. */
extern void g2_cpu_model_release(g2_backend_model *model);

static inline size_t
g2_cpu_block_bytes(const g2_backend_model *m)
{
	return m->block_elements * m->kv_size;
}

/* K, then V, of a layer and head in a block of the cache. */
static inline void *
g2_cpu_cache(const g2_backend_model *m, uint32_t block, uint32_t layer, uint32_t head)
{
	size_t		at = block * m->block_elements +
		((size_t) layer * m->weights->arch.n_head + head) * m->head_elements;

	return (char *) m->kv + at * m->kv_size;
}

/* Lays the arrays out from base (NULL: only counts) and returns the bytes they take. */
extern size_t g2_workspace_layout(g2_workspace *ws, const g2_backend_model *model,
								  const g2_plan *plan, uint32_t threads, void *base);

/* Rows, spans and their tokens to ws->x; K and V of every row go into the cache. */
extern void g2_forward_layers(const g2_pass *pass);

/* Rows head_row[] of ws->x to ws->final and, if wanted, ws->logits. */
extern void g2_forward_head(const g2_pass *pass, bool want_logits);

#endif							/* G2_CPU_FORWARD_H */
