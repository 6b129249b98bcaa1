/*
 * supervisor.h: the background worker that keeps the engine process running.
 */
#ifndef GPT2_SUPERVISOR_H
#define GPT2_SUPERVISOR_H

#include "postgres.h"

/* Registers the static worker; called by _PG_init under shared_preload_libraries only. */
extern void gpt2_supervisor_register_static(void);

/* Bytes of the lock file that the supervisor holds locked while it lives; the second, as soon as
 * it serves and the file has its pid; the third, while an engine runs or is on its way. */
#define GPT2_LOCK_RUNS 0
#define GPT2_LOCK_SERVES 1
#define GPT2_LOCK_ENGINE 2

/* An interruptible sleep. */
typedef void (*Gpt2Pause) (long milliseconds);

/*
 * Starts the supervisor as a dynamic worker when none runs.  Of many callers at once one does it;
 * the others return at once, and all should poll the socket.  *failures, 0 at first, counts the
 * workers that ended at once; the second one raises 58000.  When no worker slot becomes free
 * within 5 s, 53400 with a hint about max_worker_processes.
 */
extern void gpt2_supervisor_start(int *failures, Gpt2Pause pause_for);

/* A supervisor runs, though perhaps it does not listen yet. */
extern bool gpt2_supervisor_running(void);

/* Its pid; 0 when none runs, or it has not started wholly. */
extern pid_t gpt2_supervisor_pid(void);

/* An engine runs or is on its way.  False: who connects starts one, or, where gpt2.enabled is off,
 * is refused; who only wants to look does not connect. */
extern bool gpt2_engine_expected(void);

extern PGDLLEXPORT void gpt2_supervisor_main(Datum arg);

#endif							/* GPT2_SUPERVISOR_H */
