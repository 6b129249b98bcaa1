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
#include "engine/protocol_score.h"

/* What a function does before it sends its one GENERATE; false: it sends none. */
typedef bool (*Gpt2PrepareCall) (FunctionCallInfo fcinfo, Gpt2Call *call);

/* The same of one that sends SCOREs: how many, at most GPT2_MAX_SCORES. */
typedef int (*Gpt2PrepareScores) (FunctionCallInfo fcinfo, g2_score *wires);

typedef struct Gpt2BatchFunction
{
	PGFunction	function;
	Gpt2PrepareCall call;		/* one of the two */
	Gpt2PrepareScores scores;
	int			model;			/* numbers of arguments */
	int			max_len;		/* of one that makes text */
	int			temperature;	/* 0 = it never samples */
	int			seed;
	int			n;				/* 0 = it makes one text */
	int			options;		/* 0 = it has none that matter ahead */
} Gpt2BatchFunction;

extern bool gpt2_generate_prepare(FunctionCallInfo fcinfo, Gpt2Call *call);
extern bool gpt2_generate_array_prepare(FunctionCallInfo fcinfo, Gpt2Call *call);
extern bool gpt2_summarize_prepare(FunctionCallInfo fcinfo, Gpt2Call *call);
extern bool gpt2_task_call_prepare(FunctionCallInfo fcinfo, Gpt2Call *call);
extern int	gpt2_classify_prepare(FunctionCallInfo fcinfo, g2_score *wires);
extern int	gpt2_classify_enum_prepare(FunctionCallInfo fcinfo, g2_score *wires);
extern int	gpt2_label_prob_prepare(FunctionCallInfo fcinfo, g2_score *wires);
extern int	gpt2_filter_prepare(FunctionCallInfo fcinfo, g2_score *wires);
extern int	gpt2_loss_prepare(FunctionCallInfo fcinfo, g2_score *wires);
extern int	gpt2_embed_prepare(FunctionCallInfo fcinfo, g2_score *wires);

/* NULL: the function is none of these, or must not be evaluated ahead (SECURITY DEFINER, SET). */
extern const Gpt2BatchFunction *gpt2_batch_function(Oid function);

/* A call that draws a seed, as far as can be told from its constants and the session's settings. */
extern bool gpt2_may_draw(const FuncExpr *call);

/* What a call asks for, as far as it is constant or a setting. */
typedef struct Gpt2CallShape
{
	int			max_len;
	int			n;				/* sequences: beams are some too */
	const char *model;			/* palloc'd; NULL: differs from row to row */
} Gpt2CallShape;

extern void gpt2_call_shape(const FuncExpr *call, Gpt2CallShape *shape);

/* What the planner takes one call to cost. */
extern double gpt2_call_cost(const FuncExpr *call);

/* May a plan with these dependencies call one of them? */
extern bool gpt2_batch_functions_in(const List *plan_inval_items);

#endif							/* GPT2_BATCH_FUNCTIONS_H */
