/*
 * cpu_plan.h: plans on the CPU: the sampler slots, and how a plan is run.
 *
 * Private to the CPU back end.
 */
#ifndef G2_CPU_PLAN_H
#define G2_CPU_PLAN_H

#include "cpu_forward.h"
#include "plan_check.h"
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

static inline void
g2_slot_free(g2_slot *slot)
{
	g2_free(slot->seen);
	g2_free(slot->counts);
	slot->seen = NULL;
	slot->counts = NULL;
}

/* Runs all steps; ws is laid out for this plan. */
extern bool g2_plan_run(const g2_pass *pass, const g2_plan *plan, g2_result *result,
						g2_slot *slots, g2_error *err);

#endif							/* G2_CPU_PLAN_H */
