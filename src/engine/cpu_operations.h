/*
 * cpu_operations.h: what the scheduler wants done between two plans: to blocks of a cache, to a
 * sampler slot.  Listed on the scheduler's thread, which owns the list; applied on the driver
 * thread, to which the list moves with the next plan.
 *
 * Private to the CPU back end.
 */
#ifndef G2_CPU_OPERATIONS_H
#define G2_CPU_OPERATIONS_H

#include "cpu_plan.h"

typedef struct g2_operation g2_operation;

/* In order; zero-initialise. */
typedef struct g2_operations
{
	g2_operation *first;
	g2_operation *last;
} g2_operations;

/* Each takes hold of the model that it names; blocks and slots have been checked. */
extern bool g2_operation_copy(g2_operations *list, g2_backend_model *model, uint32_t to,
							  uint32_t from, g2_error *err);
extern bool g2_operation_zero(g2_operations *list, g2_backend_model *model,
							  const uint32_t *blocks, uint32_t n, g2_error *err);
extern bool g2_operation_slot(g2_operations *list, uint32_t slot, const g2_slot_state *state,
							  g2_error *err);

/* All of `from`, which is empty then, to `to`. */
extern void g2_operations_move(g2_operations *from, g2_operations *to);

/* Carries out and frees all. */
extern void g2_operations_apply(g2_operations *list, g2_slot *slots);

extern void g2_operations_free(g2_operations *list);

/* Frees those on the cache of a model that goes. */
extern void g2_operations_drop(g2_operations *list, const g2_backend_model *model);

#endif							/* G2_CPU_OPERATIONS_H */
