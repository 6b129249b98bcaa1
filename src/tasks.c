/*
 * tasks.c: functions that put a text into a task's template: gpt_summarize.
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
#include "options.h"

PG_FUNCTION_INFO_V1(gpt2_summarize);

/* Arguments content, max_len, model, options. */
static void
prepare_task(FunctionCallInfo fcinfo, const char *task, Gpt2Call *call)
{
	const NullableDatum null = {0, true};
	Gpt2Arguments args;

	args.max_len = fcinfo->args[1];
	args.model = fcinfo->args[2];
	args.options = fcinfo->args[3];
	args.n = args.temperature = args.top_k = args.top_p = args.seed = args.stop = null;
	args.accepts = GPT2_ACCEPTS_TEMPLATE | GPT2_ACCEPTS_BEAMS;
	args.n_is_default = false;
	gpt2_call_prepare(fcinfo, 0, &args, PG_GETARG_TEXT_PP(0), call);
	call->wire.task = g2_span_of(task);
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

/* There is nothing to summarize in white space, and a model would invent something. */
bool
gpt2_summarize_prepare(FunctionCallInfo fcinfo, Gpt2Call *call)
{
	if (PG_ARGISNULL(0))
		return false;
	prepare_task(fcinfo, "summarize", call);
	return gpt2_has_content(call->wire.prompt);
}

Datum
gpt2_summarize(PG_FUNCTION_ARGS)
{
	Gpt2Call	call;
	Gpt2Answer	answer;
	g2_completion completion;
	text	   *result;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	if (!gpt2_summarize_prepare(fcinfo, &call))
		PG_RETURN_TEXT_P(cstring_to_text(""));
	gpt2_answer_begin(gpt2_call_send(fcinfo, &call), call.wire.n, &answer);
	gpt2_answer_next(&answer, &completion);
	trim(&completion.text);
	result = gpt2_completion_text(&call, &completion);
	gpt2_answer_end(fcinfo, &answer, call.wire.model);
	PG_RETURN_TEXT_P(result);
}
