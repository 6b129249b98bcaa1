/*
 * kv.c: block tables with reference counts and copy on write; published blocks.
 */
#include "kv.h"

/* ---- the pool's list of cached blocks ---- */

static uint32_t
number_of(const g2_kv_block *block)
{
	return (uint32_t) (block - block->kv->blocks);
}

static void
list_remove(g2_kv_pool *pool, g2_kv_block *block)
{
	if (block->older)
		block->older->newer = block->newer;
	else
		pool->oldest = block->newer;
	if (block->newer)
		block->newer->older = block->older;
	else
		pool->newest = block->older;
	block->older = block->newer = NULL;
	block->cached = false;
	block->kv->n_cached--;
	pool->cached -= block->kv->block_bytes;
}

static void
list_append(g2_kv_pool *pool, g2_kv_block *block)
{
	block->older = pool->newest;
	block->newer = NULL;
	if (pool->newest)
		pool->newest->newer = block;
	else
		pool->oldest = block;
	pool->newest = block;
	block->cached = true;
	block->kv->n_cached++;
	pool->cached += block->kv->block_bytes;
}

/* ---- published blocks ---- */

static uint32_t *
bucket_of(const g2_kv *kv, const g2_prefix *prefix)
{
	uint32_t	h;

	memcpy(&h, prefix->hash, sizeof h);
	return &kv->buckets[h & (kv->n_buckets - 1)];
}

uint32_t
g2_kv_find(const g2_kv *kv, const g2_prefix *prefix)
{
	uint32_t	block = *bucket_of(kv, prefix);

	while (block != G2_NO_BLOCK &&
		   memcmp(&kv->blocks[block].prefix, prefix, sizeof *prefix) != 0)
		block = kv->blocks[block].bucket_next;
	return block;
}

void
g2_kv_publish(g2_kv *kv, uint32_t number, const g2_prefix *prefix)
{
	g2_kv_block *block = &kv->blocks[number];
	uint32_t   *bucket = bucket_of(kv, prefix);

	if (block->published || g2_kv_find(kv, prefix) != G2_NO_BLOCK)
		return;
	block->prefix = *prefix;
	block->published = true;
	block->bucket_next = *bucket;
	*bucket = number;
}

static void
unpublish(g2_kv_block *block)
{
	uint32_t   *at = bucket_of(block->kv, &block->prefix);

	while (*at != number_of(block))
		at = &block->kv->blocks[*at].bucket_next;
	*at = block->bucket_next;
	block->published = false;
}

/* ---- blocks ---- */

static void
give_back(g2_kv_block *block)
{
	g2_kv	   *kv = block->kv;

	kv->free_blocks[kv->n_free++] = number_of(block);
	kv->pool->used -= kv->block_bytes;
}

/* A failure (no memory for the list) leaves old values in blocks that are overwritten before they
 * are read; nothing depends on the zeros. */
static void
zero(g2_kv *kv, const uint32_t *blocks, uint32_t n)
{
	(void) kv->api->kv_zero(kv->model, blocks, n, NULL);
}

static void
evict(g2_kv_block *block)
{
	uint32_t	number = number_of(block);

	list_remove(block->kv->pool, block);
	unpublish(block);
	zero(block->kv, &number, 1);
	give_back(block);
}

static g2_kv_block *
oldest_of(const g2_kv *kv)
{
	g2_kv_block *block = kv->pool->oldest;

	while (block && block->kv != kv)
		block = block->newer;
	return block;
}

/* Makes room for one block; false: everything is held. */
static bool
make_room(g2_kv *kv)
{
	g2_kv_pool *pool = kv->pool;

	if (kv->n_free == 0)
	{
		g2_kv_block *own = kv->n_cached > 0 ? oldest_of(kv) : NULL;

		if (!own)
			return false;
		evict(own);
	}
	while (pool->used + kv->block_bytes > pool->limit)
	{
		if (!pool->oldest)
			return false;
		evict(pool->oldest);
	}
	return true;
}

static bool
take_block(g2_kv *kv, uint32_t *number)
{
	if (!make_room(kv))
		return false;
	*number = kv->free_blocks[--kv->n_free];
	kv->pool->used += kv->block_bytes;
	/* Here and not at open: pages of blocks that are never used stay untouched. */
	kv->blocks[*number].kv = kv;
	kv->blocks[*number].references = 1;
	return true;
}

/* True: it is free now and has to be zeroed. */
static bool
drop_block(g2_kv *kv, uint32_t number)
{
	g2_kv_block *block = &kv->blocks[number];

	if (--block->references > 0)
		return false;
	if (block->published)
	{
		list_append(kv->pool, block);
		return false;
	}
	give_back(block);
	return true;
}

uint32_t
g2_kv_capacity(const g2_kv *kv)
{
	uint64_t	by_bytes = kv->pool->limit / kv->block_bytes;

	return (uint32_t) G2_MIN(by_bytes, kv->n_blocks);
}

uint32_t
g2_kv_room(const g2_kv *kv)
{
	const g2_kv_pool *pool = kv->pool;
	uint64_t	held = pool->used - pool->cached,
				by_bytes = (pool->limit - G2_MIN(held, pool->limit)) / kv->block_bytes,
				own = kv->n_free + kv->n_cached;

	return (uint32_t) G2_MIN(by_bytes, own);
}

/* ---- open and close ---- */

static void
set_limit(g2_kv_pool *pool)
{
	pool->limit = pool->budget;
	for (const g2_kv *kv = pool->first; kv; kv = kv->next)
		pool->limit = G2_MAX(pool->limit, (uint64_t) kv->n_blocks * kv->block_bytes);
}

static void
leave_pool(g2_kv *kv)
{
	g2_kv	  **at = &kv->pool->first;

	while (*at && *at != kv)
		at = &(*at)->next;
	if (*at)
		*at = kv->next;
	set_limit(kv->pool);
}

bool
g2_kv_open(g2_kv *kv, g2_kv_pool *pool, const g2_backend_api *api, g2_backend_model *model,
		   uint32_t n_blocks, g2_error *err)
{
	*kv = (g2_kv) {
		.api = api, .model = model, .pool = pool, .block_bytes = api->kv_block_bytes(model),
		.n_buckets = 64,
	};
	while (kv->n_buckets < n_blocks)
		kv->n_buckets *= 2;
	kv->free_blocks = g2_alloc_array(n_blocks, sizeof *kv->free_blocks);
	kv->blocks = g2_alloc_array(n_blocks, sizeof *kv->blocks);
	kv->buckets = g2_alloc_array(kv->n_buckets, sizeof *kv->buckets);
	if (!kv->free_blocks || !kv->blocks || !kv->buckets)
	{
		g2_kv_close(kv);
		return g2_fail_memory(err, (unsigned long long) n_blocks * sizeof *kv->blocks);
	}
	if (!api->kv_reserve(model, n_blocks, err))
	{
		g2_kv_close(kv);
		return false;
	}
	kv->n_blocks = kv->n_free = n_blocks;
	/* Low numbers are handed out first: memory that was touched already is used again. */
	for (uint32_t i = 0; i < n_blocks; i++)
		kv->free_blocks[i] = n_blocks - 1 - i;
	memset(kv->buckets, 0xFF, kv->n_buckets * sizeof *kv->buckets);
	kv->next = pool->first;
	pool->first = kv;
	set_limit(pool);
	return true;
}

void
g2_kv_close(g2_kv *kv)
{
	for (g2_kv_block *block = kv->n_cached > 0 ? kv->pool->oldest : NULL, *next; block;
		 block = next)
	{
		next = block->newer;
		if (block->kv == kv)
			evict(block);
	}
	leave_pool(kv);
	g2_free(kv->free_blocks);
	g2_free(kv->blocks);
	g2_free(kv->buckets);
	memset(kv, 0, sizeof *kv);
}

/* ---- tables ---- */

static bool
table_room(g2_block_table *table, uint32_t n, g2_error *err)
{
	uint32_t   *blocks;

	if (n <= table->cap)
		return true;
	blocks = g2_realloc_array(table->blocks, n, sizeof *blocks);
	if (!blocks)
		return g2_fail_memory(err, (unsigned long long) n * sizeof *blocks);
	table->blocks = blocks;
	table->cap = n;
	return true;
}

/* The writer's own copy of a block that others hold too. */
static g2_kv_outcome
copy_block(g2_kv *kv, uint32_t *at, g2_error *err)
{
	uint32_t	shared = *at,
				copy;

	if (!take_block(kv, &copy))
		return G2_KV_FULL;
	if (!kv->api->kv_copy(kv->model, copy, shared, err))
	{
		drop_block(kv, copy);
		return G2_KV_FAILED;
	}
	*at = copy;
	drop_block(kv, shared);
	return G2_KV_DONE;
}

g2_kv_outcome
g2_kv_prepare(g2_kv *kv, g2_block_table *table, uint32_t first, uint32_t last, g2_error *err)
{
	uint32_t	need = g2_blocks_for((uint64_t) last + 1);

	if (!table_room(table, need, err))
		return G2_KV_FAILED;
	for (uint32_t i = first / G2_BLOCK; i < table->n && i < need; i++)
	{
		g2_kv_outcome outcome = G2_KV_DONE;

		if (kv->blocks[table->blocks[i]].references > 1)
			outcome = copy_block(kv, &table->blocks[i], err);
		if (outcome != G2_KV_DONE)
			return outcome;
	}
	for (; table->n < need; table->n++)
		if (!take_block(kv, &table->blocks[table->n]))
			return G2_KV_FULL;
	return G2_KV_DONE;
}

bool
g2_kv_share(g2_kv *kv, g2_block_table *to, const g2_block_table *from, uint32_t n, g2_error *err)
{
	if (!table_room(to, n, err))
		return false;
	for (to->n = 0; to->n < n; to->n++)
	{
		to->blocks[to->n] = from->blocks[to->n];
		kv->blocks[to->blocks[to->n]].references++;
	}
	return true;
}

bool
g2_kv_adopt(g2_kv *kv, g2_block_table *table, uint32_t number, g2_error *err)
{
	g2_kv_block *block = &kv->blocks[number];

	if (!table_room(table, table->n + 1, err))
		return false;
	if (block->cached)
		list_remove(kv->pool, block);
	block->references++;
	table->blocks[table->n++] = number;
	return true;
}

void
g2_kv_release(g2_kv *kv, g2_block_table *table)
{
	uint32_t	n_freed = 0;

	/* From the end, so that of a prefix the end is evicted first: without its beginning the rest
	 * cannot be found.  Freed blocks gather at the table's end, so that no memory is needed. */
	for (uint32_t i = table->n; i-- > 0;)
		if (drop_block(kv, table->blocks[i]))
			table->blocks[table->n - ++n_freed] = table->blocks[i];
	if (n_freed > 0)
		zero(kv, table->blocks + table->n - n_freed, n_freed);
	g2_free(table->blocks);
	memset(table, 0, sizeof *table);
}
