/*
 * vector_device.h: runs models on the CPU back end through the table of functions of backend.h,
 * as the scheduler would: a device with one model and its KV cache, logits and log probabilities
 * of a prompt, greedy tokens.
 */
#ifndef VECTOR_DEVICE_H
#define VECTOR_DEVICE_H

#include "vector_file.h"

#include <poll.h>
#include <sys/eventfd.h>

#include "backend.h"
#include "model.h"
#include "protocol.h"
#include "sampler.h"

#define N_SLOTS G2_MAX_SEQUENCES
#define N_TOP 5
#define TIMEOUT_MS 120000

/* ---- the device */

static const char *const isas[] = {"portable", "avx2", "avxvnni", "avx512", "avx512vnni"};

typedef struct device
{
	g2_backend *backend;
	int			fd;
	g2_backend_model *model;
	uint32_t	n_vocab;
	uint32_t	n_ctx;
	uint32_t	n_blocks;		/* per sequence */
	uint32_t	n_sequences;	/* that the cache has room for */
	uint32_t   *blocks;			/* [n_sequences][n_blocks] */
} device;

/* False: the machine does not have the instruction set. */
static UNUSED bool
device_open(device *d, const char *isa, uint32_t threads)
{
	const g2_backend_options options = {.threads = threads, .slots = N_SLOTS, .isa = isa};
	g2_error	err = {0};

	memset(d, 0, sizeof *d);
	d->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(d->fd >= 0);
	if (!g2_cpu_backend.open(&options, d->fd, &d->backend, &err))
	{
		close(d->fd);
		if (strcmp(isa, "portable") == 0 || strcmp(isa, "auto") == 0)
			fail_msg("%s: %s", isa, err.message);
#if defined(__x86_64__)
		if (strcmp(isa, "avx2") == 0 && __builtin_cpu_supports("avx2")
			&& __builtin_cpu_supports("fma"))
			fail_msg("%s, which this machine has: %s", isa, err.message);
#endif
		return false;
	}
	return true;
}

/* Sequences have their blocks interleaved and in descending order, so that a block table which
 * is not looked at gives wrong answers.  Whatever was in the blocks before stays there. */
static UNUSED void
device_load(device *d, const g2_pack *pack, uint32_t n_sequences)
{
	const g2_arch *arch = &pack->weights.arch;
	g2_error	err = {0};
	uint32_t	total;

	d->n_vocab = arch->n_vocab;
	d->n_ctx = arch->n_ctx;
	d->n_blocks = (arch->n_ctx + G2_BLOCK - 1) / G2_BLOCK;
	d->n_sequences = n_sequences;
	total = d->n_blocks * n_sequences;
	EXPECT_OK(g2_cpu_backend.model_load(d->backend, &pack->weights, &d->model, &err), err);
	EXPECT_OK(g2_cpu_backend.kv_reserve(d->model, total, &err), err);
	d->blocks = need_memory(total, sizeof *d->blocks);
	for (uint32_t s = 0; s < n_sequences; s++)
		for (uint32_t b = 0; b < d->n_blocks; b++)
			d->blocks[s * d->n_blocks + b] = total - 1 - (b * n_sequences + s);
}

static UNUSED void
device_unload(device *d)
{
	g2_cpu_backend.model_unload(d->backend, d->model);
	free(d->blocks);
	d->blocks = NULL;
}

static UNUSED void
device_close(device *d)
{
	g2_cpu_backend.close(d->backend);
	close(d->fd);
}

static UNUSED void
device_run(device *d, const g2_plan *plan, g2_result *result)
{
	struct pollfd p = {.fd = d->fd, .events = POLLIN};
	g2_error	err = {0};
	bool		failed = false;
	g2_result  *ended;

	EXPECT_OK(g2_cpu_backend.step_submit(d->backend, plan, result, &err), err);
	while (!(ended = g2_cpu_backend.step_result(d->backend, &failed, &err)))
	{
		uint64_t	n;
		int			ready = poll(&p, 1, TIMEOUT_MS);

		if (ready < 0 && errno == EINTR)
			continue;
		if (ready <= 0)
			fail_msg("no word from the device after %d s", TIMEOUT_MS / 1000);
		if (read(d->fd, &n, sizeof n) < 0)
			assert_int_equal(errno, EAGAIN);
	}
	if (failed)
		fail_msg("plan failed: %s (%s)", err.message, g2_sqlstate(err.code));
	assert_ptr_equal(ended, result);
}

static UNUSED void
slot_greedy(device *d, uint32_t slot, const uint32_t *history, uint32_t n_history)
{
	const g2_slot_state state = {
		.sampling = {.temperature = 0, .top_p = 1, .repetition_penalty = 1},
		.end_token = G2_TOKEN_NONE, .history = history, .n_history = n_history,
	};
	g2_error	err = {0};

	EXPECT_OK(g2_cpu_backend.slot_set(d->backend, slot, &state, &err), err);
}

/* ---- running a model */

/* What a forward pass over a prompt gave. */
typedef struct answer
{
	uint32_t	n_rows;
	float	   *logits;			/* [n_rows][n_vocab], in the order of the positions asked for */
	double	   *logprob;		/* [n_ids - 1] of each next token, NULL = not asked for */
} answer;

static UNUSED void
answer_free(answer *a)
{
	free(a->logits);
	free(a->logprob);
}

/* The best of the row's candidates, against the row itself. */
static UNUSED void
check_top(const float *row, uint32_t n_vocab, const uint32_t *top, const double *logprob)
{
	uint32_t	n = G2_MIN(N_TOP, n_vocab);

	for (uint32_t k = 0; k < n; k++)
	{
		assert_true(top[k] < n_vocab);
		if (k > 0)
			assert_true(row[top[k - 1]] > row[top[k]]
						|| (row[top[k - 1]] == row[top[k]] && top[k - 1] < top[k]));
		assert_true(fabs(logprob[k] - g2_logprob(row, n_vocab, top[k])) < 1e-9);
	}
	for (uint32_t i = 0; i < n_vocab; i++)
	{
		bool		is_top = false;

		for (uint32_t k = 0; k < n; k++)
			is_top |= top[k] == i;
		assert_true(is_top || row[i] <= row[top[n - 1]]);
	}
}

/*
 * Runs ids[0..n_ids) in plans of at most `chunk` rows and collects the logits of `positions`
 * (ascending) and, with want_loss, the log probability of each next token.
 */
static UNUSED void
forward(device *d, const uint32_t *ids, uint32_t n_ids, const uint32_t *positions,
		uint32_t n_positions, uint32_t chunk, bool want_loss, answer *a)
{
	uint32_t   *at = need_memory(n_ids, sizeof *at);
	g2_output  *outputs = need_memory(2 * (size_t) n_ids, sizeof *outputs);
	double	   *logprob = need_memory(2 * (size_t) n_ids, sizeof *logprob);
	uint32_t   *top = need_memory((size_t) n_ids * 2 * N_TOP, sizeof *top);
	double	   *top_logprob = need_memory((size_t) n_ids * 2 * N_TOP, sizeof *top_logprob);
	uint32_t	n_top = G2_MIN(N_TOP, d->n_vocab),
				next = 0;

	a->n_rows = n_positions;
	a->logits = need_memory((size_t) n_positions * d->n_vocab, sizeof(float));
	a->logprob = want_loss ? need_memory(n_ids, sizeof(double)) : NULL;
	for (uint32_t i = 0; i < n_ids; i++)
		at[i] = i;
	for (uint32_t first = 0; first < n_ids; first += chunk)
	{
		uint32_t	n = G2_MIN(chunk, n_ids - first),
					n_outputs = 0,
					n_logits;
		const g2_plan_sequence sequence = {
			.slot = G2_TOKEN_NONE, .first_row = 0, .n_rows = n, .blocks = d->blocks,
		};
		g2_plan		plan = {
			.model = d->model, .n_steps = 1, .n_rows = n, .token = ids + first,
			.position = at + first, .n_sequences = 1, .sequences = &sequence,
			.outputs = outputs, .n_top = n_top,
		};
		g2_result	result = {
			.logprob = logprob, .top_token = top, .top_logprob = top_logprob,
		};

		/* Rows with logits first, then those with a log probability: a row may have both. */
		for (; next < n_positions && positions[next] < first + n; next++)
			outputs[n_outputs++] = (g2_output) {
				.row = positions[next] - first, .slot = G2_TOKEN_NONE,
				.want = G2_WANT_LOGITS | G2_WANT_TOP,
			};
		n_logits = n_outputs;
		for (uint32_t i = 0; want_loss && i < n && first + i + 1 < n_ids; i++)
			outputs[n_outputs++] = (g2_output) {
				.row = i, .slot = G2_TOKEN_NONE, .want = G2_WANT_LOGPROB,
				.target = ids[first + i + 1],
			};
		plan.n_outputs = n_outputs;
		/* Room for every output as backend.h has it; memory that nobody touches costs nothing. */
		result.logits = need_memory((size_t) n_outputs * d->n_vocab, sizeof(float));
		device_run(d, &plan, &result);
		memcpy(a->logits + (size_t) (next - n_logits) * d->n_vocab, result.logits,
			   (size_t) n_logits * d->n_vocab * sizeof(float));
		for (uint32_t k = 0; k < n_logits; k++)
			check_top(result.logits + (size_t) k * d->n_vocab, d->n_vocab, top + k * n_top,
					  top_logprob + k * n_top);
		for (uint32_t k = n_logits; k < n_outputs; k++)
			a->logprob[first + outputs[k].row] = logprob[k];
		free(result.logits);
	}
	assert_int_equal(next, n_positions);
	free(at);
	free(outputs);
	free(logprob);
	free(top);
	free(top_logprob);
}

/*
 * n_new greedy tokens for each of n prompts of the same length (ids[n][n_ids]) at once, in visits
 * of at most `steps` steps.  The cache holds the first `cached` < n_ids positions already.  out is
 * [n][n_new].
 */
static UNUSED void
greedy(device *d, const uint32_t *ids, uint32_t n, uint32_t n_ids, uint32_t cached,
	   uint32_t n_new, uint32_t steps, uint32_t *out)
{
	uint32_t	own = n_ids - cached,	/* rows of a prompt */
				n_rows = n * own;
	uint32_t   *token = need_memory(n_rows, sizeof *token),
			   *position = need_memory(n_rows, sizeof *position),
			   *chosen = need_memory((size_t) n * G2_MAX_STEPS, sizeof *chosen);
	uint8_t    *ended = need_memory((size_t) n * G2_MAX_STEPS, 1);
	g2_plan_sequence *sequences = need_memory(n, sizeof *sequences);
	g2_output  *outputs = need_memory(n, sizeof *outputs);
	g2_result	result = {.token = chosen, .ended = ended};
	g2_plan		plan = {
		.model = d->model, .n_steps = 1, .n_rows = n_rows, .token = token,
		.position = position, .n_sequences = n, .sequences = sequences, .n_outputs = n,
		.outputs = outputs,
	};

	assert_true(n <= N_SLOTS && n <= d->n_sequences && n_ids + n_new <= d->n_ctx + 1);
	for (uint32_t i = 0; i < n_rows; i++)
	{
		position[i] = cached + i % own;
		token[i] = ids[(size_t) (i / own) * n_ids + position[i]];
	}
	for (uint32_t s = 0; s < n; s++)
	{
		uint32_t	slot = N_SLOTS - 1 - s;

		slot_greedy(d, slot, ids + (size_t) s * n_ids, n_ids);
		sequences[s] = (g2_plan_sequence) {
			.slot = slot, .first_row = s * own, .n_rows = own,
			.blocks = d->blocks + (size_t) s * d->n_blocks,
		};
		outputs[s] = (g2_output) {
			.row = (s + 1) * own - 1, .slot = slot, .want = G2_WANT_TOKEN,
		};
	}
	device_run(d, &plan, &result);
	for (uint32_t s = 0; s < n; s++)
		out[(size_t) s * n_new] = chosen[s];

	plan.n_rows = n;
	for (uint32_t s = 0; s < n; s++)
	{
		sequences[s].first_row = s;
		sequences[s].n_rows = 1;
		outputs[s].row = s;
	}
	for (uint32_t have = 1; have < n_new; have += plan.n_steps)
	{
		plan.n_steps = G2_MIN(steps, n_new - have);
		for (uint32_t s = 0; s < n; s++)
		{
			position[s] = n_ids + have - 1;
			/* One step: the ids themselves; more: let the slot remember. */
			token[s] = steps == 1 ? out[(size_t) s * n_new + have - 1] : G2_TOKEN_PREVIOUS;
		}
		device_run(d, &plan, &result);
		for (uint32_t k = 0; k < plan.n_steps; k++)
			for (uint32_t s = 0; s < n; s++)
			{
				assert_int_equal(ended[k * n + s], 0);
				out[(size_t) s * n_new + have + k] = chosen[k * n + s];
			}
	}
	free(token);
	free(position);
	free(chosen);
	free(ended);
	free(sequences);
	free(outputs);
}

#endif							/* VECTOR_DEVICE_H */
