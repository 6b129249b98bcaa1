/*
 * pretokenizer.c: GPT-2's pattern (openai/gpt-2 encoder.py) under PCRE2.
 *
 * \s is written out: PCRE2 still counts U+180E as white space, the reference (Python, Rust) does
 * not, and without UCP PCRE2 knows only ASCII.  With the 25 characters of Unicode's White_Space in
 * its place all splits agree with the reference, up to letters and numbers newer than PCRE2's
 * Unicode tables.
 *
 * Text that is not valid UTF-8 is walked in segments: each longest valid stretch goes through the
 * pattern as if it were a text of its own, each byte between them is a piece of its own.  The text
 * is checked here, once, so that PCRE2 need not check it again at each match, which would take
 * quadratic time; and in steps, so that a walk over a large text can be given up early.
 *
 * All memory comes from g2_alloc but the machine code, which PCRE2 maps itself; where that is
 * refused (a hardened kernel) the interpreter gives the same pieces.
 */
#define PCRE2_CODE_UNIT_WIDTH 8

#include "pretokenizer.h"

#include <pcre2.h>

#define SPACE \
	"\\t-\\r \\x85\\xA0\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"

static const char pattern[] =
	"'s|'t|'re|'ve|'m|'ll|'d"
	"| ?\\p{L}+| ?\\p{N}+| ?[^" SPACE "\\p{L}\\p{N}]+"
	"|[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+";

struct g2_pretokenizer
{
	pcre2_general_context *memory;
	pcre2_code *code;
};

struct g2_cut
{
	const g2_pretokenizer *pre;
	pcre2_match_data *match;
	const char *at;				/* the next piece starts here */
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

bool
g2_pretokenizer_create(g2_pretokenizer **out, g2_error *err)
{
	g2_pretokenizer *pre = g2_alloc(sizeof *pre);
	pcre2_compile_context *context = NULL;
	int			error = PCRE2_ERROR_NOMEMORY;
	PCRE2_SIZE	where = 0;

	*out = NULL;
	if (pre)
		pre->memory = pcre2_general_context_create(pre_alloc, pre_free, NULL);
	if (pre && pre->memory)
		context = pcre2_compile_context_create(pre->memory);
	/* anchored here and not at the match, where it would switch the machine code off */
	if (context)
		pre->code = pcre2_compile((PCRE2_SPTR) pattern, sizeof pattern - 1,
								  PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &error, &where, context);
	pcre2_compile_context_free(context);
	if (!pre || !pre->code)
	{
		g2_pretokenizer_free(pre);
		/* the pattern is constant: with memory, only a crippled PCRE2 (no UTF) refuses it */
		if (!context || error == PCRE2_ERROR_NOMEMORY || error == PCRE2_ERROR_HEAP_FAILED)
			return g2_fail_memory(err, sizeof *pre);
		return g2_fail(err, G2_E_INTERNAL, "PCRE2 refuses the pre-tokenizer's pattern (error %d)",
					   error);
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
	pcre2_general_context_free(pre->memory);
	g2_free(pre);
}

bool
g2_cut_begin(const g2_pretokenizer *pre, const char *text, size_t len, g2_cut **out, g2_error *err)
{
	g2_cut	   *cut = g2_alloc(sizeof *cut);

	*out = NULL;
	if (!cut)
		return g2_fail_memory(err, sizeof *cut);
	cut->pre = pre;
	cut->at = cut->checked = text;
	cut->end = text + len;
	/* one pair of offsets: the match as a whole */
	cut->match = pcre2_match_data_create(1, pre->memory);
	if (!cut->match)
	{
		g2_cut_end(cut);
		return g2_fail_memory(err, sizeof *cut);
	}
	*out = cut;
	return true;
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

bool
g2_cut_next(g2_cut *cut, const char **piece, size_t *len, g2_error *err)
{
	size_t		left;
	int			rc;

	*piece = NULL;
	*len = 0;
	if (cut->at == cut->end)
		return true;
	check_window(cut);
	left = (size_t) (cut->checked - cut->at);
	if (left == 0)
	{
		*piece = cut->at;
		*len = 1;
		cut->checked = ++cut->at;
		return true;
	}
	if (left > G2_CUT_WINDOW)
		for (left = G2_CUT_WINDOW; (cut->at[left] & 0xC0) == 0x80;)
			left--;				/* not inside a character */

	rc = pcre2_match(cut->pre->code, (PCRE2_SPTR) cut->at, left, 0, PCRE2_NO_UTF_CHECK, cut->match,
					 NULL);
	if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
		rc = pcre2_match(cut->pre->code, (PCRE2_SPTR) cut->at, left, 0,
						 PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, cut->match, NULL);
	if (rc == PCRE2_ERROR_NOMEMORY)
		return g2_fail_memory(err, left);
	/* the pattern matches something at the start of every text that is not empty */
	if (rc <= 0 || pcre2_get_ovector_pointer(cut->match)[1] == 0)
		return g2_fail(err, G2_E_INTERNAL, "the pre-tokenizer failed (PCRE2 error %d)", rc);
	*piece = cut->at;
	*len = pcre2_get_ovector_pointer(cut->match)[1];
	cut->at += *len;
	return true;
}

void
g2_cut_end(g2_cut *cut)
{
	if (!cut)
		return;
	pcre2_match_data_free(cut->match);
	g2_free(cut);
}
