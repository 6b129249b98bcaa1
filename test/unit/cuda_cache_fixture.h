/*
 * cuda_cache_fixture.h: a CUDA device whose models share a pool of KV memory, by way of kv.c, and a text
 * that they read (C++).
 */
#ifndef CUDA_CACHE_FIXTURE_H
#define CUDA_CACHE_FIXTURE_H

#include "cuda_model_fixture.h"

#include <sys/eventfd.h>

#include <memory>

#include "cuda_backend.h"

extern "C"
{
#include "kv.h"
}

static const uint32_t n_text = 70;	/* three blocks, the last one not full */
static const uint64_t device_bytes = (uint64_t) 32 << 20;
static const g2_backend_api *const api = g2_cuda_backend();

static inline bool
shrink(void *pool)
{
	return g2_kv_shrink(static_cast<g2_kv_pool *>(pool));
}

/* A device whose models share a pool. */
struct device
{
	int			fd;
	g2_backend *backend;
	g2_kv_pool	pool;

	explicit device(uint64_t bytes) : fd(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)), pool()
	{
		g2_backend_options options = {};
		g2_error	err = {};

		options.slots = 4;
		options.device_memory = bytes;
		options.shrink = shrink;
		options.shrink_arg = &pool;
		if (!api->open(&options, fd, &backend, &err))
			fail_msg("%s %s", err.message, err.detail);
		pool.budget = free_bytes();
	}

	~device()
	{
		assert_true(pool.used == 0);
		api->close(backend);
		close(fd);
	}
	device(const device &) = delete;
	device &operator=(const device &) = delete;

	uint64_t
	free_bytes()
	{
		g2_backend_device about;

		api->describe(backend, &about);
		return about.free_bytes;
	}

	void
	finish()
	{
		bool		failed;
		g2_error	err = {};

		wait_for_plan(api, backend, fd, &failed, &err);
		if (failed)
			fail_msg("%s", err.message);
	}
};

/* A model with its cache; unloaded at the end. */
struct loaded
{
	device	   &d;
	g2_backend_model *m = NULL;
	g2_kv		kv = {};
	g2_error	err = {};

	loaded(device &d_, const model &of) : d(d_)
	{
		if (!api->model_load(d.backend, &of.w, &m, &err))
			return;
		if (!api->model_fill(m, &of.w, &err) ||
			!g2_kv_open(&kv, &d.pool, api, m,
						g2_kv_blocks(&d.pool, api, m, g2_blocks_for(n_ctx)), &err))
			fail_msg("%s %s", err.message, err.detail);
	}

	~loaded()
	{
		if (m)
			g2_kv_close(&kv);
		api->model_unload(d.backend, m);
	}
	loaded(const loaded &) = delete;
	loaded &operator=(const loaded &) = delete;

	/* Blocks for n blocks of text, or for as many as there are. */
	g2_block_table
	prepare(uint32_t n, g2_kv_outcome expected = G2_KV_DONE)
	{
		g2_block_table table = {};

		assert_int_equal(g2_kv_prepare(&kv, &table, 0, n * G2_BLOCK - 1, &err), expected);
		return table;
	}

	/* Cached blocks in all the memory there is. */
	void
	fill_with_prefixes(uint8_t seed)
	{
		g2_block_table table = prepare(g2_kv_room(&kv));

		for (uint32_t i = 0; i < table.n; i++)
		{
			g2_prefix	prefix = {};

			memcpy(prefix.hash, &i, sizeof i);
			prefix.hash[31] = seed;
			g2_kv_publish(&kv, table.blocks[i], &prefix);
		}
		g2_kv_release(&kv, &table);
		assert_int_equal(api->kv_spare(m), 0);
	}
};

/* Positions first .. end - 1 of the text in one plan, with their logits. */
struct text
{
	std::vector<uint32_t> token;
	std::vector<uint32_t> position;
	std::vector<g2_output> outputs;
	std::vector<float> logits;
	g2_plan_sequence sequence;
	g2_plan		plan = {};
	g2_result	result = {};

	text(const loaded &l, const uint32_t *blocks, uint32_t first = 0, uint32_t end = n_text)
		: logits((size_t) (end - first) * n_vocab), sequence({G2_TOKEN_NONE, 0, end - first, blocks})
	{
		for (uint32_t i = first; i < end; i++)
		{
			token.push_back(text_token(i));
			position.push_back(i);
			outputs.push_back({i - first, 0, G2_WANT_LOGITS, 0, NULL, 0, NULL});
		}
		plan.model = l.m;
		plan.n_steps = 1;
		plan.n_rows = plan.n_outputs = end - first;
		plan.token = token.data();
		plan.position = position.data();
		plan.n_sequences = 1;
		plan.sequences = &sequence;
		plan.outputs = outputs.data();
		result.logits = logits.data();
	}
	text(const text &) = delete;
	text &operator=(const text &) = delete;

	void
	submit(const device &d)
	{
		g2_error	err = {};

		if (!api->step_submit(d.backend, &plan, &result, &err))
			fail_msg("%s", err.message);
	}
};

static inline std::unique_ptr<text>
start(const loaded &l, const uint32_t *blocks)
{
	std::unique_ptr<text> t(new text(l, blocks));

	t->submit(l.d);
	return t;
}

/* In two plans, the second of which reads what the first has left in all layers. */
static inline std::vector<float>
run(loaded &l, const uint32_t *blocks)
{
	text		begin(l, blocks, 0, 45),
				rest(l, blocks, 45, n_text);

	begin.submit(l.d);
	rest.submit(l.d);
	l.d.finish();
	l.d.finish();
	begin.logits.insert(begin.logits.end(), rest.logits.begin(), rest.logits.end());
	return begin.logits;
}

/* What a model says when it has a device to itself. */
static inline std::vector<float>
run_alone(const model &of)
{
	device		d(device_bytes);
	loaded		l(d, of);
	g2_block_table table = l.prepare(g2_blocks_for(n_text));
	std::vector<float> logits = run(l, table.blocks);

	g2_kv_release(&l.kv, &table);
	return logits;
}

#endif							/* CUDA_CACHE_FIXTURE_H */
