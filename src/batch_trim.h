/*
 * batch_trim.h: calls that a plan need not evaluate, or for fewer rows.
 */
#ifndef GPT2_BATCH_TRIM_H
#define GPT2_BATCH_TRIM_H

#include "postgres.h"

#include "batch_wrap.h"

/* Takes calls out of the GPT Batch nodes below whose columns the node does not read. */
extern void gpt2_skip_unused(Plan *plan);

/* Lets the calls below a LIMIT's Sort that do not decide the order be evaluated above it. */
extern void gpt2_lift_above_sort(Limit *limit);

#endif							/* GPT2_BATCH_TRIM_H */
