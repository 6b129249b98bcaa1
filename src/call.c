/*
 * call.c: one call of a generating function, from SQL arguments to the engine's answer.
 *
 * Phases: prepare (NULL arguments become the session's settings, everything is checked), send,
 * answer (wait, then read one sequence after the other).  They are apart so that many calls can
 * be in flight at once: batch_ahead.c prepares and sends the calls of rows whose turn is still to
 * come.  When it comes, the call is prepared again, and takes the answer of what was sent ahead if
 * that is the same to the byte.
 */
#include "compat.h"

#include "access/parallel.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"

#include "batch.h"
#include "call.h"
#include "decoding.h"
#include "encoding.h"
#include "failed_calls.h"
#include "guc.h"
#include "options.h"

#define DEMO_MODEL "demo"
#define AUTOMATIC_TOP_K 50		/* for n > 1, when no temperature is set */

/* ---- arguments ---- */

g2_span
gpt2_model_name(NullableDatum model)
{
	static bool noticed = false;

	if (!model.isnull)
		return gpt2_text_to_utf8(DatumGetTextPP(model.value), "model name");
	if (gpt2_model && *gpt2_model)
		return gpt2_to_utf8(pstrdup(gpt2_model), strlen(gpt2_model), "model name");
	/* Not where nobody would see it, as when a row is looked ahead at. */
	if (!noticed && !IsParallelWorker() && client_min_messages <= NOTICE)
	{
		noticed = true;
		ereport(NOTICE,
				(errmsg("using the demonstration model \"%s\" "
						"(generated English support tickets only)", DEMO_MODEL),
				 errhint("Choose a model with SET gpt2.model = '...'; see gpt_models.")));
	}
	return g2_span_of(DEMO_MODEL);
}

/* 22023: a name of an argument or setting, and what it must be. */
static void
bad_value(const char *name, const char *must)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s must be %s", name, must)));
}

static void
conflict(const char *argument, const char *option)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 gpt2_err_of_options(),
			 errmsg("argument %s and option \"%s\" cannot both be given", argument, option),
			 errhint("Give only one of them; an argument that is NULL is not given.")));
}

static void
resolve_n(const Gpt2Arguments *args, const Gpt2Options *options, g2_generate *wire)
{
	int32		n = args->n.isnull ? 1 : DatumGetInt32(args->n.value);

	if (options->has_n)
	{
		if (!args->n.isnull && !(args->n_is_default && n == 1))
			conflict("n", options->has_n);
		n = options->n;
	}
	if (n < 1)
		bad_value("n", "at least 1");
	if (n > G2_MAX_SEQUENCES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("n must be between 1 and %d", G2_MAX_SEQUENCES),
				 errhint("Make several calls.")));
	wire->n = (uint32) n;
}

static void
resolve_length(const Gpt2Arguments *args, const Gpt2Options *options, g2_generate *wire)
{
	int32		max_new = gpt2_max_len;
	uint32		sequences = Max(wire->n, options->decoding.n_beams);

	if (options->has_max_length && options->has_max_new_tokens)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 gpt2_err_of_options(),
				 errmsg("options \"%s\" and \"%s\" cannot both be given",
						options->has_max_length, options->has_max_new_tokens),
				 errhint("max_length counts the prompt too, max_new_tokens does not.")));
	if (!args->max_len.isnull)
	{
		if (options->has_max_length)
			conflict("max_len", options->has_max_length);
		if (options->has_max_new_tokens)
			conflict("max_len", options->has_max_new_tokens);
		max_new = DatumGetInt32(args->max_len.value);
	}
	else if (options->has_max_length)
	{
		max_new = options->max_length;
		wire->flags |= G2_GEN_MAX_LENGTH;
	}
	else if (options->has_max_new_tokens)
		max_new = options->max_new_tokens;

	if (max_new < 1 || max_new > G2_MAX_NEW_TOKENS)
		bad_value("max_len", psprintf("between 1 and %u", G2_MAX_NEW_TOKENS));
	if ((uint64) sequences * (uint64) max_new > G2_MAX_NEW_TOKENS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%s times max_len is too large", sequences > wire->n ? "num_beams" : "n"),
				 errdetail("%u sequences of %d tokens were asked for; the limit of one call is "
						   "%u tokens.", sequences, max_new, G2_MAX_NEW_TOKENS),
				 errhint("Ask for fewer or shorter sequences in one call.")));
	wire->max_new = (uint32) max_new;
}

static void
resolve_sampling(const Gpt2Arguments *args, const Gpt2Options *options, g2_generate *wire)
{
	bool		several = wire->n > 1 && options->decoding.n_beams <= 1;
	double		temperature = gpt2_temperature;
	int32		top_k = gpt2_top_k;
	double		top_p = gpt2_top_p;
	bool		automatic;

	wire->top_p = 1.0;
	if (!(args->accepts & GPT2_ACCEPTS_SAMPLING))
		return;					/* greedy, whatever the session's settings are */

	if (!args->temperature.isnull)
		temperature = DatumGetFloat8(args->temperature.value);
	/* The setting's -1; an argument has NULL for that. */
	automatic = args->temperature.isnull && temperature < 0;
	if (!automatic && !gpt2_in_range(temperature, 0, GPT2_MAX_TEMPERATURE, false))
		bad_value("temperature", psprintf("between 0 and %d", GPT2_MAX_TEMPERATURE));
	if (automatic)
		temperature = several ? 1.0 : 0.0;
	else if (temperature == 0 && several)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("temperature 0 gives the same text %u times", wire->n),
				 errhint("Use n => 1, or a temperature above 0.")));
	wire->temperature = temperature;

	if (!args->top_k.isnull)
	{
		top_k = DatumGetInt32(args->top_k.value);
		if (top_k < 0)
			bad_value("top_k", "0 (off) or a positive number");
	}
	else if (top_k < 0)
		top_k = automatic && several ? AUTOMATIC_TOP_K : 0;
	wire->top_k = (uint32) top_k;

	if (!args->top_p.isnull)
		top_p = DatumGetFloat8(args->top_p.value);
	else if (top_p < 0)
		top_p = 1.0;
	if (!gpt2_in_range(top_p, 0, 1, true))
		bad_value("top_p", "greater than 0 and at most 1");
	wire->top_p = top_p;
}

static void
resolve_stops(const Gpt2Arguments *args, const Gpt2Options *options, g2_generate *wire)
{
	ArrayType  *array;
	Datum	   *elements;
	bool	   *nulls;
	int			count;

	if (options->has_stop)
	{
		if (!args->stop.isnull)
			conflict("stop", options->has_stop);
		memcpy(wire->stops, options->stops, sizeof wire->stops);
		wire->n_stops = options->n_stops;
		wire->flags |= G2_GEN_NO_STOP_DEFAULTS;
		return;
	}
	if (args->stop.isnull)
		return;
	array = DatumGetArrayTypeP(args->stop.value);
	if (ARR_NDIM(array) > 1)
		bad_value("stop", "a one-dimensional array");
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count);
	wire->flags |= G2_GEN_NO_STOP_DEFAULTS;
	for (int i = 0; i < count; i++)
	{
		const text *t;

		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("stop contains a null element")));
		t = DatumGetTextPP(elements[i]);
		gpt2_add_stop(wire->stops, &wire->n_stops, "stop",
					  VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t));
	}
}

g2_span
gpt2_cache_salt(void)
{
	g2_span		salt = gpt2_to_utf8(pstrdup(gpt2_prefix_cache_salt),
									strlen(gpt2_prefix_cache_salt), "gpt2.prefix_cache_salt");

	if (salt.len > GPT2_MAX_SALT)
		bad_value("gpt2.prefix_cache_salt",
				  psprintf("at most %d bytes long in UTF-8", GPT2_MAX_SALT));
	return salt;
}

/* What the text has to be, and so where it ends. */
static void
resolve_constraint(const Gpt2Options *options, g2_generate *wire)
{
	if (options->has_constraint && wire->n_stops > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 gpt2_err_of_options(),
				 errmsg("stop and option \"%s\" cannot both be given", options->has_constraint),
				 errhint("The constraint says where the text ends.")));
	wire->constraint_kind = options->constraint_kind;
	wire->constraint = options->constraint;
}

/* What becomes of a text that does not fit into the context. */
static void
resolve_long(const Gpt2Arguments *args, const Gpt2Options *options, g2_generate *wire)
{
	static const uint32 flags[] = {
		[GPT2_TRUNCATE_NOT] = 0,
		[GPT2_TRUNCATE_LEFT] = G2_GEN_TRUNCATE_LEFT,
		[GPT2_TRUNCATE_RIGHT] = G2_GEN_TRUNCATE_RIGHT,
	};

	/* What the whole text's tokens are counted for has no parts. */
	if (args->splits && !options->has_truncate && !options->has_max_length)
		wire->flags |= G2_GEN_SPLIT;
	else if (args->splits && !options->has_truncate)
		return;
	else
		wire->flags |= flags[options->has_truncate ? options->truncate : gpt2_truncate];
}

/* Who asks, which caches it may share, and how long it waits. */
static void
resolve_caller(const Gpt2Options *options, g2_generate *wire)
{
	wire->current_user = (uint32) GetUserId();
	wire->queue_timeout_ms = (uint32) gpt2_queue_timeout;
	wire->cache_salt = gpt2_cache_salt();
	if (!options->cache)
		wire->flags |= G2_GEN_NO_CACHE;
}

void
gpt2_call_prepare(FunctionCallInfo fcinfo, uint64 row, const Gpt2Arguments *args,
				  const text *prompt, Gpt2Call *call)
{
	g2_generate *wire = &call->wire;
	Gpt2Options options;

	memset(call, 0, sizeof *call);
	gpt2_options_parse(args->options.isnull ? NULL : DatumGetJsonbP(args->options.value),
					   args->accepts, &options);
	gpt2_row_begins(fcinfo);
	resolve_n(args, &options, wire);
	resolve_length(args, &options, wire);
	resolve_sampling(args, &options, wire);
	gpt2_resolve_decoding(&options, wire);
	resolve_stops(args, &options, wire);
	resolve_constraint(&options, wire);
	resolve_long(args, &options, wire);
	resolve_caller(&options, wire);
	wire->min_p = options.min_p;
	wire->repetition_penalty = options.repetition_penalty;
	wire->template_text = options.template_text;
	call->prompt = prompt;
	call->echo = options.echo;
	wire->prompt = gpt2_text_to_utf8(prompt, "prompt");
	wire->model = gpt2_model_name(args->model);
	if (!args->seed.isnull)
	{
		wire->seed = (uint64) DatumGetInt64(args->seed.value);
		wire->flags |= G2_GEN_SEEDED;
	}
	else if (wire->temperature > 0)
		call->undrawn = !gpt2_call_seed(fcinfo, row, &wire->seed);
	call->seeded = !args->seed.isnull || wire->temperature > 0;
}

bool
gpt2_call_begin(FunctionCallInfo fcinfo, int accepts, bool n_is_default, Gpt2Call *call)
{
	uint64		row = gpt2_call_row(fcinfo);
	const NullableDatum *arg = fcinfo->args;
	const NullableDatum null = {0, true};
	Gpt2Arguments args;

	if (PG_ARGISNULL(0))
		return false;
	arg++;
	args.max_len = *arg++;
	args.n = accepts & GPT2_ACCEPTS_N ? *arg++ : null;
	args.model = *arg++;
	args.temperature = *arg++;
	args.top_k = *arg++;
	args.top_p = *arg++;
	args.seed = *arg++;
	args.stop = *arg++;
	args.options = *arg++;
	args.accepts = accepts;
	args.n_is_default = n_is_default;
	args.splits = false;
	gpt2_call_prepare(fcinfo, row, &args, PG_GETARG_TEXT_PP(0), call);
	return true;
}

/* ---- request and answer ---- */

Gpt2Request *
gpt2_call_request(FunctionCallInfo fcinfo, g2_message type, const g2_writer *payload)
{
	Gpt2CallSite *site = gpt2_call_site(fcinfo);
	Gpt2Request *request = site->batch ? gpt2_batch_claim(site->batch, type, payload) : NULL;

	if (!request)
		request = gpt2_request(type, payload);
	if (site->n_held < GPT2_MAX_SCORES)
		site->held[site->n_held++] = gpt2_request_id(request);
	return request;
}

Gpt2Request *
gpt2_call_send(FunctionCallInfo fcinfo, const Gpt2Call *call)
{
	g2_writer	w = gpt2_writer();
	Gpt2Request *request;

	g2_generate_encode(&w, &call->wire);
	request = gpt2_call_request(fcinfo, G2_MSG_GENERATE, &w);
	pfree(w.data);
	return request;
}

static void
begin_answer(Gpt2Request *request, g2_message type, uint32 n, Gpt2Answer *answer)
{
	const char *payload;
	size_t		len;

	answer->request = request;
	answer->new_tokens = 0;
	gpt2_request_wait(request);
	payload = gpt2_request_result(request, type, &len);
	answer->reader = g2_read(payload, len);
	g2_completions_head_get(&answer->reader, &answer->head);
	if (answer->reader.failed || answer->head.n != n)
		gpt2_malformed_answer();
}

void
gpt2_answer_begin(Gpt2Request *request, uint32 n, Gpt2Answer *answer)
{
	begin_answer(request, G2_MSG_COMPLETIONS, n, answer);
}

void
gpt2_scores_begin(Gpt2Request *request, uint32 n, Gpt2Answer *answer)
{
	begin_answer(request, G2_MSG_SCORES, n, answer);
}

void
gpt2_answer_next(Gpt2Answer *answer, g2_completion *completion)
{
	g2_completion_get(&answer->reader, completion);
	if (answer->reader.failed)
		gpt2_malformed_answer();
	answer->new_tokens += completion->n_ids;
}

/* Statement and context are left out: they may hold prompts. */
static void
log_call(const Gpt2Answer *answer, g2_span model)
{
	const g2_completions_head *head = &answer->head;
	char	   *name = gpt2_from_utf8(model.data, model.len, NULL);

	ereport(LOG,
			(errmsg("gpt2 call took %.3f ms, %.3f ms of it queued: model \"%s\", "
					"%u prompt tokens (%u cached), " UINT64_FORMAT " new tokens in %u sequences",
					head->elapsed_us / 1000.0, head->queue_us / 1000.0, name,
					head->prompt_tokens, head->cached_tokens, answer->new_tokens, head->n),
			 errhidestmt(true),
			 errhidecontext(true)));
	pfree(name);
}

static void
forget_held(Gpt2CallSite *site, uint64 id)
{
	for (int i = 0; i < site->n_held; i++)
		if (site->held[i] == id)
		{
			site->held[i] = site->held[--site->n_held];
			return;
		}
}

void
gpt2_answer_end(FunctionCallInfo fcinfo, Gpt2Answer *answer, g2_span model)
{
	Gpt2CallSite *site = gpt2_call_site(fcinfo);

	if (site->batch)
		gpt2_batch_count(site->batch, answer);
	if (gpt2_log_min_duration >= 0 &&
		answer->head.elapsed_us / 1000 >= (uint64) gpt2_log_min_duration)
		log_call(answer, model);
	forget_held(site, gpt2_request_id(answer->request));
	gpt2_request_release(answer->request);
	answer->request = NULL;
}

text *
gpt2_completion_text(const Gpt2Call *call, const g2_completion *completion)
{
	size_t		before = call->echo ? VARSIZE_ANY_EXHDR(call->prompt) : 0,
				len;
	char	   *made = gpt2_from_utf8(completion->text.data, completion->text.len, &len);
	text	   *t = (text *) palloc(VARHDRSZ + before + len);

	SET_VARSIZE(t, VARHDRSZ + before + len);
	if (before > 0)
		memcpy(VARDATA(t), VARDATA_ANY(call->prompt), before);
	memcpy(VARDATA(t) + before, made, len);
	pfree(made);
	return t;
}
