/*
 * train_job.h: trainings for tests: options, rows, a run in a process of its own, which may be
 * killed.
 */
#ifndef TRAIN_JOB_H
#define TRAIN_JOB_H

#include "train_fixture.h"

#include <signal.h>
#include <sys/wait.h>

#include "job.h"
#include "learn.h"
#include "model.h"
#include "spool.h"

static UNUSED g2_train
small_options(void)
{
	return (g2_train) {
		.model = g2_span_of("made"), .query = g2_span_of("SELECT text FROM rows"),
		.owner = {g2_span_of("alice"), 10, 7}, .tokenizer = G2T_CHAR, .n_layer = 2, .n_head = 2,
		.n_embd = 32, .context = 32, .steps = 30, .batch_tokens = 64, .optimizer = G2T_ADAMW,
		.schedule = G2T_COSINE, .warmup_steps = 3, .learning_rate = 3e-3, .beta1 = 0.9,
		.beta2 = 0.99, .weight_decay = 0.1, .grad_clip = 1.0, .dropout = 0.1,
		.eval_fraction = 0.2, .seed = 5, .threads = 1, .memory = 1u << 30,
	};
}

static UNUSED void
write_rows(const char *parent, const char *name)
{
	g2t_place	place;
	g2t_writer	w;
	g2_error	err;

	EXPECT_OK(g2t_place_open(parent, name, 0, &place, &err), err);
	EXPECT_OK(g2t_writer_open(&place, G2T_ROWS_FILE, &w, &err), err);
	for (int i = 0; i < 40; i++)
	{
		char		text[128];
		const char *more = i % 10 == 0 ? "This row is longer than a window of the model." : "";
		int			n = snprintf(text, sizeof text,
								 "%d plus %d is %d, \xE4\xBD\xA0\xE5\xA5\xBD. %s", i, i % 7,
								 i + i % 7, more);

		EXPECT_OK(g2t_spool_write(&w, i % 3 == 0, text, 8, text, (size_t) n, &err), err);
	}
	EXPECT_OK(g2t_writer_finish(&w, &err), err);
	g2t_writer_close(&w);
	g2t_place_close(&place);
}

/* Runs a training in root/train/job, whose model comes to root/models; false with its error. */
static UNUSED bool
run_job(const char *root, const g2_train *options, double checkpoint_seconds, g2_error *err)
{
	atomic_bool cancel = false;
	g2t_job		job = {.options = options, .cancel = &cancel, .progress_fd = -1,
	.checkpoint_seconds = checkpoint_seconds};
	char		train[512],
				models[512],
				name[65];
	bool		ok;

	snprintf(train, sizeof train, "%s/train", root);
	snprintf(models, sizeof models, "%s/models", root);
	if (!g2t_job_check(options, err) || !g2t_job_hash(options, name, job.base_hash, err) ||
		!g2t_place_open(train, "job", 2000, &job.place, err))
		return false;
	ok = g2t_target_check(&job.place, models, err) && g2t_job_run(&job, models, err);
	g2t_place_close(&job.place);
	return ok;
}

static UNUSED void
start_root(const char *root)
{
	char		train[512];

	snprintf(train, sizeof train, "%s/train", root);
	write_rows(train, "job");
}

static UNUSED char *
new_root(void)
{
	char	   *root = tb_folder();

	start_root(root);
	return root;
}

/* A process that runs it; its status is 0 when the model is there. */
static UNUSED pid_t
fork_job(const char *root, const g2_train *options, double checkpoint_seconds)
{
	pid_t		pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
	{
		g2_error	err = {0};
		bool		ok = run_job(root, options, checkpoint_seconds, &err);

		if (!ok)
			fprintf(stderr, "job: %s\n", err.message);
		_exit(ok ? 0 : 1);
	}
	return pid;
}

static UNUSED void
expect_done(pid_t pid)
{
	int			status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* The bytes of a file of the made model. */
static UNUSED char *
made_file(const char *root, const char *name, size_t *len)
{
	char		folder[512];

	snprintf(folder, sizeof folder, "%s/models/made", root);
	return tb_read(folder, name, len);
}

static UNUSED bool
contains(const char *root, const char *file, const char *what)
{
	size_t		len;
	char	   *text = made_file(root, file, &len);
	bool		found = memmem(text, len, what, strlen(what)) != NULL;

	free(text);
	return found;
}

#endif							/* TRAIN_JOB_H */
