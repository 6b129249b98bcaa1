/*
 * batch_functions.h: the functions whose calls can be sent ahead of their rows.
 */
#ifndef GPT2_BATCH_FUNCTIONS_H
#define GPT2_BATCH_FUNCTIONS_H

#include "postgres.h"

#include "fmgr.h"
#include "nodes/pg_list.h"
#include "nodes/primnodes.h"

#include "call.h"

/* What the function does before it sends its one request; false: it sends none. */
typedef bool (*Gpt2Prepare) (FunctionCallInfo fcinfo, Gpt2Call *call);

extern bool gpt2_generate_prepare(FunctionCallInfo fcinfo, Gpt2Call *call);
extern bool gpt2_generate_array_prepare(FunctionCallInfo fcinfo, Gpt2Call *call);
extern bool gpt2_summarize_prepare(FunctionCallInfo fcinfo, Gpt2Call *call);

/* NULL: the function is none of these, or must not be evaluated ahead (SECURITY DEFINER, SET). */
extern Gpt2Prepare gpt2_batch_function(Oid function);

/* A call that draws a seed, as far as can be told from its constants and the session's settings. */
extern bool gpt2_may_draw(const FuncExpr *call);

/* What a call asks for, as far as it is constant or a setting. */
typedef struct Gpt2CallShape
{
	int			max_len;
	int			n;
	const char *model;			/* palloc'd; NULL: differs from row to row */
} Gpt2CallShape;

extern void gpt2_call_shape(const FuncExpr *call, Gpt2CallShape *shape);

/* What the planner takes one call to cost. */
extern double gpt2_call_cost(const FuncExpr *call);

/* May a plan with these dependencies call one of them? */
extern bool gpt2_batch_functions_in(const List *plan_inval_items);

#endif							/* GPT2_BATCH_FUNCTIONS_H */
