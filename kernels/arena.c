/*
 * arena.c: free ranges of a device's memory.
 *
 * There is always room to give back: between n parts that are out are at most n + 1 free ranges,
 * and taking a part sees that so many fit.
 */
#include "arena.h"

static uint64_t
whole(uint64_t bytes)
{
	return bytes > UINT64_MAX - G2_ARENA_ALIGN ? UINT64_MAX :
		G2_ROUND_UP(G2_MAX(bytes, 1), (uint64_t) G2_ARENA_ALIGN);
}

bool
g2_arena_open(g2_arena *arena, uint64_t bytes, g2_error *err)
{
	*arena = (g2_arena) {.bytes = bytes / G2_ARENA_ALIGN * G2_ARENA_ALIGN, .room = 4};
	arena->free = g2_alloc_array(arena->room, sizeof *arena->free);
	if (!arena->free)
		return g2_fail_memory(err, arena->room * sizeof *arena->free);
	if (arena->bytes > 0)
		arena->free[arena->n_free++] = (g2_arena_range) {0, arena->bytes};
	return true;
}

void
g2_arena_close(g2_arena *arena)
{
	g2_free(arena->free);
	*arena = (g2_arena) {0};
}

/* Room for what can be free with one more part out. */
static bool
make_room(g2_arena *arena, g2_error *err)
{
	g2_arena_range *more;

	if (arena->n_parts + 2 <= arena->room)
		return true;
	more = g2_realloc_array(arena->free, arena->room * 2, sizeof *more);
	if (!more)
		return g2_fail_memory(err, arena->room * 2 * sizeof *more);
	arena->free = more;
	arena->room *= 2;
	return true;
}

static void
remove_range(g2_arena *arena, uint32_t i)
{
	arena->n_free--;
	memmove(arena->free + i, arena->free + i + 1, (arena->n_free - i) * sizeof *arena->free);
}

uint64_t
g2_arena_take(g2_arena *arena, uint64_t bytes, const char *what, g2_error *err)
{
	uint64_t	need = whole(bytes);

	if (!make_room(arena, err))
		return G2_ARENA_NONE;
	for (uint32_t i = 0; i < arena->n_free; i++)
	{
		g2_arena_range *r = &arena->free[i];
		uint64_t	at = r->at;

		if (r->bytes < need)
			continue;
		r->at += need;
		r->bytes -= need;
		if (r->bytes == 0)
			remove_range(arena, i);
		arena->n_parts++;
		return at;
	}
	g2_fail(err, G2_E_MEMORY, "not enough memory on the CUDA device for %s", what);
	g2_fail_detail(err, "%.1f MB are needed; %.1f MB of %.1f MB are free, %.1f MB of them in one "
				   "piece.", (double) bytes / 1e6, (double) g2_arena_free(arena) / 1e6,
				   (double) arena->bytes / 1e6, (double) g2_arena_largest(arena) / 1e6);
	g2_fail_hint(err, "Raise gpt2.device_memory, lower gpt2.kv_cache_size, or unload a model.");
	return G2_ARENA_NONE;
}

void
g2_arena_give(g2_arena *arena, uint64_t at, uint64_t bytes)
{
	uint64_t	end = at + whole(bytes);
	uint32_t	i = 0;
	bool		joins_before,
				joins_behind;

	arena->n_parts--;
	while (i < arena->n_free && arena->free[i].at < at)
		i++;
	joins_before = i > 0 && arena->free[i - 1].at + arena->free[i - 1].bytes == at;
	joins_behind = i < arena->n_free && arena->free[i].at == end;
	if (joins_before)
	{
		arena->free[i - 1].bytes = end - arena->free[i - 1].at;
		if (joins_behind)
		{
			arena->free[i - 1].bytes += arena->free[i].bytes;
			remove_range(arena, i);
		}
		return;
	}
	if (joins_behind)
	{
		arena->free[i].bytes += arena->free[i].at - at;
		arena->free[i].at = at;
		return;
	}
	memmove(arena->free + i + 1, arena->free + i, (arena->n_free - i) * sizeof *arena->free);
	arena->free[i] = (g2_arena_range) {at, end - at};
	arena->n_free++;
}

uint64_t
g2_arena_free(const g2_arena *arena)
{
	uint64_t	bytes = 0;

	for (uint32_t i = 0; i < arena->n_free; i++)
		bytes += arena->free[i].bytes;
	return bytes;
}

uint64_t
g2_arena_largest(const g2_arena *arena)
{
	uint64_t	bytes = 0;

	for (uint32_t i = 0; i < arena->n_free; i++)
		bytes = G2_MAX(bytes, arena->free[i].bytes);
	return bytes;
}
