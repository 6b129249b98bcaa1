/*
 * supervisor.h: the background worker that keeps the engine process running.
 */
#ifndef GPT2_SUPERVISOR_H
#define GPT2_SUPERVISOR_H

#include "postgres.h"

/* Registers the static worker; called by _PG_init under shared_preload_libraries only. */
extern void gpt2_supervisor_register_static(void);

/*
 * Starts the supervisor as a dynamic worker when none runs.  Of many callers at once one does it;
 * the others return false and should poll the socket.  Raises 53400 with a hint about
 * max_worker_processes when no worker slot becomes free within 5 s.
 */
extern bool gpt2_supervisor_start(void);

/* Pid of the supervisor (holder of the lock file), 0 when none runs. */
extern pid_t gpt2_supervisor_pid(void);

extern PGDLLEXPORT void gpt2_supervisor_main(Datum arg);

#endif							/* GPT2_SUPERVISOR_H */
