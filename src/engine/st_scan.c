/*
 * st_scan.c: JSON tokens of a safetensors header.
 *
 * The format allows strings, whole numbers, arrays of numbers and objects two deep, so nothing
 * here recurses, and a header of 100 MB needs one window of 256 kB.  (Not cJSON: it would hold the
 * whole tree.  Not a mapping: a file that is truncated meanwhile would raise SIGBUS.)
 */
#include "st_scan.h"

#include <stdarg.h>
#include <stdio.h>

#include "file.h"

#define SCAN_WINDOW (256u << 10)

bool
g2_st_scan_start(st_scan *s, uint64_t at)
{
	if (s->fd < 0)
		return true;
	s->window = g2_alloc(SCAN_WINDOW);
	if (!s->window)
	{
		s->failed = true;
		return g2_fail_memory(s->err, SCAN_WINDOW);
	}
	s->p = s->end = s->window;
	s->window_end = at;
	return true;
}

void
g2_st_scan_free(st_scan *s)
{
	g2_free(s->window);
	s->window = NULL;
}

uint64_t
g2_st_scan_at(const st_scan *s)
{
	return s->window_end - (uint64_t) (s->end - s->p);
}

static bool
scan_fail(st_scan *s, uint64_t at, const char *fmt, va_list ap)
{
	char		what[160];

	if (s->failed)
		return false;
	s->failed = true;
	vsnprintf(what, sizeof what, fmt, ap);
	if (s->tensor[0])
		return g2_fail(s->err, G2_E_BAD_FILE,
					   "invalid safetensors file \"%s\" at byte %llu: tensor \"%s\": %s",
					   g2_file_tail(s->path), (unsigned long long) at, s->tensor, what);
	return g2_fail(s->err, G2_E_BAD_FILE, "invalid safetensors file \"%s\" at byte %llu: %s",
				   g2_file_tail(s->path), (unsigned long long) at, what);
}

bool
g2_st_scan_fail(st_scan *s, const char *fmt, ...)
{
	va_list		ap;

	va_start(ap, fmt);
	scan_fail(s, g2_st_scan_at(s), fmt, ap);
	va_end(ap);
	return false;
}

bool
g2_st_scan_fail_at(st_scan *s, uint64_t at, const char *fmt, ...)
{
	va_list		ap;

	va_start(ap, fmt);
	scan_fail(s, at, fmt, ap);
	va_end(ap);
	return false;
}

bool
g2_st_scan_fail_short(st_scan *s, uint64_t at, const char *fmt, ...)
{
	va_list		ap;

	if (s->failed)
		return false;
	va_start(ap, fmt);
	scan_fail(s, at, fmt, ap);
	va_end(ap);
	return g2_fail_hint(s->err, "The file is shorter than its header says; download or copy it again, "
						"to its end.");
}

int
g2_st_scan_peek(st_scan *s)
{
	size_t		n;

	if (s->p < s->end)
		return *s->p;
	if (s->failed || s->fd < 0 || s->window_end >= s->header_end)
		return -1;
	n = (size_t) G2_MIN(s->header_end - s->window_end, SCAN_WINDOW);
	if (!g2_file_pread(s->fd, s->path, s->window, n, s->window_end, s->err))
	{
		s->failed = true;
		return -1;
	}
	s->p = s->window;
	s->end = s->window + n;
	s->window_end += n;
	return *s->p;
}

int
g2_st_scan_token(st_scan *s)
{
	int			c;

	while ((c = g2_st_scan_peek(s)) == ' ' || c == '\t' || c == '\n' || c == '\r')
		do
			s->p++;
		while (s->p < s->end && *s->p == ' ');
	return c;
}

bool
g2_st_scan_take(st_scan *s, char c)
{
	int			got = g2_st_scan_token(s);

	if (got < 0)
		return g2_st_scan_fail(s, "the header ends where \"%c\" is expected", c);
	if (got != c)
		return g2_st_scan_fail(s, "\"%c\" expected", c);
	s->p++;
	return true;
}

bool
g2_st_scan_next(st_scan *s, char close, bool *more)
{
	int			c = g2_st_scan_token(s);

	*more = c == ',';
	if (c == ',' || c == close)
	{
		s->p++;
		return true;
	}
	return g2_st_scan_fail(s, "%s", c < 0 ? "the header ends inside a value"
						   : "comma or closing bracket expected");
}

/* Four hexadecimal digits. */
static bool
scan_hex(st_scan *s, uint32_t *value)
{
	*value = 0;
	for (int i = 0; i < 4; i++)
	{
		int			c = g2_st_scan_peek(s),
					digit = c >= '0' && c <= '9' ? c - '0'
			: c >= 'a' && c <= 'f' ? c - 'a' + 10
			: c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;

		if (digit < 0)
			return g2_st_scan_fail(s, "invalid \\u escape");
		*value = *value << 4 | (uint32_t) digit;
		s->p++;
	}
	return true;
}

/* The escape behind a backslash, as UTF-8. */
static bool
scan_escape(st_scan *s, char out[4], size_t *n)
{
	static const char from[] = "\"\\/bfnrt",
				to[] = "\"\\/\b\f\n\r\t";
	int			c = g2_st_scan_peek(s);
	const char *at = c > 0 ? strchr(from, c) : NULL;
	uint32_t	u,
				low;

	*n = 1;
	if (at)
	{
		s->p++;
		out[0] = to[at - from];
		return true;
	}
	if (c != 'u')
		return g2_st_scan_fail(s, "invalid escape");
	s->p++;
	if (!scan_hex(s, &u))
		return false;
	if (u >= 0xD800 && u <= 0xDFFF)
	{
		if (u >= 0xDC00 || g2_st_scan_peek(s) != '\\')
			return g2_st_scan_fail(s, "lone surrogate in an escape");
		s->p++;
		if (g2_st_scan_peek(s) != 'u')
			return g2_st_scan_fail(s, "lone surrogate in an escape");
		s->p++;
		if (!scan_hex(s, &low))
			return false;
		if (low < 0xDC00 || low > 0xDFFF)
			return g2_st_scan_fail(s, "lone surrogate in an escape");
		u = 0x10000 + ((u - 0xD800) << 10) + (low - 0xDC00);
	}
	if (u < 0x80)
		out[0] = (char) u;
	else
	{
		*n = u < 0x800 ? 2 : u < 0x10000 ? 3 : 4;
		for (size_t i = *n - 1; i > 0; i--, u >>= 6)
			out[i] = (char) (0x80 | (u & 0x3F));
		out[0] = (char) ((0xF00 >> *n & 0xFF) | u);
	}
	return true;
}

/* One character of a string that is not an escape. */
static bool
scan_character(st_scan *s, char out[4], size_t *n)
{
	int			c = g2_st_scan_peek(s);
	size_t		want = c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
	uint64_t	at = g2_st_scan_at(s);

	if (c < 0x20)
		return g2_st_scan_fail(s, "control character in a string");
	for (*n = 0; *n < want && (c = g2_st_scan_peek(s)) >= 0; (*n)++)
	{
		out[*n] = (char) c;
		s->p++;
	}
	if (*n < want || g2_utf8_valid_prefix(out, want) != want)
		return g2_st_scan_fail_at(s, at, "invalid UTF-8");
	return true;
}

bool
g2_st_scan_string(st_scan *s, char *out, size_t cap)
{
	size_t		len = 0;
	uint64_t	start;

	if (g2_st_scan_token(s) != '"')
		return g2_st_scan_fail(s, "string expected");
	start = g2_st_scan_at(s);
	s->p++;
	for (;;)
	{
		int			c;
		char		utf8[4];
		size_t		n = 1;

		/* metadata may be long: a run of plain characters within the window at once */
		while (!out && s->p < s->end && *s->p >= 0x20 && *s->p < 0x80 && *s->p != '"' &&
			   *s->p != '\\')
			s->p++;
		c = g2_st_scan_peek(s);
		if (c < 0)
			return g2_st_scan_fail(s, "the header ends inside a string");
		if (c == '"')
			break;
		if (c == '\\')
		{
			s->p++;
			if (!scan_escape(s, utf8, &n))
				return false;
		}
		else if (!scan_character(s, utf8, &n))
			return false;
		if (!out)
			continue;
		if (len + n >= cap)
			return g2_st_scan_fail_at(s, start, "string of more than %zu bytes", cap - 1);
		if ((unsigned char) utf8[0] < 0x20 || utf8[0] == 0x7F)
			return g2_st_scan_fail_at(s, start, "control character in a name");
		memcpy(out + len, utf8, n);
		len += n;
	}
	s->p++;
	if (out)
		out[len] = '\0';
	return true;
}

bool
g2_st_scan_uint(st_scan *s, const char *what, uint64_t *value)
{
	int			c = g2_st_scan_token(s);
	uint64_t	start = g2_st_scan_at(s);
	bool		zero = c == '0';

	*value = 0;
	if (c == '-')
		return g2_st_scan_fail(s, "%s must not be negative", what);
	if (c < '0' || c > '9')
		return g2_st_scan_fail(s, "%s must hold whole numbers", what);
	while ((c = g2_st_scan_peek(s)) >= '0' && c <= '9')
	{
		if (__builtin_mul_overflow(*value, 10, value) ||
			__builtin_add_overflow(*value, (uint64_t) (c - '0'), value))
			return g2_st_scan_fail_at(s, start, "number in %s is too large", what);
		s->p++;
	}
	if (c == '.' || c == 'e' || c == 'E')
		return g2_st_scan_fail_at(s, start, "%s must hold whole numbers", what);
	if (zero && g2_st_scan_at(s) != start + 1)
		return g2_st_scan_fail_at(s, start, "number in %s starts with 0", what);
	return !s->failed;
}
