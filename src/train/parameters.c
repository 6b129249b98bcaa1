/*
 * parameters.c: weights that are trained.
 */
#include "parameters.h"

#include <math.h>
#include <stdio.h>

#include "adapter.h"
#include "layout.h"
#include "memory.h"
#include "philox.h"
#include "product.h"
#include "weights_source.h"

#define ALIGN 16				/* floats */
#define START_PURPOSE 3			/* third word of the counter; 1 and 2 are synth's */
#define CANCEL_ELEMENTS 65536	/* between two looks for a cancel */

bool
g2t_arch_check(const g2_arch *a, g2_error *err)
{
	if (a->activation != G2_ACT_GELU_NEW)
		return g2_fail(err, G2_E_UNSUPPORTED, "a model whose activation_function is not gelu_new "
					   "cannot be trained");
	if (a->norm != G2_NORM_LAYER || !a->norm_bias || a->position != G2_POSITION_LEARNED ||
		a->gated_mlp || !a->attn_bias || !a->mlp_bias || a->attn_window != 0 ||
		a->n_kv_head != a->n_head || a->n_head * a->head_dim != a->n_embd)
		return g2_fail(err, G2_E_UNSUPPORTED, "only models with GPT-2's graph can be trained");
	return true;
}

/* ---- lists of tensors ---- */

static void
add_tensor(g2t_parameters *p, const char *name, uint32_t rank, uint64_t rows, uint64_t cols)
{
	g2t_tensor *t = &p->tensor[p->n++];

	snprintf(t->name, sizeof t->name, "%s", name);
	t->rank = rank;
	t->rows = rows;
	t->cols = cols;
	t->at = p->floats;
	t->decays = rank == 2;
	p->floats += G2_ROUND_UP(rows * cols, (size_t) ALIGN);
}

static bool
allocate(g2t_parameters *p, bool trained, g2_error *err)
{
	float	  **arrays[] = {&p->w, &p->g, &p->m, &p->v};

	for (size_t i = 0; i < (trained ? 4 : 1); i++)
		if (!(*arrays[i] = g2t_floats(p->floats)))
			return g2_fail_memory(err, p->floats * sizeof(float));
	return true;
}

bool
g2t_parameters_open(const g2_arch *arch, bool trained, g2t_parameters *p, g2_error *err)
{
	g2_layout	layout;
	bool		ok;

	memset(p, 0, sizeof *p);
	if (!g2_layout_make(arch, G2_FORMAT_F32, &layout, err))
		return false;
	p->tensor = g2_alloc_array(layout.n, sizeof *p->tensor);
	for (uint32_t i = 0; p->tensor && i < layout.n; i++)
		add_tensor(p, layout.tensor[i].name, layout.tensor[i].rank, layout.tensor[i].rows,
				   layout.tensor[i].cols);
	ok = p->tensor ? allocate(p, trained, err)
		: g2_fail_memory(err, layout.n * sizeof *p->tensor);
	g2_layout_free(&layout);
	if (!ok)
		g2t_parameters_close(p);
	return ok;
}

static void
add_adapters(const g2_arch *a, uint32_t layer, uint32_t rank, g2t_parameters *p)
{
	char		name[64];

	for (uint32_t i = 0; i < G2_ADAPTER_MODULES; i++)
	{
		uint32_t	k,
					n;

		g2_adapter_shape(a, i, &k, &n);
		snprintf(name, sizeof name, "h.%u.%s.lora_a", layer, g2_adapter_modules[i]);
		add_tensor(p, name, 2, k, rank);
		snprintf(name, sizeof name, "h.%u.%s.lora_b", layer, g2_adapter_modules[i]);
		add_tensor(p, name, 2, rank, n);
	}
}

bool
g2t_adapters_open(const g2_arch *arch, uint32_t rank, g2t_parameters *p, g2_error *err)
{
	size_t		n = (size_t) arch->n_layer * G2_ADAPTER_MODULES * 2;

	memset(p, 0, sizeof *p);
	p->tensor = g2_alloc_array(n, sizeof *p->tensor);
	if (!p->tensor)
		return g2_fail_memory(err, n * sizeof *p->tensor);
	for (uint32_t l = 0; l < arch->n_layer; l++)
		add_adapters(arch, l, rank, p);
	if (allocate(p, true, err))
		return true;
	g2t_parameters_close(p);
	return false;
}

uint64_t
g2t_adapters_size(const g2_arch *arch, uint32_t rank)
{
	uint64_t	sum = 0;

	for (uint32_t i = 0; i < G2_ADAPTER_MODULES; i++)
	{
		uint32_t	k,
					n;

		g2_adapter_shape(arch, i, &k, &n);
		sum += (uint64_t) rank * ((uint64_t) k + n);
	}
	return arch->n_layer * sum;
}

void
g2t_parameters_close(g2t_parameters *p)
{
	g2_free(p->tensor);
	g2t_floats_free(p->w);
	g2t_floats_free(p->g);
	g2t_floats_free(p->m);
	g2t_floats_free(p->v);
	memset(p, 0, sizeof *p);
}

size_t
g2t_parameters_at(const g2t_parameters *p, const char *name)
{
	for (uint32_t i = 0; i < p->n; i++)
		if (strcmp(p->tensor[i].name, name) == 0)
			return p->tensor[i].at;
	return 0;
}

/* ---- first values ---- */

/* A sum of twelve uniform numbers of 16 bits is nearly normal, with deviation 65536 (as in
 * synth.h). */
static float
normal(uint64_t seed, uint64_t element, uint32_t tensor)
{
	g2_philox	a = g2_philox4x32(seed, (uint32_t) element, (uint32_t) (element >> 32),
								  START_PURPOSE, tensor),
				b = g2_philox4x32(seed, (uint32_t) element, (uint32_t) (element >> 32),
								  START_PURPOSE + 1, tensor);
	const uint32_t words[6] = {a.word[0], a.word[1], a.word[2], a.word[3], b.word[0], b.word[1]};
	int32_t		sum = 0;

	for (int i = 0; i < 6; i++)
		sum += (int32_t) ((words[i] & 0xFFFF) + (words[i] >> 16));
	return (float) (2 * sum - 12 * 65535) / 131072.0f;
}

static bool
ends_with(const char *name, const char *end)
{
	size_t		n = strlen(name),
				m = strlen(end);

	return n >= m && strcmp(name + n - m, end) == 0;
}

static float
start_deviation(const g2t_tensor *t, uint32_t n_layer)
{
	if (ends_with(t->name, ".lora_b"))
		return 0.0f;
	if (ends_with(t->name, ".lora_a"))
		return 1.0f / sqrtf((float) t->rows);
	if (ends_with(t->name, ".c_proj.weight"))
		return 0.02f / sqrtf(2.0f * (float) n_layer);
	return 0.02f;
}

void
g2t_parameters_start(g2t_parameters *p, uint32_t n_layer, uint64_t seed, const atomic_bool *cancel)
{
	for (uint32_t i = 0; i < p->n; i++)
	{
		const g2t_tensor *t = &p->tensor[i];
		float		deviation = start_deviation(t, n_layer);
		bool		gain = t->rank == 1 && ends_with(t->name, ".weight");

		for (size_t e = 0; e < g2t_tensor_size(t); e++)
		{
			if (e % CANCEL_ELEMENTS == 0 && cancel && atomic_load(cancel))
				return;
			p->w[t->at + e] = t->rank == 1 ? (gain ? 1.0f : 0.0f)
				: deviation > 0.0f ? deviation * normal(seed, e, i) : 0.0f;
		}
	}
}

bool
g2t_parameters_read(const char *folder, const g2_arch *arch, g2t_parameters *p, g2_error *err)
{
	g2_layout	layout;
	g2_source	source;
	bool		ok;

	if (!g2_layout_make(arch, G2_FORMAT_F32, &layout, err))
		return false;
	ok = g2_source_open(folder, &layout, &source, err);
	if (ok)
	{
		for (uint32_t i = 0; ok && i < layout.n; i++)
			ok = g2_source_read(&source, &layout.tensor[i], 0, layout.tensor[i].rows,
								p->w + p->tensor[i].at, err);
		g2_source_close(&source);
	}
	g2_layout_free(&layout);
	return ok;
}

void
g2t_adapters_merge(const g2t_context *context, g2t_parameters *adapters, float scale,
				   g2t_parameters *p)
{
	for (uint32_t i = 0; i + 1 < adapters->n; i += 2)
	{
		const g2t_tensor *a = &adapters->tensor[i],
				   *b = &adapters->tensor[i + 1];
		float	   *wa = adapters->w + a->at;
		char		name[64];

		snprintf(name, sizeof name, "%.*sweight", (int) (strlen(a->name) - strlen("lora_a")),
				 a->name);
		for (size_t j = 0; j < g2t_tensor_size(a); j++)
			wa[j] *= scale;
		g2t_multiply(context, a->rows, b->cols, a->cols, g2t_plain(wa, a->cols),
					 g2t_plain(adapters->w + b->at, b->cols), NULL, true,
					 p->w + g2t_parameters_at(p, name), b->cols);
	}
}
