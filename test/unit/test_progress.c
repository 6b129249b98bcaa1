/*
 * test_progress.c: what clients tell of their work and of nobody waiting, and what becomes of it.
 */
#include "engine_watch.h"

#include "engine_state.h"

WATCH(progress, g2_progress_row, g2_progress_row_get, G2_MSG_PROGRESSES, G2_MSG_PROGRESS_LIST)

static bool
tell_bytes(reply *r, g2_message type, const void *data, size_t len)
{
	g2_error	err;

	return g2_engine_tell(client_of(r), type, data, len, &err);
}

static void
tell_progress(reply *r, const g2_progress_row *row)
{
	g2_writer	w = {.grow = realloc};

	g2_progress_row_encode(&w, row);
	assert_true(tell_bytes(r, G2_MSG_PROGRESS, w.data, w.len));
	free(w.data);
}

static void
test_progress(void **state)
{
	static g2_progress_row rows[MAX_ROWS];
	reply		r[2] = {{0}};
	g2_progress_row row = {
		.number = 7, .pid = 1, .session_user = 1, .database = 1, .command = g2_span_of("UPDATE"),
		.relation = 99, .total = 1000, .done = 3, .failed = 1, .tokens = 40, .started_at = 123,
	};

	(void) state;
	open_engine();
	assert_int_equal(watch_progress(rows), 0);
	attach_as(&r[0], &somebody);
	attach_as(&r[1], &another);
	tell_progress(&r[0], &row);
	row.done = 5;
	tell_progress(&r[0], &row);
	row.number = 8;
	tell_progress(&r[1], &row);
	assert_int_equal(watch_progress(rows), 2);
	/* Who it is, the engine knows better. */
	assert_int_equal(rows[0].pid, somebody.pid);
	assert_int_equal(rows[0].session_user, somebody.session_user);
	assert_int_equal(rows[0].database, somebody.database);
	assert_int_equal(rows[1].pid, another.pid);
	assert_true(is_text(rows[0].command, "UPDATE"));
	assert_int_equal(rows[0].done, 5);
	assert_int_equal(rows[0].total, 1000);
	assert_int_equal(rows[0].relation, 99);
	assert_int_equal(rows[0].started_at, 123);
	/* The end of another's, or of none, ends nothing. */
	row.ended = 1;
	tell_progress(&r[0], &row);
	assert_int_equal(watch_progress(rows), 2);
	row.number = 7;
	tell_progress(&r[0], &row);
	assert_int_equal(watch_progress(rows), 1);
	leave(&r[1]);
	assert_int_equal(watch_progress(rows), 0);
	leave(&r[0]);
	close_engine();
}

/* A client's memory in the engine has an end. */
static void
test_bounds(void **state)
{
	static g2_progress_row rows[MAX_ROWS];
	char		longer[2 * G2_MAX_COMMAND];
	reply		r = {0};
	g2_progress_row row = {.total = -1};

	(void) state;
	open_engine();
	attach_as(&r, &somebody);
	memset(longer, 'x', sizeof longer);
	row.command = (g2_span) {longer, sizeof longer};
	for (row.number = 1; row.number <= 2 * G2_MAX_PROGRESSES; row.number++)
		tell_progress(&r, &row);
	assert_int_equal(watch_progress(rows), G2_MAX_PROGRESSES);
	assert_int_equal(rows[0].command.len, G2_MAX_COMMAND);
	assert_int_equal(rows[0].total, -1);
	leave(&r);
	close_engine();
}

static void
test_malformed(void **state)
{
	uint32_t	value = 2;
	reply		r = {0};

	(void) state;
	open_engine();
	attach_as(&r, &somebody);
	assert_false(tell_bytes(&r, G2_MSG_PROGRESS, &value, 3));
	value = 1000;
	assert_false(tell_bytes(&r, G2_MSG_PROGRESS, &value, sizeof value));
	assert_false(tell_bytes(&r, G2_MSG_PARK, &value, sizeof value));
	assert_false(tell_bytes(&r, G2_MSG_PARK, &value, 2));
	leave(&r);
	close_engine();
}

/* PARK reaches the session, and another user's that the client speaks for from then on. */
static void
test_park(void **state)
{
	uint32_t	park = 1;
	reply		r = {0};
	g2_client  *client;

	(void) state;
	open_engine();
	attach_as(&r, &somebody);
	client = client_of(&r);
	assert_false(client->session->parked);
	assert_true(tell_bytes(&r, G2_MSG_PARK, &park, sizeof park));
	assert_true(client->session->parked);
	say_session(&r, 77, "other", UNSET, UNSET, UNSET);
	assert_int_equal(client->session->role->oid, 77);
	assert_true(client->session->parked);
	park = 0;
	assert_true(tell_bytes(&r, G2_MSG_PARK, &park, sizeof park));
	assert_false(client->session->parked);
	leave(&r);
	close_engine();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_progress), cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_malformed), cmocka_unit_test(test_park),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
