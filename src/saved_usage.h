/*
 * saved_usage.h: the file in which the engine saves its usage counters, as the PostgreSQL side sees
 * it, and whose counters they are.
 */
#ifndef GPT2_SAVED_USAGE_H
#define GPT2_SAVED_USAGE_H

#include "postgres.h"

#include "engine/protocol_watch.h"

/* Identifier of the cluster and its timeline now, on a standby that which it replays. */
extern void gpt2_cluster_identity(uint64 *system_identifier, uint32 *timeline);

/* The payload of USAGE_LIST that is saved, palloc'd; false when there is none, or one of another
 * cluster, timeline or version.  Raises what keeps the file from being read. */
extern bool gpt2_usage_file_load(g2_span *payload);

/* Removes the file, if there is one.  No engine may run: it would write it again. */
extern void gpt2_usage_file_remove(void);

#endif							/* GPT2_SAVED_USAGE_H */
