/*
 * score.h: one call of a function that scores, from SQL arguments to the engine's answer.
 */
#ifndef GPT2_SCORE_H
#define GPT2_SCORE_H

#include "call.h"
#include "options.h"

/* Checks and resolves everything but labels; raises 22023 or 54000.  The options have been read
 * for what the function accepts. */
extern void gpt2_score_prepare(const text *content, NullableDatum model,
							   const Gpt2Options *options, g2_score_kind kind, g2_score *wire);

/* Sends the request, unless that was done ahead of time. */
extern Gpt2Request *gpt2_score_send(FunctionCallInfo fcinfo, const g2_score *wire);

/* The next sum of an answer. */
extern g2_score_sum gpt2_score_next(Gpt2Answer *answer);

#endif							/* GPT2_SCORE_H */
