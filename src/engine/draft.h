/*
 * draft.h: speculation by prompt lookup: what comes next in a text that quotes its prompt, or
 * repeats itself, stands there already, behind the last place where the same tokens occurred.
 *
 * A draft is fed together with the token before it, and of its tokens those are kept that the
 * sampler chooses anyway, so the answer is the same with and without (Leviathan et al., "Fast
 * Inference from Transformers via Speculative Decoding", ICML 2023, for the exact case; Saxena,
 * "Prompt Lookup Decoding", 2023).  A row of a draft that is refused is work in vain, so how long
 * drafts are follows from how often the lookup has been right, which is known for every token
 * whether it was drafted or not.
 *
 * Part of a sequence; the engine's thread owns it.
 */
#ifndef G2_DRAFT_H
#define G2_DRAFT_H

#include <stdbool.h>
#include <stdint.h>

#define G2_MAX_DRAFT 16

typedef struct g2_draft
{
	uint32_t	token[G2_MAX_DRAFT];	/* what the lookup says comes next */
	uint32_t	n_found;
	uint32_t	n;				/* of these, tokens that the next plan feeds */
	double		right;			/* how often the lookup has been right of late, 0 .. 1 */
} g2_draft;

typedef struct g2_group g2_group;

/* Before the first token. */
extern void g2_draft_init(g2_draft *draft);

/* Looks up what may follow the tokens of sequence i, which decodes. */
extern void g2_draft_find(g2_group *group, uint32_t i);

/* Tokens to be fed, at most `most`: while one is kept with a chance of more than `worth`. */
extern uint32_t g2_draft_length(const g2_draft *draft, double worth, uint32_t most);

/* The lookup said `guess` and the sampler chose `token`. */
extern void g2_draft_learn(g2_draft *draft, uint32_t guess, uint32_t token);

#endif							/* G2_DRAFT_H */
