/*
 * cuda_plan.h: a plan on its way to the device, between cuda_plan_write.cpp, which writes it into an
 * entry's pinned memory, and cuda_plan.cpp, which launches what was written.
 */
#ifndef G2_CUDA_PLAN_H
#define G2_CUDA_PLAN_H

#include "cuda_state.h"

#define G2D_WANT_BEST (G2_WANT_TOP | G2_WANT_CANDIDATES)

/* Rows of one sequence within a pass. */
typedef struct g2d_span
{
	uint32_t	sequence;
	uint32_t	first;			/* row of the plan */
	uint32_t	rows;
} g2d_span;

/* What was written for a chunk. */
typedef struct g2d_chunk_note
{
	size_t		at;				/* in the pinned memory */
	size_t		bytes;
	uint32_t	first_emitted;
	uint32_t	want;			/* of all its outputs */
	size_t		sets_at;
	uint32_t	n_sets;
} g2d_chunk_note;

/* What was written for a pass. */
typedef struct g2d_pass_note
{
	size_t		at;
	size_t		bytes;
	uint32_t	n_rows;
	uint32_t	n_sequences;
	uint32_t	n_tiles;
	uint32_t	segments;
	uint32_t	first_chunk;
	uint32_t	n_chunks;
} g2d_pass_note;

typedef struct g2d_builder
{
	g2_backend *b;
	g2d_entry  *e;
	const g2_plan *plan;
	g2_backend_model *m;
	uint32_t	want;			/* of all outputs */
	g2d_span	spans[G2D_PASS_ROWS];
	uint32_t	n_spans;
	uint32_t	n_rows;
	uint32_t	first_row;		/* of the plan */
	uint32_t	end_row;
	g2d_pass_note *passes;
	uint32_t	n_passes;
	uint32_t	pass_room;
	g2d_chunk_note *chunks;
	uint32_t	n_chunks;
	uint32_t	chunk_room;
} g2d_builder;

static inline g2d_chunk *
g2d_chunk_at(const g2d_builder *p, uint32_t c)
{
	return reinterpret_cast<g2d_chunk *>(p->e->in + p->chunks[c].at);
}

/* Pinned memory for `more` bytes behind what was written.  Nothing of the entry may be on the
 * stream. */
extern bool g2d_in_reserve(g2d_entry *e, size_t more, g2_error *err);

/* Writes passes and chunks of the plan: once where they stay on the device for all steps, else for
 * each step. */
extern bool g2d_plan_write(g2d_builder *p, bool *resident, g2_error *err);

/* Chunks that a graph for so many rows runs through and the plan does not have. */
extern bool g2d_plan_write_empty(g2d_builder *p, uint32_t rows, g2_error *err);

#endif							/* G2_CUDA_PLAN_H */
