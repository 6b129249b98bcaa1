/*
 * file.h: opening and reading untrusted files of a model folder.
 */
#ifndef G2_FILE_H
#define G2_FILE_H

#include <sys/stat.h>
#include <sys/statvfs.h>

#include "util.h"

/* Of what is created: the umask, which the server gives to its processes, takes the group's part away
 * unless the data directory has group access. */
#define G2_DIRECTORY_MODE 0750
#define G2_FILE_MODE 0640

/*
 * Opens folder/name for reading with O_NOFOLLOW|O_NONBLOCK|O_CLOEXEC and accepts only a regular
 * file.  A symbolic link, FIFO, device or directory is 42501 (a link with the hint `cp -rL`), no
 * read permission 42501 with a hint, a missing file 58P01.  Returns the descriptor, or -1.
 */
extern int	g2_file_open(const char *folder, const char *name, uint64_t *size, g2_error *err);

/* As above and reads it whole into buf (cleared first, a NUL byte follows the contents); over
 * max_bytes is 22P03.  A file that ends early or grows while being read is 58030. */
extern bool g2_file_read(const char *folder, const char *name, size_t max_bytes, g2_buf *buf,
						 g2_error *err);

/* True when there is an entry of that name, of any kind: opening says what is wrong with it. */
extern bool g2_file_exists(const char *folder, const char *name);

/* What a file was when somebody looked at it; all zero: it was not there. */
typedef struct g2_file_state
{
	uint64_t	size;
	int64_t		ctime_ns;		/* changes with every write, whatever mtime is set to */
	uint64_t	inode;
} g2_file_state;

static inline g2_file_state
g2_file_state_of(const struct stat *st)
{
	return (g2_file_state) {
		.size = (uint64_t) st->st_size,
		.ctime_ns = (int64_t) st->st_ctim.tv_sec * 1000000000 + st->st_ctim.tv_nsec,
		.inode = (uint64_t) st->st_ino,
	};
}

static inline bool
g2_file_state_equal(const g2_file_state *a, const g2_file_state *b)
{
	return a->size == b->size && a->ctime_ns == b->ctime_ns && a->inode == b->inode;
}

/* The folder's entry of that name as it is now; a link is not followed. */
extern g2_file_state g2_file_state_at(const char *folder, const char *name);

/* Bytes of a file system that are free, and how many of them are to stay so: `keep`, or a tenth of
 * all. */
typedef struct g2_file_space
{
	uint64_t	free_bytes;
	uint64_t	reserve;
} g2_file_space;

extern g2_file_space g2_file_space_of(const struct statvfs *fs, uint64_t keep);

/* pread until n bytes are there; 58030 at an early end. */
extern bool g2_file_pread(int fd, const char *path, void *to, size_t n, uint64_t offset,
						  g2_error *err);

/* write() until done; 53100 on a full disk, else 58030. */
extern bool g2_file_write(int fd, const char *path, const void *from, size_t n, g2_error *err);

/* The same at an offset. */
extern bool g2_file_pwrite(int fd, const char *path, const void *from, size_t n, uint64_t offset,
						   g2_error *err);

/* fsync of the directory that holds the file: a rename lasts only after it. */
extern bool g2_file_sync_directory(const char *path, g2_error *err);

/* folder/name in new memory, or NULL. */
extern char *g2_file_path(const char *folder, const char *name);

/* The end of a path that is too long for a message that must say more than the path. */
extern const char *g2_file_tail(const char *path);

/* What Git leaves in place of a large file when `git lfs pull` did not run. */
extern bool g2_file_is_lfs_pointer(const void *data, size_t len);
extern bool g2_file_fail_lfs(const char *path, g2_error *err);

#endif							/* G2_FILE_H */
