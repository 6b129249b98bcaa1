/*
 * kind_wordpiece.c: WordPiece (google-research/bert, tokenization.py): from the start of a word on
 * the longest piece that fits, then the longest continuation ("##" before it), and so on.  A word
 * that cannot be covered, or is too long, is the unknown token as a whole.
 *
 * The longest piece is found in one walk: each byte narrows the pieces that start like the text,
 * which stand together in the sorted index.
 */
#include "tokenizer_view.h"
#include "unicode.h"

static bool
check(g2_tokenizer *tok, g2_error *err)
{
	uint32_t	lo = 0,
				hi = tok->header.n_ids;

	if (tok->header.unknown == G2_NO_TOKEN || tok->header.prefix_len == 0)
		return g2_tok_damaged(err, "it has no unknown token or no prefix");
	for (uint32_t i = 0; i < tok->header.prefix_len; i++)
		if (!g2_tok_narrow(tok, tok->order, i, (unsigned char) tok->strings[i], &lo, &hi))
			lo = hi = 0;
	tok->continues = lo;
	tok->continues_end = hi;
	tok->longest = SIZE_MAX;	/* a word of any length may be one unknown token */
	return true;
}

/* The longest ordinary piece that text starts with, or G2_NO_TOKEN; *used = its bytes. */
static uint32_t
longest_piece(const g2_tokenizer *tok, const char *text, size_t len, bool first, size_t *used)
{
	size_t		prefix = first ? 0 : tok->header.prefix_len;
	uint32_t	lo = first ? 0 : tok->continues,
				hi = first ? tok->header.n_ids : tok->continues_end,
				best = G2_NO_TOKEN;

	for (size_t i = 0; i < len; i++)
	{
		size_t		n;

		if (!g2_tok_narrow(tok, tok->order, prefix + i, (unsigned char) text[i], &lo, &hi))
			break;
		/* the shortest of them is first, the ordinary before the special */
		(void) g2_tok_piece(tok, tok->order[lo], &n);
		if (n == prefix + i + 1 && !(tok->flags[tok->order[lo]] & G2_PIECE_SPECIAL))
		{
			best = tok->order[lo];
			*used = i + 1;
		}
	}
	return best;
}

static bool
word(const g2_tokenizer *tok, g2_bpe_work *work, const char *text, size_t len, g2_ids *out,
	 g2_error *err)
{
	size_t		before = out->len,
				used = 0;

	/* four bytes a character at most: what is longer need not be counted */
	if (len / 4 > tok->header.max_chars || g2_utf8_count(text, len) > tok->header.max_chars)
		return g2_bpe_emit(&tok->bpe, work, G2_NO_TOKEN, out, err);
	for (size_t at = 0; at < len; at += used)
	{
		uint32_t	id = longest_piece(tok, text + at, len - at, at == 0, &used);

		if (g2_bpe_canceled_now(work, err))
			return false;
		if (id == G2_NO_TOKEN)
		{
			out->len = before;
			return g2_bpe_emit(&tok->bpe, work, id, out, err);
		}
		/* not g2_bpe_emit: too many pieces may still turn out to be one unknown token */
		if (!g2_ids_push(out, id))
			return g2_fail_memory(err, out->cap * 2 * sizeof *out->data);
	}
	if (out->len - work->first_id > work->max_ids)
		return g2_bpe_too_many(work, err);
	return true;
}

const g2_tok_kind g2_tok_wordpiece = {"wordpiece", check, word};
