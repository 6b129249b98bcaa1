/*
 * queue.h: the groups that wait, and whose turn it is among them.
 *
 * Order: the role with the least service; within it its sessions in turn; within a session first
 * come, first served.  Sessions that are over one of their limits are passed over until they are
 * not; where it is the number of sequences, only by sessions that may have more.  A group that was
 * preempted stands first in its session, and its session first in its role.  Sessions that are
 * parked, because nobody waits for their requests, come behind all others.  Sessions whose next group
 * needs a device that is full are passed over too, so that other devices are not idle.
 *
 * The lists are the sessions' and roles' (session.h); the engine's thread owns all of it.
 */
#ifndef G2_QUEUE_H
#define G2_QUEUE_H

#include "group.h"

typedef struct g2_queue
{
	g2_people  *people;
	uint32_t	n;				/* groups */
	g2_group   *canceled;		/* no longer among them, to be told so; linked by group->next */
	int64_t		next_deadline;	/* no group has waited for too long before; INT64_MAX = none */
	bool		(*is_full) (void *arg, const g2_group *group);	/* the device that it needs */
	void	   *arg;
} g2_queue;

extern void g2_queue_init(g2_queue *queue, g2_people *people,
						  bool (*is_full) (void *arg, const g2_group *group), void *arg);
extern void g2_queue_push(g2_queue *queue, g2_group *group);
extern void g2_queue_push_first(g2_queue *queue, g2_group *group);

/* The next group; NULL: none may go.  *ready_at: when one that is throttled now may, INT64_MAX =
 * that depends on others. */
extern g2_group *g2_queue_next(g2_queue *queue, int64_t now, int64_t *ready_at);

/* It is no longer in the queue, and its session has had its turn. */
extern void g2_queue_take(g2_queue *queue, g2_group *group);

/* A limit keeps the session's groups waiting; it has some. */
extern bool g2_queue_throttled(const g2_session *session);

/* The role has a session that somebody waits for, and that a limit holds back because of what the
 * role runs. */
extern bool g2_queue_lacks_own(const g2_role *role, int64_t now);

/* Takes out a group that was cancelled, may not generate any more or has waited for too long, with
 * the reason; NULL: none. */
extern g2_group *g2_queue_take_ended(g2_queue *queue, int64_t now, g2_error *why);

/* It no longer waits; g2_queue_take_ended gives it out. */
extern void g2_queue_cancel(g2_queue *queue, g2_group *group);

/* All that wait are cancelled. */
extern void g2_queue_cancel_all(g2_queue *queue);

/* 53400: the role may not make such a request at all.  prompt_tokens: where it scores, all that
 * are given. */
extern bool g2_queue_allows(const g2_group_options *o, size_t prompt_tokens, g2_error *err);

#endif							/* G2_QUEUE_H */
