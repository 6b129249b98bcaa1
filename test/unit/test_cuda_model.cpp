/*
 * test_cuda_model.cpp: whole models in bf16 and q8 on the emulated device: near to the CPU's, and
 * the same bits however a text is cut into plans, whatever else is in them, and wherever it stands
 * in the cache.  Then what may go wrong: memory that runs out, a device that is lost.
 *
 * With G2_TEST_GPU on a real device, with up to 1,024 rows, and without what only an emulation can
 * be made to do.  GPT2_TEST_QUICK leaves out what takes long under compute-sanitizer.
 */
#include "cuda_model_fixture.h"

#include <string.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "cuda_backend.h"

#ifndef G2_TEST_GPU
static const uint64_t memory_bytes = 160 << 20;
#endif

struct device
{
	const g2_backend_api *api;
	int			fd;
	g2_backend *backend;
	g2_backend_model *m;

	device(const g2_backend_api *api_, const model &of, uint32_t slots = n_slots)
		: api(api_), fd(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)), backend(NULL), m(NULL)
	{
		g2_backend_options options = {};
		g2_error	err = {};

		options.threads = 1;
		options.slots = slots;
		if (!api->open(&options, fd, &backend, &err) ||
			!api->model_load(backend, &of.w, &m, &err) ||
			(api->model_fill && !api->model_fill(m, &of.w, &err)) ||
			!reserve_blocks(api, m, slots > n_blocks ? slots : n_blocks, &err))
			fail_msg("%s %s", err.message, err.detail);
	}

	~device()
	{
		api->model_unload(backend, m);
		api->close(backend);
		close(fd);
	}
	device(const device &) = delete;
	device &operator=(const device &) = delete;

	bool
	wait(g2_error *err)
	{
		bool		failed;

		wait_for_plan(api, backend, fd, &failed, err);
		return !failed;
	}

	void
	run(const g2_plan &plan, g2_result *result)
	{
		g2_error	err = {};

		if (!api->step_submit(backend, &plan, result, &err) || !wait(&err))
			fail_msg("%s", err.message);
	}
};

/*
 * Logits of every position of a text, in plans of `chunk` rows, with `others` sequences of one row
 * each before it, blocks dealt from `first_block` on.
 */
static std::vector<float>
all_logits(device &d, uint32_t n, uint32_t chunk, uint32_t others, uint32_t first_block)
{
	std::vector<float> logits((size_t) n * n_vocab);
	std::vector<uint32_t> table(32),
				other_table(1, 89);

	for (uint32_t i = 0; i < table.size(); i++)
		table[i] = (first_block + i * 7) % 80;
	for (uint32_t at = 0; at < n; at += chunk)
	{
		const uint32_t rows = n - at < chunk ? n - at : chunk;
		std::vector<uint32_t> token,
					position;
		std::vector<g2_plan_sequence> sequences;
		std::vector<g2_output> outputs;
		g2_plan		plan = {};
		g2_result	result = {};

		for (uint32_t i = 0; i < others; i++)
		{
			sequences.push_back({G2_TOKEN_NONE, i, 1, other_table.data()});
			token.push_back(i % n_vocab);
			position.push_back(i % 32);
		}
		sequences.push_back({G2_TOKEN_NONE, others, rows, table.data()});
		for (uint32_t i = 0; i < rows; i++)
		{
			token.push_back(text_token(at + i));
			position.push_back(at + i);
			outputs.push_back({others + i, 0, G2_WANT_LOGITS, 0, NULL, 0, NULL});
		}
		plan.model = d.m;
		plan.n_steps = 1;
		plan.n_rows = others + rows;
		plan.token = token.data();
		plan.position = position.data();
		plan.n_sequences = (uint32_t) sequences.size();
		plan.sequences = sequences.data();
		plan.n_outputs = rows;
		plan.outputs = outputs.data();
		result.logits = logits.data() + (size_t) at * n_vocab;
		d.run(plan, &result);
	}
	return logits;
}

/* Other turns of the threads, where that can be chosen. */
static void
shuffle(uint64_t seed)
{
#ifdef G2_TEST_GPU
	(void) seed;
#else
	emu_seed(seed);
#endif
}

static double
difference(const std::vector<float> &a, const std::vector<float> &b)
{
	double		error = 0.0,
				norm = 0.0;

	for (size_t i = 0; i < a.size(); i++)
	{
		error += pow((double) a[i] - b[i], 2);
		norm += (double) b[i] * b[i];
	}
	return sqrt(error / norm);
}

static void
check_format(g2_format format, uint32_t head_dim, uint32_t positions)
{
	const uint32_t n = getenv("GPT2_TEST_QUICK") ? 40 : positions;
	model		m(format, head_dim),
				reference(G2_FORMAT_F32, head_dim);
	device		d(g2_cuda_backend(), m),
				same(&g2_cpu_backend, m),
				exact(&g2_cpu_backend, reference);
	const std::vector<float> logits = all_logits(d, n, n, 0, 0);
	const double from_same = difference(logits, all_logits(same, n, n, 0, 0)),
				from_exact = difference(logits, all_logits(exact, n, n, 0, 0));

	print_message("%s, heads of %u: %.2e from the CPU's, %.2e from f32\n",
				  format == G2_FORMAT_BF16 ? "bf16" : "q8", head_dim, from_same, from_exact);
	/* q8: what attention rounds otherwise is quantized otherwise behind it. */
	assert_true(from_same < (format == G2_FORMAT_BF16 ? 1e-2 : 2e-2));
	assert_true(from_exact < (format == G2_FORMAT_BF16 ? 1e-2 : 5e-2));
	for (uint32_t chunk : {16u, 100u, 1u})
	{
		/* Token by token: the end, over a cache that a prompt has filled. */
		const std::vector<float> again = all_logits(d, n, chunk, chunk == 1 ? 0 : chunk / 2,
													chunk);

		shuffle(chunk);
		assert_memory_equal(again.data(), logits.data(), logits.size() * sizeof(float));
	}
}

static void
test_bf16(void **)
{
	check_format(G2_FORMAT_BF16, 64, 264);	/* two segments */
}

static void
test_q8(void **)
{
	check_format(G2_FORMAT_Q8, 64, 72);
}

/* [step][row] */
struct samples
{
	std::vector<uint32_t> token;
	std::vector<double> logprob;
};

/* Sequences with the same prompt of one token, a row, a slot and a block each. */
static samples
sample_rows(device &d, uint32_t rows, uint32_t steps)
{
	const uint32_t prompt = 17;
	std::vector<uint32_t> token(rows, prompt),
				position(rows, 0),
				blocks(rows);
	std::vector<g2_plan_sequence> sequences;
	std::vector<g2_output> outputs;
	std::vector<uint8_t> ended(rows * steps);
	samples		s = {std::vector<uint32_t>(rows * steps), std::vector<double>(rows * steps)};
	g2_plan		plan = {};
	g2_result	result = {};

	for (uint32_t i = 0; i < rows; i++)
	{
		g2_slot_state state = {};
		g2_error	err;

		state.sampling.temperature = 0.9f;
		state.sampling.top_p = 0.95f;
		state.sampling.repetition_penalty = 1.1f;
		state.sampling.frequency_penalty = 0.3f;
		state.sampling.typical_p = 0.9f;
		state.sampling.seed = 3;
		state.most_new = steps;
		state.end_token = G2_TOKEN_NONE;
		state.history = &prompt;
		state.n_history = 1;
		assert_true(d.api->slot_set(d.backend, i, &state, &err));
		blocks[i] = i;
		sequences.push_back({i, i, 1, &blocks[i]});
		outputs.push_back({i, i, G2_WANT_TOKEN | G2_WANT_LOGPROB, 0, NULL, 0, NULL});
	}
	plan.model = d.m;
	plan.n_steps = steps;
	plan.n_rows = plan.n_sequences = plan.n_outputs = rows;
	plan.token = token.data();
	plan.position = position.data();
	plan.sequences = sequences.data();
	plan.outputs = outputs.data();
	result.token = s.token.data();
	result.logprob = s.logprob.data();
	result.ended = ended.data();
	d.run(plan, &result);
	return s;
}

/* The same tokens in every row and slot, for each number of rows. */
static void
check_rows(g2_format format, uint32_t head_dim, const std::vector<uint32_t> &counts, uint32_t steps)
{
	model		m(format, head_dim);
	device		d(g2_cuda_backend(), m, counts.back());
	const samples alone = sample_rows(d, 1, steps);

	for (uint32_t rows : counts)
	{
		const samples s = sample_rows(d, rows, steps);

		for (uint32_t i = 0; i < rows * steps; i++)
		{
			assert_int_equal(s.token[i], alone.token[i / rows]);
			assert_memory_equal(&s.logprob[i], &alone.logprob[i / rows], sizeof(double));
		}
	}
}

static void
test_rows(void **)
{
	const bool	quick = getenv("GPT2_TEST_QUICK") != NULL;
#ifdef G2_TEST_GPU
	const std::vector<uint32_t> counts = quick ? std::vector<uint32_t>{33, 100} :
		std::vector<uint32_t>{2, 9, 17, 33, 64, 341, 1024};

	check_rows(G2_FORMAT_Q8, 64, counts, 4);
	check_rows(G2_FORMAT_BF16, 128, counts, 4);
#else
	check_rows(G2_FORMAT_Q8, 64, {quick ? 4u : 23u, quick ? 12u : 70u}, 4);
	check_rows(G2_FORMAT_BF16, 128, {3, quick ? 9u : 40u}, 4);
#endif
}

#ifndef G2_TEST_GPU

/* As many rows as a pass takes. */
static void
test_most_rows(void **)
{
	if (getenv("GPT2_TEST_QUICK"))
		skip();
	emu_set_memory(400 << 20);
	check_rows(G2_FORMAT_BF16, 64, {1024}, 2);
	emu_set_memory(memory_bytes);
}

/* Where there is no memory for a graph, a step is launched: the same tokens. */
static void
test_without_graphs(void **)
{
	model		m(G2_FORMAT_Q8, 64);
	samples		s[2];

	for (int allowed = 0; allowed < 2; allowed++)
	{
		device		d(g2_cuda_backend(), m);

		emu_allow_graphs(allowed);
		s[allowed] = sample_rows(d, 3, 5);
		emu_allow_graphs(true);
	}
	assert_true(s[0].token == s[1].token && s[0].logprob == s[1].logprob);
}

#endif

/* A model is filled by another thread, in memory that one before has left, while plans run. */
static void
test_fill_beside(void **)
{
	model		m(G2_FORMAT_Q8, 64),
				other(G2_FORMAT_BF16, 64);
	device		d(g2_cuda_backend(), m);
	const samples want = sample_rows(d, 3, 4);
	std::vector<float> logits;

	for (int round = 0; round < 3; round++)
	{
		g2_backend_model *second,
				   *first = d.m;
		g2_error	err = {};
		std::atomic<bool> ready(false);
		bool		filled = false;

		assert_true(d.api->model_load(d.backend, &other.w, &second, &err));
		std::thread loader([&] {
			g2_error	why;

			filled = d.api->model_fill(second, &other.w, &why);
			ready = true;
		});
		do
		{
			const samples got = sample_rows(d, 3, 4);

			assert_true(got.token == want.token && got.logprob == want.logprob);
		} while (!ready);
		loader.join();
		assert_true(filled);
		assert_true(reserve_blocks(d.api, second, n_blocks, &err));
		d.m = second;
		std::vector<float> now = all_logits(d, 20, 20, 0, 0);
		d.m = first;
		assert_true(round == 0 || memcmp(now.data(), logits.data(), now.size() * sizeof(float)) == 0);
		logits = now;
		d.api->model_unload(d.backend, second);
	}
}

/* A prompt of more rows than go through the layers together. */
static void
test_several_passes(void **)
{
	if (getenv("GPT2_TEST_QUICK"))
		skip();
	model		m(G2_FORMAT_Q8, 64);
	device		d(g2_cuda_backend(), m);
	const uint32_t n = 20;
	const std::vector<float> alone = all_logits(d, n, n, 0, 3);
	const std::vector<float> behind = all_logits(d, n, n, 1015, 5);

	assert_memory_equal(behind.data(), alone.data(), alone.size() * sizeof(float));
}

/* What a device samples for a draft of three behind a token: the slot's own tokens up to `right`, then
 * others; and then for the slot's next token. */
static std::vector<uint32_t>
sample_draft(device &d, const std::vector<uint32_t> &own, uint32_t right)
{
	uint32_t	token[] = {17, own[0], own[1], own[2]},
				position[] = {0, 1, 2, 3},
				block = 2,
				history = 17;
	g2_plan_sequence sequence = {1, 0, 4, &block};
	g2_output	outputs[4];
	g2_plan		plan = {d.m, 1, 4, token, position, 1, &sequence, 4, outputs, 0};
	g2_result	result = {};
	g2_slot_state state = {};
	g2_error	err;
	std::vector<uint32_t> sampled(5);

	for (uint32_t i = right + 1; i < 4; i++)
		token[i] = (token[i] + 1) % n_vocab;
	for (uint32_t i = 0; i < 4; i++)
		outputs[i] = {i, 1, G2_WANT_TOKEN, 0, NULL, 0, NULL};
	state.sampling.temperature = 0.8f;
	state.sampling.top_p = 1.0f;
	state.sampling.repetition_penalty = 1.2f;
	state.sampling.seed = 12;
	state.end_token = G2_TOKEN_NONE;
	state.history = &history;
	state.n_history = 1;
	assert_true(d.api->slot_set(d.backend, 1, &state, &err));
	result.token = sampled.data();
	d.run(plan, &result);
	/* The next token stands behind those that were kept. */
	token[0] = G2_TOKEN_PREVIOUS;
	position[0] = (right < 3 ? right : 3) + 1;
	sequence.n_rows = plan.n_rows = plan.n_outputs = 1;
	result.token = &sampled[4];
	d.run(plan, &result);
	return sampled;
}

/* Drafts that are right for 0 .. 3 tokens: in f32 what the CPU makes of them. */
static void
test_drafts(void **)
{
	model		m(G2_FORMAT_F32, 64);
	device		d(g2_cuda_backend(), m),
				cpu(&g2_cpu_backend, m);
	std::vector<uint32_t> own = {0, 0, 0};

	for (uint32_t i = 0; i < 3; i++)
		own[i] = sample_draft(cpu, own, i)[i];
	for (uint32_t right = 0; right <= 3; right++)
	{
		const std::vector<uint32_t> want = sample_draft(cpu, own, right),
					got = sample_draft(d, own, right);

		for (uint32_t i = 0; i < 4; i++)
			assert_true((want[i] == G2_TOKEN_NONE) == (i > right));
		assert_memory_equal(got.data(), want.data(), want.size() * sizeof(uint32_t));
	}
}

/* ---- what one text must not do to another ---- */

/* A key or value that is not finite stays with the rows that see it. */
static void
test_not_finite(void **)
{
	model		m(G2_FORMAT_BF16, 64);
	const uint32_t n = 40,
				bad = 25;
	std::vector<float> clean,
				spoilt;

	{
		device		d(g2_cuda_backend(), m);

		clean = all_logits(d, n, n, 0, 0);
	}
	/* The position of row 25 makes its values infinite. */
	for (uint32_t i = 0; i < n_embd; i++)
		const_cast<float *>(m.w.positions)[bad * n_embd + i] = i % 2 ? 1e38f : -3e38f;
	{
		device		d(g2_cuda_backend(), m);

		spoilt = all_logits(d, n, n, 0, 0);
		assert_memory_equal(spoilt.data(), clean.data(), bad * n_vocab * sizeof(float));
		assert_true(spoilt[bad * n_vocab] != spoilt[bad * n_vocab]);
		/* The same one by one; and who comes after it into the same blocks sees nothing of it. */
		spoilt = all_logits(d, n, 1, 0, 0);
		assert_memory_equal(spoilt.data(), clean.data(), bad * n_vocab * sizeof(float));
		assert_true(spoilt[(n - 1) * n_vocab] != spoilt[(n - 1) * n_vocab]);
		spoilt = all_logits(d, 20, 20, 0, 0);
		assert_memory_equal(spoilt.data(), clean.data(), 20 * n_vocab * sizeof(float));
	}
}

/* ---- what may go wrong ---- */

#ifndef G2_TEST_GPU

static void
test_memory(void **)
{
	model		m(G2_FORMAT_Q8, 64);
	g2_backend_options options = {};
	g2_backend *b;
	g2_backend_model *loaded[40] = {};
	g2_backend_device about;
	g2_error	err = {};
	uint64_t	free_bytes;
	uint32_t	n = 0;
	const g2_backend_api *api = g2_cuda_backend();

	options.slots = 4;
	options.device_memory = 64 << 20;
	assert_true(api->open(&options, -1, &b, &err));
	api->describe(b, &about);
	assert_string_equal(about.name, "emulated");
	free_bytes = about.free_bytes;
	while (n < 40 && api->model_load(b, &m.w, &loaded[n], &err))
		n++;
	assert_true(n > 0 && n < 40);
	assert_int_equal(err.code, G2_E_MEMORY);
	assert_non_null(strstr(err.detail, "are needed"));
	api->model_unload(b, loaded[--n]);
	assert_true(api->model_load(b, &m.w, &loaded[n], &err));
	assert_false(api->kv_reserve(loaded[n], 1 << 20, &err));
	assert_int_equal(err.code, G2_E_MEMORY);
	for (uint32_t i = 0; i <= n; i++)
		api->model_unload(b, loaded[i]);
	api->describe(b, &about);
	assert_true(about.free_bytes == free_bytes);
	m.w.format = G2_FORMAT_Q4;
	assert_false(api->model_load(b, &m.w, &loaded[0], &err));
	assert_int_equal(err.code, G2_E_UNSUPPORTED);
	m.w.format = G2_FORMAT_Q8;
	m.w.arch.head_dim = 32;
	m.w.arch.n_head = m.w.arch.n_kv_head = 4;
	assert_false(api->model_load(b, &m.w, &loaded[0], &err));
	assert_int_equal(err.code, G2_E_UNSUPPORTED);
	assert_non_null(strstr(err.message, "head_dim"));
	api->close(b);
}

/* Plans in flight end with 58000, and so does what comes after them. */
static void
test_lost(void **)
{
	model		m(G2_FORMAT_Q8, 64);
	device		d(g2_cuda_backend(), m);
	uint32_t	token = 5,
				position = 0,
				block = 0,
				sampled[2];
	g2_slot_state state = {};
	g2_plan_sequence sequence = {0, 0, 1, &block};
	g2_output	output = {0, 0, G2_WANT_TOKEN, 0, NULL, 0, NULL};
	g2_plan		plan = {d.m, 1, 1, &token, &position, 1, &sequence, 1, &output, 0};
	g2_result	result[2] = {};
	g2_error	err = {};

	state.sampling.repetition_penalty = 1.0f;
	state.end_token = G2_TOKEN_NONE;
	assert_true(d.api->slot_set(d.backend, 0, &state, &err));
	result[0].token = &sampled[0];
	result[1].token = &sampled[1];
	emu_lose_device_at(1);
	assert_true(d.api->step_submit(d.backend, &plan, &result[0], &err));
	assert_false(d.wait(&err));
	assert_int_equal(err.code, G2_E_SYSTEM);
	err.code = G2_OK;
	assert_false(d.api->step_submit(d.backend, &plan, &result[1], &err));
	assert_int_equal(err.code, G2_E_SYSTEM);
	emu_lose_device_at(0);
}

#endif							/* G2_TEST_GPU */

/* Runs from the low end and slabs from the high one, none twice. */
static void
test_arena(void **)
{
	g2_arena	a;
	g2_error	err = {};
	std::vector<uint32_t> at(64, G2_ARENA_NONE);
	std::vector<uint64_t> bytes(64);	/* 0: a cache's slab */

	assert_true(g2_arena_open(&a, ((uint64_t) 112 << 30) + 5, &err));
	assert_true(a.slab_bytes == G2_ARENA_LARGEST && a.n_slabs == 896);
	g2_arena_close(&a);
	assert_true(g2_arena_open(&a, 100, &err));
	assert_true(a.n_slabs == 0 && g2_arena_take(&a, 1) == G2_ARENA_NONE);
	g2_arena_close(&a);
	assert_true(g2_arena_open(&a, 100 << 20, &err));
	assert_true(a.slab_bytes == 1 << 20 && a.n_slabs == 100);
	for (uint32_t round = 0; round < 3000; round++)
	{
		const uint32_t i = random_word() % 64;
		std::vector<int> owner(100, -1);

		if (at[i] != G2_ARENA_NONE)
		{
			if (bytes[i] == 0)
				g2_arena_give_slab(&a, at[i]);
			else
				g2_arena_give(&a, at[i], bytes[i]);
			at[i] = G2_ARENA_NONE;
			continue;
		}
		bytes[i] = random_word() % 2 ? 0 : 1 + random_word() % (7 << 20);
		at[i] = bytes[i] == 0 ? g2_arena_take_slab(&a) : g2_arena_take(&a, bytes[i]);
		if (at[i] == G2_ARENA_NONE)
		{
			assert_true(g2_arena_longest(&a) < g2_arena_slabs(&a, bytes[i]));
			continue;
		}
		for (uint32_t j = 0; j < 64; j++)
			for (uint32_t s = 0; at[j] != G2_ARENA_NONE && s < g2_arena_slabs(&a, bytes[j]); s++)
			{
				assert_true(at[j] + s < 100 && owner[at[j] + s] < 0);
				owner[at[j] + s] = (int) j;
			}
		assert_int_equal(a.n_free, std::count(owner.begin(), owner.end(), -1));
	}
	for (uint32_t i = 0; i < 64; i++)
		if (at[i] != G2_ARENA_NONE && bytes[i] == 0)
			g2_arena_give_slab(&a, at[i]);
		else if (at[i] != G2_ARENA_NONE)
			g2_arena_give(&a, at[i], bytes[i]);
	assert_true(g2_arena_longest(&a) == 100 && a.n_free == 100 && a.n_cache == 0);
	assert_true(g2_arena_take(&a, UINT64_MAX) == G2_ARENA_NONE);
	assert_int_equal(g2_arena_take(&a, 1), 0);
	assert_int_equal(g2_arena_take_slab(&a), 99);
	g2_arena_close(&a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arena),
		cmocka_unit_test(test_bf16),
		cmocka_unit_test(test_q8),
		cmocka_unit_test(test_rows),
#ifndef G2_TEST_GPU
		cmocka_unit_test(test_most_rows),
		cmocka_unit_test(test_without_graphs),
#endif
		cmocka_unit_test(test_fill_beside),
		cmocka_unit_test(test_several_passes),
		cmocka_unit_test(test_drafts),
		cmocka_unit_test(test_not_finite),
#ifndef G2_TEST_GPU
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_lost),
#endif
	};

#ifndef G2_TEST_GPU
	emu_set_memory(memory_bytes);
#endif
	return cmocka_run_group_tests(tests, NULL, NULL);
}
