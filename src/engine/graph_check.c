/*
 * graph_check.c: what every back end asks of a model's graph, and of the weights that go with it.
 */
#include "plan_check.h"

bool
g2_graph_unsupported(g2_error *err, const char *device, const char *field, const char *value)
{
	return g2_fail(err, G2_E_UNSUPPORTED, "model graph not supported by the %s back end: %s %s",
				   device, field, value);
}

static bool
check_graph(const g2_weights *w, const char *device, g2_error *err)
{
	const g2_arch *a = &w->arch;

	if (w->format >= G2_FORMATS)
		return g2_graph_unsupported(err, device, "format", "unknown");
	if (a->norm != G2_NORM_LAYER)
		return g2_graph_unsupported(err, device, "norm", "other than layer norm");
	if (a->position != G2_POSITION_LEARNED)
		return g2_graph_unsupported(err, device, "position", "other than learned positions");
	if (a->activation != G2_ACT_GELU_NEW && a->activation != G2_ACT_GELU &&
		a->activation != G2_ACT_RELU)
		return g2_graph_unsupported(err, device, "activation", "other than gelu_new, gelu, relu");
	if (a->gated_mlp)
		return g2_graph_unsupported(err, device, "gated_mlp", "(gated MLP)");
	if (!a->fused_qkv)
		return g2_graph_unsupported(err, device, "fused_qkv", "(separate q, k and v)");
	if (a->n_kv_head != a->n_head)
		return g2_graph_unsupported(err, device, "n_kv_head", "different from n_head");
	if (a->attn_window != 0)
		return g2_graph_unsupported(err, device, "attn_window", "(sliding window)");
	if (a->n_vocab > G2_MAX_VOCAB)
		return g2_graph_unsupported(err, device, "n_vocab", "above 262144");
	if (a->head_dim > G2_MAX_HEAD_DIM)
		return g2_graph_unsupported(err, device, "head_dim", "above 1024");
	return true;
}

static bool
check_matrix(const g2_matrix *m, uint64_t k, uint64_t n, const char *name, g2_error *err)
{
	if (!m->data || m->k != k || m->n != n || m->format >= G2_FORMATS ||
		m->n_padded != G2_ROUND_UP(n, (uint64_t) G2_PANEL))
		return g2_fail(err, G2_E_INTERNAL, "weights do not fit the graph: %s is %u x %u (%u)",
					   name, m->k, m->n, m->n_padded);
	return true;
}

/* An adapter of a matrix, where there is one. */
static bool
check_adapter(const g2_low_rank *adapter, const g2_matrix *m, uint32_t most, g2_error *err)
{
	const uint32_t rank = adapter->up.k;

	if (!adapter->down)
		return true;
	if (rank == 0 || rank > most || adapter->k != m->k || adapter->up.format != G2_FORMAT_F32)
		return g2_fail(err, G2_E_INTERNAL, "weights do not fit the graph: an adapter is %u x %u",
					   adapter->k, rank);
	return check_matrix(&adapter->up, rank, m->n, "adapter", err);
}

static bool
check_adapters(const g2_weights *w, g2_error *err)
{
	for (uint32_t i = 0; w->adapter && i < w->arch.n_layer; i++)
	{
		const g2_layer_adapter *a = &w->adapter[i];
		const g2_layer *l = &w->layers[i];

		if (!check_adapter(&a->qkv, &l->qkv, w->adapter_rank, err) ||
			!check_adapter(&a->attn_out, &l->attn_out, w->adapter_rank, err) ||
			!check_adapter(&a->ff_up, &l->ff_up, w->adapter_rank, err) ||
			!check_adapter(&a->ff_down, &l->ff_down, w->adapter_rank, err))
			return false;
	}
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
g2_graph_check(const g2_weights *weights, const char *device, g2_error *err)
{
	return check_graph(weights, device, err) && check_weights(weights, err) &&
		check_adapters(weights, err);
}
