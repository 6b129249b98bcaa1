/*
 * fuzz_wordpiece.c: the input is a byte of options, vocab.txt, a byte 0xFF (which the file cannot
 * hold) and any text.
 */
#include "tokenizer_use.h"

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *part = size > 1 ? memchr(data + 1, 0xFF, size - 1) : NULL;
	g2_tokenizer_files f = {0};

	if (!part)
		return 0;
	f.wordpiece = (g2_wordpiece_options) {data[0] & 1, data[0] & 2, data[0] & 4};
	f.words = (g2_tokenizer_file) {"vocab.txt", (const char *) data + 1,
		(size_t) (part - data) - 1};
	use_files(&f, (const char *) part + 1, size - f.words.len - 2);
	return 0;
}
