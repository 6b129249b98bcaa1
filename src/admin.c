/*
 * admin.c: gpt_load_model, gpt_unload_model, gpt_restart_engine, gpt_stop_engine, gpt_info,
 * gpt_engine_counters.
 *
 * All but gpt_load_model and gpt_unload_model start no engine.
 */
#include "compat.h"

#include <signal.h>

#include "access/htup_details.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "admin.h"
#include "attempt.h"
#include "client.h"
#include "encoding.h"
#include "link.h"
#include "models.h"
#include "pack_purge.h"
#include "result.h"
#include "supervisor.h"

PG_FUNCTION_INFO_V1(gpt2_load_model);
PG_FUNCTION_INFO_V1(gpt2_unload_model);
PG_FUNCTION_INFO_V1(gpt2_restart_engine);
PG_FUNCTION_INFO_V1(gpt2_stop_engine);
PG_FUNCTION_INFO_V1(gpt2_info);
PG_FUNCTION_INFO_V1(gpt2_engine_counters);

#define INFO_COLUMNS 11
#define COUNTER_COLUMNS 4
#define STOP_MS 15000			/* for supervisor and engine to end; they need 4 s at most */

void
gpt2_require_name(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model name must not be null"),
				 errhint("The view gpt_models lists the names.")));
}

/* A text argument in UTF-8; empty where it is NULL. */
static g2_span
text_argument(FunctionCallInfo fcinfo, int i, const char *what)
{
	return PG_ARGISNULL(i) ? g2_span_of("") : gpt2_text_to_utf8(PG_GETARG_TEXT_PP(i), what);
}

/* The model's name; administration has no default. */
static g2_span
name_argument(FunctionCallInfo fcinfo)
{
	gpt2_require_name(fcinfo);
	return text_argument(fcinfo, 0, "model name");
}

void
gpt2_run_until_done(g2_message type, g2_writer *w)
{
	Gpt2Request *request = gpt2_request(type, w);
	size_t		len;

	if (w->data)
		pfree(w->data);
	gpt2_request_wait(request);
	(void) gpt2_request_result(request, G2_MSG_DONE, &len);
	gpt2_request_release(request);
}

Datum
gpt2_load_model(PG_FUNCTION_ARGS)
{
	g2_writer	w = gpt2_writer();
	g2_load		load;

	load.model = name_argument(fcinfo);
	load.format = text_argument(fcinfo, 1, "weight_format");
	load.device = text_argument(fcinfo, 2, "device");
	g2_load_encode(&w, &load);
	gpt2_run_until_done(G2_MSG_LOAD, &w);
	PG_RETURN_VOID();
}

static void
unload(void *arg)
{
	g2_writer	w = gpt2_writer();

	g2_put_span(&w, *(const g2_span *) arg);
	gpt2_run_until_done(G2_MSG_UNLOAD, &w);
}

typedef struct Loaded
{
	g2_span		name;
	bool		loaded;
} Loaded;

static void
look_for_model(const g2_model_row *m, void *arg)
{
	Loaded	   *l = arg;

	if (m->state != G2_MODEL_FAILED && m->name.len == l->name.len &&
		memcmp(m->name.data, l->name.data, m->name.len) == 0)
		l->loaded = true;
}

void
gpt2_unload_if_loaded(const char *model)
{
	Loaded		l = {.name = gpt2_to_utf8(model, strlen(model), "model name")};
	ErrorData  *error = NULL;

	if (!gpt2_for_each_model(look_for_model, &l))
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("the gpt2 engine does not answer, and may have model \"%s\" loaded", model),
				 errdetail("It would go on with what it has read of the model's folder before."),
				 errhint("Call gpt_stop_engine(): calls go on in the next one.")));
	if (l.loaded)
		error = gpt2_attempt(unload, &l.name);
	/* Somebody else may have unloaded it meanwhile. */
	if (error && error->sqlerrcode != ERRCODE_UNDEFINED_OBJECT)
		ReThrowError(error);
}

/* Models that stand on another: their names, of those that the current user may see. */
typedef struct Adapters
{
	g2_span		base;
	int			n;
	StringInfoData names;
} Adapters;

static void
collect_adapter(const g2_model_row *m, void *arg)
{
	Adapters   *a = arg;

	if (m->state != G2_MODEL_LOADED || m->base.len == 0 || m->base.len != a->base.len ||
		memcmp(m->base.data, a->base.data, m->base.len) != 0)
		return;
	a->n++;
	if (gpt2_model_is_visible(m))
		appendStringInfo(&a->names, "%s%s", a->names.len > 0 ? ", " : "",
						 gpt2_from_utf8(m->name.data, m->name.len, NULL));
}

/* Memory is given back when nothing stands on it any more. */
static void
tell_adapters(g2_span base)
{
	Adapters	a = {.base = base};

	initStringInfo(&a.names);
	(void) gpt2_for_each_model(collect_adapter, &a);
	if (a.n == 0)
		return;
	ereport(NOTICE,
			(errmsg_plural("the weights of model \"%s\" stay in memory: %d adapter of it is loaded",
						   "the weights of model \"%s\" stay in memory: %d adapters of it are loaded",
						   a.n, gpt2_from_utf8(base.data, base.len, NULL), a.n),
			 a.names.len > 0 ? errdetail("Loaded: %s.", a.names.data) : 0,
			 errhint("Unload the adapters too.")));
}

Datum
gpt2_unload_model(PG_FUNCTION_ARGS)
{
	g2_span		name = name_argument(fcinfo);

	unload(&name);
	tell_adapters(name);
	PG_RETURN_VOID();
}

/* ---- stopping ---- */

Datum
gpt2_restart_engine(PG_FUNCTION_ARGS)
{
	g2_writer	nothing = {.data = NULL};

	if (gpt2_engine_expected())
		gpt2_run_until_done(G2_MSG_RESTART, &nothing);
	PG_RETURN_VOID();
}

/*
 * Ends the supervisor that runs now, and its engine with it, and waits until they have gone.  One
 * that somebody else starts meanwhile is another.
 */
static void
stop_supervisor(void)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), STOP_MS);
	pid_t		told = 0;

	for (;;)
	{
		pid_t		pid = gpt2_supervisor_pid();

		/* It may not have got as far as to have a pid that can be read.  Its lock goes before it does:
		 * what it had open is closed one after the other. */
		if (told ? pid != told && kill(told, 0) != 0 : !gpt2_supervisor_running())
			return;
		if (!told && pid > 0 && kill(pid, SIGTERM) == 0)
			told = pid;
		if (GetCurrentTimestamp() >= deadline)
			ereport(ERROR,
					(errcode(ERRCODE_SYSTEM_ERROR),
					 errmsg("gpt2 supervisor did not end within %d seconds", STOP_MS / 1000),
					 errhint("See the server log, and try again.")));
		gpt2_pause(10, gpt2_wait_event("Gpt2Stop"));
	}
}

Datum
gpt2_stop_engine(PG_FUNCTION_ARGS)
{
	stop_supervisor();
	if (!PG_ARGISNULL(0) && PG_GETARG_BOOL(0))
	{
		gpt2_purge_packs();
		/* Somebody else may have started the next engine meanwhile. */
		gpt2_reset_usage();
	}
	PG_RETURN_VOID();
}

/* ---- looking ---- */

/* Asks the running engine; false without one.  info's spans are palloc'd. */
static bool
ask_info(g2_info *info)
{
	size_t		len;
	char	   *payload = gpt2_ask_running(G2_MSG_INFO, G2_MSG_INFO_ROW, &len, NULL);

	if (payload && !g2_info_decode(payload, len, info))
		gpt2_malformed_answer();
	return payload != NULL;
}

static Datum
one_row(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	TupleDesc	tupdesc;

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls));
}

/* Versions are numbers with dots between them. */
static bool
is_newer(const char *a, const char *b)
{
	unsigned long numbers[2] = {0, 0};

	while (numbers[0] == numbers[1] && (*a || *b))
	{
		numbers[0] = strtoul(a, (char **) &a, 10);
		numbers[1] = strtoul(b, (char **) &b, 10);
		a += *a != '\0';
		b += *b != '\0';
	}
	return numbers[0] > numbers[1];
}

/* version, arithmetic, isa, blas, cuda_device, cuda_driver, threads, supervisor_pid, engine_pid,
 * started_at, restart_pending */
static void
engine_columns(const g2_info *info, Datum *values, bool *nulls)
{
	const char *version = gpt2_from_utf8(info->version.data, info->version.len, NULL);

	if (strcmp(version, G2_VERSION) != 0)
		values[0] = CStringGetTextDatum(psprintf("%s (engine %s)", G2_VERSION, version));
	gpt2_set_text(info->arithmetic, &values[1], &nulls[1]);
	gpt2_set_text(info->isa, &values[2], &nulls[2]);
	gpt2_set_text(info->blas, &values[3], &nulls[3]);
	gpt2_set_text(info->cuda_device, &values[4], &nulls[4]);
	gpt2_set_text(info->cuda_driver, &values[5], &nulls[5]);
	gpt2_set_int4(info->threads, &values[6], &nulls[6]);
	gpt2_set_int4(info->engine_pid, &values[8], &nulls[8]);
	gpt2_set_time(info->started_at, &values[9], &nulls[9]);
	values[10] = BoolGetDatum(info->restart_pending != 0 || is_newer(G2_VERSION, version));
	nulls[10] = false;
}

Datum
gpt2_info(PG_FUNCTION_ARGS)
{
	g2_info		info;
	Datum		values[INFO_COLUMNS];
	bool		nulls[INFO_COLUMNS];

	memset(values, 0, sizeof values);
	memset(nulls, true, sizeof nulls);
	values[0] = CStringGetTextDatum(G2_VERSION);
	nulls[0] = false;
	gpt2_set_int4((uint32) gpt2_supervisor_pid(), &values[7], &nulls[7]);
	if (ask_info(&info))
		engine_columns(&info, values, nulls);
	return one_row(fcinfo, values, nulls);
}

Datum
gpt2_engine_counters(PG_FUNCTION_ARGS)
{
	g2_info		info;
	bool		running = ask_info(&info);
	Datum		values[COUNTER_COLUMNS];
	bool		nulls[COUNTER_COLUMNS];

	memset(values, 0, sizeof values);
	memset(nulls, !running, sizeof nulls);
	if (running)
	{
		values[0] = Int32GetDatum((int32) info.live_requests);
		values[1] = Int32GetDatum((int32) info.live_sequences);
		values[2] = Int64GetDatum((int64) info.kv_blocks_used);
		values[3] = Int64GetDatum((int64) info.kv_blocks_total);
	}
	return one_row(fcinfo, values, nulls);
}
