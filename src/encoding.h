/*
 * encoding.h: text between the database's encoding and the engine's UTF-8.
 */
#ifndef GPT2_ENCODING_H
#define GPT2_ENCODING_H

#include "postgres.h"

#include "engine/protocol.h"

/* Database encoding to UTF-8.  The span points into the argument where nothing changes, else into
 * the current memory context; `what` names the text when it is over G2_MAX_TEXT (54000). */
extern g2_span gpt2_to_utf8(const char *data, size_t len, const char *what);
extern g2_span gpt2_text_to_utf8(const text *t, const char *what);

/* UTF-8 to the database encoding, without a NUL and never an error: what the encoding lacks and
 * what is not UTF-8 becomes '?'.  The result is palloc'd and NUL-terminated; *out_len may be
 * NULL. */
extern char *gpt2_from_utf8(const char *data, size_t len, size_t *out_len);
extern text *gpt2_utf8_to_text(g2_span s);

/* Has this UTF-8 (or, in SQL_ASCII, these bytes) a character that is not white space? */
extern bool gpt2_has_content(g2_span s);

#endif							/* GPT2_ENCODING_H */
