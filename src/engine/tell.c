/*
 * tell.c: what a client tells the engine: its session, what roles it belongs to, how far it has come,
 * that it is parked.  Nothing of it is answered.
 */
#include "engine_state.h"

/* A standby has been promoted, or follows one that was. */
static void
move_usage(g2_engine *engine, uint32_t timeline)
{
	if (!g2_usage_move(engine->usage, timeline))
		return;
	engine->save_at = g2_now_us();
	g2_engine_log(engine, G2_LEVEL_LOG, "the usage counters start at zero: the server is on "
				  "timeline %u now", timeline);
}

static bool
set_session(g2_client *client, const g2_session_message *m, g2_error *err)
{
	g2_session *session;

	move_usage(client->engine, m->timeline);
	if (client->session->role->oid != m->session_user)
	{
		if (!g2_session_open(&client->engine->people, client->pid, client->database,
							 m->session_user, &session, err))
			return false;
		session->parked = client->session->parked;
		g2_session_close(client->session);
		client->session = session;
	}
	g2_session_set(client->session, m);
	return true;
}

static bool
set_progress(g2_client *client, const void *payload, size_t len, g2_error *err)
{
	g2_reader	r = g2_read(payload, len);
	g2_progress_row row;

	g2_progress_row_get(&r, &row);
	if (r.failed)
		return g2_fail(err, G2_E_INTERNAL, "malformed message of type %d", G2_MSG_PROGRESS);
	row.pid = client->pid;
	row.session_user = client->session->role->oid;
	row.database = client->database;
	return g2_progress_set(&client->engine->progresses, client, &row, err);
}

static bool
set_parked(g2_client *client, const void *payload, size_t len, g2_error *err)
{
	g2_reader	r = g2_read(payload, len);
	uint32_t	parked = g2_get_u32(&r);

	if (r.failed || parked > 1)
		return g2_fail(err, G2_E_INTERNAL, "malformed message of type %d", G2_MSG_PARK);
	client->session->parked = parked == 1;
	return true;
}

bool
g2_engine_tell(g2_client *client, g2_message type, const void *payload, size_t len, g2_error *err)
{
	g2_session_message session;
	g2_access	access;

	if (type == G2_MSG_PROGRESS)
		return set_progress(client, payload, len, err);
	if (type == G2_MSG_PARK)
		return set_parked(client, payload, len, err);

	if (type == G2_MSG_SESSION && g2_session_message_decode(payload, len, &session))
		return set_session(client, &session, err);
	if (type == G2_MSG_ACCESS && g2_access_decode(payload, len, &access))
		return g2_session_grant(client->session, &access, err);
	return g2_fail(err, G2_E_INTERNAL, "malformed message of type %d", (int) type);
}
