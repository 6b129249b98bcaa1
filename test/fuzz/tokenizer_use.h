/*
 * tokenizer_use.h: what fuzz targets do with a tokenizer that came out of their input: it must
 * open, its ids must be within its tables, and whatever it decodes must be found again.
 */
#ifndef TOKENIZER_USE_H
#define TOKENIZER_USE_H

#include <stdlib.h>

#include "tokenizer.h"

static inline void
use_pieces(const g2_tokenizer *tok)
{
	uint32_t	size = g2_tokenizer_size(tok);
	g2_decoder	decoder = {0};
	g2_buf		out = {0};

	for (uint32_t id = 0; id < size; id++)
	{
		size_t		n,
					found_len;
		const char *piece = g2_tokenizer_piece(tok, id, &n),
				   *found = g2_tokenizer_piece(tok, g2_tokenizer_find(tok, piece, n), &found_len);

		if (!found || n == 0 || n > G2_MAX_PIECE || found_len != n || memcmp(piece, found, n) != 0)
			abort();
		if (!g2_tokenizer_decode(tok, &decoder, id, &out))
			abort();
	}
	g2_buf_free(&out);
}

/* Any of the errors that a text may be answered with is fine. */
static inline void
use_text(const g2_tokenizer *tok, const char *text, size_t len)
{
	uint32_t	size = g2_tokenizer_size(tok);
	g2_ids		ids = {0};
	g2_error	err = {0};

	if (!g2_tokenizer_encode(tok, text, len, 0, NULL, &ids, &err) &&
		(err.code == G2_E_INTERNAL || err.code == G2_E_MEMORY || ids.len != 0))
		abort();
	for (size_t i = 0; i < ids.len; i++)
		if (ids.data[i] >= size)
			abort();
	g2_free(ids.data);
}

/* Compiles and uses; a message must be one that can be shown. */
static inline void
use_files(const g2_tokenizer_files *f, const char *text, size_t len)
{
	g2_buf		blob = {0};
	g2_tokenizer *tok;
	g2_error	err;

	if (g2_tokenizer_compile(f, 300, &blob, &err))
	{
		if (!g2_tokenizer_open(blob.data, blob.len, &tok, &err))
			abort();
		use_text(tok, text, len);
		use_pieces(tok);
		g2_tokenizer_close(tok);
	}
	else if (g2_utf8_valid_prefix(err.message, strlen(err.message)) != strlen(err.message))
		abort();
	g2_buf_free(&blob);
}

#endif							/* TOKENIZER_USE_H */
