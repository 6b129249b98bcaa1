/*
 * ngram.h: the tokens that no_repeat_ngram_size bans: those that would end an n-gram which the text,
 * its prompt included, has already (transformers' NoRepeatNGramLogitsProcessor).
 *
 * Every place of the text is indexed once, by the n - 1 tokens before it; places of equal ones are
 * strung together, the latest first.  So a step costs one look-up, and the tokens that it bans.
 *
 * Part of a sequence; the engine's thread owns it.
 */
#ifndef G2_NGRAM_H
#define G2_NGRAM_H

#include "util.h"

typedef struct g2_ngrams
{
	uint32_t	n;				/* tokens of an n-gram; 0 = nothing is banned, nothing kept */
	uint32_t	room;			/* tokens that the text can have */
	uint32_t	len;			/* tokens that are indexed */
	uint64_t	hash;			/* of the n - 1 tokens before len */
	uint64_t	oldest_factor;	/* the factor of the oldest of them in hash */
	uint32_t   *latest;			/* [buckets] latest place + 1 of a group of n - 1 tokens; 0 = none */
	uint32_t	buckets;		/* a power of two */
	uint32_t   *before;			/* [room] the place + 1 before this one behind equal tokens */
	uint32_t   *banned;			/* [room] what g2_ngrams_find has found */
	uint32_t	n_banned;
} g2_ngrams;

typedef struct g2_group g2_group;

/* For a text of at most `room` tokens. */
extern bool g2_ngrams_open(g2_ngrams *ngrams, uint32_t n, uint32_t room, g2_error *err);

/* The same index once more; `to` is empty. */
extern bool g2_ngrams_copy(g2_ngrams *to, const g2_ngrams *from, g2_error *err);

extern void g2_ngrams_close(g2_ngrams *ngrams);

/* Fills banned for the next token of sequence i, whose new tokens are indexed first.  It stays until
 * the next call. */
extern void g2_ngrams_find(g2_group *group, uint32_t i);

#endif							/* G2_NGRAM_H */
