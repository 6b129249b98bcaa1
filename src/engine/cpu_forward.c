/*
 * cpu_forward.c: the forward pass on the CPU.
 *
 * Phases of a pass, each one job of the pool (a barrier between two of them):
 *   embed; for each layer: norm, qkv, attention, attn_out (+ residual), norm, ff_up (activation),
 *   ff_down (+ residual); then for the rows that need outputs: final norm, head.
 * Before each product its rows take the form that the format of its weights wants: in the norm's
 * tasks where there is one, else in a phase of its own.
 * An adapter's small products go along: the first in the tasks that make the rows, the second in
 * those of the product that it adds to.
 * Tasks of a product are (96 rows, some panels); of attention (32 queries of a sequence, head).
 * No task's result depends on how many tasks or threads there are.
 *
 * The cache: an attention task whose sequence has no other tile writes K and V of its rows itself
 * before it reads them; when any sequence has several tiles, a phase of its own writes them all.
 */
#include "cpu_forward.h"

#include "bf16.h"

#define ROWS_PER_TASK 8			/* embed, norms, conversions; a multiple of G2_OPERAND_ROWS */
#define TASKS_PER_THREAD 16		/* products: enough to even out, few enough to be cheap */

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
	g2_format	format;
	bool		adapts;
	g2_product	up;				/* the adapter's second product, which is added to p's */
	uint32_t	activation;		/* behind that */
	uint32_t	rows;
	uint32_t	panels;
	uint32_t	group;			/* panels of a task */
	uint32_t	groups;
} product_job;

static g2_math
math_of(uint32_t activation)
{
	switch (activation)
	{
		case G2_ACT_GELU:
			return G2_MATH_GELU;
		case G2_ACT_RELU:
			return G2_MATH_RELU;
		default:
			return G2_MATH_GELU_NEW;
	}
}

static void
product_task(void *arg, uint32_t task, uint32_t thread)
{
	product_job *j = arg;
	const g2_kernels *kernels = j->pass->kernels;
	uint32_t	row = task / j->groups * G2_PRODUCT_ROWS,
				row_end = G2_MIN(row + G2_PRODUCT_ROWS, j->rows),
				panel = task % j->groups * j->group,
				panel_end = G2_MIN(panel + j->group, j->panels);

	kernels->product[j->format](&j->p, panel, panel_end, row, row_end,
								scratch_of(j->pass, thread));
	if (!j->adapts)
		return;
	kernels->product[G2_FORMAT_F32](&j->up, panel, panel_end, row, row_end,
									scratch_of(j->pass, thread));
	for (uint32_t r = row; j->activation != G2_NO_ACTIVATION && r < row_end; r++)
	{
		float	   *y = j->p.y + r * j->p.ldy + (size_t) panel * G2_PANEL;

		kernels->map(math_of(j->activation), y, y, (size_t) (panel_end - panel) * G2_PANEL);
	}
}

/*
 * Adds (x down) up, whose first half stands in ws->low: y = p's product + bias (+ residual), then
 * low up + y, then the activation.  Any other order would need a second copy of y.
 */
static void
adapt(product_job *j, const g2_low_rank *adapter)
{
	j->adapts = true;
	j->activation = j->p.activation;
	j->p.activation = G2_NO_ACTIVATION;
	j->up = (g2_product) {
		.x = {.x = j->pass->ws->low, .ld = j->pass->model->ld_low}, .w = adapter->up.data,
		.k = adapter->up.k, .activation = G2_NO_ACTIVATION, .residual = j->p.y, .ldr = j->p.ldy,
		.y = j->p.y, .ldy = j->p.ldy,
	};
}

/* p with the matrix w, for rows rows; adapter: NULL = none. */
static void
run_product(const g2_pass *pass, const g2_matrix *w, const g2_product *p, uint32_t rows,
			const g2_low_rank *adapter)
{
	product_job j = {.pass = pass, .p = *p, .format = w->format, .rows = rows,
		.panels = w->n_padded / G2_PANEL};
	uint32_t	chunks = (rows + G2_PRODUCT_ROWS - 1) / G2_PRODUCT_ROWS,
				tasks = g2_pool_threads(pass->pool) * TASKS_PER_THREAD;

	j.p.w = w->data;
	j.p.k = w->k;
	if (adapter)
		adapt(&j, adapter);
	j.group = G2_MAX(1, (uint32_t) ((uint64_t) j.panels * chunks / tasks));
	if (rows <= G2_PAIR_ROWS && j.panels >= 2 * g2_pool_threads(pass->pool))
		j.group = G2_ROUND_UP(j.group, 2u);
	j.groups = (j.panels + j.group - 1) / j.group;
	g2_pool_run(pass->pool, chunks * j.groups, product_task, &j);
}

/* y = activation(x w + bias), all rows of the pass. */
static void
linear(const g2_pass *pass, const g2_matrix *w, const float *bias, const g2_low_rank *adapter,
	   uint32_t activation, g2_operand x, float *y, size_t ldy)
{
	g2_product	p = {.x = x, .bias = bias, .activation = activation, .y = y, .ldy = ldy};

	run_product(pass, w, &p, pass->ws->n_rows, adapter);
}

/* ws->x += x w + bias */
static void
linear_residual(const g2_pass *pass, const g2_matrix *w, const float *bias,
				const g2_low_rank *adapter, g2_operand x)
{
	float	   *y = pass->ws->x;
	size_t		ldy = pass->model->ld_embd;
	g2_product	p = {.x = x, .bias = bias, .activation = G2_NO_ACTIVATION, .residual = y,
		.ldr = ldy, .y = y, .ldy = ldy};

	run_product(pass, w, &p, pass->ws->n_rows, adapter);
}

/* ---- embedding, norms, conversions: some rows a task ---- */

typedef struct row_job
{
	const g2_pass *pass;
	uint32_t	rows;
	const float *gain;			/* norms */
	const float *bias;
	const uint32_t *from;		/* which rows of ws->x are normed; NULL: 0, 1, ... */
	float	   *x;				/* rows that a norm has made, or that are there: to be converted */
	size_t		ldx;
	g2_format	format;			/* of the product that takes them */
	uint32_t	k;
	g2_operand	operand;		/* they as it takes them; f32: x itself */
	const g2_low_rank *adapter; /* of that product; NULL: none */
} row_job;

static void
run_rows(const g2_pass *pass, row_job *j, g2_pool_fn fn)
{
	j->pass = pass;
	g2_pool_run(pass->pool, (j->rows + ROWS_PER_TASK - 1) / ROWS_PER_TASK, fn, j);
}

/* x = embedding of the token + that of its position. */
static void
embed_task(void *arg, uint32_t task, uint32_t thread)
{
	row_job    *j = arg;
	const g2_backend_model *m = j->pass->model;
	const g2_workspace *ws = j->pass->ws;
	uint32_t	n = m->weights->arch.n_embd;

	(void) thread;
	for (uint32_t r = task * ROWS_PER_TASK; r < G2_MIN((task + 1) * ROWS_PER_TASK, j->rows); r++)
	{
		const float *p = m->weights->positions + (size_t) ws->position[r] * n;
		float	   *x = ws->x + r * m->ld_embd;

		g2_matrix_column(&m->weights->embed, ws->token[r], x);
		for (uint32_t i = 0; i < n; i++)
			x[i] += p[i];
		for (size_t i = n; i < m->ld_embd; i++)
			x[i] = 0.0f;
	}
}

/* Rows x as the product wants them, and in the rank of its adapter. */
static void
convert_task(void *arg, uint32_t task, uint32_t thread)
{
	row_job    *j = arg;
	const g2_pass *pass = j->pass;
	const g2_low_rank *adapter = j->adapter;
	uint32_t	row = task * ROWS_PER_TASK,
				row_end = G2_MIN(row + ROWS_PER_TASK, j->rows);

	(void) thread;
	if (j->format != G2_FORMAT_F32)
		pass->kernels->convert[j->format](j->x, j->ldx, row, row_end, j->k, &j->operand);
	for (uint32_t r = row; adapter && r < row_end; r++)
		pass->kernels->dots(j->x + r * j->ldx, adapter->k, adapter->down, adapter->up.k,
							pass->ws->low + r * pass->model->ld_low);
}

static void
norm_task(void *arg, uint32_t task, uint32_t thread)
{
	row_job    *j = arg;
	const g2_backend_model *m = j->pass->model;
	const float *x = j->pass->ws->x;

	for (uint32_t r = task * ROWS_PER_TASK; r < G2_MIN((task + 1) * ROWS_PER_TASK, j->rows); r++)
		j->pass->kernels->layer_norm(x + (j->from ? j->from[r] : r) * m->ld_embd, j->k, j->gain,
									 j->bias, m->weights->arch.norm_epsilon, j->x + r * j->ldx);
	convert_task(j, task, thread);
}

/* Says how the product with w takes the rows x, and where they will stand. */
static row_job
rows_for(const g2_pass *pass, const g2_matrix *w, float *x, size_t ldx, uint32_t rows)
{
	row_job		j = {.rows = rows, .x = x, .ldx = ldx, .format = w->format, .k = w->k,
		.operand = {.x = x, .ld = ldx}};

	if (w->format != G2_FORMAT_F32)
		g2_operand_layout(w->format, rows, w->k, pass->ws->operand, &j.operand);
	return j;
}

/* Layer norm of all rows, for the product with w. */
static g2_operand
norm(const g2_pass *pass, const float *gain, const float *bias, const g2_matrix *w,
	 const g2_low_rank *adapter)
{
	row_job		j = rows_for(pass, w, pass->ws->norm, pass->model->ld_embd, pass->ws->n_rows);

	j.gain = gain;
	j.bias = bias;
	j.adapter = adapter;
	run_rows(pass, &j, norm_task);
	return j.operand;
}

/* All rows x, for the product with w. */
static g2_operand
convert(const g2_pass *pass, const g2_matrix *w, const g2_low_rank *adapter, float *x, size_t ldx)
{
	row_job		j = rows_for(pass, w, x, ldx, pass->ws->n_rows);

	j.adapter = adapter;
	if (w->format != G2_FORMAT_F32 || adapter)
		run_rows(pass, &j, convert_task);
	return j.operand;
}

/* ---- attention ---- */

typedef struct attend_job
{
	const g2_pass *pass;
	uint32_t	layer;
	bool		write;			/* write K and V */
	bool		attend;
} attend_job;

/* n values to every stride-th element of a cache. */
static void
store(g2_kv_type type, void *to, size_t stride, const float *x, size_t n)
{
	if (type == G2_KV_F32)
		for (size_t i = 0; i < n; i++)
			((float *) to)[i * stride] = x[i];
	else
		for (size_t i = 0; i < n; i++)
			((uint16_t *) to)[i * stride] = g2_to_bf16(x[i]);
}

/* K and V of some rows of a span, one head, into the cache: K as [head_dim][32], V as [32][dv]. */
static void
write_cache(const attend_job *j, const g2_span *s, uint32_t offset, uint32_t rows, uint32_t head)
{
	const g2_backend_model *m = j->pass->model;
	const g2_arch *a = &m->weights->arch;
	size_t		d = a->head_dim;

	for (uint32_t r = offset; r < offset + rows; r++)
	{
		uint32_t	position = s->position + r,
					lane = position % G2_BLOCK;
		char	   *keys = g2_cpu_cache(m, s->blocks[position / G2_BLOCK], j->layer, head);
		const float *k = j->pass->ws->qkv + (s->row + r) * m->ld_qkv + (a->n_head + head) * d;

		store(m->kv_type, keys + lane * m->kv_size, G2_BLOCK, k, d);
		store(m->kv_type, keys + (d * G2_BLOCK + (size_t) lane * m->dv) * m->kv_size, 1,
			  k + a->n_head * d, d);
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
		.cache = g2_cpu_cache(m, 0, j->layer, head),
		.block_stride = m->block_elements,
		.blocks = s->blocks,
	};

	if (j->write)
		write_cache(j, s, t->offset, rows, head);
	if (j->attend)
		j->pass->kernels->attend[m->kv_type](&a, scratch_of(j->pass, thread));
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

/* The adapters of a layer's products, NULL where there is none. */
typedef struct layer_adapters
{
	const g2_low_rank *qkv;
	const g2_low_rank *attn_out;
	const g2_low_rank *ff_up;
	const g2_low_rank *ff_down;
} layer_adapters;

static const g2_low_rank *
if_any(const g2_low_rank *adapter)
{
	return adapter->down ? adapter : NULL;
}

static layer_adapters
adapters_of(const g2_weights *w, uint32_t layer)
{
	const g2_layer_adapter *a = w->adapter ? &w->adapter[layer] : NULL;

	return !a ? (layer_adapters) {0} : (layer_adapters) {
		.qkv = if_any(&a->qkv), .attn_out = if_any(&a->attn_out), .ff_up = if_any(&a->ff_up),
		.ff_down = if_any(&a->ff_down),
	};
}

void
g2_forward_layers(const g2_pass *pass)
{
	const g2_backend_model *m = pass->model;
	const g2_weights *w = m->weights;
	g2_workspace *ws = pass->ws;
	row_job		rows = {.rows = ws->n_rows};
	bool		single = make_tiles(ws);
	g2_operand	x;

	run_rows(pass, &rows, embed_task);
	for (uint32_t i = 0; i < w->arch.n_layer; i++)
	{
		const g2_layer *l = &w->layers[i];
		const layer_adapters a = adapters_of(w, i);

		x = norm(pass, l->norm1_gain, l->norm1_bias, &l->qkv, a.qkv);
		linear(pass, &l->qkv, l->qkv_bias, a.qkv, G2_NO_ACTIVATION, x, ws->qkv, m->ld_qkv);
		attention(pass, i, single);
		x = convert(pass, &l->attn_out, a.attn_out, ws->heads, m->ld_heads);
		linear_residual(pass, &l->attn_out, l->attn_out_bias, a.attn_out, x);
		x = norm(pass, l->norm2_gain, l->norm2_bias, &l->ff_up, a.ff_up);
		linear(pass, &l->ff_up, l->ff_up_bias, a.ff_up, w->arch.activation, x, ws->ff, m->ld_ff);
		x = convert(pass, &l->ff_down, a.ff_down, ws->ff, m->ld_ff);
		linear_residual(pass, &l->ff_down, l->ff_down_bias, a.ff_down, x);
	}
}

void
g2_forward_head(const g2_pass *pass, bool want_logits)
{
	const g2_backend_model *m = pass->model;
	const g2_weights *w = m->weights;
	g2_workspace *ws = pass->ws;
	row_job		j = rows_for(pass, &w->head, ws->final, m->ld_embd, ws->n_head_rows);
	g2_product	p = {.x = j.operand, .activation = G2_NO_ACTIVATION, .y = ws->logits,
		.ldy = w->head.n_padded};

	j.gain = w->norm_gain;
	j.bias = w->norm_bias;
	j.from = ws->head_row;
	run_rows(pass, &j, norm_task);
	if (want_logits)
		run_product(pass, &w->head, &p, ws->n_head_rows, NULL);
}
