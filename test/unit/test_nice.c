/*
 * test_nice.c: the threads that compute have the nice value asked for, as /proc shows it, and the
 * thread that opened the back end, which answers and cancels, keeps its own.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend.h"

#define LIMIT_US 20000000		/* threads take microseconds to start */

/* Field 19 of /proc/self/task/<tid>/stat; the name before it may hold anything but ends in ')'. */
static bool
task_nice(const char *tid, long *nice)
{
	char		path[64],
				line[1024] = "",
			   *at;
	FILE	   *f;

	snprintf(path, sizeof path, "/proc/self/task/%.20s/stat", tid);
	f = fopen(path, "r");
	if (!f)
		return false;
	at = fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL;
	fclose(f);
	for (int field = 2; at && field < 19; field++)
		at = strchr(at + 1, ' ');
	if (at)
		*nice = strtol(at, NULL, 10);
	return at != NULL;
}

/* Threads of this process, this one left out, with that nice value. */
static uint32_t
count_nice(long wanted)
{
	DIR		   *dir = opendir("/proc/self/task");
	struct dirent *entry;
	uint32_t	n = 0;
	long		nice;

	assert_non_null(dir);
	while ((entry = readdir(dir)) != NULL)
		if (entry->d_name[0] != '.' && atol(entry->d_name) != syscall(SYS_gettid) &&
			task_nice(entry->d_name, &nice) && nice == wanted)
			n++;
	closedir(dir);
	return n;
}

static long
own_nice(void)
{
	char		tid[24];
	long		nice = -99;

	snprintf(tid, sizeof tid, "%ld", (long) syscall(SYS_gettid));
	assert_true(task_nice(tid, &nice));
	return nice;
}

static void
expect_threads(uint32_t n, long nice)
{
	int64_t		start = g2_now_us();

	while (count_nice(nice) != n)
		if (g2_now_us() - start > LIMIT_US)
			fail_msg("%u threads with nice %ld, not %u", count_nice(nice), nice, n);
}

static void
test_nice(void **state)
{
	const int	fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	const long	before = own_nice();

	(void) state;
	for (uint32_t threads = 1; threads <= 4; threads++)
	{
		/* higher than this process has, so that no privilege is needed */
		g2_backend_options options = {.threads = threads, .slots = 1, .isa = "auto",
			.nice = before < 0 ? threads : (uint32_t) G2_MIN(before + threads, 19)};
		g2_backend *b;
		g2_error	err;

		assert_true(g2_cpu_backend.open(&options, fd, &b, &err));
		expect_threads(threads, (long) options.nice);
		assert_int_equal(own_nice(), before);
		g2_cpu_backend.close(b);
		/* 0: as the process is */
		options.nice = 0;
		assert_true(g2_cpu_backend.open(&options, fd, &b, &err));
		for (long other = -20; other <= 19; other++)
			if (other != before)
				expect_threads(0, other);
		assert_true(count_nice(before) >= threads);	/* a sanitizer has one of its own */
		g2_cpu_backend.close(b);
	}
	close(fd);
}

static void
test_range(void **state)
{
	g2_backend_options options = {.threads = 1, .slots = 1, .isa = "auto", .nice = 20};
	g2_backend *b;
	g2_error	err;

	(void) state;
	assert_false(g2_cpu_backend.open(&options, 0, &b, &err));
	assert_int_equal(err.code, G2_E_INTERNAL);
	assert_non_null(strstr(err.message, "nice 20"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nice),
		cmocka_unit_test(test_range),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
