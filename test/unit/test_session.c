/*
 * test_session.c: what is remembered of roles and sessions, and what is forgotten.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "session.h"

static g2_people people;

static g2_session *
open_session(uint32_t user)
{
	g2_session *session;
	g2_error	err;

	assert_true(g2_session_open(&people, 1, 1, user, &session, &err));
	return session;
}

static uint32_t
count_roles(void)
{
	uint32_t	n = 0;

	for (const g2_role *role = people.roles; role; role = role->next)
		n++;
	return n;
}

/* A role without sessions stays while its limit per minute holds it to something, and no longer:
 * neither does it get its tokens back by a new connection, nor do roles pile up. */
static void
test_forgotten_roles(void **state)
{
	g2_session *session;

	(void) state;
	g2_people_init(&people);
	people.limits[G2_LIMIT_MINUTE] = 100;
	session = open_session(1);
	g2_session_spend(session, 300);
	g2_session_close(session);
	g2_session_close(open_session(2));
	assert_int_equal(count_roles(), 2);
	session = open_session(1);
	assert_true(g2_session_ready_at(session, g2_now_us()) > g2_now_us());
	/* It owes 200 tokens: two minutes later it may go on.  It is like a new one when it could have
	 * no smaller limit under which it would owe some. */
	session->role->minute_at -= 150000000;
	assert_true(g2_session_ready_at(session, g2_now_us()) <= g2_now_us());
	g2_session_close(session);
	g2_session_close(open_session(3));
	assert_int_equal(count_roles(), 2);
	people.roles->next->minute_at -= 300 * INT64_C(60000000);
	g2_session_close(open_session(4));
	assert_int_equal(count_roles(), 1);
	for (uint32_t i = 0; i < 100; i++)
		g2_session_close(open_session(100 + i));
	assert_int_equal(count_roles(), 1);
	g2_people_close(&people);
}

/* What stands in a model's file of roles may change often: only the last state is kept. */
static void
test_grants(void **state)
{
	const g2_span model = {"m", 1},
				other = {"n", 1};
	g2_session *session;
	g2_error	err;

	(void) state;
	g2_people_init(&people);
	session = open_session(1);
	for (uint64_t token = 1; token <= 3; token++)
		assert_true(g2_session_grant(session, &(g2_access) {
			.model = model, .current_user = 5, .token = token,
		}, &err));
	assert_true(g2_session_may_use(session, model, 5, 3));
	assert_false(g2_session_may_use(session, model, 5, 2));
	assert_false(g2_session_may_use(session, model, 6, 3));
	assert_false(g2_session_may_use(session, other, 5, 3));
	assert_true(g2_session_grant(session, &(g2_access) {
		.model = other, .current_user = 5, .token = 1,
	}, &err));
	assert_true(g2_session_may_use(session, model, 5, 3));
	assert_true(g2_session_may_use(session, other, 5, 1));
	g2_session_close(session);
	g2_people_close(&people);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forgotten_roles), cmocka_unit_test(test_grants),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
