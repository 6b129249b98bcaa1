/*
 * cpu_operations.c: operations between plans, from being listed to being done.
 */
#include "cpu_operations.h"

#include <sys/mman.h>
#include <unistd.h>

typedef enum operation_kind
{
	OP_COPY,
	OP_ZERO,
	OP_SLOT
} operation_kind;

struct g2_operation
{
	g2_operation *next;
	operation_kind kind;
	g2_backend_model *model;	/* COPY, ZERO; held */
	uint32_t	to;				/* COPY: block; SLOT: slot */
	uint32_t	from;			/* COPY */
	g2_slot		slot;			/* SLOT; owns what it points to until applied */
	uint32_t	n;
	uint32_t	blocks[];		/* ZERO: [n] */
};

/* ---- lists ---- */

static g2_operation *
new_operation(operation_kind kind, g2_backend_model *model, uint32_t n, g2_error *err)
{
	size_t		bytes = sizeof(g2_operation) + n * sizeof(uint32_t);
	g2_operation *op = g2_alloc(bytes);

	if (!op)
	{
		g2_fail_memory(err, bytes);
		return NULL;
	}
	op->kind = kind;
	op->model = model;
	if (model)
		atomic_fetch_add(&model->holders, 1);
	op->n = n;
	return op;
}

static void
free_operation(g2_operation *op)
{
	if (op->kind == OP_SLOT)
		g2_slot_free(&op->slot);
	if (op->model)
		g2_cpu_model_release(op->model);
	g2_free(op);
}

static void
append(g2_operations *list, g2_operation *op)
{
	if (list->last)
		list->last->next = op;
	else
		list->first = op;
	list->last = op;
}

void
g2_operations_move(g2_operations *from, g2_operations *to)
{
	*to = *from;
	*from = (g2_operations) {NULL, NULL};
}

void
g2_operations_free(g2_operations *list)
{
	for (g2_operation *op = list->first, *next; op; op = next)
	{
		next = op->next;
		free_operation(op);
	}
	*list = (g2_operations) {NULL, NULL};
}

void
g2_operations_drop(g2_operations *list, const g2_backend_model *model)
{
	g2_operations kept = {NULL, NULL};

	for (g2_operation *op = list->first, *next; op; op = next)
	{
		next = op->next;
		op->next = NULL;
		if (op->model == model)
			free_operation(op);
		else
			append(&kept, op);
	}
	*list = kept;
}

/* ---- the operations ---- */

bool
g2_operation_copy(g2_operations *list, g2_backend_model *model, uint32_t to, uint32_t from,
				  g2_error *err)
{
	g2_operation *op = new_operation(OP_COPY, model, 0, err);

	if (!op)
		return false;
	op->to = to;
	op->from = from;
	append(list, op);
	return true;
}

bool
g2_operation_zero(g2_operations *list, g2_backend_model *model, const uint32_t *blocks,
				  uint32_t n, g2_error *err)
{
	g2_operation *op = new_operation(OP_ZERO, model, n, err);

	if (!op)
		return false;
	memcpy(op->blocks, blocks, n * sizeof *blocks);
	append(list, op);
	return true;
}

/* The ids of the history, where a penalty wants them. */
static bool
make_seen(g2_slot *slot, const g2_slot_state *state, g2_error *err)
{
	if (state->sampling.repetition_penalty == 1.0f)
		return true;
	slot->seen = g2_alloc_array(G2_SEEN_WORDS, sizeof *slot->seen);
	if (!slot->seen)
		return g2_fail_memory(err, G2_SEEN_WORDS * sizeof(uint64_t));
	for (uint32_t i = 0; i < state->n_history; i++)
		slot->seen[state->history[i] / 64] |= (uint64_t) 1 << state->history[i] % 64;
	return true;
}

/* How often each token is in the answer so far, with room for those to come. */
static bool
make_counts(g2_slot *slot, const g2_slot_state *state, g2_error *err)
{
	uint32_t	most = g2_counts_of(state);

	if (most == 0)
		return true;
	slot->counts = g2_alloc_array(most, sizeof *slot->counts);
	if (!slot->counts)
		return g2_fail_memory(err, most * sizeof(g2_count));
	slot->most_counts = most;
	for (uint32_t i = state->n_history - state->next_index; i < state->n_history; i++)
		g2_count_token(slot->counts, &slot->n_counts, most, state->history[i]);
	return true;
}

bool
g2_operation_slot(g2_operations *list, uint32_t slot, const g2_slot_state *state, g2_error *err)
{
	g2_operation *op = new_operation(OP_SLOT, NULL, 0, err);

	if (!op)
		return false;
	op->to = slot;
	op->slot = (g2_slot) {
		.sampling = state->sampling,
		.next_index = state->next_index,
		.end_token = state->end_token,
		.last_token = state->n_history > 0 ? state->history[state->n_history - 1] : G2_TOKEN_NONE,
	};
	if (!make_seen(&op->slot, state, err) || !make_counts(&op->slot, state, err))
	{
		free_operation(op);
		return false;
	}
	append(list, op);
	return true;
}

/* ---- on the driver thread ---- */

/* Zeroes a block and gives its memory back: whole pages read as zeros when they are used again. */
static void
zero_block(void *block, size_t bytes)
{
	const uintptr_t page = (uintptr_t) sysconf(_SC_PAGESIZE),
				begin = (uintptr_t) block,
				end = begin + bytes,
				first = G2_ROUND_UP(begin, page),
				last = end / page * page;

	if (first >= last || madvise((void *) first, last - first, MADV_DONTNEED) != 0)
	{
		memset(block, 0, bytes);
		return;
	}
	memset(block, 0, first - begin);
	memset((void *) last, 0, end - last);
}

static void
apply(g2_operation *op, g2_slot *slots)
{
	const g2_backend_model *m = op->model;

	switch (op->kind)
	{
		case OP_COPY:
			if (op->to != op->from)
				memcpy(g2_cpu_cache(m, op->to, 0, 0), g2_cpu_cache(m, op->from, 0, 0),
					   g2_cpu_block_bytes(m));
			break;
		case OP_ZERO:
			for (uint32_t i = 0; i < op->n; i++)
				zero_block(g2_cpu_cache(m, op->blocks[i], 0, 0), g2_cpu_block_bytes(m));
			break;
		case OP_SLOT:
			g2_slot_free(&slots[op->to]);
			slots[op->to] = op->slot;
			op->slot.seen = NULL;
			op->slot.counts = NULL;
			break;
	}
}

void
g2_operations_apply(g2_operations *list, g2_slot *slots)
{
	for (g2_operation *op = list->first; op; op = op->next)
		apply(op, slots);
	g2_operations_free(list);
}
