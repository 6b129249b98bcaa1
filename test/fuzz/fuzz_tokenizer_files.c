/*
 * fuzz_tokenizer_files.c: the input is vocab.json, a byte 0xFF (which neither file can hold) and
 * merges.txt; without that byte it is a vocab.json of characters.
 */
#include "tokenizer_use.h"

static const char text[] = "the  lowest newer's 12 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa "
	"lolololololololololololololololololololololololo \xC3\xA9\xFF!";

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *part = size > 0 ? memchr(data, 0xFF, size) : NULL;
	g2_tokenizer_files f = {.merges.path = "merges.txt"};

	f.vocab = (g2_tokenizer_file) {"vocab.json", (const char *) data,
		part ? (size_t) (part - data) : size};
	if (part)
	{
		f.merges.data = (const char *) part + 1;
		f.merges.len = size - f.vocab.len - 1;
	}
	if (f.vocab.data)
		use_files(&f, text, sizeof text - 1);
	return 0;
}
