/*
 * protocol_score.h: requests that score text instead of making it: SCORE and its answer SCORES.
 *
 * The answer is a g2_completions_head (whose n is 1, or the number of labels), then what the kind
 * says.
 */
#ifndef G2_PROTOCOL_SCORE_H
#define G2_PROTOCOL_SCORE_H

#include "protocol.h"

#define G2_MAX_LABELS G2_MAX_SEQUENCES
#define G2_MAX_LABEL_BYTES 1024
#define G2_MAX_EXAMPLES 64
#define G2_MAX_SCORED (1u << 20)	/* tokens of one text */

typedef enum g2_score_kind
{
	G2_SCORE_TOKENS = 1,		/* u32 count, then so many g2_token_score */
	G2_SCORE_LOSS,				/* one g2_score_sum: all tokens but the first */
	G2_SCORE_EMBED,				/* g2_embedding */
	G2_SCORE_LABELS				/* n g2_score_sum, one of each label's tokens behind the prompt */
} g2_score_kind;

enum							/* g2_score.flags */
{
	G2_SCORE_NO_CACHE = 1,		/* neither reads nor fills prefix and result caches */
	G2_SCORE_ADD_START = 2,		/* the start token stands before the text, so that the first token
								 * has a score too */
	/* A text that does not fit into the context: by default one of LABELS loses its end, and others
	 * are read in windows. */
	G2_SCORE_TRUNCATE_LEFT = 1 << 16,	/* it loses its beginning */
	G2_SCORE_TRUNCATE_RIGHT = 1 << 17,	/* it loses its end */
	G2_SCORE_TRUNCATE_NOT = 1 << 18	/* it is an error */
};

typedef struct g2_score
{
	g2_span		model;
	g2_span		text;
	uint32_t	kind;			/* g2_score_kind */
	uint32_t	flags;
	uint32_t	stride;			/* of windows over a text longer than the context; 0 = half of it */
	uint32_t	current_user;	/* OID; with database and salt, whose caches it may share */
	g2_span		cache_salt;
	uint32_t	queue_timeout_ms;	/* 0 = waits as long as it takes */
	/* LABELS: the template has {input}, and perhaps {labels}, {condition} and {label}, which is the
	 * label's place; without it that is the end, behind a space. */
	g2_span		task;			/* a template of the model's gpt2.json by name, or empty */
	g2_span		template_text;	/* wins over task's; empty = none */
	g2_span		condition;
	uint32_t	n_labels;
	g2_span		labels[G2_MAX_LABELS];
	uint32_t	n_examples;		/* filled templates that stand before the text's own */
	g2_span		example_texts[G2_MAX_EXAMPLES];
	g2_span		example_labels[G2_MAX_EXAMPLES];
} g2_score;

typedef struct g2_score_sum
{
	uint32_t	n;				/* tokens */
	double		logprob;		/* their sum, natural log */
} g2_score_sum;

typedef struct g2_token_score
{
	uint32_t	token;
	double		logprob;		/* natural log; NaN: it is the first and has none */
	g2_span		piece;			/* valid UTF-8, no NUL; see g2_stream */
} g2_token_score;

typedef struct g2_embedding
{
	uint32_t	n_tokens;
	uint32_t	n;
	const char *values;			/* n float, unaligned: mean over the tokens of the final norm */
} g2_embedding;

extern void g2_score_encode(g2_writer *w, const g2_score *m);
extern bool g2_score_decode(const void *p, size_t n, g2_score *m);
/* Of the answer; look at r->failed after. */
extern void g2_score_sum_encode(g2_writer *w, const g2_score_sum *m);
extern void g2_score_sum_get(g2_reader *r, g2_score_sum *m);
extern void g2_token_score_encode(g2_writer *w, const g2_token_score *m);
extern void g2_token_score_get(g2_reader *r, g2_token_score *m);
extern void g2_embedding_encode(g2_writer *w, const g2_embedding *m);
extern void g2_embedding_get(g2_reader *r, g2_embedding *m);

#endif							/* G2_PROTOCOL_SCORE_H */
