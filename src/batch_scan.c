/*
 * batch_scan.c: the plan node GPT Batch, which keeps the calls of many rows in flight.
 *
 * It stands above the node that would evaluate the calls, and evaluates them itself: its target list
 * and qual are that node's, over the rows of its child.  For each row it wants to hand out, it
 *
 *     reads rows of the child ahead, as many as its window holds,
 *     looks ahead at them: evaluates the calls' arguments and makes their requests,
 *     sends the requests, and then
 *     evaluates the first row, whose calls take the answers of what was sent ahead.
 *
 * So rows come in the child's order, and an error in a call is raised when its row's turn comes.
 * What cannot be looked ahead at (an argument raises an error, a seed is still to be drawn) stops
 * the looking until that row has been evaluated in its turn.  A call that may draw a seed stops the
 * reading too, until it has drawn: random() is to be called in the order that it is called in
 * without this node.  An error while looking must leave no
 * traces, so that is done inside a subtransaction; where there can be none (parallel plans), only
 * rows whose first row went well are looked at.
 *
 * The window: where the reader may stop early, it holds one row more than have been evaluated, so
 * that a LIMIT k never starts more than 2k rows; where all rows will be read, or so many are known
 * to be wanted, gpt2.batch_rows.  Rows that wait in it take no more than work_mem.
 *
 * Requests belong to the resource owner that is current when they are sent, the portal's: its end,
 * by an error or in good order, cancels what is still in flight.  A node that ends earlier cancels
 * it itself.
 */
#include "compat.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "batch_scan.h"
#include "guc.h"
#include "plan_nodes.h"

Gpt2Run		gpt2_run;

static dlist_head batches = DLIST_STATIC_INIT(batches);

/* ---- rows ---- */

static Gpt2BatchRow *
row_at(const Gpt2Batch *batch, int i)
{
	return &batch->rows[(batch->head + i) % batch->capacity];
}

static void
set_row(Gpt2Batch *batch, MinimalTuple tuple)
{
	ExprContext *econtext = batch->scan.ss.ps.ps_ExprContext;

	ResetExprContext(econtext);
	ExecStoreMinimalTuple(tuple, batch->slot, false);
	econtext->ecxt_scantuple = batch->slot;
}

/* Its calls are cancelled, its tuple is left. */
static void
end_tickets(Gpt2Batch *batch, Gpt2BatchRow *row)
{
	for (int i = 0; i < batch->n_sites; i++)
	{
		batch->bytes -= row->tickets[i].len;
		gpt2_ticket_end(&row->tickets[i], &batch->figures);
	}
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
		Gpt2BatchRow *row = row_at(batch, i);

		end_tickets(batch, row);
		pfree(row->tuple);
	}
	batch->head = batch->n_rows = batch->n_looked = batch->n_sent = 0;
	batch->bytes = 0;
}

/* ---- the window ---- */

static int64
evaluate_count(Gpt2Batch *batch, ExprState *count)
{
	bool		isnull = true;
	Datum		value = 0;

	if (count)
		value = ExecEvalExprSwitchContext(count, batch->scan.ss.ps.ps_ExprContext, &isnull);
	return isnull ? -1 : DatumGetInt64(value);
}

/* What a LIMIT above lets through, which nodes below want to know too. */
static void
find_bound(Gpt2Batch *batch)
{
	int64		count,
				offset;

	batch->bound = -1;
	if (batch->limit == NIL)
		return;
	count = evaluate_count(batch, (ExprState *) linitial(batch->limit));
	offset = evaluate_count(batch, (ExprState *) lsecond(batch->limit));
	if (count < 0 || (offset > 0 && count > PG_INT64_MAX - offset))
		return;
	batch->bound = count + Max(offset, 0);
	ExecSetTupleBound(batch->bound, outerPlanState(batch));
}

static int
window(Gpt2Batch *batch)
{
	bool		in_run = gpt2_run.estate == batch->scan.ss.ps.state;
	int64		wanted = batch->done + 1;

	if (in_run && batch->run != gpt2_run.number)
	{
		batch->run = gpt2_run.number;
		batch->run_returned = 0;
	}
	for (int i = 0; i < batch->n_sites; i++)
		if (gpt2_site_holds(&batch->sites[i]))
			return 1;
	if (batch->bound >= 0)
		wanted = batch->bound - batch->returned;
	else if (batch->reader == READER_OF_ALL ||
			 (batch->reader != READER_MAY_STOP && in_run && gpt2_run.count == 0))
		wanted = batch->capacity;
	else if (batch->reader == READER_OF_RUN_BY_ROW && in_run)
		wanted = Max(wanted, (int64) Min(gpt2_run.count, (uint64) batch->capacity) -
					 batch->run_returned);
	return (int) Max(Min(wanted, batch->capacity), 1);
}

/* ---- ahead ---- */

static void
read_ahead(Gpt2Batch *batch)
{
	int			wanted = window(batch);
	size_t		room = (size_t) work_mem * 1024;

	while (!batch->ended && batch->n_rows < wanted &&
		   (batch->n_rows == 0 || (batch->bytes < room && !gpt2_requests_are_many())))
	{
		TupleTableSlot *slot = ExecProcNode(outerPlanState(batch));
		MemoryContext old;

		if (TupIsNull(slot))
		{
			batch->ended = true;
			break;
		}
		old = MemoryContextSwitchTo(batch->context);
		row_at(batch, batch->n_rows)->tuple = ExecCopySlotMinimalTuple(slot);
		MemoryContextSwitchTo(old);
		batch->bytes += row_at(batch, batch->n_rows)->tuple->t_len;
		batch->n_rows++;
	}
}

static void
look(Gpt2Batch *batch)
{
	ExprContext *econtext = batch->scan.ss.ps.ps_ExprContext;
	MemoryContext old = MemoryContextSwitchTo(batch->context);

	for (int i = 0; i < batch->n_sites; i++)
		gpt2_site_follow(&batch->sites[i], batch->n_looked == 0);
	while (batch->n_looked < batch->n_rows)
	{
		Gpt2BatchRow *row = row_at(batch, batch->n_looked);

		set_row(batch, row->tuple);
		for (int i = 0; i < batch->n_sites; i++)
		{
			row->alone |= !gpt2_site_look(&batch->sites[i], econtext, &row->tickets[i]);
			batch->bytes += row->tickets[i].len;
		}
		batch->n_looked++;
		if (row->alone)
			break;
	}
	MemoryContextSwitchTo(old);
}

/* Some errors are not the row's: whoever asked for the query to end must not wait. */
static bool
ends_the_query(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
		error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN ||
		error->sqlerrcode == ERRCODE_CRASH_SHUTDOWN ||
		error->sqlerrcode == ERRCODE_DATABASE_DROPPED;
}

static void
look_in_subtransaction(Gpt2Batch *batch)
{
	MemoryContext old = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(old);
	PG_TRY();
	{
		look(batch);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(old);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(old);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(old);
		CurrentResourceOwner = owner;
		if (ends_the_query(error))
			ReThrowError(error);
		FreeErrorData(error);
		/* The row raises it again, when it is its turn. */
		row_at(batch, batch->n_looked)->alone = true;
		batch->n_looked++;
	}
	PG_END_TRY();
}

static void
send_ticket(Gpt2Batch *batch, Gpt2Ticket *ticket)
{
	if (!ticket->bytes)
		return;
	for (int i = 0; i < batch->n_sent; i++)
		for (int site = 0; site < batch->n_sites; site++)
			if (gpt2_ticket_share(ticket, &row_at(batch, i)->tickets[site], &batch->figures))
				return;
	if (!gpt2_requests_are_many())
		gpt2_ticket_send(ticket, &batch->figures);
}

static void
look_ahead(Gpt2Batch *batch)
{
	bool		is_held = batch->n_looked > 0 && row_at(batch, batch->n_looked - 1)->alone;

	if (is_held || batch->n_looked == batch->n_rows)
		return;
	if (!IsInParallelMode())
		look_in_subtransaction(batch);
	else if (batch->done > 0)
		look(batch);
	else
		return;
	batch->figures.batches++;
	while (batch->n_sent < batch->n_looked)
	{
		Gpt2BatchRow *row = row_at(batch, batch->n_sent);

		for (int i = 0; i < batch->n_sites; i++)
			send_ticket(batch, &row->tickets[i]);
		batch->n_sent++;
	}
}

/* ---- execution ---- */

/* The first row; NULL: the qual does not let it through. */
static TupleTableSlot *
evaluate_row(Gpt2Batch *batch)
{
	PlanState  *ps = &batch->scan.ss.ps;
	Gpt2BatchRow *row = row_at(batch, 0);
	TupleTableSlot *result = NULL;

	set_row(batch, row->tuple);
	for (int i = 0; i < batch->n_sites; i++)
		batch->sites[i].current = &row->tickets[i];
	if (ExecQual(ps->qual, ps->ps_ExprContext))
		result = ps->ps_ProjInfo ? ExecProject(ps->ps_ProjInfo) : batch->slot;
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

	if (!batch->started)
		find_bound(batch);
	batch->started = true;
	for (;;)
	{
		TupleTableSlot *result;

		CHECK_FOR_INTERRUPTS();
		forget_given(batch);
		read_ahead(batch);
		if (batch->n_rows == 0)
			return ExecClearTuple(node->ss.ps.ps_ResultTupleSlot);
		look_ahead(batch);
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
 * Projection and qual are compiled again, from copies: a plan may be executed twice at once, and a
 * call finds its site by the address of its expression.  The first time, the executor took the rows
 * for virtual tuples, which those of batch->slot are not.
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
		batch->rows[i].tickets = palloc0((batch->n_sites + 1) * sizeof(Gpt2Ticket));
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
	batch->ended = batch->started = false;
	batch->done = batch->returned = batch->run_returned = 0;
	if (outerPlanState(node)->chgParam == NULL)
		ExecReScan(outerPlanState(node));
}

/* No more rows are wanted: nobody is to wait for what is in flight. */
static void
shutdown_batch(CustomScanState *node)
{
	Gpt2Batch  *batch = (Gpt2Batch *) node;

	for (int i = 0; i < batch->n_rows; i++)
		end_tickets(batch, row_at(batch, i));
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
