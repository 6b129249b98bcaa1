/*
 * grammar_scalars.c: strings and numbers of JSON schemas, and values that they give.
 *
 * Numbers.  No number has more than 15 digits, 9 before a fraction and 6 in it: so many a double keeps
 * apart, which is what most readers of JSON have.  Those with a fraction are counted in millionths,
 * so that bounds of theirs are bounds of whole numbers.
 */
#include "grammar_schema.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "grammar_regex.h"

#define MOST_WHOLE 999999999999999.0
#define FRACTION_DIGITS 6
#define UNITS 1000000u			/* 10^FRACTION_DIGITS make a one */
#define MOST_UNITS 999999999999999.0	/* 9 digits before a fraction */

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

/* Fractions, whose last digit is not 0. */
typedef struct fraction
{
	g2_nfa	   *nfa;
	uint32_t	next;
	uint32_t	any[FRACTION_DIGITS + 1];	/* [k]: one to k digits, then next */
} fraction;

static void
make_fraction(g2_nfa *nfa, uint32_t next, fraction *f)
{
	g2_byte_set digits = {{0}},
				last = {{0}};
	uint32_t	end;

	g2_byte_set_add(&digits, '0', '9');
	g2_byte_set_add(&last, '1', '9');
	end = g2_nfa_bytes(nfa, &last, next);
	*f = (fraction) {.nfa = nfa,.next = next,.any = {G2_NFA_NONE, end}};
	for (int k = 2; k <= FRACTION_DIGITS; k++)
		f->any[k] = g2_nfa_split(nfa, end, g2_nfa_bytes(nfa, &digits, f->any[k - 1]));
}

/* One to k digits that, filled up with zeros to k of them, are a number from lo to hi; 0 < lo. */
static uint32_t
digits_between(const fraction *f, int k, uint32_t lo, uint32_t hi)
{
	uint32_t	place = 1,
				result = G2_NFA_NONE;

	for (int i = 1; i < k; i++)
		place *= 10;
	if (lo == 1 && hi == 10 * place - 1)
		return f->any[k];
	for (uint32_t digit = 0; digit <= 9; digit++)
	{
		uint32_t	from = digit * place,
					first = G2_MAX(lo, from),
					last = G2_MIN(hi, from + place - 1),
					rest = G2_NFA_NONE;
		g2_byte_set set = {{0}};

		if (first > last)
			continue;
		g2_byte_set_add(&set, '0' + digit, '0' + digit);
		if (last > from)
			rest = digits_between(f, k - 1, G2_MAX(first - from, 1u), last - from);
		if (digit > 0 && first == from)
			rest = g2_nfa_split(f->nfa, f->next, rest);
		result = g2_nfa_split(f->nfa, g2_nfa_bytes(f->nfa, &set, rest), result);
	}
	return result;
}

/* This whole part, and a fraction from lo to hi. */
static uint32_t
emit_part(const fraction *f, uint64_t whole, uint32_t lo, uint32_t hi)
{
	lo = G2_MAX(lo, 1u);
	return lo > hi ? G2_NFA_NONE :
		g2_nfa_numbers(f->nfa, whole, whole,
					   g2_nfa_string(f->nfa, ".", digits_between(f, FRACTION_DIGITS, lo, hi)));
}

/* The numbers with a fraction from lo to hi millionths; the bounds may be anything. */
static uint32_t
emit_units(const fraction *f, double lo, double hi)
{
	uint64_t	from = (uint64_t) fmax(lo, 1),
				to = (uint64_t) fmax(hi, 0),
				first = from / UNITS,	/* whole parts with any fraction */
				end = to / UNITS + 1;
	uint32_t	result = G2_NFA_NONE;

	if (from > to)
		return G2_NFA_NONE;
	if (first + 1 == end)
		return emit_part(f, first, from % UNITS, to % UNITS);
	if (from % UNITS > 1)
		result = emit_part(f, first++, from % UNITS, UNITS - 1);
	if (to % UNITS < UNITS - 1)
		result = g2_nfa_split(f->nfa, emit_part(f, --end, 1, to % UNITS), result);
	if (first < end)
		result = g2_nfa_split(f->nfa, g2_nfa_numbers(f->nfa, first, end - 1,
													 g2_nfa_string(f->nfa, ".",
																   f->any[FRACTION_DIGITS])),
							  result);
	return result;
}

/* The first number of millionths that is not below the bound, as doubles go. */
static double
first_unit(double bound, bool excluded)
{
	double		u;

	if (!(fabs(bound) <= MOST_UNITS / UNITS))
		return bound < 0 ? -MOST_UNITS : MOST_UNITS + 1;
	u = floor(bound * UNITS) - 1;
	while (u / UNITS < bound || (excluded && u / UNITS == bound))
		u++;
	return u;
}

static uint32_t
emit_number(g2_nfa *nfa, const bounds *b, bool integer, uint32_t next)
{
	/* The whole numbers within the bounds ... */
	double		least = b->lo_excluded ? floor(b->lo) + 1 : ceil(b->lo),
				most = b->hi_excluded ? ceil(b->hi) - 1 : floor(b->hi);
	uint32_t	positive = emit_whole(nfa, least, fmin(most, MOST_WHOLE), next),
				negative = emit_whole(nfa, fmax(-most, 1), fmin(-least, MOST_WHOLE), next);

	/* ... and the others. */
	if (!integer)
	{
		double		lo = first_unit(b->lo, b->lo_excluded),
					hi = -first_unit(-b->hi, b->hi_excluded);
		fraction	f;

		make_fraction(nfa, next, &f);
		positive = g2_nfa_split(nfa, positive, emit_units(&f, lo, fmin(hi, MOST_UNITS)));
		negative = g2_nfa_split(nfa, negative, emit_units(&f, -hi, fmin(-lo, MOST_UNITS)));
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
