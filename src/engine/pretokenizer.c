/*
 * pretokenizer.c: patterns that cut a text, under PCRE2.
 *
 * In GPT-2's pattern \s is written out: PCRE2 still counts U+180E as white space, the reference
 * (Python, Rust) does not, and without UCP PCRE2 knows only ASCII.  With the 25 characters of
 * Unicode's White_Space in its place all splits agree with the reference, up to letters and
 * numbers newer than PCRE2's Unicode tables.
 *
 * Text that is not valid UTF-8 is walked in segments: each longest valid stretch goes through the
 * pattern as if it were a text of its own, each byte between them is a word of its own.  The text
 * is checked here, once, so that PCRE2 need not check it again at each match, which would take
 * quadratic time; and in steps, so that a walk over a large text can be given up early.
 *
 * Patterns come from untrusted files: PCRE2 counts its steps, and gives up.
 *
 * All memory comes from g2_alloc but the machine code, which PCRE2 maps itself; where that is
 * refused (a hardened kernel) the interpreter gives the same words.
 */
#define PCRE2_CODE_UNIT_WIDTH 8

#include "pretokenizer.h"

#include <pcre2.h>

#include "tokenizer_format.h"

#define MAX_STEPS 10000000		/* of one match */
#define MAX_HEAP_KB 65536
#define MAX_DEPTH 100			/* of brackets */

const char	g2_pattern_gpt2[] =
	"'s|'t|'re|'ve|'m|'ll|'d"
	"| ?\\p{L}+| ?\\p{N}+| ?[^" G2_PATTERN_SPACE "\\p{L}\\p{N}]+"
	"|[" G2_PATTERN_SPACE "]+(?![^" G2_PATTERN_SPACE "])|[" G2_PATTERN_SPACE "]+";

struct g2_pretokenizer
{
	pcre2_general_context *memory;
	pcre2_match_context *limits;
	pcre2_code *code;
	uint32_t	flags;
};

struct g2_cut
{
	const g2_pretokenizer *pre;
	pcre2_match_data *match;
	const char *stretch;		/* start of the valid text that at is in */
	const char *at;				/* the next word starts here */
	const char *match_end;		/* of the match at at, where one has been found; else NULL */
	const char *checked;		/* up to here the text is known to be valid UTF-8 */
	bool		stretch_ends;	/* what follows checked is no character: the text's end or junk */
	const char *end;
};

static void *
pre_alloc(size_t bytes, void *arg)
{
	(void) arg;
	return g2_alloc(bytes);
}

static void
pre_free(void *p, void *arg)
{
	(void) arg;
	g2_free(p);
}

static bool
compile(g2_pretokenizer *pre, const char *pattern, size_t len, g2_error *err)
{
	pcre2_compile_context *context = NULL;
	int			error = PCRE2_ERROR_NOMEMORY;
	PCRE2_SIZE	where = 0;
	PCRE2_UCHAR text[128];

	pre->memory = pcre2_general_context_create(pre_alloc, pre_free, NULL);
	if (pre->memory)
		context = pcre2_compile_context_create(pre->memory);
	if (context)
		pre->limits = pcre2_match_context_create(pre->memory);
	if (pre->limits)
	{
		pcre2_set_match_limit(pre->limits, MAX_STEPS);
		pcre2_set_heap_limit(pre->limits, MAX_HEAP_KB);
		pcre2_set_parens_nest_limit(context, MAX_DEPTH);
		pre->code = pcre2_compile((PCRE2_SPTR) pattern, len,
								  PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &where,
								  context);
	}
	pcre2_compile_context_free(context);
	if (pre->code)
		return true;
	if (error == PCRE2_ERROR_NOMEMORY || error == PCRE2_ERROR_HEAP_FAILED)
		return g2_fail_memory(err, sizeof *pre);
	if (pcre2_get_error_message(error, text, sizeof text) < 0)
		text[0] = '\0';
	return g2_fail(err, G2_E_UNSUPPORTED, "a pattern of the tokenizer is not supported: %s at "
				   "offset %zu", (const char *) text, (size_t) where);
}

bool
g2_pretokenizer_create(const char *pattern, size_t len, uint32_t flags, g2_pretokenizer **out,
					   g2_error *err)
{
	g2_pretokenizer *pre = g2_alloc(sizeof *pre);

	*out = NULL;
	if (!pre)
		return g2_fail_memory(err, sizeof *pre);
	pre->flags = flags;
	if (!compile(pre, pattern, len, err))
	{
		g2_pretokenizer_free(pre);
		return false;
	}
	(void) pcre2_jit_compile(pre->code, PCRE2_JIT_COMPLETE);
	*out = pre;
	return true;
}

void
g2_pretokenizer_free(g2_pretokenizer *pre)
{
	if (!pre)
		return;
	pcre2_code_free(pre->code);
	pcre2_match_context_free(pre->limits);
	pcre2_general_context_free(pre->memory);
	g2_free(pre);
}

bool
g2_pretokenizer_drops(const g2_pretokenizer *pre)
{
	return pre->flags != 0;
}

bool
g2_cut_create(const g2_pretokenizer *pre, g2_cut **out, g2_error *err)
{
	g2_cut	   *cut = g2_alloc(sizeof *cut);

	*out = NULL;
	if (!cut)
		return g2_fail_memory(err, sizeof *cut);
	cut->pre = pre;
	/* one pair of offsets: the match as a whole */
	cut->match = pcre2_match_data_create(1, pre->memory);
	if (!cut->match)
	{
		g2_cut_free(cut);
		return g2_fail_memory(err, sizeof *cut);
	}
	*out = cut;
	return true;
}

void
g2_cut_free(g2_cut *cut)
{
	if (!cut)
		return;
	pcre2_match_data_free(cut->match);
	g2_free(cut);
}

void
g2_cut_start(g2_cut *cut, const char *text, size_t len)
{
	cut->stretch = cut->at = cut->checked = text;
	cut->end = len > 0 ? text + len : text;	/* an empty text may have no address */
	cut->match_end = NULL;
	cut->stretch_ends = false;
}

/* Sees to it that the stretch is known for a window from at, or to its end. */
static void
check_window(g2_cut *cut)
{
	size_t		left,
				look,
				valid;

	if (cut->at == cut->checked)
		cut->stretch_ends = false;
	if (cut->stretch_ends || cut->checked - cut->at >= G2_CUT_WINDOW)
		return;
	left = (size_t) (cut->end - cut->checked);
	look = G2_MIN(left, 2 * G2_CUT_WINDOW);
	valid = g2_utf8_valid_prefix(cut->checked, look);
	cut->checked += valid;
	/* up to three bytes before the end of a step may be the start of a character */
	cut->stretch_ends = look == left || look - valid > 3;
}

/* The first match at or behind at, in the next left bytes; *from = *to = left: there is none. */
static bool
find_match(g2_cut *cut, size_t left, size_t *from, size_t *to, g2_error *err)
{
	size_t		start = (size_t) (cut->at - cut->stretch);
	uint32_t	options = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY;
	int			rc;

	rc = pcre2_match(cut->pre->code, (PCRE2_SPTR) cut->stretch, start + left, start, options,
					 cut->match, cut->pre->limits);
	if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
		rc = pcre2_match(cut->pre->code, (PCRE2_SPTR) cut->stretch, start + left, start,
						 options | PCRE2_NO_JIT, cut->match, cut->pre->limits);
	*from = *to = left;
	if (rc == PCRE2_ERROR_NOMATCH)
		return true;
	if (rc == PCRE2_ERROR_NOMEMORY)
		return g2_fail_memory(err, left);
	if (rc == PCRE2_ERROR_MATCHLIMIT || rc == PCRE2_ERROR_DEPTHLIMIT || rc == PCRE2_ERROR_HEAPLIMIT)
		return g2_fail(err, G2_E_LIMIT, "a pattern of the tokenizer takes too many steps on the "
					   "text");
	if (rc < 0)
		return g2_fail(err, G2_E_INTERNAL, "the pre-tokenizer failed (PCRE2 error %d)", rc);
	/* \K may move the start behind the end, or before at */
	*from = pcre2_get_ovector_pointer(cut->match)[0];
	*to = pcre2_get_ovector_pointer(cut->match)[1];
	if (*from < start || *to <= *from)
		return g2_fail(err, G2_E_UNSUPPORTED, "a pattern of the tokenizer matches outside of the "
					   "text that it is given");
	*from -= start;
	*to -= start;
	return true;
}

/* Takes the match at at, or else what is before the next one; *keep: it is a word. */
static bool
take(g2_cut *cut, const char **word, size_t *len, bool *keep, g2_error *err)
{
	size_t		left,
				from,
				to;

	*word = cut->at;
	*keep = !(cut->pre->flags & G2_CUT_DROP_GAPS);
	if (!cut->match_end)
	{
		check_window(cut);
		left = (size_t) (cut->checked - cut->at);
		if (left == 0)
		{
			*len = 1;
			cut->stretch = cut->checked = ++cut->at;
			return true;
		}
		if (left > G2_CUT_WINDOW)
			for (left = G2_CUT_WINDOW; (cut->at[left] & 0xC0) == 0x80;)
				left--;			/* not inside a character */
		if (!find_match(cut, left, &from, &to, err))
			return false;
		cut->match_end = to > from ? cut->at + to : NULL;
		if (from > 0)
		{
			*len = from;
			cut->at += from;
			return true;
		}
	}
	*keep = !(cut->pre->flags & G2_CUT_DROP_MATCHES);
	*len = (size_t) (cut->match_end - cut->at);
	cut->at = cut->match_end;
	cut->match_end = NULL;
	return true;
}

bool
g2_cut_next(g2_cut *cut, const char **word, size_t *len, g2_error *err)
{
	bool		keep = false;

	while (cut->at < cut->end && !keep)
		if (!take(cut, word, len, &keep, err))
			return false;
	if (!keep)
	{
		*word = NULL;
		*len = 0;
	}
	return true;
}
