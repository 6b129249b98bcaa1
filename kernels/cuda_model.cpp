/*
 * cuda_model.cpp: a model in a device's memory: a run of the arena's slabs for weights and working
 * memory (its KV cache: cuda_cache.cpp); what goes there is repacked on the way (device_layout.h).
 */
#include "cuda_state.h"

#define MAX_EMBD 8192u			/* a row in shared memory (norm.cu) */
#define MAX_K 65536u			/* so that a strip of weights fits the staging memory */
#define STAGING_BYTES ((size_t) 8 << 20)

static const char *const device_name = "CUDA";

/* ---- what can run ---- */

static bool
check_model(const g2_weights *w, g2_error *err)
{
	const g2_arch *a = &w->arch;

	if (!g2_graph_check(w, device_name, err))
		return false;
	if (w->adapter)
	{
		g2_fail(err, G2_E_UNSUPPORTED, "an adapter beside its base is not supported by the %s back "
				"end", device_name);
		return g2_fail_hint(err, "Let the model run on the CPU, or merge the adapter into a model "
							"of its own.");
	}
	if (w->format == G2_FORMAT_Q4)
		return g2_graph_unsupported(err, device_name, "format", "q4");
	if (a->head_dim != 64 && a->head_dim != 128)
		return g2_graph_unsupported(err, device_name, "head_dim", "other than 64 and 128");
	if (a->n_embd > MAX_EMBD)
		return g2_graph_unsupported(err, device_name, "n_embd", "above 8192");
	if (a->n_ff > MAX_K || (uint64_t) a->n_head * a->head_dim > MAX_K)
		return g2_graph_unsupported(err, device_name, "n_ff or n_head", "that makes rows of more "
									"than 65536 values");
	if (a->n_ctx > G2D_MOST_CTX)
		return g2_graph_unsupported(err, device_name, "n_ctx", "above 16384");
	return true;
}

/* ---- where things stand ---- */

/* Takes parts of a model's memory one after the other; base NULL: only counts. */
typedef struct taker
{
	char	   *base;
	uint64_t	at;
} taker;

template <typename T>
static T *
take(taker *t, uint64_t n)
{
	char	   *p = t->base ? t->base + t->at : NULL;

	t->at += (n * sizeof(T) + 255) / 256 * 256;
	return reinterpret_cast<T *>(p);
}

static uint32_t
element_bytes(g2_format format)
{
	return format == G2_FORMAT_Q8 ? 1 : 2;
}

static g2d_matrix
take_matrix(taker *t, const g2_matrix *m)
{
	g2d_matrix	d = {};
	uint64_t	strips;

	d.format = m->format;
	d.k = m->k;
	d.n = m->n;
	if (m->format == G2_FORMAT_F32)
	{
		d.n_padded = m->n_padded;
		d.w = take<char>(t, m->n_padded / G2_PANEL * g2_panel_bytes(m->format, m->k));
		return d;
	}
	d.n_padded = g2d_round_up(m->n, G2D_OUTPUTS_ALIGN);
	d.units = g2d_units(m->k, element_bytes(m->format));
	d.units_padded = g2d_units_padded(m->k, element_bytes(m->format));
	strips = d.n_padded / G2D_STRIP;
	d.w = take<char>(t, strips * d.units_padded * G2D_FRAGMENT);
	if (m->format == G2_FORMAT_Q8)
		d.scale = take<uint16_t>(t, strips * d.units_padded * G2D_STRIP);
	return d;
}

static void
take_weights(taker *t, g2_backend_model *m, const g2_weights *w)
{
	const g2_arch *a = &w->arch;
	const uint32_t heads = a->n_head * a->head_dim;

	m->embed = take_matrix(t, &w->embed);
	m->head = w->head.data == w->embed.data ? m->embed : take_matrix(t, &w->head);
	m->positions = take<float>(t, (uint64_t) a->n_ctx * a->n_embd);
	for (uint32_t i = 0; i < a->n_layer; i++)
	{
		const g2_layer *from = &w->layers[i];
		g2d_layer  *l = &m->layers[i];

		l->norm1_gain = take<float>(t, a->n_embd);
		l->norm1_bias = from->norm1_bias ? take<float>(t, a->n_embd) : NULL;
		l->qkv = take_matrix(t, &from->qkv);
		l->qkv_bias = from->qkv_bias ? take<float>(t, 3 * heads) : NULL;
		l->attn_out = take_matrix(t, &from->attn_out);
		l->attn_out_bias = from->attn_out_bias ? take<float>(t, a->n_embd) : NULL;
		l->norm2_gain = take<float>(t, a->n_embd);
		l->norm2_bias = from->norm2_bias ? take<float>(t, a->n_embd) : NULL;
		l->ff_up = take_matrix(t, &from->ff_up);
		l->ff_up_bias = from->ff_up_bias ? take<float>(t, a->n_ff) : NULL;
		l->ff_down = take_matrix(t, &from->ff_down);
		l->ff_down_bias = from->ff_down_bias ? take<float>(t, a->n_embd) : NULL;
	}
	m->norm_gain = take<float>(t, a->n_embd);
	m->norm_bias = w->norm_bias ? take<float>(t, a->n_embd) : NULL;
}

/* Operands of all products of the layers share one place. */
static void
take_operand(taker *t, const g2_backend_model *m, uint32_t rows, uint32_t k, void **x, float **scale)
{
	const uint32_t size = m->format == G2_FORMAT_F32 ? 4 : element_bytes(m->format),
				units = g2d_units_padded(k, size);

	*x = take<char>(t, (uint64_t) rows * units * G2D_UNIT);
	*scale = take<float>(t, m->format == G2_FORMAT_Q8 ? (uint64_t) rows * units : 0);
}

static void
take_workspace(taker *t, g2_backend_model *m)
{
	const g2_arch *a = &m->arch;
	const uint64_t rows = G2D_PASS_ROWS,
				heads = (uint64_t) a->n_head * a->head_dim;
	const uint32_t widest = G2_MAX(G2_MAX(a->n_embd, a->n_ff), (uint32_t) heads);
	g2d_workspace *ws = &m->ws;

	ws->pass = reinterpret_cast<g2d_pass *>(take<char>(t, m->pass_bytes));
	for (uint32_t c = 0; c < G2D_CHUNKS; c++)
		ws->chunk[c] = reinterpret_cast<g2d_chunk *>(take<char>(t, m->chunk_bytes));
	ws->position_of = take<uint32_t>(t, rows);
	ws->x = take<float>(t, rows * a->n_embd);
	ws->qkv = take<float>(t, rows * 3 * heads);
	ws->heads = take<float>(t, rows * heads);
	ws->ff = take<float>(t, rows * g2d_round_up(a->n_ff, 32));	/* an operand of bf16 too */
	take_operand(t, m, G2D_PASS_ROWS, widest, &ws->operand, &ws->operand_scale);
	ws->parts = take<float>(t, m->max_segments > 1 && m->format != G2_FORMAT_F32 ?
							rows * a->n_head * m->max_segments * (a->head_dim + 2) : 0);
	ws->final = take<float>(t, (uint64_t) G2D_HEAD_ROWS * a->n_embd);
	take_operand(t, m, G2D_HEAD_ROWS, a->n_embd, &ws->head_operand, &ws->head_scale);
	ws->logits = take<float>(t, (uint64_t) G2D_HEAD_ROWS * a->n_vocab);
	ws->best = take<uint64_t>(t, (uint64_t) G2D_HEAD_ROWS * g2d_round_up(a->n_vocab, G2D_STRIP) /
							  G2D_STRIP);
	ws->bad = take<uint32_t>(t, G2D_HEAD_ROWS);
	ws->results = take<g2d_result>(t, G2D_RESULTS);
	ws->top = take<g2d_top>(t, m->top_room);
	ws->unsorted = take<g2d_top>(t, m->top_room);
	ws->changed = take<float>(t, (uint64_t) G2D_SAMPLE_BLOCKS * a->n_vocab);
	ws->sets = take<uint64_t>(t, (uint64_t) G2D_SETS * g2d_set_words(a->n_vocab));
}

/* ---- what goes there ---- */

/* Copies by way of pinned memory; waits, so that the next piece may use it. */
typedef struct loader
{
	rt_stream	stream;
	char	   *staging;
	g2_error   *err;
	bool		ok;
} loader;

static void
send(loader *l, const void *to, size_t n)
{
	l->ok = l->ok && rt_copy_in(l->stream, const_cast<void *>(to), l->staging, n, l->err) &&
		rt_wait(l->stream, l->err);
}

static void
send_bytes(loader *l, const void *to, const void *from, size_t n)
{
	for (size_t at = 0; l->ok && at < n; at += STAGING_BYTES)
	{
		size_t		part = G2_MIN(n - at, STAGING_BYTES);

		memcpy(l->staging, static_cast<const char *>(from) + at, part);
		send(l, static_cast<const char *>(to) + at, part);
	}
}

static void
send_floats(loader *l, const float *to, const float *from, size_t n)
{
	if (to)
		send_bytes(l, to, from, n * sizeof(float));
}

/* One output's weights from its panel into a strip of fragments, and their scales. */
static void
repack_output(const g2_matrix *m, uint32_t units_padded, uint32_t output, char *strip,
			  uint16_t *scales)
{
	const char *panel = static_cast<const char *>(m->data) +
		output / G2_PANEL * g2_panel_bytes(m->format, m->k);
	const uint32_t c = output % G2_PANEL,
				row = output % G2D_STRIP,
				units = g2d_units(m->k, element_bytes(m->format));
	const uint16_t *halves = reinterpret_cast<const uint16_t *>(panel),
			   *from = reinterpret_cast<const uint16_t *>(panel + g2_panel_scales(m->format, m->k));

	if (m->format == G2_FORMAT_BF16)
	{
		for (uint32_t k = 0; k < m->k; k++)
			memcpy(strip + g2d_weight_at(units_padded, row, 2 * k),
				   &halves[((size_t) (k / 2) * G2_PANEL + c) * 2 + k % 2], 2);
		return;
	}
	for (uint32_t k = 0; k < m->k; k++)
		strip[g2d_weight_at(units_padded, row, k)] =
			(char) (static_cast<uint8_t>(panel[((size_t) (k / 4) * G2_PANEL + c) * 4 + k % 4]) -
					128);
	for (uint32_t u = 0; u < units; u++)
		scales[g2d_weight_scale_at(units_padded, row, u)] = from[(size_t) u * G2_PANEL + c];
}

void
g2d_repack_strip(const g2_matrix *m, uint32_t units_padded, uint32_t strip, char *to,
				 uint16_t *scales)
{
	memset(to, 0, (size_t) units_padded * G2D_FRAGMENT);
	memset(scales, 0, (size_t) units_padded * G2D_STRIP * sizeof *scales);
	for (uint32_t i = strip * G2D_STRIP; i < G2_MIN((strip + 1) * G2D_STRIP, m->n); i++)
		repack_output(m, units_padded, i, to, scales);
}

/* Strips stand one behind the other, on the device as in a piece; so do their scales. */
static void
send_strips(loader *l, const g2d_matrix *to, const g2_matrix *m, uint32_t first, uint32_t n)
{
	const size_t bytes = (size_t) to->units_padded * G2D_FRAGMENT,
				n_scales = (size_t) to->units_padded * G2D_STRIP;
	uint16_t   *scales = reinterpret_cast<uint16_t *>(l->staging + n * bytes);

	for (uint32_t i = 0; i < n; i++)
		g2d_repack_strip(m, to->units_padded, first + i, l->staging + i * bytes, scales + i * n_scales);
	l->ok = rt_copy_in(l->stream, const_cast<char *>(static_cast<const char *>(to->w)) + first * bytes,
					   l->staging, n * bytes, l->err) &&
		(!to->scale || rt_copy_in(l->stream, const_cast<uint16_t *>(to->scale) + first * n_scales,
								  scales, n * n_scales * sizeof *scales, l->err)) &&
		rt_wait(l->stream, l->err);
}

static void
send_matrix(loader *l, const g2d_matrix *to, const g2_matrix *m)
{
	if (m->format == G2_FORMAT_F32)
	{
		send_bytes(l, to->w, m->data, m->n_padded / G2_PANEL * g2_panel_bytes(m->format, m->k));
		return;
	}
	const uint32_t strips = to->n_padded / G2D_STRIP,
				piece = (uint32_t) (STAGING_BYTES / ((size_t) to->units_padded *
													 (G2D_FRAGMENT + G2D_STRIP * sizeof(uint16_t))));

	for (uint32_t first = 0; l->ok && first < strips; first += piece)
		send_strips(l, to, m, first, G2_MIN(strips - first, piece));
}

static bool
send_weights(rt_stream stream, char *staging, const g2_backend_model *m, const g2_weights *w,
			 g2_error *err)
{
	const g2_arch *a = &w->arch;
	loader		l = {stream, staging, err, true};

	send_matrix(&l, &m->embed, &w->embed);
	if (m->head.w != m->embed.w)
		send_matrix(&l, &m->head, &w->head);
	send_floats(&l, m->positions, w->positions, (size_t) a->n_ctx * a->n_embd);
	for (uint32_t i = 0; l.ok && i < a->n_layer; i++)
	{
		const g2_layer *from = &w->layers[i];
		const g2d_layer *to = &m->layers[i];

		send_floats(&l, to->norm1_gain, from->norm1_gain, a->n_embd);
		send_floats(&l, to->norm1_bias, from->norm1_bias, a->n_embd);
		send_matrix(&l, &to->qkv, &from->qkv);
		send_floats(&l, to->qkv_bias, from->qkv_bias, from->qkv.n);
		send_matrix(&l, &to->attn_out, &from->attn_out);
		send_floats(&l, to->attn_out_bias, from->attn_out_bias, a->n_embd);
		send_floats(&l, to->norm2_gain, from->norm2_gain, a->n_embd);
		send_floats(&l, to->norm2_bias, from->norm2_bias, a->n_embd);
		send_matrix(&l, &to->ff_up, &from->ff_up);
		send_floats(&l, to->ff_up_bias, from->ff_up_bias, a->n_ff);
		send_matrix(&l, &to->ff_down, &from->ff_down);
		send_floats(&l, to->ff_down_bias, from->ff_down_bias, a->n_embd);
	}
	send_floats(&l, m->norm_gain, w->norm_gain, a->n_embd);
	send_floats(&l, m->norm_bias, w->norm_bias, a->n_embd);
	return l.ok;
}

/* ---- models ---- */

static void
model_free(g2_backend_model *m)
{
	for (uint32_t i = 0; i < G2D_BUCKETS; i++)
		for (uint32_t s = 0; s < G2D_GRAPH_SEGMENTS; s++)
			rt_graph_close(m->graphs[i][s]);
	rt_event_close(m->vacated);
	g2d_cache_free(m);
	if (m->bytes > 0)
		g2_arena_give(&m->backend->arena, m->at, m->bytes);
	g2_free(m->layers);
	g2_free(m);
}

static char *
weights_at(const g2_backend_model *m)
{
	return static_cast<char *>(m->backend->memory) + m->at * m->backend->arena.slab_bytes;
}

/* Sizes that follow from the graph alone. */
static void
set_sizes(g2_backend_model *m, const g2_weights *w)
{
	const uint32_t blocks = (w->arch.n_ctx + G2_BLOCK - 1) / G2_BLOCK;

	m->arch = w->arch;
	m->format = w->format;
	m->max_segments = g2d_segments(w->arch.n_ctx - 1);
	m->pass_bytes = sizeof(g2d_pass) + G2D_PASS_ROWS * (sizeof(g2d_row) + sizeof(g2d_tile) +
														(size_t) blocks * sizeof(uint32_t));
	m->chunk_bytes = sizeof(g2d_chunk) + G2D_OUTPUTS * sizeof(g2d_output);
	m->top_room = G2_MAX(w->arch.n_vocab, 32768u);
	m->cache.kv = m->backend->memory;
	m->cache.n_layer = w->arch.n_layer;
	m->cache.n_head = w->arch.n_head;
	m->cache.head_dim = w->arch.head_dim;
	m->cache.format = w->format;
}

/* Memory for weights and working memory, where a cache for one text of any model finds room beside
 * them.  Slabs of caches that hold nothing but prefixes make way, unless it is in vain. */
static bool
take_memory(g2_backend *b, g2_backend_model *m, uint64_t bytes, g2_error *err)
{
	const g2_arena *arena = &b->arena;
	const uint64_t need = g2_arena_slabs(arena, bytes),
				most = arena->n_free + arena->n_cache;

	if (need <= most && !g2d_cache_fits(m, most - need, err))
		return false;
	while ((m->at = g2_arena_take(&b->arena, bytes)) == G2_ARENA_NONE)
		if (need > most || !b->shrink || !b->shrink(b->shrink_arg))
			return g2_arena_fail(arena, bytes, "the model's weights and working memory", err);
	m->bytes = bytes;
	return true;
}

bool
g2d_model_load(g2_backend *b, const g2_weights *w, g2_backend_model **out, g2_error *err)
{
	g2_backend_model *m;
	taker		t = {NULL, 0};

	if (!check_model(w, err))
		return false;
	m = static_cast<g2_backend_model *>(g2_alloc(sizeof *m));
	if (!m)
		return g2_fail_memory(err, sizeof *m);
	m->backend = b;
	set_sizes(m, w);
	m->layers = static_cast<g2d_layer *>(g2_alloc_array(w->arch.n_layer, sizeof *m->layers));
	if (!m->layers)
	{
		g2_free(m);
		return g2_fail_memory(err, w->arch.n_layer * sizeof *m->layers);
	}
	take_weights(&t, m, w);
	take_workspace(&t, m);
	if (!take_memory(b, m, t.at, err))
	{
		model_free(m);
		return false;
	}
	t = {weights_at(m), 0};
	take_weights(&t, m, w);
	take_workspace(&t, m);
	if (!rt_event_open(&m->vacated, err) || !rt_event_record(b->stream, m->vacated, err))
	{
		model_free(m);
		return false;
	}
	m->next = b->models;
	b->models = m;
	*out = m;
	return true;
}

bool
g2d_model_fill(g2_backend_model *m, const g2_weights *w, g2_error *err)
{
	const g2_backend *b = m->backend;
	void	   *staging = NULL;
	rt_stream	stream = NULL;
	bool		ok;

	/* Operands and partial results are read in whole tiles, also where no row has been. */
	ok = rt_use(b->index, err) && rt_stream_open(&stream, err) &&
		rt_host_alloc(STAGING_BYTES, &staging, err) && rt_event_wait(m->vacated, err) &&
		rt_zero(stream, weights_at(m), m->bytes, err) &&
		send_weights(stream, static_cast<char *>(staging), m, w, err) && rt_wait(stream, err);
	rt_stream_close(stream);
	rt_host_free(staging);
	return ok;
}

/* Work that is launched later is behind all that was launched for it, so that its memory can be given
 * to others at once. */
void
g2d_model_unload(g2_backend *b, g2_backend_model *m)
{
	g2_backend_model **at = &b->models;

	if (!m)
		return;
	while (*at != m)
		at = &(*at)->next;
	*at = m->next;
	model_free(m);
}
