/*
 * pack_fixture.h: what the tests of packs share: a fixture for each test, opening with
 * verification, and the comparison of a pack's weights with its source, element by element.
 */
#ifndef PACK_FIXTURE_H
#define PACK_FIXTURE_H

#include "model_fixture.h"

#include "pack.h"
#include "weights_source.h"

static fixture fx;

static UNUSED int
setup(void **state)
{
	(void) state;
	memset(&fx, 0, sizeof fx);
	fixture_open(&fx);
	return 0;
}

static UNUSED int
teardown(void **state)
{
	(void) state;
	g2_alloc_fail_at(0);
	fixture_close(&fx);
	return 0;
}

static UNUSED g2_pack *
open_as(const char *name, g2_format format)
{
	g2_pack    *pack = NULL;
	g2_error	err = {0};

	EXPECT_OK(g2_pack_open(&fx.paths, name, format, NULL, NULL, &pack, &err), err);
	return pack;
}

static UNUSED g2_pack *
open_model(const char *name)
{
	g2_pack    *pack = open_as(name, G2_FORMAT_F32);
	g2_error	err = {0};

	EXPECT_OK(g2_pack_verify(pack, &err), err);
	return pack;
}

static UNUSED void
refuse_model(const char *name, g2_code code, const char *part)
{
	g2_pack    *pack = NULL;
	g2_error	err = {0};

	assert_false(g2_pack_open(&fx.paths, name, G2_FORMAT_F32, NULL, NULL, &pack, &err));
	EXPECT_ERROR(err, code, part);
}

static UNUSED bool
missing(const char *name)
{
	uint64_t	bytes;

	return g2_pack_missing(&fx.paths, name, G2_FORMAT_F32, &bytes);
}

/* ---------------------------------------------------------------- the weights themselves */

/* A tensor of the source as f32, read through the public interface; free it. */
static UNUSED float *
source_tensor(const g2_source *source, const char *plain, size_t *n)
{
	for (uint32_t i = 0; i < source->n; i++)
	{
		char		name[80];
		const g2_tensor *t;
		float	   *x;
		g2_error	err;

		snprintf(name, sizeof name, "%s%s", strcmp(plain, "lm_head.weight") == 0 ? ""
				 : source->prefix, plain);
		t = g2_safetensors_find(source->file[i].st, name);
		if (!t)
			continue;
		*n = (size_t) (t->end - t->begin) / g2_dtype_size(t->dtype);
		x = malloc(*n * sizeof *x);
		EXPECT_OK(g2_safetensors_read(source->file[i].st, t, 0, *n, x, &err), err);
		return x;
	}
	print_error("no tensor %s\n", plain);
	fail();
	return NULL;
}

static uint64_t compared;		/* elements so far: what g2_arch_parameters counts */

static UNUSED void
same_vector(const g2_source *source, const char *name, const float *packed, size_t padded)
{
	size_t		n;
	float	   *x = source_tensor(source, name, &n);

	compared += n;
	assert_memory_equal(x, packed, n * sizeof *x);
	for (size_t i = n; i < padded; i++)
		assert_true(packed[i] == 0);
	assert_int_equal((uintptr_t) packed % 64, 0);
	free(x);
}

/* by_rows: the source is [n][k], otherwise [k][n]. */
static UNUSED void
same_matrix(const g2_source *source, const char *name, const g2_matrix *m, bool by_rows)
{
	size_t		n;
	float	   *x = source_tensor(source, name, &n);
	const float *data = m->data;

	compared += n;
	assert_int_equal(n, (size_t) m->k * m->n);
	assert_int_equal(m->n_padded % G2_PANEL, 0);
	assert_true(m->n_padded >= m->n && m->n_padded < m->n + G2_PANEL);
	assert_int_equal((uintptr_t) data % 64, 0);
	for (size_t k = 0; k < m->k; k++)
		for (size_t c = 0; c < m->n_padded; c++)
		{
			float		packed = data[(c / G2_PANEL * m->k + k) * G2_PANEL + c % G2_PANEL],
						want = c >= m->n ? 0 : by_rows ? x[c * m->k + k] : x[k * m->n + c];

			if (packed != want)
				print_error("%s [%zu][%zu]: %g, not %g\n", name, k, c, packed, want);
			assert_true(packed == want);
		}
	free(x);
}

static UNUSED void
same_layer(const g2_source *source, const g2_layer *l, uint32_t number, const g2_arch *a)
{
	char		name[64];

#define NAME(s) (snprintf(name, sizeof name, "h.%u.%s", number, s), name)
	same_vector(source, NAME("ln_1.weight"), l->norm1_gain, a->n_embd);
	same_vector(source, NAME("ln_1.bias"), l->norm1_bias, a->n_embd);
	same_matrix(source, NAME("attn.c_attn.weight"), &l->qkv, false);
	same_vector(source, NAME("attn.c_attn.bias"), l->qkv_bias, l->qkv.n_padded);
	same_matrix(source, NAME("attn.c_proj.weight"), &l->attn_out, false);
	same_vector(source, NAME("attn.c_proj.bias"), l->attn_out_bias, l->attn_out.n_padded);
	same_vector(source, NAME("ln_2.weight"), l->norm2_gain, a->n_embd);
	same_vector(source, NAME("ln_2.bias"), l->norm2_bias, a->n_embd);
	same_matrix(source, NAME("mlp.c_fc.weight"), &l->ff_up, false);
	same_vector(source, NAME("mlp.c_fc.bias"), l->ff_up_bias, l->ff_up.n_padded);
	same_matrix(source, NAME("mlp.c_proj.weight"), &l->ff_down, false);
	same_vector(source, NAME("mlp.c_proj.bias"), l->ff_down_bias, l->ff_down.n_padded);
#undef NAME
}

static UNUSED void
same_weights(const g2_pack *pack, const char *folder)
{
	const g2_weights *w = &pack->weights;
	g2_layout	layout;
	g2_source	source;
	g2_error	err;

	compared = 0;
	EXPECT_OK(g2_layout_make(&w->arch, w->format, &layout, &err), err);
	EXPECT_OK(g2_source_open(folder, &layout, &source, &err), err);
	same_matrix(&source, "wte.weight", &w->embed, true);
	same_vector(&source, "wpe.weight", w->positions, (size_t) w->arch.n_ctx * w->arch.n_embd);
	for (uint32_t l = 0; l < w->arch.n_layer; l++)
		same_layer(&source, &w->layers[l], l, &w->arch);
	same_vector(&source, "ln_f.weight", w->norm_gain, w->arch.n_embd);
	same_vector(&source, "ln_f.bias", w->norm_bias, w->arch.n_embd);
	if (w->arch.tied_head)
		assert_ptr_equal(w->head.data, w->embed.data);
	else
		same_matrix(&source, "lm_head.weight", &w->head, true);
	assert_int_equal(compared, pack->description.parameters);
	g2_source_close(&source);
	g2_layout_free(&layout);
}

static UNUSED void
check_model(const char *name)
{
	g2_pack    *pack = open_model(name);

	same_weights(pack, fixture_folder(&fx, name));
	assert_string_equal(pack->description.architecture, "gpt2");
	g2_pack_close(pack);
	assert_false(missing(name));
}

#endif							/* PACK_FIXTURE_H */
