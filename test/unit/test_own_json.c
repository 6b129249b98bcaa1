/*
 * test_own_json.c: a model's gpt2.json: what of it is the model's content, who may use the model,
 * its size.
 */
#include "pack_fixture.h"

#include "model_roles.h"
#include "own_json.h"

/* Who may use a model is no part of it, nor is how its gpt2.json is spelled; the rest of it is. */
static void
test_content(void **state)
{
	static const struct
	{
		const char *json;		/* NULL = no file */
		bool		same;		/* as the one before */
	}			cases[] = {
		{"{\"roles\": [\"hr\"]}", true},
		{"{}", true},
		{" {\"roles\": []} ", true},
		{"{\"stop\": {\"a\": [\"x\"]}, \"templates\": {\"b\": \"1\", \"a\": \"\\u0032\"}}",
		false},
		{"{\"templates\": {\"a\": \"2\", \"b\": \"1\"}, \"roles\": [\"x\"],"
			" \"stop\": {\"a\": [\"x\"]}}",
		true},
		{"{\"templates\": {\"a\": \"2\", \"b\": \"2\"}, \"roles\": [\"x\"],"
			" \"stop\": {\"a\": [\"x\"]}}",
		false},
		{"{\"stop\": {\"a\": [\"x\", \"y\"]}}", false},
		{"{\"stop\": {\"a\": [\"y\", \"x\"]}}", false},
		{"{\"templates\": {", false},
		{NULL, false},
		{"{\"roles\": [\"hr\"]}", true},
		{"{\"roles\": [], \"owner\": \"a\", \"owner_oid\": 16384, \"owner_cluster\": \"7\"}", true},
		{NULL, true},
	};
	char		hash[65];
	char	   *folder;
	g2_pack    *pack;

	(void) state;
	fixture_synth(&fx, "m", &small_model);
	folder = strdup(fixture_folder(&fx, "m"));
	pack = open_model("m");
	for (size_t i = 0; i < G2_LENGTH(cases); i++)
	{
		const char *json = cases[i].json;

		strcpy(hash, pack->content_hash);
		g2_pack_close(pack);
		if (json)
			tb_text(folder, "gpt2.json", json);
		else
			assert_int_equal(unlink(tb_path(folder, "gpt2.json")), 0);
		assert_int_equal(missing("m"), !cases[i].same);
		if (i == 8)
		{
			refuse_model("m", G2_E_BAD_JSON, "gpt2.json");
			tb_text(folder, "gpt2.json", "{\"templates\": {}}");
		}
		pack = open_model("m");
		assert_int_equal(strcmp(pack->content_hash, hash) == 0, cases[i].same);
	}
	g2_pack_close(pack);
	assert_int_equal(tb_count(fx.packs), 1);
	free(folder);
}

/* Its size has one bound, for the engine and for what SQL functions read and write. */
static void
test_size(void **state)
{
	static char text[G2_MAX_OWN_JSON + 2];
	char	   *folder;
	g2_role_list roles;
	g2_error	err;

	(void) state;
	memset(text, ' ', G2_MAX_OWN_JSON);
	memcpy(text, "{\"roles\": []}", 13);
	fixture_synth(&fx, "m", &small_model);
	folder = strdup(fixture_folder(&fx, "m"));
	tb_text(folder, "gpt2.json", text);
	EXPECT_OK(g2_role_list_read("m", folder, &roles, &err), err);
	assert_true(roles.restricted);
	assert_int_equal(roles.source.size, G2_MAX_OWN_JSON);
	g2_role_list_free(&roles);
	text[G2_MAX_OWN_JSON] = ' ';
	tb_text(folder, "gpt2.json", text);
	assert_false(g2_role_list_read("m", folder, &roles, &err));
	assert_int_equal(err.code, G2_E_BAD_FILE);
	assert_int_equal(roles.token, 0);
	refuse_model("m", G2_E_BAD_FILE, "gpt2.json");
	free(folder);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_content, setup, teardown),
		cmocka_unit_test_setup_teardown(test_size, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
