/*
 * adapter_fixture.h: LoRA adapters for tests, as PEFT lays them out, and their bases with them
 * merged in.
 */
#ifndef ADAPTER_FIXTURE_H
#define ADAPTER_FIXTURE_H

#include "model_fixture.h"

#include "adapter.h"

#define ADAPTER_MATRICES 4		/* of a layer */

static const char *const adapter_modules[ADAPTER_MATRICES] = {
	"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj",
};

/* The base of most of them. */
static UNUSED const g2_synth_options base_model = {
	.n_layer = 2, .n_embd = 96, .n_head = 4, .n_ff = 200, .n_ctx = 64, .n_vocab = 257,
	.sigma = 0.2, .seed = 21,
};

/* Of a model of these sizes; matrices [layer * 4 + module]. */
typedef struct test_adapter
{
	const g2_synth_options *of;
	uint32_t	rank;
	double		alpha;
	float	  **a;				/* [rank][k]; NULL: the matrix has no adapter */
	float	  **b;				/* [n][rank] */
} test_adapter;

static UNUSED void
adapter_shape(const g2_synth_options *of, uint32_t module, uint32_t *k, uint32_t *n)
{
	*k = module == 3 ? of->n_ff : of->n_embd;
	*n = module == 0 ? 3 * of->n_embd : module == 2 ? of->n_ff : of->n_embd;
}

/* A number between -1 and 1, the same on every machine. */
static UNUSED float
adapter_number(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (float) ((int64_t) (*state >> 33) - (1 << 30)) / (float) (1 << 30);
}

/* size: of the elements of B; modules: which have adapters, bits. */
static UNUSED test_adapter
adapter_make(const g2_synth_options *of, uint32_t rank, double alpha, float size, uint32_t modules,
			 uint64_t seed)
{
	const uint32_t n_matrices = of->n_layer * ADAPTER_MATRICES;
	test_adapter t = {.of = of, .rank = rank, .alpha = alpha,
		.a = calloc(n_matrices, sizeof *t.a), .b = calloc(n_matrices, sizeof *t.b)};

	for (uint32_t m = 0; m < n_matrices; m++)
	{
		uint32_t	k,
					n;

		if (!(modules & 1u << m % ADAPTER_MATRICES))
			continue;
		adapter_shape(of, m % ADAPTER_MATRICES, &k, &n);
		t.a[m] = calloc((size_t) rank * k, sizeof(float));
		t.b[m] = calloc((size_t) n * rank, sizeof(float));
		for (size_t i = 0; i < (size_t) rank * k; i++)
			t.a[m][i] = 0.3f * adapter_number(&seed);
		for (size_t i = 0; i < (size_t) n * rank; i++)
			t.b[m][i] = size * adapter_number(&seed);
	}
	return t;
}

static UNUSED void
adapter_free(test_adapter *t)
{
	for (uint32_t m = 0; m < t->of->n_layer * ADAPTER_MATRICES; m++)
	{
		free(t->a[m]);
		free(t->b[m]);
	}
	free(t->a);
	free(t->b);
}

/* adapter_model.safetensors in the folder. */
static UNUSED void
adapter_weights(const test_adapter *t, const char *folder)
{
	st_builder	builder = {0};

	for (uint32_t m = 0; m < t->of->n_layer * ADAPTER_MATRICES; m++)
	{
		uint32_t	k,
					n;

		adapter_shape(t->of, m % ADAPTER_MATRICES, &k, &n);
		for (char which = 'A'; t->a[m] && which <= 'B'; which++)
		{
			char		name[128],
						shape[32];

			snprintf(name, sizeof name, "base_model.model.transformer.h.%u.%s.lora_%c.weight",
					 m / ADAPTER_MATRICES, adapter_modules[m % ADAPTER_MATRICES], which);
			snprintf(shape, sizeof shape, "%u,%u", which == 'A' ? t->rank : n,
					 which == 'A' ? k : t->rank);
			stb_add(&builder, name, "F32", shape, which == 'A' ? t->a[m] : t->b[m],
					(size_t) t->rank * (which == 'A' ? k : n) * sizeof(float));
		}
	}
	stb_save(&builder, folder, G2_ADAPTER_WEIGHTS);
}

/* A folder of that name; more: further members of adapter_config.json, with a comma before. */
static UNUSED void
adapter_write(const test_adapter *t, const fixture *f, const char *name, const char *base,
			  const char *more)
{
	const char *folder = fixture_folder(f, name);
	char		config[1024];

	(void) mkdir(folder, 0700);
	snprintf(config, sizeof config, "{\"peft_type\": \"LORA\", \"base_model_name_or_path\": \"%s\", "
			 "\"r\": %u, \"lora_alpha\": %g%s}", base, t->rank, t->alpha, more);
	tb_text(folder, G2_ADAPTER_CONFIG, config);
	adapter_weights(t, folder);
}

/* Adds alpha / rank B A to a matrix of the base, rows [k][n]. */
static UNUSED void
adapter_add(const test_adapter *t, uint32_t m, float *w)
{
	uint32_t	k,
				n;

	adapter_shape(t->of, m % ADAPTER_MATRICES, &k, &n);
	for (uint32_t i = 0; t->a[m] && i < k; i++)
		for (uint32_t c = 0; c < n; c++)
		{
			double		sum = 0;

			for (uint32_t j = 0; j < t->rank; j++)
				sum += (double) t->a[m][(size_t) j * k + i] *
					(double) t->b[m][(size_t) c * t->rank + j];
			w[(size_t) i * n + c] += (float) (t->alpha / t->rank * sum);
		}
}

/* The base with the adapter merged in, as a model of its own. */
static UNUSED void
adapter_merge(const test_adapter *t, const fixture *f, const char *base, const char *merged)
{
	char	   *from = strdup(fixture_folder(f, base)),
			   *to = strdup(fixture_folder(f, merged));
	st_builder	builder = {0};
	g2_safetensors *st;
	g2_error	err = {0};
	size_t		len;
	char	   *config = tb_read(from, "config.json", &len);

	assert_int_equal(mkdir(to, 0700), 0);
	tb_write(to, "config.json", config, len);
	free(config);
	EXPECT_OK(g2_safetensors_open(from, "model.safetensors", &st, &err), err);
	for (uint32_t i = 0; i < g2_safetensors_count(st); i++)
	{
		const g2_tensor *s = g2_safetensors_at(st, i);
		size_t		bytes = (size_t) (s->end - s->begin);
		float	   *x = malloc(bytes);
		char		name[64],
					shape[64];

		EXPECT_OK(g2_safetensors_read(st, s, 0, bytes / sizeof *x, x, &err), err);
		for (uint32_t m = 0; m < t->of->n_layer * ADAPTER_MATRICES; m++)
		{
			snprintf(name, sizeof name, "h.%u.%s.weight", m / ADAPTER_MATRICES,
					 adapter_modules[m % ADAPTER_MATRICES]);
			if (strcmp(name, s->name) == 0)
				adapter_add(t, m, x);
		}
		if (s->rank == 1)
			snprintf(shape, sizeof shape, "%" PRIu64, s->shape[0]);
		else
			snprintf(shape, sizeof shape, "%" PRIu64 ",%" PRIu64, s->shape[0], s->shape[1]);
		stb_add(&builder, s->name, "F32", shape, x, bytes);
		free(x);
	}
	stb_save(&builder, to, "model.safetensors");
	g2_safetensors_close(st);
	free(from);
	free(to);
}

#endif							/* ADAPTER_FIXTURE_H */
