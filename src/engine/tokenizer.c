/*
 * tokenizer.c: the view of a compiled tokenizer: open, encode, decode, look up.
 *
 * The block may come from a damaged or hostile file, so opening checks all of it: afterwards every
 * id, offset and rank in it is within its table, and every merge makes the bytes of its two sides,
 * so that encoding can neither leave the tables nor lose a byte, whatever else is wrong.
 *
 * The view points into the block, which the caller keeps mapped, and owns the compiled pattern.
 */
#include "tokenizer_format.h"

#include "pretokenizer.h"

struct g2_tokenizer
{
	uint32_t	n_ids;
	uint32_t	n_ranks;
	uint32_t	longest;		/* bytes of the longest piece that text can produce */
	const uint32_t *piece_starts;
	const uint32_t *order;
	const uint8_t *special;
	const char *piece_bytes;
	g2_bpe		bpe;
	g2_pretokenizer *pre;
};

bool
g2_ids_push(g2_ids *ids, uint32_t id)
{
	if (ids->len == ids->cap)
	{
		size_t		cap = ids->cap ? ids->cap * 2 : 64;
		uint32_t   *data = g2_realloc_array(ids->data, cap, sizeof *data);

		if (!data)
			return false;
		ids->data = data;
		ids->cap = cap;
	}
	ids->data[ids->len++] = id;
	return true;
}

/* ---------------------------------------------------------------- open */

static bool
damaged(g2_error *err, const char *what)
{
	return g2_fail(err, G2_E_BAD_FILE, "the packed tokenizer is damaged: %s", what);
}

static const char *
piece_of(const g2_tokenizer *tok, uint32_t id, size_t *len)
{
	*len = tok->piece_starts[id + 1] - tok->piece_starts[id];
	return tok->piece_bytes + tok->piece_starts[id];
}

/* Finds the sections. */
static bool
open_header(g2_tokenizer *tok, const char *data, size_t len, g2_error *err)
{
	g2_tok_header h;
	g2_tok_places p;

	if ((uintptr_t) data % sizeof(uint32_t) != 0)
		return g2_fail(err, G2_E_INTERNAL, "the packed tokenizer is not aligned");
	if (len < sizeof h)
		return damaged(err, "it is too short");
	memcpy(&h, data, sizeof h);
	if (memcmp(h.magic, G2_TOK_MAGIC, sizeof h.magic) != 0)
		return damaged(err, "it does not start as one");
	if (h.version != G2_TOK_VERSION || h.reserved != 0)
		return damaged(err, "it is of another version");
	if (h.n_ids == 0 || h.n_ids > G2_MAX_VOCAB || h.n_ranks > G2_BPE_MAX_RANKS)
		return damaged(err, "its counts are out of range");
	p = g2_tok_find_places(&h);
	if (p.end != len)
		return damaged(err, "its length is wrong");
	if (h.unknown != G2_NO_TOKEN && h.unknown >= h.n_ids)
		return damaged(err, "its unknown token does not exist");

	tok->n_ids = h.n_ids;
	tok->n_ranks = h.n_ranks;
	tok->piece_starts = (const uint32_t *) (data + p.piece_starts);
	tok->order = (const uint32_t *) (data + p.order);
	tok->special = (const uint8_t *) (data + p.special);
	tok->piece_bytes = data + p.piece_bytes;
	tok->bpe.byte_ids = (const uint32_t *) (data + p.byte_ids);
	tok->bpe.left_starts = (const uint32_t *) (data + p.left_starts);
	tok->bpe.pairs = (const g2_bpe_pair *) (data + p.pairs);
	tok->bpe.results = (const uint32_t *) (data + p.results);
	tok->bpe.unknown = h.unknown;
	if (tok->piece_starts[0] != 0 || tok->piece_starts[h.n_ids] != h.n_piece_bytes)
		return damaged(err, "its pieces do not fill their section");
	return true;
}

static bool
check_pieces(g2_tokenizer *tok, g2_error *err)
{
	for (uint32_t i = 0; i < tok->n_ids; i++)
		if (tok->piece_starts[i] >= tok->piece_starts[i + 1] ||
			tok->piece_starts[i + 1] - tok->piece_starts[i] > G2_MAX_PIECE ||
			tok->special[i] > 1)
			return damaged(err, "a piece is empty or too long");

	/* strictly ascending and as many as there are ids: each id once */
	for (uint32_t i = 0; i < tok->n_ids; i++)
	{
		const char *before,
				   *piece;
		size_t		before_len,
					len;
		uint32_t	last,
					id = tok->order[i];
		int			order;

		if (id >= tok->n_ids)
			return damaged(err, "its index is wrong");
		if (i == 0)
			continue;
		last = tok->order[i - 1];
		before = piece_of(tok, last, &before_len);
		piece = piece_of(tok, id, &len);
		order = g2_tok_compare(before, before_len, piece, len);
		if (order == 0)
			order = tok->special[last] - tok->special[id];
		if (order > 0 || (order == 0 && last >= id))
			return damaged(err, "its index is not sorted");
	}

	tok->longest = 1;
	for (int b = 0; b < 256; b++)
	{
		uint32_t	id = tok->bpe.byte_ids[b];
		size_t		len;

		if (id == G2_NO_TOKEN ? tok->bpe.unknown == G2_NO_TOKEN
			: id >= tok->n_ids || tok->special[id] ||
			(unsigned char) *piece_of(tok, id, &len) != b || len != 1)
			return damaged(err, "a byte has a wrong id");
	}
	return true;
}

static bool
check_merges(g2_tokenizer *tok, g2_error *err)
{
	const g2_bpe *bpe = &tok->bpe;
	uint8_t    *seen;
	bool		ok = true;

	if (bpe->left_starts[0] != 0 || bpe->left_starts[tok->n_ids] != tok->n_ranks)
		return damaged(err, "its merges do not fill their section");
	for (uint32_t i = 0; i < tok->n_ids; i++)
		if (bpe->left_starts[i] > bpe->left_starts[i + 1])
			return damaged(err, "its merges are not sorted");
	seen = g2_alloc((size_t) tok->n_ranks + 1);
	if (!seen)
		return g2_fail_memory(err, (size_t) tok->n_ranks + 1);
	for (uint32_t left = 0; left < tok->n_ids && ok; left++)
		for (uint32_t i = bpe->left_starts[left]; i < bpe->left_starts[left + 1] && ok; i++)
		{
			const g2_bpe_pair *pair = &bpe->pairs[i];
			const char *l,
					   *r,
					   *joined;
			size_t		l_len,
						r_len,
						len;
			uint32_t	result;

			ok = pair->right < tok->n_ids && pair->rank < tok->n_ranks && !seen[pair->rank] &&
				(i == bpe->left_starts[left] || pair[-1].right < pair->right);
			if (!ok)
				break;
			seen[pair->rank] = 1;
			result = bpe->results[pair->rank];
			ok = result < tok->n_ids && !tok->special[result];
			if (!ok)
				break;
			l = piece_of(tok, left, &l_len);
			r = piece_of(tok, pair->right, &r_len);
			joined = piece_of(tok, result, &len);
			ok = len == l_len + r_len && memcmp(joined, l, l_len) == 0 &&
				memcmp(joined + l_len, r, r_len) == 0;
			tok->longest = G2_MAX(tok->longest, (uint32_t) len);
		}
	g2_free(seen);
	return ok ? true : damaged(err, "a merge is wrong");
}

bool
g2_tokenizer_open(const void *data, size_t len, g2_tokenizer **out, g2_error *err)
{
	g2_tokenizer *tok = g2_alloc(sizeof *tok);

	*out = NULL;
	if (!tok)
		return g2_fail_memory(err, sizeof *tok);
	if (!open_header(tok, data, len, err) || !check_pieces(tok, err) || !check_merges(tok, err) ||
		!g2_pretokenizer_create(&tok->pre, err))
	{
		g2_tokenizer_close(tok);
		return false;
	}
	*out = tok;
	return true;
}

void
g2_tokenizer_close(g2_tokenizer *tok)
{
	if (!tok)
		return;
	g2_pretokenizer_free(tok->pre);
	g2_free(tok);
}

/* ---------------------------------------------------------------- use */

uint32_t
g2_tokenizer_size(const g2_tokenizer *tok)
{
	return tok->n_ids;
}

bool
g2_tokenizer_encode(const g2_tokenizer *tok, const char *text, size_t len, size_t max_ids,
					const atomic_bool *cancel, g2_ids *out, g2_error *err)
{
	g2_bpe_work work = {.cancel = cancel,.first_id = out->len,
	.max_ids = max_ids ? max_ids : SIZE_MAX};
	g2_cut	   *cut;
	const char *piece;
	size_t		n;
	bool		ok;

	/* too long even if every piece were the longest: refused before anything is spent on it */
	if (len / tok->longest > work.max_ids)
	{
		g2_fail(err, G2_E_TOO_LONG, "the text has more than %zu tokens", work.max_ids);
		return g2_fail_hint(err, "Split the text.");
	}
	if (len == 0)
		return true;
	if (!g2_cut_begin(tok->pre, text, len, &cut, err))
		return false;
	do
		ok = g2_cut_next(cut, &piece, &n, err) &&
			g2_bpe_encode(&tok->bpe, &work, piece, n, out, err);
	while (ok && piece);
	g2_cut_end(cut);
	if (!ok)
		out->len = work.first_id;
	g2_bpe_work_free(&work);
	return ok;
}

const char *
g2_tokenizer_piece(const g2_tokenizer *tok, uint32_t id, size_t *len)
{
	*len = 0;
	return id < tok->n_ids ? piece_of(tok, id, len) : NULL;
}

uint32_t
g2_tokenizer_find(const g2_tokenizer *tok, const char *piece, size_t len)
{
	uint32_t	lo = 0,
				hi = tok->n_ids;

	if (len == 0)
		return G2_NO_TOKEN;
	/* the first that is not below it: an ordinary token before a special one of the same bytes */
	while (lo < hi)
	{
		uint32_t	mid = lo + (hi - lo) / 2;
		size_t		n;
		const char *p = piece_of(tok, tok->order[mid], &n);

		if (g2_tok_compare(p, n, piece, len) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo < tok->n_ids)
	{
		size_t		n;
		const char *p = piece_of(tok, tok->order[lo], &n);

		if (g2_tok_compare(p, n, piece, len) == 0)
			return tok->order[lo];
	}
	return G2_NO_TOKEN;
}

bool
g2_tokenizer_is_special(const g2_tokenizer *tok, uint32_t id)
{
	return id < tok->n_ids && tok->special[id] != 0;
}
