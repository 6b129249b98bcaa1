/*
 * engine_connection.c: the backend's one connection to the engine.
 *
 * States: closed, greeting (HELLO is on its way), open.  An error or an interrupt may leave any
 * of these behind by longjmp; what is not open is closed by the next attempt.
 *
 * Opening starts supervisor and engine where necessary.  The supervisor listens, so a connect
 * succeeds while the engine is being replaced, and its welcome comes when it is up; when it does
 * not come up, the supervisor itself answers with an error.
 */
#include "compat.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "engine_connection.h"
#include "link.h"
#include "session_user.h"
#include "supervisor.h"

#define START_SECONDS 30		/* for all that has to happen until an engine says welcome */
#define RESTART_MS 200			/* between two attempts to start a supervisor */

typedef enum Greeting
{
	GREETING_WELCOME,
	GREETING_LOST,				/* the other end went away */
	GREETING_TIMEOUT,
	GREETING_REFUSED			/* an error message was sent */
} Greeting;

Gpt2Wire	gpt2_connection = GPT2_WIRE_CLOSED;

static bool welcome;
static uint64 number;			/* counts welcomes */
static uint64 told_version;		/* of the session, as the engine knows it; 0 = not yet */
static Gpt2Waiter waiter;

bool
gpt2_connection_is_open(void)
{
	return welcome;
}

uint64
gpt2_connection_number(void)
{
	return number;
}

void
gpt2_connection_close(void)
{
	welcome = false;
	told_version = 0;
	gpt2_link_close(&gpt2_connection, &waiter);
}

/* ---- waiting ---- */

static uint32
wait_event(void)
{
	static uint32 event = 0;

	if (event == 0)
		event = gpt2_wait_event("Gpt2Engine");
	return event;
}

void
gpt2_connection_wait(long milliseconds)
{
	gpt2_link_wait(&gpt2_connection, &waiter, milliseconds, wait_event());
}

static void
pause_for(long milliseconds)
{
	gpt2_pause(milliseconds, wait_event());
}

/* ---- opening ---- */

void
gpt2_connection_send(g2_message type, uint64 id, const void *payload, size_t len)
{
	if (!gpt2_wire_send(&gpt2_connection, type, id, payload, len))
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory"),
				 errdetail("Failed on a request of %zu bytes.", len)));
}

void
gpt2_connection_tell_session(void)
{
	uint64		version = gpt2_session_version();
	g2_writer	w;

	if (version == told_version || !welcome)
		return;
	w = gpt2_writer();
	gpt2_session_encode(&w);
	gpt2_connection_send(G2_MSG_SESSION, 0, w.data, w.len);
	told_version = version;
	pfree(w.data);
}

static void
send_hello(void)
{
	g2_writer	w = gpt2_hello();

	gpt2_connection_send(G2_MSG_HELLO, 0, w.data, w.len);
	pfree(w.data);
}

/* Connects and sends HELLO.  False: nobody listens, or too many wait (*busy). */
static bool
connect_once(bool *busy)
{
	gpt2_connection_close();
	if (!gpt2_link_open(&gpt2_connection, &waiter, G2_SOCKET_PATH, busy))
		return false;
	send_hello();
	return true;
}

/* The answer to HELLO; an error message comes as a palloc'd copy. */
static Greeting
greet(TimestampTz deadline, char **error, size_t *error_len)
{
	for (;;)
	{
		g2_frame	frame;
		const char *payload;
		g2_welcome	m;
		long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);

		if (gpt2_wire_next(&gpt2_connection, &frame, &payload))
		{
			if (frame.type == G2_MSG_ERROR)
			{
				*error = palloc(frame.length + 1);
				memcpy(*error, payload, frame.length);
				*error_len = frame.length;
				return GREETING_REFUSED;
			}
			if (frame.type != G2_MSG_WELCOME ||
				!g2_welcome_decode(payload, frame.length, &m))
				return GREETING_LOST;
			if (m.major != G2_PROTOCOL_MAJOR)
				ereport(ERROR,
						(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						 errmsg("the gpt2 engine speaks protocol %u, the library protocol %d",
								m.major, G2_PROTOCOL_MAJOR),
						 errhint("Reconnect, so that the installed library is loaded.")));
			welcome = true;
			number++;
			return GREETING_WELCOME;
		}
		if (gpt2_wire_lost(&gpt2_connection))
			return GREETING_LOST;
		if (left <= 0)
			return GREETING_TIMEOUT;
		gpt2_connection_wait(Min(left, GPT2_LINK_MS));
	}
}

static bool
past(TimestampTz deadline)
{
	return GetCurrentTimestamp() >= deadline;
}

void
gpt2_connection_open(void)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													   START_SECONDS * 1000);
	TimestampTz next_start = 0;
	int			failures = 0;

	if (welcome)
		return;
	gpt2_link_check_server();
	for (int tries = 0; !past(deadline); tries++)
	{
		bool		busy;
		char	   *error;
		size_t		len;

		if (connect_once(&busy))
		{
			Greeting	greeting = greet(deadline, &error, &len);

			if (greeting == GREETING_WELCOME)
				return;
			gpt2_connection_close();
			if (greeting == GREETING_REFUSED)
				gpt2_raise_error(error, len);
		}
		else if (!busy && past(next_start) && !gpt2_supervisor_running())
		{
			gpt2_supervisor_start(&failures, pause_for);
			next_start = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), RESTART_MS);
		}
		pause_for(Min(1 + tries / 5, 20));
	}
	gpt2_connection_close();
	ereport(ERROR,
			(errcode(ERRCODE_SYSTEM_ERROR),
			 errmsg("gpt2 engine did not start within %d seconds", START_SECONDS),
			 errhint("See the server log, and try again.")));
}

Gpt2Found
gpt2_connection_try(TimestampTz deadline)
{
	bool		busy;
	char	   *error;
	size_t		len;
	Greeting	greeting;

	if (welcome)
		return FOUND_ENGINE;
	/* A connection would start an engine. */
	if (!IsUnderPostmaster || !gpt2_engine_expected())
		return FOUND_NONE;
	if (!connect_once(&busy))
		return busy ? FOUND_SILENT : FOUND_NONE;
	greeting = greet(deadline, &error, &len);
	if (greeting == GREETING_WELCOME)
		return FOUND_ENGINE;
	gpt2_connection_close();
	return greeting == GREETING_TIMEOUT ? FOUND_SILENT : FOUND_NONE;
}
