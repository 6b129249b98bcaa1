/*
 * batch_scan.h: the plan node GPT Batch.
 */
#ifndef GPT2_BATCH_SCAN_H
#define GPT2_BATCH_SCAN_H

#include "postgres.h"

#include "lib/ilist.h"
#include "nodes/execnodes.h"

#include "batch_ahead.h"
#include "plan_nodes.h"
#include "progress.h"

/* How much of the node's rows whoever is above it will read.  custom_private holds it, and a list
 * of the names of functions whose calls were taken out of the node. */
typedef enum Gpt2Reader
{
	READER_MAY_STOP,
	READER_OF_RUN,				/* all, where the executor is asked for all rows */
	READER_OF_RUN_BY_ROW,		/* the same, and each row becomes one row of the result */
	READER_OF_ALL
} Gpt2Reader;

typedef struct Gpt2BatchRow
{
	MinimalTuple tuple;
	bool		alone;			/* what is behind it has to wait until it is evaluated */
	Gpt2Ticket *tickets;		/* GPT2_MAX_SCORES for each site */
} Gpt2BatchRow;

/*
 * rows[] is a ring: n_rows from `head` on are read, n_looked of them looked at, n_sent of these
 * sent.  The row handed out last is kept beside it until the next is wanted.
 */
typedef struct Gpt2Batch
{
	CustomScanState scan;
	dlist_node	node;			/* of all that are open in this session */
	MemoryContext context;		/* tuples and payloads */
	int			n_sites;
	Gpt2BatchSite *sites;
	Gpt2Reader	reader;
	List	   *limit;			/* ExprState: count and offset of a LIMIT above; NIL = none */
	TupleTableSlot *slot;		/* of the row that is evaluated or looked at */
	Gpt2BatchRow *rows;
	int			capacity;
	int			head;
	int			n_rows;
	int			n_looked;
	int			n_sent;
	MinimalTuple given;			/* the row handed out last */
	size_t		bytes;			/* of tuples and payloads in the ring */
	bool		ended;			/* the child has no more rows */
	bool		bound_known;	/* not before the first row is wanted: parameters may not be there */
	int64		bound;			/* rows that the LIMIT lets through; -1 = any number */
	int64		done;			/* rows evaluated */
	int64		returned;		/* of them, handed out */
	uint64		run;			/* of the executor, the last that has called */
	int64		run_returned;
	Gpt2BatchFigures figures;
	Gpt2Progress progress;		/* of the statement, where this node shows it */
	MemoryContextCallback at_end;
} Gpt2Batch;

extern const CustomScanMethods gpt2_batch_scan_methods;

/* What the innermost run of the executor was asked for. */
typedef struct Gpt2Run
{
	const EState *estate;		/* NULL: none runs */
	uint64		count;			/* rows; 0 = all */
	uint64		number;			/* of the run */
} Gpt2Run;

extern Gpt2Run gpt2_run;

static inline Gpt2BatchRow *
gpt2_row_at(const Gpt2Batch *batch, int i)
{
	return &batch->rows[(batch->head + i) % batch->capacity];
}

static inline void
gpt2_set_row(Gpt2Batch *batch, MinimalTuple tuple)
{
	ExprContext *econtext = batch->scan.ss.ps.ps_ExprContext;

	ResetExprContext(econtext);
	ExecStoreMinimalTuple(tuple, batch->slot, false);
	econtext->ecxt_scantuple = batch->slot;
}

static inline int
gpt2_n_tickets(const Gpt2Batch *batch)
{
	return batch->n_sites * GPT2_MAX_SCORES;
}

/* Requests are kept twice until they are answered: here, and to be sent again. */
static inline size_t
gpt2_ticket_bytes(const Gpt2Ticket *ticket)
{
	return 2 * ticket->len;
}

/* The query has stopped in between: what the engine knows of its progress is brought up to date. */
extern void gpt2_batch_report(const EState *estate);

/* It has come to its end: nobody is to wait for what is in flight. */
extern void gpt2_batch_shut_down(const EState *estate);

/* batch_window.c.  What a LIMIT above lets through, which nodes below want to know too. */
extern void gpt2_batch_find_bound(Gpt2Batch *batch);

/* Fills the window with rows of the child. */
extern void gpt2_batch_read_ahead(Gpt2Batch *batch);

/* Looks at those that have not been looked at, as far as can be, and sends their calls. */
extern void gpt2_batch_look_ahead(Gpt2Batch *batch);

/* Says whether this is a GPT Batch node. */
extern bool gpt2_is_batch(const Plan *plan);

/* batch_explain.c */
extern void gpt2_batch_explain(CustomScanState *node, List *ancestors, ExplainState *es);

#endif							/* GPT2_BATCH_SCAN_H */
