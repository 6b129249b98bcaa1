/*
 * failed_calls.c: calls that fail for their row alone (on_error => null), and the one WARNING that
 * tells of them when their statement ends.
 *
 * Errors are caught without a subtransaction (parallel plans allow none, and each would cost more
 * than many a call).  That is safe for the errors that are not raised again: those of
 * gpt2_is_row_error come from this library's own checks and from conversions of encodings, which
 * leave nothing behind but memory of the row, and the requests of the call are released here.
 *
 * A statement is the outermost that runs: a utility command, or a query that no other runs in.  The
 * counts of a query live in its executor state, so that queries of open cursors keep theirs apart;
 * they are told when it ends, and forgotten when it fails.  A call outside of any statement (in the
 * planner, or in a trigger at the end of a transaction) is told of at once.
 */
#include "compat.h"

#include "executor/executor.h"
#include "lib/ilist.h"
#include "mb/pg_wchar.h"
#include "tcop/utility.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "batch.h"
#include "call.h"
#include "failed_calls.h"
#include "folder.h"
#include "guc.h"
#include "link.h"

#define MAX_FUNCTIONS 16		/* more in one statement are counted with the last */
#define MAX_TEXT_SHOWN 512

typedef struct FunctionCount
{
	Oid			function;
	uint64		calls;
	uint64		failed;
} FunctionCount;

/* The calls of one statement. */
typedef struct Report
{
	dlist_node	node;			/* of reports; not that of utility commands */
	const EState *estate;
	int			n_functions;
	FunctionCount functions[MAX_FUNCTIONS];
	uint64		failed;
	char		message[MAX_TEXT_SHOWN];	/* of the first that failed */
	char		hint[MAX_TEXT_SHOWN];
	MemoryContextCallback at_end;
} Report;

static dlist_head reports = DLIST_STATIC_INIT(reports);
static Report utility_report;
static int	utility_depth;
static const EState *outermost;	/* of the query that runs outside of any other; NULL = none */

static ExecutorRun_hook_type next_run;
static ExecutorFinish_hook_type next_finish;
static ExecutorEnd_hook_type next_end;
static ProcessUtility_hook_type next_utility;

/* ---- reports ---- */

static Report *
find_report(const EState *estate)
{
	dlist_iter	iter;

	dlist_foreach(iter, &reports)
	{
		Report	   *report = dlist_container(Report, node, iter.cur);

		if (report->estate == estate)
			return report;
	}
	return NULL;
}

static void
forget_report(void *arg)
{
	dlist_delete(&((Report *) arg)->node);
}

/* The report of the statement that runs; NULL: none does. */
static Report *
current_report(void)
{
	Report	   *report;

	if (utility_depth > 0)
		return &utility_report;
	if (!outermost)
		return NULL;
	report = find_report(outermost);
	if (report)
		return report;
	report = MemoryContextAllocZero(outermost->es_query_cxt, sizeof *report);
	report->estate = outermost;
	report->at_end.func = forget_report;
	report->at_end.arg = report;
	MemoryContextRegisterResetCallback(outermost->es_query_cxt, &report->at_end);
	dlist_push_head(&reports, &report->node);
	return report;
}

/* As much of the text as there is room for. */
static void
keep_text(char *to, const char *text_shown)
{
	int			len = text_shown ? (int) strlen(text_shown) : 0;

	len = pg_mbcliplen(text_shown ? text_shown : "", len, MAX_TEXT_SHOWN - 1);
	memcpy(to, text_shown ? text_shown : "", len);
	to[len] = '\0';
}

static void
count_call(Report *report, Oid function, const ErrorData *error)
{
	int			i = 0;

	while (i < report->n_functions && report->functions[i].function != function)
		i++;
	if (i == report->n_functions && i < MAX_FUNCTIONS)
		report->functions[report->n_functions++] = (FunctionCount) {.function = function};
	i = Min(i, MAX_FUNCTIONS - 1);
	report->functions[i].calls++;
	if (!error)
		return;
	if (report->failed++ == 0)
	{
		keep_text(report->message, error->message);
		keep_text(report->hint, error->hint);
	}
	report->functions[i].failed++;
}

/* "3 of 200 calls of gpt_generate and 1 of 7 calls of gpt_classify" */
static char *
counts_text(const Report *report)
{
	char	   *counts = NULL;

	for (int i = 0; i < report->n_functions; i++)
	{
		const FunctionCount *f = &report->functions[i];
		char	   *name = f->failed ? get_func_name(f->function) : NULL;

		if (f->failed)
			counts = psprintf("%s%s" UINT64_FORMAT " of " UINT64_FORMAT " calls of %s",
							  counts ? counts : "", counts ? " and " : "", f->failed, f->calls,
							  name ? name : "???");
	}
	return counts;
}

static void
tell(const Report *report)
{
	if (report->failed == 0)
		return;
	ereport(WARNING,
			(errmsg("%s failed, first: %s", counts_text(report), report->message),
			 report->hint[0] ? errhint("%s", report->hint) : 0));
}

static void
count(Oid function, const ErrorData *error)
{
	Report	   *report = current_report();
	Report		alone = {.estate = NULL};

	count_call(report ? report : &alone, function, error);
	tell(&alone);
}

/* ---- calls ---- */

bool
gpt2_is_row_error(int sqlstate)
{
	/* The model's files are wrong for all rows alike. */
	if (sqlstate == ERRCODE_INVALID_JSON_TEXT || sqlstate == ERRCODE_INVALID_BINARY_REPRESENTATION)
		return false;
	return ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_DATA_EXCEPTION ||
		sqlstate == ERRCODE_PROGRAM_LIMIT_EXCEEDED;
}

void
gpt2_row_begins(FunctionCallInfo fcinfo)
{
	gpt2_call_site(fcinfo)->in_row = true;
}

int
gpt2_err_of_options(void)
{
	gpt2_error_of_options = true;
	return 0;
}

/* What is wrong with the options is the business of who reads them. */
static bool
fails_alone(NullableDatum options)
{
	JsonbValue *value;
	Jsonb	   *json;

	if (options.isnull)
		return gpt2_on_error == GPT2_ON_ERROR_NULL;
	json = DatumGetJsonbP(options.value);
	if (!JB_ROOT_IS_OBJECT(json))
		return false;
	value = gpt2_json_field(json, "on_error");
	if (!value || value->type == jbvNull)
		return gpt2_on_error == GPT2_ON_ERROR_NULL;
	return value->type == jbvString && value->val.string.len == (int) strlen("null") &&
		memcmp(value->val.string.val, "null", strlen("null")) == 0;
}

/* What the call has asked for; an error has left it behind. */
static void
release_requests(Gpt2CallSite *site)
{
	for (int i = 0; i < site->n_held; i++)
	{
		Gpt2Request *request = gpt2_request_find(site->held[i]);

		if (request)
			gpt2_request_release(request);
	}
	site->n_held = 0;
}

/* The function that the query calls. */
static Oid
function_of(FunctionCallInfo fcinfo)
{
	const Aggref *aggregate = AggGetAggref(fcinfo);

	return aggregate ? aggregate->aggfnoid : fcinfo->flinfo->fn_oid;
}

static bool
call_caught(FunctionCallInfo fcinfo, bool whole, PGFunction body, Datum *result, char **error)
{
	Gpt2CallSite *site = gpt2_call_site(fcinfo);
	MemoryContext context = CurrentMemoryContext;
	ErrorData  *volatile caught = NULL;

	site->in_row = false;
	site->n_held = 0;
	gpt2_error_of_options = false;
	PG_TRY();
	{
		*result = body(fcinfo);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		if (!site->in_row || gpt2_error_of_options || !gpt2_is_row_error(geterrcode()))
			PG_RE_THROW();
		caught = CopyErrorData();
		FlushErrorState();
		release_requests(site);
	}
	PG_END_TRY();
	if (whole || caught)
		count(function_of(fcinfo), caught);
	if (!caught)
		return true;
	if (site->batch)
		gpt2_batch_count_failed(site->batch);
	*error = pstrdup(caught->message ? caught->message : "");
	FreeErrorData(caught);
	return false;
}

bool
gpt2_call_or_fail(FunctionCallInfo fcinfo, NullableDatum options, bool whole, PGFunction body,
				  Datum *result, char **error)
{
	if (fails_alone(options))
		return call_caught(fcinfo, whole, body, result, error);
	gpt2_call_site(fcinfo)->n_held = 0;
	*result = body(fcinfo);
	return true;
}

Datum
gpt2_call_or_null(FunctionCallInfo fcinfo, PGFunction body)
{
	Datum		result;
	char	   *error;

	if (gpt2_call_or_fail(fcinfo, fcinfo->args[fcinfo->nargs - 1], true, body, &result, &error))
		return result;
	PG_RETURN_NULL();
}

/* ---- statements ---- */

/* Where no other statement runs, this query is the outermost one. */
static void
enter(const QueryDesc *query)
{
	if (utility_depth == 0 && !outermost)
		outermost = query->estate;
}

static void
run_executor(GPT2_RUN_PARAMETERS)
{
	const EState *outer = outermost;

	enter(query);
	PG_TRY();
	{
		if (next_run)
			next_run(GPT2_RUN_ARGUMENTS);
		else
			standard_ExecutorRun(GPT2_RUN_ARGUMENTS);
	}
	PG_FINALLY();
	{
		outermost = outer;
	}
	PG_END_TRY();
}

static void
finish_executor(QueryDesc *query)
{
	const EState *outer = outermost;

	enter(query);
	PG_TRY();
	{
		if (next_finish)
			next_finish(query);
		else
			standard_ExecutorFinish(query);
	}
	PG_FINALLY();
	{
		outermost = outer;
	}
	PG_END_TRY();
}

static void
end_executor(QueryDesc *query)
{
	Report	   *report = find_report(query->estate);

	if (report)
		tell(report);
	if (next_end)
		next_end(query);
	else
		standard_ExecutorEnd(query);
}

static void
process_utility(GPT2_UTILITY_PARAMETERS)
{
	const EState *outer = outermost;
	int			depth = utility_depth;

	/* Within a query it is the query that is the statement. */
	if (!outer)
		utility_depth++;
	if (!outer && depth == 0)
		memset(&utility_report, 0, sizeof utility_report);
	PG_TRY();
	{
		if (next_utility)
			next_utility(GPT2_UTILITY_ARGUMENTS);
		else
			standard_ProcessUtility(GPT2_UTILITY_ARGUMENTS);
	}
	PG_FINALLY();
	{
		utility_depth = depth;
		outermost = outer;
	}
	PG_END_TRY();
	if (!outer && depth == 0)
		tell(&utility_report);
}

void
gpt2_failed_calls_initialize(void)
{
	next_run = ExecutorRun_hook;
	ExecutorRun_hook = run_executor;
	next_finish = ExecutorFinish_hook;
	ExecutorFinish_hook = finish_executor;
	next_end = ExecutorEnd_hook;
	ExecutorEnd_hook = end_executor;
	next_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
