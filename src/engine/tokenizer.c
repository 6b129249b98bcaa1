/*
 * tokenizer.c: the view of a compiled tokenizer: open, look up.
 *
 * The block may come from a damaged or hostile file, so opening checks all of it: afterwards every
 * id, offset and rank in it is within its table, and what the kind relies on holds (for BPE that
 * every merge makes the bytes of its two sides), so that encoding can neither leave the tables nor
 * lose a byte, whatever else is wrong.
 *
 * The view points into the block, which the caller keeps mapped, and owns the compiled patterns
 * and the lists of ids that it makes while opening.
 */
#include "tokenizer_view.h"

static const g2_tok_kind *const kinds[G2_TOK_N_KINDS] = {
	[G2_TOK_BPE] = &g2_tok_bpe,
	[G2_TOK_WORDPIECE] = &g2_tok_wordpiece,
	[G2_TOK_WORDS] = &g2_tok_words,
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

bool
g2_tok_damaged(g2_error *err, const char *what)
{
	return g2_fail(err, G2_E_BAD_FILE, "the packed tokenizer is damaged: %s", what);
}

static bool
check_header(const g2_tok_header *h, size_t len, g2_error *err)
{
	if (memcmp(h->magic, G2_TOK_MAGIC, sizeof h->magic) != 0)
		return g2_tok_damaged(err, "it does not start as one");
	if (h->version != G2_TOK_VERSION || h->reserved != 0)
		return g2_tok_damaged(err, "it is of another version");
	if (h->kind == 0 || h->kind >= G2_TOK_N_KINDS)
		return g2_tok_damaged(err, "it is of an unknown kind");
	if (h->n_ids == 0 || h->n_ids > G2_MAX_VOCAB || h->n_ranks > G2_BPE_MAX_RANKS ||
		(h->n_ranks > 0 && h->kind != G2_TOK_BPE) || h->n_steps > G2_TOK_MAX_STEPS ||
		h->n_string_bytes > G2_TOK_MAX_STRINGS || h->prefix_len > G2_TOK_MAX_PREFIX ||
		h->prefix_len > h->n_string_bytes)
		return g2_tok_damaged(err, "its counts are out of range");
	if (g2_tok_find_places(h).end != len)
		return g2_tok_damaged(err, "its length is wrong");
	if (h->unknown != G2_NO_TOKEN && h->unknown >= h->n_ids)
		return g2_tok_damaged(err, "its unknown token does not exist");
	return true;
}

/* Finds the sections. */
static bool
open_header(g2_tokenizer *tok, const char *data, size_t len, g2_error *err)
{
	g2_tok_header *h = &tok->header;
	g2_tok_places p;

	if ((uintptr_t) data % sizeof(uint32_t) != 0)
		return g2_fail(err, G2_E_INTERNAL, "the packed tokenizer is not aligned");
	if (len < sizeof *h)
		return g2_tok_damaged(err, "it is too short");
	memcpy(h, data, sizeof *h);
	if (!check_header(h, len, err))
		return false;
	p = g2_tok_find_places(h);
	tok->kind = kinds[h->kind];
	tok->piece_starts = (const uint32_t *) (data + p.piece_starts);
	tok->order = (const uint32_t *) (data + p.order);
	tok->steps = (const g2_tok_step *) (data + p.steps);
	tok->flags = (const uint8_t *) (data + p.flags);
	tok->piece_bytes = data + p.piece_bytes;
	tok->strings = data + p.strings;
	tok->bpe.byte_ids = (const uint32_t *) (data + p.byte_ids);
	tok->bpe.left_starts = (const uint32_t *) (data + p.left_starts);
	tok->bpe.pairs = (const g2_bpe_pair *) (data + p.pairs);
	tok->bpe.results = (const uint32_t *) (data + p.results);
	tok->bpe.unknown = h->unknown;
	if (tok->piece_starts[0] != 0 || tok->piece_starts[h->n_ids] != h->n_piece_bytes)
		return g2_tok_damaged(err, "its pieces do not fill their section");
	return true;
}

static bool
check_pieces(const g2_tokenizer *tok, g2_error *err)
{
	for (uint32_t i = 0; i < tok->header.n_ids; i++)
		if (tok->piece_starts[i] >= tok->piece_starts[i + 1] ||
			tok->piece_starts[i + 1] - tok->piece_starts[i] > G2_MAX_PIECE ||
			tok->flags[i] > 2 * G2_PIECE_NORMAL - 1 ||
			((tok->flags[i] & (G2_PIECE_RAW | G2_PIECE_NORMAL)) &&
			 tok->piece_starts[i + 1] - tok->piece_starts[i] > G2_TOK_MAX_ADDED))
			return g2_tok_damaged(err, "a piece is empty or too long");

	/* strictly ascending and as many as there are ids: each id once */
	for (uint32_t i = 0; i < tok->header.n_ids; i++)
	{
		const char *before,
				   *piece;
		size_t		before_len,
					len;
		uint32_t	last,
					id = tok->order[i];
		int			order;

		if (id >= tok->header.n_ids)
			return g2_tok_damaged(err, "its index is wrong");
		if (i == 0)
			continue;
		last = tok->order[i - 1];
		before = g2_tok_piece(tok, last, &before_len);
		piece = g2_tok_piece(tok, id, &len);
		order = g2_tok_compare(before, before_len, piece, len);
		if (order == 0)
			order = (tok->flags[last] & G2_PIECE_SPECIAL) - (tok->flags[id] & G2_PIECE_SPECIAL);
		if (order > 0 || (order == 0 && last >= id))
			return g2_tok_damaged(err, "its index is not sorted");
	}
	return true;
}

/* Changes of the text stand before the patterns that cut it, which are compiled here. */
static bool
open_steps(g2_tokenizer *tok, g2_error *err)
{
	for (uint32_t i = 0; i < tok->header.n_steps; i++)
	{
		const g2_tok_step *step = &tok->steps[i];

		if (step->op == 0 || step->op >= G2_STEP_N_OPS ||
			step->start > tok->header.n_string_bytes ||
			step->len > tok->header.n_string_bytes - step->start)
			return g2_tok_damaged(err, "a step is wrong");
		if (step->op != G2_STEP_PATTERN)
		{
			if (tok->n_cuts > 0)
				return g2_tok_damaged(err, "its steps are out of order");
			tok->n_changes++;
		}
		else if (!g2_pretokenizer_create(tok->strings + step->start, step->len, step->flags,
										 &tok->cuts[tok->n_cuts++], err))
			return err->code == G2_E_MEMORY ? false : g2_tok_damaged(err, "a pattern is wrong");
	}
	return true;
}

/* The ids with one of these flags, in the order given (NULL: ascending). */
static bool
collect(const g2_tokenizer *tok, int flags, const uint32_t *order, uint32_t **ids, uint32_t *n,
		g2_error *err)
{
	for (uint32_t i = 0; i < tok->header.n_ids; i++)
		*n += (tok->flags[i] & flags) != 0;
	if (*n == 0)
		return true;
	*ids = g2_alloc_array(*n, sizeof **ids);
	if (!*ids)
		return g2_fail_memory(err, *n * sizeof **ids);
	*n = 0;
	for (uint32_t i = 0; i < tok->header.n_ids; i++)
	{
		uint32_t	id = order ? order[i] : i;

		if (tok->flags[id] & flags)
			(*ids)[(*n)++] = id;
	}
	return true;
}

bool
g2_tokenizer_open(const void *data, size_t len, g2_tokenizer **out, g2_error *err)
{
	g2_tokenizer *tok = g2_alloc(sizeof *tok);

	*out = NULL;
	if (!tok)
		return g2_fail_memory(err, sizeof *tok);
	if (!open_header(tok, data, len, err) || !check_pieces(tok, err) ||
		!tok->kind->check(tok, err) || !open_steps(tok, err) ||
		!collect(tok, G2_PIECE_RAW | G2_PIECE_NORMAL, tok->order, &tok->added, &tok->n_added,
				 err) ||
		!collect(tok, G2_PIECE_HIDDEN, NULL, &tok->hidden, &tok->n_hidden, err))
	{
		g2_tokenizer_close(tok);
		return false;
	}
	/* then an id may stand for any number of bytes, or for many */
	if (tok->n_changes > 0)
		tok->longest = SIZE_MAX;
	for (uint32_t i = 0; i < tok->n_cuts; i++)
		if (g2_pretokenizer_drops(tok->cuts[i]))
			tok->longest = SIZE_MAX;
	for (uint32_t i = 0; i < tok->n_added; i++)
	{
		size_t		n;

		g2_tok_piece(tok, tok->added[i], &n);
		tok->longest = G2_MAX(tok->longest, n);
	}
	*out = tok;
	return true;
}

void
g2_tokenizer_close(g2_tokenizer *tok)
{
	if (!tok)
		return;
	for (uint32_t i = 0; i < tok->n_cuts; i++)
		g2_pretokenizer_free(tok->cuts[i]);
	g2_free(tok->added);
	g2_free(tok->hidden);
	g2_free(tok);
}

/* ---------------------------------------------------------------- use */

const char *
g2_tokenizer_name(const g2_tokenizer *tok)
{
	return tok->header.flags & G2_TOK_CHARACTERS ? "characters" : tok->kind->name;
}

uint32_t
g2_tokenizer_size(const g2_tokenizer *tok)
{
	return tok->header.n_ids;
}

uint32_t
g2_tokenizer_unknown(const g2_tokenizer *tok)
{
	return tok->header.unknown;
}

const char *
g2_tokenizer_piece(const g2_tokenizer *tok, uint32_t id, size_t *len)
{
	*len = 0;
	return id < tok->header.n_ids ? g2_tok_piece(tok, id, len) : NULL;
}

const uint32_t *
g2_tokenizer_order(const g2_tokenizer *tok)
{
	return tok->order;
}

uint32_t
g2_tokenizer_find(const g2_tokenizer *tok, const char *piece, size_t len)
{
	uint32_t	lo = 0,
				hi = tok->header.n_ids;

	if (len == 0)
		return G2_NO_TOKEN;
	/* the first that is not below it: an ordinary token before a special one of the same bytes */
	while (lo < hi)
	{
		uint32_t	mid = lo + (hi - lo) / 2;
		size_t		n;
		const char *p = g2_tok_piece(tok, tok->order[mid], &n);

		if (g2_tok_compare(p, n, piece, len) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo < tok->header.n_ids)
	{
		size_t		n;
		const char *p = g2_tok_piece(tok, tok->order[lo], &n);

		if (g2_tok_compare(p, n, piece, len) == 0)
			return tok->order[lo];
	}
	return G2_NO_TOKEN;
}

uint32_t
g2_tok_ordinary(const g2_tokenizer *tok, const char *piece, size_t len)
{
	uint32_t	id = g2_tokenizer_find(tok, piece, len);

	return id != G2_NO_TOKEN && (tok->flags[id] & G2_PIECE_SPECIAL) ? G2_NO_TOKEN : id;
}

/* The byte at a place of a piece; -1 behind its end, so that a prefix is first. */
static inline int
byte_at(const g2_tokenizer *tok, uint32_t id, size_t at)
{
	size_t		len;
	const char *piece = g2_tok_piece(tok, id, &len);

	return at < len ? (unsigned char) piece[at] : -1;
}

bool
g2_tok_narrow(const g2_tokenizer *tok, const uint32_t *ids, size_t at, unsigned char c,
			  uint32_t *lo, uint32_t *hi)
{
	uint32_t	first = *lo,
				end = *hi;

	for (uint32_t stop = end; first < stop;)
	{
		uint32_t	mid = first + (stop - first) / 2;

		if (byte_at(tok, ids[mid], at) < c)
			first = mid + 1;
		else
			stop = mid;
	}
	for (uint32_t begin = first; begin < end;)
	{
		uint32_t	mid = begin + (end - begin) / 2;

		if (byte_at(tok, ids[mid], at) <= c)
			begin = mid + 1;
		else
			end = mid;
	}
	*lo = first;
	*hi = end;
	return first < end;
}

bool
g2_tokenizer_is_special(const g2_tokenizer *tok, uint32_t id)
{
	return id < tok->header.n_ids && (tok->flags[id] & G2_PIECE_SPECIAL);
}

bool
g2_tokenizer_is_text(const g2_tokenizer *tok, uint32_t id)
{
	return id < tok->header.n_ids && !(tok->flags[id] & (G2_PIECE_SPECIAL | G2_PIECE_HIDDEN));
}

const uint32_t *
g2_tokenizer_hidden(const g2_tokenizer *tok, uint32_t *n)
{
	*n = tok->n_hidden;
	return tok->hidden;
}
