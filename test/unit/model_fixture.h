/*
 * model_fixture.h: model folders for tests, made from g2_synth's.
 */
#ifndef MODEL_FIXTURE_H
#define MODEL_FIXTURE_H

#include "st_builder.h"

#include "layout.h"
#include "model.h"
#include "safetensors.h"
#include "synth.h"

/* Sizes that are no multiple of 48 or of 16. */
static const g2_synth_options small_model = {
	.n_layer = 2, .n_embd = 50, .n_head = 5, .n_ff = 101, .n_ctx = 7, .n_vocab = 257,
	.sigma = 0.5, .seed = 1,
};

/* A place with models/ and packs/ and the paths to them. */
typedef struct fixture
{
	char	   *root;
	char	   *models;
	char	   *packs;
	const char *directories[1];
	g2_model_paths paths;
} fixture;

static UNUSED void
fixture_open(fixture *f)
{
	f->root = tb_folder();
	f->models = strdup(tb_path(f->root, "models"));
	f->packs = strdup(tb_path(f->root, "packs"));
	assert_int_equal(mkdir(f->models, 0700), 0);
	f->directories[0] = f->models;
	f->paths = (g2_model_paths) {f->directories, 1, f->packs, 0};
}

static UNUSED void
fixture_close(fixture *f)
{
	free(f->models);
	free(f->packs);
	tb_remove(f->root);
}

/* models/name of the fixture; good for a few calls. */
static UNUSED const char *
fixture_folder(const fixture *f, const char *name)
{
	return tb_path(f->models, name);
}

static UNUSED void
fixture_synth(const fixture *f, const char *name, const g2_synth_options *options)
{
	g2_error	err;

	EXPECT_OK(g2_synth(fixture_folder(f, name), options, &err), err);
}

/* vocab.json with the 256 bytes and <|endoftext|> = 256; merges.txt with none. */
static UNUSED void
fixture_tokenizer(const char *folder)
{
	g2_buf		vocab = {0};
	int			other = 0;

	for (int b = 0; b < 256; b++)
	{
		bool		printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;

		g2_buf_printf(&vocab, "%c\"\\u%04x\":%d", b ? ',' : '{', printable ? b : 256 + other++,
					  b);
	}
	g2_buf_printf(&vocab, ",\"<|endoftext|>\":256}");
	tb_write(folder, "vocab.json", vocab.data, vocab.len);
	tb_text(folder, "merges.txt", "#version: 0.2\n");
	g2_buf_free(&vocab);
}

/* How a folder's weights are written again. */
typedef struct rewrite
{
	const char *dtype;			/* "F32", "F16", "BF16" */
	const char *prefix;			/* of all names but lm_head.weight */
	uint32_t	shards;			/* 0: one model.safetensors */
	const char *leave_out;		/* a tensor that is not written */
	const char *change;			/* a tensor whose shape or dtype is changed ... */
	const char *shape;			/* ... to this, without touching the data; NULL = as it is */
	const char *as_dtype;
	const char *spoil;			/* a tensor whose last element becomes an infinity */
	bool		masks;			/* adds attn.bias, attn.masked_bias with a NaN */
} rewrite;

/* Rounds towards zero; the tests only need values that both sides agree on. */
static UNUSED uint16_t
to_f16(float x)
{
	uint32_t	bits;
	int32_t		e;

	memcpy(&bits, &x, 4);
	e = (int32_t) (bits >> 23 & 255) - 112;
	if (e <= 0)
		return (uint16_t) (bits >> 16 & 0x8000);
	assert_true(e < 31);
	return (uint16_t) ((bits >> 16 & 0x8000) | (uint32_t) e << 10 | (bits >> 13 & 0x3FF));
}

static UNUSED void
rewrite_tensor(st_builder *b, const g2_safetensors *st, const g2_tensor *t, const rewrite *r)
{
	size_t		n = (size_t) (t->end - t->begin) / 4;
	const char *plain = strncmp(t->name, "transformer.", 12) == 0 ? t->name + 12 : t->name,
			   *dtype = r->dtype;
	float	   *x = malloc(n * 4);
	uint16_t   *half = malloc(n * 2);
	char		name[80],
				shape[64];
	g2_error	err;

	assert_true(x && half);
	EXPECT_OK(g2_safetensors_read(st, t, 0, n, x, &err), err);
	if (r->spoil && strcmp(r->spoil, plain) == 0)
		x[n - 1] = -1.0f / 0.0f;
	for (size_t i = 0; i < n; i++)
	{
		uint32_t	bits;

		memcpy(&bits, &x[i], 4);
		half[i] = dtype[0] == 'B' ? (uint16_t) (bits >> 16) : dtype[1] == '1' ? to_f16(x[i]) : 0;
	}
	snprintf(name, sizeof name, "%s%s", strcmp(plain, "lm_head.weight") == 0 ? "" : r->prefix,
			 plain);
	if (t->rank == 1)
		snprintf(shape, sizeof shape, "%" PRIu64, t->shape[0]);
	else
		snprintf(shape, sizeof shape, "%" PRIu64 ",%" PRIu64, t->shape[0], t->shape[1]);
	if (r->change && strcmp(r->change, plain) == 0)
	{
		if (r->shape)
			snprintf(shape, sizeof shape, "%s", r->shape);
		dtype = r->as_dtype ? r->as_dtype : dtype;
	}
	if (!r->leave_out || strcmp(r->leave_out, plain) != 0)
		stb_add(b, name, dtype, shape, r->dtype[1] == '3' ? (void *) x : (void *) half,
				n * (r->dtype[1] == '3' ? 4 : 2));
	free(x);
	free(half);
}

static UNUSED void
rewrite_masks(st_builder *b, const char *prefix)
{
	char		name[64];
	float		nan = __builtin_nanf("");

	snprintf(name, sizeof name, "%sh.0.attn.bias", prefix);
	stb_add(b, name, "BOOL", "1,1,2,2", "\1\0\1\1", 4);
	snprintf(name, sizeof name, "%sh.0.attn.masked_bias", prefix);
	stb_add(b, name, "F32", "", &nan, 4);
}

/* Writes from's weights into `to`, which gets from's config.json too. */
static UNUSED void
rewrite_model(const fixture *f, const char *from, const char *to, const rewrite *r)
{
	char	   *source = strdup(fixture_folder(f, from)),
			   *target = strdup(fixture_folder(f, to)),
			   *config;
	size_t		len;
	uint32_t	shards = r->shards ? r->shards : 1;
	g2_buf		index = {0};
	g2_safetensors *st;
	g2_error	err;

	assert_true(mkdir(target, 0700) == 0);
	config = tb_read(source, "config.json", &len);
	tb_write(target, "config.json", config, len);
	free(config);
	EXPECT_OK(g2_safetensors_open(source, "model.safetensors", &st, &err), err);
	g2_buf_printf(&index, "{\"metadata\":{\"total_size\":1},\"weight_map\":{");
	for (uint32_t s = 0; s < shards; s++)
	{
		st_builder	b = {0};
		char		name[64] = "model.safetensors";

		if (r->shards)
			snprintf(name, sizeof name, "model-%05u-of-%05u.safetensors", s + 1, shards);
		if (r->masks && s == 0)
			rewrite_masks(&b, r->prefix);
		for (uint32_t i = s; i < g2_safetensors_count(st); i += shards)
		{
			const g2_tensor *t = g2_safetensors_at(st, i);

			rewrite_tensor(&b, st, t, r);
			g2_buf_printf(&index, "%s\"%s\":\"%s\"", i == 0 ? "" : ",", t->name, name);
		}
		stb_save(&b, target, name);
	}
	g2_buf_printf(&index, "}}");
	if (r->shards)
		tb_write(target, "model.safetensors.index.json", index.data, index.len);
	g2_buf_free(&index);
	g2_safetensors_close(st);
	free(source);
	free(target);
}

#endif							/* MODEL_FIXTURE_H */
