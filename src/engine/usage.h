/*
 * usage.h: what has been used, by month, role, database and model, and the file that keeps it over
 * a restart.
 *
 * The table is the engine's thread's.  Saving has two halves: a snapshot on that thread, and its
 * writing, which waits for the disk, on any.
 */
#ifndef G2_USAGE_H
#define G2_USAGE_H

#include "protocol.h"
#include "util.h"

#define G2_USAGE_MONTHS 24		/* kept */
#define G2_MAX_USAGE_ROWS 20000	/* new keys beyond go to a row of role 0, database 0, model "" */

typedef struct g2_usage g2_usage;

/* What is added to a row; fields as in g2_usage_row. */
typedef struct g2_usage_delta
{
	uint64_t	calls;
	uint64_t	sequences;
	uint64_t	prompt_tokens;
	uint64_t	cached_tokens;
	uint64_t	completion_tokens;
	uint64_t	result_hits;
	uint64_t	truncated;
	uint64_t	errors;
	uint64_t	cancelled;
	uint64_t	queue_us;
	uint64_t	compute_us;
	double		cost;
} g2_usage_delta;

/* Contents of the file, on their way to it. */
typedef struct g2_usage_snapshot_data
{
	const char *path;			/* the table's: it outlives the writing */
	char	   *data;
	size_t		len;
} g2_usage_snapshot_data;

/* Reads what was saved at path (NULL: nothing is saved); *ignored = there is a file, but not one
 * that counts.  The path's string is the caller's and stays. */
extern bool g2_usage_open(const char *path, uint64_t system_identifier, uint32_t timeline,
						  g2_usage **out, bool *ignored, g2_error *err);
extern void g2_usage_close(g2_usage *usage);

/* Never fails: what there is no memory for is lost. */
extern void g2_usage_add(g2_usage *usage, uint32_t role, uint32_t database, const char *model,
						 const g2_usage_delta *delta);
extern void g2_usage_reset(g2_usage *usage);

/* Appends the payload of USAGE_LIST. */
extern void g2_usage_encode(const g2_usage *usage, g2_writer *w);

/* False: nothing has changed since the last one, nothing is saved at all, or there is no memory. */
extern bool g2_usage_snapshot(g2_usage *usage, g2_usage_snapshot_data *snapshot);
extern bool g2_usage_write(const g2_usage_snapshot_data *snapshot, g2_error *err);
extern void g2_usage_snapshot_free(g2_usage_snapshot_data *snapshot);

/* Tests only: the clock, in seconds since 1970; 0 = the real one. */
extern void g2_usage_set_clock(int64_t seconds);

#endif							/* G2_USAGE_H */
