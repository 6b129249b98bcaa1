/*
 * arena.h: the one piece of memory that the back end has of a device, handed out in parts.  Only
 * offsets: the memory itself is never touched, so that this is plain C and tested as such.
 *
 * Parts are few (a model has two), so free ranges are a short list, taken first fit.
 */
#ifndef G2_ARENA_H
#define G2_ARENA_H

#include "util.h"

#define G2_ARENA_ALIGN 512
#define G2_ARENA_NONE UINT64_MAX

typedef struct g2_arena_range
{
	uint64_t	at;
	uint64_t	bytes;
} g2_arena_range;

typedef struct g2_arena
{
	g2_arena_range *free;		/* ascending, never touching each other */
	uint32_t	n_free;
	uint32_t	room;
	uint32_t	n_parts;		/* that are out */
	uint64_t	bytes;
} g2_arena;

extern bool g2_arena_open(g2_arena *arena, uint64_t bytes, g2_error *err);
extern void g2_arena_close(g2_arena *arena);

/* Offset of a part; G2_ARENA_NONE, with 53200 and the sizes in err, where no free range holds it. */
extern uint64_t g2_arena_take(g2_arena *arena, uint64_t bytes, const char *what, g2_error *err);

/* Gives back what take returned for so many bytes. */
extern void g2_arena_give(g2_arena *arena, uint64_t at, uint64_t bytes);

/* Bytes free in all, and of the largest range. */
extern uint64_t g2_arena_free(const g2_arena *arena);
extern uint64_t g2_arena_largest(const g2_arena *arena);

#endif							/* G2_ARENA_H */
