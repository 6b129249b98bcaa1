/*
 * describe.h: what describe.c reads of a model folder, one thing after the other; for
 * model_check.c.
 */
#ifndef G2_DESCRIBE_H
#define G2_DESCRIBE_H

#include "config.h"
#include "json.h"
#include "model.h"

/* The optional JSON files that are asked for special tokens; NULL = absent. */
typedef struct g2_describe_files
{
	const char *folder;
	cJSON	   *own;			/* gpt2.json */
	cJSON	   *generation;
	cJSON	   *tokenizer_config;
	cJSON	   *special_map;
	g2_tokenizer *tokenizer;
	bool		warned;
} g2_describe_files;

extern bool g2_describe_config(const char *folder, g2_config *config, g2_error *err);

/* The tokenizer, and what its own settings say; d->arch is set.  blob is what it is a view of. */
extern bool g2_describe_tokenizer(g2_describe_files *f, g2_description *d, g2_buf *blob,
								  g2_error *err);

/* The keys of a gpt2.json, and what they hold; 22032.  path: for the message. */
extern bool g2_describe_check_own(const cJSON *json, const char *path, g2_error *err);

/* gpt2.json. */
extern bool g2_describe_own(g2_describe_files *f, g2_description *d, g2_error *err);

/* End and start token; after tokenizer and gpt2.json. */
extern bool g2_describe_tokens(g2_describe_files *f, g2_description *d, const g2_config *config,
							   g2_error *err);

extern void g2_describe_close(g2_describe_files *f);

#endif							/* G2_DESCRIBE_H */
