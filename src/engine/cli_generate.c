/*
 * cli_generate.c: the command generate of gpt2_engine: one request, by hand.
 */
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX_IDS 1024			/* of a prompt given as --ids */

/* "1,2,3": a prompt of token ids. */
static bool
generate_ids(g2_generate *m, const char *value, g2_error *err)
{
	static uint32_t ids[MAX_IDS];
	size_t		n = 0;

	for (const char *p = value; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
	{
		char	   *end;
		unsigned long id = strtoul(p, &end, 10);

		if (n == MAX_IDS || end == p || (*end != ',' && *end != '\0') || id >= G2_NO_TOKEN)
			return g2_fail(err, G2_E_PARAM, "--ids needs up to %d numbers, separated by commas",
						   MAX_IDS);
		ids[n++] = (uint32_t) id;
	}
	m->prompt = (g2_span) {(const char *) ids, (uint32_t) (n * sizeof *ids)};
	m->flags |= G2_GEN_PROMPT_IDS;
	return true;
}

static bool
generate_option(g2_cli *cli, g2_generate *m, const char *option, const char *value, g2_error *err)
{
	int64_t		number;
	static const struct
	{
		const char *name;
		size_t		offset;
	}			doubles[] = {
		{"--temperature", offsetof(g2_generate, temperature)},
		{"--top-p", offsetof(g2_generate, top_p)},
		{"--min-p", offsetof(g2_generate, min_p)},
		{"--repetition-penalty", offsetof(g2_generate, repetition_penalty)},
		{"--typical-p", offsetof(g2_generate, decoding.typical_p)},
		{"--presence-penalty", offsetof(g2_generate, decoding.presence_penalty)},
		{"--frequency-penalty", offsetof(g2_generate, decoding.frequency_penalty)},
		{"--length-penalty", offsetof(g2_generate, decoding.length_penalty)},
	};
	static const struct
	{
		const char *name;
		size_t		offset;
	}			counts[] = {
		{"--max-len", offsetof(g2_generate, max_new)},
		{"--n", offsetof(g2_generate, n)},
		{"--top-k", offsetof(g2_generate, top_k)},
		{"--no-repeat-ngram-size", offsetof(g2_generate, decoding.no_repeat_ngram)},
		{"--min-new-tokens", offsetof(g2_generate, decoding.min_new)},
		{"--num-beams", offsetof(g2_generate, decoding.n_beams)},
	};
	static const struct
	{
		const char *name;
		g2_constraint_kind kind;
	}			constraints[] = {
		{"--choice", G2_CONSTRAINT_CHOICE},
		{"--regex", G2_CONSTRAINT_REGEX},
		{"--json-schema", G2_CONSTRAINT_SCHEMA},
	};

	for (size_t i = 0; i < G2_LENGTH(doubles); i++)
		if (strcmp(option, doubles[i].name) == 0)
			return g2_cli_double(option, value, (double *) ((char *) m + doubles[i].offset), err);
	for (size_t i = 0; i < G2_LENGTH(counts); i++)
		if (strcmp(option, counts[i].name) == 0)
		{
			if (!g2_cli_int(option, value, 0, UINT32_MAX, &number, err))
				return false;
			*(uint32_t *) ((char *) m + counts[i].offset) = (uint32_t) number;
			return true;
		}
	if (strcmp(option, "--seed") == 0)
	{
		if (!g2_cli_int(option, value, INT64_MIN, INT64_MAX, &number, err))
			return false;
		m->seed = (uint64_t) number;
		return true;
	}
	for (size_t i = 0; i < G2_LENGTH(constraints); i++)
		if (strcmp(option, constraints[i].name) == 0)
		{
			m->constraint_kind = constraints[i].kind;
			m->constraint = g2_span_of(value);
			return true;
		}
	if (strcmp(option, "--ids") == 0)
		return generate_ids(m, value, err);
	if (strcmp(option, "--prompt") == 0)
		m->prompt = g2_span_of(value);
	else if (strcmp(option, "--task") == 0)
		m->task = g2_span_of(value);
	else if (strcmp(option, "--stop") == 0)
	{
		if (m->n_stops == G2_MAX_STOPS)
			return g2_fail(err, G2_E_TOO_LONG, "--stop may be given %d times", G2_MAX_STOPS);
		m->stops[m->n_stops++] = g2_span_of(value);
	}
	else
		return g2_cli_option(cli, option, value, err);
	return true;
}

static void
print_completions(const g2_buf *reply)
{
	static const char *const finish[] = {"?", "length", "stop", "eos"};
	g2_reader	r = g2_read(reply->data, reply->len);
	g2_completions_head head;

	g2_completions_head_get(&r, &head);
	for (uint32_t i = 0; i < head.n && !r.failed; i++)
	{
		g2_completion completion;

		g2_completion_get(&r, &completion);
		if (r.failed)
			break;
		printf("%.*s\n", (int) completion.text.len, completion.text.data);
		fprintf(stderr, "-- %u prompt and %u new tokens in %.3f s, log-probability %.4f, %s\n",
				head.prompt_tokens, completion.n_ids, (double) head.elapsed_us / 1e6,
				completion.logprob, finish[completion.finish & 3]);
	}
}

bool
g2_cmd_generate(int argc, char **argv, g2_error *err)
{
	g2_cli		cli;
	g2_generate m = {.max_new = 50, .n = 1, .top_p = 1, .repetition_penalty = 1,
	.flags = G2_GEN_LOGPROBS, .decoding.length_penalty = 1};
	g2_writer	w = {.grow = g2_realloc};
	g2_engine  *engine = NULL;
	g2_buf		reply = {0};
	bool		ok;

	g2_cli_init(&cli);
	for (int i = 1; i < argc; i += 2)
	{
		if (i + 1 == argc)
			return g2_fail(err, G2_E_PARAM, "option %s needs a value", argv[i]);
		if (!generate_option(&cli, &m, argv[i], argv[i + 1], err))
			return false;
	}
	if (!g2_cli_finish(&cli, err))
		return false;
	if (!cli.model)
		return g2_fail(err, G2_E_PARAM, "--model is missing");
	if (!g2_engine_open(&cli.settings, g2_cli_log, NULL, &engine, err))
		return false;
	m.model = g2_span_of(cli.model);
	g2_generate_encode(&w, &m);
	ok = g2_cli_call(engine, G2_MSG_GENERATE, &w, &reply, err);
	if (ok)
		print_completions(&reply);
	g2_free(w.data);
	g2_buf_free(&reply);
	g2_engine_close(engine);
	return ok;
}
