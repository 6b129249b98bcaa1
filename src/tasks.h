/*
 * tasks.h: one call of a function that puts a text into a task's template.
 */
#ifndef GPT2_TASKS_H
#define GPT2_TASKS_H

#include "call.h"

/* Prepares the call; rest are the arguments max_len, model, options.  splits: a text that does not
 * fit into the context is summarized in parts.  Raises 22023 or 54000. */
extern void gpt2_task_prepare(FunctionCallInfo fcinfo, const text *content, g2_span task,
							  const NullableDatum *rest, bool splits, Gpt2Call *call);

/* Waits for the answer and releases the request: the answer without white space at its ends,
 * unless that is a constraint's. */
extern text *gpt2_task_answer(FunctionCallInfo fcinfo, const Gpt2Call *call,
							  Gpt2Request *request);

#endif							/* GPT2_TASKS_H */
