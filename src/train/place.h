/*
 * place.h: the directory of one training, and how its files are written.
 *
 * A file that counts is written under a temporary name, fsynced and renamed, so that it is whole or
 * not there.  The directory is PGDATA/base/pgsql_tmp_gpt2/train/HASH, which no backup carries.
 *
 *     lock          held by the process that trains
 *     rows          the query's rows (spool.h)
 *     model/        the finished folder, until it is moved (result.c)
 *     replaced/     the model that gave way to it (target.c)
 *     tokens        the rows' tokens, and windows, held_out: where each window is (windows.h)
 *     checkpoint    weights, moments, place in the data (checkpoint.h)
 *     best          the weights with the least loss on held-out rows
 *     log           the curve (curve.h)
 *     progress      what gpt_stat_progress_train shows, and that it is over
 *                   (engine/protocol_train.h)
 *
 * A directory that is being removed has another name, ".gone....", so that the same training can
 * begin again at once.
 */
#ifndef G2T_PLACE_H
#define G2T_PLACE_H

#include <stdio.h>

#include "util.h"

#define G2T_MAX_PATH 1024

typedef struct g2t_place
{
	char		path[G2T_MAX_PATH];
	int			lock_fd;
	uint64_t	keep_free;		/* bytes of the file system that files above 16 MB leave free: these, or
								 * a tenth; 0 = no limit, until it is set */
} g2t_place;

/* Makes parent (one level) and the directory where they are missing, and takes the lock; waits for
 * it at most so long, for a process that is about to end.  55000 when another has it. */
extern bool g2t_place_open(const char *parent, const char *name, int wait_ms, g2t_place *place,
						   g2_error *err);
extern void g2t_place_close(g2t_place *place);

/* Somebody has been there: it is not to be purged for some time. */
extern void g2t_place_touch(const g2t_place *place);

/* Removes the directory and all that is in it; the lock is given up with it. */
extern void g2t_place_remove(g2t_place *place);

/* Its model has been moved to where it belongs: it is over, but for what a process that was killed
 * then has left. */
extern bool g2t_place_is_done(const g2t_place *place);

/* Removes the directories of `parent` that nobody has locked and that are done, or nobody has been in
 * for so long. */
extern void g2t_place_purge(const char *parent, int64_t seconds);

/* place/file in `path`. */
extern void g2t_place_path(const g2t_place *place, const char *file, char path[G2T_MAX_PATH]);

extern bool g2t_place_has(const g2t_place *place, const char *file);

/* A file being written: buffered, under a temporary name. */
typedef struct g2t_writer
{
	char		path[G2T_MAX_PATH];
	int			fd;				/* -1 = none */
	g2_buf		buffer;
	uint64_t	written;		/* bytes, those in the buffer included */
	uint64_t	keep_free;		/* of the place */
} g2t_writer;

extern bool g2t_writer_open(const g2t_place *place, const char *file, g2t_writer *w,
							g2_error *err);
extern bool g2t_write(g2t_writer *w, const void *data, size_t n, g2_error *err);

/* The file gets its name. */
extern bool g2t_writer_finish(g2t_writer *w, g2_error *err);

/* After a failure, or after finish: frees it, and removes what has no name yet. */
extern void g2t_writer_close(g2t_writer *w);

/* A small text file folder/name, on disk when it returns true.  After a failure or a crash a part
 * of it may be there: who reads it knows by something else that it is whole. */
extern bool g2t_write_text(const char *folder, const char *name, const g2_buf *text,
						   g2_error *err);

/* A file being read from its start, buffered. */
typedef struct g2t_reader
{
	char		path[G2T_MAX_PATH];
	int			fd;
	char	   *buffer;
	size_t		at,
				len;
	uint64_t	left;			/* bytes that have not been read into the buffer */
} g2t_reader;

extern bool g2t_reader_open(const g2t_place *place, const char *file, g2t_reader *r,
							g2_error *err);
extern void g2t_reader_close(g2t_reader *r);

/* Exactly n bytes; 58030 at an early end. */
extern bool g2t_read(g2t_reader *r, void *to, size_t n, g2_error *err);

/* Nothing is left. */
extern bool g2t_reader_ended(const g2t_reader *r);

/* Removes a directory and what is in it; links are not followed. */
extern void g2t_remove_tree(const char *path);

#endif							/* G2T_PLACE_H */
