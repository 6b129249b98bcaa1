/*
 * device_failures.h: how often a CUDA device has failed lately, over the lives of several engine
 * processes: in a small file among PostgreSQL's temporary statistics, which a restart of the server
 * empties.
 */
#ifndef G2_DEVICE_FAILURES_H
#define G2_DEVICE_FAILURES_H

#include <stdint.h>

#define G2_DEVICE_FAILURES_FILE "pg_stat_tmp/gpt2_device_failures"
#define G2_DEVICE_FAILURES_MOST 3	/* from so many on, "auto" is the CPU ... */
#define G2_DEVICE_FAILURES_S 600	/* ... when they were within this time */

/* Failures within G2_DEVICE_FAILURES_S; 0 where the file cannot be read. */
extern uint32_t g2_device_failures(const char *path);

/* Notes one more, as far as the file can be written. */
extern void g2_device_failures_note(const char *path);

#endif							/* G2_DEVICE_FAILURES_H */
