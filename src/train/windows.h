/*
 * windows.h: what is trained on: the rows' tokens on disk, cut into windows, and the batches made
 * of them.
 *
 * A row is the tokens of its text, or of prompt and completion, and the end token.  A window is up
 * to `length` + 1 tokens in a row, the first `length` of which are inputs and the last `length`
 * targets; the next window starts with this one's last token.  Targets in a prompt are not learned;
 * a window without any target to learn is left out.
 *
 * Every row whose number times the held-out fraction passes a whole number is held out.
 *
 * Memory does not grow with the rows: files hold tokens and windows, and the order of an epoch is a
 * permutation that is computed, not stored.
 */
#ifndef G2T_WINDOWS_H
#define G2T_WINDOWS_H

#include "operations.h"
#include "place.h"
#include "tokenizer.h"

typedef struct g2t_window
{
	uint64_t	at;				/* of its first token in the file */
	uint32_t	n;				/* inputs */
	uint32_t	learned;		/* targets that are learned */
} g2t_window;

typedef struct g2t_data_counts
{
	uint64_t	rows;
	uint64_t	short_rows;		/* of fewer than two tokens, with the end's: skipped */
	uint64_t	cut_rows;		/* in more than one window */
	uint64_t	held_out_rows;
	uint64_t	tokens;			/* targets that are learned, of one epoch */
	uint64_t	held_out_tokens;
	uint64_t	unknown_tokens;	/* of all, for what the vocabulary lacks */
} g2t_data_counts;

/* Tokenizes the spool.  57014 soon after *cancel. */
extern bool g2t_windows_make(const g2t_place *place, const g2_tokenizer *tokenizer,
							 uint32_t end_token, uint32_t length, double held_out,
							 const atomic_bool *cancel, g2t_data_counts *counts, g2_error *err);

/* What make counted, when it was done before. */
extern bool g2t_windows_made(const g2t_place *place);
extern bool g2t_windows_counts(const g2t_place *place, g2t_data_counts *counts, g2_error *err);

/* They are to be made again by whoever comes here next: the tokenizer's files are about to go. */
extern bool g2t_windows_forget(const g2t_place *place, g2_error *err);

typedef struct g2t_windows
{
	int			tokens_fd;
	int			index_fd;
	uint64_t	n;				/* windows */
	uint64_t	seed;
	uint32_t	length;			/* inputs at most */
	uint32_t	n_vocab;		/* of the tokens */
} g2t_windows;

/* length and n_vocab are those that they were made with; what is beyond is damaged (58030). */
extern bool g2t_windows_open(const g2t_place *place, bool held_out, uint64_t seed,
							 uint32_t length, uint32_t n_vocab, g2t_windows *w, g2_error *err);
extern void g2t_windows_close(g2t_windows *w);

/* The tokens of a step: all its sequences, and where the passes over them begin. */
typedef struct g2t_step
{
	uint32_t	n;				/* rows */
	uint32_t	n_sequences;
	uint32_t	learned;
	uint32_t   *start;			/* [max + 1] */
	uint32_t   *tokens;			/* [max] */
	uint32_t   *targets;		/* [max] */
	uint32_t	max;			/* rows */
} g2t_step;

extern bool g2t_step_open(uint32_t max_rows, g2t_step *step, g2_error *err);
extern void g2t_step_close(g2t_step *step);

/*
 * Takes windows, in the order of their epoch, while they fit into the step's rows; at least one.
 * *cursor is how many were taken before, over all epochs, and moves on, to `end` at most.  There
 * are windows, and the cursor is before the end.
 */
extern bool g2t_windows_take(const g2t_windows *w, uint64_t end, uint64_t *cursor, g2t_step *step,
							 g2_error *err);

/* The steps that take so many epochs' windows, the last of which may take some more: a step begins
 * the next epoch where it has room.  Of very many windows only some are looked at. */
extern bool g2t_windows_steps(const g2t_windows *w, uint32_t max_rows, double epochs,
							  double *steps, g2_error *err);

/* The sequences of a step from `first` on that fit into `rows`, as a batch; its start array is
 * given by the caller ([rows + 1]).  Returns the sequence behind them. */
extern uint32_t g2t_step_pass(const g2t_step *step, uint32_t first, uint32_t rows,
							  uint32_t *start, g2t_batch *batch);

/* The i-th of 0 .. n - 1 in a seeded order: four rounds of a Feistel network over the least square
 * of two that holds n, walked until it is inside (Black, Rogaway 2002). */
extern uint64_t g2t_permute(uint64_t seed, uint64_t round, uint64_t i, uint64_t n);

#endif							/* G2T_WINDOWS_H */
