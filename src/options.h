/*
 * options.h: the `options jsonb` argument.
 */
#ifndef GPT2_OPTIONS_H
#define GPT2_OPTIONS_H

#include "postgres.h"

#include "utils/jsonb.h"

#include "engine/protocol_score.h"

/* What a function takes besides the keys that every function takes: those of generating functions
 * all take, and those that score take none of theirs. */
enum
{
	GPT2_ACCEPTS_ECHO = 1,		/* it has a prompt: echo */
	GPT2_ACCEPTS_N = 2,			/* it has an argument n: num_return_sequences */
	GPT2_ACCEPTS_TEMPLATE = 4,	/* it is a task: template */
	GPT2_ACCEPTS_SAMPLING = 8,	/* it has arguments temperature, top_k, top_p, seed */
	GPT2_SCORES = 16,			/* it makes no tokens */
	GPT2_ACCEPTS_WINDOWS = 32,	/* it scores tokens of a long text: stride */
	GPT2_ACCEPTS_LABELS = 64,	/* it scores labels: examples, calibrate */
	GPT2_ACCEPTS_MIN_PROB = 128,	/* its answer is a label: min_prob */
	GPT2_ACCEPTS_BEAMS = 256	/* it waits for all of its tokens: num_beams, length_penalty */
};

typedef struct Gpt2Options
{
	/* The key that set the field, as the user wrote it; NULL = not given. */
	const char *has_min_p,
			   *has_repetition_penalty,
			   *has_max_length,
			   *has_max_new_tokens,
			   *has_n,
			   *has_stop,
			   *has_echo,
			   *has_cache,
			   *has_on_error,
			   *has_truncate,
			   *has_template,
			   *has_stride,
			   *has_add_start,
			   *has_examples,
			   *has_calibrate,
			   *has_min_prob,
			   *has_constraint,	/* choice, regex or json_schema */
	/* decoding */
			   *has_typical_p,
			   *has_presence_penalty,
			   *has_frequency_penalty,
			   *has_no_repeat_ngram,
			   *has_min_new,
			   *has_num_beams,
			   *has_length_penalty,
			   *has_logit_bias;

	g2_decoding decoding;
	double		min_p;
	double		repetition_penalty;
	int32		max_length;
	int32		max_new_tokens;
	int32		n;
	bool		echo;
	bool		cache;			/* default true */
	int			on_error;		/* Gpt2OnError, Gpt2Truncate: guc.h */
	int			truncate;
	uint32		n_stops;
	g2_span		stops[G2_MAX_STOPS];	/* UTF-8 */
	g2_span		template_text;	/* UTF-8 */
	g2_constraint_kind constraint_kind;
	g2_span		constraint;		/* UTF-8 */
	int32		stride;			/* 0 = the engine's default */
	bool		add_start;
	bool		calibrate;		/* default true */
	double		min_prob;
	uint32		n_examples;
	g2_span		example_texts[G2_MAX_EXAMPLES]; /* UTF-8 */
	g2_span		example_labels[G2_MAX_EXAMPLES];
} Gpt2Options;

/* Fills *options; NULL json = nothing given.  Raises 22023 for what is not valid. */
extern void gpt2_options_parse(Jsonb *json, int accepts, Gpt2Options *options);

/* One stop string of a list; shared with the argument `stop`.  `what` names the list. */
extern void gpt2_add_stop(g2_span *stops, uint32 *n_stops, const char *what,
						  const char *data, size_t len);

/* Within [min, max], or above min and up to max; a NaN never is. */
extern bool gpt2_in_range(double value, double min, double max, bool min_excluded);

#endif							/* GPT2_OPTIONS_H */
