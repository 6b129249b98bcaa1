/*
 * beams.h: beam search as Hugging Face transformers 5 defines it (generation/utils.py,
 * _beam_search, with early_stopping false and do_sample false).
 *
 * The n sequences of the group are its beams, the best first.  All of them take a step together.
 * Of each step's rows the device gives the 2 n best tokens by score: the log-probability, changed
 * by bias, penalties and bans.  Of all beams' candidates the 2 n best sums count.  Those of the
 * first n that end (end token, stop string, length) are texts: their sum divided by
 * length^length_penalty (new tokens) is compared with those that ended before, of which the n best
 * are kept.  The first n that do not end are the next beams.  The search ends when none is left, or
 * when n texts have ended and the best beam, divided by its length now, is not better than the worst
 * of them.  Ties: the earlier text; the lower beam, the lower id.
 *
 * Beams share blocks as long as they can: a beam that has two successors shares its own with both,
 * and the first to write into a shared block gets a copy (kv.h).
 *
 * Part of a group; the engine's thread owns it.
 */
#ifndef G2_BEAMS_H
#define G2_BEAMS_H

#include "group.h"

/* A beam with one more token. */
typedef struct g2_candidate
{
	uint32_t	beam;
	uint32_t	token;
	double		score;			/* sum of all its tokens */
	double		logprob;		/* of this token, by the unmodified model */
} g2_candidate;

struct g2_beams
{
	g2_sequence *ended;			/* [n] texts, the best first; score is divided by their length */
	uint32_t	n_ended;
	uint64_t	made;			/* tokens of all beams */
	bool		moved;			/* beams have other tokens than their slots know of */
	/* working memory of a step */
	g2_candidate *candidates;	/* [2 n] */
	g2_candidate *running;		/* [n] */
	uint32_t   *heads;			/* [n] */
	g2_sequence *next;			/* [n] */
};

/* What the device has given for beams 0 .. n - 1. */
typedef struct g2_beam_rows
{
	uint32_t	n;
	uint32_t	width;			/* elements of a row, at least twice the group's n; the first count */
	const uint32_t *token;
	const double *logprob;
	const double *score;
} g2_beam_rows;

/* For a group whose o.n_best is set. */
extern bool g2_beams_open(g2_group *group, g2_error *err);
extern void g2_beams_close(g2_group *group);

/* One step.  Where the search has ended, n_live is 0 and no block is held.  False: no memory, and
 * the group can only end. */
extern bool g2_beams_advance(g2_group *group, const g2_beam_rows *rows, g2_error *err);

#endif							/* G2_BEAMS_H */
