/*
 * group.h: a sequence group: one prompt and the n sequences that continue it.  They are admitted,
 * preempted, cancelled and answered together, and share the blocks of their prompt.
 *
 * Of a group that scores (o.want != 0) all tokens are given: its sequences prefill and never
 * decode, and a sequence ends with the last of its scores, of tokens o.first and following.
 *
 * A sequence's tokens are the prompt and its own new ones; `position` of them are in the KV cache.
 * Every step feeds it the rest: one row while it decodes, more while its prompt is prefilled, or
 * when it was preempted and all is computed again.  Until the prompt is in the cache as a whole,
 * sequence 0 does this for all (`forked`).
 *
 * Of a beam search the sequences are the beams (beams.h): they take their steps together.
 *
 * The engine's thread owns it.  Texts and ids stay bytes and u32 here; nothing is converted before
 * the answer.
 */
#ifndef G2_GROUP_H
#define G2_GROUP_H

#include "cost.h"
#include "draft.h"
#include "grammar_mask.h"
#include "kv.h"
#include "ngram.h"
#include "protocol.h"
#include "session.h"
#include "text.h"
#include "tokenizer.h"

typedef struct g2_sequence
{
	uint32_t	slot;			/* of the back end; valid while the group runs */
	uint32_t	position;		/* tokens that are in the KV cache */
	g2_block_table table;
	uint32_t	n_chained;		/* full blocks at the table's start whose hash is in chain */
	g2_prefix	chain;
	g2_ids		ids;			/* new tokens */
	g2_decoder	decoder;		/* behind the prompt and ids */
	g2_buf		text;			/* their bytes, up to the stop string */
	size_t		streamed;		/* bytes of text that were given to the stream function */
	uint32_t	scored;			/* scores that it has got */
	double		logprob;
	double		score;			/* of a beam: the sum of its tokens' scores */
	g2_draft	draft;
	g2_ngrams	ngrams;			/* while the group runs */
	uint32_t	grammar_state;	/* behind its tokens, under a constraint */
	g2_finish	finish;			/* 0 = goes on */
} g2_sequence;

typedef struct g2_beams g2_beams;	/* beams.h */

/* Called once, when all sequences have ended or the group has failed (error != NULL).  The group
 * is not the scheduler's any more. */
typedef void (*g2_group_fn) (g2_group *group, const g2_error *error);

/* One more token of the group's only sequence. */
typedef void (*g2_stream_fn) (g2_group *group, const g2_stream *token);

/* The next score of sequence i, in order: of token group->o.first + index the log-probability, or
 * the final norm's output (n_embd values). */
typedef void (*g2_score_fn) (g2_group *group, uint32_t i, uint32_t index, double logprob,
							 const float *norm);

/* A model at work: what its visits have cost, and counters since it was loaded. */
typedef struct g2_work
{
	g2_cost		cost;			/* of a step */
	bool		decoded;		/* the cost of a step that only decodes is among it */
	uint64_t	steps;
	uint64_t	step_sequences;
	uint64_t	prompt_tokens;
	uint64_t	completion_tokens;
	uint64_t	drafted_tokens;	/* fed as drafts ... */
	uint64_t	drafts_kept;	/* ... and chosen by the sampler */
	uint64_t	busy_us;
	uint64_t	prefix_asked;
	uint64_t	prefix_hits;
	uint64_t	preemptions;
	int64_t		second;			/* the newest of recent[], monotonic */
	uint32_t	recent[10];		/* new tokens of the last seconds, [second % 10] */
} g2_work;

/* What the request asks for; filled by engine.c, unchanged afterwards. */
typedef struct g2_group_options
{
	g2_sampling sampling;		/* sequence is set per sequence */
	uint32_t	n;
	uint32_t	max_new;
	uint32_t	end_token;		/* G2_NO_TOKEN = none */
	bool		logprobs;
	uint32_t	no_repeat_ngram;	/* 0 = off */
	uint32_t	n_best;			/* a search with n > 1 beams gives so many texts; 0 = no search */
	double		length_penalty;	/* of the search */
	uint32_t	want;			/* G2_WANT_LOGPROB or G2_WANT_NORM: it scores; 0: it makes tokens */
	uint32_t	first;			/* of prompt and given: the first token with a score */
	const g2_ids *given;		/* [n] the sequences' tokens, copied; NULL = none */
	g2_score_fn score;
	bool		use_cache;		/* prefix is valid: shared blocks are looked for and published */
	g2_prefix	prefix;			/* start of the chain */
	g2_bytes	stops[G2_MAX_STOPS];	/* point into the request */
	uint32_t	n_stops;
	const g2_tokenizer *tokenizer;	/* NULL: no text, ids only */
	const g2_grammar *grammar;	/* what the text has to be; the request holds it; NULL = anything */
	g2_masks   *masks;			/* with a grammar */
	g2_session *session;
	g2_kv	   *kv;				/* the model's */
	g2_work    *work;			/* the model's */
	g2_backend_model *model;
	uint32_t	n_vocab;
	uint32_t	n_embd;
	uint32_t	queue_timeout_ms;	/* until it is admitted first; 0 = no limit */
	g2_stream_fn stream;		/* NULL: the answer is enough; n = 1 only */
	g2_group_fn done;
	void	   *user;
} g2_group_options;

typedef enum g2_group_state
{
	G2_GROUP_QUEUED, G2_GROUP_RUNNING
} g2_group_state;

struct g2_group
{
	g2_group   *next;			/* its session's queue, or the list of running groups */
	g2_group   *prev;			/* its session's queue only */
	g2_group_options o;
	g2_ids		prompt;
	g2_group_state state;
	bool		forked;			/* each sequence has its own table and position */
	bool		canceled;
	bool		failed;			/* no memory for what it got: ends when the visit has been taken */
	uint32_t	most_blocks;	/* that it can ever hold */
	uint32_t	cached_tokens;	/* of the prompt, found in the prefix cache at first */
	uint32_t	spent;			/* of the prompt, up to which its role's limit has been charged */
	uint64_t	unspent;		/* tokens that this limit may still be charged with */
	bool		reserves;		/* it runs, and these are in its role's `reserved` */
	uint32_t	preemptions;
	uint64_t	order;			/* of first admission, from 1; 0 = never admitted */
	int64_t		queued_at;		/* monotonic microseconds */
	int64_t		admitted_at;	/* first; 0 = not yet */
	double		compute_us;		/* share of the device's time */
	uint64_t	turn;			/* last plan of its model (scheduler.c) */
	uint64_t	visit;			/* last plan that it took part in (visit.c) */
	uint32_t	n_live;			/* sequences that go on */
	g2_beams   *beams;			/* NULL: no beam search */
	g2_sequence sequences[];	/* [o.n] */
};

/* Its tokens are given and scored, and none are made. */
static inline bool
g2_group_scores(const g2_group *group)
{
	return group->o.want != 0;
}

/* What counts against gpt2.max_concurrent_sequences: the sequences of a group that scores are one
 * text with its labels. */
static inline uint32_t
g2_group_texts(const g2_group_options *o)
{
	return o->want != 0 ? 1 : o->n;
}

/* No device takes several steps of it in one visit. */
static inline bool
g2_group_single_steps(const g2_group *group)
{
	return group->beams || group->o.grammar || group->o.no_repeat_ngram > 0;
}

/* A token's log-probability comes out of the row before its own, its norm out of its own: by how
 * many rows a score is ahead of its token. */
static inline uint32_t
g2_group_ahead(const g2_group *group)
{
	return group->o.want == G2_WANT_LOGPROB;
}

/* Tokens that sequence i has to have in the cache before its next one, or its last score. */
static inline uint32_t
g2_group_tokens(const g2_group *group, uint32_t i)
{
	if (!group->forked)
		return (uint32_t) group->prompt.len;
	return (uint32_t) (group->prompt.len + group->sequences[i].ids.len) - g2_group_ahead(group);
}

/* Rows that sequence i needs for its next token. */
static inline uint32_t
g2_group_rows(const g2_group *group, uint32_t i)
{
	return g2_group_tokens(group, i) - group->sequences[i].position;
}

/* Sequence i needs the row of its last token only. */
static inline bool
g2_group_decodes(const g2_group *group, uint32_t i)
{
	return !g2_group_scores(group) && group->forked && group->sequences[i].ids.len > 0 &&
		g2_group_rows(group, i) == 1;
}

/* Some sequence needs more than the row of its last token. */
extern bool g2_group_prefilling(const g2_group *group);

static inline uint32_t
g2_group_token(const g2_group *group, uint32_t i, uint32_t position)
{
	return position < group->prompt.len ? group->prompt.data[position] :
		group->sequences[i].ids.data[position - group->prompt.len];
}

/* Nothing of it is in the cache (any more); its blocks have been released. */
extern void g2_group_rewind(g2_group *group);

/* The hash of the block behind sequence i's chain, in *next; false when the sequence does not have
 * all of its tokens, or caches nothing: beams nothing but their prompt. */
extern bool g2_group_next_block(const g2_group *group, uint32_t i, g2_prefix *next);

/* Tokens of sequence i that may come from the prefix cache: not its last one, and none whose row
 * gives a score that is still to come. */
extern uint32_t g2_group_adoptable(const g2_group *group, uint32_t i);

/* Takes blocks from the prefix cache as far as they carry sequence i on. */
extern bool g2_group_adopt(g2_group *group, uint32_t i, g2_error *err);

/* Publishes the blocks of sequence i that are full now. */
extern void g2_group_publish(g2_group *group, uint32_t i);

/* The prompt is in the cache: the other sequences get their share of its blocks. */
extern bool g2_group_fork(g2_group *group, g2_error *err);

/* It runs from now on, or does not any more: what it may still spend of its role's limit per minute
 * is kept for it. */
extern void g2_group_reserve(g2_group *group, bool on);

/* Its role's limit is charged. */
extern void g2_group_spend(g2_group *group, uint64_t tokens);

/* Takes over the ids of prompt (which is emptied). */
extern bool g2_group_new(const g2_group_options *options, g2_ids *prompt, g2_group **out,
						 g2_error *err);

/* Blocks must have been released. */
extern void g2_group_free(g2_group *group);

/* Makes the index of n-grams that its sequences need while they run. */
extern bool g2_group_index(g2_group *group, g2_error *err);

/* Sequence i has got one more token; is_end: it is the end token.  Sets finish when it ended. */
extern bool g2_group_accept(g2_group *group, uint32_t i, uint32_t token, double logprob,
							bool is_end, g2_error *err);

/* Whether sequence i would end with this token, and how; it changes nothing. */
extern bool g2_group_foresee(const g2_group *group, uint32_t i, uint32_t token, g2_finish *finish,
							 g2_error *err);

/* Appends a token to a sequence of the group and sets finish when that ends it; for beams, where
 * g2_group_accept counts what is live. */
extern bool g2_group_extend(const g2_group *group, g2_sequence *sequence, uint32_t token,
							double logprob, bool is_end, g2_error *err);

/* Frees what a sequence has but its blocks. */
extern void g2_sequence_clear(g2_sequence *sequence);

/* Sequence i has got its next score. */
extern void g2_group_accept_score(g2_group *group, uint32_t i, double logprob,
								  const float *norm);

/* Tokens that the group was given, and that it has made. */
extern uint64_t g2_group_given(const g2_group *group);
extern uint64_t g2_group_made(const g2_group *group);

/* The sequences that are its answer, the best first where it searches. */
extern const g2_sequence *g2_group_answers(const g2_group *group);

/* Appends the payload of COMPLETIONS. */
extern bool g2_group_answer(const g2_group *group, uint64_t elapsed_us, g2_writer *w,
							g2_error *err);

#endif							/* G2_GROUP_H */
