/*
 * text.h: bytes that a model made, as text; templates.
 */
#ifndef G2_TEXT_H
#define G2_TEXT_H

#include "util.h"

/*
 * Appends bytes[0..n) as valid UTF-8 without NUL: an incomplete character at the end is left out.
 * U+FFFD stands for a NUL, for an incomplete character that other bytes follow, and for every other
 * byte that belongs to no character (Unicode's "substitution of maximal subparts", as Python and
 * Rust have it).
 */
extern bool g2_text_clean(const char *bytes, size_t n, g2_buf *out);

/* The same for a part of a text that g2_text_complete has cut off: what looks like an incomplete
 * character at its end is none, as other bytes follow. */
extern bool g2_text_clean_part(const char *bytes, size_t n, g2_buf *out);

/* Bytes of bytes[0..n) without an incomplete character at the end. */
extern size_t g2_text_complete(const char *bytes, size_t n);

typedef struct g2_bytes
{
	const char *data;
	size_t		len;
} g2_bytes;

/* What stands in a template ("{input}"), and what replaces it. */
typedef struct g2_mark
{
	const char *name;			/* begins with a brace */
	g2_bytes	value;
} g2_mark;

/* Appends the template with every mark replaced by its value; other braces are literal.  54000,
 * before anything is made, when more than max bytes would come out. */
extern bool g2_text_fill_marks(g2_bytes template_text, const g2_mark *marks, size_t n_marks,
							   size_t max, g2_buf *out, g2_error *err);

/* The same with "{input}" alone. */
extern bool g2_text_fill(const char *template_text, size_t template_len, const char *input,
						 size_t input_len, size_t max, g2_buf *out, g2_error *err);

/* Offset of the first of the needles in text, at or after `from`, or SIZE_MAX. */
extern size_t g2_text_find(const char *text, size_t n, size_t from, const g2_bytes *needles,
						   size_t n_needles);

/* Frees memory that held what one owner wrote or was told: the next one must not find it. */
extern void g2_wipe_free(void *p, size_t bytes);
extern void g2_text_free(g2_buf *text);

#endif							/* G2_TEXT_H */
