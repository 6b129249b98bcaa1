/*
 * call.h: one call of a generating function, from SQL arguments to the engine's answer.
 */
#ifndef GPT2_CALL_H
#define GPT2_CALL_H

#include "postgres.h"

#include "fmgr.h"

#include "client.h"

/* The arguments of every generating function; one that a function lacks is null. */
typedef struct Gpt2Arguments
{
	NullableDatum max_len,
				n,
				model,
				temperature,
				top_k,
				top_p,
				seed,
				stop,
				options;
	int			accepts;		/* GPT2_ACCEPTS_*; without SAMPLING the call is greedy */
	bool		n_is_default;	/* n may be the default 1, so num_return_sequences wins over 1 */
	bool		splits;			/* a text that is too long is not cut or refused, but summarized in
								 * parts */
} Gpt2Arguments;

/* A request ready to be sent.  Its spans live in the memory context it was prepared in. */
typedef struct Gpt2Call
{
	g2_generate wire;
	const text *prompt;
	bool		echo;
	bool		seeded;			/* wire.seed is used: given, or drawn for sampling */
	bool		undrawn;		/* ahead of time only: its seed is still to be drawn */
} Gpt2Call;

/* An answer that is being read. */
typedef struct Gpt2Answer
{
	Gpt2Request *request;
	g2_reader	reader;
	g2_completions_head head;
	uint64		new_tokens;		/* of the sequences that were read */
} Gpt2Answer;

#define GPT2_MAX_SCORES 2		/* requests of one call, at most */

/* A call site: a function expression of a query. */
typedef struct Gpt2CallSite
{
	uint64		rows;			/* evaluations so far */
	bool		drawn;
	uint64		base;
	bool		ahead;			/* not the site itself: what it will be when a later row comes */
	void	   *state;			/* a set-returning function's own, between two of its calls */
	bool		in_row;			/* what is wrong is the row's (failed_calls.c) */
	int			n_held;			/* requests of the call that runs, not released yet */
	uint64		held[GPT2_MAX_SCORES];
	struct Gpt2BatchSite *batch;	/* where its rows are looked ahead at; NULL = nowhere */
} Gpt2CallSite;


/* call_site.c */
extern Gpt2CallSite *gpt2_call_site(FunctionCallInfo fcinfo);

/* Number of this evaluation at its call site, from 0.  Every generating function counts every
 * evaluation, also that of a NULL. */
extern uint64 gpt2_call_row(FunctionCallInfo fcinfo);

/* The seed of the row of this number, which samples and was given none.  False: ahead of time, and
 * the site has not drawn yet. */
extern bool gpt2_call_seed(FunctionCallInfo fcinfo, uint64 row, uint64 *seed);

/* call.c.  Name of the model of a call: the argument, else the session's setting, else the
 * demonstration model (with a NOTICE, once a session). */
extern g2_span gpt2_model_name(NullableDatum model);

/* The session's gpt2.prefix_cache_salt in UTF-8; 22023 where it is too long. */
extern g2_span gpt2_cache_salt(void);

/* Checks and resolves everything; raises 22023 or 54000.  `row` is from gpt2_call_row. */
extern void gpt2_call_prepare(FunctionCallInfo fcinfo, uint64 row, const Gpt2Arguments *args,
							  const text *prompt, Gpt2Call *call);

/* Prepares the call of this row of a function with the arguments (prompt, max_len, n where it is
 * accepted, model, temperature, top_k, top_p, seed, stop, options); false where the prompt is
 * NULL. */
extern bool gpt2_call_begin(FunctionCallInfo fcinfo, int accepts, bool n_is_default,
							Gpt2Call *call);

/* A request with this payload, unless it was sent ahead of time: then it is waited for. */
extern Gpt2Request *gpt2_call_request(FunctionCallInfo fcinfo, g2_message type,
									  const g2_writer *payload);

/* Sends the call, unless that was done ahead of time: then it is waited for. */
extern Gpt2Request *gpt2_call_send(FunctionCallInfo fcinfo, const Gpt2Call *call);

/* Waits for the answer to a call with n sequences and reads its head. */
extern void gpt2_answer_begin(Gpt2Request *request, uint32 n, Gpt2Answer *answer);
/* The same for a SCORE, whose scores the caller reads. */
extern void gpt2_scores_begin(Gpt2Request *request, uint32 n, Gpt2Answer *answer);
/* The next of answer->head.n sequences. */
extern void gpt2_answer_next(Gpt2Answer *answer, g2_completion *completion);
/* When all are read: releases the request, and logs the call if it took long. */
extern void gpt2_answer_end(FunctionCallInfo fcinfo, Gpt2Answer *answer, g2_span model);

/* The sequence's text in the database encoding, behind the prompt where it is to be echoed. */
extern text *gpt2_completion_text(const Gpt2Call *call, const g2_completion *completion);

#endif							/* GPT2_CALL_H */
