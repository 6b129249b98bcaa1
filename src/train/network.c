/*
 * network.c: a GPT-2 with a way back.
 *
 * Residual stream x: layer l reads its input, adds the attention's output (middle) and then the
 * MLP's, which is layer l + 1's input.  Kept of each layer: what its products and norms need again;
 * the MLP's activation is cheaper to compute again than to keep.
 */
#include "network.h"

#include <stdio.h>

#include "layout.h"
#include "memory.h"

/* Dropouts of the network: one of the embedding, three a layer. */
enum
{
	SITE_EMBED = 16,			/* below are other purposes of the counter's third word */
	SITE_LAYERS,
	SITE_ATTENTION = 0, SITE_MIDDLE, SITE_OUT,
	SITES_PER_LAYER
};

typedef struct layer
{
	g2t_norm	norm1;
	g2t_linear	qkv;
	g2t_linear	attention_out;
	g2t_norm	norm2;
	g2t_linear	up;
	g2t_linear	down;
} layer;

/* What is kept of a layer; all [rows][...]. */
typedef struct kept
{
	float	   *mean1,
			   *rstd1;			/* [1] */
	float	   *normed1;		/* [c] */
	float	   *qkv;			/* [3 c] */
	float	   *attended;		/* [c] */
	float	   *middle;			/* [c] */
	float	   *mean2,
			   *rstd2;
	float	   *normed2;		/* [c] */
	float	   *up;				/* [n_ff] */
} kept;

struct g2t_network
{
	const g2t_context *context;
	g2_arch		arch;
	g2t_network_options options;
	layer	   *layers;			/* [n_layer] */
	g2t_norm	norm;
	const float *wte,
			   *wpe,
			   *head;
	float	   *dwte,
			   *dwpe,
			   *dhead;
	float	  **input;			/* [n_layer + 1][rows][c]: of each layer, and of the last norm */
	kept	   *kept;			/* [n_layer], or one */
	float	   *mean,
			   *rstd,
			   *normed;			/* of the last norm */
	float	   *dx;				/* [rows][c], gradient of the residual stream */
	float	   *branch;			/* [rows][c] */
	float	   *dqkv;			/* [rows][3 c] */
	float	   *active;			/* [rows][n_ff] */
	float	   *dactive;		/* [rows][n_ff or c, the larger] */
	float	   *low,
			   *low2;			/* [rows][rank] */
	float	   *loss_work;
	float	   *memory;			/* all of the above */
	uint32_t	step;			/* of the pass under way */
	bool		drops;
	bool		adds;			/* it is not the step's first pass */
};

/* ---- memory ---- */

/* Hands out parts of one block; with base NULL it only counts. */
typedef struct carver
{
	float	   *base;
	size_t		used;
} carver;

static float *
carve(carver *c, size_t floats)
{
	float	   *at = c->base ? c->base + c->used : NULL;

	c->used += G2_ROUND_UP(floats, (size_t) 16);
	return at;
}

static void
carve_kept(carver *c, const g2_arch *a, size_t rows, kept *k)
{
	size_t		e = rows * a->n_embd;

	k->mean1 = carve(c, rows);
	k->rstd1 = carve(c, rows);
	k->normed1 = carve(c, e);
	k->qkv = carve(c, 3 * e);
	k->attended = carve(c, e);
	k->middle = carve(c, e);
	k->mean2 = carve(c, rows);
	k->rstd2 = carve(c, rows);
	k->normed2 = carve(c, e);
	k->up = carve(c, rows * a->n_ff);
}

static uint32_t
kept_layers(const g2_arch *a, bool recompute)
{
	return recompute ? 1 : a->n_layer;
}

static void
carve_all(carver *c, g2t_network *net, uint32_t rank)
{
	const g2_arch *a = &net->arch;
	size_t		rows = net->options.rows,
				e = rows * a->n_embd;

	for (uint32_t l = 0; l <= a->n_layer; l++)
		net->input[l] = carve(c, e);
	for (uint32_t l = 0; l < kept_layers(a, net->options.recompute); l++)
		carve_kept(c, a, rows, &net->kept[l]);
	net->mean = carve(c, rows);
	net->rstd = carve(c, rows);
	net->normed = carve(c, e);
	net->dx = carve(c, e);
	net->branch = carve(c, e);
	net->dqkv = carve(c, 3 * e);
	net->active = carve(c, rows * a->n_ff);
	net->dactive = carve(c, rows * G2_MAX(a->n_ff, a->n_embd));
	net->low = carve(c, rows * rank);
	net->low2 = carve(c, rows * rank);
	net->loss_work = carve(c, g2t_loss_floats(a->n_embd, a->n_vocab));
}

uint64_t
g2t_network_bytes(const g2_arch *arch, uint32_t rows, bool recompute)
{
	carver		c = {NULL, 0};
	kept		k;
	size_t		e = (size_t) rows * arch->n_embd;

	for (uint32_t l = 0; l < kept_layers(arch, recompute); l++)
		carve_kept(&c, arch, rows, &k);
	return (c.used + (arch->n_layer + 7) * e +
			(size_t) rows * (arch->n_ff + G2_MAX(arch->n_ff, arch->n_embd)) +
			g2t_loss_floats(arch->n_embd, arch->n_vocab)) * sizeof(float);
}

/* ---- weights ---- */

typedef struct binder
{
	const g2t_parameters *p;
	const g2t_parameters *adapters;
	uint32_t	layer;
	float		scale;
	float		epsilon;
} binder;

/* The tensor "h.LAYER.NAME" of a set. */
static const float *
bound(const binder *b, const g2t_parameters *p, const char *name, const char *end, float **gradient)
{
	char		full[64];
	size_t		at;

	snprintf(full, sizeof full, "h.%u.%s.%s", b->layer, name, end);
	at = g2t_parameters_at(p, full);
	*gradient = p->g ? p->g + at : NULL;
	return p->w + at;
}

static g2t_norm
bind_norm(const binder *b, const char *name)
{
	g2t_norm	norm = {.epsilon = b->epsilon};

	norm.gain = bound(b, b->p, name, "weight", &norm.dgain);
	norm.bias = bound(b, b->p, name, "bias", &norm.dbias);
	return norm;
}

static g2t_linear
bind_linear(const binder *b, const char *name, size_t in, size_t out)
{
	g2t_linear	l = {.in = in, .out = out, .scale = b->scale};

	l.w = bound(b, b->p, name, "weight", &l.dw);
	l.b = bound(b, b->p, name, "bias", &l.db);
	if (b->adapters->n > 0)
	{
		l.rank = b->adapters->tensor[0].cols;
		l.a1 = bound(b, b->adapters, name, "lora_a", &l.da1);
		l.a2 = bound(b, b->adapters, name, "lora_b", &l.da2);
	}
	return l;
}

static void
bind_outer(g2t_network *net, const g2t_parameters *p)
{
	const char *head = net->arch.tied_head ? "wte.weight" : "lm_head.weight";
	size_t		wte = g2t_parameters_at(p, "wte.weight"),
				wpe = g2t_parameters_at(p, "wpe.weight"),
				gain = g2t_parameters_at(p, "ln_f.weight"),
				bias = g2t_parameters_at(p, "ln_f.bias");

	net->wte = p->w + wte;
	net->wpe = p->w + wpe;
	net->head = p->w + g2t_parameters_at(p, head);
	net->norm = (g2t_norm) {.gain = p->w + gain, .bias = p->w + bias,
	.epsilon = net->arch.norm_epsilon};
	if (!p->g)
		return;
	net->dwte = p->g + wte;
	net->dwpe = p->g + wpe;
	net->dhead = p->g + g2t_parameters_at(p, head);
	net->norm.dgain = p->g + gain;
	net->norm.dbias = p->g + bias;
}

static void
bind_layers(g2t_network *net, const g2t_parameters *p, const g2t_parameters *adapters)
{
	const g2_arch *a = &net->arch;
	binder		b = {.p = p, .adapters = adapters, .scale = net->options.adapter_scale,
	.epsilon = a->norm_epsilon};

	for (b.layer = 0; b.layer < a->n_layer; b.layer++)
		net->layers[b.layer] = (layer) {
			.norm1 = bind_norm(&b, "ln_1"),
			.qkv = bind_linear(&b, "attn.c_attn", a->n_embd, 3 * (size_t) a->n_embd),
			.attention_out = bind_linear(&b, "attn.c_proj", a->n_embd, a->n_embd),
			.norm2 = bind_norm(&b, "ln_2"),
			.up = bind_linear(&b, "mlp.c_fc", a->n_embd, a->n_ff),
			.down = bind_linear(&b, "mlp.c_proj", a->n_ff, a->n_embd),
		};
}

bool
g2t_network_open(const g2_arch *arch, const g2t_context *context, const g2t_parameters *p,
				 const g2t_parameters *adapters, const g2t_network_options *options,
				 g2t_network **out, g2_error *err)
{
	g2t_network *net = g2_alloc(sizeof *net);
	carver		c = {NULL, 0};
	uint32_t	rank = adapters->n > 0 ? (uint32_t) adapters->tensor[0].cols : 0;

	if (!net)
		return g2_fail_memory(err, sizeof *net);
	net->arch = *arch;
	net->context = context;
	net->options = *options;
	net->layers = g2_alloc_array(arch->n_layer, sizeof *net->layers);
	net->kept = g2_alloc_array(arch->n_layer, sizeof *net->kept);
	net->input = g2_alloc_array((size_t) arch->n_layer + 1, sizeof *net->input);
	if (net->layers && net->kept && net->input)
	{
		carve_all(&c, net, rank);
		c.base = net->memory = g2t_floats(c.used);
	}
	if (!net->memory)
	{
		g2t_network_close(net);
		return g2_fail_memory(err, c.used * sizeof(float));
	}
	c.used = 0;
	carve_all(&c, net, rank);
	bind_outer(net, p);
	bind_layers(net, p, adapters);
	*out = net;
	return true;
}

void
g2t_network_close(g2t_network *net)
{
	if (!net)
		return;
	g2_free(net->layers);
	g2_free(net->kept);
	g2_free(net->input);
	g2t_floats_free(net->memory);
	g2_free(net);
}

/* ---- forward ---- */

static g2t_dropout
dropout_at(const g2t_network *net, uint32_t site)
{
	return (g2t_dropout) {
		.rate = net->drops ? net->options.dropout : 0.0f, .key = net->options.seed, .site = site,
		.step = net->step,
	};
}

static void
drop(const g2t_network *net, const g2t_batch *batch, uint32_t site, float *x)
{
	g2t_dropout d = dropout_at(net, site);
	size_t		c = net->arch.n_embd;

	g2t_drop(net->context, &d, batch->first * c, batch->n * c, x);
}

static uint32_t
site_of(uint32_t l, uint32_t site)
{
	return SITE_LAYERS + l * SITES_PER_LAYER + site;
}

static g2t_attention
attention_of(const g2t_network *net, uint32_t l)
{
	return (g2t_attention) {
		.n_head = net->arch.n_head, .head_dim = net->arch.head_dim,
		.scale = net->arch.attn_scale, .dropout = dropout_at(net, site_of(l, SITE_ATTENTION)),
		.positions = net->arch.n_ctx,
	};
}

/* Fills k, and, unless out is NULL, the layer's output. */
static void
layer_forward(g2t_network *net, const g2t_batch *b, uint32_t l, kept *k, float *out)
{
	const layer *w = &net->layers[l];
	const g2t_context *context = net->context;
	const float *x = net->input[l];
	const size_t c = net->arch.n_embd;
	g2t_attention attention = attention_of(net, l);

	g2t_norm_forward(context, &w->norm1, b->n, c, x, k->normed1, k->mean1, k->rstd1);
	g2t_linear_forward(context, &w->qkv, b->n, k->normed1, k->qkv, net->low);
	g2t_attention_forward(context, &attention, b, k->qkv, k->attended);
	g2t_linear_forward(context, &w->attention_out, b->n, k->attended, k->middle, net->low);
	drop(net, b, site_of(l, SITE_MIDDLE), k->middle);
	g2t_add(context, b->n * c, x, k->middle);
	g2t_norm_forward(context, &w->norm2, b->n, c, k->middle, k->normed2, k->mean2, k->rstd2);
	g2t_linear_forward(context, &w->up, b->n, k->normed2, k->up, net->low);
	if (!out)
		return;
	g2t_gelu(context, b->n * w->up.out, k->up, net->active);
	g2t_linear_forward(context, &w->down, b->n, net->active, out, net->low);
	drop(net, b, site_of(l, SITE_OUT), out);
	g2t_add(context, b->n * c, k->middle, out);
}

static kept *
kept_of(g2t_network *net, uint32_t l)
{
	return &net->kept[net->options.recompute ? 0 : l];
}

static void
forward(g2t_network *net, const g2t_batch *b)
{
	const g2_arch *a = &net->arch;

	g2t_embed(net->context, b, a->n_embd, net->wte, net->wpe, net->input[0]);
	drop(net, b, SITE_EMBED, net->input[0]);
	for (uint32_t l = 0; l < a->n_layer; l++)
		layer_forward(net, b, l, kept_of(net, l), net->input[l + 1]);
	g2t_norm_forward(net->context, &net->norm, b->n, a->n_embd, net->input[a->n_layer],
					 net->normed, net->mean, net->rstd);
}

static double
loss(g2t_network *net, const g2t_batch *b, float gradient_scale)
{
	return g2t_loss(net->context, b, net->arch.n_embd, net->arch.n_vocab, net->normed, net->head,
					gradient_scale, net->branch, net->dhead, net->adds, net->loss_work);
}

double
g2t_network_loss(g2t_network *net, const g2t_batch *batch)
{
	net->drops = false;
	forward(net, batch);
	return loss(net, batch, 0.0f);
}

/* ---- backward: dx is the gradient of a layer's output, and becomes that of its input ---- */

static void
mlp_backward(g2t_network *net, const g2t_batch *b, uint32_t l, const kept *k)
{
	const layer *w = &net->layers[l];
	const g2t_context *context = net->context;
	const size_t c = net->arch.n_embd;

	memcpy(net->branch, net->dx, b->n * c * sizeof(float));
	drop(net, b, site_of(l, SITE_OUT), net->branch);
	g2t_gelu(context, b->n * w->up.out, k->up, net->active);
	g2t_linear_backward(context, &w->down, b->n, net->active, net->branch, net->dactive, net->adds,
						net->low, net->low2);
	g2t_gelu_backward(context, b->n * w->up.out, k->up, net->dactive, net->dactive);
	g2t_linear_backward(context, &w->up, b->n, k->normed2, net->dactive, net->branch, net->adds,
						net->low, net->low2);
	g2t_norm_backward(context, &w->norm2, b->n, c, k->middle, k->mean2, k->rstd2, net->branch,
					  net->dx, net->adds);
}

static void
attention_backward(g2t_network *net, const g2t_batch *b, uint32_t l, const kept *k)
{
	const layer *w = &net->layers[l];
	const g2t_context *context = net->context;
	const size_t c = net->arch.n_embd;
	g2t_attention attention = attention_of(net, l);
	float	   *dattended = net->dactive;	/* it is free here, and wide enough */

	memcpy(net->branch, net->dx, b->n * c * sizeof(float));
	drop(net, b, site_of(l, SITE_MIDDLE), net->branch);
	g2t_linear_backward(context, &w->attention_out, b->n, k->attended, net->branch, dattended,
						net->adds, net->low, net->low2);
	g2t_attention_backward(context, &attention, b, k->qkv, dattended, net->dqkv);
	g2t_linear_backward(context, &w->qkv, b->n, k->normed1, net->dqkv, net->branch, net->adds,
						net->low, net->low2);
	g2t_norm_backward(context, &w->norm1, b->n, c, net->input[l], k->mean1, k->rstd1, net->branch,
					  net->dx, net->adds);
}

/* What only some rows of get a gradient, unless the head's has been set there. */
static void
clear_embeddings(g2t_network *net)
{
	size_t		c = net->arch.n_embd;

	memset(net->dwpe, 0, net->arch.n_ctx * c * sizeof(float));
	if (net->dwte != net->dhead)
		memset(net->dwte, 0, net->arch.n_vocab * c * sizeof(float));
}

double
g2t_network_backward(g2t_network *net, const g2t_batch *b, uint32_t step, float gradient_scale)
{
	const g2_arch *a = &net->arch;
	double		total;

	net->drops = true;
	net->step = step;
	net->adds = b->first > 0;
	forward(net, b);
	total = loss(net, b, gradient_scale);
	memset(net->dx, 0, b->n * (size_t) a->n_embd * sizeof(float));
	g2t_norm_backward(net->context, &net->norm, b->n, a->n_embd, net->input[a->n_layer],
					  net->mean, net->rstd, net->branch, net->dx, net->adds);
	for (uint32_t l = a->n_layer; l-- > 0;)
	{
		if (net->options.recompute)
			layer_forward(net, b, l, kept_of(net, l), NULL);
		mlp_backward(net, b, l, kept_of(net, l));
		attention_backward(net, b, l, kept_of(net, l));
	}
	if (net->dwte)
	{
		if (!net->adds)
			clear_embeddings(net);
		drop(net, b, SITE_EMBED, net->dx);
		g2t_embed_backward(net->context, b, a->n_embd, net->dx, net->dwte, net->dwpe);
	}
	return total;
}
