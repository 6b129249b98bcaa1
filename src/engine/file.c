/*
 * file.c: opening and reading untrusted files of a model folder, writing files of our own.
 *
 * A descriptor belongs to whoever asked for it.  A file may be replaced, truncated or extended
 * while it is read; that gives an error, never a fault (nothing of a folder is mapped).
 */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#define FILE_TAIL 200			/* bytes of a path that a message has room for */
#define RESERVE_PART 10			/* this part of a file system stays free */

char *
g2_file_path(const char *folder, const char *name)
{
	size_t		a = strlen(folder),
				b = strlen(name);
	char	   *path = g2_alloc(a + b + 2);

	if (path)
	{
		memcpy(path, folder, a);
		path[a] = '/';
		memcpy(path + a + 1, name, b + 1);
	}
	return path;
}

const char *
g2_file_tail(const char *path)
{
	size_t		len = strlen(path);
	const char *tail;

	if (len <= FILE_TAIL)
		return path;
	for (tail = path + len - FILE_TAIL; ((unsigned char) *tail & 0xC0) == 0x80; tail++)
		;
	return tail;
}

bool
g2_file_is_lfs_pointer(const void *data, size_t len)
{
	static const char start[] = "version https://git-lfs";

	return len >= sizeof start - 1 && memcmp(data, start, sizeof start - 1) == 0;
}

bool
g2_file_fail_lfs(const char *path, g2_error *err)
{
	g2_fail(err, G2_E_BAD_FILE, "\"%s\" is a Git LFS pointer, not the file itself (byte 0)",
			g2_file_tail(path));
	return g2_fail_hint(err, "Run `git lfs pull` in the model's folder.");
}

/* Why open() refused; the hints are what people need most often. */
static int
file_open_failed(int errnum, const char *path, g2_error *err)
{
	if (errnum == ELOOP)
	{
		g2_fail(err, G2_E_PERMISSION, "\"%s\" is a symbolic link", g2_file_tail(path));
		g2_fail_hint(err, "Links are not followed; copy the folder with `cp -rL`.");
		return -1;
	}
	if (errnum == ENXIO || errnum == ENODEV)	/* a socket, a device without a driver */
	{
		g2_fail(err, G2_E_PERMISSION, "\"%s\" is not a regular file", g2_file_tail(path));
		return -1;
	}
	g2_fail_errno(err, errnum, "open", g2_file_tail(path));
	if (errnum == EACCES)
		g2_fail_hint(err, "The operating-system user of the server must be able to read the file.");
	return -1;
}

int
g2_file_open(const char *folder, const char *name, uint64_t *size, g2_error *err)
{
	char	   *path = g2_file_path(folder, name);
	struct stat st;
	int			fd;

	if (!path)
	{
		g2_fail_memory(err, strlen(folder) + strlen(name) + 2);
		return -1;
	}
	do
		fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	while (fd < 0 && errno == EINTR);
	if (fd < 0)
		file_open_failed(errno, path, err);
	else if (fstat(fd, &st) != 0)
	{
		g2_fail_errno(err, errno, "stat", g2_file_tail(path));
		close(fd);
		fd = -1;
	}
	else if (!S_ISREG(st.st_mode) || st.st_size < 0)
	{
		g2_fail(err, G2_E_PERMISSION, "\"%s\" is not a regular file", g2_file_tail(path));
		close(fd);
		fd = -1;
	}
	else
		*size = (uint64_t) st.st_size;
	g2_free(path);
	return fd;
}

/* No allocation here: "no memory" must not look like "no file". */
static bool
look_at(const char *folder, const char *name, struct stat *st)
{
	char		path[PATH_MAX];
	int			n = snprintf(path, sizeof path, "%s/%s", folder, name);

	return n > 0 && (size_t) n < sizeof path && lstat(path, st) == 0;
}

bool
g2_file_exists(const char *folder, const char *name)
{
	struct stat st;

	return look_at(folder, name, &st);
}

static bool
file_read_open(int fd, const char *path, uint64_t size, size_t max_bytes, g2_buf *buf,
			   g2_error *err)
{
	char		more;

	if (size > max_bytes)
		return g2_fail(err, G2_E_BAD_FILE, "\"%s\" has %llu bytes, more than the %zu allowed",
					   g2_file_tail(path), (unsigned long long) size, max_bytes);
	if (!g2_buf_reserve(buf, (size_t) size + 1))
		return g2_fail_memory(err, size + 1);
	if (!g2_file_pread(fd, path, buf->data, (size_t) size, 0, err))
		return false;
	if (pread(fd, &more, 1, (off_t) size) != 0)
		return g2_fail(err, G2_E_IO, "\"%s\" changed while it was being read",
					   g2_file_tail(path));
	buf->len = (size_t) size;
	buf->data[size] = '\0';
	if (g2_file_is_lfs_pointer(buf->data, buf->len))
		return g2_file_fail_lfs(path, err);
	return true;
}

bool
g2_file_read(const char *folder, const char *name, size_t max_bytes, g2_buf *buf, g2_error *err)
{
	uint64_t	size;
	char	   *path;
	bool		ok;
	int			fd = g2_file_open(folder, name, &size, err);

	buf->len = 0;
	if (fd < 0)
		return false;
	path = g2_file_path(folder, name);
	ok = path ? file_read_open(fd, path, size, max_bytes, buf, err)
		: g2_fail_memory(err, strlen(folder) + strlen(name) + 2);
	g2_free(path);
	close(fd);
	return ok;
}

g2_file_state
g2_file_state_at(const char *folder, const char *name)
{
	struct stat st;

	return look_at(folder, name, &st) ? g2_file_state_of(&st) : (g2_file_state) {0};
}

g2_file_space
g2_file_space_of(const struct statvfs *fs, uint64_t keep)
{
	return (g2_file_space) {
		.free_bytes = (uint64_t) fs->f_bavail * fs->f_frsize,
		.reserve = G2_MAX(keep, (uint64_t) fs->f_blocks / RESERVE_PART * fs->f_frsize),
	};
}

bool
g2_file_pread(int fd, const char *path, void *to, size_t n, uint64_t offset, g2_error *err)
{
	char	   *p = to;

	while (n > 0)
	{
		ssize_t		got = pread(fd, p, n, (off_t) offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return g2_fail_errno(err, errno, "read", g2_file_tail(path));
		if (got == 0)
			return g2_fail(err, G2_E_IO, "could not read \"%s\": it ends at byte %llu",
						   g2_file_tail(path), (unsigned long long) offset);
		p += got;
		offset += (uint64_t) got;
		n -= (size_t) got;
	}
	return true;
}

bool
g2_file_write(int fd, const char *path, const void *from, size_t n, g2_error *err)
{
	const char *p = from;

	while (n > 0)
	{
		ssize_t		put = write(fd, p, n);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return g2_fail_errno(err, put < 0 ? errno : ENOSPC, "write", g2_file_tail(path));
		p += put;
		n -= (size_t) put;
	}
	return true;
}

bool
g2_file_pwrite(int fd, const char *path, const void *from, size_t n, uint64_t offset,
			   g2_error *err)
{
	const char *p = from;

	while (n > 0)
	{
		ssize_t		put = pwrite(fd, p, n, (off_t) offset);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return g2_fail_errno(err, put < 0 ? errno : ENOSPC, "write", g2_file_tail(path));
		p += put;
		offset += (uint64_t) put;
		n -= (size_t) put;
	}
	return true;
}

bool
g2_file_sync_directory(const char *path, g2_error *err)
{
	char	   *copy = g2_strdup(path);
	bool		ok;
	int			fd;

	if (!copy)
		return g2_fail_memory(err, strlen(path));
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* Some file systems do not do this for directories and say so (PostgreSQL ignores that too). */
	ok = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL || errno == EBADF);
	if (!ok)
		g2_fail_errno(err, errno, "fsync the directory of", g2_file_tail(path));
	if (fd >= 0)
		close(fd);
	g2_free(copy);
	return ok;
}
