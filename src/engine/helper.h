/*
 * helper.h: threads for work that would hold up the engine's thread.
 *
 * A job's run function is called on a helper thread, its done function on the engine's thread by
 * g2_helper_collect.  Jobs start in order; the job's memory belongs to the submitter.
 */
#ifndef G2_HELPER_H
#define G2_HELPER_H

#include "util.h"

typedef struct g2_job
{
	void		(*run) (struct g2_job *job);
	void		(*done) (struct g2_job *job);
	struct g2_job *next;		/* helper.c's */
} g2_job;

typedef struct g2_helper g2_helper;

/* event_fd: an eventfd that is written when a job has ended; the caller's. */
extern bool g2_helper_open(uint32_t threads, int event_fd, g2_helper **out, g2_error *err);

/* Waits for the jobs that run; jobs that have not started get only their done function. */
extern void g2_helper_close(g2_helper *helper);
extern void g2_helper_submit(g2_helper *helper, g2_job *job);

/* Calls done for the jobs that have ended. */
extern void g2_helper_collect(g2_helper *helper);

#endif							/* G2_HELPER_H */
