/*
 * fuzz_text.c: any bytes as what a model made, in pieces, and as a template.
 *
 * The input: a byte of the pieces' length, a template, 0xFF, bytes.  The text that is cleaned piece
 * by piece, each as far as its characters are complete, is the one that is cleaned as a whole; it
 * is valid UTF-8 without a NUL, and cleaning it again changes nothing.  A template is filled with
 * it to as many bytes as was counted.
 */
#include <stdlib.h>

#include "text.h"

static void
check_clean(const g2_buf *text)
{
	g2_buf		again = {0};

	if (g2_utf8_valid_prefix(text->data, text->len) != text->len ||
		(text->len > 0 && memchr(text->data, '\0', text->len)) ||
		!g2_text_clean(text->data, text->len, &again) || again.len != text->len ||
		(text->len > 0 && memcmp(again.data, text->data, text->len) != 0))
		abort();
	g2_text_free(&again);
}

/* As a stream gives it away. */
static void
clean_in_pieces(const char *bytes, size_t n, size_t step, g2_buf *out)
{
	size_t		given = 0;

	for (size_t end = G2_MIN(step, n); end < n; end += G2_MIN(step, n - end))
	{
		size_t		complete = given + g2_text_complete(bytes + given, end - given);

		if (complete > end || complete < given || end - complete > 3)
			abort();
		if (!g2_text_clean_part(bytes + given, complete - given, out))
			abort();
		given = complete;
	}
	if (!g2_text_clean(bytes + given, n - given, out))
		abort();
}

static void
check_fill(const char *template_text, size_t n, const g2_buf *text)
{
	static const char input[] = "{input}";
	g2_buf		filled = {0};
	g2_error	err = {0};
	size_t		len = n;

	for (size_t i = 0; i + sizeof input - 1 <= n;)
		if (memcmp(template_text + i, input, sizeof input - 1) == 0)
		{
			len += text->len - (sizeof input - 1);
			i += sizeof input - 1;
		}
		else
			i++;
	if (!g2_text_fill(template_text, n, text->data, text->len, len, &filled, &err) ||
		filled.len != len ||
		(len > 0 && g2_text_fill(template_text, n, text->data, text->len, len - 1, &filled, &err)))
		abort();
	g2_text_free(&filled);
}

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *template_text = (const char *) data + 1,
			   *end = (const char *) data + size,
			   *mark,
			   *bytes;
	size_t		n;
	g2_buf		whole = {0},
				pieces = {0};

	if (size < 1)
		return 0;
	mark = size > 1 ? memchr(template_text, 0xFF, size - 1) : NULL;
	bytes = mark ? mark + 1 : end;
	n = (size_t) (end - bytes);
	if (!g2_text_clean(bytes, n, &whole))
		abort();
	check_clean(&whole);
	clean_in_pieces(bytes, n, 1 + data[0] % 16, &pieces);
	if (whole.len != pieces.len || (whole.len > 0 && memcmp(whole.data, pieces.data, whole.len) != 0))
		abort();
	check_fill(template_text, (size_t) ((mark ? mark : end) - template_text), &whole);
	g2_text_free(&whole);
	g2_text_free(&pieces);
	return 0;
}
