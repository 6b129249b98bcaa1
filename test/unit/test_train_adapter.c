/*
 * test_train_adapter.c: an adapter that is kept beside its base is the one that would have been
 * merged.
 */
#include "train_job.h"

#include <math.h>

#include "adapter.h"

/* Column n of a matrix of the merged model is the base's, plus what the adapter adds. */
static void
expect_column(const g2_matrix *base, const g2_low_rank *adapter, const g2_matrix *merged, uint32_t n)
{
	float		x[256],
				y[256],
				up[16];

	assert_true(base->k <= 256 && adapter->up.k <= 16);
	g2_matrix_column(base, n, x);
	g2_matrix_column(merged, n, y);
	g2_matrix_column(&adapter->up, n, up);
	for (uint32_t j = 0; j < adapter->up.k; j++)
		for (uint32_t i = 0; i < base->k; i++)
			x[i] += up[j] * adapter->down[j * adapter->k + i];
	for (uint32_t i = 0; i < base->k; i++)
		assert_true(fabsf(x[i] - y[i]) < 1e-5f);
}

/* The same training, once merged and once kept: the same adapter. */
static void
test_kept_adapter(void **state)
{
	char	   *root = tb_folder(),
				models[512],
				packs[512],
				base[600],
				made[600],
				merged[600];
	const char *directories[1] = {models};
	g2_model_paths paths = {directories, 1, packs, 0};
	const char *names[3] = {"base", "merged", "made"};
	g2_pack    *pack[3];
	g2_train	o = small_options();
	char		hash[65],
				text[128];
	g2_error	err;

	(void) state;
	start_root(root);
	snprintf(models, sizeof models, "%s/models", root);
	snprintf(packs, sizeof packs, "%s/packs", root);
	snprintf(base, sizeof base, "%s/base", models);
	snprintf(made, sizeof made, "%s/made", models);
	snprintf(merged, sizeof merged, "%s/merged", models);
	EXPECT_OK(run_job(root, &o, 20, &err), err);
	assert_int_equal(rename(made, base), 0);
	tb_text(base, "gpt2.json", "{\"templates\": {\"x\": \"{text}\"}, \"end_token\": 1}");
	for (int kept = 0; kept < 2; kept++)
	{
		start_root(root);
		o = small_options();
		o.base = g2_span_of(base);
		o.lora_rank = 4;
		o.lora_alpha = 8;
		o.keep_adapter = kept;
		EXPECT_OK(run_job(root, &o, 20, &err), err);
		if (!kept)
			assert_int_equal(rename(made, merged), 0);
	}
	assert_int_equal(access(tb_path(made, "model.safetensors"), F_OK), -1);
	EXPECT_OK(g2_model_content_hash(base, hash, &err), err);
	snprintf(text, sizeof text, "\"base_hash\":\t\"%s\"", hash);
	assert_true(contains(root, "gpt2.json", text));
	assert_true(contains(root, "gpt2.json", "\"owner\":\t\"alice\""));
	assert_true(contains(root, "gpt2.json", "templates"));
	assert_false(contains(root, "gpt2.json", "end_token"));
	for (int i = 0; i < 3; i++)
		EXPECT_OK(g2_pack_open(&paths, names[i], G2_FORMAT_F32, NULL, NULL, &pack[i], &err), err);
	for (uint32_t l = 0; l < 2; l++)
	{
		const g2_layer *b = &pack[0]->weights.layers[l],
				   *m = &pack[1]->weights.layers[l];
		const g2_layer_adapter *a = &pack[2]->weights.adapter[l];

		for (uint32_t n = 0; n < b->qkv.n; n++)
			expect_column(&b->qkv, &a->qkv, &m->qkv, n);
		for (uint32_t n = 0; n < b->attn_out.n; n++)
			expect_column(&b->attn_out, &a->attn_out, &m->attn_out, n);
		for (uint32_t n = 0; n < b->ff_up.n; n++)
			expect_column(&b->ff_up, &a->ff_up, &m->ff_up, n);
		for (uint32_t n = 0; n < b->ff_down.n; n++)
			expect_column(&b->ff_down, &a->ff_down, &m->ff_down, n);
	}
	for (int i = 0; i < 3; i++)
		g2_pack_close(pack[i]);
	/* without a rank there is nothing to keep */
	o.lora_rank = 0;
	assert_false(run_job(root, &o, 20, &err));
	EXPECT_ERROR(err, G2_E_PARAM, "only an adapter can be kept");
	tb_remove(root);
}

/* What is said of the memory before it is taken. */
static void
test_size(void **state)
{
	const g2_arch arch = {.n_layer = 3, .n_embd = 48, .n_head = 4, .n_kv_head = 4, .head_dim = 12,
	.n_ff = 192};
	g2t_parameters p;
	uint64_t	sum = 0;
	g2_error	err;

	(void) state;
	EXPECT_OK(g2t_adapters_open(&arch, 5, G2T_TWO_MOMENTS, &p, &err), err);
	for (uint32_t i = 0; i < p.n; i++)
		sum += g2t_tensor_size(&p.tensor[i]);
	assert_int_equal(g2t_adapters_size(&arch, 5), sum);
	g2t_parameters_close(&p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kept_adapter),
		cmocka_unit_test(test_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
