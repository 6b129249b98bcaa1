/*
 * test_model.c: from a folder to the weights: every weight where the layout says, in every dtype
 * and file layout that is read; weights that are refused.
 */
#include "pack_fixture.h"

static void
test_f32(void **state)
{
	g2_synth_options o = small_model;
	uint64_t	bytes;

	(void) state;
	fixture_synth(&fx, "tied", &o);
	o.untied = o.prefix = true;
	fixture_synth(&fx, "untied", &o);
	o.n_embd = 48;
	o.n_head = 1;
	o.n_ff = 96;
	o.n_vocab = 48;
	o.n_layer = 1;
	fixture_synth(&fx, "even", &o);
	o.n_embd = o.n_ff = o.n_ctx = o.n_vocab = 1;
	fixture_synth(&fx, "one", &o);
	assert_true(g2_pack_missing(&fx.paths, "tied", G2_FORMAT_F32, &bytes));
	assert_true(bytes > 54602 * 4 && bytes < 54602 * 8);
	check_model("tied");
	check_model("untied");
	check_model("even");
	check_model("one");
}

/* Larger than a group of rows, so that groups meet at the right places. */
static void
test_groups(void **state)
{
	g2_synth_options o = {
		.n_layer = 1, .n_embd = 1100, .n_head = 11, .n_ff = 1300, .n_ctx = 1000,
		.n_vocab = 1001, .sigma = 0.1, .seed = 3, .untied = true,
	};

	(void) state;
	fixture_synth(&fx, "groups", &o);
	check_model("groups");
}

static void
test_dtypes(void **state)
{
	g2_synth_options o = small_model;

	(void) state;
	o.untied = true;
	fixture_synth(&fx, "f32", &o);
	rewrite_model(&fx, "f32", "f16", &(rewrite) {.dtype = "F16", .prefix = ""});
	rewrite_model(&fx, "f32", "bf16", &(rewrite) {.dtype = "BF16", .prefix = "transformer."});
	check_model("f16");
	check_model("bf16");
}

static void
test_file_layouts(void **state)
{
	g2_pack    *a,
			   *b;

	(void) state;
	fixture_synth(&fx, "plain", &small_model);
	rewrite_model(&fx, "plain", "prefix", &(rewrite) {.dtype = "F32",
				  .prefix = "transformer.", .masks = true});
	rewrite_model(&fx, "plain", "shards", &(rewrite) {.dtype = "F32", .prefix = "",
				  .shards = 3, .masks = true});
	check_model("prefix");
	check_model("shards");
	a = open_model("plain");
	b = open_model("shards");
	assert_memory_equal(a->weights.embed.data, b->weights.embed.data,
						a->weights.embed.n_padded * a->weights.embed.k * 4);
	assert_string_not_equal(a->content_hash, b->content_hash);
	g2_pack_close(a);
	g2_pack_close(b);
}

/* tie_word_embeddings = true wins over a lm_head.weight; false needs one. */
static void
test_heads(void **state)
{
	g2_synth_options o = small_model;
	size_t		len;
	char	   *config,
			   *at;

	(void) state;
	o.untied = true;
	fixture_synth(&fx, "own", &o);
	config = tb_read(fixture_folder(&fx, "own"), "config.json", &len);
	at = strstr(config, "false");
	memcpy(at, "true ", 5);
	tb_write(fixture_folder(&fx, "own"), "config.json", config, len);
	check_model("own");
	free(config);
	o.untied = false;
	fixture_synth(&fx, "none", &o);
	config = tb_read(fixture_folder(&fx, "none"), "config.json", &len);
	at = strstr(config, "\"tie_word_embeddings\": true");
	memcpy(at, "\"tie_word_embeddings\":false", 26);
	tb_write(fixture_folder(&fx, "none"), "config.json", config, len);
	refuse_model("none", G2_E_BAD_FILE, "\"lm_head.weight\" is missing");
	free(config);
}

/* ---------------------------------------------------------------- bad weights */

static void
refuse_rewrite(rewrite r, g2_code code, const char *part)
{
	static int	n;
	char		name[32];

	snprintf(name, sizeof name, "bad%d", n++);
	r.dtype = "F32";
	r.prefix = "";
	rewrite_model(&fx, "good", name, &r);
	refuse_model(name, code, part);
	assert_true(access(fx.packs, F_OK) != 0 || tb_count(fx.packs) == 0);
}

static void
test_bad_weights(void **state)
{
	(void) state;
	fixture_synth(&fx, "good", &small_model);
	refuse_rewrite((rewrite) {.leave_out = "h.1.ln_2.bias"}, G2_E_BAD_FILE,
				   "tensor \"h.1.ln_2.bias\" is missing");
	refuse_rewrite((rewrite) {.leave_out = "wte.weight"}, G2_E_BAD_FILE, "wte.weight\" is missing");
	refuse_rewrite((rewrite) {.leave_out = "h.0.ln_1.bias", .shards = 2}, G2_E_BAD_FILE,
				   "\"h.0.ln_1.bias\" is missing");
	refuse_rewrite((rewrite) {.change = "h.0.attn.c_attn.weight", .shape = "150,50"},
				   G2_E_BAD_FILE, "has shape [150, 50], expected [50, 150]");
	refuse_rewrite((rewrite) {.change = "h.0.attn.c_attn.weight", .shape = "50,150,1"},
				   G2_E_BAD_FILE, "has shape [50, 150, 1], expected [50, 150]");
	refuse_rewrite((rewrite) {.change = "h.0.attn.c_attn.bias", .shape = "150,1"},
				   G2_E_BAD_FILE, "has shape [150, 1], expected [150]");
	refuse_rewrite((rewrite) {.change = "wte.weight", .shape = "514,25"}, G2_E_BAD_FILE,
				   "has shape [514, 25], expected [257, 50]");
	refuse_rewrite((rewrite) {.change = "wpe.weight", .as_dtype = "I32"}, G2_E_UNSUPPORTED,
				   "dtype I32 of tensor \"wpe.weight\"");
	refuse_rewrite((rewrite) {.spoil = "wpe.weight"}, G2_E_BAD_FILE,
				   "tensor \"wpe.weight\": element 349 is infinite");
	refuse_rewrite((rewrite) {.spoil = "h.1.mlp.c_proj.weight"}, G2_E_BAD_FILE, "is infinite");
}

static void
test_vocab_size(void **state)
{
	size_t		len;
	char	   *config,
			   *at;

	(void) state;
	fixture_synth(&fx, "vocab", &small_model);
	config = tb_read(fixture_folder(&fx, "vocab"), "config.json", &len);
	at = strstr(config, "257");
	memcpy(at, "258", 3);
	tb_write(fixture_folder(&fx, "vocab"), "config.json", config, len);
	refuse_model("vocab", G2_E_BAD_FILE, "\"vocab_size\" is 258 in \"config.json\", but tensor");
	free(config);
}

static void
index_refused(const char *index, g2_code code, const char *part)
{
	tb_text(fixture_folder(&fx, "index"), "model.safetensors.index.json", index);
	refuse_model("index", code, part);
}

static void
test_bad_index(void **state)
{
	(void) state;
	fixture_synth(&fx, "good", &small_model);
	rewrite_model(&fx, "good", "index", &(rewrite) {.dtype = "F32", .prefix = "", .shards = 1});
	check_model("index");
	index_refused("{\"weight_map\":{\"a\":\"../good/model.safetensors\"}}", G2_E_PERMISSION,
				  "not a file of the folder");
	index_refused("{\"weight_map\":{\"a\":\"/etc/passwd\"}}", G2_E_PERMISSION, "/etc/passwd");
	index_refused("{\"weight_map\":{\"a\":\"..\"}}", G2_E_PERMISSION, "not a file of the folder");
	index_refused("{\"weight_map\":{\"a\":\"\"}}", G2_E_PERMISSION, "not a file of the folder");
	index_refused("{\"weight_map\":{\"a\":\"none.safetensors\"}}", G2_E_NO_FILE, "none");
	index_refused("{\"weight_map\":{\"a\":5}}", G2_E_BAD_JSON, "must hold strings");
	index_refused("{\"weight_map\":{}}", G2_E_BAD_JSON, "weight_map");
	index_refused("{\"weight_map\":[]}", G2_E_BAD_JSON, "weight_map");
	index_refused("{}", G2_E_BAD_JSON, "weight_map");
	index_refused("[", G2_E_BAD_JSON, "byte 1");
	index_refused("{\"weight_map\":{\"a\":\"config.json\"}}", G2_E_BAD_FILE, "config.json");
}

static void
test_kinds_of_file(void **state)
{
	const char *names[] = {"directory", "fifo", "link", "lfs", "empty"};
	char	   *folder;
	char		path[4200];

	(void) state;
	for (size_t i = 0; i < G2_LENGTH(names); i++)
	{
		fixture_synth(&fx, names[i], &small_model);
		folder = strdup(fixture_folder(&fx, names[i]));
		snprintf(path, sizeof path, "%s", tb_path(folder, "model.safetensors"));
		if (i == 2)
			assert_int_equal(rename(path, tb_path(folder, "elsewhere")), 0);
		else
			assert_int_equal(unlink(path), 0);
		if (i == 0)
			assert_int_equal(mkdir(path, 0700), 0);
		if (i == 1)
			assert_int_equal(mkfifo(path, 0600), 0);
		if (i == 2)
			assert_int_equal(symlink("elsewhere", path), 0);
		if (i == 3)
			tb_text(folder, "model.safetensors", "version https://git-lfs.github.com/spec/v1\n");
		if (i == 4)
			tb_text(folder, "model.safetensors", "");
		free(folder);
	}
	refuse_model("directory", G2_E_PERMISSION, "not a regular file");
	refuse_model("fifo", G2_E_PERMISSION, "not a regular file");
	refuse_model("link", G2_E_PERMISSION, "symbolic link");
	refuse_model("lfs", G2_E_BAD_FILE, "Git LFS pointer");
	refuse_model("empty", G2_E_BAD_FILE, "empty");
	refuse_model("../models/empty", G2_E_NAME, "invalid model name");
	refuse_model("nothing", G2_E_NOT_FOUND, "\"nothing\" not found");
}

/* ---------------------------------------------------------------- real models */

static void
test_shared_models(void **state)
{
	static const struct
	{
		const char *name;
		uint64_t	parameters;
		bool		tied;
	}			model[] = {
		{"nano-sort", 85728, false}, {"byte-basic", 195392, false}, {"tiny-hf", 2168, true},
	};
	const char *shared = getenv("GPT2_SHARED_MODELS");

	(void) state;
	if (!shared || access(shared, F_OK) != 0)
	{
		print_message("GPT2_SHARED_MODELS names no directory\n");
		skip();
	}
	fx.directories[0] = shared;
	for (size_t i = 0; i < G2_LENGTH(model); i++)
	{
		g2_pack    *pack = open_model(model[i].name);

		assert_int_equal(pack->description.parameters, model[i].parameters);
		assert_int_equal(pack->description.arch.tied_head, model[i].tied);
		same_weights(pack, tb_path(shared, model[i].name));
		g2_pack_close(pack);
	}
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_f32),
		TEST(test_groups),
		TEST(test_dtypes),
		TEST(test_file_layouts),
		TEST(test_heads),
		TEST(test_bad_weights),
		TEST(test_vocab_size),
		TEST(test_bad_index),
		TEST(test_kinds_of_file),
		TEST(test_shared_models),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
