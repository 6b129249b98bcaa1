/*
 * test_kv_slabs.c: models that share the slabs of one device.
 */
#include "kv_fixture.h"

static void
prepare(g2_kv *kv, g2_block_table *table, uint32_t blocks, g2_kv_outcome expected)
{
	g2_error	err;

	assert_int_equal(g2_kv_prepare(kv, table, 0, blocks * G2_BLOCK - 1, &err), expected);
}

/* The first blocks of a table get a prefix each. */
static void
publish_first(g2_kv *kv, const g2_block_table *table, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
	{
		g2_prefix	prefix = {{(uint8_t) (i + 1)}};

		g2_kv_publish(kv, table->blocks[i], &prefix);
	}
}

/* What an idle model does not hold is there for a busy one, by whole slabs. */
static void
test_slabs_shared(void **state)
{
	g2_kv		kv[2];
	g2_block_table t[3] = {{0}};

	(void) state;
	open_slabs(kv, 2, 6, 16 * 4500);
	for (int m = 0; m < 2; m++)
	{
		assert_int_equal(g2_kv_capacity(&kv[m]), 24);
		assert_int_equal(g2_kv_room(&kv[m]), 24);
	}
	prepare(&kv[0], &t[0], 24, G2_KV_DONE);
	assert_int_equal(g2_kv_room(&kv[1]), 0);
	prepare(&kv[1], &t[1], 1, G2_KV_FULL);
	publish_first(&kv[0], &t[0], 24);
	g2_kv_release(&kv[0], &t[0]);
	assert_int_equal(kv[0].n_cached, 24);
	assert_int_equal(n_spare, 0);
	assert_int_equal(g2_kv_room(&kv[0]), 24);
	assert_int_equal(g2_kv_room(&kv[1]), 24);
	prepare(&kv[1], &t[1], 5, G2_KV_DONE);
	assert_int_equal(kv[0].n_cached, 16);
	assert_int_equal(g2_kv_room(&kv[1]), 19);	/* three of them where it holds others */
	assert_int_equal(g2_kv_room(&kv[0]), 16);
	assert_int_equal(g2_kv_capacity(&kv[0]), 24);
	/* One that is held keeps the memory of its slab: of the rest, it has what is vacant. */
	prepare(&kv[0], &t[0], 1, G2_KV_DONE);
	assert_int_equal(g2_kv_room(&kv[1]), 3 + 12);
	prepare(&kv[1], &t[1], 21, G2_KV_FULL);
	assert_int_equal(t[1].n, 20);
	assert_int_equal(g2_kv_room(&kv[1]), 0);
	assert_int_equal(g2_kv_room(&kv[0]), 3);
	prepare(&kv[0], &t[0], 5, G2_KV_FULL);
	assert_int_equal(t[0].n, 4);
	g2_kv_release(&kv[0], &t[0]);
	assert_int_equal(n_spare, 1);
	/* A model that goes leaves all it had to the other. */
	g2_kv_release(&kv[1], &t[1]);
	g2_kv_close(&kv[1]);
	assert_int_equal(n_spare, 6);
	prepare(&kv[0], &t[0], 24, G2_KV_DONE);
	check(&kv[0], t, 1);
	g2_kv_release(&kv[0], &t[0]);
	g2_kv_close(&kv[0]);
	assert_int_equal(n_spare, 6);
	assert_int_equal(pool.used, 0);
}

/* Of what two models have cached, what was used longest ago goes first: another's vacant slab, or a
 * block of one's own; never what is in slabs that are held. */
static void
test_slabs_evicted(void **state)
{
	g2_kv		kv[2];
	g2_block_table t[4] = {{0}};

	(void) state;
	open_slabs(kv, 2, 3, 16 * 4500);
	prepare(&kv[0], &t[0], 4, G2_KV_DONE);
	publish_first(&kv[0], &t[0], 4);
	prepare(&kv[1], &t[1], 4, G2_KV_DONE);
	publish_first(&kv[1], &t[1], 4);
	g2_kv_release(&kv[0], &t[0]);	/* the other's is older ... */
	g2_kv_release(&kv[1], &t[1]);
	prepare(&kv[1], &t[1], 5, G2_KV_DONE);
	assert_int_equal(kv[0].n_cached, 0);
	assert_int_equal(kv[1].n_cached, 4);
	g2_kv_release(&kv[1], &t[1]);
	prepare(&kv[0], &t[0], 4, G2_KV_DONE);
	publish_first(&kv[0], &t[0], 4);
	g2_kv_release(&kv[0], &t[0]);
	prepare(&kv[1], &t[1], 5, G2_KV_DONE);	/* ... and now its own */
	assert_int_equal(kv[0].n_cached, 4);
	assert_int_equal(kv[1].n_cached, 3);
	g2_kv_release(&kv[1], &t[1]);
	assert_int_equal(kv[1].n_cached, 3);
	/* Beside a block that is held, the other's three are no use to anybody else. */
	prepare(&kv[1], &t[2], 1, G2_KV_DONE);
	assert_int_equal(g2_kv_room(&kv[0]), 8);
	prepare(&kv[0], &t[0], 9, G2_KV_FULL);
	assert_int_equal(t[0].n, 8);
	assert_int_equal(kv[0].n_cached, 0);
	assert_int_equal(kv[1].n_cached, 3);
	check_slabs(&kv[0]);
	check_slabs(&kv[1]);
	check_pool();
	g2_kv_release(&kv[0], &t[0]);
	g2_kv_release(&kv[1], &t[2]);
	for (int m = 0; m < 2; m++)
		g2_kv_close(&kv[m]);
	assert_int_equal(n_spare, 3);
}

/* Weights take memory: what is vacant goes, the oldest first, and what is left is all that a text can
 * have. */
static void
test_shrink(void **state)
{
	g2_kv		kv[2];
	g2_block_table t[3] = {{0}};

	(void) state;
	open_slabs(kv, 2, 4, 16 * 4500);
	assert_false(g2_kv_shrink(&pool));
	for (int m = 0; m < 2; m++)
	{
		prepare(&kv[m], &t[m], 4, G2_KV_DONE);
		publish_first(&kv[m], &t[m], 3);
		g2_kv_release(&kv[m], &t[m]);
		assert_int_equal(kv[m].n_cached, 3);
	}
	prepare(&kv[1], &t[2], 9, G2_KV_DONE);
	assert_int_equal(n_spare, 0);
	assert_true(g2_kv_shrink(&pool));
	assert_int_equal(kv[0].n_cached, 0);
	assert_int_equal(n_spare, 1);
	assert_false(g2_kv_shrink(&pool));	/* the other's are held now */
	n_spare = 0;				/* the weights have it */
	assert_int_equal(g2_kv_capacity(&kv[0]), 12);
	assert_int_equal(g2_kv_room(&kv[0]), 0);
	g2_kv_release(&kv[1], &t[2]);
	assert_int_equal(g2_kv_room(&kv[0]), 12);
	prepare(&kv[0], &t[0], 13, G2_KV_FULL);
	assert_int_equal(t[0].n, 12);
	g2_kv_release(&kv[0], &t[0]);
	for (int m = 0; m < 2; m++)
		g2_kv_close(&kv[m]);
	assert_int_equal(n_spare, 3);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slabs_shared),
		cmocka_unit_test(test_slabs_evicted),
		cmocka_unit_test(test_shrink),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
