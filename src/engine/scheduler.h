/*
 * scheduler.h: which sequences take part in the next step.
 *
 * Groups wait in one queue, first come, first served: a group is admitted when the blocks that it
 * can need at most and its sampler slots are free, so that an admitted group always finishes.
 * Every step holds one row of each sequence that decodes and, in what room is left, prompt
 * positions of those that prefill.  The engine's thread owns all of it.
 */
#ifndef G2_SCHEDULER_H
#define G2_SCHEDULER_H

#include "group.h"
#include "visit.h"

typedef struct g2_scheduler g2_scheduler;

/* event_fd is the back end's, to wait for the last step at close; kv_budget: bytes that all
 * admitted groups may hold together. */
extern bool g2_scheduler_open(const g2_backend_api *api, g2_backend *backend, int event_fd,
							  uint64_t kv_budget, g2_scheduler **out, g2_error *err);

/* Waits for the step in flight and gives up every group (done with 57014). */
extern void g2_scheduler_close(g2_scheduler *scheduler);

/* Takes the group, or refuses it: 53200 when it can never fit. */
extern bool g2_scheduler_add(g2_scheduler *scheduler, g2_group *group, g2_error *err);

/* The group ends with 57014 through its done function, soon (at the end of the step in flight). */
extern void g2_scheduler_cancel(g2_scheduler *scheduler, g2_group *group);

/* Takes results and submits the next step. */
extern void g2_scheduler_run(g2_scheduler *scheduler);

/* Sequences that are admitted. */
extern uint32_t g2_scheduler_live(const g2_scheduler *scheduler);

#endif							/* G2_SCHEDULER_H */
