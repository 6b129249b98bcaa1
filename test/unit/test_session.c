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

static void
pass_time(g2_role *role, int64_t seconds)
{
	role->minute_at -= seconds * 1000000;
	role->minute_ends -= seconds * 1000000;
}

/* What was used under a high limit is not paid back at the pace of a low one, which another session
 * of the role has, or which has been set since: that would take hours. */
static void
test_lower_limit(void **state)
{
	int64_t		now;
	g2_session *high,
			   *low;

	(void) state;
	g2_people_init(&people);
	high = open_session(1);
	low = open_session(1);
	high->own_limits[G2_LIMIT_MINUTE] = 1000000;
	low->own_limits[G2_LIMIT_MINUTE] = 1000;
	g2_session_spend(high, 300000);
	g2_session_spend(high, 200000);
	now = g2_now_us();
	assert_true(g2_session_ready_at(high, 0, now) <= now);
	assert_true(g2_session_ready_at(low, 0, now) > now + 20000000);
	assert_true(g2_session_ready_at(low, 0, now) <= now + 30001000);
	pass_time(low->role, 31);
	assert_true(g2_session_ready_at(low, 0, now) <= now);
	/* What was used under the low one is. */
	g2_session_spend(low, 3000);
	now = g2_now_us();
	assert_true(g2_session_ready_at(low, 0, now) > now + 110000000);
	assert_true(g2_session_ready_at(high, 0, now) <= now);
	g2_session_close(high);
	g2_session_close(low);
	g2_people_close(&people);
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
	assert_true(g2_session_ready_at(session, 0, g2_now_us()) > g2_now_us());
	/* It owes 200 tokens: two minutes later it may go on.  After three it is like a new one. */
	pass_time(session->role, 150);
	assert_true(g2_session_ready_at(session, 0, g2_now_us()) <= g2_now_us());
	g2_session_close(session);
	g2_session_close(open_session(3));
	assert_int_equal(count_roles(), 2);
	pass_time(people.roles->next, 31);
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
		cmocka_unit_test(test_lower_limit), cmocka_unit_test(test_forgotten_roles),
		cmocka_unit_test(test_grants),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
