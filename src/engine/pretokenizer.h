/*
 * pretokenizer.h: cuts a text into the words inside which the tokenizer looks for pieces.
 *
 * A g2_pretokenizer is one pattern, immutable, and may be used by any number of threads at once; a
 * g2_cut is the state of walks with it and belongs to one thread.
 */
#ifndef G2_PRETOKENIZER_H
#define G2_PRETOKENIZER_H

#include "util.h"

typedef struct g2_pretokenizer g2_pretokenizer;
typedef struct g2_cut g2_cut;

/* The 25 characters of Unicode's White_Space, to stand inside a bracket. */
#define G2_PATTERN_SPACE \
	"\\t-\\r \\x85\\xA0\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"

extern const char g2_pattern_gpt2[];	/* of openai/gpt-2 encoder.py; matches everything */

/* A pattern of PCRE2; flags: G2_CUT_... of tokenizer_format.h.  0A000 with PCRE2's message and the
 * place in the pattern; 53200. */
extern bool g2_pretokenizer_create(const char *pattern, size_t len, uint32_t flags,
								   g2_pretokenizer **out, g2_error *err);
extern void g2_pretokenizer_free(g2_pretokenizer *pre);

/* Some of the text may be in none of its words. */
extern bool g2_pretokenizer_drops(const g2_pretokenizer *pre);

/* PCRE2 cannot be interrupted, so it sees at most this many bytes at once: a word that would be
 * longer (which the merges refuse anyway) is cut there. */
#define G2_CUT_WINDOW (1u << 23)

extern bool g2_cut_create(const g2_pretokenizer *pre, g2_cut **out, g2_error *err);
extern void g2_cut_free(g2_cut *cut);

/*
 * Starts a walk over text[0..len), any bytes, which must stay while it lasts.  The words of
 * g2_cut_next are the matches and what is between them, in their order, but for what the flags
 * drop; *word becomes NULL at the end.  53400 where a match takes too many steps.
 */
extern void g2_cut_start(g2_cut *cut, const char *text, size_t len);
extern bool g2_cut_next(g2_cut *cut, const char **word, size_t *len, g2_error *err);

#endif							/* G2_PRETOKENIZER_H */
