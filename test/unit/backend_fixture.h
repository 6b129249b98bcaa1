/*
 * backend_fixture.h: a back end behind backend.h on a small random model: the model, a device that
 * has it, and the logits of a text.
 *
 * make_model before all, free_model after it.
 */
#ifndef BACKEND_FIXTURE_H
#define BACKEND_FIXTURE_H

#include <math.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend.h"
#include "philox.h"
#include "reserve_blocks.h"

#define UNUSED __attribute__((unused))

/*
 * With G2_TEST_CUDA the CUDA back end takes the CPU's place: f32 has the same bits there, so that
 * every test says the same of it.  It has heads of 64, and less is tried.  It runs over the emulated
 * device, or with G2_TEST_GPU on a real one.
 */
#ifdef G2_TEST_CUDA
#include "cuda_backend.h"
#ifndef G2_TEST_GPU
#include "emulator_control.h"
#endif

#define BACKEND g2_cuda_backend()
#define ISA NULL
#define HEAD_SIZE 64
#define CONTEXT 140
#define CUDA 1
#else
#define BACKEND &g2_cpu_backend
#define ISA "auto"
#define HEAD_SIZE 20
#define CONTEXT 700
#define CUDA 0
#endif

/* Sizes that are no multiples of 16, 32 or 48. */
enum
{
	LAYERS = 2,
	HEADS = 3,
	HEAD_DIM = HEAD_SIZE,
	HEADS_WIDTH = HEADS * HEAD_DIM,
	EMBD = 60,
	FF = 100,
	CTX = CONTEXT,
	VOCAB = 203,
	SLOTS = 200,
	BLOCKS = 80,
	PADDED = 240				/* VOCAB in panels */
};

static const g2_backend_api *api;
static g2_weights weights;
static g2_layer layers[LAYERS];
static uint32_t text[CTX];

/* ---- the model ---- */

static uint32_t tensor;

static UNUSED float *
random_array(size_t n, float scale)
{
	float	   *p = malloc(n * sizeof *p);

	assert_non_null(p);
	tensor++;
	for (size_t i = 0; i < n; i++)
		p[i] = scale * 0x1p-31f * (float) (int32_t) g2_philox4x32(1, (uint32_t) i, 0, 1, tensor)
			.word[0];
	return p;
}

static UNUSED g2_matrix
random_matrix(uint32_t k, uint32_t n)
{
	g2_matrix	m = {NULL, G2_FORMAT_F32, k, n, G2_ROUND_UP(n, (uint32_t) G2_PANEL)};
	float	   *w = random_array((size_t) m.n_padded * k, 1.5f / sqrtf((float) k));

	for (uint32_t c = n; c < m.n_padded; c++)
		for (uint32_t i = 0; i < k; i++)
			w[(size_t) (c / G2_PANEL) * k * G2_PANEL + i * G2_PANEL + c % G2_PANEL] = 0.0f;
	m.data = w;
	return m;
}

static UNUSED float *
random_bias(uint32_t n)
{
	float	   *b = random_array(G2_ROUND_UP(n, (uint32_t) G2_PANEL), 0.5f);

	for (uint32_t i = n; i < G2_ROUND_UP(n, (uint32_t) G2_PANEL); i++)
		b[i] = 0.0f;
	return b;
}

static UNUSED float *
random_gain(uint32_t n)
{
	float	   *g = random_array(n, 0.5f);

	for (uint32_t i = 0; i < n; i++)
		g[i] += 1.0f;
	return g;
}

static UNUSED void
make_model(void)
{
	weights.arch = (g2_arch) {.n_layer = LAYERS, .n_embd = EMBD, .n_head = HEADS,
		.n_kv_head = HEADS, .head_dim = HEAD_DIM, .n_ff = FF, .n_ctx = CTX, .n_vocab = VOCAB,
		.norm = G2_NORM_LAYER, .norm_bias = 1, .norm_epsilon = 1e-5f,
		.position = G2_POSITION_LEARNED, .activation = G2_ACT_GELU_NEW, .fused_qkv = 1,
		.attn_bias = 1, .mlp_bias = 1, .attn_scale = 1.0f / sqrtf(HEAD_DIM), .tied_head = 1};
	weights.format = G2_FORMAT_F32;
	weights.embed = weights.head = random_matrix(EMBD, VOCAB);
	weights.positions = random_array(CTX * EMBD, 0.3f);
	weights.layers = layers;
	weights.norm_gain = random_gain(EMBD);
	weights.norm_bias = random_array(EMBD, 0.5f);
	for (int i = 0; i < LAYERS; i++)
		layers[i] = (g2_layer) {random_gain(EMBD), random_array(EMBD, 0.5f),
			random_matrix(EMBD, 3 * HEADS * HEAD_DIM), random_bias(3 * HEADS * HEAD_DIM),
			random_matrix(HEADS * HEAD_DIM, EMBD), random_bias(EMBD),
			random_gain(EMBD), random_array(EMBD, 0.5f),
			random_matrix(EMBD, FF), random_bias(FF),
			random_matrix(FF, EMBD), random_bias(EMBD)};
	for (uint32_t i = 0; i < CTX; i++)
		text[i] = g2_philox4x32(2, i, 0, 2, 0).word[0] % VOCAB;
}

static UNUSED void
free_model(void)
{
	const g2_layer *l = layers;

	for (int i = 0; i < LAYERS; i++, l++)
	{
		const void *all[] = {l->norm1_gain, l->norm1_bias, l->qkv.data, l->qkv_bias,
			l->attn_out.data, l->attn_out_bias, l->norm2_gain, l->norm2_bias, l->ff_up.data,
			l->ff_up_bias, l->ff_down.data, l->ff_down_bias};

		for (size_t j = 0; j < G2_LENGTH(all); j++)
			free((void *) all[j]);
	}
	free((void *) weights.embed.data);
	free((void *) weights.positions);
	free((void *) weights.norm_gain);
	free((void *) weights.norm_bias);
}

/* ---- driving the back end ---- */

typedef struct device
{
	int			fd;
	g2_backend *backend;
	g2_backend_model *model;
} device;

/* before all: the back end that is tested */
static UNUSED void
choose_backend(void)
{
#if CUDA && !defined(G2_TEST_GPU)
	emu_set_memory(128 << 20);
#endif
	api = BACKEND;
}

static UNUSED g2_backend_model *
load_model(g2_backend *backend, const g2_weights *of)
{
	g2_backend_model *m = NULL;
	g2_error	err = {0};

	if (!api->model_load(backend, of, &m, &err) ||
		(api->model_fill && !api->model_fill(m, of, &err)))
		fail_msg("%s", err.message);
	return m;
}

static UNUSED device
open_device(uint32_t threads, const char *isa)
{
	device		d = {.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
	g2_backend_options options = {.threads = threads, .slots = SLOTS, .isa = isa};
	g2_error	err;

	assert_true(d.fd >= 0);
	assert_true(api->open(&options, d.fd, &d.backend, &err));
	d.model = load_model(d.backend, &weights);
	assert_true(reserve_blocks(api, d.model, BLOCKS, &err));
	return d;
}

static UNUSED void
close_device(device *d)
{
	api->model_unload(d->backend, d->model);
	api->close(d->backend);
	close(d->fd);
}

/* Waits for the oldest plan; returns whether it succeeded. */
static UNUSED bool
finish(device *d, g2_result *expected, g2_error *err)
{
	for (;;)
	{
		bool		failed;
		g2_result  *r = api->step_result(d->backend, &failed, err);
		struct pollfd p = {d->fd, POLLIN, 0};
		uint64_t	n;

		if (r)
		{
			assert_ptr_equal(r, expected);
			assert_true(r->busy_us >= 0);
			return !failed;
		}
		assert_int_equal(poll(&p, 1, 60000), 1);
		assert_int_equal(read(d->fd, &n, sizeof n), sizeof n);
	}
}

static UNUSED void
submit(device *d, const g2_plan *plan, g2_result *result)
{
	g2_error	err = {0};

	if (!api->step_submit(d->backend, plan, result, &err))
	{
		print_error("%s\n", err.message);
		fail();
	}
}

static UNUSED void
run(device *d, const g2_plan *plan, g2_result *result)
{
	g2_error	err;

	submit(d, plan, result);
	assert_true(finish(d, result, &err));
}

static UNUSED void
set_slot(device *d, uint32_t slot, float temperature, float penalty, uint32_t end,
		 const uint32_t *history, uint32_t n)
{
	g2_slot_state s = {.sampling = {.temperature = temperature, .top_k = 50, .top_p = 0.95f,
			.repetition_penalty = penalty, .seed = 11, .sequence = slot},
		.end_token = end, .history = history, .n_history = n};

	assert_true(api->slot_set(d->backend, slot, &s, NULL));
}

/*
 * Logits of every position of text[0..n), in plans of `chunk` rows, with `others` sequences of
 * other lengths in each plan before and behind.
 */
static UNUSED float *
all_logits(device *d, uint32_t n, uint32_t chunk, uint32_t others)
{
	float	   *logits = malloc((size_t) n * VOCAB * sizeof *logits);
	uint32_t	table[3][BLOCKS];

	for (uint32_t i = 0; i < BLOCKS; i++)
		for (uint32_t s = 0; s < 3; s++)
			table[s][i] = (i * 3 + s) % BLOCKS;
	assert_true((CTX + 31) / 32 * 3 <= BLOCKS);
	for (uint32_t at = 0; at < n; at += chunk)
	{
		uint32_t	rows = G2_MIN(chunk, n - at),
					before = others > 0 ? 5 : 0,
					behind = others > 1 ? 40 : 0,
					total = before + rows + behind,
				   *token = malloc(total * sizeof *token),
				   *position = malloc(total * sizeof *position);
		g2_output  *out = malloc(rows * sizeof *out);
		g2_plan_sequence seq[3];
		uint32_t	n_seq = 0;
		g2_plan		plan = {.model = d->model, .n_steps = 1, .n_rows = total, .token = token,
			.position = position, .sequences = seq, .n_outputs = rows, .outputs = out};
		g2_result	result = {.logits = logits + (size_t) at * VOCAB};

		for (uint32_t i = 0; i < total; i++)
		{
			bool		mine = i >= before && i < before + rows;

			position[i] = i < before ? i : mine ? at + i - before : i - before - rows;
			token[i] = mine ? text[position[i]] : (i * 7) % VOCAB;
		}
		if (before > 0)
			seq[n_seq++] = (g2_plan_sequence) {G2_TOKEN_NONE, 0, before, table[1]};
		seq[n_seq++] = (g2_plan_sequence) {G2_TOKEN_NONE, before, rows, table[0]};
		if (behind > 0)
			seq[n_seq++] = (g2_plan_sequence) {G2_TOKEN_NONE, before + rows, behind, table[2]};
		for (uint32_t i = 0; i < rows; i++)
			out[i] = (g2_output) {.row = before + i, .want = G2_WANT_LOGITS};
		plan.n_sequences = n_seq;
		run(d, &plan, &result);
		free(token);
		free(position);
		free(out);
	}
	return logits;
}

#endif							/* BACKEND_FIXTURE_H */
