/*
 * usage.c: the table of usage counters.  Its file is usage_file.c's.
 *
 * Rows stand in the order in which their keys came; `slots` finds them (open addressing, at most
 * half full).  Rows leave by compaction only, after which the slots are filled anew.  The rows of
 * `others`, one a month, need no memory: they take what cannot have a row of its own.
 */
#include <float.h>
#include <math.h>
#include <time.h>

#include "model.h"
#include "usage_table.h"

#define FIRST_CAP 64
#define FIRST_MONTH (1970u * 12)
#define END_MONTH (10000u * 12)

/* The most that can be listed fits into the file: a row's own length, its key with the longest
 * name, its 12 counters. */
_Static_assert((G2_USAGE_MAX_ROWS + G2_USAGE_MONTHS) * (4 + 12 + 4 + G2_MAX_NAME + 12 * 8) + 4 +
			   sizeof(g2_usage_header) <= G2_MAX_USAGE_FILE, "usage file");

uint32_t
g2_usage_month_now(void)
{
	time_t		now = time(NULL);
	struct tm	utc;

	if (!gmtime_r(&now, &utc) || utc.tm_year < 70 || utc.tm_year >= 10000 - 1900)
		return FIRST_MONTH;
	return ((uint32_t) utc.tm_year + 1900) * 12 + (uint32_t) utc.tm_mon;
}

/* ---- counters ---- */

static void
add_delta(g2_usage_row *to, const g2_usage_delta *delta)
{
	to->calls += delta->calls;
	to->sequences += delta->sequences;
	to->prompt_tokens += delta->prompt_tokens;
	to->cached_tokens += delta->cached_tokens;
	to->completion_tokens += delta->completion_tokens;
	to->result_hits += delta->result_hits;
	to->truncated += delta->truncated;
	to->errors += delta->errors;
	to->cancelled += delta->cancelled;
	to->queue_us += delta->queue_us;
	to->compute_us += delta->compute_us;
	/* One number that is none would spoil the sum for good. */
	if (isfinite(delta->cost) && delta->cost > 0)
		to->cost = fmin(to->cost + delta->cost, DBL_MAX);
}

static g2_usage_delta
delta_of(const g2_usage_row *row)
{
	return (g2_usage_delta) {
		.calls = row->calls,
		.sequences = row->sequences,
		.prompt_tokens = row->prompt_tokens,
		.cached_tokens = row->cached_tokens,
		.completion_tokens = row->completion_tokens,
		.result_hits = row->result_hits,
		.truncated = row->truncated,
		.errors = row->errors,
		.cancelled = row->cancelled,
		.queue_us = row->queue_us,
		.compute_us = row->compute_us,
		.cost = row->cost,
	};
}

/* ---- the month's row of everything else ---- */

static bool
is_other(const g2_usage_row *key)
{
	return key->role == 0 && key->database == 0 && key->model.len == 0;
}

/* There are as many as months that are kept; only months of a clock that went wrong are more, and
 * then the oldest goes. */
static g2_usage_row *
other(g2_usage *usage, uint32_t month)
{
	g2_usage_row *oldest = &usage->others[0];

	for (size_t i = 0; i < G2_USAGE_MONTHS; i++)
	{
		if (usage->others[i].month == month)
			return &usage->others[i];
		if (usage->others[i].month < oldest->month)
			oldest = &usage->others[i];
	}
	*oldest = (g2_usage_row) {.month = month};
	return oldest;
}

/* ---- finding rows ---- */

static bool
same_key(const g2_usage_row *a, const g2_usage_row *b)
{
	return a->month == b->month && a->role == b->role && a->database == b->database &&
		a->model.len == b->model.len && memcmp(a->model.data, b->model.data, a->model.len) == 0;
}

/* FNV-1a; keys are made of what exists in the cluster, nobody can choose many that collide. */
static uint64_t
hash_key(const g2_usage_row *key)
{
	const uint32_t numbers[3] = {key->month, key->role, key->database};
	uint64_t	h = 0xCBF29CE484222325u;

	for (size_t i = 0; i < 3; i++)
		for (int shift = 0; shift < 32; shift += 8)
			h = (h ^ (numbers[i] >> shift & 255)) * 0x100000001B3u;
	for (uint32_t i = 0; i < key->model.len; i++)
		h = (h ^ (unsigned char) key->model.data[i]) * 0x100000001B3u;
	return h ^ h >> 32;
}

/* The slot of the key, or the free one where it belongs; there is always a free one. */
static uint32_t *
slot_of(const g2_usage *usage, const g2_usage_row *key)
{
	uint32_t	i = (uint32_t) hash_key(key) & (usage->n_slots - 1);

	while (usage->slots[i] != 0 && !same_key(&usage->rows[usage->slots[i] - 1], key))
		i = (i + 1) & (usage->n_slots - 1);
	return &usage->slots[i];
}

static void
fill_slots(g2_usage *usage)
{
	memset(usage->slots, 0, usage->n_slots * sizeof *usage->slots);
	for (uint32_t i = 0; i < usage->n; i++)
		*slot_of(usage, &usage->rows[i]) = i + 1;
}

static bool
grow(g2_usage *usage)
{
	uint32_t	cap = usage->cap ? 2 * usage->cap : FIRST_CAP;
	uint32_t   *slots = g2_alloc_array(2 * cap, sizeof *slots);
	g2_usage_row *rows = slots ? g2_realloc_array(usage->rows, cap, sizeof *rows) : NULL;

	if (!rows)
	{
		g2_free(slots);
		return false;
	}
	g2_free(usage->slots);
	usage->slots = slots;
	usage->n_slots = 2 * cap;
	usage->rows = rows;
	usage->cap = cap;
	fill_slots(usage);
	return true;
}

/* ---- rows that leave ---- */

/* Takes out the rows whose month is in [first, end); `keep_sums`: into the month's other row. */
static void
take_out(g2_usage *usage, uint32_t first, uint32_t end, bool keep_sums)
{
	uint32_t	kept = 0;

	for (uint32_t i = 0; i < usage->n; i++)
	{
		g2_usage_row *row = &usage->rows[i];
		g2_usage_delta sums = delta_of(row);

		if (row->month < first || row->month >= end)
		{
			usage->rows[kept++] = *row;
			continue;
		}
		if (keep_sums)
			add_delta(other(usage, row->month), &sums);
		g2_free((char *) row->model.data);
	}
	if (kept == usage->n)
		return;
	usage->n = kept;
	fill_slots(usage);
	usage->changes++;
}

/* The oldest month becomes one row, if it is older than this one. */
static bool
fold_oldest(g2_usage *usage, uint32_t month)
{
	uint32_t	oldest = month;

	for (uint32_t i = 0; i < usage->n; i++)
		oldest = G2_MIN(oldest, usage->rows[i].month);
	if (oldest == month)
		return false;
	take_out(usage, oldest, oldest + 1, true);
	return true;
}

static bool
is_old(uint32_t month, uint32_t now)
{
	return month + G2_USAGE_MONTHS <= now;
}

/* A clock that goes backwards takes nothing out. */
static uint32_t
turn_month(g2_usage *usage)
{
	uint32_t	now = usage->clock();

	if (now == usage->month)
		return now;
	usage->month = now;
	if (now < G2_USAGE_MONTHS)
		return now;
	take_out(usage, 0, now - G2_USAGE_MONTHS + 1, false);
	for (size_t i = 0; i < G2_USAGE_MONTHS; i++)
		if (usage->others[i].month != 0 && is_old(usage->others[i].month, now))
		{
			usage->others[i] = (g2_usage_row) {0};
			usage->changes++;
		}
	return now;
}

/* ---- adding ---- */

/* The key's row, made if need be; NULL: there is no memory (*full is false) or no room. */
static g2_usage_row *
row_of(g2_usage *usage, const g2_usage_row *key, bool *full)
{
	uint32_t   *slot = usage->n_slots ? slot_of(usage, key) : NULL;
	char	   *model;

	*full = false;
	if (slot && *slot != 0)
		return &usage->rows[*slot - 1];
	if (usage->n >= G2_USAGE_MAX_ROWS && !fold_oldest(usage, key->month))
	{
		*full = true;
		return NULL;
	}
	if (usage->n == usage->cap && !grow(usage))
		return NULL;
	model = g2_alloc(key->model.len);
	if (!model)
		return NULL;
	memcpy(model, key->model.data, key->model.len);
	usage->rows[usage->n] = (g2_usage_row) {
		.month = key->month, .role = key->role, .database = key->database,
		.model = {model, key->model.len},
	};
	*slot_of(usage, key) = usage->n + 1;
	return &usage->rows[usage->n++];
}

void
g2_usage_add(g2_usage *usage, uint32_t role, uint32_t database, const char *model,
			 const g2_usage_delta *delta)
{
	g2_usage_row key = {
		.month = turn_month(usage), .role = role, .database = database,
		.model = g2_span_of(model),
	};
	g2_usage_row *row = NULL;
	bool		full;

	/* A name that could not be read back must not get into the file. */
	if (!is_other(&key) &&
		(key.model.len == 0 || g2_model_name_check(key.model.data, key.model.len, NULL)))
		row = row_of(usage, &key, &full);
	add_delta(row ? row : other(usage, key.month), delta);
	usage->changes++;
}

static bool
row_is_valid(const g2_usage_row *row)
{
	return row->month >= FIRST_MONTH && row->month < END_MONTH &&
		(row->model.len == 0 || g2_model_name_check(row->model.data, row->model.len, NULL));
}

bool
g2_usage_take(g2_usage *usage, g2_span payload, g2_error *err)
{
	g2_reader	r = g2_read(payload.data, payload.len);
	uint32_t	count = g2_get_u32(&r),
				now = turn_month(usage);

	for (uint32_t i = 0; i < count; i++)
	{
		g2_usage_row in,
				   *row = NULL;
		g2_usage_delta delta;
		bool		full = true;

		g2_usage_row_get(&r, &in);
		if (r.failed || !row_is_valid(&in))
			return g2_fail(err, G2_E_BAD_FILE, "saved counters are malformed in row %u of %u",
						   i + 1, count);
		if (is_old(in.month, now))
			continue;
		if (!is_other(&in))
			row = row_of(usage, &in, &full);
		if (!row && !full)
			return g2_fail_memory(err, sizeof *row + in.model.len);
		delta = delta_of(&in);
		add_delta(row ? row : other(usage, in.month), &delta);
		usage->changes++;
	}
	return r.failed ? g2_fail(err, G2_E_BAD_FILE, "saved counters are malformed") : true;
}

/* ---- all of them ---- */

void
g2_usage_encode(const g2_usage *usage, g2_writer *w)
{
	uint32_t	count = usage->n;

	for (size_t i = 0; i < G2_USAGE_MONTHS; i++)
		count += usage->others[i].month != 0;
	g2_put_u32(w, count);
	for (uint32_t i = 0; i < usage->n; i++)
		g2_usage_row_encode(w, &usage->rows[i]);
	for (size_t i = 0; i < G2_USAGE_MONTHS; i++)
		if (usage->others[i].month != 0)
			g2_usage_row_encode(w, &usage->others[i]);
}

void
g2_usage_reset(g2_usage *usage)
{
	for (uint32_t i = 0; i < usage->n; i++)
		g2_free((char *) usage->rows[i].model.data);
	g2_free(usage->rows);
	g2_free(usage->slots);
	usage->rows = NULL;
	usage->slots = NULL;
	usage->n = usage->cap = usage->n_slots = 0;
	memset(usage->others, 0, sizeof usage->others);
	usage->changes++;
}

bool
g2_usage_move(g2_usage *usage, uint32_t timeline)
{
	if (!usage->path || timeline <= usage->timeline)
		return false;
	usage->timeline = timeline;
	g2_usage_reset(usage);
	return true;
}
