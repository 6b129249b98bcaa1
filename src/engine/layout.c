/*
 * layout.c: the table of GPT-2's tensors.
 *
 * The order is that of the forward pass, so that a pass reads the mapped pack from front to back.
 */
#include "layout.h"

#include <stdio.h>

enum
{
	TENSOR_EMBED, TENSOR_POSITIONS, TENSOR_LAYERS
};

/* Within a layer; g2_layout_bind counts on this order. */
enum
{
	LAYER_NORM1_GAIN, LAYER_NORM1_BIAS, LAYER_QKV, LAYER_QKV_BIAS, LAYER_OUT, LAYER_OUT_BIAS,
	LAYER_NORM2_GAIN, LAYER_NORM2_BIAS, LAYER_UP, LAYER_UP_BIAS, LAYER_DOWN, LAYER_DOWN_BIAS,
	LAYER_TENSORS
};

/* K and N of a matrix. */
static void
layout_shape(const g2_layout_tensor *t, uint32_t *k, uint32_t *n)
{
	bool		rows_are_outputs = t->store == G2_STORE_PANELS_T;

	*k = (uint32_t) (rows_are_outputs ? t->cols : t->rows);
	*n = (uint32_t) (rows_are_outputs ? t->rows : t->cols);
}

static uint64_t
layout_bytes(const g2_layout_tensor *t)
{
	uint32_t	k,
				n;

	if (t->store == G2_STORE_ROWS)
		return t->rows * t->cols * sizeof(float);
	if (t->store == G2_STORE_BIAS)
		return t->rows * G2_ROUND_UP(t->cols, G2_PANEL) * sizeof(float);
	layout_shape(t, &k, &n);
	return (uint64_t) (n + G2_PANEL - 1) / G2_PANEL * g2_panel_bytes(t->format, k);
}

/* format: of panels. */
static void
layout_add(g2_layout *layout, const char *name, g2_store store, uint32_t rank, uint64_t rows,
		   uint64_t cols, g2_format format)
{
	g2_layout_tensor *t = &layout->tensor[layout->n++];
	bool		panels = store == G2_STORE_PANELS || store == G2_STORE_PANELS_T;

	snprintf(t->name, sizeof t->name, "%s", name);
	t->store = store;
	t->rank = rank;
	t->rows = rows;
	t->cols = cols;
	t->format = panels ? format : G2_FORMAT_F32;
	t->norm = G2_NO_NORM;
	t->offset = layout->bytes;
	t->bytes = layout_bytes(t);
	layout->bytes += G2_ROUND_UP(t->bytes, G2_LAYOUT_ALIGN);
}

static void
layout_add_layer(g2_layout *layout, const g2_arch *a, uint32_t l, g2_format format)
{
	const uint64_t e = a->n_embd,
				qkv = (uint64_t) (a->n_head + 2 * a->n_kv_head) * a->head_dim,
				heads = (uint64_t) a->n_head * a->head_dim,
				ff = a->n_ff;
	const struct
	{
		const char *name;
		g2_store	store;
		uint32_t	rank;
		uint64_t	rows,
					cols;
	}			table[LAYER_TENSORS] = {
		[LAYER_NORM1_GAIN] = {"ln_1.weight", G2_STORE_ROWS, 1, 1, e},
		[LAYER_NORM1_BIAS] = {"ln_1.bias", G2_STORE_ROWS, 1, 1, e},
		[LAYER_QKV] = {"attn.c_attn.weight", G2_STORE_PANELS, 2, e, qkv},
		[LAYER_QKV_BIAS] = {"attn.c_attn.bias", G2_STORE_BIAS, 1, 1, qkv},
		[LAYER_OUT] = {"attn.c_proj.weight", G2_STORE_PANELS, 2, heads, e},
		[LAYER_OUT_BIAS] = {"attn.c_proj.bias", G2_STORE_BIAS, 1, 1, e},
		[LAYER_NORM2_GAIN] = {"ln_2.weight", G2_STORE_ROWS, 1, 1, e},
		[LAYER_NORM2_BIAS] = {"ln_2.bias", G2_STORE_ROWS, 1, 1, e},
		[LAYER_UP] = {"mlp.c_fc.weight", G2_STORE_PANELS, 2, e, ff},
		[LAYER_UP_BIAS] = {"mlp.c_fc.bias", G2_STORE_BIAS, 1, 1, ff},
		[LAYER_DOWN] = {"mlp.c_proj.weight", G2_STORE_PANELS, 2, ff, e},
		[LAYER_DOWN_BIAS] = {"mlp.c_proj.bias", G2_STORE_BIAS, 1, 1, e},
	};
	char		name[48];
	uint32_t	first = layout->n;

	for (int i = 0; i < LAYER_TENSORS; i++)
	{
		snprintf(name, sizeof name, "h.%u.%s", l, table[i].name);
		layout_add(layout, name, table[i].store, table[i].rank, table[i].rows, table[i].cols,
				   format);
	}
	layout->tensor[first + LAYER_QKV].norm = first + LAYER_NORM1_GAIN;
	layout->tensor[first + LAYER_UP].norm = first + LAYER_NORM2_GAIN;
}

bool
g2_layout_make(const g2_arch *arch, g2_format format, g2_layout *layout, g2_error *err)
{
	/* Every token goes through embedding and head: they stay finer. */
	g2_format	outer = format == G2_FORMAT_Q4 ? G2_FORMAT_Q8 : format;
	size_t		n = TENSOR_LAYERS + (size_t) arch->n_layer * LAYER_TENSORS + 3;

	memset(layout, 0, sizeof *layout);
	layout->tensor = g2_alloc_array(n, sizeof *layout->tensor);
	if (!layout->tensor)
		return g2_fail_memory(err, n * sizeof *layout->tensor);
	layout_add(layout, "wte.weight", G2_STORE_PANELS_T, 2, arch->n_vocab, arch->n_embd,
			   outer);
	layout_add(layout, "wpe.weight", G2_STORE_ROWS, 2, arch->n_ctx, arch->n_embd, outer);
	for (uint32_t l = 0; l < arch->n_layer; l++)
		layout_add_layer(layout, arch, l, format);
	layout_add(layout, "ln_f.weight", G2_STORE_ROWS, 1, 1, arch->n_embd, outer);
	layout_add(layout, "ln_f.bias", G2_STORE_ROWS, 1, 1, arch->n_embd, outer);
	if (!arch->tied_head)
		layout_add(layout, "lm_head.weight", G2_STORE_PANELS_T, 2, arch->n_vocab, arch->n_embd,
				   outer);
	return true;
}

void
g2_layout_free(g2_layout *layout)
{
	g2_free(layout->tensor);
	memset(layout, 0, sizeof *layout);
}

static const float *
layout_vector(const g2_layout *layout, const char *section, uint32_t i)
{
	return (const float *) (section + layout->tensor[i].offset);
}

static g2_matrix
layout_matrix(const g2_layout *layout, const char *section, uint32_t i)
{
	const g2_layout_tensor *t = &layout->tensor[i];
	uint32_t	k,
				n;

	layout_shape(t, &k, &n);
	return (g2_matrix) {section + t->offset, t->format, k, n, G2_ROUND_UP(n, G2_PANEL)};
}

void
g2_layout_bind(const g2_layout *layout, const void *section, g2_weights *w)
{
	const char *s = section;
	uint32_t	i = TENSOR_LAYERS;

	w->embed = layout_matrix(layout, s, TENSOR_EMBED);
	w->positions = layout_vector(layout, s, TENSOR_POSITIONS);
	for (uint32_t l = 0; l < w->arch.n_layer; l++, i += LAYER_TENSORS)
		w->layers[l] = (g2_layer) {
			.norm1_gain = layout_vector(layout, s, i + LAYER_NORM1_GAIN),
			.norm1_bias = layout_vector(layout, s, i + LAYER_NORM1_BIAS),
			.qkv = layout_matrix(layout, s, i + LAYER_QKV),
			.qkv_bias = layout_vector(layout, s, i + LAYER_QKV_BIAS),
			.attn_out = layout_matrix(layout, s, i + LAYER_OUT),
			.attn_out_bias = layout_vector(layout, s, i + LAYER_OUT_BIAS),
			.norm2_gain = layout_vector(layout, s, i + LAYER_NORM2_GAIN),
			.norm2_bias = layout_vector(layout, s, i + LAYER_NORM2_BIAS),
			.ff_up = layout_matrix(layout, s, i + LAYER_UP),
			.ff_up_bias = layout_vector(layout, s, i + LAYER_UP_BIAS),
			.ff_down = layout_matrix(layout, s, i + LAYER_DOWN),
			.ff_down_bias = layout_vector(layout, s, i + LAYER_DOWN_BIAS),
		};
	w->norm_gain = layout_vector(layout, s, i);
	w->norm_bias = layout_vector(layout, s, i + 1);
	w->head = w->arch.tied_head ? w->embed : layout_matrix(layout, s, i + 2);
}
