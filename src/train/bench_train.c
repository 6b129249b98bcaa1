/*
 * bench_train.c: gpt2_train bench: what a step of training costs, beside what its products alone
 * would at the speed of one large product.
 *
 * The products of a token are 6 floating-point operations for each weight of a matrix (2 forward,
 * 4 back), the head's included; attention's own are left out, as it is usually done.
 */
#include <stdio.h>
#include <sys/resource.h>

#include "cli.h"
#include "commands.h"
#include "machine.h"
#include "network.h"
#include "optimizer.h"
#include "product.h"

typedef struct bench
{
	g2_arch		arch;
	int64_t		layer,
				embd,
				head,
				vocab,
				tokens,
				sequences,
				threads,
				steps;
	g2t_context context;
	g2t_parameters p;
	g2t_parameters none;
	g2t_network *net;
	uint32_t   *ids;			/* [tokens + 1] */
	uint32_t   *start;			/* [sequences + 1] */
	double		passes;			/* seconds of the fastest step */
	double		update;
	double		processor;		/* least seconds of all threads together, of a step */
} bench;

static bool
read_options(int argc, char **argv, bench *b, g2_error *err)
{
	const struct
	{
		const char *name;
		int64_t    *value;
		int64_t		least;
		int64_t		most;
	}			options[] = {
		{"--layer", &b->layer, 1, 100}, {"--embd", &b->embd, 1, 8192},
		{"--head", &b->head, 1, 512}, {"--vocab", &b->vocab, 1, G2_MAX_VOCAB},
		{"--tokens", &b->tokens, 1, 65536}, {"--sequences", &b->sequences, 1, 65536},
		{"--threads", &b->threads, 1, 1024}, {"--steps", &b->steps, 1, 1000},
	};

	for (int i = 1; i < argc; i += 2)
	{
		size_t		o = 0;

		while (o < G2_LENGTH(options) && strcmp(argv[i], options[o].name) != 0)
			o++;
		if (o == G2_LENGTH(options))
			return g2_fail(err, G2_E_PARAM, "unknown option \"%s\"", argv[i]);
		if (i + 1 == argc)
			return g2_fail(err, G2_E_PARAM, "option \"%s\" needs a value", argv[i]);
		if (!g2_cli_int(argv[i], argv[i + 1], options[o].least, options[o].most,
						options[o].value, err))
			return false;
	}
	if (b->embd % b->head != 0)
		return g2_fail(err, G2_E_PARAM, "--embd must be a multiple of --head");
	if (b->sequences > b->tokens)
		return g2_fail(err, G2_E_PARAM, "more --sequences than --tokens");
	return true;
}

static void
make_arch(bench *b)
{
	b->arch = (g2_arch) {
		.n_layer = (uint32_t) b->layer, .n_embd = (uint32_t) b->embd,
		.n_head = (uint32_t) b->head, .n_kv_head = (uint32_t) b->head,
		.head_dim = (uint32_t) (b->embd / b->head), .n_ff = 4 * (uint32_t) b->embd,
		.n_ctx = (uint32_t) G2_MAX(b->tokens, 1024), .n_vocab = (uint32_t) b->vocab,
		.norm_bias = 1, .norm_epsilon = 1e-5f, .fused_qkv = 1, .attn_bias = 1, .mlp_bias = 1,
		.tied_head = 1, .attn_scale = 0.125f,
	};
}

static bool
open_all(bench *b, g2_error *err)
{
	g2t_network_options o = {.rows = (uint32_t) b->tokens};

	make_arch(b);
	if (!g2t_context_open((uint32_t) b->threads, 0, g2t_attention_scratch(b->arch.n_ctx),
						  &b->context, err) ||
		!g2t_parameters_open(&b->arch, true, &b->p, err))
		return false;
	g2t_parameters_start(&b->p, b->arch.n_layer, 1, NULL);
	if (!g2t_network_open(&b->arch, &b->context, &b->p, &b->none, &o, &b->net, err))
		return false;
	b->ids = g2_alloc_array((size_t) b->tokens + 1, sizeof *b->ids);
	b->start = g2_alloc_array((size_t) b->sequences + 1, sizeof *b->start);
	if (!b->ids || !b->start)
		return g2_fail_memory(err, (size_t) b->tokens * sizeof *b->ids);
	for (int64_t i = 0; i <= b->tokens; i++)
		b->ids[i] = (uint32_t) (i * 7919 % b->vocab);
	for (int64_t i = 0; i <= b->sequences; i++)
		b->start[i] = (uint32_t) (b->tokens * i / b->sequences);
	return true;
}

static void
close_all(bench *b)
{
	g2t_network_close(b->net);
	g2t_parameters_close(&b->p);
	g2t_context_close(&b->context);
	g2_free(b->ids);
	g2_free(b->start);
}

static double
seconds_since(int64_t start)
{
	return (double) (g2_now_us() - start) / 1e6;
}

/* On a machine that others use too, a better measure than the time that passes. */
static double
processor_seconds(void)
{
	struct rusage u;

	(void) getrusage(RUSAGE_SELF, &u);
	return (double) (u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
		(double) (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void
run_steps(bench *b)
{
	const g2t_optimizer o = {.method = G2T_ADAMW, .rate = 1e-4, .beta1 = 0.9, .beta2 = 0.999,
	.epsilon = 1e-8, .decay = 0.1, .clip = 1.0};
	const g2t_batch batch = {.n = (uint32_t) b->tokens, .n_sequences = (uint32_t) b->sequences,
	.start = b->start, .tokens = b->ids, .targets = b->ids + 1};

	for (int64_t step = 0; step < b->steps; step++)
	{
		double		before = processor_seconds();
		int64_t		t = g2_now_us();
		double		loss = g2t_network_backward(b->net, &batch, (uint32_t) step,
												1.0f / (float) b->tokens) / (double) b->tokens,
					passes = seconds_since(t),
					update;

		t = g2_now_us();
		g2t_optimize(&b->context, &o, (uint32_t) step, g2t_gradient_norm(&b->context, &b->p),
					 &b->p);
		update = seconds_since(t);
		if (step == 0 || processor_seconds() - before < b->processor)
			b->processor = processor_seconds() - before;
		if (step == 0 || passes + update < b->passes + b->update)
		{
			b->passes = passes;
			b->update = update;
		}
		printf("step %lld: loss %.4f, %.3f s\n", (long long) step + 1, loss, passes + update);
	}
}

/* The machine's speed: the best of a product of the MLP's shape, in FLOP/s. */
static double
product_speed(const bench *b)
{
	const size_t m = (size_t) b->tokens,
				k = (size_t) b->embd,
				n = 4 * k;
	double		best = 0;
	float	   *c = g2_alloc_array(m * n, sizeof *c),
			   *x = g2_alloc_array(m * k, sizeof *x);

	for (int i = 0; c && x && i < 10; i++)
	{
		int64_t		t = g2_now_us();

		g2t_multiply(&b->context, m, n, k, g2t_plain(x, k), g2t_plain(b->p.w, n), NULL, false, c,
					 n);
		best = G2_MAX(best, 2.0 * (double) m * (double) n * (double) k / seconds_since(t));
	}
	g2_free(c);
	g2_free(x);
	return best;
}

static void
report(const bench *b)
{
	double		matrices = 0,
				seconds = b->passes + b->update,
				flop,
				speed = product_speed(b);
	struct rusage usage;

	for (uint32_t i = 0; i < b->p.n; i++)
		if (b->p.tensor[i].rank == 2 && strcmp(b->p.tensor[i].name, "wpe.weight") != 0)
			matrices += (double) g2t_tensor_size(&b->p.tensor[i]);
	flop = 6.0 * matrices * (double) b->tokens;
	(void) getrusage(RUSAGE_SELF, &usage);
	printf("parameters    %.1f M\n", (double) b->p.floats / 1e6);
	printf("step          %.3f s for %lld tokens (forward and backward %.3f, AdamW %.3f), "
		   "%.0f tokens/s\n", seconds, (long long) b->tokens, b->passes, b->update,
		   (double) b->tokens / seconds);
	printf("processor     %.3f s of a step, all threads together: %.1f GFLOP/s and thread\n",
		   b->processor, flop / b->processor / 1e9);
	printf("speed         %.1f GFLOP/s of the products; a product alone %.1f, which would be "
		   "%.3f s\n", flop / seconds / 1e9, speed / 1e9, flop / speed);
	printf("memory        16 bytes a parameter (%.0f MB) and %.0f MB of activations; resident at "
		   "most %.0f MB, %.1f bytes a parameter in all\n", (double) b->p.floats * 16 / 1e6,
		   (double) g2t_network_bytes(&b->arch, (uint32_t) b->tokens, false) / 1e6,
		   (double) usage.ru_maxrss * 1024 / 1e6,
		   (double) usage.ru_maxrss * 1024 / (double) b->p.floats);
	printf("machine       %lld threads, kernels %s\n", (long long) b->threads,
		   b->context.kernels->name);
}

bool
g2t_cmd_bench(int argc, char **argv, g2_error *err)
{
	bench		b = {.layer = 12, .embd = 768, .head = 12, .vocab = 50257, .tokens = 256, .sequences = 1,
	.threads = g2_machine_cores(), .steps = 4};
	bool		ok;

	ok = read_options(argc, argv, &b, err) && open_all(&b, err);
	if (ok)
	{
		run_steps(&b);
		report(&b);
	}
	close_all(&b);
	return ok;
}
