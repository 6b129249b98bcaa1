/*
 * test_machine.c: cores and memory are what this machine can have.
 */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
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

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_cores), cmocka_unit_test(test_memory)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
