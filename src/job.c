/*
 * job.c: CALL gpt_batch: fills a column for all rows that lack it, committing as it goes.
 *
 * A batch is one transaction: its rows are read and locked, their calls made with many in flight,
 * the outputs written and committed.  So whatever ends the job, a crash or a cancel, loses no more
 * than one batch, and the next CALL goes on from there.
 *
 * An error of a row is the row's alone: the row gets no output and the error's message.  Where the
 * engine fails, what is finished is committed, the job waits and goes on; after some failures
 * without a row in between the error is raised.  What else goes wrong is raised at once, again after
 * the finished rows have been committed.
 *
 * Every transaction is READ COMMITTED, whatever the session's default is: only so can a row that
 * another session has changed meanwhile be taken as it is now.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/trigger.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "attempt.h"
#include "batch_estimate.h"
#include "guc.h"
#include "job.h"
#include "link.h"

PG_FUNCTION_INFO_V1(gpt2_job);

#define MAX_FAULTS 5			/* of the engine, without a row in between */
#define FIRST_PAUSE_MS 1000		/* after the first; twice as long after each other */
#define TELL_MS 10000			/* between two NOTICEs */
#define BATCH_MS 30000			/* then a batch ends, however many rows are done: their locks are in the way */
#define RESULT_COLUMNS 3

/* ---- transactions ---- */

/* The work so far is committed, and another transaction has begun, as the session has them. */
static void
commit(void)
{
	SPI_commit();
	SPI_start_transaction();	/* before the minor releases of 2022 it was not begun yet */
}

/* The next one of the job's own. */
static void
next_transaction(void)
{
	ConstraintsSetStmt immediate = {.type = T_ConstraintsSetStmt};

	commit();
	gpt2_set("transaction_isolation", "read committed", GUC_ACTION_LOCAL);
	/* Errors of rows are caught here, where their messages can be kept. */
	gpt2_set("gpt2.on_error", "error", GUC_ACTION_LOCAL);
	/* A constraint that is deferred would fail the commit, and all rows with it. */
	AfterTriggerSetState(&immediate);
}

static void
require_transactions(FunctionCallInfo fcinfo)
{
	if (fcinfo->context && IsA(fcinfo->context, CallContext) &&
		!((CallContext *) fcinfo->context)->atomic)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
			 errmsg("gpt_batch commits as it goes, so it cannot run inside a transaction block"),
			 errhint("Call it on its own: with autocommit in psycopg and other drivers, in auto-commit "
					 "mode in DBeaver, in a dbt hook with transaction: false, or from pg_cron. Inside a "
					 "transaction use UPDATE ... SET.")));
}

/* ---- errors ---- */

bool
gpt2_job_is_row_error(const ErrorData *error)
{
	switch (ERRCODE_TO_CATEGORY(error->sqlerrcode))
	{
		case ERRCODE_DATA_EXCEPTION:
		case ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION:
		case ERRCODE_PROGRAM_LIMIT_EXCEEDED:
			return true;
		default:
			return false;
	}
}

static void
try_call(void *arg)
{
	gpt2_job_try_call(arg);
}

/* An error of parameters or limits may be that of all rows: a task that the model does not have, a
 * regex that is too complex.  Then a call with any text raises it too.  NULL: it is the row's. */
static ErrorData *
error_of_all_rows(Gpt2Job *job, const ErrorData *error)
{
	ErrorData  *of_all;

	if (job->checked || (error->sqlerrcode != ERRCODE_INVALID_PARAMETER_VALUE &&
						 error->sqlerrcode != ERRCODE_PROGRAM_LIMIT_EXCEEDED))
		return NULL;
	of_all = gpt2_attempt(try_call, job);
	job->checked = of_all == NULL;
	return of_all;
}

/* ---- a batch ---- */

typedef struct CallOfRow
{
	Gpt2Job    *job;
	Gpt2JobRow *row;
} CallOfRow;

static void
call_row(void *arg)
{
	CallOfRow  *call = arg;

	gpt2_job_call(call->job, call->row);
}

/* False: the batch ends before this row. */
static bool
finish_row(Gpt2Job *job, Gpt2JobRow *row)
{
	CallOfRow	call = {job, row};
	ErrorData  *error = gpt2_attempt(call_row, &call);

	job->call.site.current = NULL;
	if (!error)
		return true;
	if (gpt2_job_is_row_error(error) && !job->stops_at_error)
	{
		ErrorData  *of_all = error_of_all_rows(job, error);

		if (!of_all)
		{
			row->error = error->message;
			return true;
		}
		error = of_all;
	}
	if (error->sqlerrcode == ERRCODE_SYSTEM_ERROR)
		job->fault = error;
	else
		job->raised = error;
	return false;
}

static void
report(Gpt2Job *job, int in_batch)
{
	job->progress.done = job->done + in_batch;
	job->progress.failed = job->failed;
	job->progress.tokens = (int64) (job->call.figures.prompt_tokens +
									job->call.figures.new_tokens);
	gpt2_progress_report(&job->progress);
}

/* The batch's time is over: what has begun is finished, at least a row, and the rest left to the next. */
static bool
is_at_end(const Gpt2Job *job)
{
	return job->n_finished > 0 && job->n_finished >= job->n_looked;
}

static void
finish_rows(Gpt2Job *job)
{
	MemoryContext old = MemoryContextSwitchTo(job->batch_context);

	job->batch_end = Min(job->deadline,
						 TimestampTzPlusMilliseconds(GetCurrentTimestamp(), BATCH_MS));
	PushActiveSnapshot(GetTransactionSnapshot());
	while (job->n_finished < job->n_rows)
	{
		CHECK_FOR_INTERRUPTS();
		if (GetCurrentTimestamp() < job->batch_end)
			gpt2_job_look_ahead(job, job->n_finished);
		else if (is_at_end(job))
			break;
		if (!finish_row(job, &job->rows[job->n_finished]))
			break;
		job->n_finished++;
		report(job, job->n_finished);
	}
	gpt2_job_forget_calls(job);
	PopActiveSnapshot();
	MemoryContextSwitchTo(old);
}

/* False: the pass is at its end. */
static bool
run_batch(Gpt2Job *job)
{
	MemoryContext old;
	bool		more;

	MemoryContextReset(job->batch_context);
	old = MemoryContextSwitchTo(job->batch_context);
	job->rows = NULL;
	job->read_keys = NULL;
	job->n_rows = job->n_looked = job->n_finished = 0;
	more = gpt2_job_read(job, job->max_rows - job->done - job->failed);
	if (job->n_rows > 0)
		finish_rows(job);
	gpt2_job_write(job);
	next_transaction();
	report(job, 0);
	MemoryContextSwitchTo(old);
	return more;
}

/* ---- from batch to batch ---- */

static void
pause_for(long milliseconds)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), milliseconds);
	long		left;

	while ((left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end)) > 0)
		gpt2_pause(left, PG_WAIT_EXTENSION);
}

/* Waits after a failure of the engine, or raises it. */
static void
settle_fault(Gpt2Job *job)
{
	if (job->raised)
		ReThrowError(job->raised);
	if (job->n_finished > 0)
		job->n_faults = 0;
	if (!job->fault)
		return;
	if (++job->n_faults > MAX_FAULTS)
		ReThrowError(job->fault);
	ereport(NOTICE,
			(errmsg("gpt_batch waits, because the engine has failed: %s", job->fault->message)));
	FreeErrorData(job->fault);
	job->fault = NULL;
	pause_for(FIRST_PAUSE_MS << (job->n_faults - 1));
}

static void
tell(Gpt2Job *job)
{
	TimestampTz now = GetCurrentTimestamp();
	double		rows = (double) (job->done + job->failed),
				seconds = (double) (now - job->progress.started) / USECS_PER_SEC,
				left = (double) Max(job->total - job->done - job->failed, 0);

	if (rows == 0 || !TimestampDifferenceExceeds(job->told, now, TELL_MS))
		return;
	job->told = now;
	ereport(NOTICE,
			(errmsg("gpt_batch: " INT64_FORMAT " of " INT64_FORMAT " rows done, " INT64_FORMAT
					" failed, %.1f rows/s, about %s left", job->done, job->total, job->failed,
					rows / seconds, gpt2_duration_text(left * seconds / rows))));
}

/* Without a column for them nobody else would see why rows failed. */
static void
warn_of_failures(const Gpt2Job *job)
{
	if (!job->first_error || job->error.name)
		return;
	ereport(WARNING,
			(errmsg(INT64_FORMAT " of " INT64_FORMAT " rows of gpt_batch failed, first: %s",
					job->failed, job->done + job->failed, job->first_error),
			 errdetail("Key of the first: %s.", job->first_error_key),
			 errhint("With error_column, the name of a column of type text, each row keeps its "
					 "message, and is not tried again by the next CALL.")));
}

static bool
is_over(const Gpt2Job *job)
{
	return job->done + job->failed >= job->max_rows ||
		(job->deadline != DT_NOEND && GetCurrentTimestamp() >= job->deadline);
}

/* Passes over the table, until one finds nothing new. */
static void
run(Gpt2Job *job)
{
	job->pass = 1;
	while (!is_over(job))
	{
		if (run_batch(job))
		{
			settle_fault(job);
			tell(job);
			continue;
		}
		if (!job->found_any)
			break;
		job->pass++;
		job->last_keys = NULL;
		job->found_any = false;
	}
}

/* ---- the procedure ---- */

static Gpt2Job *
make_job(FunctionCallInfo fcinfo)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "gpt_batch",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Gpt2Job    *job = palloc0(sizeof *job);

	job->context = context;
	job->batch_context = AllocSetContextCreate(context, "gpt_batch's rows",
											   ALLOCSET_DEFAULT_SIZES);
	job->schema = get_namespace_name(get_func_namespace(fcinfo->flinfo->fn_oid));
	gpt2_job_read_arguments(fcinfo, job);
	gpt2_job_prepare(job);
	gpt2_job_call_begin(job);
	MemoryContextSwitchTo(old);
	return job;
}

static Datum
make_result(FunctionCallInfo fcinfo, const int64 *figures)
{
	TupleDesc	desc;
	Datum		values[RESULT_COLUMNS];
	bool		nulls[RESULT_COLUMNS] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE ||
		desc->natts != RESULT_COLUMNS)
		elog(ERROR, "gpt_batch does not return what it is declared to");
	for (int i = 0; i < RESULT_COLUMNS; i++)
		values[i] = Int64GetDatum(figures[i]);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

Datum
gpt2_job(PG_FUNCTION_ARGS)
{
	int64		figures[RESULT_COLUMNS];
	Gpt2Job    *job;

	require_transactions(fcinfo);
	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to the server programming interface");
	job = make_job(fcinfo);
	next_transaction();
	job->total = gpt2_job_count(job);
	gpt2_progress_begin(&job->progress, job->context, "CALL gpt_batch", job->source, job->total);
	job->told = job->progress.started;
	run(job);
	figures[0] = job->done;
	figures[1] = job->failed;
	figures[2] = gpt2_job_count(job);
	warn_of_failures(job);
	MemoryContextDelete(job->context);
	/* A block of PL/pgSQL may go on in it. */
	commit();
	SPI_finish();
	return make_result(fcinfo, figures);
}
