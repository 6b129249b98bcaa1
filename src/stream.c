/*
 * stream.c: gpt_stream, one row per token, as they are made.
 *
 * A set-returning function with one value per call: where it stands in the select list, a cursor
 * sees a token before the next one exists.  Between two calls the engine goes on; what it has made
 * meanwhile waits in the socket.
 *
 * State: `state` of the call site, in the memory context of the function expression.  The request
 * belongs to the resource owner of the first call, which is that of the portal, so it ends with it;
 * where the executor is shut down or starts over before the last row (LIMIT, a closed cursor, a
 * rescan), a callback of the expression context cancels it.  That callback does not run when a
 * transaction is aborted, but then nobody calls again.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "nodes/execnodes.h"
#include "utils/builtins.h"

#include "call.h"
#include "encoding.h"
#include "failed_calls.h"
#include "options.h"

PG_FUNCTION_INFO_V1(gpt2_stream);

#define STREAM_COLUMNS 4

typedef struct Stream
{
	Gpt2Request *request;		/* NULL = no set has been begun */
	TupleDesc	tupdesc;
	g2_span		model;
	uint32		tokens;			/* of this set, handed out */
} Stream;

static void
on_shutdown(Datum arg)
{
	Stream	   *stream = (Stream *) DatumGetPointer(arg);

	if (!stream->request)
		return;
	gpt2_request_release(stream->request);
	stream->request = NULL;
	pfree(unconstify(char *, stream->model.data));
}

static Stream *
find_stream(FunctionCallInfo fcinfo)
{
	Gpt2CallSite *site = gpt2_call_site(fcinfo);
	Stream	   *stream;
	TupleDesc	tupdesc;
	MemoryContext old;

	if (site->state)
		return (Stream *) site->state;
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE ||
		tupdesc->natts != STREAM_COLUMNS)
		elog(ERROR, "return type must be a row type of %d columns", STREAM_COLUMNS);
	old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	stream = palloc0(sizeof *stream);
	stream->tupdesc = BlessTupleDesc(CreateTupleDescCopy(tupdesc));
	MemoryContextSwitchTo(old);
	site->state = stream;
	return stream;
}

/* The first call of a set; false where the prompt is NULL. */
static bool
begin_stream(FunctionCallInfo fcinfo, Stream *stream)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Gpt2Call	call;
	char	   *model;

	if (!gpt2_call_begin(fcinfo, GPT2_ACCEPTS_SAMPLING, false, &call))
		return false;
	call.wire.flags |= G2_GEN_STREAM | G2_GEN_LOGPROBS;
	model = MemoryContextAlloc(fcinfo->flinfo->fn_mcxt, call.wire.model.len + 1);
	memcpy(model, call.wire.model.data, call.wire.model.len);
	RegisterExprContextCallback(rsinfo->econtext, on_shutdown, PointerGetDatum(stream));
	stream->model = (g2_span) {model, call.wire.model.len};
	stream->tokens = 0;
	stream->request = gpt2_call_send(fcinfo, &call);
	return true;
}

/* All tokens are taken: what the engine says at the end must agree, and is logged. */
static void
end_stream(FunctionCallInfo fcinfo, Stream *stream)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Gpt2Answer	answer;
	g2_completion completion;

	gpt2_answer_begin(stream->request, 1, &answer);
	gpt2_answer_next(&answer, &completion);
	if (completion.n_ids != stream->tokens)
		gpt2_malformed_answer();
	UnregisterExprContextCallback(rsinfo->econtext, on_shutdown, PointerGetDatum(stream));
	stream->request = NULL;
	gpt2_answer_end(fcinfo, &answer, stream->model);
	pfree(unconstify(char *, stream->model.data));
}

/* pos, token_id, piece, logprob */
static Datum
token_row(const Stream *stream, const g2_stream *token)
{
	Datum		values[STREAM_COLUMNS];
	bool		nulls[STREAM_COLUMNS] = {false};

	values[0] = Int32GetDatum((int32) token->pos);
	values[1] = Int32GetDatum((int32) token->token);
	values[2] = PointerGetDatum(gpt2_utf8_to_text(token->piece));
	values[3] = Float8GetDatum(token->logprob);
	return HeapTupleGetDatum(heap_form_tuple(stream->tupdesc, values, nulls));
}

/* The next row, or the end. */
static Datum
next_row(FunctionCallInfo fcinfo)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Stream	   *stream = find_stream(fcinfo);
	g2_stream	token;

	if (stream->request || begin_stream(fcinfo, stream))
	{
		if (gpt2_request_next_token(stream->request, &token))
		{
			stream->tokens++;
			rsinfo->isDone = ExprMultipleResult;
			PG_RETURN_DATUM(token_row(stream, &token));
		}
		end_stream(fcinfo, stream);
	}
	rsinfo->isDone = ExprEndResult;
	PG_RETURN_NULL();
}

/* The first call of a set, which may fail for its row alone. */
static Datum
first_row(FunctionCallInfo fcinfo)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Stream	   *stream = find_stream(fcinfo);
	Datum		result;
	char	   *error;

	if (gpt2_call_or_fail(fcinfo, fcinfo->args[fcinfo->nargs - 1], true, next_row, &result, &error))
		return result;
	/* Its request has been released. */
	if (stream->request)
	{
		UnregisterExprContextCallback(rsinfo->econtext, on_shutdown, PointerGetDatum(stream));
		stream->request = NULL;
		pfree(unconstify(char *, stream->model.data));
	}
	rsinfo->isDone = ExprEndResult;
	PG_RETURN_NULL();
}

Datum
gpt2_stream(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	if (rsinfo == NULL || !IsA(rsinfo, ReturnSetInfo) ||
		!(rsinfo->allowedModes & SFRM_ValuePerCall))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("set-valued function called in context that cannot accept a set")));
	return find_stream(fcinfo)->request ? next_row(fcinfo) : first_row(fcinfo);
}
