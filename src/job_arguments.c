/*
 * job_arguments.c: what a CALL of gpt_batch asks for.
 *
 * Names of columns are looked up once, here; whether the caller may read and write them is found
 * out by the statements, as in any other query of the caller's.
 */
#include "compat.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "parser/parse_coerce.h"
#include "rewrite/rewriteHandler.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "job.h"

/* In the order of the SQL declaration. */
enum
{
	ARG_SOURCE, ARG_INPUT, ARG_OUTPUT, ARG_TASK, ARG_MAX_LEN, ARG_FILTER, ARG_BATCH_SIZE,
	ARG_ON_ERROR, ARG_ERROR_COLUMN, ARG_MODEL, ARG_OPTIONS, ARG_TARGET, ARG_KEY, ARG_MAX_ROWS,
	ARG_TIME_LIMIT, ARG_RETRY_ERRORS
};

#define DEFAULT_BATCH_SIZE 256
#define INPUT_MARK "{input}"

static void
bad_argument(const char *name, const char *must, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s must be %s", name, must),
			 hint ? errhint("%s", hint) : 0));
}

/* NULL where the argument is. */
static char *
text_argument(FunctionCallInfo fcinfo, int number)
{
	return PG_ARGISNULL(number) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(number));
}

static void
require(FunctionCallInfo fcinfo, int number, const char *name)
{
	if (PG_ARGISNULL(number))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name)));
}

/* ---- relations and columns ---- */

static const char *
relation_name(Oid relation)
{
	const char *name = get_rel_name(relation);

	if (!name)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relation)));
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)), name);
}

static void
check_kind(Oid relation, const char *argument)
{
	switch (get_rel_relkind(relation))
	{
		case RELKIND_RELATION:
		case RELKIND_PARTITIONED_TABLE:
		case RELKIND_VIEW:
		case RELKIND_FOREIGN_TABLE:
		case RELKIND_MATVIEW:
			return;
		default:
			ereport(ERROR,
					(errcode(ERRCODE_WRONG_OBJECT_TYPE),
					 errmsg("%s must be a table or view", argument),
					 errdetail("\"%s\" is something else.", get_rel_name(relation))));
	}
}

static Gpt2JobColumn
find_column(Oid relation, const char *name, const char *argument)
{
	Gpt2JobColumn column = {.name = name};
	AttrNumber	number = get_attnum(relation, name);
	Oid			collation;

	if (number <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of relation \"%s\" does not exist", name,
						get_rel_name(relation)),
				 errhint("Argument %s takes a column's name as it is, without quotes: 'My Text', "
						 "not '\"My Text\"'.", argument)));
	get_atttypetypmodcoll(relation, number, &column.type, &column.typmod, &collation);
	return column;
}

/* ---- keys ---- */

static Gpt2JobColumn *
columns_of_index(Oid relation, Form_pg_index index)
{
	Gpt2JobColumn *columns = palloc(index->indnkeyatts * sizeof(Gpt2JobColumn));

	for (int i = 0; i < index->indnkeyatts; i++)
		columns[i] = find_column(relation, get_attname(relation, index->indkey.values[i], false),
								 "key");
	return columns;
}

/* Holds each value of its columns once, in all rows. */
static bool
is_a_key(HeapTuple tuple, Form_pg_index index)
{
	if (!index->indisunique || !index->indisvalid || !index->indimmediate ||
		!heap_attisnull(tuple, Anum_pg_index_indpred, NULL))
		return false;
	for (int i = 0; i < index->indnkeyatts; i++)
		if (index->indkey.values[i] <= 0)
			return false;
	return true;
}

static bool
is_over_columns(Oid relation, Form_pg_index index, const Gpt2JobColumn *columns, int n)
{
	int			found = 0;

	for (int i = 0; i < index->indnkeyatts; i++)
		for (int k = 0; k < n; k++)
			found += get_attnum(relation, columns[k].name) == index->indkey.values[i];
	return index->indnkeyatts == n && found == n;
}

/* With columns: has the relation a unique index over just these?  Without: has it a primary key,
 * whose columns are set? */
static bool
find_key(Oid relation, Gpt2JobColumn **columns, int *n)
{
	Relation	rel = table_open(relation, AccessShareLock);
	ListCell   *cell;
	bool		found = false;

	foreach(cell, RelationGetIndexList(rel))
	{
		HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(cell)));
		Form_pg_index index;

		if (!HeapTupleIsValid(tuple))
			continue;
		index = (Form_pg_index) GETSTRUCT(tuple);
		if (*columns)
			found = is_a_key(tuple, index) && is_over_columns(relation, index, *columns, *n);
		else if (index->indisprimary && index->indisvalid)
		{
			found = true;
			*columns = columns_of_index(relation, index);
			*n = index->indnkeyatts;
		}
		ReleaseSysCache(tuple);
		if (found)
			break;
	}
	table_close(rel, AccessShareLock);
	return found;
}

static void
read_key_names(Gpt2Job *job, ArrayType *names)
{
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	if (ARR_NDIM(names) > 1)
		bad_argument("key", "a one-dimensional array of column names", NULL);
	deconstruct_array(names, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	if (n == 0 || n > INDEX_MAX_KEYS)
		bad_argument("key", psprintf("1 to %d column names", INDEX_MAX_KEYS), NULL);
	job->keys = palloc(n * sizeof(Gpt2JobColumn));
	job->n_keys = n;
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			bad_argument("key", "an array without nulls", NULL);
		job->keys[i] = find_column(job->source, TextDatumGetCString(elements[i]), "key");
		for (int k = 0; k < i; k++)
			if (strcmp(job->keys[k].name, job->keys[i].name) == 0)
				bad_argument("key", "an array of different columns", NULL);
	}
}

static void
read_key(FunctionCallInfo fcinfo, Gpt2Job *job)
{
	char		kind = get_rel_relkind(job->source);
	bool		has_indexes = kind == RELKIND_RELATION || kind == RELKIND_PARTITIONED_TABLE;

	if (!PG_ARGISNULL(ARG_KEY))
		read_key_names(job, PG_GETARG_ARRAYTYPE_P(ARG_KEY));
	if (!job->keys && !has_indexes)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("\"%s\" is no table, so it has no primary key", get_rel_name(job->source)),
				 errhint("Name columns that are unique in it, as in key => ARRAY['id'].")));
	if (has_indexes && !find_key(job->source, &job->keys, &job->n_keys))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 PG_ARGISNULL(ARG_KEY) ?
				 errmsg("table \"%s\" has no primary key", get_rel_name(job->source)) :
				 errmsg("table \"%s\" has no unique index over the columns of key",
						get_rel_name(job->source)),
				 errhint("Add a primary key, or name the columns of a unique index in key.")));
}

/* ---- where results go ---- */

static void
check_target_keys(const Gpt2Job *job)
{
	Gpt2JobColumn *keys = job->keys;
	int			n = job->n_keys;

	for (int i = 0; i < job->n_keys; i++)
	{
		Gpt2JobColumn column = find_column(job->target, job->keys[i].name, "target");

		if (column.type != job->keys[i].type)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("key column \"%s\" has another type in target", column.name),
					 errdetail("It is %s in source and %s in target.",
							   format_type_be(job->keys[i].type), format_type_be(column.type)),
					 errhint("Give it the same type.")));
	}
	if (!find_key(job->target, &keys, &n))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("target \"%s\" has no unique index over source's key",
						get_rel_name(job->target)),
				 errhint("Make the key columns its primary key.")));
}

static void
check_updatable(const Gpt2Job *job)
{
	if ((relation_is_updatable(job->source, NIL, true, NULL) & (1 << CMD_UPDATE)) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("\"%s\" cannot be updated", get_rel_name(job->source)),
				 errhint("Name a table that results go into as target.")));
}

static void
check_distinct(const Gpt2Job *job)
{
	const char *output = job->output.name;

	for (int i = 0; i < job->n_keys; i++)
		if (strcmp(output, job->keys[i].name) == 0 ||
			(job->error.name && strcmp(job->error.name, job->keys[i].name) == 0))
			bad_argument("output and error_column", "other columns than those of the key", NULL);
	if (!OidIsValid(job->target) &&
		(strcmp(output, job->input) == 0 ||
		 (job->error.name && strcmp(job->error.name, job->input) == 0)))
		bad_argument("output and error_column", "other columns than input", NULL);
	if (job->error.name && strcmp(job->error.name, output) == 0)
		bad_argument("error_column", "another column than output", NULL);
}

static void
read_columns(FunctionCallInfo fcinfo, Gpt2Job *job)
{
	Oid			written;

	require(fcinfo, ARG_SOURCE, "source");
	require(fcinfo, ARG_INPUT, "input");
	require(fcinfo, ARG_OUTPUT, "output");
	job->source = PG_GETARG_OID(ARG_SOURCE);
	job->source_name = relation_name(job->source);
	check_kind(job->source, "source");
	if (!PG_ARGISNULL(ARG_TARGET))
	{
		job->target = PG_GETARG_OID(ARG_TARGET);
		(void) relation_name(job->target);
		if (job->target == job->source)
			bad_argument("target", "another table than source",
						 "Leave it out to write into source.");
		if (get_rel_relkind(job->target) != RELKIND_RELATION &&
			get_rel_relkind(job->target) != RELKIND_PARTITIONED_TABLE)
			bad_argument("target", "a table", NULL);
	}
	written = OidIsValid(job->target) ? job->target : job->source;
	job->target_name = relation_name(written);
	job->input = find_column(job->source, text_argument(fcinfo, ARG_INPUT), "input").name;
	job->output = find_column(written, text_argument(fcinfo, ARG_OUTPUT), "output");
	if (!PG_ARGISNULL(ARG_ERROR_COLUMN))
	{
		job->error = find_column(written, text_argument(fcinfo, ARG_ERROR_COLUMN), "error_column");
		if (getBaseType(job->error.type) != TEXTOID && getBaseType(job->error.type) != VARCHAROID)
			bad_argument("error_column", "a column of type text", NULL);
	}
	read_key(fcinfo, job);
	check_distinct(job);
	if (OidIsValid(job->target))
		check_target_keys(job);
	else
		check_updatable(job);
}

/* ---- how output is made ---- */

static bool
has_option(const Gpt2Job *job, const char *key)
{
	JsonbValue	value;

	return job->options && JB_ROOT_IS_OBJECT(job->options) &&
		getKeyJsonValueFromContainer(&job->options->root, key, (int) strlen(key), &value) != NULL;
}

/* options with the task as its template. */
static Jsonb *
with_template(const Gpt2Job *job)
{
	JsonbParseState *state = NULL;
	JsonbValue	key = {.type = jbvString},
				value = {.type = jbvString};
	Jsonb	   *template_option;

	if (has_option(job, "template"))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument task and option \"template\" cannot both be a template"),
				 errhint("Give only one of them.")));
	key.val.string.val = pstrdup("template");
	key.val.string.len = (int) strlen("template");
	value.val.string.val = pstrdup(job->task);
	value.val.string.len = (int) strlen(job->task);
	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	(void) pushJsonbValue(&state, WJB_KEY, &key);
	(void) pushJsonbValue(&state, WJB_VALUE, &value);
	template_option = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
	if (!job->options)
		return template_option;
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(job->options),
											  JsonbPGetDatum(template_option)));
}

/* Numbers, or a type that the numbers of an embedding are cast to by a function, as pgvector's are. */
static bool
is_vector(Oid type)
{
	Oid			function;

	return type == FLOAT4ARRAYOID || type == FLOAT8ARRAYOID ||
		find_coercion_pathway(type, FLOAT4ARRAYOID, COERCION_ASSIGNMENT, &function) ==
		COERCION_PATH_FUNC;
}

static Gpt2JobKind
choose_kind(const Gpt2Job *job, bool is_default)
{
	Oid			type = getBaseType(job->output.type);

	if (type_is_enum(type))
		return JOB_ENUM;
	if (type == BOOLOID)
		return JOB_CONDITION;
	if (has_option(job, "labels"))
		return JOB_LABELS;
	return is_default && is_vector(type) ? JOB_EMBEDDING : JOB_TASK;
}

static void
check_task(const Gpt2Job *job, bool is_default, bool is_template)
{
	bool		classifies = job->kind == JOB_ENUM || job->kind == JOB_LABELS;

	if (*job->task == '\0')
		bad_argument("task", "a task's name or a template", NULL);
	if (job->kind == JOB_CONDITION && is_default)
		bad_argument("task", "the condition, where output is boolean",
					 "As in task => 'The customer is angry'.");
	if (classifies && !is_default && !is_template && strcmp(job->task, "classify") != 0)
		bad_argument("task", "a template with " INPUT_MARK ", where output is one of some labels",
					 "Leave it out to use the model's own template.");
	if (job->kind != JOB_TASK && !job->max_len.isnull)
		bad_argument("max_len", "null where output is boolean, a vector, or one of some labels",
					 "No tokens are made for it.");
}

static void
read_task(FunctionCallInfo fcinfo, Gpt2Job *job)
{
	char	   *task = text_argument(fcinfo, ARG_TASK);
	bool		is_default,
				is_template;

	job->task = task ? task : GPT2_JOB_SUMMARIZE;
	is_default = strcmp(job->task, GPT2_JOB_SUMMARIZE) == 0;
	is_template = strstr(job->task, INPUT_MARK) != NULL;
	if (has_option(job, "on_error"))
		bad_argument("on_error", "given as an argument, not in options", NULL);
	job->kind = choose_kind(job, is_default);
	check_task(job, is_default, is_template);
	if (is_template)
		job->options = with_template(job);
	if (is_template && job->kind == JOB_TASK)
		job->task = GPT2_JOB_SUMMARIZE;
	if (is_template && job->kind == JOB_CONDITION)
		job->task = "true";		/* {condition}, which such a template need not contain */
}

/* ---- limits ---- */

static void
read_limits(FunctionCallInfo fcinfo, Gpt2Job *job)
{
	char	   *on_error = text_argument(fcinfo, ARG_ON_ERROR);

	job->batch_size = PG_ARGISNULL(ARG_BATCH_SIZE) ? DEFAULT_BATCH_SIZE :
		PG_GETARG_INT32(ARG_BATCH_SIZE);
	if (job->batch_size < 1 || job->batch_size > GPT2_JOB_MAX_BATCH)
		bad_argument("batch_size", psprintf("between 1 and %d", GPT2_JOB_MAX_BATCH), NULL);
	if (on_error && strcmp(on_error, "null") != 0 && strcmp(on_error, "error") != 0)
		bad_argument("on_error", "null or error", NULL);
	job->stops_at_error = on_error && strcmp(on_error, "error") == 0;
	job->max_rows = PG_ARGISNULL(ARG_MAX_ROWS) ? PG_INT64_MAX : PG_GETARG_INT64(ARG_MAX_ROWS);
	if (job->max_rows < 0)
		bad_argument("max_rows", "0 or more", NULL);
	job->deadline = DT_NOEND;
	if (!PG_ARGISNULL(ARG_TIME_LIMIT))
	{
		TimestampTz now = GetCurrentTimestamp();

		job->deadline = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
																TimestampTzGetDatum(now),
																PG_GETARG_DATUM(ARG_TIME_LIMIT)));
		if (job->deadline < now)
			bad_argument("time_limit", "0 or more", NULL);
	}
	job->retry_errors = !PG_ARGISNULL(ARG_RETRY_ERRORS) && PG_GETARG_BOOL(ARG_RETRY_ERRORS);
	if (job->retry_errors && !job->error.name)
		bad_argument("error_column", "given with retry_errors",
					 "Without one, rows that failed are tried again by each CALL.");
}

void
gpt2_job_read_arguments(FunctionCallInfo fcinfo, Gpt2Job *job)
{
	read_columns(fcinfo, job);
	job->max_len = fcinfo->args[ARG_MAX_LEN];
	job->model = fcinfo->args[ARG_MODEL];
	if (!job->model.isnull)
		job->model.value = PointerGetDatum(PG_GETARG_TEXT_P_COPY(ARG_MODEL));
	job->options = PG_ARGISNULL(ARG_OPTIONS) ? NULL : PG_GETARG_JSONB_P_COPY(ARG_OPTIONS);
	read_task(fcinfo, job);
	read_limits(fcinfo, job);
	job->filter = text_argument(fcinfo, ARG_FILTER);
	if (job->filter)
		gpt2_job_check_filter(job->filter);
}
