/*
 * session.c: sessions, roles, and what roles may do.
 */
#include "session.h"

#include "model.h"
#include "text.h"

#define MINUTE_US 60000000.0

typedef struct g2_grant
{
	struct g2_grant *next;
	uint32_t	current_user;
	uint64_t	token;
	size_t		model_len;
	char		model[];
} g2_grant;

/* ---- roles ---- */

void
g2_people_init(g2_people *people)
{
	*people = (g2_people) {0};
	for (int i = 0; i < G2_N_LIMITS; i++)
		people->limits[i] = G2_UNLIMITED;
}

void
g2_people_close(g2_people *people)
{
	for (g2_role *role = people->roles, *next; role; role = next)
	{
		next = role->next;
		g2_free(role);
	}
	people->roles = NULL;
}

/* A minute's worth flows back in a minute: of the limit that is asked for, though not later than it
 * does under those that held when the tokens were spent. */
static double
minute_spent(const g2_role *role, double limit, int64_t now)
{
	if (now >= role->minute_ends)
		return 0;
	return G2_MAX(role->minute_spent - limit * (double) (now - role->minute_at) / MINUTE_US, 0);
}

/* A role that nobody speaks for and that owes nothing is like one that was never seen. */
static void
forget_roles(g2_people *people)
{
	int64_t		now = g2_now_us();

	for (g2_role **at = &people->roles; *at;)
	{
		g2_role    *role = *at;

		if (role->n_sessions > 0 || now < role->minute_ends)
		{
			at = &role->next;
			continue;
		}
		*at = role->next;
		g2_free(role);
	}
}

static g2_role *
get_role(g2_people *people, uint32_t oid, g2_error *err)
{
	g2_role    *role = people->roles;

	while (role && role->oid != oid)
		role = role->next;
	if (role)
		return role;
	forget_roles(people);
	role = g2_alloc(sizeof *role);
	if (!role)
	{
		g2_fail_memory(err, sizeof *role);
		return NULL;
	}
	role->oid = oid;
	role->next = people->roles;
	people->roles = role;
	return role;
}

int64_t
g2_session_limit(const g2_session *session, g2_limit limit)
{
	int64_t		own = session->own_limits[limit];

	return own == G2_LIMIT_UNSET ? session->people->limits[limit] : own;
}

void
g2_session_spend(g2_session *session, uint64_t tokens)
{
	g2_role    *role = session->role;
	int64_t		limit = g2_session_limit(session, G2_LIMIT_MINUTE),
				now;

	if (limit <= 0)
		return;
	now = g2_now_us();
	role->minute_spent = minute_spent(role, (double) limit, now) + (double) tokens;
	role->minute_at = now;
	role->minute_ends = G2_MAX(role->minute_ends, now) +
		(int64_t) ((double) tokens * MINUTE_US / (double) limit) + 1;
}

int64_t
g2_people_even_at(const g2_people *people)
{
	int64_t		even_at = 0;

	for (const g2_role *role = people->roles; role; role = role->next)
		even_at = G2_MAX(even_at, role->minute_ends);
	return even_at;
}

int64_t
g2_session_ready_at(const g2_session *session, uint64_t reserved, int64_t now)
{
	int64_t		limit = g2_session_limit(session, G2_LIMIT_MINUTE);
	double		left;
	int64_t		at;

	if (limit == G2_UNLIMITED)
		return now;
	if (limit == 0)
		return INT64_MAX;
	left = (double) limit - (double) reserved;
	if (left <= 0)
		return INT64_MAX;
	left -= minute_spent(session->role, (double) limit, now);
	if (left > 0)
		return now;
	/* One token more than nothing, so that a wake-up at that time finds some. */
	at = now + (int64_t) ((1 - left) * MINUTE_US / (double) limit) + 1;
	return G2_MIN(at, session->role->minute_ends);
}

/* The least service of those that wait counts, and not of all that run: one that asks for little
 * falls far behind, though it is given all that it wants.  Where nobody waits, all are given that,
 * and who comes starts beside the one that runs with the most service. */
void
g2_people_advance(g2_people *people)
{
	double		least = -1,
				most = 0;

	for (const g2_role *role = people->roles; role; role = role->next)
	{
		if (role->n_running > 0)
			most = G2_MAX(most, role->service);
		if (role->n_queued > 0 && !role->throttled && (least < 0 || role->service < least))
			least = role->service;
	}
	people->virtual_time = G2_MAX(people->virtual_time, least >= 0 ? least : most);
}

void
g2_role_begin(const g2_people *people, g2_role *role)
{
	role->service = G2_MAX(role->service, people->virtual_time);
}

/* ---- sessions ---- */

bool
g2_session_open(g2_people *people, uint32_t pid, uint32_t database, uint32_t user,
				g2_session **out, g2_error *err)
{
	g2_session *session = g2_alloc(sizeof *session);

	if (!session || !(session->role = get_role(people, user, err)))
	{
		g2_free(session);
		return g2_fail_memory(err, sizeof *session);
	}
	session->role->n_sessions++;
	session->people = people;
	for (int i = 0; i < G2_N_LIMITS; i++)
		session->own_limits[i] = G2_LIMIT_UNSET;
	session->pid = pid;
	session->database = database;
	session->next_deadline = INT64_MAX;
	*out = session;
	return true;
}

static void
forget_grants(g2_session *session)
{
	for (g2_grant *grant = session->grants, *next; grant; grant = next)
	{
		next = grant->next;
		g2_free(grant);
	}
	session->grants = NULL;
	session->n_grants = 0;
}

static void
free_if_unused(g2_session *session)
{
	if (!session->closed || session->n_requests > 0)
		return;
	session->role->n_sessions--;
	forget_grants(session);
	g2_free(session);
}

void
g2_session_close(g2_session *session)
{
	session->closed = true;
	free_if_unused(session);
}

void
g2_session_hold(g2_session *session)
{
	session->n_requests++;
	session->role->n_requests++;
}

void
g2_session_release(g2_session *session)
{
	session->n_requests--;
	session->role->n_requests--;
	free_if_unused(session);
}

void
g2_session_set(g2_session *session, const g2_session_message *m)
{
	g2_role    *role = session->role;
	size_t		len = G2_MIN(m->user_name.len, G2_ROLE_NAME_SIZE - 1);

	forget_grants(session);
	len = g2_utf8_valid_prefix(m->user_name.data, len);
	memcpy(role->name, m->user_name.data, len);
	role->name[len] = '\0';
	memcpy(session->own_limits, m->limits, sizeof session->own_limits);
	session->people->limits_set = true;
}

static g2_grant *
find_grant(const g2_session *session, g2_span model, uint32_t current_user)
{
	for (g2_grant *grant = session->grants; grant; grant = grant->next)
		if (grant->current_user == current_user && grant->model_len == model.len &&
			memcmp(grant->model, model.data, model.len) == 0)
			return grant;
	return NULL;
}

bool
g2_session_grant(g2_session *session, const g2_access *access, g2_error *err)
{
	size_t		bytes = sizeof(g2_grant) + access->model.len;
	g2_grant   *grant = find_grant(session, access->model, access->current_user);

	if (grant)
	{
		grant->token = access->token;
		return true;
	}
	if (!g2_model_name_check(access->model.data, access->model.len, err))
		return false;
	grant = g2_alloc(bytes);
	if (!grant)
		return g2_fail_memory(err, bytes);
	if (session->n_grants == G2_MAX_GRANTS)
		forget_grants(session);
	grant->current_user = access->current_user;
	grant->token = access->token;
	grant->model_len = access->model.len;
	memcpy(grant->model, access->model.data, access->model.len);
	grant->next = session->grants;
	session->grants = grant;
	session->n_grants++;
	return true;
}

bool
g2_session_may_use(const g2_session *session, g2_span model, uint32_t current_user,
				   uint64_t token)
{
	const g2_grant *grant = find_grant(session, model, current_user);

	return grant && grant->token == token;
}
