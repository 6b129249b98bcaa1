/*
 * test_pack.c: the life of a packed file: what makes a model be packed again, damage, two
 * processes at once, faults of memory, cancel.
 */
#include "pack_fixture.h"

#include "own_json.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/wait.h>

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
							"{\"stop\":{\"t\":[\"x\"]},\"templates\":{\"t\":\"{input}\"}}");
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
	tb_text(folder, "gpt2.json", "{\"stop\": {}}");
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

/* Asked of an open pack: what opening it again would notice, but for a folder that is no model. */
static void
test_changed(void **state)
{
	struct timespec times[2] = {{1000000000, 1}, {1000000000, 1}};
	const char *shard = "model-00002-of-00002.safetensors";
	char	   *folder,
			   *model;
	size_t		len;
	g2_file_state own = {0};	/* there is none */
	g2_pack    *pack;

	(void) state;
	fixture_synth(&fx, "good", &small_model);
	rewrite_model(&fx, "good", "m", &(rewrite) {.dtype = "F32", .prefix = "", .shards = 2});
	folder = strdup(fixture_folder(&fx, "m"));
	pack = open_model("m");
	assert_false(g2_pack_changed(pack, &own));
	tb_text(folder, "README.md", "x");
	assert_false(g2_pack_changed(pack, &own));
	/* its time, its inode, its size; another file */
	assert_int_equal(utimensat(AT_FDCWD, tb_path(folder, shard), times, 0), 0);
	assert_true(g2_pack_changed(pack, &own));
	g2_pack_close(pack);
	pack = open_model("m");
	assert_false(g2_pack_changed(pack, &own));
	model = tb_read(folder, shard, &len);
	tb_write(folder, "new", model, len);
	free(model);
	assert_int_equal(rename(tb_path(folder, "new"), tb_path(folder, shard)), 0);
	assert_true(g2_pack_changed(pack, &own));
	g2_pack_close(pack);
	pack = open_model("m");
	tb_text(folder, "gpt2.json", "{}");
	assert_true(g2_pack_changed(pack, &own));
	own = g2_file_state_at(folder, G2_OWN_JSON);
	assert_false(g2_pack_changed(pack, &own));
	assert_int_equal(unlink(tb_path(folder, "gpt2.json")), 0);
	assert_true(g2_pack_changed(pack, &own));
	own = (g2_file_state) {0};
	assert_false(g2_pack_changed(pack, &own));
	assert_int_equal(unlink(tb_path(folder, shard)), 0);
	assert_true(g2_pack_changed(pack, &own));
	/* nothing to load instead */
	assert_int_equal(rename(tb_path(folder, "config.json"), tb_path(fx.root, "c")), 0);
	assert_false(g2_pack_changed(pack, &own));
	assert_int_equal(rename(tb_path(fx.root, "c"), tb_path(folder, "config.json")), 0);
	assert_true(g2_pack_changed(pack, &own));
	assert_int_equal(rename(folder, tb_path(fx.root, "gone")), 0);
	assert_false(g2_pack_changed(pack, &own));
	/* no memory to look: it is used on */
	assert_int_equal(rename(tb_path(fx.root, "gone"), folder), 0);
	for (long n = 1; n <= 5; n++)
	{
		g2_alloc_fail_at(n);
		/* the second: the name of a file that is not there */
		assert_int_equal(g2_pack_changed(pack, &own), n == 2);
		g2_alloc_fail_at(0);
	}
	assert_true(g2_pack_changed(pack, &own));
	g2_pack_close(pack);
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
	snprintf(path, sizeof path, "%s", pack->path);
	g2_pack_close(pack);
	/* what others can write is not even looked into: they could cut it short meanwhile */
	assert_int_equal(mkdir(tb_path(fx.root, "third"), 0700), 0);
	assert_int_equal(rename(tb_path(fx.root, "other/m"), tb_path(fx.root, "third/m")), 0);
	fx.directories[0] = tb_path(fx.root, "third");
	assert_int_equal(chmod(path, 0660), 0);
	g2_pack_close(open_model("m"));
	assert_int_equal(tb_count(fx.packs), 2);
	assert_int_equal(unlink(path), 0);
	/* temporaries of the dead go, one that somebody holds stays, other files too */
	tb_text(fx.packs, "x-f32-0123456789abcdef.pack.1.2.tmp", "old");
	tb_text(fx.packs, "x-f32-0123456789abcdef.pack.1.3.tmp", "new");
	tb_text(fx.packs, "notes.txt", "mine");
	snprintf(path, sizeof path, "%s", tb_path(fx.packs, "x-f32-0123456789abcdef.pack.1.3.tmp"));
	fd = open(path, O_RDONLY);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	tb_text(tb_path(fx.directories[0], "m"), "gpt2.json", "{\"stop\": {}}");
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

#define MOST_AT_WORK (8u << 20)	/* bytes of the model's 95 MB */

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
	uint64_t	done;

	(void) state;
	fixture_synth(&fx, "big", &o);
	fx.paths.keep_free = UINT64_MAX;
	refuse_model("big", G2_E_DISK_FULL, "not enough disk space");
	fx.paths.keep_free = UINT64_C(1) << 60;
	refuse_model("big", G2_E_DISK_FULL, "not enough disk space");
	assert_int_equal(tb_count(fx.packs), 0);
	fx.paths.keep_free = 0;
	assert_int_equal(pthread_create(&thread, NULL, cancel_thread, &c), 0);
	while (atomic_load(&c.progress.done) == 0)
		usleep(100);
	atomic_store(&c.cancel, true);
	done = atomic_load(&c.progress.done);
	pthread_join(thread, NULL);
	/* What was at work is finished, and nothing begun. */
	assert_true(atomic_load(&c.progress.done) - done <= MOST_AT_WORK);
	assert_false(c.ok);
	EXPECT_ERROR(c.err, G2_E_CANCELED, "canceled");
	assert_int_equal(tb_count(fx.packs), 0);
	check_model("big");
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_description),
		TEST(test_source_changes),
		TEST(test_changed),
		TEST(test_sweep),
		TEST(test_damage),
		TEST(test_two_processes),
		TEST(test_memory),
		TEST(test_find_memory),
		TEST(test_cancel),
		TEST(test_big),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
