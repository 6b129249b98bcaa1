/*
 * place.c: the directory of one training.
 */
#include "place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "file.h"
#include "protocol_train.h"

#define BUFFER (1u << 18)
#define CHECK_SPACE (16u << 20)	/* bytes of a file between two looks at the space that is left */
#define NEW ".new"
#define LOCK_POLL_MS 20
#define MAX_DEPTH 16			/* of what is removed: a model's folder may have folders */
#define OPEN_ATTEMPTS 100		/* while others remove the directory */

/* path = directory/file, with `end` behind it.  Directories are our own, far shorter than the
 * limit; what does not fit is cut, and then is not found. */
static void
join(const char *directory, const char *file, const char *end, char path[G2T_MAX_PATH])
{
	const char *const parts[] = {directory, "/", file, end};
	size_t		n = 0;

	for (size_t i = 0; i < G2_LENGTH(parts); i++)
	{
		size_t		len = G2_MIN(strlen(parts[i]), G2T_MAX_PATH - 1 - n);

		memcpy(path + n, parts[i], len);
		n += len;
	}
	path[n] = '\0';
}

void
g2t_place_path(const g2t_place *place, const char *file, char path[G2T_MAX_PATH])
{
	join(place->path, file, "", path);
}

bool
g2t_place_has(const g2t_place *place, const char *file)
{
	char		path[G2T_MAX_PATH];
	struct stat st;

	g2t_place_path(place, file, path);
	return lstat(path, &st) == 0;
}

static bool
make_directory(const char *path, g2_error *err)
{
	if (mkdir(path, G2_DIRECTORY_MODE) != 0 && errno != EEXIST)
		return g2_fail_errno(err, errno, "create directory", path);
	return true;
}

/* *gone: the directory was removed, by who held the lock, while this process waited for it. */
static bool
take_lock(g2t_place *place, int wait_ms, bool *gone, g2_error *err)
{
	char		path[G2T_MAX_PATH];
	struct stat locked,
				there;

	*gone = false;
	g2t_place_path(place, "lock", path);
	place->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, G2_FILE_MODE);
	if (place->lock_fd < 0)
	{
		*gone = errno == ENOENT;
		return g2_fail_errno(err, errno, "create", path);
	}
	for (int ms = 0; flock(place->lock_fd, LOCK_EX | LOCK_NB) != 0; ms += LOCK_POLL_MS)
	{
		if (errno != EWOULDBLOCK && errno != EINTR)
			return g2_fail_errno(err, errno, "lock", path);
		if (ms >= wait_ms)
		{
			g2_fail(err, G2_E_VERSION, "another session trains this model already");
			return g2_fail_hint(err, "The view gpt_stat_progress_train shows it.");
		}
		usleep(LOCK_POLL_MS * 1000);
	}
	if (fstat(place->lock_fd, &locked) != 0 || stat(path, &there) != 0 ||
		there.st_ino != locked.st_ino)
	{
		*gone = true;
		return g2_fail(err, G2_E_IO, "\"%s\" is just being removed", place->path);
	}
	g2t_place_touch(place);
	return true;
}

void
g2t_place_touch(const g2t_place *place)
{
	(void) futimens(place->lock_fd, NULL);
}

bool
g2t_place_open(const char *parent, const char *name, int wait_ms, g2t_place *place, g2_error *err)
{
	bool		gone = true;

	place->lock_fd = -1;
	place->keep_free = 0;
	if (strlen(parent) + strlen(name) > G2T_MAX_PATH / 2)
		return g2_fail(err, G2_E_PARAM, "the path of a training's directory is too long");
	join(parent, name, "", place->path);
	for (int attempt = 0; gone && attempt < OPEN_ATTEMPTS; attempt++)
	{
		if (!make_directory(parent, err) || !make_directory(place->path, err))
			return false;
		if (take_lock(place, wait_ms, &gone, err))
			return true;
		g2t_place_close(place);
	}
	return false;
}

void
g2t_place_close(g2t_place *place)
{
	if (place->lock_fd >= 0)
		close(place->lock_fd);
	place->lock_fd = -1;
}

static void
remove_level(const char *path, int depth)
{
	DIR		   *directory = opendir(path);
	struct dirent *entry;
	char		child[G2T_MAX_PATH];

	while (directory && (entry = readdir(directory)))
	{
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (snprintf(child, sizeof child, "%s/%s", path, entry->d_name) >= (int) sizeof child)
			continue;
		if (unlink(child) != 0 && (errno == EISDIR || errno == EPERM) && depth > 0)
			remove_level(child, depth - 1);
	}
	if (directory)
		closedir(directory);
	(void) rmdir(path);
}

void
g2t_remove_tree(const char *path)
{
	remove_level(path, MAX_DEPTH);
}

/* The name is free at once, whatever else is in the directory; whoever waits for its lock sees that
 * the file is there no more. */
static void
remove_place(const char *path)
{
	const char *name = strrchr(path, '/') + 1;
	char		gone[G2T_MAX_PATH];

	if (snprintf(gone, sizeof gone, "%.*s" G2_TRAIN_GONE "%ld.%s", (int) (name - path), path,
				 (long) getpid(), name) >= (int) sizeof gone || rename(path, gone) != 0)
		g2t_remove_tree(path);
	else
		g2t_remove_tree(gone);
}

void
g2t_place_remove(g2t_place *place)
{
	remove_place(place->path);
	g2t_place_close(place);
}

static bool
is_done(const char *path)
{
	char		file[G2T_MAX_PATH];
	g2_train_progress p;
	int			fd;
	bool		whole;

	join(path, G2_TRAIN_PROGRESS_FILE, "", file);
	fd = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return false;
	whole = read(fd, &p, sizeof p) == (ssize_t) sizeof p && g2_train_progress_is_whole(&p);
	close(fd);
	return whole && g2_train_is_done(path, &p);
}

bool
g2t_place_is_done(const g2t_place *place)
{
	return is_done(place->path);
}

/* The descriptor of its lock, locked, when its model is where it belongs, or nobody has been there
 * for so long; -1. */
static int
lock_stale(const char *path, int64_t seconds)
{
	char		lock[G2T_MAX_PATH];
	struct stat st;
	int			fd;

	join(path, "lock", "", lock);
	fd = open(lock, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -1;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &st) == 0 &&
		(time(NULL) - st.st_mtime > seconds || is_done(path)))
		return fd;
	close(fd);
	return -1;
}

void
g2t_place_purge(const char *parent, int64_t seconds)
{
	DIR		   *directory = opendir(parent);
	struct dirent *entry;
	char		path[G2T_MAX_PATH];

	while (directory && (entry = readdir(directory)))
	{
		bool		gone = strncmp(entry->d_name, G2_TRAIN_GONE, strlen(G2_TRAIN_GONE)) == 0;
		int			fd;

		if (entry->d_name[0] == '.' && !gone)
			continue;
		join(parent, entry->d_name, "", path);
		/* what a process has left behind that was killed while it removed it */
		if (gone)
			g2t_remove_tree(path);
		else if ((fd = lock_stale(path, seconds)) >= 0)
		{
			remove_place(path);
			close(fd);
		}
	}
	if (directory)
		closedir(directory);
}

/* ---- writing ---- */

bool
g2t_writer_open(const g2t_place *place, const char *file, g2t_writer *w, g2_error *err)
{
	char		temporary[G2T_MAX_PATH];

	memset(w, 0, sizeof *w);
	w->fd = -1;
	w->keep_free = place->keep_free;
	if (strlen(place->path) + strlen(file) + sizeof NEW >= G2T_MAX_PATH - 1)
		return g2_fail(err, G2_E_INTERNAL, "the path of \"%s\" is too long", file);
	join(place->path, file, "", w->path);
	join(place->path, file, NEW, temporary);
	w->fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, G2_FILE_MODE);
	if (w->fd < 0)
		return g2_fail_errno(err, errno, "create", temporary);
	return true;
}

static void
temporary_of(const g2t_writer *w, char path[G2T_MAX_PATH])
{
	size_t		n = strlen(w->path);

	memcpy(path, w->path, n);
	memcpy(path + n, NEW, sizeof NEW);
}

static bool
flush(g2t_writer *w, g2_error *err)
{
	bool		ok = g2_file_write(w->fd, w->path, w->buffer.data, w->buffer.len, err);

	w->buffer.len = 0;
	return ok;
}

/* The server has its write-ahead log there, too: without room for it, it ends. */
static bool
check_space(const g2t_writer *w, g2_error *err)
{
	struct statvfs fs;
	g2_file_space space;

	if (fstatvfs(w->fd, &fs) != 0)
		return g2_fail_errno(err, errno, "stat the file system of", g2_file_tail(w->path));
	space = g2_file_space_of(&fs, w->keep_free);
	if (space.free_bytes > space.reserve)
		return true;
	g2_fail(err, G2_E_DISK_FULL, "not enough disk space to train: \"%s\"", g2_file_tail(w->path));
	g2_fail_detail(err, "%llu bytes are free, and %llu must stay free.",
				   (unsigned long long) space.free_bytes, (unsigned long long) space.reserve);
	return g2_fail_hint(err, "Free some space; the same CALL goes on from where it was.");
}

bool
g2t_write(g2t_writer *w, const void *data, size_t n, g2_error *err)
{
	uint64_t	checked = w->written / CHECK_SPACE;

	w->written += n;
	if (w->keep_free > 0 && w->written / CHECK_SPACE > checked && !check_space(w, err))
		return false;
	if (w->buffer.len + n > BUFFER && !flush(w, err))
		return false;
	if (n > BUFFER)
		return g2_file_write(w->fd, w->path, data, n, err);
	return g2_buf_append(&w->buffer, data, n) || g2_fail_memory(err, n);
}

bool
g2t_writer_finish(g2t_writer *w, g2_error *err)
{
	char		temporary[G2T_MAX_PATH];
	int			fd = w->fd;

	if (!flush(w, err))
		return false;
	if (fsync(fd) != 0)
		return g2_fail_errno(err, errno, "write", w->path);
	w->fd = -1;
	if (close(fd) != 0)
		return g2_fail_errno(err, errno, "write", w->path);
	temporary_of(w, temporary);
	if (rename(temporary, w->path) != 0)
		return g2_fail_errno(err, errno, "rename", temporary);
	return g2_file_sync_directory(w->path, err);
}

void
g2t_writer_close(g2t_writer *w)
{
	char		temporary[G2T_MAX_PATH];

	g2_buf_free(&w->buffer);
	if (w->fd < 0 || !w->path[0])
		return;
	close(w->fd);
	w->fd = -1;
	temporary_of(w, temporary);
	(void) unlink(temporary);
}

bool
g2t_write_text(const char *folder, const char *name, const g2_buf *text, g2_error *err)
{
	char	   *path;
	int			fd;
	bool		ok;

	if (text->failed)
		return g2_fail_memory(err, text->len);
	path = g2_file_path(folder, name);
	if (!path)
		return g2_fail_memory(err, strlen(folder));
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, G2_FILE_MODE);
	if (fd < 0)
		ok = g2_fail_errno(err, errno, "create", path);
	else
	{
		ok = g2_file_write(fd, path, text->data, text->len, err);
		if (ok && fsync(fd) != 0)
			ok = g2_fail_errno(err, errno, "write", path);
		if (close(fd) != 0 && ok)
			ok = g2_fail_errno(err, errno, "write", path);
	}
	g2_free(path);
	return ok;
}

/* ---- reading ---- */

bool
g2t_reader_open(const g2t_place *place, const char *file, g2t_reader *r, g2_error *err)
{
	memset(r, 0, sizeof *r);
	join(place->path, file, "", r->path);
	r->fd = g2_file_open(place->path, file, &r->left, err);
	if (r->fd < 0)
		return false;
	r->buffer = g2_alloc(BUFFER);
	if (r->buffer)
		return true;
	g2t_reader_close(r);
	return g2_fail_memory(err, BUFFER);
}

void
g2t_reader_close(g2t_reader *r)
{
	if (r->fd >= 0 && r->path[0])
		close(r->fd);
	r->fd = -1;
	g2_free(r->buffer);
	r->buffer = NULL;
}

bool
g2t_reader_ended(const g2t_reader *r)
{
	return r->left == 0 && r->at == r->len;
}

static bool
fill(g2t_reader *r, g2_error *err)
{
	ssize_t		n;

	do
		n = r->left > 0 ? read(r->fd, r->buffer, (size_t) G2_MIN(r->left, (uint64_t) BUFFER)) : 0;
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return g2_fail_errno(err, errno, "read", r->path);
	if (n == 0)
		return g2_fail(err, G2_E_IO, "\"%s\" ends early", g2_file_tail(r->path));
	r->at = 0;
	r->len = (size_t) n;
	r->left -= (uint64_t) n;
	return true;
}

bool
g2t_read(g2t_reader *r, void *to, size_t n, g2_error *err)
{
	char	   *out = to;

	while (n > 0)
	{
		size_t		part;

		if (r->at == r->len && !fill(r, err))
			return false;
		part = G2_MIN(n, r->len - r->at);
		memcpy(out, r->buffer + r->at, part);
		r->at += part;
		out += part;
		n -= part;
	}
	return true;
}
