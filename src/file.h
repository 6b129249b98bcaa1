/*
 * file.h: small files that somebody else may have written, read and replaced with bounds.
 */
#ifndef GPT2_FILE_H
#define GPT2_FILE_H

#include "postgres.h"

/*
 * The contents of a regular file of at most `limit` bytes, palloc'd, with a NUL behind them; never
 * through a symbolic link.  NULL with the cause in *error, which is NULL itself when there is no
 * such file.  `name` is what the cause calls the file.
 */
extern char *gpt2_file_read(const char *path, const char *name, size_t limit, size_t *len,
							char **error);

/* Puts a file of these contents in the place of `path` in one step: what was there before, or the
 * new one as a whole, is there after a crash.  Raises what goes wrong; the permissions stay. */
extern void gpt2_file_replace(const char *path, const char *data, size_t len);

/* Makes durable that a file of this path is there, or that it is not; false with errno. */
extern bool gpt2_sync_parent(const char *path);

#endif							/* GPT2_FILE_H */
