/*
 * test_train_ends.c: how trainings end: by patience, at a loss that is no number, by a cancel at the
 * last moment, with a base that is gone; and those that end nobody knows when.
 */
#include "train_job.h"

#include <fcntl.h>
#include <math.h>

/* ---- ends before the last step ---- */

static void
test_patience(void **state)
{
	char	   *root = new_root();
	g2_train	o = small_options();

	(void) state;
	o.steps = 100000;
	o.eval_every = 1;
	o.patience = 3;
	o.dropout = 0;
	o.learning_rate = 0.02;
	expect_done(fork_job(root, &o, 20));
	assert_true(contains(root, "README.md", "stopped when the held-out loss no longer fell"));
	tb_remove(root);
}

/* Weights grow at each step until the loss is no number. */
static g2_train
diverging_options(void)
{
	g2_train	o = small_options();

	o.learning_rate = 100;
	o.optimizer = G2T_SGD;
	o.warmup_steps = 0;
	o.grad_clip = 0;
	o.weight_decay = 90;
	o.eval_fraction = 0;
	o.dropout = 0;
	o.schedule = G2T_CONSTANT;
	o.steps = 500;
	return o;
}

/* The step before the one whose loss is no number. */
static uint32_t
last_step(const g2_error *err)
{
	uint32_t	step;

	assert_int_equal(sscanf(err->message, "the loss of step %u is not", &step), 1);
	assert_true(step > 1);
	return step - 1;
}

/* The loss of a few tokens. */
static double
loss_of_made(const char *root)
{
	uint32_t	start[] = {0, 4},
				tokens[] = {2, 3, 4, 5},
				targets[] = {3, 4, 5, 6};
	const g2t_batch batch = {.n = 4, .n_sequences = 1, .start = start, .tokens = tokens,
	.targets = targets};
	char		folder[600];
	g2_description d;
	g2_buf		blob = {0};
	g2t_parameters p,
				none = {0};
	g2t_context context;
	g2t_network *net;
	g2_error	err;
	double		loss;

	snprintf(folder, sizeof folder, "%s/models/made", root);
	EXPECT_OK(g2_model_describe(folder, &d, &blob, &err), err);
	EXPECT_OK(g2t_parameters_open(&d.arch, G2T_WEIGHTS, &p, &err), err);
	EXPECT_OK(g2t_parameters_read(folder, &d.arch, &p, &err), err);
	EXPECT_OK(g2t_context_open(1, 0, g2t_attention_scratch(d.arch.n_ctx), &context, &err), err);
	EXPECT_OK(g2t_network_open(&d.arch, &context, &p, &none,
							   &(g2t_network_options) {.rows = 4}, &net, &err), err);
	loss = g2t_network_loss(net, &batch);
	g2t_network_close(net);
	g2t_context_close(&context);
	g2t_parameters_close(&p);
	g2_description_free(&d);
	g2_buf_free(&blob);
	return loss;
}

static void
test_not_finite(void **state)
{
	char	   *root = new_root();
	g2_train	o = diverging_options();
	g2_error	err;

	(void) state;
	/* No checkpoint: nothing is left. */
	assert_false(run_job(root, &o, 20, &err));
	assert_int_equal(err.code, G2_E_PARAM);
	assert_true(strstr(err.message, "not a finite number") != NULL);
	assert_true(strstr(err.hint, "learning_rate") != NULL);
	/* With one, its weights; those that gave such a loss are in none. */
	EXPECT_OK(run_job(root, &o, 0, &err), err);
	assert_true(contains(root, "README.md", "stopped at a loss that was no number"));
	assert_true(isfinite(loss_of_made(root)));
	tb_remove(root);
}

/* The step that spoils the weights is the last: nobody would look at them again.  By the seed it is
 * the loss or, earlier, the gradient that is no number first, and then such a step is not taken. */
static void
test_not_finite_at_end(void **state)
{
	char	   *root = new_root();
	g2_train	o = diverging_options();
	g2_error	err;
	bool		made = true;

	(void) state;
	for (o.seed = 1; made && o.seed < 50; o.seed++)
	{
		tb_remove(root);
		root = new_root();
		o.steps = diverging_options().steps;
		assert_false(run_job(root, &o, 20, &err));
		o.steps = last_step(&err);
		made = run_job(root, &o, 20, &err);
	}
	o.seed--;
	assert_false(made);
	EXPECT_ERROR(err, G2_E_PARAM, "is not a finite number");
	EXPECT_OK(run_job(root, &o, 0, &err), err);
	assert_true(isfinite(loss_of_made(root)));
	tb_remove(root);
}

/* A held-out loss that is no number is not the best. */
static void
test_not_finite_held_out(void **state)
{
	char	   *root = new_root();
	g2_train	o = diverging_options();
	g2_error	err;

	(void) state;
	o.eval_fraction = 0.2;
	o.eval_every = o.steps;
	assert_false(run_job(root, &o, 20, &err));
	o.eval_every = last_step(&err);
	EXPECT_OK(run_job(root, &o, 0, &err), err);
	assert_true(isfinite(loss_of_made(root)));
	tb_remove(root);
}

/* ---- the base ---- */

typedef struct base_job
{
	char	   *root;
	char		base[600];
	g2_train	options;
} base_job;

static void
open_base_job(base_job *b)
{
	g2_error	err;
	char		made[600];

	b->root = new_root();
	b->options = small_options();
	b->options.steps = 2;
	EXPECT_OK(run_job(b->root, &b->options, 20, &err), err);
	snprintf(made, sizeof made, "%s/models/made", b->root);
	snprintf(b->base, sizeof b->base, "%s/models/base", b->root);
	assert_int_equal(rename(made, b->base), 0);
	start_root(b->root);
	b->options.base = g2_span_of(b->base);
}

/* Until the file is there. */
static void
wait_for_file(const char *path)
{
	int64_t		start = g2_now_us();

	while (access(path, F_OK) != 0)
	{
		if (g2_now_us() - start > 60000000)
			fail_msg("%s does not come", path);
		usleep(1000);
	}
}

static void
kill_job(pid_t pid)
{
	int			status;

	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
}

static const char *removed_base;
static bool told_of_base;

/* The last that is said before the steps. */
static void
remove_base(void *arg, g2_level level, const char *message, const char *hint)
{
	(void) arg;
	(void) hint;
	if (strstr(message, "going on after step"))
		tb_remove(strdup(removed_base));
	if (level == G2_LEVEL_WARNING && strstr(message, "the base of adapter \"made\""))
		told_of_base = true;
}

/* What the model has of its base was read at the beginning.  An adapter that is kept needs it later,
 * as a warning says. */
static void
check_base_gone(bool kept)
{
	base_job	b;
	g2_error	err;
	char		train[512],
				models[512],
				name[65];
	atomic_bool cancel = false;
	g2t_job		job = {.options = &b.options, .cancel = &cancel, .notice = remove_base,
	.progress_fd = -1, .checkpoint_seconds = 20};
	pid_t		pid;

	open_base_job(&b);
	b.options.steps = 100000;
	b.options.eval_fraction = 0;
	b.options.keep_adapter = kept;
	b.options.lora_rank = kept ? 2 : 0;
	b.options.lora_alpha = 4;
	pid = fork_job(b.root, &b.options, 0);
	wait_for_file(tb_path(b.root, "train/job/checkpoint"));
	kill_job(pid);
	b.options.steps = 3;
	removed_base = b.base;
	told_of_base = false;
	snprintf(train, sizeof train, "%s/train", b.root);
	snprintf(models, sizeof models, "%s/models", b.root);
	EXPECT_OK(g2t_job_hash(&b.options, name, job.base_hash, &err), err);
	EXPECT_OK(g2t_place_open(train, "job", 2000, &job.place, &err), err);
	EXPECT_OK(g2t_job_run(&job, models, &err), err);
	g2t_place_close(&job.place);
	assert_true(access(b.base, F_OK) != 0);
	assert_int_equal(told_of_base, kept);
	if (kept)
		assert_true(contains(b.root, "adapter_config.json", "base"));
	else
	{
		assert_true(contains(b.root, "tokenizer.json", "WordLevel"));
		assert_true(contains(b.root, "config.json", "gelu_new"));
		assert_true(isfinite(loss_of_made(b.root)));
	}
	tb_remove(b.root);
}

static void
test_base_gone(void **state)
{
	(void) state;
	check_base_gone(false);
	check_base_gone(true);
}

static atomic_bool cancel_at_end;

static void
cancel_job(void *arg, g2_level level, const char *message, const char *hint)
{
	(void) arg;
	(void) level;
	(void) hint;
	if (strstr(message, "going on after step"))
		atomic_store(&cancel_at_end, true);
}

/* No model comes of a training that was canceled, were it only to be written any more. */
static void
test_canceled_at_end(void **state)
{
	char	   *root = new_root();
	g2_train	o = small_options();
	g2t_job		job = {.options = &o, .cancel = &cancel_at_end, .notice = cancel_job,
	.progress_fd = -1};
	g2_error	err;
	pid_t		pid;

	(void) state;
	o.steps = 100000;
	o.eval_every = 1;
	pid = fork_job(root, &o, 0);
	wait_for_file(tb_path(root, "train/job/checkpoint"));
	kill_job(pid);
	o.steps = 1;
	EXPECT_OK(g2t_place_open(tb_path(root, "train"), "job", 2000, &job.place, &err), err);
	EXPECT_OK(g2t_target_check(&job.place, tb_path(root, "models"), &err), err);
	assert_false(g2t_job_run(&job, tb_path(root, "models"), &err));
	assert_int_equal(err.code, G2_E_CANCELED);
	g2t_place_close(&job.place);
	assert_true(access(tb_path(root, "models/made"), F_OK) != 0);
	tb_remove(root);
}

/* Another one came between the look at its content and its weights. */
static void
test_base_replaced(void **state)
{
	base_job	b;
	g2_error	err;
	char		name[65];
	atomic_bool cancel = false;
	g2t_job		job = {.options = &b.options, .cancel = &cancel, .progress_fd = -1};

	(void) state;
	open_base_job(&b);
	EXPECT_OK(g2t_job_hash(&b.options, name, job.base_hash, &err), err);
	tb_text(b.base, "gpt2.json", "{\"templates\": {\"x\": \"{text}\"}}");
	EXPECT_OK(g2t_place_open(tb_path(b.root, "train"), "job", 2000, &job.place, &err), err);
	assert_false(g2t_job_run(&job, tb_path(b.root, "models"), &err));
	EXPECT_ERROR(err, G2_E_VERSION, "was replaced while it was read");
	g2t_place_close(&job.place);
	tb_remove(b.root);
}

/* ---- directories that are left ---- */

/* What counts is when it was last at work, not when it began. */
static void
test_long_training(void **state)
{
	char	   *root = new_root();
	const struct timespec old[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
	g2_train	o = small_options();
	pid_t		pid;
	int64_t		start = g2_now_us();
	struct stat st;

	(void) state;
	o.steps = 1000000;
	pid = fork_job(root, &o, 0);
	wait_for_file(tb_path(root, "train/job/checkpoint"));
	assert_int_equal(utimensat(AT_FDCWD, tb_path(root, "train/job/lock"), old, 0), 0);
	do
	{
		if (g2_now_us() - start > 60000000)
		{
			kill_job(pid);
			fail_msg("its checkpoints do not tell that somebody is there");
		}
		usleep(1000);
		assert_int_equal(stat(tb_path(root, "train/job/lock"), &st), 0);
	} while (st.st_mtime < 3600);
	kill_job(pid);
	g2t_place_purge(tb_path(root, "train"), 14 * 24 * 3600);
	assert_int_equal(access(tb_path(root, "train/job/checkpoint"), F_OK), 0);
	tb_remove(root);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_patience),
		cmocka_unit_test(test_not_finite),
		cmocka_unit_test(test_not_finite_at_end),
		cmocka_unit_test(test_not_finite_held_out),
		cmocka_unit_test(test_canceled_at_end),
		cmocka_unit_test(test_base_gone),
		cmocka_unit_test(test_base_replaced),
		cmocka_unit_test(test_long_training),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
