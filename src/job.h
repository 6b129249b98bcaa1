/*
 * job.h: one CALL of gpt_batch; for job*.c alone.
 *
 * job_arguments.c finds out what is asked for, job_filter.c checks the filter, job_statements.c
 * prepares the statements, job_rows.c reads and writes rows with them, job_call.c makes the call of
 * a row, and job.c goes from batch to batch.
 *
 * Everything of a Gpt2Job lives in `context`, which outlives its transactions; what belongs to a
 * batch in `batch_context`, which is emptied before each.
 */
#ifndef GPT2_JOB_H
#define GPT2_JOB_H

#include "postgres.h"

#include "executor/spi.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "batch_ahead.h"
#include "progress.h"

#define GPT2_JOB_SUMMARIZE "summarize"	/* the default of argument task */
#define GPT2_JOB_MAX_BATCH 10000	/* rows */

typedef struct Gpt2JobColumn
{
	const char *name;			/* NULL: there is none */
	Oid			type;
	int32		typmod;
} Gpt2JobColumn;

/* How a row's output is made. */
typedef enum Gpt2JobKind
{
	JOB_TASK,					/* a text, converted to the column's type */
	JOB_LABELS,					/* one of the labels in options */
	JOB_ENUM,					/* one of the type's labels */
	JOB_CONDITION,				/* whether a condition holds */
	JOB_EMBEDDING				/* a vector */
} Gpt2JobKind;

typedef struct Gpt2JobRow
{
	Datum	   *keys;
	text	   *input;
	Gpt2Ticket	tickets[GPT2_MAX_SCORES];
	Datum		value;			/* of the output column's type */
	char	   *error;			/* why there is none; NULL = there is one */
	bool		written;
} Gpt2JobRow;

/* One call of the function that makes the output. */
typedef struct Gpt2JobCall
{
	Gpt2BatchSite site;			/* where rows are looked ahead at */
	Gpt2BatchFigures figures;
	Gpt2CallSite real;
	FmgrInfo	flinfo;
	FunctionCallInfo fcinfo;	/* of the call itself; its first argument is the row's input */
	ExprContext *econtext;		/* of looks */
	ExprState  *cast;			/* of what it returns to the output column's type; NULL: there is none */
	bool		converts;		/* what it returns goes through the output column's input function */
	FmgrInfo	output_function;	/* of the type that it returns */
	FmgrInfo	input_function;
	Oid			io_param;
} Gpt2JobCall;

typedef struct Gpt2Job
{
	MemoryContext context;
	MemoryContext batch_context;

	/* what is asked for */
	const char *schema;			/* of the extension */
	Oid			source;
	Oid			target;			/* InvalidOid: the source itself */
	const char *source_name;	/* quoted */
	const char *target_name;	/* of the table that is written */
	const char *input;
	Gpt2JobColumn output;
	Gpt2JobColumn error;
	int			n_keys;
	Gpt2JobColumn *keys;
	Gpt2JobKind kind;
	const char *task;
	NullableDatum max_len;
	NullableDatum model;
	Jsonb	   *options;		/* NULL = none */
	const char *filter;			/* NULL = none */
	int			batch_size;
	bool		stops_at_error; /* on_error => 'error' */
	int64		max_rows;		/* PG_INT64_MAX = all */
	TimestampTz deadline;		/* of the job; DT_NOEND = none */
	bool		retry_errors;

	/* statements */
	SPIPlanPtr	first_plan;		/* rows from the beginning */
	SPIPlanPtr	next_plan;		/* rows behind some key */
	SPIPlanPtr	write_plan;
	SPIPlanPtr	count_plan;
	MemoryContextCallback at_end;	/* frees them */

	Gpt2JobCall call;

	/* the batch */
	Gpt2JobRow *rows;
	int			n_rows;
	int			n_looked;
	int			n_finished;		/* rows whose output or error is known */
	TimestampTz batch_end;		/* no call begins later */

	/* where the pass over the table is */
	int			pass;			/* from 1 */
	Datum	   *last_keys;		/* NULL: at the beginning */
	Datum	   *read_keys;		/* of the batch's last row */
	MemoryContext last_context;
	bool		found_any;		/* this pass found a row that had not been tried */
	HTAB	   *tried;			/* rows that are eligible still, and not to be tried again */

	/* results */
	int64		total;			/* eligible at the beginning */
	int64		done;
	int64		failed;
	char	   *first_error;	/* of the first row that failed, and its key; NULL: none has */
	char	   *first_error_key;
	ErrorData  *fault;			/* of the engine: the batch ended early */
	int			n_faults;		/* without a row in between */
	ErrorData  *raised;			/* what is raised when the rows before have been committed */
	bool		checked;		/* after a row's error: what all rows have in common is not to blame */
	Gpt2Progress progress;
	TimestampTz told;			/* the last NOTICE */
} Gpt2Job;

/* job_arguments.c: fills what is asked for; raises 22004, 22023, 42703 and so on. */
extern void gpt2_job_read_arguments(FunctionCallInfo fcinfo, Gpt2Job *job);

/* job_filter.c: raises an error unless this is one expression. */
extern void gpt2_job_check_filter(const char *filter);

/* job_statements.c: prepares the statements. */
extern void gpt2_job_prepare(Gpt2Job *job);

/* Parameters of what is written: output, error where there is a column for it, the key. */
static inline int
gpt2_job_first_key(const Gpt2Job *job)
{
	return job->error.name ? 3 : 2;
}

/* job_rows.c: rows that are eligible now. */
extern int64 gpt2_job_count(Gpt2Job *job);

/* Locks and reads the next rows of the pass, at most so many, and leaves out those that were tried
 * before; false: the pass is at its end. */
extern bool gpt2_job_read(Gpt2Job *job, int64 most);

/* Writes the finished rows, counts them, and goes on behind them. */
extern void gpt2_job_write(Gpt2Job *job);

/* job_call.c: prepares the calls; raises what is wrong with their arguments. */
extern void gpt2_job_call_begin(Gpt2Job *job);

/* Sends the calls of rows ahead of row `at`. */
extern void gpt2_job_look_ahead(Gpt2Job *job, int at);

/* Makes the row's output, or sets its `error` where there can be none; raises what goes wrong. */
extern void gpt2_job_call(Gpt2Job *job, Gpt2JobRow *row);

/* Makes a call with any text; raises what goes wrong. */
extern void gpt2_job_try_call(Gpt2Job *job);

/* Nobody waits for the calls of the batch any more. */
extern void gpt2_job_forget_calls(Gpt2Job *job);

/* job.c: an error of a row, by its SQLSTATE. */
extern bool gpt2_job_is_row_error(const ErrorData *error);

#endif							/* GPT2_JOB_H */
