/*
 * progress.c: what this backend tells the engine about long work, for gpt_stat_progress_batch.
 *
 * The engine keeps what it was told last, for as long as the connection is open; so nothing is left
 * of a backend that dies, and a new engine is told everything again (gpt2_progress_tell).
 */
#include "compat.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "engine/protocol_watch.h"
#include "engine_connection.h"
#include "progress.h"

#define REPORT_MS 500

static dlist_head going_on = DLIST_STATIC_INIT(going_on);

/* Queues a message; false: there is no connection, or no memory. */
static bool
send_progress(const Gpt2Progress *progress, bool ended)
{
	const int64 epochs = (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	char		space[256];
	g2_writer	w = {.data = space, .cap = sizeof space};
	g2_progress_row row = {
		.number = progress->number,
		.ended = ended,
		.command = g2_span_of(progress->command),
		.relation = progress->relation,
		.total = progress->total,
		.done = (uint64) progress->done,
		.failed = (uint64) progress->failed,
		.tokens = (uint64) progress->tokens,
		.started_at = progress->started + epochs,
	};

	if (!gpt2_connection_is_open())
		return false;
	g2_progress_row_encode(&w, &row);
	Assert(!w.failed);
	return gpt2_wire_send(&gpt2_connection, G2_MSG_PROGRESS, 0, w.data, w.len);
}

/* Never raises. */
static void
on_context_end(void *arg)
{
	Gpt2Progress *progress = arg;

	dlist_delete(&progress->node);
	if (progress->connection == gpt2_connection_number() && send_progress(progress, true))
		(void) gpt2_wire_flush(&gpt2_connection);
	progress->number = 0;
}

void
gpt2_progress_begin(Gpt2Progress *progress, MemoryContext context, const char *command,
					Oid relation, int64 total)
{
	static uint64 last_number = 0;

	Assert(progress->number == 0);
	progress->number = ++last_number;
	progress->command = command;
	progress->relation = relation;
	progress->total = total;
	progress->started = GetCurrentTimestamp();
	dlist_push_tail(&going_on, &progress->node);
	progress->at_end.func = on_context_end;
	progress->at_end.arg = progress;
	MemoryContextRegisterResetCallback(context, &progress->at_end);
}

static void
tell(Gpt2Progress *progress)
{
	if (!send_progress(progress, false))
		return;
	progress->told = GetCurrentTimestamp();
	progress->connection = gpt2_connection_number();
}

void
gpt2_progress_report_now(Gpt2Progress *progress)
{
	tell(progress);
	if (gpt2_connection_is_open())
		(void) gpt2_wire_flush(&gpt2_connection);
}

void
gpt2_progress_report(Gpt2Progress *progress)
{
	if (TimestampDifferenceExceeds(progress->told, GetCurrentTimestamp(), REPORT_MS))
		gpt2_progress_report_now(progress);
}

void
gpt2_progress_tell(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &going_on)
	{
		Gpt2Progress *progress = dlist_container(Gpt2Progress, node, iter.cur);

		if (progress->connection != gpt2_connection_number())
			tell(progress);
	}
}
