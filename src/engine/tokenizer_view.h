/*
 * tokenizer_view.h: an opened tokenizer, and what each kind does its own way.  Internal to the
 * tokenizer.
 *
 * tokenizer.c opens a block and finds pieces; tokenizer_text.c takes a text apart; the kinds are
 * kind_bpe.c, kind_wordpiece.c, kind_words.c.  The view is immutable once open.
 */
#ifndef G2_TOKENIZER_VIEW_H
#define G2_TOKENIZER_VIEW_H

#include "pretokenizer.h"
#include "tokenizer_format.h"

/* What one kind of tokenizer does; both functions may rely on what tokenizer.c has checked. */
typedef struct g2_tok_kind
{
	const char *name;			/* as gpt_models shows it */

	/* Checks the kind's own sections and sets view->longest. */
	bool		(*check) (g2_tokenizer *tok, g2_error *err);

	/* Appends the ids of one word. */
	bool		(*word) (const g2_tokenizer *tok, g2_bpe_work *work, const char *word, size_t len,
						 g2_ids *out, g2_error *err);
} g2_tok_kind;

extern const g2_tok_kind g2_tok_bpe,
			g2_tok_wordpiece,
			g2_tok_words;

struct g2_tokenizer
{
	const g2_tok_kind *kind;
	g2_tok_header header;
	size_t		longest;		/* bytes of text that one id can stand for; SIZE_MAX = any number */
	const uint32_t *piece_starts;
	const uint32_t *order;
	const g2_tok_step *steps;	/* n_changes that change the text, then n_cuts patterns */
	uint32_t	n_changes;
	uint32_t	n_cuts;
	const uint8_t *flags;
	const char *piece_bytes;
	const char *strings;
	g2_bpe		bpe;			/* tables of BPE; unknown is that of every kind */
	g2_pretokenizer *cuts[G2_TOK_MAX_STEPS];
	uint32_t   *added;			/* ids of pieces that are looked for in texts, in their order */
	uint32_t	n_added;
	uint32_t	continues;		/* WordPiece: order[continues .. continues_end) have the prefix */
	uint32_t	continues_end;
	uint32_t   *hidden;			/* [n_hidden] ids that have no text, ascending */
	uint32_t	n_hidden;
};

static inline const char *
g2_tok_piece(const g2_tokenizer *tok, uint32_t id, size_t *len)
{
	*len = tok->piece_starts[id + 1] - tok->piece_starts[id];
	return tok->piece_bytes + tok->piece_starts[id];
}

/* "the packed tokenizer is damaged: what"; 22P03. */
extern bool g2_tok_damaged(g2_error *err, const char *what);

/*
 * Narrows ids[*lo .. *hi), which are sorted by their bytes and share the first `at` of them, to
 * those whose next byte is c.  False: there are none.
 */
extern bool g2_tok_narrow(const g2_tokenizer *tok, const uint32_t *ids, size_t at,
						  unsigned char c, uint32_t *lo, uint32_t *hi);

/* The id of an ordinary piece of exactly these bytes, or G2_NO_TOKEN. */
extern uint32_t g2_tok_ordinary(const g2_tokenizer *tok, const char *piece, size_t len);

#endif							/* G2_TOKENIZER_VIEW_H */
