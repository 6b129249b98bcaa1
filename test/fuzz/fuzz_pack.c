/*
 * fuzz_pack.c: any bytes as a packed file, without its checksums, so that what is behind them is
 * reached.  What is accepted is used: every tensor's first and last byte, weights, every text, the
 * tokenizer.
 */
#include <stdlib.h>

#include "pack.h"

static volatile char sink;

/* The last column of each matrix of the last layer, and of the head. */
static void
use_matrices(const g2_weights *w)
{
	const g2_layer *l = &w->layers[w->arch.n_layer - 1];
	const g2_matrix *const matrices[] = {&l->qkv, &l->attn_out, &l->ff_up, &l->ff_down, &w->head};

	for (size_t i = 0; i < G2_LENGTH(matrices); i++)
	{
		float	   *x = g2_alloc_array(matrices[i]->k, sizeof *x);

		if (x)
			g2_matrix_column(matrices[i], matrices[i]->n - 1, x);
		g2_free(x);
	}
}

static void
use(const g2_pack_view *v)
{
	g2_weights	w = {.arch = v->meta->arch};
	g2_tokenizer *tok;
	size_t		len;
	g2_error	err;

	for (uint32_t i = 0; i < v->layout.n; i++)
	{
		const char *p = v->weights + v->layout.tensor[i].offset;

		sink = p[0];
		sink = p[v->layout.tensor[i].bytes - 1];
	}
	w.layers = g2_alloc_array(w.arch.n_layer, sizeof *w.layers);
	if (w.layers)
	{
		g2_layout_bind(&v->layout, v->weights, &w);
		use_matrices(&w);
	}
	g2_free(w.layers);
	len = strlen(v->meta->architecture) + strlen(v->meta->tokenizer) + strlen(v->meta->folder);
	for (uint32_t i = 0; i < v->meta->n_warnings; i++)
		len += strlen(v->meta->warning[i]);
	for (uint32_t i = 0; i < v->header->n_files; i++)
		len += strlen(v->files[i].name);
	if (v->tasks)
		len += strlen(v->tasks);
	sink = (char) len;
	if (v->tokenizer && g2_tokenizer_open(v->tokenizer, (size_t) v->header->tokenizer_size, &tok,
										  &err))
	{
		g2_ids		ids = {0};

		g2_tokenizer_encode(tok, "a text, 12 \xC3\xA4", 12, 100, NULL, &ids, &err);
		g2_free(ids.data);
		g2_tokenizer_close(tok);
	}
}

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g2_pack_view view;
	g2_error	err = {0};
	void	   *page;

	/* aligned as a mapping is */
	if (posix_memalign(&page, 4096, size ? size : 1) != 0)
		return 0;
	memcpy(page, data, size);
	/* so that packs of older layouts go on being a start */
	if (size >= sizeof(g2_pack_header))
		((g2_pack_header *) page)->layout = G2_LAYOUT_ID;
	for (g2_format format = 0; format < G2_FORMATS; format++)
	{
		if (g2_pack_check(page, size, format, true, &view, &err))
		{
			use(&view);
			g2_layout_free(&view.layout);
		}
		else if (err.code == G2_OK)
			abort();
		if (g2_pack_check(page, size, format, false, &view, &err))
			g2_layout_free(&view.layout);
	}
	free(page);
	return 0;
}
