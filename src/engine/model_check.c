/*
 * model_check.c: what is right and wrong with a model folder, thing by thing, where loading would
 * stop at the first that is wrong.
 */
#include <stdio.h>

#include "adapter.h"
#include "describe.h"
#include "folder.h"
#include "model_roles.h"
#include "weights_source.h"

typedef struct model_check
{
	const g2_model_paths *paths;
	const char *name;			/* of the model */
	g2_describe_files files;
	g2_description d;
	g2_buf		blob;			/* what the tokenizer is a view of */
	g2_config	config;
	bool		has_config;
	bool		is_adapter;
	g2_check_fn tell;
	void	   *arg;
} model_check;

static void
tell(const model_check *c, const char *item, bool ok, const char *detail,
		   const g2_error *err)
{
	char		cause[sizeof err->message + sizeof err->detail + 3];

	if (ok)
	{
		c->tell(c->arg, item, G2_CHECK_OK, detail, "");
		return;
	}
	snprintf(cause, sizeof cause, "%s%s%s", err->message, err->detail[0] ? ": " : "", err->detail);
	c->tell(c->arg, item, G2_CHECK_FAILED, cause, err->hint);
}

static void
skip(const model_check *c, const char *item)
{
	c->tell(c->arg, item, G2_CHECK_SKIPPED, "config.json has to be right first", "");
}

static void
check_config(model_check *c)
{
	const g2_arch *a = &c->config.arch;
	g2_error	err;
	char		detail[256] = "";

	c->has_config = g2_describe_config(c->files.folder, &c->config, &err);
	if (c->has_config)
	{
		c->d.arch = *a;
		snprintf(detail, sizeof detail, "%s: %u layers of %u, %u heads, context %u, vocabulary %u, "
				 "%.1f million parameters", c->config.architecture, a->n_layer, a->n_embd,
				 a->n_head, a->n_ctx, a->n_vocab, (double) g2_arch_parameters(a) / 1e6);
	}
	tell(c, "config.json", c->has_config, detail, &err);
}

/* The layout's names and shapes are the same in every format. */
static void
check_weights(model_check *c)
{
	g2_layout	layout = {0};
	g2_source	source;
	g2_error	err;
	char		detail[128] = "";
	bool		ok;

	if (!c->has_config)
	{
		skip(c, "weights");
		return;
	}
	ok = g2_layout_make(&c->d.arch, G2_FORMAT_F32, &layout, &err) &&
		g2_source_open(c->files.folder, &layout, &source, &err);
	if (ok)
	{
		snprintf(detail, sizeof detail, "%u tensors in %u file%s", layout.n, source.n,
				 source.n == 1 ? "" : "s");
		g2_source_close(&source);
	}
	tell(c, "weights", ok, detail, &err);
	g2_layout_free(&layout);
}

static void
check_tokenizer(model_check *c)
{
	g2_error	err;
	char		detail[128] = "";
	bool		ok;

	if (!c->has_config)
	{
		skip(c, "tokenizer");
		return;
	}
	ok = g2_describe_tokenizer(&c->files, &c->d, &c->blob, &err);
	if (ok && c->files.tokenizer)
		snprintf(detail, sizeof detail, "%s, %u tokens", c->d.tokenizer,
				 g2_tokenizer_size(c->files.tokenizer));
	else if (ok)
	{
		ok = g2_fail(&err, G2_E_NO_FILE, "there are no tokenizer files");
		g2_fail_hint(&err, "Put tokenizer.json, or vocab.json and merges.txt, or vocab.txt, into "
					 "the model's folder.");
	}
	tell(c, "tokenizer", ok, detail, &err);
}

/* "tasks category, sentiment", as far as they fit. */
static void
list_tasks(const cJSON *own, char *list, size_t size)
{
	const cJSON *item;
	size_t		len = (size_t) snprintf(list, size, "%s", own ? "no tasks" : "there is none");
	const char *separator = "tasks ";

	cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(own, "templates"))
	{
		if (*separator == 't')
			len = 0;
		len += (size_t) snprintf(list + len, size - len, "%s%s", separator, item->string);
		separator = ", ";
		if (len >= size)
			break;
	}
	list[g2_utf8_valid_prefix(list, strlen(list))] = '\0';
}

static void
check_own(model_check *c)
{
	g2_role_list roles;
	g2_error	err;
	bool		ok = c->is_adapter ? g2_adapter_own(c->files.folder, &c->d.tasks, &err) :
		g2_describe_own(&c->files, &c->d, &err);
	char		detail[256];

	if (c->is_adapter)
		snprintf(detail, sizeof detail, "%s", c->d.tasks ? "its own tasks" : "no tasks");
	else
		list_tasks(c->files.own, detail, sizeof detail);
	tell(c, "gpt2.json", ok, detail, &err);
	ok = g2_role_list_read(c->name, c->files.folder, &roles, &err);
	if (ok && !roles.restricted)
		snprintf(detail, sizeof detail, "for everybody");
	else if (ok && roles.n == 0)
		snprintf(detail, sizeof detail, "for %s", roles.owner_name ? "its owner" : "superusers");
	else if (ok)
		snprintf(detail, sizeof detail, "for %smembers of %u role%s",
				 roles.owner_name ? "its owner and " : "", roles.n, roles.n == 1 ? "" : "s");
	tell(c, "roles", ok, detail, &err);
	if (ok)
		g2_role_list_free(&roles);
}

static const char *
token_text(char *text, size_t size, uint32_t token)
{
	snprintf(text, size, "%u", token);
	return token == G2_NO_TOKEN ? "none" : text;
}

static void
check_tokens(model_check *c)
{
	g2_error	err;
	char		detail[128],
				start[16],
				end[16];

	if (!c->has_config)
		skip(c, "special tokens");
	else if (!g2_describe_tokens(&c->files, &c->d, &c->config, &err))
		tell(c, "special tokens", false, "", &err);
	else
	{
		snprintf(detail, sizeof detail, "start %s, end %s",
				 token_text(start, sizeof start, c->d.start_token),
				 token_text(end, sizeof end, c->d.end_token));
		c->tell(c->arg, "special tokens", G2_CHECK_OK, detail,
				c->d.n_warnings > 0 ? c->d.warning[0] : "");
	}
}

/* ---- adapters ---- */

/* The base's folder, config.json, and content where the adapter asks for one.  False where there is
 * no config. */
static bool
check_base(model_check *c, const g2_adapter_config *adapter)
{
	g2_error	err;
	char		detail[128 + G2_MAX_NAME],
				hash[65];
	char	   *base = NULL;
	bool		has_config = g2_adapter_find_base(c->paths, c->name, adapter, &base, &err) &&
	g2_describe_config(base, &c->config, &err),
				ok = has_config && (!adapter->base_hash[0] ||
									(g2_model_content_hash(base, hash, &err) &&
									 g2_adapter_check_base(c->name, adapter, hash, &err)));

	g2_free(base);
	snprintf(detail, sizeof detail, "%s%s%s", adapter->base,
			 adapter->base_hash[0] ? ", whose content hash is " : "", adapter->base_hash);
	tell(c, "base", ok, detail, &err);
	return has_config;
}

static void
check_adapter_weights(const model_check *c, const g2_adapter_config *adapter)
{
	g2_error	err;
	char		detail[128] = "";
	uint32_t	pairs;
	bool		ok = g2_adapter_check_weights(c->files.folder, adapter, &c->config.arch, &pairs,
											  &err);

	if (ok)
		snprintf(detail, sizeof detail, "adapters of %u matrices, rank %u", pairs, adapter->rank);
	tell(c, "weights", ok, detail, &err);
}

static void
check_adapter(model_check *c)
{
	g2_adapter_config adapter;
	g2_error	err;
	char		detail[128] = "";
	bool		ok = g2_adapter_config_read(c->files.folder, &adapter, &err);

	if (ok)
		snprintf(detail, sizeof detail, "LoRA, rank %u, scale %g", adapter.rank,
				 (double) adapter.scale);
	tell(c, G2_ADAPTER_CONFIG, ok, detail, &err);
	if (!ok)
		c->tell(c->arg, "base", G2_CHECK_SKIPPED, G2_ADAPTER_CONFIG " has to be right first", "");
	if (ok && check_base(c, &adapter))
		check_adapter_weights(c, &adapter);
	else
		c->tell(c->arg, "weights", G2_CHECK_SKIPPED, "the base has to be right first", "");
	check_own(c);
}

/* ---- all of it ---- */

void
g2_model_check(const g2_model_paths *paths, const char *name, const char *path, g2_check_fn fn,
			   void *arg)
{
	model_check c = {.paths = paths, .name = name, .files = {.folder = path},
	.is_adapter = g2_adapter_is(path), .tell = fn, .arg = arg};
	g2_error	err;
	bool		ok = c.is_adapter || g2_folder_check(path, &err);

	tell(&c, "folder", ok, path, &err);
	if (!ok)
		return;
	if (c.is_adapter)
		check_adapter(&c);
	else
	{
		check_config(&c);
		check_weights(&c);
		check_tokenizer(&c);
		check_own(&c);
		check_tokens(&c);
	}
	g2_describe_close(&c.files);
	g2_buf_free(&c.blob);
	g2_description_free(&c.d);
}
