/*
 * test_pack_formats.c: packs in bf16, q8 and q4: every panel is what the quantizer makes of the
 * whole panel at once, wherever the groups of rows met, and of channels that were evened out; packs
 * of several formats beside each other.
 */
#include "pack_fixture.h"

#include "quantize.h"

#include <fcntl.h>
#include <math.h>

static const g2_format formats[] = {G2_FORMAT_BF16, G2_FORMAT_Q8, G2_FORMAT_Q4};

static g2_pack *
open_format(const char *name, g2_format format)
{
	g2_pack    *pack = NULL;
	g2_error	err = {0};

	EXPECT_OK(g2_pack_open(&fx.paths, name, format, NULL, NULL, &pack, &err), err);
	EXPECT_OK(g2_pack_verify(pack, &err), err);
	assert_int_equal(pack->weights.format, format);
	return pack;
}

static bool
format_missing(const char *name, g2_format format, uint64_t *bytes)
{
	return g2_pack_missing(&fx.paths, name, format, bytes);
}

/* ---- panels ---- */

/* The panel in the pack against its columns of the source, x: [n][k] (by_rows) or [k][n]. */
static void
check_panel(const g2_matrix *m, uint32_t panel, const float *x, bool by_rows,
			const float *importance)
{
	uint32_t	k_padded = G2_ROUND_UP(m->k, G2_GROUP);
	size_t		bytes = g2_panel_bytes(m->format, m->k);
	const char *packed = (const char *) m->data + panel * bytes;
	float	   *w = calloc((size_t) k_padded * G2_PANEL, sizeof *w);
	char	   *want = calloc(1, g2_panel_bytes(m->format, k_padded));

	assert_true(w && want);
	for (uint32_t k = 0; k < m->k; k++)
		for (uint32_t c = 0; c < G2_PANEL && panel * G2_PANEL + c < m->n; c++)
		{
			size_t		n = panel * G2_PANEL + c;

			w[k * G2_PANEL + c] = by_rows ? x[n * m->k + k] : x[k * m->n + n];
		}
	g2_quantize(m->format, w, k_padded, importance, want,
				(uint16_t *) (want + g2_panel_scales(m->format, k_padded)));
	assert_memory_equal(packed, want, bytes);
	free(w);
	free(want);
}

static void
check_panels(const g2_matrix *m, g2_format format, const float *x, size_t n, bool by_rows,
			 const float *importance)
{
	compared += n;
	assert_int_equal(n, (size_t) m->k * m->n);
	assert_int_equal(m->format, format);
	assert_int_equal((uintptr_t) m->data % 64, 0);
	for (uint32_t p = 0; p < m->n_padded / G2_PANEL; p++)
		check_panel(m, p, x, by_rows, importance);
}

static void
check_matrix(const g2_source *source, const char *name, const g2_matrix *m, g2_format format,
			 bool by_rows)
{
	size_t		n;
	float	   *x = source_tensor(source, name, &n);

	check_panels(m, format, x, n, by_rows, NULL);
	free(x);
}

/* ---- a norm and the matrix behind it ---- */

static uint32_t shifted;		/* channels that were evened out so far */

static int
compare_doubles(const void *a, const void *b)
{
	return *(const double *) a < *(const double *) b ? -1 : *(const double *) a >
		*(const double *) b;
}

/* Evens out k channels, by logarithms. */
static void
even_out(float *gain, float *bias, float *x, uint32_t k, uint32_t n)
{
	double	   *size = calloc(k, sizeof *size),
			   *sorted = calloc(k, sizeof *sorted);

	assert_true(size && sorted);
	for (uint32_t i = 0; i < k; i++)
	{
		double		sum = 0;

		for (uint32_t j = 0; j < n; j++)
			sum += pow(x[(size_t) i * n + j], 2);
		sorted[i] = size[i] = log2((pow(gain[i], 2) + pow(bias[i], 2)) / sum) / 2;
	}
	qsort(sorted, k, sizeof *sorted, compare_doubles);
	for (uint32_t i = 0; i < k; i++)
	{
		double		excess = size[i] - sorted[k / 2];
		int			shift = fabs(excess) < 3 ? 0 : (int) lround(excess / 2);

		shifted += shift != 0;
		gain[i] = ldexpf(gain[i], -shift);
		bias[i] = ldexpf(bias[i], -shift);
		for (uint32_t j = 0; j < n; j++)
			x[(size_t) i * n + j] = ldexpf(x[(size_t) i * n + j], shift);
	}
	free(size);
	free(sorted);
}

static void
check_behind_norm(const g2_source *source, const char *norm, const char *matrix,
				  const float *packed_gain, const float *packed_bias, const g2_matrix *m,
				  g2_format format)
{
	const uint32_t k = m->k;
	char		name[64];
	size_t		n;
	float	   *gain = source_tensor(source, (snprintf(name, 64, "%s.weight", norm), name), &n),
			   *bias = source_tensor(source, (snprintf(name, 64, "%s.bias", norm), name), &n),
			   *x = source_tensor(source, matrix, &n),
			   *importance = calloc(G2_ROUND_UP(k, G2_GROUP), sizeof *importance);

	assert_non_null(importance);
	if (format != G2_FORMAT_BF16)
		even_out(gain, bias, x, k, m->n);
	for (uint32_t i = 0; i < k; i++)
		importance[i] = gain[i] * gain[i] + bias[i] * bias[i];
	assert_memory_equal(packed_gain, gain, k * sizeof *gain);
	assert_memory_equal(packed_bias, bias, k * sizeof *bias);
	compared += 2 * k;
	check_panels(m, format, x, n, false, importance);
	free(gain);
	free(bias);
	free(x);
	free(importance);
}

static void
check_layer(const g2_source *source, const g2_layer *l, uint32_t number, g2_format format)
{
	char		name[64],
				norm[64];

#define NAME(s) (snprintf(name, sizeof name, "h.%u.%s", number, s), name)
#define NORM(s) (snprintf(norm, sizeof norm, "h.%u.%s", number, s), norm)
	check_behind_norm(source, NORM("ln_1"), NAME("attn.c_attn.weight"), l->norm1_gain,
					  l->norm1_bias, &l->qkv, format);
	same_vector(source, NAME("attn.c_attn.bias"), l->qkv_bias, l->qkv.n_padded);
	check_matrix(source, NAME("attn.c_proj.weight"), &l->attn_out, format, false);
	same_vector(source, NAME("attn.c_proj.bias"), l->attn_out_bias, l->attn_out.n_padded);
	check_behind_norm(source, NORM("ln_2"), NAME("mlp.c_fc.weight"), l->norm2_gain,
					  l->norm2_bias, &l->ff_up, format);
	same_vector(source, NAME("mlp.c_fc.bias"), l->ff_up_bias, l->ff_up.n_padded);
	check_matrix(source, NAME("mlp.c_proj.weight"), &l->ff_down, format, false);
	same_vector(source, NAME("mlp.c_proj.bias"), l->ff_down_bias, l->ff_down.n_padded);
#undef NAME
#undef NORM
}

static void
check_weights(const g2_pack *pack, const char *folder)
{
	const g2_weights *w = &pack->weights;
	g2_format	outer = w->format == G2_FORMAT_Q4 ? G2_FORMAT_Q8 : w->format;
	g2_layout	layout;
	g2_source	source;
	g2_error	err;

	compared = 0;
	EXPECT_OK(g2_layout_make(&w->arch, w->format, &layout, &err), err);
	EXPECT_OK(g2_source_open(folder, &layout, &source, &err), err);
	check_matrix(&source, "wte.weight", &w->embed, outer, true);
	same_vector(&source, "wpe.weight", w->positions, (size_t) w->arch.n_ctx * w->arch.n_embd);
	for (uint32_t l = 0; l < w->arch.n_layer; l++)
		check_layer(&source, &w->layers[l], l, w->format);
	same_vector(&source, "ln_f.weight", w->norm_gain, w->arch.n_embd);
	same_vector(&source, "ln_f.bias", w->norm_bias, w->arch.n_embd);
	if (w->arch.tied_head)
		assert_ptr_equal(w->head.data, w->embed.data);
	else
		check_matrix(&source, "lm_head.weight", &w->head, outer, true);
	assert_int_equal(compared, pack->description.parameters);
	g2_source_close(&source);
	g2_layout_free(&layout);
}

static void
check_formats(const char *name)
{
	for (size_t i = 0; i < G2_LENGTH(formats); i++)
	{
		uint64_t	bytes;
		g2_pack    *pack;

		assert_true(format_missing(name, formats[i], &bytes));
		pack = open_format(name, formats[i]);
		assert_true(bytes > 0 && bytes < pack->bytes);
		assert_false(format_missing(name, formats[i], &bytes));
		check_weights(pack, fixture_folder(&fx, name));
		g2_pack_close(pack);
	}
}

/* k and n that are no multiples of 2, 32 or 48; of all of them; of one. */
static void
test_sizes(void **state)
{
	g2_synth_options o = small_model;

	(void) state;
	fixture_synth(&fx, "tied", &o);
	o.untied = o.prefix = true;
	o.n_embd = 55;
	fixture_synth(&fx, "untied", &o);
	o.n_embd = 96;
	o.n_head = 2;
	o.n_ff = 192;
	o.n_vocab = 96;
	fixture_synth(&fx, "even", &o);
	o.n_head = o.n_embd = o.n_ff = o.n_ctx = o.n_vocab = 1;
	fixture_synth(&fx, "one", &o);
	check_formats("tied");
	check_formats("untied");
	assert_true(shifted > 0);
	check_formats("even");
	check_formats("one");
}

/* Matrices of several groups of rows, in 16 bits and in shards; gains near 0 among them. */
static void
test_groups(void **state)
{
	g2_synth_options o = {
		.n_layer = 1, .n_embd = 1100, .n_head = 11, .n_ff = 1300, .n_ctx = 10,
		.n_vocab = 1001, .sigma = 0.5, .seed = 3,
	};

	(void) state;
	shifted = 0;
	fixture_synth(&fx, "groups", &o);
	rewrite_model(&fx, "groups", "half", &(rewrite) {.dtype = "BF16", .prefix = "", .shards = 3});
	check_formats("groups");
	check_formats("half");
	assert_true(shifted > 0);
}

static void
test_not_finite(void **state)
{
	static const char *const spoiled[] = {
		"wte.weight", "h.1.mlp.c_proj.weight", "h.0.ln_1.bias", "h.1.attn.c_attn.bias",
	};

	(void) state;
	fixture_synth(&fx, "good", &small_model);
	for (size_t i = 0; i < G2_LENGTH(spoiled); i++)
		for (size_t f = 0; f < G2_LENGTH(formats); f++)
		{
			char		name[16];
			g2_pack    *pack;
			g2_error	err = {0};

			snprintf(name, sizeof name, "bad%zu%zu", i, f);
			rewrite_model(&fx, "good", name,
						  &(rewrite) {.dtype = "F32", .prefix = "", .spoil = spoiled[i]});
			assert_false(g2_pack_open(&fx.paths, name, formats[f], NULL, NULL, &pack, &err));
			EXPECT_ERROR(err, G2_E_BAD_FILE, "is infinite");
			assert_non_null(strstr(err.message, spoiled[i]));
		}
	assert_int_equal(tb_count(fx.packs), 0);
}

/* ---- several packs of one model ---- */

static void
test_side_by_side(void **state)
{
	g2_pack    *packs[G2_FORMATS];
	uint64_t	bytes;

	(void) state;
	fixture_synth(&fx, "m", &small_model);
	for (g2_format f = 0; f < G2_FORMATS; f++)
	{
		char		part[16];

		packs[f] = open_format("m", f);
		snprintf(part, sizeof part, "/m-%s-", g2_format_name(f));
		assert_non_null(strstr(packs[f]->path, part));
		assert_string_equal(packs[f]->content_hash, packs[0]->content_hash);
		assert_true(f == 0 || packs[f]->bytes < packs[f - 1]->bytes);
	}
	assert_int_equal(tb_count(fx.packs), G2_FORMATS);
	for (g2_format f = 0; f < G2_FORMATS; f++)
		assert_false(format_missing("m", f, &bytes));
	/* all of them are of no use once the model has changed, and go with the next one made */
	tb_text(fixture_folder(&fx, "m"), "generation_config.json", "{}");
	for (g2_format f = 0; f < G2_FORMATS; f++)
	{
		assert_true(format_missing("m", f, &bytes));
		g2_pack_close(packs[f]);
	}
	g2_pack_close(open_format("m", G2_FORMAT_Q8));
	assert_int_equal(tb_count(fx.packs), 1);
}

/* A pack of one format in the place of another, and one of an older layout: packed again. */
static void
test_other_packs(void **state)
{
	char	   *q8;
	uint64_t	bytes;
	uint32_t	layout = 1;
	int			fd;
	g2_pack    *pack;

	(void) state;
	fixture_synth(&fx, "m", &small_model);
	pack = open_format("m", G2_FORMAT_Q8);
	q8 = strdup(pack->path);
	g2_pack_close(pack);
	pack = open_format("m", G2_FORMAT_Q4);
	assert_int_equal(rename(pack->path, q8), 0);
	g2_pack_close(pack);
	assert_true(format_missing("m", G2_FORMAT_Q8, &bytes));
	pack = open_format("m", G2_FORMAT_Q8);
	check_weights(pack, fixture_folder(&fx, "m"));
	g2_pack_close(pack);
	fd = open(q8, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, &layout, 4, offsetof(g2_pack_header, layout)), 4);
	close(fd);
	assert_true(format_missing("m", G2_FORMAT_Q8, &bytes));
	pack = open_format("m", G2_FORMAT_Q8);
	check_weights(pack, fixture_folder(&fx, "m"));
	g2_pack_close(pack);
	assert_int_equal(tb_count(fx.packs), 1);
	free(q8);
}

/* Any byte of the header's page or the description but padding; any length. */
static void
test_damage(void **state)
{
	(void) state;
	fixture_synth(&fx, "m", &small_model);
	for (size_t i = 0; i < G2_LENGTH(formats); i++)
	{
		g2_pack    *pack = open_format("m", formats[i]);
		uint64_t	bytes = pack->bytes,
					ignored;
		char	   *path = strdup(pack->path);

		g2_pack_close(pack);
		for (off_t at = 0; at < 8192; at += at < 320 ? 7 : 211)
		{
			int			fd = open(path, O_RDWR);
			char		c;

			assert_int_equal(pread(fd, &c, 1, at), 1);
			c ^= 0x40;
			assert_int_equal(pwrite(fd, &c, 1, at), 1);
			close(fd);
			assert_true(format_missing("m", formats[i], &ignored));
			g2_pack_close(open_format("m", formats[i]));
		}
		for (uint64_t len = 0; len < bytes; len = len * 5 + 7)
		{
			assert_int_equal(truncate(path, (off_t) len), 0);
			assert_true(format_missing("m", formats[i], &ignored));
			g2_pack_close(open_format("m", formats[i]));
		}
		free(path);
	}
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_sizes),
		TEST(test_groups),
		TEST(test_not_finite),
		TEST(test_side_by_side),
		TEST(test_other_packs),
		TEST(test_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
