/*
 * file.c: small files that somebody else may have written, read and replaced with bounds.
 *
 * A file that is replaced is written beside itself under a name of its own, <name>.<pid>.tmp, made
 * durable and renamed.  What a process that died has left of that is overwritten by the next of
 * that pid, and harmless until then.
 */
#include "compat.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "miscadmin.h"
#include "storage/fd.h"

#include "file.h"

/* ---- reading ---- */

/* Up to `limit` bytes; less than zero with errno when reading fails. */
static ssize_t
read_up_to(int fd, char *data, size_t limit)
{
	size_t		got = 0;

	while (got < limit)
	{
		ssize_t		n = read(fd, data + got, limit - got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		got += (size_t) n;
	}
	return (ssize_t) got;
}

char *
gpt2_file_read(const char *path, const char *name, size_t limit, size_t *len, char **error)
{
	int			fd = OpenTransientFile(path, O_RDONLY | PG_BINARY | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;
	char	   *data;
	ssize_t		got;

	*error = NULL;
	if (fd < 0)
	{
		if (errno == ELOOP)
			*error = psprintf("%s is a symbolic link", name);
		else if (errno != ENOENT)
			*error = psprintf("could not open %s: %s", name, strerror(errno));
		return NULL;
	}
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		*error = psprintf("%s is not a regular file", name);
	else if (st.st_size > (off_t) limit)
		*error = psprintf("%s has %lld bytes, more than %zu", name, (long long) st.st_size, limit);
	if (*error)
	{
		CloseTransientFile(fd);
		return NULL;
	}
	/* It may be growing: what is read is what it had when it was looked at. */
	data = palloc((size_t) st.st_size + 1);
	got = read_up_to(fd, data, (size_t) st.st_size);
	if (got < 0)
		*error = psprintf("could not read %s: %s", name, strerror(errno));
	CloseTransientFile(fd);
	if (*error)
		return NULL;
	data[got] = '\0';
	*len = (size_t) got;
	return data;
}

/* ---- replacing ---- */

static void
fail_at(const char *what, const char *path)
{
	ereport(ERROR,
			(errcode_for_file_access(),
			 errmsg("could not %s file \"%s\": %m", what, path)));
}

static void
write_whole(int fd, const char *path, const char *data, size_t len)
{
	while (len > 0)
	{
		ssize_t		n;

		errno = 0;
		n = write(fd, data, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
		{
			/* A write of nothing tells no cause. */
			if (errno == 0)
				errno = ENOSPC;
			fail_at("write", path);
		}
		data += n;
		len -= (size_t) n;
	}
}

/* What is named here is no part of the database: PostgreSQL's own function would panic where it
 * cannot. */
bool
gpt2_sync_parent(const char *path)
{
	char		directory[MAXPGPATH];
	int			fd,
				cause;
	bool		ok;

	strlcpy(directory, path, sizeof directory);
	get_parent_directory(directory);
	fd = OpenTransientFile(directory, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return false;
	ok = pg_fsync(fd) == 0 || errno == EINVAL;
	cause = errno;
	CloseTransientFile(fd);
	errno = cause;
	return ok;
}

static void
write_and_rename(int fd, const char *temp, const char *path, const char *data, size_t len)
{
	struct stat st;

	write_whole(fd, temp, data, len);
	if (lstat(path, &st) == 0 && S_ISREG(st.st_mode) && fchmod(fd, st.st_mode & 0777) != 0)
		fail_at("set permissions of", temp);
	if (pg_fsync(fd) != 0)
		fail_at("fsync", temp);
	if (CloseTransientFile(fd) != 0)
		fail_at("close", temp);
	if (rename(temp, path) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not rename file \"%s\" to \"%s\": %m", temp, path)));
	/* The new name is there already, and lasts only after this. */
	if (!gpt2_sync_parent(path))
		ereport(WARNING,
				(errcode_for_file_access(),
				 errmsg("could not fsync the directory of \"%s\": %m", path)));
}

void
gpt2_file_replace(const char *path, const char *data, size_t len)
{
	char		temp[MAXPGPATH];
	int			fd;

	if (snprintf(temp, sizeof temp, "%s.%d.tmp", path, MyProcPid) >= (int) sizeof temp)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("path \"%s\" is too long", path)));
	(void) unlink(temp);
	fd = OpenTransientFilePerm(temp, O_WRONLY | O_CREAT | O_EXCL | PG_BINARY | O_NOFOLLOW,
							   pg_file_create_mode);
	if (fd < 0)
		fail_at("create", temp);
	PG_TRY();
	{
		write_and_rename(fd, temp, path, data, len);
	}
	PG_CATCH();
	{
		(void) unlink(temp);
		PG_RE_THROW();
	}
	PG_END_TRY();
}
