/*
 * kind_words.c: each word is a piece of the vocabulary, or the unknown token.  With a pattern that
 * makes every character a word it is the tokenizer of a character model.
 */
#include "tokenizer_view.h"

static bool
check(g2_tokenizer *tok, g2_error *err)
{
	(void) err;
	tok->longest = SIZE_MAX;
	return true;
}

static bool
word(const g2_tokenizer *tok, g2_bpe_work *work, const char *text, size_t len, g2_ids *out,
	 g2_error *err)
{
	uint32_t	id = g2_tok_ordinary(tok, text, len);

	if (g2_bpe_canceled(work, err))
		return false;
	if (id == G2_NO_TOKEN && tok->header.unknown == G2_NO_TOKEN)
	{
		g2_fail(err, G2_E_PARAM, "the model's vocabulary lacks a %s of the text",
				tok->header.flags & G2_TOK_CHARACTERS ? "character" : "word");
		return g2_fail_hint(err, "The vocabulary has no token for what is unknown.");
	}
	return g2_bpe_emit(&tok->bpe, work, id, out, err);
}

const g2_tok_kind g2_tok_words = {"words", check, word};
