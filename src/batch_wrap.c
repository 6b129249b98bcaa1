/*
 * batch_wrap.c: putting GPT Batch nodes around one node of a plan.
 *
 * A node whose target list has a call is left with the leaves of the target list, what only it
 * can provide: columns of its input, aggregates, window functions.  The list itself goes to a GPT
 * Batch node above, with the leaves replaced by that node's input columns.  So nothing of the
 * node itself is renumbered, and the nodes above see the same columns as before.
 *
 * Of a qual, what stands from the last clause with a call on goes up, in order; what then is left
 * may have calls too and goes to a node in between.  So a call is made only for rows that the
 * clauses before it have let through.
 *
 * An argument of a call that contains a call is a leaf as a whole where it is evaluated in any
 * case: it is computed one level below, where its call is looked ahead at.  Not where that would
 * change the order in which calls draw their seeds.
 */
#include "compat.h"

#include "parser/parsetree.h"

#include "batch_expr.h"
#include "batch_wrap.h"
#include "plan_nodes.h"

/* ---- nodes ---- */

List *
gpt2_columns(const List *tlist, int varno)
{
	List	   *columns = NIL;
	ListCell   *cell;

	foreach(cell, tlist)
	{
		TargetEntry *column = flatCopyTargetEntry(lfirst_node(TargetEntry, cell));
		Node	   *expr = (Node *) column->expr;

		column->expr = (Expr *) makeVar(varno, column->resno, exprType(expr), exprTypmod(expr),
										exprCollation(expr), 0);
		columns = lappend(columns, column);
	}
	return columns;
}

void
gpt2_put_above(Plan *plan, Plan *child, Gpt2Rewrite *rewrite)
{
	plan->startup_cost = child->startup_cost;
	plan->total_cost = child->total_cost;
	plan->plan_rows = child->plan_rows;
	plan->plan_width = child->plan_width;
#if PG_VERSION_NUM >= 180000
	plan->disabled_nodes = child->disabled_nodes;
#endif
	plan->parallel_safe = child->parallel_safe;
	plan->plan_node_id = rewrite->next_id++;
	plan->extParam = bms_copy(child->extParam);
	plan->allParam = bms_copy(child->allParam);
	/* What is above may read their values, and EXPLAIN looks for who gives them from there upwards. */
	plan->initPlan = child->initPlan;
	child->initPlan = NIL;
	plan->lefttree = child;
}

static CustomScan *
make_batch(Plan *child, Gpt2Reader reader, Gpt2Rewrite *rewrite)
{
	CustomScan *batch = makeNode(CustomScan);

	gpt2_put_above(&batch->scan.plan, child, rewrite);
	batch->methods = &gpt2_batch_scan_methods;
	batch->custom_private = list_make2(makeInteger(reader), NIL);
	batch->custom_scan_tlist = gpt2_columns(child->targetlist, OUTER_VAR);
	rewrite->batches = lappend(rewrite->batches, batch);
	return batch;
}

/* ---- leaves ---- */

typedef struct Leaves
{
	List	   *tlist;			/* of the node below */
	bool		whole_calls;	/* leaves are not taken out of calls' arguments */
	bool		drawn;			/* a call that may draw a seed has been taken up */
} Leaves;

/* The column of the node below that is this expression. */
static Node *
leaf(Node *node, Leaves *leaves)
{
	TargetEntry *found = NULL;
	ListCell   *cell;

	foreach(cell, leaves->tlist)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);

		if (!found && equal(entry->expr, node) && !contain_volatile_functions(node))
			found = entry;
	}
	if (!found)
	{
		found = makeTargetEntry((Expr *) copyObject(node), list_length(leaves->tlist) + 1, NULL,
								false);
		leaves->tlist = lappend(leaves->tlist, found);
	}
	return (Node *) makeVar(INDEX_VAR, found->resno, exprType(node), exprTypmod(node),
							exprCollation(node), 0);
}

static Node *take_up(Node *node, Leaves *leaves);

static Node *
take_up_call(const FuncExpr *call, Leaves *leaves)
{
	FuncExpr   *up = makeNode(FuncExpr);
	ListCell   *cell;

	memcpy(up, call, sizeof *up);
	up->args = NIL;
	foreach(cell, call->args)
	{
		Node	   *arg = (Node *) lfirst(cell);
		bool		below = !leaves->whole_calls && gpt2_has_call(arg, NULL) &&
			gpt2_is_repeatable(arg) && !(leaves->drawn && gpt2_has_drawing_call(arg, NULL));

		up->args = lappend(up->args, below ? leaf(arg, leaves) : take_up(arg, leaves));
	}
	leaves->drawn |= gpt2_may_draw(call);
	return (Node *) up;
}

static Node *
take_up_mutator(Node *node, void *context)
{
	return take_up(node, (Leaves *) context);
}

/* The expression as the node above evaluates it. */
static Node *
take_up(Node *node, Leaves *leaves)
{
	bool		whole = leaves->whole_calls;
	Node	   *up;

	if (node == NULL)
		return NULL;
	if (IsA(node, Var) || IsA(node, Aggref) || IsA(node, GroupingFunc) || IsA(node, WindowFunc))
		return leaf(node, leaves);
	if (gpt2_is_call(node))
		return take_up_call((FuncExpr *) node, leaves);
	leaves->whole_calls |= gpt2_is_conditional(node);
	up = expression_tree_mutator(node, take_up_mutator, leaves);
	leaves->whole_calls = whole;
	return up;
}

/* ---- target list and qual ---- */

#if PG_VERSION_NUM >= 150000
/* A WindowAgg stops by a condition on its own output, whose columns are the leaves from now on. */
static bool
follow_output(Node *node, void *tlist)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var		   *column = (Var *) node;

		/* A window function, which is a leaf as it stands. */
		column->varattno = castNode(Var, get_tle_by_resno((List *) tlist,
														  column->varattno)->expr)->varattno;
		return false;
	}
	return expression_tree_walker(node, follow_output, tlist);
}
#endif

static Plan *
wrap_tlist(Plan *plan, Gpt2Reader reader, Gpt2Rewrite *rewrite)
{
	Leaves		leaves = {NIL, false, false};
	List	   *tlist;
	CustomScan *batch;

	if (!gpt2_has_call((Node *) plan->targetlist, NULL))
		return plan;
	tlist = (List *) take_up((Node *) plan->targetlist, &leaves);
	if (gpt2_find_calls(tlist) == NIL)
		return plan;
#if PG_VERSION_NUM >= 150000
	if (IsA(plan, WindowAgg))
		(void) follow_output((Node *) ((WindowAgg *) plan)->runCondition, tlist);
#endif
	plan->targetlist = leaves.tlist;
	batch = make_batch(wrap_tlist(plan, reader, rewrite), reader, rewrite);
	batch->scan.plan.targetlist = tlist;
	return (Plan *) batch;
}

/* The reader of a node whose reader throws rows away. */
static Gpt2Reader
below_filter(Gpt2Reader reader)
{
	return reader == READER_OF_RUN_BY_ROW ? READER_OF_RUN : reader;
}

static Plan *
wrap_qual(Plan *plan, Gpt2Reader reader, Gpt2Rewrite *rewrite)
{
	Leaves		leaves = {NIL, false, false};
	List	   *qual,
			   *tlist;
	CustomScan *batch;
	int			last = list_length(plan->qual) - 1;

	while (last >= 0 && !gpt2_has_call((Node *) list_nth(plan->qual, last), NULL))
		last--;
	if (last < 0)
		return plan;
	qual = (List *) take_up((Node *) list_copy_tail(plan->qual, last), &leaves);
	if (gpt2_find_calls(qual) == NIL)
		return plan;
	/* The target list is for rows that pass. */
	leaves.whole_calls = true;
	tlist = (List *) take_up((Node *) plan->targetlist, &leaves);
	plan->targetlist = leaves.tlist;
	plan->qual = list_truncate(plan->qual, last);
	reader = below_filter(reader);
	plan = wrap_qual(plan, reader, rewrite);
	batch = make_batch(wrap_tlist(plan, reader, rewrite), reader, rewrite);
	batch->scan.plan.targetlist = tlist;
	batch->scan.plan.qual = qual;
	return (Plan *) batch;
}

Plan *
gpt2_wrap(Plan *plan, Gpt2Reader reader, Gpt2Rewrite *rewrite)
{
	return wrap_tlist(wrap_qual(plan, reader, rewrite), reader, rewrite);
}

/* ---- aggregates ---- */

typedef struct Inputs
{
	List	   *done;			/* Aggref, as they are from now on */
	List	   *below;			/* expressions over the input's columns */
	int			columns;		/* of the input, before these */
} Inputs;

/* One that is computed once for several places of the node stays one. */
static Aggref *
find_done(const Aggref *aggregate, const Inputs *inputs)
{
#if PG_VERSION_NUM >= 140000
	ListCell   *cell;

	foreach(cell, inputs->done)
		if (lfirst_node(Aggref, cell)->aggno == aggregate->aggno)
			return lfirst_node(Aggref, cell);
#endif
	return NULL;
}

static Node *
move_input(Aggref *aggregate, Inputs *inputs)
{
	Aggref	   *moved = find_done(aggregate, inputs);
	ListCell   *cell;

	if (moved)
		return (Node *) copyObject(moved);
	moved = copyObject(aggregate);
	foreach(cell, moved->args)
	{
		TargetEntry *arg = lfirst_node(TargetEntry, cell);
		Node	   *expr = (Node *) arg->expr;

		if (!gpt2_has_call(expr, NULL) || !gpt2_is_repeatable(expr))
			continue;
		inputs->below = lappend(inputs->below, expr);
		arg->expr = (Expr *) makeVar(OUTER_VAR, inputs->columns + list_length(inputs->below),
									 exprType(expr), exprTypmod(expr), exprCollation(expr), 0);
	}
	inputs->done = lappend(inputs->done, moved);
	return (Node *) moved;
}

static Node *
move_inputs(Node *node, void *context)
{
	if (node == NULL)
		return NULL;
	/* A FILTER decides which rows are evaluated. */
	if (IsA(node, Aggref) && ((Aggref *) node)->aggfilter == NULL)
		return move_input((Aggref *) node, (Inputs *) context);
	return expression_tree_mutator(node, move_inputs, context);
}

/* Columns of the input are those of the node that is put above it, by the same numbers. */
static bool
to_own_columns(Node *node, void *unused)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
		((Var *) node)->varno = INDEX_VAR;
	return expression_tree_walker(node, to_own_columns, NULL);
}

void
gpt2_wrap_input(Agg *agg, Gpt2Reader reader, Gpt2Rewrite *rewrite)
{
	Plan	   *child = agg->plan.lefttree;
	Inputs		inputs = {NIL, NIL, list_length(child->targetlist)};
	List	   *tlist = (List *) move_inputs((Node *) agg->plan.targetlist, &inputs),
			   *qual = (List *) move_inputs((Node *) agg->plan.qual, &inputs),
			   *columns;
	CustomScan *batch;
	ListCell   *cell;

	if (gpt2_find_calls(inputs.below) == NIL)
		return;
	columns = gpt2_columns(child->targetlist, INDEX_VAR);
	foreach(cell, inputs.below)
	{
		Expr	   *expr = (Expr *) lfirst(cell);

		(void) to_own_columns((Node *) expr, NULL);
		columns = lappend(columns, makeTargetEntry(expr, list_length(columns) + 1, NULL, false));
	}
	if (agg->aggstrategy != AGG_SORTED)
		reader = READER_OF_ALL;
	batch = make_batch(child, below_filter(reader), rewrite);
	batch->scan.plan.targetlist = columns;
	agg->plan.lefttree = (Plan *) batch;
	agg->plan.targetlist = tlist;
	agg->plan.qual = qual;
}

/* ---- Append ---- */

static bool
same_columns(const List *a, const List *b)
{
	ListCell   *cell_a,
			   *cell_b;

	if (list_length(a) != list_length(b))
		return false;
	forboth(cell_a, a, cell_b, b)
	{
		Node	   *x = (Node *) lfirst_node(TargetEntry, cell_a)->expr,
				   *y = (Node *) lfirst_node(TargetEntry, cell_b)->expr;

		if (exprType(x) != exprType(y) || exprTypmod(x) != exprTypmod(y) ||
			exprCollation(x) != exprCollation(y))
			return false;
	}
	return true;
}

static bool
same_expressions(const List *a, const List *b)
{
	ListCell   *cell_a,
			   *cell_b;

	if (list_length(a) != list_length(b))
		return false;
	forboth(cell_a, a, cell_b, b)
		if (!equal(lfirst_node(TargetEntry, cell_a)->expr, lfirst_node(TargetEntry, cell_b)->expr))
			return false;
	return true;
}

/* Each child has call sites of its own, which number their rows and draw their seeds. */
static bool
children_do_the_same(const Append *append)
{
	Plan	   *first = (Plan *) linitial(append->appendplans);
	ListCell   *cell;

	if (gpt2_has_drawing_call((Node *) first->targetlist, NULL) ||
		gpt2_has_drawing_call((Node *) first->qual, NULL))
		return false;
	foreach(cell, append->appendplans)
	{
		Plan	   *plan = (Plan *) lfirst(cell);

		if (!gpt2_is_batch(plan) || plan->initPlan != NIL ||
			!same_expressions(plan->targetlist, first->targetlist) ||
			!equal(plan->qual, first->qual) ||
			!same_columns(plan->lefttree->targetlist, first->lefttree->targetlist))
			return false;
	}
	return true;
}

/* A scan that the Append would run asynchronously gives its rows to none but the Append itself. */
static void
end_async(const Append *append)
{
#if PG_VERSION_NUM >= 140000
	ListCell   *cell;

	foreach(cell, append->appendplans)
	{
		Plan	   *plan = (Plan *) lfirst(cell);

		if (!gpt2_is_batch(plan))
			continue;
		while (gpt2_is_batch(plan))
			plan = plan->lefttree;
		plan->async_capable = false;
	}
#endif
}

Plan *
gpt2_lift_above(Append *append, Gpt2Reader reader, Gpt2Rewrite *rewrite)
{
	Plan	   *first = (Plan *) linitial(append->appendplans);
	CustomScan *batch;
	Plan	   *below;
	List	   *tlist;
	ListCell   *cell,
			   *label;

	if (!children_do_the_same(append))
	{
		end_async(append);
		return &append->plan;
	}
	tlist = copyObject(first->targetlist);
	forboth(cell, tlist, label, append->plan.targetlist)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, label);

		entry = flatCopyTargetEntry(entry);
		entry->expr = lfirst_node(TargetEntry, cell)->expr;
		lfirst(cell) = entry;
	}
	foreach(cell, append->appendplans)
	{
		/* One node takes their place. */
		rewrite->batches = list_delete_ptr(rewrite->batches, lfirst(cell));
		lfirst(cell) = ((Plan *) lfirst(cell))->lefttree;
	}
	append->plan.targetlist = gpt2_columns(first->lefttree->targetlist, OUTER_VAR);
	below = gpt2_lift_above(append, first->qual ? below_filter(reader) : reader, rewrite);
	batch = make_batch(below, first->qual ? below_filter(reader) : reader, rewrite);
	batch->scan.plan.targetlist = tlist;
	batch->scan.plan.qual = first->qual;
	return (Plan *) batch;
}
