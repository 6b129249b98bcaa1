/*
 * progress.h: what this backend tells the engine about long work, for gpt_stat_progress_batch.
 */
#ifndef GPT2_PROGRESS_H
#define GPT2_PROGRESS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "lib/ilist.h"

/* Zeroed before it begins.  The counters are its owner's. */
typedef struct Gpt2Progress
{
	dlist_node	node;			/* of all that go on, while `number` is not 0 */
	uint64		number;
	const char *command;		/* outlives it */
	Oid			relation;		/* that is worked on; InvalidOid = none */
	int64		total;			/* rows; -1 = not known */
	int64		done;
	int64		failed;
	int64		tokens;
	TimestampTz started;
	TimestampTz told;			/* when the engine was told last ... */
	uint64		connection;		/* ... and over which connection; 0 = never */
	MemoryContextCallback at_end;
} Gpt2Progress;

/* It goes on until the memory context that it lives in ends, at the latest. */
extern void gpt2_progress_begin(Gpt2Progress *progress, MemoryContext context,
								const char *command, Oid relation, int64 total);

/* Counters have changed: tells the engine, unless it was told a moment ago or there is none.  Never
 * waits, never raises. */
extern void gpt2_progress_report(Gpt2Progress *progress);

/* The same, however short ago that was. */
extern void gpt2_progress_report_now(Gpt2Progress *progress);

/* A connection is open: queues what the engine at its other end does not know yet. */
extern void gpt2_progress_tell(void);

#endif							/* GPT2_PROGRESS_H */
