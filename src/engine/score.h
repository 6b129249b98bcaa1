/*
 * score.h: scores of text that is there already: a SCORE from its text to its answer.
 *
 * A text is scored in windows of one context at most, one group after the other: each window gives
 * the scores that the one before it did not reach.  Labels are one group: the prompt, and each
 * label as a sequence that continues it.
 *
 * The fields belong to the helper thread while it works, then to the engine's.
 */
#ifndef G2_SCORE_H
#define G2_SCORE_H

#include "group.h"
#include "protocol_score.h"

struct g2_request;

typedef struct g2_scoring
{
	g2_ids	   *labels;			/* [n_labels] tokens of each */
	uint32_t	n_labels;
	double	   *values;			/* [n_values] of tokens: log-probabilities; else sums: of labels, of
								 * the text (one), of norms (n_embd) */
	size_t		n_values;
	uint32_t	stride;			/* from one window to the next */
	uint32_t	window;			/* first token of the one that runs, or is next */
	uint32_t	next;			/* first token without a score */
	uint64_t	cached_tokens;	/* of windows that have ended */
	uint64_t	queue_us;
} g2_scoring;

/* Ranges of the fields: 22023, 54000. */
extern bool g2_score_check(const g2_score *m, g2_error *err);

/* The helper thread's part: text to ids, and room for the scores. */
extern bool g2_score_work(struct g2_request *request);

/* Tokens that it reads, each once. */
extern uint64_t g2_score_tokens(const struct g2_request *request);

/* Whether a group is to be run; then its options, beside those of any group, and its prompt. */
extern bool g2_score_more(const struct g2_request *request);
extern bool g2_score_group(struct g2_request *request, g2_group_options *options, g2_ids *prompt,
						   g2_error *err);

/* The group of g2_score_group has ended well. */
extern void g2_score_group_done(struct g2_request *request, const g2_group *group);

/* Appends the payload of SCORES. */
extern void g2_score_answer(const struct g2_request *request, uint64_t elapsed_us, g2_writer *w);

extern void g2_scoring_clear(g2_scoring *scoring);

#endif							/* G2_SCORE_H */
