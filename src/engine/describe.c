/*
 * describe.c: what a model folder says about itself without its weights: config.json, the
 * tokenizer's files, gpt2.json, and which tokens start and end a text.
 *
 * A special token comes from the first of: gpt2.json (end_token, start_token: a piece or an id),
 * generation_config.json, the tokenizer's own settings, config.json (only an id that the tokenizer
 * marks as special, as transformers writes GPT-2's ids into every config), and for a BERT
 * vocabulary [SEP] and [CLS].  An id that the vocabulary has not is passed over with one warning.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "describe.h"
#include "file.h"
#include "folder.h"
#include "own_json.h"
#include "tokenizer_folder.h"

typedef struct describe_special
{
	const char *config_key;		/* in generation_config.json */
	const char *tokenizer_key;	/* in tokenizer_config.json, special_tokens_map.json */
	const char *own_key;		/* in gpt2.json */
	const char *bert;			/* piece of a BERT vocabulary */
} describe_special;

static const describe_special describe_start = {"bos_token_id", "bos_token", "start_token",
"[CLS]"},
			describe_end = {"eos_token_id", "eos_token", "end_token", "[SEP]"};


static void
describe_warn(g2_description *d, const char *fmt, ...) G2_PRINTF(2, 3);

static void
describe_warn(g2_description *d, const char *fmt, ...)
{
	va_list		ap;

	if (d->n_warnings == G2_MAX_WARNINGS)
		return;
	va_start(ap, fmt);
	vsnprintf(d->warning[d->n_warnings++], sizeof d->warning[0], fmt, ap);
	va_end(ap);
}

/* ---------------------------------------------------------------- files */

/* An optional JSON file; *json stays NULL when it is absent. */
static bool
describe_json(const char *folder, const char *name, cJSON **json, g2_error *err)
{
	return g2_json_read(folder, name, G2_MAX_JSON_FILE, json, err);
}

bool
g2_describe_config(const char *folder, g2_config *config, g2_error *err)
{
	g2_buf		text = {0};
	char	   *path = g2_file_path(folder, "config.json");
	bool		ok;

	ok = path ? g2_file_read(folder, "config.json", G2_MAX_JSON_FILE, &text, err)
		: g2_fail_memory(err, strlen(folder));
	ok = ok && g2_config_parse(path, text.data, text.len, config, err);
	g2_buf_free(&text);
	g2_free(path);
	return ok;
}

/* ---------------------------------------------------------------- gpt2.json */

static bool
describe_fail_own(const char *path, const char *what, const char *name, const char *must,
				  g2_error *err)
{
	char		excerpt[G2_JSON_EXCERPT];

	return g2_fail(err, G2_E_BAD_JSON, "%s \"%s\" in \"%s\" must be %s", what,
				   g2_json_excerpt(excerpt, name, strlen(name)), path, must);
}

static bool
describe_strings(const cJSON *array)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, array)
		if (!cJSON_IsString(item) || !item->valuestring[0])
			return false;
	return cJSON_IsArray(array);
}

static bool
describe_is_known(const char *key)
{
	static const char *const known[] = {"templates", "stop", "end_token", "start_token",
	G2_OWN_ROLE_KEYS};

	for (size_t i = 0; i < G2_LENGTH(known); i++)
		if (strcmp(key, known[i]) == 0)
			return true;
	return false;
}

/* What is not known is refused.  Roles are checked by model_roles.c, tokens where they are used. */
bool
g2_describe_check_own(const cJSON *json, const char *path, g2_error *err)
{
	const cJSON *member,
			   *item;
	char		excerpt[G2_JSON_EXCERPT];
	g2_owner	owner;

	if (!g2_own_json_owner(json, path, &owner, err))
		return false;
	cJSON_ArrayForEach(member, json)
	{
		const char *key = member->string;

		if (strcmp(key, "templates") == 0 || strcmp(key, "stop") == 0)
		{
			bool		stop = key[0] == 's';

			if (!cJSON_IsObject(member))
				return describe_fail_own(path, "key", key, "an object", err);
			cJSON_ArrayForEach(item, member)
				if (stop ? !describe_strings(item) : !cJSON_IsString(item))
					return describe_fail_own(path, stop ? "stop" : "template", item->string,
											 stop ? "an array of strings that are not empty"
											 : "a string", err);
		}
		else if (!describe_is_known(key))
		{
			g2_fail(err, G2_E_BAD_JSON, "unknown key \"%s\" in \"%s\"",
					g2_json_excerpt(excerpt, key, strlen(key)), path);
			return g2_fail_hint(err, "Valid keys: templates, stop, roles, owner, owner_oid, "
								"owner_cluster, end_token, start_token.");
		}
	}
	return true;
}

bool
g2_describe_own(g2_describe_files *f, g2_description *d, g2_error *err)
{
	char	   *path;
	bool		ok;

	if (!g2_own_json_read(f->folder, &f->own, NULL, err))
		return false;
	if (!f->own)
		return true;
	path = g2_file_path(f->folder, G2_OWN_JSON);
	ok = path ? g2_describe_check_own(f->own, g2_file_tail(path), err)
		: g2_fail_memory(err, strlen(f->folder));
	g2_free(path);
	return ok && g2_own_json_content(f->own, &d->tasks, err);
}

/* ---------------------------------------------------------------- special tokens */

/* Once per model. */
static void
describe_warn_id(g2_describe_files *f, g2_description *d, const char *what, const char *where,
				 double id)
{
	if (!f->warned)
		describe_warn(d, "%s %.0f in %s is ignored: the vocabulary has %u tokens", what,
					  fmax(fmin(id, 1e15), -1e15), where, d->arch.n_vocab);
	f->warned = true;
}

/* Gives *token the id when the vocabulary has it; otherwise the warning. */
static bool
describe_take_id(g2_describe_files *f, g2_description *d, const char *where, const char *key,
				 double id, uint32_t *token)
{
	if (id >= 0 && id < d->arch.n_vocab && id == trunc(id))
	{
		*token = (uint32_t) id;
		return true;
	}
	describe_warn_id(f, d, key, where, id);
	return false;
}

/* The author of gpt2.json means this engine, so that a wrong token is an error there. */
static bool
describe_own_token(g2_describe_files *f, g2_description *d, const char *key, uint32_t *token,
				   g2_error *err)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(f->own, key);

	if (!item || cJSON_IsNull(item))
		return true;
	if (cJSON_IsNumber(item))
	{
		if (item->valuedouble >= 0 && item->valuedouble < d->arch.n_vocab &&
			item->valuedouble == trunc(item->valuedouble))
		{
			*token = (uint32_t) item->valuedouble;
			return true;
		}
		return g2_fail(err, G2_E_BAD_JSON, "\"%s\" in \"gpt2.json\" of \"%s\" must be an id from "
					   "0 to %u", key, g2_file_tail(f->folder), d->arch.n_vocab - 1);
	}
	if (cJSON_IsString(item) && f->tokenizer)
		*token = g2_tokenizer_find(f->tokenizer, item->valuestring, strlen(item->valuestring));
	if (*token == G2_NO_TOKEN)
		return g2_fail(err, G2_E_BAD_JSON, "\"%s\" in \"gpt2.json\" of \"%s\" must be a token of "
					   "the vocabulary or its id", key, g2_file_tail(f->folder));
	return true;
}

/* "eos_token": "<|endoftext|>" or {"content": "<|endoftext|>", ...} */
static uint32_t
describe_tokenizer_token(const g2_describe_files *f, const cJSON *json, const char *key)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, key);

	if (cJSON_IsObject(item))
		item = cJSON_GetObjectItemCaseSensitive(item, "content");
	if (!f->tokenizer || !cJSON_IsString(item))
		return G2_NO_TOKEN;
	return g2_tokenizer_find(f->tokenizer, item->valuestring, strlen(item->valuestring));
}

static bool
describe_token(g2_describe_files *f, g2_description *d, const describe_special *which,
			   int64_t config_id, uint32_t *token, g2_error *err)
{
	const cJSON *item;

	*token = G2_NO_TOKEN;
	if (!describe_own_token(f, d, which->own_key, token, err))
		return false;
	if (*token != G2_NO_TOKEN)
		return true;
	item = cJSON_GetObjectItemCaseSensitive(f->generation, which->config_key);
	if (cJSON_IsArray(item))
		item = item->child;
	if (cJSON_IsNumber(item) && describe_take_id(f, d, "generation_config.json",
												 which->config_key, item->valuedouble, token))
		return true;
	*token = describe_tokenizer_token(f, f->tokenizer_config, which->tokenizer_key);
	if (*token == G2_NO_TOKEN)
		*token = describe_tokenizer_token(f, f->special_map, which->tokenizer_key);
	if (*token != G2_NO_TOKEN)
		return true;
	if (config_id != -1 &&
		describe_take_id(f, d, "config.json", which->config_key, (double) config_id, token) &&
		!(f->tokenizer && g2_tokenizer_is_special(f->tokenizer, *token)))
		*token = G2_NO_TOKEN;
	if (*token == G2_NO_TOKEN && f->tokenizer &&
		strcmp(g2_tokenizer_name(f->tokenizer), "wordpiece") == 0)
		*token = g2_tokenizer_find(f->tokenizer, which->bert, strlen(which->bert));
	return true;
}

/* ---------------------------------------------------------------- all of it */

/* The tokenizer, and what its own settings say. */
bool
g2_describe_tokenizer(g2_describe_files *f, g2_description *d, g2_buf *blob, g2_error *err)
{
	uint32_t	ignored;

	if (!describe_json(f->folder, "tokenizer_config.json", &f->tokenizer_config, err) ||
		!g2_tokenizer_of_folder(f->folder, f->tokenizer_config, d->arch.n_vocab, blob,
								&f->tokenizer, &ignored, err))
		return false;
	snprintf(d->tokenizer, sizeof d->tokenizer, "%s",
			 f->tokenizer ? g2_tokenizer_name(f->tokenizer) : "none");
	if (ignored != G2_NO_TOKEN)
		describe_warn_id(f, d, "special token", "tokenizer.json", ignored);
	return true;
}

bool
g2_describe_tokens(g2_describe_files *f, g2_description *d, const g2_config *config, g2_error *err)
{
	return describe_json(f->folder, "generation_config.json", &f->generation, err) &&
		describe_json(f->folder, "special_tokens_map.json", &f->special_map, err) &&
		describe_token(f, d, &describe_end, config->end_id, &d->end_token, err) &&
		describe_token(f, d, &describe_start, config->start_id, &d->start_token, err);
}

static bool
describe_read(g2_describe_files *f, g2_description *d, g2_buf *blob, g2_error *err)
{
	const char *folder = f->folder;
	g2_config	config;

	if (!g2_folder_check(folder, err) || !g2_describe_config(folder, &config, err))
		return false;
	d->arch = config.arch;
	memcpy(d->architecture, config.architecture, sizeof d->architecture);
	d->parameters = g2_arch_parameters(&d->arch);
	return g2_describe_tokenizer(f, d, blob, err) && g2_describe_own(f, d, err) &&
		g2_describe_tokens(f, d, &config, err);
}

void
g2_describe_close(g2_describe_files *f)
{
	g2_tokenizer_close(f->tokenizer);
	cJSON_Delete(f->own);
	cJSON_Delete(f->generation);
	cJSON_Delete(f->tokenizer_config);
	cJSON_Delete(f->special_map);
}

bool
g2_model_describe(const char *path, g2_description *description, g2_buf *tokenizer_blob,
				  g2_error *err)
{
	g2_describe_files f = {.folder = path};
	bool		ok;

	memset(description, 0, sizeof *description);
	ok = describe_read(&f, description, tokenizer_blob, err);
	g2_describe_close(&f);
	if (!ok)
		g2_description_free(description);
	return ok;
}

void
g2_description_free(g2_description *description)
{
	g2_free(description->tasks);
	description->tasks = NULL;
}
