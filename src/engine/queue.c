/*
 * queue.c: the groups that wait: order, limits of roles, time limits.
 */
#include "queue.h"

#include <stdio.h>

static const char *const limit_names[G2_N_LIMITS] = {
	"gpt2.max_tokens_per_call", "gpt2.max_concurrent_sequences", "gpt2.max_tokens_per_minute",
};

void
g2_queue_init(g2_queue *q, g2_people *people, bool (*is_full) (void *arg, const g2_group *group),
			  void *arg)
{
	*q = (g2_queue) {
		.people = people, .next_deadline = INT64_MAX, .is_full = is_full, .arg = arg,
	};
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

/* NULL: it was the last. */
static g2_session *
next_in_ring(const g2_session *session)
{
	return session->ring_next == session->role->ring ? NULL : session->ring_next;
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
		role->throttled = false;
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

	ring_remove(session->role, session);
	ring_add(session->role, session);
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

/* One of the limits is 0. */
static bool
is_forbidden(const g2_session *session, g2_error *why)
{
	for (int i = 0; i < G2_N_LIMITS; i++)
		if (g2_session_limit(session, (g2_limit) i) == 0)
			return !refuse(session->role, (g2_limit) i, 0, why);
	return false;
}

bool
g2_queue_allows(const g2_group_options *o, size_t prompt_tokens, g2_error *err)
{
	const g2_session *session = o->session;
	const g2_role *role = session->role;
	bool		makes = o->want == 0 && o->max_new > 0;
	uint64_t	tokens = prompt_tokens + (makes ? (uint64_t) o->n * o->max_new : 0);
	int64_t		call = g2_session_limit(session, G2_LIMIT_CALL),
				sequences = g2_session_limit(session, G2_LIMIT_SEQUENCES);

	if (is_forbidden(session, err))
		return false;
	if (call != G2_UNLIMITED && tokens > (uint64_t) call)
	{
		refuse(role, G2_LIMIT_CALL, call, err);
		if (!makes)
			return g2_fail_detail(err, "It has %zu tokens.", prompt_tokens);
		return g2_fail_detail(err, "The prompt has %zu tokens, and %u times %u new ones are asked "
							  "for.", prompt_tokens, o->n, o->max_new);
	}
	if (sequences != G2_UNLIMITED && g2_group_texts(o) > sequences)
	{
		refuse(role, G2_LIMIT_SEQUENCES, sequences, err);
		return g2_fail_detail(err, "It asks for %u texts.", g2_group_texts(o));
	}
	return true;
}

/* The limit that keeps the session's next group waiting, and when that may end by itself
 * (INT64_MAX = by the end of others only); G2_N_LIMITS: none. */
static g2_limit
held_back_by(const g2_session *session, int64_t now, int64_t *ready_at)
{
	int64_t		sequences = g2_session_limit(session, G2_LIMIT_SEQUENCES);
	uint32_t	running = session->role->n_texts;

	*ready_at = INT64_MAX;
	/* One that was taken under a higher limit goes alone. */
	if (sequences != G2_UNLIMITED && running > 0 &&
		running + g2_group_texts(&session->queue->o) > sequences)
		return G2_LIMIT_SEQUENCES;
	*ready_at = g2_session_ready_at(session, session->role->reserved, now);
	return *ready_at > now ? G2_LIMIT_MINUTE : G2_N_LIMITS;
}

bool
g2_queue_throttled(const g2_session *session)
{
	int64_t		ready_at;

	return held_back_by(session, g2_now_us(), &ready_at) != G2_N_LIMITS;
}

bool
g2_queue_lacks_own(const g2_role *role, int64_t now)
{
	int64_t		ready_at;

	for (const g2_session *session = role->ring; session; session = next_in_ring(session))
	{
		g2_limit	limit = session->parked ? G2_N_LIMITS : held_back_by(session, now, &ready_at);

		if (limit == G2_LIMIT_SEQUENCES ||
			(limit == G2_LIMIT_MINUTE && g2_session_ready_at(session, 0, now) <= now))
			return true;
	}
	return false;
}

/* Of the role's sessions that are parked, or of the others, that whose turn it is; NULL: its limits
 * hold back all of them, or (*full) devices are full. */
static const g2_session *
next_session(const g2_queue *q, const g2_role *role, bool parked, int64_t now, int64_t *ready_at,
			 bool *full)
{
	const g2_session *session = role->ring;
	int64_t		passed = -1;	/* most sequences that one before may have */

	*full = false;
	do
	{
		int64_t		sequences = g2_session_limit(session, G2_LIMIT_SEQUENCES),
					ready = INT64_MAX;

		if (session->parked != parked)
			continue;
		if (q->is_full(q->arg, session->queue))
		{
			*full = true;
			continue;
		}
		/* With no more sequences allowed than to one that waits for room it waits behind that:
		 * small groups would keep a large one waiting for ever. */
		if (sequences == G2_UNLIMITED)
			sequences = INT64_MAX;
		if (sequences > passed)
			switch (held_back_by(session, now, &ready))
			{
				case G2_LIMIT_SEQUENCES:
					passed = sequences;
					break;
				case G2_LIMIT_MINUTE:
					*ready_at = G2_MIN(*ready_at, ready);
					break;
				default:
					return session;
			}
	} while ((session = next_in_ring(session)));
	return NULL;
}

/* The next session that somebody waits for. */
static const g2_session *
next_wanted(g2_queue *q, int64_t now, int64_t *ready_at)
{
	const g2_session *best = NULL;

	for (g2_role *role = q->people->roles; role; role = role->next)
	{
		const g2_session *session;
		bool		was_throttled = role->throttled,
					full;

		if (role->n_queued == 0)
			continue;
		session = next_session(q, role, false, now, ready_at, &full);
		if (session || !full)
			role->throttled = !session;
		if (!session)
			continue;
		if (was_throttled)
			g2_role_begin(q->people, role);
		if (!best || role->service < best->role->service)
			best = session;
	}
	return best;
}

static const g2_session *
next_parked(const g2_queue *q, int64_t now, int64_t *ready_at)
{
	const g2_session *best = NULL;

	for (const g2_role *role = q->people->roles; role; role = role->next)
	{
		bool		full;
		/* It would take what is kept for another. */
		const g2_session *session = role->n_queued > 0 && !g2_queue_lacks_own(role, now) ?
			next_session(q, role, true, now, ready_at, &full) : NULL;

		if (session && (!best || role->service < best->role->service))
			best = session;
	}
	return best;
}

g2_group *
g2_queue_next(g2_queue *q, int64_t now, int64_t *ready_at)
{
	const g2_session *next;

	*ready_at = INT64_MAX;
	if (q->n == 0)
		return NULL;
	next = next_wanted(q, now, ready_at);
	if (!next)
		next = next_parked(q, now, ready_at);
	return next ? next->queue : NULL;
}

/* ---- the end of waiting ---- */

static void
fail_late(const g2_queue *q, const g2_group *group, int64_t now, g2_error *why)
{
	const g2_session *session = group->o.session;
	unsigned	ms = group->o.queue_timeout_ms;
	int64_t		ready_at;
	g2_limit	limit = held_back_by(session, now, &ready_at);

	if (limit != G2_N_LIMITS)
	{
		g2_fail(why, G2_E_LIMIT, "role \"%s\" is over its limit: %s is %lld", session->role->name,
				limit_names[limit], (long long) g2_session_limit(session, limit));
		g2_fail_detail(why, "The request waited for %u ms.", ms);
	}
	else
	{
		g2_fail(why, G2_E_LIMIT, "the request waited for longer than gpt2.queue_timeout (%u ms)",
				ms);
		g2_fail_detail(why, "%u requests are waiting.", q->n);
	}
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
		for (g2_session *session = role->ring; session; session = next_in_ring(session))
		{
			g2_group   *group = session->next_deadline <= now ? find_late_of(session, now) : NULL;

			if (group)
				return group;
			next = G2_MIN(next, session->next_deadline);
		}
	q->next_deadline = next;
	return NULL;
}

/* The first of a session that may not generate any more. */
static g2_group *
find_forbidden(const g2_queue *q, g2_error *why)
{
	for (const g2_role *role = q->people->roles; role; role = role->next)
		for (g2_session *session = role->ring; session; session = next_in_ring(session))
			if (is_forbidden(session, why))
				return session->queue;
	q->people->limits_set = false;
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
	else if (q->people->limits_set && (group = find_forbidden(q, why)))
		unlink_group(q, group);
	else if (now >= q->next_deadline && (group = find_late(q, now)))
	{
		fail_late(q, group, now, why);
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
