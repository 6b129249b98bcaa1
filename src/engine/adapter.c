/*
 * adapter.c: what an adapter's folder says, its base found and compared, and the base's pack made
 * the adapter's.
 */
#include "adapter.h"

#include <math.h>
#include <stdio.h>

#include "describe.h"
#include "file.h"
#include "json.h"
#include "own_json.h"
#include "pack.h"

#define BASE_HASH "base_hash"

bool
g2_adapter_is(const char *folder)
{
	return g2_file_exists(folder, G2_ADAPTER_CONFIG) &&
		!g2_file_exists(folder, "model.safetensors") &&
		!g2_file_exists(folder, "model.safetensors.index.json");
}

/* ---- adapter_config.json ---- */

static bool
fail_unsupported(const char *path, const char *key, g2_error *err)
{
	g2_fail(err, G2_E_UNSUPPORTED, "\"%s\" in \"%s\" is not supported", key, path);
	return g2_fail_hint(err, "Supported are plain LoRA adapters, which add to the matrices of "
						"layers alone.");
}

/* Absent, null, false, or nothing in it. */
static bool
is_off(const cJSON *item)
{
	return !item || cJSON_IsNull(item) || cJSON_IsFalse(item) ||
		((cJSON_IsArray(item) || cJSON_IsObject(item)) && !item->child);
}

/* What would change the sum.  How A and B started matters not, but where the start took its part
 * out of the base's weights. */
static bool
check_plain(const cJSON *json, const char *path, g2_error *err)
{
	static const char *const off[] = {
		"use_dora", "lora_bias", "use_qalora", "use_bdlora", "rank_pattern", "alpha_pattern",
		"modules_to_save", "trainable_token_indices", "layer_replication", "target_parameters",
		"alora_invocation_tokens", "arrow_config", "loftq_config", "corda_config",
	},
			   *const starts[] = {"gaussian", "eva", "orthogonal"};
	const char *type,
			   *bias;
	const cJSON *start = cJSON_GetObjectItemCaseSensitive(json, "init_lora_weights");
	bool		known = !cJSON_IsString(start);

	if (!g2_json_string(json, path, "peft_type", &type, err) ||
		!g2_json_string(json, path, "bias", &bias, err))
		return false;
	if (type && strcmp(type, "LORA") != 0)
		return fail_unsupported(path, "peft_type", err);
	if (bias && strcmp(bias, "none") != 0)
		return fail_unsupported(path, "bias", err);
	for (size_t i = 0; i < G2_LENGTH(off); i++)
		if (!is_off(cJSON_GetObjectItemCaseSensitive(json, off[i])))
			return fail_unsupported(path, off[i], err);
	for (size_t i = 0; !known && i < G2_LENGTH(starts); i++)
		known = strcmp(start->valuestring, starts[i]) == 0;
	return known || fail_unsupported(path, "init_lora_weights", err);
}

static bool
read_base(const cJSON *json, const char *path, g2_adapter_config *config, g2_error *err)
{
	const char *base,
			   *slash;

	if (!g2_json_string(json, path, "base_model_name_or_path", &base, err))
		return false;
	if (!base)
		return g2_fail(err, G2_E_BAD_JSON, "\"base_model_name_or_path\" is missing in \"%s\"",
					   path);
	slash = strrchr(base, '/');
	if (slash)
		base = slash + 1;
	if (!g2_model_name_check(base, strlen(base), err))
		return g2_fail_hint(err, "\"base_model_name_or_path\" in \"%s\" names the base, by the "
							"last part of its path.", path);
	strcpy(config->base, base);
	return true;
}

static bool
read_config(const cJSON *json, const char *path, g2_adapter_config *config, g2_error *err)
{
	int64_t		rank;
	double		alpha;
	bool		root;

	if (!check_plain(json, path, err) || !read_base(json, path, config, err) ||
		!g2_json_int(json, path, "r", 1, G2_ADAPTER_MAX_RANK, false, 0, &rank, err) ||
		!g2_json_double(json, path, "lora_alpha", 0, 1e6, false, 0, &alpha, err) ||
		!g2_json_bool(json, path, "use_rslora", false, &root, err))
		return false;
	config->rank = (uint32_t) rank;
	config->scale = (float) (alpha / (root ? sqrt((double) rank) : (double) rank));
	return true;
}

/* ---- gpt2.json ---- */

/* Takes base_hash out of it; *hash is "" where it is not there. */
static bool
take_base_hash(cJSON *json, const char *path, char hash[65], g2_error *err)
{
	const char *text;

	hash[0] = '\0';
	if (!g2_json_string(json, path, BASE_HASH, &text, err))
		return false;
	if (text)
	{
		if (strlen(text) != 64 || strspn(text, "0123456789abcdef") != 64)
			return g2_fail(err, G2_E_BAD_JSON, "\"" BASE_HASH "\" in \"%s\" must have 64 "
						   "hexadecimal digits", path);
		strcpy(hash, text);
	}
	cJSON_DeleteItemFromObjectCaseSensitive(json, BASE_HASH);
	return true;
}

static bool
check_own(cJSON *json, const char *path, char hash[65], g2_error *err)
{
	static const char *const of_base[] = {"end_token", "start_token"};

	if (!take_base_hash(json, path, hash, err) || !g2_describe_check_own(json, path, err))
		return false;
	for (size_t i = 0; i < G2_LENGTH(of_base); i++)
		if (cJSON_GetObjectItemCaseSensitive(json, of_base[i]))
			return g2_fail(err, G2_E_BAD_JSON, "\"%s\" in \"%s\" cannot be an adapter's: special "
						   "tokens are its base's", of_base[i], path);
	return true;
}

/* hash and tasks may be NULL. */
static bool
read_own(const char *folder, char hash[65], char **tasks, g2_error *err)
{
	char	   *path = g2_file_path(folder, G2_OWN_JSON),
				ignored[65];
	cJSON	   *json = NULL;
	bool		ok;

	if (!path)
		return g2_fail_memory(err, strlen(folder));
	ok = g2_own_json_read(folder, &json, NULL, err);
	if (ok && json)
		ok = check_own(json, g2_file_tail(path), hash ? hash : ignored, err) &&
			(!tasks || g2_own_json_content(json, tasks, err));
	cJSON_Delete(json);
	g2_free(path);
	return ok;
}

bool
g2_adapter_own(const char *folder, char **tasks, g2_error *err)
{
	*tasks = NULL;
	return read_own(folder, NULL, tasks, err);
}

bool
g2_adapter_config_read(const char *folder, g2_adapter_config *config, g2_error *err)
{
	char	   *path = g2_file_path(folder, G2_ADAPTER_CONFIG);
	cJSON	   *json = NULL;
	bool		ok;

	memset(config, 0, sizeof *config);
	if (!path)
		return g2_fail_memory(err, strlen(folder));
	config->file = g2_file_state_at(folder, G2_ADAPTER_CONFIG);
	ok = g2_json_read(folder, G2_ADAPTER_CONFIG, G2_MAX_JSON_FILE, &json, err);
	if (ok && !json)
		ok = g2_fail(err, G2_E_NO_FILE, "\"" G2_ADAPTER_CONFIG "\" is missing in \"%s\"",
					 g2_file_tail(folder));
	ok = ok && read_config(json, g2_file_tail(path), config, err) &&
		read_own(folder, config->base_hash, NULL, err);
	cJSON_Delete(json);
	g2_free(path);
	return ok;
}

/* ---- the base ---- */

bool
g2_adapter_find_base(const g2_model_paths *paths, const char *name,
					 const g2_adapter_config *config, char **base, g2_error *err)
{
	if (!g2_model_find(paths, config->base, base, err))
	{
		/* as "not found" it would be the adapter that is not */
		if (err && err->code == G2_E_NOT_FOUND)
		{
			g2_fail(err, G2_E_VERSION, "model \"%s\" is an adapter of model \"%s\", which is not "
					"there", name, config->base);
			g2_fail_hint(err, "Put the folder of \"%s\" into a directory of gpt2.model_path.",
						 config->base);
		}
		return false;
	}
	if (!g2_adapter_is(*base))
		return true;
	g2_free(*base);
	*base = NULL;
	return g2_fail(err, G2_E_UNSUPPORTED, "model \"%s\" is an adapter of model \"%s\", which is an "
				   "adapter too", name, config->base);
}

bool
g2_adapter_check_base(const char *name, const g2_adapter_config *config, const char *content_hash,
					  g2_error *err)
{
	if (!config->base_hash[0] || strcmp(config->base_hash, content_hash) == 0)
		return true;
	g2_fail(err, G2_E_VERSION, "model \"%s\" is not the one that adapter \"%s\" was made from",
			config->base, name);
	g2_fail_detail(err, "Its content hash is %s, \"" BASE_HASH "\" in the adapter's \"gpt2.json\" "
				   "is %s.", content_hash, config->base_hash);
	return g2_fail_hint(err, "Put the base's old files back, or train the adapter again. Where "
						"only templates differ, \"" BASE_HASH "\" may be changed.");
}

/* ---- the pack ---- */

bool
g2_adapter_changed(const g2_adapter *a, const g2_file_state *own_json)
{
	const g2_file_state config = g2_file_state_at(a->folder, G2_ADAPTER_CONFIG),
				weights = g2_file_state_at(a->folder, G2_ADAPTER_WEIGHTS),
				own = g2_file_state_at(a->folder, G2_OWN_JSON),
				gone = {0};

	if (g2_file_state_equal(&config, &gone) || g2_file_state_equal(&weights, &gone))
		return false;
	return !g2_file_state_equal(&config, &a->config.file) ||
		!g2_file_state_equal(&weights, &a->weights_file) || !g2_file_state_equal(&own, own_json);
}

/* The base's content, the adapter's files and what its gpt2.json says for tasks. */
static bool
hash_content(g2_pack *pack, const char *folder, const char *tasks, g2_error *err)
{
	g2_hash    *hash = g2_hash_new(err);
	uint8_t		digest[G2_HASH];
	bool		ok = hash != NULL;

	if (ok)
		g2_hash_add(hash, pack->content_hash, sizeof pack->content_hash);
	ok = ok && g2_hash_file(hash, folder, G2_ADAPTER_CONFIG, err) &&
		g2_hash_file(hash, folder, G2_ADAPTER_WEIGHTS, err);
	if (ok && tasks)
		g2_hash_add(hash, tasks, strlen(tasks));
	ok = ok && g2_hash_end(hash, digest, err);
	g2_hash_free(hash);
	if (ok)
		g2_hash_hex(digest, G2_HASH, pack->content_hash);
	return ok;
}

static bool
attach(g2_pack *pack, g2_adapter *a, const char *base_folder, const atomic_bool *cancel,
	   g2_error *err)
{
	char	   *tasks;

	if (!a->folder)
		return g2_fail_memory(err, G2_MAX_NAME);
	a->weights_file = g2_file_state_at(a->folder, G2_ADAPTER_WEIGHTS);
	if (!g2_adapter_own(a->folder, &tasks, err))
		return false;
	g2_free(pack->description.tasks);
	pack->description.tasks = tasks;
	if (!g2_adapter_read_weights(a, &pack->weights, base_folder, cancel, err) ||
		!hash_content(pack, a->folder, tasks, err))
		return false;
	pack->weights.adapter = a->layers;
	pack->weights.adapter_rank = a->config.rank;
	pack->description.parameters += a->parameters;
	return true;
}

bool
g2_adapter_attach(g2_pack *pack, const char *name, const char *folder,
				  const g2_adapter_config *config, const char *base_folder,
				  const g2_file_state *base_own_json, const atomic_bool *cancel, g2_error *err)
{
	g2_adapter *a;

	if (!g2_adapter_check_base(name, config, pack->content_hash, err))
		return false;
	a = g2_alloc(sizeof *a);
	if (!a)
		return g2_fail_memory(err, sizeof *a);
	a->config = *config;
	a->base_own_json = *base_own_json;
	a->folder = g2_strdup(folder);
	pack->adapter = a;			/* which frees it */
	return attach(pack, a, base_folder, cancel, err);
}

void
g2_adapter_free(g2_adapter *a)
{
	if (!a)
		return;
	g2_free(a->folder);
	g2_free(a->layers);
	g2_free(a->memory);
	g2_free(a);
}
