/*
 * bench_constraints.c MODEL_FOLDER [THREADS [TOKENS]]: what constraints cost: compiling, the mask of
 * a state that is new and of one that is not, and a text under a constraint beside one without.
 *
 * A text under [\s\S]* may be anything, so nothing but the masks makes a difference; drafts are off.
 * Times are the best of several rounds, in turns, as other work on the machine only adds to them;
 * the processor's time beside them is what is left of that noise.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cli.h"
#include "grammar_cache.h"
#include "grammar_mask.h"

#define ROUNDS 15
#define PROMPT 16				/* tokens */

static const struct
{
	const char *name;
	g2_constraint_kind kind;
	const char *text;
}			constraints[] = {
	{"choice of 3", G2_CONSTRAINT_CHOICE, "[\"battery\", \"billing\", \"software\"]"},
	{"date", G2_CONSTRAINT_REGEX, "[0-9]{4}-(0[1-9]|1[0-2])-[0-3][0-9]"},
	{"any text", G2_CONSTRAINT_REGEX, "[\\s\\S]*"},
	{"record", G2_CONSTRAINT_SCHEMA, "{\"type\": \"object\", \"properties\": {"
		"\"name\": {\"type\": \"string\", \"maxLength\": 40}, \"kind\": {\"enum\": [\"bug\","
		" \"wish\"]}, \"count\": {\"type\": \"integer\", \"minimum\": 0, \"maximum\": 999},"
		" \"tags\": {\"type\": \"array\", \"items\": {\"type\": \"string\"}, \"maxItems\": 5}},"
		" \"required\": [\"name\", \"kind\", \"count\"]}"},
	{"any JSON", G2_CONSTRAINT_SCHEMA, "{}"},
	{"text of 1000", G2_CONSTRAINT_SCHEMA, "{\"type\": \"string\", \"maxLength\": 1000}"},
};

static void
give_up(const g2_error *err)
{
	fprintf(stderr, "%s\n", err->message);
	exit(1);
}

/* Of the processor, in milliseconds: other work on the machine adds little to it. */
static double
cpu_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double) t.tv_sec * 1e3 + (double) t.tv_nsec / 1e6;
}

/* Each state's mask once as it is new, and once more. */
static void
bench_masks(const char *name, const g2_grammar *grammar, uint32_t end_token, uint32_t n_vocab,
			double compiled)
{
	g2_error	err;
	g2_masks   *masks;
	uint32_t	n = G2_MIN(grammar->dfa.n_states, 500u);
	double		cold,
				warm,
				start;

	if (!g2_masks_open((size_t) 1 << 30, &masks, &err))
		give_up(&err);
	start = cpu_ms();
	for (uint32_t s = 0; s < n; s++)
		g2_masks_get(masks, grammar, s, UINT32_MAX - 1, end_token, n_vocab);
	cold = cpu_ms() - start;
	start = cpu_ms();
	for (int round = 0; round < 100; round++)
		for (uint32_t s = 0; s < n; s++)
			g2_masks_get(masks, grammar, s, UINT32_MAX - 1, end_token, n_vocab);
	warm = (cpu_ms() - start) / 100;
	printf("%-14s %6u states, compiled in %7.1f ms; a mask: new %7.1f us, kept %5.2f us\n", name,
		   grammar->dfa.n_states, compiled, 1e3 * cold / n, 1e3 * warm / n);
	g2_masks_close(masks);
}

static void
bench_compiling(const g2_pack *pack)
{
	g2_error	err;
	g2_lexicon *lexicon;
	double		start = cpu_ms();

	if (!g2_lexicon_new(pack->tokenizer, pack->description.end_token, &lexicon, &err))
		give_up(&err);
	printf("vocabulary     %6u nodes, made in %.1f ms (once a model)\n", lexicon->n_nodes,
		   cpu_ms() - start);
	for (size_t i = 0; i < G2_LENGTH(constraints); i++)
	{
		g2_grammar *grammar;

		start = cpu_ms();
		if (!g2_grammar_compile(constraints[i].kind, constraints[i].text,
								strlen(constraints[i].text), lexicon, NULL, &grammar, &err))
			give_up(&err);
		bench_masks(constraints[i].name, grammar, pack->description.end_token,
					pack->weights.arch.n_vocab, cpu_ms() - start);
		g2_grammar_free(grammar);
	}
	g2_lexicon_free(lexicon);
}

typedef struct spent
{
	double		ms;				/* of the clock */
	double		cpu_ms;			/* of all threads */
} spent;

static spent
spent_so_far(void)
{
	return (spent) {(double) g2_now_us() / 1e3, cpu_ms()};
}

/* One text; *tokens counts what was made. */
static spent
run_text(g2_engine *engine, const char *model, const char *regex, uint32_t max_new,
		 double temperature, uint32_t *tokens)
{
	uint32_t	ids[PROMPT];
	g2_generate m = {.max_new = max_new,.n = 1,.top_p = 1,.repetition_penalty = 1,
		.temperature = temperature,.seed = 1,
	.flags = G2_GEN_PROMPT_IDS | G2_GEN_NO_CACHE};
	g2_writer	w = {.grow = g2_realloc};
	g2_buf		reply = {0};
	g2_reader	r;
	g2_completions_head head;
	g2_completion completion;
	g2_error	err;
	spent		start,
				end;

	for (uint32_t i = 0; i < PROMPT; i++)
		ids[i] = 100 + i;
	m.model = g2_span_of(model);
	m.prompt = (g2_span) {(const char *) ids, sizeof ids};
	if (regex)
	{
		m.constraint_kind = G2_CONSTRAINT_REGEX;
		m.constraint = g2_span_of(regex);
	}
	g2_generate_encode(&w, &m);
	start = spent_so_far();
	if (!g2_cli_call(engine, G2_MSG_GENERATE, &w, &reply, &err))
		give_up(&err);
	end = spent_so_far();
	r = g2_read(reply.data, reply.len);
	g2_completions_head_get(&r, &head);
	g2_completion_get(&r, &completion);
	*tokens = completion.n_ids;
	g2_free(w.data);
	g2_buf_free(&reply);
	return (spent) {end.ms - start.ms, end.cpu_ms - start.cpu_ms};
}

/* The best of a short and of a long text so far. */
typedef struct texts
{
	spent		few;
	spent		many;
	uint32_t	tokens;			/* of the long one, more than of the short one */
} texts;

static spent
least(spent a, spent b)
{
	return (spent) {G2_MIN(a.ms, b.ms), G2_MIN(a.cpu_ms, b.cpu_ms)};
}

static void
run_texts(g2_engine *engine, const char *model, const char *regex, uint32_t n, double temperature,
		  texts *best)
{
	uint32_t	few,
				many;

	best->few = least(best->few, run_text(engine, model, regex, 4, temperature, &few));
	best->many = least(best->many, run_text(engine, model, regex, n, temperature, &many));
	best->tokens = G2_MAX(many, few + 1) - few;
}

/* What a token of the long text takes. */
static spent
per_token(const texts *t)
{
	return (spent) {(t->many.ms - t->few.ms) / t->tokens,
		(t->many.cpu_ms - t->few.cpu_ms) / t->tokens};
}

static void
bench_texts(g2_engine *engine, const char *model, uint32_t n)
{
	static const char *const regexes[] = {NULL, "[\\s\\S]*", "[\\s\\S]{1,1000}"};
	static const char *const names[] = {"without", "one mask", "a mask a token"};

	for (int t = 0; t < 2; t++)
	{
		texts		best[3];
		spent		without;

		for (int i = 0; i < 3; i++)
			best[i].few = best[i].many = (spent) {1e9, 1e9};
		for (int round = 0; round < ROUNDS; round++)
			for (int i = 0; i < 3; i++)
				run_texts(engine, model, regexes[i], n, t, &best[i]);
		without = per_token(&best[0]);
		for (int i = 0; i < 3; i++)
		{
			spent		s = per_token(&best[i]);

			printf("temperature %d, %-14s %7.3f ms a token (%+5.1f %%), %7.3f of processors "
				   "(%+5.1f %%)\n", t, names[i], s.ms, 100 * (s.ms / without.ms - 1), s.cpu_ms,
				   100 * (s.cpu_ms / without.cpu_ms - 1));
		}
	}
}

int
main(int argc, char **argv)
{
	g2_cli		cli;
	g2_error	err;
	g2_engine  *engine;
	g2_pack    *pack;
	g2_model_paths paths;
	uint32_t	tokens = argc > 3 ? (uint32_t) atoi(argv[3]) : 68;

	if (argc < 2)
	{
		fprintf(stderr, "usage: %s MODEL_FOLDER [THREADS [TOKENS]]\n", argv[0]);
		return 2;
	}
	g2_cli_init(&cli);
	cli.settings.no_speculation = 1;
	if (!g2_cli_option(&cli, "--model", argv[1], &err) ||
		(argc > 2 && !g2_cli_option(&cli, "--threads", argv[2], &err)) ||
		!g2_cli_finish(&cli, &err))
		give_up(&err);
	paths = g2_cli_paths(&cli);
	if (!g2_pack_open(&paths, cli.model, cli.format, NULL, NULL, &pack, &err))
		give_up(&err);
	bench_compiling(pack);
	g2_pack_close(pack);
	if (!g2_engine_open(&cli.settings, g2_cli_log, NULL, &engine, &err))
		give_up(&err);
	bench_texts(engine, cli.model, tokens);
	g2_engine_close(engine);
	return 0;
}
