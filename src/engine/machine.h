/*
 * machine.h: what this process may use of the machine: cores and memory, cgroup limits included;
 * and how it gives way to others.
 */
#ifndef G2_MACHINE_H
#define G2_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

/* Physical cores among the processors that this process may run on, at most the cgroup's quota
 * (rounded up); at least 1. */
extern uint32_t g2_machine_cores(void);

/* Bytes of memory: the machine's, or the cgroup's limit when that is less. */
extern uint64_t g2_machine_memory(void);

/*
 * Gives this process's session (setsid) a nice value among sessions, 0 .. 19.  Linux with autogroups
 * (sched(7)) shares processors among sessions first, and every backend of PostgreSQL is a session
 * of its own: there, nice values of threads count within the engine only.  True too where there are
 * no autogroups.  It concerns the supervisor, whose session the engine is in, and for an engine
 * started by hand the shell: not for that.
 */
extern bool g2_machine_nice_session(uint32_t nice);

#endif							/* G2_MACHINE_H */
