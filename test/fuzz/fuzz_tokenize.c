/*
 * fuzz_tokenize.c: any text through a fixed small vocabulary.  Decoding gives the text back, and
 * the limit on ids is exact.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tokenizer.h"

static g2_tokenizer *
make_tokenizer(void)
{
	static const char merges[] = "t h\n\xC4\xA0 a\nth e\na a\n\xC4\xA0 the\naa aa\na b\nb a\n"
		"ab ab\nab a\nb ab\n\xC3\x83 \xC2\xA9\n1 2\n\xC4\xA0 \xC4\xA0\n\xC4\x8A \xC4\x8A\n"
		"' s\nb b\nbb a\n";
	static g2_buf vocab,
				blob;
	g2_tokenizer_files f = {.merges = {"merges.txt", merges, sizeof merges - 1}};
	g2_tokenizer *tok;
	g2_error	err;
	int			id = 0;

	/* the byte alphabet: printable bytes are themselves, the others follow from U+0100 */
	for (int b = 0, other = 256; b < 256; b++)
	{
		int			c = (b >= 33 && b <= 126) || (b >= 161 && b != 173) ? b : other++;

		g2_buf_printf(&vocab, "%s\"\\u%04x\":%d", b ? "," : "{", (unsigned) c, id++);
	}
	for (const char *p = merges, *lf; *p; p = lf + 1)
	{
		const char *space = strchr(p, ' ');

		lf = strchr(p, '\n');
		g2_buf_printf(&vocab, ",\"%.*s%.*s\":%d", (int) (space - p), p, (int) (lf - space - 1),
					  space + 1, id++);
	}
	g2_buf_printf(&vocab, ",\"<|endoftext|>\":%d}", id++);
	f.vocab = (g2_tokenizer_file) {"vocab.json", vocab.data, vocab.len};
	if (!g2_tokenizer_compile(&f, (uint32_t) id, &blob, &err) ||
		!g2_tokenizer_open(blob.data, blob.len, &tok, &err))
	{
		fprintf(stderr, "%s\n", err.message);
		abort();
	}
	return tok;
}

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static g2_tokenizer *tok;
	const char *text = (const char *) data;
	g2_ids		ids = {0};
	g2_error	err;
	size_t		n,
				at = 0;

	if (!tok)
		tok = make_tokenizer();
	if (!g2_tokenizer_encode(tok, text, size, 0, NULL, &ids, &err))
		abort();
	n = ids.len;
	for (size_t i = 0; i < n; i++)
	{
		size_t		len;
		const char *piece = g2_tokenizer_piece(tok, ids.data[i], &len);

		if (!piece || len > size - at || memcmp(piece, text + at, len) != 0 ||
			g2_tokenizer_is_special(tok, ids.data[i]))
			abort();
		at += len;
	}
	if (at != size)
		abort();
	if (n > 1 && (g2_tokenizer_encode(tok, text, size, n - 1, NULL, &ids, &err) ||
				  err.code != G2_E_TOO_LONG || ids.len != n))
		abort();
	if (n > 0 && (!g2_tokenizer_encode(tok, text, size, n, NULL, &ids, &err) || ids.len != 2 * n))
		abort();
	g2_free(ids.data);
	return 0;
}
