/*
 * config.c: config.json of GPT-2's family -> g2_arch.
 *
 * The file is untrusted: every number has bounds, and what the engine does not compute is refused
 * by name instead of being ignored.  Absent switches have the defaults of transformers' GPT2Config;
 * the sizes have none, as a file without them is damaged.
 */
#include "config.h"

#include <math.h>

#include "file.h"
#include "json.h"

#define CONFIG_MAX_ID (INT64_C(1) << 53)

static const struct
{
	const char *name;
	g2_activation activation;
}			activations[] = {
	{"gelu_new", G2_ACT_GELU_NEW},
	{"gelu_pytorch_tanh", G2_ACT_GELU_NEW},
	{"gelu", G2_ACT_GELU},
	{"relu", G2_ACT_RELU},
};

static bool
config_unsupported(const char *path, const char *what, const char *value, const char *supported,
				   g2_error *err)
{
	char		excerpt[G2_JSON_EXCERPT];

	g2_fail(err, G2_E_UNSUPPORTED, "%s \"%s\" in \"%s\" is not supported", what,
			g2_json_excerpt(excerpt, value, strlen(value)), path);
	return g2_fail_hint(err, "Supported: %s.", supported);
}

/* model_type and architectures; one of them must be there. */
static bool
config_architecture(const cJSON *json, const char *path, g2_error *err)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(json, "architectures"),
			   *item;
	const char *type;

	if (!g2_json_string(json, path, "model_type", &type, err))
		return false;
	if (type && strcmp(type, "gpt2") != 0)
		return config_unsupported(path, "model_type", type, "gpt2", err);
	if (list && !cJSON_IsNull(list))
	{
		if (!cJSON_IsArray(list))
			return g2_fail(err, G2_E_BAD_JSON, "\"architectures\" in \"%s\" must be an array",
						   path);
		if (!type && !list->child)
			return g2_fail(err, G2_E_BAD_JSON, "\"architectures\" in \"%s\" is empty", path);
		cJSON_ArrayForEach(item, list)
		{
			if (!cJSON_IsString(item))
				return g2_fail(err, G2_E_BAD_JSON,
							   "\"architectures\" in \"%s\" must hold strings", path);
			if (strcmp(item->valuestring, "GPT2LMHeadModel") != 0 &&
				strcmp(item->valuestring, "GPT2Model") != 0)
				return config_unsupported(path, "architecture", item->valuestring,
										  "GPT2LMHeadModel, GPT2Model", err);
		}
	}
	else if (!type)
		return g2_fail(err, G2_E_BAD_JSON, "\"model_type\" is missing in \"%s\"", path);
	return true;
}

static bool
config_size(const cJSON *json, const char *path, const char *key, uint32_t hi, uint32_t *out,
			g2_error *err)
{
	int64_t		value;

	if (!g2_json_int(json, path, key, 1, hi, false, 0, &value, err))
		return false;
	*out = (uint32_t) value;
	return true;
}

static bool
config_sizes(const cJSON *json, const char *path, g2_arch *arch, g2_error *err)
{
	const cJSON *n_positions = cJSON_GetObjectItemCaseSensitive(json, "n_positions"),
			   *n_ctx = cJSON_GetObjectItemCaseSensitive(json, "n_ctx");
	bool		old = (!n_positions || cJSON_IsNull(n_positions)) && n_ctx;
	int64_t		n_ff;

	if (!config_size(json, path, "n_layer", G2_MAX_LAYERS, &arch->n_layer, err) ||
		!config_size(json, path, "n_head", G2_MAX_EMBD, &arch->n_head, err) ||
		!config_size(json, path, "n_embd", G2_MAX_EMBD, &arch->n_embd, err) ||
		!config_size(json, path, old ? "n_ctx" : "n_positions", G2_MAX_CTX, &arch->n_ctx, err) ||
		!config_size(json, path, "vocab_size", G2_MAX_VOCAB, &arch->n_vocab, err) ||
		!g2_json_int(json, path, "n_inner", 1, G2_MAX_FF, true, 4 * (int64_t) arch->n_embd, &n_ff,
					 err))
		return false;
	arch->n_ff = (uint32_t) n_ff;
	return true;
}

/* Switches that change what is computed: what is not implemented must be off. */
static bool
config_switches(const cJSON *json, const char *path, g2_arch *arch, g2_error *err)
{
	static const char *const off[] = {
		"scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn", "add_cross_attention",
	};
	bool		scale,
				tied,
				on;

	for (size_t i = 0; i < G2_LENGTH(off); i++)
	{
		if (!g2_json_bool(json, path, off[i], false, &on, err))
			return false;
		if (on)
			return g2_fail(err, G2_E_UNSUPPORTED, "\"%s\" = true in \"%s\" is not supported",
						   off[i], path);
	}
	if (!g2_json_bool(json, path, "scale_attn_weights", true, &scale, err) ||
		!g2_json_bool(json, path, "tie_word_embeddings", true, &tied, err))
		return false;
	arch->attn_scale = scale ? (float) (1.0 / sqrt((double) arch->head_dim)) : 1.0f;
	arch->tied_head = tied;
	return true;
}

static bool
config_activation(const cJSON *json, const char *path, g2_arch *arch, g2_error *err)
{
	const char *name;

	if (!g2_json_string(json, path, "activation_function", &name, err))
		return false;
	if (!name)
		name = "gelu_new";
	for (size_t i = 0; i < G2_LENGTH(activations); i++)
		if (strcmp(name, activations[i].name) == 0)
		{
			arch->activation = activations[i].activation;
			return true;
		}
	return config_unsupported(path, "activation_function", name,
							  "gelu_new, gelu_pytorch_tanh, gelu, relu", err);
}

/* A special token's id, or the first of several; whether it makes sense is decided later. */
static bool
config_id(const cJSON *json, const char *path, const char *key, int64_t *out, g2_error *err)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, key);

	*out = -1;
	if (cJSON_IsArray(item) && !(item = item->child))
		return true;
	if (!item || cJSON_IsNull(item))
		return true;
	if (!cJSON_IsNumber(item) || !(fabs(item->valuedouble) < (double) CONFIG_MAX_ID) ||
		item->valuedouble != trunc(item->valuedouble))
		return g2_fail(err, G2_E_BAD_JSON, "\"%s\" in \"%s\" must be an integer", key, path);
	*out = (int64_t) item->valuedouble;
	return true;
}

static bool
config_fill(const cJSON *json, const char *path, g2_config *config, g2_error *err)
{
	g2_arch    *arch = &config->arch;
	double		epsilon;

	if (!cJSON_IsObject(json))
		return g2_fail(err, G2_E_BAD_JSON, "\"%s\" must hold a JSON object", path);
	if (!config_architecture(json, path, err) || !config_sizes(json, path, arch, err))
		return false;
	arch->n_kv_head = arch->n_head;
	arch->head_dim = arch->n_embd / arch->n_head;
	if (!g2_arch_check_sizes(arch, path, err) ||
		!config_switches(json, path, arch, err) ||
		!config_activation(json, path, arch, err) ||
		!g2_json_double(json, path, "layer_norm_epsilon", 1e-30, 1.0, true, 1e-5, &epsilon, err))
		return false;
	arch->norm = G2_NORM_LAYER;
	arch->norm_bias = 1;
	arch->norm_epsilon = (float) epsilon;
	arch->position = G2_POSITION_LEARNED;
	arch->fused_qkv = 1;
	arch->attn_bias = 1;
	arch->mlp_bias = 1;
	memcpy(config->architecture, "gpt2", sizeof "gpt2");
	return config_id(json, path, "bos_token_id", &config->start_id, err) &&
		config_id(json, path, "eos_token_id", &config->end_id, err);
}

bool
g2_config_parse(const char *path, const char *text, size_t len, g2_config *config, g2_error *err)
{
	cJSON	   *json;
	bool		ok;

	memset(config, 0, sizeof *config);
	path = g2_file_tail(path);
	json = g2_json_parse(path, text, len, true, err);
	if (!json)
		return false;
	ok = config_fill(json, path, config, err);
	cJSON_Delete(json);
	return ok;
}

bool
g2_arch_check_sizes(const g2_arch *arch, const char *where, g2_error *err)
{
	const struct
	{
		const char *name;
		uint32_t	value,
					max;
	}			field[] = {
		{"n_layer", arch->n_layer, G2_MAX_LAYERS},
		{"n_embd", arch->n_embd, G2_MAX_EMBD},
		{"n_head", arch->n_head, G2_MAX_EMBD},
		{"n_inner", arch->n_ff, G2_MAX_FF},
		{"n_positions", arch->n_ctx, G2_MAX_CTX},
		{"vocab_size", arch->n_vocab, G2_MAX_VOCAB},
	};

	for (size_t i = 0; i < G2_LENGTH(field); i++)
		if (field[i].value < 1 || field[i].value > field[i].max)
			return g2_fail(err, G2_E_BAD_JSON, "\"%s\" in \"%s\" must be an integer from 1 to %u",
						   field[i].name, where, field[i].max);
	if (arch->n_embd % arch->n_head != 0)
		return g2_fail(err, G2_E_BAD_JSON, "\"n_embd\" (%u) in \"%s\" is not divisible by "
					   "\"n_head\" (%u)", arch->n_embd, where, arch->n_head);
	return true;
}

bool
g2_arch_check(const g2_arch *arch, const char *where, g2_error *err)
{
	if (!g2_arch_check_sizes(arch, where, err))
		return false;
	/* negated comparisons, so that a NaN is refused */
	if (arch->n_kv_head != arch->n_head || arch->head_dim != arch->n_embd / arch->n_head ||
		arch->norm != G2_NORM_LAYER || arch->norm_bias != 1 ||
		!(arch->norm_epsilon > 0 && arch->norm_epsilon <= 1) ||
		arch->position != G2_POSITION_LEARNED || arch->activation > G2_ACT_RELU ||
		arch->gated_mlp != 0 || arch->fused_qkv != 1 || arch->attn_bias != 1 ||
		arch->mlp_bias != 1 || !(arch->attn_scale > 0 && arch->attn_scale <= 1) ||
		arch->attn_window != 0 || arch->tied_head > 1)
		return g2_fail(err, G2_E_BAD_FILE, "the graph described in \"%s\" is not one of ours",
					   where);
	return true;
}

uint64_t
g2_arch_parameters(const g2_arch *arch)
{
	uint64_t	e = arch->n_embd,
				ff = arch->n_ff,
				layer = 2 * 2 * e + (3 * e * e + 3 * e) + (e * e + e) + (e * ff + ff)
		+ (ff * e + e);

	return (uint64_t) arch->n_vocab * e * (arch->tied_head ? 1 : 2) + (uint64_t) arch->n_ctx * e
		+ arch->n_layer * layer + 2 * e;
}
