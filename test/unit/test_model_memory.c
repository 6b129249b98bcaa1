/*
 * test_model_memory.c: models that are unloaded because memory is short, and that are preloaded.
 */
#include "adapter_fixture.h"
#include "registry_fixture.h"

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

/* Weights that adapters share count once, whoever has them. */
static void
test_adapters(void **state)
{
	g2_settings s = settings();
	test_adapter t = adapter_make(&tiny_model, 4, 8, 0.1f, 15, 1);
	uint64_t	bytes = make_five(),
				own;

	(void) state;
	for (char name[2] = "b"; name[0] <= 'd'; name[0]++)
	{
		tb_remove(strdup(fixture_folder(&places, name)));
		adapter_write(&t, &places, name, "a", "");
	}
	open_registry(&s);
	for (char name[2] = "a"; name[0] <= 'd'; name[0]++)
		use_model(name);
	own = g2_pack_own_bytes(find_model("b")->pack);
	assert_true(own > 0 && own < bytes);
	set_limit(&s, bytes + 3 * own);
	expect_models("abcd");
	/* the base alone gives nothing back, so that the next adapter goes too */
	set_limit(&s, bytes + 2 * own);
	expect_models("cd");
	set_limit(&s, bytes + own);
	expect_models("d");
	use_model("a");
	expect_models("ad");
	use_model("e");
	expect_models("e");
	close_registry();
	adapter_free(&t);
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

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_memory, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_adapters, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_memory_detached, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_preload, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_preload_order, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_preload_memory, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_close, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
