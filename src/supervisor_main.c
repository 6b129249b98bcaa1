/*
 * supervisor_main.c: the background worker that keeps the engine process running.
 *
 * It owns the lock file, the listening socket and the engine process.  The socket outlives the
 * engine: backends that connect while none runs wait in its queue for the next one.
 *
 * Life of an engine: spawned; told the settings; says READY; ends.  After an end the next one is
 * spawned, at once if this one lived for long, else after a delay that doubles, up to a few seconds
 * where somebody waits for it and a minute where nobody does.  When several in a row ended without
 * READY, the supervisor answers waiting connections with an error, so that nobody waits for what
 * does not come; it goes on trying.
 *
 * The control channel is a socket pair with the engine: settings one way, READY and log lines the
 * other; its end tells either side that the other is gone.
 *
 * End: SIGTERM (shutdown, pg_terminate_backend) ends with status 0, so that the postmaster forgets
 * this worker, and the next request starts another.  Any error ends with 1: the static worker is
 * restarted, a dynamic one is not.
 */
#include "compat.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "access/xlog.h"
#include "common/file_perm.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "engine_process.h"
#include "guc.h"
#include "supervisor.h"
#include "wire.h"

#define BACKLOG 4096			/* the kernel's somaxconn limits it further */
#define LONG_LIFE_MS 10000		/* an engine that lived so long is replaced without delay */
#define FIRST_DELAY_MS 10
#define MAX_DELAY_MS 60000
#define CLIENT_DELAY_MS 5000	/* the longest delay when somebody waits */
#define TERM_MS 2000			/* between SIGTERM and SIGKILL */
#define KILL_MS 2000			/* for the end after SIGKILL */
#define DESCRIPTORS 3			/* that are held: lock file, socket, control channel */
#define FAILED_STARTS 3			/* from here on clients are answered ... */
#define ANSWER_MS 1000			/* ... or, after a failure, when the next try is so far away */
#define TEMP_SOCKET_PATH G2_SOCKET_PATH ".new"

typedef struct Engine
{
	pid_t		pid;			/* 0 = none */
	Gpt2Wire	control;
	TimestampTz started;
	TimestampTz kill_at;		/* when SIGKILL follows; 0 = not asked to end */
	bool		ready;
	bool		replace;		/* asked to end, to start with other settings */
	char		problem[512];	/* its last warning before READY */
} Engine;

static Engine engine = {.control = GPT2_WIRE_CLOSED};
static int	lock_fd = -1;
static int	listen_fd = -1;
static TimestampTz next_start;
static TimestampTz client_start;	/* the same if somebody waits */
static long delay_ms;
static int	failed_starts;		/* in a row */
static char problem[512];		/* of the last failed start */
static StringInfoData settings_sent;	/* payload that the engine has */
static uint32 wait_event;

/* ---- lock file and socket ---- */

static bool
lock_byte(off_t byte)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

	return fcntl(lock_fd, F_OFD_SETLK, &lock) == 0;
}

/* False: another supervisor runs. */
static bool
take_lock(void)
{
	if (mkdir("pg_stat_tmp", pg_dir_create_mode) != 0 && errno != EEXIST)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create directory \"%s\": %m", "pg_stat_tmp")));
	lock_fd = BasicOpenFile(G2_LOCK_PATH, O_RDWR | O_CREAT | PG_BINARY | O_CLOEXEC | O_NOFOLLOW);
	if (lock_fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", G2_LOCK_PATH)));
	if (!lock_byte(GPT2_LOCK_RUNS))
	{
		if (errno == EAGAIN || errno == EACCES)
			return false;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not lock file \"%s\": %m", G2_LOCK_PATH)));
	}
	return true;
}

/* Now this supervisor serves: whoever started it waits for that. */
static void
publish_pid(void)
{
	char		pid[16];
	int			len = snprintf(pid, sizeof pid, "%d\n", MyProcPid);

	errno = 0;
	if (ftruncate(lock_fd, 0) != 0 || pwrite(lock_fd, pid, len, 0) != len)
	{
		/* A short write tells no cause. */
		if (errno == 0)
			errno = ENOSPC;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", G2_LOCK_PATH)));
	}
	if (!lock_byte(GPT2_LOCK_SERVES))
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not lock file \"%s\": %m", G2_LOCK_PATH)));
}

/* Whoever finds the socket can connect: it gets its name when it listens. */
static void
open_socket(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = TEMP_SOCKET_PATH};

	(void) unlink(TEMP_SOCKET_PATH);
	listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (listen_fd < 0 ||
		bind(listen_fd, (struct sockaddr *) &address, sizeof address) != 0 ||
		chmod(TEMP_SOCKET_PATH, S_IRUSR | S_IWUSR) != 0 ||
		listen(listen_fd, BACKLOG) != 0 ||
		rename(TEMP_SOCKET_PATH, G2_SOCKET_PATH) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create socket \"%s\": %m", G2_SOCKET_PATH)));
}

/* ---- settings ---- */

static bool
same_span(g2_span a, g2_span b)
{
	return a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}

/* Threads, kernels and the KV cache are made when the engine starts. */
static bool
needs_restart(const g2_settings *a, const g2_settings *b)
{
	return a->threads != b->threads || a->kv_cache_size != b->kv_cache_size ||
		!same_span(a->device, b->device) || !same_span(a->cpu, b->cpu);
}

static void
terminate_engine(void)
{
	(void) kill(engine.pid, SIGTERM);
	engine.kill_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), TERM_MS);
}

/* Sends the settings if they are not what the engine has; a new engine has none. */
static void
send_settings(bool new_engine)
{
	g2_settings settings,
				before;
	g2_writer	w = gpt2_writer();

	gpt2_engine_settings(&settings);
	settings.keep_free = (uint64) max_wal_size_mb * 2 * 1024 * 1024;
	g2_settings_encode(&w, &settings);
	if (!new_engine)
	{
		if (w.len == (size_t) settings_sent.len &&
			memcmp(w.data, settings_sent.data, w.len) == 0)
			return;
		if (!g2_settings_decode(settings_sent.data, settings_sent.len, &before) ||
			needs_restart(&settings, &before))
		{
			ereport(LOG, (errmsg("restarting the gpt2 engine with other settings")));
			engine.replace = true;
			terminate_engine();
			return;
		}
	}
	if (!gpt2_wire_send(&engine.control, G2_MSG_SETTINGS, 0, w.data, w.len))
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	(void) gpt2_wire_flush(&engine.control);
	resetStringInfo(&settings_sent);
	appendBinaryStringInfo(&settings_sent, w.data, (int) w.len);
}

/* ---- what the engine says ---- */

/* The engine's lines go to the server log with PostgreSQL's own prefix. */
static void
log_line(const char *payload, uint32 len)
{
	g2_notice	notice;
	int			elevel = LOG;

	if (!g2_notice_decode(payload, len, &notice))
		return;
	if (notice.level == G2_LEVEL_DEBUG)
		elevel = DEBUG1;
	else if (notice.level == G2_LEVEL_WARNING)
		elevel = WARNING;
	if (elevel == WARNING && !engine.ready)
		snprintf(engine.problem, sizeof engine.problem, "%.*s",
				 (int) Min(notice.message.len, sizeof engine.problem - 1), notice.message.data);
	ereport(elevel,
			(errmsg_internal("gpt2 engine: %.*s", (int) notice.message.len,
							 notice.message.data),
			 notice.hint.len ?
			 errhint("%.*s", (int) notice.hint.len, notice.hint.data) : 0));
}

static void
take_control_frames(void)
{
	g2_frame	frame;
	const char *payload;

	while (gpt2_wire_next(&engine.control, &frame, &payload))
	{
		if (frame.type == G2_MSG_LOG)
			log_line(payload, frame.length);
		else if (frame.type == G2_MSG_READY)
		{
			engine.ready = true;
			failed_starts = 0;
			ereport(DEBUG1,
					(errmsg_internal("gpt2 engine (PID %d) is ready", (int) engine.pid)));
		}
	}
}

static void
read_control(void)
{
	gpt2_wire_fill(&engine.control);
	take_control_frames();
	(void) gpt2_wire_flush(&engine.control);
	/* Without its control channel an engine ends by itself; one that hangs is helped. */
	if (gpt2_wire_lost(&engine.control) && engine.kill_at == 0)
		engine.kill_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), TERM_MS);
}

/* ---- life and death ---- */

static void
start_after(long milliseconds)
{
	TimestampTz now = GetCurrentTimestamp();

	next_start = TimestampTzPlusMilliseconds(now, milliseconds);
	client_start = TimestampTzPlusMilliseconds(now, Min(milliseconds, CLIENT_DELAY_MS));
}

/* What happens after an engine that did not start or did not live for long. */
static void
note_end(bool was_ready, long lived_ms, const char *cause)
{
	if (lived_ms > LONG_LIFE_MS)
		delay_ms = 0;
	else
		delay_ms = Min(Max(delay_ms * 2, FIRST_DELAY_MS), MAX_DELAY_MS);
	if (was_ready)
		failed_starts = 0;
	else
	{
		failed_starts++;
		strlcpy(problem, cause, sizeof problem);
	}
	start_after(delay_ms);
}

static void
start_engine(void)
{
	int			control_fd;
	char	   *cause;

	memset(&engine, 0, sizeof engine);
	engine.control.fd = -1;
	engine.started = GetCurrentTimestamp();
	engine.pid = gpt2_engine_spawn(listen_fd, &control_fd, &cause);
	if (engine.pid == 0)
	{
		ereport(WARNING,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("gpt2 engine does not start: %s", cause)));
		note_end(false, 0, cause);
		return;
	}
	gpt2_wire_open(&engine.control, control_fd);
	send_settings(true);
	ereport(DEBUG1,
			(errmsg_internal("started the gpt2 engine (PID %d)", (int) engine.pid)));
}

/* Looks whether the engine has ended. */
static void
reap_engine(void)
{
	int			status;
	long		lived_ms;
	char	   *cause;

	if (engine.pid == 0 || waitpid(engine.pid, &status, WNOHANG) != engine.pid)
		return;
	gpt2_wire_fill(&engine.control);
	take_control_frames();
	gpt2_wire_close(&engine.control);
	lived_ms = TimestampDifferenceMilliseconds(engine.started, GetCurrentTimestamp());
	cause = gpt2_engine_end(status);
	if (!engine.replace)
		ereport(LOG,
				(errmsg("gpt2 engine (PID %d) ended: %s", (int) engine.pid, cause)));
	engine.pid = 0;
	if (engine.replace)
		start_after(0);
	else
		note_end(engine.ready, lived_ms, engine.problem[0] ? engine.problem : cause);
}

static bool
engine_ends_within(long milliseconds)
{
	for (long ms = 0; ms < milliseconds; ms += 5)
	{
		if (waitpid(engine.pid, NULL, WNOHANG) != 0)
			return true;
		pg_usleep(5000);
	}
	return false;
}

/* At the supervisor's own end, wherever that comes from. */
static void
end_engine(int code, Datum arg)
{
	if (listen_fd >= 0)
		(void) unlink(G2_SOCKET_PATH);
	if (engine.pid == 0)
		return;
	(void) kill(engine.pid, SIGTERM);
	if (engine_ends_within(TERM_MS))
		return;
	(void) kill(engine.pid, SIGKILL);
	/* The kernel may not be able to end it, on a broken disk or device. */
	if (!engine_ends_within(KILL_MS))
		ereport(LOG,
				(errmsg("gpt2 engine (PID %d) does not end after SIGKILL", (int) engine.pid)));
}

/* ---- clients of an engine that does not start ---- */

static bool
somebody_waits(void)
{
	struct pollfd p = {.fd = listen_fd, .events = POLLIN};

	return poll(&p, 1, 0) > 0;
}

/* Waiting has little prospect of success. */
static bool
clients_are_refused(void)
{
	return engine.pid == 0 &&
		(failed_starts >= FAILED_STARTS || (failed_starts > 0 && delay_ms >= ANSWER_MS));
}

static void
refuse(int fd)
{
	char		ignored[4096];
	Gpt2Wire	wire;
	g2_writer	w = gpt2_writer();
	char	   *message = psprintf("gpt2 engine does not start: %s", problem);

	/* What was read is not lost by the close; what was not would be for the other side. */
	while (recv(fd, ignored, sizeof ignored, MSG_DONTWAIT) > 0)
		;
	g2_error_encode(&w, "58000", message, "", "See the server log for the cause.");
	gpt2_wire_open(&wire, fd);
	if (gpt2_wire_send(&wire, G2_MSG_ERROR, 0, w.data, w.len))
		(void) gpt2_wire_flush(&wire);
	gpt2_wire_close(&wire);
}

static void
refuse_clients(void)
{
	for (;;)
	{
		int			fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0 && errno == EINTR)
			continue;
		if (fd < 0)
			return;
		refuse(fd);
	}
}

/* ---- the loop ---- */

static void
on_child(SIGNAL_ARGS)
{
	int			save_errno = errno;

	SetLatch(MyLatch);
	errno = save_errno;
}

static long
milliseconds_until(TimestampTz t)
{
	/* One more, so that it is not early by a rounded fraction. */
	return TimestampDifferenceMilliseconds(GetCurrentTimestamp(), t) + 1;
}

/* Sleeps until something is to be done: a signal, a message, a time. */
static void
wait_for_work(void)
{
	int			wake = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH;
	pgsocket	fd = PGINVALID_SOCKET;
	long		timeout = -1;
	int			rc;

	if (engine.pid == 0)
	{
		bool		waited_for = somebody_waits();

		timeout = milliseconds_until(waited_for ? client_start : next_start);
		if (!waited_for || clients_are_refused())
			fd = listen_fd;
	}
	else
	{
		if (engine.kill_at != 0)
			timeout = milliseconds_until(engine.kill_at);
		if (!gpt2_wire_lost(&engine.control))
			fd = engine.control.fd;
	}
	if (timeout >= 0)
		wake |= WL_TIMEOUT;
	if (fd != PGINVALID_SOCKET)
		wake |= WL_SOCKET_READABLE;
	if (engine.pid != 0 && fd != PGINVALID_SOCKET && gpt2_wire_queued(&engine.control) > 0)
		wake |= WL_SOCKET_WRITEABLE;
	rc = WaitLatchOrSocket(MyLatch, wake, fd, timeout, wait_event);
	if (rc & WL_LATCH_SET)
		ResetLatch(MyLatch);
}

static void
supervise(void)
{
	TimestampTz now;

	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		if (engine.pid != 0 && engine.kill_at == 0)
			send_settings(false);
	}
	if (engine.pid != 0)
		read_control();
	reap_engine();
	now = GetCurrentTimestamp();
	if (engine.pid != 0 && engine.kill_at != 0 && now >= engine.kill_at)
	{
		(void) kill(engine.pid, SIGKILL);
		engine.kill_at = TimestampTzPlusMilliseconds(now, TERM_MS);
	}
	/* Who waits gets a try, where one is due, before an answer. */
	if (engine.pid == 0 && now >= (somebody_waits() ? client_start : next_start))
		start_engine();
	if (clients_are_refused())
		refuse_clients();
}

static void
set_signals(void)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGINT, SIG_IGN);	/* pg_cancel_backend */
	pqsignal(SIGCHLD, on_child);
	BackgroundWorkerUnblockSignals();
}

void
gpt2_supervisor_main(Datum arg)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "gpt2 supervisor",
												  ALLOCSET_DEFAULT_SIZES);

	MemoryContextSwitchTo(TopMemoryContext);
	initStringInfo(&settings_sent);
	wait_event = gpt2_wait_event("Gpt2Supervisor");
	for (int i = 0; i < DESCRIPTORS; i++)
		ReserveExternalFD();
	set_signals();
	if (!take_lock())
	{
		ereport(DEBUG1, (errmsg_internal("another gpt2 supervisor runs already")));
		proc_exit(0);
	}
	open_socket();
	before_shmem_exit(end_engine, (Datum) 0);
	MemoryContextSwitchTo(context);
	start_engine();
	/* For pg_stat_activity.  After the start of the engine, which does not have to wait for it. */
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	publish_pid();
	while (!ShutdownRequestPending)
	{
		MemoryContextSwitchTo(context);
		MemoryContextReset(context);
		supervise();
		CHECK_FOR_INTERRUPTS();
		wait_for_work();
	}
	proc_exit(0);
}
