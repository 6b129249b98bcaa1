/*
 * generate.c: gpt_generate (one text, or rows), gpt_generate_array, gpt_completions.
 *
 * All take the same arguments in the same order, with or without n behind max_len.
 */
#include "compat.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "batch_functions.h"
#include "call.h"
#include "failed_calls.h"
#include "options.h"
#include "result.h"

PG_FUNCTION_INFO_V1(gpt2_generate);
PG_FUNCTION_INFO_V1(gpt2_generate_rows);
PG_FUNCTION_INFO_V1(gpt2_generate_array);
PG_FUNCTION_INFO_V1(gpt2_completions);

#define ACCEPTS (GPT2_ACCEPTS_ECHO | GPT2_ACCEPTS_SAMPLING | GPT2_ACCEPTS_BEAMS)
#define COMPLETION_COLUMNS 11

bool
gpt2_generate_prepare(FunctionCallInfo fcinfo, Gpt2Call *call)
{
	return gpt2_call_begin(fcinfo, ACCEPTS, false, call);
}

static Datum
generate(FunctionCallInfo fcinfo)
{
	Gpt2Call	call;
	Gpt2Answer	answer;
	g2_completion completion;
	text	   *result;

	if (!gpt2_generate_prepare(fcinfo, &call))
		PG_RETURN_NULL();
	gpt2_answer_begin(gpt2_call_send(fcinfo, &call), call.wire.n, &answer);
	gpt2_answer_next(&answer, &completion);
	result = gpt2_completion_text(&call, &completion);
	gpt2_answer_end(fcinfo, &answer, call.wire.model);
	PG_RETURN_TEXT_P(result);
}

Datum
gpt2_generate(PG_FUNCTION_ARGS)
{
	return gpt2_call_or_null(fcinfo, generate);
}

static Datum
generate_rows(FunctionCallInfo fcinfo)
{
	TupleDesc	tupdesc;
	Tuplestorestate *rows = gpt2_begin_rows(fcinfo, &tupdesc);
	Gpt2Call	call;
	Gpt2Answer	answer;

	if (!gpt2_call_begin(fcinfo, ACCEPTS | GPT2_ACCEPTS_N, false, &call))
		return (Datum) 0;
	gpt2_answer_begin(gpt2_call_send(fcinfo, &call), call.wire.n, &answer);
	for (uint32 i = 0; i < answer.head.n; i++)
	{
		g2_completion completion;
		Datum		value;
		bool		isnull = false;

		gpt2_answer_next(&answer, &completion);
		value = PointerGetDatum(gpt2_completion_text(&call, &completion));
		tuplestore_putvalues(rows, tupdesc, &value, &isnull);
		pfree(DatumGetPointer(value));
	}
	gpt2_answer_end(fcinfo, &answer, call.wire.model);
	return (Datum) 0;
}

Datum
gpt2_generate_rows(PG_FUNCTION_ARGS)
{
	return gpt2_call_or_null(fcinfo, generate_rows);
}

bool
gpt2_generate_array_prepare(FunctionCallInfo fcinfo, Gpt2Call *call)
{
	return gpt2_call_begin(fcinfo, ACCEPTS | GPT2_ACCEPTS_N, false, call);
}

static Datum
generate_array(FunctionCallInfo fcinfo)
{
	Gpt2Call	call;
	Gpt2Answer	answer;
	Datum	   *texts;

	if (!gpt2_generate_array_prepare(fcinfo, &call))
		PG_RETURN_NULL();
	gpt2_answer_begin(gpt2_call_send(fcinfo, &call), call.wire.n, &answer);
	texts = palloc(answer.head.n * sizeof(Datum));
	for (uint32 i = 0; i < answer.head.n; i++)
	{
		g2_completion completion;

		gpt2_answer_next(&answer, &completion);
		texts[i] = PointerGetDatum(gpt2_completion_text(&call, &completion));
	}
	gpt2_answer_end(fcinfo, &answer, call.wire.model);
	PG_RETURN_ARRAYTYPE_P(construct_array(texts, (int) call.wire.n, TEXTOID, -1, false,
										  TYPALIGN_INT));
}

Datum
gpt2_generate_array(PG_FUNCTION_ARGS)
{
	return gpt2_call_or_null(fcinfo, generate_array);
}

static const char *
finish_reason(uint32 finish)
{
	switch (finish)
	{
		case G2_FINISH_LENGTH:
			return "length";
		case G2_FINISH_STOP:
			return "stop";
		case G2_FINISH_EOS:
			return "eos";
		default:
			return "error";
	}
}

static Datum
interval_of(uint64 microseconds)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = (TimeOffset) microseconds;
	return IntervalPGetDatum(interval);
}

/* seq, completion, token_ids, logprob, finish_reason, seed, prompt_tokens, cached_tokens,
 * completion_tokens, elapsed, error */
static void
completion_row(const Gpt2Call *call, const g2_completions_head *head,
			   const g2_completion *completion, uint32 i, Datum *values, bool *nulls)
{
	memset(nulls, 0, COMPLETION_COLUMNS * sizeof(bool));
	values[0] = Int32GetDatum((int32) i + 1);
	values[1] = PointerGetDatum(gpt2_completion_text(call, completion));
	values[2] = PointerGetDatum(gpt2_ids_to_array(completion->ids, completion->n_ids));
	values[3] = Float8GetDatum(completion->logprob);
	values[4] = CStringGetTextDatum(finish_reason(completion->finish));
	values[5] = Int64GetDatum((int64) head->seed);
	nulls[5] = !call->seeded;
	values[6] = Int32GetDatum((int32) head->prompt_tokens);
	values[7] = Int32GetDatum((int32) head->cached_tokens);
	values[8] = Int32GetDatum((int32) completion->n_ids);
	values[9] = interval_of(head->elapsed_us);
	values[10] = (Datum) 0;
	nulls[10] = true;
}

static Datum
completions(FunctionCallInfo fcinfo)
{
	TupleDesc	tupdesc;
	Tuplestorestate *rows = gpt2_begin_rows(fcinfo, &tupdesc);
	Gpt2Call	call;
	Gpt2Answer	answer;

	if (!gpt2_call_begin(fcinfo, ACCEPTS | GPT2_ACCEPTS_N, true, &call))
		return (Datum) 0;
	call.wire.flags |= G2_GEN_LOGPROBS;
	gpt2_answer_begin(gpt2_call_send(fcinfo, &call), call.wire.n, &answer);
	for (uint32 i = 0; i < answer.head.n; i++)
	{
		g2_completion completion;
		Datum		values[COMPLETION_COLUMNS];
		bool		nulls[COMPLETION_COLUMNS];

		gpt2_answer_next(&answer, &completion);
		completion_row(&call, &answer.head, &completion, i, values, nulls);
		tuplestore_putvalues(rows, tupdesc, values, nulls);
	}
	gpt2_answer_end(fcinfo, &answer, call.wire.model);
	return (Datum) 0;
}

/* The row of a call that has failed for its row alone. */
static void
put_failed(FunctionCallInfo fcinfo, const char *error)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum		values[COMPLETION_COLUMNS] = {0};
	bool		nulls[COMPLETION_COLUMNS];

	memset(nulls, true, sizeof nulls);
	values[0] = Int32GetDatum(1);
	values[4] = CStringGetTextDatum(finish_reason(0));
	values[10] = CStringGetTextDatum(error);
	nulls[0] = nulls[4] = nulls[10] = false;
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

Datum
gpt2_completions(PG_FUNCTION_ARGS)
{
	Datum		result;
	char	   *error;

	if (!gpt2_call_or_fail(fcinfo, fcinfo->args[fcinfo->nargs - 1], true, completions, &result,
						   &error))
		put_failed(fcinfo, error);
	return (Datum) 0;
}
