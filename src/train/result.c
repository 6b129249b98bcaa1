/*
 * result.c: the finished model: a folder as Hugging Face lays it out, which transformers and the
 * engine load.
 *
 *     config.json, model.safetensors (f32), the tokenizer's files, generation_config.json
 *     gpt2.json          to whom it belongs; templates of the model it was made from
 *     training_log.csv   the curve
 *     README.md          how it was made
 *
 * An adapter that is kept beside its base (engine/adapter.h) has adapter_config.json and
 * adapter_model.safetensors in place of the first line, as PEFT has them.
 *
 * It is written in the training's directory, what does not depend on the training before it, the
 * rest after it, and moved when it is whole (target.c).
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <sys/stat.h>

#include "adapter.h"
#include "file.h"
#include "json.h"
#include "job.h"
#include "learn.h"
#include "optimizer.h"
#include "own_json.h"
#include "parameters.h"

#define MAX_COPY (16u << 20)
#define README "README.md"

/* ---- JSON ---- */

bool
g2t_write_json(const char *folder, const char *name, cJSON *json, bool complete, g2_error *err)
{
	char	   *text = complete ? cJSON_Print(json) : NULL;
	g2_buf		b = {0};
	bool		ok;

	if (!text)
		return g2_fail_memory(err, 65536);
	g2_buf_printf(&b, "%s\n", text);
	cJSON_free(text);
	ok = g2t_write_text(folder, name, &b, err);
	g2_buf_free(&b);
	return ok;
}

static bool
add_string(cJSON *json, const char *key, const char *value)
{
	cJSON_DeleteItemFromObjectCaseSensitive(json, key);
	return cJSON_AddStringToObject(json, key, value) != NULL;
}

static bool
add_number(cJSON *json, const char *key, double value)
{
	cJSON_DeleteItemFromObjectCaseSensitive(json, key);
	return cJSON_AddNumberToObject(json, key, value) != NULL;
}

static bool
add_strings(cJSON *json, const char *key, const char *value)
{
	cJSON	   *array = cJSON_CreateStringArray(&value, 1);

	cJSON_DeleteItemFromObjectCaseSensitive(json, key);
	return cJSON_AddItemToObject(json, key, array);
}

/* The base's file, or an empty object. */
static bool
start_json(const g2t_job *job, const char *name, cJSON **json, g2_error *err)
{
	*json = NULL;
	if (job->options->base.len > 0 &&
		!g2_json_read(g2t_text(job->options->base), name, G2_MAX_JSON_FILE, json, err))
		return false;
	if (!*json)
		*json = cJSON_CreateObject();
	return *json != NULL || g2_fail_memory(err, 64);
}

/* ---- config.json, gpt2.json ---- */

static bool
fill_config(const g2t_job *job, cJSON *json)
{
	const g2_arch *a = &job->arch;

	if (job->options->base.len > 0)
		return add_string(json, "torch_dtype", "float32") && add_string(json, "dtype", "float32") &&
			add_strings(json, "architectures", "GPT2LMHeadModel");
	return add_string(json, "model_type", "gpt2") &&
		add_strings(json, "architectures", "GPT2LMHeadModel") &&
		add_number(json, "vocab_size", a->n_vocab) && add_number(json, "n_layer", a->n_layer) &&
		add_number(json, "n_embd", a->n_embd) && add_number(json, "n_head", a->n_head) &&
		add_number(json, "n_inner", a->n_ff) && add_number(json, "n_positions", a->n_ctx) &&
		add_number(json, "n_ctx", a->n_ctx) &&
		add_string(json, "activation_function", "gelu_new") &&
		add_number(json, "layer_norm_epsilon", 1e-5) &&
		add_number(json, "bos_token_id", job->end_token) &&
		add_number(json, "eos_token_id", job->end_token) &&
		cJSON_AddTrueToObject(json, "tie_word_embeddings") != NULL &&
		add_string(json, "torch_dtype", "float32") && add_string(json, "dtype", "float32");
}

static bool
write_config(const g2t_job *job, const char *folder, g2_error *err)
{
	cJSON	   *json;
	bool		ok;

	if (!start_json(job, "config.json", &json, err))
		return false;
	ok = g2t_write_json(folder, "config.json", json, fill_config(job, json), err);
	cJSON_Delete(json);
	return ok;
}

static bool
fill_adapter_config(const g2t_job *job, cJSON *json)
{
	const g2_train *o = job->options;
	const char *base = g2t_text(o->base),
			   *slash = strrchr(base, '/');

	return add_string(json, "peft_type", "LORA") && add_string(json, "task_type", "CAUSAL_LM") &&
		add_string(json, "base_model_name_or_path", slash ? slash + 1 : base) &&
		add_number(json, "r", o->lora_rank) && add_number(json, "lora_alpha", o->lora_alpha) &&
		add_number(json, "lora_dropout", 0) && add_string(json, "bias", "none") &&
		cJSON_AddTrueToObject(json, "fan_in_fan_out") &&
		cJSON_AddTrueToObject(json, "inference_mode") &&
		cJSON_AddItemToObject(json, "target_modules",
							  cJSON_CreateStringArray(g2_adapter_modules, G2_ADAPTER_MODULES));
}

static bool
write_adapter_config(const g2t_job *job, const char *folder, g2_error *err)
{
	cJSON	   *json = cJSON_CreateObject();
	bool		ok;

	if (!json)
		return g2_fail_memory(err, 64);
	ok = g2t_write_json(folder, G2_ADAPTER_CONFIG, json, fill_adapter_config(job, json), err);
	cJSON_Delete(json);
	return ok;
}

static bool
add_owner(cJSON *json, const g2_owner *owner)
{
	char		cluster[24];

	snprintf(cluster, sizeof cluster, "%llu", (unsigned long long) owner->cluster);
	return add_string(json, "owner", g2t_text(owner->name)) &&
		add_number(json, "owner_oid", owner->oid) && add_string(json, "owner_cluster", cluster);
}

/* Special tokens stay the base's.  Nobody but the owner uses it until it is granted. */
static bool
fill_own(const g2t_job *job, cJSON *json)
{
	if (job->options->keep_adapter)
	{
		cJSON_DeleteItemFromObjectCaseSensitive(json, "end_token");
		cJSON_DeleteItemFromObjectCaseSensitive(json, "start_token");
		if (!add_string(json, "base_hash", job->base_hash))
			return false;
	}
	cJSON_DeleteItemFromObjectCaseSensitive(json, "roles");
	return cJSON_AddArrayToObject(json, "roles") != NULL && add_owner(json, &job->options->owner);
}

static bool
write_own(const g2t_job *job, const char *folder, g2_error *err)
{
	cJSON	   *json;
	bool		ok;

	if (!start_json(job, G2_OWN_JSON, &json, err))
		return false;
	ok = g2t_write_json(folder, G2_OWN_JSON, json, fill_own(job, json), err);
	cJSON_Delete(json);
	return ok;
}

/* ---- the tokenizer ---- */

static bool
copy_file(const char *from, const char *folder, const char *name, g2_error *err)
{
	g2_buf		text = {0};
	bool		ok = !g2_file_exists(from, name) ||
	(g2_file_read(from, name, MAX_COPY, &text, err) && g2t_write_text(folder, name, &text, err));

	g2_buf_free(&text);
	return ok;
}

static bool
write_tokenizer(const g2t_job *job, const char *folder, g2_error *err)
{
	static const char *const names[] = {"vocab.json", "merges.txt", "vocab.txt", "tokenizer.json",
	"tokenizer_config.json", "special_tokens_map.json", "generation_config.json"};
	const g2_train *o = job->options;
	const bool	chars = o->tokenizer == G2T_CHAR;
	g2_buf		b = {0};
	bool		ok = true;

	for (size_t i = 0; ok && o->base.len > 0 && i < G2_LENGTH(names); i++)
		ok = copy_file(g2t_text(o->base), folder, names[i], err);
	if (!ok || o->base.len > 0)
		return ok;				/* learned: vocabulary and merges are there */
	g2_buf_printf(&b, "{\n  \"tokenizer_class\": \"%s\",\n%s  \"model_max_length\": %u,\n"
				  "  \"bos_token\": \"%s\",\n  \"eos_token\": \"%s\",\n"
				  "  \"unk_token\": \"%s\",\n  \"clean_up_tokenization_spaces\": false\n}\n",
				  chars ? "PreTrainedTokenizerFast" : "GPT2Tokenizer",
				  chars ? "" : "  \"add_prefix_space\": false,\n", job->arch.n_ctx,
				  G2T_END_OF_TEXT, G2T_END_OF_TEXT, chars ? "<unk>" : G2T_END_OF_TEXT);
	ok = g2t_write_text(folder, "tokenizer_config.json", &b, err);
	b.len = 0;
	g2_buf_printf(&b, "{\n  \"bos_token_id\": %u,\n  \"eos_token_id\": %u\n}\n", job->end_token,
				  job->end_token);
	ok = ok && g2t_write_text(folder, "generation_config.json", &b, err);
	g2_buf_free(&b);
	return ok;
}

/* ---- weights ---- */

/* A tensor of a safetensors file.  PEFT has both matrices of an adapter the other way round. */
static void
put_tensor(g2_buf *b, const g2t_tensor *t, bool adapter, uint64_t begin)
{
	const size_t stem = strlen(t->name) - 1;
	uint64_t	rows = adapter ? t->cols : t->rows,
				cols = adapter ? t->rows : t->cols;

	if (adapter)
		g2_buf_printf(b, ",\"base_model.model.transformer.%.*s%c.weight\"", (int) stem, t->name,
					  t->name[stem] == 'a' ? 'A' : 'B');
	else
		g2_buf_printf(b, ",\"%s%s\"", strcmp(t->name, "lm_head.weight") == 0 ? ""
					  : "transformer.", t->name);
	g2_buf_printf(b, ":{\"dtype\":\"F32\",\"shape\":[");
	if (t->rank == 2)
		g2_buf_printf(b, "%llu,", (unsigned long long) rows);
	g2_buf_printf(b, "%llu],\"data_offsets\":[%llu,%llu]}", (unsigned long long) cols,
				  (unsigned long long) begin,
				  (unsigned long long) (begin + g2t_tensor_size(t) * sizeof(float)));
}

static bool
write_header(g2t_writer *w, const g2t_parameters *p, bool adapter, g2_error *err)
{
	g2_buf		b = {0};
	uint64_t	offset = 0,
				len;
	bool		ok;

	g2_buf_append(&b, "\0\0\0\0\0\0\0\0", 8);
	g2_buf_printf(&b, "{\"__metadata__\":{\"format\":\"pt\"}");
	for (uint32_t i = 0; i < p->n; i++)
	{
		put_tensor(&b, &p->tensor[i], adapter, offset);
		offset += g2t_tensor_size(&p->tensor[i]) * sizeof(float);
	}
	g2_buf_append(&b, "}", 1);
	while (!b.failed && b.len % 8 != 0)
		g2_buf_append(&b, " ", 1);
	if (b.failed)
	{
		g2_buf_free(&b);
		return g2_fail_memory(err, b.len);
	}
	len = b.len - 8;
	for (int i = 0; i < 8; i++)
		b.data[i] = (char) (len >> (8 * i));
	ok = g2t_write(w, b.data, b.len, err);
	g2_buf_free(&b);
	return ok;
}

static bool
write_transposed(g2t_writer *w, const g2t_parameters *p, const g2t_tensor *t, g2_error *err)
{
	const float *x = p->w + t->at;
	float	   *column = g2_alloc_array(t->rows, sizeof *column);
	bool		ok = column || g2_fail_memory(err, t->rows * sizeof *column);

	for (uint64_t c = 0; ok && c < t->cols; c++)
	{
		for (uint64_t r = 0; r < t->rows; r++)
			column[r] = x[r * t->cols + c];
		ok = g2t_write(w, column, t->rows * sizeof *column, err);
	}
	g2_free(column);
	return ok;
}

static bool
write_weights(const g2t_job *job, const g2t_parameters *p, g2_error *err)
{
	const bool	adapter = job->options->keep_adapter;
	g2t_writer	w;
	bool		ok = g2t_writer_open(&job->place, adapter ? G2_TRAIN_FOLDER "/" G2_ADAPTER_WEIGHTS
									 : G2_TRAIN_FOLDER "/model.safetensors", &w, err) &&
	write_header(&w, p, adapter, err);

	for (uint32_t i = 0; ok && i < p->n; i++)
		ok = !g2t_job_is_canceled(job, err) &&
			(adapter ? write_transposed(&w, p, &p->tensor[i], err) :
			 g2t_write(&w, p->w + p->tensor[i].at, g2t_tensor_size(&p->tensor[i]) * sizeof(float),
					   err));
	ok = ok && g2t_writer_finish(&w, err);
	g2t_writer_close(&w);
	return ok;
}

/* ---- README ---- */

static void
put_settings(const g2_train *o, g2_buf *b)
{
	static const char *const optimizers[] = {"adamw", "adam", "sgd"},
			   *const schedules[] = {"constant", "cosine", "linear"},
			   *const tokenizers[] = {"char", "byte", "bpe"};

	g2_buf_printf(b, "| setting | value |\n|---|---|\n");
	if (o->base.len > 0)
		g2_buf_printf(b, "| made from | `%s` |\n| lora_rank, lora_alpha | %u, %g%s |\n",
					  g2t_text(o->base), o->lora_rank, o->lora_alpha,
					  o->keep_adapter ? ", kept beside it" : "");
	else
		g2_buf_printf(b, "| tokenizer, vocab_size | %s, %u |\n"
					  "| n_layer, n_head, n_embd, context | %u, %u, %u, %u |\n",
					  tokenizers[o->tokenizer], o->vocab_size, o->n_layer, o->n_head, o->n_embd,
					  o->context);
	g2_buf_printf(b, "| batch_tokens | %u |\n"
				  "| optimizer, learning_rate, schedule | %s, %g, %s |\n"
				  "| beta1, beta2, weight_decay, grad_clip, dropout | %g, %g, %g, %g, %g |\n"
				  "| eval_fraction, patience, seed | %g, %u, %lld |\n",
				  o->batch_tokens, optimizers[o->optimizer], o->learning_rate,
				  schedules[o->schedule], o->beta1, o->beta2, o->weight_decay,
				  o->grad_clip, o->dropout, o->eval_fraction, o->patience, (long long) o->seed);
}

static bool
write_readme(const g2t_job *job, const g2t_outcome *outcome, const char *folder, g2_error *err)
{
	const g2_train *o = job->options;
	const g2t_data_counts *c = &job->counts;
	g2_buf		b = {0};
	bool		ok;

	g2_buf_printf(&b, "# %s\n\nMade by `CALL %s` of the PostgreSQL extension gpt2 %s.\n\n",
				  g2t_text(o->model), o->base.len > 0 ? "gpt_finetune" : "gpt_train", G2_VERSION);
	put_settings(o, &b);
	g2_buf_printf(&b, "\n%llu rows, %llu of them held out; %llu tokens to learn. "
				  "%u of %u steps%s%s.\n", (unsigned long long) c->rows,
				  (unsigned long long) c->held_out_rows, (unsigned long long) c->tokens,
				  outcome->step, outcome->steps,
				  outcome->stopped_early ? ", stopped when the held-out loss no longer fell" : "",
				  outcome->not_finite ? ", stopped at a loss that was no number" : "");
	if (isfinite(outcome->loss))
		g2_buf_printf(&b, "Training loss at the end: %.4f.", outcome->loss);
	if (isfinite(outcome->held_out_loss))
		g2_buf_printf(&b, " Held-out loss of these weights: %.4f.", outcome->held_out_loss);
	g2_buf_printf(&b, " The whole curve is in `training_log.csv`.\n\nThe rows came from\n\n"
				  "```sql\n");
	g2_buf_append(&b, o->query.data, o->query.len);
	g2_buf_printf(&b, "\n```\n");
	ok = g2t_write_text(folder, README, &b, err);
	g2_buf_free(&b);
	return ok;
}

/* ---- all of it ---- */

static const char *
folder_of(const g2t_job *job, char path[G2T_MAX_PATH])
{
	g2t_place_path(&job->place, G2_TRAIN_FOLDER, path);
	return path;
}

bool
g2t_folder_empty(const g2t_job *job, g2_error *err)
{
	char		path[G2T_MAX_PATH];

	g2t_remove_tree(folder_of(job, path));
	return mkdir(path, G2_DIRECTORY_MODE) == 0 || g2_fail_errno(err, errno, "create directory", path);
}

bool
g2t_folder_begin(const g2t_job *job, g2_error *err)
{
	char		path[G2T_MAX_PATH];
	const char *folder = folder_of(job, path);

	return (job->options->keep_adapter ? write_adapter_config(job, folder, err)
			: write_config(job, folder, err) && write_tokenizer(job, folder, err)) &&
		write_own(job, folder, err);
}

/* The folder's own entries are on disk before it gets its name. */
bool
g2t_write_model(g2t_job *job, const g2t_parameters *p, const g2t_outcome *outcome,
				const char *models, g2_error *err)
{
	char		path[G2T_MAX_PATH],
				readme[G2T_MAX_PATH];
	const char *folder = folder_of(job, path);

	g2t_place_path(&job->place, G2_TRAIN_FOLDER "/" README, readme);
	return write_weights(job, p, err) && g2t_curve_write(&outcome->curve, folder, err) &&
		write_readme(job, outcome, folder, err) && g2_file_sync_directory(readme, err) &&
		!g2t_job_is_canceled(job, err) && g2t_windows_forget(&job->place, err) &&
		g2t_progress_last(job, folder, err) && g2t_target_move(job, folder, models, err);
}
