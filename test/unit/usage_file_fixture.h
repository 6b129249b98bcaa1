/*
 * usage_file_fixture.h: a folder with a file of usage counters.
 */
#ifndef USAGE_FILE_FIXTURE_H
#define USAGE_FILE_FIXTURE_H

#include "usage_fixture.h"

#define CLUSTER 0x123456789ABCDEFu
#define TIMELINE 3

static char *folder;

static UNUSED int
setup(void **state)
{
	(void) state;
	folder = tb_folder();
	month_is = MONTH;
	return 0;
}

static UNUSED int
teardown(void **state)
{
	(void) state;
	tb_remove(folder);
	return 0;
}

static UNUSED const char *
path(void)
{
	return tb_path(folder, "gpt2.stat");
}

static UNUSED g2_usage *
open_as(uint64_t cluster, uint32_t timeline, g2_error *ignored)
{
	g2_usage   *usage;
	g2_error	err;

	EXPECT_OK(g2_usage_open(path(), cluster, timeline, calendar, &usage, ignored, &err), err);
	return usage;
}

/* Opens what must be taken, or what must not be there. */
static UNUSED g2_usage *
open_good(void)
{
	g2_error	ignored;
	g2_usage   *usage = open_as(CLUSTER, TIMELINE, &ignored);

	if (ignored.code != G2_OK)
		fail_msg("%s", ignored.message);
	return usage;
}

/* Opens what must count as none, for this reason. */
static UNUSED void
open_ignored(uint64_t cluster, uint32_t timeline, g2_code code, const char *part)
{
	g2_error	ignored;
	g2_usage   *usage = open_as(cluster, timeline, &ignored);

	EXPECT_ERROR(ignored, code, part);
	assert_int_equal(rows_of(usage), 0);
	g2_usage_close(usage);
}

static UNUSED void
save(g2_usage *usage)
{
	g2_error	err;

	EXPECT_OK(g2_usage_save(usage, &err), err);
}

/* A file with a few rows. */
static UNUSED void
make_file(void)
{
	g2_usage   *usage;

	unlink(path());
	usage = open_good();
	add(usage, 10, 5, "demo", 3);
	add(usage, 11, 5, "/", 4);
	save(usage);
	g2_usage_close(usage);
}

static UNUSED void
check_file(void)
{
	g2_usage   *usage = open_good();

	assert_int_equal(rows_of(usage), 2);
	assert_int_equal(calls_of(usage, MONTH, 10, 5, "demo"), 3);
	assert_int_equal(calls_of(usage, MONTH, 0, 0, ""), 4);
	g2_usage_close(usage);
}

#endif							/* USAGE_FILE_FIXTURE_H */
