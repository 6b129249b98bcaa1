/*
 * plan_device.h: a plan as it lies in a device's memory.  Written by the host (cuda_plan.cpp), read
 * by kernels.
 *
 * A pass is up to G2D_PASS_ROWS rows that go through the layers together; chunks are up to
 * G2D_HEAD_ROWS of them, with their outputs, that go through the head together.  Offsets count
 * bytes from the pass or the chunk itself.
 */
#ifndef G2_PLAN_DEVICE_H
#define G2_PLAN_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#include "device_layout.h"
#include "engine_headers.h"

#define G2D_PASS_ROWS 1024u
#define G2D_HEAD_ROWS 256u
#define G2D_OUTPUTS 1024u		/* of a chunk */
#define G2D_TILE 16u			/* queries of one block of attention */
#define G2D_SETS 128u			/* of ids, for outputs of a chunk */
#define G2D_NO_SET UINT32_MAX
#define G2D_RESTS UINT32_MAX	/* position of a row that is not computed */
#define G2D_SEEN_WORDS 4096u	/* 2^18 bits */
#define G2D_MOST_CTX 16384u		/* positions of a model, and so distinct tokens of an answer */

enum
{
	G2D_ROW_RESTS_FIRST = 1		/* with an ended slot it rests in the first step too */
};

typedef struct g2d_row
{
	uint32_t	token;			/* or G2_TOKEN_PREVIOUS */
	uint32_t	position;		/* in step 0 */
	uint32_t	slot;
	uint32_t	flags;
	uint32_t	table;			/* index of its first block's place in the tables */
} g2d_row;

/* Rows of one sequence that attend together. */
typedef struct g2d_tile
{
	uint32_t	row;
	uint32_t	rows;			/* 1 .. G2D_TILE */
} g2d_tile;

typedef struct g2d_pass
{
	uint32_t	n_rows;
	uint32_t	n_tiles;
	uint32_t	step;			/* counted up on the device */
	uint32_t	failed;			/* set there: a previous token that the model does not have */
	uint32_t	tiles_at;
	uint32_t	tables_at;
	uint32_t	padding[2];
	g2d_row		rows[];
} g2d_pass;

typedef struct g2d_output
{
	uint32_t	head_row;		/* of the chunk */
	uint32_t	slot;
	uint32_t	want;
	uint32_t	target;
	uint32_t	follows;		/* 1: goes on with the draft of the output before it */
	uint32_t	fed;			/* what the next output of the draft feeds; G2_TOKEN_NONE: no next */
	uint32_t	mask;			/* which of the chunk's sets of ids it is; G2D_NO_SET */
	uint32_t	banned;			/* likewise, those of this output alone */
} g2d_output;

typedef struct g2d_chunk
{
	uint32_t	n_head_rows;
	uint32_t	n_tasks;		/* of outputs: each a draft, or one alone */
	uint32_t	base;			/* its first result, and results from step to step */
	uint32_t	stride;
	uint32_t	n_top;
	uint32_t	n_outputs;
	uint32_t	head_row[G2D_HEAD_ROWS];	/* rows of the pass */
	uint32_t	task_start[G2D_OUTPUTS + 1];
	g2d_output	outputs[];
} g2d_chunk;

typedef struct g2d_result
{
	double		logprob;
	uint32_t	token;
	uint32_t	ended;
} g2d_result;

typedef struct g2d_top
{
	double		logprob;
	uint32_t	token;
	float		score;			/* what it was chosen by: its logit; CANDIDATES: as backend.h says */
} g2d_top;

/* A sampler slot. */
typedef struct g2d_slot
{
	g2_sampling sampling;		/* without its arrays: see g2d_slots */
	uint32_t	next_index;
	uint32_t	end_token;
	uint32_t	last_token;
	uint32_t	ended;
	uint32_t	refused;
	uint32_t	has_seen;		/* bits of seen mean something, and of banned */
	uint32_t	has_banned;
	uint32_t	n_counts;
	uint32_t	most_counts;	/* 0: nothing counts */
} g2d_slot;

typedef struct g2d_slots
{
	g2d_slot   *slots;
	uint64_t   *seen;			/* [slots][G2D_SEEN_WORDS] */
	uint64_t   *banned;			/* likewise; without those that have a bias */
	g2_bias    *biases;			/* [slots][G2_MOST_BIASES] */
	g2_count   *counts;			/* [slots][G2D_MOST_CTX] distinct tokens of the answer */
} g2d_slots;

/* A set of ids has a bit for each. */
G2_HD static inline uint32_t
g2d_set_words(uint32_t n_vocab)
{
	return (n_vocab + 63) / 64;
}

G2_HD static inline const g2d_tile *
g2d_tiles(const g2d_pass *p)
{
	return (const g2d_tile *) ((const char *) p + p->tiles_at);
}

G2_HD static inline const uint32_t *
g2d_tables(const g2d_pass *p)
{
	return (const uint32_t *) ((const char *) p + p->tables_at);
}

#endif							/* G2_PLAN_DEVICE_H */
