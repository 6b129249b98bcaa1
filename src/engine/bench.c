/*
 * bench.c: gpt2_engine bench: prefill and decode speed against the limits of the machine, measured
 * in the same run.  Every figure is of the best of several rounds, since other work on the machine
 * only ever makes them worse; limits and rates are measured in turns.
 */
#include <stdio.h>
#include <time.h>

#include "cli.h"
#include "machine.h"
#include "model.h"
#include "pool.h"

#define READ_BYTES (512u << 20)
#define ROUNDS 3
#define ADAPTER_ROUNDS 8

typedef struct bench
{
	g2_cli		cli;
	const char *adapter;		/* name of one beside the model; NULL: the model alone */
	const char *model;			/* that is asked: one of the two */
	g2_engine  *engine;
	g2_pool    *pool;
	char	   *memory;			/* READ_BYTES, larger than any cache */
	uint64_t	weight_bytes;	/* that a decode step reads */
	uint64_t	weights;		/* that a token is multiplied by */
	uint32_t	n_ctx;
	uint32_t	n_vocab;
	uint32_t	period;			/* tokens after which prompts repeat */
} bench;

/* ---- read bandwidth ---- */

#define READ_TASKS 64

typedef struct read_job
{
	const uint64_t *words;
	size_t		per_task;
	uint64_t	sums[READ_TASKS];
} read_job;

static void
read_task(void *arg, uint32_t task, uint32_t thread)
{
	read_job   *job = arg;
	const uint64_t *w = job->words + task * job->per_task;
	uint64_t	s[8] = {0};

	(void) thread;
	for (size_t i = 0; i + 8 <= job->per_task; i += 8)
		for (int j = 0; j < 8; j++)
			s[j] += w[i + j];
	for (int j = 0; j < 8; j++)
		job->sums[task] += s[j];
}

/* Bytes per second. */
static double
read_bandwidth(bench *b)
{
	read_job	job = {
		.words = (const uint64_t *) b->memory,
		.per_task = READ_BYTES / READ_TASKS / sizeof(uint64_t),
	};
	int64_t		start = g2_now_us();

	g2_pool_run(b->pool, READ_TASKS, read_task, &job);
	return READ_BYTES * 1e6 / (double) (g2_now_us() - start);
}

/* ---- requests ---- */

#define PASSAGE 48				/* tokens after which the prompt of the copying text repeats */

static bool
encode_request(const bench *b, g2_writer *w, uint32_t n_prompt, uint32_t max_new, uint32_t salt)
{
	g2_generate m = {.max_new = max_new, .n = 1, .top_p = 1, .repetition_penalty = 1,
	.flags = G2_GEN_PROMPT_IDS | G2_GEN_NO_CACHE};
	uint32_t   *ids = g2_alloc_array(n_prompt, sizeof *ids);

	if (!ids)
		return false;
	for (uint32_t i = 0; i < n_prompt; i++)
		ids[i] = (i % b->period * 2654435761u + salt * 40503u) % b->n_vocab;
	m.model = g2_span_of(b->model);
	m.prompt = (g2_span) {(const char *) ids, n_prompt * (uint32_t) sizeof *ids};
	g2_generate_encode(w, &m);
	g2_free(ids);
	return !w->failed;
}

typedef struct batch
{
	uint32_t	left;
	uint64_t	new_tokens;
	bool		failed;
} batch;

static void
on_answer(void *owner, g2_message type, uint64_t id, const void *payload, size_t len)
{
	batch	   *t = owner;
	g2_reader	r = g2_read(payload, len);
	g2_completions_head head;
	g2_completion completion;

	(void) id;
	if (type == G2_MSG_NOTICE)
		return;
	t->left--;
	if (type != G2_MSG_COMPLETIONS)
	{
		t->failed = true;
		return;
	}
	g2_completions_head_get(&r, &head);
	g2_completion_get(&r, &completion);
	t->new_tokens += completion.n_ids;
}

/* Runs n_sequences requests together; seconds, or -1.  *new_tokens counts what was made. */
static double
run_batch(bench *b, uint32_t n_sequences, uint32_t n_prompt, uint32_t max_new,
		  uint64_t *new_tokens)
{
	batch		t = {.left = n_sequences};
	int64_t		start = g2_now_us();
	g2_client  *client;

	if (!g2_engine_attach(b->engine, &t, on_answer, &(g2_hello) {0}, &client, NULL))
		return -1;
	for (uint32_t i = 0; i < n_sequences; i++)
	{
		g2_writer	w = {.grow = g2_realloc};

		if (encode_request(b, &w, n_prompt, max_new, i))
			g2_engine_submit(client, i + 1, G2_MSG_GENERATE, w.data, w.len);
		else
		{
			t.failed = true;
			t.left--;
		}
		g2_free(w.data);
	}
	/* All are waited for, also where one has failed: answers go to t. */
	for (g2_engine_run(b->engine); t.left > 0; g2_engine_run(b->engine))
		g2_cli_wait(b->engine);
	g2_engine_detach(client);
	*new_tokens = t.new_tokens;
	return t.failed ? -1 : (double) (g2_now_us() - start) / 1e6;
}

#define DECODE_PROMPT 16
#define DECODE_FEW 8
#define DECODE_MANY 72

/* Of all threads: other work on the machine adds little to it. */
static double
processor_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

/* The least that a batch with few and with many new tokens took so far: the clock's seconds, and the
 * processors'.  The difference is what decoding alone takes. */
typedef struct decode
{
	double		few;
	double		many;
	double		few_processor;
	double		many_processor;
	double		tokens;			/* of many more than of few */
} decode;

static const decode no_decode = {1e9, 1e9, 1e9, 1e9, 0};

static double
decode_rate(const decode *d)
{
	return d->tokens / (d->many - d->few);
}

/* Milliseconds a token. */
static double
decode_processor(const decode *d)
{
	return (d->many_processor - d->few_processor) / d->tokens * 1e3;
}

static bool
run_decode(bench *b, uint32_t n_sequences, decode *d)
{
	uint64_t	few,
				many;
	double		begin = processor_seconds(),
				s_few = run_batch(b, n_sequences, DECODE_PROMPT, DECODE_FEW, &few),
				middle = processor_seconds(),
				s_many = run_batch(b, n_sequences, DECODE_PROMPT, DECODE_MANY, &many);

	if (s_few < 0 || s_many < 0)
		return false;
	d->few = G2_MIN(d->few, s_few);
	d->many = G2_MIN(d->many, s_many);
	d->few_processor = G2_MIN(d->few_processor, middle - begin);
	d->many_processor = G2_MIN(d->many_processor, processor_seconds() - middle);
	d->tokens = (double) (many - few);
	return true;
}

static bool
bench_decode(bench *b, uint32_t n_sequences, double bandwidth)
{
	decode		d = no_decode;
	double		rate;

	if (DECODE_PROMPT + DECODE_MANY > b->n_ctx)
		return true;
	for (int round = 0; round < ROUNDS; round++)
	{
		double		now = read_bandwidth(b);

		if (!run_decode(b, n_sequences, &d))
			return false;
		bandwidth = G2_MAX(bandwidth, now);
	}
	rate = decode_rate(&d);
	printf("decode %3u sequences      %9.1f tokens/s   %.3f ms of processors a token", n_sequences,
		   rate, decode_processor(&d));
	if (n_sequences == 1)
		printf("   %.0f %% of bandwidth / bytes (limit %.1f at %.1f GB/s)",
			   100 * rate * (double) b->weight_bytes / bandwidth,
			   bandwidth / (double) b->weight_bytes, bandwidth / 1e9);
	printf("\n");
	return true;
}

/* The model and an adapter of it, in turns. */
static bool
compare_decode(bench *b, uint32_t n_sequences, g2_error *err)
{
	decode		d[2] = {no_decode, no_decode};
	double		rate[2],
				processor[2];

	for (int round = 0; round < 2 * ADAPTER_ROUNDS; round++)
	{
		b->model = round % 2 ? b->adapter : b->cli.model;
		if (!run_decode(b, n_sequences, &d[round % 2]))
			return g2_fail(err, G2_E_INTERNAL, "a request of the benchmark failed");
	}
	for (int i = 0; i < 2; i++)
	{
		rate[i] = decode_rate(&d[i]);
		processor[i] = decode_processor(&d[i]);
	}
	printf("decode %3u sequences      %9.1f tokens/s, adapter %9.1f: %.2f; %.3f ms of processors a "
		   "token, adapter %.3f: %.2f\n", n_sequences, rate[0], rate[1], rate[1] / rate[0],
		   processor[0], processor[1], processor[0] / processor[1]);
	return true;
}

static bool
bench_adapter(bench *b, g2_error *err)
{
	if (DECODE_PROMPT + DECODE_MANY > b->n_ctx)
		return g2_fail(err, G2_E_PARAM, "the model's context is too short");
	return compare_decode(b, 1, err) && compare_decode(b, 64, err);
}

static bool
bench_prefill(bench *b, uint32_t n_prompt)
{
	double		best = 0,
				processor = 1e9;

	n_prompt = G2_MIN(n_prompt, b->n_ctx - 1);
	for (int round = 0; round < ROUNDS; round++)
	{
		uint64_t	tokens;
		double		begin = processor_seconds(),
					seconds = run_batch(b, 1, n_prompt, 1, &tokens);

		if (seconds < 0)
			return false;
		best = G2_MAX(best, n_prompt / seconds);
		processor = G2_MIN(processor, processor_seconds() - begin);
	}
	printf("prefill %4u tokens       %9.1f tokens/s   %.3f ms of processors a token   "
		   "%.1f Gop/s in the products\n", n_prompt, best, processor / n_prompt * 1e3,
		   best * 2 * (double) b->weights / 1e9);
	return true;
}

/* One text that repeats its prompt and itself, with drafts and without. */
static bool
bench_copy(bench *b, g2_error *err)
{
	const uint32_t n_prompt = 4 * PASSAGE,
				max_new = 128;
	double		best[2] = {1e9, 1e9};

	if (n_prompt + max_new > b->n_ctx)
		return true;
	b->period = PASSAGE;
	for (int round = 0; round < 2 * ROUNDS; round++)
	{
		uint64_t	tokens;
		double		prefill,
					all;

		b->cli.settings.no_speculation = round % 2 == 0;
		if (!g2_engine_configure(b->engine, &b->cli.settings, err))
			return false;
		prefill = run_batch(b, 1, n_prompt, 1, &tokens);
		all = run_batch(b, 1, n_prompt, max_new, &tokens);
		if (prefill < 0 || all < 0)
			return g2_fail(err, G2_E_INTERNAL, "a request of the benchmark failed");
		best[round % 2] = G2_MIN(best[round % 2], all - prefill);
	}
	printf("one text that repeats     %9.1f tokens/s   %.2f times as fast as without drafts\n",
		   (max_new - 1) / best[1], best[0] / best[1]);
	return true;
}

/* ---- the command ---- */

static uint64_t
matrix_bytes(const g2_matrix *m)
{
	return (uint64_t) m->n_padded / G2_PANEL * g2_panel_bytes(m->format, m->k);
}

/* Opens the pack once by itself: times, and what a decode step reads. */
static bool
bench_open(bench *b, g2_error *err)
{
	const g2_model_paths paths = g2_cli_paths(&b->cli);
	uint64_t	bytes;
	bool		packs = g2_pack_missing(&paths, b->cli.model, b->cli.format, &bytes);
	int64_t		start = g2_now_us(),
				middle;
	g2_pack    *pack;
	const g2_arch *a;

	if (!g2_pack_open(&paths, b->cli.model, b->cli.format, NULL, NULL, &pack, err))
		return false;
	middle = g2_now_us();
	if (packs)
	{
		printf("packing                   %9.1f ms\n", (double) (middle - start) / 1e3);
		g2_pack_close(pack);
		start = g2_now_us();
		if (!g2_pack_open(&paths, b->cli.model, b->cli.format, NULL, NULL, &pack, err))
			return false;
		middle = g2_now_us();
	}
	printf("opening the pack          %9.1f ms\n", (double) (middle - start) / 1e3);
	a = &pack->weights.arch;
	b->n_ctx = a->n_ctx;
	b->n_vocab = a->n_vocab;
	b->weight_bytes = matrix_bytes(&pack->weights.head);
	b->weights = (uint64_t) a->n_vocab * a->n_embd;
	for (uint32_t i = 0; i < a->n_layer; i++)
	{
		const g2_layer *l = &pack->weights.layers[i];
		const g2_matrix *const of_layer[] = {&l->qkv, &l->attn_out, &l->ff_up, &l->ff_down};

		for (size_t m = 0; m < G2_LENGTH(of_layer); m++)
		{
			b->weight_bytes += matrix_bytes(of_layer[m]);
			b->weights += (uint64_t) of_layer[m]->k * of_layer[m]->n;
		}
	}
	g2_pack_close(pack);
	return true;
}

static bool
bench_run(bench *b, g2_error *err)
{
	static const uint32_t batches[] = {1, 4, 16, 64};
	uint64_t	tokens;
	double		bandwidth = 0,
				first;

	if (!bench_open(b, err))
		return false;
	b->model = b->cli.model;
	if (b->adapter)
		return bench_adapter(b, err);
	for (int round = 0; round < ROUNDS; round++)
		bandwidth = G2_MAX(bandwidth, read_bandwidth(b));
	printf("read bandwidth            %9.1f GB/s   (%u threads)\n", bandwidth / 1e9,
		   g2_pool_threads(b->pool));
	printf("bytes per token           %9.1f MB\n", (double) b->weight_bytes / 1e6);
	first = run_batch(b, 1, 1, 1, &tokens);
	if (first < 0)
		return g2_fail(err, G2_E_INTERNAL, "a request of the benchmark failed");
	printf("first request             %9.1f ms   (loading included)\n", first * 1e3);
	for (size_t i = 0; i < G2_LENGTH(batches); i++)
		if (!bench_decode(b, batches[i], bandwidth))
			return g2_fail(err, G2_E_INTERNAL, "a request of the benchmark failed");
	if (!bench_prefill(b, 512))
		return g2_fail(err, G2_E_INTERNAL, "a request of the benchmark failed");
	return bench_copy(b, err);
}

bool
g2_cmd_bench(int argc, char **argv, g2_error *err)
{
	bench		b = {.engine = NULL};
	bool		ok;

	g2_cli_init(&b.cli);
	b.cli.settings.no_speculation = 1;
	b.period = UINT32_MAX;
	for (int i = 1; i < argc; i += 2)
	{
		if (i + 1 == argc)
			return g2_fail(err, G2_E_PARAM, "option %s needs a value", argv[i]);
		if (strcmp(argv[i], "--adapter") == 0)
			b.adapter = argv[i + 1];
		else if (!g2_cli_option(&b.cli, argv[i], argv[i + 1], err))
			return false;
	}
	if (!g2_cli_finish(&b.cli, err))
		return false;
	if (!b.cli.model)
		return g2_fail(err, G2_E_PARAM, "--model is missing");
	b.memory = g2_alloc(READ_BYTES);
	if (!b.memory)
		return g2_fail_memory(err, READ_BYTES);
	memset(b.memory, 1, READ_BYTES);
	if (b.cli.settings.threads == 0)
		b.cli.settings.threads = g2_machine_cores();
	ok = g2_pool_open(b.cli.settings.threads, 0, &b.pool, err) &&
		g2_engine_open(&b.cli.settings, g2_cli_log, NULL, &b.engine, err) && bench_run(&b, err);
	g2_engine_close(b.engine);
	g2_pool_close(b.pool);
	g2_free(b.memory);
	return ok;
}
