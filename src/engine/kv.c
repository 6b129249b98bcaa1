/*
 * kv.c: block tables with reference counts and copy on write.
 */
#include "kv.h"

bool
g2_kv_open(g2_kv *kv, const g2_backend_api *api, g2_backend_model *model, uint32_t n_blocks,
		   g2_error *err)
{
	memset(kv, 0, sizeof *kv);
	kv->api = api;
	kv->model = model;
	kv->block_bytes = api->kv_block_bytes(model);
	kv->free_blocks = g2_alloc_array(n_blocks, sizeof *kv->free_blocks);
	kv->references = g2_alloc_array(n_blocks, sizeof *kv->references);
	if (!kv->free_blocks || !kv->references)
	{
		g2_kv_close(kv);
		return g2_fail_memory(err, (unsigned long long) n_blocks * 8);
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
	return true;
}

void
g2_kv_close(g2_kv *kv)
{
	g2_free(kv->free_blocks);
	g2_free(kv->references);
	memset(kv, 0, sizeof *kv);
}

static bool
take_block(g2_kv *kv, uint32_t *block, g2_error *err)
{
	if (kv->n_free == 0)
		return g2_fail(err, G2_E_INTERNAL, "no KV block is free though room was reserved");
	*block = kv->free_blocks[--kv->n_free];
	kv->references[*block] = 1;
	return true;
}

static bool
drop_block(g2_kv *kv, uint32_t block)
{
	if (--kv->references[block] > 0)
		return false;
	kv->free_blocks[kv->n_free++] = block;
	return true;
}

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

bool
g2_kv_prepare(g2_kv *kv, g2_block_table *table, uint32_t first, uint32_t last, g2_error *err)
{
	uint32_t	need = g2_blocks_for((uint64_t) last + 1);

	if (!table_room(table, need, err))
		return false;
	for (uint32_t i = first / G2_BLOCK; i < table->n && i < need; i++)
	{
		uint32_t	shared = table->blocks[i];

		if (kv->references[shared] == 1)
			continue;
		if (!take_block(kv, &table->blocks[i], err))
		{
			table->blocks[i] = shared;
			return false;
		}
		if (!kv->api->kv_copy(kv->model, table->blocks[i], shared, err))
		{
			drop_block(kv, table->blocks[i]);
			table->blocks[i] = shared;
			return false;
		}
		drop_block(kv, shared);
	}
	for (; table->n < need; table->n++)
		if (!take_block(kv, &table->blocks[table->n], err))
			return false;
	return true;
}

bool
g2_kv_share(g2_kv *kv, g2_block_table *to, const g2_block_table *from, uint32_t n, g2_error *err)
{
	if (!table_room(to, n, err))
		return false;
	for (to->n = 0; to->n < n; to->n++)
	{
		to->blocks[to->n] = from->blocks[to->n];
		kv->references[to->blocks[to->n]]++;
	}
	return true;
}

void
g2_kv_release(g2_kv *kv, g2_block_table *table)
{
	uint32_t	n_freed = 0;

	/* Freed blocks gather at the front of the table itself, so that no memory is needed here. */
	for (uint32_t i = 0; i < table->n; i++)
		if (drop_block(kv, table->blocks[i]))
			table->blocks[n_freed++] = table->blocks[i];
	/* A failure (no memory for the list) leaves old values in blocks that are overwritten before
	 * they are read; nothing depends on the zeros. */
	if (n_freed > 0)
		kv->api->kv_zero(kv->model, table->blocks, n_freed, NULL);
	g2_free(table->blocks);
	memset(table, 0, sizeof *table);
}
