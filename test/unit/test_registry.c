/*
 * test_registry.c: the life of models: loaded again when their files change; every allocation fails
 * in turn.  test_engine.c has the requests that wait for loads.
 */
#include "registry_fixture.h"

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

/* ---- no memory ---- */

/* Holds the model with the n-th allocation failing; true when it could be loaded. */
static bool
hold_failing(long n)
{
	g2_model   *model;
	g2_error	err = {0};
	bool		ok;

	g2_alloc_fail_at(n);
	ok = g2_registry_hold(registry, g2_span_of("tiny"), g2_span_of(""), NULL, &model, &err);
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
		cmocka_unit_test_setup_teardown(test_no_memory, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
