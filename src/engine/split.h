/*
 * split.h: a text that is summarized in parts: a GENERATE with G2_GEN_SPLIT or G2_GEN_PARTS.
 *
 * Phases: a helper thread makes the prompts of some parts (prompt.c); each is a group, and many of
 * them run at once; when the last has ended, the helper thread goes on in the text.  At its end,
 * what the parts have made is a text, a line for each.  That is the answer (G2_GEN_PARTS), or the
 * text of the next round, until it fits into the context and is summarized as any text is.
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
	size_t		used;			/* bytes of the round's text that are in these or earlier parts */
	bool		whole;			/* no other part follows */
	uint32_t	next;			/* the first that was not begun */
	uint32_t	running;
	uint32_t	level;			/* rounds before this one */
	uint32_t	max_new;		/* new tokens of each */
	g2_buf		text;			/* of this round; that of the first is the request's */
	g2_buf		made;			/* by the parts of this round that have ended */
	uint64_t	prompt_tokens;	/* of all parts that have ended */
	uint64_t	cached_tokens;
	uint64_t	queue_us;
	bool		failed;
	g2_error	error;
} g2_split;

/* The request has no prompt of its own yet. */
extern bool g2_split_has_parts(const struct g2_request *request);

/* Tokens of the prompts of these parts and all before. */
extern uint64_t g2_split_tokens(const g2_split *split);

/* Runs the parts: answers the request, hands it to a helper thread for others, or refuses it, when
 * they have ended. */
extern void g2_split_run(struct g2_request *request);

/* In phase GROUP, while parts run: nobody waits for them any more. */
extern void g2_split_cancel(struct g2_request *request);

extern void g2_split_clear(g2_split *split);

#endif							/* G2_SPLIT_H */
