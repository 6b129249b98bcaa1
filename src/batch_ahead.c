/*
 * batch_ahead.c: one call site of a GPT Batch node, and its calls that are made ahead of time.
 *
 * Looking ahead at a row evaluates guards and arguments of the call, prepares it as the function
 * itself would, and keeps the request's payload with the number of the request that it is sent
 * as: a ticket.  When the row's turn comes the function runs as ever, and what it would send is
 * compared with the ticket: where that is the same to the byte, the request that is under way is
 * the answer. So nothing here can make a result wrong, only slow.
 *
 * A call site's state (call.c, on seeds) is copied before each look: the number of the row among
 * the site's evaluations goes on from there, and a base seed is never drawn ahead.
 */
#include "compat.h"

#include "common/hashfn.h"

#include "batch_ahead.h"
#include "plan_nodes.h"

void
gpt2_site_begin(Gpt2BatchSite *site, const Gpt2FoundCall *found, PlanState *parent,
				Gpt2BatchFigures *figures)
{
	FuncExpr   *call = found->call;
	int			n = list_length(call->args);

	site->call = call;
	site->prepare = gpt2_batch_function(call->funcid);
	site->may_draw = gpt2_may_draw(call);
	site->parameters = gpt2_add_parameters(NULL, (Node *) call->args);
	site->parameters = gpt2_add_parameters(site->parameters, (Node *) found->guards);
	site->never_fails = gpt2_never_fails((Node *) call->args) &&
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

bool
gpt2_site_look(Gpt2BatchSite *site, ExprContext *econtext, Gpt2Ticket *ticket)
{
	MemoryContext keep = CurrentMemoryContext;
	Gpt2Call	call;
	g2_writer	w;
	ListCell   *cell;
	bool		sends;

	if (!will_be_called(site, econtext))
		return true;
	foreach(cell, site->arguments)
	{
		NullableDatum *arg = &site->fcinfo->args[foreach_current_index(cell)];

		arg->value = ExecEvalExprSwitchContext((ExprState *) lfirst(cell), econtext,
											   &arg->isnull);
	}
	if (!site->prepare)
		return true;
	MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);
	memset(&call, 0, sizeof call);
	sends = site->prepare(site->fcinfo, &call);
	MemoryContextSwitchTo(keep);
	if (call.undrawn)
		return false;
	if (!sends)
		return true;
	w = gpt2_writer();
	g2_generate_encode(&w, &call.wire);
	ticket->bytes = w.data;
	ticket->len = w.len;
	ticket->hash = hash_bytes((const unsigned char *) w.data, (int) w.len);
	return true;
}

/* ---- tickets ---- */

static bool
is_same(const Gpt2Ticket *ticket, const char *bytes, size_t len)
{
	return ticket->len == len && memcmp(ticket->bytes, bytes, len) == 0;
}

void
gpt2_ticket_send(Gpt2Ticket *ticket, Gpt2BatchFigures *figures)
{
	g2_writer	w = {.data = ticket->bytes, .len = ticket->len};

	ticket->id = gpt2_request_id(gpt2_request(G2_MSG_GENERATE, &w));
	figures->requests++;
}

bool
gpt2_ticket_share(Gpt2Ticket *ticket, const Gpt2Ticket *sent, Gpt2BatchFigures *figures)
{
	Gpt2Request *request;

	if (sent->id == 0 || sent->hash != ticket->hash ||
		!is_same(sent, ticket->bytes, ticket->len))
		return false;
	request = gpt2_request_find(sent->id);
	if (!request)
		return false;
	gpt2_request_share(request);
	ticket->id = sent->id;
	ticket->duplicate = true;
	figures->duplicates++;
	return true;
}

void
gpt2_ticket_end(Gpt2Ticket *ticket, Gpt2BatchFigures *figures)
{
	Gpt2Request *request = ticket->id ? gpt2_request_find(ticket->id) : NULL;

	if (request)
		gpt2_request_release(request);
	figures->unused += ticket->id != 0 && !ticket->duplicate;
	if (ticket->bytes)
		pfree(ticket->bytes);
	memset(ticket, 0, sizeof *ticket);
}

/* ---- the functions ---- */

Gpt2Request *
gpt2_batch_claim(Gpt2BatchSite *site, const g2_writer *payload)
{
	Gpt2Ticket *ticket = site->current;
	uint64		id;

	if (!ticket || ticket->id == 0 || !is_same(ticket, payload->data, payload->len))
		return NULL;
	id = ticket->id;
	ticket->id = 0;
	/* An error may be one of many requests at once: a limit, or an engine that another kills. */
	return gpt2_request_redeem(id);
}

void
gpt2_batch_count(Gpt2BatchSite *site, const Gpt2Answer *answer)
{
	Gpt2BatchFigures *figures = site->figures;

	if (site->current && site->current->duplicate)
		return;
	figures->prompt_tokens += answer->head.prompt_tokens;
	figures->cached_tokens += answer->head.cached_tokens;
	figures->new_tokens += answer->new_tokens;
	figures->queue_us += answer->head.queue_us;
	figures->engine_us += answer->head.elapsed_us;
}
