/*
 * fuzz_tokenizer_files.c: the input is vocab.json, a byte 0xFF (which neither file can hold) and
 * merges.txt.  What compiles must open, and then tokenize without leaving its tables.
 */
#include <stdlib.h>

#include "tokenizer.h"

static const char text[] = "the  lowest newer's 12 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa "
	"lolololololololololololololololololololololololo \xC3\xA9\xFF!";

static void
use(const g2_tokenizer *tok)
{
	uint32_t	size = g2_tokenizer_size(tok);
	g2_ids		ids = {0};
	g2_error	err;

	if (!g2_tokenizer_encode(tok, text, sizeof text - 1, 0, NULL, &ids, &err))
		abort();
	for (size_t i = 0; i < ids.len; i++)
		if (ids.data[i] >= size)
			abort();
	for (uint32_t id = 0; id < size; id++)
	{
		size_t		n,
					found_len;
		const char *piece = g2_tokenizer_piece(tok, id, &n),
				   *found = g2_tokenizer_piece(tok, g2_tokenizer_find(tok, piece, n), &found_len);

		if (!found || n == 0 || n > G2_MAX_PIECE || found_len != n || memcmp(piece, found, n) != 0)
			abort();
	}
	g2_free(ids.data);
}

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *part = size > 0 ? memchr(data, 0xFF, size) : NULL;
	g2_tokenizer_files f = {0};
	g2_buf		blob = {0};
	g2_tokenizer *tok;
	g2_error	err;

	if (!part)
		return 0;
	f.vocab = (g2_tokenizer_file) {"vocab.json", (const char *) data, (size_t) (part - data)};
	f.merges = (g2_tokenizer_file) {"merges.txt", (const char *) part + 1, size - f.vocab.len - 1};
	if (g2_tokenizer_compile(&f, 300, &blob, &err))
	{
		if (!g2_tokenizer_open(blob.data, blob.len, &tok, &err))
			abort();
		use(tok);
		g2_tokenizer_close(tok);
	}
	else if (g2_utf8_valid_prefix(err.message, strlen(err.message)) != strlen(err.message))
		abort();
	g2_buf_free(&blob);
	return 0;
}
