/*
 * job_statements.c: the statements of gpt_batch: which rows are next, what is written.
 *
 * A row is eligible when its input is not NULL, the filter lets it through and it has no output
 * yet: NULL in its own table, or no row in the target.  Rows that failed before are not, unless
 * they are to be retried.
 *
 * The filter stands in a subquery of its own, whose only names are the source's columns.  All names
 * that are written here are qualified: nothing depends on the search path but the filter.
 */
#include "compat.h"

#include "access/stratnum.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "job.h"
#include "plan_nodes.h"

/* ---- operators ---- */

/* " OPERATOR(pg_catalog.<) " of the type's own order. */
static const char *
operator_text(Oid type, int strategy)
{
	TypeCacheEntry *cache = lookup_type_cache(type, TYPECACHE_BTREE_OPFAMILY);
	Oid			operator = OidIsValid(cache->btree_opf) ?
		get_opfamily_member(cache->btree_opf, cache->btree_opintype, cache->btree_opintype,
							(int16) strategy) : InvalidOid;
	HeapTuple	tuple = OidIsValid(operator) ?
		SearchSysCache1(OPEROID, ObjectIdGetDatum(operator)) : NULL;
	Form_pg_operator form;
	char	   *result;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("type %s has no order", format_type_be(type)),
				 errhint("Name other columns in key.")));
	form = (Form_pg_operator) GETSTRUCT(tuple);
	result = psprintf(" OPERATOR(%s.%s) ", quote_identifier(get_namespace_name(form->oprnamespace)),
					  NameStr(form->oprname));
	ReleaseSysCache(tuple);
	return result;
}

/* prefix1 = $first AND prefix2 = $(first + 1) ... */
static void
append_key_equals(StringInfo s, const Gpt2Job *job, int first)
{
	for (int i = 0; i < job->n_keys; i++)
		appendStringInfo(s, "%s%s%s$%d", i > 0 ? " AND " : "", quote_identifier(job->keys[i].name),
						 operator_text(job->keys[i].type, BTEqualStrategyNumber), first + i);
}

/* k1 >= $1 AND (k1 > $1 OR (k2 >= $2 AND (k2 > $2 OR ...))): the first term is for the index. */
static void
append_behind(StringInfo s, const Gpt2Job *job, int i)
{
	Oid			type = job->keys[i].type;

	if (i == job->n_keys - 1)
	{
		appendStringInfo(s, "g.k%d%s$%d", i, operator_text(type, BTGreaterStrategyNumber), i + 1);
		return;
	}
	appendStringInfo(s, "g.k%d%s$%d AND (", i, operator_text(type, BTGreaterEqualStrategyNumber),
					 i + 1);
	appendStringInfo(s, "g.k%d%s$%d OR (", i, operator_text(type, BTGreaterStrategyNumber), i + 1);
	append_behind(s, job, i + 1);
	appendStringInfoString(s, "))");
}

/* ---- texts ---- */

/* NOT EXISTS (the row's answer in the target), where only errors may be replaced. */
static void
append_not_in_target(StringInfo s, const Gpt2Job *job)
{
	appendStringInfo(s, " AND NOT EXISTS (SELECT FROM %s AS t WHERE ", job->target_name);
	for (int i = 0; i < job->n_keys; i++)
		appendStringInfo(s, "%st.%s%sg.k%d", i > 0 ? " AND " : "",
						 quote_identifier(job->keys[i].name),
						 operator_text(job->keys[i].type, BTEqualStrategyNumber), i);
	if (job->retry_errors)
		appendStringInfo(s, " AND t.%s IS NULL", quote_identifier(job->error.name));
	appendStringInfoChar(s, ')');
}

/* FROM ... WHERE ...: the eligible rows as g, with columns k0, k1, ..., input. */
static void
append_eligible(StringInfo s, const Gpt2Job *job)
{
	bool		in_place = !OidIsValid(job->target);

	appendStringInfoString(s, " FROM (SELECT ");
	for (int i = 0; i < job->n_keys; i++)
		appendStringInfo(s, "%s AS k%d, ", quote_identifier(job->keys[i].name), i);
	appendStringInfo(s, "%s AS input", quote_identifier(job->input));
	if (in_place)
		appendStringInfo(s, ", %s AS output", quote_identifier(job->output.name));
	if (in_place && job->error.name)
		appendStringInfo(s, ", %s AS error", quote_identifier(job->error.name));
	appendStringInfo(s, " FROM %s", job->source_name);
	if (job->filter)
		appendStringInfo(s, " WHERE (%s\n)", job->filter);
	appendStringInfoString(s, ") AS g WHERE g.input IS NOT NULL");
	for (int i = 0; i < job->n_keys; i++)
		appendStringInfo(s, " AND g.k%d IS NOT NULL", i);
	if (in_place)
		appendStringInfoString(s, " AND g.output IS NULL");
	else
		append_not_in_target(s, job);
	if (in_place && job->error.name && !job->retry_errors)
		appendStringInfoString(s, " AND g.error IS NULL");
}

static char *
rows_text(const Gpt2Job *job, bool behind)
{
	StringInfoData s;

	initStringInfo(&s);
	appendStringInfoString(&s, "SELECT ");
	for (int i = 0; i < job->n_keys; i++)
		appendStringInfo(&s, "g.k%d, ", i);
	appendStringInfoString(&s, "g.input::pg_catalog.text");
	append_eligible(&s, job);
	if (behind)
	{
		appendStringInfoString(&s, " AND ");
		append_behind(&s, job, 0);
	}
	appendStringInfoString(&s, " ORDER BY ");
	for (int i = 0; i < job->n_keys; i++)
		appendStringInfo(&s, "%sg.k%d USING%s", i > 0 ? ", " : "", i,
						 operator_text(job->keys[i].type, BTLessStrategyNumber));
	appendStringInfo(&s, " LIMIT %d", job->batch_size);
	if (!OidIsValid(job->target))
		appendStringInfoString(&s, " FOR NO KEY UPDATE OF g SKIP LOCKED");
	return s.data;
}

static char *
count_text(const Gpt2Job *job)
{
	StringInfoData s;

	initStringInfo(&s);
	appendStringInfoString(&s, "SELECT pg_catalog.count(*)");
	append_eligible(&s, job);
	return s.data;
}

static char *
update_text(const Gpt2Job *job)
{
	const char *output = quote_identifier(job->output.name);
	StringInfoData s;

	initStringInfo(&s);
	appendStringInfo(&s, "UPDATE %s SET %s = $1", job->target_name, output);
	if (job->error.name)
		appendStringInfo(&s, ", %s = $2", quote_identifier(job->error.name));
	appendStringInfoString(&s, " WHERE ");
	append_key_equals(&s, job, gpt2_job_first_key(job));
	appendStringInfo(&s, " AND %s IS NULL", output);
	return s.data;
}

static char *
insert_text(const Gpt2Job *job)
{
	const char *output = quote_identifier(job->output.name),
			   *error = job->error.name ? quote_identifier(job->error.name) : NULL;
	StringInfoData keys;
	StringInfoData values;

	initStringInfo(&keys);
	initStringInfo(&values);
	for (int i = 0; i < job->n_keys; i++)
	{
		appendStringInfo(&keys, "%s%s", i > 0 ? ", " : "", quote_identifier(job->keys[i].name));
		appendStringInfo(&values, ", $%d", gpt2_job_first_key(job) + i);
	}
	return psprintf("INSERT INTO %s AS t (%s%s%s, %s) VALUES ($1%s%s) ON CONFLICT (%s) %s",
					job->target_name, output, error ? ", " : "", error ? error : "", keys.data,
					error ? ", $2" : "", values.data, keys.data,
					job->retry_errors ?
					psprintf("DO UPDATE SET %s = EXCLUDED.%s, %s = EXCLUDED.%s "
							 "WHERE t.%s IS NOT NULL", output, output, error, error, error) :
					"DO NOTHING");
}

/* ---- preparing ---- */

static SPIPlanPtr
prepare(const char *sql, int n, Oid *types)
{
	SPIPlanPtr	plan = SPI_prepare(sql, n, types);

	if (!plan || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare a statement of gpt_batch: %s",
			 SPI_result_code_string(SPI_result));
	return plan;
}

/* Whether the caller may write is to be known before anything is computed: EXPLAIN checks it. */
static void
check_privileges(const char *sql, int n, Oid *types)
{
	Datum		values[INDEX_MAX_KEYS + 2] = {0};
	char		nulls[INDEX_MAX_KEYS + 2];

	memset(nulls, 'n', sizeof nulls);
	if (SPI_execute_with_args(psprintf("EXPLAIN %s", sql), n, types, values, nulls, false, 0) !=
		SPI_OK_UTILITY)
		elog(ERROR, "could not explain a statement of gpt_batch");
	SPI_freetuptable(SPI_tuptable);
}

static void
on_context_end(void *arg)
{
	Gpt2Job    *job = arg;
	SPIPlanPtr	plans[] = {job->first_plan, job->next_plan, job->write_plan, job->count_plan};

	for (int i = 0; i < lengthof(plans); i++)
		if (plans[i])
			SPI_freeplan(plans[i]);
}

void
gpt2_job_prepare(Gpt2Job *job)
{
	int			first = gpt2_job_first_key(job);
	char	   *write = OidIsValid(job->target) ? insert_text(job) : update_text(job);
	Oid			key_types[INDEX_MAX_KEYS];
	Oid			types[INDEX_MAX_KEYS + 2];
	HASHCTL		hash = {
		.keysize = 2 * sizeof(uint64),
		.entrysize = 2 * sizeof(uint64),
		.hcxt = job->context
	};

	/* Plans that are kept notice when a table changes, and outlive everything. */
	job->at_end.func = on_context_end;
	job->at_end.arg = job;
	MemoryContextRegisterResetCallback(job->context, &job->at_end);
	types[0] = job->output.type;
	types[1] = TEXTOID;
	for (int i = 0; i < job->n_keys; i++)
		types[first - 1 + i] = key_types[i] = job->keys[i].type;
	job->first_plan = prepare(rows_text(job, false), 0, NULL);
	job->next_plan = prepare(rows_text(job, true), job->n_keys, key_types);
	job->count_plan = prepare(count_text(job), 0, NULL);
	job->write_plan = prepare(write, first - 1 + job->n_keys, types);
	check_privileges(write, first - 1 + job->n_keys, types);
	job->tried = hash_create("gpt_batch's tried rows", 256, &hash,
							 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	job->last_context = AllocSetContextCreate(job->context, "gpt_batch's last key",
											  ALLOCSET_SMALL_SIZES);
}
