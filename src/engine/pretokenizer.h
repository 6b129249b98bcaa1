/*
 * pretokenizer.h: cuts a text into the pieces inside which BPE merges (GPT-2's pattern).
 *
 * A g2_pretokenizer is immutable and may be used by any number of threads at once; a g2_cut is
 * the state of one walk over one text and belongs to one thread.
 */
#ifndef G2_PRETOKENIZER_H
#define G2_PRETOKENIZER_H

#include "util.h"

typedef struct g2_pretokenizer g2_pretokenizer;
typedef struct g2_cut g2_cut;

extern bool g2_pretokenizer_create(g2_pretokenizer **out, g2_error *err);
extern void g2_pretokenizer_free(g2_pretokenizer *pre);

/* PCRE2 cannot be interrupted, so it sees at most this many bytes at once: a piece that would be
 * longer (which the merges refuse anyway) is cut there. */
#define G2_CUT_WINDOW (1u << 23)

/*
 * Starts a walk over text[0..len), any bytes, which must stay while the walk lives.  The pieces of
 * g2_cut_next follow each other without a gap and cover the text; *piece becomes NULL at its end.
 */
extern bool g2_cut_begin(const g2_pretokenizer *pre, const char *text, size_t len, g2_cut **out,
						 g2_error *err);
extern bool g2_cut_next(g2_cut *cut, const char **piece, size_t *len, g2_error *err);
extern void g2_cut_end(g2_cut *cut);

#endif							/* G2_PRETOKENIZER_H */
