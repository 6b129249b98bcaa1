/*
 * batch_ahead.c: one call site of a GPT Batch node, and its calls that are made ahead of time.
 *
 * Looking ahead at a row evaluates guards and arguments of the call, prepares it as the function
 * itself would, and keeps the request's payload with the number of the request that it is sent
 * as: a ticket.  When the row's turn comes the function runs as ever, and what it would send is
 * compared with the ticket: where that is the same to the byte, the request that is under way is
 * the answer. So nothing here can make a result wrong, only slow.
 *
 * A call site's state (call_site.c) is copied before each look: the number of the row among
 * the site's evaluations goes on from there, and a base seed is never drawn ahead.
 */
#include "compat.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "utils/timestamp.h"

#include "batch_ahead.h"
#include "plan_nodes.h"

/* A number or an option that differs from row to row may be out of range, a text is always good. */
static bool
only_texts_differ(const List *args)
{
	ListCell   *cell;

	foreach(cell, args)
		if (!IsA(lfirst(cell), Const) && exprType((Node *) lfirst(cell)) != TEXTOID)
			return false;
	return true;
}

void
gpt2_site_begin(Gpt2BatchSite *site, const Gpt2FoundCall *found, PlanState *parent,
				Gpt2BatchFigures *figures)
{
	FuncExpr   *call = found->call;
	int			n = list_length(call->args);

	site->call = call;
	site->function = gpt2_batch_function(call->funcid);
	site->may_draw = gpt2_may_draw(call);
	site->parameters = gpt2_add_parameters(NULL, (Node *) call->args);
	site->parameters = gpt2_add_parameters(site->parameters, (Node *) found->guards);
	site->never_fails = only_texts_differ(call->args) && gpt2_never_fails((Node *) call->args) &&
		gpt2_never_fails((Node *) found->guards);
	site->guards = ExecInitExprList(found->guards, parent);
	site->conditions = found->conditions;
	site->arguments = ExecInitExprList(call->args, parent);
	site->figures = figures;
	site->ahead.ahead = true;
	fmgr_info(call->funcid, &site->flinfo);
	fmgr_info_set_expr((Node *) call, &site->flinfo);
	site->flinfo.fn_extra = &site->ahead;
	site->fcinfo = (FunctionCallInfo) palloc0(SizeForFunctionCallInfo(n));
	InitFunctionCallInfoData(*site->fcinfo, &site->flinfo, n, call->inputcollid, NULL, NULL);
}

bool
gpt2_site_holds(const Gpt2BatchSite *site)
{
	return site->may_draw && !(site->real && site->real->drawn);
}

bool
gpt2_site_waits(const Gpt2BatchSite *site, const ExprContext *econtext)
{
	int			number = -1;

	while ((number = bms_next_member(site->parameters, number)) >= 0)
		if (econtext->ecxt_param_exec_vals[number].execPlan)
			return true;
	return false;
}

void
gpt2_site_follow(Gpt2BatchSite *site, bool first)
{
	if (first)
		site->ahead.rows = site->real ? site->real->rows : 0;
	site->ahead.drawn = site->real && site->real->drawn;
	site->ahead.base = site->real ? site->real->base : 0;
}

static bool
is_met(Gpt2Condition condition, Datum value, bool isnull)
{
	switch (condition)
	{
		case CONDITION_TRUE:
			return !isnull && DatumGetBool(value);
		case CONDITION_NOT_TRUE:
			return isnull || !DatumGetBool(value);
		case CONDITION_NULL:
			return isnull;
		case CONDITION_NOT_FALSE:
			return isnull || DatumGetBool(value);
	}
	return false;
}

static bool
will_be_called(const Gpt2BatchSite *site, ExprContext *econtext)
{
	ListCell   *guard,
			   *condition;

	forboth(guard, site->guards, condition, site->conditions)
	{
		bool		isnull;
		Datum		value = ExecEvalExprSwitchContext((ExprState *) lfirst(guard), econtext,
													  &isnull);

		if (!is_met((Gpt2Condition) lfirst_int(condition), value, isnull))
			return false;
	}
	return true;
}

static void
make_ticket(Gpt2Ticket *ticket, g2_message type, const g2_writer *w, MemoryContext context)
{
	ticket->type = type;
	ticket->bytes = MemoryContextAlloc(context, w->len);
	memcpy(ticket->bytes, w->data, w->len);
	ticket->len = w->len;
	ticket->hash = hash_bytes((const unsigned char *) w->data, (int) w->len);
}

static bool
prepare_call(Gpt2BatchSite *site, Gpt2Ticket *ticket, MemoryContext context)
{
	Gpt2Call	call = {.undrawn = false};
	g2_writer	w = gpt2_writer();
	bool		sends = site->function->call(site->fcinfo, &call);

	if (sends && !call.undrawn)
	{
		g2_generate_encode(&w, &call.wire);
		make_ticket(ticket, G2_MSG_GENERATE, &w, context);
	}
	return !call.undrawn;
}

static void
prepare_scores(Gpt2BatchSite *site, Gpt2Ticket *tickets, MemoryContext context)
{
	g2_score   *wires = palloc(GPT2_MAX_SCORES * sizeof *wires);
	int			n = site->function->scores(site->fcinfo, wires);

	for (int i = 0; i < n; i++)
	{
		g2_writer	w = gpt2_writer();

		g2_score_encode(&w, &wires[i]);
		make_ticket(&tickets[i], G2_MSG_SCORE, &w, context);
	}
}

bool
gpt2_site_look(Gpt2BatchSite *site, ExprContext *econtext, Gpt2Ticket *tickets)
{
	MemoryContext keep = CurrentMemoryContext;
	ListCell   *cell;
	bool		goes_on = true;

	if (!will_be_called(site, econtext))
		return true;
	foreach(cell, site->arguments)
	{
		NullableDatum *arg = &site->fcinfo->args[foreach_current_index(cell)];

		arg->value = ExecEvalExprSwitchContext((ExprState *) lfirst(cell), econtext,
											   &arg->isnull);
	}
	if (!site->function)
		return true;
	MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);
	if (site->function->call)
		goes_on = prepare_call(site, tickets, keep);
	else
		prepare_scores(site, tickets, keep);
	MemoryContextSwitchTo(keep);
	return goes_on;
}

/* ---- tickets ---- */

static bool
is_same(const Gpt2Ticket *ticket, g2_message type, const char *bytes, size_t len)
{
	return ticket->id != 0 && ticket->type == type && ticket->len == len &&
		memcmp(ticket->bytes, bytes, len) == 0;
}

void
gpt2_ticket_send(Gpt2Ticket *ticket, Gpt2BatchFigures *figures)
{
	g2_writer	w = {.data = ticket->bytes, .len = ticket->len};

	if (gpt2_requests_are_many())
		return;
	ticket->id = gpt2_request_id(gpt2_request(ticket->type, &w));
	figures->requests++;
	if (figures->began == 0)
		figures->began = GetCurrentTimestamp();
}

bool
gpt2_ticket_share(Gpt2Ticket *ticket, const Gpt2Ticket *others, int n, Gpt2BatchFigures *figures)
{
	for (int i = 0; i < n; i++)
	{
		const Gpt2Ticket *sent = &others[i];
		Gpt2Request *request = sent->hash == ticket->hash &&
			is_same(sent, ticket->type, ticket->bytes, ticket->len) ?
			gpt2_request_find(sent->id) : NULL;

		if (!request)
			continue;
		gpt2_request_share(request);
		ticket->id = sent->id;
		ticket->duplicate = true;
		figures->duplicates++;
		return true;
	}
	return false;
}

void
gpt2_tickets_end(Gpt2Ticket *tickets, int n, Gpt2BatchFigures *figures)
{
	for (int i = 0; i < n; i++)
	{
		Gpt2Ticket *ticket = &tickets[i];
		Gpt2Request *request = ticket->id ? gpt2_request_find(ticket->id) : NULL;

		if (request)
			gpt2_request_release(request);
		figures->unused += ticket->id != 0 && !ticket->duplicate;
		if (ticket->bytes)
			pfree(ticket->bytes);
		memset(ticket, 0, sizeof *ticket);
	}
}

/* ---- the functions ---- */

Gpt2Request *
gpt2_batch_claim(Gpt2BatchSite *site, g2_message type, const g2_writer *payload)
{
	for (int i = 0; site->current && i < GPT2_MAX_SCORES; i++)
	{
		Gpt2Ticket *ticket = &site->current[i];
		uint64		id = ticket->id;

		if (!is_same(ticket, type, payload->data, payload->len))
			continue;
		ticket->id = 0;
		/* An error may be one of many requests at once: a limit, or an engine that another kills. */
		return gpt2_request_redeem(id);
	}
	return NULL;
}

void
gpt2_batch_count_failed(Gpt2BatchSite *site)
{
	site->figures->failed++;
}

void
gpt2_batch_count(Gpt2BatchSite *site, const Gpt2Answer *answer)
{
	Gpt2BatchFigures *figures = site->figures;

	figures->ended = GetCurrentTimestamp();
	/* What serves several rows is counted for the last. */
	if (gpt2_request_is_shared(answer->request))
		return;
	figures->prompt_tokens += answer->head.prompt_tokens;
	figures->cached_tokens += answer->head.cached_tokens;
	figures->new_tokens += answer->new_tokens;
	figures->truncated += (answer->head.marks & G2_HEAD_TRUNCATED) != 0;
	figures->queue_us += answer->head.queue_us;
	figures->engine_us += answer->head.elapsed_us;
}
