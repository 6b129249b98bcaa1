/*
 * folder.h: a place for folders that a fuzzer fills, which is gone at its end; an input's parts as
 * files there; what every refusal has.
 */
#ifndef FUZZ_FOLDER_H
#define FUZZ_FOLDER_H

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util.h"

static char root[64];

static inline int
remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void) st;
	(void) kind;
	(void) ftw;
	return remove(path);
}

static inline void
remove_root(void)
{
	(void) nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void
make_root(void)
{
	snprintf(root, sizeof root, "%s/gpt2-fuzz-XXXXXX",
			 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	if (!mkdtemp(root))
		abort();
	atexit(remove_root);
}

static inline void
put_file(const char *folder, const char *name, const void *head, size_t head_len,
		 const void *data, size_t len)
{
	char		path[160];
	int			fd;

	snprintf(path, sizeof path, "%s/%s", folder, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, head, head_len) != (ssize_t) head_len ||
		write(fd, data, len) != (ssize_t) len || close(fd) != 0)
		abort();
}

typedef struct part
{
	const char *data;
	size_t		len;
} part;

/* Parts with a byte 0xFF (which no JSON holds) between them; the last one may hold it. */
static inline void
split_input(const uint8_t *data, size_t size, part *parts, size_t n)
{
	const char *at = (const char *) data,
			   *end = at + size;

	for (size_t i = 0; i < n; i++)
	{
		const char *next = i + 1 < n && at < end ? memchr(at, 0xFF, (size_t) (end - at)) : NULL;

		parts[i] = (part) {at, (size_t) ((next ? next : end) - at)};
		at = next ? next + 1 : end;
	}
}

/* An empty part is no file. */
static inline void
put_or_remove(const char *folder, const char *name, const part *p)
{
	char		path[160];

	snprintf(path, sizeof path, "%s/%s", folder, name);
	if (p->len > 0)
		put_file(folder, name, "", 0, p->data, p->len);
	else
		(void) unlink(path);
}

static inline void
expect_told(const g2_error *err)
{
	if (err->code == G2_OK || err->code == G2_E_INTERNAL || !err->message[0] ||
		g2_utf8_valid_prefix(err->message, strlen(err->message)) != strlen(err->message))
		abort();
}

#endif							/* FUZZ_FOLDER_H */
