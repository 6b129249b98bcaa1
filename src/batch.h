/*
 * batch.h: many rows in flight, as the functions that are called for rows see it.
 *
 * A plan node above the one that evaluates a call reads rows ahead and sends their calls
 * (batch_scan.c); a place of the query where that is done is a Gpt2BatchSite.
 */
#ifndef GPT2_BATCH_H
#define GPT2_BATCH_H

#include "postgres.h"

#include "fmgr.h"

#include "client.h"

struct Gpt2Answer;
struct Gpt2CallSite;

typedef struct Gpt2BatchSite Gpt2BatchSite;

/* The site of this function expression, which `site` belongs to from now on; NULL: its rows are
 * not looked ahead at. */
extern Gpt2BatchSite *gpt2_batch_join(fmNodePtr expression, struct Gpt2CallSite *site);

/* The request that was sent ahead for the site's current row, if it is this one to the byte, when
 * it has its answer; the caller releases it.  NULL: there is none, or it failed. */
extern Gpt2Request *gpt2_batch_claim(Gpt2BatchSite *site, g2_message type,
									 const g2_writer *payload);

/* The answer to a call of the site, whose sequences have been read; for EXPLAIN. */
extern void gpt2_batch_count(Gpt2BatchSite *site, const struct Gpt2Answer *answer);

/* A call of the site has failed for its row alone. */
extern void gpt2_batch_count_failed(Gpt2BatchSite *site);

/* When the library is loaded: hooks and the plan node. */
extern void gpt2_batch_initialize(void);

#endif							/* GPT2_BATCH_H */
