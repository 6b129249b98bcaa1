/*
 * kv.h: who holds which block of a model's KV cache.
 *
 * A block has a reference count; a block table is a sequence's list of blocks.  Sequences of one
 * group share the blocks of their prompt; the first to write into a shared block gets a copy.
 * Only the engine's thread touches any of this; the memory itself is the back end's.
 */
#ifndef G2_KV_H
#define G2_KV_H

#include "backend.h"

typedef struct g2_kv
{
	const g2_backend_api *api;
	g2_backend_model *model;
	size_t		block_bytes;
	uint32_t	n_blocks;
	uint32_t	n_free;
	uint32_t	n_reserved;		/* the scheduler's: what admitted groups may hold at most */
	uint32_t   *free_blocks;	/* [n_blocks], the first n_free are free */
	uint32_t   *references;		/* [n_blocks] */
} g2_kv;

typedef struct g2_block_table
{
	uint32_t   *blocks;
	uint32_t	n;
	uint32_t	cap;
} g2_block_table;

extern bool g2_kv_open(g2_kv *kv, const g2_backend_api *api, g2_backend_model *model,
					   uint32_t n_blocks, g2_error *err);
extern void g2_kv_close(g2_kv *kv);

static inline uint32_t
g2_blocks_for(uint64_t positions)
{
	return (uint32_t) ((positions + G2_BLOCK - 1) / G2_BLOCK);
}

/* Makes positions first .. last writable: blocks are added at the end and shared ones copied. */
extern bool g2_kv_prepare(g2_kv *kv, g2_block_table *table, uint32_t first, uint32_t last,
						  g2_error *err);

/* `to`, which is empty, shares the first n blocks of `from`. */
extern bool g2_kv_share(g2_kv *kv, g2_block_table *to, const g2_block_table *from, uint32_t n,
						g2_error *err);

/* Gives the blocks back; those that nobody holds any more are zeroed. */
extern void g2_kv_release(g2_kv *kv, g2_block_table *table);

#endif							/* G2_KV_H */
