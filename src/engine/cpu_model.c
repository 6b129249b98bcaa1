/*
 * cpu_model.c: what the CPU back end asks of a model's graph, and how its cache and the working
 * memory of a pass are laid out.
 */
#include "cpu_forward.h"

#include <sys/mman.h>

#include "plan_check.h"
#include "sampler.h"

/* ---- models ---- */

bool
g2_cpu_model_check(const g2_weights *weights, g2_error *err)
{
	return g2_graph_check(weights, "CPU", err);
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
	model->kv_type = weights->format == G2_FORMAT_F32 ? G2_KV_F32 : G2_KV_BF16;
	model->kv_size = model->kv_type == G2_KV_F32 ? sizeof(float) : sizeof(uint16_t);
	model->head_elements = (size_t) G2_BLOCK * (a->head_dim + model->dv);
	model->block_elements = model->head_elements * a->n_layer * a->n_head;
	model->ld_embd = row_stride(a->n_embd);
	model->ld_qkv = row_stride((size_t) 3 * a->n_head * a->head_dim);
	model->ld_heads = row_stride((size_t) a->n_head * a->head_dim);
	model->ld_ff = row_stride(a->n_ff);
	model->ld_low = weights->adapter ? row_stride(weights->adapter_rank) : 0;
}

void
g2_cpu_model_release(g2_backend_model *m)
{
	if (atomic_fetch_sub(&m->holders, 1) > 1)
		return;
	if (m->kv)
		munmap(m->kv, m->kv_bytes);
	g2_free(m);
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

/* Bytes of the largest operand: of any product of the layers, or of the head. */
static size_t
operand_bytes(const g2_weights *w, size_t rows, size_t head_rows)
{
	const g2_layer *l = &w->layers[0];
	const g2_matrix *const of_layers[] = {&l->qkv, &l->attn_out, &l->ff_up, &l->ff_down};
	g2_operand	operand;
	size_t		most = 0;

	for (size_t i = 0; i < G2_LENGTH(of_layers); i++)
		if (of_layers[i]->format != G2_FORMAT_F32)
			most = G2_MAX(most, g2_operand_layout(of_layers[i]->format, (uint32_t) rows,
												  of_layers[i]->k, NULL, &operand));
	if (w->head.format != G2_FORMAT_F32)
		most = G2_MAX(most, g2_operand_layout(w->head.format, (uint32_t) head_rows, w->head.k,
											  NULL, &operand));
	return most;
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
	ws->low = take(base, &at, rows * model->ld_low, sizeof(float));
	ws->operand = take(base, &at, operand_bytes(w, rows, head_rows), 1);
	ws->head_row = take(base, &at, head_rows, sizeof(uint32_t));
	ws->final = take(base, &at, head_rows * model->ld_embd, sizeof(float));
	ws->logits = take(base, &at, head_rows * w->head.n_padded, sizeof(float));
	ws->row_in_pass = take(base, &at, plan->n_rows, sizeof(uint32_t));
	ws->chosen = take(base, &at, plan->n_outputs, sizeof(uint32_t));
	ws->chosen_row = take(base, &at, plan->n_outputs, sizeof(uint32_t));
	ws->task_start = take(base, &at, (size_t) plan->n_outputs + 1, sizeof(uint32_t));

	/* What one task needs: of a product, of attention, or of an output: a copy of the logits,
	 * the ids seen, the sampler's own. */
	scratch = G2_MAX((size_t) G2_PRODUCT_SCRATCH, G2_ATTEND_SCRATCH(model->dv)) * sizeof(float);
	scratch = G2_MAX(scratch, 2 * G2_ROUND_UP(vocab * sizeof(float), (size_t) G2_ALIGN) +
					 g2_sampler_scratch_bytes(w->arch.n_vocab));
	ws->scratch_bytes = G2_ROUND_UP(scratch, (size_t) G2_ALIGN);
	ws->scratch = take(base, &at, threads, ws->scratch_bytes);
	return at;
}
