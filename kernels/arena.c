/*
 * arena.c: which slabs of a device's memory are free.  There are a few hundred of them, so that
 * looking through all is nothing beside what they are taken for.
 */
#include "arena.h"

bool
g2_arena_open(g2_arena *arena, uint64_t bytes, g2_error *err)
{
	uint64_t	n;

	*arena = (g2_arena) {.slab_bytes = G2_ARENA_LARGEST};
	while (arena->slab_bytes > G2_ARENA_SMALLEST && bytes / arena->slab_bytes < G2_ARENA_SLABS)
		arena->slab_bytes /= 2;
	n = bytes / arena->slab_bytes;
	if (n >= G2_ARENA_NONE)
		return g2_fail_memory(err, bytes);
	arena->use = g2_alloc((size_t) n + 1);
	if (!arena->use)
		return g2_fail_memory(err, n + 1);
	arena->n_slabs = arena->n_free = (uint32_t) n;
	return true;
}

void
g2_arena_close(g2_arena *arena)
{
	g2_free(arena->use);
	*arena = (g2_arena) {0};
}

uint64_t
g2_arena_slabs(const g2_arena *arena, uint64_t bytes)
{
	return G2_MAX(bytes / arena->slab_bytes + (bytes % arena->slab_bytes > 0), UINT64_C(1));
}

uint32_t
g2_arena_take(g2_arena *arena, uint64_t bytes)
{
	const uint64_t need = g2_arena_slabs(arena, bytes);
	uint32_t	n = 0;

	for (uint32_t i = 0; i < arena->n_slabs; i++)
	{
		n = arena->use[i] == G2_SLAB_FREE ? n + 1 : 0;
		if (n < need)
			continue;
		memset(arena->use + (i + 1 - n), G2_SLAB_TAKEN, n);
		arena->n_free -= n;
		return i + 1 - n;
	}
	return G2_ARENA_NONE;
}

void
g2_arena_give(g2_arena *arena, uint32_t first, uint64_t bytes)
{
	const uint32_t n = (uint32_t) g2_arena_slabs(arena, bytes);

	memset(arena->use + first, G2_SLAB_FREE, n);
	arena->n_free += n;
}

uint32_t
g2_arena_take_slab(g2_arena *arena)
{
	for (uint32_t i = arena->n_slabs; i-- > 0;)
		if (arena->use[i] == G2_SLAB_FREE)
		{
			arena->use[i] = G2_SLAB_CACHE;
			arena->n_free--;
			arena->n_cache++;
			return i;
		}
	return G2_ARENA_NONE;
}

void
g2_arena_give_slab(g2_arena *arena, uint32_t slab)
{
	arena->use[slab] = G2_SLAB_FREE;
	arena->n_free++;
	arena->n_cache--;
}

uint32_t
g2_arena_longest(const g2_arena *arena)
{
	uint32_t	n = 0,
				most = 0;

	for (uint32_t i = 0; i < arena->n_slabs; i++)
	{
		n = arena->use[i] == G2_SLAB_FREE ? n + 1 : 0;
		most = G2_MAX(most, n);
	}
	return most;
}

bool
g2_arena_fail(const g2_arena *arena, uint64_t bytes, const char *what, g2_error *err)
{
	const double slab = (double) arena->slab_bytes / 1e6;

	g2_fail(err, G2_E_MEMORY, "not enough memory on the CUDA device for %s", what);
	g2_fail_detail(err, "%.1f MB are needed; %.1f MB of %.1f MB are free, %.1f MB of them in one "
				   "piece, and texts in progress hold %.1f MB.",
				   slab * (double) g2_arena_slabs(arena, bytes), slab * arena->n_free,
				   slab * arena->n_slabs, slab * g2_arena_longest(arena), slab * arena->n_cache);
	return g2_fail_hint(err, "Raise gpt2.device_memory, lower gpt2.kv_cache_size, wait until texts "
						"have ended, or unload a model.");
}
