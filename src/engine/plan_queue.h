/*
 * plan_queue.h: the plans of a back end that are in flight, in the order in which they were submitted,
 * and the thread that sees each to its end and announces it.
 *
 * Entries are the back end's own array of G2_MAX_PLANS; the queue says which of them is meant.  An
 * entry is the scheduler's until it is put and after it has ended, the thread's in between.  All
 * functions are the scheduler's.
 */
#ifndef G2_PLAN_QUEUE_H
#define G2_PLAN_QUEUE_H

#include <pthread.h>

#include "backend.h"

typedef struct g2_plan_queue
{
	int			event_fd;
	void		(*start) (void *arg);	/* the first that the thread does; or NULL */
	void		(*run) (void *arg, uint32_t entry);	/* sees an entry's plan to its end */
	void	   *arg;
	pthread_t	thread;
	bool		opened;

	pthread_mutex_t lock;		/* of all that follows */
	pthread_cond_t wake;		/* the thread: a plan was put, or quit */
	uint32_t	oldest;			/* entry */
	uint32_t	n_queued;		/* in flight, ended ones included */
	uint32_t	n_ended;		/* of these: always the oldest */
	bool		quit;
} g2_plan_queue;

/* Starts the thread, which takes no signals.  event_fd, start, run and arg are set before. */
extern bool g2_plan_queue_open(g2_plan_queue *queue, g2_error *err);

/* Waits for the plans in flight; one that is zero is allowed. */
extern void g2_plan_queue_close(g2_plan_queue *queue);

/* The entry for the next plan.  XX000: G2_MAX_PLANS are in flight. */
extern bool g2_plan_queue_next(g2_plan_queue *queue, uint32_t *entry, g2_error *err);

/* What is in that entry is to be run. */
extern void g2_plan_queue_put(g2_plan_queue *queue);

/* The oldest plan's entry, where it has ended; take frees the entry. */
extern bool g2_plan_queue_ended(g2_plan_queue *queue, uint32_t *entry);
extern void g2_plan_queue_take(g2_plan_queue *queue);

#endif							/* G2_PLAN_QUEUE_H */
