/*
 * plan_queue.c: plans in flight, and their thread (plan_queue.h).
 */
#include "plan_queue.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

static void
announce_end(int event_fd)
{
	uint64_t	one = 1;

	/* An eventfd is full only after 2^64 - 2 unread ends. */
	while (write(event_fd, &one, sizeof one) < 0 && errno == EINTR)
		;
}

static void *
queue_main(void *p)
{
	g2_plan_queue *q = p;

	if (q->start)
		q->start(q->arg);
	pthread_mutex_lock(&q->lock);
	for (;;)
	{
		uint32_t	entry;

		while (q->n_ended == q->n_queued && !q->quit)
			pthread_cond_wait(&q->wake, &q->lock);
		if (q->n_ended == q->n_queued)
			break;
		entry = (q->oldest + q->n_ended) % G2_MAX_PLANS;
		pthread_mutex_unlock(&q->lock);
		q->run(q->arg, entry);
		pthread_mutex_lock(&q->lock);
		q->n_ended++;
		announce_end(q->event_fd);
	}
	pthread_mutex_unlock(&q->lock);
	return NULL;
}

bool
g2_plan_queue_open(g2_plan_queue *q, g2_error *err)
{
	sigset_t	all,
				old;
	int			rc;

	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->wake, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&q->thread, NULL, queue_main, q);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0)
	{
		pthread_cond_destroy(&q->wake);
		pthread_mutex_destroy(&q->lock);
		return g2_fail(err, G2_E_SYSTEM, "could not start a back end's thread");
	}
	q->opened = true;
	return true;
}

void
g2_plan_queue_close(g2_plan_queue *q)
{
	if (!q->opened)
		return;
	pthread_mutex_lock(&q->lock);
	q->quit = true;
	pthread_cond_signal(&q->wake);
	pthread_mutex_unlock(&q->lock);
	pthread_join(q->thread, NULL);
	pthread_cond_destroy(&q->wake);
	pthread_mutex_destroy(&q->lock);
	q->opened = false;
}

bool
g2_plan_queue_next(g2_plan_queue *q, uint32_t *entry, g2_error *err)
{
	uint32_t	n_queued;

	pthread_mutex_lock(&q->lock);
	n_queued = q->n_queued;
	*entry = (q->oldest + n_queued) % G2_MAX_PLANS;
	pthread_mutex_unlock(&q->lock);
	if (n_queued == G2_MAX_PLANS)
		return g2_fail(err, G2_E_INTERNAL, "invalid plan: %d plans are in flight", G2_MAX_PLANS);
	return true;
}

void
g2_plan_queue_put(g2_plan_queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->n_queued++;
	pthread_cond_signal(&q->wake);
	pthread_mutex_unlock(&q->lock);
}

bool
g2_plan_queue_ended(g2_plan_queue *q, uint32_t *entry)
{
	bool		ended;

	pthread_mutex_lock(&q->lock);
	ended = q->n_ended > 0;
	*entry = q->oldest;
	pthread_mutex_unlock(&q->lock);
	return ended;
}

void
g2_plan_queue_take(g2_plan_queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->oldest = (q->oldest + 1) % G2_MAX_PLANS;
	q->n_ended--;
	q->n_queued--;
	pthread_mutex_unlock(&q->lock);
}
