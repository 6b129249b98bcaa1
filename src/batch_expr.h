/*
 * batch_expr.h: calls in a plan's expressions, and the conditions under which they are evaluated.
 */
#ifndef GPT2_BATCH_EXPR_H
#define GPT2_BATCH_EXPR_H

#include "postgres.h"

#include "nodes/bitmapset.h"
#include "nodes/pg_list.h"
#include "nodes/primnodes.h"

/* What must hold of an expression for a call that stands behind it to be evaluated. */
typedef enum Gpt2Condition
{
	CONDITION_TRUE,
	CONDITION_NOT_TRUE,
	CONDITION_NULL,
	CONDITION_NOT_FALSE
} Gpt2Condition;

/* A call whose arguments can be evaluated ahead. */
typedef struct Gpt2FoundCall
{
	FuncExpr   *call;
	List	   *guards;			/* expressions, in the order of evaluation */
	List	   *conditions;		/* Gpt2Condition of each */
} Gpt2FoundCall;

/* Gpt2FoundCall of each call in the list of expressions that is evaluated for a row unless its
 * guards say otherwise. */
extern List *gpt2_find_calls(List *expressions);

extern bool gpt2_is_call(const Node *node);

/* Contains a call that is evaluated where the expression is (and not in an aggregate's input). */
extern bool gpt2_has_call(Node *node, void *unused);

/* Contains a call that may draw a seed. */
extern bool gpt2_has_drawing_call(Node *node, void *unused);

/* The same inputs give the same value, and evaluating it changes nothing, but for our calls. */
extern bool gpt2_is_repeatable(Node *node);

/* Evaluating it raises no error, but for lack of memory. */
extern bool gpt2_never_fails(Node *node);

/* Adds the numbers of the executor's parameters that the expression reads, which a subquery may
 * still have to be run for. */
extern Bitmapset *gpt2_add_parameters(Bitmapset *numbers, Node *node);

/* This node evaluates some of its inputs for some rows only. */
extern bool gpt2_is_conditional(const Node *node);

#endif							/* GPT2_BATCH_EXPR_H */
