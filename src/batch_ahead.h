/*
 * batch_ahead.h: one call site of a GPT Batch node, and its calls that are made ahead of time.
 */
#ifndef GPT2_BATCH_AHEAD_H
#define GPT2_BATCH_AHEAD_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/execnodes.h"

#include "batch.h"
#include "batch_expr.h"
#include "batch_functions.h"

/* A request of a row's call at a site.  Its bytes are palloc'd. */
typedef struct Gpt2Ticket
{
	g2_message	type;
	uint64		id;				/* of the request; 0 = not sent, or taken already */
	bool		duplicate;		/* another row's request serves it */
	uint32		hash;
	char	   *bytes;			/* of its payload; NULL = there is no request */
	size_t		len;
} Gpt2Ticket;

/* What EXPLAIN ANALYZE says about a node. */
typedef struct Gpt2BatchFigures
{
	uint64		rows;			/* evaluated */
	uint64		rows_ahead;		/* sum over them: rows that were looked ahead at then */
	uint64		batches;		/* looks at new rows */
	uint64		requests;		/* sent ahead */
	uint64		duplicates;		/* calls that another one's request served */
	uint64		unused;			/* requests that nobody came for */
	uint64		failed;			/* calls that gave NULL because of an error */
	uint64		truncated;		/* calls whose text was cut */
	uint64		prompt_tokens;
	uint64		cached_tokens;
	uint64		new_tokens;
	uint64		queue_us;
	uint64		engine_us;		/* from arrival to answer, with the queue */
	TimestampTz began;			/* the first request was made; 0 = none yet */
	TimestampTz ended;			/* the last answer was read */
} Gpt2BatchFigures;

struct Gpt2BatchSite
{
	FuncExpr   *call;			/* of this execution alone: the real call is found by it */
	const Gpt2BatchFunction *function;	/* NULL: none of ours */
	bool		may_draw;
	bool		never_fails;	/* looking at a row, once a call has gone well */
	Bitmapset  *parameters;		/* of the executor, that looking at a row reads */
	List	   *guards;			/* ExprState */
	List	   *conditions;		/* Gpt2Condition of each */
	List	   *arguments;		/* ExprState */
	FmgrInfo	flinfo;			/* the function, as it will be when a later row comes */
	FunctionCallInfo fcinfo;
	Gpt2CallSite ahead;			/* its state */
	Gpt2CallSite *real;			/* the call in the plan; NULL before its first evaluation */
	Gpt2Ticket *current;		/* GPT2_MAX_SCORES of the row that is being evaluated; NULL between
								 * rows */
	Gpt2BatchFigures *figures;	/* the node's */
};

/* The sites of a node; found->call is part of an expression compiled for this execution only. */
extern void gpt2_site_begin(Gpt2BatchSite *site, const Gpt2FoundCall *found, PlanState *parent,
							Gpt2BatchFigures *figures);

/* Nothing must be read ahead before its first row that draws a seed: whatever else calls random()
 * would come first. */
extern bool gpt2_site_holds(const Gpt2BatchSite *site);

/* A subquery is still to be run before a row can be looked at. */
extern bool gpt2_site_waits(const Gpt2BatchSite *site, const ExprContext *econtext);

/* Before rows are looked at: `first` says that there is none before whose turn is still to come. */
extern void gpt2_site_follow(Gpt2BatchSite *site, bool first);

/* Evaluates the call's arguments for the row in the context and makes the payloads of its requests,
 * GPT2_MAX_SCORES tickets at most, in the current memory context.  False: the row must be evaluated
 * before anything behind it. */
extern bool gpt2_site_look(Gpt2BatchSite *site, ExprContext *econtext, Gpt2Ticket *tickets);

/* Lets one of the n others serve it that was sent and is the same to the byte; false: there is
 * none. */
extern bool gpt2_ticket_share(Gpt2Ticket *ticket, const Gpt2Ticket *others, int n,
							  Gpt2BatchFigures *figures);

/* Sends it, unless there are too many requests: then the row sends it when it is its turn. */
extern void gpt2_ticket_send(Gpt2Ticket *ticket, Gpt2BatchFigures *figures);

/* Nobody will come for them (any more). */
extern void gpt2_tickets_end(Gpt2Ticket *tickets, int n, Gpt2BatchFigures *figures);

#endif							/* GPT2_BATCH_AHEAD_H */
