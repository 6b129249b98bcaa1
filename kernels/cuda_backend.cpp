/*
 * cuda_backend.cpp: a CUDA device behind backend.h.
 *
 * Life of a plan: submit checks it, writes it into pinned memory and puts all its work on the
 * stream; the waiter sleeps until the oldest plan's last event, marks it as ended and writes the
 * eventfd; step_result copies results to the caller.  Locking: cuda_state.h.
 *
 * A device that fails once is lost: plans in flight fail with 58000, as does everything after them.
 */
#include "cuda_backend.h"

#include <signal.h>
#include <stdio.h>

#include "cuda_state.h"

#define MAX_SLOTS (1u << 16)
#define DEFAULT_SHARE 0.8		/* of the memory that is free when the device is opened */

/* ---- the waiter ---- */

static void
waiter_start(void *backend)
{
	g2_backend *b = static_cast<g2_backend *>(backend);

	b->waiter_usable = rt_use(b->index, &b->waiter_error);
}

static void
wait_for_entry(void *backend, uint32_t i)
{
	g2_backend *b = static_cast<g2_backend *>(backend);
	g2d_entry  *e = &b->entries[i];

	if (!b->waiter_usable)
		e->error = b->waiter_error;
	e->failed = !b->waiter_usable || !rt_event_wait(e->end, &e->error);
}

/* ---- open and close ---- */

static void
cuda_close(g2_backend *b)
{
	if (!b)
		return;
	g2_plan_queue_close(&b->queue);
	rt_stream_close(b->stream);
	for (uint32_t i = 0; i < G2_MAX_PLANS; i++)
	{
		g2d_entry  *e = &b->entries[i];

		rt_event_close(e->begin);
		rt_event_close(e->end);
		rt_host_free(e->in);
		rt_host_free(e->out);
		g2_free(e->output_of);
	}
	rt_free(b->memory);
	g2_arena_close(&b->arena);
	g2_free(b->limits.slots);
	g2_buf_free(&b->pending);
	g2_free(b);
}

/* Sampler state, 200 KB for each slot. */
static bool
open_slots(g2_backend *b, uint32_t n, g2_error *err)
{
	const size_t bits = (size_t) n * G2D_SEEN_WORDS * sizeof(uint64_t);
	size_t		bytes;

	b->limits.n_slots = n;
	b->limits.slots = static_cast<g2_slot_check *>(g2_alloc_array(n, sizeof *b->limits.slots));
	if (!b->limits.slots)
		return g2_fail_memory(err, n * sizeof *b->limits.slots);
	bytes = 2 * bits + n *
		(sizeof(g2d_slot) + G2_MOST_BIASES * sizeof(g2_bias) + G2D_MOST_CTX * sizeof(g2_count));
	/* At the low end, where no cache's block can stand (cuda_cache.cpp). */
	if (g2_arena_take(&b->arena, bytes) == G2_ARENA_NONE)
		return g2_arena_fail(&b->arena, bytes, "the sampler", err);
	b->slots.seen = static_cast<uint64_t *>(b->memory);
	b->slots.banned = b->slots.seen + bits / sizeof(uint64_t);
	b->slots.slots = reinterpret_cast<g2d_slot *>(b->slots.banned + bits / sizeof(uint64_t));
	b->slots.biases = reinterpret_cast<g2_bias *>(b->slots.slots + n);
	b->slots.counts = reinterpret_cast<g2_count *>(b->slots.biases + (size_t) n * G2_MOST_BIASES);
	return rt_zero(b->stream, b->memory, bytes, err);
}

/* One allocation for all that models, caches and slots will need. */
static bool
open_memory(g2_backend *b, const g2_backend_options *options, g2_error *err)
{
	const uint64_t bytes = options->device_memory > 0 ? options->device_memory :
		(uint64_t) ((double) b->info.free_bytes * DEFAULT_SHARE);

	if (!rt_alloc(bytes, &b->memory, err))
	{
		g2_fail_detail(err, "%.1f MB of the CUDA device's memory are free.",
					   (double) b->info.free_bytes / 1e6);
		return g2_fail_hint(err, "Lower gpt2.device_memory.");
	}
	return g2_arena_open(&b->arena, bytes, err) &&
		open_slots(b, options->slots ? options->slots : g2d_suited_slots(bytes), err);
}

static bool
open_parts(g2_backend *b, const g2_backend_options *options, g2_error *err)
{
	if (!rt_open(b->index, &b->info, err) || !rt_stream_open(&b->stream, err) ||
		!open_memory(b, options, err))
		return false;
	for (uint32_t i = 0; i < G2_MAX_PLANS; i++)
		if (!rt_event_open(&b->entries[i].begin, err) || !rt_event_open(&b->entries[i].end, err))
			return false;
	return g2_plan_queue_open(&b->queue, err);
}

/* Threads that the runtime starts here take no signals either. */
static bool
cuda_open(const g2_backend_options *options, int event_fd, g2_backend **out, g2_error *err)
{
	g2_backend *b;
	sigset_t	all,
				old;
	bool		ok;

	if (options->slots > MAX_SLOTS)
		return g2_fail(err, G2_E_INTERNAL, "invalid CUDA back end options: %u slots",
					   options->slots);
	b = static_cast<g2_backend *>(g2_alloc(sizeof *b));
	if (!b)
		return g2_fail_memory(err, sizeof *b);
	b->index = options->device;
	b->queue.event_fd = event_fd;
	b->queue.start = waiter_start;
	b->queue.run = wait_for_entry;
	b->queue.arg = b;
	b->shrink = options->shrink;
	b->shrink_arg = options->shrink_arg;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ok = open_parts(b, options, err);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!ok)
	{
		cuda_close(b);
		return false;
	}
	/* f32 is the CPU's to the bit; bf16 and q8 have attention of their own, and bf16 products that are
	 * the instruction's of the device's generation. */
	snprintf(b->arithmetic[G2_FORMAT_F32], sizeof b->arithmetic[0], "exact-1");
	snprintf(b->arithmetic[G2_FORMAT_BF16], sizeof b->arithmetic[0], "bf16-1-%s", b->info.isa);
	snprintf(b->arithmetic[G2_FORMAT_Q8], sizeof b->arithmetic[0], "q8-1-%s", b->info.isa);
	snprintf(b->arithmetic[G2_FORMAT_Q4], sizeof b->arithmetic[0], "none");
	*out = b;
	return true;
}

static const char *
cuda_isa(const g2_backend *b)
{
	return b->info.isa;
}

static const char *
cuda_arithmetic(const g2_backend *b, g2_format format)
{
	return b->arithmetic[format];
}

static void
cuda_describe(const g2_backend *b, g2_backend_device *d)
{
	d->name = b->info.name;
	d->driver = b->info.driver;
	d->free_bytes = b->arena.n_free * b->arena.slab_bytes;
}

static uint32_t
cuda_slots(const g2_backend *b, uint32_t device)
{
	return device == 0 ? b->limits.n_slots : 0;
}

/* ---- slots ---- */

static bool
cuda_slot_set(g2_backend *b, uint32_t slot, const g2_slot_state *state, g2_error *err)
{
	if (!g2_slot_check_state(&b->limits, slot, state, err) || !g2d_pend_slot(b, slot, state, err))
		return false;
	b->limits.slots[slot].set = true;
	b->limits.slots[slot].has_token = state->n_history > 0;
	return true;
}

/* ---- plans ---- */

static bool
cuda_step_submit(g2_backend *b, const g2_plan *plan, g2_result *result, g2_error *err)
{
	g2_plan_bounds bounds = {};
	g2d_entry  *e;
	uint32_t	i;

	if (plan && plan->model)
		bounds = {plan->model->arch.n_ctx, plan->model->arch.n_vocab, plan->model->n_blocks};
	if (!g2_plan_check(plan, &bounds, result, &b->limits, err) ||
		!g2_plan_queue_next(&b->queue, &i, err))
		return false;
	e = &b->entries[i];
	e->plan = *plan;
	e->result = result;
	e->failed = false;
	if (!g2d_plan_launch(b, e, err))
		return false;
	g2_plan_note(plan, &b->limits);
	g2_plan_queue_put(&b->queue);
	return true;
}

static g2_result *
cuda_step_result(g2_backend *b, bool *failed, g2_error *err)
{
	g2d_entry  *e;
	g2_error	own;
	uint32_t	i;

	*failed = false;
	if (!g2_plan_queue_ended(&b->queue, &i))
		return NULL;
	e = &b->entries[i];
	own = e->error;
	*failed = e->failed || !g2d_plan_take(e, &own);
	if (*failed && err)
		*err = own;
	e->result->busy_us = e->failed ? 0 : rt_event_between(e->begin, e->end);
	g2_plan_queue_take(&b->queue);
	return e->result;
}

static const g2_backend_api api = {
	G2_BACKEND_VERSION, "cuda", cuda_open, cuda_close, cuda_isa, cuda_arithmetic, cuda_describe,
	cuda_slots, g2d_model_load, g2d_model_fill, g2d_model_unload, g2d_block_bytes, g2d_kv_reserve,
	g2d_kv_slab, g2d_kv_spare, g2d_kv_map, g2d_kv_unmap, g2d_kv_copy, g2d_kv_zero, cuda_slot_set,
	cuda_step_submit, cuda_step_result, NULL, NULL, NULL, NULL,
};

const g2_backend_api *
g2_cuda_backend(void)
{
	return &api;
}
