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
	char	   *json = many_roles(G2_MAX_ROLES, 252);
	g2_model   *model;

	(void) state;
	open_registry(&s);
	model = load_roles(json, &roles);
	assert_int_equal(model->roles.n, G2_MAX_ROLES);
	assert_int_equal(strlen(model->roles.names[G2_MAX_ROLES - 1]), 252);
	g2_free(json);
	json = many_roles(G2_MAX_ROLES + 1, 1);
	model = load_roles(json, &roles);
	assert_int_equal(model->state, G2_MODEL_FAILED);
	EXPECT_ERROR(model->error, G2_E_BAD_JSON, "at most 256 names, not 257");
	g2_free(json);
	json = many_roles(1, 253);
	model = load_roles(json, &roles);
	assert_int_equal(model->state, G2_MODEL_FAILED);
	EXPECT_ERROR(model->error, G2_E_BAD_JSON, "1 to 252 bytes, not 253");
	g2_free(json);
	/* nobody gets in because of a mistake */
	model = load_roles("{\"roles\": null}", &roles);
	EXPECT_ERROR(model->error, G2_E_BAD_JSON, "must be an array of names");
	model = load_roles("{\"roles\": \"hr\"}", &roles);
	EXPECT_ERROR(model->error, G2_E_BAD_JSON, "must be an array of names");
	model = load_roles("{\"roles\": [\"\"]}", &roles);
	EXPECT_ERROR(model->error, G2_E_BAD_JSON, "1 to 252 bytes, not 0");
	close_registry();
}

/* The owner is told to the backend, and who it is makes the list another. */
static void
test_owner(void **state)
{
	static const struct
	{
		const char *json;
		g2_owner	owner;
	}			cases[] = {
		{"{\"roles\": []}", {.oid = 0}},
		{"{\"roles\": [], \"owner\": \"ann\"}", {{"ann", 3}, 0, 0}},
		{"{\"roles\": [], \"owner\": \"ann\", \"owner_oid\": 4294967295}",
			{{"ann", 3}, UINT32_MAX, 0}},
		{"{\"roles\": [], \"owner\": \"ann\", \"owner_oid\": 16384,"
			" \"owner_cluster\": \"18446744073709551615\"}", {{"ann", 3}, 16384, UINT64_MAX}},
	};
	static const char *const bad[] = {
		"\"owner\": 5", "\"owner_oid\": 0", "\"owner_oid\": 4294967296", "\"owner_oid\": 1.5",
		"\"owner_oid\": \"10\"", "\"owner_cluster\": 7", "\"owner_cluster\": \"\"",
		"\"owner_cluster\": \"-7\"", "\"owner_cluster\": \"18446744073709551616\"",
	};
	g2_settings s = settings();
	g2_roles	roles;
	g2_model   *model;
	uint64_t	tokens[G2_LENGTH(cases)];

	(void) state;
	open_registry(&s);
	for (size_t i = 0; i < G2_LENGTH(cases); i++)
	{
		const g2_owner *owner = &cases[i].owner;

		model = load_roles(cases[i].json, &roles);
		assert_int_equal(model->state, G2_MODEL_LOADED);
		assert_int_equal(roles.owner.name.len, owner->name.len);
		if (owner->name.len > 0)
			assert_memory_equal(roles.owner.name.data, owner->name.data, owner->name.len);
		assert_int_equal(roles.owner.oid, owner->oid);
		assert_true(roles.owner.cluster == owner->cluster);
		tokens[i] = roles.token;
		for (size_t k = 0; k < i; k++)
			assert_true(tokens[k] != tokens[i]);
	}
	/* nobody gets in because of a mistake */
	for (size_t i = 0; i < G2_LENGTH(bad); i++)
	{
		char		json[128];

		snprintf(json, sizeof json, "{%s}", bad[i]);
		model = load_roles(json, &roles);
		assert_int_equal(model->state, G2_MODEL_FAILED);
		EXPECT_ERROR(model->error, G2_E_BAD_JSON, "\"owner");
	}
	close_registry();
}

/* In the cluster that wrote both the OID says whether it is the same role, elsewhere the name. */
static void
test_same_owner(void **state)
{
	static const struct
	{
		g2_owner	a,
					b;
		bool		same;
	}			cases[] = {
		{{{"ann", 3}, 10, 7}, {{"ann", 3}, 10, 7}, true},
		{{{"ann", 3}, 10, 7}, {{"anne", 4}, 10, 7}, true},
		{{{"ann", 3}, 10, 7}, {{"ann", 3}, 11, 7}, false},
		{{{"ann", 3}, 10, 7}, {{"ann", 3}, 11, 8}, true},
		{{{"ann", 3}, 10, 7}, {{"bob", 3}, 10, 8}, false},
		{{{"ann", 3}, 10, 7}, {{"ann", 3}, 0, 0}, true},
		{{{"ann", 3}, 0, 0}, {{"anne", 4}, 0, 0}, false},
		{{{NULL, 0}, 0, 0}, {{NULL, 0}, 0, 0}, false},
		{{{NULL, 0}, 10, 7}, {{"ann", 3}, 10, 7}, false},
	};

	(void) state;
	for (size_t i = 0; i < G2_LENGTH(cases); i++)
	{
		assert_int_equal(g2_owner_same(&cases[i].a, &cases[i].b), cases[i].same);
		assert_int_equal(g2_owner_same(&cases[i].b, &cases[i].a), cases[i].same);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_roles, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_roles_limits, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_owner, set_up, tear_down),
		cmocka_unit_test(test_same_owner),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
