/*
 * job_call.c: the calls of gpt_batch: one of the extension's own functions for each row.
 *
 * As in a GPT Batch node (batch_scan.c), rows are looked ahead at and their requests sent, up to
 * gpt2.batch_rows of them, before the first is waited for; the call of a row then takes the answer
 * of the request that is under way.  Unlike there, an error in a row's call ends that row alone, so
 * the functions are called from here instead of from a query.
 *
 * What the function returns is the output where the column has the function's type; otherwise its
 * text goes through the column's input function, so that it may be of any type.  An embedding is cast
 * instead: as text it would not be what types of vectors read.
 */
#include "compat.h"

#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "parser/parse_coerce.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"

#include "attempt.h"
#include "encoding.h"
#include "guc.h"
#include "job.h"
#include "plan_nodes.h"

#define MAX_ARGUMENTS 5

/* The function that makes the outputs, and its arguments behind the content. */
typedef struct Function
{
	const char *name;
	int			n;				/* arguments, with the content */
	Oid			types[MAX_ARGUMENTS];
	NullableDatum values[MAX_ARGUMENTS];
	Oid			result;
} Function;

/* ---- arguments ---- */

static void
add_argument(Function *f, Oid type, NullableDatum value)
{
	Assert(f->n < MAX_ARGUMENTS);
	f->types[f->n] = type;
	f->values[f->n++] = value;
}

static NullableDatum
present(Datum value)
{
	return (NullableDatum) {value, false};
}

/* options.labels as text[]. */
static Datum
labels_of(const Gpt2Job *job)
{
	JsonbValue	found;
	JsonbContainer *array;
	Datum	   *labels;
	uint32		n;

	(void) getKeyJsonValueFromContainer(&job->options->root, "labels", 6, &found);
	array = found.val.binary.data;
	if (found.type != jbvBinary || !JsonContainerIsArray(array))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"labels\" must be an array of strings")));
	n = JsonContainerSize(array);
	labels = palloc(Max(n, 1) * sizeof(Datum));
	for (uint32 i = 0; i < n; i++)
	{
		JsonbValue *label = getIthJsonbValueFromContainer(array, i);

		if (label->type != jbvString)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"labels\" must be an array of strings")));
		labels[i] = PointerGetDatum(cstring_to_text_with_len(label->val.string.val,
															 label->val.string.len));
	}
	return PointerGetDatum(construct_array(labels, (int) n, TEXTOID, -1, false, TYPALIGN_INT));
}

static NullableDatum
options_of(const Gpt2Job *job)
{
	Datum		options;

	if (!job->options)
		return (NullableDatum) {0, true};
	options = JsonbPGetDatum(job->options);
	if (job->kind == JOB_LABELS)
		options = DirectFunctionCall2(jsonb_delete, options, CStringGetTextDatum("labels"));
	return present(options);
}

static void
choose_function(const Gpt2Job *job, Function *f)
{
	Oid			base = getBaseType(job->output.type);
	NullableDatum task = present(CStringGetTextDatum(job->task));

	*f = (Function) {.name = "gpt_classify", .result = TEXTOID};
	add_argument(f, TEXTOID, (NullableDatum) {0, true});
	switch (job->kind)
	{
		case JOB_TASK:
			f->name = "gpt_summarize";
			if (strcmp(job->task, GPT2_JOB_SUMMARIZE) != 0)
			{
				f->name = "gpt_task";
				add_argument(f, TEXTOID, task);
			}
			add_argument(f, INT4OID, job->max_len);
			break;
		case JOB_LABELS:
			add_argument(f, TEXTARRAYOID, present(labels_of(job)));
			break;
		case JOB_ENUM:
			add_argument(f, base, (NullableDatum) {0, true});
			f->result = base;
			break;
		case JOB_CONDITION:
			f->name = "gpt_filter";
			add_argument(f, TEXTOID, task);
			f->result = BOOLOID;
			break;
		case JOB_EMBEDDING:
			f->name = "gpt_embed";
			f->result = FLOAT4ARRAYOID;
			break;
	}
	add_argument(f, TEXTOID, job->model);
	add_argument(f, JSONBOID, options_of(job));
}

/* The function in this extension's schema, whatever the search path is. */
static Oid
find_function(const Function *f, const char *schema)
{
	Oid			types[MAX_ARGUMENTS];
	List	   *name = list_make2(makeString(pstrdup(schema)), makeString(pstrdup(f->name)));

	memcpy(types, f->types, sizeof types);
	if (type_is_enum(types[1]))
		types[1] = ANYENUMOID;
	return LookupFuncName(name, f->n, types, false);
}

static void
check_execute(Oid function, const char *name)
{
#if PG_VERSION_NUM >= 160000
	AclResult	result = object_aclcheck(ProcedureRelationId, function, GetUserId(), ACL_EXECUTE);
#else
	AclResult	result = pg_proc_aclcheck(function, GetUserId(), ACL_EXECUTE);
#endif

	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_FUNCTION, name);
	InvokeFunctionExecuteHook(function);
}

/* What an expression's context gives as the value of CASE. */
static Node *
given(Oid type)
{
	CaseTestExpr *value = makeNode(CaseTestExpr);

	value->typeId = type;
	value->typeMod = -1;
	value->collation = get_typcollation(type);
	return (Node *) value;
}

/* Its content is what the expression's context gives. */
static FuncExpr *
make_call(const Function *f, Oid function)
{
	List	   *args = list_make1(given(TEXTOID));

	for (int i = 1; i < f->n; i++)
	{
		int16		len;
		bool		by_value;

		get_typlenbyval(f->types[i], &len, &by_value);
		args = lappend(args, makeConst(f->types[i], -1, get_typcollation(f->types[i]), len,
									   f->values[i].value, f->values[i].isnull, by_value));
	}
	return makeFuncExpr(function, f->result, args, get_typcollation(f->result),
						DEFAULT_COLLATION_OID, COERCE_EXPLICIT_CALL);
}

/* ---- beginning ---- */

static void
begin_conversion(const Gpt2Job *job, Gpt2JobCall *call, Oid returned)
{
	Oid			function;
	bool		is_varlena;

	call->converts = job->output.type != returned || job->output.typmod >= 0;
	if (!call->converts)
		return;
	if (job->kind == JOB_EMBEDDING)
	{
		Node	   *cast = coerce_to_target_type(NULL, given(returned), returned, job->output.type,
												 job->output.typmod, COERCION_ASSIGNMENT,
												 COERCE_IMPLICIT_CAST, -1);

		call->cast = ExecInitExpr(expression_planner((Expr *) cast), NULL);
		return;
	}
	getTypeOutputInfo(returned, &function, &is_varlena);
	fmgr_info(function, &call->output_function);
	getTypeInputInfo(job->output.type, &function, &call->io_param);
	fmgr_info(function, &call->input_function);
}

static void
look(void *arg)
{
	Gpt2JobCall *call = &((Gpt2Job *) arg)->call;
	Gpt2Ticket	tickets[GPT2_MAX_SCORES];

	memset(tickets, 0, sizeof tickets);
	(void) gpt2_site_look(&call->site, call->econtext, tickets);
	gpt2_tickets_end(tickets, GPT2_MAX_SCORES, &call->figures);
}

void
gpt2_job_call_begin(Gpt2Job *job)
{
	Gpt2JobCall *call = &job->call;
	Gpt2FoundCall found = {0};
	Function	f;
	Oid			function;

	choose_function(job, &f);
	function = find_function(&f, job->schema);
	check_execute(function, f.name);
	/* The planner's work on it is what tells batch_functions.c which function it is. */
	found.call = (FuncExpr *) expression_planner((Expr *) make_call(&f, function));
	if (!IsA(found.call, FuncExpr))
		elog(ERROR, "function %s is not evaluated for each row", f.name);
	call->econtext = CreateStandaloneExprContext();
	call->econtext->caseValue_datum = CStringGetTextDatum("x");
	call->econtext->caseValue_isNull = false;
	gpt2_site_begin(&call->site, &found, NULL, &call->figures);
	call->site.real = &call->real;
	call->real.batch = &call->site;
	fmgr_info(function, &call->flinfo);
	fmgr_info_set_expr((Node *) found.call, &call->flinfo);
	call->flinfo.fn_extra = &call->real;
	call->fcinfo = palloc0(SizeForFunctionCallInfo(f.n));
	InitFunctionCallInfoData(*call->fcinfo, &call->flinfo, f.n, DEFAULT_COLLATION_OID, NULL, NULL);
	memcpy(call->fcinfo->args, f.values, f.n * sizeof(NullableDatum));
	begin_conversion(job, call, f.result);
	/* What is wrong with options is said before anything is done. */
	look(job);
}

/* ---- ahead ---- */

typedef struct Look
{
	Gpt2Job    *job;
	Gpt2JobRow *row;
} Look;

static bool
is_blank(const Gpt2JobRow *row)
{
	return !gpt2_has_content(gpt2_text_to_utf8(row->input, "input"));
}

static void
look_at_row(void *arg)
{
	Look	   *l = arg;
	Gpt2JobCall *call = &l->job->call;

	if (is_blank(l->row))
		return;
	call->econtext->caseValue_datum = PointerGetDatum(l->row->input);
	ResetExprContext(call->econtext);
	(void) gpt2_site_look(&call->site, call->econtext, l->row->tickets);
}

static void
send_ticket(Gpt2Job *job, int at, Gpt2Ticket *ticket)
{
	if (!ticket->bytes)
		return;
	for (int i = at; i < job->n_looked; i++)
		if (gpt2_ticket_share(ticket, job->rows[i].tickets, GPT2_MAX_SCORES, &job->call.figures))
			return;
	gpt2_ticket_send(ticket, &job->call.figures);
}

void
gpt2_job_look_ahead(Gpt2Job *job, int at)
{
	if (gpt2_batch_rows <= 1)
		return;
	gpt2_site_follow(&job->call.site, job->n_looked == at);
	while (job->n_looked < job->n_rows && job->n_looked - at < gpt2_batch_rows &&
		   !gpt2_requests_are_many())
	{
		Look		l = {job, &job->rows[job->n_looked]};
		ErrorData  *error = gpt2_attempt(look_at_row, &l);

		/* The row raises it again, when it is its turn. */
		if (error)
			FreeErrorData(error);
		for (int i = 0; i < GPT2_MAX_SCORES; i++)
			send_ticket(job, at, &l.row->tickets[i]);
		job->n_looked++;
	}
}

void
gpt2_job_forget_calls(Gpt2Job *job)
{
	for (int i = 0; i < job->n_looked; i++)
		gpt2_tickets_end(job->rows[i].tickets, GPT2_MAX_SCORES, &job->call.figures);
}

/* ---- a row ---- */

/* Sets the row's value to what the call has returned, in the column's type. */
static void
take_value(const Gpt2Job *job, Gpt2JobCall *call, Datum value, Gpt2JobRow *row)
{
	bool		isnull = false;
	char	   *written;

	if (call->cast)
	{
		call->econtext->caseValue_datum = value;
		value = ExecEvalExpr(call->cast, call->econtext, &isnull);
	}
	else if (call->converts)
	{
		written = OutputFunctionCall(&call->output_function, value);
		value = InputFunctionCall(&call->input_function, written, call->io_param,
								  job->output.typmod);
	}
	if (isnull)
		row->error = pstrdup("the cast to the column's type gives NULL");
	else
		row->value = value;
}

/* There is nothing to read in it: texts are empty then, for other types there is no answer. */
static void
answer_blank(Gpt2Job *job, Gpt2JobRow *row)
{
	char		category;
	bool		is_preferred;

	get_type_category_preferred(getBaseType(job->output.type), &category, &is_preferred);
	if (job->kind != JOB_TASK || category != TYPCATEGORY_STRING)
		row->error = pstrdup("empty input");
	else
		take_value(job, &job->call, CStringGetTextDatum(""), row);
}

void
gpt2_job_call(Gpt2Job *job, Gpt2JobRow *row)
{
	Gpt2JobCall *call = &job->call;
	Datum		value;

	if (is_blank(row))
	{
		answer_blank(job, row);
		return;
	}
	call->fcinfo->args[0] = present(PointerGetDatum(row->input));
	call->fcinfo->isnull = false;
	call->site.current = row->tickets;
	value = FunctionCallInvoke(call->fcinfo);
	call->site.current = NULL;
	gpt2_tickets_end(row->tickets, GPT2_MAX_SCORES, &call->figures);
	if (call->fcinfo->isnull)
		row->error = pstrdup("the model has no answer");
	else
		take_value(job, call, value, row);
}

void
gpt2_job_try_call(Gpt2Job *job)
{
	job->call.fcinfo->args[0] = present(CStringGetTextDatum("x"));
	job->call.fcinfo->isnull = false;
	(void) FunctionCallInvoke(job->call.fcinfo);
}
