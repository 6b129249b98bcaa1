/*
 * cpu_forward.c: the forward pass on the CPU.
 *
 * Phases of a pass, each one job of the pool (a barrier between two of them):
 *   embed; for each layer: norm, qkv, attention, attn_out (+ residual), norm, ff_up (activation),
 *   ff_down (+ residual); then for the rows that need outputs: final norm, head.
 * Tasks of a product are (96 rows, some panels); of attention (32 queries of a sequence, head).
 * No task's result depends on how many tasks or threads there are.
 *
 * The cache: an attention task whose sequence has no other tile writes K and V of its rows itself
 * before it reads them; when any sequence has several tiles, a phase of its own writes them all.
 */
#include "cpu_forward.h"

#include "sampler.h"

#define ROWS_PER_TASK 8			/* embed and norms */
#define TASKS_PER_THREAD 16		/* products: enough to even out, few enough to be cheap */

/* ---- models ---- */

static bool
unsupported(g2_error *err, const char *field, const char *value)
{
	g2_fail(err, G2_E_UNSUPPORTED, "model graph not supported by the CPU back end: %s %s", field,
			value);
	return false;
}

static bool
check_graph(const g2_weights *w, g2_error *err)
{
	const g2_arch *a = &w->arch;

	if (w->format != G2_FORMAT_F32)
		return unsupported(err, "format", "other than f32");
	if (a->norm != G2_NORM_LAYER)
		return unsupported(err, "norm", "other than layer norm");
	if (a->position != G2_POSITION_LEARNED)
		return unsupported(err, "position", "other than learned positions");
	if (a->activation != G2_ACT_GELU_NEW && a->activation != G2_ACT_GELU &&
		a->activation != G2_ACT_RELU)
		return unsupported(err, "activation", "other than gelu_new, gelu, relu");
	if (a->gated_mlp)
		return unsupported(err, "gated_mlp", "(gated MLP)");
	if (!a->fused_qkv)
		return unsupported(err, "fused_qkv", "(separate q, k and v)");
	if (a->n_kv_head != a->n_head)
		return unsupported(err, "n_kv_head", "different from n_head");
	if (a->attn_window != 0)
		return unsupported(err, "attn_window", "(sliding window)");
	if (a->n_vocab > G2_MAX_VOCAB)
		return unsupported(err, "n_vocab", "above 262144");
	if (a->head_dim > G2_MAX_HEAD_DIM)
		return unsupported(err, "head_dim", "above 1024");
	return true;
}

static bool
check_matrix(const g2_matrix *m, uint64_t k, uint64_t n, const char *name, g2_error *err)
{
	if (!m->data || m->k != k || m->n != n ||
		m->n_padded != G2_ROUND_UP(n, (uint64_t) G2_PANEL))
		return g2_fail(err, G2_E_INTERNAL, "weights do not fit the graph: %s is %u x %u (%u)",
					   name, m->k, m->n, m->n_padded);
	return true;
}

static bool
check_weights(const g2_weights *w, g2_error *err)
{
	const g2_arch *a = &w->arch;
	uint64_t	heads = (uint64_t) a->n_head * a->head_dim;

	if (a->n_layer == 0 || a->n_embd == 0 || heads == 0 || a->n_ff == 0 || a->n_ctx == 0 ||
		a->n_vocab == 0 || !w->layers || !w->positions || !w->norm_gain ||
		3 * heads > UINT32_MAX / 2)
		return g2_fail(err, G2_E_INTERNAL, "weights do not fit the graph: a size is out of range");
	for (uint32_t i = 0; i < a->n_layer; i++)
	{
		const g2_layer *l = &w->layers[i];

		if (!check_matrix(&l->qkv, a->n_embd, 3 * heads, "qkv", err) ||
			!check_matrix(&l->attn_out, heads, a->n_embd, "attn_out", err) ||
			!check_matrix(&l->ff_up, a->n_embd, a->n_ff, "ff_up", err) ||
			!check_matrix(&l->ff_down, a->n_ff, a->n_embd, "ff_down", err))
			return false;
		if (!l->norm1_gain || !l->norm2_gain)
			return g2_fail(err, G2_E_INTERNAL, "weights do not fit the graph: a gain is missing");
	}
	return check_matrix(&w->embed, a->n_embd, a->n_vocab, "embed", err) &&
		check_matrix(&w->head, a->n_embd, a->n_vocab, "head", err);
}

bool
g2_cpu_model_check(const g2_weights *weights, g2_error *err)
{
	return check_graph(weights, err) && check_weights(weights, err);
}

/* Whole panels, and 16 floats more so that the rows of a tile do not share cache sets. */
static size_t
row_stride(size_t n)
{
	return G2_ROUND_UP(n, (size_t) G2_PANEL) + G2_LANES;
}

void
g2_cpu_model_init(g2_backend_model *model, const g2_weights *weights)
{
	const g2_arch *a = &weights->arch;

	memset(model, 0, sizeof *model);
	model->weights = weights;
	model->dv = G2_ROUND_UP(a->head_dim, (uint32_t) G2_LANES);
	model->head_floats = (size_t) G2_BLOCK * (a->head_dim + model->dv);
	model->block_floats = model->head_floats * a->n_layer * a->n_head;
	model->ld_embd = row_stride(a->n_embd);
	model->ld_qkv = row_stride((size_t) 3 * a->n_head * a->head_dim);
	model->ld_heads = row_stride((size_t) a->n_head * a->head_dim);
	model->ld_ff = row_stride(a->n_ff);
}

/* ---- working memory ---- */

/* Takes n * size bytes, aligned; `at` counts from the base. */
static void *
take(char *base, size_t *at, size_t n, size_t size)
{
	char	   *p = base ? base + *at : NULL;

	*at += G2_ROUND_UP(n * size, (size_t) G2_ALIGN);
	return p;
}

/* The next power of two, so that plans that grow slowly do not mean new memory each time. */
static size_t
rounded(size_t n, size_t most)
{
	size_t		r = 1;

	while (r < n && r < most)
		r *= 2;
	return G2_MIN(G2_MAX(r, 1), most);
}

size_t
g2_workspace_layout(g2_workspace *ws, const g2_backend_model *model, const g2_plan *plan,
					uint32_t threads, void *base)
{
	const g2_weights *w = model->weights;
	size_t		rows = rounded(plan->n_rows, G2_FORWARD_ROWS),
				head_rows = rounded(plan->n_outputs, G2_HEAD_ROWS),
				vocab = w->arch.n_vocab,
				at = 0,
				scratch;

	ws->token = take(base, &at, rows, sizeof(uint32_t));
	ws->position = take(base, &at, rows, sizeof(uint32_t));
	ws->spans = take(base, &at, rows, sizeof(g2_span));
	ws->tiles = take(base, &at, rows, sizeof(g2_attend_tile));
	ws->x = take(base, &at, rows * model->ld_embd, sizeof(float));
	ws->norm = take(base, &at, rows * model->ld_embd, sizeof(float));
	ws->qkv = take(base, &at, rows * model->ld_qkv, sizeof(float));
	ws->heads = take(base, &at, rows * model->ld_heads, sizeof(float));
	ws->ff = take(base, &at, rows * model->ld_ff, sizeof(float));
	ws->head_row = take(base, &at, head_rows, sizeof(uint32_t));
	ws->final = take(base, &at, head_rows * model->ld_embd, sizeof(float));
	ws->logits = take(base, &at, head_rows * w->head.n_padded, sizeof(float));
	ws->row_in_pass = take(base, &at, plan->n_rows, sizeof(uint32_t));
	ws->chosen = take(base, &at, plan->n_outputs, sizeof(uint32_t));
	ws->chosen_row = take(base, &at, plan->n_outputs, sizeof(uint32_t));

	/* What one task needs: of a product, of attention, or of an output: a copy of the logits,
	 * the ids seen, the sampler's own. */
	scratch = G2_MAX((size_t) G2_PRODUCT_SCRATCH, G2_ATTEND_SCRATCH(model->dv)) * sizeof(float);
	scratch = G2_MAX(scratch, 2 * G2_ROUND_UP(vocab * sizeof(float), (size_t) G2_ALIGN) +
					 g2_sampler_scratch_bytes(w->arch.n_vocab));
	ws->scratch_bytes = G2_ROUND_UP(scratch, (size_t) G2_ALIGN);
	ws->scratch = take(base, &at, threads, ws->scratch_bytes);
	return at;
}

static float *
scratch_of(const g2_pass *pass, uint32_t thread)
{
	return (float *) (pass->ws->scratch + thread * pass->ws->scratch_bytes);
}

/* ---- products ---- */

typedef struct product_job
{
	const g2_pass *pass;
	g2_product	p;
	uint32_t	rows;
	uint32_t	panels;
	uint32_t	group;			/* panels of a task */
	uint32_t	groups;
} product_job;

static void
product_task(void *arg, uint32_t task, uint32_t thread)
{
	product_job *j = arg;
	uint32_t	row = task / j->groups * G2_PRODUCT_ROWS,
				panel = task % j->groups * j->group;

	j->pass->kernels->product[G2_FORMAT_F32](&j->p, panel, G2_MIN(panel + j->group, j->panels),
											 row, G2_MIN(row + G2_PRODUCT_ROWS, j->rows),
											 scratch_of(j->pass, thread));
}

static void
run_product(const g2_pass *pass, const g2_product *p, uint32_t n_padded, uint32_t rows)
{
	product_job j = {.pass = pass, .p = *p, .rows = rows, .panels = n_padded / G2_PANEL};
	uint32_t	chunks = (rows + G2_PRODUCT_ROWS - 1) / G2_PRODUCT_ROWS,
				tasks = g2_pool_threads(pass->pool) * TASKS_PER_THREAD;

	j.group = G2_MAX(1, (uint32_t) ((uint64_t) j.panels * chunks / tasks));
	if (rows <= G2_PAIR_ROWS && j.panels >= 2 * g2_pool_threads(pass->pool))
		j.group = G2_ROUND_UP(j.group, 2u);
	j.groups = (j.panels + j.group - 1) / j.group;
	g2_pool_run(pass->pool, chunks * j.groups, product_task, &j);
}

/* y = x w + bias, all rows of the pass. */
static void
linear(const g2_pass *pass, const g2_matrix *w, const float *bias, const float *x, size_t ldx,
	   float *y, size_t ldy)
{
	g2_product	p = {.x = {.x = (void *) x, .ld = ldx}, .w = w->data, .k = w->k, .bias = bias,
		.activation = G2_NO_ACTIVATION, .y = y, .ldy = ldy};

	run_product(pass, &p, w->n_padded, pass->ws->n_rows);
}

/* y += x w + bias */
static void
linear_residual(const g2_pass *pass, const g2_matrix *w, const float *bias, const float *x,
				size_t ldx, float *y, size_t ldy)
{
	g2_product	p = {.x = {.x = (void *) x, .ld = ldx}, .w = w->data, .k = w->k, .bias = bias,
		.activation = G2_NO_ACTIVATION, .residual = y, .ldr = ldy, .y = y, .ldy = ldy};

	run_product(pass, &p, w->n_padded, pass->ws->n_rows);
}

/* ---- embedding and norms: some rows a task ---- */

typedef struct row_job
{
	const g2_pass *pass;
	const float *gain;
	const float *bias;
	bool		final;			/* rows head_row[] to ws->final, else all rows to ws->norm */
	uint32_t	rows;
} row_job;

/* x = embedding of the token + that of its position; the embedding stands in panels. */
static void
embed_task(void *arg, uint32_t task, uint32_t thread)
{
	row_job    *j = arg;
	const g2_backend_model *m = j->pass->model;
	const g2_workspace *ws = j->pass->ws;
	const g2_matrix *e = &m->weights->embed;
	uint32_t	n = m->weights->arch.n_embd;

	(void) thread;
	for (uint32_t r = task * ROWS_PER_TASK; r < G2_MIN((task + 1) * ROWS_PER_TASK, j->rows); r++)
	{
		const float *w = (const float *) e->data +
			(size_t) (ws->token[r] / G2_PANEL) * e->k * G2_PANEL + ws->token[r] % G2_PANEL;
		const float *p = m->weights->positions + (size_t) ws->position[r] * n;
		float	   *x = ws->x + r * m->ld_embd;

		for (uint32_t i = 0; i < n; i++)
			x[i] = w[(size_t) i * G2_PANEL] + p[i];
		for (size_t i = n; i < m->ld_embd; i++)
			x[i] = 0.0f;
	}
}

static void
norm_task(void *arg, uint32_t task, uint32_t thread)
{
	row_job    *j = arg;
	const g2_backend_model *m = j->pass->model;
	const g2_workspace *ws = j->pass->ws;
	float	   *y = j->final ? ws->final : ws->norm;

	(void) thread;
	for (uint32_t r = task * ROWS_PER_TASK; r < G2_MIN((task + 1) * ROWS_PER_TASK, j->rows); r++)
	{
		uint32_t	from = j->final ? ws->head_row[r] : r;

		j->pass->kernels->layer_norm(ws->x + from * m->ld_embd, m->weights->arch.n_embd, j->gain,
									 j->bias, m->weights->arch.norm_epsilon, y + r * m->ld_embd);
	}
}

static void
run_rows(const g2_pass *pass, row_job *j, g2_pool_fn fn)
{
	j->pass = pass;
	g2_pool_run(pass->pool, (j->rows + ROWS_PER_TASK - 1) / ROWS_PER_TASK, fn, j);
}

static void
norm(const g2_pass *pass, const float *gain, const float *bias)
{
	row_job		j = {.gain = gain, .bias = bias, .rows = pass->ws->n_rows};

	run_rows(pass, &j, norm_task);
}

/* ---- attention ---- */

typedef struct attend_job
{
	const g2_pass *pass;
	uint32_t	layer;
	bool		write;			/* write K and V */
	bool		attend;
} attend_job;

/* K and V of some rows of a span, one head, into the cache: K as [head_dim][32], V as [32][dv]. */
static void
write_cache(const attend_job *j, const g2_span *s, uint32_t offset, uint32_t rows, uint32_t head)
{
	const g2_backend_model *m = j->pass->model;
	const g2_arch *a = &m->weights->arch;
	size_t		d = a->head_dim,
				place = ((size_t) j->layer * a->n_head + head) * m->head_floats;

	for (uint32_t r = offset; r < offset + rows; r++)
	{
		uint32_t	position = s->position + r,
					lane = position % G2_BLOCK;
		float	   *keys = m->kv + s->blocks[position / G2_BLOCK] * m->block_floats + place;
		const float *k = j->pass->ws->qkv + (s->row + r) * m->ld_qkv + (a->n_head + head) * d;

		for (size_t i = 0; i < d; i++)
			keys[i * G2_BLOCK + lane] = k[i];
		memcpy(keys + d * G2_BLOCK + (size_t) lane * m->dv, k + a->n_head * d, d * sizeof(float));
	}
}

static void
attend_task(void *arg, uint32_t task, uint32_t thread)
{
	attend_job *j = arg;
	const g2_backend_model *m = j->pass->model;
	const g2_arch *arch = &m->weights->arch;
	const g2_workspace *ws = j->pass->ws;
	/* The last tiles first: they are the longest. */
	const g2_attend_tile *t = &ws->tiles[ws->n_tiles - 1 - task / arch->n_head];
	const g2_span *s = &ws->spans[t->span];
	uint32_t	head = task % arch->n_head,
				rows = G2_MIN(s->rows - t->offset, (uint32_t) G2_ATTEND_ROWS);
	size_t		row = s->row + t->offset;
	g2_attention a = {
		.q = ws->qkv + row * m->ld_qkv + (size_t) head * arch->head_dim,
		.ldq = m->ld_qkv,
		.out = ws->heads + row * m->ld_heads + (size_t) head * arch->head_dim,
		.ldo = m->ld_heads,
		.rows = rows,
		.position = s->position + t->offset,
		.head_dim = arch->head_dim,
		.dv = m->dv,
		.scale = arch->attn_scale,
		.cache = m->kv + ((size_t) j->layer * arch->n_head + head) * m->head_floats,
		.block_stride = m->block_floats,
		.blocks = s->blocks,
	};

	if (j->write)
		write_cache(j, s, t->offset, rows, head);
	if (j->attend)
		j->pass->kernels->attend[G2_KV_F32](&a, scratch_of(j->pass, thread));
}

/* Cuts the spans into tiles; returns whether every span is one tile. */
static bool
make_tiles(g2_workspace *ws)
{
	bool		single = true;

	ws->n_tiles = 0;
	for (uint32_t i = 0; i < ws->n_spans; i++)
	{
		for (uint32_t offset = 0; offset < ws->spans[i].rows; offset += G2_ATTEND_ROWS)
			ws->tiles[ws->n_tiles++] = (g2_attend_tile) {i, offset};
		single &= ws->spans[i].rows <= G2_ATTEND_ROWS;
	}
	return single;
}

static void
attention(const g2_pass *pass, uint32_t layer, bool single)
{
	attend_job	j = {.pass = pass, .layer = layer};
	uint32_t	tasks = pass->ws->n_tiles * pass->model->weights->arch.n_head;

	if (!single)
	{
		j.write = true;
		g2_pool_run(pass->pool, tasks, attend_task, &j);
	}
	j.write = single;
	j.attend = true;
	g2_pool_run(pass->pool, tasks, attend_task, &j);
}

/* ---- the graph ---- */

void
g2_forward_layers(const g2_pass *pass)
{
	const g2_backend_model *m = pass->model;
	const g2_weights *w = m->weights;
	g2_workspace *ws = pass->ws;
	row_job		rows = {.rows = ws->n_rows};
	bool		single = make_tiles(ws);

	run_rows(pass, &rows, embed_task);
	for (uint32_t i = 0; i < w->arch.n_layer; i++)
	{
		const g2_layer *l = &w->layers[i];
		g2_product	up = {.x = {.x = ws->norm, .ld = m->ld_embd}, .w = l->ff_up.data,
			.k = l->ff_up.k, .bias = l->ff_up_bias, .activation = w->arch.activation,
			.y = ws->ff, .ldy = m->ld_ff};

		norm(pass, l->norm1_gain, l->norm1_bias);
		linear(pass, &l->qkv, l->qkv_bias, ws->norm, m->ld_embd, ws->qkv, m->ld_qkv);
		attention(pass, i, single);
		linear_residual(pass, &l->attn_out, l->attn_out_bias, ws->heads, m->ld_heads, ws->x,
						m->ld_embd);
		norm(pass, l->norm2_gain, l->norm2_bias);
		run_product(pass, &up, l->ff_up.n_padded, ws->n_rows);
		linear_residual(pass, &l->ff_down, l->ff_down_bias, ws->ff, m->ld_ff, ws->x, m->ld_embd);
	}
}

void
g2_forward_head(const g2_pass *pass, bool want_logits)
{
	const g2_backend_model *m = pass->model;
	const g2_weights *w = m->weights;
	g2_workspace *ws = pass->ws;
	row_job		j = {.gain = w->norm_gain, .bias = w->norm_bias, .final = true,
		.rows = ws->n_head_rows};
	g2_product	p = {.x = {.x = ws->final, .ld = m->ld_embd}, .w = w->head.data, .k = w->head.k,
		.activation = G2_NO_ACTIVATION, .y = ws->logits, .ldy = w->head.n_padded};

	run_rows(pass, &j, norm_task);
	if (want_logits)
		run_product(pass, &p, w->head.n_padded, ws->n_head_rows);
}
