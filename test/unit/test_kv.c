/*
 * test_kv.c: block tables, shared and copied; published blocks; the cap of a pool.
 */
#include "kv_fixture.h"

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
	assert_false(g2_kv_open(&kv, &pool, &api, &models[0], 5, &err));
	assert_int_equal(err.code, G2_E_MEMORY);
	fail_reserve = false;
	for (long n = 1; n <= 3; n++)
	{
		g2_alloc_fail_at(n);
		assert_false(g2_kv_open(&kv, &pool, &api, &models[0], 5, &err));
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
	models[0].cache[t[0].blocks[1]][7] = 77;
	assert_true(g2_kv_share(&kv, &t[1], &t[0], 2, &err));
	assert_true(g2_kv_share(&kv, &t[2], &t[0], 2, &err));
	check(&kv, t, 3);
	assert_int_equal(kv.n_held, 2);
	/* The first writer gets a copy, also the second; the last keeps what there is. */
	assert_int_equal(g2_kv_prepare(&kv, &t[0], 40, 40, &err), G2_KV_DONE);
	assert_int_equal(g2_kv_prepare(&kv, &t[1], 40, 71, &err), G2_KV_DONE);
	assert_int_equal(g2_kv_prepare(&kv, &t[2], 40, 40, &err), G2_KV_DONE);
	check(&kv, t, 3);
	assert_int_equal(n_copies, 2);
	for (int i = 0; i < 3; i++)
	{
		assert_int_equal(t[i].blocks[0], t[0].blocks[0]);
		assert_int_equal(models[0].cache[t[i].blocks[1]][7], 77);
	}
	assert_int_equal(t[1].n, 3);
	g2_kv_release(&kv, &t[0]);
	check(&kv, t, 3);
	g2_kv_release(&kv, &t[2]);
	g2_kv_release(&kv, &t[1]);
	check(&kv, t, 3);
	assert_int_equal(kv.n_held, 0);
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

/* Two models under one cap: the other's cached blocks make room, its held ones do not. */
static void
test_pool(void **state)
{
	g2_kv		kv[2];
	g2_block_table t[2] = {{0}};
	g2_prefix	prefix = {{1}};
	g2_error	err;

	(void) state;
	memset(models, 0, sizeof models);
	pool = (g2_kv_pool) {.budget = 8000};
	for (int m = 0; m < 2; m++)
		assert_true(g2_kv_open(&kv[m], &pool, &api, &models[m], 8, &err));
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
	memset(models, 0, sizeof models);
	pool = (g2_kv_pool) {.budget = 8000};
	assert_true(g2_kv_open(&kv[0], &pool, &api, &models[0], 8, &err));
	assert_true(g2_kv_open(&kv[1], &pool, &api, &models[1], 20, &err));
	assert_true(g2_kv_open(&kv[2], &pool, &api, &models[2], 8, &err));
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
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_low_blocks_first),
		cmocka_unit_test(test_copy_on_write),
		cmocka_unit_test(test_exhausted),
		cmocka_unit_test(test_pool),
		cmocka_unit_test(test_large_context),
		cmocka_unit_test(test_eviction_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
