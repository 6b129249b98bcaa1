/*
 * json.c: JSON from untrusted files.
 *
 * cJSON recurses, keeps repeated keys, cuts strings at \u0000 and is lenient in many small ways.
 * So every text is first read by the scanner of json_scan.c; cJSON sees nothing but what passed.
 * Repeated keys are found by sorting all keys.  Their hashes only save comparisons: keys that are
 * chosen to collide cost O(n log n) full ones, never O(n^2).
 *
 * The caller owns the text, which is never changed, and the tree that g2_json_parse returns.
 */
#include "json.h"

#include <math.h>
#include <stdlib.h>

#include "file.h"
#include "json_scan.h"

#define EXACT_DOUBLE 9007199254740992.0 /* 2^53 */

const char *
g2_json_excerpt(char buf[G2_JSON_EXCERPT], const char *s, size_t n)
{
	size_t		room = G2_JSON_EXCERPT - 4,
				len = 0;

	for (size_t i = 0; i < n;)
	{
		size_t		bytes = 1;

		while (bytes <= 4 && bytes <= n - i && g2_utf8_valid_prefix(s + i, bytes) != bytes)
			bytes++;
		if (len + (bytes > 4 ? 1 : bytes) > room)
		{
			memcpy(buf + len, "...", 3);
			len += 3;
			break;
		}
		if (bytes > 4 || bytes > n - i || (unsigned char) s[i] < 0x20 || s[i] == 0x7F)
		{
			buf[len++] = '?';
			i++;
			continue;
		}
		memcpy(buf + len, s + i, bytes);
		len += bytes;
		i += bytes;
	}
	buf[len] = '\0';
	return buf;
}

/* ---------------------------------------------------------------- keys */

static int
key_compare(const void *a, const void *b)
{
	const g2_scan_key *x = a,
			   *y = b;
	const char *p = x->raw,
			   *q = y->raw;
	int32_t		c,
				d;

	if (x->object != y->object)
		return x->object < y->object ? -1 : 1;
	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	do
	{
		c = g2_scan_char(&p);
		d = g2_scan_char(&q);
	} while (c == d && c >= 0);
	return c < d ? -1 : c > d;
}

static int
key_compare_place(const void *a, const void *b)
{
	int			order = key_compare(a, b);
	const char *p = ((const g2_scan_key *) a)->raw,
			   *q = ((const g2_scan_key *) b)->raw;

	return order ? order : p < q ? -1 : p > q;
}

/* Sorts the keys; names the first in the text that repeats an earlier one of its object. */
static bool
refuse_duplicates(g2_scan *s)
{
	const char *first = NULL;
	g2_buf		name = {0};
	char		excerpt[G2_JSON_EXCERPT];

	if (s->n_keys > 1)
		qsort(s->keys, s->n_keys, sizeof *s->keys, key_compare_place);
	for (size_t i = 1; i < s->n_keys; i++)
		if (key_compare(&s->keys[i - 1], &s->keys[i]) == 0 && (!first || s->keys[i].raw < first))
			first = s->keys[i].raw;
	if (!first)
		return true;
	if (!g2_scan_decode(&name, first))
		g2_fail_memory(s->err, name.len);
	else
		g2_fail(s->err, G2_E_BAD_JSON,
				"malformed JSON in \"%s\" at byte %zu: key \"%s\" occurs twice", s->path,
				(size_t) (first - 1 - s->text), g2_json_excerpt(excerpt, name.data, name.len));
	g2_buf_free(&name);
	return false;
}

/* ---------------------------------------------------------------- documents */

cJSON *
g2_json_parse(const char *path, const char *text, size_t len, bool no_duplicates, g2_error *err)
{
	g2_scan		s = {.path = path, .text = text, .len = len, .err = err,
	.keep_keys = no_duplicates};
	size_t		start;
	cJSON	   *tree;
	bool		ok;

	ok = g2_scan_begin(&s);
	start = s.pos;
	ok = ok && g2_scan_value(&s) && g2_scan_end(&s) && refuse_duplicates(&s);
	g2_free(s.keys);
	if (!ok)
		return NULL;
	tree = cJSON_ParseWithLengthOpts(text + start, len - start, NULL, false);
	if (!tree)
		g2_fail_memory(err, len);	/* the text is right, so nothing else is left */
	return tree;
}

/* ---------------------------------------------------------------- members */

/*
 * Looks a member up.  False with err filled: object is none.  *item is NULL where the member is
 * missing or null.
 */
static bool
member(const cJSON *object, const char *path, const char *key, const cJSON **item, g2_error *err)
{
	*item = NULL;
	if (!cJSON_IsObject(object))
		return g2_fail(err, G2_E_BAD_JSON, "\"%s\" in \"%s\" is not in a JSON object", key, path);
	*item = cJSON_GetObjectItemCaseSensitive(object, key);
	if (cJSON_IsNull(*item))
		*item = NULL;
	return true;
}

bool
g2_json_read(const char *folder, const char *name, size_t max_bytes, cJSON **json, g2_error *err)
{
	g2_buf		text = {0};
	char	   *path;
	bool		ok;

	if (!g2_file_exists(folder, name))
		return true;
	path = g2_file_path(folder, name);
	ok = path ? g2_file_read(folder, name, max_bytes, &text, err)
		: g2_fail_memory(err, strlen(folder));
	if (ok)
	{
		*json = g2_json_parse(g2_file_tail(path), text.data, text.len, true, err);
		ok = *json != NULL;
	}
	if (ok && !cJSON_IsObject(*json))
	{
		cJSON_Delete(*json);
		*json = NULL;
		ok = g2_fail(err, G2_E_BAD_JSON, "\"%s\" must hold a JSON object", g2_file_tail(path));
	}
	g2_buf_free(&text);
	g2_free(path);
	return ok;
}

bool
g2_json_int(const cJSON *object, const char *path, const char *key, int64_t lo, int64_t hi,
			bool has_fallback, int64_t fallback, int64_t *out, g2_error *err)
{
	const cJSON *item;
	double		value;

	if (!member(object, path, key, &item, err))
		return false;
	if (!item && has_fallback)
	{
		*out = fallback;
		return true;
	}
	if (!item)
		return g2_fail(err, G2_E_BAD_JSON, "\"%s\" is missing in \"%s\"", key, path);
	value = item->valuedouble;
	/* the range of exact doubles first, so that the conversion is defined */
	if (!cJSON_IsNumber(item) || !(fabs(value) < EXACT_DOUBLE) || value != trunc(value) ||
		(int64_t) value < lo || (int64_t) value > hi)
		return g2_fail(err, G2_E_BAD_JSON,
					   "\"%s\" in \"%s\" must be an integer from %lld to %lld", key, path,
					   (long long) lo, (long long) hi);
	*out = (int64_t) value;
	return true;
}

bool
g2_json_double(const cJSON *object, const char *path, const char *key, double lo, double hi,
			   bool has_fallback, double fallback, double *out, g2_error *err)
{
	const cJSON *item;

	if (!member(object, path, key, &item, err))
		return false;
	if (!item && has_fallback)
	{
		*out = fallback;
		return true;
	}
	if (!item)
		return g2_fail(err, G2_E_BAD_JSON, "\"%s\" is missing in \"%s\"", key, path);
	if (!cJSON_IsNumber(item) || !isfinite(item->valuedouble) || item->valuedouble < lo ||
		item->valuedouble > hi)
		return g2_fail(err, G2_E_BAD_JSON, "\"%s\" in \"%s\" must be a number from %g to %g", key,
					   path, lo, hi);
	*out = item->valuedouble;
	return true;
}

bool
g2_json_bool(const cJSON *object, const char *path, const char *key, bool fallback, bool *out,
			 g2_error *err)
{
	const cJSON *item;

	if (!member(object, path, key, &item, err))
		return false;
	if (item && !cJSON_IsBool(item))
		return g2_fail(err, G2_E_BAD_JSON, "\"%s\" in \"%s\" must be true or false", key, path);
	*out = item ? cJSON_IsTrue(item) : fallback;
	return true;
}

bool
g2_json_string(const cJSON *object, const char *path, const char *key, const char **out,
			   g2_error *err)
{
	const cJSON *item;

	if (!member(object, path, key, &item, err))
		return false;
	if (item && !cJSON_IsString(item))
		return g2_fail(err, G2_E_BAD_JSON, "\"%s\" in \"%s\" must be a string", key, path);
	*out = item ? item->valuestring : NULL;
	return true;
}
