/*
 * unicode.c: normalization of texts, over utf8proc's tables.
 *
 * A part of the text is an array of code points, which each step changes: in place where it only
 * drops or replaces, into the other of two arrays where it may grow.  No step but the first of
 * them sees invalid bytes.
 */
#include "unicode.h"

#include <utf8proc.h>

#define PART 4096				/* characters, from which on a part ends where it can */
#define PART_MAX (1u << 18)		/* where it ends anyway */
#define REPLACEMENT 0xFFFD

typedef struct points
{
	int32_t    *data;
	size_t		len;
	size_t		cap;
} points;

typedef struct normalizer
{
	const g2_tok_step *steps;
	uint32_t	n_steps;
	points		now;
	points		next;			/* scratch of steps that may grow */
	bool		at_start;		/* of the text */
	g2_error   *err;
} normalizer;

static bool
in_ranges(uint32_t c, const uint32_t (*ranges)[2], size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (c >= ranges[i][0] && c <= ranges[i][1])
			return true;
	return false;
}

bool
g2_is_cjk(uint32_t c)
{
	static const uint32_t ranges[][2] = {
		{0x4E00, 0x9FFF}, {0x3400, 0x4DBF}, {0x20000, 0x2A6DF}, {0x2A700, 0x2B73F},
		{0x2B740, 0x2B81F}, {0x2B820, 0x2CEAF}, {0xF900, 0xFAFF}, {0x2F800, 0x2FA1F},
	};

	return c >= 0x3400 && in_ranges(c, ranges, G2_LENGTH(ranges));
}

bool
g2_is_wide(uint32_t c)
{
	/* quotation marks, dashes and dots that Chinese shares with others; symbols, kana and
	 * bopomofo; ideographs of later planes; compatibility and full-width forms */
	static const uint32_t ranges[][2] = {
		{0x2014, 0x2015}, {0x2018, 0x2019}, {0x201C, 0x201D}, {0x2025, 0x2026}, {0x2E80, 0x312F},
		{0x31A0, 0x33FF}, {0x2A6E0, 0x323AF}, {0xFE10, 0xFE1F}, {0xFE30, 0xFE6F}, {0xFF00, 0xFFEF},
	};

	return c >= 0x2014 && (g2_is_cjk(c) || in_ranges(c, ranges, G2_LENGTH(ranges)));
}

/* ---------------------------------------------------------------- code points */

static bool
reserve(points *p, size_t more, g2_error *err)
{
	size_t		cap = G2_MAX(p->len + more, p->cap * 2);
	int32_t    *data;

	if (more <= p->cap - p->len)
		return true;
	data = g2_realloc_array(p->data, cap, sizeof *data);
	if (!data)
		return g2_fail_memory(err, cap * sizeof *data);
	p->data = data;
	p->cap = cap;
	return true;
}

static bool
push(points *p, int32_t c, g2_error *err)
{
	if (!reserve(p, 1, err))
		return false;
	p->data[p->len++] = c;
	return true;
}

/* A step into the other array has ended. */
static void
swap(normalizer *n)
{
	points		old = n->now;

	n->now = n->next;
	n->next = old;
	n->next.len = 0;
}

/* ---------------------------------------------------------------- steps */

static bool
is_space(int32_t c)
{
	utf8proc_category_t category = utf8proc_category(c);

	return (c >= 0x09 && c <= 0x0D) || c == 0x85 || category == UTF8PROC_CATEGORY_ZS ||
		category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP;
}

/* BERT's clean_text keeps three control characters, as white space. */
static bool
is_dropped(int32_t c)
{
	utf8proc_category_t category = utf8proc_category(c);

	if (c == '\t' || c == '\n' || c == '\r')
		return false;
	return c == 0 || c == REPLACEMENT || category == UTF8PROC_CATEGORY_CC ||
		category == UTF8PROC_CATEGORY_CF || category == UTF8PROC_CATEGORY_CO;
}

static void
clean(points *p)
{
	size_t		to = 0;

	for (size_t i = 0; i < p->len; i++)
		if (!is_dropped(p->data[i]))
			p->data[to++] = is_space(p->data[i]) ? ' ' : p->data[i];
	p->len = to;
}

/* Without nonspacing marks; with all, without spacing and enclosing ones too. */
static void
drop_marks(points *p, bool all)
{
	size_t		to = 0;

	for (size_t i = 0; i < p->len; i++)
	{
		utf8proc_category_t category = utf8proc_category(p->data[i]);

		if (category != UTF8PROC_CATEGORY_MN &&
			!(all && (category == UTF8PROC_CATEGORY_MC || category == UTF8PROC_CATEGORY_ME)))
			p->data[to++] = p->data[i];
	}
	p->len = to;
}

static bool
part_cjk(normalizer *n)
{
	for (size_t i = 0; i < n->now.len; i++)
	{
		int32_t		c = n->now.data[i];

		if (!reserve(&n->next, 3, n->err))
			return false;
		if (g2_is_cjk((uint32_t) c))
			n->next.data[n->next.len++] = ' ';
		n->next.data[n->next.len++] = c;
		if (g2_is_cjk((uint32_t) c))
			n->next.data[n->next.len++] = ' ';
	}
	swap(n);
	return true;
}

/* Of all characters only U+0130 becomes two. */
static bool
lower(normalizer *n)
{
	for (size_t i = 0; i < n->now.len; i++)
	{
		int32_t		c = n->now.data[i];

		if (!push(&n->next, c == 0x130 ? 'i' : utf8proc_tolower(c), n->err) ||
			(c == 0x130 && !push(&n->next, 0x307, n->err)))
			return false;
	}
	swap(n);
	return true;
}

static inline uint32_t
class_of(int32_t c)
{
	return (uint32_t) utf8proc_get_property(c)->combining_class;
}

/* Sorts run[0..len) by class, equal ones as they are.  A text may be all marks, so this counts. */
static void
sort_marks(int32_t *run, size_t len, int32_t *scratch)
{
	size_t		at[257] = {0};

	for (size_t i = 0; i < len; i++)
		at[class_of(run[i]) + 1]++;
	for (int class = 0; class < 256; class++)
		at[class + 1] += at[class];
	for (size_t i = 0; i < len; i++)
		scratch[at[class_of(run[i])]++] = run[i];
	memcpy(run, scratch, len * sizeof *run);
}

/* Between two characters of class 0 the marks stand in the order of their classes. */
static bool
reorder(normalizer *n)
{
	points	   *p = &n->now;
	size_t		start = 0;
	bool		sorted = true;

	if (!reserve(&n->next, p->len, n->err))
		return false;
	for (size_t i = 0; i <= p->len; i++)
	{
		uint32_t	class = i < p->len ? class_of(p->data[i]) : 0;

		if (class > 0)
		{
			sorted = sorted && (i == start || class_of(p->data[i - 1]) <= class);
			continue;
		}
		if (!sorted)
			sort_marks(p->data + start, i - start, n->next.data);
		start = i + 1;
		sorted = true;
	}
	return true;
}

static bool
decompose(normalizer *n, bool compatible, bool compose)
{
	utf8proc_option_t options = UTF8PROC_DECOMPOSE | UTF8PROC_STABLE |
	(compatible ? UTF8PROC_COMPAT : 0);

	for (size_t i = 0; i < n->now.len; i++)
	{
		int			boundary = 0;
		utf8proc_ssize_t made;

		if (!reserve(&n->next, 32, n->err))
			return false;
		made = utf8proc_decompose_char(n->now.data[i], n->next.data + n->next.len, 32, options,
									   &boundary);
		if (made < 0 || made > 32)
			return g2_fail(n->err, G2_E_INTERNAL, "utf8proc cannot decompose U+%04X",
						   (unsigned) n->now.data[i]);
		n->next.len += (size_t) made;
	}
	swap(n);
	if (!reorder(n))
		return false;
	if (compose && n->now.len > 0)
	{
		utf8proc_ssize_t len = utf8proc_normalize_utf32(n->now.data, (utf8proc_ssize_t) n->now.len,
														UTF8PROC_COMPOSE | UTF8PROC_STABLE);

		if (len < 0)
			return g2_fail(n->err, G2_E_INTERNAL, "utf8proc cannot compose a text");
		n->now.len = (size_t) len;
	}
	return true;
}

static bool
lead_space(normalizer *n)
{
	if (!n->at_start || n->now.len == 0 || n->now.data[0] == ' ')
		return true;
	if (!reserve(&n->now, 1, n->err))
		return false;
	memmove(n->now.data + 1, n->now.data, n->now.len++ * sizeof *n->now.data);
	n->now.data[0] = ' ';
	return true;
}

static bool
apply(normalizer *n, uint32_t op)
{
	switch (op)
	{
		case G2_STEP_LEAD_SPACE:
			return lead_space(n);
		case G2_STEP_CLEAN:
			clean(&n->now);
			return true;
		case G2_STEP_PART_CJK:
			return part_cjk(n);
		case G2_STEP_NFC:
		case G2_STEP_NFD:
		case G2_STEP_NFKC:
		case G2_STEP_NFKD:
			return decompose(n, op == G2_STEP_NFKC || op == G2_STEP_NFKD,
							 op == G2_STEP_NFC || op == G2_STEP_NFKC);
		case G2_STEP_NO_ACCENTS:
		case G2_STEP_NO_MARKS:
			drop_marks(&n->now, op == G2_STEP_NO_MARKS);
			return true;
		default:
			return lower(n);
	}
}

/* ---------------------------------------------------------------- texts */

/* No character before it changes what it becomes, nor it what they become. */
static bool
can_begin(uint32_t c)
{
	return c < 0x80 || g2_is_cjk(c);
}

/* Reads a part from text[0..len); returns the bytes taken, or 0 without memory. */
static size_t
read_part(normalizer *n, const char *text, size_t len, size_t *valid)
{
	size_t		at = 0;

	n->now.len = 0;
	while (at < len)
	{
		size_t		bytes = 1;
		uint32_t	c = REPLACEMENT;

		if (at >= *valid)
			*valid = at + g2_utf8_valid_prefix(text + at, G2_MIN(len - at, 4 * PART));
		if (at < *valid)
			c = g2_utf8_char(text + at, &bytes);
		if ((n->now.len >= PART && can_begin(c)) || n->now.len >= PART_MAX)
			break;
		if (!push(&n->now, (int32_t) c, n->err))
			return 0;
		at += bytes;
	}
	*valid -= G2_MIN(*valid, at);
	return at;
}

static bool
write_part(const normalizer *n, g2_buf *out)
{
	if (n->now.len * 4 > G2_MAX_NORMALIZED - G2_MIN(out->len, G2_MAX_NORMALIZED))
		return g2_fail(n->err, G2_E_TOO_LONG, "the normalized text has more than %u bytes",
					   G2_MAX_NORMALIZED);
	if (!g2_buf_reserve(out, n->now.len * 4))
		return g2_fail_memory(n->err, out->len);
	for (size_t i = 0; i < n->now.len; i++)
		out->len += (size_t) utf8proc_encode_char(n->now.data[i],
												  (utf8proc_uint8_t *) out->data + out->len);
	return true;
}

bool
g2_normalize(const g2_tok_step *steps, uint32_t n_steps, const char *text, size_t len,
			 const atomic_bool *cancel, g2_buf *out, g2_error *err)
{
	normalizer	n = {.steps = steps,.n_steps = n_steps,.at_start = true,.err = err};
	size_t		valid = 0;
	bool		ok = true;

	while (ok && len > 0)
	{
		size_t		taken = read_part(&n, text, len, &valid);

		ok = taken > 0;
		for (uint32_t i = 0; ok && i < n_steps; i++)
			ok = apply(&n, steps[i].op);
		ok = ok && write_part(&n, out);
		if (ok && cancel && atomic_load_explicit(cancel, memory_order_relaxed))
			ok = g2_fail(err, G2_E_CANCELED, "canceled while tokenizing");
		n.at_start = false;
		text += taken;
		len -= taken;
	}
	g2_free(n.now.data);
	g2_free(n.next.data);
	return ok;
}
