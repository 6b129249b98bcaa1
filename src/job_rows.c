/*
 * job_rows.c: the rows of gpt_batch: read and locked, written, remembered.
 *
 * Rows come in the order of the key, each batch behind the last row of the one before.  In its own
 * table a row is locked until its output is committed, and rows that others have locked are passed
 * over; they are found by a later pass, which begins at the first row again.  Rows that this job has
 * tried and that are eligible still are remembered, so that a pass that finds no others is the last.
 */
#include "compat.h"

#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "attempt.h"
#include "job.h"

#define MAX_BATCH_BYTES (64 * 1024 * 1024)	/* of inputs; a batch ends there */
#define ENTRY_BYTES 64			/* of a remembered row, about */

/* Names are looked up again where plans are made anew: they must mean what they did.  From here to
 * the end of the transaction they do. */
static void
check_still_there(Oid relation, const char *name)
{
	const char *now;

	LockRelationOid(relation, AccessShareLock);
	now = get_rel_name(relation);
	if (!now || strcmp(name, quote_qualified_identifier(
							   get_namespace_name(get_rel_namespace(relation)), now)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s was dropped or renamed meanwhile", name),
				 errhint("What was done is committed; start gpt_batch again.")));
}

int64
gpt2_job_count(Gpt2Job *job)
{
	bool		isnull;
	int64		n;

	check_still_there(job->source, job->source_name);
	if (SPI_execute_plan(job->count_plan, NULL, NULL, false, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not count the rows of gpt_batch");
	n = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return n;
}

/* A column of the row's key as text. */
static char *
key_value(const Gpt2Job *job, const Gpt2JobRow *row, int i)
{
	Oid			output;
	bool		is_varlena;

	getTypeOutputInfo(job->keys[i].type, &output, &is_varlena);
	return OidOutputFunctionCall(output, row->keys[i]);
}

/* ---- tried rows ---- */

/* 128 bits of the key's text: two rows that share them are as good as impossible, and the worst of
 * it would be that one of them is left to the next CALL. */
static void
row_identity(const Gpt2Job *job, const Gpt2JobRow *row, uint64 identity[2])
{
	StringInfoData s;

	initStringInfo(&s);
	for (int i = 0; i < job->n_keys; i++)
	{
		char	   *key = key_value(job, row, i);

		appendStringInfo(&s, "%zu:%s", strlen(key), key);
	}
	for (int i = 0; i < 2; i++)
		identity[i] = DatumGetUInt64(hash_any_extended((const unsigned char *) s.data, s.len,
													   (uint64) i));
	pfree(s.data);
}

static bool
was_tried(const Gpt2Job *job, const Gpt2JobRow *row)
{
	uint64		identity[2];
	bool		found;

	if (hash_get_num_entries(job->tried) == 0)
		return false;
	row_identity(job, row, identity);
	(void) hash_search(job->tried, identity, HASH_FIND, &found);
	return found;
}

static void
remember_tried(Gpt2Job *job, const Gpt2JobRow *row)
{
	uint64		identity[2];

	if (hash_get_num_entries(job->tried) >= (long) work_mem * (1024 / ENTRY_BYTES))
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many rows failed"),
				 errdetail("%ld rows fit into work_mem.", hash_get_num_entries(job->tried)),
				 errhint("Give an error_column, so that they are marked, or raise work_mem.")));
	row_identity(job, row, identity);
	(void) hash_search(job->tried, identity, HASH_ENTER, NULL);
}

/* ---- reading ---- */

static Datum
copy_key(Datum value, Oid type)
{
	int16		len;
	bool		by_value;

	get_typlenbyval(type, &len, &by_value);
	if (len == -1)
		return PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
	return datumCopy(value, by_value, len);
}

static Datum *
copy_keys(const Gpt2Job *job, const Datum *keys)
{
	Datum	   *copy = palloc(job->n_keys * sizeof(Datum));

	for (int i = 0; i < job->n_keys; i++)
		copy[i] = copy_key(keys[i], job->keys[i].type);
	return copy;
}

/* Behind the batch, or as much of it as is finished: the rest is read again. */
static void
advance(Gpt2Job *job)
{
	const Datum *keys = job->read_keys;
	MemoryContext old;

	if (job->n_finished < job->n_rows)
		keys = job->n_finished > 0 ? job->rows[job->n_finished - 1].keys : NULL;
	if (!keys)
		return;
	MemoryContextReset(job->last_context);
	old = MemoryContextSwitchTo(job->last_context);
	job->last_keys = copy_keys(job, keys);
	MemoryContextSwitchTo(old);
}

/* The statements follow changes of the table, but keys that are kept have the types that they had. */
static void
check_key_types(const Gpt2Job *job, TupleDesc desc)
{
	for (int i = 0; i < job->n_keys; i++)
		if (TupleDescAttr(desc, i)->atttypid != job->keys[i].type)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the type of key column \"%s\" of %s was changed meanwhile",
							job->keys[i].name, job->source_name),
					 errhint("What was done is committed; start gpt_batch again.")));
}

/* The tuple's row as the batch's next; its bytes of input. */
static size_t
take_row(Gpt2Job *job, HeapTuple tuple, TupleDesc desc)
{
	Gpt2JobRow *row = &job->rows[job->n_rows];
	MemoryContext old = MemoryContextSwitchTo(job->batch_context);
	Datum		keys[INDEX_MAX_KEYS];
	bool		isnull;

	check_key_types(job, desc);
	memset(row, 0, sizeof *row);
	for (int i = 0; i < job->n_keys; i++)
		keys[i] = SPI_getbinval(tuple, desc, i + 1, &isnull);
	row->keys = copy_keys(job, keys);
	row->input = DatumGetTextPCopy(SPI_getbinval(tuple, desc, job->n_keys + 1, &isnull));
	MemoryContextSwitchTo(old);
	return VARSIZE_ANY(row->input);
}

bool
gpt2_job_read(Gpt2Job *job, int64 most)
{
	Portal		portal;
	size_t		bytes = 0;
	bool		any = false;

	check_still_there(job->source, job->source_name);
	if (OidIsValid(job->target))
		check_still_there(job->target, job->target_name);
	most = Min(most, job->batch_size);
	job->rows = MemoryContextAllocZero(job->batch_context, most * sizeof(Gpt2JobRow));
	portal = SPI_cursor_open(NULL, job->last_keys ? job->next_plan : job->first_plan,
							 job->last_keys, NULL, false);
	while (job->n_rows < most && bytes < MAX_BATCH_BYTES)
	{
		SPI_cursor_fetch(portal, true, 1);
		if (SPI_processed == 0)
			break;
		any = true;
		bytes += take_row(job, SPI_tuptable->vals[0], SPI_tuptable->tupdesc);
		SPI_freetuptable(SPI_tuptable);
		job->read_keys = job->rows[job->n_rows].keys;
		job->n_rows += !was_tried(job, &job->rows[job->n_rows]);
	}
	SPI_cursor_close(portal);
	job->found_any |= job->n_rows > 0;
	return any;
}

/* ---- writing ---- */

/* The message as the error column takes it. */
static text *
error_text(const Gpt2Job *job, const char *message)
{
	int			len = (int) strlen(message);

	if (job->error.typmod >= (int32) VARHDRSZ)
		len = pg_mbcharcliplen(message, len, job->error.typmod - (int) VARHDRSZ);
	return cstring_to_text_with_len(message, len);
}

static void
write_row(Gpt2Job *job, Gpt2JobRow *row)
{
	int			first = gpt2_job_first_key(job) - 1;
	Datum		values[INDEX_MAX_KEYS + 2];
	char		nulls[INDEX_MAX_KEYS + 2];

	row->written = false;
	if (row->error && !job->error.name)
		return;
	memset(nulls, ' ', sizeof nulls);
	values[0] = row->value;
	nulls[0] = row->error ? 'n' : ' ';
	if (job->error.name)
	{
		values[1] = row->error ? PointerGetDatum(error_text(job, row->error)) : (Datum) 0;
		nulls[1] = row->error ? ' ' : 'n';
	}
	memcpy(values + first, row->keys, job->n_keys * sizeof(Datum));
	(void) SPI_execute_plan(job->write_plan, values, nulls, false, 0);
	if (SPI_processed > 1)
		ereport(ERROR,
				(errcode(ERRCODE_CARDINALITY_VIOLATION),
				 errmsg("key is not unique in %s", job->source_name),
				 errhint("Name columns in key that together differ in all rows.")));
	row->written = SPI_processed == 1;
}

static void
write_all(void *arg)
{
	Gpt2Job    *job = arg;

	for (int i = 0; i < job->n_finished; i++)
		write_row(job, &job->rows[i]);
}

typedef struct OneRow
{
	Gpt2Job    *job;
	Gpt2JobRow *row;
} OneRow;

static void
write_one(void *arg)
{
	OneRow	   *one = arg;

	write_row(one->job, one->row);
}

/* A constraint or a trigger of the table, or its view's WITH CHECK OPTION, does not take the output. */
static bool
is_refusal(const ErrorData *error)
{
	return gpt2_job_is_row_error(error) || error->sqlerrcode == ERRCODE_RAISE_EXCEPTION ||
		error->sqlerrcode == ERRCODE_WITH_CHECK_OPTION_VIOLATION;
}

/* Some of the rows cannot be written.  Each on its own, then: one whose output is refused has failed,
 * and any other error ends the batch before its row. */
static void
write_one_by_one(Gpt2Job *job)
{
	for (int i = 0; i < job->n_finished; i++)
	{
		OneRow		one = {job, &job->rows[i]};
		ErrorData  *error = gpt2_attempt(write_one, &one);

		if (error && !one.row->error && is_refusal(error))
		{
			if (job->stops_at_error && !job->raised)
				job->raised = error;
			one.row->error = error->message;
			error = job->stops_at_error ? NULL : gpt2_attempt(write_one, &one);
		}
		if (!error)
			continue;
		if (!job->raised)
			job->raised = error;
		job->n_finished = i;
	}
}

/* Like the key in PostgreSQL's own messages: (id)=(4). */
static char *
key_text(const Gpt2Job *job, const Gpt2JobRow *row)
{
	StringInfoData names,
				values;

	initStringInfo(&names);
	initStringInfo(&values);
	for (int i = 0; i < job->n_keys; i++)
	{
		appendStringInfo(&names, "%s%s", i ? ", " : "", job->keys[i].name);
		appendStringInfo(&values, "%s%s", i ? ", " : "", key_value(job, row, i));
	}
	return psprintf("(%s)=(%s)", names.data, values.data);
}

static void
remember_first_error(Gpt2Job *job, const Gpt2JobRow *row)
{
	if (job->first_error)
		return;
	job->first_error = MemoryContextStrdup(job->context, row->error);
	job->first_error_key = MemoryContextStrdup(job->context, key_text(job, row));
}

static void
count_row(Gpt2Job *job, const Gpt2JobRow *row)
{
	job->done += !row->error && row->written;
	job->failed += row->error != NULL;
	if (row->error)
		remember_first_error(job, row);
	/* A trigger may even undo what was written; that must not go on for ever. */
	if (!row->written || (row->error && job->retry_errors) || job->pass > 1)
		remember_tried(job, row);
}

void
gpt2_job_write(Gpt2Job *job)
{
	MemoryContext old = MemoryContextSwitchTo(job->batch_context);

	if (gpt2_attempt(write_all, job))
		write_one_by_one(job);
	for (int i = 0; i < job->n_finished; i++)
		count_row(job, &job->rows[i]);
	advance(job);
	MemoryContextSwitchTo(old);
}
