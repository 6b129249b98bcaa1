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

/* Bytes of s[0..n) that no character has: one, or the longest beginning of a character that goes
 * wrong behind it. */
static size_t
broken_character(const char *s, size_t n)
{
	size_t		len = G2_MIN(n, (size_t) 3);

	while (len > 1 && !incomplete_character(s, len))
		len--;
	return len;
}

/* Valid UTF-8, but for NULs. */
static void
append_valid(g2_buf *out, const char *s, size_t n)
{
	const char *end = s + n;

	while (s < end)
	{
		const char *nul = memchr(s, '\0', (size_t) (end - s));

		g2_buf_append(out, s, (size_t) ((nul ? nul : end) - s));
		if (!nul)
			break;
		g2_buf_append(out, replacement, 3);
		s = nul + 1;
	}
}

static bool
clean(const char *bytes, size_t n, bool is_end, g2_buf *out)
{
	size_t		at = 0;

	while (at < n)
	{
		size_t		valid = g2_utf8_valid_prefix(bytes + at, n - at);

		append_valid(out, bytes + at, valid);
		at += valid;
		if (at == n ||
			(is_end && n - at <= 3 && incomplete_character(bytes + at, n - at)))
			break;
		g2_buf_append(out, replacement, 3);
		at += broken_character(bytes + at, n - at);
	}
	return !out->failed;
}

bool
g2_text_clean(const char *bytes, size_t n, g2_buf *out)
{
	return clean(bytes, n, true, out);
}

bool
g2_text_clean_part(const char *bytes, size_t n, g2_buf *out)
{
	return clean(bytes, n, false, out);
}

size_t
g2_text_complete(const char *bytes, size_t n)
{
	for (size_t tail = 1; tail <= 3 && tail <= n; tail++)
		if ((unsigned char) bytes[n - tail] >= 0xC0)
			return incomplete_character(bytes + n - tail, tail) ? n - tail : n;
	return n;
}

/* The mark that text[0..n) begins with, or NULL. */
static const g2_mark *
mark_at(const char *text, size_t n, const g2_mark *marks, size_t n_marks)
{
	for (size_t i = 0; i < n_marks; i++)
	{
		size_t		len = strlen(marks[i].name);

		if (n >= len && memcmp(text, marks[i].name, len) == 0)
			return &marks[i];
	}
	return NULL;
}

/* Appends to out, or only counts where it is NULL; bytes, SIZE_MAX when that wraps. */
static size_t
fill(g2_bytes from, const g2_mark *marks, size_t n_marks, g2_buf *out)
{
	const char *end = from.data + from.len;
	size_t		len = 0;

	for (const char *at = from.data; at < end;)
	{
		const g2_mark *mark = mark_at(at, (size_t) (end - at), marks, n_marks);
		const char *brace = mark ? NULL : memchr(at + 1, '{', (size_t) (end - at - 1));
		g2_bytes	part = mark ? mark->value :
			(g2_bytes) {at, (size_t) ((brace ? brace : end) - at)};

		if (out)
			g2_buf_append(out, part.data, part.len);
		if (!g2_add_size(len, part.len, &len))
			return SIZE_MAX;
		at += mark ? strlen(mark->name) : part.len;
	}
	return len;
}

bool
g2_text_fill_marks(g2_bytes template_text, const g2_mark *marks, size_t n_marks, size_t max,
				   g2_buf *out, g2_error *err)
{
	size_t		len = fill(template_text, marks, n_marks, NULL);

	if (len > max)
	{
		g2_fail(err, G2_E_TOO_LONG, "the template with its text has more than %zu bytes", max);
		return g2_fail_hint(err, "Split the text.");
	}
	if (!g2_buf_reserve(out, len))
		return g2_fail_memory(err, len);
	fill(template_text, marks, n_marks, out);
	return true;
}

bool
g2_text_fill(const char *template_text, size_t template_len, const char *input, size_t input_len,
			 size_t max, g2_buf *out, g2_error *err)
{
	const g2_mark mark = {"{input}", {input, input_len}};

	return g2_text_fill_marks((g2_bytes) {template_text, template_len}, &mark, 1, max, out, err);
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

void
g2_wipe_free(void *p, size_t bytes)
{
	if (p)
		explicit_bzero(p, bytes);
	g2_free(p);
}

void
g2_text_free(g2_buf *text)
{
	g2_wipe_free(text->data, text->cap);
	memset(text, 0, sizeof *text);
}
