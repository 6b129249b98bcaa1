/*
 * json_slice.c: large JSON texts without a tree in memory.
 *
 * A text is checked once as a whole; a slice of it is one value, which is walked by the scanner
 * again, member by member or element by element.  What is small becomes a tree of cJSON.
 */
#include "json_slice.h"

#include "json_scan.h"

#define MAX_VALUES (1 << 23)	/* of a whole text: a bound on time, as nothing is kept of them */

/* A scan of the slice, at its start. */
static g2_scan
scan_of(const g2_json_slice *slice, g2_error *err)
{
	return (g2_scan) {.path = slice->path,.text = slice->text,.len = slice->end,
		.pos = slice->begin,.max_values = MAX_VALUES,.err = err};
}

bool
g2_json_whole(const char *path, const char *text, size_t len, g2_json_slice *out, g2_error *err)
{
	g2_scan		s = {.path = path,.text = text,.len = len,.max_values = MAX_VALUES,.err = err};

	*out = (g2_json_slice) {.path = path,.text = text,.end = len};
	if (!g2_scan_begin(&s))
		return false;
	out->begin = s.pos;
	return g2_scan_value(&s) && g2_scan_end(&s);
}

/* A comma (then *more = true) or the closing bracket; both are taken. */
static bool
scan_next(g2_scan *s, int closer, bool *more)
{
	int			c = g2_scan_peek(s);

	*more = c == ',';
	if (c != ',' && c != closer)
		return g2_scan_fail(s, s->pos, c < 0 ? "unexpected end"
							: "comma or closing bracket expected");
	s->pos++;
	return true;
}

/* The opening bracket; *more: the value is not empty, otherwise the closing one is taken too. */
static bool
scan_open(g2_scan *s, int opener, bool *more)
{
	if (g2_scan_peek(s) != opener)
		return g2_scan_fail(s, s->pos, opener == '{' ? "object expected" : "array expected");
	s->pos++;
	*more = g2_scan_peek(s) != (opener == '{' ? '}' : ']');
	if (!*more)
		s->pos++;
	return true;
}

/* A value at the next place, as a slice. */
static bool
scan_slice(g2_scan *s, g2_json_slice *value)
{
	(void) g2_scan_peek(s);
	*value = (g2_json_slice) {.path = s->path,.text = s->text,.begin = s->pos};
	if (!g2_scan_value(s))
		return false;
	value->end = s->pos;
	return true;
}

/* Key and colon of a member; its decoded key in key, its offset in *offset. */
static bool
scan_key(g2_scan *s, g2_buf *key, size_t *offset)
{
	const char *raw;

	key->len = 0;
	if (!g2_scan_member(s, 0, &raw))
		return false;
	*offset = (size_t) (raw - 1 - s->text);
	/* the reservation gives even an empty key a pointer */
	if (!g2_buf_reserve(key, 1) || !g2_scan_decode(key, raw))
		return g2_fail_memory(s->err, key->len);
	return true;
}

bool
g2_json_each_member(const g2_json_slice *object, g2_json_member_fn fn, void *arg, g2_error *err)
{
	g2_scan		s = scan_of(object, err);
	g2_buf		key = {0};
	size_t		offset;
	bool		more,
				ok = scan_open(&s, '{', &more);

	while (ok && more)
	{
		g2_json_slice value;

		ok = scan_key(&s, &key, &offset) && scan_slice(&s, &value) &&
			fn(arg, key.data, key.len, &value, err) && scan_next(&s, '}', &more);
	}
	g2_buf_free(&key);
	return ok;
}

bool
g2_json_each_element(const g2_json_slice *array, g2_json_element_fn fn, void *arg, g2_error *err)
{
	g2_scan		s = scan_of(array, err);
	bool		more,
				ok = scan_open(&s, '[', &more);

	for (size_t i = 0; ok && more; i++)
	{
		g2_json_slice value;

		ok = scan_slice(&s, &value) && fn(arg, i, &value, err) && scan_next(&s, ']', &more);
	}
	return ok;
}

bool
g2_json_slice_string(const g2_json_slice *value, g2_buf *out, g2_error *err)
{
	g2_scan		s = scan_of(value, err);

	out->len = 0;
	if (s.text[s.pos] != '"')
		return g2_scan_fail(&s, s.pos, "string expected");
	if (!g2_buf_reserve(out, 1) || !g2_scan_decode(out, s.text + s.pos + 1))
		return g2_fail_memory(err, out->len);
	return true;
}

cJSON *
g2_json_slice_tree(const g2_json_slice *value, g2_error *err)
{
	return g2_json_parse(value->path, value->text + value->begin, value->end - value->begin, true,
						 err);
}

/* ---------------------------------------------------------------- integers */

/* Digits that g2_scan_number accepted as an integer. */
static int64_t
integer_value(const char *p, const char *end)
{
	bool		negative = *p == '-';
	int64_t		value = 0;

	for (p += negative; p < end; p++)
		if (__builtin_mul_overflow(value, 10, &value) ||
			__builtin_sub_overflow(value, *p - '0', &value))
			return negative ? INT64_MIN : INT64_MAX;
	/* counted downwards, as INT64_MIN has no positive counterpart */
	return negative ? value : value == INT64_MIN ? INT64_MAX : -value;
}

static bool
scan_integer(g2_scan *s, int64_t *value)
{
	int			c = g2_scan_peek(s);
	size_t		start = s->pos;
	bool		integer;

	if (c != '-' && (c < '0' || c > '9'))
		return g2_scan_fail(s, start, "integer expected");
	if (!g2_scan_number(s, &integer))
		return false;
	if (!integer)
		return g2_scan_fail(s, start, "integer expected");
	*value = integer_value(s->text + start, s->text + s->pos);
	return true;
}

static bool
each_int(g2_scan *s, g2_json_int_entry entry, void *arg)
{
	g2_buf		key = {0};
	size_t		offset;
	int64_t		value = 0;
	bool		more,
				ok = scan_open(s, '{', &more);

	while (ok && more)
		ok = scan_key(s, &key, &offset) && scan_integer(s, &value) &&
			entry(arg, key.data, key.len, value, offset, s->err) && scan_next(s, '}', &more);
	g2_buf_free(&key);
	return ok;
}

bool
g2_json_slice_ints(const g2_json_slice *object, g2_json_int_entry entry, void *arg, g2_error *err)
{
	g2_scan		s = scan_of(object, err);

	return each_int(&s, entry, arg);
}

bool
g2_json_each_int(const char *path, const char *text, size_t len, g2_json_int_entry entry,
				 void *arg, g2_error *err)
{
	g2_scan		s = {.path = path,.text = text,.len = len,.err = err};

	return g2_scan_begin(&s) && each_int(&s, entry, arg) && g2_scan_end(&s);
}
