/*
 * progress.h: long work of backends, as they tell of it.
 *
 * The engine only keeps it, for whoever wants to see it, and forgets it with the client.
 */
#ifndef G2_PROGRESS_H
#define G2_PROGRESS_H

#include "error.h"
#include "protocol_watch.h"

typedef struct g2_client g2_client;
typedef struct g2_progress g2_progress;

/* Replaces what the client said of the same number, or forgets it where that has ended. */
extern bool g2_progress_set(g2_progress **list, const g2_client *client,
							const g2_progress_row *row, g2_error *err);

/* All that the client has told. */
extern void g2_progress_forget(g2_progress **list, const g2_client *client);

/* Appends the payload of PROGRESS_LIST. */
extern void g2_progress_list(const g2_progress *list, g2_writer *w);

#endif							/* G2_PROGRESS_H */
