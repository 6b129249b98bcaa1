/*
 * supervisor.c: how the supervisor is registered, started and found; its work is in
 * supervisor_main.c.
 *
 * One supervisor runs per cluster.  Of many backends that find none, one gets the heavyweight lock
 * and registers the worker; the others poll the socket.  The last word is an OFD lock on the lock
 * file, which the supervisor holds as long as it lives; its pid stands in the file.
 */
#include "compat.h"

#include <fcntl.h>
#include <unistd.h>

#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "utils/timestamp.h"

#include "engine/protocol.h"
#include "supervisor.h"

#define SLOT_MS 5000			/* for a worker slot to become free */
#define START_MS 5000			/* for a worker to take the lock file */
#define RESTART_SECONDS 5		/* after a failure of the supervisor itself */
#define LOCK_KEY 0x67707432		/* "gpt2" */

static void
fill_worker(BackgroundWorker *worker)
{
	memset(worker, 0, sizeof *worker);
	/* The flag for databases makes it visible in pg_stat_activity, and so can be terminated. */
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_ConsistentState;
	worker->bgw_restart_time = RESTART_SECONDS;
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

	fill_worker(&worker);
	RegisterBackgroundWorker(&worker);
}

pid_t
gpt2_supervisor_pid(void)
{
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
	int			fd = BasicOpenFile(G2_LOCK_PATH, O_RDONLY | PG_BINARY | O_CLOEXEC | O_NOFOLLOW);
	char		digits[16];
	ssize_t		n;
	long		pid = 0;

	if (fd < 0)
		return 0;
	/* An OFD lock has no owner that the kernel could name: the pid stands in the file. */
	if (fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK)
	{
		n = read(fd, digits, sizeof digits - 1);
		digits[Max(n, 0)] = '\0';
		pid = strtol(digits, NULL, 10);
		/* Locked, but not yet written. */
		if (pid <= 0)
			pid = PostmasterPid;
	}
	close(fd);
	return (pid_t) pid;
}

/* ---- starting it ---- */

static void
pause_for(long milliseconds)
{
	int			rc = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							   milliseconds, PG_WAIT_EXTENSION);

	if (rc & WL_LATCH_SET)
		ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* Returns when the worker has the lock file, or has ended.  False: no slot is free. */
static bool
start_worker(void)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), START_MS);
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;
	BgwHandleStatus status;
	pid_t		pid;

	fill_worker(&worker);
	worker.bgw_notify_pid = MyProcPid;
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		return false;
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
	return true;
}

bool
gpt2_supervisor_start(void)
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
			bool		absent = gpt2_supervisor_pid() == 0;
			bool		started = absent && start_worker();

			LockRelease(&tag, ExclusiveLock, false);
			if (started || !absent)
				return started;
			tried = true;
		}
		else if (!tried)
			return false;
		if (GetCurrentTimestamp() >= deadline)
			ereport(ERROR,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("could not start the gpt2 engine: no background worker slot is free"),
					 errhint("Raise max_worker_processes (it is %d) and restart the server, or "
							 "try again later.", max_worker_processes)));
	}
}
