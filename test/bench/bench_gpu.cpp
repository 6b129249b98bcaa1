/*
 * bench_gpu.cpp: how fast the CUDA back end is, against what the device can do: its products beside
 * cuBLASLt's (bench_products.cpp), then new tokens and prompt tokens per second on random weights in
 * GPT-2's four shapes.  `make bench-gpu` adds other programs and a SELECT (scripts/bench_gpu.sh).
 *
 * A decode step at context 256 reads all weights once and each sequence's keys and values; a
 * prompt's token takes two operations for each weight.  Steps are timed by the device (busy_us), 16
 * a plan.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <string>
#include <vector>

#include "bench_device.h"
#include "cuda_backend.h"
#include "philox.h"

extern "C"
{
#include "reserve_blocks.h"
}

#define CONTEXT 256u
#define STEPS 16u
#define ROUNDS 5
#define PROMPTS 4u				/* at once */

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
		w.arch.n_vocab = s.n_vocab;
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
	int			rounds;

	bench(int rounds_, uint32_t slots) : rounds(rounds_)
	{
		g2_backend_options options = {};
		g2_error	err = {};

		options.slots = slots;
		check(api->open(&options, fd, &backend, &err), err);
	}
	~bench()
	{
		api->close(backend);
		close(fd);
	}
	bench(const bench &) = delete;
	bench &operator=(const bench &) = delete;

	/* Microseconds that the device works on the plan: the least of some rounds. */
	int64_t
	run(const g2_plan &plan, g2_result *result)
	{
		int64_t		best = INT64_MAX;

		for (int round = 0; round < rounds; round++)
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
		const uint32_t n = PROMPTS * CONTEXT;
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
		for (uint32_t i = 0; i < PROMPTS; i++)
			sequences.push_back({G2_TOKEN_NONE, i * CONTEXT, CONTEXT,
				&table[i * CONTEXT / G2_BLOCK]});
		plan.model = m;
		plan.n_steps = 1;
		plan.n_rows = n;
		plan.token = token.data();
		plan.position = position.data();
		plan.n_sequences = PROMPTS;
		plan.sequences = sequences.data();
		return n * 1e6 / (double) run(plan, &result);
	}
};

/* ---- one model ---- */

/* What was reached and what the device allows, in tokens per second; 0: there was no room. */
struct figure
{
	double		reached;
	double		limit;
};

/* Blocks for so many sequences, or as many as there is memory for: how many that are. */
static uint32_t
reserve(bench &b, g2_backend_model *m, const std::vector<uint32_t> &sequences)
{
	size_t		bytes;
	const uint64_t room = (uint64_t) b.api->kv_spare(m) * b.api->kv_slab(m, &bytes);

	for (auto n = sequences.rbegin(); n != sequences.rend(); n++)
	{
		g2_error	err = {};

		if (*n * CONTEXT / G2_BLOCK > room)
			continue;
		check(reserve_blocks(b.api, m, *n * CONTEXT / G2_BLOCK, &err), err);
		return *n;
	}
	return 0;
}

/* Decoding with each number of sequences, then prompts. */
static std::vector<figure>
bench_model(bench &b, const bench_plan &plan, const shape &s, g2_format format)
{
	random_model r(s, format);
	const double weight_bytes = r.parameters() * (format == G2_FORMAT_BF16 ? 2.0 : 1.0625),
				kv_bytes = 4.0 * s.n_layer * s.n_embd * CONTEXT;
	std::vector<figure> figures;
	g2_backend_model *m;
	g2_error	err = {};
	uint32_t	most;

	if (!b.api->model_load(b.backend, &r.w, &m, &err))
	{
		check(err.code == G2_E_MEMORY, err);
		return std::vector<figure>(plan.sequences.size() + 1, {0.0, 0.0});
	}
	check(b.api->model_fill(m, &r.w, &err), err);
	most = reserve(b, m, plan.sequences);
	for (uint32_t n : plan.sequences)
		figures.push_back({n > most ? 0.0 : b.decode(m, n),
			n * plan.bandwidth / (weight_bytes + n * kv_bytes)});
	figures.push_back({most < PROMPTS ? 0.0 : b.prefill(m), plan.flops / (2.0 * r.parameters())});
	b.api->model_unload(b.backend, m);
	return figures;
}

/* A column for each shape, a row for each number of sequences. */
static void
bench_models(const bench_plan &plan)
{
	bench		b(plan.rounds, plan.sequences.back());
	std::deque<std::vector<figure>> columns;

	printf("\nTokens per second (of the limit), context %u:\n\n| |", CONTEXT);
	for (const shape &s : plan.shapes)
		printf(" %s |", s.name);
	printf("\n|---|");
	for (size_t i = 0; i < plan.shapes.size(); i++)
		printf("---|");
	printf("\n");
	for (g2_format format : {G2_FORMAT_BF16, G2_FORMAT_Q8})
	{
		columns.clear();
		for (const shape &s : plan.shapes)
			columns.push_back(bench_model(b, plan, s, format));
		for (size_t row = 0; row <= plan.sequences.size(); row++)
		{
			const char *name = format == G2_FORMAT_BF16 ? "bf16" : "q8";

			if (row < plan.sequences.size())
				printf("| %s, %u sequences |", name, plan.sequences[row]);
			else
				printf("| %s, prompts, %u x %u |", name, PROMPTS, CONTEXT);
			for (const std::vector<figure> &f : columns)
				if (f[row].reached == 0.0)
					printf(" no room |");
				else if (f[row].limit == 0.0)
					printf(" %.0f |", f[row].reached);
				else
					printf(" %.0f (%.0f %%) |", f[row].reached, 100.0 * f[row].reached / f[row].limit);
			printf("\n");
		}
		fflush(stdout);
	}
}

/* ---- all ---- */

static void
usage()
{
	printf("bench_gpu [--bandwidth TB/s] [--flops TFLOP/s] [--model 124M] [--part products|models]\n"
		   "Speed of the CUDA back end on the first device.  Limits that are not given are measured:\n"
		   "bandwidth by copying, bf16 arithmetic by a product of cuBLASLt, where that is installed.\n");
}

static bench_plan
full_plan()
{
	return {false, ROUNDS, {{"124M", 12, 768, 12, 50257}, {"355M", 24, 1024, 16, 50257},
		{"774M", 36, 1280, 20, 50257}, {"1.5B", 48, 1600, 25, 50257}}, {1, 64, 256, 1024},
		{1, 8, 16, 32, 64, 128, 256, 1024}, 0.0, 0.0};
}

/* The emulation is made to run through all of it. */
static bench_plan
small_plan()
{
	return {true, 1, {{"small", 1, 64, 1, 200}}, {1, 4}, {1, 20, 70}, 1e9, 0.0};
}

static bool
keep_shape(bench_plan *plan, const char *name)
{
	std::vector<shape> kept;

	for (const shape &s : plan->shapes)
		if (strcmp(s.name, name) == 0)
			kept.push_back(s);
	plan->shapes = kept;
	return !kept.empty();
}

int
main(int argc, char **argv)
{
	bench_plan	plan;
	std::string part;
	rt_info		info = {};
	g2_error	err = {};
	bool		ok = true;

	if (argc == 2 && strcmp(argv[1], "--help") == 0)
	{
		usage();
		return 0;
	}
	check(rt_open(0, &info, &err), err);
	plan = strcmp(info.isa, "emu") == 0 ? small_plan() : full_plan();
	for (int i = 1; i < argc && ok; i += 2)
	{
		const std::string option = argv[i];
		const char *value = i + 1 < argc ? argv[i + 1] : "";

		if (option == "--bandwidth")
			ok = (plan.bandwidth = atof(value) * 1e12) > 0.0;
		else if (option == "--flops")
			ok = (plan.flops = atof(value) * 1e12) > 0.0;
		else if (option == "--model")
			ok = keep_shape(&plan, value);
		else
			ok = option == "--part" && ((part = value) == "products" || part == "models");
	}
	if (!ok)
	{
		usage();
		return 2;
	}
	printf("%s, %u multiprocessors, driver %s\n", info.name, info.processors, info.driver);
	{
		bench_device d;

		bench_limits(d, &plan);
		printf("Limits: %.2f TB/s copied; ", plan.bandwidth / 1e12);
		if (plan.flops > 0.0)
			printf("%.0f TFLOP/s in bf16\n", plan.flops / 1e12);
		else
			printf("arithmetic is not known: no cuBLASLt, no --flops\n");
		if (part != "models")
			bench_products(d, plan);
	}
	if (part != "products")
		bench_models(plan);
	return 0;
}
