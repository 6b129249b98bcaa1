/*
 * fuzz_tokenizer_json.c: the input is a tokenizer.json.
 */
#include "tokenizer_use.h"

static const char text[] = "The  printer's 12 \xC3\x89t\xC3\xA9 e\xCC\x81 \xE4\xB8\xAD\xE6\x96\x87"
	"\xEF\xBC\x8C \xED\x95\x9C \xF0\x9F\x91\x8D <tab>\t\xEF\xAC\x81 \xC4\xB0 \xFF [MASK]!";

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g2_tokenizer_files f = {.json = {"tokenizer.json", (const char *) data, size}};

	if (data)
		use_files(&f, text, sizeof text - 1);
	return 0;
}
