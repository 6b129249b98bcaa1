/*
 * group.h: a sequence group: one prompt and the n sequences that continue it.  They are admitted,
 * cancelled and answered together, and share the blocks of their prompt.
 *
 * The engine's thread owns it.  Texts and ids stay bytes and u32 here; nothing is converted before
 * the answer.
 */
#ifndef G2_GROUP_H
#define G2_GROUP_H

#include "kv.h"
#include "protocol.h"
#include "text.h"
#include "tokenizer.h"

typedef struct g2_sequence
{
	uint32_t	slot;			/* of the back end; valid while the group is admitted */
	uint32_t	position;		/* positions that are in the KV cache */
	g2_block_table table;
	g2_ids		ids;			/* new tokens */
	g2_buf		text;			/* their bytes, up to the stop string */
	double		logprob;
	g2_finish	finish;			/* 0 = goes on */
} g2_sequence;

typedef struct g2_group g2_group;

/* Called once, when all sequences have ended or the group has failed (error != NULL).  The group
 * is not the scheduler's any more. */
typedef void (*g2_group_fn) (g2_group *group, const g2_error *error);

/* What visits of a model have cost; 0 = not measured yet. */
typedef struct g2_costs
{
	double		us_per_row;		/* of a prompt */
	double		us_per_step;	/* that only decodes */
} g2_costs;

/* What the request asks for; filled by engine.c, unchanged afterwards. */
typedef struct g2_group_options
{
	g2_sampling sampling;		/* sequence is set per sequence */
	uint32_t	n;
	uint32_t	max_new;
	uint32_t	end_token;		/* G2_NO_TOKEN = none */
	bool		logprobs;
	g2_bytes	stops[G2_MAX_STOPS];	/* point into the request */
	uint32_t	n_stops;
	const g2_tokenizer *tokenizer;	/* NULL: no text, ids only */
	g2_kv	   *kv;				/* the model's */
	g2_costs   *costs;			/* the model's */
	g2_backend_model *model;
	uint32_t	n_vocab;
	g2_group_fn done;
	void	   *user;
} g2_group_options;

struct g2_group
{
	g2_group   *next;			/* scheduler's list */
	g2_group_options o;
	g2_ids		prompt;
	uint32_t	prefilled;		/* prompt positions in the KV cache */
	uint32_t	need_blocks;	/* reserved while admitted: the most it can ever hold */
	bool		canceled;
	bool		failed;			/* no memory for what it got: ends when the visit has been taken */
	uint64_t	turn;			/* last plan of its model (scheduler.c) */
	uint64_t	visit;			/* last plan that it took part in (visit.c) */
	uint32_t	n_live;			/* sequences that go on */
	g2_sequence sequences[];	/* [o.n] */
};

/* Takes over the ids of prompt (which is emptied). */
extern bool g2_group_new(const g2_group_options *options, g2_ids *prompt, g2_group **out,
						 g2_error *err);

/* Blocks must have been released. */
extern void g2_group_free(g2_group *group);

/* Sequence i has got one more token; is_end: it is the end token.  Sets finish when it ended. */
extern bool g2_group_accept(g2_group *group, uint32_t i, uint32_t token, double logprob,
							bool is_end, g2_error *err);

/* Appends the payload of COMPLETIONS. */
extern bool g2_group_answer(const g2_group *group, uint64_t elapsed_us, g2_writer *w,
							g2_error *err);

#endif							/* G2_GROUP_H */
