/*
 * grammar_mask.h: the tokens that may come next, as bits, kept for as long as there is room.
 *
 * What may come depends on the state and, near the end, on how many tokens are left: the mask of a
 * state for any number says from how many on it holds.
 *
 * The engine's thread owns it.  A mask stays where it is until the next g2_masks_trim.
 */
#ifndef G2_GRAMMAR_MASK_H
#define G2_GRAMMAR_MASK_H

#include "grammar.h"

typedef struct g2_masks g2_masks;

typedef struct g2_mask
{
	struct g2_mask *chain;		/* next of the bucket */
	struct g2_mask *newer;
	struct g2_mask *older;
	uint64_t	grammar;		/* id */
	uint32_t	state;
	uint32_t	left;			/* tokens that may still come; UINT32_MAX = any number >= enough */
	uint32_t	end_token;
	uint32_t	n_words;
	uint32_t	enough;			/* tokens with which each of these can be followed to acceptance */
	bool		goes_on;		/* some token but the end of text is allowed */
	uint64_t	bits[];			/* [n_words] id i: bit i % 64 of word i / 64 */
} g2_mask;

/* At most so many bytes are kept beyond g2_masks_trim. */
extern bool g2_masks_open(size_t capacity, g2_masks **out, g2_error *err);
extern void g2_masks_close(g2_masks *masks);

/* Forgets the masks that were not used for the longest time, as far as there are too many. */
extern void g2_masks_trim(g2_masks *masks);

/*
 * The tokens of a vocabulary of n_vocab that may come in this state when `left` more may be made,
 * this one included; end_token (or G2_NO_TOKEN) where the text may end.  NULL: no memory.
 */
extern const g2_mask *g2_masks_get(g2_masks *masks, const g2_grammar *grammar, uint32_t state,
								   uint32_t left, uint32_t end_token, uint32_t n_vocab);

/* Bytes held, masks that were found and that were made: for tests. */
typedef struct g2_masks_counts
{
	size_t		bytes;
	uint64_t	found;
	uint64_t	made;
} g2_masks_counts;

extern g2_masks_counts g2_masks_count(const g2_masks *masks);

#endif							/* G2_GRAMMAR_MASK_H */
