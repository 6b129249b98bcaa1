/*
 * cpu_backend.c: the CPU behind backend.h.
 *
 * Threads: the scheduler's thread calls the functions of the table; the driver thread runs plans,
 * on the pool whose first member it is.  Signals are blocked in all of them.
 *
 * Life of a plan: submit checks it, gets the memory that it will need (so that running cannot
 * fail), takes the pending operations along and queues it; the driver applies the operations, runs
 * the plan, marks it as ended and writes the eventfd; step_result hands it out, oldest first.
 *
 * Order: kv_copy, kv_zero and slot_set are put on the list `pending`, and happen on the driver
 * thread just before the next plan: after all earlier plans, before it.
 *
 * Locking: whose a plan's entry is, plan_queue.h says.  slots, workspace memory and the KV cache's
 * contents are the driver's; limits, pending and capacity the scheduler's; models change only while
 * none of their plans is in flight.
 */
#include "backend.h"

#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>

#include "cpu_forward.h"
#include "cpu_operations.h"
#include "plan_queue.h"

#define MAX_THREADS 1024
#define MAX_SLOTS (1u << 20)
#define USUAL_SLOTS 256			/* more rows at once take longer, and yield no more */
#define MAX_NICE 19

typedef struct entry
{
	g2_plan		plan;			/* the struct is ours, its arrays are the caller's */
	g2_result  *result;
	g2_operations operations;
	void	   *memory;			/* a larger workspace to be used from here on, or NULL */
	bool		failed;
	g2_error	error;
} entry;

struct g2_backend
{
	const g2_kernels *kernels;
	char		bf16_arithmetic[32];
	g2_pool    *pool;
	uint32_t	threads;
	uint32_t	nice;
	g2_plan_queue queue;		/* its thread is the driver */
	entry		entries[G2_MAX_PLANS];

	/* the scheduler's */
	g2_plan_limits limits;
	g2_operations pending;
	size_t		capacity;		/* bytes of the newest workspace */

	/* the driver's */
	g2_slot    *slots;
	void	   *memory;
};

/* ---- the driver thread ---- */

static void
driver_start(void *backend)
{
	const g2_backend *b = backend;

	g2_pool_be_nice(b->nice);
}

static void
run_entry(void *backend, uint32_t i)
{
	g2_backend *b = backend;
	entry	   *e = &b->entries[i];
	g2_workspace ws;
	g2_pass		pass = {b->pool, b->kernels, e->plan.model, &ws};
	int64_t		start;
	uintptr_t	base;

	if (e->memory)
	{
		g2_free(b->memory);
		b->memory = e->memory;
		e->memory = NULL;
	}
	g2_operations_apply(&e->operations, b->slots);
	start = g2_now_us();		/* what the plan costs, not what was to be done before it */
	base = G2_ROUND_UP((uintptr_t) b->memory, (uintptr_t) G2_ALIGN);
	g2_workspace_layout(&ws, e->plan.model, &e->plan, b->threads, (void *) base);
	e->failed = !g2_plan_run(&pass, &e->plan, e->result, b->slots, &e->error);
	e->result->busy_us = g2_now_us() - start;
}

/* ---- open and close ---- */

static void
cpu_close(g2_backend *b)
{
	if (!b)
		return;
	g2_plan_queue_close(&b->queue);
	g2_pool_close(b->pool);
	g2_operations_free(&b->pending);
	for (uint32_t i = 0; b->slots && i < b->limits.n_slots; i++)
		g2_slot_free(&b->slots[i]);
	g2_free(b->slots);
	g2_free(b->limits.slots);
	g2_free(b->memory);
	g2_free(b);
}

static bool
cpu_open(const g2_backend_options *options, int event_fd, g2_backend **out, g2_error *err)
{
	g2_backend *b;

	if (options->threads < 1 || options->threads > MAX_THREADS || options->slots > MAX_SLOTS ||
		options->nice > MAX_NICE)
		return g2_fail(err, G2_E_INTERNAL,
					   "invalid CPU back end options: %u threads, %u slots, nice %u",
					   options->threads, options->slots, options->nice);
	b = g2_alloc(sizeof *b);
	if (!b)
		return g2_fail_memory(err, sizeof *b);
	b->queue = (g2_plan_queue) {
		.event_fd = event_fd, .start = driver_start, .run = run_entry, .arg = b,
	};
	b->threads = options->threads;
	b->nice = options->nice;
	b->limits.n_slots = options->slots ? options->slots : USUAL_SLOTS;
	b->limits.slots = g2_alloc_array(b->limits.n_slots, sizeof *b->limits.slots);
	b->slots = g2_alloc_array(b->limits.n_slots, sizeof *b->slots);
	if (!b->limits.slots || !b->slots)
	{
		g2_fail_memory(err, b->limits.n_slots * (unsigned long long) sizeof *b->slots);
		cpu_close(b);
		return false;
	}
	if (!g2_kernels_choose(options->isa, &b->kernels, err) ||
		!g2_pool_open(options->threads, options->nice, &b->pool, err) ||
		!g2_plan_queue_open(&b->queue, err))
	{
		cpu_close(b);
		return false;
	}
	snprintf(b->bf16_arithmetic, sizeof b->bf16_arithmetic, "bf16-1-%s", b->kernels->bf16_family);
	*out = b;
	return true;
}

static const char *
cpu_isa(const g2_backend *b)
{
	return b->kernels->name;
}

static const char *
cpu_arithmetic(const g2_backend *b, g2_format format)
{
	return format == G2_FORMAT_BF16 ? b->bf16_arithmetic : "exact-1";
}

static uint32_t
cpu_slots(const g2_backend *b, uint32_t device)
{
	return device == 0 ? b->limits.n_slots : 0;
}

/* ---- models and their cache ---- */

static bool
cpu_model_load(g2_backend *b, const g2_weights *weights, g2_backend_model **out, g2_error *err)
{
	g2_backend_model *m;

	if (!g2_cpu_model_check(weights, err))
		return false;
	m = g2_alloc(sizeof *m);
	if (!m)
		return g2_fail_memory(err, sizeof *m);
	g2_cpu_model_init(m, weights);
	m->backend = b;
	atomic_init(&m->holders, 1);
	*out = m;
	return true;
}

static void
cpu_model_unload(g2_backend *b, g2_backend_model *m)
{
	if (!m)
		return;
	/* What was still to be done to its cache is done with. */
	g2_operations_drop(&b->pending, m);
	g2_cpu_model_release(m);
}

static bool
cpu_kv_reserve(g2_backend_model *m, uint32_t n_blocks, g2_error *err)
{
	size_t		bytes;
	void	   *p;

	if (m->kv || n_blocks == 0)
		return g2_fail(err, G2_E_INTERNAL, "KV cache reserved twice, or for no block");
	if (!g2_mul_size(n_blocks, g2_cpu_block_bytes(m), &bytes))
		return g2_fail_memory(err, UINT64_MAX);
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			 0);
	if (p == MAP_FAILED)
		return g2_fail_memory(err, bytes);
	madvise(p, bytes, MADV_HUGEPAGE);	/* attention reads 16 KB pieces all over it */
	m->kv = p;
	m->kv_bytes = bytes;
	m->n_blocks = n_blocks;
	return true;
}

static bool
cpu_kv_copy(g2_backend_model *m, uint32_t to, uint32_t from, g2_error *err)
{
	if (to >= m->n_blocks || from >= m->n_blocks)
		return g2_fail(err, G2_E_INTERNAL, "KV block out of range: copy %u to %u of %u", from, to,
					   m->n_blocks);
	return g2_operation_copy(&m->backend->pending, m, to, from, err);
}

static bool
cpu_kv_zero(g2_backend_model *m, const uint32_t *blocks, uint32_t n, g2_error *err)
{
	for (uint32_t i = 0; i < n; i++)
		if (blocks[i] >= m->n_blocks)
			return g2_fail(err, G2_E_INTERNAL, "KV block out of range: zero %u of %u", blocks[i],
						   m->n_blocks);
	return n == 0 || g2_operation_zero(&m->backend->pending, m, blocks, n, err);
}

/* ---- slots ---- */

static bool
cpu_slot_set(g2_backend *b, uint32_t slot, const g2_slot_state *state, g2_error *err)
{
	if (!g2_slot_check_state(&b->limits, slot, state, err) ||
		!g2_operation_slot(&b->pending, slot, state, err))
		return false;
	b->limits.slots[slot].set = true;
	b->limits.slots[slot].has_token = state->n_history > 0;
	return true;
}

/* ---- plans ---- */

static bool
cpu_step_submit(g2_backend *b, const g2_plan *plan, g2_result *result, g2_error *err)
{
	g2_plan_bounds bounds = {0};
	g2_workspace ws;
	entry	   *e;
	void	   *memory = NULL;
	size_t		bytes;
	uint32_t	i;

	if (plan && plan->model)
		bounds = (g2_plan_bounds) {plan->model->weights->arch.n_ctx,
			plan->model->weights->arch.n_vocab, plan->model->n_blocks};
	if (!g2_plan_check(plan, &bounds, result, &b->limits, err) ||
		!g2_plan_queue_next(&b->queue, &i, err))
		return false;
	bytes = g2_workspace_layout(&ws, plan->model, plan, b->threads, NULL) + G2_ALIGN;
	if (bytes > b->capacity)
	{
		memory = g2_alloc(bytes);
		if (!memory)
			return g2_fail_memory(err, bytes);
		b->capacity = bytes;
	}
	g2_plan_note(plan, &b->limits);

	e = &b->entries[i];
	*e = (entry) {.plan = *plan, .result = result, .memory = memory};
	g2_operations_move(&b->pending, &e->operations);
	g2_plan_queue_put(&b->queue);
	return true;
}

static g2_result *
cpu_step_result(g2_backend *b, bool *failed, g2_error *err)
{
	const entry *e;
	uint32_t	i;

	*failed = false;
	if (!g2_plan_queue_ended(&b->queue, &i))
		return NULL;
	g2_plan_queue_take(&b->queue);
	e = &b->entries[i];
	*failed = e->failed;
	if (e->failed && err)
		*err = e->error;
	return e->result;
}

const g2_backend_api g2_cpu_backend = {
	.version = G2_BACKEND_VERSION,
	.name = "cpu",
	.open = cpu_open,
	.close = cpu_close,
	.isa = cpu_isa,
	.arithmetic = cpu_arithmetic,
	.slots = cpu_slots,
	.model_load = cpu_model_load,
	.model_unload = cpu_model_unload,
	.kv_block_bytes = g2_cpu_block_bytes,
	.kv_reserve = cpu_kv_reserve,
	.kv_copy = cpu_kv_copy,
	.kv_zero = cpu_kv_zero,
	.slot_set = cpu_slot_set,
	.step_submit = cpu_step_submit,
	.step_result = cpu_step_result,
};
