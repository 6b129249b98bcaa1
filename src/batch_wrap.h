/*
 * batch_wrap.h: putting GPT Batch nodes around one node of a plan.
 */
#ifndef GPT2_BATCH_WRAP_H
#define GPT2_BATCH_WRAP_H

#include "postgres.h"

#include "batch_scan.h"

/* A plan that is being rewritten. */
typedef struct Gpt2Rewrite
{
	int			next_id;		/* plan_node_id that is free */
	List	   *batches;		/* GPT Batch nodes made */
} Gpt2Rewrite;

/* The node, or those above it that evaluate the calls of its target list and qual.  `plan` is
 * changed. */
extern Plan *gpt2_wrap(Plan *plan, Gpt2Reader reader, Gpt2Rewrite *rewrite);

/* Puts a node below that evaluates the calls in the arguments of its aggregates. */
extern void gpt2_wrap_input(Agg *agg, Gpt2Reader reader, Gpt2Rewrite *rewrite);

/* The Append; or, where all its children do the same above their scans, one that does it above the
 * Append. */
extern Plan *gpt2_lift_above(Append *append, Gpt2Reader reader, Gpt2Rewrite *rewrite);

/* Fills in what a node takes over from its only child, and its number. */
extern void gpt2_put_above(Plan *plan, Plan *child, Gpt2Rewrite *rewrite);

/* The child's columns; varno OUTER_VAR or INDEX_VAR. */
extern List *gpt2_columns(const List *tlist, int varno);

#endif							/* GPT2_BATCH_WRAP_H */
