/*
 * session.h: who asks: sessions (one per connection) and the roles that they belong to.
 *
 * A role carries what is counted and limited per role: the service that it has had of the device,
 * the sequences that it runs, the tokens of the last minute.  Its sessions with queued groups form
 * a ring, so that the scheduler takes them in turn; a session's own groups wait in order.
 *
 * Fairness is that of a virtual token counter (Sheng et al., "Fairness in Serving Large Language
 * Models", OSDI 2024): `service` grows by the device time that a role's rows have cost, the role
 * with the least is served next.  One that has asked for nothing, or was held back by a limit,
 * starts again at the least of those that wait, so that it has no credit for that time.
 *
 * The engine's thread owns all of it.  Roles outlive their sessions until their limit per minute
 * has given back all that they have used of it.
 */
#ifndef G2_SESSION_H
#define G2_SESSION_H

#include "protocol.h"
#include "util.h"

#define G2_ROLE_NAME_SIZE 64		/* bytes with the NUL (PostgreSQL's NAMEDATALEN) */

typedef struct g2_group g2_group;
typedef struct g2_session g2_session;
typedef struct g2_people g2_people;

typedef struct g2_role
{
	struct g2_role *next;
	uint32_t	oid;
	char		name[G2_ROLE_NAME_SIZE];
	uint32_t	n_sessions;
	uint32_t	n_requests;		/* of these sessions, not freed yet */
	uint32_t	n_running;		/* admitted sequences */
	uint32_t	n_texts;		/* of them, as limits count (g2_group_texts) */
	uint32_t	n_queued;		/* groups */
	double		service;		/* microseconds of the device, weighted by rows; virtual */
	double		minute_spent;	/* tokens that have not flowed back, at minute_at */
	int64_t		minute_at;		/* monotonic microseconds; 0 = never counted */
	int64_t		minute_ends;	/* likewise: all have, under the limits that held for them */
	bool		throttled;		/* each of its sessions with queued groups waits for a limit, or is
								 * parked */
	g2_session *ring;			/* the next session with queued groups; linked in a circle */
	uint32_t	n_long;			/* requests that the helper thread for long ones has */
	g2_session *waiting;		/* sessions whose next request is long, and one too many; linked by
								 * next_waiting */
} g2_role;

struct g2_session
{
	g2_people  *people;
	g2_role    *role;
	uint32_t	pid;			/* of the backend */
	uint32_t	database;		/* OID */
	uint32_t	n_requests;		/* that are not freed yet: the session outlives them */
	struct g2_request *work;	/* of these, those whose work is not done, or that of one before them
								 * (turn.c); linked by work_after */
	struct g2_request **work_last;
	struct g2_request *work_next;	/* the first of them that no helper thread was given */
	uint32_t	n_working;		/* those before it */
	bool		waits;			/* it is in its role's list */
	g2_session *next_waiting;
	bool		closed;
	bool		parked;			/* nobody waits for its requests: they give way to all others */
	int64_t		own_limits[G2_N_LIMITS];	/* as the last SESSION said */
	g2_group   *queue;			/* its groups that wait, linked by group->next */
	g2_group   *queue_last;
	int64_t		next_deadline;	/* none of these has waited for too long before (queue.h) */
	g2_session *ring_prev;		/* NULL: not in the ring */
	g2_session *ring_next;
	struct g2_grant *grants;	/* models that it may use besides those for everybody */
	uint32_t	n_grants;
};

/* All roles. */
struct g2_people
{
	g2_role    *roles;
	int64_t		limits[G2_N_LIMITS];	/* of sessions for which nothing is set */
	bool		limits_set;		/* some limit, since the queue has looked last */
	double		virtual_time;	/* where a role starts that begins to wait; never falls */
};

extern void g2_people_init(g2_people *people);
extern void g2_people_close(g2_people *people);

extern bool g2_session_open(g2_people *people, uint32_t pid, uint32_t database, uint32_t user,
							g2_session **out, g2_error *err);

/* Freed with its last request, or now. */
extern void g2_session_close(g2_session *session);
extern void g2_session_hold(g2_session *session);
extern void g2_session_release(g2_session *session);

/* What SESSION says, of the same user; all access is forgotten.  (Another user is another session:
 * what runs or waits is its old role's.) */
extern void g2_session_set(g2_session *session, const g2_session_message *m);

#define G2_MAX_GRANTS 1024		/* of a session: one more, and it begins anew, with those asked again */

/* What ACCESS says, which replaces what it said of the same user and model; and whether it has
 * said so. */
extern bool g2_session_grant(g2_session *session, const g2_access *access, g2_error *err);
extern bool g2_session_may_use(const g2_session *session, g2_span model, uint32_t current_user,
							   uint64_t token);

/* The limit that counts for the session: its own, else the setting's.  Sessions of one role may
 * have other limits, by database or by SET; what is counted against them is the role's. */
extern int64_t g2_session_limit(const g2_session *session, g2_limit limit);

/* Tokens were computed. */
extern void g2_session_spend(g2_session *session, uint64_t tokens);

/* When (monotonic microseconds) the session may spend tokens again: now or earlier = it may;
 * INT64_MAX = never. */
extern int64_t g2_session_ready_at(const g2_session *session, int64_t now);

/* When (monotonic microseconds) all roles have got back all that they have spent: who forgets them
 * before gives it to them early. */
extern int64_t g2_people_even_at(const g2_people *people);

/* The role begins to wait for the device: no credit for the time before. */
extern void g2_role_begin(const g2_people *people, g2_role *role);

/* The services of roles have grown. */
extern void g2_people_advance(g2_people *people);

#endif							/* G2_SESSION_H */
