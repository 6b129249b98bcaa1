/*
 * task.c: a model's tasks by name.
 */
#include "task.h"

#include <stdio.h>

#include "json.h"

#define MAX_TASK_NAME 255u

/* Where the model says nothing.  "TL;DR:" is what GPT-2's authors used (Radford et al. 2019). */
static const struct
{
	const char *name;
	const char *template_text;
}			built_in[] = {
	{"summarize", "{input}\nTL;DR:"},
	{"classify", "{input}\nCategory: {label}"},
	{"filter", "{input}\nQuestion: {condition}\nAnswer: {label}"},
};

/* For a model of Chinese texts (a BERT vocabulary that has the word's characters). */
#define CHINESE_SUMMARY "{input}\n\xE6\x91\x98\xE8\xA6\x81\xEF\xBC\x9A"	/* 摘要： */

static bool
is_chinese(const g2_tokenizer *tokenizer)
{
	return tokenizer && strcmp(g2_tokenizer_name(tokenizer), "wordpiece") == 0 &&
		g2_tokenizer_find(tokenizer, "\xE6\x91\x98", 3) != G2_NO_TOKEN &&
		g2_tokenizer_find(tokenizer, "\xE8\xA6\x81", 3) != G2_NO_TOKEN;
}

static const char *
find_built_in(const char *name, const g2_tokenizer *tokenizer)
{
	if (strcmp(name, "summarize") == 0 && is_chinese(tokenizer))
		return CHINESE_SUMMARY;
	for (size_t i = 0; i < G2_LENGTH(built_in); i++)
		if (strcmp(built_in[i].name, name) == 0)
			return built_in[i].template_text;
	return NULL;
}

static bool
copy_stops(const cJSON *stops, g2_task *task)
{
	const cJSON *stop;

	cJSON_ArrayForEach(stop, stops)
	{
		size_t		len = cJSON_IsString(stop) ? strlen(stop->valuestring) : 0;

		/* An empty one would stop everything at once. */
		if (len == 0 || len > G2_MAX_STOP_BYTES || task->n_stops == G2_MAX_STOPS)
			continue;
		if (!(task->stops[task->n_stops] = g2_strdup(stop->valuestring)))
			return false;
		task->n_stops++;
	}
	return true;
}

static bool
find_in_file(const char *tasks, const char *name, g2_task *task, g2_error *err)
{
	cJSON	   *json = g2_json_parse("gpt2.json", tasks, strlen(tasks), true, err);
	const cJSON *text,
			   *stops;
	bool		ok = true;

	if (!json)
		return false;
	text = cJSON_GetObjectItemCaseSensitive(json, "templates");
	text = cJSON_GetObjectItemCaseSensitive(text, name);
	stops = cJSON_GetObjectItemCaseSensitive(json, "stop");
	stops = cJSON_GetObjectItemCaseSensitive(stops, name);
	if (cJSON_IsString(text) && !(task->template_text = g2_strdup(text->valuestring)))
		ok = g2_fail_memory(err, strlen(text->valuestring));
	else if (!copy_stops(stops, task))
		ok = g2_fail_memory(err, G2_MAX_STOP_BYTES);
	cJSON_Delete(json);
	return ok;
}

/* The names of the file's templates, as far as they fit into a hint. */
static void
list_names(const char *tasks, char *list, size_t size)
{
	cJSON	   *json = tasks ? g2_json_parse("gpt2.json", tasks, strlen(tasks), true, NULL) : NULL;
	const cJSON *item;
	size_t		len = 0;

	list[0] = '\0';
	cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(json, "templates"))
	{
		size_t		more = strlen(item->string) + 4;

		if (len + more + 4 > size)
		{
			snprintf(list + len, size - len, ", ...");
			break;
		}
		len += (size_t) snprintf(list + len, size - len, "%s\"%s\"", len > 0 ? ", " : "",
								 item->string);
	}
	cJSON_Delete(json);
}

static bool
no_task(const char *tasks, char *name, g2_error *err)
{
	char		list[256];

	/* A long name is shown as far as it goes, but not half a character. */
	name[g2_utf8_valid_prefix(name, strlen(name))] = '\0';
	g2_fail(err, G2_E_PARAM, "the model has no task \"%s\"", name);
	list_names(tasks, list, sizeof list);
	return g2_fail_hint(err, "Tasks are the templates in the model's gpt2.json%s%s.",
						list[0] ? ", here " : "", list);
}

bool
g2_task_find(const char *tasks, const g2_tokenizer *tokenizer, g2_span name, g2_task *task,
			 g2_error *err)
{
	char		text[MAX_TASK_NAME + 1] = "";
	const char *standard;

	memset(task, 0, sizeof *task);
	memcpy(text, name.data, G2_MIN(name.len, MAX_TASK_NAME));
	if (name.len > MAX_TASK_NAME || strlen(text) != name.len)
		return no_task(tasks, text, err);
	if (tasks && !find_in_file(tasks, text, task, err))
		return false;
	if (task->template_text)
		return true;
	standard = find_built_in(text, tokenizer);
	if (!standard)
		return no_task(tasks, text, err);
	task->template_text = g2_strdup(standard);
	return task->template_text || g2_fail_memory(err, strlen(standard));
}

void
g2_task_free(g2_task *task)
{
	g2_free(task->template_text);
	for (uint32_t i = 0; i < task->n_stops; i++)
		g2_free(task->stops[i]);
	memset(task, 0, sizeof *task);
}
