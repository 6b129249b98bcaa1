/*
 * usage.h: counters of what was used, by month (UTC), role, database and model, and their file.
 *
 * The counters belong to the engine's thread: it adds, lists and resets.  Saving waits for the disk
 * and is cut in three, so that no lock is needed: g2_usage_snapshot (the engine's thread) copies
 * what is to be written, g2_usage_write (any thread) writes the copy and touches nothing else, and
 * g2_usage_written (the engine's thread) takes the result.  One copy is under way at a time: a
 * second could be overtaken by the first.
 *
 * Bounds: the present month and the 23 before it are kept, and at most G2_USAGE_MAX_ROWS keys.
 * When these are used up, the oldest month becomes one row (role 0, database 0, no model), and when
 * there is no older month, the numbers of new keys go into the present month's row of that kind:
 * the sums of a month stay right.  Numbers for which there is no memory go there too.
 */
#ifndef G2_USAGE_H
#define G2_USAGE_H

#include "protocol_watch.h"
#include "util.h"

#define G2_USAGE_MONTHS 24
#define G2_USAGE_MAX_ROWS 20000

/* What one request adds; the fields are g2_usage_row's. */
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

typedef struct g2_usage g2_usage;
typedef struct g2_usage_copy g2_usage_copy;

/* The present month, as g2_usage_row.month counts; tests bring a calendar of their own. */
typedef uint32_t (*g2_usage_clock) (void);

extern uint32_t g2_usage_month_now(void);

/*
 * Reads the file, where there is one.  What is not this cluster's and timeline's, damaged or
 * unreadable counts as none and is overwritten by the next save; *ignored then says why (its code
 * is G2_OK otherwise).  path, relative to the working directory, is copied; NULL, or a
 * system_identifier of 0: nothing is read or saved.  Fails for want of memory only.
 */
extern bool g2_usage_open(const char *path, uint64_t system_identifier, uint32_t timeline,
						  g2_usage_clock clock, g2_usage **out, g2_error *ignored,
						  g2_error *err);

/* Does not save; a copy that is under way must have been handed back. */
extern void g2_usage_close(g2_usage *usage);

/* model: the name of one that exists, or "": keys made of any name that is asked for would fill
 * the table. */
extern void g2_usage_add(g2_usage *usage, uint32_t role, uint32_t database, const char *model,
						 const g2_usage_delta *delta);

/* The payload of USAGE_LIST. */
extern void g2_usage_encode(const g2_usage *usage, g2_writer *w);

/* Adds the rows of such a payload; 22P03 when it is malformed, 53200 without memory.  Some rows may
 * have been added then. */
extern bool g2_usage_take(g2_usage *usage, g2_span payload, g2_error *err);
extern void g2_usage_reset(g2_usage *usage);

/* The server is on this timeline now.  True: it is a later one than before, whose counters start at
 * zero.  (Timelines only grow; who says an earlier one has not heard of it yet.)  Counters that are
 * not saved belong to none. */
extern bool g2_usage_move(g2_usage *usage, uint32_t timeline);

/* *out is NULL when there is nothing to write: nothing has changed since what was last written, or
 * nothing is saved, or a copy is under way. */
extern bool g2_usage_snapshot(g2_usage *usage, g2_usage_copy **out, g2_error *err);
extern bool g2_usage_write(const g2_usage_copy *copy, g2_error *err);

/* Frees the copy.  ok: it was written; otherwise the next one has its changes again. */
extern void g2_usage_written(g2_usage *usage, g2_usage_copy *copy, bool ok);

/* The three in one, for the end, when waiting does no harm. */
extern bool g2_usage_save(g2_usage *usage, g2_error *err);

#endif							/* G2_USAGE_H */
