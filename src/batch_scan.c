/*
 * batch_scan.c: the plan node GPT Batch, which keeps the calls of many rows in flight.
 *
 * It stands above the node that would evaluate the calls, and evaluates them itself: its target
 * list and qual are that node's, over the rows of its child.  For each row it wants to hand out,
 * it
 *
 *     reads rows of the child ahead, as many as its window holds,
 *     looks ahead at them: evaluates the calls' arguments and makes their requests,
 *     sends the requests, and then
 *     evaluates the first row, whose calls take the answers of what was sent ahead.
 *
 * So rows come in the child's order, and an error in a call is raised when its row's turn comes.
 * Requests belong to the resource owner that is current when they are sent, the portal's: its
 * end, by an error or in good order, cancels what is still in flight.  A node that ends earlier
 * cancels it itself.
 */
#include "compat.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "batch_scan.h"
#include "guc.h"
#include "plan_nodes.h"

Gpt2Run		gpt2_run;

static dlist_head batches = DLIST_STATIC_INIT(batches);

/* ---- rows ---- */

/* Its calls are cancelled, its tuple is left. */
static void
end_tickets(Gpt2Batch *batch, Gpt2BatchRow *row)
{
	for (int i = 0; i < gpt2_n_tickets(batch); i++)
		batch->bytes -= gpt2_ticket_bytes(&row->tickets[i]);
	gpt2_tickets_end(row->tickets, gpt2_n_tickets(batch), &batch->figures);
	row->alone = false;
}

static void
forget_given(Gpt2Batch *batch)
{
	if (batch->given)
		pfree(batch->given);
	batch->given = NULL;
}

/* All rows that were read ahead are thrown away. */
static void
drop_rows(Gpt2Batch *batch)
{
	forget_given(batch);
	for (int i = 0; i < batch->n_rows; i++)
	{
		Gpt2BatchRow *row = gpt2_row_at(batch, i);

		end_tickets(batch, row);
		pfree(row->tuple);
	}
	batch->head = batch->n_rows = batch->n_looked = batch->n_sent = 0;
	batch->bytes = 0;
}

/* ---- progress ---- */

static const char *
command_name(CmdType command)
{
	switch (command)
	{
		case CMD_SELECT:
			return "SELECT";
		case CMD_UPDATE:
			return "UPDATE";
		case CMD_INSERT:
			return "INSERT";
		case CMD_DELETE:
			return "DELETE";
		default:
			return "MERGE";
	}
}

static bool
is_of_query(const Gpt2Batch *batch, const EState *estate)
{
	return batch->scan.ss.ps.state == estate && batch->n_sites > 0;
}

/* Of a statement's nodes, that with the most rows to come shows how far it is. */
static Gpt2Batch *
shows_progress(const EState *estate, int64 *tokens)
{
	Gpt2Batch  *most = NULL;
	dlist_iter	iter;

	*tokens = 0;
	dlist_foreach(iter, &batches)
	{
		Gpt2Batch  *batch = dlist_container(Gpt2Batch, node, iter.cur);

		if (!is_of_query(batch, estate))
			continue;
		*tokens += (int64) (batch->figures.prompt_tokens + batch->figures.new_tokens);
		if (!most || outerPlan(batch->scan.ss.ps.plan)->plan_rows >
			outerPlan(most->scan.ss.ps.plan)->plan_rows)
			most = batch;
	}
	return most;
}

static void
report(const Gpt2Batch *batch)
{
	EState	   *estate = batch->scan.ss.ps.state;
	int64		tokens;
	Gpt2Batch  *shown;
	Gpt2Progress *progress;

	if (batch->figures.requests == 0)
		return;
	shown = shows_progress(estate, &tokens);
	progress = &shown->progress;
	if (progress->number == 0)
		gpt2_progress_begin(progress, estate->es_query_cxt,
							command_name(estate->es_plannedstmt->commandType), InvalidOid,
							(int64) Min(outerPlan(shown->scan.ss.ps.plan)->plan_rows, 1e18));
	progress->done = (int64) shown->figures.rows;
	progress->tokens = tokens;
	gpt2_progress_report(progress);
}

void
gpt2_batch_report(const EState *estate)
{
	int64		tokens;
	Gpt2Batch  *shown = shows_progress(estate, &tokens);

	if (!shown || shown->progress.number == 0)
		return;
	shown->progress.done = (int64) shown->figures.rows;
	shown->progress.tokens = tokens;
	gpt2_progress_report_now(&shown->progress);
}

/* ---- execution ---- */

/* The first row; NULL: the qual does not let it through. */
static TupleTableSlot *
evaluate_row(Gpt2Batch *batch)
{
	PlanState  *ps = &batch->scan.ss.ps;
	Gpt2BatchRow *row = gpt2_row_at(batch, 0);
	TupleTableSlot *result = NULL;

	gpt2_set_row(batch, row->tuple);
	for (int i = 0; i < batch->n_sites; i++)
		batch->sites[i].current = &row->tickets[i * GPT2_MAX_SCORES];
	if (ExecQual(ps->qual, ps->ps_ExprContext))
		result = ExecProject(ps->ps_ProjInfo);
	for (int i = 0; i < batch->n_sites; i++)
		batch->sites[i].current = NULL;

	batch->figures.rows++;
	batch->figures.rows_ahead += batch->n_looked;
	end_tickets(batch, row);
	batch->bytes -= row->tuple->t_len;
	batch->given = row->tuple;
	row->tuple = NULL;
	batch->head = (batch->head + 1) % batch->capacity;
	batch->n_rows--;
	batch->n_looked -= batch->n_looked > 0;
	batch->n_sent -= batch->n_sent > 0;
	batch->done++;
	return result;
}

static TupleTableSlot *
exec_batch(CustomScanState *node)
{
	Gpt2Batch  *batch = (Gpt2Batch *) node;

	if (!batch->bound_known)
		gpt2_batch_find_bound(batch);
	for (;;)
	{
		TupleTableSlot *result;

		CHECK_FOR_INTERRUPTS();
		forget_given(batch);
		gpt2_batch_read_ahead(batch);
		if (batch->n_rows == 0)
			return ExecClearTuple(node->ss.ps.ps_ResultTupleSlot);
		gpt2_batch_look_ahead(batch);
		report(batch);
		result = evaluate_row(batch);
		if (result)
		{
			batch->returned++;
			batch->run_returned++;
			return result;
		}
		InstrCountFiltered1(&node->ss.ps, 1);
	}
}

/* ---- beginning and end ---- */

static void
on_query_end(void *arg)
{
	dlist_delete(&((Gpt2Batch *) arg)->node);
}

/*
 * Projection and qual are compiled again, from copies: a plan may be executed twice at once, and
 * a call finds its site by the address of its expression.  The first time, the executor took the
 * rows for virtual tuples, which those of batch->slot are not.
 */
static List *
compile(Gpt2Batch *batch)
{
	PlanState  *ps = &batch->scan.ss.ps;
	List	   *tlist = copyObject(ps->plan->targetlist);
	List	   *qual = copyObject(ps->plan->qual);

	ps->scanops = &TTSOpsMinimalTuple;
	ps->scanopsfixed = ps->scanopsset = true;
	ps->subPlan = NIL;
	ps->qual = ExecInitQual(qual, ps);
	ps->ps_ProjInfo = ExecBuildProjectionInfo(tlist, ps->ps_ExprContext, ps->ps_ResultTupleSlot,
											  ps, NULL);
	return qual ? gpt2_find_calls(qual) : gpt2_find_calls(tlist);
}

static void
make_rows(Gpt2Batch *batch)
{
	batch->capacity = batch->n_sites > 0 ? gpt2_batch_rows : 1;
	batch->rows = palloc0(batch->capacity * sizeof(Gpt2BatchRow));
	for (int i = 0; i < batch->capacity; i++)
		batch->rows[i].tickets = palloc0((gpt2_n_tickets(batch) + 1) * sizeof(Gpt2Ticket));
}

static void
begin_batch(CustomScanState *node, EState *estate, int eflags)
{
	Gpt2Batch  *batch = (Gpt2Batch *) node;
	CustomScan *plan = (CustomScan *) node->ss.ps.plan;
	List	   *calls;
	ListCell   *cell;

	outerPlanState(node) = ExecInitNode(outerPlan(plan), estate, eflags);
	calls = compile(batch);
	batch->reader = (Gpt2Reader) intVal(linitial(plan->custom_private));
	batch->limit = ExecInitExprList(plan->custom_exprs, &node->ss.ps);
	batch->slot = ExecInitExtraTupleSlot(estate, node->ss.ss_ScanTupleSlot->tts_tupleDescriptor,
										 &TTSOpsMinimalTuple);
	batch->sites = palloc0((list_length(calls) + 1) * sizeof(Gpt2BatchSite));
	foreach(cell, calls)
		gpt2_site_begin(&batch->sites[batch->n_sites++], (Gpt2FoundCall *) lfirst(cell),
						&node->ss.ps, &batch->figures);
	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
		return;
	make_rows(batch);
	batch->context = AllocSetContextCreate(estate->es_query_cxt, "gpt2 rows in flight",
										   ALLOCSET_DEFAULT_SIZES);
	batch->at_end.func = on_query_end;
	batch->at_end.arg = batch;
	MemoryContextRegisterResetCallback(estate->es_query_cxt, &batch->at_end);
	dlist_push_head(&batches, &batch->node);
}

static void
rescan_batch(CustomScanState *node)
{
	Gpt2Batch  *batch = (Gpt2Batch *) node;

	drop_rows(batch);
	batch->ended = false;
	batch->done = batch->returned = batch->run_returned = 0;
	/* As Limit does, before the child starts over: a Sort keeps what it has by its bound. */
	gpt2_batch_find_bound(batch);
	if (outerPlanState(node)->chgParam == NULL)
		ExecReScan(outerPlanState(node));
}

/* Nobody is to wait for what is in flight. */
static void
end_all_tickets(Gpt2Batch *batch)
{
	for (int i = 0; i < batch->n_rows; i++)
		end_tickets(batch, gpt2_row_at(batch, i));
}

/*
 * No more rows are wanted: nobody is to wait for what is in flight.  The executor says so at the end
 * of each run of a cursor without SCROLL, and of each row of a function in SQL, too: a run that is
 * for some rows only may be followed by another, which goes on with what is ahead.
 */
static void
shutdown_batch(CustomScanState *node)
{
	if (gpt2_run.estate != node->ss.ps.state || gpt2_run.count == 0)
		end_all_tickets((Gpt2Batch *) node);
}

void
gpt2_batch_shut_down(const EState *estate)
{
	dlist_iter	iter;

	dlist_foreach(iter, &batches)
	{
		Gpt2Batch  *batch = dlist_container(Gpt2Batch, node, iter.cur);

		if (is_of_query(batch, estate))
			end_all_tickets(batch);
	}
}

static void
end_batch(CustomScanState *node)
{
	Gpt2Batch  *batch = (Gpt2Batch *) node;

	if (batch->rows)
		drop_rows(batch);
	ExecEndNode(outerPlanState(node));
}

static const CustomExecMethods exec_methods = {
	.CustomName = "GPT Batch",
	.BeginCustomScan = begin_batch,
	.ExecCustomScan = exec_batch,
	.EndCustomScan = end_batch,
	.ReScanCustomScan = rescan_batch,
	.ShutdownCustomScan = shutdown_batch,
	.ExplainCustomScan = gpt2_batch_explain,
};

static Node *
create_batch(CustomScan *plan)
{
	Gpt2Batch  *batch = (Gpt2Batch *) newNode(sizeof(Gpt2Batch), T_CustomScanState);

	batch->scan.methods = &exec_methods;
	return (Node *) batch;
}

const CustomScanMethods gpt2_batch_scan_methods = {
	.CustomName = "GPT Batch",
	.CreateCustomScanState = create_batch,
};

bool
gpt2_is_batch(const Plan *plan)
{
	return plan && IsA(plan, CustomScan) &&
		((const CustomScan *) plan)->methods == &gpt2_batch_scan_methods;
}

/* ---- the functions ---- */

Gpt2BatchSite *
gpt2_batch_join(fmNodePtr expression, Gpt2CallSite *site)
{
	dlist_iter	iter;

	dlist_foreach(iter, &batches)
	{
		Gpt2Batch  *batch = dlist_container(Gpt2Batch, node, iter.cur);

		for (int i = 0; i < batch->n_sites; i++)
			if ((fmNodePtr) batch->sites[i].call == expression)
			{
				batch->sites[i].real = site;
				return &batch->sites[i];
			}
	}
	return NULL;
}
