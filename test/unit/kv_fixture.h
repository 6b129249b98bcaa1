/*
 * kv_fixture.h: caches of one number per position for kv.c, with slabs or without; and what has to
 * hold of a model and its pool at all times.
 */
#ifndef KV_FIXTURE_H
#define KV_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kv.h"

#define UNUSED __attribute__((unused))
#define BLOCKS 64

/* ---- the fake back end: a cache that holds a number per position ---- */

#define MODELS 3
#define NOTHING 0xDEADu			/* where there is no memory */

struct g2_backend_model
{
	uint32_t	cache[BLOCKS][G2_BLOCK];
	bool		mapped[BLOCKS];	/* slabs */
};

static g2_kv_pool pool;
static g2_backend_model models[MODELS];
static uint32_t reserved,
			n_copies,
			slab_blocks,		/* of the device that has slabs */
			n_spare;
static bool fail_copy,
			fail_reserve;

static size_t
fake_block_bytes(const g2_backend_model *model)
{
	(void) model;
	return 1000;
}

static bool
fake_reserve(g2_backend_model *model, uint32_t n, g2_error *err)
{
	(void) model;
	reserved = n;
	return fail_reserve ? g2_fail_memory(err, n) : true;
}

static uint32_t *
fake_block(g2_backend_model *model, uint32_t block)
{
	assert_true(block < BLOCKS);
	assert_int_not_equal(model->cache[block][0], NOTHING);
	return model->cache[block];
}

static bool
fake_copy(g2_backend_model *model, uint32_t to, uint32_t from, g2_error *err)
{
	if (fail_copy)
		return g2_fail_memory(err, 1);
	assert_true(to != from);
	memcpy(fake_block(model, to), fake_block(model, from), sizeof model->cache[0]);
	n_copies++;
	return true;
}

static bool
fake_zero(g2_backend_model *model, const uint32_t *blocks, uint32_t n, g2_error *err)
{
	(void) err;
	for (uint32_t i = 0; i < n; i++)
		memset(fake_block(model, blocks[i]), 0, sizeof model->cache[0]);
	return true;
}

static uint32_t
fake_slab(const g2_backend_model *model, size_t *bytes)
{
	(void) model;
	*bytes = 1000 * (size_t) slab_blocks + 500;	/* a part that no block fits in */
	return slab_blocks;
}

static uint32_t
fake_spare(const g2_backend_model *model)
{
	(void) model;
	return n_spare;
}

static bool
fake_map(g2_backend_model *model, uint32_t slab)
{
	if (n_spare == 0)
		return false;
	n_spare--;
	assert_false(model->mapped[slab]);
	model->mapped[slab] = true;
	memset(model->cache[slab * slab_blocks], 0, slab_blocks * sizeof model->cache[0]);
	return true;
}

static void
fake_unmap(g2_backend_model *model, uint32_t slab)
{
	assert_true(model->mapped[slab]);
	model->mapped[slab] = false;
	n_spare++;
	for (uint32_t i = slab * slab_blocks; i < (slab + 1) * slab_blocks; i++)
		model->cache[i][0] = NOTHING;
}

static const g2_backend_api api = {
	.kv_block_bytes = fake_block_bytes,
	.kv_reserve = fake_reserve,
	.kv_copy = fake_copy,
	.kv_zero = fake_zero,
};
static const g2_backend_api slab_api = {
	.kv_block_bytes = fake_block_bytes,
	.kv_reserve = fake_reserve,
	.kv_slab = fake_slab,
	.kv_spare = fake_spare,
	.kv_map = fake_map,
	.kv_unmap = fake_unmap,
	.kv_copy = fake_copy,
	.kv_zero = fake_zero,
};

/* ---- invariants ---- */

/* Each block is where it is counted, and a slab without any has no memory. */
static void
check_slabs(const g2_kv *kv)
{
	bool		unmapped[BLOCKS] = {false};
	uint32_t	n_vacant = 0;

	for (uint32_t i = 0; i < kv->n_unmapped; i++)
	{
		assert_false(unmapped[kv->unmapped[i]]);
		unmapped[kv->unmapped[i]] = true;
	}
	for (uint32_t s = 0; s < kv->n_slabs; s++)
	{
		const g2_kv_slab *slab = &kv->slabs[s];
		uint32_t	n_held = 0,
					n_cached = 0,
					n_free = 0;

		if (kv->api->kv_map)
			assert_int_equal(kv->model->mapped[s], !unmapped[s]);
		if (unmapped[s])
			continue;
		for (uint32_t i = s * kv->slab_blocks; i < (s + 1) * kv->slab_blocks; i++)
		{
			n_held += kv->blocks[i].references > 0;
			n_cached += kv->blocks[i].cached;
		}
		for (uint32_t i = slab->free; i != G2_NO_BLOCK; i = kv->blocks[i].next)
			n_free++;
		assert_int_equal(slab->n_held, n_held);
		assert_int_equal(slab->n_cached, n_cached);
		assert_int_equal(n_free, kv->slab_blocks - n_held - n_cached);
		assert_true(n_held + n_cached > 0);
		assert_int_equal(slab->vacant, n_held == 0);
		n_vacant += slab->vacant;
	}
	assert_int_equal(kv->n_vacant, n_vacant);
}

/* The pool's sums are those of its models. */
static void
check_pool(void)
{
	uint64_t	used = 0,
				vacant = 0;
	uint32_t	n_mapped = 0,
				n_vacant = 0;

	for (const g2_kv *kv = pool.first; kv; kv = kv->next)
	{
		n_mapped += kv->n_slabs - kv->n_unmapped;
		n_vacant += kv->n_vacant;
		used += (kv->n_slabs - kv->n_unmapped) * kv->slab_bytes;
		vacant += kv->n_vacant * kv->slab_bytes;
	}
	assert_int_equal(pool.used, used);
	assert_int_equal(pool.vacant, vacant);
	assert_int_equal(pool.n_mapped, n_mapped);
	assert_int_equal(pool.n_vacant, n_vacant);
}

static UNUSED void
check(const g2_kv *kv, const g2_block_table *tables, uint32_t n)
{
	uint32_t	held[BLOCKS] = {0},
				cached = 0,
				n_held = 0;

	for (uint32_t t = 0; t < n; t++)
		for (uint32_t i = 0; i < tables[t].n; i++)
			held[tables[t].blocks[i]]++;
	for (uint32_t b = 0; b < kv->n_blocks; b++)
	{
		const g2_kv_block *block = &kv->blocks[b];

		assert_int_equal(block->references, held[b]);
		assert_true(!block->cached || (block->published && held[b] == 0));
		cached += block->cached;
		n_held += held[b] > 0;
		/* A free block has nothing of its last owner. */
		if (held[b] > 0 || block->cached || kv->model->cache[b][0] == NOTHING)
			continue;
		for (uint32_t i = 0; i < G2_BLOCK; i++)
			assert_int_equal(kv->model->cache[b][i], 0);
	}
	assert_int_equal(kv->n_cached, cached);
	assert_int_equal(kv->n_held, n_held);
	check_slabs(kv);
	check_pool();
}

static UNUSED void
open_kv(g2_kv *kv, uint32_t n_blocks)
{
	g2_error	err;

	memset(models, 0, sizeof models);
	n_copies = 0;
	pool = (g2_kv_pool) {0};
	assert_true(g2_kv_open(kv, &pool, &api, &models[0], n_blocks, &err));
	assert_int_equal(reserved, n_blocks);
	assert_int_equal(kv->n_held, 0);
	assert_int_equal(kv->block_bytes, 1000);
}

static UNUSED void
open_slabs(g2_kv *kv, uint32_t n, uint32_t slabs, uint64_t budget)
{
	g2_error	err;

	memset(models, 0, sizeof models);
	pool = (g2_kv_pool) {.budget = budget};
	slab_blocks = 4;
	n_spare = slabs;
	for (uint32_t m = 0; m < n; m++)
	{
		for (uint32_t b = 0; b < BLOCKS; b++)
			models[m].cache[b][0] = NOTHING;
		assert_true(g2_kv_open(&kv[m], &pool, &slab_api, &models[m],
							   g2_kv_blocks(&pool, &slab_api, &models[m], 6), &err));
		assert_int_equal(kv[m].slab_bytes, 4500);
	}
}

#endif							/* KV_FIXTURE_H */
