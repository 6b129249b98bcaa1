/*
 * test_sessions.c: who asks: SESSION and ACCESS, good and malformed ones, models for some roles
 * only, which others do not make it load, sessions that come, change their user and leave with
 * requests in flight.
 */
#include "engine_watch.h"

#include "engine_state.h"

/* Another user of the same session: its requests are that role's, those before it stay. */
static void
test_other_user(void **state)
{
	g2_request_row rows[MAX_ROWS];
	reply		r[4] = {0};
	g2_generate all = of_ids(10, 1),
				one = all;

	(void) state;
	open_engine();
	all.n = 200;
	all.max_new = one.max_new = 110;
	attach_as(r, &somebody);
	say_session(r, 10, "eva", UNSET, 200, UNSET);
	send_generate(r, 0, &all);
	run_to_state(somebody.pid, G2_STATE_DECODE);
	send_generate(r, 1, &one);
	say_session(r, 20, "adam", UNSET, 1, UNSET);
	send_generate(r, 2, &one);
	assert_int_equal(watch_requests(rows), 202);
	assert_int_equal(rows[199].session_user, 10);
	assert_int_equal(rows[200].session_user, 10);
	assert_int_equal(rows[201].session_user, 20);
	assert_int_equal(rows[201].pid, somebody.pid);
	assert_int_equal(rows[201].database, somebody.database);
	/* Eva's second waits for her first, adam's for nothing. */
	run_until(&r[2]);
	assert_int_equal(r[2].type, G2_MSG_COMPLETIONS);
	all.n = 2;
	send_generate(r, 3, &all);
	run_until(&r[3]);
	expect_error(&r[3], "53400", "role \"adam\"");
	say_session(r, 10, "eva", UNSET, UNSET, UNSET);
	run_idle();
	assert_true(r[2].order < r[1].order);
	same_answer(&r[1], &r[2]);
	assert_int_equal(usage_of(10, 5, "bare").calls, 2);
	assert_int_equal(usage_of(20, 5, "bare").calls, 2);
	free_replies(r, 4);
	close_engine();
}

/* The first of a session's requests is what it waits for: those after it, whose text is sooner done,
 * do not take the only sequence that its role may have. */
static void
test_order(void **state)
{
	const size_t long_len = 4 << 20;
	char	   *long_text = malloc(long_len);
	reply		r[6] = {0};
	g2_generate m;
	uint32_t	before;

	(void) state;
	assert_non_null(long_text);
	memset(long_text, 'x', long_len);
	open_engine();
	attach_as(r, &somebody);
	say_session(r, 10, "eva", UNSET, 1, UNSET);
	m = generate("tiny");
	send_generate(r, 0, &m);	/* and the model is loaded */
	run_until(r);
	free_replies(r, 1);
	before = n_replies;
	m.max_new = 5;
	m.flags |= G2_GEN_TRUNCATE_LEFT;
	m.prompt = (g2_span) {long_text, (uint32_t) long_len};
	for (uint32_t i = 0; i < G2_LENGTH(r); i++)
	{
		send_generate(r, i, &m);
		m.prompt.len = 5;
	}
	/* One that waits for its turn is withdrawn, one whose turn it is and one that is being
	 * worked on too. */
	assert_true(g2_engine_cancel(client_of(r), 4));
	assert_true(g2_engine_cancel(client_of(r), 2));
	run_idle();
	for (uint32_t i = 0; i < G2_LENGTH(r); i++)
		assert_int_equal(r[i].type, i == 2 || i == 4 ? 0 : G2_MSG_COMPLETIONS);
	assert_int_equal(r[0].order, before + 1);
	assert_int_equal(r[1].order, before + 2);
	assert_int_equal(r[3].order, before + 3);
	assert_int_equal(r[5].order, before + 4);
	free_replies(r, G2_LENGTH(r));
	/* And all of them, in any state. */
	for (uint32_t i = 0; i < G2_LENGTH(r); i++)
	{
		m.prompt.len = i == 1 ? (uint32_t) long_len : 5;
		send_generate(r, i, &m);
	}
	leave(r);
	run_idle();
	assert_int_equal(n_replies, before + 4);
	free(long_text);
	close_engine();
}

/* ---- models for some roles only ---- */

static void
say_access(reply *r, const char *model, uint32_t user, uint64_t token)
{
	g2_writer	w = {.grow = grow};
	g2_error	err;

	g2_access_encode(&w, &(g2_access) {g2_span_of(model), user, token});
	EXPECT_OK(g2_engine_tell(client_of(r), G2_MSG_ACCESS, w.data, w.len, &err), err);
	free(w.data);
}

/* The type of the answer to a request of this current user; *roles: what ROLES says. */
static g2_message
ask_as(reply *r, const char *model, uint32_t user, g2_roles *roles)
{
	g2_generate m = generate("hello");
	g2_message	type;

	m.model = g2_span_of(model);
	m.current_user = user;
	free_replies(r, 1);
	send_generate(r, 0, &m);
	run_until(r);
	type = r->type;
	if (type == G2_MSG_ROLES)
		assert_true(g2_roles_decode(r->data, r->len, roles));
	return type;
}

static void
restrict_model(const char *name, const char *json)
{
	fixture_synth(&places, name, &tiny_model);
	fixture_tokenizer(fixture_folder(&places, name));
	tb_text(fixture_folder(&places, name), "gpt2.json", json);
}

static void
test_roles(void **state)
{
	reply		r[2] = {0};
	static g2_roles roles,
				ignored;

	(void) state;
	open_engine();
	assert_int_equal(ask_as(r, "closed", 7, &roles), G2_MSG_ROLES);
	assert_int_equal(roles.n, 2);
	assert_true(is_text(roles.roles[0], "hr") && is_text(roles.roles[1], "finance"));
	assert_true(roles.token != 0);
	/* Access to something else is none. */
	say_access(r, "closed", 7, roles.token + 1);
	say_access(r, "closed", 8, roles.token);
	say_access(r, "close", 7, roles.token);
	say_access(r, "closed2", 7, roles.token);
	say_access(&r[1], "closed", 7, roles.token);
	assert_int_equal(ask_as(r, "closed", 7, &ignored), G2_MSG_ROLES);
	say_access(r, "closed", 7, roles.token);
	assert_int_equal(ask_as(r, "closed", 7, &ignored), G2_MSG_COMPLETIONS);
	assert_int_equal(ask_as(r, "closed", 7, &ignored), G2_MSG_COMPLETIONS);
	/* What was said of another user is that one's. */
	assert_int_equal(ask_as(r, "closed", 8, &ignored), G2_MSG_COMPLETIONS);
	assert_int_equal(ask_as(r, "closed", 9, &ignored), G2_MSG_ROLES);
	assert_int_equal(ask_as(&r[1], "closed", 8, &ignored), G2_MSG_ROLES);
	assert_int_equal(ask_as(&r[1], "closed", 7, &ignored), G2_MSG_COMPLETIONS);
	/* SESSION forgets it, for whichever user. */
	say_session(r, 0, "eva", UNSET, UNSET, UNSET);
	assert_int_equal(ask_as(r, "closed", 7, &ignored), G2_MSG_ROLES);
	assert_int_equal(ask_as(r, "closed", 8, &ignored), G2_MSG_ROLES);
	say_access(r, "closed", 7, roles.token);
	say_session(r, 20, "adam", UNSET, UNSET, UNSET);
	assert_int_equal(ask_as(r, "closed", 7, &ignored), G2_MSG_ROLES);
	assert_int_equal(ask_as(&r[1], "closed", 7, &ignored), G2_MSG_COMPLETIONS);
	assert_int_equal(ask_as(r, "tiny", 7, &ignored), G2_MSG_COMPLETIONS);
	free_replies(r, 2);
	close_engine();
}

/* All that reads the model asks for access; loading it does not, as it shows nothing. */
static void
test_all_requests(void **state)
{
	const uint32_t id = 'x';
	reply		r[4] = {0};
	static g2_roles roles,
				none;
	g2_writer	w = {.grow = grow};

	(void) state;
	open_engine();
	for (int round = 0; round < 2; round++)
	{
		send_tokenize(r, 0, "closed", "text", 4, false);
		w.len = 0;
		g2_detokenize_encode(&w, g2_span_of("closed"), 1, &id, 0);
		g2_engine_submit(client_of(r), 1, G2_MSG_DETOKENIZE, w.data, w.len);
		send_load(r, 2, "closed", "", "");
		run_idle();
		assert_int_equal(r[0].type, round ? G2_MSG_TOKENS : G2_MSG_ROLES);
		assert_int_equal(r[1].type, round ? G2_MSG_TEXT : G2_MSG_ROLES);
		assert_int_equal(r[2].type, G2_MSG_DONE);
		if (round == 0)
			assert_true(g2_roles_decode(r[0].data, r[0].len, &roles));
		say_access(r, "closed", 0, roles.token);
		free_replies(r, 3);
	}
	/* For nobody but superusers: the backend knows who they are. */
	assert_int_equal(ask_as(&r[3], "secret", 7, &none), G2_MSG_ROLES);
	assert_int_equal(none.n, 0);
	assert_true(none.token != 0 && none.token != roles.token);
	say_access(&r[3], "secret", 7, none.token);
	assert_int_equal(ask_as(&r[3], "secret", 7, &none), G2_MSG_COMPLETIONS);
	free(w.data);
	free_replies(r, 4);
	close_engine();
}

static const g2_model *
find_model(const char *name)
{
	for (const g2_model *m = g2_registry_models(engine->registry); m; m = m->next)
		if (strcmp(m->name, name) == 0)
			return m;
	return NULL;
}

/* Who may not use a model does not make it be loaded, whoever else waits for it. */
static void
test_no_load(void **state)
{
	g2_settings s = settings();
	reply		r[3] = {0};
	static g2_roles roles,
				ignored;

	(void) state;
	open_engine();
	for (int i = 0; i < 2; i++)
		assert_int_equal(ask_as(r, "closed", 7, &roles), G2_MSG_ROLES);
	run_idle();
	assert_null(find_model("closed"));
	assert_int_equal(n_loads, 0);
	/* A load that somebody has asked for goes on; others are told at once or when it is known. */
	say_access(r, "closed", 7, roles.token);
	for (uint32_t user = 7; user < 10; user++)
	{
		g2_generate m = generate("hello");

		m.model = g2_span_of("closed");
		m.current_user = user;
		send_generate(user == 7 ? r : &r[1], user == 9, &m);
	}
	run_until(&r[1]);
	run_until(&r[2]);
	assert_int_equal(r[1].type, G2_MSG_ROLES);
	assert_int_equal(r[2].type, G2_MSG_ROLES);
	run_idle();
	assert_int_equal(r[0].type, G2_MSG_COMPLETIONS);
	assert_int_equal(n_loads, 1);
	free_replies(r, 3);
	close_engine();
	/* Models to be preloaded are loaded in any case, and those that LOAD asks for. */
	s.n_preload = 1;
	s.preload[0] = g2_span_of("closed");
	open_with(&s);
	assert_int_equal(ask_as(r, "closed", 7, &ignored), G2_MSG_ROLES);
	send_load(&r[1], 0, "secret", "", "");
	run_until(&r[1]);
	assert_int_equal(r[1].type, G2_MSG_DONE);
	assert_int_equal(find_model("closed")->state, G2_MODEL_LOADED);
	assert_int_equal(n_loads, 2);
	free_replies(r, 2);
	close_engine();
}

/* Other roles in gpt2.json: what was granted before counts no more, not even for kept results. */
static void
test_changed_roles(void **state)
{
	g2_settings s = settings();
	reply		r = {0};
	static g2_roles roles;
	g2_generate m = generate("hello");

	(void) state;
	s.result_cache_size = 1 << 20;
	open_with(&s);
	m.model = g2_span_of("closed");
	m.flags |= G2_GEN_SEEDED;
	assert_int_equal(ask_as(&r, "closed", 0, &roles), G2_MSG_ROLES);
	say_access(&r, "closed", 0, roles.token);
	for (uint32_t i = 0; i < 2; i++)
	{
		free_replies(&r, 1);
		send_generate(&r, 0, &m);
		run_until(&r);
		assert_int_equal(r.type, G2_MSG_COMPLETIONS);
		assert_int_equal(head_of(&r).marks, i);
	}
	tb_text(fixture_folder(&places, "closed"), "gpt2.json", "{\"roles\": [\"hr\"]}");
	g2_registry_models(engine->registry)->looked_at -= G2_LOOK_US;
	free_replies(&r, 1);
	send_generate(&r, 0, &m);
	run_until(&r);
	assert_int_equal(r.type, G2_MSG_ROLES);
	assert_true(g2_roles_decode(r.data, r.len, &roles));
	assert_int_equal(roles.n, 1);
	free_replies(&r, 1);
	close_engine();
}

/* However many users a session has been, what it keeps of them is bounded. */
static void
test_many_grants(void **state)
{
	reply		r = {0};
	static g2_roles roles;
	g2_message	type;

	(void) state;
	open_engine();
	assert_int_equal(ask_as(&r, "secret", 1, &roles), G2_MSG_ROLES);
	for (uint32_t user = 1; user <= G2_MAX_GRANTS; user++)
	{
		say_access(&r, "secret", user, roles.token);
		say_access(&r, "secret", user, roles.token);	/* once is enough */
	}
	assert_int_equal(ask_as(&r, "secret", 1, &roles), G2_MSG_COMPLETIONS);
	say_access(&r, "secret", G2_MAX_GRANTS + 1, roles.token);
	type = ask_as(&r, "secret", G2_MAX_GRANTS + 1, &roles);
	assert_int_equal(type, G2_MSG_COMPLETIONS);
	/* Then it asks again. */
	assert_int_equal(ask_as(&r, "secret", 1, &roles), G2_MSG_ROLES);
	free_replies(&r, 1);
	close_engine();
}

/* ---- messages that are none ---- */

static void
expect_refused(reply *r, g2_message type, const void *data, size_t len)
{
	g2_error	err = {.code = G2_OK};

	if (g2_engine_tell(client_of(r), type, data, len, &err))
		fail_msg("a message of type %d and %zu bytes is taken", (int) type, len);
	assert_true(err.code != G2_OK && err.message[0]);
}

/* The client is to be detached; until then it is who it was. */
static void
test_malformed(void **state)
{
	g2_session_message session = {
		.session_user = 20, .user_name = g2_span_of("adam"), .limits = {0, 0, -3},
	};
	g2_writer	w = {.grow = grow};
	reply		r = {0};
	static g2_roles roles;
	char		name[300];

	(void) state;
	open_engine();
	say_session(&r, 10, "eva", UNSET, UNSET, UNSET);
	assert_int_equal(ask_as(&r, "secret", 7, &roles), G2_MSG_ROLES);
	say_access(&r, "secret", 7, roles.token);
	g2_session_message_encode(&w, &session);
	expect_refused(&r, G2_MSG_SESSION, w.data, w.len);
	for (size_t n = 5; n < 12; n++)
		expect_refused(&r, G2_MSG_SESSION, w.data, n);
	expect_refused(&r, G2_MSG_SESSION, "\1\0\0\0\377\377\377\377", 8);
	expect_refused(&r, G2_MSG_ACCESS, "\377\377\377\377", 4);
	expect_refused(&r, G2_MSG_ACCESS, "abc", 3);
	expect_refused(&r, G2_MSG_GENERATE, "", 0);
	/* Access to what is no model's name. */
	w.len = 0;
	g2_access_encode(&w, &(g2_access) {g2_span_of("../secret"), 7, 1});
	expect_refused(&r, G2_MSG_ACCESS, w.data, w.len);
	expect_refused(&r, G2_MSG_ACCESS, "", 0);
	memset(name, 'x', sizeof name);
	w.len = 0;
	g2_access_encode(&w, &(g2_access) {{name, sizeof name}, 7, 1});
	expect_refused(&r, G2_MSG_ACCESS, w.data, w.len);
	assert_int_equal(ask_as(&r, "secret", 7, &roles), G2_MSG_COMPLETIONS);
	/* One call: that which was answered with ROLES has done nothing. */
	assert_int_equal(usage_of(10, 0, "secret").calls, 1);
	free(w.data);
	free_replies(&r, 1);
	close_engine();
}

/* A name as long as it likes, or with half a character at its end, is for messages only. */
static void
test_names(void **state)
{
	char		name[5000];
	reply		r = {0};
	g2_generate m = generate("hello");
	g2_error_message error;

	(void) state;
	open_engine();
	memset(name, 'x', sizeof name - 1);
	name[sizeof name - 1] = '\0';
	memcpy(name + G2_ROLE_NAME_SIZE - 2, "\xC3\xA9", 2);
	say_session(&r, 10, name, UNSET, UNSET, 0);
	send_generate(&r, 0, &m);
	run_until(&r);
	expect_error(&r, "53400", "role \"xxxx");
	assert_true(g2_error_decode(r.data, r.len, &error));
	assert_int_equal(g2_utf8_valid_prefix(error.message.data, error.message.len),
					 error.message.len);
	free_replies(&r, 1);
	close_engine();
}

/* Every allocation fails in turn: it was told, or it is who it was. */
static void
test_no_memory(void **state)
{
	g2_writer	w[2] = {{.grow = grow}, {.grow = grow}};
	static const g2_message types[] = {G2_MSG_SESSION, G2_MSG_ACCESS};

	(void) state;
	g2_session_message_encode(&w[0], &(g2_session_message) {
		.session_user = 20, .user_name = g2_span_of("adam"), .limits = {UNSET, UNSET, 0},
	});
	g2_access_encode(&w[1], &(g2_access) {g2_span_of("secret"), 7, 1});
	for (size_t i = 0; i < 2; i++)
	{
		bool		ok = false;

		for (long n = 1; !ok; n++)
		{
			reply		r = {0};
			g2_error	err;
			g2_generate m = generate("hello");

			open_engine();
			say_session(&r, 10, "eva", UNSET, UNSET, UNSET);
			g2_alloc_fail_at(n);
			ok = g2_engine_tell(client_of(&r), types[i], w[i].data, w[i].len, &err);
			g2_alloc_fail_at(0);
			if (!ok)
				assert_int_equal(err.code, G2_E_MEMORY);
			send_generate(&r, 0, &m);
			run_until(&r);
			if (ok && i == 0)
				expect_error(&r, "53400", "role \"adam\"");
			else
				assert_int_equal(r.type, G2_MSG_COMPLETIONS);
			free_replies(&r, 1);
			close_engine();
			assert_true(n < 100);
		}
		free(w[i].data);
	}
}

/* ---- comings and goings ---- */

#define N_SESSIONS 12
#define N_EACH 30

static reply crowd[N_SESSIONS][N_EACH];

static void
change_user(reply *r)
{
	static const int64_t some[] = {UNSET, G2_UNLIMITED, 0, 1, 3, 50, 1000000};

	say_session(r, 10 + random_below(4), "somebody", some[random_below(G2_LENGTH(some))],
				some[random_below(G2_LENGTH(some))], some[random_below(G2_LENGTH(some))]);
}

/* Sessions that come with requests of all kinds, become others and leave, in whatever state these
 * are: nobody is answered twice, and in the end nothing is left of them. */
static void
test_crowd(void **state)
{
	static char texts[128];
	static const char *const names[] = {"tiny", "tiny", "bare", "secret", "nosuch"};

	(void) state;
	open_engine();
	for (uint32_t round = 0; round < 30; round++)
	{
		int64_t		start = g2_now_us();

		for (uint32_t i = 0; i < N_EACH; i++)
			for (uint32_t s = 0; s < N_SESSIONS; s++)
			{
				g2_generate m = random_generate(texts);

				m.model = g2_span_of(names[random_below(G2_LENGTH(names))]);
				m.queue_timeout_ms = 1 + random_below(20);
				if (random_below(8) == 0)
					change_user(crowd[s]);
				send_generate(crowd[s], i, &m);
				if (random_below(30) == 0)
					g2_engine_cancel(client_of(crowd[s]), random_below(i + 1));
				if (random_below(60) == 0)
					leave(crowd[s]);	/* another comes with its next request */
				if (random_below(20) == 0)
					turn(start);
			}
		for (uint32_t s = 0; s < N_SESSIONS; s++)
			if (random_below(2))
				leave(crowd[s]);
		check_idle();
		for (uint32_t s = 0; s < N_SESSIONS; s++)
		{
			for (uint32_t i = 0; i < N_EACH; i++)
				assert_true(crowd[s][i].answers <= 1);
			free_replies(crowd[s], N_EACH);
		}
	}
	while (n_clients > 0)
		leave(clients[0].replies);
	for (const g2_role *role = engine->people.roles; role; role = role->next)
		assert_int_equal(role->n_sessions + role->n_running + role->n_queued, 0);
	close_engine();
}

static int
set_up_all(void **state)
{
	set_up(state);
	restrict_model("closed", "{\"roles\": [\"hr\", \"finance\"]}");
	restrict_model("secret", "{\"roles\": []}");
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_other_user), cmocka_unit_test(test_order), cmocka_unit_test(test_roles),
		cmocka_unit_test(test_all_requests), cmocka_unit_test(test_changed_roles),
		cmocka_unit_test(test_many_grants), cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_names), cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_no_load),
		cmocka_unit_test(test_crowd),
	};

	return cmocka_run_group_tests(tests, set_up_all, tear_down);
}
