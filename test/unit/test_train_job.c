/*
 * test_train_job.c: whole trainings: the folder that comes out, the same bits for any number of
 * threads and after any number of kills, what is refused.
 */
#include "train_job.h"

#include "optimizer.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define KILLS 20

static bool
has_model(const char *root)
{
	return access(tb_path(root, "models/made/model.safetensors"), F_OK) == 0;
}

static void
expect_same_weights(const char *a, const char *b)
{
	size_t		n,
				m;
	char	   *x = made_file(a, "model.safetensors", &n),
			   *y = made_file(b, "model.safetensors", &m);

	assert_int_equal(n, m);
	assert_memory_equal(x, y, n);
	free(x);
	free(y);
}

/* ---- what comes out ---- */

static void
check_folder(const char *root)
{
	char		folder[600],
				models[512],
				packs[512];
	const char *directories[1] = {models};
	g2_model_paths paths = {directories, 1, packs, 0};
	g2_description d;
	g2_buf		blob = {0};
	g2_pack    *pack;
	g2_ids		ids = {0};
	g2_error	err;

	snprintf(models, sizeof models, "%s/models", root);
	snprintf(packs, sizeof packs, "%s/packs", root);
	snprintf(folder, sizeof folder, "%s/made", models);
	EXPECT_OK(g2_model_describe(folder, &d, &blob, &err), err);
	assert_int_equal(d.arch.n_layer, 2);
	assert_true(d.end_token != G2_NO_TOKEN);
	assert_int_equal(d.n_warnings, 0);
	assert_null(d.tasks);		/* roles and owner are no content */
	EXPECT_OK(g2_pack_open(&paths, "made", G2_FORMAT_F32, NULL, NULL, &pack, &err), err);
	EXPECT_OK(g2_tokenizer_encode(pack->tokenizer, "1 plus \xE4\xBD\xA0", 10, 0, NULL, &ids, &err),
			  err);
	assert_int_equal(ids.len, 8);
	g2_free(ids.data);
	g2_pack_close(pack);
	g2_description_free(&d);
	g2_buf_free(&blob);
}

static void
test_folder(void **state)
{
	char	   *root = new_root();
	g2_train	o = small_options();

	(void) state;
	expect_done(fork_job(root, &o, 20));
	check_folder(root);
	assert_true(contains(root, "gpt2.json", "\"owner\":\t\"alice\""));
	assert_true(contains(root, "README.md", "SELECT text FROM rows"));
	assert_true(contains(root, "training_log.csv", "\n30,"));
	assert_true(access(tb_path(root, "train/job"), F_OK) != 0);
	tb_remove(root);
}

/* The loss falls: the rows are regular. */
static void
test_learns(void **state)
{
	char	   *root = new_root();
	g2_train	o = small_options();
	char	   *log,
			   *line;
	size_t		len;
	double		first = 0,
				last = 0;

	(void) state;
	o.steps = 150;
	o.dropout = 0;
	expect_done(fork_job(root, &o, 20));
	log = made_file(root, "training_log.csv", &len);
	line = strchr(log, '\n') + 1;
	for (bool is_first = true; *line; is_first = false)
	{
		double		loss = strtod(strchr(line, ',') + 1, NULL);

		if (is_first)
			first = loss;
		last = loss;
		line = strchr(line, '\n') + 1;
	}
	assert_true(first > 3.0);
	assert_true(last < 0.6 * first);
	free(log);
	tb_remove(root);
}

/* ---- the same bits ---- */

static void
test_threads(void **state)
{
	char	   *one = new_root();
	g2_train	o = small_options();

	(void) state;
	expect_done(fork_job(one, &o, 20));
	for (uint32_t threads = 2; threads <= 3; threads++)
	{
		char	   *other = new_root();

		o.threads = threads;
		o.memory = threads == 2 ? 0 : 1u << 30;	/* activations are computed again */
		expect_done(fork_job(other, &o, 20));
		expect_same_weights(one, other);
		tb_remove(other);
	}
	tb_remove(one);
}

/* Where the file of its first checkpoint is to be, the job finds a pipe: it is amid writing it when
 * its bytes come, however fast the machine is. */
static void
kill_in_checkpoint(const char *root, const g2_train *options)
{
	char	   *path = strdup(tb_path(root, "train/job/checkpoint.new"));
	struct pollfd written = {.events = POLLIN};
	int			status;
	pid_t		pid;

	assert_int_equal(mkfifo(path, 0600), 0);
	written.fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	assert_true(written.fd >= 0);
	pid = fork_job(root, options, 0);
	assert_int_equal(poll(&written, 1, 60000), 1);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	close(written.fd);
	assert_int_equal(unlink(path), 0);
	free(path);
}

/* Killed in a checkpoint, then again and again, whenever: tokenizing, between steps. */
static void
check_kills(g2t_method method)
{
	char	   *whole = new_root(),
			   *killed = new_root();
	g2_train	o = small_options();
	uint64_t	random = 12345;
	int			kills = 0;

	o.optimizer = method;
	o.steps = 300;
	expect_done(fork_job(whole, &o, 20));
	kill_in_checkpoint(killed, &o);
	for (;;)
	{
		pid_t		pid = fork_job(killed, &o, 0);
		int			status = 0;

		random = random * 6364136223846793005u + 1442695040888963407u;
		if (kills < KILLS)
		{
			usleep((useconds_t) (random >> 33) % 60000);
			kill(pid, SIGKILL);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
		/* One that is killed when the model is in its place has nothing left to go on with. */
		if (WIFEXITED(status) || has_model(killed))
			break;
		kills++;
	}
	print_message("%d kills at random moments\n", kills);
	expect_same_weights(whole, killed);
	tb_remove(whole);
	tb_remove(killed);
}

/* sgd has one moment to go on with, adam two. */
static void
test_kills(void **state)
{
	(void) state;
	check_kills(G2T_ADAM);
	check_kills(G2T_SGD);
}

/* ---- faults ---- */

/* No file may be larger than this, as on a full disk: a clear error, no model, and the training
 * goes on where there is room again. */
static void
test_full_disk(void **state)
{
	char	   *whole = new_root(),
			   *root = new_root();
	g2_train	o = small_options();

	(void) state;
	expect_done(fork_job(whole, &o, 20));
	for (rlim_t size = 64; size < 1u << 20; size *= 8)
	{
		pid_t		pid = fork();
		int			status;

		if (pid == 0)
		{
			struct rlimit limit = {size, size};
			g2_error	err = {0};
			bool		ok;

			signal(SIGXFSZ, SIG_IGN);
			setrlimit(RLIMIT_FSIZE, &limit);
			ok = run_job(root, &o, 0, &err);
			_exit(ok ? 1 : err.code == G2_E_IO || err.code == G2_E_DISK_FULL ? 0 : 2);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 2);
		assert_true(WEXITSTATUS(status) == 1 ||
					access(tb_path(root, "models/made/config.json"), F_OK) != 0);
		if (WEXITSTATUS(status) == 1)
			break;
	}
	if (access(tb_path(root, "models/made/config.json"), F_OK) != 0)
		expect_done(fork_job(root, &o, 0));
	expect_same_weights(whole, root);
	tb_remove(whole);
	tb_remove(root);
}

/* Whichever allocation fails: 53200, nothing half-done, and the same bits at last. */
static void
test_no_memory(void **state)
{
	char	   *whole = new_root(),
			   *root = new_root();
	g2_train	o = small_options();
	g2_error	err;
	long		n = 1;
	bool		done = false;

	(void) state;
	o.steps = 5;
	EXPECT_OK(run_job(whole, &o, 20, &err), err);
	while (!done)
	{
		g2_alloc_fail_at(n);
		done = run_job(root, &o, 20, &err);
		g2_alloc_fail_at(0);
		if (!done)
			assert_int_equal(err.code, G2_E_MEMORY);
		n += 1 + n / 8;
	}
	assert_true(n > 20);
	expect_same_weights(whole, root);
	tb_remove(whole);
	tb_remove(root);
}

/* ---- from a model that is there ---- */

static void
test_finetune(void **state)
{
	char	   *root = new_root();
	char		base[512],
				made[512];
	g2_train	o = small_options();
	g2_error	err;

	(void) state;
	EXPECT_OK(run_job(root, &o, 20, &err), err);
	snprintf(base, sizeof base, "%s/models/base", root);
	snprintf(made, sizeof made, "%s/models/made", root);
	assert_int_equal(rename(made, base), 0);
	for (uint32_t rank = 0; rank <= 4; rank += 4)
	{
		start_root(root);
		o = small_options();
		o.base = g2_span_of(base);
		o.lora_rank = rank;
		o.lora_alpha = 8;
		o.replace = rank > 0 ? G2_TRAIN_REPLACE_OWN : G2_TRAIN_REPLACE_NONE;
		EXPECT_OK(run_job(root, &o, 20, &err), err);
		check_folder(root);
	}
	/* The name is taken, by a model of somebody else in the second case. */
	start_root(root);
	o.replace = G2_TRAIN_REPLACE_NONE;
	assert_false(run_job(root, &o, 20, &err));
	assert_true(strstr(err.message, "exists already") != NULL);
	o.replace = G2_TRAIN_REPLACE_OWN;
	tb_text(made, "gpt2.json", "{\"owner\":\"bob\"}");
	assert_false(run_job(root, &o, 20, &err));
	assert_true(strstr(err.message, "exists already") != NULL);
	/* What was trained is kept: where it may replace bob's, it does so at once. */
	o.replaced.name = g2_span_of("bob");
	EXPECT_OK(run_job(root, &o, 20, &err), err);
	assert_true(contains(root, "gpt2.json", "bob"));
	assert_false(contains(root, "gpt2.json", "alice"));
	assert_false(contains(root, "gpt2.json", "roles"));
	tb_remove(root);
}

/* ---- nothing to learn ---- */

/* It is said again where the process was killed as it said so. */
static void
test_no_rows(void **state)
{
	char	   *root = tb_folder();
	g2_train	o = small_options();
	g2t_place	place;
	g2t_writer	w;
	g2_error	err;

	(void) state;
	o.tokenizer = G2T_BYTE;
	EXPECT_OK(g2t_place_open(tb_path(root, "train"), "job", 0, &place, &err), err);
	EXPECT_OK(g2t_writer_open(&place, G2T_ROWS_FILE, &w, &err), err);
	EXPECT_OK(g2t_spool_write(&w, false, NULL, 0, "", 0, &err), err);
	EXPECT_OK(g2t_writer_finish(&w, &err), err);
	g2t_writer_close(&w);
	g2t_place_close(&place);
	for (int i = 0; i < 2; i++)
	{
		assert_false(run_job(root, &o, 20, &err));
		EXPECT_ERROR(err, G2_E_PARAM, "no rows to learn from");
	}
	for (o.tokenizer = G2T_CHAR; o.tokenizer <= G2T_BPE; o.tokenizer += G2T_BPE - G2T_CHAR)
	{
		unlink(tb_path(root, "train/job/windows"));
		o.vocab_size = 300;
		assert_false(run_job(root, &o, 20, &err));
		EXPECT_ERROR(err, G2_E_PARAM, "no rows to learn from");
	}
	tb_remove(root);
}

/* ---- what is refused ---- */

static void
test_refused(void **state)
{
	struct
	{
		g2_code		code;
		const char *message;
		g2_train	o;
	}			bad[] = {
		{G2_E_NAME, "name", small_options()},
		{G2_E_PARAM, "n_embd must be a multiple of n_head", small_options()},
		{G2_E_PARAM, "learning_rate", small_options()},
		{G2_E_PARAM, "dropout", small_options()},
		{G2_E_PARAM, "vocab_size", small_options()},
		{G2_E_PARAM, "epochs", small_options()},
		{G2_E_PARAM, "context", small_options()},
		{G2_E_PARAM, "batch_tokens", small_options()},
		{G2_E_PARAM, "the role is not valid UTF-8", small_options()},
		{G2_E_PARAM, "patience needs rows", small_options()},
	};

	(void) state;
	bad[0].o.model = g2_span_of("../x");
	bad[1].o.n_head = 3;
	bad[2].o.learning_rate = NAN;
	bad[3].o.dropout = 1;
	bad[4].o.tokenizer = G2T_BPE;
	bad[4].o.vocab_size = 100;
	bad[5].o.steps = 0;
	bad[6].o.context = 1;
	bad[7].o.batch_tokens = 1u << 30;
	bad[8].o.owner.name = g2_span_of("m\xFCller");
	bad[9].o.patience = 1;
	bad[9].o.eval_fraction = 0;
	for (size_t i = 0; i < G2_LENGTH(bad); i++)
	{
		g2_error	err;

		assert_false(g2t_job_check(&bad[i].o, &err));
		assert_int_equal(err.code, bad[i].code);
		assert_true(strstr(err.message, bad[i].message) != NULL);
	}
}

/* The hash knows what changes the result, and nothing else. */
static void
test_hash(void **state)
{
	g2_train	o = small_options();
	char		a[65],
				b[65],
				base[65];
	g2_error	err;

	(void) state;
	EXPECT_OK(g2t_job_hash(&o, a, base, &err), err);
	o.threads = 7;
	o.replace = 1;
	EXPECT_OK(g2t_job_hash(&o, b, base, &err), err);
	assert_string_equal(a, b);
	o.owner.name = g2_span_of("alice renamed");
	EXPECT_OK(g2t_job_hash(&o, b, base, &err), err);
	assert_string_equal(a, b);
	o.owner.oid = 12;
	EXPECT_OK(g2t_job_hash(&o, b, base, &err), err);
	assert_string_not_equal(a, b);
	o = small_options();
	o.learning_rate *= 2;
	EXPECT_OK(g2t_job_hash(&o, b, base, &err), err);
	assert_string_not_equal(a, b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_folder),
		cmocka_unit_test(test_learns),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_kills),
		cmocka_unit_test(test_full_disk),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_finetune),
		cmocka_unit_test(test_no_rows),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_hash),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
