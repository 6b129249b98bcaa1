/*
 * pool.h: the compute threads of the CPU back end.
 *
 * A job is a function called once per task index 0 .. n_tasks-1, on any thread, in any order;
 * tasks are handed out by an atomic counter, so a thread that the system takes away for a moment
 * does not hold up the rest.  Which thread runs a task must never matter to a result.
 * The thread that calls g2_pool_run works too; workers spin briefly, then sleep on a futex.
 */
#ifndef G2_POOL_H
#define G2_POOL_H

#include "util.h"

typedef struct g2_pool g2_pool;
typedef void (*g2_pool_fn) (void *arg, uint32_t task, uint32_t thread);

/* threads >= 1 counts the caller of run.  All signals are blocked in the workers, and they give
 * themselves the nice value; the caller's is its own business. */
extern bool g2_pool_open(uint32_t threads, uint32_t nice, g2_pool **out, g2_error *err);
extern void g2_pool_close(g2_pool *pool);
extern uint32_t g2_pool_threads(const g2_pool *pool);

/* Runs all tasks and returns when the last has ended.  One caller at a time. */
extern void g2_pool_run(g2_pool *pool, uint32_t n_tasks, g2_pool_fn fn, void *arg);

/* Gives the calling thread a nice value (0 leaves it as it is).  Where the system does not allow
 * it, because the process was started with a higher one, that stays. */
extern void g2_pool_be_nice(uint32_t nice);

#endif							/* G2_POOL_H */
