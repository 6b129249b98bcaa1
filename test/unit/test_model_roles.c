/*
 * test_model_roles.c: models that are for some roles only, as the registry knows them.
 */
#include "registry_fixture.h"

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

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_roles, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_roles_limits, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
