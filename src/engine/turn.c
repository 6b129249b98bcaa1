/*
 * turn.c: the helper threads' work on a session's requests: which are given to them when, and in which
 * order they go on afterwards.  All of it is on the engine's thread.
 */
#include "engine_state.h"

#define LONG_TEXT 65536			/* requests above it queue for a thread of their own */
#define SESSION_JOBS 4			/* of one session that helper threads have at once: thousands of rows
								 * of one do not stand before the only one of another */
#define ROLE_LONG 4				/* long ones of one role, likewise, however many sessions it has */

/* Long texts, and constraints that are to be compiled. */
static bool
takes_long(const g2_request *request)
{
	const g2_generate *m = &request->m.generate;

	if (request->payload.len > LONG_TEXT)
		return true;
	return request->type == G2_MSG_GENERATE && m->constraint_kind != G2_CONSTRAINT_NONE &&
		!g2_grammars_has(request->engine->grammars, request->model->pack, m->constraint_kind,
						 m->constraint);
}

/* ---- long requests of a role ---- */

static void
wait_for_role(g2_session *session)
{
	g2_session **at = &session->role->waiting;

	while (*at)
		at = &(*at)->next_waiting;
	*at = session;
	session->next_waiting = NULL;
	session->waits = true;
}

static void
stop_waiting(g2_session *session)
{
	g2_session **at = &session->role->waiting;

	while (*at != session)
		at = &(*at)->next_waiting;
	*at = session->next_waiting;
	session->waits = false;
}

/* ---- what is given to the helper threads ---- */

/* Hands over the session's next request; false: it is long, and its role has its share of those. */
static bool
start_next(g2_session *session)
{
	g2_request *request = session->work_next;
	const g2_engine *engine = request->engine;

	request->is_long = takes_long(request);
	if (request->is_long && session->role->n_long == ROLE_LONG)
		return false;
	session->role->n_long += request->is_long;
	session->work_next = request->work_after;
	session->n_working++;
	request->phase = G2_PHASE_WORK;
	g2_helper_submit(request->is_long ? engine->long_helper : engine->helper, &request->job);
	return true;
}

/* Hands over what may go of the session's next requests. */
static void
start_work(g2_session *session)
{
	while (session->work_next && session->n_working < SESSION_JOBS && !session->waits)
		if (!start_next(session))
			wait_for_role(session);
}

/* A long request of the role has been worked on: those that wait are next, and go behind the others
 * with what they have besides.  What was long may be so no more, as its constraint is compiled. */
static void
end_long(g2_role *role)
{
	role->n_long--;
	while (role->waiting && role->n_long < ROLE_LONG)
	{
		g2_session *session = role->waiting;

		stop_waiting(session);
		start_work(session);
	}
}

void
g2_request_queue_work(g2_request *request)
{
	g2_session *session = request->session;

	request->phase = G2_PHASE_TURN;
	request->work_after = NULL;
	if (session->work)
		*session->work_last = request;
	else
		session->work = request;
	session->work_last = &request->work_after;
	if (!session->work_next)
		session->work_next = request;
	start_work(session);
}

void
g2_request_withdraw(g2_request *request)
{
	g2_session *session = request->session;
	g2_request **at = &session->work;

	while (*at != request)
		at = &(*at)->work_after;
	*at = request->work_after;
	if (!*at)
		session->work_last = at;
	if (session->work_next == request)
		session->work_next = request->work_after;
	if (session->waits && !session->work_next)
		stop_waiting(session);
	g2_request_count(request, &(g2_usage_delta) {.calls = 1, .cancelled = 1});
	g2_request_free(request);
}

/* Helper threads end in any order.  A session's requests go on in the order in which they came: the
 * first is what it waits for, and under a limit of the role's the others would run before it. */
void
g2_request_worked(g2_job *job)
{
	g2_request *request = (g2_request *) job;
	g2_session *session = request->session;

	request->phase = G2_PHASE_READY;
	g2_session_hold(session);
	if (request->is_long)
		end_long(session->role);
	while ((request = session->work) && request->phase == G2_PHASE_READY)
	{
		session->work = request->work_after;
		session->n_working--;
		g2_request_go_on(request);
	}
	start_work(session);
	g2_session_release(session);
}
