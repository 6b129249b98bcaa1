/*
 * tasks.c: functions that put a text into a task's template: gpt_summarize, gpt_task.
 *
 * Tasks are greedy: the session's sampling settings do not reach them, so that the same text gets
 * the same answer.  Template and stop strings come from the call's options, else from the model's
 * gpt2.json, else they are the engine's defaults.
 */
#include "compat.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "batch_functions.h"
#include "call.h"
#include "encoding.h"
#include "failed_calls.h"
#include "options.h"
#include "tasks.h"

PG_FUNCTION_INFO_V1(gpt2_summarize);
PG_FUNCTION_INFO_V1(gpt2_task);

void
gpt2_task_prepare(FunctionCallInfo fcinfo, const text *content, g2_span task,
				  const NullableDatum *rest, bool splits, Gpt2Call *call)
{
	const NullableDatum null = {0, true};
	Gpt2Arguments args;

	args.max_len = rest[0];
	args.model = rest[1];
	args.options = rest[2];
	args.n = args.temperature = args.top_k = args.top_p = args.seed = args.stop = null;
	args.accepts = GPT2_ACCEPTS_TEMPLATE | GPT2_ACCEPTS_BEAMS;
	args.n_is_default = false;
	args.splits = splits;
	gpt2_call_prepare(fcinfo, 0, &args, content, call);
	call->wire.task = task;
}

/* A template ends before the space that the model's first token begins with, and the last token
 * may be a line break: neither belongs to the answer. */
static void
trim(g2_span *s)
{
	static const char white[] = " \t\n\r\f\v";

	while (s->len > 0 && strchr(white, s->data[0]))
	{
		s->data++;
		s->len--;
	}
	while (s->len > 0 && strchr(white, s->data[s->len - 1]))
		s->len--;
}

text *
gpt2_task_answer(FunctionCallInfo fcinfo, const Gpt2Call *call, Gpt2Request *request)
{
	Gpt2Answer	answer;
	g2_completion completion;
	text	   *result;

	gpt2_answer_begin(request, call->wire.n, &answer);
	gpt2_answer_next(&answer, &completion);
	/* A constraint says what stands at the ends too. */
	if (call->wire.constraint_kind == G2_CONSTRAINT_NONE)
		trim(&completion.text);
	result = gpt2_completion_text(call, &completion);
	gpt2_answer_end(fcinfo, &answer, call->wire.model);
	return result;
}

/* ---- content, max_len, model, options ---- */

/* There is nothing to summarize in white space, and a model would invent something. */
bool
gpt2_summarize_prepare(FunctionCallInfo fcinfo, Gpt2Call *call)
{
	if (PG_ARGISNULL(0))
		return false;
	gpt2_task_prepare(fcinfo, PG_GETARG_TEXT_PP(0), g2_span_of("summarize"), &fcinfo->args[1],
					  true, call);
	return gpt2_has_content(call->wire.prompt);
}

static Datum
summarize(FunctionCallInfo fcinfo)
{
	Gpt2Call	call;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	if (!gpt2_summarize_prepare(fcinfo, &call))
		PG_RETURN_TEXT_P(cstring_to_text(""));
	PG_RETURN_TEXT_P(gpt2_task_answer(fcinfo, &call, gpt2_call_send(fcinfo, &call)));
}

Datum
gpt2_summarize(PG_FUNCTION_ARGS)
{
	return gpt2_call_or_null(fcinfo, summarize);
}

/* ---- content, task, max_len, model, options ---- */

bool
gpt2_task_call_prepare(FunctionCallInfo fcinfo, Gpt2Call *call)
{
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		return false;
	gpt2_task_prepare(fcinfo, PG_GETARG_TEXT_PP(0),
					  gpt2_text_to_utf8(PG_GETARG_TEXT_PP(1), "task"), &fcinfo->args[2], false,
					  call);
	/* Without a name there is no template. */
	if (call->wire.task.len == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("task must not be empty"),
				 errhint("It is the name of a template in the model's gpt2.json.")));
	return gpt2_has_content(call->wire.prompt);
}

static Datum
task(FunctionCallInfo fcinfo)
{
	Gpt2Call	call;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	if (!gpt2_task_call_prepare(fcinfo, &call))
		PG_RETURN_TEXT_P(cstring_to_text(""));
	PG_RETURN_TEXT_P(gpt2_task_answer(fcinfo, &call, gpt2_call_send(fcinfo, &call)));
}

Datum
gpt2_task(PG_FUNCTION_ARGS)
{
	return gpt2_call_or_null(fcinfo, task);
}
