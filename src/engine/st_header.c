/*
 * st_header.c: the entries of a safetensors header.
 *
 * Each is checked as soon as it is complete, then what needs all of them: no name twice, data
 * without overlaps or holes up to the end of the file.
 */
#include "st_header.h"

#include <stdio.h>
#include <stdlib.h>

#define ST_NAME_CHUNK (64u << 10)

/* Names live in chunks that never move. */
struct st_chunk
{
	st_chunk   *next;
	size_t		used;
	char		data[ST_NAME_CHUNK];
};

static const struct
{
	const char *name;
	g2_dtype	dtype;
	uint32_t	bits;
}			dtypes[] = {
	{"F32", G2_DTYPE_F32, 32}, {"F16", G2_DTYPE_F16, 16}, {"BF16", G2_DTYPE_BF16, 16},
	{"F64", G2_DTYPE_OTHER, 64}, {"I64", G2_DTYPE_OTHER, 64}, {"U64", G2_DTYPE_OTHER, 64},
	{"C64", G2_DTYPE_OTHER, 64}, {"I32", G2_DTYPE_OTHER, 32}, {"U32", G2_DTYPE_OTHER, 32},
	{"I16", G2_DTYPE_OTHER, 16}, {"U16", G2_DTYPE_OTHER, 16}, {"I8", G2_DTYPE_OTHER, 8},
	{"U8", G2_DTYPE_OTHER, 8}, {"BOOL", G2_DTYPE_OTHER, 8}, {"F8_E4M3", G2_DTYPE_OTHER, 8},
	{"F8_E5M2", G2_DTYPE_OTHER, 8}, {"F8_E8M0", G2_DTYPE_OTHER, 8},
	{"F6_E2M3", G2_DTYPE_OTHER, 6}, {"F6_E3M2", G2_DTYPE_OTHER, 6}, {"F4", G2_DTYPE_OTHER, 4},
};

/* ---------------------------------------------------------------- the header's entries */

static const char *
st_keep_name(g2_safetensors *st, const char *name, g2_error *err)
{
	size_t		n = strlen(name) + 1;
	char	   *to;

	if (!st->names || ST_NAME_CHUNK - st->names->used < n)
	{
		st_chunk   *chunk = g2_alloc(sizeof *chunk);

		if (!chunk)
		{
			g2_fail_memory(err, sizeof *chunk);
			return NULL;
		}
		chunk->next = st->names;
		st->names = chunk;
	}
	to = st->names->data + st->names->used;
	st->names->used += n;
	return memcpy(to, name, n);
}

static bool
st_parse_dtype(st_scan *s, g2_tensor *t, uint32_t *bits)
{
	char		name[16];
	uint64_t	at;

	g2_st_scan_token(s);
	at = g2_st_scan_at(s);
	if (!g2_st_scan_string(s, name, sizeof name))
		return false;
	for (size_t i = 0; i < G2_LENGTH(dtypes); i++)
		if (strcmp(name, dtypes[i].name) == 0)
		{
			t->dtype = dtypes[i].dtype;
			t->dtype_name = dtypes[i].name;
			*bits = dtypes[i].bits;
			return true;
		}
	return g2_st_scan_fail_at(s, at, "unknown dtype \"%s\"", name);
}

/* An array of at most max whole numbers. */
static bool
st_parse_numbers(st_scan *s, const char *what, uint64_t *value, uint32_t max, uint32_t *n)
{
	bool		more = true;

	*n = 0;
	if (!g2_st_scan_take(s, '['))
		return false;
	if (g2_st_scan_token(s) == ']')
	{
		s->p++;
		return true;
	}
	while (more)
	{
		if (*n == max)
			return g2_st_scan_fail(s, "%s has more than %u numbers", what, max);
		if (!g2_st_scan_uint(s, what, &value[*n]) || !g2_st_scan_next(s, ']', &more))
			return false;
		(*n)++;
	}
	return true;
}

/* Offsets against the file, shape and dtype against the offsets. */
static bool
st_check_tensor(st_scan *s, const g2_safetensors *st, const g2_tensor *t, uint32_t bits,
				uint64_t at)
{
	uint64_t	data = st->file_size - st->data_begin,
				size = 1;

	if (t->begin > t->end)
		return g2_st_scan_fail_at(s, at, "data_offsets begin (%llu) is behind end (%llu)",
								  (unsigned long long) t->begin, (unsigned long long) t->end);
	if (t->end > data)
		return g2_st_scan_fail_short(s, at, "data_offsets end (%llu) is behind the end of the "
									 "data (%llu)", (unsigned long long) t->end,
									 (unsigned long long) data);
	for (uint32_t i = 0; i < t->rank; i++)
		if (__builtin_mul_overflow(size, t->shape[i], &size))
			return g2_st_scan_fail_at(s, at, "the product of the shape is too large");
	if (__builtin_mul_overflow(size, bits, &size) || size % 8 != 0)
		return g2_st_scan_fail_at(s, at, "the product of the shape is too large");
	if (size / 8 != t->end - t->begin)
		return g2_st_scan_fail_at(s, at, "shape and dtype %s make %llu bytes, data_offsets %llu",
								  t->dtype_name, (unsigned long long) size / 8,
								  (unsigned long long) (t->end - t->begin));
	return true;
}

/* {"dtype":…,"shape":[…],"data_offsets":[b,e]} in any order, each key once. */
static bool
st_parse_tensor(st_scan *s, const g2_safetensors *st, g2_tensor *t, uint64_t at)
{
	enum
	{
		DTYPE = 1, SHAPE = 2, OFFSETS = 4, ALL = 7
	};
	unsigned	seen = 0,
				key;
	uint32_t	bits = 0,
				n;
	uint64_t	offsets[2],
				key_at;
	char		name[16];
	bool		more = true;

	if (!g2_st_scan_take(s, '{'))
		return false;
	if (g2_st_scan_token(s) == '}')
		return g2_st_scan_fail(s, "dtype, shape and data_offsets are missing");
	while (more)
	{
		g2_st_scan_token(s);
		key_at = g2_st_scan_at(s);
		if (!g2_st_scan_string(s, name, sizeof name))
			return false;
		key = strcmp(name, "dtype") == 0 ? DTYPE : strcmp(name, "shape") == 0 ? SHAPE
			: strcmp(name, "data_offsets") == 0 ? OFFSETS : 0;
		if (!key)
			return g2_st_scan_fail_at(s, key_at, "unknown key \"%s\"", name);
		if (seen & key)
			return g2_st_scan_fail_at(s, key_at, "key \"%s\" occurs twice", name);
		seen |= key;
		if (!g2_st_scan_take(s, ':'))
			return false;
		if (key == DTYPE && !st_parse_dtype(s, t, &bits))
			return false;
		if (key == SHAPE && !st_parse_numbers(s, name, t->shape, G2_ST_MAX_RANK, &t->rank))
			return false;
		if (key == OFFSETS)
		{
			if (!st_parse_numbers(s, name, offsets, 2, &n))
				return false;
			if (n != 2)
				return g2_st_scan_fail(s, "data_offsets must hold two numbers");
			t->begin = offsets[0];
			t->end = offsets[1];
		}
		if (!g2_st_scan_next(s, '}', &more))
			return false;
	}
	if (seen != ALL)
		return g2_st_scan_fail(s, "%s is missing", !(seen & DTYPE) ? "dtype"
							   : !(seen & SHAPE) ? "shape" : "data_offsets");
	return st_check_tensor(s, st, t, bits, at);
}

/* Strings to strings; of no use here, so that only the syntax is checked. */
static bool
st_parse_metadata(st_scan *s)
{
	bool		more = true;

	if (!g2_st_scan_take(s, '{'))
		return false;
	if (g2_st_scan_token(s) == '}')
	{
		s->p++;
		return true;
	}
	while (more)
		if (!g2_st_scan_string(s, NULL, 0) || !g2_st_scan_take(s, ':') ||
			(g2_st_scan_token(s), !g2_st_scan_string(s, NULL, 0)) ||
			!g2_st_scan_next(s, '}', &more))
			return false;
	return true;
}

static bool
st_add(st_scan *s, g2_safetensors *st, const char *name, uint64_t at)
{
	st_entry   *e;

	if (st->n == G2_ST_MAX_TENSORS)
		return g2_st_scan_fail_at(s, at, "more than %d tensors", G2_ST_MAX_TENSORS);
	if (st->n == st->cap)
	{
		uint32_t	cap = st->cap ? 2 * st->cap : 64;
		st_entry   *grown = g2_realloc_array(st->entries, cap, sizeof *grown);

		if (!grown)
			return g2_fail_memory(s->err, cap * sizeof *grown);
		st->entries = grown;
		st->cap = cap;
	}
	e = &st->entries[st->n];
	memset(e, 0, sizeof *e);
	e->at = at;
	e->tensor.name = st_keep_name(st, name, s->err);
	if (!e->tensor.name)
		return false;
	/* for messages; cut at a character */
	snprintf(s->tensor, sizeof s->tensor, "%s", name);
	s->tensor[g2_utf8_valid_prefix(s->tensor, strlen(s->tensor))] = '\0';
	if (!st_parse_tensor(s, st, &e->tensor, at))
		return false;
	s->tensor[0] = '\0';
	st->n++;
	return true;
}

static bool
st_parse_entries(st_scan *s, g2_safetensors *st)
{
	char		name[G2_ST_MAX_NAME + 1];
	bool		more = true,
				metadata = false;

	if (g2_st_scan_peek(s) != '{')
		return g2_st_scan_fail(s, "the header does not start with \"{\"");
	s->p++;
	if (g2_st_scan_token(s) == '}')
	{
		s->p++;
		more = false;
	}
	while (more)
	{
		uint64_t	at;

		g2_st_scan_token(s);
		at = g2_st_scan_at(s);
		if (!g2_st_scan_string(s, name, sizeof name) || !g2_st_scan_take(s, ':'))
			return false;
		if (strcmp(name, "__metadata__") == 0)
		{
			if (metadata)
				return g2_st_scan_fail_at(s, at, "key \"__metadata__\" occurs twice");
			metadata = true;
			g2_st_scan_token(s);
			if (!st_parse_metadata(s))
				return false;
		}
		else if (!st_add(s, st, name, at))
			return false;
		if (!g2_st_scan_next(s, '}', &more))
			return false;
	}
	if (g2_st_scan_token(s) >= 0)
		return g2_st_scan_fail(s, "bytes behind the header's object");
	return !s->failed;
}

/* ---------------------------------------------------------------- what needs all entries */

static int
st_compare_data(const void *a, const void *b)
{
	const st_entry *x = a,
			   *y = b;

	if (x->tensor.begin != y->tensor.begin)
		return x->tensor.begin < y->tensor.begin ? -1 : 1;
	if (x->tensor.end != y->tensor.end)
		return x->tensor.end < y->tensor.end ? -1 : 1;
	return x->at < y->at ? -1 : x->at > y->at;
}

static int
st_compare_name(const void *a, const void *b, void *arg)
{
	const st_entry *e = arg,
			   *x = &e[*(const uint32_t *) a],
			   *y = &e[*(const uint32_t *) b];
	int			order = strcmp(x->tensor.name, y->tensor.name);

	return order ? order : x->at < y->at ? -1 : x->at > y->at;
}

static bool
st_finish(st_scan *s, g2_safetensors *st)
{
	uint64_t	at = 0;

	if (st->n > 1)
		qsort(st->entries, st->n, sizeof *st->entries, st_compare_data);
	st->by_name = g2_alloc_array(st->n, sizeof *st->by_name);
	if (!st->by_name)
		return g2_fail_memory(s->err, st->n * sizeof *st->by_name);
	for (uint32_t i = 0; i < st->n; i++)
		st->by_name[i] = i;
	if (st->n > 1)
		qsort_r(st->by_name, st->n, sizeof *st->by_name, st_compare_name, st->entries);
	for (uint32_t i = 1; i < st->n; i++)
	{
		const st_entry *e = &st->entries[st->by_name[i]];
		char		excerpt[80];

		snprintf(excerpt, sizeof excerpt, "%s", e->tensor.name);
		excerpt[g2_utf8_valid_prefix(excerpt, strlen(excerpt))] = '\0';
		if (strcmp(e->tensor.name, st->entries[st->by_name[i - 1]].tensor.name) == 0)
			return g2_st_scan_fail_at(s, e->at, "tensor \"%s\" occurs twice", excerpt);
	}
	for (uint32_t i = 0; i < st->n; i++)
	{
		st_entry   *e = &st->entries[i];

		if (e->tensor.begin != at)
		{
			snprintf(s->tensor, sizeof s->tensor, "%s", e->tensor.name);
			s->tensor[g2_utf8_valid_prefix(s->tensor, strlen(s->tensor))] = '\0';
			return g2_st_scan_fail_at(s, e->at, "its data %s (begin %llu, expected %llu)",
									  e->tensor.begin < at ? "overlap another tensor's"
									  : "start behind a hole",
									  (unsigned long long) e->tensor.begin,
									  (unsigned long long) at);
		}
		at = e->tensor.end;
		e->tensor.begin += st->data_begin;
		e->tensor.end += st->data_begin;
	}
	if (at != st->file_size - st->data_begin)
		return g2_st_scan_fail_at(s, st->data_begin + at, "%llu bytes belong to no tensor",
								  (unsigned long long) (st->file_size - st->data_begin - at));
	return true;
}

/* ---------------------------------------------------------------- all of it */

bool
g2_st_read_entries(st_scan *s, g2_safetensors *st)
{
	return st_parse_entries(s, st) && st_finish(s, st);
}

void
g2_st_free_entries(g2_safetensors *st)
{
	while (st->names)
	{
		st_chunk   *next = st->names->next;

		g2_free(st->names);
		st->names = next;
	}
	g2_free(st->by_name);
	g2_free(st->entries);
}
