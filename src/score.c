/*
 * score.c: gpt_logprobs, gpt_loss, gpt_perplexity, gpt_embed: what a model makes of a text that is
 * there already.
 *
 * All have the arguments content, model, options.  A text longer than the context is read window
 * by window (the engine's business).
 */
#include "compat.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"

#include "batch_functions.h"
#include "encoding.h"
#include "failed_calls.h"
#include "guc.h"
#include "result.h"
#include "score.h"

PG_FUNCTION_INFO_V1(gpt2_logprobs);
PG_FUNCTION_INFO_V1(gpt2_loss);
PG_FUNCTION_INFO_V1(gpt2_perplexity);
PG_FUNCTION_INFO_V1(gpt2_embed);

#define LOGPROB_COLUMNS 4

/* Without the option, long texts are no error for any kind of score: gpt2.truncate is not asked. */
static uint32
truncate_flag(const Gpt2Options *options)
{
	if (!options->has_truncate)
		return 0;
	return options->truncate == GPT2_TRUNCATE_LEFT ? G2_SCORE_TRUNCATE_LEFT :
		options->truncate == GPT2_TRUNCATE_RIGHT ? G2_SCORE_TRUNCATE_RIGHT :
		G2_SCORE_TRUNCATE_NOT;
}

void
gpt2_score_prepare(const text *content, NullableDatum model, const Gpt2Options *options,
				   g2_score_kind kind, g2_score *wire)
{
	memset(wire, 0, sizeof *wire);
	wire->kind = kind;
	wire->text = gpt2_text_to_utf8(content, "content");
	wire->stride = (uint32_t) options->stride;
	wire->template_text = options->template_text;
	wire->current_user = (uint32) GetUserId();
	wire->queue_timeout_ms = (uint32_t) gpt2_queue_timeout;
	wire->cache_salt = gpt2_cache_salt();
	if (!options->cache)
		wire->flags |= G2_SCORE_NO_CACHE;
	wire->flags |= truncate_flag(options);
	if (options->add_start)
		wire->flags |= G2_SCORE_ADD_START;
	wire->model = gpt2_model_name(model);
}

Gpt2Request *
gpt2_score_send(FunctionCallInfo fcinfo, const g2_score *wire)
{
	g2_writer	w = gpt2_writer();
	Gpt2Request *request;

	g2_score_encode(&w, wire);
	request = gpt2_call_request(fcinfo, G2_MSG_SCORE, &w);
	pfree(w.data);
	return request;
}

g2_score_sum
gpt2_score_next(Gpt2Answer *answer)
{
	g2_score_sum sum;

	g2_score_sum_get(&answer->reader, &sum);
	if (answer->reader.failed)
		gpt2_malformed_answer();
	return sum;
}

static void
prepare(FunctionCallInfo fcinfo, g2_score_kind kind, int accepts, g2_score *wire)
{
	Gpt2Options options;

	gpt2_options_parse(PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2), GPT2_SCORES | accepts,
					   &options);
	gpt2_row_begins(fcinfo);
	gpt2_score_prepare(PG_GETARG_TEXT_PP(0), fcinfo->args[1], &options, kind, wire);
}

/* Sends the call of this row and waits for its answer. */
static void
ask(FunctionCallInfo fcinfo, const g2_score *wire, Gpt2Answer *answer)
{
	gpt2_scores_begin(gpt2_score_send(fcinfo, wire), 1, answer);
}

/* ---- tokens ---- */

/* Appends pos, token_id, piece, logprob. */
static void
put_token(Tuplestorestate *rows, TupleDesc tupdesc, uint32 pos, const g2_token_score *token)
{
	Datum		values[LOGPROB_COLUMNS];
	bool		nulls[LOGPROB_COLUMNS] = {false};
	text	   *piece = gpt2_utf8_to_text(token->piece);

	values[0] = Int32GetDatum((int32) pos);
	values[1] = Int32GetDatum((int32) token->token);
	values[2] = PointerGetDatum(piece);
	values[3] = Float8GetDatum(token->logprob);
	nulls[3] = isnan(token->logprob);
	tuplestore_putvalues(rows, tupdesc, values, nulls);
	pfree(piece);
}

static Datum
logprobs(FunctionCallInfo fcinfo)
{
	TupleDesc	tupdesc;
	Tuplestorestate *rows = gpt2_begin_rows(fcinfo, &tupdesc);
	g2_score	wire;
	Gpt2Answer	answer;
	uint32		n;

	if (PG_ARGISNULL(0))
		return (Datum) 0;
	prepare(fcinfo, G2_SCORE_TOKENS, GPT2_ACCEPTS_WINDOWS, &wire);
	ask(fcinfo, &wire, &answer);
	n = g2_get_u32(&answer.reader);
	for (uint32 i = 0; i < n; i++)
	{
		g2_token_score token;

		g2_token_score_get(&answer.reader, &token);
		if (answer.reader.failed)
			gpt2_malformed_answer();
		put_token(rows, tupdesc, i, &token);
		if (i % 1024 == 0)
			CHECK_FOR_INTERRUPTS();
	}
	gpt2_answer_end(fcinfo, &answer, wire.model);
	return (Datum) 0;
}

Datum
gpt2_logprobs(PG_FUNCTION_ARGS)
{
	return gpt2_call_or_null(fcinfo, logprobs);
}

/* ---- means ---- */

int
gpt2_loss_prepare(FunctionCallInfo fcinfo, g2_score *wires)
{
	if (PG_ARGISNULL(0))
		return 0;
	prepare(fcinfo, G2_SCORE_LOSS, GPT2_ACCEPTS_WINDOWS, wires);
	return 1;
}

/* False: the text has no token with a score. */
static bool
get_loss(FunctionCallInfo fcinfo, double *loss)
{
	g2_score	wire;
	Gpt2Answer	answer;
	g2_score_sum sum;

	if (gpt2_loss_prepare(fcinfo, &wire) == 0)
		return false;
	ask(fcinfo, &wire, &answer);
	sum = gpt2_score_next(&answer);
	gpt2_answer_end(fcinfo, &answer, wire.model);
	*loss = sum.n > 0 ? -sum.logprob / sum.n : 0;
	return sum.n > 0;
}

static Datum
mean_loss(FunctionCallInfo fcinfo)
{
	double		loss;

	if (!get_loss(fcinfo, &loss))
		PG_RETURN_NULL();
	PG_RETURN_FLOAT8(loss);
}

Datum
gpt2_loss(PG_FUNCTION_ARGS)
{
	return gpt2_call_or_null(fcinfo, mean_loss);
}

static Datum
perplexity(FunctionCallInfo fcinfo)
{
	double		loss;

	if (!get_loss(fcinfo, &loss))
		PG_RETURN_NULL();
	PG_RETURN_FLOAT8(exp(loss));
}

Datum
gpt2_perplexity(PG_FUNCTION_ARGS)
{
	return gpt2_call_or_null(fcinfo, perplexity);
}

/* ---- embeddings ---- */

static ArrayType *
values_to_array(const g2_embedding *e)
{
	size_t		bytes = (size_t) e->n * sizeof(float4);
	ArrayType  *array = (ArrayType *) palloc(ARR_OVERHEAD_NONULLS(1) + bytes);

	SET_VARSIZE(array, ARR_OVERHEAD_NONULLS(1) + bytes);
	array->ndim = 1;
	array->dataoffset = 0;
	array->elemtype = FLOAT4OID;
	ARR_DIMS(array)[0] = (int) e->n;
	ARR_LBOUND(array)[0] = 1;
	memcpy(ARR_DATA_PTR(array), e->values, bytes);
	return array;
}

int
gpt2_embed_prepare(FunctionCallInfo fcinfo, g2_score *wires)
{
	if (PG_ARGISNULL(0))
		return 0;
	prepare(fcinfo, G2_SCORE_EMBED, 0, wires);
	return gpt2_has_content(wires->text);
}

static Datum
embed(FunctionCallInfo fcinfo)
{
	g2_score	wire;
	Gpt2Answer	answer;
	g2_embedding embedding;
	ArrayType  *array;

	if (gpt2_embed_prepare(fcinfo, &wire) == 0)
		PG_RETURN_NULL();
	ask(fcinfo, &wire, &answer);
	g2_embedding_get(&answer.reader, &embedding);
	if (answer.reader.failed || embedding.n == 0)
		gpt2_malformed_answer();
	array = values_to_array(&embedding);
	gpt2_answer_end(fcinfo, &answer, wire.model);
	PG_RETURN_ARRAYTYPE_P(array);
}

Datum
gpt2_embed(PG_FUNCTION_ARGS)
{
	return gpt2_call_or_null(fcinfo, embed);
}
