/*
 * usage_file.c: opening the usage counters from their file and saving them into it.
 *
 * The file is written under another name, fsynced and renamed, so that there is always a whole one.
 * One process writes: the engine, of which a cluster has one.  A temporary file that is found was
 * left by an engine that died.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"
#include "usage_table.h"

/* What is to be written; on its way it belongs to one thread at a time. */
struct g2_usage_copy
{
	char	   *path;
	char	   *temp;
	uint64_t	system_identifier;
	uint32_t	timeline;
	uint64_t	changes;		/* the table's when this was taken */
	g2_writer	payload;
};

/* ---- opening ---- */

/* folder and name of a path; the folder is new memory. */
static char *
split_path(const char *path, const char **name)
{
	const char *slash = strrchr(path, '/');
	char	   *folder = g2_strdup(slash ? path : ".");

	if (folder && slash)
		folder[slash - path] = '\0';
	*name = slash ? slash + 1 : path;
	return folder;
}

static bool
read_file(const char *path, g2_buf *buf, g2_error *err)
{
	const char *name;
	char	   *folder = split_path(path, &name);
	bool		ok = folder ? g2_file_read(folder, name, G2_MAX_USAGE_FILE, buf, err)
		: g2_fail_memory(err, strlen(path));

	g2_free(folder);
	return ok;
}

static bool
load(g2_usage *usage, g2_error *err)
{
	g2_buf		file = {0};
	g2_span		payload;
	bool		ok = read_file(usage->path, &file, err);

	if (ok && !g2_usage_file_check(file.data, file.len, usage->system_identifier,
								   usage->timeline, &payload))
		ok = g2_fail(err, G2_E_BAD_FILE, "the saved counters in \"%s\" are not of this version, "
					 "cluster and timeline, or are damaged", g2_file_tail(usage->path));
	ok = ok && g2_usage_take(usage, payload, err);
	g2_buf_free(&file);
	return ok;
}

bool
g2_usage_open(const char *path, uint64_t system_identifier, uint32_t timeline,
			  g2_usage_clock clock, g2_usage **out, g2_error *ignored, g2_error *err)
{
	g2_usage   *usage = g2_alloc(sizeof *usage);
	bool		saved = path && system_identifier != 0;

	*ignored = (g2_error) {.code = G2_OK};
	if (usage && saved)
		usage->path = g2_strdup(path);
	if (!usage || (saved && !usage->path))
	{
		g2_free(usage);
		return g2_fail_memory(err, sizeof *usage);
	}
	usage->clock = clock ? clock : g2_usage_month_now;
	usage->month = usage->clock();
	usage->system_identifier = system_identifier;
	usage->timeline = timeline;
	if (saved && !load(usage, ignored))
	{
		/* Without memory a good file would be taken for none, and lost at the next save. */
		if (ignored->code == G2_E_MEMORY)
		{
			*err = *ignored;
			g2_usage_close(usage);
			return false;
		}
		if (ignored->code == G2_E_NO_FILE)
			*ignored = (g2_error) {.code = G2_OK};
		g2_usage_reset(usage);
	}
	usage->written = usage->changes;
	*out = usage;
	return true;
}

void
g2_usage_close(g2_usage *usage)
{
	if (!usage)
		return;
	g2_usage_reset(usage);
	g2_free(usage->path);
	g2_free(usage);
}

/* ---- saving ---- */

static void
copy_free(g2_usage_copy *copy)
{
	if (!copy)
		return;
	g2_free(copy->path);
	g2_free(copy->temp);
	g2_free(copy->payload.data);
	g2_free(copy);
}

bool
g2_usage_snapshot(g2_usage *usage, g2_usage_copy **out, g2_error *err)
{
	g2_usage_copy *s;
	g2_buf		temp = {0};

	*out = NULL;
	if (!usage->path || usage->under_way || usage->changes == usage->written)
		return true;
	s = g2_alloc(sizeof *s);
	if (!s)
		return g2_fail_memory(err, sizeof *s);
	g2_buf_printf(&temp, "%s.tmp", usage->path);
	s->temp = temp.data;
	s->path = g2_strdup(usage->path);
	s->system_identifier = usage->system_identifier;
	s->timeline = usage->timeline;
	s->changes = usage->changes;
	s->payload = (g2_writer) {.grow = g2_realloc};
	g2_usage_encode(usage, &s->payload);
	if (temp.failed || !s->path || s->payload.failed)
	{
		copy_free(s);
		return g2_fail_memory(err, sizeof(g2_usage_row) * usage->n);
	}
	usage->under_way = true;
	*out = s;
	return true;
}

static bool
write_temp(const g2_usage_copy *s, g2_error *err)
{
	g2_usage_header header = g2_usage_file_header(s->system_identifier, s->timeline,
												  s->payload.data, s->payload.len);
	const char *shown = g2_file_tail(s->temp);
	bool		ok;
	int			fd;

	/* With O_EXCL, whatever else has the name is neither followed nor written into. */
	if (unlink(s->temp) != 0 && errno != ENOENT)
		return g2_fail_errno(err, errno, "remove", shown);
	fd = open(s->temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, G2_FILE_MODE);
	if (fd < 0)
		return g2_fail_errno(err, errno, "create", shown);
	ok = g2_file_write(fd, s->temp, &header, sizeof header, err) &&
		g2_file_write(fd, s->temp, s->payload.data, s->payload.len, err);
	if (ok && fsync(fd) != 0)
		ok = g2_fail_errno(err, errno, "fsync", shown);
	if (close(fd) != 0 && ok)
		ok = g2_fail_errno(err, errno, "close", shown);
	return ok;
}

bool
g2_usage_write(const g2_usage_copy *copy, g2_error *err)
{
	bool		ok = write_temp(copy, err);

	if (ok && rename(copy->temp, copy->path) != 0)
		ok = g2_fail_errno(err, errno, "rename", g2_file_tail(copy->temp));
	if (!ok)
	{
		unlink(copy->temp);
		return false;
	}
	return g2_file_sync_directory(copy->path, err);
}

void
g2_usage_written(g2_usage *usage, g2_usage_copy *copy, bool ok)
{
	usage->under_way = false;
	if (ok)
		usage->written = copy->changes;
	copy_free(copy);
}

bool
g2_usage_save(g2_usage *usage, g2_error *err)
{
	g2_usage_copy *copy;
	bool		ok;

	if (usage->under_way)
		return g2_fail(err, G2_E_INTERNAL, "usage counters are saved twice at once");
	if (!g2_usage_snapshot(usage, &copy, err))
		return false;
	if (!copy)
		return true;
	ok = g2_usage_write(copy, err);
	g2_usage_written(usage, copy, ok);
	return ok;
}
