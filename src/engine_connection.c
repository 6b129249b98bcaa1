/*
 * engine_connection.c: the backend's one connection to the engine.
 *
 * States: closed, greeting (HELLO is on its way), open.  An error or an interrupt may leave any
 * of these behind by longjmp; what is not open is closed by the next attempt.
 *
 * Opening starts supervisor and engine where necessary.  The supervisor listens, so a connect
 * succeeds while the engine is being replaced, and its welcome comes when it is up; when it does
 * not come up, the supervisor itself answers with an error.
 *
 * Waiting is one wait event set that lives as long as the connection.  No lock is held.
 */
#include "compat.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "encoding.h"
#include "engine_connection.h"
#include "session_user.h"
#include "supervisor.h"

#define START_SECONDS 30		/* for all that has to happen until an engine says welcome */
#define LOOK_MS 2000			/* the same for somebody who only wants to know */
#define RESTART_MS 200			/* between two attempts to start a supervisor */
#define CHECK_CLIENT_MS 1000
#define UNREACHABLE_MS 6000		/* longer than a supervisor's end, which begins with the socket */

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
static WaitEventSet *wait_set;
static int	wait_socket;		/* position of the socket in wait_set */
static uint32 wait_for;			/* what wait_set waits for at the socket */

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
	if (wait_set)
	{
		FreeWaitEventSet(wait_set);
		wait_set = NULL;
	}
	if (gpt2_connection.fd >= 0)
	{
		gpt2_wire_close(&gpt2_connection);
		ReleaseExternalFD();
	}
}

/* ---- errors of the other end ---- */

char *
gpt2_message_text(g2_span s)
{
	return s.len ? gpt2_from_utf8(s.data, s.len, NULL) : NULL;
}

static int
sqlstate_of(const g2_error_message *m)
{
	/* Classes 00 to 02 are no errors. */
	if (m->sqlstate[0] == '0' && m->sqlstate[1] <= '2')
		return ERRCODE_INTERNAL_ERROR;
	return MAKE_SQLSTATE(m->sqlstate[0], m->sqlstate[1], m->sqlstate[2], m->sqlstate[3],
						 m->sqlstate[4]);
}

int
gpt2_error_sqlstate(const char *payload, size_t len)
{
	g2_error_message m;

	return g2_error_decode(payload, len, &m) ? sqlstate_of(&m) : ERRCODE_INTERNAL_ERROR;
}

bool		gpt2_error_of_options;

void
gpt2_raise_error(const char *payload, size_t len)
{
	g2_error_message m;
	char	   *message,
			   *detail,
			   *hint;

	if (!g2_error_decode(payload, len, &m))
		gpt2_malformed_answer();
	/* Where the engine has no memory for a message, it sends none. */
	message = m.message.len ? gpt2_message_text(m.message) : pstrdup("out of memory");
	detail = gpt2_message_text(m.detail);
	hint = gpt2_message_text(m.hint);
	gpt2_error_of_options = m.of_options != 0;
	ereport(ERROR,
			(errcode(sqlstate_of(&m)),
			 errmsg_internal("%s", message),
			 detail ? errdetail_internal("%s", detail) : 0,
			 hint ? errhint("%s", hint) : 0));
}

void
gpt2_raise_notice(const char *payload, size_t len)
{
	g2_notice	notice;
	char	   *message,
			   *hint;
	int			elevel = NOTICE;

	if (!g2_notice_decode(payload, len, &notice) || notice.message.len == 0)
		return;
	if (notice.level == G2_LEVEL_WARNING)
		elevel = WARNING;
	else if (notice.level < G2_LEVEL_NOTICE)
		elevel = DEBUG1;
	message = gpt2_message_text(notice.message);
	hint = gpt2_message_text(notice.hint);
	ereport(elevel,
			(errmsg_internal("%s", message),
			 hint ? errhint("%s", hint) : 0));
	pfree(message);				/* a training tells of itself for days */
	if (hint)
		pfree(hint);
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

/* Ends the session when its client has gone: nobody waits for the answer. */
static void
check_client(void)
{
#ifdef GPT2_HAVE_CHECK_CONNECTION
	static TimestampTz client_checked = 0;
	TimestampTz now;

	if (!MyProcPort)
		return;					/* a background worker */
	now = GetCurrentTimestamp();
	if (!TimestampDifferenceExceeds(client_checked, now, CHECK_CLIENT_MS))
		return;
	client_checked = now;
	if (!pq_check_connection())
	{
		ClientConnectionLost = true;
		InterruptPending = true;
	}
#endif
}

/* In this order, since pq_check_connection may reset the latch that announced an interrupt. */
void
gpt2_check_interrupts(void)
{
	check_client();
	CHECK_FOR_INTERRUPTS();
}

void
gpt2_connection_wait(long milliseconds)
{
	WaitEvent	events[3];
	uint32		want = WL_SOCKET_READABLE;
	int			n;

	if (!gpt2_wire_flush(&gpt2_connection))
		want |= WL_SOCKET_WRITEABLE;
	if (gpt2_wire_lost(&gpt2_connection))
		return;
	if (want != wait_for)
		ModifyWaitEvent(wait_set, wait_socket, want, NULL);
	wait_for = want;
	n = WaitEventSetWait(wait_set, milliseconds, events, lengthof(events), wait_event());
	for (int i = 0; i < n; i++)
	{
		if (events[i].events & WL_SOCKET_READABLE)
			gpt2_wire_fill(&gpt2_connection);
		if (events[i].events & WL_LATCH_SET)
			ResetLatch(MyLatch);
	}
	gpt2_check_interrupts();
}

void
gpt2_pause(long milliseconds, uint32 event)
{
	int			rc = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							   milliseconds, event);

	if (rc & WL_LATCH_SET)
		ResetLatch(MyLatch);
	gpt2_check_interrupts();
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

void
gpt2_check_peer(int fd, const char *path)
{
	struct ucred peer;
	socklen_t	len = sizeof peer;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.uid == geteuid())
		return;
	ereport(ERROR,
			(errcode(ERRCODE_SYSTEM_ERROR),
			 errmsg("socket \"%s\" belongs to another user", path),
			 errhint("Remove it, and look who can write to the data directory.")));
}

g2_writer
gpt2_hello(void)
{
	g2_writer	w = gpt2_writer();
	g2_hello	hello = {
		.magic = G2_PROTOCOL_MAGIC,
		.major = G2_PROTOCOL_MAJOR,
		.minor = G2_PROTOCOL_MINOR,
		.pid = (uint32) MyProcPid,
		.database = MyDatabaseId,
		.session_user = GetSessionUserId(),
		.library_version = g2_span_of(G2_VERSION),
	};

	g2_hello_encode(&w, &hello);
	return w;
}

static void
send_hello(void)
{
	g2_writer	w = gpt2_hello();

	gpt2_connection_send(G2_MSG_HELLO, 0, w.data, w.len);
	pfree(w.data);
}

static void
make_wait_set(void)
{
	wait_set = gpt2_create_wait_event_set(3);
	wait_for = WL_SOCKET_READABLE;
	wait_socket = AddWaitEventToSet(wait_set, wait_for, gpt2_connection.fd, NULL, NULL);
	AddWaitEventToSet(wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
}

/* Connects and sends HELLO.  False: nobody listens, or too many wait (*busy). */
static bool
connect_once(bool *busy)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = G2_SOCKET_PATH};
	int			fd;

	*busy = false;
	gpt2_connection_close();
	if (!AcquireExternalFD())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not open a connection to the gpt2 engine: %m"),
				 errhint("See max_files_per_process, and the limit of open files of the server.")));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
	{
		ReleaseExternalFD();
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not create a socket for the gpt2 engine: %m"),
				 errhint("See max_files_per_process, and the limit of open files of the server.")));
	}
	gpt2_wire_open(&gpt2_connection, fd);
	if (connect(fd, (struct sockaddr *) &address, sizeof address) != 0)
	{
		int			save_errno = errno;

		gpt2_connection_close();
		*busy = save_errno == EAGAIN || save_errno == EINTR;
		if (*busy || save_errno == ENOENT || save_errno == ECONNREFUSED)
			return false;
		errno = save_errno;
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("could not connect to socket \"%s\": %m", G2_SOCKET_PATH),
				 errhint("The server log says how the engine fares.")));
	}
	gpt2_check_peer(fd, G2_SOCKET_PATH);
	make_wait_set();
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
		gpt2_connection_wait(Min(left, CHECK_CLIENT_MS));
	}
}

/* Where no supervisor can run, there is no use in waiting for one. */
static void
check_server(void)
{
	if (!IsUnderPostmaster || IsBinaryUpgrade)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the gpt2 engine cannot run in single-user mode or during an upgrade")));
}

static bool
past(TimestampTz deadline)
{
	return GetCurrentTimestamp() >= deadline;
}

/*
 * Nobody listens.  A supervisor that serves all the same has lost its socket: somebody has removed
 * the file, and nobody will ever reach it.  The next one makes another.
 */
static void
end_unreachable(TimestampTz *since)
{
	TimestampTz now = GetCurrentTimestamp();
	pid_t		pid = gpt2_supervisor_pid();

	if (pid <= 0)
		*since = 0;
	else if (*since == 0)
		*since = now;
	else if (TimestampDifferenceExceeds(*since, now, UNREACHABLE_MS))
	{
		ereport(LOG,
				(errmsg("ending the gpt2 supervisor (PID %d): its socket \"%s\" has gone",
						(int) pid, G2_SOCKET_PATH)));
		(void) kill(pid, SIGTERM);
		*since = 0;
	}
}

void
gpt2_connection_open(void)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													   START_SECONDS * 1000);
	TimestampTz next_start = 0,
				unreachable_since = 0;
	int			failures = 0;

	if (welcome)
		return;
	check_server();
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
		else if (!busy)
			end_unreachable(&unreachable_since);
		pause_for(Min(1 + tries / 5, 20));
	}
	gpt2_connection_close();
	ereport(ERROR,
			(errcode(ERRCODE_SYSTEM_ERROR),
			 errmsg("gpt2 engine did not start within %d seconds", START_SECONDS),
			 errhint("See the server log, and try again.")));
}

bool
gpt2_connection_try(void)
{
	bool		busy;
	char	   *error;
	size_t		len;

	if (welcome)
		return true;
	/* A connection would start an engine. */
	if (!IsUnderPostmaster || !gpt2_engine_expected() || !connect_once(&busy))
		return false;
	if (greet(TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LOOK_MS),
			  &error, &len) == GREETING_WELCOME)
		return true;
	gpt2_connection_close();
	return false;
}
