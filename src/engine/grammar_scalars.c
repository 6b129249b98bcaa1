/*
 * grammar_scalars.c: strings and numbers of JSON schemas, and values that they give.
 *
 * Numbers.  One with a fraction is a number of millionths, which a double holds exactly, and so
 * does its quotient by a million what a reader makes of the text: bounds are compared with that.
 * No number has more than 15 digits: so many a double keeps apart, which is what most readers of
 * JSON have.
 */
#include "grammar_schema.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "grammar_regex.h"

#define MOST_WHOLE 999999999999999.0
#define FRACTION_DIGITS 6
#define MILLION 1000000u		/* ten to the power of that */
#define MOST_MILLIONTHS 999999999999999.0	/* nine digits before the point */

/* ---- strings ---- */

static uint32_t
emit_character(void *nfa, uint32_t next)
{
	static const g2_char_range all = {1, G2_MAX_CHAR};

	return g2_nfa_chars(nfa, &all, 1, G2_CHARS_JSON, next);
}

static uint32_t
emit_string(g2_nfa *nfa, uint32_t least, uint32_t most, uint32_t next)
{
	uint32_t	end = g2_nfa_string(nfa, "\"", next);

	return g2_nfa_string(nfa, "\"", g2_nfa_repeat(nfa, emit_character, nfa, least, most, end));
}

uint32_t
g2_any_string(g2_nfa *nfa, uint32_t next)
{
	return emit_string(nfa, 0, UINT32_MAX, next);
}

static uint32_t
emit_pattern(const g2_schema_node *node, const cJSON *pattern, uint32_t next)
{
	g2_nfa	   *nfa = node->schema->nfa;
	const g2_schema_place place = {.outer = node->place,.name = "pattern"};
	const char *what = nfa->what;
	char		pointer[128],
				named[192];
	uint32_t	result;

	if (!cJSON_IsString(pattern))
		return g2_schema_fail(node, "pattern", NULL, "pattern must be a string");
	snprintf(named, sizeof named, "json_schema's regex at %s",
			 g2_schema_pointer(&place, pointer, sizeof pointer));
	nfa->what = named;
	result = g2_regex_compile(nfa, pattern->valuestring, strlen(pattern->valuestring),
							  G2_REGEX_SEARCH, G2_CHARS_JSON, g2_nfa_string(nfa, "\"", next));
	nfa->what = what;
	return g2_nfa_string(nfa, "\"", result);
}

uint32_t
g2_schema_string(const g2_schema_node *node, uint32_t next)
{
	const cJSON *pattern = cJSON_GetObjectItemCaseSensitive(node->json, "pattern");
	uint32_t	least,
				most;

	if (!g2_schema_count(node, "minLength", 0, UINT32_MAX - 1, &least) ||
		!g2_schema_count(node, "maxLength", UINT32_MAX, UINT32_MAX - 1, &most))
		return G2_NFA_NONE;
	if (pattern && (least > 0 || most != UINT32_MAX))
		return g2_schema_fail(node, "pattern", "Put the length into the pattern, as in "
							  "\"^[a-z]{2,10}$\".",
							  "pattern and %s together are not supported",
							  least > 0 ? "minLength" : "maxLength");
	if (pattern)
		return emit_pattern(node, pattern, next);
	return most < least ? G2_NFA_NONE : emit_string(node->schema->nfa, least, most, next);
}

/* ---- numbers ---- */

/* The bounds of a number; what is excluded is said by the strict ones. */
typedef struct bounds
{
	double		lo;				/* -INFINITY: none */
	double		hi;
	bool		lo_excluded;
	bool		hi_excluded;
} bounds;

static bool
read_bound(const g2_schema_node *node, const char *keyword, double *out)
{
	const cJSON *json = cJSON_GetObjectItemCaseSensitive(node->json, keyword);

	if (!json)
		return true;
	if (!cJSON_IsNumber(json))
	{
		g2_schema_fail(node, keyword, NULL, "%s must be a number", keyword);
		return false;
	}
	*out = json->valuedouble;
	return true;
}

static bool
read_bounds(const g2_schema_node *node, bounds *b)
{
	double		lo = -INFINITY,
				hi = INFINITY,
				above = -INFINITY,
				below = INFINITY;

	if (!read_bound(node, "minimum", &lo) || !read_bound(node, "maximum", &hi) ||
		!read_bound(node, "exclusiveMinimum", &above) ||
		!read_bound(node, "exclusiveMaximum", &below))
		return false;
	*b = (bounds) {
		.lo = fmax(lo, above), .hi = fmin(hi, below),
		.lo_excluded = above >= lo, .hi_excluded = below <= hi,
	};
	return true;
}

/* The whole numbers >= 0 from lo to hi, before next; the bounds may be anything. */
static uint32_t
emit_whole(g2_nfa *nfa, double lo, double hi, uint32_t next)
{
	lo = fmax(lo, 0);
	if (!(lo <= hi))
		return G2_NFA_NONE;
	return g2_nfa_numbers(nfa, (uint64_t) lo, (uint64_t) hi, next);
}

/* Digits behind a point, the last of which is not 0. */
typedef struct fraction
{
	g2_nfa	   *nfa;
	uint32_t	next;
	uint32_t	any[FRACTION_DIGITS + 1];	/* [n]: 1 to n of them */
} fraction;

static fraction
make_fraction(g2_nfa *nfa, uint32_t next)
{
	fraction	f = {.nfa = nfa,.next = next,.any = {G2_NFA_NONE}};
	g2_byte_set digits = {{0}},
				last = {{0}};
	uint32_t	end;

	g2_byte_set_add(&digits, '0', '9');
	g2_byte_set_add(&last, '1', '9');
	end = g2_nfa_bytes(nfa, &last, next);
	for (int n = 1; n <= FRACTION_DIGITS; n++)
		f.any[n] = g2_nfa_split(nfa, end, g2_nfa_bytes(nfa, &digits, f.any[n - 1]));
	return f;
}

/* 1 to n digits that are, with zeros behind them up to n, from lo to hi. */
static uint32_t
emit_digits(const fraction *f, uint32_t n, uint32_t lo, uint32_t hi)
{
	uint32_t	unit = 1,
				result = G2_NFA_NONE;

	if (n == 0 || lo > hi)
		return G2_NFA_NONE;
	for (uint32_t i = 1; i < n; i++)
		unit *= 10;
	/* Nothing but zeros is none of them. */
	if (lo <= 1 && hi == 10 * unit - 1)
		return f->any[n];
	for (uint32_t digit = lo / unit; digit <= hi / unit; digit++)
	{
		uint32_t	from = digit * unit;
		g2_byte_set byte = {{0}};

		g2_byte_set_add(&byte, '0' + digit, '0' + digit);
		result = g2_nfa_split(f->nfa, result, g2_nfa_bytes(f->nfa, &byte,
			emit_digits(f, n - 1, G2_MAX(lo, from) - from, G2_MIN(hi, from + unit - 1) - from)));
		if (digit > 0 && from >= lo)
			result = g2_nfa_split(f->nfa, result, g2_nfa_bytes(f->nfa, &byte, f->next));
	}
	return result;
}

/* The whole numbers from lo to hi, with such a fraction. */
static uint32_t
emit_with(g2_nfa *nfa, double lo, double hi, uint32_t digits)
{
	return emit_whole(nfa, lo, hi, g2_nfa_string(nfa, ".", digits));
}

/* The least number of millionths above zero within the lower bound. */
static double
least_millionths(const bounds *b)
{
	double		k = fmax(floor(b->lo * MILLION) - 1, 1);

	/* The product may be rounded, the quotients are what is read. */
	while (k <= MOST_MILLIONTHS && !(b->lo_excluded ? k / MILLION > b->lo : k / MILLION >= b->lo))
		k++;
	return k;
}

static double
most_millionths(const bounds *b)
{
	double		k = fmin(ceil(b->hi * MILLION) + 1, MOST_MILLIONTHS);

	while (k >= 1 && !(b->hi_excluded ? k / MILLION < b->hi : k / MILLION <= b->hi))
		k--;
	return k;
}

/* The numbers above zero that have a fraction. */
static uint32_t
emit_fractions(g2_nfa *nfa, const bounds *b, uint32_t next)
{
	double		least = least_millionths(b),
				most = most_millionths(b);
	uint64_t	lo = (uint64_t) fmin(least, MOST_MILLIONTHS),
				hi = (uint64_t) fmax(most, 0),
				first = lo / MILLION,
				last = hi / MILLION;
	uint32_t	from = (uint32_t) (lo % MILLION),
				to = (uint32_t) (hi % MILLION),
				result;
	bool		cut_first,
				cut_last;
	fraction	f;

	if (next == G2_NFA_NONE || least > most)
		return G2_NFA_NONE;
	f = make_fraction(nfa, next);
	if (first == last)
		return emit_with(nfa, (double) first, (double) first,
						 emit_digits(&f, FRACTION_DIGITS, from, to));
	/* Those in between may have any; so may the two at the ends, where no bound cuts them. */
	cut_first = from > 1;
	cut_last = to < MILLION - 1;
	result = emit_with(nfa, (double) first + cut_first, (double) last - cut_last,
					   f.any[FRACTION_DIGITS]);
	if (cut_first)
		result = g2_nfa_split(nfa, result, emit_with(nfa, (double) first, (double) first,
							  emit_digits(&f, FRACTION_DIGITS, from, MILLION - 1)));
	if (cut_last)
		result = g2_nfa_split(nfa, result, emit_with(nfa, (double) last, (double) last,
							  emit_digits(&f, FRACTION_DIGITS, 0, to)));
	return result;
}

static uint32_t
emit_number(g2_nfa *nfa, const bounds *b, bool integer, uint32_t next)
{
	const bounds mirrored = {-b->hi, -b->lo, b->hi_excluded, b->lo_excluded};
	double		least = b->lo_excluded ? floor(b->lo) + 1 : ceil(b->lo),
				most = b->hi_excluded ? ceil(b->hi) - 1 : floor(b->hi);
	uint32_t	positive = emit_whole(nfa, least, fmin(most, MOST_WHOLE), next),
				negative = emit_whole(nfa, fmax(-most, 1), fmin(-least, MOST_WHOLE), next);

	if (!integer)
	{
		positive = g2_nfa_split(nfa, positive, emit_fractions(nfa, b, next));
		negative = g2_nfa_split(nfa, negative, emit_fractions(nfa, &mirrored, next));
	}
	return g2_nfa_split(nfa, positive, g2_nfa_string(nfa, "-", negative));
}

uint32_t
g2_schema_number(const g2_schema_node *node, bool integer, uint32_t next)
{
	bounds		b;

	return read_bounds(node, &b) ? emit_number(node->schema->nfa, &b, integer, next) :
		G2_NFA_NONE;
}

uint32_t
g2_any_number(g2_nfa *nfa, uint32_t next)
{
	return emit_number(nfa, &(bounds) {.lo = -INFINITY,.hi = INFINITY}, false, next);
}

/* ---- values that the schema gives ---- */

uint32_t
g2_schema_quoted(g2_nfa *nfa, const char *s, uint32_t next)
{
	static const char escapes[] = "\"\"\\\\\bb\ff\nn\rr\tt";
	size_t		len = strlen(s);

	next = g2_nfa_string(nfa, "\"", next);
	while (len-- > 0)
	{
		const char *e = escapes;
		char		written[8];

		while (*e && *e != s[len])
			e += 2;
		if (*e)
			snprintf(written, sizeof written, "\\%c", e[1]);
		else if ((unsigned char) s[len] < 0x20)
			snprintf(written, sizeof written, "\\u%04x", (unsigned) (unsigned char) s[len]);
		else
			snprintf(written, sizeof written, "%c", s[len]);
		next = g2_nfa_string(nfa, written, next);
	}
	return g2_nfa_string(nfa, "\"", next);
}

/* The shortest of its decimal forms that says exactly the same. */
static uint32_t
emit_given_number(const g2_schema_node *node, double d, uint32_t next)
{
	char		written[64];

	if (!isfinite(d) || (d == floor(d) && fabs(d) > 9007199254740992.0))
		return g2_schema_fail(node, NULL, "Up to 2^53 they are.",
							  "a given number is so large that it is not exact");
	if (d == floor(d))
		snprintf(written, sizeof written, "%.0f", d == 0 ? 0.0 : d);
	else
		for (int digits = 1; digits <= 17; digits++)
		{
			snprintf(written, sizeof written, "%.*g", digits, d);
			if (strtod(written, NULL) == d)
				break;
		}
	return g2_nfa_string(node->schema->nfa, written, next);
}

/* Members or elements from the last to the first. */
static uint32_t
emit_given_list(const g2_schema_node *node, const cJSON *value, uint32_t next)
{
	g2_nfa	   *nfa = node->schema->nfa;
	bool		object = cJSON_IsObject(value);

	next = g2_nfa_string(nfa, object ? "}" : "]", next);
	if (value->child)
		for (const cJSON *item = value->child->prev;; item = item->prev)
		{
			next = g2_schema_value(node, item, next);
			if (object)
				next = g2_schema_quoted(nfa, item->string, g2_nfa_string(nfa, ":", next));
			if (item == value->child || nfa->failed)
				break;
			next = g2_nfa_string(nfa, ",", next);
		}
	return g2_nfa_string(nfa, object ? "{" : "[", next);
}

uint32_t
g2_schema_value(const g2_schema_node *node, const cJSON *value, uint32_t next)
{
	g2_nfa	   *nfa = node->schema->nfa;

	if (cJSON_IsString(value))
		return g2_schema_quoted(nfa, value->valuestring, next);
	if (cJSON_IsNumber(value))
		return emit_given_number(node, value->valuedouble, next);
	if (cJSON_IsBool(value))
		return g2_nfa_string(nfa, cJSON_IsTrue(value) ? "true" : "false", next);
	if (cJSON_IsNull(value))
		return g2_nfa_string(nfa, "null", next);
	return emit_given_list(node, value, next);
}
