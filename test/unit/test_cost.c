/*
 * test_cost.c: what is learned about the cost of steps.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cost.h"
#include "util.h"

static void
expect(const g2_cost *c, uint32_t rows, double us, double tolerance)
{
	double		got = g2_cost_step(c, rows);

	if (!(got >= us * (1 - tolerance) && got <= us * (1 + tolerance)))
		fail_msg("a step of %u rows: %.0f us, not %.0f", rows, got, us);
}

static void
test_line(void **state)
{
	g2_cost		c = {0};

	(void) state;
	assert_true(g2_cost_step(&c, 5) == 0);
	for (uint32_t i = 0; i < 40; i++)
	{
		uint32_t	rows = i % 4 == 0 ? 300 : 1 + i % 20;

		g2_cost_learn(&c, rows, 24000 + 900.0 * rows);
	}
	expect(&c, 1, 24900, 0.01);
	expect(&c, 64, 24000 + 64 * 900, 0.01);
	expect(&c, 512, 24000 + 512 * 900, 0.01);
}

/* Steps of one size say nothing about others, but do not spoil what is known of them soon. */
static void
test_one_size(void **state)
{
	g2_cost		c = {0};

	(void) state;
	g2_cost_learn(&c, 100, 50000);
	expect(&c, 100, 50000, 0);
	expect(&c, 10, 5000, 0);
	g2_cost_learn(&c, 1, 10000);
	for (int i = 0; i < 1000; i++)
		g2_cost_learn(&c, 1, 10000);
	expect(&c, 1, 10000, 0.01);
	assert_true(g2_cost_step(&c, 100) > 10000);
}

/* The machine did something else: one measurement, a thousand times too long. */
static void
test_outlier(void **state)
{
	g2_cost		c = {0};

	(void) state;
	for (int i = 0; i < 50; i++)
		g2_cost_learn(&c, i % 2 ? 8 : 128, i % 2 ? 2000 : 20000);
	g2_cost_learn(&c, 8, 2000000);
	assert_true(g2_cost_step(&c, 8) < 4000);
	/* One that has become slower for good is believed soon. */
	for (int i = 0; i < 60; i++)
		g2_cost_learn(&c, i % 2 ? 8 : 128, i % 2 ? 20000 : 200000);
	expect(&c, 8, 20000, 0.2);
	expect(&c, 128, 200000, 0.2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_line), cmocka_unit_test(test_one_size),
		cmocka_unit_test(test_outlier),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
