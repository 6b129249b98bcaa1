/*
 * spool.h: the query's rows on disk: file "rows" of a training's directory.  A row is a flag (u32:
 * 1 with a prompt), and one or two texts, each a u32 length and its bytes, UTF-8.
 */
#ifndef G2T_SPOOL_H
#define G2T_SPOOL_H

#include "place.h"

#define G2T_ROWS_FILE "rows"

typedef struct g2t_row
{
	bool		has_prompt;
	g2_buf		prompt;
	g2_buf		text;			/* or the completion */
} g2t_row;

extern bool g2t_spool_write(g2t_writer *w, bool has_prompt, const char *prompt, size_t prompt_len,
							const char *text, size_t len, g2_error *err);

/* Called for each row, in their order; the row is good until it returns. */
typedef bool (*g2t_row_fn) (void *arg, const g2t_row *row, g2_error *err);
extern bool g2t_spool_each(const g2t_place *place, g2t_row_fn fn, void *arg, g2_error *err);

#endif							/* G2T_SPOOL_H */
