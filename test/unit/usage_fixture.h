/*
 * usage_fixture.h: usage counters with a calendar of the test's own, and what they list.
 */
#ifndef USAGE_FIXTURE_H
#define USAGE_FIXTURE_H

#include "st_builder.h"

#include "usage.h"

#define MONTH (2025u * 12 + 4)	/* May 2025 */

static uint32_t month_is = MONTH;

static UNUSED uint32_t
calendar(void)
{
	return month_is;
}

static UNUSED void *
list_grow(void *data, size_t bytes)
{
	return realloc(data, bytes);
}

typedef struct usage_list
{
	g2_writer	payload;
	g2_usage_row *rows;
	uint32_t	n;
} usage_list;

static UNUSED usage_list
list_of(const g2_usage *usage)
{
	usage_list	list = {.payload = {.grow = list_grow}};
	g2_reader	r;

	g2_usage_encode(usage, &list.payload);
	assert_false(list.payload.failed);
	r = g2_read(list.payload.data, list.payload.len);
	list.n = g2_get_u32(&r);
	list.rows = calloc(list.n + 1, sizeof *list.rows);
	assert_non_null(list.rows);
	for (uint32_t i = 0; i < list.n; i++)
		g2_usage_row_get(&r, &list.rows[i]);
	assert_false(r.failed);
	assert_true(r.at == r.end);
	return list;
}

static UNUSED void
list_free(usage_list *list)
{
	free(list->payload.data);
	free(list->rows);
	memset(list, 0, sizeof *list);
}

/* The one row of the key; NULL when there is none. */
static UNUSED const g2_usage_row *
list_find(const usage_list *list, uint32_t month, uint32_t role, uint32_t database,
		  const char *model)
{
	const g2_usage_row *found = NULL;

	for (uint32_t i = 0; i < list->n; i++)
	{
		const g2_usage_row *row = &list->rows[i];

		if (row->month != month || row->role != role || row->database != database ||
			row->model.len != strlen(model) ||
			memcmp(row->model.data, model, row->model.len) != 0)
			continue;
		if (found)
			fail_msg("two rows have the same key");
		found = row;
	}
	return found;
}

/* Calls of one key, of all keys of a month. */
static UNUSED uint64_t
calls_of(const g2_usage *usage, uint32_t month, uint32_t role, uint32_t database,
		 const char *model)
{
	usage_list	list = list_of(usage);
	const g2_usage_row *row = list_find(&list, month, role, database, model);
	uint64_t	calls = row ? row->calls : 0;

	list_free(&list);
	return calls;
}

static UNUSED uint64_t
calls_in(const g2_usage *usage, uint32_t month)
{
	usage_list	list = list_of(usage);
	uint64_t	calls = 0;

	for (uint32_t i = 0; i < list.n; i++)
		if (list.rows[i].month == month)
			calls += list.rows[i].calls;
	list_free(&list);
	return calls;
}

static UNUSED uint32_t
rows_of(const g2_usage *usage)
{
	usage_list	list = list_of(usage);
	uint32_t	n = list.n;

	list_free(&list);
	return n;
}

/* Counters that are not saved. */
static UNUSED g2_usage *
open_unsaved(void)
{
	g2_usage   *usage;
	g2_error	ignored,
				err;

	assert_true(g2_usage_open(NULL, 0, 0, calendar, &usage, &ignored, &err));
	assert_int_equal(ignored.code, G2_OK);
	return usage;
}

/* Every counter a different number. */
static UNUSED g2_usage_delta
some_delta(uint64_t k)
{
	return (g2_usage_delta) {
		.calls = 1 * k, .sequences = 2 * k, .prompt_tokens = 3 * k, .cached_tokens = 4 * k,
		.completion_tokens = 5 * k, .result_hits = 6 * k, .truncated = 7 * k, .errors = 8 * k,
		.cancelled = 9 * k, .queue_us = 10 * k, .compute_us = 11 * k, .cost = 0.5 * (double) k,
	};
}

static UNUSED void
check_row(const g2_usage_row *row, uint64_t k)
{
	assert_non_null(row);
	assert_int_equal(row->calls, 1 * k);
	assert_int_equal(row->sequences, 2 * k);
	assert_int_equal(row->prompt_tokens, 3 * k);
	assert_int_equal(row->cached_tokens, 4 * k);
	assert_int_equal(row->completion_tokens, 5 * k);
	assert_int_equal(row->result_hits, 6 * k);
	assert_int_equal(row->truncated, 7 * k);
	assert_int_equal(row->errors, 8 * k);
	assert_int_equal(row->cancelled, 9 * k);
	assert_int_equal(row->queue_us, 10 * k);
	assert_int_equal(row->compute_us, 11 * k);
	assert_true(row->cost == 0.5 * (double) k);
}

static UNUSED void
add(g2_usage *usage, uint32_t role, uint32_t database, const char *model, uint64_t k)
{
	g2_usage_delta delta = some_delta(k);

	g2_usage_add(usage, role, database, model, &delta);
}

#endif							/* USAGE_FIXTURE_H */
