/*
 * machine.h: what this process may use of the machine: cores and memory, cgroup limits included.
 */
#ifndef G2_MACHINE_H
#define G2_MACHINE_H

#include <stdint.h>

/* Physical cores among the processors that this process may run on, at most the cgroup's quota
 * (rounded up); at least 1. */
extern uint32_t g2_machine_cores(void);

/* Bytes of memory: the machine's, or the cgroup's limit when that is less. */
extern uint64_t g2_machine_memory(void);

#endif							/* G2_MACHINE_H */
