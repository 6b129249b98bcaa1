/*
 * kind_bpe.c: byte-level BPE as a kind of tokenizer; the merges themselves are in bpe.c.
 */
#include "tokenizer_view.h"

static bool
check_bytes(const g2_tokenizer *tok, g2_error *err)
{
	for (int b = 0; b < 256; b++)
	{
		uint32_t	id = tok->bpe.byte_ids[b];
		size_t		len;

		if (id == G2_NO_TOKEN ? tok->bpe.unknown == G2_NO_TOKEN
			: id >= tok->header.n_ids || (tok->flags[id] & G2_PIECE_SPECIAL) ||
			(unsigned char) *g2_tok_piece(tok, id, &len) != b || len != 1)
			return g2_tok_damaged(err, "a byte has a wrong id");
	}
	return true;
}

/* The merge of left and pair makes the bytes of both. */
static bool
check_merge(const g2_tokenizer *tok, uint32_t left, const g2_bpe_pair *pair, size_t *len)
{
	uint32_t	result = tok->bpe.results[pair->rank];
	const char *l,
			   *r,
			   *joined;
	size_t		l_len,
				r_len;

	if (result >= tok->header.n_ids || (tok->flags[result] & G2_PIECE_SPECIAL))
		return false;
	l = g2_tok_piece(tok, left, &l_len);
	r = g2_tok_piece(tok, pair->right, &r_len);
	joined = g2_tok_piece(tok, result, len);
	return *len == l_len + r_len && memcmp(joined, l, l_len) == 0 &&
		memcmp(joined + l_len, r, r_len) == 0;
}

static bool
check_merges(g2_tokenizer *tok, g2_error *err)
{
	const g2_bpe *bpe = &tok->bpe;
	uint32_t	n_ranks = tok->header.n_ranks,
				n_ids = tok->header.n_ids;
	uint8_t    *seen;
	bool		ok = true;

	if (bpe->left_starts[0] != 0 || bpe->left_starts[n_ids] != n_ranks)
		return g2_tok_damaged(err, "its merges do not fill their section");
	for (uint32_t i = 0; i < n_ids; i++)
		if (bpe->left_starts[i] > bpe->left_starts[i + 1])
			return g2_tok_damaged(err, "its merges are not sorted");
	seen = g2_alloc((size_t) n_ranks + 1);
	if (!seen)
		return g2_fail_memory(err, (size_t) n_ranks + 1);
	for (uint32_t left = 0; left < n_ids && ok; left++)
		for (uint32_t i = bpe->left_starts[left]; i < bpe->left_starts[left + 1] && ok; i++)
		{
			const g2_bpe_pair *pair = &bpe->pairs[i];
			size_t		len = 0;

			ok = pair->right < n_ids && pair->rank < n_ranks && !seen[pair->rank] &&
				(i == bpe->left_starts[left] || pair[-1].right < pair->right);
			if (!ok)
				break;
			seen[pair->rank] = 1;
			ok = check_merge(tok, left, pair, &len);
			tok->longest = G2_MAX(tok->longest, len);
		}
	g2_free(seen);
	return ok ? true : g2_tok_damaged(err, "a merge is wrong");
}

static bool
check(g2_tokenizer *tok, g2_error *err)
{
	tok->longest = 1;
	if (!check_bytes(tok, err) || !check_merges(tok, err))
		return false;
	if (tok->header.flags & G2_TOK_WHOLE)
		tok->longest = G2_MAX_PIECE;
	return true;
}

static bool
word(const g2_tokenizer *tok, g2_bpe_work *work, const char *text, size_t len, g2_ids *out,
	 g2_error *err)
{
	if (tok->header.flags & G2_TOK_WHOLE)
	{
		uint32_t	id = g2_tok_ordinary(tok, text, len);

		if (id != G2_NO_TOKEN)
			return g2_bpe_emit(&tok->bpe, work, id, out, err);
	}
	return g2_bpe_encode(&tok->bpe, work, text, len, out, err);
}

const g2_tok_kind g2_tok_bpe = {"gpt2-bpe", check, word};
