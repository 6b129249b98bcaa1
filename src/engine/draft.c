/*
 * draft.c: looking up what comes next, and learning how often that is right.
 */
#include "draft.h"

#include "group.h"

#define MATCH_LEAST 3			/* tokens that must be the same before a place is believed */
#define MATCH_ENOUGH 16			/* a longer match is not looked for */
#define RIGHT_AT_FIRST 0.5
#define LEARNED 0.125			/* weight of the newest token */

void
g2_draft_init(g2_draft *draft)
{
	*draft = (g2_draft) {.right = RIGHT_AT_FIRST};
}

/* Tokens before `end` that are the same as the last ones before `len`. */
static uint32_t
match(const g2_group *group, uint32_t i, uint32_t end, uint32_t len)
{
	uint32_t	n = 0,
				most = G2_MIN(end, (uint32_t) MATCH_ENOUGH);

	while (n < most &&
		   g2_group_token(group, i, end - 1 - n) == g2_group_token(group, i, len - 1 - n))
		n++;
	return n;
}

/* The end of the longest match, the latest of those; 0: there is none. */
static uint32_t
find_match(const g2_group *group, uint32_t i, uint32_t len)
{
	uint32_t	last = g2_group_token(group, i, len - 1),
				longest = MATCH_LEAST - 1,
				found = 0;

	for (uint32_t end = len - 1; end >= MATCH_LEAST && longest < MATCH_ENOUGH; end--)
	{
		uint32_t	n;

		if (g2_group_token(group, i, end - 1) != last)
			continue;
		n = match(group, i, end, len);
		if (n > longest)
		{
			longest = n;
			found = end;
		}
	}
	return found;
}

void
g2_draft_find(g2_group *group, uint32_t i)
{
	g2_draft   *draft = &group->sequences[i].draft;
	uint32_t	len = g2_group_tokens(group, i),
				from = find_match(group, i, len);

	draft->n_found = draft->n = 0;
	if (from == 0)
		return;
	/* Where it reaches the end of the text, the draft goes on in itself: a text that repeats. */
	for (uint32_t t = 0; t < G2_MAX_DRAFT; t++)
		draft->token[t] = from + t < len ? g2_group_token(group, i, from + t) :
			draft->token[from + t - len];
	draft->n_found = G2_MAX_DRAFT;
}

uint32_t
g2_draft_length(const g2_draft *draft, double worth, uint32_t most)
{
	double		kept = draft->right;
	uint32_t	n = 0;

	while (n < G2_MIN(draft->n_found, most) && kept > worth)
	{
		kept *= draft->right;
		n++;
	}
	return n;
}

void
g2_draft_learn(g2_draft *draft, uint32_t guess, uint32_t token)
{
	draft->right += ((guess == token ? 1.0 : 0.0) - draft->right) * LEARNED;
}
