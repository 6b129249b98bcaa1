/*
 * test_adapter_files.c: the folders and packs of LoRA adapters: weights that are in memory once; bases
 * that are gone or others; folders that are refused; no memory.
 */
#include "adapter_fixture.h"
#include "outliers.h"
#include "pack_fixture.h"

/* ---- its pack ---- */

static void
test_shared(void **state)
{
	test_adapter t = adapter_make(&base_model, 8, 16, 0.1f, 15, 7);
	g2_pack    *base,
			   *a,
			   *b;

	(void) state;
	fixture_synth(&fx, "base", &base_model);
	fixture_tokenizer(fixture_folder(&fx, "base"));
	adapter_write(&t, &fx, "a", "base", "");
	adapter_write(&t, &fx, "b", "base", "");
	tb_text(fixture_folder(&fx, "b"), "gpt2.json", "{\"templates\": {\"x\": \"{text}\"}}");
	assert_true(missing("a"));
	base = open_model("base");
	assert_false(missing("a"));
	a = open_model("a");
	b = open_model("b");
	/* one file for all of them, mapped */
	assert_int_equal(tb_count(fx.packs), 1);
	assert_true(g2_pack_shares(base, a) && g2_pack_shares(a, b));
	assert_string_equal(base->path, a->path);
	assert_int_equal(g2_pack_own_bytes(base), base->bytes);
	/* two layers, the second matrix in panels of 48 */
	assert_int_equal(g2_pack_own_bytes(a), 2 * 4 * 8 *
					 (96 + 96 + 96 + 200 + 288 + 96 + 240 + 96));
	assert_int_equal(a->description.parameters - base->description.parameters,
					 2 * 8 * (96 + 288 + 96 + 96 + 96 + 200 + 200 + 96));
	/* content: base, adapter, templates */
	assert_string_not_equal(a->content_hash, base->content_hash);
	assert_string_not_equal(a->content_hash, b->content_hash);
	assert_string_equal(a->vocabulary_hash, base->content_hash);
	assert_null(a->description.tasks);
	assert_non_null(strstr(b->description.tasks, "{text}"));
	assert_int_equal(a->description.end_token, base->description.end_token);
	assert_non_null(a->tokenizer);
	g2_pack_close(base);
	g2_pack_close(a);
	g2_pack_close(b);
	adapter_free(&t);
}

static void
test_content_hash(void **state)
{
	g2_error	err = {0};
	char		hex[65];
	g2_pack    *pack;

	(void) state;
	fixture_synth(&fx, "base", &base_model);
	fixture_tokenizer(fixture_folder(&fx, "base"));
	tb_text(fixture_folder(&fx, "base"), "gpt2.json",
			"{\"roles\": [\"x\"], \"templates\": {\"x\": \"{text}\"}}");
	rewrite_model(&fx, "base", "shards",
				  &(rewrite) {.dtype = "F16", .prefix = "transformer.", .shards = 3, .masks = true});
	for (int i = 0; i < 2; i++)
	{
		const char *name = i == 0 ? "base" : "shards";

		pack = open_model(name);
		EXPECT_OK(g2_model_content_hash(fixture_folder(&fx, name), hex, &err), err);
		assert_string_equal(hex, pack->content_hash);
		g2_pack_close(pack);
	}
	assert_false(g2_model_content_hash(fixture_folder(&fx, "none"), hex, &err));
	EXPECT_ERROR(err, G2_E_NO_FILE, "");
}

/* ---- its base ---- */

static void
write_hash(const char *name, const char *hash)
{
	char		text[128];

	snprintf(text, sizeof text, "{\"base_hash\": \"%s\"}", hash);
	tb_text(fixture_folder(&fx, name), "gpt2.json", text);
}

static void
test_base(void **state)
{
	test_adapter t = adapter_make(&base_model, 2, 4, 0.1f, 15, 8);
	char		hash[65];
	g2_pack    *pack;

	(void) state;
	fixture_synth(&fx, "base", &base_model);
	adapter_write(&t, &fx, "a", "base", "");
	pack = open_model("base");
	memcpy(hash, pack->content_hash, sizeof hash);
	g2_pack_close(pack);
	write_hash("a", hash);
	g2_pack_close(open_model("a"));
	/* another base of the same sizes */
	multiply(fixture_folder(&fx, "base"), "h.0.attn.c_attn.weight", 5, 1, 2);
	refuse_model("a", G2_E_VERSION, "model \"base\" is not the one that adapter \"a\" was made from");
	multiply(fixture_folder(&fx, "base"), "h.0.attn.c_attn.weight", 5, 1, 0.5f);
	g2_pack_close(open_model("a"));
	write_hash("a", "123");
	refuse_model("a", G2_E_BAD_JSON, "base_hash");
	tb_text(fixture_folder(&fx, "a"), "gpt2.json", "{\"end_token\": 3}");
	refuse_model("a", G2_E_BAD_JSON, "end_token");
	tb_text(fixture_folder(&fx, "a"), "gpt2.json", "{\"rolez\": 3}");
	refuse_model("a", G2_E_BAD_JSON, "rolez");
	unlink(tb_path(fixture_folder(&fx, "a"), "gpt2.json"));
	/* none, one that is no model, itself, another adapter */
	adapter_write(&t, &fx, "b", "a", "");
	refuse_model("b", G2_E_UNSUPPORTED, "which is an adapter too");
	adapter_write(&t, &fx, "b", "b", "");
	refuse_model("b", G2_E_UNSUPPORTED, "which is an adapter too");
	adapter_write(&t, &fx, "b", "nosuch", "");
	refuse_model("b", G2_E_VERSION, "adapter of model \"nosuch\", which is not there");
	adapter_write(&t, &fx, "b", "a/..", "");
	refuse_model("b", G2_E_NAME, "..");
	mkdir(fixture_folder(&fx, "empty"), 0700);
	adapter_write(&t, &fx, "b", "empty", "");
	refuse_model("b", G2_E_NO_FILE, "config.json");
	adapter_free(&t);
}

/* A pack that is open notices what changes, but not that something is gone. */
static void
test_changed(void **state)
{
	test_adapter t = adapter_make(&base_model, 2, 4, 0.1f, 15, 9);
	g2_file_state own = {0};
	g2_pack    *pack;
	char	   *away = strdup(tb_path(fx.root, "away"));

	(void) state;
	fixture_synth(&fx, "base", &base_model);
	adapter_write(&t, &fx, "a", "base", "");
	pack = open_model("a");
	assert_false(g2_pack_changed(pack, &own));
	/* the adapter's files: written anew (ctime may stand still: sizes differ), gone */
	adapter_write(&t, &fx, "a", "base", ", \"bias\": \"none\"");
	assert_true(g2_pack_changed(pack, &own));
	g2_pack_close(pack);
	pack = open_model("a");
	assert_false(g2_pack_changed(pack, &own));
	assert_int_equal(rename(fixture_folder(&fx, "a"), away), 0);
	assert_false(g2_pack_changed(pack, &own));
	assert_int_equal(rename(away, fixture_folder(&fx, "a")), 0);
	/* its gpt2.json, its base's, its base's weights */
	tb_text(fixture_folder(&fx, "a"), "gpt2.json", "{}");
	assert_true(g2_pack_changed(pack, &own));
	unlink(tb_path(fixture_folder(&fx, "a"), "gpt2.json"));
	assert_false(g2_pack_changed(pack, &own));
	tb_text(fixture_folder(&fx, "base"), "gpt2.json", "{}");
	assert_true(g2_pack_changed(pack, &own));
	unlink(tb_path(fixture_folder(&fx, "base"), "gpt2.json"));
	assert_false(g2_pack_changed(pack, &own));
	assert_int_equal(rename(fixture_folder(&fx, "base"), away), 0);
	assert_false(g2_pack_changed(pack, &own));
	assert_int_equal(rename(away, fixture_folder(&fx, "base")), 0);
	tb_text(fixture_folder(&fx, "base"), "vocab.txt", "x\n");
	assert_true(g2_pack_changed(pack, &own));
	g2_pack_close(pack);
	free(away);
	adapter_free(&t);
}

/* ---- what is refused ---- */

static void
refuse_config(const test_adapter *t, const char *more, g2_code code, const char *part)
{
	adapter_write(t, &fx, "a", "base", more);
	refuse_model("a", code, part);
}

static void
test_configs(void **state)
{
	static const char *const unsupported[] = {
		"peft_type\": \"IA3", "bias\": \"all", "use_dora\": true, \"x\": \"",
		"rank_pattern\": {\"h.0\": 4}, \"x\": \"", "alpha_pattern\": {\"h.0\": 4}, \"x\": \"",
		"modules_to_save\": [\"lm_head\"], \"x\": \"", "init_lora_weights\": \"pissa",
		"lora_bias\": true, \"x\": \"", "layer_replication\": [[0, 1]], \"x\": \"",
		"loftq_config\": {\"bits\": 4}, \"x\": \"",
	};
	test_adapter t = adapter_make(&base_model, 2, 4, 0.1f, 15, 10);

	(void) state;
	fixture_synth(&fx, "base", &base_model);
	refuse_config(&t, ", \"r\": 2", G2_E_BAD_JSON, "");
	for (size_t i = 0; i < G2_LENGTH(unsupported); i++)
	{
		const char *end = strchr(unsupported[i], '"');
		char		text[256],
					key[64];

		snprintf(key, sizeof key, "%.*s", (int) (end - unsupported[i]), unsupported[i]);
		snprintf(text, sizeof text, "{\"base_model_name_or_path\": \"base\", \"r\": 2, "
				 "\"lora_alpha\": 4, \"%s\"}", unsupported[i]);
		tb_text(fixture_folder(&fx, "a"), G2_ADAPTER_CONFIG, text);
		refuse_model("a", G2_E_UNSUPPORTED, key);
	}
	tb_text(fixture_folder(&fx, "a"), G2_ADAPTER_CONFIG, "{\"r\": 2, \"lora_alpha\": 4}");
	refuse_model("a", G2_E_BAD_JSON, "base_model_name_or_path");
	tb_text(fixture_folder(&fx, "a"), G2_ADAPTER_CONFIG, "[1]");
	refuse_model("a", G2_E_BAD_JSON, "");
	tb_text(fixture_folder(&fx, "a"), G2_ADAPTER_CONFIG, "{");
	refuse_model("a", G2_E_BAD_JSON, "");
	for (uint32_t rank = 0; rank <= 257; rank += 257)
	{
		char		text[128];

		snprintf(text, sizeof text, "{\"base_model_name_or_path\": \"base\", \"r\": %u, "
				 "\"lora_alpha\": 4}", rank);
		tb_text(fixture_folder(&fx, "a"), G2_ADAPTER_CONFIG, text);
		refuse_model("a", G2_E_BAD_JSON, "\"r\"");
	}
	tb_text(fixture_folder(&fx, "a"), G2_ADAPTER_CONFIG,
			"{\"base_model_name_or_path\": \"base\", \"r\": 2, \"lora_alpha\": 1e300}");
	refuse_model("a", G2_E_BAD_JSON, "lora_alpha");
	/* what only says how it was made is passed over */
	adapter_write(&t, &fx, "a", "base", ", \"init_lora_weights\": true, \"lora_dropout\": 0.1, "
				  "\"target_modules\": [\"c_attn\"], \"rank_pattern\": {}, \"use_dora\": false, "
				  "\"modules_to_save\": null, \"fan_in_fan_out\": true");
	g2_pack_close(open_model("a"));
	/* a link */
	unlink(tb_path(fixture_folder(&fx, "a"), G2_ADAPTER_CONFIG));
	assert_int_equal(symlink("/dev/zero", tb_path(fixture_folder(&fx, "a"), G2_ADAPTER_CONFIG)), 0);
	refuse_model("a", G2_E_PERMISSION, G2_ADAPTER_CONFIG);
	adapter_free(&t);
}

/* Between the look at its config and the end of the load: what was read is not what is there. */
static void
test_changed_in_load(void **state)
{
	test_adapter t = adapter_make(&base_model, 2, 4, 0.1f, 15, 11);
	const char *folder = strdup(fixture_folder(&fx, "a"));
	const g2_file_state none = {0};
	g2_adapter_config config;
	g2_pack    *pack;
	g2_error	err;

	(void) state;
	fixture_synth(&fx, "base", &base_model);
	adapter_write(&t, &fx, "a", "base", "");
	EXPECT_OK(g2_adapter_config_read(folder, &config, &err), err);
	adapter_write(&t, &fx, "a", "base", ", \"use_rslora\": true");
	pack = open_model("base");
	EXPECT_OK(g2_adapter_attach(pack, "a", folder, &config, fixture_folder(&fx, "base"), &none, NULL,
								&err), err);
	assert_true(g2_adapter_changed(pack->adapter, &none));
	g2_pack_close(pack);
	free((char *) folder);
	adapter_free(&t);
}

#define LAYER "base_model.model.transformer.h."

/* One tensor more, or in the place of all. */
static void
refuse_tensors(const char *names[2], const char *shapes[2], g2_code code, const char *part)
{
	static const float zeros[4096];
	st_builder	builder = {0};

	for (int i = 0; i < 2 && names[i]; i++)
	{
		unsigned	rows,
					cols = 1;

		assert_true(sscanf(shapes[i], "%u,%u", &rows, &cols) >= 1);
		stb_add(&builder, names[i], "F32", shapes[i], zeros, (size_t) rows * cols * sizeof(float));
	}
	stb_save(&builder, fixture_folder(&fx, "a"), G2_ADAPTER_WEIGHTS);
	refuse_model("a", code, part);
}

#define REFUSE(a, shape_a, b, shape_b, code, part) \
	refuse_tensors((const char *[]) {a, b}, (const char *[]) {shape_a, shape_b}, code, part)

static void
test_tensors(void **state)
{
	test_adapter t = adapter_make(&base_model, 2, 4, 0.1f, 15, 11);
	const char *folder = strdup(fixture_folder(&fx, "a"));

	(void) state;
	fixture_synth(&fx, "base", &base_model);
	adapter_write(&t, &fx, "a", "base", "");
	REFUSE(LAYER "0.attn.c_attn.lora_A.weight", "2,96", LAYER "0.attn.c_attn.lora_B.weight",
		   "288,3", G2_E_BAD_FILE, "must have shape [288, 2]");
	REFUSE(LAYER "0.attn.c_attn.lora_A.weight", "96,2", LAYER "0.attn.c_attn.lora_B.weight",
		   "288,2", G2_E_BAD_FILE, "must have shape [2, 96]");
	REFUSE(LAYER "0.attn.c_attn.lora_A.weight", "192", LAYER "0.attn.c_attn.lora_B.weight",
		   "288,2", G2_E_BAD_FILE, "must have shape [2, 96]");
	REFUSE(LAYER "0.attn.c_attn.lora_A.weight", "2,96", NULL, NULL, G2_E_BAD_FILE,
		   "has no lora_B to it");
	REFUSE(LAYER "0.attn.c_attn.lora_B.weight", "288,2", NULL, NULL, G2_E_BAD_FILE,
		   "has no lora_A to it");
	REFUSE(LAYER "2.attn.c_attn.lora_A.weight", "2,96", NULL, NULL, G2_E_BAD_FILE,
		   "is no adapter of a matrix");
	REFUSE(LAYER "99999999999999999999.attn.c_attn.lora_A.weight", "2,96", NULL, NULL,
		   G2_E_BAD_FILE, "is no adapter of a matrix");
	REFUSE(LAYER "-1.attn.c_attn.lora_A.weight", "2,96", NULL, NULL, G2_E_BAD_FILE,
		   "is no adapter of a matrix");
	REFUSE(LAYER "0.attn.c_attn.lora_C.weight", "2,96", NULL, NULL, G2_E_BAD_FILE,
		   "is no adapter of a matrix");
	REFUSE(LAYER "0.ln_1.lora_A.weight", "2,96", NULL, NULL, G2_E_BAD_FILE,
		   "is no adapter of a matrix");
	REFUSE("base_model.model.transformer.wte.lora_embedding_A", "2,96", NULL, NULL, G2_E_BAD_FILE,
		   "is no adapter of a matrix");
	REFUSE(LAYER "0.attn.c_attn.lora_A.weight", "2,96",
		   "base_model.model.h.0.attn.c_attn.lora_A.weight", "2,96", G2_E_BAD_FILE,
		   "are the same");
	REFUSE(NULL, NULL, NULL, NULL, G2_E_BAD_FILE, "");
	tb_text(folder, G2_ADAPTER_WEIGHTS, "abc");
	refuse_model("a", G2_E_BAD_FILE, G2_ADAPTER_WEIGHTS);
	/* values that are no numbers, or would not be */
	t.b[0][3] = 1.0f / 0.0f;
	adapter_write(&t, &fx, "a", "base", "");
	refuse_model("a", G2_E_BAD_FILE, "h.0.attn.c_attn.lora_B.weight");
	t.b[0][3] = 3e38f;
	adapter_write(&t, &fx, "a", "base", "");
	refuse_model("a", G2_E_BAD_FILE, "out of range");
	unlink(tb_path(folder, G2_ADAPTER_WEIGHTS));
	refuse_model("a", G2_E_NO_FILE, G2_ADAPTER_WEIGHTS);
	free((char *) folder);
	adapter_free(&t);
}

/* An allocation that fails at any place is reported, and leaves nothing. */
static void
test_memory(void **state)
{
	test_adapter t = adapter_make(&base_model, 2, 4, 0.1f, 15, 12);
	g2_pack    *pack = NULL;
	g2_error	err = {0};
	bool		ok = false;
	long		n = 1;

	(void) state;
	fixture_synth(&fx, "base", &base_model);
	adapter_write(&t, &fx, "a", "base", "");
	tb_text(fixture_folder(&fx, "a"), "gpt2.json", "{\"templates\": {\"x\": \"{text}\"}}");
	g2_pack_close(open_as("base", G2_FORMAT_Q8));
	for (; !ok && n < 2000; n++)
	{
		g2_alloc_fail_at(n);
		ok = g2_pack_open(&fx.paths, "a", G2_FORMAT_Q8, NULL, NULL, &pack, &err);
		g2_alloc_fail_at(0);
		assert_true(ok || err.code == G2_E_MEMORY);
	}
	assert_true(ok && n > 10);
	g2_pack_close(pack);
	adapter_free(&t);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_shared),
		TEST(test_content_hash),
		TEST(test_base),
		TEST(test_changed),
		TEST(test_changed_in_load),
		TEST(test_configs),
		TEST(test_tensors),
		TEST(test_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
