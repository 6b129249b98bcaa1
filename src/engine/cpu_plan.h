/*
 * cpu_plan.h: plans on the CPU: their rules, the sampler slots, and how a plan is run.
 *
 * Private to the CPU back end.
 */
#ifndef G2_CPU_PLAN_H
#define G2_CPU_PLAN_H

#include "cpu_forward.h"
#include "sampler.h"

#define G2_SEEN_WORDS (G2_MAX_VOCAB / 64)

/* Sampler state of a sequence; driver thread only. */
typedef struct g2_slot
{
	g2_sampling sampling;
	uint32_t	next_index;		/* of the next new token */
	uint32_t	end_token;
	uint32_t	last_token;		/* sampled last, or the end of the history */
	bool		ended;
	bool		refused;		/* of the draft in this plan, what follows is not wanted */
	uint64_t   *seen;			/* [G2_SEEN_WORDS] bits of ids; NULL without repetition penalty */
	g2_count   *counts;			/* [most_counts] of the answer; NULL without their penalties */
	uint32_t	n_counts;
	uint32_t	most_counts;
} g2_slot;

/* The answer holds one more of this token.  What is more than was announced is not counted. */
static inline void
g2_slot_count(g2_slot *slot, uint32_t token)
{
	uint32_t	i = 0;

	while (i < slot->n_counts && slot->counts[i].token != token)
		i++;
	if (i == slot->most_counts)
		return;
	if (i == slot->n_counts)
		slot->counts[slot->n_counts++] = (g2_count) {token, 0};
	slot->counts[i].n++;
}

static inline void
g2_slot_free(g2_slot *slot)
{
	g2_free(slot->seen);
	g2_free(slot->counts);
	slot->seen = NULL;
	slot->counts = NULL;
}

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

/* Output i goes on with the draft of the output before it. */
static inline bool
g2_plan_follows(const g2_plan *plan, uint32_t i)
{
	const g2_output *o = &plan->outputs[i];

	return i > 0 && (o->want & o[-1].want & G2_WANT_TOKEN) && o->slot == o[-1].slot &&
		o->row > 0 && o->row - 1 == o[-1].row &&
		plan->position[o->row] == plan->position[o->row - 1] + 1;
}

/* XX000 for a plan that breaks a rule of backend.h. */
extern bool g2_plan_check(const g2_plan *plan, const g2_result *result, g2_plan_limits *limits,
						  g2_error *err);

/* After a plan was accepted: which slots will have sampled. */
extern void g2_plan_note(const g2_plan *plan, g2_plan_limits *limits);

/* Runs all steps; ws is laid out for this plan. */
extern bool g2_plan_run(const g2_pass *pass, const g2_plan *plan, g2_result *result,
						g2_slot *slots, g2_error *err);

#endif							/* G2_CPU_PLAN_H */
