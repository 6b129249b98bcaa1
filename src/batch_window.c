/*
 * batch_window.c: the rows that a GPT Batch node reads ahead and looks at.
 *
 * What cannot be looked ahead at (an argument raises an error, a seed is still to be drawn) stops
 * the looking until that row has been evaluated in its turn.  A call that may draw a seed stops
 * the reading too, until it has drawn: random() is to be called in the order that it is called in
 * without this node.  An error while looking must leave no traces, so that is done inside a
 * subtransaction; where there can be none, only calls whose arguments cannot fail are looked at, once
 * they have been called.
 *
 * The window: where the reader may stop early, it holds one row more than have been evaluated, so
 * that a LIMIT k never starts more than 2k rows; where all rows will be read, or so many are
 * known to be wanted, gpt2.batch_rows.  Rows that wait in it take no more than work_mem.
 */
#include "compat.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"

#include "attempt.h"
#include "batch_scan.h"
#include "guc.h"

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
void
gpt2_batch_find_bound(Gpt2Batch *batch)
{
	int64		count,
				offset;

	batch->bound = -1;
	batch->bound_known = true;
	if (batch->limit == NIL)
		return;
	count = evaluate_count(batch, (ExprState *) linitial(batch->limit));
	offset = evaluate_count(batch, (ExprState *) lsecond(batch->limit));
	if (count >= 0 && (offset <= 0 || count <= PG_INT64_MAX - offset))
		batch->bound = count + Max(offset, 0);
	/* Also where there is none: in an earlier scan there may have been one. */
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

static bool
has_room(const Gpt2Batch *batch)
{
	return batch->bytes < (size_t) work_mem * 1024;
}

void
gpt2_batch_read_ahead(Gpt2Batch *batch)
{
	int			wanted = window(batch);

	while (!batch->ended && batch->n_rows < wanted &&
		   (batch->n_rows == 0 || (has_room(batch) && !gpt2_requests_are_many())))
	{
		TupleTableSlot *slot = ExecProcNode(outerPlanState(batch));
		MemoryContext old;

		if (TupIsNull(slot))
		{
			batch->ended = true;
			break;
		}
		old = MemoryContextSwitchTo(batch->context);
		gpt2_row_at(batch, batch->n_rows)->tuple = ExecCopySlotMinimalTuple(slot);
		MemoryContextSwitchTo(old);
		batch->bytes += gpt2_row_at(batch, batch->n_rows)->tuple->t_len;
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
	while (batch->n_looked < batch->n_rows && (batch->n_looked == 0 || has_room(batch)))
	{
		Gpt2BatchRow *row = gpt2_row_at(batch, batch->n_looked);

		CHECK_FOR_INTERRUPTS();
		gpt2_set_row(batch, row->tuple);
		for (int i = 0; i < batch->n_sites; i++)
		{
			Gpt2Ticket *tickets = &row->tickets[i * GPT2_MAX_SCORES];

			row->alone |= !gpt2_site_look(&batch->sites[i], econtext, tickets);
			for (int k = 0; k < GPT2_MAX_SCORES; k++)
				batch->bytes += gpt2_ticket_bytes(&tickets[k]);
		}
		batch->n_looked++;
		if (row->alone)
			break;
	}
	MemoryContextSwitchTo(old);
}

static void
look_step(void *arg)
{
	Gpt2Batch  *batch = arg;
	int			level = NewGUCNestLevel();
	bool		is_silent = true;

	for (int i = 0; i < batch->n_sites; i++)
		is_silent &= batch->sites[i].never_fails;
	/* What functions in arguments say, the row will make them say when it is its turn. */
	if (!is_silent)
	{
		gpt2_set("client_min_messages", "error", GUC_ACTION_SAVE);
		gpt2_set("log_min_messages", "error", GUC_ACTION_SAVE);
	}
	look(batch);
	AtEOXact_GUC(true, level);
}

static void
look_in_subtransaction(Gpt2Batch *batch)
{
	ErrorData  *error = gpt2_attempt(look_step, batch);

	if (!error)
		return;
	/* Behind the last row it was the end of the subtransaction that failed. */
	if (batch->n_looked == batch->n_rows)
		ReThrowError(error);
	FreeErrorData(error);
	/* The row raises it again, when it is its turn. */
	gpt2_row_at(batch, batch->n_looked)->alone = true;
	batch->n_looked++;
}

/* Parallel plans permit none.  On a standby a conflict with recovery ends the whole session when it
 * comes while one is open, and otherwise the statement. */
static bool
can_have_subtransactions(void)
{
	return !IsInParallelMode() && !RecoveryInProgress();
}

/* Constant arguments are good if they were once, and others are texts. */
static bool
looks_are_safe(const Gpt2Batch *batch)
{
	for (int i = 0; i < batch->n_sites; i++)
		if (!batch->sites[i].never_fails || !batch->sites[i].real)
			return false;
	return true;
}

/* A subquery that is run holds pages until the query ends, so it must not be run in a
 * subtransaction; the evaluation of a row runs it. */
static bool
looks_must_wait(const Gpt2Batch *batch)
{
	for (int i = 0; i < batch->n_sites; i++)
		if (gpt2_site_waits(&batch->sites[i], batch->scan.ss.ps.ps_ExprContext))
			return true;
	return false;
}

static void
send_ticket(Gpt2Batch *batch, Gpt2Ticket *ticket)
{
	if (!ticket->bytes)
		return;
	for (int i = 0; i <= batch->n_sent; i++)
		if (gpt2_ticket_share(ticket, gpt2_row_at(batch, i)->tickets, gpt2_n_tickets(batch),
							  &batch->figures))
			return;
	gpt2_ticket_send(ticket, &batch->figures);
}

/* Where there are too many requests, the rest is sent when some have been answered. */
static void
send_looked(Gpt2Batch *batch)
{
	while (batch->n_sent < batch->n_looked && !gpt2_requests_are_many())
	{
		Gpt2BatchRow *row = gpt2_row_at(batch, batch->n_sent);

		for (int i = 0; i < gpt2_n_tickets(batch); i++)
			send_ticket(batch, &row->tickets[i]);
		batch->n_sent++;
	}
}

static bool
can_look(const Gpt2Batch *batch)
{
	bool		is_held = batch->n_looked > 0 && gpt2_row_at(batch, batch->n_looked - 1)->alone;

	return !is_held && batch->n_looked < batch->n_rows &&
		(batch->n_looked == 0 || has_room(batch)) && !looks_must_wait(batch) &&
		(can_have_subtransactions() || looks_are_safe(batch));
}

void
gpt2_batch_look_ahead(Gpt2Batch *batch)
{
	if (can_look(batch))
	{
		if (can_have_subtransactions())
			look_in_subtransaction(batch);
		else
			look(batch);
		batch->figures.batches++;
	}
	send_looked(batch);
}
