/*
 * supervisor_main.c: the background worker that keeps the engine process running.
 *
 * It decides when an engine starts (engine_watch.c has the one that runs), owns lock file and
 * listening socket (supervisor_socket.c), and starts a process for each training (trainers.c).
 *
 * Life of an engine: spawned; told the settings; says READY; ends.  After an end in good order the
 * next one is spawned at once.  After another, at once if this one lived for long, else after a
 * delay that doubles, up to a few seconds where somebody waits for it and a minute where nobody
 * does.  When several in a row ended without READY, the supervisor answers waiting connections with
 * an error, so that nobody waits for what does not come; it goes on trying, and at once when the
 * configuration has been read again, which may have removed the cause.
 *
 * Rest: an engine that has said IDLE is followed by one when somebody connects.  While gpt2.enabled
 * is off there is none: one that runs is told so, ends its requests and itself, and who connects is
 * refused.  When that is over, the next one comes with a connection, or at once where models are to
 * be preloaded.
 *
 * End: SIGTERM (shutdown, pg_terminate_backend) ends with status 0, so that the postmaster forgets
 * this worker, and the next request starts another.  Any error ends with 1: the static worker is
 * restarted, a dynamic one is not.
 */
#include "compat.h"

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

#include "engine_watch.h"
#include "guc.h"
#include "supervisor.h"
#include "supervisor_socket.h"
#include "trainers.h"

#define LONG_LIFE_MS 10000		/* an engine that lived so long is replaced without delay */
#define FIRST_DELAY_MS 10
#define MAX_DELAY_MS 60000
#define CLIENT_DELAY_MS 5000	/* the longest delay when somebody waits */
#define DESCRIPTORS (GPT2_SOCKET_DESCRIPTORS + GPT2_ENGINE_DESCRIPTORS + \
					 GPT2_TRAINER_DESCRIPTORS)
#define FAILED_STARTS 3			/* from here on clients are answered ... */
#define ANSWER_MS 1000			/* ... or, after a failure, when the next try is so far away */
#define LOOK_MS 10000			/* after its files, where the kernel does not tell that they vanish */
#define REMAKE_MS 10			/* to make one again that has vanished at once */

/* Why none is started. */
typedef enum Rest
{
	REST_NOT,
	REST_OFF,					/* gpt2.enabled is off, or was and nobody has connected since */
	REST_IDLE
} Rest;

static int	listen_fd = -1;
static Rest rest;
static TimestampTz next_start;
static TimestampTz client_start;	/* the same if somebody waits */
static long delay_ms;
static int	failed_starts;		/* in a row */
static char problem[512];		/* of the last failed start */
static uint32 wait_event;

/* ---- life and death ---- */

static void
start_after(long milliseconds)
{
	TimestampTz now = GetCurrentTimestamp();

	next_start = TimestampTzPlusMilliseconds(now, milliseconds);
	client_start = TimestampTzPlusMilliseconds(now, Min(milliseconds, CLIENT_DELAY_MS));
}

/* No engine is started until somebody connects, or longer. */
static void
take_rest(Rest why)
{
	if (rest == why)
		return;
	rest = why;
	delay_ms = 0;
	failed_starts = 0;
	gpt2_socket_show_engine(false);
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
	char	   *cause;

	rest = REST_NOT;
	gpt2_socket_show_engine(true);
	if (!gpt2_engine_start(listen_fd, &cause))
		note_end(false, 0, cause);
}

/* Looks whether the engine has ended. */
static void
reap_engine(void)
{
	Gpt2End		end;

	if (!gpt2_engine_reap(&end))
		return;
	if (!end.orderly)
		note_end(end.was_ready, end.lived_ms, end.cause);
	else if (end.ending == ENDING_OFF)
		take_rest(REST_OFF);
	else if (end.ending == ENDING_IDLE)
		take_rest(REST_IDLE);
	else
		start_after(0);
}

/* At the supervisor's own end, wherever that comes from. */
static void
end_engine(int code, Datum arg)
{
	gpt2_socket_remove(G2_SOCKET_PATH);
	gpt2_trainers_stop();
	gpt2_engine_stop();
}

/* ---- clients where no engine runs ---- */

/* Waiting has little prospect of success, or none. */
static bool
clients_are_refused(void)
{
	return !gpt2_engine_is_running() &&
		(!gpt2_enabled || failed_starts >= FAILED_STARTS ||
		 (failed_starts > 0 && delay_ms >= ANSWER_MS));
}

static void
refuse_clients(void)
{
	if (!gpt2_enabled)
		gpt2_socket_refuse("55000", "gpt2 is switched off",
						   "An administrator has set gpt2.enabled to off; on and a reload of the "
						   "configuration switch it on again.");
	else
		gpt2_socket_refuse("58000", psprintf("gpt2 engine does not start: %s", problem),
						   "See the server log for the cause.");
}

/* ---- the loop ---- */

static void
on_child(SIGNAL_ARGS)
{
	int			save_errno = errno;

	SetLatch(MyLatch);
	errno = save_errno;
}

/* For whom to wait while no engine runs. */
static Gpt2Watch
watch_socket(void)
{
	Gpt2Watch	watch = {.fd = PGINVALID_SOCKET, .timeout = -1};
	bool		wanted = gpt2_socket_is_wanted();

	if (rest == REST_NOT)
		watch.timeout = gpt2_milliseconds_until(wanted ? client_start : next_start);
	/* Who has to wait for the next try would wake this process all the time. */
	if (!wanted || rest != REST_NOT || clients_are_refused())
		watch.fd = listen_fd;
	return watch;
}

/* Sleeps until something is to be done: a signal, a message, a time. */
static void
wait_for_work(void)
{
	WaitEventSet *set = gpt2_create_wait_event_set(5);
	WaitEvent	event;
	Gpt2Watch	watch;
	pgsocket	trainings = gpt2_trainers_socket(),
				files = gpt2_socket_watch();

	watch = gpt2_engine_is_running() ? gpt2_engine_watch() : watch_socket();
	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	if (watch.fd != PGINVALID_SOCKET)
		AddWaitEventToSet(set, WL_SOCKET_READABLE | (watch.wants_out ? WL_SOCKET_WRITEABLE : 0),
						  watch.fd, NULL, NULL);
	if (trainings != PGINVALID_SOCKET)
		AddWaitEventToSet(set, WL_SOCKET_READABLE, trainings, NULL, NULL);
	if (files != PGINVALID_SOCKET)
		AddWaitEventToSet(set, WL_SOCKET_READABLE, files, NULL, NULL);
	else if (watch.timeout < 0 || watch.timeout > LOOK_MS)
		watch.timeout = LOOK_MS;
	if (!gpt2_socket_files_are_there())
		watch.timeout = REMAKE_MS;
	if (WaitEventSetWait(set, watch.timeout, &event, 1, wait_event) == 1 &&
		(event.events & WL_LATCH_SET))
		ResetLatch(MyLatch);
	FreeWaitEventSet(set);
}

static bool
preloads_models(void)
{
	g2_settings settings;

	gpt2_engine_settings(&settings);
	return settings.n_preload > 0;
}

static bool
start_is_due(void)
{
	bool		wanted = gpt2_socket_is_wanted();

	if (rest != REST_NOT)
		return wanted || (rest == REST_OFF && preloads_models());
	/* Who waits gets a try, where one is due, before an answer. */
	return GetCurrentTimestamp() >= (wanted ? client_start : next_start);
}

static void
reload(void)
{
	ProcessConfigFile(PGC_SIGHUP);
	gpt2_engine_reload();
	if (!gpt2_engine_is_running() && rest == REST_NOT)
	{
		delay_ms = 0;
		failed_starts = 0;
		start_after(0);
	}
}

/* Somebody has cleaned pg_stat_tmp.  The engine accepts at the old socket, and is replaced. */
static void
keep_files(void)
{
	gpt2_socket_keep_lock();
	if (gpt2_socket_is_there(G2_SOCKET_PATH))
		return;
	listen_fd = gpt2_socket_open();
	gpt2_engine_replace();
}

static void
supervise(void)
{
	keep_files();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		reload();
	}
	gpt2_engine_attend();
	if (gpt2_engine_is_ready())
		failed_starts = 0;
	reap_engine();
	gpt2_trainers_attend();
	if (!gpt2_engine_is_running())
	{
		if (!gpt2_enabled)
			take_rest(REST_OFF);
		else if (start_is_due())
			start_engine();
	}
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
	gpt2_engine_watch_init();
	wait_event = gpt2_wait_event("Gpt2Supervisor");
	for (int i = 0; i < DESCRIPTORS; i++)
		ReserveExternalFD();
	set_signals();
	gpt2_socket_watch_open();
	if (!gpt2_socket_lock())
	{
		ereport(DEBUG1, (errmsg_internal("another gpt2 supervisor runs already")));
		proc_exit(0);
	}
	listen_fd = gpt2_socket_open();
	gpt2_trainers_open();
	before_shmem_exit(end_engine, (Datum) 0);
	MemoryContextSwitchTo(context);
	if (gpt2_enabled)
		start_engine();
	/* For pg_stat_activity.  After the start of the engine, which does not have to wait for it. */
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	gpt2_socket_publish();
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
