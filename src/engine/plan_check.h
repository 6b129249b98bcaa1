/*
 * plan_check.h: the rules of backend.h for plans and models' graphs, as every back end checks them
 * on the scheduler's thread.
 */
#ifndef G2_PLAN_CHECK_H
#define G2_PLAN_CHECK_H

#include "backend.h"

#define G2_MAX_VOCAB (1u << 18)	/* sums of sampling weights stay below 2^63 */
#define G2_MAX_HEAD_DIM 1024u

/* What the scheduler's thread knows of a slot when it checks a plan. */
typedef struct g2_slot_check
{
	bool		set;
	bool		has_token;		/* G2_TOKEN_PREVIOUS has a meaning once the plans so far ran */
	uint32_t	stamp;			/* the last plan that samples with it */
} g2_slot_check;

typedef struct g2_plan_limits
{
	g2_slot_check *slots;
	uint32_t	n_slots;
	uint32_t	stamp;			/* counts plans */
} g2_plan_limits;

/* What a plan may ask of its model. */
typedef struct g2_plan_bounds
{
	uint32_t	n_ctx;
	uint32_t	n_vocab;
	uint32_t	n_blocks;		/* 0: it has no KV cache */
} g2_plan_bounds;

/* Output i goes on with the draft of the output before it. */
static inline bool
g2_plan_follows(const g2_plan *plan, uint32_t i)
{
	const g2_output *o = &plan->outputs[i];

	return i > 0 && (o->want & o[-1].want & G2_WANT_TOKEN) && o->slot == o[-1].slot &&
		o->row > 0 && o->row - 1 == o[-1].row &&
		plan->position[o->row] == plan->position[o->row - 1] + 1;
}

/* XX000 for a plan that breaks a rule of backend.h; bounds: of plan->model, where it has one. */
extern bool g2_plan_check(const g2_plan *plan, const g2_plan_bounds *bounds,
						  const g2_result *result, g2_plan_limits *limits, g2_error *err);

/* After a plan was accepted: which slots will have sampled. */
extern void g2_plan_note(const g2_plan *plan, g2_plan_limits *limits);

/* XX000 for a slot that is out of range or a state that is not one. */
extern bool g2_slot_check_state(const g2_plan_limits *limits, uint32_t slot,
								const g2_slot_state *state, g2_error *err);

/* 0A000, with the field named, for a graph that no back end can run; XX000 for weights that do not
 * fit their graph.  device: its name in the message ("CPU"). */
extern bool g2_graph_check(const g2_weights *weights, const char *device, g2_error *err);

/* What g2_graph_check reports of a graph that one device cannot run; returns false. */
extern bool g2_graph_unsupported(g2_error *err, const char *device, const char *field,
								 const char *value);

#endif							/* G2_PLAN_CHECK_H */
