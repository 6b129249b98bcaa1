/*
 * split.h: a text that is summarized in parts: a GENERATE with G2_GEN_SPLIT or G2_GEN_PARTS.
 *
 * Phases: a helper thread makes the parts' prompts (prompt.c); each is a group, some of them run at
 * once; when the last has ended, what they made is a text, a line for each.  That is the answer
 * (G2_GEN_PARTS), or goes to the helper thread as the parts' text went, until it fits into the
 * context and is summarized as any text is.
 *
 * The fields belong to the helper thread while it works, then to the engine's.
 */
#ifndef G2_SPLIT_H
#define G2_SPLIT_H

#include "group.h"

struct g2_request;

typedef struct g2_split_part
{
	struct g2_request *request;
	g2_ids		prompt;			/* until its group is made */
	g2_group   *group;			/* NULL: not begun, or ended */
	g2_buf		text;			/* what it has made, without white space at its ends */
} g2_split_part;

typedef struct g2_split
{
	g2_split_part    *parts;			/* [n], of cap; in the order of the text */
	uint32_t	n;
	uint32_t	cap;
	uint32_t	next;			/* the first that was not begun */
	uint32_t	running;
	uint32_t	level;			/* rounds before this one */
	uint32_t	max_new;		/* new tokens of each */
	size_t		used;			/* bytes of the text that are in parts */
	g2_buf		text;			/* what the parts of the round before have made */
	uint64_t	prompt_tokens;	/* of parts that have ended */
	uint64_t	cached_tokens;
	uint64_t	queue_us;
	bool		failed;
	g2_error	error;
} g2_split;

/* The request has no prompt of its own in this round. */
extern bool g2_split_has_parts(const struct g2_request *request);

/* Tokens of the parts' prompts. */
extern uint64_t g2_split_tokens(const g2_split *split);

/* Runs the parts of this round: answers the request, hands it to a helper thread for the next one,
 * or refuses it, when they have ended. */
extern void g2_split_run(struct g2_request *request);

/* In phase GROUP, while parts run: nobody waits for them any more. */
extern void g2_split_cancel(struct g2_request *request);

extern void g2_split_clear(g2_split *split);

#endif							/* G2_SPLIT_H */
