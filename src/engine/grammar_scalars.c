/*
 * grammar_scalars.c: strings and numbers of JSON schemas, and values that they give.
 *
 * Numbers.  A bound of a number that has a fraction is one of its whole part: where lo <= n and
 * n + 1 <= hi, n may have any fraction but zero; likewise below zero.  So what is made is within
 * the bounds, and a whole part at a bound has no fraction.  No number has more than 15 digits: so
 * many a double keeps apart, which is what most readers of JSON have.
 */
#include "grammar_schema.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "grammar_regex.h"

#define MOST_WHOLE 999999999999999.0
#define MOST_BEFORE 999999999.0	/* before a fraction */
#define FRACTION_DIGITS 6

/* ---- strings ---- */

typedef struct characters
{
	g2_nfa	   *nfa;
} characters;

static uint32_t
emit_character(void *arg, uint32_t next)
{
	static const g2_char_range all = {1, G2_MAX_CHAR};

	return g2_nfa_chars(((characters *) arg)->nfa, &all, 1, G2_CHARS_JSON, next);
}

static uint32_t
emit_string(g2_nfa *nfa, uint32_t least, uint32_t most, uint32_t next)
{
	characters	c = {nfa};
	uint32_t	end = g2_nfa_string(nfa, "\"", next);

	return g2_nfa_string(nfa, "\"", g2_nfa_repeat(nfa, emit_character, &c, least, most, end));
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

/* A point and digits, the last of which is not 0. */
static uint32_t
emit_fraction(g2_nfa *nfa, uint32_t next)
{
	g2_byte_set digits = {{0}},
				last = {{0}};
	uint32_t	rest;

	g2_byte_set_add(&digits, '0', '9');
	g2_byte_set_add(&last, '1', '9');
	next = g2_nfa_bytes(nfa, &last, next);
	rest = next;
	for (int i = 1; i < FRACTION_DIGITS; i++)
		rest = g2_nfa_split(nfa, next, g2_nfa_bytes(nfa, &digits, rest));
	return g2_nfa_string(nfa, ".", rest);
}

static uint32_t
emit_number(g2_nfa *nfa, const bounds *b, bool integer, uint32_t next)
{
	/* The whole numbers within the bounds ... */
	double		least = b->lo_excluded ? floor(b->lo) + 1 : ceil(b->lo),
				most = b->hi_excluded ? ceil(b->hi) - 1 : floor(b->hi);
	uint32_t	positive = emit_whole(nfa, least, fmin(most, MOST_WHOLE), next),
				negative = emit_whole(nfa, fmax(-most, 1), fmin(-least, MOST_WHOLE), next),
				fraction;

	/* ... and those behind which any fraction is. */
	if (!integer)
	{
		fraction = emit_fraction(nfa, next);
		positive = g2_nfa_split(nfa, positive,
								emit_whole(nfa, ceil(b->lo), fmin(floor(b->hi) - 1, MOST_BEFORE),
										   fraction));
		negative = g2_nfa_split(nfa, negative,
								emit_whole(nfa, ceil(-b->hi),
										   fmin(floor(-b->lo) - 1, MOST_BEFORE), fraction));
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
