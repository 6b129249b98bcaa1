/*
 * engine_watch.c: the supervisor's one engine, from its start to its end: settings, what it says,
 * helping one that is to end and does not.  Whether and when the next one starts is
 * supervisor_main.c's.
 *
 * The control channel is a socket pair with the engine: settings one way, READY, IDLE and log lines
 * the other; its end tells either side that the other is gone.
 *
 * One log line for each engine that has become ready, one for each that has ended.
 */
#include "compat.h"

#include <signal.h>
#include <sys/wait.h>

#include "access/xlog.h"
#include "lib/stringinfo.h"

#include "engine_process.h"
#include "engine_watch.h"
#include "guc.h"
#include "saved_usage.h"
#include "wire.h"

#define TERM_MS 2000			/* to end by itself, and again from SIGTERM to SIGKILL */
#define KILL_MS 2000			/* for the end after SIGKILL */

typedef struct Engine
{
	pid_t		pid;			/* 0 = none */
	Gpt2Wire	control;
	TimestampTz started;
	TimestampTz term_at;		/* when SIGTERM follows: it is to end by itself; 0 = not */
	TimestampTz kill_at;		/* when SIGKILL follows; 0 = not sent SIGTERM */
	bool		ready;
	Gpt2Ending	ending;
	char		problem[512];	/* its last warning before READY */
} Engine;

static Engine engine = {.control = GPT2_WIRE_CLOSED};
static StringInfoData settings_sent;	/* payload that the engine has */

void
gpt2_engine_watch_init(void)
{
	initStringInfo(&settings_sent);
}

bool
gpt2_engine_is_running(void)
{
	return engine.pid != 0;
}

bool
gpt2_engine_is_ready(void)
{
	return engine.pid != 0 && engine.ready;
}

/* ---- settings ---- */

static bool
same_span(g2_span a, g2_span b)
{
	return a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}

/* Threads, kernels and the KV cache are made when the engine starts; a priority that was given up
 * cannot be taken back. */
static bool
needs_restart(const g2_settings *a, const g2_settings *b)
{
	return a->threads != b->threads || a->kv_cache_size != b->kv_cache_size ||
		a->nice != b->nice || a->device_memory != b->device_memory ||
		!same_span(a->device, b->device) || !same_span(a->cpu, b->cpu);
}

static void
terminate_engine(void)
{
	(void) kill(engine.pid, SIGTERM);
	engine.kill_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), TERM_MS);
}

/* It ends by itself; one that does not is helped. */
static void
expect_end(Gpt2Ending why)
{
	engine.ending = why;
	engine.term_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), TERM_MS);
}

static void
get_settings(g2_settings *settings)
{
	gpt2_engine_settings(settings);
	settings->keep_free = (uint64) max_wal_size_mb * 2 * 1024 * 1024;
	gpt2_cluster_identity(&settings->system_identifier, &settings->timeline);
}

/* Sends the settings if they are not what the engine has; a new engine has none. */
static void
send_settings(bool new_engine)
{
	g2_settings settings,
				before;
	g2_writer	w = gpt2_writer();

	get_settings(&settings);
	g2_settings_encode(&w, &settings);
	if (!new_engine)
	{
		if (w.len == (size_t) settings_sent.len &&
			memcmp(w.data, settings_sent.data, w.len) == 0)
			return;
		if (!g2_settings_decode(settings_sent.data, settings_sent.len, &before) ||
			(gpt2_enabled && needs_restart(&settings, &before)))
		{
			ereport(LOG, (errmsg("restarting the gpt2 engine with other settings")));
			engine.ending = ENDING_REPLACED;
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
	if (!gpt2_enabled)
		expect_end(ENDING_OFF);
}

void
gpt2_engine_reload(void)
{
	if (engine.pid != 0 && engine.ending == ENDING_NOT && engine.kill_at == 0)
		send_settings(false);
}

void
gpt2_engine_replace(void)
{
	if (engine.pid == 0 || engine.kill_at != 0)
		return;
	if (engine.ending == ENDING_NOT)
		engine.ending = ENDING_UNREACHABLE;
	terminate_engine();
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
			ereport(LOG,
					(errmsg("gpt2 engine started (PID %d)", (int) engine.pid)));
		}
		else if (frame.type == G2_MSG_IDLE && engine.ending == ENDING_NOT)
			expect_end(ENDING_IDLE);
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

bool
gpt2_engine_start(int listen_fd, char **cause)
{
	int			control_fd;

	memset(&engine, 0, sizeof engine);
	engine.control.fd = -1;
	engine.started = GetCurrentTimestamp();
	engine.pid = gpt2_engine_spawn(listen_fd, &control_fd, cause);
	if (engine.pid == 0)
	{
		ereport(WARNING,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("gpt2 engine does not start: %s", *cause)));
		return false;
	}
	gpt2_wire_open(&engine.control, control_fd);
	send_settings(true);
	return true;
}

/* An engine that was told to end and does not is helped. */
static void
hurry_engine(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (engine.kill_at == 0 && engine.term_at != 0 && now >= engine.term_at)
		terminate_engine();
	else if (engine.kill_at != 0 && now >= engine.kill_at)
	{
		(void) kill(engine.pid, SIGKILL);
		engine.kill_at = TimestampTzPlusMilliseconds(now, TERM_MS);
	}
}

void
gpt2_engine_attend(void)
{
	if (engine.pid == 0)
		return;
	read_control();
	hurry_engine();
}

static const char *
ending_text(Gpt2Ending ending)
{
	switch (ending)
	{
		case ENDING_REPLACED:
			return "the next one starts with other settings";
		case ENDING_UNREACHABLE:
			return "its socket was removed, the next one starts with a new one";
		case ENDING_OFF:
			return "gpt2.enabled is off";
		case ENDING_IDLE:
			return "nobody has needed it for gpt2.engine_idle_timeout";
		default:
			return "it was told to";
	}
}

bool
gpt2_engine_reap(Gpt2End *end)
{
	int			status;
	pid_t		pid = engine.pid;
	char	   *cause;

	if (pid == 0 || waitpid(pid, &status, WNOHANG) != pid)
		return false;
	gpt2_wire_fill(&engine.control);
	take_control_frames();
	gpt2_wire_close(&engine.control);
	engine.pid = 0;
	cause = gpt2_process_end(gpt2_engine_path(), status);
	end->ending = engine.ending;
	end->orderly = engine.ending != ENDING_NOT || (engine.ready && status == 0);
	end->was_ready = engine.ready;
	end->lived_ms = TimestampDifferenceMilliseconds(engine.started, GetCurrentTimestamp());
	end->cause = engine.problem[0] ? engine.problem : cause;
	if (end->orderly)
		ereport(LOG,
				(errmsg("gpt2 engine stopped (PID %d): %s", (int) pid,
						ending_text(engine.ending))));
	else
		ereport(LOG,
				(errmsg("gpt2 engine (PID %d) ended: %s", (int) pid, cause)));
	return true;
}

long
gpt2_milliseconds_until(TimestampTz t)
{
	/* One more, so that it is not early by a rounded fraction. */
	return TimestampDifferenceMilliseconds(GetCurrentTimestamp(), t) + 1;
}

Gpt2Watch
gpt2_engine_watch(void)
{
	Gpt2Watch	watch = {.fd = PGINVALID_SOCKET, .timeout = -1};

	if (engine.kill_at != 0)
		watch.timeout = gpt2_milliseconds_until(engine.kill_at);
	else if (engine.term_at != 0)
		watch.timeout = gpt2_milliseconds_until(engine.term_at);
	if (!gpt2_wire_lost(&engine.control))
	{
		watch.fd = engine.control.fd;
		watch.wants_out = gpt2_wire_queued(&engine.control) > 0;
	}
	return watch;
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

void
gpt2_engine_stop(void)
{
	bool		ended;

	if (engine.pid == 0)
		return;
	(void) kill(engine.pid, SIGTERM);
	ended = engine_ends_within(TERM_MS);
	if (!ended)
	{
		(void) kill(engine.pid, SIGKILL);
		/* The kernel may not be able to end it, on a broken disk or device. */
		ended = engine_ends_within(KILL_MS);
	}
	if (ended)
		ereport(LOG,
				(errmsg("gpt2 engine stopped (PID %d): its supervisor ends", (int) engine.pid)));
	else
		ereport(LOG,
				(errmsg("gpt2 engine (PID %d) does not end after SIGKILL", (int) engine.pid)));
}
