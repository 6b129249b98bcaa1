/*
 * test_usage_file.c: the file of usage counters: there and back, and what is not taken.
 */
#include "usage_file_fixture.h"

static void
test_there_and_back(void **state)
{
	g2_usage   *usage;
	usage_list	list;

	(void) state;
	make_file();
	assert_int_equal(tb_count(folder), 1);
	check_file();
	usage = open_good();
	list = list_of(usage);
	check_row(list_find(&list, MONTH, 10, 5, "demo"), 3);
	check_row(list_find(&list, MONTH, 0, 0, ""), 4);
	list_free(&list);
	/* It goes on from there. */
	add(usage, 10, 5, "demo", 2);
	save(usage);
	g2_usage_close(usage);
	usage = open_good();
	assert_int_equal(calls_of(usage, MONTH, 10, 5, "demo"), 5);
	g2_usage_reset(usage);
	save(usage);
	g2_usage_close(usage);
	usage = open_good();
	assert_int_equal(rows_of(usage), 0);
	g2_usage_close(usage);
}

/* The umask says whether the group may read it; others never do, and nobody else writes. */
static void
test_mode(void **state)
{
	static const mode_t masks[] = {077, 027, 0};
	const mode_t old = umask(0);

	(void) state;
	for (size_t i = 0; i < G2_LENGTH(masks); i++)
	{
		struct stat st;

		umask(masks[i]);
		make_file();
		assert_int_equal(stat(path(), &st), 0);
		assert_int_equal(st.st_mode & 0777, masks[i] == 077 ? 0600 : 0640);
		assert_int_equal(unlink(path()), 0);
	}
	umask(old);
}

/* Nothing is written where nothing has changed, and never without a cluster's name. */
static void
test_not_needed(void **state)
{
	g2_usage   *usage;
	g2_error	ignored,
				err;

	(void) state;
	unlink(path());
	usage = open_good();
	save(usage);
	assert_int_equal(tb_count(folder), 0);
	g2_usage_close(usage);
	make_file();
	usage = open_good();
	unlink(path());
	save(usage);
	assert_int_equal(tb_count(folder), 0);
	add(usage, 1, 1, "m", 1);
	save(usage);
	assert_int_equal(tb_count(folder), 1);
	unlink(path());
	save(usage);
	assert_int_equal(tb_count(folder), 0);
	g2_usage_close(usage);
	EXPECT_OK(g2_usage_open(path(), 0, 1, calendar, &usage, &ignored, &err), err);
	add(usage, 1, 1, "m", 1);
	save(usage);
	assert_int_equal(tb_count(folder), 0);
	g2_usage_close(usage);
}

static void
test_old_months(void **state)
{
	g2_usage   *usage;

	(void) state;
	make_file();
	month_is = MONTH + 23;
	check_file();
	month_is = MONTH + 24;
	usage = open_good();
	assert_int_equal(rows_of(usage), 0);
	g2_usage_close(usage);
	month_is = MONTH - 5;		/* a clock that is wrong for a while costs nothing */
	check_file();
	month_is = MONTH;
}

/* ---- what is not taken ---- */

static void
test_foreign(void **state)
{
	g2_usage   *usage;
	g2_error	ignored;

	(void) state;
	make_file();
	open_ignored(CLUSTER + 1, TIMELINE, G2_E_BAD_FILE, "cluster and timeline");
	open_ignored(CLUSTER, TIMELINE + 1, G2_E_BAD_FILE, "cluster and timeline");
	check_file();
	usage = open_as(CLUSTER, TIMELINE + 1, &ignored);
	save(usage);				/* nothing has changed: the file stays */
	check_file();
	add(usage, 1, 1, "m", 1);
	save(usage);
	g2_usage_close(usage);
	open_ignored(CLUSTER, TIMELINE, G2_E_BAD_FILE, "cluster and timeline");
}

static void
test_damaged(void **state)
{
	char	   *data;
	size_t		len;

	(void) state;
	make_file();
	data = tb_read(folder, "gpt2.stat", &len);
	for (size_t i = 0; i < len; i++)
	{
		data[i] ^= 1;
		tb_write(folder, "gpt2.stat", data, len);
		open_ignored(CLUSTER, TIMELINE, G2_E_BAD_FILE, "damaged");
		data[i] ^= 1;
		tb_write(folder, "gpt2.stat", data, i);
		open_ignored(CLUSTER, TIMELINE, G2_E_BAD_FILE, "damaged");
	}
	data[len] = '\0';
	tb_write(folder, "gpt2.stat", data, len + 1);
	open_ignored(CLUSTER, TIMELINE, G2_E_BAD_FILE, "damaged");
	tb_write(folder, "gpt2.stat", data, len);
	check_file();
	free(data);
}

/* A right header over rows that no engine writes. */
static void
test_malformed(void **state)
{
	static const struct
	{
		uint32_t	month;
		const char *model;
		uint32_t	count;
	}			bad[] = {
		{MONTH, "a/b", 1}, {MONTH, "\xFF", 1}, {MONTH, "demo", 2}, {MONTH, "demo", UINT32_MAX},
		{0, "demo", 1}, {1970 * 12 - 1, "demo", 1}, {10000 * 12, "demo", 1},
		{UINT32_MAX, "demo", 1},
	};

	(void) state;
	for (size_t i = 0; i < G2_LENGTH(bad); i++)
	{
		g2_writer	w = {.grow = list_grow},
					file = {.grow = list_grow};
		g2_usage_row row = {.month = bad[i].month, .role = 1, .model = g2_span_of(bad[i].model)};
		g2_usage_header header;

		g2_put_u32(&w, bad[i].count);
		g2_usage_row_encode(&w, &row);
		header = g2_usage_file_header(CLUSTER, TIMELINE, w.data, w.len);
		g2_put(&file, &header, sizeof header);
		g2_put(&file, w.data, w.len);
		tb_write(folder, "gpt2.stat", file.data, file.len);
		open_ignored(CLUSTER, TIMELINE, G2_E_BAD_FILE, "malformed in row");
		free(w.data);
		free(file.data);
	}
}

static void
test_kinds(void **state)
{
	(void) state;
	unlink(path());
	assert_int_equal(mkfifo(path(), 0600), 0);
	open_ignored(CLUSTER, TIMELINE, G2_E_PERMISSION, "not a regular file");
	unlink(path());
	assert_int_equal(mkdir(path(), 0700), 0);
	open_ignored(CLUSTER, TIMELINE, G2_E_PERMISSION, "not a regular file");
	rmdir(path());
	make_file();
	assert_int_equal(rename(path(), tb_path(folder, "elsewhere")), 0);
	assert_int_equal(symlink("elsewhere", path()), 0);
	open_ignored(CLUSTER, TIMELINE, G2_E_PERMISSION, "symbolic link");
	unlink(path());
	tb_write(folder, "gpt2.stat", "", 0);
	assert_int_equal(truncate(path(), G2_MAX_USAGE_FILE + 1), 0);
	open_ignored(CLUSTER, TIMELINE, G2_E_BAD_FILE, "more than the");
	unlink(path());
	unlink(tb_path(folder, "elsewhere"));
}

/* ---- no memory ---- */

/* A good file is not taken for none because memory is short. */
static void
test_open_without_memory(void **state)
{
	(void) state;
	make_file();
	for (long n = 1;; n++)
	{
		g2_usage   *usage;
		g2_error	ignored,
					err = {0};
		bool		ok;

		g2_alloc_fail_at(n);
		ok = g2_usage_open(path(), CLUSTER, TIMELINE, calendar, &usage, &ignored, &err);
		g2_alloc_fail_at(0);
		if (ok)
		{
			assert_int_equal(ignored.code, G2_OK);
			assert_int_equal(calls_of(usage, MONTH, 10, 5, "demo"), 3);
			g2_usage_close(usage);
			assert_true(n > 5);
			break;
		}
		assert_int_equal(err.code, G2_E_MEMORY);
		assert_true(n < 100);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_and_back), cmocka_unit_test(test_not_needed),
		cmocka_unit_test(test_mode),
		cmocka_unit_test(test_old_months), cmocka_unit_test(test_foreign),
		cmocka_unit_test(test_damaged), cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_kinds), cmocka_unit_test(test_open_without_memory),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
