/*
 * link.c: what a backend's connections to the programs that the supervisor starts have in common.
 */
#include "compat.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "encoding.h"
#include "link.h"
#include "supervisor.h"

#define UNREACHABLE_MS 6000		/* longer than a supervisor's end, which begins with the socket */

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
	if (!TimestampDifferenceExceeds(client_checked, now, GPT2_LINK_MS))
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
static void
check_interrupts(void)
{
	check_client();
	CHECK_FOR_INTERRUPTS();
}

void
gpt2_link_wait(Gpt2Wire *wire, Gpt2Waiter *waiter, long milliseconds, uint32 wait_event)
{
	WaitEvent	events[3];
	uint32		want = WL_SOCKET_READABLE;
	int			n;

	if (!gpt2_wire_flush(wire))
		want |= WL_SOCKET_WRITEABLE;
	if (gpt2_wire_lost(wire))
		return;
	if (want != waiter->wants)
		ModifyWaitEvent(waiter->set, waiter->socket, want, NULL);
	waiter->wants = want;
	n = WaitEventSetWait(waiter->set, milliseconds, events, lengthof(events), wait_event);
	for (int i = 0; i < n; i++)
	{
		if (events[i].events & WL_SOCKET_READABLE)
			gpt2_wire_fill(wire);
		if (events[i].events & WL_LATCH_SET)
			ResetLatch(MyLatch);
	}
	check_interrupts();
}

void
gpt2_pause(long milliseconds, uint32 event)
{
	int			rc = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							   milliseconds, event);

	if (rc & WL_LATCH_SET)
		ResetLatch(MyLatch);
	check_interrupts();
}

/* ---- opening and closing ---- */

/* The server's programs run as its user. */
static void
check_peer(int fd, const char *path)
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

static void
open_waiter(Gpt2Waiter *waiter, int fd)
{
	waiter->set = gpt2_create_wait_event_set(3);
	waiter->wants = WL_SOCKET_READABLE;
	waiter->socket = AddWaitEventToSet(waiter->set, waiter->wants, fd, NULL, NULL);
	AddWaitEventToSet(waiter->set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(waiter->set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
}

static int
open_socket(void)
{
	int			fd;

	if (!AcquireExternalFD())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not open a connection to a program of gpt2: %m"),
				 errhint("See max_files_per_process, and the limit of open files of the server.")));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		return fd;
	ReleaseExternalFD();
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
			 errmsg("could not create a socket for a program of gpt2: %m"),
			 errhint("See max_files_per_process, and the limit of open files of the server.")));
}

bool
gpt2_link_open(Gpt2Wire *wire, Gpt2Waiter *waiter, const char *path, bool *busy)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	strlcpy(address.sun_path, path, sizeof address.sun_path);
	*busy = false;
	gpt2_wire_open(wire, open_socket());
	if (connect(wire->fd, (struct sockaddr *) &address, sizeof address) != 0)
	{
		int			save_errno = errno;

		gpt2_link_close(wire, waiter);
		*busy = save_errno == EAGAIN || save_errno == EINTR;
		if (*busy || save_errno == ENOENT || save_errno == ECONNREFUSED)
			return false;
		errno = save_errno;
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("could not connect to socket \"%s\": %m", path),
				 errhint("The server log says how the program behind it fares.")));
	}
	check_peer(wire->fd, path);
	open_waiter(waiter, wire->fd);
	return true;
}

void
gpt2_link_close(Gpt2Wire *wire, Gpt2Waiter *waiter)
{
	if (waiter->set)
		FreeWaitEventSet(waiter->set);
	waiter->set = NULL;
	if (wire->fd < 0)
		return;
	gpt2_wire_close(wire);
	ReleaseExternalFD();
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

/* ---- the supervisor ---- */

void
gpt2_link_check_server(void)
{
	if (!IsUnderPostmaster || IsBinaryUpgrade)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("gpt2's programs cannot run in single-user mode or during an upgrade")));
}

void
gpt2_link_end_unreachable(const char *path, TimestampTz *since)
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
						(int) pid, path)));
		(void) kill(pid, SIGTERM);
		*since = 0;
	}
}
