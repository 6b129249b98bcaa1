/*
 * neighbour.c: another library in the server, for test 041: it looks at plans as auto_explain and its
 * like do, and has a plan node of its own, as Citus, TimescaleDB and PG-Strom have.
 *
 * From hooks, it checks that a QueryDesc has the same plan behind the end of its execution as before
 * its start, alive and unchanged.  Memory that was freed in between is overwritten before the look.
 * With neighbour.wrap a plan, or that of a subquery in FROM, is put below its node, which does not run
 * anything but that very plan.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "fmgr.h"
#include "nodes/extensible.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/planner.h"
#include "utils/guc.h"
#include "utils/memutils.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

#define MAX_QUERIES 64
#define MAX_CONTEXTS 256

/* A plan as it was before the start. */
typedef struct Seen
{
	const QueryDesc *query;		/* NULL: free */
	const PlannedStmt *plan;
	char	   *text;
} Seen;

static Seen seen[MAX_QUERIES];
static int	next_seen;
static bool tells;
static bool wraps;

static planner_hook_type next_planner;
static ExecutorStart_hook_type next_start;
static ExecutorEnd_hook_type next_end;

/* ---- plans behind their end ---- */

static char *
text_of(const PlannedStmt *plan)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	char	   *text = nodeToString(plan);

	MemoryContextSwitchTo(old);
	return text;
}

static Seen *
find_seen(const QueryDesc *query)
{
	for (int i = 0; i < MAX_QUERIES; i++)
		if (seen[i].query == query)
			return &seen[i];
	return NULL;
}

/* Takes what was freed, small and large, and writes over it. */
static void
overwrite_free_memory(void)
{
	MemoryContext contexts[MAX_CONTEXTS];

	for (int i = 0; i < MAX_CONTEXTS; i++)
	{
		contexts[i] = AllocSetContextCreate(TopMemoryContext, "neighbour",
											ALLOCSET_DEFAULT_SIZES);
		for (int bytes = 64; bytes <= 16384; bytes *= 4)
			memset(MemoryContextAlloc(contexts[i], bytes), 0x7f, bytes);
	}
	for (int i = 0; i < MAX_CONTEXTS; i++)
		MemoryContextDelete(contexts[i]);
}

static void
start(QueryDesc *query, int eflags)
{
	Seen	   *s = find_seen(query);

	/* The end of one that failed is not heard of. */
	if (!s)
		s = &seen[next_seen++ % MAX_QUERIES];
	*s = (Seen) {query, query->plannedstmt, text_of(query->plannedstmt)};
	if (next_start)
		next_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);
}

static void
end(QueryDesc *query)
{
	Seen	   *s = find_seen(query);

	if (next_end)
		next_end(query);
	else
		standard_ExecutorEnd(query);
	if (!s)
		return;
	s->query = NULL;
	if (query->plannedstmt != s->plan)
		elog(ERROR, "neighbour: the QueryDesc has another plan than before");
	overwrite_free_memory();
	if (strcmp(text_of(query->plannedstmt), s->text) != 0)
		elog(ERROR, "neighbour: the plan has changed");
	if (tells)
		elog(NOTICE, "neighbour: the plan is as it was");
}

/* ---- a plan node ---- */

static void
begin_scan(CustomScanState *node, EState *estate, int eflags)
{
	CustomScan *scan = (CustomScan *) node->ss.ps.plan;
	Plan	   *child = (Plan *) linitial(scan->custom_plans);

	if (nodeTag(child) != (NodeTag) intVal(linitial(scan->custom_private)) ||
		(child->lefttree && IsA(child->lefttree, CustomScan)))
		elog(ERROR, "neighbour: there is another plan below its node");
	node->custom_ps = list_make1(ExecInitNode(child, estate, eflags));
}

static TupleTableSlot *
exec_scan(CustomScanState *node)
{
	return ExecProcNode((PlanState *) linitial(node->custom_ps));
}

static void
end_scan(CustomScanState *node)
{
	ExecEndNode((PlanState *) linitial(node->custom_ps));
}

static void
rescan(CustomScanState *node)
{
	ExecReScan((PlanState *) linitial(node->custom_ps));
}

static const CustomExecMethods exec_methods = {
	.CustomName = "Neighbour",
	.BeginCustomScan = begin_scan,
	.ExecCustomScan = exec_scan,
	.EndCustomScan = end_scan,
	.ReScanCustomScan = rescan,
};

static Node *
create_scan(CustomScan *plan)
{
	CustomScanState *state = (CustomScanState *) newNode(sizeof *state, T_CustomScanState);

	state->methods = &exec_methods;
	return (Node *) state;
}

static const CustomScanMethods scan_methods = {
	.CustomName = "Neighbour",
	.CreateCustomScanState = create_scan,
};

static Plan *
wrap(Plan *child)
{
	CustomScan *scan = makeNode(CustomScan);
	ListCell   *cell;

	scan->scan.plan.startup_cost = child->startup_cost;
	scan->scan.plan.total_cost = child->total_cost;
	scan->scan.plan.plan_rows = child->plan_rows;
	scan->scan.plan.plan_width = child->plan_width;
	scan->scan.plan.plan_node_id = 1000;
	scan->methods = &scan_methods;
	scan->custom_plans = list_make1(child);
	scan->custom_private = list_make1(makeInteger((int) nodeTag(child)));
	scan->custom_scan_tlist = (List *) copyObject(child->targetlist);
	foreach(cell, child->targetlist)
	{
		TargetEntry *entry = flatCopyTargetEntry(lfirst_node(TargetEntry, cell));
		Node	   *expr = (Node *) entry->expr;

		entry->expr = (Expr *) makeVar(INDEX_VAR, entry->resno, exprType(expr), exprTypmod(expr),
									   exprCollation(expr), 0);
		scan->scan.plan.targetlist = lappend(scan->scan.plan.targetlist, entry);
	}
	return &scan->scan.plan;
}

static PlannedStmt *
plan(Query *parse, const char *text, int cursor, ParamListInfo params)
{
	PlannedStmt *result = next_planner ? next_planner(parse, text, cursor, params) :
		standard_planner(parse, text, cursor, params);

	if (!wraps || result->commandType != CMD_SELECT)
		return result;
	if (IsA(result->planTree, SubqueryScan))
		((SubqueryScan *) result->planTree)->subplan =
			wrap(((SubqueryScan *) result->planTree)->subplan);
	else
		result->planTree = wrap(result->planTree);
	return result;
}

void
_PG_init(void)
{
	DefineCustomBoolVariable("neighbour.tell", "Says that a plan is as it was.", NULL, &tells,
							 false, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("neighbour.wrap", "Puts its node above plans.", NULL, &wraps,
							 false, PGC_USERSET, 0, NULL, NULL, NULL);
	RegisterCustomScanMethods(&scan_methods);
	next_planner = planner_hook;
	planner_hook = plan;
	next_start = ExecutorStart_hook;
	ExecutorStart_hook = start;
	next_end = ExecutorEnd_hook;
	ExecutorEnd_hook = end;
}
