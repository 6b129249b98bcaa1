/*
 * tokenizer_json.c: a tokenizer.json, everything in one file.
 */
#include "tokenizer_compile.h"

bool
g2_tok_read_json(g2_compiler *c, const g2_tokenizer_file *file)
{
	return g2_fail(c->err, G2_E_UNSUPPORTED, "the tokenizer in \"%s\" is not supported",
				   file->path);
}
