/*
 * test_cuda_cache.cpp: KV caches of several models in the slabs of one device, by way of kv.c: what
 * one model has given back is another's, with the bits that each has alone, also while plans that
 * read it are in flight; and weights that want memory which caches have.
 *
 * With G2_TEST_GPU on a real device.
 */
#include "cuda_cache_fixture.h"

#include <algorithm>

/* A busy model has all that an idle one does not hold; and the other way round. */
static void
test_one_pool(void **)
{
	model		first(G2_FORMAT_Q8, 64),
				second(G2_FORMAT_BF16, 128);
	const std::vector<float> alone[] = {run_alone(first), run_alone(second)};
	device		d(device_bytes);
	loaded		a(d, first),
				b(d, second);
	loaded	   *busy[] = {&a, &b};

	/* Blocks of two sizes, of which a slab has as many as it holds. */
	assert_int_equal(b.kv.block_bytes, 2 * a.kv.block_bytes);
	assert_int_equal(a.kv.slab_bytes, b.kv.slab_bytes);
	assert_int_equal(a.kv.slab_blocks, 2 * b.kv.slab_blocks);
	for (int round = 0; round < 4; round++)
	{
		loaded	   &now = *busy[round % 2],
				   &idle = *busy[1 - round % 2];
		const uint32_t n = g2_kv_capacity(&now.kv);
		g2_block_table all = now.prepare(n),
					none;

		assert_int_equal((uint64_t) n * now.kv.block_bytes, d.pool.used);
		assert_int_equal(api->kv_spare(now.m), 0);
		assert_int_equal(g2_kv_room(&idle.kv), 0);
		none = idle.prepare(1, G2_KV_FULL);
		g2_kv_release(&idle.kv, &none);
		/* Anywhere in it the same bits. */
		for (uint32_t at : {n / 2 - 1, n - g2_blocks_for(n_text)})
			assert_true(run(now, all.blocks + at) == alone[round % 2]);
		g2_kv_release(&now.kv, &all);
		assert_int_equal(d.pool.used, 0);
		if (round >= 2)
			now.fill_with_prefixes((uint8_t) round);
	}
}

/* Blocks go to the other model while a plan that reads them is in flight: both have their bits. */
static void
test_reuse_in_flight(void **)
{
	model		first(G2_FORMAT_Q8, 64),
				second(G2_FORMAT_BF16, 128);
	const std::vector<float> alone[] = {run_alone(first), run_alone(second)};
	device		d(device_bytes);
	loaded		a(d, first),
				b(d, second);
	g2_block_table of_a,
				of_b;

	for (int round = 0; round < 4; round++)
	{
		uint32_t	place,
					freed;
		std::unique_ptr<text> one,
					two;

		of_a = a.prepare(g2_blocks_for(n_text));
		freed = a.m->places[of_a.blocks[0]];
		one = start(a, of_a.blocks);
		std::vector<uint32_t> blocks(of_a.blocks, of_a.blocks + of_a.n);	/* the plan's */
		one->sequence.blocks = blocks.data();
		g2_kv_release(&a.kv, &of_a);
		of_b = b.prepare(g2_blocks_for(n_text));
		place = b.m->places[of_b.blocks[0]];
		assert_int_equal((uint64_t) place * 2, freed);	/* it stands where the other's stood */
		two = start(b, of_b.blocks);
		d.finish();
		d.finish();
		assert_true(one->logits == alone[0]);
		assert_true(two->logits == alone[1]);
		g2_kv_release(&b.kv, &of_b);
	}
}

/* A model goes, and its weights' place is another's and its blocks' a third's, while one runs. */
static void
test_unload_beside(void **)
{
	model		first(G2_FORMAT_Q8, 64),
				second(G2_FORMAT_BF16, 128);
	const std::vector<float> alone[] = {run_alone(first), run_alone(second)};
	device		d(device_bytes);
	loaded		stays(d, second);
	const uint64_t free_bytes = d.free_bytes();

	for (int round = 0; round < 3; round++)
	{
		g2_block_table kept = stays.prepare(g2_blocks_for(n_text)),
					all;
		std::unique_ptr<text> t;
		{
			loaded		goes(d, first);
			g2_block_table table = goes.prepare(g2_blocks_for(n_text));

			assert_true(run(goes, table.blocks) == alone[0]);
			t = start(stays, kept.blocks);
			g2_kv_release(&goes.kv, &table);
			goes.fill_with_prefixes(1);
		}
		assert_int_equal(d.free_bytes() + stays.kv.slab_bytes, free_bytes);
		all = stays.prepare(g2_kv_room(&stays.kv));
		d.finish();
		assert_true(t->logits == alone[1]);
		assert_true(run(stays, kept.blocks) == alone[1]);
		g2_kv_release(&stays.kv, &all);
		g2_kv_release(&stays.kv, &kept);
	}
}

/* Weights have the memory of prefixes, in one piece, but not that of texts. */
static void
test_weights_want_memory(void **)
{
	model		first(G2_FORMAT_Q8, 64),
				second(G2_FORMAT_BF16, 128);
	const std::vector<float> alone[] = {run_alone(first), run_alone(second)};
	device		d(device_bytes);
	loaded		a(d, first);
	g2_block_table held = a.prepare(g2_kv_room(&a.kv));
	std::unique_ptr<text> t = start(a, held.blocks);
	{
		loaded		refused(d, second);

		assert_null(refused.m);
		assert_int_equal(refused.err.code, G2_E_MEMORY);
		assert_non_null(strstr(refused.err.detail, "and texts in progress hold"));
		assert_non_null(strstr(refused.err.hint, "wait until texts have ended"));
	}
	d.finish();
	assert_true(t->logits == alone[0]);
	g2_kv_release(&a.kv, &held);
	a.fill_with_prefixes(1);
	t = NULL;
	{
		const uint32_t before = a.kv.n_cached;
		model		huge(G2_FORMAT_BF16, 128);

		huge.w.arch.n_ctx = 16384;	/* 6 MB of positions, 32 MB a text */
		loaded		refused(d, huge);

		assert_null(refused.m);
		assert_int_equal(refused.err.code, G2_E_MEMORY);
		assert_int_equal(a.kv.n_cached, before);	/* in vain they would have gone */
	}
	{
		const uint32_t before = a.kv.n_cached;
		g2_block_table table = a.prepare(g2_blocks_for(n_text)),
					other;

		t = start(a, table.blocks);
		loaded		b(d, second);

		assert_non_null(b.m);
		assert_true(a.kv.n_cached > 0 && a.kv.n_cached < before);
		d.finish();
		assert_true(t->logits == alone[0]);
		other = b.prepare(g2_blocks_for(n_text));
		assert_true(run(b, other.blocks) == alone[1]);
		assert_true(run(a, table.blocks) == alone[0]);
		/* What is left is less than it was. */
		assert_true(g2_kv_capacity(&a.kv) < before);
		g2_kv_release(&b.kv, &other);
		g2_kv_release(&a.kv, &table);
	}
}

/* There is always room for a text that fills the context of any model: weights beside which there
 * would be none are refused. */
static void
test_room_for_a_text(void **)
{
	model		m(G2_FORMAT_Q8, 64),
				small(G2_FORMAT_Q8, 64);
	bool		no_cache[2] = {},
				both = false;

	small.w.arch.n_ctx = 32;
	for (uint64_t bytes = 8 << 20; !both; bytes += 256 << 10)
	{
		g2_backend_options options = {};
		g2_backend *b;
		g2_backend_model *first = NULL,
				   *second = NULL;
		g2_error	err = {};
		size_t		slab_bytes;

		options.slots = 4;
		options.device_memory = bytes;
		if (!api->open(&options, -1, &b, &err))
			fail_msg("%s", err.message);
		both = api->model_load(b, &m.w, &first, &err) && api->model_load(b, &small.w, &second, &err);
		if (first)
			assert_true(api->kv_spare(first) * api->kv_slab(first, &slab_bytes) >=
						g2_blocks_for(n_ctx));
		if (!both)
		{
			assert_int_equal(err.code, G2_E_MEMORY);
			no_cache[first ? 1 : 0] |= strstr(err.message, "the KV cache of one text") != NULL;
		}
		api->model_unload(b, second);
		api->model_unload(b, first);
		api->close(b);
	}
	assert_true(no_cache[0] && no_cache[1]);
}

/* A block larger than a slab. */
static void
test_large_block(void **)
{
	model		m(G2_FORMAT_Q8, 128);
	g2_backend_options options = {};
	g2_backend *b;
	g2_backend_model *loaded;
	g2_error	err = {};
	std::vector<g2_layer> layers(64, m.layers[0]);

	m.w.arch.n_layer = 64;		/* 2 MB a block */
	m.w.layers = layers.data();
	options.slots = 4;
	options.device_memory = 100 << 20;
	if (!api->open(&options, -1, &b, &err))
		fail_msg("%s", err.message);
	assert_false(api->model_load(b, &m.w, &loaded, &err));
	assert_int_equal(err.code, G2_E_MEMORY);
	assert_non_null(strstr(err.detail, "A block has 2.1 MB"));
	api->close(b);
}

/* Bytes of a block that are not zero. */
static size_t
count_bytes(const loaded &l, uint32_t block)
{
	std::vector<char> bytes(l.kv.block_bytes);
	const size_t at = (size_t) l.m->places[block] * (l.kv.block_bytes / (2 * n_layer * n_head));
	g2_error	err = {};

	assert_true(rt_copy_out(l.d.backend->stream, bytes.data(),
							static_cast<char *>(l.d.backend->memory) + at, bytes.size(), &err) &&
				rt_wait(l.d.backend->stream, &err));
	return bytes.size() - (size_t) std::count(bytes.begin(), bytes.end(), 0);
}

/* Nothing of a text, or of weights, is in what others get. */
static void
test_zeroed(void **)
{
	model		first(G2_FORMAT_Q8, 64),
				second(G2_FORMAT_BF16, 128);
	device		d(device_bytes);
	loaded		a(d, first);

	for (int round = 0; round < 2; round++)
	{
		loaded		b(d, second);
		g2_block_table table = a.prepare(g2_kv_room(&a.kv));
		const uint32_t block = table.blocks[0];

		for (uint32_t i = 0; i < table.n; i++)
			assert_int_equal(count_bytes(a, table.blocks[i]), 0);
		run(a, table.blocks);
		assert_true(count_bytes(a, block) > a.kv.block_bytes / 2);
		assert_true(api->kv_copy(a.m, table.blocks[9], block, &a.err));
		assert_int_equal(count_bytes(a, table.blocks[9]), count_bytes(a, block));
		assert_true(api->kv_zero(a.m, &table.blocks[9], 1, &a.err));
		assert_int_equal(count_bytes(a, table.blocks[9]), 0);
		g2_kv_release(&a.kv, &table);
		table = b.prepare(g2_kv_room(&b.kv));
		for (uint32_t i = 0; i < table.n; i++)
			assert_int_equal(count_bytes(b, table.blocks[i]), 0);
		g2_kv_release(&b.kv, &table);
	}
}

/* A block that has no memory is refused, wherever it is named. */
static void
test_not_mapped(void **)
{
	model		first(G2_FORMAT_Q8, 64);
	device		d(device_bytes);
	loaded		a(d, first);
	const uint64_t taken = d.pool.budget - d.free_bytes();	/* by weights */
	g2_block_table table = a.prepare(g2_blocks_for(n_text));
	std::vector<uint32_t> blocks(table.blocks, table.blocks + table.n);
	text		t(a, blocks.data());
	g2_error	err = {};

	blocks.back() = a.kv.slab_blocks;
	assert_false(api->step_submit(d.backend, &t.plan, &t.result, &err));
	assert_int_equal(err.code, G2_E_INTERNAL);
	assert_non_null(strstr(err.message, "has no memory"));
	assert_false(api->kv_copy(a.m, blocks[0], blocks.back(), &err));
	assert_false(api->kv_copy(a.m, blocks.back(), blocks[0], &err));
	assert_false(api->kv_zero(a.m, blocks.data(), table.n, &err));
	blocks.back() = table.blocks[table.n - 1];
	assert_false(api->kv_map(a.m, 0));	/* it is */
	assert_false(api->kv_map(a.m, a.kv.n_slabs));
	api->kv_unmap(a.m, 1);
	api->kv_unmap(a.m, UINT32_MAX);
	assert_int_equal((uint64_t) (api->kv_spare(a.m) + 1) * a.kv.slab_bytes, d.pool.budget - taken);
	t.submit(d);
	d.finish();
	g2_kv_release(&a.kv, &table);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_pool),
		cmocka_unit_test(test_reuse_in_flight),
		cmocka_unit_test(test_unload_beside),
		cmocka_unit_test(test_weights_want_memory),
		cmocka_unit_test(test_room_for_a_text),
		cmocka_unit_test(test_large_block),
		cmocka_unit_test(test_zeroed),
		cmocka_unit_test(test_not_mapped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
