/*
 * accuracy.c: one back end holds the model in all formats; a text goes through all of them in
 * plans of up to ROWS rows, so that no more than two formats' logits of a plan are in memory.
 *
 * For use by hand and by tests: one thread, which waits for the device.
 */
#include "accuracy.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "kernels.h"
#include "machine.h"

#define ROWS 64u

struct g2_accuracy
{
	g2_backend *backend;
	int			event_fd;
	const g2_kernels *kernels;
	uint32_t	n;				/* formats */
	g2_backend_model *model[G2_FORMATS];
	g2_accuracy_sums sums[G2_FORMATS];
	uint32_t	n_ctx;
	uint32_t	n_vocab;
	uint32_t   *blocks;			/* 0, 1, ...: of every model's own cache */
	float	   *reference;		/* [ROWS][n_vocab] */
	float	   *logits;			/* [ROWS][n_vocab] */
};

static bool
open_models(g2_accuracy *a, g2_pack *const *packs, g2_error *err)
{
	uint32_t	n_blocks = (a->n_ctx + G2_BLOCK - 1) / G2_BLOCK;

	a->blocks = g2_alloc_array(n_blocks, sizeof *a->blocks);
	a->reference = g2_alloc_array((size_t) ROWS * a->n_vocab, sizeof *a->reference);
	a->logits = g2_alloc_array((size_t) ROWS * a->n_vocab, sizeof *a->logits);
	if (!a->blocks || !a->reference || !a->logits)
		return g2_fail_memory(err, (size_t) ROWS * a->n_vocab * sizeof *a->logits);
	for (uint32_t b = 0; b < n_blocks; b++)
		a->blocks[b] = b;
	for (uint32_t i = 0; i < a->n; i++)
		if (!g2_cpu_backend.model_load(a->backend, &packs[i]->weights, &a->model[i], err) ||
			!g2_cpu_backend.kv_reserve(a->model[i], n_blocks, err))
			return false;
	return true;
}

bool
g2_accuracy_open(g2_pack *const *packs, uint32_t n, uint32_t threads, const char *isa,
				 g2_accuracy **out, g2_error *err)
{
	const g2_backend_options options = {
		.threads = threads ? threads : g2_machine_cores(), .slots = 1, .isa = isa,
	};
	g2_accuracy *a;

	if (n == 0 || n > G2_FORMATS)
		return g2_fail(err, G2_E_INTERNAL, "between 1 and %d packs can be compared", G2_FORMATS);
	a = g2_alloc(sizeof *a);
	if (!a)
		return g2_fail_memory(err, sizeof *a);
	a->n = n;
	a->n_ctx = packs[0]->weights.arch.n_ctx;
	a->n_vocab = packs[0]->weights.arch.n_vocab;
	a->kernels = g2_kernels_best();
	a->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (a->event_fd < 0 ? g2_fail_errno(err, errno, "create", "an eventfd")
		: g2_cpu_backend.open(&options, a->event_fd, &a->backend, err) &&
		open_models(a, packs, err))
	{
		*out = a;
		return true;
	}
	g2_accuracy_close(a);
	return false;
}

void
g2_accuracy_close(g2_accuracy *a)
{
	if (!a)
		return;
	for (uint32_t i = 0; i < a->n; i++)
		if (a->model[i])
			g2_cpu_backend.model_unload(a->backend, a->model[i]);
	if (a->backend)
		g2_cpu_backend.close(a->backend);
	if (a->event_fd >= 0)
		close(a->event_fd);
	g2_free(a->blocks);
	g2_free(a->reference);
	g2_free(a->logits);
	g2_free(a);
}

/* ---- the device */

static bool
run_plan(g2_accuracy *a, const g2_plan *plan, g2_result *result, g2_error *err)
{
	struct pollfd ready = {.fd = a->event_fd, .events = POLLIN};
	bool		failed = false;
	uint64_t	count;

	if (!g2_cpu_backend.step_submit(a->backend, plan, result, err))
		return false;
	while (!g2_cpu_backend.step_result(a->backend, &failed, err))
	{
		poll(&ready, 1, -1);
		if (read(a->event_fd, &count, sizeof count) < 0 && errno != EAGAIN && errno != EINTR)
			return g2_fail_errno(err, errno, "read", "an eventfd");
	}
	return !failed;
}

/* Rows first .. first + n of a text whose earlier rows are in the cache; the logits of the last
 * n_logits of them. */
static bool
read_rows(g2_accuracy *a, uint32_t pack, const uint32_t *ids, uint32_t first, uint32_t n,
		  uint32_t n_logits, float *logits, g2_error *err)
{
	uint32_t	position[ROWS];
	g2_output	outputs[ROWS];
	const g2_plan_sequence sequence = {
		.slot = G2_TOKEN_NONE, .n_rows = n, .blocks = a->blocks,
	};
	const g2_plan plan = {
		.model = a->model[pack], .n_steps = 1, .n_rows = n, .token = ids + first,
		.position = position, .n_sequences = 1, .sequences = &sequence,
		.n_outputs = n_logits, .outputs = outputs,
	};
	g2_result	result = {.logits = logits};

	for (uint32_t i = 0; i < n; i++)
		position[i] = first + i;
	for (uint32_t i = 0; i < n_logits; i++)
		outputs[i] = (g2_output) {
			.row = n - n_logits + i, .slot = G2_TOKEN_NONE, .want = G2_WANT_LOGITS,
		};
	return run_plan(a, &plan, &result, err);
}

static bool
check_text(const g2_accuracy *a, const uint32_t *ids, uint32_t n, g2_error *err)
{
	if (n == 0 || n > a->n_ctx)
		return g2_fail(err, G2_E_TOO_LONG, "a text must have between 1 and %u tokens", a->n_ctx);
	for (uint32_t i = 0; i < n; i++)
		if (ids[i] >= a->n_vocab)
			return g2_fail(err, G2_E_PARAM, "token id %u is not below %u", ids[i], a->n_vocab);
	return true;
}

/* ---- sums */

uint32_t
g2_accuracy_best(const float *logits, uint32_t n)
{
	uint32_t	best = 0;

	for (uint32_t i = 1; i < n; i++)
		if (logits[i] > logits[best])
			best = i;
	return best;
}

/* Whether no other logit is within the gap of the best. */
static bool
is_clear(const float *logits, uint32_t n, uint32_t best)
{
	for (uint32_t i = 0; i < n; i++)
		if (i != best && logits[best] - logits[i] <= G2_CLEAR_GAP)
			return false;
	return true;
}

static double
log_sum(const g2_accuracy *a, const float *logits, uint32_t best)
{
	return logits[best] + log(a->kernels->sum_exp(logits, a->n_vocab, logits[best]));
}

/* One row of a format against that of the first one; target: the token that follows. */
static void
add_row(const g2_accuracy *a, g2_accuracy_sums *sums, const float *reference, const float *logits,
		uint32_t target)
{
	uint32_t	n = a->n_vocab,
				best = g2_accuracy_best(logits, n),
				want = g2_accuracy_best(reference, n);
	double		lp = log_sum(a, reference, want),
				lq = log_sum(a, logits, best),
				divergence = 0;

	for (uint32_t i = 0; i < n; i++)
	{
		double		p = reference[i] - lp;

		divergence += exp(p) * (p - (logits[i] - lq));
	}
	sums->tokens++;
	sums->loss += lq - logits[target];
	sums->divergence += divergence;
	if (is_clear(reference, n, want))
	{
		sums->clear++;
		sums->same += best == want;
	}
}

bool
g2_accuracy_add(g2_accuracy *a, const uint32_t *ids, uint32_t n, g2_error *err)
{
	if (!check_text(a, ids, n, err))
		return false;
	/* no token follows the last one */
	for (uint32_t first = 0; first + 1 < n; first += ROWS)
	{
		uint32_t	rows = G2_MIN(n - 1 - first, ROWS);

		for (uint32_t i = 0; i < a->n; i++)
		{
			float	   *logits = i == 0 ? a->reference : a->logits;

			if (!read_rows(a, i, ids, first, rows, rows, logits, err))
				return false;
			for (uint32_t r = 0; r < rows; r++)
				add_row(a, &a->sums[i], a->reference + (size_t) r * a->n_vocab,
						logits + (size_t) r * a->n_vocab, ids[first + r + 1]);
		}
	}
	return true;
}

const g2_accuracy_sums *
g2_accuracy_of(const g2_accuracy *a, uint32_t pack)
{
	return &a->sums[pack];
}

bool
g2_accuracy_logits(g2_accuracy *a, uint32_t pack, const uint32_t *ids, uint32_t n, float *logits,
				   g2_error *err)
{
	if (!check_text(a, ids, n, err))
		return false;
	for (uint32_t first = 0; first < n; first += ROWS)
	{
		uint32_t	rows = G2_MIN(n - first, ROWS);

		if (!read_rows(a, pack, ids, first, rows, first + rows == n, logits, err))
			return false;
	}
	return true;
}
