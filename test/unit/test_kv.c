/*
 * test_kv.c: block tables under random prepare, share and release, against a model of who holds
 * what: contents are followed through a fake cache of one number per position.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kv.h"

#define BLOCKS 64
#define TABLES 12
#define POSITIONS (8 * G2_BLOCK)

/* ---- the fake back end: a cache that holds a number per position ---- */

static g2_kv_pool pool;
static uint32_t cache[BLOCKS][G2_BLOCK];
static uint32_t reserved,
			n_copies;
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

static bool
fake_copy(g2_backend_model *model, uint32_t to, uint32_t from, g2_error *err)
{
	(void) model;
	if (fail_copy)
		return g2_fail_memory(err, 1);
	assert_true(to < BLOCKS && from < BLOCKS && to != from);
	memcpy(cache[to], cache[from], sizeof cache[to]);
	n_copies++;
	return true;
}

static bool
fake_zero(g2_backend_model *model, const uint32_t *blocks, uint32_t n, g2_error *err)
{
	(void) model;
	(void) err;
	for (uint32_t i = 0; i < n; i++)
	{
		assert_true(blocks[i] < BLOCKS);
		memset(cache[blocks[i]], 0, sizeof cache[0]);
	}
	return true;
}

static const g2_backend_api api = {
	.kv_block_bytes = fake_block_bytes,
	.kv_reserve = fake_reserve,
	.kv_copy = fake_copy,
	.kv_zero = fake_zero,
};

/* ---- invariants ---- */

static void
check(const g2_kv *kv, const g2_block_table *tables, uint32_t n)
{
	uint32_t	held[BLOCKS] = {0},
				free_count[BLOCKS] = {0},
				cached = 0;

	for (uint32_t t = 0; t < n; t++)
		for (uint32_t i = 0; i < tables[t].n; i++)
			held[tables[t].blocks[i]]++;
	assert_true(kv->n_free <= kv->n_blocks);
	for (uint32_t i = 0; i < kv->n_free; i++)
		free_count[kv->free_blocks[i]]++;
	for (uint32_t b = 0; b < kv->n_blocks; b++)
	{
		const g2_kv_block *block = &kv->blocks[b];

		assert_int_equal(block->references, held[b]);
		assert_int_equal(free_count[b], held[b] == 0 && !block->cached);
		assert_true(!block->cached || (block->published && held[b] == 0));
		cached += block->cached;
		/* A free block has nothing of its last owner. */
		for (uint32_t i = 0; free_count[b] && i < G2_BLOCK; i++)
			assert_int_equal(cache[b][i], 0);
	}
	assert_int_equal(kv->n_cached, cached);
	assert_int_equal(pool.cached, cached * 1000);
	assert_int_equal(pool.used, (kv->n_blocks - kv->n_free) * 1000);
}

static void
open_kv(g2_kv *kv, uint32_t n_blocks)
{
	g2_error	err;

	memset(cache, 0, sizeof cache);
	n_copies = 0;
	pool = (g2_kv_pool) {0};
	assert_true(g2_kv_open(kv, &pool, &api, NULL, n_blocks, &err));
	assert_int_equal(reserved, n_blocks);
	assert_int_equal(kv->n_free, n_blocks);
	assert_int_equal(kv->block_bytes, 1000);
}

static void
test_open(void **state)
{
	g2_kv		kv;
	g2_error	err;

	(void) state;
	open_kv(&kv, 5);
	check(&kv, NULL, 0);
	g2_kv_close(&kv);
	fail_reserve = true;
	assert_false(g2_kv_open(&kv, &pool, &api, NULL, 5, &err));
	assert_int_equal(err.code, G2_E_MEMORY);
	fail_reserve = false;
	for (long n = 1; n <= 3; n++)
	{
		g2_alloc_fail_at(n);
		assert_false(g2_kv_open(&kv, &pool, &api, NULL, 5, &err));
		g2_alloc_fail_at(0);
		assert_int_equal(err.code, G2_E_MEMORY);
	}
}

static void
test_low_blocks_first(void **state)
{
	g2_kv		kv;
	g2_block_table table = {0};
	g2_error	err;

	(void) state;
	open_kv(&kv, 8);
	assert_int_equal(g2_kv_prepare(&kv, &table, 0, 70, &err), G2_KV_DONE);
	assert_int_equal(table.n, 3);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(table.blocks[i], i);
	/* Again the same positions: nothing changes. */
	assert_int_equal(g2_kv_prepare(&kv, &table, 0, 70, &err), G2_KV_DONE);
	assert_int_equal(table.n, 3);
	assert_int_equal(n_copies, 0);
	g2_kv_release(&kv, &table);
	check(&kv, NULL, 0);
	g2_kv_release(&kv, &table);	/* of nothing */
	g2_kv_close(&kv);
}

static void
test_copy_on_write(void **state)
{
	g2_kv		kv;
	g2_block_table t[3] = {{0}};
	g2_error	err;

	(void) state;
	open_kv(&kv, 16);
	assert_int_equal(g2_kv_prepare(&kv, &t[0], 0, 39, &err), G2_KV_DONE);
	cache[t[0].blocks[1]][7] = 77;
	assert_true(g2_kv_share(&kv, &t[1], &t[0], 2, &err));
	assert_true(g2_kv_share(&kv, &t[2], &t[0], 2, &err));
	check(&kv, t, 3);
	assert_int_equal(kv.n_free, 14);
	/* The first writer gets a copy, also the second; the last keeps what there is. */
	assert_int_equal(g2_kv_prepare(&kv, &t[0], 40, 40, &err), G2_KV_DONE);
	assert_int_equal(g2_kv_prepare(&kv, &t[1], 40, 71, &err), G2_KV_DONE);
	assert_int_equal(g2_kv_prepare(&kv, &t[2], 40, 40, &err), G2_KV_DONE);
	check(&kv, t, 3);
	assert_int_equal(n_copies, 2);
	for (int i = 0; i < 3; i++)
	{
		assert_int_equal(t[i].blocks[0], t[0].blocks[0]);
		assert_int_equal(cache[t[i].blocks[1]][7], 77);
	}
	assert_int_equal(t[1].n, 3);
	g2_kv_release(&kv, &t[0]);
	check(&kv, t, 3);
	g2_kv_release(&kv, &t[2]);
	g2_kv_release(&kv, &t[1]);
	check(&kv, t, 3);
	assert_int_equal(kv.n_free, 16);
	g2_kv_close(&kv);
}

static void
test_exhausted(void **state)
{
	g2_kv		kv;
	g2_block_table t[2] = {{0}};
	g2_error	err;

	(void) state;
	open_kv(&kv, 4);
	assert_int_equal(g2_kv_prepare(&kv, &t[0], 0, 2 * G2_BLOCK - 1, &err), G2_KV_DONE);
	assert_true(g2_kv_share(&kv, &t[1], &t[0], 2, &err));
	assert_int_equal(g2_kv_prepare(&kv, &t[0], 2 * G2_BLOCK, 9 * G2_BLOCK, &err), G2_KV_FULL);
	check(&kv, t, 2);
	/* No block for a copy either: the table is as it was. */
	assert_int_equal(g2_kv_prepare(&kv, &t[1], 0, 0, &err), G2_KV_FULL);
	check(&kv, t, 2);
	g2_kv_release(&kv, &t[0]);
	/* All is its own now. */
	assert_int_equal(g2_kv_prepare(&kv, &t[1], 0, 0, &err), G2_KV_DONE);
	assert_int_equal(n_copies, 0);
	fail_copy = true;
	assert_true(g2_kv_share(&kv, &t[0], &t[1], 1, &err));
	assert_int_equal(g2_kv_prepare(&kv, &t[0], 0, 0, &err), G2_KV_FAILED);
	fail_copy = false;
	check(&kv, t, 2);
	g2_alloc_fail_at(1);
	assert_int_equal(g2_kv_prepare(&kv, &t[0], 0, 5 * G2_BLOCK, &err), G2_KV_FAILED);
	g2_alloc_fail_at(0);
	assert_int_equal(err.code, G2_E_MEMORY);
	check(&kv, t, 2);
	g2_kv_release(&kv, &t[0]);
	g2_kv_release(&kv, &t[1]);
	check(&kv, t, 2);
	g2_kv_close(&kv);
}

/* ---- random work against what each table should read ---- */

static uint64_t random_state = 1;

static uint32_t
random_below(uint32_t n)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t) (random_state >> 33) % n;
}

typedef struct shadow
{
	uint32_t	value[POSITIONS];
	uint32_t	len;			/* positions written */
} shadow;

/* What was published, also when nobody holds it any more. */
static shadow ghosts[32];
static uint32_t n_adopted,
			n_evicted;

static g2_prefix
prefix_of(const shadow *s, uint32_t block)
{
	g2_prefix	prefix = {{0}};
	uint64_t	h = 1;

	for (uint32_t p = 0; p < (block + 1) * G2_BLOCK; p++)
		h = (h ^ s->value[p]) * 0x100000001B3u;
	memcpy(prefix.hash, &h, sizeof h);
	return prefix;
}

/* The full blocks of a table, but not the last position, which may be written again. */
static void
publish(g2_kv *kv, const g2_block_table *table, const shadow *s)
{
	uint32_t	n = s->len > 0 ? (s->len - 1) / G2_BLOCK : 0;
	shadow	   *ghost = &ghosts[random_below(G2_LENGTH(ghosts))];

	if (n == 0)
		return;
	*ghost = *s;
	ghost->len = n * G2_BLOCK;
	for (uint32_t i = 0; i < n; i++)
	{
		g2_prefix	prefix = prefix_of(s, i);

		g2_kv_publish(kv, table->blocks[i], &prefix);
		assert_int_not_equal(g2_kv_find(kv, &prefix), G2_NO_BLOCK);
	}
}

/* A new owner of what was published, as far as it is still there. */
static void
adopt(g2_kv *kv, g2_block_table *table, shadow *s)
{
	const shadow *ghost = &ghosts[random_below(G2_LENGTH(ghosts))];
	g2_error	err;

	for (uint32_t i = 0; i < ghost->len / G2_BLOCK; i++)
	{
		g2_prefix	prefix = prefix_of(ghost, i);
		uint32_t	block = g2_kv_find(kv, &prefix);

		if (block == G2_NO_BLOCK)
		{
			n_evicted++;
			return;
		}
		assert_true(g2_kv_adopt(kv, table, block, &err));
		memcpy(s->value + i * G2_BLOCK, ghost->value + i * G2_BLOCK, sizeof cache[0]);
		s->len = (i + 1) * G2_BLOCK;
		n_adopted++;
	}
}

static void
random_step(g2_kv *kv, g2_block_table *t, shadow *s)
{
	uint32_t	a = random_below(TABLES),
				b = random_below(TABLES);
	g2_error	err;

	switch (random_below(10))
	{
		case 0:
			g2_kv_release(kv, &t[a]);
			s[a].len = 0;
			break;
		case 1:
			if (t[a].n > 0 || a == b)
				break;
			assert_true(g2_kv_share(kv, &t[a], &t[b], t[b].n, &err));
			s[a] = s[b];
			break;
		case 2:
			publish(kv, &t[a], &s[a]);
			break;
		case 3:
			if (t[a].n == 0)
				adopt(kv, &t[a], &s[a]);
			break;
		default:
			{
				uint32_t	from = s[a].len % G2_BLOCK ? s[a].len - random_below(2) :
							s[a].len,
							to = from + random_below(40);

				if (to >= POSITIONS)
					break;
				if (g2_kv_prepare(kv, &t[a], from, to, &err) != G2_KV_DONE)
					break;
				for (uint32_t p = from; p <= to; p++)
				{
					s[a].value[p] = 1 + random_below(1u << 30);
					cache[t[a].blocks[p / G2_BLOCK]][p % G2_BLOCK] = s[a].value[p];
				}
				s[a].len = to + 1;
			}
	}
}

static void
test_random(void **state)
{
	g2_kv		kv;
	static g2_block_table t[TABLES];
	static shadow s[TABLES];

	(void) state;
	open_kv(&kv, BLOCKS);
	for (int step = 0; step < 20000; step++)
	{
		random_step(&kv, t, s);
		check(&kv, t, TABLES);
		for (uint32_t i = 0; i < TABLES; i++)
			for (uint32_t p = 0; p < s[i].len; p++)
				if (cache[t[i].blocks[p / G2_BLOCK]][p % G2_BLOCK] != s[i].value[p])
					fail_msg("step %d: table %u reads a stranger's value at %u", step, i, p);
	}
	assert_true(n_copies > 100 && n_adopted > 100 && n_evicted > 100);
	for (uint32_t i = 0; i < TABLES; i++)
		g2_kv_release(&kv, &t[i]);
	check(&kv, t, TABLES);
	g2_kv_close(&kv);
}

/* Two models under one cap: the other's cached blocks make room, its held ones do not. */
static void
test_pool(void **state)
{
	g2_kv		kv[2];
	g2_block_table t[2] = {{0}};
	g2_prefix	prefix = {{1}};
	g2_error	err;

	(void) state;
	memset(cache, 0, sizeof cache);
	pool = (g2_kv_pool) {.budget = 8000};
	for (int m = 0; m < 2; m++)
		assert_true(g2_kv_open(&kv[m], &pool, &api, NULL, 8, &err));
	assert_int_equal(pool.limit, 8000);
	assert_int_equal(g2_kv_prepare(&kv[0], &t[0], 0, 5 * G2_BLOCK - 1, &err), G2_KV_DONE);
	g2_kv_publish(&kv[0], t[0].blocks[0], &prefix);
	assert_int_equal(g2_kv_find(&kv[0], &prefix), t[0].blocks[0]);
	assert_int_equal(g2_kv_find(&kv[1], &prefix), G2_NO_BLOCK);
	assert_int_equal(g2_kv_room(&kv[1]), 3);
	assert_int_equal(g2_kv_prepare(&kv[1], &t[1], 0, 4 * G2_BLOCK - 1, &err), G2_KV_FULL);
	g2_kv_release(&kv[0], &t[0]);
	assert_int_equal(kv[0].n_cached, 1);
	assert_int_equal(g2_kv_room(&kv[1]), 5);
	assert_int_equal(g2_kv_prepare(&kv[1], &t[1], 0, 7 * G2_BLOCK - 1, &err), G2_KV_DONE);
	assert_int_equal(kv[0].n_cached, 1);
	assert_int_equal(g2_kv_prepare(&kv[1], &t[1], 0, 8 * G2_BLOCK - 1, &err), G2_KV_DONE);
	assert_int_equal(kv[0].n_cached, 0);
	assert_int_equal(g2_kv_find(&kv[0], &prefix), G2_NO_BLOCK);
	g2_kv_release(&kv[1], &t[1]);
	for (int m = 0; m < 2; m++)
		g2_kv_close(&kv[m]);
	assert_int_equal(pool.used, 0);
}

/* A model whose context is above the budget raises the limit while it is open.  What others hold
 * beyond the limit when it goes stays with them, and is no room for anybody. */
static void
test_large_context(void **state)
{
	g2_kv		kv[3];
	g2_block_table t[2] = {{0}};
	g2_error	err;

	(void) state;
	memset(cache, 0, sizeof cache);
	pool = (g2_kv_pool) {.budget = 8000};
	assert_true(g2_kv_open(&kv[0], &pool, &api, NULL, 8, &err));
	assert_true(g2_kv_open(&kv[1], &pool, &api, NULL, 20, &err));
	assert_true(g2_kv_open(&kv[2], &pool, &api, NULL, 8, &err));
	assert_int_equal(pool.budget, 8000);
	assert_int_equal(pool.limit, 20000);
	assert_int_equal(g2_kv_capacity(&kv[0]), 8);
	assert_int_equal(g2_kv_capacity(&kv[1]), 20);
	for (int m = 0; m < 2; m++)
		assert_int_equal(g2_kv_prepare(&kv[2 * m], &t[m], 0, 7 * G2_BLOCK - 1, &err),
						 G2_KV_DONE);
	assert_int_equal(g2_kv_room(&kv[1]), 6);
	g2_kv_close(&kv[1]);
	assert_int_equal(pool.limit, 8000);
	assert_int_equal(g2_kv_room(&kv[0]), 0);
	assert_int_equal(g2_kv_prepare(&kv[0], &t[0], 0, 8 * G2_BLOCK - 1, &err), G2_KV_FULL);
	g2_kv_release(&kv[2], &t[1]);
	assert_int_equal(g2_kv_room(&kv[0]), 1);
	assert_int_equal(g2_kv_prepare(&kv[0], &t[0], 0, 8 * G2_BLOCK - 1, &err), G2_KV_DONE);
	g2_kv_release(&kv[0], &t[0]);
	g2_kv_close(&kv[2]);
	g2_kv_close(&kv[0]);
	assert_int_equal(pool.limit, 8000);
	assert_int_equal(pool.used, 0);
	assert_null(pool.first);
}

/* Of what nobody holds, the end of the prefix that was used longest ago goes first. */
static void
test_eviction_order(void **state)
{
	g2_kv		kv;
	g2_block_table t[3] = {{0}};
	g2_prefix	prefix[2][2] = {{{{1}}, {{2}}}, {{{3}}, {{4}}}};
	g2_error	err;

	(void) state;
	open_kv(&kv, 6);
	for (int i = 0; i < 2; i++)
	{
		assert_int_equal(g2_kv_prepare(&kv, &t[i], 0, 2 * G2_BLOCK - 1, &err), G2_KV_DONE);
		for (int b = 0; b < 2; b++)
			g2_kv_publish(&kv, t[i].blocks[b], &prefix[i][b]);
	}
	g2_kv_release(&kv, &t[1]);
	g2_kv_release(&kv, &t[0]);
	check(&kv, t, 3);
	assert_int_equal(g2_kv_prepare(&kv, &t[2], 0, 3 * G2_BLOCK - 1, &err), G2_KV_DONE);
	assert_int_equal(g2_kv_find(&kv, &prefix[1][1]), G2_NO_BLOCK);
	assert_int_not_equal(g2_kv_find(&kv, &prefix[1][0]), G2_NO_BLOCK);
	assert_int_equal(g2_kv_prepare(&kv, &t[2], 0, 4 * G2_BLOCK - 1, &err), G2_KV_DONE);
	assert_int_equal(g2_kv_find(&kv, &prefix[1][0]), G2_NO_BLOCK);
	assert_int_not_equal(g2_kv_find(&kv, &prefix[0][1]), G2_NO_BLOCK);
	check(&kv, t, 3);
	g2_kv_release(&kv, &t[2]);
	g2_kv_close(&kv);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open), cmocka_unit_test(test_low_blocks_first),
		cmocka_unit_test(test_copy_on_write), cmocka_unit_test(test_exhausted),
		cmocka_unit_test(test_pool), cmocka_unit_test(test_large_context),
		cmocka_unit_test(test_eviction_order),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
