/*
 * batch_estimate.h: what the calls of a GPT Batch node will take.
 */
#ifndef GPT2_BATCH_ESTIMATE_H
#define GPT2_BATCH_ESTIMATE_H

#include "postgres.h"

#include "plan_nodes.h"

typedef struct Gpt2Estimate
{
	double		calls;
	double		tokens;			/* of prompts and answers */
	double		cost;			/* in the planner's units */
	double		seconds;		/* of calls to models that the engine has measured */
	bool		unmeasured;		/* there are others */
} Gpt2Estimate;

/* Adds up the calls of a node; with `time`, a running engine is asked for its speed. */
extern void gpt2_estimate_add(Gpt2Estimate *estimate, const CustomScan *batch, bool time);

/* As in "200000 calls, 26M tokens, 6 h 50 min, cost 13.67"; palloc'd. */
extern char *gpt2_estimate_text(const Gpt2Estimate *estimate);

/* By gpt2.price_per_hour. */
extern double gpt2_estimate_price(const Gpt2Estimate *estimate);

/* As in "6 h 50 min"; palloc'd. */
extern char *gpt2_duration_text(double seconds);

#endif							/* GPT2_BATCH_ESTIMATE_H */
