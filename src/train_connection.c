/*
 * train_connection.c: a backend's connection to the process that trains for it.
 *
 * The supervisor accepts and hands the connection to a new process.  So there is nothing to be sent
 * again when that process dies: what it has done is on disk, and the same CALL goes on from there.
 *
 * An error or an interrupt may leave it open by longjmp; whoever connects closes it at the end.
 */
#include "compat.h"

#include "utils/timestamp.h"

#include "link.h"
#include "supervisor.h"
#include "train_connection.h"

#define START_SECONDS 30		/* for a supervisor to listen */
#define RESTART_MS 200			/* between two attempts to start one */
#define MAX_UNSENT (1024 * 1024)

static Gpt2Wire wire = GPT2_WIRE_CLOSED;
static Gpt2Waiter waiter;

bool
gpt2_train_is_connected(void)
{
	return wire.fd >= 0;
}

void
gpt2_train_disconnect(void)
{
	gpt2_link_close(&wire, &waiter);
}

/* ---- waiting ---- */

static uint32
wait_event(void)
{
	static uint32 event = 0;

	if (event == 0)
		event = gpt2_wait_event("Gpt2Train");
	return event;
}

static void
pause_for(long milliseconds)
{
	gpt2_pause(milliseconds, wait_event());
}

static void
wait_for_process(void)
{
	gpt2_link_wait(&wire, &waiter, GPT2_LINK_MS, wait_event());
}

/* ---- connecting ---- */

static void
send_hello(void)
{
	g2_writer	w = gpt2_hello();

	gpt2_train_send(G2_MSG_HELLO, &w);
	pfree(w.data);
}

void
gpt2_train_connect(void)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													   START_SECONDS * 1000);
	TimestampTz next_start = 0;
	int			failures = 0;
	bool		busy;

	gpt2_link_check_server();
	while (!gpt2_link_open(&wire, &waiter, G2_TRAIN_SOCKET_PATH, &busy))
	{
		TimestampTz now = GetCurrentTimestamp();

		if (now >= deadline)
			ereport(ERROR,
					(errcode(ERRCODE_SYSTEM_ERROR),
					 errmsg("gpt2 supervisor did not start within %d seconds", START_SECONDS),
					 errhint("See the server log, and try again.")));
		if (!busy && now >= next_start && !gpt2_supervisor_running())
		{
			gpt2_supervisor_start(&failures, pause_for);
			next_start = TimestampTzPlusMilliseconds(now, RESTART_MS);
		}
		pause_for(10);
	}
	send_hello();
}

/* ---- frames ---- */

/* The next frame of this type; NULL: it has not come yet. */
static const char *
take(int type, size_t *len)
{
	g2_frame	frame;
	const char *payload;

	while (gpt2_wire_next(&wire, &frame, &payload))
	{
		if (frame.type == G2_MSG_NOTICE)
			gpt2_raise_notice(payload, frame.length);
		else if (frame.type == G2_MSG_ERROR)
			gpt2_raise_error(payload, frame.length);
		else if (frame.type == type)
		{
			*len = frame.length;
			return payload;
		}
		else
			gpt2_malformed_answer();
	}
	if (gpt2_wire_lost(&wire))
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("the process that trains has ended"),
				 errhint("The server log has the cause. The same CALL goes on from the last "
						 "checkpoint.")));
	return NULL;
}

void
gpt2_train_send(int type, const g2_writer *payload)
{
	if (!gpt2_wire_send(&wire, (g2_message) type, 0, payload->data, payload->len))
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	while (!gpt2_wire_flush(&wire))
	{
		size_t		len;

		/* A query that goes on for long is not to go on for a process that has ended. */
		(void) take(-1, &len);
		if (gpt2_wire_queued(&wire) <= MAX_UNSENT)
			break;
		wait_for_process();
	}
}

const char *
gpt2_train_receive(int type, size_t *len)
{
	for (;;)
	{
		const char *payload = take(type, len);

		if (payload)
			return payload;
		wait_for_process();
	}
}
