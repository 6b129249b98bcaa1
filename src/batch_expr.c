/*
 * batch_expr.c: calls in a plan's expressions, and the conditions under which they are evaluated.
 *
 * CASE, COALESCE, AND and OR do not evaluate everything, and neither must looking ahead: what
 * stands before a call and decides about it is its guard.  Where a guard cannot be evaluated
 * ahead (it is volatile, has a subquery, or a call itself), what stands behind it is not looked
 * ahead at.  Only nodes that are known are searched; below any other node a call runs row by row.
 */
#include "compat.h"

#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "batch_expr.h"
#include "batch_functions.h"
#include "guc.h"
#include "plan_nodes.h"

/* Guards of all calls of a list of expressions together: each call compiles its own, and in a CASE
 * of n calls those are n * n / 2.  Calls beyond that run row by row. */
#define MAX_GUARDS 10000

typedef struct Search
{
	List	   *found;
	List	   *guards;
	List	   *conditions;
	int			n_guards;		/* of those found */
} Search;

bool
gpt2_is_call(const Node *node)
{
	const FuncExpr *call = (const FuncExpr *) node;

	return IsA(node, FuncExpr) &&
		(gpt2_batch_function(call->funcid) || (gpt2_batch_everything && !call->funcretset));
}

bool
gpt2_has_call(Node *node, void *unused)
{
	if (node == NULL)
		return false;
	if (gpt2_is_call(node))
		return true;
	if (IsA(node, Aggref) || IsA(node, WindowFunc))
		return false;
	return expression_tree_walker(node, gpt2_has_call, NULL);
}

bool
gpt2_has_drawing_call(Node *node, void *unused)
{
	if (node == NULL)
		return false;
	if (IsA(node, FuncExpr) && gpt2_may_draw((FuncExpr *) node))
		return true;
	return expression_tree_walker(node, gpt2_has_drawing_call, NULL);
}

static bool
is_volatile(Oid function, void *unused)
{
	return func_volatile(function) == PROVOLATILE_VOLATILE && !gpt2_batch_function(function);
}

static bool
is_unrepeatable(Node *node, void *unused)
{
	if (node == NULL)
		return false;
	if (check_functions_in_node(node, is_volatile, NULL) || IsA(node, NextValueExpr) ||
		IsA(node, SubPlan) || IsA(node, AlternativeSubPlan))
		return true;
	return expression_tree_walker(node, is_unrepeatable, NULL);
}

bool
gpt2_is_repeatable(Node *node)
{
	return !is_unrepeatable(node, NULL);
}

#define SUBSTR 877
#define SUBSTRING 936

/* Functions that raise no error whatever they are given, but for a text without a collation and a
 * negative length of a substring.  Numbers: names in fmgroids.h that not all versions have. */
static const Oid harmless[] = {
	1258,						/* textcat, which is || */
	3058, 3059,					/* concat, concat_ws */
	3060, 3061,					/* left, right */
	SUBSTR, SUBSTRING, 883, 937,
	870, 871,					/* lower, upper */
	884, 885, 875, 881, 876, 882,	/* btrim, ltrim, rtrim */
	2087,						/* replace */
	3214,						/* jsonb ->> text */
	1257, 1317,					/* textlen, length */
	F_TEXTEQ, F_TEXTNE,
	F_INT4EQ, F_INT4NE, F_INT4LT, F_INT4LE, F_INT4GT, F_INT4GE
};

static bool
is_not_harmless(Oid function, void *unused)
{
	for (int i = 0; i < lengthof(harmless); i++)
		if (function == harmless[i])
			return false;
	return true;
}

static bool
lacks_collation(const Node *call, const List *args)
{
	return args && !OidIsValid(exprInputCollation(call)) &&
		type_is_collatable(exprType((Node *) linitial(args)));
}

static bool
may_be_negative(const Node *length)
{
	return !IsA(length, Const) ||
		(!((const Const *) length)->constisnull &&
		 DatumGetInt32(((const Const *) length)->constvalue) < 0);
}

static bool
call_may_fail(const FuncExpr *call)
{
	return lacks_collation((const Node *) call, call->args) ||
		((call->funcid == SUBSTR || call->funcid == SUBSTRING) &&
		 may_be_negative((const Node *) lthird(call->args)));
}

static bool
may_fail(Node *node, void *unused)
{
	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_Var:
		case T_Const:
		case T_Param:
		case T_List:
		case T_RelabelType:
		case T_CoalesceExpr:
		case T_CaseExpr:
		case T_CaseWhen:
		case T_BoolExpr:
		case T_NullTest:
		case T_BooleanTest:
			break;
		case T_CoerceViaIO:
			if (((CoerceViaIO *) node)->resulttype != TEXTOID)
				return true;
			break;
		case T_FuncExpr:
			if (check_functions_in_node(node, is_not_harmless, NULL) ||
				call_may_fail((FuncExpr *) node))
				return true;
			break;
		case T_OpExpr:
			if (check_functions_in_node(node, is_not_harmless, NULL) ||
				lacks_collation(node, ((OpExpr *) node)->args))
				return true;
			break;
		default:
			return true;
	}
	return expression_tree_walker(node, may_fail, NULL);
}

static bool
add_parameter(Node *node, void *context)
{
	Bitmapset **numbers = (Bitmapset **) context;

	if (node == NULL)
		return false;
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXEC)
		*numbers = bms_add_member(*numbers, ((Param *) node)->paramid);
	return expression_tree_walker(node, add_parameter, context);
}

Bitmapset *
gpt2_add_parameters(Bitmapset *numbers, Node *node)
{
	(void) add_parameter(node, &numbers);
	return numbers;
}

bool
gpt2_never_fails(Node *node)
{
	return !may_fail(node, NULL);
}

/* Values that only the node around them provides, or that are computed inside the plan node. */
static bool
needs_surroundings(Node *node, void *unused)
{
	if (node == NULL)
		return false;
	if (IsA(node, CaseTestExpr) || IsA(node, CoerceToDomainValue) || IsA(node, Aggref) ||
		IsA(node, WindowFunc) || IsA(node, GroupingFunc))
		return true;
	return expression_tree_walker(node, needs_surroundings, NULL);
}

static bool
can_be_ahead(Node *node)
{
	return gpt2_is_repeatable(node) && !gpt2_has_call(node, NULL) &&
		!needs_surroundings(node, NULL) && !expression_returns_set(node);
}

bool
gpt2_is_conditional(const Node *node)
{
	switch (nodeTag(node))
	{
		case T_BoolExpr:
			return ((const BoolExpr *) node)->boolop != NOT_EXPR;
		case T_FuncExpr:
		case T_OpExpr:
		case T_DistinctExpr:
		case T_NullIfExpr:
		case T_ScalarArrayOpExpr:
		case T_RelabelType:
		case T_CoerceViaIO:
		case T_CoerceToDomain:
		case T_NullTest:
		case T_BooleanTest:
		case T_ArrayExpr:
		case T_RowExpr:
		case T_MinMaxExpr:
		case T_FieldSelect:
		case T_TargetEntry:
		case T_List:
			return false;
		default:
			return true;
	}
}

/* ---- the search ---- */

static void search(Node *node, Search *s);

static bool
search_below(Node *node, void *context)
{
	search(node, (Search *) context);
	return false;
}

static void
add_guard(Search *s, Node *guard, Gpt2Condition condition)
{
	/* Not in place: calls that were found hold the lists. */
	s->guards = lappend(list_copy(s->guards), guard);
	s->conditions = lappend_int(list_copy(s->conditions), condition);
}

/* Each is evaluated while all before it meet the condition. */
static void
search_sequence(List *expressions, Gpt2Condition condition, Search *s)
{
	ListCell   *cell;

	foreach(cell, expressions)
	{
		Node	   *node = (Node *) lfirst(cell);

		search(node, s);
		if (!can_be_ahead(node))
			break;
		add_guard(s, node, condition);
	}
}

static void
search_case(const CaseExpr *expr, Search *s)
{
	ListCell   *cell;

	if (expr->arg)
	{
		/* What the branches compare with exists inside only. */
		search((Node *) expr->arg, s);
		return;
	}
	foreach(cell, expr->args)
	{
		CaseWhen   *when = lfirst_node(CaseWhen, cell);
		Node	   *condition = (Node *) when->expr;
		List	   *guards = s->guards,
				   *conditions = s->conditions;

		search(condition, s);
		if (!can_be_ahead(condition))
			return;
		add_guard(s, condition, CONDITION_TRUE);
		search((Node *) when->result, s);
		s->guards = guards;
		s->conditions = conditions;
		add_guard(s, condition, CONDITION_NOT_TRUE);
	}
	search((Node *) expr->defresult, s);
}

static void
search_call(FuncExpr *call, Search *s)
{
	Gpt2FoundCall *found;

	if (s->n_guards + list_length(s->guards) > MAX_GUARDS || !can_be_ahead((Node *) call->args))
		return;
	s->n_guards += list_length(s->guards);
	found = (Gpt2FoundCall *) palloc(sizeof *found);
	found->call = call;
	found->guards = s->guards;
	found->conditions = s->conditions;
	s->found = lappend(s->found, found);
}

static void
search(Node *node, Search *s)
{
	List	   *guards = s->guards,
			   *conditions = s->conditions;

	if (node == NULL)
		return;
	if (gpt2_is_call(node))
		search_call((FuncExpr *) node, s);
	else if (IsA(node, CaseExpr))
		search_case((CaseExpr *) node, s);
	else if (IsA(node, CoalesceExpr))
		search_sequence(((CoalesceExpr *) node)->args, CONDITION_NULL, s);
	else if (IsA(node, BoolExpr) && ((BoolExpr *) node)->boolop == AND_EXPR)
		search_sequence(((BoolExpr *) node)->args, CONDITION_NOT_FALSE, s);
	else if (IsA(node, BoolExpr) && ((BoolExpr *) node)->boolop == OR_EXPR)
		search_sequence(((BoolExpr *) node)->args, CONDITION_NOT_TRUE, s);
	else if (!gpt2_is_conditional(node))
		expression_tree_walker(node, search_below, s);
	s->guards = guards;
	s->conditions = conditions;
}

List *
gpt2_find_calls(List *expressions)
{
	Search		s = {NIL};

	search((Node *) expressions, &s);
	return s.found;
}
