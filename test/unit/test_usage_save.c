/*
 * test_usage_save.c: what stands in the way of saving usage counters, and saving on another thread
 * while the counters go on.
 */
#include <pthread.h>

#include "usage_file_fixture.h"

/* Links and other things under the two names are replaced, not written through. */
static void
test_saved_over(void **state)
{
	size_t		len;
	char	   *data;
	struct stat st;

	(void) state;
	tb_text(folder, "victim", "victim");
	for (int kind = 0; kind < 3; kind++)
	{
		const char *temp = tb_path(folder, "gpt2.stat.tmp");
		g2_usage   *usage;
		g2_error	ignored;

		unlink(path());
		assert_int_equal(symlink("victim", path()), 0);
		if (kind == 0)
			assert_int_equal(symlink("victim", temp), 0);
		else if (kind == 1)
			assert_int_equal(mkfifo(temp, 0600), 0);
		else
			tb_text(folder, "gpt2.stat.tmp", "what a dead engine has left, longer than the new");
		usage = open_as(CLUSTER, TIMELINE, &ignored);
		assert_int_equal(ignored.code, G2_E_PERMISSION);
		add(usage, 10, 5, "demo", 3);
		add(usage, 11, 5, "/", 4);
		save(usage);
		g2_usage_close(usage);
		assert_int_equal(lstat(path(), &st), 0);
		assert_true(S_ISREG(st.st_mode));
		check_file();
		assert_int_equal(tb_count(folder), 2);
	}
	data = tb_read(folder, "victim", &len);
	assert_string_equal(data, "victim");
	free(data);
	unlink(tb_path(folder, "victim"));
}

static void
test_cannot_save(void **state)
{
	g2_usage   *usage;
	g2_error	err,
				ignored;

	(void) state;
	/* No such directory. */
	EXPECT_OK(g2_usage_open(tb_path(folder, "no/gpt2.stat"), CLUSTER, TIMELINE, calendar, &usage,
							&ignored, &err), err);
	assert_int_equal(ignored.code, G2_OK);
	add(usage, 1, 1, "m", 1);
	assert_false(g2_usage_save(usage, &err));
	EXPECT_ERROR(err, G2_E_NO_FILE, "could not create");
	/* It has not forgotten that there is something to save. */
	assert_int_equal(mkdir(tb_path(folder, "no"), 0700), 0);
	EXPECT_OK(g2_usage_save(usage, &err), err);
	assert_int_equal(tb_count(tb_path(folder, "no")), 1);
	g2_usage_close(usage);
	unlink(tb_path(folder, "no/gpt2.stat"));
	rmdir(tb_path(folder, "no"));
	/* A directory where the file goes: the temporary file does not stay. */
	unlink(path());
	usage = open_good();
	assert_int_equal(mkdir(path(), 0700), 0);
	add(usage, 1, 1, "m", 1);
	assert_false(g2_usage_save(usage, &err));
	EXPECT_ERROR(err, G2_E_IO, "could not rename");
	assert_int_equal(tb_count(folder), 1);
	rmdir(path());
	EXPECT_OK(g2_usage_save(usage, &err), err);
	g2_usage_close(usage);
}

/* ---- the three parts ---- */

static g2_usage_copy *
snapshot(g2_usage *usage)
{
	g2_usage_copy *copy;
	g2_error	err;

	EXPECT_OK(g2_usage_snapshot(usage, &copy, &err), err);
	return copy;
}

static void
test_parts(void **state)
{
	g2_usage   *usage;
	g2_usage_copy *copy;
	g2_error	err;

	(void) state;
	unlink(path());
	usage = open_good();
	assert_null(snapshot(usage));
	add(usage, 10, 5, "demo", 3);
	copy = snapshot(usage);
	assert_non_null(copy);
	/* One is under way; what comes meanwhile is for the next. */
	assert_null(snapshot(usage));
	assert_false(g2_usage_save(usage, &err));
	assert_int_equal(err.code, G2_E_INTERNAL);
	add(usage, 11, 5, "/", 4);
	EXPECT_OK(g2_usage_write(copy, &err), err);
	g2_usage_written(usage, copy, true);
	copy = snapshot(usage);
	assert_non_null(copy);
	/* It was not written: again. */
	g2_usage_written(usage, copy, false);
	copy = snapshot(usage);
	assert_non_null(copy);
	EXPECT_OK(g2_usage_write(copy, &err), err);
	g2_usage_written(usage, copy, true);
	assert_null(snapshot(usage));
	g2_usage_close(usage);
	check_file();
}

static void *
write_on_thread(void *copy)
{
	g2_error	err;

	return g2_usage_write(copy, &err) ? copy : NULL;
}

/* For the sanitizers: the writer shares nothing with the table. */
static void
test_thread(void **state)
{
	g2_usage   *usage;

	(void) state;
	unlink(path());
	usage = open_good();
	for (uint32_t round = 0; round < 20; round++)
	{
		pthread_t	thread;
		g2_usage_copy *copy;
		void	   *written;

		add(usage, 1, 1, "m", 1);
		copy = snapshot(usage);
		assert_non_null(copy);
		assert_int_equal(pthread_create(&thread, NULL, write_on_thread, copy), 0);
		for (uint32_t i = 1; i <= 200; i++)
			add(usage, round * 200 + i, 2, "m", 1);
		if (round % 7 == 6)
			g2_usage_reset(usage);
		assert_int_equal(pthread_join(thread, &written), 0);
		assert_ptr_equal(written, copy);
		g2_usage_written(usage, copy, true);
	}
	save(usage);
	{
		g2_usage   *again = open_good();

		assert_int_equal(calls_in(again, MONTH), calls_in(usage, MONTH));
		assert_int_equal(rows_of(again), rows_of(usage));
		g2_usage_close(again);
	}
	g2_usage_close(usage);
}

static void
test_save_without_memory(void **state)
{
	long		n = 1;

	(void) state;
	for (bool ok = false; !ok; n++)
	{
		g2_usage   *usage;
		g2_error	err = {0};

		unlink(path());
		usage = open_good();
		add(usage, 10, 5, "demo", 3);
		add(usage, 11, 5, "/", 4);
		g2_alloc_fail_at(n);
		ok = g2_usage_save(usage, &err);
		g2_alloc_fail_at(0);
		if (!ok)
		{
			assert_int_equal(err.code, G2_E_MEMORY);
			save(usage);
		}
		g2_usage_close(usage);
		check_file();
		assert_int_equal(tb_count(folder), 1);
		assert_true(n < 100);
	}
	assert_true(n > 5);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_saved_over), cmocka_unit_test(test_cannot_save),
		cmocka_unit_test(test_parts), cmocka_unit_test(test_thread),
		cmocka_unit_test(test_save_without_memory),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
