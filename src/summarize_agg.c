/*
 * summarize_agg.c: the aggregate gpt_summarize_agg: gpt_summarize of a group's contents, one a
 * line, without ever having all of them in memory.
 *
 * What the group has said so far is in levels.  Level 0 has the contents; as soon as there is more
 * than BATCH_BYTES of them they go to the engine, which summarizes the parts that are complete and
 * says how many bytes these are: they are dropped, and the parts' summaries are appended to the
 * level above, which is treated likewise.  At the end, the rest of each level joins the one above,
 * and the uppermost is summarized as any text is.  As parts depend only on what they begin with
 * (prompt.c in the engine), this is to the byte what gpt_summarize makes of the whole text.
 *
 * One request of a level is in flight while rows are read; it has several parts, which run
 * together.  The state lives in the aggregate's memory context, requests in the resource owner of
 * the query; both are known to each other by numbers only.
 */
#include "compat.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include "encoding.h"
#include "failed_calls.h"
#include "tasks.h"

PG_FUNCTION_INFO_V1(gpt2_summarize_agg_add);
PG_FUNCTION_INFO_V1(gpt2_summarize_agg_end);

#define BATCH_BYTES 65536		/* several contexts of most models */
#define MAX_LEVELS 40			/* each is shorter than the one below by a third */

typedef struct Level
{
	StringInfoData text;		/* UTF-8; data is NULL before the first */
	bool		split;			/* some of it has gone to the level above */
	uint64		request;		/* in flight, for the first `asked` bytes; 0 = none */
	int			asked;
	int			enough;			/* bytes that are worth a request */
} Level;

typedef struct Summary
{
	MemoryContext context;
	text	   *model;			/* NULL = the setting's */
	int			n_levels;
	Level	   *levels[MAX_LEVELS];
	bool		failed;			/* for its row alone: it is counted, and the group has no summary */
} Summary;

/* A call of one of the two functions, for what is the same in both. */
typedef struct AggCall
{
	FunctionCallInfo fcinfo;
	Summary    *summary;
	Gpt2Call	call;			/* the settings; its prompt is a level's */
} AggCall;

/* ---- levels ---- */

static Level *
level_at(Summary *summary, int k)
{
	MemoryContext old;

	if (k < summary->n_levels)
		return summary->levels[k];
	if (k == MAX_LEVELS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the summaries of the parts do not get shorter"),
				 errhint("Ask for shorter summaries, with a smaller gpt2.max_len.")));
	old = MemoryContextSwitchTo(summary->context);
	summary->levels[k] = palloc0(sizeof(Level));
	initStringInfo(&summary->levels[k]->text);
	summary->levels[k]->enough = BATCH_BYTES;
	summary->n_levels++;
	MemoryContextSwitchTo(old);
	return summary->levels[k];
}

/* One more line. */
static void
append(Level *level, g2_span line)
{
	if (line.len == 0)
		return;
	if (level->text.len > 0)
		appendStringInfoChar(&level->text, '\n');
	appendBinaryStringInfo(&level->text, line.data, (int) line.len);
}

static void
drop_bytes(StringInfo s, int n)
{
	memmove(s->data, s->data + n, s->len - n);
	s->len -= n;
	s->data[s->len] = '\0';
}

/* ---- requests ---- */

static void
prepare(AggCall *c)
{
	const NullableDatum null = {0, true};
	const NullableDatum rest[] = {
		null, {PointerGetDatum(c->summary->model), c->summary->model == NULL}, null
	};

	gpt2_task_prepare(c->fcinfo, cstring_to_text(""), g2_span_of("summarize"), rest, true,
					  &c->call);
}

static Gpt2Request *
ask(AggCall *c, const Level *level, uint32 flags)
{
	g2_writer	w = gpt2_writer();
	g2_generate wire = c->call.wire;
	Gpt2Request *request;

	wire.prompt = (g2_span) {level->text.data, (uint32) level->text.len};
	wire.flags = (wire.flags & ~(uint32) G2_GEN_SPLIT) | flags;
	g2_generate_encode(&w, &wire);
	request = gpt2_request(G2_MSG_GENERATE, &w);
	pfree(w.data);
	return request;
}

/* Waits for summaries of parts: how many bytes these are; the summaries are appended to `to`. */
static int
take_parts(AggCall *c, Gpt2Request *request, int asked, Level *to)
{
	Gpt2Answer	answer;
	g2_completion completion;
	uint64		used;

	gpt2_answer_begin(request, 1, &answer);
	gpt2_answer_next(&answer, &completion);
	used = g2_get_u64(&answer.reader);
	if (answer.reader.failed || used > (uint64) asked)
		gpt2_malformed_answer();
	append(to, completion.text);
	gpt2_answer_end(c->fcinfo, &answer, c->call.wire.model);
	return (int) used;
}

/* Waits for what the level has in flight. */
static void
collect(AggCall *c, int k)
{
	Level	   *level = c->summary->levels[k];
	Gpt2Request *request = gpt2_request_find(level->request);
	int			used;

	level->request = 0;
	/* It ends with a subtransaction that it was made in; its text is here still. */
	if (!request)
		request = ask(c, level, G2_GEN_PARTS);
	used = take_parts(c, request, level->text.len, level_at(c->summary, k + 1));
	drop_bytes(&level->text, used);
	level->split |= used > 0;
	/* A long context has room for more. */
	if (used == 0)
		level->enough = (int) Min((int64) level->enough * 2, (int64) G2_MAX_TEXT / 2);
}

/* Hands on what is enough, from the level up. */
static void
advance(AggCall *c, int k)
{
	Level	   *level;

	for (; k < c->summary->n_levels; k++)
	{
		level = c->summary->levels[k];
		if (level->request && level->text.len - level->asked >= level->enough)
			collect(c, k);
		if (!level->request && level->text.len >= level->enough)
		{
			level->request = gpt2_request_id(ask(c, level, G2_GEN_PARTS));
			level->asked = level->text.len;
		}
	}
}

/* ---- the state transition ---- */

/* The group's memory goes: nobody waits for what it has in flight. */
static void
on_group_end(Datum arg)
{
	Summary    *summary = (Summary *) DatumGetPointer(arg);

	for (int k = 0; k < summary->n_levels; k++)
	{
		Gpt2Request *request = summary->levels[k]->request ?
			gpt2_request_find(summary->levels[k]->request) : NULL;

		if (request)
			gpt2_request_release(request);
		summary->levels[k]->request = 0;
	}
}

static text *
model_argument(FunctionCallInfo fcinfo)
{
	return PG_NARGS() > 2 && !PG_ARGISNULL(2) ? PG_GETARG_TEXT_PP(2) : NULL;
}

static Summary *
new_summary(FunctionCallInfo fcinfo, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	Summary    *summary = palloc0(sizeof *summary);
	text	   *model = model_argument(fcinfo);

	summary->context = context;
	summary->model = model ? DatumGetTextPCopy(PointerGetDatum(model)) : NULL;
	MemoryContextSwitchTo(old);
	AggRegisterCallback(fcinfo, on_group_end, PointerGetDatum(summary));
	return summary;
}

static bool
same_model(const text *a, const text *b)
{
	if (!a || !b)
		return a == b;
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}

static void
check_model(FunctionCallInfo fcinfo, const Summary *summary)
{
	if (PG_NARGS() > 2 && !same_model(model_argument(fcinfo), summary->model))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the rows of a group name different models"),
				 errhint("Put the model's column into GROUP BY.")));
}

static Datum
add(FunctionCallInfo fcinfo)
{
	Summary    *summary = (Summary *) PG_GETARG_POINTER(0);
	AggCall		c = {.fcinfo = fcinfo, .summary = summary};
	g2_span		content;

	gpt2_row_begins(fcinfo);
	content = gpt2_text_to_utf8(PG_GETARG_TEXT_PP(1), "content");
	if (!gpt2_has_content(content))
		return (Datum) 0;
	if ((uint64) level_at(summary, 0)->text.len + content.len >= G2_MAX_TEXT)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("content is too long"),
				 errdetail("With what stands before it there are more than %u bytes.",
						   G2_MAX_TEXT)));
	append(level_at(summary, 0), content);
	if (level_at(summary, 0)->text.len >= level_at(summary, 0)->enough)
	{
		prepare(&c);
		advance(&c, 0);
	}
	return (Datum) 0;
}

static MemoryContext
aggregate_context(FunctionCallInfo fcinfo)
{
	MemoryContext context;

	if (!AggCheckCallContext(fcinfo, &context))
		elog(ERROR, "function called in a context that is not an aggregate's");
	return context;
}

Datum
gpt2_summarize_agg_add(PG_FUNCTION_ARGS)
{
	const NullableDatum no_options = {0, true};
	MemoryContext context = aggregate_context(fcinfo);
	Summary    *summary = PG_ARGISNULL(0) ? NULL : (Summary *) PG_GETARG_POINTER(0);
	Datum		unused;
	char	   *error;

	if (PG_ARGISNULL(1))
	{
		if (!summary)
			PG_RETURN_NULL();
		PG_RETURN_POINTER(summary);
	}
	if (!summary)
		summary = new_summary(fcinfo, context);
	check_model(fcinfo, summary);
	fcinfo->args[0] = (NullableDatum) {PointerGetDatum(summary), false};
	if (!summary->failed &&
		!gpt2_call_or_fail(fcinfo, no_options, false, add, &unused, &error))
	{
		on_group_end(PointerGetDatum(summary));
		summary->failed = true;
	}
	fcinfo->isnull = false;
	PG_RETURN_POINTER(summary);
}

/* ---- the end ---- */

static Datum
finish(FunctionCallInfo fcinfo)
{
	Summary    *summary = (Summary *) PG_GETARG_POINTER(0);
	AggCall		c = {.fcinfo = fcinfo, .summary = summary};

	gpt2_row_begins(fcinfo);
	prepare(&c);
	for (int k = 0; k < summary->n_levels; k++)
	{
		Level	   *level = summary->levels[k];

		if (level->request)
			collect(&c, k);
		if (level->split)
		{
			Level	   *above = level_at(summary, k + 1);

			take_parts(&c, ask(&c, level, G2_GEN_PARTS | G2_GEN_LAST), level->text.len, above);
			/* What is enough above is on its way while the rest is asked for. */
			advance(&c, k + 1);
		}
		else if (level->text.len > 0)
			PG_RETURN_TEXT_P(gpt2_task_answer(fcinfo, &c.call, ask(&c, level, G2_GEN_SPLIT)));
	}
	/* There were rows, and they or their summaries say nothing. */
	if (summary->n_levels == 0)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(""));
}

Datum
gpt2_summarize_agg_end(PG_FUNCTION_ARGS)
{
	const NullableDatum no_options = {0, true};
	Summary    *summary = PG_ARGISNULL(0) ? NULL : (Summary *) PG_GETARG_POINTER(0);
	Datum		result;
	char	   *error;

	(void) aggregate_context(fcinfo);
	if (!summary || summary->failed)
		PG_RETURN_NULL();
	if (gpt2_call_or_fail(fcinfo, no_options, true, finish, &result, &error))
		return result;
	PG_RETURN_NULL();
}
