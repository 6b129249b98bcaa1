/*
 * arena.h: the one piece of memory that the back end has of a device, in slabs of one size: runs of
 * them for weights and working memory, one at a time for KV caches.  Only numbers: the memory itself
 * is never touched, so that this is plain C and tested as such.
 *
 * Runs are taken from the low end and slabs of caches from the high end, so that what is free stays
 * in one piece.  That all slabs of caches have one size is what lets a model use what another has
 * given back, wherever it stands.
 */
#ifndef G2_ARENA_H
#define G2_ARENA_H

#include "util.h"

#define G2_ARENA_NONE UINT32_MAX

/* A slab's size: a power of two, the largest of which a device has G2_ARENA_SLABS. */
#define G2_ARENA_SLABS 64
#define G2_ARENA_SMALLEST ((uint64_t) 64 << 10)
#define G2_ARENA_LARGEST ((uint64_t) 128 << 20)

typedef enum g2_slab_use
{
	G2_SLAB_FREE, G2_SLAB_TAKEN, G2_SLAB_CACHE
} g2_slab_use;

typedef struct g2_arena
{
	uint8_t    *use;			/* [n_slabs] g2_slab_use */
	uint32_t	n_slabs;
	uint32_t	n_free;
	uint32_t	n_cache;
	uint64_t	slab_bytes;
} g2_arena;

extern bool g2_arena_open(g2_arena *arena, uint64_t bytes, g2_error *err);
extern void g2_arena_close(g2_arena *arena);

/* Slabs that hold so many bytes. */
extern uint64_t g2_arena_slabs(const g2_arena *arena, uint64_t bytes);

/* The first of as many slabs as hold the bytes, one behind the other; or G2_ARENA_NONE. */
extern uint32_t g2_arena_take(g2_arena *arena, uint64_t bytes);

/* Gives back what take returned for so many bytes. */
extern void g2_arena_give(g2_arena *arena, uint32_t first, uint64_t bytes);

/* A slab for a cache, or G2_ARENA_NONE; and back. */
extern uint32_t g2_arena_take_slab(g2_arena *arena);
extern void g2_arena_give_slab(g2_arena *arena, uint32_t slab);

/* Slabs of the longest free run. */
extern uint32_t g2_arena_longest(const g2_arena *arena);

/* 53200 with the sizes: `what` needs so many bytes and has not got them. */
extern bool g2_arena_fail(const g2_arena *arena, uint64_t bytes, const char *what, g2_error *err);

#endif							/* G2_ARENA_H */
