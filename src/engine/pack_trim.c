/*
 * pack_trim.c: removes the packs that were not used for the longest time, above a limit.
 *
 * A pack's modification time is that of its last use: an open pack sets it when it is opened and
 * when it is closed.  Who has a pack open holds a shared lock on it (flock), this process or
 * another: what can be locked exclusively is in use by nobody.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"
#include "pack.h"

#define TRIM_MAX_PACKS 4096		/* looked at; more are for the next time */

typedef struct trim_pack
{
	char	   *path;
	uint64_t	bytes;
	int64_t		used_ns;
} trim_pack;

typedef struct trim_list
{
	trim_pack  *packs;			/* [TRIM_MAX_PACKS] */
	uint32_t	n;
	uint64_t	bytes;
} trim_list;

static int
trim_compare(const void *a, const void *b)
{
	const trim_pack *x = a,
			   *y = b;

	if (x->used_ns != y->used_ns)
		return x->used_ns < y->used_ns ? -1 : 1;
	return strcmp(x->path, y->path);
}

static void
trim_add(trim_list *list, const char *directory, const char *name)
{
	char	   *path = g2_file_path(directory, name);
	struct stat st;

	if (!path || lstat(path, &st) != 0 || !S_ISREG(st.st_mode))
	{
		g2_free(path);
		return;
	}
	list->packs[list->n++] = (trim_pack) {
		.path = path,
		.bytes = (uint64_t) st.st_size,
		.used_ns = (int64_t) st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec,
	};
	list->bytes += (uint64_t) st.st_size;
}

static void
trim_read(trim_list *list, const char *directory)
{
	DIR		   *dir = opendir(directory);
	struct dirent *entry;
	size_t		ignored;

	if (!dir)
		return;
	while (list->n < TRIM_MAX_PACKS && (entry = readdir(dir)) != NULL)
		if (g2_pack_is_name(entry->d_name, &ignored))
			trim_add(list, directory, entry->d_name);
	closedir(dir);
}

/* False: somebody uses it, or it cannot be removed. */
static bool
trim_remove(const char *path)
{
	int			fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	bool		ok;

	if (fd < 0)
		return false;
	ok = flock(fd, LOCK_EX | LOCK_NB) == 0 && unlink(path) == 0;
	close(fd);
	return ok;
}

g2_pack_trimmed
g2_pack_trim(const char *directory, uint64_t limit)
{
	trim_list	list = {.packs = g2_alloc_array(TRIM_MAX_PACKS, sizeof *list.packs)};
	g2_pack_trimmed removed = {0};

	if (!list.packs)
		return removed;
	trim_read(&list, directory);
	if (list.n > 1)
		qsort(list.packs, list.n, sizeof *list.packs, trim_compare);
	for (uint32_t i = 0; i < list.n; i++)
	{
		if (list.bytes - removed.bytes > limit && trim_remove(list.packs[i].path))
		{
			removed.n++;
			removed.bytes += list.packs[i].bytes;
		}
		g2_free(list.packs[i].path);
	}
	g2_free(list.packs);
	return removed;
}
