/*
 * kv.c: block tables with reference counts and copy on write; published blocks.  Where blocks have
 * their memory: kv_slab.c.
 */
#include "kv_slab.h"

#define MOST_BLOCKS ((uint64_t) 1 << 24)	/* of a model */

static uint32_t
number_of(const g2_kv *kv, const g2_kv_block *block)
{
	return (uint32_t) (block - kv->blocks);
}

/* ---- the model's list of cached blocks ---- */

static void
cached_remove(g2_kv *kv, g2_kv_block *block)
{
	if (block->older)
		block->older->newer = block->newer;
	else
		kv->oldest = block->newer;
	if (block->newer)
		block->newer->older = block->older;
	else
		kv->newest = block->older;
	block->older = block->newer = NULL;
	block->cached = false;
}

static void
cached_append(g2_kv *kv, g2_kv_block *block)
{
	block->older = kv->newest;
	block->newer = NULL;
	if (kv->newest)
		kv->newest->newer = block;
	else
		kv->oldest = block;
	kv->newest = block;
	block->cached = true;
	block->cached_at = ++kv->pool->clock;
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
		block = kv->blocks[block].next;
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
	block->next = *bucket;
	*bucket = number;
}

static void
unpublish(g2_kv *kv, uint32_t number)
{
	g2_kv_block *block = &kv->blocks[number];
	uint32_t   *at = bucket_of(kv, &block->prefix);

	while (*at != number)
		at = &kv->blocks[*at].next;
	*at = block->next;
	block->published = false;
}

/* ---- blocks ---- */

static void
hold(g2_kv *kv, uint32_t number)
{
	kv->n_held++;
	g2_slab_of(kv, number)->n_held++;
	g2_slab_settle(g2_slab_of(kv, number));
}

static void
unhold(g2_kv *kv, uint32_t number)
{
	kv->n_held--;
	g2_slab_of(kv, number)->n_held--;
}

static void
uncache(g2_kv *kv, uint32_t number)
{
	kv->n_cached--;
	g2_slab_of(kv, number)->n_cached--;
}

/* A failure leaves old values in blocks that are overwritten before they are read; nothing depends on
 * the zeros. */
static void
zero(g2_kv *kv, const uint32_t *blocks, uint32_t n)
{
	(void) kv->api->kv_zero(kv->model, blocks, n, NULL);
}

/* Nobody finds the block any more; it counts as cached until it is freed. */
static void
forget(g2_kv *kv, g2_kv_block *block)
{
	cached_remove(kv, block);
	unpublish(kv, number_of(kv, block));
}

static void
free_cached(g2_kv *kv, const uint32_t *blocks, uint32_t n)
{
	zero(kv, blocks, n);
	for (uint32_t i = 0; i < n; i++)
	{
		uncache(kv, blocks[i]);
		g2_slab_put(kv, blocks[i]);
	}
}

static void
evict(g2_kv *kv, g2_kv_block *block)
{
	uint32_t	number = number_of(kv, block);

	forget(kv, block);
	free_cached(kv, &number, 1);
}

/* A vacant slab with all that is cached there. */
static void
evict_slab(g2_kv_slab *slab)
{
	g2_kv	   *kv = slab->kv;
	uint32_t	first = (uint32_t) (slab - kv->slabs) * kv->slab_blocks,
				freed[128],
				n = 0;

	for (uint32_t i = first; i < first + kv->slab_blocks; i++)
	{
		if (!kv->blocks[i].cached)
			continue;
		forget(kv, &kv->blocks[i]);
		freed[n++] = i;
		if (n < G2_LENGTH(freed))
			continue;
		free_cached(kv, freed, n);
		n = 0;
	}
	if (n > 0)
		free_cached(kv, freed, n);
}

bool
g2_kv_shrink(g2_kv_pool *pool)
{
	if (!pool->oldest)
		return false;
	evict_slab(pool->oldest);
	return true;
}

/* Evicts what was used longest ago of what gives room for a block: a cached block of its own, or a
 * vacant slab.  False: everything is held. */
static bool
evict_for(g2_kv *kv)
{
	g2_kv_slab *slab = kv->n_unmapped > 0 ? kv->pool->oldest : NULL;

	/* A slab of its own is not older than the oldest of its blocks. */
	if (kv->oldest && (!slab || kv->oldest->cached_at < slab->vacant_since))
		evict(kv, kv->oldest);
	else if (slab)
		evict_slab(slab);
	else
		return false;
	return true;
}

static bool
take_block(g2_kv *kv, uint32_t *number)
{
	while (!kv->open && !g2_slab_map(kv))
		if (!evict_for(kv))
			return false;
	*number = g2_slab_take(kv);
	kv->blocks[*number].references = 1;
	hold(kv, *number);
	return true;
}

/* True: nobody wants it any more, so that it has to be zeroed and freed (free_held). */
static bool
drop_block(g2_kv *kv, uint32_t number)
{
	g2_kv_block *block = &kv->blocks[number];

	if (--block->references > 0)
		return false;
	if (!block->published)
		return true;
	unhold(kv, number);
	kv->n_cached++;
	g2_slab_of(kv, number)->n_cached++;
	cached_append(kv, block);
	g2_slab_settle(g2_slab_of(kv, number));
	return false;
}

static void
free_held(g2_kv *kv, const uint32_t *blocks, uint32_t n)
{
	zero(kv, blocks, n);
	for (uint32_t i = 0; i < n; i++)
	{
		unhold(kv, blocks[i]);
		g2_slab_put(kv, blocks[i]);
	}
}

/* ---- open and close ---- */

static void
set_limit(g2_kv_pool *pool)
{
	pool->limit = pool->budget;
	for (const g2_kv *kv = pool->first; kv; kv = kv->next)
		pool->limit = G2_MAX(pool->limit, (uint64_t) kv->n_slabs * kv->slab_bytes);
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

static uint32_t
slab_of_model(const g2_backend_api *api, const g2_backend_model *model, size_t *bytes)
{
	if (api->kv_slab)
		return api->kv_slab(model, bytes);
	*bytes = api->kv_block_bytes(model);
	return 1;
}

uint32_t
g2_kv_blocks(const g2_kv_pool *pool, const g2_backend_api *api, const g2_backend_model *model,
			 uint32_t context)
{
	size_t		bytes;
	const uint32_t n = slab_of_model(api, model, &bytes);
	const uint64_t slabs = G2_MIN(pool->budget / bytes, MOST_BLOCKS / n);

	return G2_MAX((uint32_t) slabs * n, context);
}

bool
g2_kv_open(g2_kv *kv, g2_kv_pool *pool, const g2_backend_api *api, g2_backend_model *model,
		   uint32_t n_blocks, g2_error *err)
{
	*kv = (g2_kv) {
		.api = api, .model = model, .pool = pool, .block_bytes = api->kv_block_bytes(model),
		.n_buckets = 64,
	};
	kv->slab_blocks = slab_of_model(api, model, &kv->slab_bytes);
	kv->n_slabs = (uint32_t) (((uint64_t) n_blocks + kv->slab_blocks - 1) / kv->slab_blocks);
	kv->n_blocks = kv->n_slabs * kv->slab_blocks;
	while (kv->n_buckets < kv->n_blocks)
		kv->n_buckets *= 2;
	kv->unmapped = g2_alloc_array(kv->n_slabs, sizeof *kv->unmapped);
	kv->slabs = g2_alloc_array(kv->n_slabs, sizeof *kv->slabs);
	kv->blocks = g2_alloc_array(kv->n_blocks, sizeof *kv->blocks);
	kv->buckets = g2_alloc_array(kv->n_buckets, sizeof *kv->buckets);
	if (!kv->unmapped || !kv->slabs || !kv->blocks || !kv->buckets)
	{
		g2_fail_memory(err, (unsigned long long) kv->n_blocks * sizeof *kv->blocks);
		g2_kv_close(kv);
		return false;
	}
	if (!api->kv_reserve(model, kv->n_blocks, err))
	{
		g2_kv_close(kv);
		return false;
	}
	/* Low numbers are handed out first: memory that was touched already is used again. */
	for (uint32_t i = 0; i < kv->n_slabs; i++)
		kv->unmapped[i] = kv->n_slabs - 1 - i;
	kv->n_unmapped = kv->n_slabs;
	memset(kv->buckets, 0xFF, kv->n_buckets * sizeof *kv->buckets);
	kv->next = pool->first;
	pool->first = kv;
	set_limit(pool);
	return true;
}

void
g2_kv_close(g2_kv *kv)
{
	while (kv->oldest)
		evict(kv, kv->oldest);
	leave_pool(kv);
	g2_free(kv->unmapped);
	g2_free(kv->slabs);
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
		if (drop_block(kv, copy))
			free_held(kv, &copy, 1);
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
	{
		cached_remove(kv, block);
		uncache(kv, number);
		hold(kv, number);
	}
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
		free_held(kv, table->blocks + table->n - n_freed, n_freed);
	g2_free(table->blocks);
	memset(table, 0, sizeof *table);
}
