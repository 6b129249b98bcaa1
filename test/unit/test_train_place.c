/*
 * test_train_place.c: the directories of trainings: room that is left on their file system, who
 * waits for one that is removed, which go by themselves.
 */
#include "train_job.h"

/* Large files leave room for the server's, small ones do not ask. */
static void
test_space(void **state)
{
	char	   *root = tb_folder(),
			   *piece = calloc(1, 1 << 20);
	g2t_place	place;
	g2t_writer	w;
	g2_error	err = {0};
	bool		ok = true;
	int			n = 0;

	(void) state;
	EXPECT_OK(g2t_place_open(root, "job", 0, &place, &err), err);
	place.keep_free = UINT64_MAX;
	EXPECT_OK(g2t_writer_open(&place, "small", &w, &err), err);
	EXPECT_OK(g2t_write(&w, piece, 1 << 20, &err), err);
	EXPECT_OK(g2t_writer_finish(&w, &err), err);
	g2t_writer_close(&w);
	EXPECT_OK(g2t_writer_open(&place, "large", &w, &err), err);
	for (; ok && n < 32; n++)
		ok = g2t_write(&w, piece, 1 << 20, &err);
	assert_int_equal(n, 16);
	EXPECT_ERROR(err, G2_E_DISK_FULL, "not enough disk space to train");
	g2t_writer_close(&w);
	assert_false(g2t_place_has(&place, "large"));
	g2t_place_remove(&place);
	free(piece);
	tb_remove(root);
}

/* Until the process has the file open. */
static void
wait_for_open(pid_t pid, const char *file)
{
	int64_t		start = g2_now_us();

	for (;;)
	{
		for (int fd = 3; fd < 64; fd++)
		{
			char		link[64],
						target[512];
			ssize_t		n;

			snprintf(link, sizeof link, "/proc/%d/fd/%d", (int) pid, fd);
			n = readlink(link, target, sizeof target - 1);
			if (n > 0 && (target[n] = '\0', strcmp(target, file) == 0))
				return;
		}
		if (g2_now_us() - start > 60000000)
			fail_msg("the process does not open %s", file);
		usleep(1000);
	}
}

/* Who waits for a directory that is then removed has one of its own, also where its remover was
 * killed when only the name was gone. */
static void
check_removed(bool killed)
{
	char	   *root = tb_folder();
	g2t_place	place,
				other;
	g2_error	err;
	pid_t		pid;
	int			told[2];		/* that it is locked */

	assert_int_equal(pipe(told), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
	{
		char		ignored;

		_exit(read(told[0], &ignored, 1) == 1 &&
			  g2t_place_open(root, "job", 60000, &other, &err) &&
			  g2t_place_has(&other, "lock") ? 0 : 1);
	}
	EXPECT_OK(g2t_place_open(root, "job", 0, &place, &err), err);
	assert_int_equal(write(told[1], "x", 1), 1);
	close(told[0]);
	close(told[1]);
	wait_for_open(pid, tb_path(place.path, "lock"));
	if (killed)
	{
		assert_int_equal(rename(place.path, tb_path(root, ".gone.1.job")), 0);
		g2t_place_close(&place);
	}
	else
		g2t_place_remove(&place);
	expect_done(pid);
	assert_int_equal(tb_count(root), killed ? 2 : 1);
	tb_remove(root);
}

static void
test_removed(void **state)
{
	(void) state;
	check_removed(false);
	check_removed(true);
}

/* Old directories go, and what is left of one that was being removed; not what is in use. */
static void
test_purge(void **state)
{
	char	   *root = tb_folder();
	g2t_place	used,
				old;
	g2_error	err;

	(void) state;
	EXPECT_OK(g2t_place_open(root, "used", 0, &used, &err), err);
	EXPECT_OK(g2t_place_open(root, "old", 0, &old, &err), err);
	g2t_place_close(&old);
	assert_int_equal(mkdir(tb_path(root, ".gone.1.x"), 0700), 0);
	tb_text(tb_path(root, ".gone.1.x"), "rows", "x");
	g2t_place_purge(root, 3600);
	assert_int_equal(tb_count(root), 2);
	g2t_place_purge(root, -3600);
	assert_int_equal(tb_count(root), 1);
	assert_true(g2t_place_has(&used, "lock"));
	g2t_place_remove(&used);
	assert_int_equal(tb_count(root), 0);
	tb_remove(root);
}

/* As a process leaves it that is killed between the two: the finished folder has been moved, in the place
 * of an older one or not, and the rest is there. */
static void
test_done(void **state)
{
	(void) state;
	for (int exchanged = 0; exchanged <= 1; exchanged++)
	{
		char	   *root = tb_folder(),
					folder[G2T_MAX_PATH];
		g2t_place	place;
		g2t_job		job = {.progress_fd = -1};
		g2_error	err;

		EXPECT_OK(g2t_place_open(root, "job", 0, &place, &err), err);
		assert_false(g2t_place_is_done(&place));
		job.place = place;
		g2t_progress(&job, G2_TRAIN_STEPS);
		g2t_place_path(&place, G2_TRAIN_FOLDER, folder);
		assert_false(g2t_place_is_done(&place));
		assert_int_equal(mkdir(folder, 0700), 0);
		EXPECT_OK(g2t_progress_last(&job, folder, &err), err);
		assert_false(g2t_place_is_done(&place));
		assert_int_equal(rename(folder, tb_path(root, "moved")), 0);
		if (exchanged)
			assert_int_equal(mkdir(folder, 0700), 0);
		assert_true(g2t_place_is_done(&place));
		close(job.progress_fd);
		/* while it runs it is not removed, however far it is */
		g2t_place_purge(root, 3600);
		assert_true(g2t_place_has(&place, "lock"));
		g2t_place_close(&place);
		g2t_place_purge(root, 3600);
		assert_int_equal(tb_count(root), 1);
		assert_int_equal(access(tb_path(root, "moved"), F_OK), 0);
		tb_remove(root);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_space),
		cmocka_unit_test(test_removed),
		cmocka_unit_test(test_purge),
		cmocka_unit_test(test_done),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
