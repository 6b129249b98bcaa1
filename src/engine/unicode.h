/*
 * unicode.h: characters, and what tokenizers change about them before they look for words.
 */
#ifndef G2_UNICODE_H
#define G2_UNICODE_H

#include "tokenizer_format.h"

/* The character at s of valid UTF-8 that is not at its end; *len = its bytes. */
static inline uint32_t
g2_utf8_char(const char *s, size_t *len)
{
	const unsigned char *p = (const unsigned char *) s;
	size_t		n = *p < 0x80 ? 1 : *p < 0xE0 ? 2 : *p < 0xF0 ? 3 : 4;
	uint32_t	c = n == 1 ? *p : *p & (0x7Fu >> n);

	for (size_t i = 1; i < n; i++)
		c = c << 6 | (p[i] & 0x3F);
	*len = n;
	return c;
}

/* Characters of valid UTF-8. */
static inline size_t
g2_utf8_count(const char *s, size_t len)
{
	size_t		n = 0;

	for (size_t i = 0; i < len; i++)
		n += (s[i] & 0xC0) != 0x80;
	return n;
}

/* A CJK character as google-research/bert has it: ideographs, neither kana nor Hangul. */
extern bool g2_is_cjk(uint32_t c);

/* Text is written without spaces beside it: CJK characters, kana, full-width punctuation. */
extern bool g2_is_wide(uint32_t c);

/*
 * Appends text[0..len), any bytes, changed by the steps one after the other; what is not valid
 * UTF-8 becomes U+FFFD.  57014, 53200; 54000 for more than G2_MAX_NORMALIZED bytes in out.
 *
 * It goes by parts of some thousand characters, which begin at a character that never combines
 * with those before it, so that the parts change as the whole would.
 */
extern bool g2_normalize(const g2_tok_step *steps, uint32_t n_steps, const char *text, size_t len,
						 const atomic_bool *cancel, g2_buf *out, g2_error *err);

#endif							/* G2_UNICODE_H */
