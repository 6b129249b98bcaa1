/*
 * train_watch.c: what can be seen of trainings: the rows of gpt_stat_progress_train, and the curve
 * that a finished model's folder keeps.
 *
 * A training is shown to those who have the privileges of the role that it is for, and to
 * pg_read_all_stats.
 */
#include "compat.h"

#include <math.h>

#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "file.h"
#include "folder.h"
#include "result.h"
#include "trainings.h"

PG_FUNCTION_INFO_V1(gpt2_stat_progress_train);
PG_FUNCTION_INFO_V1(gpt2_training_log);

/* ---- progress ---- */

enum
{
	COL_MODEL, COL_OWNER, COL_DATABASE, COL_PID, COL_STATE, COL_PHASE, COL_ROWS, COL_STEP,
	COL_STEPS, COL_LOSS, COL_HELD_OUT, COL_TOKENS, COL_RATE, COL_STARTED, COL_UPDATED,
	COL_ESTIMATE, N_COLUMNS
};

static void
set_real(double v, int column, Datum *values, bool *nulls)
{
	values[column] = Float8GetDatum(v);
	nulls[column] = isnan(v);
}

static const char *
phase_name(uint32 phase)
{
	switch (phase)
	{
		case G2_TRAIN_READING:
			return "reading rows";
		case G2_TRAIN_TOKENIZING:
			return "tokenizing";
		case G2_TRAIN_STEPS:
			return "training";
		default:
			return "writing the model";
	}
}

/* Microseconds until the last step, at the speed so far; 0 = nobody knows. */
static int64
time_left(const g2_train_progress *p)
{
	double		tokens;

	if (p->step == 0 || p->step >= p->steps || p->tokens_per_second <= 0)
		return 0;
	tokens = (double) p->tokens / p->step * (p->steps - p->step);
	return (int64) (tokens / p->tokens_per_second * 1e6);
}

typedef struct Rows
{
	Tuplestorestate *store;
	TupleDesc	tupdesc;
} Rows;

static void
put_progress(const char *directory, const g2_train_progress *p, void *arg)
{
	Rows	   *rows = arg;
	Datum		values[N_COLUMNS] = {0};
	bool		nulls[N_COLUMNS] = {false};
	bool		running = gpt2_training_is_running(directory);
	int64		left = running ? time_left(p) : 0;

	gpt2_set_text(g2_span_of(p->model), &values[COL_MODEL], &nulls[COL_MODEL]);
	values[COL_OWNER] = ObjectIdGetDatum(p->owner_oid);
	values[COL_DATABASE] = ObjectIdGetDatum(p->database);
	values[COL_PID] = Int32GetDatum((int32) p->pid);
	nulls[COL_PID] = !running;
	values[COL_STATE] = CStringGetTextDatum(running ? "running" : "stopped");
	values[COL_PHASE] = CStringGetTextDatum(phase_name(p->phase));
	values[COL_ROWS] = Int64GetDatum((int64) p->rows);
	values[COL_STEP] = Int32GetDatum((int32) p->step);
	values[COL_STEPS] = Int32GetDatum((int32) p->steps);
	nulls[COL_STEPS] = p->steps == 0;
	set_real(p->step ? p->loss : NAN, COL_LOSS, values, nulls);
	set_real(p->step ? p->held_out_loss : NAN, COL_HELD_OUT, values, nulls);
	values[COL_TOKENS] = Int64GetDatum((int64) p->tokens);
	set_real(running && p->tokens_per_second > 0 ? p->tokens_per_second : NAN, COL_RATE, values,
			 nulls);
	gpt2_set_time(p->started_us, &values[COL_STARTED], &nulls[COL_STARTED]);
	gpt2_set_time(p->updated_us, &values[COL_UPDATED], &nulls[COL_UPDATED]);
	gpt2_set_time(left ? p->updated_us + left : 0, &values[COL_ESTIMATE], &nulls[COL_ESTIMATE]);
	tuplestore_putvalues(rows->store, rows->tupdesc, values, nulls);
}

Datum
gpt2_stat_progress_train(PG_FUNCTION_ARGS)
{
	Rows		rows;

	rows.store = gpt2_begin_rows(fcinfo, &rows.tupdesc);
	gpt2_for_each_training(has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS), put_progress,
						   &rows);
	return (Datum) 0;
}

/* ---- the curve ---- */

enum
{
	LOG_STEP, LOG_LOSS, LOG_HELD_OUT, LOG_RATE, LOG_TOKENS, LOG_SECONDS, N_LOG_COLUMNS
};

static void
raise_damaged(const char *model)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("%s of model \"%s\" is damaged", G2_TRAIN_LOG_FILE, model)));
}

/* The field at *at, up to a comma or the line's end, as a number; NaN where it is empty. */
static double
next_field(char **at, bool last, const char *model)
{
	char	   *end = *at + strcspn(*at, ",\n"),
			   *stop;
	double		value = NAN;

	if (end > *at)
	{
		value = strtod(*at, &stop);
		if (stop != end)
			raise_damaged(model);
	}
	if (*end != (last ? '\n' : ','))
		raise_damaged(model);
	*at = end + 1;
	return value;
}

/* A whole number from 0 on; Datum of int4 or int8. */
static int64
whole(double v, double most, const char *model)
{
	if (!(v >= 0 && v <= most))
		raise_damaged(model);
	return (int64) v;
}

static void
put_line(char **at, const char *model, Tuplestorestate *store, TupleDesc tupdesc)
{
	Datum		values[N_LOG_COLUMNS] = {0};
	bool		nulls[N_LOG_COLUMNS] = {false};

	for (int i = 0; i < N_LOG_COLUMNS; i++)
	{
		double		v = next_field(at, i == N_LOG_COLUMNS - 1, model);

		if (i == LOG_STEP)
			values[i] = Int32GetDatum((int32) whole(v, PG_INT32_MAX, model));
		else if (i == LOG_TOKENS)
			values[i] = Int64GetDatum(whole(v, 1e18, model));
		else
			set_real(v, i, values, nulls);
	}
	tuplestore_putvalues(store, tupdesc, values, nulls);
}

static char *
read_log(const char *model)
{
	char	   *folder = gpt2_folder_require(model),
			   *error,
			   *data;
	size_t		len;

	gpt2_folder_check_use(model, folder);
	data = gpt2_file_read(psprintf("%s/%s", folder, G2_TRAIN_LOG_FILE), G2_TRAIN_LOG_FILE,
						  G2_TRAIN_MAX_LOG, &len, &error);
	if (!data && error)
		ereport(ERROR,
				(errcode(ERRCODE_IO_ERROR),
				 errmsg("cannot read the training log of model \"%s\"", model),
				 errdetail_internal("%s", error)));
	if (!data)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FILE),
				 errmsg("model \"%s\" has no training log", model),
				 errhint("Models made by gpt_train and gpt_finetune have one.")));
	return data;
}

Datum
gpt2_training_log(PG_FUNCTION_ARGS)
{
	TupleDesc	tupdesc;
	Tuplestorestate *store = gpt2_begin_rows(fcinfo, &tupdesc);
	char	   *model,
			   *at;

	if (PG_ARGISNULL(0))
		return (Datum) 0;
	model = text_to_cstring(PG_GETARG_TEXT_PP(0));
	at = read_log(model);
	at += strcspn(at, "\n");	/* names of the columns */
	if (*at == '\n')
		at++;
	while (*at)
	{
		CHECK_FOR_INTERRUPTS();
		put_line(&at, model, store, tupdesc);
	}
	return (Datum) 0;
}
