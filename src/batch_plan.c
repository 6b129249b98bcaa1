/*
 * batch_plan.c: puts GPT Batch nodes into plans.
 *
 * Plans are rewritten when their execution starts, on a copy: this library may be loaded by the
 * planner only while it plans the first statement of a session, too late for the planner's hook, and
 * cached plans are read-only.  What calls none of our functions is told by the plan's list of
 * dependencies and costs nothing.  The copy stays until all hooks have seen the end of the execution,
 * and whoever looks at the QueryDesc after that finds the plan that it was made with.
 *
 * The rewriting knows for each node how many of its rows will be read (Gpt2Reader).  Where the
 * plan has to run backwards too, a Material on top keeps what was made: a GPT Batch goes forward
 * only.
 *
 * A CustomScan of another library stays as it is, with all below it: its provider knows the plans
 * that it has put there, and may look at them.
 */
#include "compat.h"

#include "access/parallel.h"
#include "jit/jit.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "batch.h"
#include "batch_estimate.h"
#include "batch_expr.h"
#include "batch_functions.h"
#include "batch_scan.h"
#include "batch_trim.h"
#include "batch_wrap.h"
#include "client.h"
#include "guc.h"
#include "plan_nodes.h"

#define LONG_CHANGE 600		/* seconds; a change of the database that takes longer is told of */

/* A plan that was rewritten, of an execution that has not ended. */
typedef struct Rewritten
{
	dlist_node	node;			/* of rewritten */
	MemoryContext context;		/* all of it, and of the copy */
	PlannedStmt *original;
	PlannedStmt *copy;
	MemoryContextCallback at_end;
} Rewritten;

static dlist_head rewritten = DLIST_STATIC_INIT(rewritten);

static ExecutorStart_hook_type next_start;
static ExecutorRun_hook_type next_run;
static ExecutorEnd_hook_type next_end;

/* ---- the tree ---- */

static List *
links_of(List *plans)
{
	List	   *links = NIL;
	ListCell   *cell;

	foreach(cell, plans)
		links = lappend(links, &lfirst(cell));
	return links;
}

/* Addresses of the pointers to a node's children that are not lefttree and righttree. */
static List *
other_links(Plan *plan)
{
	switch (nodeTag(plan))
	{
		case T_Append:
			return links_of(((Append *) plan)->appendplans);
		case T_MergeAppend:
			return links_of(((MergeAppend *) plan)->mergeplans);
#if PG_VERSION_NUM < 140000
		case T_ModifyTable:
			return links_of(((ModifyTable *) plan)->plans);
#endif
		case T_SubqueryScan:
			return list_make1(&((SubqueryScan *) plan)->subplan);
		case T_CustomScan:
			return links_of(((CustomScan *) plan)->custom_plans);
		case T_BitmapAnd:
			return links_of(((BitmapAnd *) plan)->bitmapplans);
		case T_BitmapOr:
			return links_of(((BitmapOr *) plan)->bitmapplans);
		default:
			return NIL;
	}
}

/* Raises *greatest to the highest number of the tree's nodes.  It returns none: Max() would call it
 * twice at each node. */
static void
find_greatest_id(Plan *plan, int *greatest)
{
	ListCell   *cell;

	if (plan == NULL)
		return;
	check_stack_depth();
	*greatest = Max(*greatest, plan->plan_node_id);
	find_greatest_id(plan->lefttree, greatest);
	find_greatest_id(plan->righttree, greatest);
	foreach(cell, other_links(plan))
		find_greatest_id(*(Plan **) lfirst(cell), greatest);
}

/* ---- who reads how much ---- */

/* The node's rows become rows of the result one by one, if those of its reader do. */
static bool
is_one_to_one(const Plan *plan)
{
	switch (nodeTag(plan))
	{
		case T_Result:
		case T_SubqueryScan:
			return plan->qual == NIL;
		case T_Append:
		case T_LockRows:
		case T_Material:
			return true;
		default:
			return false;
	}
}

/* How much of its outer child's rows a node reads that is itself read so. */
static Gpt2Reader
reader_of_outer(const Plan *plan, Gpt2Reader reader)
{
	switch (nodeTag(plan))
	{
		case T_Sort:
		case T_Hash:
		case T_ModifyTable:
			return READER_OF_ALL;
		case T_Agg:
			return ((const Agg *) plan)->aggstrategy == AGG_SORTED ? reader : READER_OF_ALL;
		case T_Limit:
		case T_MergeJoin:
			return READER_MAY_STOP;
		default:
			return reader;
	}
}

static Gpt2Reader
reader_of_inner(const Plan *plan, Gpt2Reader reader)
{
	return IsA(plan, NestLoop) || IsA(plan, MergeJoin) ? READER_MAY_STOP : reader;
}

/* ---- rewriting ---- */

/* marks: the node's reader goes back to a mark in its rows, which a GPT Batch cannot. */
static Plan *rewrite_plan(Plan *plan, Gpt2Reader reader, bool marks, Gpt2Rewrite *rewrite);

static bool
evaluates_calls(const Plan *plan)
{
	switch (nodeTag(plan))
	{
		case T_Result:
			return plan->lefttree != NULL;
		case T_ForeignScan:
			/* Others modify a foreign table, or evaluate there. */
			return ((const ForeignScan *) plan)->operation == CMD_SELECT &&
				(((const ForeignScan *) plan)->scan.scanrelid != 0 ||
				 !gpt2_has_call((Node *) plan->qual, NULL));
		case T_WindowAgg:
			return !gpt2_has_call((Node *) plan->qual, NULL);
		case T_SeqScan:
		case T_SampleScan:
		case T_IndexScan:
		case T_IndexOnlyScan:
		case T_BitmapHeapScan:
		case T_TidScan:
#if PG_VERSION_NUM >= 140000
		case T_TidRangeScan:
#endif
		case T_SubqueryScan:
		case T_FunctionScan:
		case T_TableFuncScan:
		case T_ValuesScan:
		case T_CteScan:
		case T_NamedTuplestoreScan:
		case T_WorkTableScan:
		case T_NestLoop:
		case T_MergeJoin:
		case T_HashJoin:
		case T_Agg:
		case T_Group:
		case T_Gather:
		case T_GatherMerge:
			return true;
		default:
			return false;
	}
}

/* Hands the bound to the GPT Batch nodes right below, which give each row that they read. */
static void
tell_limit(const Limit *limit)
{
	Plan	   *plan = limit->plan.lefttree;

	if (limit->limitOption != LIMIT_OPTION_COUNT ||
		!gpt2_is_repeatable(limit->limitCount) || !gpt2_is_repeatable(limit->limitOffset))
		return;
	while (plan)
	{
		if (gpt2_is_batch(plan) && plan->qual == NIL)
			((CustomScan *) plan)->custom_exprs = list_make2(copyObject(limit->limitCount),
															 copyObject(limit->limitOffset));
		else if (plan->qual || !(IsA(plan, SubqueryScan) ||
								 (IsA(plan, Result) && !((Result *) plan)->resconstantqual)))
			return;
		plan = IsA(plan, SubqueryScan) ? ((SubqueryScan *) plan)->subplan : plan->lefttree;
	}
}

static void
rewrite_children(Plan *plan, Gpt2Reader reader, bool marks, Gpt2Rewrite *rewrite)
{
	/* A merge join marks its inner rows, and a Result lets its child do it. */
	bool		marks_inner = IsA(plan, MergeJoin) && !((MergeJoin *) plan)->skip_mark_restore;
	bool		marks_outer = IsA(plan, Result) && marks;
	Gpt2Reader	other = IsA(plan, MergeAppend) ? READER_MAY_STOP : reader;
	ListCell   *cell;

	plan->lefttree = rewrite_plan(plan->lefttree, reader_of_outer(plan, reader), marks_outer,
								  rewrite);
	plan->righttree = rewrite_plan(plan->righttree, reader_of_inner(plan, reader), marks_inner,
								   rewrite);
	foreach(cell, other_links(plan))
	{
		Plan	  **link = (Plan **) lfirst(cell);

		*link = rewrite_plan(*link, other, false, rewrite);
	}
}

static Plan *
rewrite_plan(Plan *plan, Gpt2Reader reader, bool marks, Gpt2Rewrite *rewrite)
{
	Gpt2Reader	below = reader;

	if (plan == NULL || IsA(plan, CustomScan))
		return plan;
	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	if (reader == READER_OF_RUN_BY_ROW && !is_one_to_one(plan))
		below = READER_OF_RUN;
	rewrite_children(plan, below, marks, rewrite);
	gpt2_skip_unused(plan);
	if (IsA(plan, Limit))
	{
		gpt2_lift_above_sort((Limit *) plan);
		tell_limit((Limit *) plan);
	}
	if (IsA(plan, Append) && ((Append *) plan)->appendplans != NIL)
		return gpt2_lift_above((Append *) plan, reader, rewrite);
	if (IsA(plan, Agg) && plan->lefttree)
		gpt2_wrap_input((Agg *) plan, below, rewrite);
	return !marks && evaluates_calls(plan) ? gpt2_wrap(plan, reader, rewrite) : plan;
}

static Plan *
materialize(Plan *child, Gpt2Rewrite *rewrite)
{
	Material   *material = makeNode(Material);

	gpt2_put_above(&material->plan, child, rewrite);
	material->plan.targetlist = gpt2_columns(child->targetlist, OUTER_VAR);
	return &material->plan;
}

/* Compiling expressions does not make calls faster: only what else is to be done counts. */
static void
reconsider_jit(PlannedStmt *statement, const Gpt2Estimate *estimate)
{
	if (statement->planTree->total_cost - estimate->cost < jit_above_cost)
		statement->jitFlags = PGJIT_NONE;
}

static void
warn_of_long_change(const PlannedStmt *statement, const Gpt2Estimate *estimate)
{
	if (statement->commandType == CMD_SELECT || estimate->seconds < LONG_CHANGE)
		return;
	ereport(NOTICE,
			(errmsg("this statement will take about %s, and keep its locks and its snapshot as long",
					gpt2_duration_text(estimate->seconds)),
			 errhint("CALL gpt_batch commits as it goes; or change fewer rows in each of several "
					 "transactions.")));
}

static void
estimate_calls(PlannedStmt *statement, const List *batches, int eflags)
{
	bool		time = statement->commandType != CMD_SELECT && !(eflags & EXEC_FLAG_EXPLAIN_ONLY);
	Gpt2Estimate estimate = {0};
	ListCell   *cell;

	foreach(cell, batches)
		gpt2_estimate_add(&estimate, (CustomScan *) lfirst(cell), time);
	reconsider_jit(statement, &estimate);
	if (time)
		warn_of_long_change(statement, &estimate);
}

static void
rewrite_statement(PlannedStmt *statement, int eflags)
{
	Gpt2Rewrite rewrite = {0, NIL};
	ListCell   *cell;

	find_greatest_id(statement->planTree, &rewrite.next_id);
	foreach(cell, statement->subplans)
		find_greatest_id((Plan *) lfirst(cell), &rewrite.next_id);
	rewrite.next_id++;
	statement->planTree = rewrite_plan(statement->planTree, READER_OF_RUN_BY_ROW, false, &rewrite);
	foreach(cell, statement->subplans)
		lfirst(cell) = rewrite_plan((Plan *) lfirst(cell), READER_MAY_STOP, false, &rewrite);
	if (rewrite.batches == NIL)
		return;
	estimate_calls(statement, rewrite.batches, eflags);
	if ((eflags & EXEC_FLAG_BACKWARD) &&
		!ExecSupportsBackwardScan(statement->planTree))
		statement->planTree = materialize(statement->planTree, &rewrite);
}

/* ---- hooks ---- */

static void
forget_rewritten(void *arg)
{
	dlist_delete(&((Rewritten *) arg)->node);
}

static Rewritten *
find_rewritten(const PlannedStmt *copy)
{
	dlist_iter	iter;

	dlist_foreach(iter, &rewritten)
	{
		Rewritten  *r = dlist_container(Rewritten, node, iter.cur);

		if (r->copy == copy)
			return r;
	}
	return NULL;
}

/* Puts a rewritten copy in the plan's place.  Where the execution fails, it goes with the context
 * that the executor's state is about to be made in. */
static void
replace_plan(QueryDesc *query, int eflags)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "gpt2 plan",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Rewritten  *r = palloc0(sizeof *r);

	r->context = context;
	r->original = query->plannedstmt;
	r->copy = copyObject(r->original);
	rewrite_statement(r->copy, eflags);
	r->at_end.func = forget_rewritten;
	r->at_end.arg = r;
	MemoryContextRegisterResetCallback(context, &r->at_end);
	dlist_push_head(&rewritten, &r->node);
	query->plannedstmt = r->copy;
	MemoryContextSwitchTo(old);
}

static void
start_executor(QueryDesc *query, int eflags)
{
	if (gpt2_batch_rows > 1 && !IsParallelWorker() &&
		gpt2_batch_functions_in(query->plannedstmt->invalItems))
		replace_plan(query, eflags);
	if (next_start)
		next_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);
}

static void
run_executor(GPT2_RUN_PARAMETERS)
{
	static uint64 number = 0;
	Gpt2Run		outer = gpt2_run;

	gpt2_run = (Gpt2Run) {query->estate, count, ++number};
	PG_TRY();
	{
		if (next_run)
			next_run(GPT2_RUN_ARGUMENTS);
		else
			standard_ExecutorRun(GPT2_RUN_ARGUMENTS);
	}
	PG_FINALLY();
	{
		gpt2_run = outer;
	}
	PG_END_TRY();
	if (count == 0)
		return;
	if (ScanDirectionIsForward(direction) && query->estate->es_processed < count)
		gpt2_batch_shut_down(query->estate);
	/* A cursor that stands still for hours must neither look stuck nor be in the way. */
	gpt2_batch_report(query->estate);
	if (outer.estate == NULL)
		gpt2_requests_park();
}

static void
end_executor(QueryDesc *query)
{
	Rewritten  *r = find_rewritten(query->plannedstmt);

	if (next_end)
		next_end(query);
	else
		standard_ExecutorEnd(query);
	if (!r)
		return;
	query->plannedstmt = r->original;
	MemoryContextDelete(r->context);
}

void
gpt2_batch_initialize(void)
{
	RegisterCustomScanMethods(&gpt2_batch_scan_methods);
	next_start = ExecutorStart_hook;
	ExecutorStart_hook = start_executor;
	next_run = ExecutorRun_hook;
	ExecutorRun_hook = run_executor;
	next_end = ExecutorEnd_hook;
	ExecutorEnd_hook = end_executor;
}
