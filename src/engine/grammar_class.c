/*
 * grammar_class.c: sets of characters in regular expressions.
 *
 * A set is made by appending ranges in any order and then setting it in order; those of a class
 * are merged, so that ranges ascend and have gaps between them.
 */
#include "grammar_class.h"

#include <stdlib.h>

#include "unicode.h"

bool
g2_chars_add(g2_nfa *nfa, g2_chars *chars, uint32_t lo, uint32_t hi)
{
	if (!g2_nfa_work(nfa))
		return false;
	if (chars->n == chars->cap)
	{
		uint32_t	cap = chars->cap ? chars->cap * 2 : 64;
		g2_char_range *ranges = g2_realloc_array(chars->ranges, cap, sizeof *ranges);

		if (!ranges)
		{
			g2_nfa_fail(nfa, G2_E_MEMORY, "out of memory", NULL);
			return false;
		}
		chars->ranges = ranges;
		chars->cap = cap;
	}
	chars->ranges[chars->n++] = (g2_char_range) {lo, hi};
	return true;
}

static int
compare_ranges(const void *a, const void *b)
{
	const g2_char_range *x = a,
			   *y = b;

	return x->lo < y->lo ? -1 : x->lo > y->lo;
}

/* The set that begins at `first` in order, and without overlaps. */
static void
merge(g2_chars *chars, uint32_t first)
{
	g2_char_range *r = chars->ranges + first;
	uint32_t	n = chars->n - first,
				kept = 0;

	if (n == 0)
		return;
	qsort(r, n, sizeof *r, compare_ranges);
	for (uint32_t i = 1; i < n; i++)
		if (r[i].lo <= r[kept].hi + 1)
			r[kept].hi = G2_MAX(r[kept].hi, r[i].hi);
		else
			r[++kept] = r[i];
	chars->n = first + kept + 1;
}

/* All other characters instead of the merged set that begins at `first`. */
static bool
negate(g2_nfa *nfa, g2_chars *chars, uint32_t first)
{
	uint32_t	end = chars->n,
				from = 0;

	for (uint32_t i = first; i < end; i++)
	{
		const g2_char_range r = chars->ranges[i];

		if (r.lo > from && !g2_chars_add(nfa, chars, from, r.lo - 1))
			return false;
		from = r.hi + 1;
	}
	if (from <= G2_MAX_CHAR && !g2_chars_add(nfa, chars, from, G2_MAX_CHAR))
		return false;
	memmove(chars->ranges + first, chars->ranges + end, (chars->n - end) * sizeof *chars->ranges);
	chars->n -= end - first;
	return true;
}

/* ---- named sets ---- */

typedef struct named_class
{
	const char *name;			/* of one letter: \letter */
	g2_char_range ranges[5];	/* an empty one ends them */
} named_class;

static const named_class classes[] = {
	{"d", {{'0', '9'}, {0, 0}}},
	{"w", {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}, {0, 0}}},
	{"s", {{'\t', '\r'}, {' ', ' '}, {0, 0}}},
	{"digit", {{'0', '9'}, {0, 0}}},
	{"alpha", {{'A', 'Z'}, {'a', 'z'}, {0, 0}}},
	{"alnum", {{'0', '9'}, {'A', 'Z'}, {'a', 'z'}, {0, 0}}},
	{"upper", {{'A', 'Z'}, {0, 0}}},
	{"lower", {{'a', 'z'}, {0, 0}}},
	{"space", {{'\t', '\r'}, {' ', ' '}, {0, 0}}},
	{"blank", {{'\t', '\t'}, {' ', ' '}, {0, 0}}},
	{"punct", {{'!', '/'}, {':', '@'}, {'[', '`'}, {'{', '~'}, {0, 0}}},
	{"xdigit", {{'0', '9'}, {'A', 'F'}, {'a', 'f'}, {0, 0}}},
	{"word", {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}, {0, 0}}},
};

static const named_class *
find_class(const char *name, size_t len)
{
	for (size_t i = 0; i < G2_LENGTH(classes); i++)
		if (strlen(classes[i].name) == len && memcmp(classes[i].name, name, len) == 0)
			return &classes[i];
	return NULL;
}

static bool
add_class(g2_nfa *nfa, g2_chars *chars, const named_class *class, bool negated)
{
	uint32_t	first = chars->n;

	for (const g2_char_range *r = class->ranges; r->hi != 0; r++)
		if (!g2_chars_add(nfa, chars, r->lo, r->hi))
			return false;
	return !negated || negate(nfa, chars, first);
}

/* ---- escapes ---- */

static int
hex_value(int c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Exactly n digits; false: they are not there. */
static bool
hex_digits(const char *text, size_t len, size_t *at, uint32_t n, uint32_t *value)
{
	*value = 0;
	for (uint32_t i = 0; i < n; i++, ++*at)
	{
		int			digit = *at < len ? hex_value((unsigned char) text[*at]) : -1;

		if (digit < 0)
			return false;
		*value = *value << 4 | (uint32_t) digit;
	}
	return true;
}

/* {h...}: one to six digits. */
static bool
hex_braces(const char *text, size_t len, size_t *at, uint32_t *value)
{
	uint32_t	digits = 0;

	*value = 0;
	for (++*at; *at < len && hex_value((unsigned char) text[*at]) >= 0 && digits < 7; digits++)
		*value = *value << 4 | (uint32_t) hex_value((unsigned char) text[(*at)++]);
	return digits > 0 && digits < 7 && *at < len && text[(*at)++] == '}';
}

/* The number behind \x or \u, at *at; a pair of surrogates is one character. */
static bool
code_point(g2_nfa *nfa, const char *text, size_t len, size_t escape, size_t *at, uint32_t *c)
{
	bool		is_u = text[*at - 1] == 'u',
				ok;
	uint32_t	low;
	size_t		second;

	if (*at < len && text[*at] == '{')
		ok = hex_braces(text, len, at, c);
	else
		ok = hex_digits(text, len, at, is_u ? 4 : 2, c);
	second = *at + 2;
	if (ok && is_u && *c >= 0xD800 && *c <= 0xDBFF && second < len && text[*at] == '\\' &&
		text[*at + 1] == 'u' && hex_digits(text, len, &second, 4, &low) && low >= 0xDC00 &&
		low <= 0xDFFF)
	{
		*c = 0x10000 + ((*c - 0xD800) << 10 | (low - 0xDC00));
		*at = second;
	}
	if (!ok || *c > G2_MAX_CHAR || (*c >= 0xD800 && *c <= 0xDFFF))
		return g2_class_fail(nfa, text, escape, "a malformed character number",
							 "Write \\xHH, \\x{H...}, \\uHHHH or \\u{H...}, without surrogates.");
	if (*c == 0)
		return g2_class_fail(nfa, text, escape, "the character NUL", "A text cannot hold it.");
	return true;
}

static bool
fail_escape(g2_nfa *nfa, const char *text, size_t escape, char c)
{
	if (c >= '1' && c <= '9')
		return g2_class_fail(nfa, text, escape, "back references are not supported",
							 "Write out what is to come again.");
	if (c == '0')
		return g2_class_fail(nfa, text, escape, "the character NUL", "A text cannot hold it.");
	if (c == 'b' || c == 'B' || c == 'A' || c == 'Z' || c == 'z')
		return g2_class_fail(nfa, text, escape, "places between characters are not supported",
							 "The whole text must match; write what stands there.");
	if (c == 'p' || c == 'P')
		return g2_class_fail(nfa, text, escape, "Unicode properties are not supported",
							 "Write ranges of characters, as in [\\u0400-\\u04FF].");
	return g2_class_fail(nfa, text, escape, "an unknown escape",
						 "Write a backslash before punctuation, or one of "
						 "\\d \\w \\s \\n \\t \\xHH \\uHHHH.");
}

/* An escape: one character, or (*c = UINT32_MAX) a class whose ranges are appended. */
static bool
escape(g2_nfa *nfa, const char *text, size_t len, size_t *at, bool in_brackets,
	   g2_chars *chars, uint32_t *c)
{
	static const char controls[] = "n\nr\rt\tf\fv\va\a";
	size_t		start = (*at)++;
	char		letter,
				lower;

	*c = UINT32_MAX;
	if (*at >= len)
		return g2_class_fail(nfa, text, start, "a backslash at the end",
							 "Write \\\\ for the character itself.");
	letter = text[(*at)++];
	lower = (char) (letter | 0x20);
	if (lower == 'd' || lower == 'w' || lower == 's')
		return add_class(nfa, chars, find_class(&lower, 1), letter != lower);
	if (letter == 'x' || letter == 'u')
		return code_point(nfa, text, len, start, at, c);
	for (const char *p = controls; *p; p += 2)
		if (p[0] == letter)
			*c = (unsigned char) p[1];
	if (letter == 'b' && in_brackets)
		*c = '\b';
	/* Punctuation and the space stand for themselves. */
	if (letter >= ' ' && letter < 0x7F &&
		!((lower >= 'a' && lower <= 'z') || (letter >= '0' && letter <= '9')))
		*c = (unsigned char) letter;
	return *c != UINT32_MAX || fail_escape(nfa, text, start, letter);
}

bool
g2_class_escape(g2_nfa *nfa, const char *text, size_t len, size_t *at, g2_chars *chars)
{
	uint32_t	c;

	return escape(nfa, text, len, at, false, chars, &c) &&
		(c == UINT32_MAX || g2_chars_add(nfa, chars, c, c));
}

/* The character there as it stands. */
static bool
plain_char(g2_nfa *nfa, const char *text, size_t *at, uint32_t *c)
{
	size_t		bytes;

	*c = g2_utf8_char(text + *at, &bytes);
	if (*c == 0)
		return g2_class_fail(nfa, text, *at, "the character NUL", "A text cannot hold it.");
	*at += bytes;
	return true;
}

bool
g2_class_char(g2_nfa *nfa, const char *text, size_t len, size_t *at, g2_chars *chars)
{
	uint32_t	c;

	(void) len;
	return plain_char(nfa, text, at, &c) && g2_chars_add(nfa, chars, c, c);
}

/* ---- brackets ---- */

/* [:name:] at *at. */
static bool
posix_class(g2_nfa *nfa, const char *text, size_t len, size_t *at, g2_chars *chars)
{
	const char *name = text + *at + 2,
			   *end = memmem(name, len - *at - 2, ":]", 2);
	const named_class *class = end ? find_class(name, (size_t) (end - name)) : NULL;

	if (!class || strlen(class->name) == 1)
		return g2_class_fail(nfa, text, *at, "an unknown class of characters",
							 "Known are [:alnum:], [:alpha:], [:blank:], [:digit:], [:lower:], "
							 "[:punct:], [:space:], [:upper:], [:word:] and [:xdigit:].");
	*at = (size_t) (end - text) + 2;
	return add_class(nfa, chars, class, false);
}

/* One member: *c = UINT32_MAX: a class, whose ranges have been appended. */
static bool
member(g2_nfa *nfa, const char *text, size_t len, size_t *at, g2_chars *chars, uint32_t *c)
{
	*c = UINT32_MAX;
	if (text[*at] == '\\')
		return escape(nfa, text, len, at, true, chars, c);
	if (text[*at] == '[' && *at + 1 < len && text[*at + 1] == ':')
		return posix_class(nfa, text, len, at, chars);
	return plain_char(nfa, text, at, c);
}

/* A member, or a range of two. */
static bool
range(g2_nfa *nfa, const char *text, size_t len, size_t *at, g2_chars *chars)
{
	size_t		start = *at;
	uint32_t	lo,
				hi;

	if (!member(nfa, text, len, at, chars, &lo))
		return false;
	if (*at + 1 >= len || text[*at] != '-' || text[*at + 1] == ']')
		return lo == UINT32_MAX || g2_chars_add(nfa, chars, lo, lo);
	++*at;
	if (!member(nfa, text, len, at, chars, &hi))
		return false;
	if (lo == UINT32_MAX || hi == UINT32_MAX)
		return g2_class_fail(nfa, text, start, "a range of classes",
							 "Write \\- for the character itself.");
	if (hi < lo)
		return g2_class_fail(nfa, text, start, "a range ends before its beginning",
							 "Write the lower character first.");
	return g2_chars_add(nfa, chars, lo, hi);
}

bool
g2_class_bracket(g2_nfa *nfa, const char *text, size_t len, size_t *at, g2_chars *chars)
{
	uint32_t	first = chars->n;
	size_t		start = (*at)++;
	bool		negated = *at < len && text[*at] == '^';

	*at += negated;
	if (*at < len && text[*at] == ']')
		return g2_class_fail(nfa, text, start, "brackets hold nothing",
							 "Write \\] for the character itself.");
	while (*at < len && text[*at] != ']')
		if (!range(nfa, text, len, at, chars))
			return false;
	if (*at >= len)
		return g2_class_fail(nfa, text, start, "unmatched \"[\"",
							 "Write \\[ for the character itself.");
	++*at;
	merge(chars, first);
	return !negated || negate(nfa, chars, first);
}
