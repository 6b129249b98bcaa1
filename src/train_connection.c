/*
 * train_connection.c: a backend's connection to the process that trains for it.
 *
 * The supervisor accepts and hands the connection to a new process.  So there is nothing to be sent
 * again when that process dies: what it has done is on disk, and the same CALL goes on from there.
 *
 * An error or an interrupt may leave it open by longjmp; whoever connects closes it at the end.
 */
#include "compat.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "engine_connection.h"
#include "supervisor.h"
#include "train_connection.h"

#define START_SECONDS 30		/* for a supervisor to listen */
#define RESTART_MS 200			/* between two attempts to start one */
#define MAX_UNSENT (1024 * 1024)
#define CHECK_MS 1000			/* for the client that is gone */

static Gpt2Wire wire = GPT2_WIRE_CLOSED;
static WaitEventSet *wait_set;
static int	wait_socket;		/* position of the socket in wait_set */

bool
gpt2_train_is_connected(void)
{
	return wire.fd >= 0;
}

void
gpt2_train_disconnect(void)
{
	if (wait_set)
		FreeWaitEventSet(wait_set);
	wait_set = NULL;
	if (wire.fd < 0)
		return;
	gpt2_wire_close(&wire);
	ReleaseExternalFD();
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

/* Waits for the socket, and reads and writes what can be. */
static void
wait_for_process(void)
{
	WaitEvent	events[3];
	uint32		want = WL_SOCKET_READABLE;
	int			n;

	if (!gpt2_wire_flush(&wire))
		want |= WL_SOCKET_WRITEABLE;
	if (gpt2_wire_lost(&wire))
		return;
	ModifyWaitEvent(wait_set, wait_socket, want, NULL);
	n = WaitEventSetWait(wait_set, CHECK_MS, events, lengthof(events), wait_event());
	for (int i = 0; i < n; i++)
	{
		if (events[i].events & WL_SOCKET_READABLE)
			gpt2_wire_fill(&wire);
		if (events[i].events & WL_LATCH_SET)
			ResetLatch(MyLatch);
	}
	gpt2_check_interrupts();
}

/* ---- connecting ---- */

/* False: nobody listens yet. */
static bool
connect_once(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = G2_TRAIN_SOCKET_PATH};
	int			fd;

	if (!AcquireExternalFD())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not open a connection for the training: %m"),
				 errhint("See max_files_per_process, and the limit of open files of the server.")));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
	{
		ReleaseExternalFD();
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not create a socket for the training: %m")));
	}
	gpt2_wire_open(&wire, fd);
	if (connect(fd, (struct sockaddr *) &address, sizeof address) == 0)
		return true;
	gpt2_train_disconnect();
	return false;
}

static void
send_hello(void)
{
	g2_writer	w = gpt2_hello();

	gpt2_train_send(G2_MSG_HELLO, &w);
	pfree(w.data);
}

static void
make_wait_set(void)
{
	wait_set = gpt2_create_wait_event_set(3);
	wait_socket = AddWaitEventToSet(wait_set, WL_SOCKET_READABLE, wire.fd, NULL, NULL);
	AddWaitEventToSet(wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
}

void
gpt2_train_connect(void)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													   START_SECONDS * 1000);
	TimestampTz next_start = 0;
	int			failures = 0;

	gpt2_train_disconnect();
	if (!IsUnderPostmaster || IsBinaryUpgrade)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a model cannot be trained in single-user mode or during an upgrade")));
	while (!connect_once())
	{
		TimestampTz now = GetCurrentTimestamp();

		if (now >= deadline)
			ereport(ERROR,
					(errcode(ERRCODE_SYSTEM_ERROR),
					 errmsg("gpt2 supervisor did not start within %d seconds", START_SECONDS),
					 errhint("See the server log, and try again.")));
		if (now >= next_start && !gpt2_supervisor_running())
		{
			gpt2_supervisor_start(&failures, pause_for);
			next_start = TimestampTzPlusMilliseconds(now, RESTART_MS);
		}
		pause_for(10);
	}
	gpt2_check_peer(wire.fd, G2_TRAIN_SOCKET_PATH);
	make_wait_set();
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
	while (!gpt2_wire_flush(&wire) && gpt2_wire_queued(&wire) > MAX_UNSENT)
	{
		size_t		len;

		wait_for_process();
		(void) take(-1, &len);
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
