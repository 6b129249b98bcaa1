/*
 * kv.h: who holds which block of a model's KV cache, and which blocks hold a prefix that is worth
 * keeping.
 *
 * A block has a reference count; a block table is a sequence's list of blocks.  Sequences of one
 * group share the blocks of their prompt; the first to write into a shared block gets a copy.
 *
 * A block that is full can be published under the hash of all that led to it (prefix.h).  Whoever
 * starts with the same tokens finds it and takes a reference instead of computing it.  A published
 * block that nobody holds stays, in the order of its last use, until its memory is needed.
 *
 *     free       -> held       g2_kv_prepare
 *     held       -> published  g2_kv_publish (and held still)
 *     held       -> free       g2_kv_release, zeroed
 *     published  -> cached     g2_kv_release: nobody holds it
 *     cached     -> held       g2_kv_adopt
 *     cached     -> free       evicted, zeroed
 *
 * A pool is the memory for blocks of all models of a device, under one cap.  A model takes it in
 * slabs (backend.h), and gives a slab back as soon as all its blocks are free; on the CPU a slab is a
 * block.  A slab of which nobody holds a block is vacant: where there is no other memory, the one that
 * has been so for longest is any model's.  So what an idle model has cached is there for a busy one,
 * and a group that runs alone gets all there is: whatever the others have is vacant then.
 *
 * A model with a context that is larger than the setting allows raises the cap as long as it is open.
 *
 * Only the engine's thread touches any of this; the memory itself is the back end's.
 */
#ifndef G2_KV_H
#define G2_KV_H

#include "backend.h"
#include "prefix.h"

#define G2_NO_BLOCK UINT32_MAX

typedef struct g2_kv g2_kv;

typedef struct g2_kv_block
{
	uint32_t	references;
	uint32_t	next;			/* of its hash's bucket, or of its slab's free blocks; or G2_NO_BLOCK */
	bool		published;
	bool		cached;			/* in the model's list */
	uint64_t	cached_at;		/* by the pool's clock */
	struct g2_kv_block *older;	/* last used before this one */
	struct g2_kv_block *newer;
	g2_prefix	prefix;			/* published: what it holds */
} g2_kv_block;

/* Blocks of a model whose memory comes and goes together. */
typedef struct g2_kv_slab
{
	g2_kv	   *kv;
	uint32_t	n_held;
	uint32_t	n_cached;
	uint32_t	free;			/* the first of its free blocks */
	bool		vacant;			/* in the pool's list */
	uint64_t	vacant_since;	/* by the pool's clock */
	struct g2_kv_slab *older;	/* vacant before this one */
	struct g2_kv_slab *newer;
	struct g2_kv_slab *previous;	/* the model's slabs with a free block */
	struct g2_kv_slab *next;
} g2_kv_slab;

typedef struct g2_kv_pool
{
	uint32_t	index;			/* of its device, below G2_KV_POOLS */
	uint64_t	budget;			/* bytes, as they are set; constant */
	uint64_t	limit;			/* bytes: the budget, or all slabs of an open model if they are more */
	uint64_t	used;			/* bytes of mapped slabs */
	uint64_t	vacant;			/* of these, bytes of vacant ones */
	uint32_t	n_mapped;		/* slabs */
	uint32_t	n_vacant;
	uint64_t	clock;			/* counts what is cached and vacated */
	g2_kv_slab *oldest;			/* vacant slabs */
	g2_kv_slab *newest;
	g2_kv	   *first;			/* open models */
} g2_kv_pool;

#define G2_KV_POOLS 2u

struct g2_kv
{
	const g2_backend_api *api;
	g2_backend_model *model;
	g2_kv_pool *pool;
	g2_kv	   *next;			/* the pool's list; so it stays where it is while it is open */
	size_t		block_bytes;
	size_t		slab_bytes;
	uint32_t	slab_blocks;
	uint32_t	n_blocks;
	uint32_t	n_held;
	uint32_t	n_cached;
	uint32_t	n_slabs;		/* at most */
	uint32_t	n_unmapped;
	uint32_t	n_vacant;
	uint32_t   *unmapped;		/* [n_slabs], the first n_unmapped have no memory */
	g2_kv_slab *slabs;			/* [n_slabs] */
	g2_kv_slab *open;			/* those with a free block */
	g2_kv_block *blocks;		/* [n_blocks] */
	g2_kv_block *oldest;		/* cached blocks */
	g2_kv_block *newest;
	uint32_t   *buckets;		/* [n_buckets] first block of a hash */
	uint32_t	n_buckets;		/* a power of two */
};

typedef struct g2_block_table
{
	uint32_t   *blocks;
	uint32_t	n;
	uint32_t	cap;
} g2_block_table;

/* As many blocks as the pool's budget has, and at least those of one text. */
extern uint32_t g2_kv_blocks(const g2_kv_pool *pool, const g2_backend_api *api,
							 const g2_backend_model *model, uint32_t context);

/* Raises the pool's limit where n_blocks (one context at least; rounded up to whole slabs) would not
 * fit; close takes that back, and what others hold beyond it then stays with them until they release
 * it. */
extern bool g2_kv_open(g2_kv *kv, g2_kv_pool *pool, const g2_backend_api *api,
					   g2_backend_model *model, uint32_t n_blocks, g2_error *err);
extern void g2_kv_close(g2_kv *kv);

static inline uint32_t
g2_blocks_for(uint64_t positions)
{
	return (uint32_t) ((positions + G2_BLOCK - 1) / G2_BLOCK);
}

/* Blocks that one owner could hold if all others gave theirs back.  It falls when weights take memory
 * of the device. */
extern uint32_t g2_kv_capacity(const g2_kv *kv);

/* Blocks that can be had now, cached ones being evicted. */
extern uint32_t g2_kv_room(const g2_kv *kv);

/* Gives the memory of the slab that has been vacant for longest back to the device; false: there is
 * none. */
extern bool g2_kv_shrink(g2_kv_pool *pool);

typedef enum g2_kv_outcome
{
	G2_KV_DONE, G2_KV_FULL,		/* no block can be had until somebody releases some */
	G2_KV_FAILED				/* *err has been filled */
} g2_kv_outcome;

/* Makes positions first .. last writable: blocks are added at the end and shared ones copied.
 * What was done before it was FULL or FAILED stays done. */
extern g2_kv_outcome g2_kv_prepare(g2_kv *kv, g2_block_table *table, uint32_t first,
								   uint32_t last, g2_error *err);

/* `to`, which is empty, shares the first n blocks of `from`. */
extern bool g2_kv_share(g2_kv *kv, g2_block_table *to, const g2_block_table *from, uint32_t n,
						g2_error *err);

/* Gives the blocks back. */
extern void g2_kv_release(g2_kv *kv, g2_block_table *table);

/* The block published under this prefix, or G2_NO_BLOCK. */
extern uint32_t g2_kv_find(const g2_kv *kv, const g2_prefix *prefix);

/* Appends a block that g2_kv_find gave to a table. */
extern bool g2_kv_adopt(g2_kv *kv, g2_block_table *table, uint32_t block, g2_error *err);

/* A held block is full and will not be written any more.  Nothing happens where another block is
 * published under the same prefix. */
extern void g2_kv_publish(g2_kv *kv, uint32_t block, const g2_prefix *prefix);

#endif							/* G2_KV_H */
