/*
 * batch_trim.c: calls that a plan need not evaluate, or for fewer rows.
 *
 * PostgreSQL evaluates a volatile function of a subquery for each of its rows, whether or not the
 * query around it reads the column: count(*) over a view with a summary would make all summaries.
 * Here such a column becomes NULL.  And where rows are sorted and cut off by a LIMIT, a call that
 * only passes through is made for the rows that are left.
 *
 * Neither is done to a call that may draw a seed: other calls would get other seeds.
 */
#include "compat.h"

#include "access/sysattr.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"

#include "batch_expr.h"
#include "batch_trim.h"
#include "guc.h"
#include "plan_nodes.h"

static void skip_below(Plan *plan, Bitmapset *used);

/* ---- columns ---- */

/* Numbers of the columns of varno that the expressions read; false: all of them, as one value. */
static bool
read_columns(Node *expressions, int varno, Bitmapset **used)
{
	Bitmapset  *numbers = NULL;
	int			offset = FirstLowInvalidHeapAttributeNumber;
	int			i = -1;

	pull_varattnos(expressions, varno, &numbers);
	if (bms_is_member(0 - offset, numbers))
		return false;
	while ((i = bms_next_member(numbers, i)) >= 0)
		if (i + offset > 0)
			*used = bms_add_member(*used, i + offset);
	return true;
}

static Bitmapset *
add_keys(Bitmapset *used, int n, const AttrNumber *keys)
{
	used = bms_copy(used);
	for (int i = 0; i < n; i++)
		used = bms_add_member(used, keys[i]);
	return used;
}

/* ---- unused columns ---- */

static bool
can_be_skipped(Node *expr)
{
	return !gpt2_batch_everything && gpt2_has_call(expr, NULL) && gpt2_is_repeatable(expr) &&
		!gpt2_has_drawing_call(expr, NULL);
}

static bool
add_names(Node *node, void *context)
{
	List	  **names = (List **) context;

	if (node == NULL)
		return false;
	if (gpt2_is_call(node))
	{
		char	   *name = get_func_name(((FuncExpr *) node)->funcid);

		*names = lappend(*names, makeString(name ? name : pstrdup("???")));
	}
	return expression_tree_walker(node, add_names, context);
}

static void
skip_in_batch(CustomScan *batch, Bitmapset *used)
{
	List	   *names = (List *) lsecond(batch->custom_private);
	Bitmapset  *below = NULL;
	ListCell   *cell;

	foreach(cell, batch->scan.plan.targetlist)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);
		Node	   *expr = (Node *) entry->expr;

		if (bms_is_member(entry->resno, used) || !can_be_skipped(expr))
			continue;
		(void) add_names(expr, &names);
		entry->expr = (Expr *) makeNullConst(exprType(expr), exprTypmod(expr),
											 exprCollation(expr));
	}
	lsecond(batch->custom_private) = names;
	/* Its input columns have the numbers of the child's. */
	if (read_columns((Node *) batch->scan.plan.targetlist, INDEX_VAR, &below) &&
		read_columns((Node *) batch->scan.plan.qual, INDEX_VAR, &below))
		skip_below(batch->scan.plan.lefttree, below);
}

/* `used`: of its own columns. */
static void
skip_in_subquery(SubqueryScan *scan, bool all, Bitmapset *used)
{
	Index		varno = scan->scan.scanrelid;
	Bitmapset  *below = NULL;
	ListCell   *cell;

	foreach(cell, scan->scan.plan.targetlist)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);

		if ((all || bms_is_member(entry->resno, used)) &&
			!read_columns((Node *) entry->expr, varno, &below))
			return;
	}
	if (read_columns((Node *) scan->scan.plan.qual, varno, &below))
		skip_below(scan->subplan, below);
}

/* The plan's reader wants these columns only. */
static void
skip_below(Plan *plan, Bitmapset *used)
{
	if (gpt2_is_batch(plan))
	{
		skip_in_batch((CustomScan *) plan, used);
		return;
	}
	switch (nodeTag(plan))
	{
		case T_Sort:
			skip_below(plan->lefttree, add_keys(used, ((Sort *) plan)->numCols,
												((Sort *) plan)->sortColIdx));
			break;
		case T_Limit:
			skip_below(plan->lefttree, add_keys(used, ((Limit *) plan)->uniqNumCols,
												((Limit *) plan)->uniqColIdx));
			break;
		case T_Material:
			skip_below(plan->lefttree, used);
			break;
		case T_SubqueryScan:
			skip_in_subquery((SubqueryScan *) plan, false, used);
			break;
		default:
			break;
	}
}

void
gpt2_skip_unused(Plan *plan)
{
	Bitmapset  *used = NULL;
	Agg		   *agg = (Agg *) plan;

	if (IsA(plan, SubqueryScan))
		skip_in_subquery((SubqueryScan *) plan, true, NULL);
	else if (IsA(plan, Agg) && agg->chain == NIL && plan->lefttree &&
			 read_columns((Node *) plan->targetlist, OUTER_VAR, &used) &&
			 read_columns((Node *) plan->qual, OUTER_VAR, &used))
		skip_below(plan->lefttree, add_keys(used, agg->numCols, agg->grpColIdx));
}

/* ---- above the Sort ---- */

/* The columns of the node below that the sort keys are; false: one is computed in the node. */
static bool
find_keys(const Sort *sort, const Plan *batch, AttrNumber *keys)
{
	for (int i = 0; i < sort->numCols; i++)
	{
		TargetEntry *entry = get_tle_by_resno(batch->targetlist, sort->sortColIdx[i]);

		if (!entry || !IsA(entry->expr, Var))
			return false;
		keys[i] = ((Var *) entry->expr)->varattno;
	}
	return true;
}

/* The Sort, or the nodes that are above it now. */
static Plan *
lift_above(Sort *sort)
{
	Plan	   *batch = sort->plan.lefttree;
	List	   *tlist = batch->targetlist;
	AttrNumber *keys = palloc(sort->numCols * sizeof(AttrNumber));

	if (!gpt2_is_batch(batch) || batch->qual || !gpt2_is_repeatable((Node *) tlist) ||
		gpt2_has_drawing_call((Node *) tlist, NULL) || !find_keys(sort, batch, keys))
		return &sort->plan;
	sort->sortColIdx = keys;
	sort->plan.lefttree = batch->lefttree;
	sort->plan.targetlist = gpt2_columns(batch->lefttree->targetlist, OUTER_VAR);
	batch->lefttree = lift_above(sort);
	linitial(((CustomScan *) batch)->custom_private) = makeInteger(READER_MAY_STOP);
	return batch;
}

void
gpt2_lift_above_sort(Limit *limit)
{
	Plan	   *sort = limit->plan.lefttree;

	/* WITH TIES compares the columns that the Sort has. */
	if (IsA(sort, Sort) && limit->limitOption == LIMIT_OPTION_COUNT)
		limit->plan.lefttree = lift_above((Sort *) sort);
}
