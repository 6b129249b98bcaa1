/*
 * test_model.c: packing and opening: every weight where the layout says, in every dtype and file
 * layout that is read; what makes a model be packed again; damage, faults and cancel.
 */
#include "model_fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "pack.h"
#include "weights_source.h"

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
	g2_alloc_fail_at(0);
	fixture_close(&fx);
	return 0;
}

static g2_pack *
open_model(const char *name)
{
	g2_pack    *pack = NULL;
	g2_error	err = {0};

	EXPECT_OK(g2_pack_open(&fx.paths, name, G2_FORMAT_F32, NULL, NULL, &pack, &err), err);
	EXPECT_OK(g2_pack_verify(pack, &err), err);
	return pack;
}

static void
refuse_model(const char *name, g2_code code, const char *part)
{
	g2_pack    *pack = NULL;
	g2_error	err = {0};

	assert_false(g2_pack_open(&fx.paths, name, G2_FORMAT_F32, NULL, NULL, &pack, &err));
	EXPECT_ERROR(err, code, part);
}

static bool
missing(const char *name)
{
	uint64_t	bytes;

	return g2_pack_missing(&fx.paths, name, G2_FORMAT_F32, &bytes);
}

/* ---------------------------------------------------------------- the weights themselves */

/* A tensor of the source as f32, read through the public interface; free it. */
static float *
source_tensor(const g2_source *source, const char *plain, size_t *n)
{
	for (uint32_t i = 0; i < source->n; i++)
	{
		char		name[80];
		const g2_tensor *t;
		float	   *x;
		g2_error	err;

		snprintf(name, sizeof name, "%s%s", strcmp(plain, "lm_head.weight") == 0 ? ""
				 : source->prefix, plain);
		t = g2_safetensors_find(source->file[i].st, name);
		if (!t)
			continue;
		*n = (size_t) (t->end - t->begin) / g2_dtype_size(t->dtype);
		x = malloc(*n * sizeof *x);
		EXPECT_OK(g2_safetensors_read(source->file[i].st, t, 0, *n, x, &err), err);
		return x;
	}
	print_error("no tensor %s\n", plain);
	fail();
	return NULL;
}

static uint64_t compared;		/* elements so far: what g2_arch_parameters counts */

static void
same_vector(const g2_source *source, const char *name, const float *packed, size_t padded)
{
	size_t		n;
	float	   *x = source_tensor(source, name, &n);

	compared += n;
	assert_memory_equal(x, packed, n * sizeof *x);
	for (size_t i = n; i < padded; i++)
		assert_true(packed[i] == 0);
	assert_int_equal((uintptr_t) packed % 64, 0);
	free(x);
}

/* by_rows: the source is [n][k], otherwise [k][n]. */
static void
same_matrix(const g2_source *source, const char *name, const g2_matrix *m, bool by_rows)
{
	size_t		n;
	float	   *x = source_tensor(source, name, &n);
	const float *data = m->data;

	compared += n;
	assert_int_equal(n, (size_t) m->k * m->n);
	assert_int_equal(m->n_padded % G2_PANEL, 0);
	assert_true(m->n_padded >= m->n && m->n_padded < m->n + G2_PANEL);
	assert_int_equal((uintptr_t) data % 64, 0);
	for (size_t k = 0; k < m->k; k++)
		for (size_t c = 0; c < m->n_padded; c++)
		{
			float		packed = data[(c / G2_PANEL * m->k + k) * G2_PANEL + c % G2_PANEL],
						want = c >= m->n ? 0 : by_rows ? x[c * m->k + k] : x[k * m->n + c];

			if (packed != want)
				print_error("%s [%zu][%zu]: %g, not %g\n", name, k, c, packed, want);
			assert_true(packed == want);
		}
	free(x);
}

static void
same_layer(const g2_source *source, const g2_layer *l, uint32_t number, const g2_arch *a)
{
	char		name[64];

#define NAME(s) (snprintf(name, sizeof name, "h.%u.%s", number, s), name)
	same_vector(source, NAME("ln_1.weight"), l->norm1_gain, a->n_embd);
	same_vector(source, NAME("ln_1.bias"), l->norm1_bias, a->n_embd);
	same_matrix(source, NAME("attn.c_attn.weight"), &l->qkv, false);
	same_vector(source, NAME("attn.c_attn.bias"), l->qkv_bias, l->qkv.n_padded);
	same_matrix(source, NAME("attn.c_proj.weight"), &l->attn_out, false);
	same_vector(source, NAME("attn.c_proj.bias"), l->attn_out_bias, l->attn_out.n_padded);
	same_vector(source, NAME("ln_2.weight"), l->norm2_gain, a->n_embd);
	same_vector(source, NAME("ln_2.bias"), l->norm2_bias, a->n_embd);
	same_matrix(source, NAME("mlp.c_fc.weight"), &l->ff_up, false);
	same_vector(source, NAME("mlp.c_fc.bias"), l->ff_up_bias, l->ff_up.n_padded);
	same_matrix(source, NAME("mlp.c_proj.weight"), &l->ff_down, false);
	same_vector(source, NAME("mlp.c_proj.bias"), l->ff_down_bias, l->ff_down.n_padded);
#undef NAME
}

static void
same_weights(const g2_pack *pack, const char *folder)
{
	const g2_weights *w = &pack->weights;
	g2_layout	layout;
	g2_source	source;
	g2_error	err;

	compared = 0;
	EXPECT_OK(g2_layout_make(&w->arch, &layout, &err), err);
	EXPECT_OK(g2_source_open(folder, &layout, &source, &err), err);
	same_matrix(&source, "wte.weight", &w->embed, true);
	same_vector(&source, "wpe.weight", w->positions, (size_t) w->arch.n_ctx * w->arch.n_embd);
	for (uint32_t l = 0; l < w->arch.n_layer; l++)
		same_layer(&source, &w->layers[l], l, &w->arch);
	same_vector(&source, "ln_f.weight", w->norm_gain, w->arch.n_embd);
	same_vector(&source, "ln_f.bias", w->norm_bias, w->arch.n_embd);
	if (w->arch.tied_head)
		assert_ptr_equal(w->head.data, w->embed.data);
	else
		same_matrix(&source, "lm_head.weight", &w->head, true);
	assert_int_equal(compared, pack->description.parameters);
	g2_source_close(&source);
	g2_layout_free(&layout);
}

static void
check_model(const char *name)
{
	g2_pack    *pack = open_model(name);

	same_weights(pack, fixture_folder(&fx, name));
	assert_string_equal(pack->description.architecture, "gpt2");
	g2_pack_close(pack);
	assert_false(missing(name));
}

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

/* ---------------------------------------------------------------- packed again, or not */

static void
test_description(void **state)
{
	g2_pack    *pack;
	const char *folder;

	(void) state;
	fixture_synth(&fx, "m", &small_model);
	folder = strdup(fixture_folder(&fx, "m"));
	fixture_tokenizer(folder);
	tb_text(folder, "gpt2.json", "{\"templates\":{\"t\":\"{input}\"},\"stop\":{\"t\":[\"x\"]}}");
	tb_text(folder, "generation_config.json", "{\"eos_token_id\":50256,\"bos_token_id\":3}");
	tb_text(folder, "special_tokens_map.json", "{\"eos_token\":\"<|endoftext|>\"}");
	for (int i = 0; i < 2; i++)		/* packed, then from the pack */
	{
		pack = open_model("m");
		assert_string_equal(pack->description.tokenizer, "gpt2-bpe");
		assert_int_equal(pack->description.end_token, 256);
		assert_int_equal(pack->description.start_token, 3);
		assert_int_equal(pack->description.n_warnings, 1);
		assert_non_null(strstr(pack->description.warning[0], "50256"));
		assert_string_equal(pack->description.tasks,
							"{\"templates\":{\"t\":\"{input}\"},\"stop\":{\"t\":[\"x\"]}}");
		assert_non_null(pack->tokenizer);
		assert_int_equal(g2_tokenizer_size(pack->tokenizer), 257);
		assert_int_equal(strlen(pack->content_hash), 64);
		assert_non_null(strstr(pack->path, "/packs/m-f32-"));
		g2_pack_close(pack);
	}
	free((char *) folder);
}

static void
test_source_changes(void **state)
{
	struct timespec times[2] = {{1000000000, 1}, {1000000000, 1}};
	char		hash[65],
				new_hash[65];
	char	   *folder,
			   *model;
	size_t		len;
	g2_pack    *pack;
	ino_t		inode;
	struct stat st;

	(void) state;
	fixture_synth(&fx, "m", &small_model);
	folder = strdup(fixture_folder(&fx, "m"));
	pack = open_model("m");
	strcpy(hash, pack->content_hash);
	assert_int_equal(stat(pack->path, &st), 0);
	inode = st.st_ino;
	g2_pack_close(pack);
	pack = open_model("m");		/* not packed again */
	assert_int_equal(stat(pack->path, &st), 0);
	assert_int_equal(st.st_ino, inode);
	g2_pack_close(pack);
	/* another time stamp: packed again, the same hash */
	assert_int_equal(utimensat(AT_FDCWD, tb_path(folder, "model.safetensors"), times, 0), 0);
	assert_true(missing("m"));
	pack = open_model("m");
	assert_string_equal(pack->content_hash, hash);
	assert_false(missing("m"));
	/* other weights while the old ones are mapped */
	model = tb_read(folder, "model.safetensors", &len);
	model[len - 1] ^= 1;
	tb_write(folder, "new", model, len);
	assert_int_equal(rename(tb_path(folder, "new"), tb_path(folder, "model.safetensors")), 0);
	free(model);
	assert_true(missing("m"));
	g2_pack_close(pack);
	pack = open_model("m");
	strcpy(new_hash, pack->content_hash);
	assert_string_not_equal(new_hash, hash);
	same_weights(pack, folder);
	g2_pack_close(pack);
	/* a file that counts comes and goes; one that does not count */
	tb_text(folder, "README.md", "x");
	assert_false(missing("m"));
	tb_text(folder, "gpt2.json", "{}");
	assert_true(missing("m"));
	pack = open_model("m");
	assert_string_not_equal(new_hash, pack->content_hash);
	g2_pack_close(pack);
	assert_int_equal(unlink(tb_path(folder, "gpt2.json")), 0);
	assert_true(missing("m"));
	pack = open_model("m");
	assert_string_equal(new_hash, pack->content_hash);
	g2_pack_close(pack);
	assert_int_equal(tb_count(fx.packs), 1);
	free(folder);
}

static void
test_sweep(void **state)
{
	char		path[4200];
	g2_pack    *pack;
	int			fd;

	(void) state;
	fixture_synth(&fx, "m", &small_model);
	g2_pack_close(open_model("m"));
	/* a folder that moved: the pack of its old place goes */
	assert_int_equal(mkdir(tb_path(fx.root, "other"), 0700), 0);
	assert_int_equal(rename(fixture_folder(&fx, "m"), tb_path(fx.root, "other/m")), 0);
	fx.directories[0] = tb_path(fx.root, "other");
	assert_int_equal(tb_count(fx.packs), 1);
	pack = open_model("m");
	assert_int_equal(tb_count(fx.packs), 1);
	g2_pack_close(pack);
	/* temporaries of the dead go, one that somebody holds stays, other files too */
	tb_text(fx.packs, "x-f32-0123456789abcdef.pack.1.2.tmp", "old");
	tb_text(fx.packs, "x-f32-0123456789abcdef.pack.1.3.tmp", "new");
	tb_text(fx.packs, "notes.txt", "mine");
	snprintf(path, sizeof path, "%s", tb_path(fx.packs, "x-f32-0123456789abcdef.pack.1.3.tmp"));
	fd = open(path, O_RDONLY);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	tb_text(tb_path(fx.directories[0], "m"), "gpt2.json", "{}");
	g2_pack_close(open_model("m"));
	assert_int_equal(tb_count(fx.packs), 3);
	assert_int_equal(access(path, F_OK), 0);
	close(fd);
}

/* ---------------------------------------------------------------- damage */

static void
flip(const char *path, off_t at)
{
	int			fd = open(path, O_RDWR);
	char		c;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &c, 1, at), 1);
	c ^= 0x40;
	assert_int_equal(pwrite(fd, &c, 1, at), 1);
	close(fd);
}

static void
test_damage(void **state)
{
	g2_pack    *pack;
	char	   *path;
	uint64_t	bytes;
	g2_error	err;

	(void) state;
	fixture_synth(&fx, "m", &small_model);
	fixture_tokenizer(fixture_folder(&fx, "m"));
	pack = open_model("m");
	path = strdup(pack->path);
	bytes = pack->bytes;
	g2_pack_close(pack);
	/* every byte of the header's page and, less densely, description and tokenizer */
	for (off_t at = 0; at < 16384; at += at < 320 ? 1 : 61)
	{
		bool		padding;

		flip(path, at);
		padding = !missing("m");	/* between the sections nothing is read */
		assert_true(!padding || at >= 4096);
		pack = open_model("m");
		assert_int_equal(pack->bytes, bytes);
		g2_pack_close(pack);
		if (padding)
			flip(path, at);
	}
	for (uint64_t len = 0; len < bytes; len = len * 3 + 7)
	{
		assert_int_equal(truncate(path, (off_t) len), 0);
		assert_true(missing("m"));
		g2_pack_close(open_model("m"));
	}
	assert_int_equal(truncate(path, (off_t) bytes + 4096), 0);
	g2_pack_close(open_model("m"));
	/* a flipped weight passes the opening and not the verification */
	flip(path, (off_t) bytes - 100);
	assert_true(g2_pack_open(&fx.paths, "m", G2_FORMAT_F32, NULL, NULL, &pack, &err));
	assert_false(g2_pack_verify(pack, &err));
	EXPECT_ERROR(err, G2_E_BAD_FILE, "checksum of the weights");
	g2_pack_close(pack);
	/* something else in its place is left alone */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	refuse_model("m", G2_E_PERMISSION, "not a regular file");
	assert_int_equal(rmdir(path), 0);
	free(path);
}

/* ---------------------------------------------------------------- faults */

static void
test_two_processes(void **state)
{
	pid_t		child[3];
	int			status;

	(void) state;
	fixture_synth(&fx, "m", &small_model);
	for (size_t i = 0; i < G2_LENGTH(child); i++)
	{
		child[i] = fork();
		assert_true(child[i] >= 0);
		if (child[i] == 0)
		{
			g2_pack    *pack;
			bool		ok = true;
			g2_error	err;

			for (int n = 0; ok && n < 10; n++)
			{
				ok = g2_pack_open(&fx.paths, "m", G2_FORMAT_F32, NULL, NULL, &pack, &err) &&
					g2_pack_verify(pack, &err);
				if (ok)
				{
					unlink(pack->path);
					g2_pack_close(pack);
				}
				/* the others may unlink it each time between its writing and its opening */
				ok = ok || err.code == G2_E_NO_FILE;
			}
			_exit(ok ? 0 : 1);
		}
	}
	for (size_t i = 0; i < G2_LENGTH(child); i++)
	{
		assert_int_equal(waitpid(child[i], &status, 0), child[i]);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	g2_pack_close(open_model("m"));
	assert_int_equal(tb_count(fx.packs), 1);
}

static void
test_memory(void **state)
{
	(void) state;
	fixture_synth(&fx, "good", &small_model);
	rewrite_model(&fx, "good", "m", &(rewrite) {.dtype = "BF16", .prefix = "", .shards = 2});
	fixture_tokenizer(fixture_folder(&fx, "m"));
	tb_text(fixture_folder(&fx, "m"), "gpt2.json", "{\"end_token\":\"<|endoftext|>\"}");
	for (int packed = 0; packed < 2; packed++)
	{
		int			well = 0;

		/* a sweep survives a failure, so that one success is not yet the end */
		for (long n = 1; well < 10; n++)
		{
			g2_pack    *pack = NULL;
			g2_error	err = {0};
			bool		ok;

			g2_alloc_fail_at(n);
			ok = g2_pack_open(&fx.paths, "m", G2_FORMAT_F32, NULL, NULL, &pack, &err);
			g2_alloc_fail_at(0);
			well = ok ? well + 1 : 0;
			assert_true(n < 5000);
			if (!ok)
				assert_int_equal(err.code, G2_E_MEMORY);
			else
			{
				EXPECT_OK(g2_pack_verify(pack, &err), err);
				assert_non_null(pack->tokenizer);
				assert_int_equal(pack->description.end_token, 256);
				if (!packed)
					assert_int_equal(unlink(pack->path), 0);
			}
			g2_pack_close(pack);
			assert_true(packed || access(fx.packs, F_OK) != 0 || tb_count(fx.packs) <= 1);
		}
		g2_pack_close(open_model("m"));
	}
}

static void
test_find_memory(void **state)
{
	(void) state;
	fixture_synth(&fx, "m", &small_model);
	for (long n = 1;; n++)
	{
		g2_error	err = {0};
		char	   *path;
		bool		ok;

		g2_alloc_fail_at(n);
		ok = g2_model_find(&fx.paths, "nothing", &path, &err);
		g2_alloc_fail_at(0);
		assert_false(ok);
		assert_true(err.code == G2_E_MEMORY || err.code == G2_E_NOT_FOUND);
		if (n > 50)
			break;
	}
}

static void
test_cancel(void **state)
{
	atomic_bool cancel = true;
	g2_progress progress = {0};
	g2_pack    *pack;
	g2_error	err;

	(void) state;
	fixture_synth(&fx, "m", &small_model);
	assert_false(g2_pack_open(&fx.paths, "m", G2_FORMAT_F32, &progress, &cancel, &pack, &err));
	EXPECT_ERROR(err, G2_E_CANCELED, "canceled");
	assert_int_equal(tb_count(fx.packs), 0);
	cancel = false;
	EXPECT_OK(g2_pack_open(&fx.paths, "m", G2_FORMAT_F32, &progress, &cancel, &pack, &err), err);
	assert_true(progress.total > 0);
	assert_int_equal(progress.done, progress.total);
	g2_pack_close(pack);
}

typedef struct cancel_state
{
	g2_progress progress;
	atomic_bool cancel;
	g2_error	err;
	bool		ok;
	g2_pack    *pack;
} cancel_state;

static void *
cancel_thread(void *arg)
{
	cancel_state *c = arg;

	c->ok = g2_pack_open(&fx.paths, "big", G2_FORMAT_F32, &c->progress, &c->cancel, &c->pack,
						 &c->err);
	return NULL;
}

/* Also the limits of disk space, as they need a pack of more than 64 MB. */
static void
test_big(void **state)
{
	g2_synth_options o = {
		.n_layer = 1, .n_embd = 512, .n_head = 8, .n_ff = 2048, .n_ctx = 1024,
		.n_vocab = 40000, .sigma = 0.02, .seed = 3,
	};
	cancel_state c = {0};
	pthread_t	thread;
	int64_t		start;

	(void) state;
	fixture_synth(&fx, "big", &o);
	fx.paths.keep_free = UINT64_MAX;
	refuse_model("big", G2_E_DISK_FULL, "not enough disk space");
	fx.paths.keep_free = UINT64_C(1) << 60;
	refuse_model("big", G2_E_DISK_FULL, "not enough disk space");
	assert_int_equal(tb_count(fx.packs), 0);
	fx.paths.keep_free = 0;
	assert_int_equal(pthread_create(&thread, NULL, cancel_thread, &c), 0);
	while (atomic_load(&c.progress.done) < 10000000 && !c.ok)
		usleep(100);
	start = g2_now_us();
	atomic_store(&c.cancel, true);
	pthread_join(thread, NULL);
	assert_true(g2_now_us() - start < 250000);
	assert_false(c.ok);
	EXPECT_ERROR(c.err, G2_E_CANCELED, "canceled");
	assert_int_equal(tb_count(fx.packs), 0);
	check_model("big");
}

static void
test_disk_full(void **state)
{
	char	   *disk = strdup(tb_path(fx.root, "disk"));
	g2_error	err = {0};
	g2_pack    *pack;

	(void) state;
	assert_int_equal(mkdir(disk, 0700), 0);
	if (geteuid() != 0 || mount("tmpfs", disk, "tmpfs", 0, "size=64k") != 0)
	{
		free(disk);
		print_message("needs the right to mount\n");
		skip();
	}
	fixture_synth(&fx, "m", &small_model);
	fx.paths.pack_directory = tb_path(disk, "packs");
	if (g2_pack_open(&fx.paths, "m", G2_FORMAT_F32, NULL, NULL, &pack, &err))
		err.code = G2_OK;
	umount(disk);
	EXPECT_ERROR(err, G2_E_DISK_FULL, "not enough disk space");
	assert_non_null(strstr(err.hint, "gpt2.pack_directory"));
	free(disk);
}

static void
test_pack_directory(void **state)
{
	(void) state;
	fixture_synth(&fx, "m", &small_model);
	fx.paths.pack_directory = "/nonexistent/packs";
	refuse_model("m", G2_E_NO_FILE, "create directory");
	tb_text(fx.root, "file", "x");
	fx.paths.pack_directory = tb_path(fx.root, "file");
	refuse_model("m", G2_E_NO_FILE, "Not a directory");
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
		TEST(test_description),
		TEST(test_source_changes),
		TEST(test_sweep),
		TEST(test_damage),
		TEST(test_two_processes),
		TEST(test_memory),
		TEST(test_find_memory),
		TEST(test_cancel),
		TEST(test_big),
		TEST(test_disk_full),
		TEST(test_pack_directory),
		TEST(test_shared_models),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
