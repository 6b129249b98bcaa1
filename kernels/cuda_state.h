/*
 * cuda_state.h: the inside of the CUDA back end, shared by cuda_backend.cpp (the table, plans in
 * flight), cuda_model.cpp (models in the device's memory), cuda_cache.cpp (their KV caches),
 * cuda_operations.cpp (what becomes of sampler slots between plans), cuda_plan.cpp (a plan as it goes
 * to the device) and cuda_forward.cpp (launches).
 *
 * Threads: the scheduler's thread does everything but waiting: that is the waiter's, which has an
 * entry's outcome between its queuing and its end (plan_queue.h); and g2d_model_fill may be called by
 * another.  All work of a back end but that is on one stream, in order: what is launched for a plan runs
 * after all that was launched before, so that working memory, slots and cache need no lock.
 */
#ifndef G2_CUDA_STATE_H
#define G2_CUDA_STATE_H

#include "device_kernels.h"

extern "C"
{
#include "arena.h"
}

#define G2D_LEAST_SLOTS 256u
#define G2D_BYTES_PER_SLOT (8u << 20)	/* of the memory taken: less than that holds no text more */
#define G2D_CHUNKS (G2D_PASS_ROWS / G2D_HEAD_ROWS)
#define G2D_RESULTS (G2_MAX_STEPS * G2D_PASS_ROWS)
#define G2D_BUCKETS 27			/* sizes that graphs are made for */
#define G2D_GRAPH_SEGMENTS 8	/* longer contexts run without a graph */

/* Sampler slots that suit a device with so much memory for models, caches and themselves: what
 * decodes is one pass. */
static inline uint32_t
g2d_suited_slots(uint64_t bytes)
{
	const uint64_t n = bytes / G2D_BYTES_PER_SLOT;

	return (uint32_t) G2_MAX(G2_MIN(n, (uint64_t) G2D_PASS_ROWS), (uint64_t) G2D_LEAST_SLOTS);
}

typedef struct g2d_layer
{
	const float *norm1_gain;
	const float *norm1_bias;
	g2d_matrix	qkv;
	const float *qkv_bias;
	g2d_matrix	attn_out;
	const float *attn_out_bias;
	const float *norm2_gain;
	const float *norm2_bias;
	g2d_matrix	ff_up;
	const float *ff_up_bias;
	g2d_matrix	ff_down;
	const float *ff_down_bias;
} g2d_layer;

/* Working memory of a pass and a chunk. */
typedef struct g2d_workspace
{
	g2d_pass   *pass;			/* [pass_bytes] */
	g2d_chunk  *chunk[G2D_CHUNKS];	/* [chunk_bytes] each */
	uint32_t   *position_of;	/* [G2D_PASS_ROWS] */
	float	   *x;				/* [G2D_PASS_ROWS][ld_embd] */
	float	   *qkv;
	float	   *heads;
	float	   *ff;
	void	   *operand;		/* rows as the next product takes them */
	float	   *operand_scale;
	float	   *parts;			/* attention over several segments */
	float	   *final;			/* [G2D_HEAD_ROWS][n_embd] */
	void	   *head_operand;
	float	   *head_scale;
	float	   *logits;			/* [G2D_HEAD_ROWS][n_vocab] */
	uint64_t   *best;
	uint32_t   *bad;
	g2d_result *results;		/* [G2D_RESULTS] */
	g2d_top	   *top;			/* [top_room] */
	g2d_top	   *unsorted;
	float	   *changed;		/* [G2D_SAMPLE_BLOCKS][n_vocab] */
	uint64_t   *sets;			/* [G2D_SETS][g2d_set_words] */
} g2d_workspace;

struct g2_backend_model
{
	g2_backend *backend;
	g2_backend_model *next;		/* the back end's list */
	g2_arch		arch;
	g2_format	format;
	uint32_t	at;				/* its first slab of the arena: weights and working memory */
	uint64_t	bytes;
	g2d_matrix	embed;
	g2d_matrix	head;
	const float *positions;
	g2d_layer  *layers;			/* on the host, of pointers to the device */
	const float *norm_gain;
	const float *norm_bias;
	g2d_cache	cache;
	uint32_t   *places;			/* [n_blocks] on the host (cuda_cache.cpp); NULL: not reserved */
	uint32_t	n_blocks;
	g2d_workspace ws;
	size_t		pass_bytes;
	size_t		chunk_bytes;
	uint32_t	top_room;
	uint32_t	max_segments;
	rt_event   *vacated;		/* behind what was launched before its memory was taken */
	rt_graph   *graphs[G2D_BUCKETS][G2D_GRAPH_SEGMENTS];
	bool		no_more_graphs;	/* there was no memory for one */
};

/* A plan in flight. */
typedef struct g2d_entry
{
	g2_plan		plan;			/* the struct is ours, its arrays are the caller's */
	g2_result  *result;
	char	   *in;				/* pinned: what goes to the device */
	size_t		in_room;
	size_t		in_len;
	char	   *out;			/* pinned: what comes back; see cuda_plan.cpp */
	size_t		out_room;
	uint32_t   *output_of;		/* [emitted]: which result of the plan each is */
	size_t		output_room;
	uint32_t	n_emitted;
	uint32_t	repeats;		/* steps that emit the same outputs */
	uint32_t	n_status;		/* passes that say whether they failed */
	rt_event   *begin;
	rt_event   *end;
	bool		failed;
	g2_error	error;
} g2d_entry;

struct g2_backend
{
	uint32_t	index;			/* of the device */
	rt_info		info;
	rt_stream	stream;
	void	   *memory;
	g2_arena	arena;
	bool		(*shrink) (void *arg);	/* backend.h */
	void	   *shrink_arg;
	g2_backend_model *models;	/* that are loaded */
	g2d_slots	slots;
	char		arithmetic[G2_FORMATS][24];

	g2_plan_queue queue;		/* its thread is the waiter */
	g2d_entry	entries[G2_MAX_PLANS];
	bool		waiter_usable;	/* the waiter's */
	g2_error	waiter_error;

	/* the scheduler's */
	g2_plan_limits limits;
	g2_buf		pending;		/* slots to be set before the next plan (cuda_operations.cpp) */
};

/* ---- cuda_model.cpp ---- */

extern bool g2d_model_load(g2_backend *b, const g2_weights *w, g2_backend_model **out,
						   g2_error *err);

/* On any thread, and a stream of its own. */
extern bool g2d_model_fill(g2_backend_model *m, const g2_weights *w, g2_error *err);
extern void g2d_model_unload(g2_backend *b, g2_backend_model *m);

/* 16 outputs of a bf16 or q8 matrix as the device has them: units_padded fragments, and as many times
 * 16 scales. */
extern void g2d_repack_strip(const g2_matrix *m, uint32_t units_padded, uint32_t strip, char *to,
							 uint16_t *scales);

/* ---- cuda_cache.cpp ---- */

/* 53200 where so many slabs would not hold one text of any loaded model, and of this one. */
extern bool g2d_cache_fits(const g2_backend_model *m, uint64_t slabs, g2_error *err);
extern void g2d_cache_free(g2_backend_model *m);

/* Where a block stands on the device (device_layout.h); XX000: nowhere. */
extern bool g2d_place_of(const g2_backend_model *m, uint32_t block, uint32_t *place, g2_error *err);

/* Of the table. */
extern size_t g2d_block_bytes(const g2_backend_model *m);
extern bool g2d_kv_reserve(g2_backend_model *m, uint32_t n_blocks, g2_error *err);
extern uint32_t g2d_kv_slab(const g2_backend_model *m, size_t *bytes);
extern uint32_t g2d_kv_spare(const g2_backend_model *m);
extern bool g2d_kv_map(g2_backend_model *m, uint32_t slab);
extern void g2d_kv_unmap(g2_backend_model *m, uint32_t slab);
extern bool g2d_kv_copy(g2_backend_model *m, uint32_t to, uint32_t from, g2_error *err);
extern bool g2d_kv_zero(g2_backend_model *m, const uint32_t *blocks, uint32_t n, g2_error *err);

/* ---- cuda_forward.cpp ---- */

/* The layers for a pass that lies on the device: `rows` of them are launched for, and `tiles` of
 * attention; rows behind the pass's own rest. */
extern void g2d_forward_layers(const g2_backend_model *m, uint32_t rows, uint32_t tiles,
							   uint32_t segments);

/* Head and outputs of chunk c. */
extern void g2d_forward_chunk(const g2_backend_model *m, uint32_t c, uint32_t head_rows,
							  uint32_t tasks, bool want_logits);

/* One step of up to `rows` sequences with a row each, chunk c on rows 256 c ..; as a graph where it
 * is one. */
extern bool g2d_forward_step(g2_backend_model *m, uint32_t rows, uint32_t segments, g2_error *err);

/* Rows that such a step is launched for: at least n; 0: too many. */
extern uint32_t g2d_bucket_rows(uint32_t n);

/* ---- cuda_operations.cpp ---- */

/* Sets a slot before the next plan. */
extern bool g2d_pend_slot(g2_backend *b, uint32_t slot, const g2_slot_state *state, g2_error *err);

/* Bytes that what is pending takes of an entry's pinned memory; launches it from there, and forgets
 * it. */
extern size_t g2d_pending_bytes(const g2_backend *b);
extern bool g2d_pending_launch(g2_backend *b, char *in, g2_error *err);

/* ---- cuda_plan.cpp ---- */

/* Launches pending operations, the plan, and the way of its results back; false: nothing that was
 * launched matters. */
extern bool g2d_plan_launch(g2_backend *b, g2d_entry *e, g2_error *err);

/* Results to the caller's arrays, once the entry has ended; false: the plan failed. */
extern bool g2d_plan_take(const g2d_entry *e, g2_error *err);

#endif							/* G2_CUDA_STATE_H */
