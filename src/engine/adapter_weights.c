/*
 * adapter_weights.c: an adapter's tensors, checked against the graph, in f32.
 *
 * Of an adapter of x w, w [k][n], the file has lora_A [r][k] and lora_B [n][r]; y gets scale (x A^T)
 * B^T.  A stays as it is, scale B^T becomes panels, so that the forward pass knows no scale.  Where
 * the base's pack has divided a norm's channel by a power of two (pack_equalize.h), the column of A
 * that reads it is multiplied, as the base's own matrix was: by the ratio of the source's norm and
 * the pack's.
 */
#include "adapter.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "config.h"
#include "file.h"
#include "safetensors.h"
#include "weights_source.h"

const char *const g2_adapter_modules[G2_ADAPTER_MODULES] = {
	"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj",
};

void
g2_adapter_shape(const g2_arch *a, uint32_t module, uint32_t *k, uint32_t *n)
{
	const uint32_t heads = a->n_head * a->head_dim,
				qkv = (a->n_head + 2 * a->n_kv_head) * a->head_dim,
				in[G2_ADAPTER_MODULES] = {a->n_embd, heads, a->n_embd, a->n_ff},
				out[G2_ADAPTER_MODULES] = {qkv, a->n_embd, a->n_ff, a->n_embd};

	*k = in[module];
	*n = out[module];
}

static g2_low_rank *
low_rank_of(g2_layer_adapter *layer, uint32_t module)
{
	switch (module)
	{
		case 0:
			return &layer->qkv;
		case 1:
			return &layer->attn_out;
		case 2:
			return &layer->ff_up;
		default:
			return &layer->ff_down;
	}
}

/* ---- names and shapes ---- */

/* Both tensors of each matrix that has an adapter. */
typedef struct pair
{
	const g2_tensor *a;
	const g2_tensor *b;
} pair;

typedef struct tensors
{
	g2_safetensors *st;
	const char *path;			/* for messages */
	const g2_arch *arch;
	uint32_t	rank;
	pair	   *pairs;			/* [n_layer][G2_ADAPTER_MODULES] */
	uint32_t	n;				/* pairs that are there */
} tensors;

static bool
skip(const char **s, const char *what)
{
	size_t		n = strlen(what);

	if (strncmp(*s, what, n) != 0)
		return false;
	*s += n;
	return true;
}

/* "base_model.model.transformer.h.0.attn.c_attn.lora_A.weight" to the place in its pair; NULL for
 * any other name. */
static const g2_tensor **
find_place(const tensors *t, const char *name, uint32_t *module, bool *is_b)
{
	unsigned long layer;
	char	   *end;

	if (!skip(&name, "base_model.model."))
		return NULL;
	(void) skip(&name, "transformer.");
	if (!skip(&name, "h.") || name[0] < '0' || name[0] > '9')
		return NULL;
	layer = strtoul(name, &end, 10);
	name = end;
	if (layer >= t->arch->n_layer || !skip(&name, "."))
		return NULL;
	for (*module = 0; !skip(&name, g2_adapter_modules[*module]);)
		if (++*module == G2_ADAPTER_MODULES)
			return NULL;
	*is_b = strcmp(name, ".lora_B.weight") == 0;
	if (!*is_b && strcmp(name, ".lora_A.weight") != 0)
		return NULL;
	return *is_b ? &t->pairs[layer * G2_ADAPTER_MODULES + *module].b :
		&t->pairs[layer * G2_ADAPTER_MODULES + *module].a;
}

static bool
check_tensor(const tensors *t, const g2_tensor *tensor, uint32_t module, bool is_b, g2_error *err)
{
	uint32_t	k,
				n;
	uint64_t	rows,
				cols;

	g2_adapter_shape(t->arch, module, &k, &n);
	rows = is_b ? n : t->rank;
	cols = is_b ? t->rank : k;
	if (tensor->dtype == G2_DTYPE_OTHER)
		return g2_fail(err, G2_E_UNSUPPORTED, "dtype %s of tensor \"%s\" (byte %llu) in \"%s\" is "
					   "not supported", tensor->dtype_name, tensor->name,
					   (unsigned long long) tensor->begin, t->path);
	if (tensor->rank == 2 && tensor->shape[0] == rows && tensor->shape[1] == cols)
		return true;
	g2_fail(err, G2_E_BAD_FILE, "tensor \"%s\" (byte %llu) of \"%s\" must have shape [%llu, %llu]",
			tensor->name, (unsigned long long) tensor->begin, t->path, (unsigned long long) rows,
			(unsigned long long) cols);
	return g2_fail_detail(err, "So it follows from the base's sizes and \"r\" = %u.", t->rank);
}

static bool
place_tensor(const tensors *t, const g2_tensor *tensor, g2_error *err)
{
	uint32_t	module;
	bool		is_b;
	const g2_tensor **place = find_place(t, tensor->name, &module, &is_b);

	if (!place)
	{
		g2_fail(err, G2_E_BAD_FILE, "tensor \"%s\" (byte %llu) of \"%s\" is no adapter of a matrix "
				"of the base", tensor->name, (unsigned long long) tensor->begin, t->path);
		return g2_fail_detail(err, "The base has %u layers, and adapters may be of attn.c_attn, "
							  "attn.c_proj, mlp.c_fc and mlp.c_proj.", t->arch->n_layer);
	}
	if (*place)
		return g2_fail(err, G2_E_BAD_FILE, "tensors \"%s\" and \"%s\" of \"%s\" are the same",
					   (*place)->name, tensor->name, t->path);
	*place = tensor;
	return check_tensor(t, tensor, module, is_b, err);
}

static bool
place_all(tensors *t, g2_error *err)
{
	for (uint32_t i = 0; i < g2_safetensors_count(t->st); i++)
		if (!place_tensor(t, g2_safetensors_at(t->st, i), err))
			return false;
	for (uint32_t i = 0; i < t->arch->n_layer * G2_ADAPTER_MODULES; i++)
	{
		const pair *p = &t->pairs[i];

		if (!p->a != !p->b)
			return g2_fail(err, G2_E_BAD_FILE, "tensor \"%s\" of \"%s\" has no lora_%c to it",
						   (p->a ? p->a : p->b)->name, t->path, p->a ? 'B' : 'A');
		t->n += p->a != NULL;
	}
	return t->n > 0 || g2_fail(err, G2_E_BAD_FILE, "\"%s\" has no tensors", t->path);
}

static void
tensors_close(tensors *t)
{
	g2_safetensors_close(t->st);
	g2_free(t->pairs);
}

static bool
tensors_open(const char *folder, uint32_t rank, const g2_arch *arch, tensors *t, g2_error *err)
{
	const size_t n = (size_t) arch->n_layer * G2_ADAPTER_MODULES;

	*t = (tensors) {.arch = arch, .rank = rank};
	if (!g2_safetensors_open(folder, G2_ADAPTER_WEIGHTS, &t->st, err))
		return false;
	t->path = g2_file_tail(g2_safetensors_path(t->st));
	t->pairs = g2_alloc_array(n, sizeof *t->pairs);
	if (!t->pairs)
		g2_fail_memory(err, n * sizeof *t->pairs);
	else if (place_all(t, err))
		return true;
	tensors_close(t);
	return false;
}

bool
g2_adapter_check_weights(const char *folder, const g2_adapter_config *config, const g2_arch *arch,
						 uint32_t *pairs, g2_error *err)
{
	tensors		t;

	if (!tensors_open(folder, config->rank, arch, &t, err))
		return false;
	*pairs = t.n;
	tensors_close(&t);
	return true;
}

/* ---- norms that were evened out ---- */

typedef struct norms
{
	g2_layout	layout;
	g2_source	source;
	bool		open;
	uint32_t	tensor;			/* of the layout, from which the next matrix behind a norm is */
	float	   *gain;			/* [n_embd], as the next two */
	float	   *bias;
	float	   *factor;			/* of the rows of a matrix behind the norm */
} norms;

static void
norms_close(norms *s)
{
	if (s->open)
		g2_source_close(&s->source);
	g2_layout_free(&s->layout);
	g2_free(s->gain);
	*s = (norms) {0};
}

static bool
norms_open(const char *base_folder, const g2_weights *base, norms *s, g2_error *err)
{
	const uint32_t k = base->arch.n_embd;

	*s = (norms) {.gain = g2_alloc_array(3 * (size_t) k, sizeof(float))};
	if (!s->gain)
		return g2_fail_memory(err, 3 * (size_t) k * sizeof(float));
	s->bias = s->gain + k;
	s->factor = s->bias + k;
	for (uint32_t i = 0; i < k; i++)
		s->factor[i] = 1.0f;
	if (base->format != G2_FORMAT_Q8 && base->format != G2_FORMAT_Q4)
		return true;
	s->open = g2_layout_make(&base->arch, base->format, &s->layout, err) &&
		g2_source_open(base_folder, &s->layout, &s->source, err);
	if (!s->open)
		norms_close(s);
	return s->open;
}

/* The factors of the next matrix behind a norm, whose gain and bias the pack has as these. */
static bool
norms_next(norms *s, const g2_arch *arch, const float *gain, const float *bias, g2_error *err)
{
	const g2_layout_tensor *t;

	if (!s->open)
		return true;
	while (s->layout.tensor[s->tensor].norm == G2_NO_NORM)
		s->tensor++;
	t = &s->layout.tensor[s->layout.tensor[s->tensor++].norm];
	if (!g2_source_read(&s->source, t, 0, 1, s->gain, err) ||
		!g2_source_read(&s->source, t + 1, 0, 1, s->bias, err))
		return false;
	for (uint32_t i = 0; i < arch->n_embd; i++)
	{
		bool		by_bias = fabsf(s->bias[i]) > fabsf(s->gain[i]);
		float		was = by_bias ? s->bias[i] : s->gain[i],
					is = by_bias ? bias[i] : gain[i];
		int			exponent;

		s->factor[i] = was == is ? 1.0f : was / is;
		if (!isfinite(s->factor[i]) || frexpf(s->factor[i], &exponent) != 0.5f)
			return g2_fail(err, G2_E_IO, "the files of the adapter's base changed while it was "
						   "being loaded");
	}
	return true;
}

/* ---- both matrices ---- */

static bool
check_finite(const tensors *t, const g2_tensor *tensor, const float *x, size_t n, g2_error *err)
{
	for (size_t i = 0; i < n; i++)
		if (!isfinite(x[i]))
			return g2_fail(err, G2_E_BAD_FILE, "tensor \"%s\" of \"%s\" is out of range with its "
						   "scale", tensor->name, t->path);
	return true;
}

static size_t
panel_floats(uint32_t k, uint32_t n)
{
	return (size_t) k * G2_ROUND_UP(n, G2_PANEL);
}

/* Of A, so that what stands behind it is aligned. */
static size_t
down_floats(uint32_t rank, uint32_t k)
{
	return G2_ROUND_UP((size_t) rank * k, G2_LAYOUT_ALIGN / sizeof(float));
}

/* factor: of the columns, or NULL. */
static bool
read_down(const tensors *t, const pair *p, uint32_t k, const float *factor, float *a,
		  g2_error *err)
{
	if (!g2_safetensors_read(t->st, p->a, 0, (size_t) t->rank * k, a, err))
		return false;
	for (size_t j = 0; factor && j < t->rank; j++)
		for (uint32_t i = 0; i < k; i++)
			a[j * k + i] *= factor[i];
	return check_finite(t, p->a, a, (size_t) t->rank * k, err);
}

/* rows: room for the tensor. */
static bool
read_up(const tensors *t, const pair *p, uint32_t n, float scale, float *rows, float *panels,
		g2_error *err)
{
	const size_t rank = t->rank;

	if (!g2_safetensors_read(t->st, p->b, 0, n * rank, rows, err))
		return false;
	for (uint32_t c = 0; c < n; c++)
	{
		float	   *to = panels + c / G2_PANEL * rank * G2_PANEL + c % G2_PANEL;

		for (size_t j = 0; j < rank; j++)
			to[j * G2_PANEL] = rows[c * rank + j] * scale;
	}
	return check_finite(t, p->b, panels, panel_floats(t->rank, n), err);
}

/* One pair to *to, at *at, which moves on. */
static bool
read_pair(const tensors *t, const pair *p, uint32_t k, uint32_t n, float scale,
		  const float *factor, float *rows, float **at, g2_low_rank *to, g2_error *err)
{
	float	   *down = *at,
			   *up = down + down_floats(t->rank, k);

	if (!read_down(t, p, k, factor, down, err) || !read_up(t, p, n, scale, rows, up, err))
		return false;
	*to = (g2_low_rank) {
		.down = down, .k = k,
		.up = {up, G2_FORMAT_F32, t->rank, n, G2_ROUND_UP(n, G2_PANEL)},
	};
	*at = up + panel_floats(t->rank, n);
	return true;
}

/* The norm's factors, for the matrices that stand behind one. */
static bool
read_layer(const tensors *t, uint32_t layer, const g2_weights *base, float scale, norms *s,
		   float *rows, float **at, g2_layer_adapter *to, g2_error *err)
{
	const g2_layer *l = &base->layers[layer];

	for (uint32_t m = 0; m < G2_ADAPTER_MODULES; m++)
	{
		const pair *p = &t->pairs[layer * G2_ADAPTER_MODULES + m];
		bool		behind_norm = m == 0 || m == 2;
		uint32_t	k,
					n;

		g2_adapter_shape(t->arch, m, &k, &n);
		if (behind_norm && !norms_next(s, t->arch, m == 0 ? l->norm1_gain : l->norm2_gain,
									   m == 0 ? l->norm1_bias : l->norm2_bias, err))
			return false;
		if (p->a && !read_pair(t, p, k, n, scale, behind_norm ? s->factor : NULL, rows, at,
							   low_rank_of(to, m), err))
			return false;
	}
	return true;
}

/* Sizes are those of tensors that are in the file, so that no product of them wraps. */
static bool
allocate(const tensors *t, g2_adapter *adapter, float **rows, g2_error *err)
{
	size_t		floats = 0,
				most = 0;

	for (uint32_t i = 0; i < t->arch->n_layer * G2_ADAPTER_MODULES; i++)
	{
		uint32_t	k,
					n;

		g2_adapter_shape(t->arch, i % G2_ADAPTER_MODULES, &k, &n);
		most = G2_MAX(most, (size_t) t->rank * n);
		if (!t->pairs[i].a)
			continue;
		floats += down_floats(t->rank, k) + panel_floats(t->rank, n);
		adapter->parameters += (uint64_t) t->rank * ((uint64_t) k + n);
	}
	adapter->bytes = floats * sizeof(float);
	adapter->memory = g2_alloc(adapter->bytes + G2_LAYOUT_ALIGN);
	adapter->layers = g2_alloc_array(t->arch->n_layer, sizeof *adapter->layers);
	*rows = g2_alloc_array(most, sizeof **rows);
	if (adapter->memory && adapter->layers && *rows)
		return true;
	return g2_fail_memory(err, adapter->bytes + most * sizeof **rows);
}

bool
g2_adapter_read_weights(g2_adapter *adapter, const g2_weights *base, const char *base_folder,
						const atomic_bool *cancel, g2_error *err)
{
	tensors		t;
	norms		s = {0};
	float	   *rows = NULL,
			   *at;
	bool		ok;

	if (!tensors_open(adapter->folder, adapter->config.rank, &base->arch, &t, err))
		return false;
	ok = allocate(&t, adapter, &rows, err) && norms_open(base_folder, base, &s, err);
	at = (float *) G2_ROUND_UP((uintptr_t) adapter->memory, (uintptr_t) G2_LAYOUT_ALIGN);
	for (uint32_t l = 0; ok && l < base->arch.n_layer; l++)
	{
		ok = !cancel || !atomic_load_explicit(cancel, memory_order_relaxed) ||
			g2_fail(err, G2_E_CANCELED, "the load was canceled");
		ok = ok && read_layer(&t, l, base, adapter->config.scale, &s, rows, &at,
							  &adapter->layers[l], err);
	}
	norms_close(&s);
	g2_free(rows);
	tensors_close(&t);
	return ok;
}
