/*
 * queue.c: the groups that wait: order, limits of roles, time limits.
 */
#include "queue.h"

#include <stdio.h>

static const char *const limit_names[G2_N_LIMITS] = {
	"gpt2.max_tokens_per_call", "gpt2.max_concurrent_sequences", "gpt2.max_tokens_per_minute",
};

void
g2_queue_init(g2_queue *q, g2_people *people)
{
	*q = (g2_queue) {.people = people, .next_deadline = INT64_MAX};
}

/* ---- the ring of a role's sessions ---- */

static void
ring_add(g2_role *role, g2_session *session)
{
	g2_session *first = role->ring;

	if (!first)
	{
		session->ring_prev = session->ring_next = session;
		role->ring = session;
		return;
	}
	session->ring_next = first;
	session->ring_prev = first->ring_prev;
	session->ring_prev->ring_next = session;
	first->ring_prev = session;
}

static void
ring_remove(g2_role *role, g2_session *session)
{
	if (session->ring_next == session)
		role->ring = NULL;
	else
	{
		session->ring_prev->ring_next = session->ring_next;
		session->ring_next->ring_prev = session->ring_prev;
		if (role->ring == session)
			role->ring = session->ring_next;
	}
	session->ring_prev = session->ring_next = NULL;
}

/* ---- groups of a session ---- */

static int64_t
deadline_of(const g2_group *group)
{
	/* Who has been admitted once waits because of others. */
	if (group->o.queue_timeout_ms == 0 || group->admitted_at != 0)
		return INT64_MAX;
	return group->queued_at + (int64_t) group->o.queue_timeout_ms * 1000;
}

static void
count_in(g2_queue *q, g2_group *group)
{
	g2_session *session = group->o.session;
	g2_role    *role = session->role;

	if (role->n_queued++ == 0)
	{
		role->throttled = 0;
		g2_role_begin(q->people, role);
	}
	if (!session->ring_next)
		ring_add(role, session);
	q->n++;
	session->next_deadline = G2_MIN(session->next_deadline, deadline_of(group));
	q->next_deadline = G2_MIN(q->next_deadline, deadline_of(group));
	group->state = G2_GROUP_QUEUED;
}

void
g2_queue_push(g2_queue *q, g2_group *group)
{
	g2_session *session = group->o.session;

	count_in(q, group);
	group->next = NULL;
	group->prev = session->queue_last;
	if (session->queue_last)
		session->queue_last->next = group;
	else
		session->queue = group;
	session->queue_last = group;
}

void
g2_queue_push_first(g2_queue *q, g2_group *group)
{
	g2_session *session = group->o.session;

	count_in(q, group);
	group->prev = NULL;
	group->next = session->queue;
	if (session->queue)
		session->queue->prev = group;
	else
		session->queue_last = group;
	session->queue = group;
	session->role->ring = session;
}

static void
unlink_group(g2_queue *q, g2_group *group)
{
	g2_session *session = group->o.session;

	if (group->prev)
		group->prev->next = group->next;
	else
		session->queue = group->next;
	if (group->next)
		group->next->prev = group->prev;
	else
		session->queue_last = group->prev;
	group->prev = group->next = NULL;
	session->role->n_queued--;
	q->n--;
	if (!session->queue)
		ring_remove(session->role, session);
}

void
g2_queue_take(g2_queue *q, g2_group *group)
{
	g2_session *session = group->o.session;

	if (session->role->ring == session)
		session->role->ring = session->ring_next;
	unlink_group(q, group);
}

/* ---- limits ---- */

static bool
refuse(const g2_role *role, g2_limit limit, int64_t value, g2_error *err)
{
	if (value == 0)
		g2_fail(err, G2_E_LIMIT, "role \"%s\" may not generate: %s is 0", role->name,
				limit_names[limit]);
	else
		g2_fail(err, G2_E_LIMIT, "the request is over the limit of role \"%s\": %s is %lld",
				role->name, limit_names[limit], (long long) value);
	return g2_fail_hint(err, "A superuser can change it: ALTER ROLE ... SET %s = ...",
						limit_names[limit]);
}

bool
g2_queue_allows(const g2_group_options *o, size_t prompt_tokens, g2_error *err)
{
	const g2_session *session = o->session;
	const g2_role *role = session->role;
	uint64_t	tokens = prompt_tokens + (uint64_t) o->n * o->max_new;
	int64_t		call = g2_session_limit(session, G2_LIMIT_CALL),
				sequences = g2_session_limit(session, G2_LIMIT_SEQUENCES);

	if (call != G2_UNLIMITED && tokens > (uint64_t) call)
	{
		refuse(role, G2_LIMIT_CALL, call, err);
		return g2_fail_detail(err, "The prompt has %zu tokens, and %u times %u new ones are asked "
							  "for.", prompt_tokens, o->n, o->max_new);
	}
	if (sequences != G2_UNLIMITED && o->n > sequences)
		return refuse(role, G2_LIMIT_SEQUENCES, sequences, err);
	if (g2_session_limit(session, G2_LIMIT_MINUTE) == 0)
		return refuse(role, G2_LIMIT_MINUTE, 0, err);
	return true;
}

/* Notes which limit holds the role's next group back, if one does. */
static void
throttle(g2_role *role, int64_t now, int64_t *ready_at)
{
	const g2_session *session = role->ring;
	bool		was_throttled = role->throttled != 0;
	int64_t		sequences = g2_session_limit(session, G2_LIMIT_SEQUENCES),
				ready = g2_session_ready_at(session, now);

	role->throttled = 0;
	/* One that was taken under a higher limit goes alone. */
	if (sequences != G2_UNLIMITED && role->n_running + session->queue->o.n > sequences &&
		(role->n_running > 0 || sequences == 0))
		role->throttled = 1 + G2_LIMIT_SEQUENCES;
	else if (ready > now)
	{
		role->throttled = 1 + G2_LIMIT_MINUTE;
		*ready_at = G2_MIN(*ready_at, ready);
	}
	if (role->throttled)
		role->throttled_at = g2_session_limit(session, (g2_limit) (role->throttled - 1));
	else if (was_throttled)
		g2_role_begin(session->people, role);
}

g2_group *
g2_queue_next(g2_queue *q, int64_t now, int64_t *ready_at)
{
	const g2_role *best = NULL;

	*ready_at = INT64_MAX;
	if (q->n == 0)
		return NULL;
	for (g2_role *role = q->people->roles; role; role = role->next)
	{
		if (role->n_queued == 0)
			continue;
		throttle(role, now, ready_at);
		if (!role->throttled && (!best || role->service < best->service))
			best = role;
	}
	return best ? best->ring->queue : NULL;
}

/* ---- the end of waiting ---- */

static void
fail_late(const g2_queue *q, const g2_group *group, g2_error *why)
{
	const g2_role *role = group->o.session->role;
	unsigned	ms = group->o.queue_timeout_ms;

	if (role->throttled)
	{
		g2_fail(why, G2_E_LIMIT, "role \"%s\" is over its limit: %s is %lld", role->name,
				limit_names[role->throttled - 1], (long long) role->throttled_at);
		g2_fail_detail(why, "The request waited for %u ms.", ms);
		g2_fail_hint(why, "Raise gpt2.queue_timeout to wait longer, or retry later.");
		return;
	}
	g2_fail(why, G2_E_LIMIT, "the request waited for longer than gpt2.queue_timeout (%u ms)", ms);
	g2_fail_detail(why, "%u requests are waiting.", q->n);
	g2_fail_hint(why, "Raise gpt2.queue_timeout to wait longer, or retry later.");
}

/* The first of the session that has waited for too long; else sets the session's deadline. */
static g2_group *
find_late_of(g2_session *session, int64_t now)
{
	session->next_deadline = INT64_MAX;
	for (g2_group *group = session->queue; group; group = group->next)
	{
		if (deadline_of(group) <= now)
		{
			session->next_deadline = now;	/* there may be more */
			return group;
		}
		session->next_deadline = G2_MIN(session->next_deadline, deadline_of(group));
	}
	return NULL;
}

/* The first of all; else sets the queue's deadline. */
static g2_group *
find_late(g2_queue *q, int64_t now)
{
	int64_t		next = INT64_MAX;

	for (const g2_role *role = q->people->roles; role; role = role->next)
		for (g2_session *session = role->ring; session;
			 session = session->ring_next == role->ring ? NULL : session->ring_next)
		{
			g2_group   *group = session->next_deadline <= now ? find_late_of(session, now) : NULL;

			if (group)
				return group;
			next = G2_MIN(next, session->next_deadline);
		}
	q->next_deadline = next;
	return NULL;
}

g2_group *
g2_queue_take_ended(g2_queue *q, int64_t now, g2_error *why)
{
	g2_group   *group = q->canceled;

	if (group)
	{
		q->canceled = group->next;
		g2_fail(why, G2_E_CANCELED, "the request was cancelled");
	}
	else if (now >= q->next_deadline && (group = find_late(q, now)))
	{
		fail_late(q, group, why);
		unlink_group(q, group);
	}
	return group;
}

void
g2_queue_cancel(g2_queue *q, g2_group *group)
{
	unlink_group(q, group);
	group->canceled = true;
	group->next = q->canceled;
	q->canceled = group;
}

void
g2_queue_cancel_all(g2_queue *q)
{
	for (const g2_role *role = q->people->roles; role; role = role->next)
		while (role->ring)
			g2_queue_cancel(q, role->ring->queue);
}
