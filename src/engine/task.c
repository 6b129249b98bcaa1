/*
 * task.c: a model's tasks by name.
 */
#include "task.h"

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

static bool
no_task(g2_error *err, char *name)
{
	/* A long name is shown as far as it goes, but not half a character. */
	name[g2_utf8_valid_prefix(name, strlen(name))] = '\0';
	g2_fail(err, G2_E_PARAM, "the model has no task \"%s\"", name);
	return g2_fail_hint(err, "Tasks are the templates in the model's gpt2.json.");
}

bool
g2_task_find(const char *tasks, g2_span name, g2_task *task, g2_error *err)
{
	char		text[MAX_TASK_NAME + 1] = "";

	memset(task, 0, sizeof *task);
	memcpy(text, name.data, G2_MIN(name.len, MAX_TASK_NAME));
	if (name.len > MAX_TASK_NAME || strlen(text) != name.len)
		return no_task(err, text);
	if (tasks && !find_in_file(tasks, text, task, err))
		return false;
	for (size_t i = 0; i < G2_LENGTH(built_in) && !task->template_text; i++)
		if (strcmp(built_in[i].name, text) == 0 &&
			!(task->template_text = g2_strdup(built_in[i].template_text)))
			return g2_fail_memory(err, strlen(built_in[i].template_text));
	return task->template_text ? true : no_task(err, text);
}

void
g2_task_free(g2_task *task)
{
	g2_free(task->template_text);
	for (uint32_t i = 0; i < task->n_stops; i++)
		g2_free(task->stops[i]);
	memset(task, 0, sizeof *task);
}
