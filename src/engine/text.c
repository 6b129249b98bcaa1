/*
 * text.c: bytes that a model made, as text; templates; stop strings.
 */
#include "text.h"

static const char replacement[] = "\xEF\xBF\xBD";	/* U+FFFD */

/* True when s[0..n), n <= 3, can be the beginning of a character that goes on behind it. */
static bool
incomplete_character(const char *s, size_t n)
{
	static const char *const ends[] = {"\x80", "\xA0\x80", "\x80\x80", "\x90\x80\x80",
	"\x80\x80\x80", "\xBF\xBF\xBF"};
	char		trial[8];

	/* A prefix is incomplete exactly when some continuation makes it valid. */
	for (size_t i = 0; i < G2_LENGTH(ends); i++)
	{
		size_t		len = strlen(ends[i]);

		memcpy(trial, s, n);
		memcpy(trial + n, ends[i], len);
		if (g2_utf8_valid_prefix(trial, n + len) == n + len)
			return true;
	}
	return false;
}

bool
g2_text_clean(const char *bytes, size_t n, g2_buf *out)
{
	size_t		at = 0;

	while (at < n)
	{
		size_t		valid = g2_utf8_valid_prefix(bytes + at, n - at);
		const char *nul = memchr(bytes + at, '\0', valid);

		if (nul)
			valid = (size_t) (nul - (bytes + at));
		g2_buf_append(out, bytes + at, valid);
		at += valid;
		if (at == n)
			break;
		if (!nul && n - at <= 3 && incomplete_character(bytes + at, n - at))
			break;
		g2_buf_append(out, replacement, 3);
		at++;
	}
	return !out->failed;
}

bool
g2_text_fill(const char *template_text, size_t template_len, const char *input, size_t input_len,
			 g2_buf *out)
{
	static const char mark[] = "{input}";
	const size_t mark_len = sizeof mark - 1;
	size_t		at = 0;

	while (at < template_len)
	{
		const char *found = memmem(template_text + at, template_len - at, mark, mark_len);
		size_t		until = found ? (size_t) (found - template_text) : template_len;

		g2_buf_append(out, template_text + at, until - at);
		if (found)
			g2_buf_append(out, input, input_len);
		at = found ? until + mark_len : until;
		if (out->failed)
			return false;
	}
	return !out->failed;
}

size_t
g2_text_find(const char *text, size_t n, size_t from, const g2_bytes *needles, size_t n_needles)
{
	size_t		best = SIZE_MAX;

	for (size_t i = 0; i < n_needles; i++)
	{
		const char *found = from < n ?
			memmem(text + from, n - from, needles[i].data, needles[i].len) : NULL;

		if (found && (size_t) (found - text) < best)
			best = (size_t) (found - text);
	}
	return best;
}
