/*
 * task.h: the tasks of a model: templates and stop strings by name, from its gpt2.json:
 *     {"templates": {"summarize": "{input}\nTL;DR:"}, "stop": {"summarize": ["\n"]}}
 */
#ifndef G2_TASK_H
#define G2_TASK_H

#include "protocol.h"
#include "tokenizer.h"

typedef struct g2_task
{
	char	   *template_text;
	char	   *stops[G2_MAX_STOPS];
	uint32_t	n_stops;
} g2_task;

/* Looks the name up in tasks (contents of a checked gpt2.json, NULL = none), then among the
 * built-in templates, of which some depend on the vocabulary (NULL = any); 22023 when neither has
 * it, with a hint that lists the model's.  Free the task in any case. */
extern bool g2_task_find(const char *tasks, const g2_tokenizer *tokenizer, g2_span name,
						 g2_task *task, g2_error *err);
extern void g2_task_free(g2_task *task);

#endif							/* G2_TASK_H */
