/*
 * test_folder.c: names of models, the search for them, and what their folders say.
 */
#include "model_fixture.h"

#include <fcntl.h>

#include "folder.h"

static fixture fx;

static int
setup(void **state)
{
	(void) state;
	memset(&fx, 0, sizeof fx);
	fixture_open(&fx);
	return 0;
}

static int
teardown(void **state)
{
	(void) state;
	fixture_close(&fx);
	return 0;
}

static void
test_names(void **state)
{
	static const char *const good[] = {"gpt2", "a", "my model", "v1.5", "\xE4\xB8\xAD\xE6\x96\x87",
		"-x", "5"};
	static const struct
	{
		const char *name;
		size_t		len;
	}			bad[] = {
		{"", 0}, {".", 1}, {"..", 2}, {".hidden", 7}, {"a/b", 3}, {"/a", 2}, {"a..b", 4},
		{"a\0b", 3}, {"a\nb", 3}, {"a\x7F", 2}, {"\xFF", 1}, {"../x", 4},
	};
	char		longest[257];
	g2_error	err;

	(void) state;
	for (size_t i = 0; i < G2_LENGTH(good); i++)
		EXPECT_OK(g2_model_name_check(good[i], strlen(good[i]), &err), err);
	for (size_t i = 0; i < G2_LENGTH(bad); i++)
	{
		assert_false(g2_model_name_check(bad[i].name, bad[i].len, &err));
		EXPECT_ERROR(err, G2_E_NAME, "model");
	}
	memset(longest, 'x', sizeof longest);
	assert_true(g2_model_name_check(longest, 255, &err));
	assert_false(g2_model_name_check(longest, 256, &err));
	EXPECT_ERROR(err, G2_E_NAME, "at most 255 bytes, not 256");
}

static void
test_find(void **state)
{
	const char *directories[3] = {tb_path(fx.root, "absent"), fx.models,
		strdup(tb_path(fx.root, "second"))};
	g2_model_paths paths = {directories, 3, fx.packs, 0};
	g2_error	err;
	char	   *path;

	(void) state;
	assert_int_equal(mkdir(directories[2], 0700), 0);
	fixture_synth(&fx, "one", &small_model);
	assert_int_equal(mkdir(tb_path(directories[2], "one"), 0700), 0);
	assert_int_equal(mkdir(tb_path(directories[2], "two"), 0700), 0);
	tb_text(fx.models, "file", "x");
	assert_int_equal(symlink("one", tb_path(fx.models, "link")), 0);
	EXPECT_OK(g2_model_find(&paths, "one", &path, &err), err);
	assert_string_equal(path, tb_path(fx.models, "one"));
	g2_free(path);
	EXPECT_OK(g2_model_find(&paths, "two", &path, &err), err);
	assert_string_equal(path, tb_path(directories[2], "two"));
	g2_free(path);
	assert_false(g2_model_find(&paths, "file", &path, &err));
	EXPECT_ERROR(err, G2_E_PERMISSION, "not a folder");
	assert_false(g2_model_find(&paths, "link", &path, &err));
	EXPECT_ERROR(err, G2_E_PERMISSION, "symbolic link");
	assert_non_null(strstr(err.hint, "cp -rL"));
	assert_false(g2_model_find(&paths, "three", &path, &err));
	EXPECT_ERROR(err, G2_E_NOT_FOUND, "model \"three\" not found");
	assert_non_null(strstr(err.detail, fx.models));
	assert_non_null(strstr(err.hint, "\"one\""));
	assert_null(strstr(err.hint, "two"));	/* no config.json there */
	/* names of models that are not for everybody are in no hint */
	tb_text(tb_path(fx.models, "one"), "gpt2.json", "{\"roles\": [\"hr\"]}");
	assert_false(g2_model_find(&paths, "three", &path, &err));
	assert_null(strstr(err.hint, "one"));
	tb_text(tb_path(fx.models, "one"), "gpt2.json", "{\"roles\": ");
	assert_false(g2_model_find(&paths, "three", &path, &err));
	assert_null(strstr(err.hint, "one"));
	tb_text(tb_path(fx.models, "one"), "gpt2.json", "{\"stop\": {}}");
	assert_false(g2_model_find(&paths, "three", &path, &err));
	assert_non_null(strstr(err.hint, "\"one\""));
	assert_false(g2_model_find(&paths, "5", &path, &err));
	EXPECT_ERROR(err, G2_E_NOT_FOUND, "\"5\"");
	assert_non_null(strstr(err.hint, "n => 5"));
	paths.n_directories = 0;
	assert_false(g2_model_find(&paths, "one", &path, &err));
	assert_non_null(strstr(err.detail, "none"));
	free((char *) directories[2]);
}

static void
list_one(void *arg, const char *name, const char *path)
{
	g2_buf_printf(arg, "%s=%s;", name, path + strlen(fx.root));
}

static void
test_list(void **state)
{
	const char *directories[2] = {fx.models, strdup(tb_path(fx.root, "second"))};
	g2_model_paths paths = {directories, 2, fx.packs, 0};
	static const char *const models[] = {"b", "a", "two words"};
	g2_buf		got = {0};
	g2_error	err;

	(void) state;
	assert_int_equal(mkdir(directories[1], 0700), 0);
	for (size_t i = 0; i < G2_LENGTH(models); i++)
		fixture_synth(&fx, models[i], &small_model);
	/* no models: no config.json, a link, a file, a hidden folder */
	assert_int_equal(mkdir(tb_path(fx.models, "empty"), 0700), 0);
	assert_int_equal(symlink("a", tb_path(fx.models, "c")), 0);
	tb_text(fx.models, "d", "x");
	assert_int_equal(mkdir(tb_path(fx.models, ".e"), 0700), 0);
	tb_text(tb_path(fx.models, ".e"), "config.json", "{}");
	/* hidden by an earlier directory, and not hidden */
	for (int i = 0; i < 3; i++)
	{
		static const char *const name[] = {"a", "empty", "z"};

		assert_int_equal(mkdir(tb_path(directories[1], name[i]), 0700), 0);
		tb_text(tb_path(directories[1], name[i]), "config.json", "{}");
	}
	EXPECT_OK(g2_model_list(&paths, list_one, &got, &err), err);
	g2_buf_append(&got, "", 1);
	assert_string_equal(got.data, "a=/models/a;b=/models/b;two words=/models/two words;"
						"z=/second/z;");
	g2_buf_free(&got);
	free((char *) directories[1]);
}

/* ---------------------------------------------------------------- folders */

static g2_description
describe(const char *folder, size_t *tokenizer)
{
	g2_description d;
	g2_buf		blob = {0};
	g2_error	err;

	EXPECT_OK(g2_model_describe(folder, &d, &blob, &err), err);
	if (tokenizer)
		*tokenizer = blob.len;
	g2_buf_free(&blob);
	return d;
}

static void
refuse(const char *folder, g2_code code, const char *part)
{
	g2_description d;
	g2_buf		blob = {0};
	g2_error	err;

	assert_false(g2_model_describe(folder, &d, &blob, &err));
	EXPECT_ERROR(err, code, part);
	g2_buf_free(&blob);
}

static void
test_foreign_weights(void **state)
{
	static const char *const file[] = {"pytorch_model.bin", "tf_model.h5", "model.Q4_K_M.gguf",
		"pytorch_model-00001-of-00002.bin", "flax_model.msgpack"};
	char		folder[4200];
	g2_error	err;

	(void) state;
	fixture_synth(&fx, "m", &small_model);
	snprintf(folder, sizeof folder, "%s", fixture_folder(&fx, "m"));
	assert_int_equal(unlink(tb_path(folder, "model.safetensors")), 0);
	assert_false(g2_folder_fail_weights(folder, &err));
	EXPECT_ERROR(err, G2_E_NO_FILE, "\"model.safetensors\" is missing");
	for (size_t i = 0; i < G2_LENGTH(file); i++)
	{
		tb_text(folder, file[i], "x");
		assert_false(g2_folder_fail_weights(folder, &err));
		EXPECT_ERROR(err, G2_E_UNSUPPORTED, file[i]);
		assert_non_null(strstr(err.hint,
							   i == 0 ? "gpt2_engine import" : "safe_serialization=True"));
		unlink(tb_path(folder, file[i]));
	}
	/* a folder with nothing but a GGUF file, and one with nothing at all */
	unlink(tb_path(folder, "config.json"));
	refuse(folder, G2_E_NO_FILE, "\"config.json\" is missing");
	tb_text(folder, "m.gguf", "GGUF");
	refuse(folder, G2_E_UNSUPPORTED, "m.gguf");
	refuse(tb_path(fx.root, "nowhere"), G2_E_NO_FILE, "read folder");
}

static void
test_no_permission(void **state)
{
	(void) state;
	if (geteuid() == 0)
		skip();
	fixture_synth(&fx, "m", &small_model);
	chmod(fixture_folder(&fx, "m"), 0);
	refuse(fixture_folder(&fx, "m"), G2_E_PERMISSION, "Permission denied");
	chmod(fixture_folder(&fx, "m"), 0700);
}

static void
test_tokenizer(void **state)
{
	char		folder[4200];
	size_t		blob;
	g2_description d;

	(void) state;
	fixture_synth(&fx, "m", &small_model);
	snprintf(folder, sizeof folder, "%s", fixture_folder(&fx, "m"));
	d = describe(folder, &blob);
	assert_string_equal(d.tokenizer, "none");
	assert_int_equal(blob, 0);
	assert_int_equal(d.end_token, G2_NO_TOKEN);
	assert_null(d.tasks);
	tb_text(folder, "spiece.model", "");
	refuse(folder, G2_E_UNSUPPORTED, "only \"spiece.model\"");
	fixture_tokenizer(folder);
	d = describe(folder, &blob);
	assert_string_equal(d.tokenizer, "gpt2-bpe");
	assert_true(blob > 0);
	unlink(tb_path(folder, "merges.txt"));
	refuse(folder, G2_E_NO_FILE, "merges.txt");
	/* tokenizer.json comes first */
	tb_text(folder, "tokenizer.json", "{\"model\":{\"type\":\"Unigram\"}}");
	refuse(folder, G2_E_UNSUPPORTED, "tokenizer.json");
	unlink(tb_path(folder, "tokenizer.json"));
	tb_text(folder, "vocab.json", "{\"a\": 0, \"<end>\": 1}");
	d = describe(folder, &blob);
	assert_string_equal(d.tokenizer, "characters");
	unlink(tb_path(folder, "vocab.json"));
	tb_text(folder, "merges.txt", "");
	refuse(folder, G2_E_NO_FILE, "vocab.json");
	unlink(tb_path(folder, "merges.txt"));
}

/* A vocab.txt, what tokenizer_config.json says about it, and the tokens that start and end. */
static void
test_bert(void **state)
{
	char		folder[4200];
	g2_description d;

	(void) state;
	fixture_synth(&fx, "m", &small_model);
	snprintf(folder, sizeof folder, "%s", fixture_folder(&fx, "m"));
	tb_text(folder, "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n");
	d = describe(folder, NULL);
	assert_string_equal(d.tokenizer, "wordpiece");
	assert_int_equal(d.start_token, 2);
	assert_int_equal(d.end_token, 3);
	tb_text(folder, "tokenizer_config.json", "{\"tokenizer_class\": \"BertTokenizer\", "
			"\"do_lower_case\": false, \"eos_token\": \"[MASK]\"}");
	d = describe(folder, NULL);
	assert_int_equal(d.end_token, 4);
	tb_text(folder, "tokenizer_config.json", "{\"tokenizer_class\": \"BertJapaneseTokenizer\"}");
	refuse(folder, G2_E_UNSUPPORTED, "\"BertJapaneseTokenizer\"");
	tb_text(folder, "tokenizer_config.json", "{\"do_lower_case\": 1}");
	refuse(folder, G2_E_BAD_JSON, "\"do_lower_case\"");
	unlink(tb_path(folder, "tokenizer_config.json"));
	tb_text(folder, "vocab.txt", "[PAD]\n");
	refuse(folder, G2_E_BAD_JSON, "\"[UNK]\"");
}

static void
set_config_id(const char *folder, const char *key, const char *value)
{
	size_t		len;
	char	   *config = tb_read(folder, "config.json", &len),
			   *at;
	g2_buf		text = {0};

	at = strstr(config, key) + strlen(key);
	at = strchr(at, ':') + 1;
	g2_buf_append(&text, config, (size_t) (at - config));
	g2_buf_printf(&text, " %s%s", value, strchr(at, ','));
	tb_write(folder, "config.json", text.data, text.len);
	g2_buf_free(&text);
	free(config);
}

/* Each source of the end token wins over those below it. */
static void
test_special_tokens(void **state)
{
	char		folder[4200];
	g2_description d;

	(void) state;
	fixture_synth(&fx, "m", &small_model);
	snprintf(folder, sizeof folder, "%s", fixture_folder(&fx, "m"));
	set_config_id(folder, "eos_token_id", "256");
	d = describe(folder, NULL);
	assert_int_equal(d.end_token, G2_NO_TOKEN);	/* no tokenizer says that it is special */
	fixture_tokenizer(folder);
	d = describe(folder, NULL);
	assert_int_equal(d.end_token, 256);
	assert_int_equal(d.start_token, G2_NO_TOKEN);
	set_config_id(folder, "eos_token_id", "65");	/* an ordinary token */
	d = describe(folder, NULL);
	assert_int_equal(d.end_token, G2_NO_TOKEN);
	assert_int_equal(d.n_warnings, 0);
	set_config_id(folder, "eos_token_id", "50256");
	set_config_id(folder, "bos_token_id", "50256");
	d = describe(folder, NULL);
	assert_int_equal(d.end_token, G2_NO_TOKEN);
	assert_int_equal(d.n_warnings, 1);
	assert_string_equal(d.warning[0], "eos_token_id 50256 in config.json is ignored: the "
						"vocabulary has 257 tokens");
	tb_text(folder, "special_tokens_map.json", "{\"eos_token\":{\"content\":\"A\"}}");
	d = describe(folder, NULL);
	assert_int_equal(d.end_token, 'A');
	tb_text(folder, "tokenizer_config.json",
			"{\"eos_token\":\"B\",\"bos_token\":\"<|endoftext|>\"}");
	d = describe(folder, NULL);
	assert_int_equal(d.end_token, 'B');
	assert_int_equal(d.start_token, 256);
	assert_int_equal(d.n_warnings, 0);
	tb_text(folder, "tokenizer_config.json", "{\"eos_token\":null}");
	d = describe(folder, NULL);
	assert_int_equal(d.end_token, 'A');
	tb_text(folder, "generation_config.json", "{\"eos_token_id\":[7,8]}");
	d = describe(folder, NULL);
	assert_int_equal(d.end_token, 7);
	tb_text(folder, "generation_config.json", "{\"eos_token_id\":257}");
	d = describe(folder, NULL);
	assert_int_equal(d.end_token, 'A');
	assert_int_equal(d.n_warnings, 1);
	tb_text(folder, "gpt2.json", "{\"end_token\":\"<|endoftext|>\",\"start_token\":9}");
	d = describe(folder, NULL);
	assert_int_equal(d.end_token, 256);
	assert_int_equal(d.start_token, 9);
	g2_description_free(&d);
}

/* One that only the tokenizer has. */
static void
test_special_without_row(void **state)
{
	char		folder[4200];
	g2_description d;

	(void) state;
	fixture_synth(&fx, "m", &small_model);
	snprintf(folder, sizeof folder, "%s", fixture_folder(&fx, "m"));
	tb_text(folder, "tokenizer.json", "{\"added_tokens\":[{\"id\":257,\"content\":\"<pad>\","
			"\"special\":true}],\"model\":{\"type\":\"WordLevel\",\"unk_token\":\"u\","
			"\"vocab\":{\"u\":0}}}");
	tb_text(folder, "tokenizer_config.json", "{\"eos_token\":\"<pad>\"}");
	d = describe(folder, NULL);
	assert_string_equal(d.tokenizer, "words");
	assert_int_equal(d.end_token, G2_NO_TOKEN);
	assert_int_equal(d.n_warnings, 1);
	assert_string_equal(d.warning[0], "special token 257 in tokenizer.json is ignored: the "
						"vocabulary has 257 tokens");
	g2_description_free(&d);
}

/* A gpt2.json with this content. */
static void
own(const char *folder, const char *text, const char *content)
{
	g2_description d;

	tb_text(folder, "gpt2.json", text);
	d = describe(folder, NULL);
	if (content)
		assert_string_equal(d.tasks, content);
	else
		assert_null(d.tasks);
	g2_description_free(&d);
}

static void
refuse_own(const char *folder, const char *text, const char *part)
{
	tb_text(folder, "gpt2.json", text);
	refuse(folder, G2_E_BAD_JSON, part);
}

static void
test_own_file(void **state)
{
	char		folder[4200];

	(void) state;
	fixture_synth(&fx, "m", &small_model);
	snprintf(folder, sizeof folder, "%s", fixture_folder(&fx, "m"));
	own(folder, "{}", NULL);
	own(folder, "{\"templates\":{\"a\":\"{input}\"},\"stop\":{\"a\":[\"\\n\"]},\"roles\":[\"hr\"]}",
		"{\"stop\":{\"a\":[\"\\n\"]},\"templates\":{\"a\":\"{input}\"}}");
	own(folder, "{\"owner\":\"alice\",\"roles\":[\"alice\"]}", NULL);
	own(folder, "{\"start_token\": 0, \"end_token\": 256}",
		"{\"end_token\":256,\"start_token\":0}");
	refuse_own(folder, "{\"template\":{}}", "unknown key \"template\"");
	refuse_own(folder, "{\"templates\":[]}", "\"templates\"");
	refuse_own(folder, "{\"templates\":{\"a\":1}}", "template \"a\"");
	refuse_own(folder, "{\"stop\":{\"a\":\"x\"}}", "stop \"a\"");
	refuse_own(folder, "{\"stop\":{\"a\":[1]}}", "stop \"a\"");
	refuse_own(folder, "{\"stop\":{\"a\":[\"\"]}}", "stop \"a\"");
	refuse_own(folder, "{\"owner\":5}", "\"owner\"");
	refuse_own(folder, "{\"end_token\":257}", "\"end_token\"");
	refuse_own(folder, "{\"end_token\":-1}", "\"end_token\"");
	refuse_own(folder, "{\"end_token\":1.5}", "\"end_token\"");
	refuse_own(folder, "{\"end_token\":\"x\"}", "\"end_token\"");
	refuse_own(folder, "{\"end_token\":true}", "\"end_token\"");
	refuse_own(folder, "[]", "must hold a JSON object");
	refuse_own(folder, "{\"stop\":{},\"stop\":{}}", "occurs twice");
	refuse_own(folder, "", "gpt2.json");
}

static void
test_bad_files(void **state)
{
	char		folder[4200];
	char	   *large = malloc((1 << 20) + 2);

	(void) state;
	fixture_synth(&fx, "m", &small_model);
	snprintf(folder, sizeof folder, "%s", fixture_folder(&fx, "m"));
	tb_text(folder, "generation_config.json", "nonsense");
	refuse(folder, G2_E_BAD_JSON, "generation_config.json");
	tb_text(folder, "generation_config.json", "{}");
	assert_int_equal(mkfifo(tb_path(folder, "tokenizer_config.json"), 0600), 0);
	refuse(folder, G2_E_PERMISSION, "tokenizer_config.json");
	unlink(tb_path(folder, "tokenizer_config.json"));
	assert_non_null(large);
	memset(large, ' ', (1 << 20) + 1);
	tb_write(folder, "config.json", large, (1 << 20) + 1);
	refuse(folder, G2_E_BAD_FILE, "more than the 1048576 allowed");
	free(large);
	unlink(tb_path(folder, "config.json"));
	assert_int_equal(symlink("/dev/zero", tb_path(folder, "config.json")), 0);
	refuse(folder, G2_E_PERMISSION, "symbolic link");
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_names),
		TEST(test_find),
		TEST(test_list),
		TEST(test_foreign_weights),
		TEST(test_no_permission),
		TEST(test_tokenizer),
		TEST(test_bert),
		TEST(test_special_tokens),
		TEST(test_special_without_row),
		TEST(test_own_file),
		TEST(test_bad_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
