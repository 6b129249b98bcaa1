/*
 * bench_gpu.cpp: new tokens and prompt tokens per second of the CUDA back end, on random weights in
 * GPT-2's four shapes, each against what the device's bandwidth and arithmetic allow.
 *
 *     bench_gpu [bandwidth in TB/s] [bf16 TFLOP/s]		(4.3 and 788: an H200, measured)
 *
 * A decode step at context 256 reads all weights once and each sequence's keys and values; a
 * prompt's token takes two operations for each weight.  Steps are timed by the device (busy_us), 16
 * a plan.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "cuda_backend.h"
#include "philox.h"

extern "C"
{
#include "reserve_blocks.h"
}

#define CONTEXT 256u
#define STEPS 16u
#define ROUNDS 5
#define MAX_SEQUENCES 1024u

struct shape
{
	const char *name;
	uint32_t	n_layer;
	uint32_t	n_embd;
	uint32_t	n_head;
};

static const shape shapes[] = {
	{"124M", 12, 768, 12}, {"355M", 24, 1024, 16}, {"774M", 36, 1280, 20}, {"1.5B", 48, 1600, 25},
};

static void
check(bool ok, const g2_error &err)
{
	if (ok)
		return;
	fprintf(stderr, "bench_gpu: %s\n%s\n%s\n", err.message, err.detail, err.hint);
	exit(1);
}

/* Weights of one size are the same memory everywhere: only their number of bytes matters here. */
struct random_model
{
	std::vector<std::vector<char>> memory;
	std::vector<g2_layer> layers;
	g2_weights	w;

	g2_matrix
	matrix(g2_format format, uint32_t k, uint32_t n)
	{
		const uint32_t padded = (n + G2_PANEL - 1) / G2_PANEL * G2_PANEL;
		const size_t panel = g2_panel_bytes(format, k),
					bytes = padded / G2_PANEL * panel;
		char	   *data;

		memory.emplace_back(bytes + 64);
		data = memory.back().data();
		for (size_t i = 0; i + 4 <= bytes; i += 4)
		{
			/* bf16 and scales about 0.02, of both signs; bytes of q8 anything. */
			uint32_t	word = (uint32_t) (i * 2654435761u),
						small = 0x3c203c20u | (word & 0x807f807fu);
			bool		scale = format == G2_FORMAT_Q8 && i % panel >= g2_panel_scales(format, k);

			word = format == G2_FORMAT_BF16 ? small : scale ? 0x39003900u : word | 0x01010101u;
			memcpy(data + i, &word, 4);
		}
		return {data, format, k, n, padded};
	}

	const float *
	vector(size_t n, float value)
	{
		memory.emplace_back((n + G2_PANEL) * sizeof(float));
		float	   *p = reinterpret_cast<float *>(memory.back().data());

		std::fill(p, p + n, value);
		return p;
	}

	random_model(const shape &s, g2_format format) : layers(s.n_layer), w()
	{
		const uint32_t e = s.n_embd;
		const g2_layer one = {vector(e, 1.0f), vector(e, 0.0f), matrix(format, e, 3 * e),
			vector(3 * e, 0.0f), matrix(format, e, e), vector(e, 0.0f), vector(e, 1.0f),
			vector(e, 0.0f), matrix(format, e, 4 * e), vector(4 * e, 0.0f),
			matrix(format, 4 * e, e), vector(e, 0.0f)};

		w.arch.n_layer = s.n_layer;
		w.arch.n_embd = e;
		w.arch.n_head = w.arch.n_kv_head = s.n_head;
		w.arch.head_dim = e / s.n_head;
		w.arch.n_ff = 4 * e;
		w.arch.n_ctx = 1024;
		w.arch.n_vocab = 50257;
		w.arch.norm_bias = w.arch.fused_qkv = w.arch.attn_bias = w.arch.mlp_bias = 1;
		w.arch.norm_epsilon = 1e-5f;
		w.arch.attn_scale = 0.125f;
		w.arch.tied_head = 1;
		w.format = format;
		w.embed = w.head = matrix(format, e, w.arch.n_vocab);
		w.positions = vector((size_t) w.arch.n_ctx * e, 0.01f);
		std::fill(layers.begin(), layers.end(), one);
		w.layers = layers.data();
		w.norm_gain = vector(e, 1.0f);
		w.norm_bias = vector(e, 0.0f);
	}
	random_model(const random_model &) = delete;
	random_model &operator=(const random_model &) = delete;

	double
	parameters() const
	{
		return 12.0 * w.arch.n_layer * w.arch.n_embd * w.arch.n_embd +
			(double) w.arch.n_vocab * w.arch.n_embd;
	}
};

struct bench
{
	const g2_backend_api *api = g2_cuda_backend();
	int			fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	g2_backend *backend = NULL;

	/* Microseconds that the device works on the plan: the least of some rounds. */
	int64_t
	run(const g2_plan &plan, g2_result *result)
	{
		int64_t		best = INT64_MAX;

		for (int round = 0; round < ROUNDS; round++)
		{
			g2_error	err = {};
			bool		failed = false;

			check(api->step_submit(backend, &plan, result, &err), err);
			while (!api->step_result(backend, &failed, &err))
			{
				struct pollfd p = {fd, POLLIN, 0};
				uint64_t	n;

				poll(&p, 1, -1);
				if (read(fd, &n, sizeof n) < 0)
					continue;
			}
			check(!failed, err);
			best = std::min(best, result->busy_us);
		}
		return std::max<int64_t>(best, 1);
	}

	/* New tokens per second of n sequences, each with blocks of its own. */
	double
	decode(g2_backend_model *m, uint32_t n)
	{
		const uint32_t blocks = CONTEXT / G2_BLOCK;
		std::vector<uint32_t> token(n, 5),
					position(n, CONTEXT - STEPS),
					table(n * blocks),
					sampled(n * STEPS);
		std::vector<g2_plan_sequence> sequences;
		std::vector<g2_output> outputs;
		g2_plan		plan = {};
		g2_result	result = {};

		for (uint32_t i = 0; i < n; i++)
		{
			g2_slot_state state = {};
			g2_error	err = {};

			state.sampling.repetition_penalty = 1.0f;
			state.end_token = G2_TOKEN_NONE;
			check(api->slot_set(backend, i, &state, &err), err);
			for (uint32_t b = 0; b < blocks; b++)
				table[i * blocks + b] = i * blocks + b;
			sequences.push_back({i, i, 1, &table[i * blocks]});
			outputs.push_back({i, i, G2_WANT_TOKEN, 0, NULL, 0, NULL});
		}
		plan.model = m;
		plan.n_steps = STEPS;
		plan.n_rows = plan.n_sequences = plan.n_outputs = n;
		plan.token = token.data();
		plan.position = position.data();
		plan.sequences = sequences.data();
		plan.outputs = outputs.data();
		result.token = sampled.data();
		return (double) n * STEPS * 1e6 / (double) run(plan, &result);
	}

	/* Prompt tokens per second: four prompts of 256. */
	double
	prefill(g2_backend_model *m)
	{
		const uint32_t prompts = 4,
					n = prompts * CONTEXT;
		std::vector<uint32_t> token(n, 7),
					position(n),
					table(n / G2_BLOCK);
		std::vector<g2_plan_sequence> sequences;
		g2_plan		plan = {};
		g2_result	result = {};

		for (uint32_t i = 0; i < n; i++)
			position[i] = i % CONTEXT;
		for (uint32_t i = 0; i < table.size(); i++)
			table[i] = i;
		for (uint32_t i = 0; i < prompts; i++)
			sequences.push_back({G2_TOKEN_NONE, i * CONTEXT, CONTEXT,
				&table[i * CONTEXT / G2_BLOCK]});
		plan.model = m;
		plan.n_steps = 1;
		plan.n_rows = n;
		plan.token = token.data();
		plan.position = position.data();
		plan.n_sequences = prompts;
		plan.sequences = sequences.data();
		return n * 1e6 / (double) run(plan, &result);
	}
};

int
main(int argc, char **argv)
{
	const double bandwidth = (argc > 1 ? atof(argv[1]) : 4.3) * 1e12,
				flops = (argc > 2 ? atof(argv[2]) : 788) * 1e12;
	g2_backend_options options = {};
	g2_backend_device about;
	g2_error	err = {};
	bench		b;

	options.slots = MAX_SEQUENCES;
	check(b.api->open(&options, b.fd, &b.backend, &err), err);
	b.api->describe(b.backend, &about);
	printf("%s, driver %s; limits for %.1f TB/s and %.0f TFLOP/s\n\n", about.name, about.driver,
		   bandwidth / 1e12, flops / 1e12);
	printf("| model, format | sequences | new tokens/s | limit | of it |\n|---|---|---|---|---|\n");
	for (const shape &s : shapes)
		for (g2_format format : {G2_FORMAT_BF16, G2_FORMAT_Q8})
		{
			const char *name = format == G2_FORMAT_BF16 ? "bf16" : "q8";
			random_model r(s, format);
			const double weight_bytes = r.parameters() * (format == G2_FORMAT_BF16 ? 2.0 : 1.0625),
						kv_bytes = 4.0 * s.n_layer * s.n_embd * CONTEXT,
						prefill_limit = flops / (2.0 * r.parameters());
			g2_backend_model *m;
			double		reached;

			check(b.api->model_load(b.backend, &r.w, &m, &err), err);
			check(b.api->model_fill(m, &r.w, &err), err);
			check(reserve_blocks(b.api, m, MAX_SEQUENCES * CONTEXT / G2_BLOCK, &err), err);
			for (uint32_t n : {1u, 64u, 256u, 1024u})
			{
				const double limit = n * bandwidth / (weight_bytes + n * kv_bytes);

				reached = b.decode(m, n);
				printf("| %s %s | %u | %.0f | %.0f | %.0f %% |\n", s.name, name, n, reached, limit,
					   100.0 * reached / limit);
			}
			reached = b.prefill(m);
			printf("| %s %s | prompts, 4 x %u | %.0f | %.0f | %.0f %% |\n", s.name, name, CONTEXT,
				   reached, prefill_limit, 100.0 * reached / prefill_limit);
			fflush(stdout);
			b.api->model_unload(b.backend, m);
		}
	b.api->close(b.backend);
	close(b.fd);
	return 0;
}
