/*
 * product.c: matrix products of training.
 *
 * A task makes one tile of c.  For each chunk of k it packs its part of b into the panels that the
 * kernels read, and its part of a, where that is transposed, into rows.
 */
#include "product.h"

#include "../engine/kernels.h"

#define CHUNK G2T_PRODUCT_CHUNK
#define SPAN (6 * CHUNK)		/* of k: what the tiles together work on at a time */
#define TILE_ROWS 1024			/* at most */
#define TRANSPOSED_ROWS 256		/* the same where a is transposed */
#define TILE_PANELS 8			/* at most */
#define LEAST_TILES 16			/* of a product, unless they would be tiny */
#define LEAST_ROWS 64

typedef struct product
{
	const g2t_context *context;
	size_t		m,
				n,
				k;
	g2t_operand a,
				b;
	const float *bias;
	bool		add;
	float	   *c;
	size_t		ldc;
	size_t		k0;				/* of the span */
	size_t		tile_rows;
	size_t		tile_columns;
	size_t		tiles_across;
	uint32_t	tiles;
} product;

/* A thread's memory for a chunk of a tile. */
typedef struct packed
{
	float		panels[TILE_PANELS * CHUNK * G2_PANEL]; /* [panel][k][48] */
	float		rows[TRANSPOSED_ROWS * CHUNK];	/* [row][k] */
	float		edge[G2_PRODUCT_ROWS * G2_PANEL];	/* of c, where its last panel is not whole */
	float		sums[G2_PRODUCT_SCRATCH];	/* the kernel's */
} packed;

size_t
g2t_product_scratch(void)
{
	return sizeof(packed) / sizeof(float);
}

static const float *
operand_at(const g2t_operand *x, size_t row, size_t column)
{
	return x->transposed ? x->data + column * x->ld + row : x->data + row * x->ld + column;
}

/* to[k][48] of each panel; in the last one's missing columns are zeros, or what was there. */
static void
pack_panels(const product *p, size_t k0, size_t k, size_t column, size_t columns, float *to)
{
	const float *from = operand_at(&p->b, k0, column);
	size_t		ld = p->b.ld,
				whole = columns / G2_PANEL,
				rest = columns % G2_PANEL;

	if (p->b.transposed)
	{
		for (size_t j = 0; j < columns; j += G2_PANEL)
			p->context->kernels->transpose(G2_MIN(columns - j, (size_t) G2_PANEL), k,
										   from + j * ld, ld, to + j * k, G2_PANEL);
		return;
	}
	/* Row by row, as it lies in memory. */
	for (size_t i = 0; i < k; i++, from += ld, to += G2_PANEL)
	{
		for (size_t j = 0; j < whole; j++)
			memcpy(to + j * k * G2_PANEL, from + j * G2_PANEL, G2_PANEL * sizeof(float));
		memcpy(to + whole * k * G2_PANEL, from + whole * G2_PANEL, rest * sizeof(float));
	}
}

/* The last panel of a tile, when it is not whole: the kernel has a copy of c's columns. */
static void
run_edge(const product *p, const g2_product *tile, size_t rows, size_t columns, packed *s)
{
	g2_product	q = *tile;
	float		bias[G2_PANEL] = {0};
	size_t		rest = columns % G2_PANEL,
				at = columns - rest;

	q.w = s->panels + at * q.k;
	q.y = s->edge;
	q.ldy = q.ldr = G2_PANEL;
	if (q.bias)
		q.bias = memcpy(bias, q.bias + at, rest * sizeof(float));
	for (size_t row = 0; row < rows; row += G2_PRODUCT_ROWS)
	{
		size_t		n = G2_MIN(rows - row, (size_t) G2_PRODUCT_ROWS);
		float	   *c = tile->y + row * p->ldc + at;

		q.x.x = (float *) tile->x.x + row * q.x.ld;
		if (q.residual)
		{
			for (size_t r = 0; r < n; r++)
				memcpy(s->edge + r * G2_PANEL, c + r * p->ldc, rest * sizeof(float));
			q.residual = s->edge;
		}
		p->context->products->product[G2_FORMAT_F32] (&q, 0, 1, 0, (uint32_t) n, s->sums);
		for (size_t r = 0; r < n; r++)
			memcpy(c + r * p->ldc, s->edge + r * G2_PANEL, rest * sizeof(float));
	}
}

static void
run_chunk(const product *p, size_t row, size_t rows, size_t column, size_t columns, size_t k0,
		  packed *s)
{
	size_t		k = G2_MIN(p->k - k0, (size_t) CHUNK);
	const float *a = operand_at(&p->a, row, k0);
	g2_product	q = {
		.w = s->panels, .k = (uint32_t) k, .activation = G2_NO_ACTIVATION,
		.y = p->c + row * p->ldc + column, .ldy = p->ldc,
	};

	pack_panels(p, k0, k, column, columns, s->panels);
	if (p->a.transposed)
	{
		p->context->kernels->transpose(k, rows, a, p->a.ld, s->rows, k);
		q.x = (g2_operand) {.x = s->rows, .ld = k};
	}
	else
		q.x = (g2_operand) {.x = (void *) (uintptr_t) a, .ld = p->a.ld};
	if (k0 == 0 && p->bias)
		q.bias = p->bias + column;
	if (k0 > 0 || p->add)
	{
		q.residual = q.y;
		q.ldr = p->ldc;
	}
	p->context->products->product[G2_FORMAT_F32] (&q, 0, (uint32_t) (columns / G2_PANEL), 0,
												  (uint32_t) rows, s->sums);
	if (columns % G2_PANEL)
		run_edge(p, &q, rows, columns, s);
}

static void
run_tile(void *arg, uint32_t task, uint32_t thread)
{
	const product *p = arg;
	size_t		row = task / p->tiles_across * p->tile_rows,
				column = task % p->tiles_across * p->tile_columns;

	for (size_t k = p->k0; k < p->k && k < p->k0 + SPAN; k += CHUNK)
		run_chunk(p, row, G2_MIN(p->m - row, p->tile_rows), column,
				  G2_MIN(p->n - column, p->tile_columns), k,
				  (packed *) (void *) p->context->packed[thread]);
}

static void
cut_into(product *p, size_t rows, size_t panels)
{
	size_t		down = (p->m + rows - 1) / rows;

	p->tile_rows = G2_ROUND_UP((p->m + down - 1) / down, (size_t) 8);
	p->tile_columns = panels * G2_PANEL;
	p->tiles_across = (p->n + p->tile_columns - 1) / p->tile_columns;
	p->tiles = (uint32_t) ((p->m + p->tile_rows - 1) / p->tile_rows * p->tiles_across);
}

/* Large tiles pack less; several threads need several.  By the shape alone. */
static void
cut(product *p)
{
	size_t		rows = p->a.transposed ? TRANSPOSED_ROWS : TILE_ROWS,
				panels = TILE_PANELS;

	cut_into(p, rows, panels);
	while (p->tiles < LEAST_TILES && (panels > 1 || rows > LEAST_ROWS))
	{
		if (panels > 1)
			panels /= 2;
		else
			rows /= 2;
		cut_into(p, rows, panels);
	}
}

void
g2t_multiply(const g2t_context *context, size_t m, size_t n, size_t k, g2t_operand a,
			 g2t_operand b, const float *bias, bool add, float *c, size_t ldc)
{
	product		p = {.context = context, .m = m, .n = n, .k = k, .a = a, .b = b, .bias = bias,
	.add = add, .c = c, .ldc = ldc};

	cut(&p);
	for (; p.k0 < k; p.k0 += SPAN)
		g2_pool_run(context->pool, p.tiles, run_tile, &p);
}

void
g2t_multiply_here(const g2t_context *context, uint32_t thread, size_t m, size_t n, size_t k,
				  g2t_operand a, g2t_operand b, bool add, float *c, size_t ldc)
{
	product		p = {.context = context, .m = m, .n = n, .k = k, .a = a, .b = b, .add = add,
	.c = c, .ldc = ldc};

	cut_into(&p, TRANSPOSED_ROWS, TILE_PANELS);
	for (; p.k0 < k; p.k0 += SPAN)
		for (uint32_t i = 0; i < p.tiles; i++)
			run_tile(&p, i, thread);
}
