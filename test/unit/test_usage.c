/*
 * test_usage.c: the table of usage counters: keys, months, what happens when rows or memory are
 * used up, and random work against a list that does the same the slow way.
 */
#include <math.h>
#include <time.h>

#include "usage_fixture.h"

static void
test_keys(void **state)
{
	g2_usage   *usage = open_unsaved();
	usage_list	list;

	(void) state;
	month_is = MONTH;
	assert_int_equal(rows_of(usage), 0);
	add(usage, 10, 5, "demo", 1);
	add(usage, 10, 5, "demo", 2);
	add(usage, 11, 5, "demo", 4);
	add(usage, 10, 6, "demo", 8);
	add(usage, 10, 5, "dem", 16);
	add(usage, 10, 5, "", 32);
	add(usage, 10, 5, NULL, 64);
	list = list_of(usage);
	assert_int_equal(list.n, 5);
	check_row(list_find(&list, MONTH, 10, 5, "demo"), 3);
	check_row(list_find(&list, MONTH, 11, 5, "demo"), 4);
	check_row(list_find(&list, MONTH, 10, 6, "demo"), 8);
	check_row(list_find(&list, MONTH, 10, 5, "dem"), 16);
	check_row(list_find(&list, MONTH, 10, 5, ""), 96);
	list_free(&list);
	g2_usage_reset(usage);
	assert_int_equal(rows_of(usage), 0);
	add(usage, 10, 5, "demo", 7);
	assert_int_equal(calls_of(usage, MONTH, 10, 5, "demo"), 7);
	g2_usage_close(usage);
	g2_usage_close(NULL);
}

/* What could not be read back from the file counts, but not under its name. */
static void
test_bad_names(void **state)
{
	static const char *const bad[] = {"a/b", "..", "\xFF", "a\nb", ".hidden"};
	g2_usage   *usage = open_unsaved();
	char		name[258];

	(void) state;
	memset(name, 'x', sizeof name);
	name[256] = '\0';
	add(usage, 10, 5, name, 1);
	for (size_t i = 0; i < G2_LENGTH(bad); i++)
		add(usage, 10, 5, bad[i], 1);
	assert_int_equal(rows_of(usage), 1);
	assert_int_equal(calls_of(usage, MONTH, 0, 0, ""), 1 + G2_LENGTH(bad));
	name[255] = '\0';
	add(usage, 10, 5, name, 1);
	assert_int_equal(calls_of(usage, MONTH, 10, 5, name), 1);
	g2_usage_close(usage);
}

static void
test_cost(void **state)
{
	static const double bad[] = {NAN, INFINITY, -INFINITY, -1, 0};
	g2_usage   *usage = open_unsaved();
	usage_list	list;

	(void) state;
	for (size_t i = 0; i < G2_LENGTH(bad); i++)
		g2_usage_add(usage, 1, 1, "m", &(g2_usage_delta) {.cost = bad[i]});
	g2_usage_add(usage, 1, 1, "m", &(g2_usage_delta) {.cost = 0.25});
	list = list_of(usage);
	assert_true(list.rows[0].cost == 0.25);
	list_free(&list);
	for (int i = 0; i < 3; i++)
		g2_usage_add(usage, 1, 1, "m", &(g2_usage_delta) {.cost = 1e308});
	list = list_of(usage);
	assert_true(isfinite(list.rows[0].cost));
	list_free(&list);
	g2_usage_close(usage);
}

/* ---- months ---- */

static void
test_months(void **state)
{
	g2_usage   *usage = open_unsaved();

	(void) state;
	for (month_is = MONTH; month_is < MONTH + 30; month_is++)
	{
		add(usage, 10, 5, "demo", month_is - MONTH + 1);
		add(usage, 10, 5, "/", 1);	/* the month's other row */
		for (uint32_t m = MONTH; m <= month_is; m++)
		{
			bool		kept = m + 24 > month_is;

			assert_int_equal(calls_of(usage, m, 10, 5, "demo"), kept ? m - MONTH + 1 : 0);
			assert_int_equal(calls_of(usage, m, 0, 0, ""), kept);
		}
		assert_true(rows_of(usage) <= 48);
	}
	/* A clock that goes back takes nothing out, however far. */
	month_is = 1970 * 12;
	add(usage, 10, 5, "demo", 3);
	assert_int_equal(calls_of(usage, 1970 * 12, 10, 5, "demo"), 3);
	assert_int_equal(rows_of(usage), 49);
	/* Right again: what is old goes with the next new month. */
	month_is = MONTH + 30;
	add(usage, 10, 5, "demo", 1);
	assert_int_equal(calls_of(usage, 1970 * 12, 10, 5, "demo"), 0);
	/* 23 months before it with two rows each, and its own */
	assert_int_equal(rows_of(usage), 47);
	month_is = MONTH;
	g2_usage_close(usage);
}

static void
test_clock(void **state)
{
	time_t		before = time(NULL),
				after;
	struct tm	tm;
	uint32_t	month = g2_usage_month_now(),
				first,
				last;

	(void) state;
	after = time(NULL);
	assert_non_null(gmtime_r(&before, &tm));
	first = (uint32_t) (tm.tm_year + 1900) * 12 + (uint32_t) tm.tm_mon;
	assert_non_null(gmtime_r(&after, &tm));
	last = (uint32_t) (tm.tm_year + 1900) * 12 + (uint32_t) tm.tm_mon;
	assert_in_range(month, first, last);
}

/* ---- bounds ---- */

static void
test_full(void **state)
{
	g2_usage   *usage = open_unsaved();
	const uint32_t half = G2_USAGE_MAX_ROWS / 2;

	(void) state;
	month_is = MONTH;
	for (uint32_t i = 1; i <= half; i++)
		add(usage, i, 5, "demo", 1);
	month_is++;
	for (uint32_t i = 1; i <= half; i++)
		add(usage, i, 5, "demo", 1);
	assert_int_equal(rows_of(usage), G2_USAGE_MAX_ROWS);
	/* The next key costs the oldest month its details, not its sum. */
	month_is++;
	add(usage, 1, 5, "demo", 1);
	assert_int_equal(calls_of(usage, MONTH, 0, 0, ""), half);
	assert_int_equal(calls_of(usage, MONTH, 1, 5, "demo"), 0);
	assert_int_equal(calls_of(usage, MONTH + 1, 1, 5, "demo"), 1);
	assert_int_equal(rows_of(usage), half + 2);
	for (uint32_t i = 2; i <= G2_USAGE_MAX_ROWS + 100; i++)
		add(usage, i, 5, "demo", 1);
	assert_int_equal(calls_of(usage, MONTH + 1, 0, 0, ""), half);
	/* With one month only, what is new has no row of its own. */
	assert_int_equal(rows_of(usage), G2_USAGE_MAX_ROWS + 3);
	assert_int_equal(calls_of(usage, MONTH + 2, 0, 0, ""), 100);
	add(usage, 7, 5, "demo", 1);
	assert_int_equal(calls_of(usage, MONTH + 2, 7, 5, "demo"), 2);
	assert_int_equal(calls_in(usage, MONTH + 2), G2_USAGE_MAX_ROWS + 101);
	month_is = MONTH;
	g2_usage_close(usage);
}

static void
test_no_memory(void **state)
{
	g2_usage   *usage;
	g2_error	ignored,
				err;

	(void) state;
	month_is = MONTH;
	g2_alloc_fail_at(1);
	assert_false(g2_usage_open(NULL, 0, 0, calendar, &usage, &ignored, &err));
	g2_alloc_fail_at(0);
	assert_int_equal(err.code, G2_E_MEMORY);
	usage = open_unsaved();
	/* The first key needs three allocations; whichever fails, nothing is lost. */
	for (long n = 1; n <= 3; n++)
	{
		g2_alloc_fail_at(n);
		add(usage, 10, 5, "demo", 1);
		g2_alloc_fail_at(0);
		assert_int_equal(calls_of(usage, MONTH, 0, 0, ""), n);
		assert_int_equal(rows_of(usage), 1);
	}
	/* Again and again, also when the table grows. */
	for (uint32_t i = 0; i < 2000; i++)
	{
		g2_alloc_fail_at(1 + i % 4);
		add(usage, i + 1, 5, "demo", 1);
		g2_alloc_fail_at(0);
	}
	assert_int_equal(calls_in(usage, MONTH), 2003);
	assert_true(rows_of(usage) > 500);
	for (uint32_t i = 0; i < 2000; i++)
		add(usage, i + 1, 5, "demo", 1);
	assert_int_equal(rows_of(usage), 2001);
	assert_int_equal(calls_in(usage, MONTH), 4003);
	g2_usage_close(usage);
}

/* ---- random work against a list ---- */

#define MODEL_ROWS 4000

typedef struct model_row
{
	uint32_t	month;
	uint32_t	role;
	uint32_t	database;
	const char *model;
	uint64_t	k;
} model_row;

static uint64_t random_state = 1;

static uint32_t
random_below(uint32_t n)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t) (random_state >> 33) % n;
}

static uint32_t
model_turn(model_row *rows, uint32_t n, uint32_t now)
{
	uint32_t	kept = 0;

	for (uint32_t i = 0; i < n; i++)
		if (rows[i].month + 24 > now)
			rows[kept++] = rows[i];
	return kept;
}

static uint32_t
model_add(model_row *rows, uint32_t n, const model_row *add)
{
	for (uint32_t i = 0; i < n; i++)
		if (rows[i].month == add->month && rows[i].role == add->role &&
			rows[i].database == add->database && strcmp(rows[i].model, add->model) == 0)
		{
			rows[i].k += add->k;
			return n;
		}
	assert_true(n < MODEL_ROWS);
	rows[n] = *add;
	return n + 1;
}

static void
model_compare(const g2_usage *usage, const model_row *rows, uint32_t n)
{
	usage_list	list = list_of(usage);

	assert_int_equal(list.n, n);
	for (uint32_t i = 0; i < n; i++)
		check_row(list_find(&list, rows[i].month, rows[i].role, rows[i].database, rows[i].model),
				  rows[i].k);
	list_free(&list);
}

static void
test_random(void **state)
{
	static const char *const models[] = {"demo", "gpt2", "gpt2-chinese", "", "a b"};
	static model_row rows[MODEL_ROWS];
	g2_usage   *usage = open_unsaved();
	uint32_t	n = 0;

	(void) state;
	month_is = MONTH;
	for (int step = 0; step < 20000; step++)
	{
		model_row	row = {
			.role = random_below(4), .database = random_below(2),
			.model = models[random_below(G2_LENGTH(models))], .k = 1 + random_below(100),
		};

		if (random_below(200) == 0)
		{
			month_is += random_below(10) == 0 ? random_below(30) : 1;
			n = model_turn(rows, n, month_is);
		}
		if (random_below(5000) == 0)
		{
			g2_usage_reset(usage);
			n = 0;
		}
		row.month = month_is;
		n = model_add(rows, n, &row);
		add(usage, row.role, row.database, row.model, row.k);
		if (step % 50 == 0)
			model_compare(usage, rows, n);
	}
	model_compare(usage, rows, n);
	assert_true(n > 30);
	month_is = MONTH;
	g2_usage_close(usage);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys), cmocka_unit_test(test_bad_names),
		cmocka_unit_test(test_cost), cmocka_unit_test(test_months),
		cmocka_unit_test(test_clock), cmocka_unit_test(test_full),
		cmocka_unit_test(test_no_memory), cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
