/*
 * cuda_model_fixture.h: a small random model in any format, for back ends (C++).
 */
#ifndef CUDA_MODEL_FIXTURE_H
#define CUDA_MODEL_FIXTURE_H

#include "cuda_fixture.h"

#include <poll.h>
#include <unistd.h>

static const uint32_t n_layer = 2,
			n_head = 2,
			n_embd = 96,
			n_ff = 200,
			n_ctx = 600,
			n_vocab = 211,
#ifdef G2_TEST_GPU
			n_slots = 1024,
			n_blocks = 1100;
#else
			n_slots = 80,
			n_blocks = 90;
#endif

/* A random model in one format; head_dim 64 or 128. */
struct model
{
	std::vector<std::vector<float>> vectors;
	std::vector<test_matrix *> matrices;
	std::vector<g2_layer> layers;
	g2_weights	w;

	const float *
	vector(size_t n, float around)
	{
		vectors.push_back(random_floats((n + 47) / 48 * 48));
		for (size_t i = 0; i < vectors.back().size(); i++)
			vectors.back()[i] = i < n ? around + 0.2f * vectors.back()[i] : 0.0f;
		return vectors.back().data();
	}

	g2_matrix
	matrix(g2_format format, uint32_t k, uint32_t n)
	{
		test_matrix *m = new test_matrix(format, k, n);

		/* Smaller weights, packed again. */
		for (float &x : m->dense)
			x /= sqrtf((float) k);
		for (uint32_t p = 0; p < m->cpu.n_padded / G2_PANEL; p++)
			m->fill_panel(p);
		matrices.push_back(m);
		return m->cpu;
	}

	model(g2_format format, uint32_t head_dim) : layers(n_layer), w()
	{
		const uint32_t heads = n_head * head_dim;

		counter = 0;			/* the same values in every format */
		w.arch.n_layer = n_layer;
		w.arch.n_embd = n_embd;
		w.arch.n_head = w.arch.n_kv_head = n_head;
		w.arch.head_dim = head_dim;
		w.arch.n_ff = n_ff;
		w.arch.n_ctx = n_ctx;
		w.arch.n_vocab = n_vocab;
		w.arch.norm_bias = w.arch.fused_qkv = w.arch.attn_bias = w.arch.mlp_bias = 1;
		w.arch.norm_epsilon = 1e-5f;
		w.arch.activation = G2_ACT_GELU_NEW;
		w.arch.attn_scale = 1.0f / sqrtf((float) head_dim);
		w.arch.tied_head = 1;
		w.format = format;
		w.embed = w.head = matrix(format, n_embd, n_vocab);
		w.positions = vector((size_t) n_ctx * n_embd, 0.0f);
		for (g2_layer &l : layers)
			l = {vector(n_embd, 1.0f), vector(n_embd, 0.0f), matrix(format, n_embd, 3 * heads),
				vector(3 * heads, 0.0f), matrix(format, heads, n_embd), vector(n_embd, 0.0f),
				vector(n_embd, 1.0f), vector(n_embd, 0.0f), matrix(format, n_embd, n_ff),
				vector(n_ff, 0.0f), matrix(format, n_ff, n_embd), vector(n_embd, 0.0f)};
		w.layers = layers.data();
		w.norm_gain = vector(n_embd, 1.0f);
		w.norm_bias = vector(n_embd, 0.0f);
	}

	~model()
	{
		for (test_matrix *m : matrices)
			delete m;
	}
	model(const model &) = delete;
	model &operator=(const model &) = delete;
};

/* Waits for the oldest plan. */
static inline g2_result *
wait_for_plan(const g2_backend_api *api, g2_backend *backend, int fd, bool *failed, g2_error *err)
{
	g2_result  *r;

	while (!(r = api->step_result(backend, failed, err)))
	{
		struct pollfd p = {fd, POLLIN, 0};
		uint64_t	n;

		assert_int_equal(poll(&p, 1, 60000), 1);
		assert_int_equal(read(fd, &n, sizeof n), (ssize_t) sizeof n);
	}
	return r;
}

static inline uint32_t
text_token(uint32_t i)
{
	return g2_philox4x32(5, i, 0, 1, 0).word[0] % n_vocab;
}

#endif							/* CUDA_MODEL_FIXTURE_H */
