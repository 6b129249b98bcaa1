/*
 * test_registry.c: the life of models: loaded again when their files change, unloaded when memory
 * is short, preloaded, restricted to roles; every allocation fails in turn.  test_engine.c has the
 * requests that wait for loads.
 */
#include "registry_fixture.h"

static int
set_up(void **state)
{
	(void) state;
	make_models();
	return 0;
}

static int
tear_down(void **state)
{
	(void) state;
	g2_alloc_fail_at(0);
	fixture_close(&places);
	return 0;
}

/* ---- changed files ---- */

/* A sequence that runs while its model's folder is replaced goes on with the bits of the old
 * weights; who comes later waits for the new ones. */
static void
test_reload(void **state)
{
	g2_settings s = settings();
	g2_model   *old,
			   *new;
	runner		alone,
				before,
				running,
				after;
	char		hash[65];

	(void) state;
	open_registry(&s);
	old = hold("tiny");
	assert_int_equal(old->state, G2_MODEL_LOADING);
	settle();
	strcpy(hash, old->pack->content_hash);
	run_prompt(old, &alone);
	run_tokens(old, &alone, 30);
	run_prompt(old, &running);
	run_tokens(old, &running, 10);
	replace_folder("tiny", 99);
	/* a look a moment ago is good enough */
	assert_ptr_equal(hold("tiny"), old);
	g2_registry_release(old);
	age(old);
	new = hold("tiny");
	assert_ptr_not_equal(new, old);
	assert_int_equal(new->state, G2_MODEL_LOADING);
	assert_int_equal(count_lines("the files of model \"tiny\" have changed"), 1);
	assert_true(old->detached);
	assert_int_equal(old->state, G2_MODEL_LOADED);
	run_tokens(old, &running, 10);
	settle();
	assert_int_equal(new->state, G2_MODEL_LOADED);
	assert_string_not_equal(new->pack->content_hash, hash);
	run_prompt(new, &after);
	assert_memory_not_equal(after.bits, alone.bits, sizeof *alone.bits);
	run_tokens(old, &running, 10);
	assert_memory_equal(&running, &alone, sizeof alone);
	/* both at once, each its own */
	run_prompt(old, &before);
	assert_int_equal(before.bits[0], alone.bits[0]);
	assert_int_equal(count_models(), 2);
	g2_registry_release(old);
	assert_int_equal(count_models(), 1);
	/* unchanged: the same */
	age(new);
	assert_ptr_equal(hold("tiny"), new);
	g2_registry_release(new);
	g2_registry_release(new);
	assert_int_equal(n_loaded, 2);
	close_registry();
}

/* Any file that has a say counts, and a second change during the load of the first. */
static void
test_reload_again(void **state)
{
	g2_settings s = settings();
	g2_model   *model;

	(void) state;
	open_registry(&s);
	use_model("tiny");
	model = find_model("tiny");
	tb_text(fixture_folder(&places, "tiny"), "gpt2.json", "{\"templates\": {\"a\": \"{input}\"}}");
	age(model);
	use_model("tiny");
	model = find_model("tiny");
	assert_non_null(strstr(model->pack->description.tasks, "\"a\""));
	tb_text(fixture_folder(&places, "tiny"), "generation_config.json", "{\"eos_token_id\": 3}");
	age(model);
	model = hold("tiny");
	replace_folder("tiny", 5);
	settle();
	age(model);
	use_model("tiny");
	g2_registry_release(model);
	model = find_model("tiny");
	assert_null(model->pack->description.tasks);
	age(model);
	assert_ptr_equal(hold("tiny"), model);
	g2_registry_release(model);
	assert_int_equal(count_models(), 1);
	close_registry();
}

/* A new load that fails is answered; the next request tries again; running ones do not notice. */
static void
test_reload_fails(void **state)
{
	g2_settings s = settings();
	g2_model   *old,
			   *new;
	runner		alone,
				running;
	size_t		len;
	char	   *config;

	(void) state;
	open_registry(&s);
	old = hold("tiny");
	settle();
	run_prompt(old, &alone);
	run_tokens(old, &alone, 4);
	run_prompt(old, &running);
	config = tb_read(fixture_folder(&places, "tiny"), "config.json", &len);
	tb_text(fixture_folder(&places, "tiny"), "config.json", "{\"model_type\": 7}");
	age(old);
	for (uint32_t i = 1; i <= 2; i++)
	{
		new = hold("tiny");
		settle();
		assert_int_equal(new->state, G2_MODEL_FAILED);
		assert_int_equal(new->error.code, G2_E_BAD_JSON);
		assert_int_equal(n_failed, i);
		g2_registry_release(new);
	}
	run_tokens(old, &running, 4);
	assert_memory_equal(&running, &alone, sizeof alone);
	tb_write(fixture_folder(&places, "tiny"), "config.json", config, len);
	free(config);
	use_model("tiny");
	assert_ptr_equal(find_model("tiny"), new);
	g2_registry_release(old);
	assert_int_equal(count_models(), 1);
	close_registry();
}

static void
expect_kept(g2_model *model)
{
	age(model);
	assert_ptr_equal(hold("tiny"), model);
	assert_int_equal(model->state, G2_MODEL_LOADED);
	g2_registry_release(model);
}

/* A folder that is gone, empty or unreadable is no reason to stop using what is loaded. */
static void
test_folder_gone(void **state)
{
	g2_settings s = settings();
	g2_model   *model;
	char	   *folder = strdup(fixture_folder(&places, "tiny")),
			   *aside = strdup(tb_path(places.root, "aside"));
	runner		before,
				after;

	(void) state;
	open_registry(&s);
	use_model("tiny");
	model = find_model("tiny");
	run_prompt(model, &before);
	assert_int_equal(rename(folder, aside), 0);
	expect_kept(model);
	assert_int_equal(mkdir(folder, 0700), 0);
	expect_kept(model);
	tb_text(folder, "config.json", "{}");	/* but no weights */
	expect_kept(model);
	if (geteuid() != 0)
	{
		assert_int_equal(chmod(folder, 0), 0);
		expect_kept(model);
		assert_int_equal(chmod(folder, 0700), 0);
	}
	assert_int_equal(unlink(tb_path(folder, "config.json")), 0);
	assert_int_equal(rmdir(folder), 0);
	run_prompt(model, &after);
	assert_memory_equal(&before, &after, sizeof before);
	/* back again, as it was */
	assert_int_equal(rename(aside, folder), 0);
	expect_kept(model);
	assert_int_equal(n_loaded, 1);
	/* unloaded, it can only be found where it is */
	assert_int_equal(rename(folder, aside), 0);
	EXPECT_OK(g2_registry_unload(registry, g2_span_of("tiny"), NULL), last_error);
	g2_registry_release(hold("tiny"));
	settle();
	assert_int_equal(last_error.code, G2_E_NOT_FOUND);
	assert_int_equal(count_models(), 0);
	free(folder);
	free(aside);
	close_registry();
}

/* ---- memory ---- */

/* Five models of the same size: "a" .. "e". */
static uint64_t
make_five(void)
{
	g2_synth_options options = tiny_model;
	g2_settings s = settings();
	uint64_t	bytes;

	for (char name[2] = "a"; name[0] <= 'e'; name[0]++)
	{
		options.seed = (uint64_t) name[0];
		fixture_synth(&places, name, &options);
	}
	open_registry(&s);
	use_model("a");
	bytes = find_model("a")->pack->bytes;
	close_registry();
	return bytes;
}

/* The names of the models that are loaded must be these, in the alphabet's order. */
static void
expect_models(const char *names)
{
	char		found[8] = "";

	for (char name[2] = "a"; name[0] <= 'e'; name[0]++)
		if (find_model(name))
			strcat(found, name);
	assert_string_equal(found, names);
	assert_int_equal(count_models(), strlen(names));
}

static void
set_limit(g2_settings *s, uint64_t bytes)
{
	g2_error	err;

	s->model_memory = bytes;
	EXPECT_OK(g2_registry_configure(registry, s, &err), err);
}

static void
test_memory(void **state)
{
	g2_settings s = settings();
	uint64_t	bytes = make_five();
	g2_model   *a,
			   *b;

	(void) state;
	s.model_memory = 3 * bytes;
	open_registry(&s);
	use_model("a");
	use_model("b");
	use_model("c");
	use_model("a");
	expect_models("abc");
	use_model("d");				/* b was used least recently */
	expect_models("acd");
	assert_int_equal(count_lines("unloaded model \"b\""), 1);
	/* held models stay, whatever their age, and go when they are released */
	a = hold("a");
	use_model("c");
	use_model("d");
	use_model("e");
	expect_models("ade");
	b = hold("b");
	settle();
	expect_models("abe");
	use_model("c");
	expect_models("abc");
	set_limit(&s, bytes);		/* a smaller limit is kept at once, as far as it can be */
	expect_models("ab");
	use_model("d");				/* there is no room, but it stays until there is need for more */
	use_model("d");
	expect_models("abd");
	assert_int_equal(count_lines("unloaded model \"d\""), 1);
	use_model("e");
	expect_models("abe");
	g2_registry_release(a);
	expect_models("ab");		/* e was used before */
	g2_registry_release(b);
	expect_models("b");
	/* one alone may be larger, and what was loaded just now stays */
	set_limit(&s, 1);
	expect_models("b");
	use_model("c");
	expect_models("c");
	set_limit(&s, 0);			/* no limit */
	use_model("a");
	use_model("b");
	use_model("d");
	use_model("e");
	expect_models("abcde");
	set_limit(&s, 2 * bytes);
	expect_models("de");
	assert_int_equal(count_lines("(0.0 MB)"), 1);	/* a limit of 1 byte */
	close_registry();
}

/* What is detached still counts while it is held, and nothing can be done about it. */
static void
test_memory_detached(void **state)
{
	g2_settings s = settings();
	uint64_t	bytes = make_five();
	g2_model   *old;

	(void) state;
	s.model_memory = 2 * bytes;
	open_registry(&s);
	use_model("a");
	old = hold("b");
	settle();
	EXPECT_OK(g2_registry_unload(registry, g2_span_of("b"), NULL), last_error);
	assert_int_equal(count_models(), 2);
	use_model("b");				/* its second copy: a goes */
	assert_null(find_model("a"));
	assert_non_null(find_model("b"));
	assert_ptr_not_equal(find_model("b"), old);
	assert_int_equal(count_models(), 2);
	g2_registry_release(old);
	use_model("a");
	expect_models("ab");
	close_registry();
}

/* ---- preload ---- */

static void
preload(g2_settings *s, const char *const *names, uint32_t n)
{
	s->n_preload = n;
	for (uint32_t i = 0; i < n; i++)
		s->preload[i] = g2_span_of(names[i]);
}

static void
test_preload(void **state)
{
	static const char *const names[] = {"tiny", "nosuch", "../tiny", "tiny", "bare"},
			   *const fewer[] = {"bare"};
	g2_settings s = settings();
	g2_model   *tiny;
	g2_error	err;

	(void) state;
	preload(&s, names, G2_LENGTH(names));
	open_registry(&s);
	settle();
	assert_int_equal(n_loaded, 2);
	assert_int_equal(n_failed, 1);	/* which the owner of the registry writes to the log */
	assert_int_equal(last_error.code, G2_E_NOT_FOUND);
	assert_int_equal(count_lines("could not preload model \"../tiny\": invalid model name"), 1);
	assert_int_equal(count_lines("\n"), 1);
	assert_int_equal(count_models(), 2);
	tiny = find_model("tiny");
	assert_int_equal(tiny->state, G2_MODEL_LOADED);
	assert_int_equal(tiny->users, 0);
	assert_int_equal(find_model("bare")->users, 0);
	/* held at once */
	assert_ptr_equal(hold("tiny"), tiny);
	g2_registry_release(tiny);
	/* again: only what is not there */
	forget_lines();
	EXPECT_OK(g2_registry_unload(registry, g2_span_of("bare"), &err), err);
	EXPECT_OK(g2_registry_configure(registry, &s, &err), err);
	settle();
	assert_int_equal(n_loaded, 1);
	assert_int_equal(n_failed, 1);
	assert_ptr_equal(find_model("tiny"), tiny);
	assert_non_null(find_model("bare"));
	/* a model that failed is tried again when the settings are read again */
	forget_lines();
	tb_text(fixture_folder(&places, "bare"), "config.json", "{");
	EXPECT_OK(g2_registry_unload(registry, g2_span_of("bare"), &err), err);
	preload(&s, fewer, G2_LENGTH(fewer));
	for (int i = 0; i < 2; i++)
	{
		EXPECT_OK(g2_registry_configure(registry, &s, &err), err);
		settle();
	}
	assert_int_equal(n_failed, 2);
	assert_int_equal(find_model("bare")->state, G2_MODEL_FAILED);
	assert_int_equal(log_lines[0], 0);
	close_registry();
}

/* Who needs a model waits for one preload at most, not for all of them. */
static void
test_preload_order(void **state)
{
	static const char *const names[] = {"a", "b", "c", "d"};
	g2_settings s = settings();
	g2_model   *e,
			   *b;

	(void) state;
	make_five();
	preload(&s, names, G2_LENGTH(names));
	open_registry(&s);
	assert_int_equal(count_models(), 1);
	e = hold("e");
	b = hold("b");				/* a preload's turn comes earlier when it is asked for */
	assert_int_equal(e->state, G2_MODEL_LOADING);
	settle();
	expect_models("abcde");
	assert_int_equal(n_loaded, 5);
	assert_true(e->load_started <= b->load_started);
	assert_true(b->load_started <= find_model("c")->load_started);
	assert_true(find_model("c")->load_started >= find_model("a")->load_started);
	g2_registry_release(e);
	g2_registry_release(b);
	close_registry();
}

static void
test_preload_memory(void **state)
{
	static const char *const names[] = {"a", "b"};
	g2_settings s = settings();
	uint64_t	bytes = make_five();

	(void) state;
	preload(&s, names, G2_LENGTH(names));
	s.model_memory = 3 * bytes;
	open_registry(&s);
	settle();
	expect_models("ab");
	use_model("c");
	use_model("d");				/* c goes, though it was used after a and b */
	expect_models("abd");
	use_model("e");
	expect_models("abe");
	set_limit(&s, 2 * bytes);	/* e goes, though it was used last */
	expect_models("ab");
	use_model("e");				/* but a model that was just loaded stays */
	expect_models("be");
	EXPECT_OK(g2_registry_configure(registry, &s, &last_error), last_error);
	settle();					/* a is preloaded again, in the place of e */
	expect_models("ab");
	close_registry();
}

/* Closed with loads running, waiting and still to be started. */
static void
test_close(void **state)
{
	static const char *const names[] = {"a", "b", "c"};
	g2_settings s = settings();

	(void) state;
	make_five();
	preload(&s, names, G2_LENGTH(names));
	for (int i = 0; i < 6; i++)
	{
		open_registry(&s);
		if (i % 2)
			hold("d");
		if (i > 3)
			settle();
		close_registry();
		assert_true(n_loaded + n_failed >= 1);
	}
}

/* ---- roles ---- */

/* Loads the model with this gpt2.json; its payload of ROLES, decoded. */
static g2_model *
load_roles(const char *json, g2_roles *roles)
{
	static char payload[65536];
	g2_writer	w = {.grow = grow};
	g2_model   *model;

	tb_text(fixture_folder(&places, "tiny"), "gpt2.json", json);
	model = find_model("tiny");
	if (model)
		age(model);
	model = hold("tiny");
	settle();
	g2_registry_release(model);
	if (model->state != G2_MODEL_LOADED)
		return model;
	g2_model_roles_encode(model, &w);
	assert_false(w.failed);
	assert_true(w.len <= sizeof payload);
	memcpy(payload, w.data, w.len);
	free(w.data);
	assert_true(g2_roles_decode(payload, w.len, roles));
	assert_int_equal(roles->token, model->roles.token);
	assert_true(roles->token != 0);
	assert_int_equal(roles->n, model->roles.n);
	for (uint32_t i = 0; i < roles->n; i++)
	{
		assert_int_equal(roles->roles[i].len, strlen(model->roles.names[i]));
		assert_memory_equal(roles->roles[i].data, model->roles.names[i], roles->roles[i].len);
	}
	return model;
}

static void
test_roles(void **state)
{
	g2_settings s = settings();
	g2_roles	roles;
	g2_model   *model;
	uint64_t	tokens[6];
	static const struct
	{
		const char *json;
		bool		restricted;
		uint32_t	n;
	}			cases[] = {
		{"{}", false, 0},
		{"{\"roles\": []}", true, 0},
		{"{\"roles\": [\"hr\"]}", true, 1},
		{"{\"roles\": [\"hr\", \"b\"]}", true, 2},
		{"{\"roles\": [\"h\", \"rb\"]}", true, 2},
		{"{\"roles\": [\"\\u00e9t\\u00e9\", \"a role\", \"hr\"]}", true, 3},
	};

	(void) state;
	open_registry(&s);
	for (size_t i = 0; i < G2_LENGTH(cases); i++)
	{
		model = load_roles(cases[i].json, &roles);
		assert_int_equal(model->state, G2_MODEL_LOADED);
		assert_int_equal(model->roles.restricted, cases[i].restricted);
		assert_int_equal(model->roles.n, cases[i].n);
		tokens[i] = model->roles.token;
		for (size_t k = 0; k < i; k++)
			assert_true(tokens[k] != tokens[i]);
	}
	assert_string_equal(model->roles.names[0], "\xc3\xa9t\xc3\xa9");
	assert_string_equal(model->roles.names[1], "a role");
	/* the same list has the same token */
	assert_true(load_roles(cases[2].json, &roles)->roles.token == tokens[2]);
	close_registry();
}

/* A list of n names, the last of them len bytes long. */
static char *
many_roles(uint32_t n, size_t len)
{
	g2_buf		json = {0};

	g2_buf_printf(&json, "{\"roles\": [");
	for (uint32_t i = 1; i < n; i++)
		g2_buf_printf(&json, "\"role %u\", ", i);
	g2_buf_printf(&json, "\"%0*d\"]}", (int) len, 0);
	assert_false(json.failed);
	return json.data;
}

static void
test_roles_limits(void **state)
{
	g2_settings s = settings();
	g2_roles	roles;
	char	   *json = many_roles(G2_MAX_ROLES, 63);
	g2_model   *model;

	(void) state;
	open_registry(&s);
	model = load_roles(json, &roles);
	assert_int_equal(model->roles.n, G2_MAX_ROLES);
	assert_int_equal(strlen(model->roles.names[G2_MAX_ROLES - 1]), 63);
	g2_free(json);
	json = many_roles(G2_MAX_ROLES + 1, 1);
	model = load_roles(json, &roles);
	assert_int_equal(model->state, G2_MODEL_FAILED);
	EXPECT_ERROR(model->error, G2_E_BAD_JSON, "at most 256 names, not 257");
	g2_free(json);
	json = many_roles(1, 64);
	model = load_roles(json, &roles);
	assert_int_equal(model->state, G2_MODEL_FAILED);
	EXPECT_ERROR(model->error, G2_E_BAD_JSON, "1 to 63 bytes, not 64");
	g2_free(json);
	/* nobody gets in because of a mistake */
	model = load_roles("{\"roles\": null}", &roles);
	EXPECT_ERROR(model->error, G2_E_BAD_JSON, "must be an array of names");
	model = load_roles("{\"roles\": \"hr\"}", &roles);
	EXPECT_ERROR(model->error, G2_E_BAD_JSON, "must be an array of names");
	model = load_roles("{\"roles\": [\"\"]}", &roles);
	EXPECT_ERROR(model->error, G2_E_BAD_JSON, "1 to 63 bytes, not 0");
	close_registry();
}

/* ---- no memory ---- */

/* Holds the model with the n-th allocation failing; true when it could be loaded. */
static bool
hold_failing(long n)
{
	g2_model   *model;
	g2_error	err = {0};
	bool		ok;

	g2_alloc_fail_at(n);
	ok = g2_registry_hold(registry, g2_span_of("tiny"), g2_span_of(""), &model, &err);
	settle();
	g2_alloc_fail_at(0);
	if (!ok)
	{
		assert_int_equal(err.code, G2_E_MEMORY);
		return false;
	}
	ok = model->state == G2_MODEL_LOADED;
	if (!ok)
		assert_int_equal(model->error.code, G2_E_MEMORY);
	g2_registry_release(model);
	return ok;
}

static void
test_no_memory(void **state)
{
	static const char *const names[] = {"tiny", "bare"};
	g2_settings s = settings();
	g2_error	err;
	bool		done = false;
	uint32_t	succeeded = 0;
	long		n;

	(void) state;
	tb_text(fixture_folder(&places, "tiny"), "gpt2.json", "{\"roles\": [\"a\", \"b\"]}");
	open_registry(&s);
	/* first load, also of a model that has failed before; some failures do no harm */
	for (n = 1; succeeded < 60; n++)
	{
		if (hold_failing(n))
		{
			assert_int_equal(find_model("tiny")->roles.n, 2);
			EXPECT_OK(g2_registry_unload(registry, g2_span_of("tiny"), &err), err);
			succeeded++;
		}
		assert_true(n < 5000);
	}
	assert_true(n > 80);
	use_model("tiny");
	/* reload: where the new one cannot be started, the old one stays */
	for (n = 1; n < 200; n++)
	{
		g2_model   *old = find_model("tiny");

		if (old->state == G2_MODEL_LOADED)
		{
			tb_text(fixture_folder(&places, "tiny"), "gpt2.json", n % 2 ? "{}" :
					"{\"roles\": [\"a\"]}");
			age(old);
		}
		hold_failing(n);
		assert_int_equal(count_models(), 1);
	}
	use_model("tiny");
	forget_lines();
	/* settings: all of them or none; what cannot be preloaded is not */
	preload(&s, names, G2_LENGTH(names));
	for (n = 1, done = false; !done; n++)
	{
		EXPECT_OK(g2_registry_unload(registry, g2_span_of("tiny"), &err), err);
		g2_alloc_fail_at(n);
		done = g2_registry_configure(registry, &s, &err);
		settle();
		g2_alloc_fail_at(0);
		if (!done)
			assert_int_equal(err.code, G2_E_MEMORY);
		done = done && find_model("tiny") && find_model("bare") &&
			find_model("tiny")->state == G2_MODEL_LOADED &&
			find_model("bare")->state == G2_MODEL_LOADED;
		use_model("tiny");
		assert_true(n < 5000);
	}
	assert_true(n > 6);
	assert_true(count_lines("could not preload model \"tiny\": out of memory") > 0);
	g2_registry_close(registry);
	for (n = 1, done = false; !done; n++)
	{
		g2_alloc_fail_at(n);
		done = try_open(&err);
		g2_alloc_fail_at(0);
		if (!done)
			assert_int_equal(err.code, G2_E_MEMORY);
	}
	close_registry();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_reload, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_reload_again, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_reload_fails, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_folder_gone, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_memory, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_memory_detached, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_preload, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_preload_order, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_preload_memory, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_close, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_roles, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_roles_limits, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_memory, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
