/*
 * stats.c: the rows of gpt_stat_requests, gpt_stat_usage, gpt_stat_engine and
 * gpt_stat_progress_batch; gpt_stat_reset.
 *
 * The engine owns all of it.  None of these functions starts one: without an engine nothing is
 * going on, and usage is what it has saved.
 *
 * Who sees what: rows of requests, usage and progress, those whose role the current user has the privileges
 * of; rows of models, those that it may use.  pg_read_all_stats sees all.
 */
#include "compat.h"

#include "catalog/pg_authid.h"
#include "commands/dbcommands.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"

#include "admin.h"
#include "client.h"
#include "encoding.h"
#include "models.h"
#include "result.h"
#include "saved_usage.h"
#include "supervisor.h"
#include "wire.h"

PG_FUNCTION_INFO_V1(gpt2_stat_requests);
PG_FUNCTION_INFO_V1(gpt2_stat_usage);
PG_FUNCTION_INFO_V1(gpt2_stat_engine);
PG_FUNCTION_INFO_V1(gpt2_stat_progress_batch);
PG_FUNCTION_INFO_V1(gpt2_stat_reset);

#define MAX_COLUMNS 18
#define MONTHS 12
#define MAX_SECONDS_LEFT 1e9	/* an end that is further away than that is no estimate */

/* The row that is being filled, column by column in the order of the OUT parameters. */
typedef struct Row
{
	int			n;
	Datum		values[MAX_COLUMNS];
	bool		nulls[MAX_COLUMNS];
} Row;

/* The rows of one answer. */
typedef struct Rows
{
	TupleDesc	tupdesc;
	Tuplestorestate *store;
	g2_reader	reader;
	uint32		left;
} Rows;

/* ---- rows ---- */

static void
begin_rows(FunctionCallInfo fcinfo, Rows *rows)
{
	memset(rows, 0, sizeof *rows);
	rows->store = gpt2_begin_rows(fcinfo, &rows->tupdesc);
}

static void
check_reader(const Rows *rows)
{
	if (rows->reader.failed)
		gpt2_malformed_answer();
}

static void
read_rows(Rows *rows, const char *payload, size_t len)
{
	rows->reader = g2_read(payload, len);
	rows->left = g2_get_u32(&rows->reader);
	check_reader(rows);
}

/* False after the last; what follows reads one, and then calls check_reader. */
static bool
next_row(Rows *rows, Row *row)
{
	CHECK_FOR_INTERRUPTS();
	memset(row, 0, sizeof *row);
	if (rows->left == 0)
		return false;
	rows->left--;
	return true;
}

static void
put_row(Rows *rows, Row *row)
{
	Assert(row->n == rows->tupdesc->natts);
	tuplestore_putvalues(rows->store, rows->tupdesc, row->values, row->nulls);
}

/* ---- columns ---- */

static void
put(Row *row, Datum value)
{
	Assert(row->n < MAX_COLUMNS);
	row->values[row->n++] = value;
}

static void
put_null(Row *row)
{
	row->nulls[row->n] = true;
	put(row, (Datum) 0);
}

static void
put_int4(Row *row, uint32 v)
{
	put(row, Int32GetDatum((int32) Min(v, (uint32) PG_INT32_MAX)));
}

static void
put_int8(Row *row, uint64 v)
{
	put(row, Int64GetDatum((int64) Min(v, (uint64) PG_INT64_MAX)));
}

static void
put_float8(Row *row, double v)
{
	put(row, Float8GetDatum(v));
}

static void
put_text(Row *row, g2_span s)
{
	gpt2_set_text(s, &row->values[row->n], &row->nulls[row->n]);
	row->n++;
}

static void
put_time(Row *row, int64 unix_microseconds)
{
	gpt2_set_time(unix_microseconds, &row->values[row->n], &row->nulls[row->n]);
	row->n++;
}

static void
put_interval(Row *row, uint64 microseconds)
{
	Interval   *interval = palloc0(sizeof *interval);

	interval->time = (int64) Min(microseconds, (uint64) PG_INT64_MAX);
	put(row, IntervalPGetDatum(interval));
}

/* NULL where it would be a division by nothing. */
static void
put_quotient(Row *row, double dividend, double divisor)
{
	if (divisor > 0)
		put_float8(row, dividend / divisor);
	else
		put_null(row);
}

static void
put_name(Row *row, const char *s)
{
	Name		name;

	if (!s)
	{
		put_null(row);
		return;
	}
	name = palloc0(sizeof *name);
	namestrcpy(name, s);
	put(row, NameGetDatum(name));
}

/* Both may have been dropped. */
static void
put_role_and_database(Row *row, Oid role, Oid database)
{
	put_name(row, GetUserNameFromId(role, true));
	put_name(row, get_database_name(database));
}

static bool
sees_all(void)
{
	return has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
}

static bool
sees_role(Oid role)
{
	return has_privs_of_role(GetUserId(), role) || sees_all();
}

/* ---- requests ---- */

static const char *
state_name(uint32 state)
{
	switch (state)
	{
		case G2_STATE_LOADING:
			return "loading";
		case G2_STATE_THROTTLED:
			return "throttled";
		case G2_STATE_PREFILL:
			return "prefill";
		case G2_STATE_DECODE:
			return "decode";
		default:
			return "queued";
	}
}

static void
put_request(Row *row, const g2_request_row *m)
{
	put_int4(row, m->pid);
	put_role_and_database(row, m->session_user, m->database);
	put_text(row, m->model);
	put(row, CStringGetTextDatum(state_name(m->state)));
	/* Not known before it is tokenized. */
	if (m->prompt_tokens > 0)
		put_int4(row, m->prompt_tokens);
	else
		put_null(row);
	put_int4(row, m->generated_tokens);
	put_int4(row, m->max_len);
	put_time(row, m->queued_at);
	put_time(row, m->started_at);
}

Datum
gpt2_stat_requests(PG_FUNCTION_ARGS)
{
	Rows		rows;
	Row			row;
	size_t		len;
	char	   *payload = gpt2_ask_running(G2_MSG_REQUESTS, G2_MSG_REQUEST_LIST, &len, NULL);

	begin_rows(fcinfo, &rows);
	if (payload)
		read_rows(&rows, payload, len);
	while (next_row(&rows, &row))
	{
		g2_request_row m;

		g2_request_row_get(&rows.reader, &m);
		check_reader(&rows);
		if (!sees_role(m.session_user))
			continue;
		put_request(&row, &m);
		put_row(&rows, &row);
	}
	return (Datum) 0;
}

/* ---- usage ---- */

/* The month's first day. */
static void
put_month(Row *row, uint32 month)
{
	int			year = (int) (month / MONTHS);

	if (!IS_VALID_JULIAN(year, 1, 1))
		gpt2_malformed_answer();
	put(row, DateADTGetDatum(date2j(year, (int) (month % MONTHS) + 1, 1) -
							 POSTGRES_EPOCH_JDATE));
}

static void
put_usage(Row *row, const g2_usage_row *m)
{
	put_month(row, m->month);
	put_role_and_database(row, m->role, m->database);
	put_text(row, m->model);
	put_int8(row, m->calls);
	put_int8(row, m->sequences);
	put_int8(row, m->prompt_tokens);
	put_int8(row, m->cached_tokens);
	put_int8(row, m->completion_tokens);
	put_int8(row, m->result_hits);
	put_int8(row, m->truncated);
	put_int8(row, m->errors);
	put_int8(row, m->cancelled);
	put_interval(row, m->queue_us);
	put_interval(row, m->compute_us);
	put_float8(row, m->cost);
	/* Without a price it is not known, which is not the same as free. */
	put_quotient(row, m->cost * 1e6,
				 m->cost > 0 ? (double) m->prompt_tokens + (double) m->completion_tokens : 0);
}

Datum
gpt2_stat_usage(PG_FUNCTION_ARGS)
{
	Rows		rows;
	Row			row;
	size_t		len;
	g2_span		saved;
	char	   *payload = gpt2_ask_running(G2_MSG_USAGE, G2_MSG_USAGE_LIST, &len, NULL);

	begin_rows(fcinfo, &rows);
	if (payload)
		read_rows(&rows, payload, len);
	else if (gpt2_usage_file_load(&saved))
		read_rows(&rows, saved.data, saved.len);
	while (next_row(&rows, &row))
	{
		g2_usage_row m;

		g2_usage_row_get(&rows.reader, &m);
		check_reader(&rows);
		if (!sees_role(m.role))
			continue;
		put_usage(&row, &m);
		put_row(&rows, &row);
	}
	return (Datum) 0;
}

void
gpt2_reset_usage(void)
{
	g2_writer	nothing = {.data = NULL};

	/* An engine that is on its way may have read the file already: it has to be asked. */
	if (gpt2_engine_expected())
		gpt2_run_until_done(G2_MSG_USAGE_RESET, &nothing);
	else
		gpt2_usage_file_remove();
}

Datum
gpt2_stat_reset(PG_FUNCTION_ARGS)
{
	gpt2_reset_usage();
	PG_RETURN_VOID();
}

/* ---- the engine ---- */

/* Models that the current user may see: their names. */
static void
collect_visible(const g2_model_row *m, void *arg)
{
	List	  **visible = arg;

	if (gpt2_model_is_visible(m))
		*visible = lappend(*visible, pnstrdup(m->name.data, m->name.len));
}

static bool
is_visible(List *visible, g2_span model)
{
	ListCell   *cell;

	foreach(cell, visible)
	{
		if (g2_span_is(model, (const char *) lfirst(cell)))
			return true;
	}
	return false;
}

static void
put_engine(Row *row, const g2_engine_row *m)
{
	put_text(row, m->model);
	put_text(row, m->format);
	put_int8(row, m->steps);
	put_quotient(row, (double) m->step_sequences, (double) m->steps);
	put_float8(row, m->tokens_per_second);
	put_quotient(row, (double) m->completion_tokens * USECS_PER_SEC, (double) m->busy_us);
	put_int8(row, m->prompt_tokens);
	put_int8(row, m->completion_tokens);
	put_int4(row, m->running);
	put_int4(row, m->queued);
	put_int8(row, m->kv_blocks_used);
	put_int8(row, m->kv_blocks_cached);
	put_int8(row, m->kv_blocks_total);
	put_quotient(row, (double) m->prefix_hits, (double) m->prefix_asked);
	put_int8(row, m->preemptions);
	put_int8(row, m->bytes);
	put_int8(row, m->drafted_tokens);
	put_quotient(row, (double) m->drafts_kept, (double) m->drafted_tokens);
}

Datum
gpt2_stat_engine(PG_FUNCTION_ARGS)
{
	Rows		rows;
	Row			row;
	size_t		len;
	List	   *visible = NIL;
	bool		all = sees_all();
	char	   *payload = gpt2_ask_running(G2_MSG_ENGINE, G2_MSG_ENGINE_LIST, &len, NULL);

	begin_rows(fcinfo, &rows);
	if (payload)
		read_rows(&rows, payload, len);
	/* For whom a model is that has been unloaded, but is still at work, nobody knows any more. */
	if (rows.left > 0 && !all)
		(void) gpt2_for_each_model(collect_visible, &visible);
	while (next_row(&rows, &row))
	{
		g2_engine_row m;

		g2_engine_row_get(&rows.reader, &m);
		check_reader(&rows);
		if (!all && !is_visible(visible, m.model))
			continue;
		put_engine(&row, &m);
		put_row(&rows, &row);
	}
	return (Datum) 0;
}

/* ---- progress ---- */

/* Rows per second since it began, and when it will end at that rate; NULL where that is not known. */
static void
put_rate(Row *row, const g2_progress_row *m)
{
	const int64 epochs = (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	int64		now = GetCurrentTimestamp() + epochs;
	double		rows = (double) m->done + (double) m->failed,
				seconds = (double) (now - m->started_at) / USECS_PER_SEC,
				left = (double) m->total - rows;

	put_quotient(row, rows, seconds);
	if (rows > 0 && seconds > 0 && left >= 0 && left * seconds / rows < MAX_SECONDS_LEFT)
		put_time(row, now + (int64) (left * seconds / rows * USECS_PER_SEC));
	else
		put_null(row);
}

static void
put_progress(Row *row, const g2_progress_row *m)
{
	put_int4(row, m->pid);
	put_role_and_database(row, m->session_user, m->database);
	put_text(row, m->command);
	if (OidIsValid(m->relation))
		put(row, ObjectIdGetDatum(m->relation));
	else
		put_null(row);
	put_int8(row, m->done);
	put_int8(row, m->failed);
	if (m->total >= 0)
		put_int8(row, (uint64) m->total);
	else
		put_null(row);
	put_int8(row, m->tokens);
	put_time(row, m->started_at);
	put_rate(row, m);
}

Datum
gpt2_stat_progress_batch(PG_FUNCTION_ARGS)
{
	Rows		rows;
	Row			row;
	size_t		len;
	char	   *payload = gpt2_ask_running(G2_MSG_PROGRESSES, G2_MSG_PROGRESS_LIST, &len, NULL);

	begin_rows(fcinfo, &rows);
	if (payload)
		read_rows(&rows, payload, len);
	while (next_row(&rows, &row))
	{
		g2_progress_row m;

		g2_progress_row_get(&rows.reader, &m);
		check_reader(&rows);
		if (!sees_role(m.session_user))
			continue;
		put_progress(&row, &m);
		put_row(&rows, &row);
	}
	return (Datum) 0;
}
