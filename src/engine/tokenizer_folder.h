/*
 * tokenizer_folder.h: a model folder's tokenizer.
 */
#ifndef G2_TOKENIZER_FOLDER_H
#define G2_TOKENIZER_FOLDER_H

#include <cjson/cJSON.h>

#include "tokenizer.h"

/*
 * Compiles the tokenizer's files of a folder into blob (appended) and opens it; *out stays NULL,
 * and blob as it is, when the folder has none.  config is tokenizer_config.json, or NULL.
 * *ignored: a special token that the model has no row for, or G2_NO_TOKEN.
 */
extern bool g2_tokenizer_of_folder(const char *folder, const cJSON *config, uint32_t n_vocab,
								   g2_buf *blob, g2_tokenizer **out, uint32_t *ignored,
								   g2_error *err);

#endif							/* G2_TOKENIZER_FOLDER_H */
