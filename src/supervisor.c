/*
 * supervisor.c: how the supervisor is registered, started and found; its work is in
 * supervisor_main.c.
 *
 * One supervisor runs per cluster.  Of many backends that find none, one gets the heavyweight lock
 * and registers the worker; the others poll the socket.  The last word is an OFD lock on the lock
 * file, which the supervisor holds as long as it lives; its pid stands in the file.
 *
 * A dynamic worker is never restarted: one that cannot start would keep its slot, and every request
 * brings another.  Whoever waits for an answer when the supervisor ends asks for the next one.
 */
#include "compat.h"

#include <fcntl.h>
#include <unistd.h>

#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/fd.h"
#include "storage/lock.h"
#include "utils/timestamp.h"

#include "engine/protocol.h"
#include "supervisor.h"

#define SLOT_MS 5000			/* for a worker slot to become free */
#define START_MS 5000			/* for a worker to serve, or to end */
#define RESTART_SECONDS 5		/* of the static worker, after its failure */
#define MAX_FAILURES 2
#define LOCK_KEY 0x67707432		/* "gpt2" */

static void
fill_worker(BackgroundWorker *worker, int restart_seconds)
{
	memset(worker, 0, sizeof *worker);
	/* The flag for databases makes it visible in pg_stat_activity, and so can be terminated. */
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_ConsistentState;
	worker->bgw_restart_time = restart_seconds;
	strlcpy(worker->bgw_library_name, "$libdir/gpt2", sizeof worker->bgw_library_name);
	strlcpy(worker->bgw_function_name, "gpt2_supervisor_main",
			sizeof worker->bgw_function_name);
	strlcpy(worker->bgw_name, "gpt2 supervisor", sizeof worker->bgw_name);
	strlcpy(worker->bgw_type, "gpt2 supervisor", sizeof worker->bgw_type);
}

void
gpt2_supervisor_register_static(void)
{
	BackgroundWorker worker;

	fill_worker(&worker, RESTART_SECONDS);
	RegisterBackgroundWorker(&worker);
}

/* ---- looking for it ---- */

static int
open_lock_file(void)
{
	return BasicOpenFile(G2_LOCK_PATH, O_RDONLY | PG_BINARY | O_CLOEXEC | O_NOFOLLOW);
}

static bool
is_locked(int fd, off_t byte)
{
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

	return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

static bool
holds_lock(off_t byte)
{
	int			fd = open_lock_file();
	bool		locked = fd >= 0 && is_locked(fd, byte);

	if (fd >= 0)
		close(fd);
	return locked;
}

bool
gpt2_supervisor_running(void)
{
	return holds_lock(GPT2_LOCK_RUNS);
}

bool
gpt2_engine_expected(void)
{
	return holds_lock(GPT2_LOCK_ENGINE);
}

/* An OFD lock has no owner that the kernel could name: the pid stands in the file. */
pid_t
gpt2_supervisor_pid(void)
{
	int			fd = open_lock_file();
	char		digits[16];
	ssize_t		n = 0;

	if (fd < 0)
		return 0;
	if (is_locked(fd, GPT2_LOCK_SERVES))
		n = read(fd, digits, sizeof digits - 1);
	close(fd);
	digits[Max(n, 0)] = '\0';
	return (pid_t) strtol(digits, NULL, 10);
}

/* ---- starting it ---- */

typedef enum WorkerStart
{
	WORKER_NO_SLOT,
	WORKER_ENDED,				/* and no supervisor runs */
	WORKER_RUNS					/* or another one does, or it is slow */
} WorkerStart;

/* Returns when the worker serves, or has ended. */
static WorkerStart
start_worker(Gpt2Pause pause_for)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), START_MS);
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;
	BgwHandleStatus status;
	pid_t		pid;

	fill_worker(&worker, BGW_NEVER_RESTART);
	worker.bgw_notify_pid = MyProcPid;
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		return WORKER_NO_SLOT;
	status = WaitForBackgroundWorkerStartup(handle, &pid);
	if (status == BGWH_POSTMASTER_DIED)
		ereport(FATAL,
				(errcode(ERRCODE_ADMIN_SHUTDOWN),
				 errmsg("postmaster died while the gpt2 engine was being started")));
	while (status == BGWH_STARTED && gpt2_supervisor_pid() == 0 &&
		   GetCurrentTimestamp() < deadline)
	{
		pause_for(1);
		status = GetBackgroundWorkerPid(handle, &pid);
	}
	pfree(handle);
	return status == BGWH_STOPPED && !gpt2_supervisor_running() ? WORKER_ENDED : WORKER_RUNS;
}

static void
count_failure(int *failures)
{
	if (++*failures >= MAX_FAILURES)
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("gpt2 supervisor failed to start"),
				 errhint("See the server log for the cause.")));
}

void
gpt2_supervisor_start(int *failures, Gpt2Pause pause_for)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), SLOT_MS);
	LOCKTAG		tag;

	memset(&tag, 0, sizeof tag);
	tag.locktag_field2 = LOCK_KEY;	/* no database: one per cluster */
	tag.locktag_type = LOCKTAG_USERLOCK;
	tag.locktag_lockmethodid = USER_LOCKMETHOD;
	/* Parallel queries take all slots for moments, so one try is not enough; the lock is given up
	 * in between, so that nobody waits for the failures of others. */
	for (bool tried = false;; pause_for(20))
	{
		if (LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL)
		{
			/* Who had the lock before may have started it. */
			WorkerStart start = gpt2_supervisor_running() ? WORKER_RUNS :
				start_worker(pause_for);

			LockRelease(&tag, ExclusiveLock, false);
			if (start == WORKER_ENDED)
				count_failure(failures);
			if (start != WORKER_NO_SLOT)
				return;
			tried = true;
		}
		else if (!tried)
			return;
		if (GetCurrentTimestamp() >= deadline)
			ereport(ERROR,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("could not start the gpt2 engine: no background worker slot is free"),
					 errhint("Raise max_worker_processes (it is %d) and restart the server, or "
							 "try again later.", max_worker_processes)));
	}
}
