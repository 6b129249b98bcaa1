/*
 * product.c: matrix products of training.
 *
 * Kernels read b in panels and a in rows; so b is packed, and a where it is transposed, a chunk of k
 * at a time.  A task makes one tile of c and packs what it needs, unless several tiles need the same
 * and a chunk of the operand is small: then all threads pack it before.
 */
#include "product.h"

#include "../engine/kernels.h"

#define CHUNK G2T_PRODUCT_CHUNK
#define SPAN (6 * CHUNK)		/* of k: what the tiles together work on at a time */
#define TILE_ROWS 1024			/* at most */
#define TILE_PANELS 8
#define PACKED_ROWS 256			/* the same where each task packs its part of a */
#define PACKED_PANELS 16
#define LEAST_TILES 16			/* of a product, unless they would be tiny */
#define LEAST_ROWS 64
#define SHARED_FLOATS (3072 * CHUNK)	/* of an operand that is packed before */
#define SHARED_ROWS 64			/* that a task packs */

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
	size_t		span;
	float	   *panels;			/* [panel][k][48], packed before; or NULL */
	float	   *rows;			/* [m][k], packed before; or NULL */
	size_t		tile_rows;
	size_t		tile_columns;
	size_t		tiles_across;
	uint32_t	tiles;
} product;

/* A thread's memory for a chunk of a tile. */
typedef struct packed
{
	float		panels[PACKED_PANELS * CHUNK * G2_PANEL];	/* [panel][k][48] */
	float		rows[PACKED_ROWS * CHUNK];	/* [row][k] */
	float		edge[G2_PRODUCT_ROWS * G2_PANEL];	/* of c, where its last panel is not whole */
	float		sums[G2_PRODUCT_SCRATCH];	/* the kernel's */
} packed;

size_t
g2t_product_scratch(void)
{
	return sizeof(packed) / sizeof(float);
}

size_t
g2t_product_shared(void)
{
	return 2 * SHARED_FLOATS;
}

static size_t
panels_of(size_t columns)
{
	return (columns + G2_PANEL - 1) / G2_PANEL;
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
		for (size_t j = 0; j < columns; j += 16)
			__builtin_prefetch(from + 8 * ld + j);
		for (size_t j = 0; j < whole; j++)
			memcpy(to + j * k * G2_PANEL, from + j * G2_PANEL, G2_PANEL * sizeof(float));
		memcpy(to + whole * k * G2_PANEL, from + whole * G2_PANEL, rest * sizeof(float));
	}
}

/* to[rows][k] of an a that is transposed. */
static void
pack_rows(const product *p, size_t k0, size_t k, size_t row, size_t rows, float *to)
{
	p->context->kernels->transpose(k, rows, operand_at(&p->a, row, k0), p->a.ld, to, k);
}

/* Of what is packed before, one panel or SHARED_ROWS rows. */
static void
run_pack(void *arg, uint32_t task, uint32_t thread)
{
	const product *p = arg;
	size_t		k = G2_MIN(p->k - p->k0, (size_t) CHUNK),
				panels = p->panels ? panels_of(p->n) : 0,
				at;

	(void) thread;
	if (task < panels)
	{
		at = (size_t) task * G2_PANEL;
		pack_panels(p, p->k0, k, at, G2_MIN(p->n - at, (size_t) G2_PANEL), p->panels + at * k);
		return;
	}
	at = (task - panels) * SHARED_ROWS;
	pack_rows(p, p->k0, k, at, G2_MIN(p->m - at, (size_t) SHARED_ROWS), p->rows + at * k);
}

/* The last panel of a tile, when it is not whole: the kernel has a copy of c's columns. */
static void
run_edge(const product *p, const g2_product *tile, size_t rows, size_t columns, packed *s)
{
	g2_product	q = *tile;
	float		bias[G2_PANEL] = {0};
	size_t		rest = columns % G2_PANEL,
				at = columns - rest;

	q.w = (const float *) tile->w + at * q.k;
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
	g2_product	q = {
		.w = p->panels ? p->panels + column * k : s->panels, .k = (uint32_t) k,
		.activation = G2_NO_ACTIVATION, .y = p->c + row * p->ldc + column, .ldy = p->ldc,
	};

	if (!p->panels)
		pack_panels(p, k0, k, column, columns, s->panels);
	if (!p->a.transposed)
		q.x = (g2_operand) {.x = (void *) (uintptr_t) operand_at(&p->a, row, k0), .ld = p->a.ld};
	else
		q.x = (g2_operand) {.x = p->rows ? p->rows + row * k : s->rows, .ld = k};
	if (p->a.transposed && !p->rows)
		pack_rows(p, k0, k, row, rows, s->rows);
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

	for (size_t k = p->k0; k < p->k && k < p->k0 + p->span; k += CHUNK)
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
	const size_t k = G2_MIN(p->k, (size_t) CHUNK);
	float	   *shared = p->context->shared;
	bool		packs = p->a.transposed && p->m * k > SHARED_FLOATS;
	size_t		rows = packs ? PACKED_ROWS : TILE_ROWS,
				panels = packs ? PACKED_PANELS : TILE_PANELS;

	cut_into(p, rows, panels);
	while (p->tiles < LEAST_TILES && (panels > 1 || rows > LEAST_ROWS))
	{
		if (panels > 1)
			panels /= 2;
		else
			rows /= 2;
		cut_into(p, rows, panels);
	}
	if (p->tiles > p->tiles_across && panels_of(p->n) * G2_PANEL * k <= SHARED_FLOATS)
		p->panels = shared;
	if (p->a.transposed && !packs)
		p->rows = shared + SHARED_FLOATS;
	p->span = p->panels || p->rows ? CHUNK : SPAN;
}

void
g2t_multiply(const g2t_context *context, size_t m, size_t n, size_t k, g2t_operand a,
			 g2t_operand b, const float *bias, bool add, float *c, size_t ldc)
{
	product		p = {.context = context, .m = m, .n = n, .k = k, .a = a, .b = b, .bias = bias,
	.add = add, .c = c, .ldc = ldc};
	size_t		packs;

	cut(&p);
	packs = (p.panels ? panels_of(n) : 0) + (p.rows ? (m + SHARED_ROWS - 1) / SHARED_ROWS : 0);
	for (; p.k0 < k; p.k0 += p.span)
	{
		g2_pool_run(context->pool, (uint32_t) packs, run_pack, &p);
		g2_pool_run(context->pool, p.tiles, run_tile, &p);
	}
}

void
g2t_multiply_here(const g2t_context *context, uint32_t thread, size_t m, size_t n, size_t k,
				  g2t_operand a, g2t_operand b, bool add, float *c, size_t ldc)
{
	product		p = {.context = context, .m = m, .n = n, .k = k, .a = a, .b = b, .add = add,
	.c = c, .ldc = ldc, .span = k};

	cut_into(&p, PACKED_ROWS, PACKED_PANELS);
	for (uint32_t i = 0; i < p.tiles; i++)
		run_tile(&p, i, thread);
}
