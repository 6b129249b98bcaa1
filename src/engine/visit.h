/*
 * visit.h: one visit of the device: a plan that is filled group by group, and what its result
 * does to the groups.  The scheduler decides whose turn it is; nothing here knows of queues.
 *
 * The arrays stay untouched from step_submit until the result is taken.  Block tables that the
 * plan points into are prepared once per plan and neither grow nor go before that.  Groups change
 * when the result is taken: a plan that is thrown away has changed nothing but block tables, and
 * drafts, which are made anew for each plan.
 */
#ifndef G2_VISIT_H
#define G2_VISIT_H

#include "beams.h"

#define G2_VISIT_STEPS 16		/* steps of one visit at most */

/* Rows of one step of a device with so many slots: prompts find as much room as all that decode. */
static inline uint32_t
g2_visit_rows(uint32_t n_slots)
{
	return 2 * n_slots;
}

/* The end of a prompt has one for each of n. */
static inline uint32_t
g2_visit_outputs(uint32_t n_slots)
{
	return g2_visit_rows(n_slots) + n_slots;
}

/* What stands behind one of the plan's sequences. */
typedef struct g2_part
{
	g2_group   *group;
	uint32_t	sequence;
	bool		decodes;
	uint32_t	n_draft;		/* its last rows, which may be refused */
	g2_prefix	next;			/* of the first block that it computes */
	bool		has_next;
} g2_part;

/* One of the plan's outputs: whose token or score it is. */
typedef struct g2_target
{
	g2_group   *group;
	uint32_t	sequence;
	uint32_t	guess;			/* of the lookup; G2_NO_TOKEN = none */
	uint32_t	drafted;		/* tokens of a draft that it follows */
} g2_target;

typedef struct g2_visit
{
	bool		in_flight;
	uint64_t	number;			/* group.visit of those that take part */
	g2_work    *work;			/* of its model */
	g2_plan		plan;
	g2_result	result;
	uint32_t	n_rows;			/* that there is room for: on the device with most slots */
	uint32_t	n_outputs;
	uint32_t	n_results;
	uint32_t   *token;			/* [n_rows] */
	uint32_t   *position;
	g2_plan_sequence *sequences;
	g2_part    *parts;
	g2_output  *outputs;		/* [n_outputs] */
	g2_target  *targets;
	uint32_t   *result_token;	/* [n_results], of all steps */
	double	   *result_logprob;
	uint8_t    *result_ended;
	float	   *result_norm;	/* [norm_room], made when a group wants it */
	size_t		norm_room;
	uint32_t   *top_token;		/* [top_room] each, made when a beam search takes part */
	double	   *top_logprob;
	double	   *top_score;
	size_t		top_room;
} g2_visit;

/* Room for the visits of devices with up to so many slots; a visit that is zero can be closed. */
extern bool g2_visit_open(g2_visit *visit, uint32_t n_slots, g2_error *err);
extern void g2_visit_close(g2_visit *visit);

/* An empty plan. */
extern void g2_visit_begin(g2_visit *visit, g2_work *work, g2_backend_model *model,
						   uint32_t n_steps);

/*
 * Adds the rows of the group's sequences: one for each that decodes, and those of its draft; of
 * those that prefill, not more than max_prompt altogether (0: none).  Blocks that others have
 * published meanwhile are taken instead of computed; one that computes the same block as somebody
 * in this plan already does waits for it.  *prompt_rows = how many were not decoding.  G2_KV_FULL,
 * G2_KV_FAILED: the plan is as before.  Beams decode all together: where some have more to compute
 * (after a preemption), they do so up to their last token, and the others wait.
 */
extern g2_kv_outcome g2_visit_add(g2_visit *visit, g2_group *group, uint32_t max_prompt,
								  uint32_t *prompt_rows, g2_error *err);

/* Hands the result's tokens to the groups and its time to their roles.  A group that cannot take
 * them is marked as failed. */
extern void g2_visit_take(g2_visit *visit);

#endif							/* G2_VISIT_H */
