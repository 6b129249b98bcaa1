/*
 * fuzz_folder.c: any bytes as the small JSON files of a model's folder, with the byte 0xFF between
 * them: gpt2.json, generation_config.json, tokenizer_config.json, special_tokens_map.json,
 * model.safetensors.index.json; those that are empty are not there.  config.json and vocab.txt are
 * good.
 *
 * What is accepted is used: special tokens are the vocabulary's, the content of gpt2.json is the
 * same when it is read again and when it is read as a file itself, its tasks are found and filled,
 * shards are names of files.  What is refused says why.
 */
#include "folder.h"

#include "describe.h"
#include "model_roles.h"
#include "own_json.h"
#include "task.h"
#include "text.h"
#include "tokenizer.h"
#include "weights_source.h"

#define N_VOCAB 8

static const char config[] = "{\"model_type\":\"gpt2\",\"n_layer\":1,\"n_head\":1,\"n_embd\":4,"
	"\"n_positions\":8,\"vocab_size\":8,\"eos_token_id\":3,\"bos_token_id\":50256}";
static const char words[] = "[UNK]\n[CLS]\n[SEP]\na\nb\n##a\n<|endoftext|>\n";

static char folder[80];

static void
make_folder(void)
{
	make_root();
	snprintf(folder, sizeof folder, "%s/m", root);
	if (mkdir(folder, 0700) != 0)
		abort();
	put_file(folder, "config.json", "", 0, config, sizeof config - 1);
	put_file(folder, "vocab.txt", "", 0, words, sizeof words - 1);
}

/* ---- gpt2.json ---- */

static void
use_task(const char *tasks, const g2_tokenizer *tokenizer, const char *name)
{
	g2_task		task;
	g2_buf		text = {0};
	g2_error	err = {0};

	if (!g2_task_find(tasks, tokenizer, g2_span_of(name), &task, &err))
		expect_told(&err);
	else if (!g2_text_fill(task.template_text, strlen(task.template_text), "{input}{", 8, 4096,
						   &text, &err))
		expect_told(&err);
	for (uint32_t i = 0; i < task.n_stops; i++)
		if (task.stops[i][0] == '\0' || strlen(task.stops[i]) > G2_MAX_STOP_BYTES)
			abort();
	g2_text_free(&text);
	g2_task_free(&task);
}

static void
use_tasks(const char *tasks, const g2_tokenizer *tokenizer)
{
	static const char *const keys[] = {"templates", "stop"};
	cJSON	   *json;
	const cJSON *item;
	char	   *again;

	use_task(tasks, tokenizer, "summarize");
	use_task(tasks, tokenizer, "");
	if (!tasks)
		return;
	json = cJSON_Parse(tasks);
	for (size_t i = 0; i < G2_LENGTH(keys); i++)
		cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(json, keys[i]))
			use_task(tasks, tokenizer, item->string);
	/* one spelling */
	if (!g2_own_json_content(json, &again, NULL) || !again || strcmp(again, tasks) != 0)
		abort();
	g2_free(again);
	cJSON_Delete(json);
}

static void
use_roles(void)
{
	g2_role_list roles;
	g2_error	err = {0};

	if (!g2_role_list_read("m", folder, &roles, &err))
	{
		expect_told(&err);
		return;
	}
	if (roles.token == 0 || (roles.n > 0 && !roles.restricted))
		abort();
	g2_role_list_free(&roles);
}

/* ---- all of it ---- */

static void
use_shards(void)
{
	g2_source	source;
	g2_error	err = {0};

	if (!g2_source_list(folder, &source, &err))
	{
		expect_told(&err);
		return;
	}
	for (uint32_t i = 0; i < source.n; i++)
		if (source.file[i].name[0] == '.' || strchr(source.file[i].name, '/') ||
			(i > 0 && strcmp(source.file[i - 1].name, source.file[i].name) >= 0))
			abort();
	g2_source_close(&source);
}

static void
describe(void)
{
	g2_description d;
	g2_tokenizer *tokenizer;
	g2_buf		blob = {0};
	g2_error	err = {0};

	if (!g2_model_describe(folder, &d, &blob, &err))
		expect_told(&err);
	else
	{
		if ((d.end_token >= N_VOCAB && d.end_token != G2_NO_TOKEN) ||
			(d.start_token >= N_VOCAB && d.start_token != G2_NO_TOKEN) ||
			d.n_warnings > G2_MAX_WARNINGS || !g2_own_json_is(folder, d.tasks) ||
			!g2_tokenizer_open(blob.data, blob.len, &tokenizer, &err))
			abort();
		use_tasks(d.tasks, tokenizer);
		g2_tokenizer_close(tokenizer);
		g2_description_free(&d);
	}
	g2_buf_free(&blob);
}

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = {G2_OWN_JSON, "generation_config.json",
		"tokenizer_config.json", "special_tokens_map.json", "model.safetensors.index.json"};
	part		parts[G2_LENGTH(names)];

	if (!root[0])
		make_folder();
	split_input(data, size, parts, G2_LENGTH(names));
	for (size_t i = 0; i < G2_LENGTH(names); i++)
		put_or_remove(folder, names[i], &parts[i]);
	describe();
	use_roles();
	use_shards();
	return 0;
}
