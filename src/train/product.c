/*
 * product.c: matrix products of training.
 */
#include "product.h"

#include <cblas.h>

/*
 * A tile is large enough that packing its operands costs little, and there are enough of them to
 * keep some threads busy.  Measured with `gpt2_train bench`.
 */
#define TILE_ROWS 256
#define TILE_COLUMNS 384
#define SMALL_TILE_COLUMNS 192
#define FEW_TILES 16

typedef struct product
{
	size_t		m,
				n,
				k;
	g2t_operand a,
				b;
	const float *bias;
	bool		add;
	float	   *c;
	size_t		ldc;
	size_t		tile_columns;
	size_t		tiles_across;
} product;

static const float *
operand_at(const g2t_operand *x, size_t row, size_t column)
{
	return x->transposed ? x->data + column * x->ld + row : x->data + row * x->ld + column;
}

/* OpenBLAS's own threads would cut a product in a way that depends on how many there are.  Its
 * builds with OpenMP keep that number for each thread that calls. */
static void
use_this_thread_alone(void)
{
	static _Thread_local bool told;

	if (!told)
		openblas_set_num_threads(1);
	told = true;
}

void
g2t_multiply_here(size_t m, size_t n, size_t k, float alpha, g2t_operand a, g2t_operand b,
				  bool add, float *c, size_t ldc)
{
	use_this_thread_alone();
	cblas_sgemm(CblasRowMajor, a.transposed ? CblasTrans : CblasNoTrans,
				b.transposed ? CblasTrans : CblasNoTrans, (int) m, (int) n, (int) k, alpha, a.data,
				(int) a.ld, b.data, (int) b.ld, add ? 1.0f : 0.0f, c, (int) ldc);
}

static void
run_tile(void *arg, uint32_t task, uint32_t thread)
{
	const product *p = arg;
	size_t		row = task / p->tiles_across * TILE_ROWS,
				column = task % p->tiles_across * p->tile_columns,
				rows = G2_MIN(p->m - row, (size_t) TILE_ROWS),
				columns = G2_MIN(p->n - column, p->tile_columns);
	float	   *c = p->c + row * p->ldc + column;

	(void) thread;
	if (p->bias)
		for (size_t r = 0; r < rows; r++)
			memcpy(c + r * p->ldc, p->bias + column, columns * sizeof(float));
	g2t_multiply_here(rows, columns, p->k, 1.0f,
					  (g2t_operand) {operand_at(&p->a, row, 0), p->a.ld, p->a.transposed},
					  (g2t_operand) {operand_at(&p->b, 0, column), p->b.ld, p->b.transposed},
					  p->add || p->bias, c, p->ldc);
}

void
g2t_multiply(const g2t_context *context, size_t m, size_t n, size_t k, g2t_operand a,
			 g2t_operand b, const float *bias, bool add, float *c, size_t ldc)
{
	product		p = {.m = m, .n = n, .k = k, .a = a, .b = b, .bias = bias, .add = add, .c = c,
	.ldc = ldc, .tile_columns = TILE_COLUMNS};
	size_t		down = (m + TILE_ROWS - 1) / TILE_ROWS;

	if (down * ((n + TILE_COLUMNS - 1) / TILE_COLUMNS) < FEW_TILES)
		p.tile_columns = SMALL_TILE_COLUMNS;
	p.tiles_across = (n + p.tile_columns - 1) / p.tile_columns;
	g2_pool_run(context->pool, (uint32_t) (down * p.tiles_across), run_tile, &p);
}
