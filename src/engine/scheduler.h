/*
 * scheduler.h: which sequences take part in the next step.
 *
 * Continuous batching (Yu et al., "Orca", OSDI 2022): a sequence joins at the next step and leaves
 * when it ends.  Every step holds one row of each sequence that decodes and, in what room is left,
 * prompt positions of those that prefill, so that a long prompt does not hold up the others.
 *
 * A group is admitted when its sampler slots are free and the blocks for its tokens, and one more
 * for each sequence, can be had.  When blocks run out later, or a role that runs nothing finds no
 * room, the newest group of the role with the most service is preempted: it gives its blocks back,
 * waits again, and computes again what the prefix cache has not kept.  A role that runs something
 * needs a lead in service for that, and so does everybody where it is another's only group and not
 * the first time.  The oldest group of all keeps its blocks when they run out, so that something
 * always ends.
 *
 * Groups of a parked session run only while nobody else needs their slots, their blocks or their
 * share of their role's limit: they are the first to be preempted and the last to be admitted.
 *
 * The engine's thread owns all of it.
 */
#ifndef G2_SCHEDULER_H
#define G2_SCHEDULER_H

#include "group.h"
#include "queue.h"
#include "visit.h"

typedef struct g2_scheduler g2_scheduler;

/* event_fd is the back end's, to wait for the last step at close. */
extern bool g2_scheduler_open(const g2_backend_api *api, g2_backend *backend, int event_fd,
							  g2_people *people, g2_scheduler **out, g2_error *err);

/* Waits for the step in flight and gives up every group (done with 57014). */
extern void g2_scheduler_close(g2_scheduler *scheduler);

/* Rows of one step at most, decoding ones beside; 0 = as many as do not hold up the others. */
extern void g2_scheduler_set_step_tokens(g2_scheduler *scheduler, uint32_t step_tokens);

/* Whether drafts are fed beside what decodes (draft.h); on at first. */
extern void g2_scheduler_set_speculation(g2_scheduler *scheduler, bool on);

/* Takes the group, or refuses it: 53200 when it can never fit, 53400 when its role may not. */
extern bool g2_scheduler_add(g2_scheduler *scheduler, g2_group *group, g2_error *err);

/* The group ends with 57014 through its done function, soon (at the end of the step in flight). */
extern void g2_scheduler_cancel(g2_scheduler *scheduler, g2_group *group);

/* Takes results and submits the next step. */
extern void g2_scheduler_run(g2_scheduler *scheduler);

/* When (monotonic microseconds) it wants to run again though nothing ends; INT64_MAX = never. */
extern int64_t g2_scheduler_wake_at(const g2_scheduler *scheduler);

/* Sequences that run, groups that wait. */
extern uint32_t g2_scheduler_live(const g2_scheduler *scheduler);
extern uint32_t g2_scheduler_queued(const g2_scheduler *scheduler);

#endif							/* G2_SCHEDULER_H */
