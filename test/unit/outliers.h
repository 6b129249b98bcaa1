/*
 * outliers.h: a model whose norms have channels far larger or smaller than the others, by powers of
 * two, and that computes the same as the model that it was made from.
 */
#ifndef OUTLIERS_H
#define OUTLIERS_H

#include "model_fixture.h"

#include <fcntl.h>

static UNUSED const g2_synth_options plain_model = {
	.n_layer = 2, .n_embd = 96, .n_head = 4, .n_ff = 200, .n_ctx = 8, .n_vocab = 60,
	.sigma = 0.05, .seed = 8,
};

/* Multiplies n elements of a tensor in the folder's file. */
static UNUSED void
multiply(const char *folder, const char *name, uint64_t begin, uint64_t n, float factor)
{
	g2_safetensors *st;
	const g2_tensor *t;
	g2_error	err = {0};
	int			fd = open(tb_path(folder, "model.safetensors"), O_RDWR);

	EXPECT_OK(g2_safetensors_open(folder, "model.safetensors", &st, &err), err);
	t = g2_safetensors_find(st, name);
	assert_true(t && fd >= 0);
	for (uint64_t i = begin; i < begin + n; i++)
	{
		float		x;
		off_t		at = (off_t) (t->begin + i * sizeof x);

		assert_int_equal(pread(fd, &x, sizeof x, at), sizeof x);
		x *= factor;
		assert_int_equal(pwrite(fd, &x, sizeof x, at), sizeof x);
	}
	close(fd);
	g2_safetensors_close(st);
}

static UNUSED void
make_outlier(const char *folder, uint32_t layer, const char *norm, const char *matrix,
			 uint32_t channel, float factor)
{
	uint64_t	n = strcmp(norm, "ln_1") == 0 ? 3 * 96 : 200;
	char		name[64];

	snprintf(name, sizeof name, "h.%u.%s.weight", layer, norm);
	multiply(folder, name, channel, 1, factor);
	snprintf(name, sizeof name, "h.%u.%s.bias", layer, norm);
	multiply(folder, name, channel, 1, factor);
	snprintf(name, sizeof name, "h.%u.%s.weight", layer, matrix);
	multiply(folder, name, channel * n, n, 1 / factor);
}

/* A model of outliers, by powers of two. */
static UNUSED void
make_outliers(const fixture *f, const char *from, const char *to)
{
	char	   *folder = strdup(fixture_folder(f, to));

	rewrite_model(f, from, to, &(rewrite) {.dtype = "F32", .prefix = ""});
	make_outlier(folder, 0, "ln_1", "attn.c_attn", 0, 32);
	make_outlier(folder, 0, "ln_1", "attn.c_attn", 95, 16);
	make_outlier(folder, 1, "ln_1", "attn.c_attn", 40, 1.0f / 64);
	make_outlier(folder, 1, "ln_2", "mlp.c_fc", 7, 128);
	free(folder);
}

#endif							/* OUTLIERS_H */
