/*
 * usage.c: the table of usage counters and its file.
 *
 * The rows are found through a hash table with open addressing over their keys; the array itself
 * keeps them in the order of their first use.  Months that are too old are dropped when a new one
 * begins and when the file is read.
 */
#include "usage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "file.h"

#define TEMPORARY ".new"

struct g2_usage
{
	const char *path;
	uint64_t	system_identifier;
	uint32_t	timeline;
	bool		changed;		/* since the last snapshot */
	uint32_t	month;			/* the newest that has been seen */
	g2_usage_row *rows;			/* model.data is theirs */
	uint32_t	n;
	uint32_t	cap;
	uint32_t   *slots;			/* [n_slots] 1 + index of a row, 0 = free */
	uint32_t	n_slots;		/* a power of two, more than the rows */
};

static int64_t fixed_clock;

void
g2_usage_set_clock(int64_t seconds)
{
	fixed_clock = seconds;
}

static uint32_t
this_month(void)
{
	time_t		now = fixed_clock ? (time_t) fixed_clock : time(NULL);
	struct tm	t;

	gmtime_r(&now, &t);
	return (uint32_t) ((t.tm_year + 1900) * 12 + t.tm_mon);
}

/* ---- the table ---- */

static uint32_t
hash_key(uint32_t month, uint32_t role, uint32_t database, g2_span model)
{
	uint32_t	words[] = {month, role, database};
	uint64_t	h = 0xCBF29CE484222325u;

	for (size_t i = 0; i < G2_LENGTH(words); i++)
		h = (h ^ words[i]) * 0x100000001B3u;
	for (uint32_t i = 0; i < model.len; i++)
		h = (h ^ (unsigned char) model.data[i]) * 0x100000001B3u;
	return (uint32_t) (h ^ h >> 32);
}

static bool
has_key(const g2_usage_row *row, uint32_t month, uint32_t role, uint32_t database, g2_span model)
{
	return row->month == month && row->role == role && row->database == database &&
		row->model.len == model.len && memcmp(row->model.data, model.data, model.len) == 0;
}

/* The slot of the row with this key, or the free one where it would go. */
static uint32_t *
find_slot(const g2_usage *u, uint32_t month, uint32_t role, uint32_t database, g2_span model)
{
	uint32_t	at = hash_key(month, role, database, model);

	for (;; at++)
	{
		uint32_t   *slot = &u->slots[at & (u->n_slots - 1)];

		if (*slot == 0 || has_key(&u->rows[*slot - 1], month, role, database, model))
			return slot;
	}
}

static void
fill_slots(g2_usage *u)
{
	memset(u->slots, 0, u->n_slots * sizeof *u->slots);
	for (uint32_t i = 0; i < u->n; i++)
	{
		const g2_usage_row *row = &u->rows[i];

		*find_slot(u, row->month, row->role, row->database, row->model) = i + 1;
	}
}

/* Room for one more row. */
static bool
make_room(g2_usage *u)
{
	uint32_t	cap = u->cap ? u->cap * 2 : 64;
	g2_usage_row *rows;
	uint32_t   *slots;

	if (u->n < u->cap)
		return true;
	rows = g2_realloc_array(u->rows, cap, sizeof *rows);
	if (!rows)
		return false;
	u->rows = rows;
	slots = g2_alloc_array((size_t) cap * 2, sizeof *slots);
	if (!slots)
		return false;
	g2_free(u->slots);
	u->slots = slots;
	u->n_slots = cap * 2;
	u->cap = cap;
	fill_slots(u);
	return true;
}

static void
forget_before(g2_usage *u, uint32_t month)
{
	uint32_t	kept = 0;

	for (uint32_t i = 0; i < u->n; i++)
	{
		if (u->rows[i].month >= month)
			u->rows[kept++] = u->rows[i];
		else
			g2_free((void *) u->rows[i].model.data);
	}
	if (kept == u->n)
		return;
	u->n = kept;
	u->changed = true;
	fill_slots(u);
}

/* The row, made where there is none; NULL: no memory. */
static g2_usage_row *
get_row(g2_usage *u, uint32_t month, uint32_t role, uint32_t database, g2_span model)
{
	uint32_t   *slot = u->n_slots ? find_slot(u, month, role, database, model) : NULL;
	char	   *name;

	if (slot && *slot)
		return &u->rows[*slot - 1];
	if (u->n >= G2_MAX_USAGE_ROWS && (role || database || model.len))
		return get_row(u, month, 0, 0, g2_span_of(""));
	name = g2_alloc((size_t) model.len + 1);
	if (!name || !make_room(u))
	{
		g2_free(name);
		return NULL;
	}
	if (model.len > 0)
		memcpy(name, model.data, model.len);
	slot = find_slot(u, month, role, database, model);
	u->rows[u->n] = (g2_usage_row) {
		.month = month, .role = role, .database = database, .model = {name, model.len},
	};
	*slot = ++u->n;
	return &u->rows[u->n - 1];
}

void
g2_usage_add(g2_usage *u, uint32_t role, uint32_t database, const char *model,
			 const g2_usage_delta *d)
{
	uint32_t	month = this_month();
	g2_usage_row *row;

	if (month != u->month)
	{
		u->month = month;
		forget_before(u, month - G2_USAGE_MONTHS + 1);
	}
	row = get_row(u, month, role, database, g2_span_of(model));
	if (!row)
		return;
	row->calls += d->calls;
	row->sequences += d->sequences;
	row->prompt_tokens += d->prompt_tokens;
	row->cached_tokens += d->cached_tokens;
	row->completion_tokens += d->completion_tokens;
	row->result_hits += d->result_hits;
	row->truncated += d->truncated;
	row->errors += d->errors;
	row->cancelled += d->cancelled;
	row->queue_us += d->queue_us;
	row->compute_us += d->compute_us;
	row->cost += d->cost;
	u->changed = true;
}

static void
free_rows(g2_usage *u)
{
	for (uint32_t i = 0; i < u->n; i++)
		g2_free((void *) u->rows[i].model.data);
	g2_free(u->rows);
	g2_free(u->slots);
	u->rows = NULL;
	u->slots = NULL;
	u->n = u->cap = u->n_slots = 0;
}

void
g2_usage_reset(g2_usage *u)
{
	free_rows(u);
	u->changed = true;
}

void
g2_usage_encode(const g2_usage *u, g2_writer *w)
{
	g2_put_u32(w, u->n);
	for (uint32_t i = 0; i < u->n; i++)
		g2_usage_row_encode(w, &u->rows[i]);
}

/* ---- the file ---- */

/* Takes over the rows of a payload; false: no memory, or it is malformed. */
static bool
take_rows(g2_usage *u, g2_span payload)
{
	g2_reader	r = g2_read(payload.data, payload.len);
	uint32_t	n = g2_get_u32(&r),
				oldest = this_month() - G2_USAGE_MONTHS + 1;

	if (n > G2_MAX_USAGE_ROWS + G2_USAGE_MONTHS)
		return false;
	for (uint32_t i = 0; i < n; i++)
	{
		g2_usage_row read,
				   *row;
		g2_span		model;

		g2_usage_row_get(&r, &read);
		if (r.failed)
			return false;
		if (read.month < oldest)
			continue;
		row = get_row(u, read.month, read.role, read.database, read.model);
		if (!row)
			return false;
		model = row->model;
		*row = read;
		row->model = model;
		u->month = G2_MAX(u->month, read.month);
	}
	return true;
}

/* The folder, and what stands behind it. */
static const char *
split_path(const char *path, char *folder, size_t size)
{
	const char *slash = strrchr(path, '/');

	snprintf(folder, size, "%.*s", slash ? (int) (slash - path) : 1, slash ? path : ".");
	return slash ? slash + 1 : path;
}

static bool
read_file(g2_usage *u, bool *ignored)
{
	g2_buf		data = {0};
	g2_span		payload;
	char		folder[4096];
	const char *name = split_path(u->path, folder, sizeof folder);

	if (!g2_file_exists(folder, name))
		return true;
	*ignored = true;
	if (g2_file_read(folder, name, G2_MAX_USAGE_FILE, &data, NULL) &&
		g2_usage_file_check(data.data, data.len, u->system_identifier, u->timeline, &payload))
	{
		*ignored = !take_rows(u, payload);
		if (*ignored)
			free_rows(u);
	}
	g2_buf_free(&data);
	return true;
}

static void *
grow(void *data, size_t bytes)
{
	return g2_realloc(data, bytes);
}

bool
g2_usage_snapshot(g2_usage *u, g2_usage_snapshot_data *snapshot)
{
	g2_writer	w = {.grow = grow};
	g2_usage_header header = {0};

	if (!u->path || !u->changed)
		return false;
	g2_put(&w, &header, sizeof header);
	g2_usage_encode(u, &w);
	if (w.failed || w.len > G2_MAX_USAGE_FILE)
	{
		g2_free(w.data);
		return false;
	}
	header = g2_usage_file_header(u->system_identifier, u->timeline, w.data + sizeof header,
								  w.len - sizeof header);
	memcpy(w.data, &header, sizeof header);
	*snapshot = (g2_usage_snapshot_data) {.path = u->path, .data = w.data, .len = w.len};
	u->changed = false;
	return true;
}

/* So that the new name survives a crash of the machine; some file systems cannot. */
static void
sync_directory(const char *path)
{
	char		directory[4096];
	int			fd;

	split_path(path, directory, sizeof directory);
	fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	(void) fsync(fd);
	close(fd);
}

bool
g2_usage_write(const g2_usage_snapshot_data *snapshot, g2_error *err)
{
	char		temporary[4096];
	int			fd;
	bool		ok;

	if (snprintf(temporary, sizeof temporary, "%s" TEMPORARY, snapshot->path) >=
		(int) sizeof temporary)
		return g2_fail_errno(err, ENAMETOOLONG, "write", snapshot->path);
	(void) unlink(temporary);
	fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return g2_fail_errno(err, errno, "create", temporary);
	ok = g2_file_write(fd, temporary, snapshot->data, snapshot->len, err);
	if (ok && fsync(fd) != 0)
		ok = g2_fail_errno(err, errno, "write", temporary);
	close(fd);
	if (ok && rename(temporary, snapshot->path) != 0)
		ok = g2_fail_errno(err, errno, "rename", temporary);
	if (!ok)
	{
		(void) unlink(temporary);
		return false;
	}
	sync_directory(snapshot->path);
	return true;
}

void
g2_usage_snapshot_free(g2_usage_snapshot_data *snapshot)
{
	g2_free(snapshot->data);
	*snapshot = (g2_usage_snapshot_data) {0};
}

/* ---- open and close ---- */

bool
g2_usage_open(const char *path, uint64_t system_identifier, uint32_t timeline, g2_usage **out,
			  bool *ignored, g2_error *err)
{
	g2_usage   *u = g2_alloc(sizeof *u);

	*ignored = false;
	if (!u)
		return g2_fail_memory(err, sizeof *u);
	u->path = path;
	u->system_identifier = system_identifier;
	u->timeline = timeline;
	if (path && !read_file(u, ignored))
	{
		g2_usage_close(u);
		return g2_fail_memory(err, G2_MAX_USAGE_FILE);
	}
	*out = u;
	return true;
}

void
g2_usage_close(g2_usage *u)
{
	if (!u)
		return;
	free_rows(u);
	g2_free(u);
}
