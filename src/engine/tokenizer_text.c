/*
 * tokenizer_text.c: a text on its way to ids and back.
 *
 * To ids: pieces that are looked for in the text as it is part it; what is between them is
 * normalized; pieces that are looked for in that part it again; what is between them goes through
 * the patterns, each cutting the words of the one before; the kind finds the pieces of each word.
 * For GPT-2 that is one pattern and the merges, and nothing is copied.
 */
#include "tokenizer_view.h"
#include "unicode.h"

typedef struct encoder
{
	const g2_tokenizer *tok;
	g2_bpe_work work;
	g2_cut	   *cuts[G2_TOK_MAX_STEPS];
	bool		first_byte[256];	/* of pieces that are looked for */
	g2_ids	   *out;
	g2_error   *err;
} encoder;

/* ---------------------------------------------------------------- encode */

/* A word of the pattern before this one (0: a text), into words of this one and those behind it. */
static bool
cut(encoder *e, uint32_t level, const char *text, size_t len)
{
	const char *word;
	size_t		n;

	if (level == e->tok->n_cuts)
		return e->tok->kind->word(e->tok, &e->work, text, len, e->out, e->err);
	g2_cut_start(e->cuts[level], text, len);
	do
	{
		/* A pattern may take its time with a single word. */
		if (g2_bpe_canceled_now(&e->work, e->err) ||
			!g2_cut_next(e->cuts[level], &word, &n, e->err))
			return false;
		if (word && !cut(e, level + 1, word, n))
			return false;
	} while (word);
	return true;
}

/* The longest piece with this flag that stands at text, or G2_NO_TOKEN. */
static uint32_t
piece_at(const encoder *e, int flag, const char *text, size_t left, size_t *len)
{
	uint32_t	lo = 0,
				hi = e->tok->n_added,
				best = G2_NO_TOKEN;

	if (!e->first_byte[(unsigned char) *text])
		return best;
	for (size_t i = 0; i < left; i++)
	{
		if (!g2_tok_narrow(e->tok, e->tok->added, i, (unsigned char) text[i], &lo, &hi))
			break;
		for (uint32_t k = lo; k < hi; k++)
		{
			uint32_t	id = e->tok->added[k];
			size_t		n;

			(void) g2_tok_piece(e->tok, id, &n);
			if (n > i + 1)
				break;
			if (e->tok->flags[id] & flag)
			{
				best = id;
				*len = n;
				break;
			}
		}
	}
	return best;
}

static bool normalize(encoder *e, const char *text, size_t len);

/* Parts the text at pieces with this flag, G2_PIECE_RAW first. */
static bool
part(encoder *e, int flag, const char *text, size_t len)
{
	size_t		from = 0,
				at = 0;

	while (e->tok->n_added > 0 && at < len)
	{
		size_t		n = 1;
		uint32_t	id = piece_at(e, flag, text + at, len - at, &n);

		if (g2_bpe_canceled(&e->work, e->err))
			return false;
		if (id != G2_NO_TOKEN)
		{
			if (at > from && !(flag == G2_PIECE_RAW ? normalize(e, text + from, at - from)
							   : cut(e, 0, text + from, at - from)))
				return false;
			if (!g2_bpe_emit(&e->tok->bpe, &e->work, id, e->out, e->err))
				return false;
			from = at + n;
		}
		at += n;
	}
	if (from == len)
		return true;
	return flag == G2_PIECE_RAW ? normalize(e, text + from, len - from)
		: cut(e, 0, text + from, len - from);
}

static bool
normalize(encoder *e, const char *text, size_t len)
{
	g2_buf		changed = {0};
	bool		ok;

	if (e->tok->n_changes == 0)
		return part(e, G2_PIECE_NORMAL, text, len);
	ok = g2_normalize(e->tok->steps, e->tok->n_changes, text, len, e->work.cancel, &changed,
					  e->err) &&
		part(e, G2_PIECE_NORMAL, changed.data, changed.len);
	if (changed.data)
		explicit_bzero(changed.data, changed.len);	/* it is somebody's text */
	g2_buf_free(&changed);
	return ok;
}

bool
g2_tokenizer_encode(const g2_tokenizer *tok, const char *text, size_t len, size_t max_ids,
					const atomic_bool *cancel, g2_ids *out, g2_error *err)
{
	encoder		e = {.tok = tok,.out = out,.err = err,.work = {.cancel = cancel,
	.first_id = out->len,.max_ids = max_ids ? max_ids : SIZE_MAX}};
	bool		ok = true;

	/* too long even if every piece were the longest: refused before anything is spent on it */
	if (len / tok->longest > e.work.max_ids)
		return g2_bpe_too_many(&e.work, err);
	if (len == 0)
		return true;
	for (uint32_t i = 0; i < tok->n_added; i++)
	{
		size_t		n;

		e.first_byte[(unsigned char) *g2_tok_piece(tok, tok->added[i], &n)] = true;
	}
	for (uint32_t i = 0; ok && i < tok->n_cuts; i++)
		ok = g2_cut_create(tok->cuts[i], &e.cuts[i], err);
	ok = ok && part(&e, G2_PIECE_RAW, text, len);
	for (uint32_t i = 0; i < tok->n_cuts; i++)
		g2_cut_free(e.cuts[i]);
	if (!ok)
		out->len = e.work.first_id;
	g2_bpe_work_free(&e.work);
	return ok;
}

/* ---------------------------------------------------------------- decode */

/* What this id adds to a text; *glued: it belongs to the word before it. */
static const char *
printed(const g2_tokenizer *tok, uint32_t id, size_t *len, bool *glued)
{
	size_t		prefix = tok->header.prefix_len;
	const char *piece;

	*len = 0;
	*glued = false;
	if (id >= tok->header.n_ids || (tok->flags[id] & G2_PIECE_HIDDEN))
		return NULL;
	piece = g2_tok_piece(tok, id, len);
	if (prefix > 0 && *len > prefix && memcmp(piece, tok->strings, prefix) == 0 &&
		!(tok->flags[id] & (G2_PIECE_SPECIAL | G2_PIECE_RAW | G2_PIECE_NORMAL)))
	{
		*glued = true;
		*len -= prefix;
		piece += prefix;
	}
	return piece;
}

/* The first and the last character of a piece; one that is not valid UTF-8 counts as none. */
static void
piece_ends(const char *piece, size_t len, uint32_t *first, uint32_t *last)
{
	size_t		n = 1;

	*first = *last = 0;
	if (g2_utf8_valid_prefix(piece, len) != len)
		return;
	*first = g2_utf8_char(piece, &n);
	for (n = 1; (piece[len - n] & 0xC0) == 0x80;)
		n++;
	*last = g2_utf8_char(piece + len - n, &n);
}

static bool
needs_space(uint32_t last, uint32_t first)
{
	if (last == 0 || g2_is_wide(last) || g2_is_wide(first) || last == '\'')
		return false;
	return first != '.' && first != ',' && first != '?' && first != '!' && first != '\'';
}

g2_decoder
g2_tokenizer_after(const g2_tokenizer *tok, const uint32_t *ids, size_t n)
{
	g2_decoder	decoder = {0};

	if (!(tok->header.flags & G2_TOK_SPACED))
		return decoder;
	while (n-- > 0)
	{
		size_t		len;
		bool		glued;
		const char *piece = printed(tok, ids[n], &len, &glued);
		uint32_t	first;

		if (!piece)
			continue;
		piece_ends(piece, len, &first, &decoder.last);
		break;
	}
	return decoder;
}

bool
g2_tokenizer_decode(const g2_tokenizer *tok, g2_decoder *decoder, uint32_t id, g2_buf *out)
{
	size_t		len;
	bool		glued;
	const char *piece = printed(tok, id, &len, &glued);
	uint32_t	first,
				last;

	if (!piece)
		return true;
	if (tok->header.flags & G2_TOK_SPACED)
	{
		piece_ends(piece, len, &first, &last);
		if (!glued && needs_space(decoder->last, first) && !g2_buf_append(out, " ", 1))
			return false;
		decoder->last = last;
	}
	return g2_buf_append(out, piece, len);
}
