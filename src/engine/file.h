/*
 * file.h: opening and reading untrusted files of a model folder.
 */
#ifndef G2_FILE_H
#define G2_FILE_H

#include "util.h"

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
