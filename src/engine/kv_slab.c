/*
 * kv_slab.c: which slabs of a model have memory, and which of them are vacant; how much there is.
 */
#include "kv_slab.h"

/* ---- lists: of a pool's vacant slabs, of a model's slabs with a free block ---- */

static void
vacant_remove(g2_kv_slab *slab)
{
	g2_kv_pool *pool = slab->kv->pool;

	if (slab->older)
		slab->older->newer = slab->newer;
	else
		pool->oldest = slab->newer;
	if (slab->newer)
		slab->newer->older = slab->older;
	else
		pool->newest = slab->older;
	slab->older = slab->newer = NULL;
	slab->vacant = false;
	slab->kv->n_vacant--;
	pool->n_vacant--;
	pool->vacant -= slab->kv->slab_bytes;
}

static void
vacant_append(g2_kv_slab *slab)
{
	g2_kv_pool *pool = slab->kv->pool;

	slab->older = pool->newest;
	slab->newer = NULL;
	if (pool->newest)
		pool->newest->newer = slab;
	else
		pool->oldest = slab;
	pool->newest = slab;
	slab->vacant = true;
	slab->vacant_since = ++pool->clock;
	slab->kv->n_vacant++;
	pool->n_vacant++;
	pool->vacant += slab->kv->slab_bytes;
}

static void
open_remove(g2_kv_slab *slab)
{
	if (slab->previous)
		slab->previous->next = slab->next;
	else
		slab->kv->open = slab->next;
	if (slab->next)
		slab->next->previous = slab->previous;
	slab->previous = slab->next = NULL;
}

static void
open_push(g2_kv_slab *slab)
{
	slab->next = slab->kv->open;
	if (slab->next)
		slab->next->previous = slab;
	slab->kv->open = slab;
}

/* ---- slabs ---- */

bool
g2_slab_map(g2_kv *kv)
{
	g2_kv_pool *pool = kv->pool;
	g2_kv_slab *slab;
	uint32_t	number,
				first;

	if (kv->n_unmapped == 0 || pool->used + kv->slab_bytes > pool->limit)
		return false;
	number = kv->unmapped[kv->n_unmapped - 1];
	if (kv->api->kv_map && !kv->api->kv_map(kv->model, number))
		return false;
	kv->n_unmapped--;
	pool->n_mapped++;
	pool->used += kv->slab_bytes;
	/* Here and not at open: pages of what is never used stay untouched. */
	first = number * kv->slab_blocks;
	for (uint32_t i = 0; i < kv->slab_blocks; i++)
		kv->blocks[first + i] = (g2_kv_block) {
			.next = i + 1 < kv->slab_blocks ? first + i + 1 : G2_NO_BLOCK,
		};
	slab = &kv->slabs[number];
	*slab = (g2_kv_slab) {.kv = kv, .free = first};
	open_push(slab);
	return true;
}

/* All its blocks are free. */
static void
unmap_slab(g2_kv_slab *slab)
{
	g2_kv	   *kv = slab->kv;
	uint32_t	number = (uint32_t) (slab - kv->slabs);

	open_remove(slab);
	if (kv->api->kv_unmap)
		kv->api->kv_unmap(kv->model, number);
	kv->unmapped[kv->n_unmapped++] = number;
	kv->pool->n_mapped--;
	kv->pool->used -= kv->slab_bytes;
}

void
g2_slab_settle(g2_kv_slab *slab)
{
	bool		vacant = slab->n_held == 0 && slab->n_cached > 0;

	if (slab->vacant && !vacant)
		vacant_remove(slab);
	else if (vacant && !slab->vacant)
		vacant_append(slab);
	if (slab->n_held == 0 && slab->n_cached == 0)
		unmap_slab(slab);
}

void
g2_slab_put(g2_kv *kv, uint32_t number)
{
	g2_kv_slab *slab = g2_slab_of(kv, number);

	if (slab->free == G2_NO_BLOCK)
		open_push(slab);
	kv->blocks[number].next = slab->free;
	slab->free = number;
	g2_slab_settle(slab);
}

uint32_t
g2_slab_take(g2_kv *kv)
{
	g2_kv_slab *slab = kv->open;
	uint32_t	number = slab->free;

	slab->free = kv->blocks[number].next;
	if (slab->free == G2_NO_BLOCK)
		open_remove(slab);
	return number;
}

/* ---- how much there is ---- */

/* Slabs that are spare on the device; without one of its own, there is no other limit than the
 * pool's. */
static uint64_t
spare(const g2_kv *kv)
{
	return kv->api->kv_spare ? kv->api->kv_spare(kv->model) : UINT32_MAX;
}

uint32_t
g2_kv_capacity(const g2_kv *kv)
{
	const g2_kv_pool *pool = kv->pool;
	uint64_t	slabs = G2_MIN(pool->limit / kv->slab_bytes, spare(kv) + pool->n_mapped);

	return (uint32_t) G2_MIN(slabs, kv->n_slabs) * kv->slab_blocks;
}

uint32_t
g2_kv_room(const g2_kv *kv)
{
	const g2_kv_pool *pool = kv->pool;
	uint32_t	settled = kv->n_slabs - kv->n_unmapped - kv->n_vacant;	/* somebody holds blocks there */
	uint64_t	held = pool->used - pool->vacant,
				fresh = (pool->limit - G2_MIN(held, pool->limit)) / kv->slab_bytes;

	fresh = G2_MIN(fresh, spare(kv) + pool->n_vacant);
	fresh = G2_MIN(fresh, kv->n_slabs - settled);
	return (settled + (uint32_t) fresh) * kv->slab_blocks - kv->n_held;
}
