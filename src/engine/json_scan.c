/*
 * json_scan.c: the JSON scanner (RFC 8259, nothing more).  See json_scan.h.
 */
#include "json_scan.h"

#define MAX_NUMBER 63			/* characters; cJSON's buffer for a number */

bool
g2_scan_fail(const g2_scan *s, size_t pos, const char *what)
{
	return g2_fail(s->err, G2_E_BAD_JSON, "malformed JSON in \"%s\" at byte %zu: %s",
				   s->path, pos, what);
}

/* The next character that is not white space; -1 at the end. */
int
g2_scan_peek(g2_scan *s)
{
	while (s->pos < s->len)
	{
		char		c = s->text[s->pos];

		if (c != ' ' && c != '\t' && c != '\n' && c != '\r')
			return (unsigned char) c;
		s->pos++;
	}
	return -1;
}

/* Four hexadecimal digits at pos; -1 if they are not there. */
static int
scan_hex4(const char *text, size_t len, size_t pos)
{
	int			value = 0;

	if (len - pos < 4)
		return -1;
	for (size_t i = pos; i < pos + 4; i++)
	{
		char		c = text[i];

		if (c >= '0' && c <= '9')
			value = value * 16 + (c - '0');
		else if (c >= 'a' && c <= 'f')
			value = value * 16 + (c - 'a' + 10);
		else if (c >= 'A' && c <= 'F')
			value = value * 16 + (c - 'A' + 10);
		else
			return -1;
	}
	return value;
}

/* The escape whose backslash is at pos; moves behind it (behind both halves of a pair). */
static bool
scan_escape(g2_scan *s)
{
	size_t		start = s->pos;
	int			unit,
				low;

	s->pos++;
	if (s->pos >= s->len)
		return g2_scan_fail(s, start, "unfinished escape");
	if (s->text[s->pos] != 'u')
	{
		/* memchr and not strchr: a NUL is no escape */
		if (!memchr("\"\\/bfnrt", s->text[s->pos], 8))
			return g2_scan_fail(s, start, "unknown escape");
		s->pos++;
		return true;
	}
	s->pos++;
	unit = scan_hex4(s->text, s->len, s->pos);
	if (unit < 0)
		return g2_scan_fail(s, start, "\\u without four hexadecimal digits");
	if (unit == 0)
		return g2_scan_fail(s, start, "NUL character");
	s->pos += 4;
	if (unit < 0xD800 || unit > 0xDFFF)
		return true;
	if (unit >= 0xDC00 || s->len - s->pos < 6 || s->text[s->pos] != '\\' ||
		s->text[s->pos + 1] != 'u')
		return g2_scan_fail(s, start, "lone surrogate");
	low = scan_hex4(s->text, s->len, s->pos + 2);
	if (low < 0xDC00 || low > 0xDFFF)
		return g2_scan_fail(s, start, "lone surrogate");
	s->pos += 6;
	return true;
}

/* A string at pos, of which *raw becomes the text behind the opening quote. */
static bool
scan_string(g2_scan *s, const char **raw)
{
	size_t		start = s->pos;

	*raw = s->text + start + 1;
	s->pos++;
	while (s->pos < s->len)
	{
		unsigned char c = (unsigned char) s->text[s->pos];

		if (c == '\\')
		{
			if (!scan_escape(s))
				return false;
		}
		else if (c < 0x20)
			return g2_scan_fail(s, s->pos, "control character in a string");
		else
		{
			s->pos++;
			if (c == '"')
				return true;
		}
	}
	return g2_scan_fail(s, start, "unfinished string");
}

static size_t
scan_digits(g2_scan *s)
{
	size_t		start = s->pos;

	while (s->pos < s->len && s->text[s->pos] >= '0' && s->text[s->pos] <= '9')
		s->pos++;
	return s->pos - start;
}

/* A number at pos; *integer: has neither a fraction nor an exponent. */
bool
g2_scan_number(g2_scan *s, bool *integer)
{
	size_t		start = s->pos,
				digits;

	*integer = true;
	if (s->text[s->pos] == '-')
		s->pos++;
	digits = scan_digits(s);
	if (digits == 0 || (digits > 1 && s->text[s->pos - digits] == '0'))
		return g2_scan_fail(s, start, "malformed number");
	if (s->pos < s->len && s->text[s->pos] == '.')
	{
		*integer = false;
		s->pos++;
		if (scan_digits(s) == 0)
			return g2_scan_fail(s, start, "malformed number");
	}
	if (s->pos < s->len && (s->text[s->pos] == 'e' || s->text[s->pos] == 'E'))
	{
		*integer = false;
		s->pos++;
		if (s->pos < s->len && (s->text[s->pos] == '+' || s->text[s->pos] == '-'))
			s->pos++;
		if (scan_digits(s) == 0)
			return g2_scan_fail(s, start, "malformed number");
	}
	if (s->pos - start > MAX_NUMBER)
		return g2_scan_fail(s, start, "number of more than 63 characters");
	return true;
}

/* A string, number or literal at pos; c is its first character. */
static bool
scan_scalar(g2_scan *s, int c)
{
	static const char *const literals[] = {"true", "false", "null"};
	const char *raw;
	bool		integer;

	if (c == '"')
		return scan_string(s, &raw);
	if (c == '-' || (c >= '0' && c <= '9'))
		return g2_scan_number(s, &integer);
	for (size_t i = 0; i < G2_LENGTH(literals); i++)
	{
		size_t		n = strlen(literals[i]);

		if (s->len - s->pos >= n && memcmp(s->text + s->pos, literals[i], n) == 0)
		{
			s->pos += n;
			return true;
		}
	}
	return g2_scan_fail(s, s->pos, c < 0 ? "unexpected end" : "value expected");
}

/* FNV-1a over the code points. */
static uint32_t
key_hash(const char *raw)
{
	uint32_t	hash = 2166136261u;
	int32_t		c;

	while ((c = g2_scan_char(&raw)) >= 0)
		hash = (hash ^ (uint32_t) c) * 16777619u;
	return hash;
}

/* Key and colon. */
bool
g2_scan_member(g2_scan *s, uint32_t object, const char **raw)
{
	if (g2_scan_peek(s) != '"')
		return g2_scan_fail(s, s->pos, "key expected");
	if (!scan_string(s, raw))
		return false;
	if (s->keep_keys)
	{
		if (s->n_keys == s->cap_keys)
		{
			size_t		cap = s->cap_keys ? s->cap_keys * 2 : 64;
			g2_scan_key *keys = g2_realloc_array(s->keys, cap, sizeof *keys);

			if (!keys)
				return g2_fail_memory(s->err, cap * sizeof *keys);
			s->keys = keys;
			s->cap_keys = cap;
		}
		s->keys[s->n_keys++] = (g2_scan_key) {.raw = *raw,.object = object,
		.hash = key_hash(*raw)};
	}
	if (g2_scan_peek(s) != ':')
		return g2_scan_fail(s, s->pos, "colon expected");
	s->pos++;
	return true;
}

/* What holds for the text as a whole: characters, BOM. */
bool
g2_scan_begin(g2_scan *s)
{
	size_t		valid = g2_utf8_valid_prefix(s->text, s->len);
	const char *nul;

	if (valid < s->len)
		return g2_scan_fail(s, valid, "invalid UTF-8");
	nul = s->len > 0 ? memchr(s->text, 0, s->len) : NULL;
	if (nul)
		return g2_scan_fail(s, (size_t) (nul - s->text), "NUL character");
	if (s->len >= 3 && memcmp(s->text, "\xEF\xBB\xBF", 3) == 0)
		s->pos = 3;
	return true;
}

bool
g2_scan_end(g2_scan *s)
{
	if (g2_scan_peek(s) >= 0)
		return g2_scan_fail(s, s->pos, "something follows the value");
	return true;
}

/* One value, however nested. */
bool
g2_scan_value(g2_scan *s)
{
	char		closer[G2_JSON_MAX_DEPTH];
	uint32_t	object[G2_JSON_MAX_DEPTH];
	uint32_t	n_objects = 0;
	int			depth = 0;
	const char *raw;

	for (;;)
	{
		int			c = g2_scan_peek(s);

		if (++s->n_values > (s->max_values ? s->max_values : G2_JSON_MAX_VALUES))
			return g2_fail(s->err, G2_E_LIMIT, "\"%s\" has more than %zu JSON values", s->path,
						   s->n_values - 1);
		if (c == '{' || c == '[')
		{
			if (depth == G2_JSON_MAX_DEPTH)
				return g2_scan_fail(s, s->pos, "nested more than 64 levels deep");
			closer[depth] = c == '{' ? '}' : ']';
			object[depth++] = n_objects++;
			s->pos++;
			if (g2_scan_peek(s) != closer[depth - 1])
			{
				if (c == '{' && !g2_scan_member(s, object[depth - 1], &raw))
					return false;
				continue;
			}
		}
		else if (!scan_scalar(s, c))
			return false;

		/* a value has ended, or the next character ends an empty one */
		while (depth > 0 && g2_scan_peek(s) == closer[depth - 1])
		{
			depth--;
			s->pos++;
		}
		if (depth == 0)
			return true;
		if (g2_scan_peek(s) != ',')
			return g2_scan_fail(s, s->pos, s->pos < s->len ? "comma or closing bracket expected"
						   : "unexpected end");
		s->pos++;
		if (closer[depth - 1] == '}' && !g2_scan_member(s, object[depth - 1], &raw))
			return false;
	}
}

/* The next code point of a string that the scanner has accepted; -1 at its closing quote. */
int32_t
g2_scan_char(const char **raw)
{
	static const char plain[] = "bfnrt",
				meaning[] = "\b\f\n\r\t";
	const unsigned char *p = (const unsigned char *) *raw;
	int32_t		c = *p++;

	if (c == '"')
		return -1;
	if (c == '\\')
	{
		c = *p++;
		if (c == 'u')
		{
			c = scan_hex4((const char *) p, 4, 0);
			p += 4;
			if (c >= 0xD800 && c <= 0xDBFF)
			{
				c = 0x10000 + (c - 0xD800) * 0x400 + (scan_hex4((const char *) p, 6, 2) - 0xDC00);
				p += 6;
			}
		}
		else
		{
			const char *found = strchr(plain, c);

			if (found)
				c = meaning[found - plain];
		}
	}
	else if (c >= 0x80)
	{
		int			more = c >= 0xF0 ? 3 : c >= 0xE0 ? 2 : 1;

		c &= 0x3F >> more;
		while (more-- > 0)
			c = c * 64 + (*p++ & 0x3F);
	}
	*raw = (const char *) p;
	return c;
}

/* Appends the decoded string; raw is behind the opening quote. */
bool
g2_scan_decode(g2_buf *out, const char *raw)
{
	int32_t		c;

	while ((c = g2_scan_char(&raw)) >= 0)
	{
		unsigned char b[4];
		size_t		n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

		for (size_t i = n - 1; i > 0; i--, c >>= 6)
			b[i] = 0x80 | (c & 0x3F);
		b[0] = (unsigned char) (n == 1 ? c : (0xF00 >> n & 0xFF) | c);
		if (!g2_buf_append(out, b, n))
			return false;
	}
	return true;
}
