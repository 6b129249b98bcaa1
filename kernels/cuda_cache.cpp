/*
 * cuda_cache.cpp: the KV caches of all models in the slabs of the arena that weights have left.
 *
 * A model's blocks are numbers; `places` says where each stands while its slab is mapped, and what
 * goes to the device (tables of plans, copies) are places.  So a slab can be any model's.
 *
 * All work on caches is on the back end's stream, in the order of the calls: plans in flight that
 * read a block are done before it is zeroed, its slab given to others, and written by them.
 */
#include "cuda_state.h"

#define NO_PLACE 0u				/* the sampler's slots stand there (cuda_backend.cpp); what new memory of
								 * the host has */

static uint32_t
tile_bytes(const g2_backend_model *m)
{
	return G2D_KEYS * m->arch.head_dim * (m->format == G2_FORMAT_F32 ? 4 : 2);
}

static uint32_t
block_tiles(const g2_backend_model *m)
{
	return 2 * m->arch.n_layer * m->arch.n_head;
}

size_t
g2d_block_bytes(const g2_backend_model *m)
{
	return (size_t) block_tiles(m) * tile_bytes(m);
}

uint32_t
g2d_kv_slab(const g2_backend_model *m, size_t *bytes)
{
	const uint64_t slab = m->backend->arena.slab_bytes;

	*bytes = (size_t) slab;
	return (uint32_t) (slab / g2d_block_bytes(m));
}

/* Slabs for a text that fills the model's context. */
static uint32_t
context_slabs(const g2_backend_model *m)
{
	const uint32_t blocks = (m->arch.n_ctx + G2_BLOCK - 1) / G2_BLOCK;
	size_t		bytes;
	const uint32_t n = g2d_kv_slab(m, &bytes);

	return (blocks + n - 1) / n;
}

bool
g2d_cache_fits(const g2_backend_model *m, uint64_t slabs, g2_error *err)
{
	const g2_arena *arena = &m->backend->arena;
	uint32_t	most;

	if (g2d_block_bytes(m) > arena->slab_bytes)
	{
		g2_fail(err, G2_E_MEMORY, "not enough memory on the CUDA device for blocks of the model's KV "
				"cache");
		g2_fail_detail(err, "A block has %.1f MB, a %d. part of the device's memory %.1f MB.",
					   (double) g2d_block_bytes(m) / 1e6, G2_ARENA_SLABS,
					   (double) arena->slab_bytes / 1e6);
		return g2_fail_hint(err, "Raise gpt2.device_memory.");
	}
	most = context_slabs(m);
	for (const g2_backend_model *other = m->backend->models; other; other = other->next)
		most = G2_MAX(most, context_slabs(other));
	return slabs >= most ||
		g2_arena_fail(arena, most * arena->slab_bytes, "the KV cache of one text", err);
}

bool
g2d_kv_reserve(g2_backend_model *m, uint32_t n_blocks, g2_error *err)
{
	const g2_arena *arena = &m->backend->arena;
	size_t		slab_bytes;
	const uint32_t n = g2d_kv_slab(m, &slab_bytes);
	const uint64_t slabs = ((uint64_t) n_blocks + n - 1) / n;

	if (m->places || n_blocks == 0)
		return g2_fail(err, G2_E_INTERNAL, "KV cache reserved twice, or for no block");
	if (slabs > arena->n_slabs)
		return g2_arena_fail(arena, slabs * arena->slab_bytes, "the model's KV cache", err);
	m->places = static_cast<uint32_t *>(g2_alloc_array(slabs * n, sizeof *m->places));
	if (!m->places)
		return g2_fail_memory(err, slabs * n * sizeof *m->places);
	m->n_blocks = (uint32_t) slabs * n;
	return true;
}

void
g2d_cache_free(g2_backend_model *m)
{
	size_t		bytes;
	const uint32_t n = g2d_kv_slab(m, &bytes);

	for (uint32_t i = 0; m->places && i < m->n_blocks / n; i++)
		g2d_kv_unmap(m, i);
	g2_free(m->places);
}

uint32_t
g2d_kv_spare(const g2_backend_model *m)
{
	return m->backend->arena.n_free;
}

/* The places of a slab's blocks; NULL: it is none of the model's. */
static uint32_t *
places_of(const g2_backend_model *m, uint32_t slab, uint32_t n)
{
	return slab < m->n_blocks / n ? m->places + (size_t) slab * n : NULL;
}

bool
g2d_kv_map(g2_backend_model *m, uint32_t slab)
{
	g2_backend *b = m->backend;
	size_t		bytes,
				at;
	const uint32_t n = g2d_kv_slab(m, &bytes);
	uint32_t   *places = places_of(m, slab, n),
				in_arena;
	g2_error	ignored;

	if (!places || places[0] != NO_PLACE ||
		(in_arena = g2_arena_take_slab(&b->arena)) == G2_ARENA_NONE)
		return false;
	at = in_arena * bytes;
	for (uint32_t i = 0; i < n; i++)
		places[i] = (uint32_t) (at / tile_bytes(m)) + i * block_tiles(m);
	/* A device that fails is found lost by the next plan. */
	rt_zero(b->stream, static_cast<char *>(b->memory) + at, n * g2d_block_bytes(m), &ignored);
	return true;
}

void
g2d_kv_unmap(g2_backend_model *m, uint32_t slab)
{
	size_t		bytes;
	const uint32_t n = g2d_kv_slab(m, &bytes);
	uint32_t   *places = places_of(m, slab, n);

	if (!places || places[0] == NO_PLACE)
		return;
	g2_arena_give_slab(&m->backend->arena, (uint32_t) ((uint64_t) places[0] * tile_bytes(m) / bytes));
	memset(places, 0, n * sizeof *places);
}

bool
g2d_place_of(const g2_backend_model *m, uint32_t block, uint32_t *place, g2_error *err)
{
	*place = block < m->n_blocks ? m->places[block] : NO_PLACE;
	return *place != NO_PLACE ||
		g2_fail(err, G2_E_INTERNAL, "KV block %u of %u has no memory", block, m->n_blocks);
}

bool
g2d_kv_copy(g2_backend_model *m, uint32_t to, uint32_t from, g2_error *err)
{
	uint32_t	place,
				source;

	if (!g2d_place_of(m, to, &place, err) || !g2d_place_of(m, from, &source, err))
		return false;
	if (to != from)
		g2d_launch_block_copy(m->backend->stream, &m->cache, place, source);
	return true;
}

bool
g2d_kv_zero(g2_backend_model *m, const uint32_t *blocks, uint32_t n, g2_error *err)
{
	g2d_places	places;
	uint32_t	place;

	for (uint32_t i = 0; i < n; i++)
		if (!g2d_place_of(m, blocks[i], &place, err))
			return false;
	for (uint32_t first = 0; first < n; first += places.n)
	{
		places.n = G2_MIN(n - first, G2D_PLACES);
		for (uint32_t i = 0; i < places.n; i++)
			places.at[i] = m->places[blocks[first + i]];
		g2d_launch_block_zero(m->backend->stream, &m->cache, &places);
	}
	return true;
}
