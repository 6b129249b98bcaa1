/*
 * cuda_forward.cpp: the forward pass as launches, in the order of the graph: embed; for each layer
 * norm, qkv, store, attention, attn_out (+ residual), norm, ff_up (activation), ff_down (+
 * residual); then, for the rows that need outputs, norm, head, outputs.
 *
 * What attention and ff_up give is made what the next product takes: in bf16 by themselves, in q8, whose
 * groups have a scale of their largest value, by a launch of its own.
 */
#include "cuda_state.h"

static const uint32_t bucket_rows[G2D_BUCKETS] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
	16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024};

/* ---- products ---- */

/* How the product with w takes rows that stand at x, ld floats each; f32: as they are. */
static g2d_operand
operand_of(const g2d_matrix *w, void *memory, float *scale, const float *x, uint32_t ld)
{
	if (w->format == G2_FORMAT_F32)
		return {const_cast<float *>(x), NULL, ld, 0};
	return {memory, w->format == G2_FORMAT_Q8 ? scale : NULL, w->units_padded * G2D_UNIT,
		w->units_padded};
}

static void
product(const g2_backend_model *m, g2d_product *p)
{
	const rt_stream stream = m->backend->stream;

	p->shape = g2d_shape_of(p->w.format, p->rows, p->w.n_padded, m->backend->info.processors);
	if (p->w.format == G2_FORMAT_F32)
		g2d_launch_product_f32(stream, p);
	else if (p->w.format == G2_FORMAT_BF16)
		g2d_launch_product_bf16(stream, p);
	else
		g2d_launch_product_q8(stream, p);
}

/* Rows that are made for the product with w where it takes bf16; else none. */
static g2d_operand
made_for(const g2d_matrix *w, float *memory)
{
	return w->format == G2_FORMAT_BF16 ? operand_of(w, memory, NULL, NULL, 0) : g2d_operand{};
}

/* y = activation(norm(x) w + bias); next: the product that takes it, or NULL. */
static void
norm_linear(const g2_backend_model *m, const float *gain, const float *norm_bias,
			const g2d_matrix *w, const float *bias, uint32_t activation, float *y,
			const g2d_matrix *next, uint32_t rows)
{
	const g2d_workspace *ws = &m->ws;
	const uint32_t n = m->arch.n_embd;
	g2d_norm	norm = {};
	g2d_product p = {};

	norm.x = ws->x;
	norm.ld = n;
	norm.n = n;
	norm.gain = gain;
	norm.bias = norm_bias;
	norm.epsilon = m->arch.norm_epsilon;
	norm.format = w->format;
	norm.to = operand_of(w, ws->operand, ws->operand_scale,
						 static_cast<const float *>(ws->operand), n);
	norm.position_of = ws->position_of;
	g2d_launch_norm(m->backend->stream, &norm, rows);
	p.x = norm.to;
	p.w = *w;
	p.bias = bias;
	p.activation = activation;
	p.y = y;
	p.ld = w->n;
	if (next)
		p.to = made_for(next, y);
	p.rows = rows;
	product(m, &p);
}

/* ws->x += x w + bias; for bf16 x has been made for w. */
static void
linear_residual(const g2_backend_model *m, float *x, const g2d_matrix *w, const float *bias,
				uint32_t rows)
{
	const g2d_workspace *ws = &m->ws;
	g2d_product p = {};

	p.x = w->format == G2_FORMAT_BF16 ? made_for(w, x) :
		operand_of(w, ws->operand, ws->operand_scale, x, w->k);
	if (w->format == G2_FORMAT_Q8)
		g2d_launch_convert(m->backend->stream, x, w->k, w->k, w->format, &p.x, rows);
	p.w = *w;
	p.bias = bias;
	p.residual = ws->x;
	p.activation = UINT32_MAX;
	p.y = ws->x;
	p.ld = m->arch.n_embd;
	p.rows = rows;
	product(m, &p);
}

/* ---- the layers ---- */

static void
attention(const g2_backend_model *m, uint32_t layer, uint32_t rows, uint32_t tiles,
		  uint32_t segments)
{
	const g2d_workspace *ws = &m->ws;
	const uint32_t heads = m->arch.n_head * m->arch.head_dim;
	g2d_attention a = {};

	a.cache = m->cache;
	a.pass = ws->pass;
	a.position_of = ws->position_of;
	a.qkv = ws->qkv;
	a.ldq = 3 * heads;
	a.out = ws->heads;
	a.ldo = heads;
	a.to = made_for(&m->layers[layer].attn_out, ws->heads);
	a.parts = ws->parts;
	a.segments = segments;
	a.layer = layer;
	a.scale = m->arch.attn_scale;
	g2d_launch_store(m->backend->stream, &a, rows);
	if (m->format == G2_FORMAT_F32)
		g2d_launch_attention_f32(m->backend->stream, &a, rows);
	else
		g2d_launch_attention(m->backend->stream, &a, tiles, rows);
}

void
g2d_forward_layers(const g2_backend_model *m, uint32_t rows, uint32_t tiles, uint32_t segments)
{
	const g2d_workspace *ws = &m->ws;
	g2d_embed	embed = {m->embed, m->positions, ws->pass, m->backend->slots, ws->position_of, ws->x,
		m->arch.n_embd};

	g2d_launch_embed(m->backend->stream, &embed, rows);
	for (uint32_t i = 0; i < m->arch.n_layer; i++)
	{
		const g2d_layer *l = &m->layers[i];

		norm_linear(m, l->norm1_gain, l->norm1_bias, &l->qkv, l->qkv_bias, UINT32_MAX, ws->qkv,
					NULL, rows);
		attention(m, i, rows, tiles, segments);
		linear_residual(m, ws->heads, &l->attn_out, l->attn_out_bias, rows);
		norm_linear(m, l->norm2_gain, l->norm2_bias, &l->ff_up, l->ff_up_bias, m->arch.activation,
					ws->ff, &l->ff_down, rows);
		linear_residual(m, ws->ff, &l->ff_down, l->ff_down_bias, rows);
	}
}

/* ---- the head ---- */

void
g2d_forward_chunk(const g2_backend_model *m, uint32_t c, uint32_t head_rows, uint32_t tasks,
				  bool want_logits)
{
	const g2d_workspace *ws = &m->ws;
	const uint32_t n = m->arch.n_embd,
				strips = g2d_round_up(m->arch.n_vocab, G2D_STRIP) / G2D_STRIP;
	g2d_norm	norm = {};
	g2d_product p = {};
	g2d_sample	sample = {};

	norm.x = ws->x;
	norm.ld = n;
	norm.n = n;
	norm.gain = m->norm_gain;
	norm.bias = m->norm_bias;
	norm.epsilon = m->arch.norm_epsilon;
	norm.format = m->head.format;
	norm.to = operand_of(&m->head, ws->head_operand, ws->head_scale, ws->final, n);
	norm.chunk = ws->chunk[c];
	norm.position_of = ws->position_of;
	norm.y = ws->final;
	norm.bad = ws->bad;
	g2d_launch_norm(m->backend->stream, &norm, head_rows);
	if (want_logits)
	{
		p.x = norm.to;
		p.w = m->head;
		p.activation = UINT32_MAX;
		p.y = ws->logits;
		p.ld = m->arch.n_vocab;
		p.rows = head_rows;
		p.best = ws->best;
		p.best_ld = strips;
		p.bad = ws->bad;
		product(m, &p);
	}
	if (!want_logits || tasks == 0)
		return;
	sample.chunk = ws->chunk[c];
	sample.pass = ws->pass;
	sample.position_of = ws->position_of;
	sample.slots = m->backend->slots;
	sample.sets = ws->sets;
	sample.logits = ws->logits;
	sample.ld = m->arch.n_vocab;
	sample.n_vocab = m->arch.n_vocab;
	sample.best = ws->best;
	sample.best_ld = strips;
	sample.bad = ws->bad;
	sample.results = ws->results;
	sample.top = ws->top;
	sample.unsorted = ws->unsorted;
	sample.changed = ws->changed;
	g2d_launch_sample(m->backend->stream, &sample, tasks);
}

/* ---- steps ---- */

static uint32_t
bucket_of(uint32_t n)
{
	uint32_t	i = 0;

	while (i < G2D_BUCKETS && bucket_rows[i] < n)
		i++;
	return i;
}

uint32_t
g2d_bucket_rows(uint32_t n)
{
	uint32_t	i = bucket_of(n);

	return i < G2D_BUCKETS ? bucket_rows[i] : 0;
}

static void
launch_step(const g2_backend_model *m, uint32_t rows, uint32_t segments)
{
	g2d_forward_layers(m, rows, rows, segments);
	for (uint32_t c = 0; c * G2D_HEAD_ROWS < rows; c++)
	{
		uint32_t	n = G2_MIN(rows - c * G2D_HEAD_ROWS, G2D_HEAD_ROWS);

		g2d_forward_chunk(m, c, n, n, true);
	}
	g2d_launch_advance(m->backend->stream, m->ws.pass);
}

bool
g2d_forward_step(g2_backend_model *m, uint32_t rows, uint32_t segments, g2_error *err)
{
	rt_stream	stream = m->backend->stream;
	rt_graph  **graph = segments > G2D_GRAPH_SEGMENTS ? NULL :
		&m->graphs[bucket_of(rows)][segments - 1];

	if (graph && !*graph && !m->no_more_graphs)
	{
		if (!rt_capture_begin(stream, err))
			return false;
		launch_step(m, rows, segments);
		m->no_more_graphs = !rt_capture_end(stream, graph, err);
		if (m->no_more_graphs && err->code != G2_E_MEMORY)
			return false;
	}
	if (graph && *graph)
		return rt_graph_launch(stream, *graph, err);
	launch_step(m, rows, segments);	/* slower, and the same */
	return rt_check(err);
}
