/*
 * test_machine.c: cores and memory are what this machine can have; a session gets its nice value.
 */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "machine.h"

static void
test_cores(void **state)
{
	uint32_t	all = g2_machine_cores();
	cpu_set_t	allowed,
				one;

	(void) state;
	assert_true(all >= 1);
	assert_int_equal(sched_getaffinity(0, sizeof allowed, &allowed), 0);
	assert_true(all <= (uint32_t) CPU_COUNT(&allowed));
	CPU_ZERO(&one);
	for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++)
		if (CPU_ISSET(cpu, &allowed))
			CPU_SET(cpu, &one);
	assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
	assert_int_equal(g2_machine_cores(), 1);
	assert_int_equal(sched_setaffinity(0, sizeof allowed, &allowed), 0);
	assert_int_equal(g2_machine_cores(), all);
}

static void
test_memory(void **state)
{
	uint64_t	all = (uint64_t) sysconf(_SC_PHYS_PAGES) * (uint64_t) sysconf(_SC_PAGESIZE);

	(void) state;
	assert_true(g2_machine_memory() > (16u << 20));
	assert_true(g2_machine_memory() <= all);
}

/* The child's: in a session of its own, so that nobody else's changes.  Exit code 0 = as it must
 * be, 77 = this kernel has no autogroups, or /proc may not be written (containers). */
static int
nice_child(uint32_t nice)
{
	char		line[128] = "",
				wanted[32];
	FILE	   *f;

	if (setsid() < 0)
		return 1;
	if (access("/proc/self/autogroup", W_OK) != 0)
	{
		bool		none = errno == ENOENT;

		return g2_machine_nice_session(nice) == none ? 77 : 3;
	}
	if (!g2_machine_nice_session(nice))
		return 1;
	f = fopen("/proc/self/autogroup", "r");
	if (!f)
		return 77;
	if (!fgets(line, sizeof line, f))
		line[0] = '\0';
	fclose(f);
	snprintf(wanted, sizeof wanted, "nice %u\n", nice);
	/* An empty file: autogroups are compiled in and switched off. */
	return strstr(line, wanted) ? 0 : line[0] ? 2 : 77;
}

static void
test_nice_session(void **state)
{
	int			status = 0;
	pid_t		child;

	(void) state;
	for (uint32_t nice = 3; nice <= 19; nice += 8)
	{
		child = fork();
		assert_true(child >= 0);
		if (child == 0)
			_exit(nice_child(nice));
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFEXITED(status));
		if (WEXITSTATUS(status) == 77)
			skip();
		assert_int_equal(WEXITSTATUS(status), 0);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cores),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_nice_session),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
