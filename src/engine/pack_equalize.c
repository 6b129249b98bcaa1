/*
 * pack_equalize.c: a few channels behind a layer norm may be far larger than the others, and the
 * weights that read them smaller: in 8 or 4 bits each side then spoils the groups of 32 in which it
 * stands, as these have one scale.  Gain and bias of such channels are divided by a power of two
 * and the matrix's rows are multiplied by it: without quantization the same bits come out, and f32
 * and bf16, which lose nothing, are left alone.
 *
 * How large a channel is follows from the source: the norm's output has mean square
 * gain^2 + bias^2 there.  So norms and the matrices behind them are read before the pass over the
 * source, whose order of tensors is anybody's; the check that the source is still what it was
 * covers both readings.
 */
#include "pack_equalize.h"

#include <math.h>
#include <stdlib.h>

#include "bf16.h"

#define EQUALIZE_READ (1u << 18)	/* elements read at a time */

/* ---- one norm ---- */

static int
compare_doubles(const void *a, const void *b)
{
	const double x = *(const double *) a,
				y = *(const double *) b;

	return (x > y) - (x < y);
}

/* ratio: s^2.  log2(s) / 2 is log2(ratio) / 4, of which the floor of log2 is exact. */
static int8_t
shift_of(double ratio)
{
	int			exponent,
				shift;

	ratio = G2_MIN(G2_MAX(ratio, 0x1p-34), 0x1p33);
	frexp(ratio, &exponent);	/* ratio >= 2^(exponent - 1) */
	shift = (exponent - 1 + 2 + 4 * 16) / 4 - 16;
	return (int8_t) (shift >= 2 || shift <= -2 ? shift : 0);
}

bool
g2_equalize(const double *activation, const double *weight, uint32_t k, int8_t *shift, bool *any,
			g2_error *err)
{
	double	   *sorted = g2_alloc_array(k, sizeof *sorted),
				median;
	uint32_t	n = 0;

	*any = false;
	if (!sorted)
		return g2_fail_memory(err, k * sizeof *sorted);
	for (uint32_t i = 0; i < k; i++)
		if (activation[i] > 0 && weight[i] > 0)
			sorted[n++] = activation[i] / weight[i];
	qsort(sorted, n, sizeof *sorted, compare_doubles);
	median = n > 0 ? sorted[n / 2] : 1;
	g2_free(sorted);
	for (uint32_t i = 0; i < k; i++)
	{
		/* a channel that is nothing needs no scale */
		shift[i] = activation[i] > 0 && weight[i] > 0 ?
			shift_of(activation[i] / weight[i] / median) : 0;
		*any = *any || shift[i] != 0;
	}
	return true;
}

/* ---- a model ---- */

/* Sums of squares of the matrix's rows. */
static bool
read_rows(const g2_converter *c, const g2_layout_tensor *t, double *squares, g2_error *err)
{
	uint64_t	group = G2_MAX(G2_MIN(EQUALIZE_READ, c->in_size) / t->cols, 1);

	for (uint64_t first = 0; first < t->rows; first += group)
	{
		uint64_t	rows = G2_MIN(group, t->rows - first);
		const float *x = c->in;

		if (c->cancel && atomic_load_explicit(c->cancel, memory_order_relaxed))
			return g2_fail(err, G2_E_CANCELED, "packing the model was canceled");
		if (!g2_source_read(c->source, t, first, rows, c->in, err))
			return false;
		for (uint64_t r = first; r < first + rows; r++, x += t->cols)
		{
			squares[r] = 0;
			for (uint64_t i = 0; i < t->cols; i++)
				squares[r] += (double) x[i] * (double) x[i];
		}
	}
	return true;
}

/* Adds the squares of a vector. */
static bool
read_vector(const g2_converter *c, const g2_layout_tensor *t, double *squares, g2_error *err)
{
	if (!g2_source_read(c->source, t, 0, 1, c->in, err))
		return false;
	for (uint64_t i = 0; i < t->cols; i++)
		squares[i] += (double) c->in[i] * (double) c->in[i];
	return true;
}

/* The shifts of a matrix and its norm; none are kept when all are 0. */
static bool
equalize_matrix(g2_converter *c, uint32_t index, g2_error *err)
{
	const g2_layout_tensor *t = &c->layout->tensor[index];
	const uint32_t k = (uint32_t) t->rows;
	double	   *activation = g2_alloc_array(2 * (size_t) k, sizeof *activation);
	int8_t	   *shift = g2_alloc_array(k, sizeof *shift);
	bool		any = false,
				ok = (activation && shift) || g2_fail_memory(err, k * sizeof *activation);

	ok = ok && read_vector(c, &c->layout->tensor[t->norm], activation, err) &&
		read_vector(c, &c->layout->tensor[t->norm + 1], activation, err) &&
		read_rows(c, t, activation + k, err) &&
		g2_equalize(activation, activation + k, k, shift, &any, err);
	g2_free(activation);
	if (!ok || !any)
	{
		g2_free(shift);
		return ok;
	}
	c->shift[index] = c->shift[t->norm] = c->shift[t->norm + 1] = shift;
	return true;
}

bool
g2_equalize_start(g2_converter *c, g2_error *err)
{
	c->shift = g2_alloc_array(c->layout->n, sizeof *c->shift);
	if (!c->shift)
		return g2_fail_memory(err, c->layout->n * sizeof *c->shift);
	for (uint32_t i = 0; i < c->layout->n; i++)
	{
		const g2_layout_tensor *t = &c->layout->tensor[i];

		if (t->norm != G2_NO_NORM && (t->format == G2_FORMAT_Q8 || t->format == G2_FORMAT_Q4) &&
			!equalize_matrix(c, i, err))
			return false;
	}
	return true;
}

void
g2_equalize_end(g2_converter *c)
{
	/* norm and matrix have the same one */
	for (uint32_t i = 0; c->shift && i < c->layout->n; i++)
		if (c->layout->tensor[i].norm != G2_NO_NORM)
			g2_free(c->shift[i]);
	g2_free(c->shift);
	c->shift = NULL;
}

static float
power_of_two(int exponent)
{
	return g2_bits_float((uint32_t) (127 + exponent) << 23);
}

void
g2_equalize_apply(const g2_converter *c, const g2_layout_tensor *t, uint64_t first, uint64_t rows,
				  float *x)
{
	const int8_t *shift = c->shift[t - c->layout->tensor];

	if (!shift)
		return;
	if (t->norm == G2_NO_NORM)
		for (uint64_t i = 0; i < t->cols; i++)
			x[i] *= power_of_two(-shift[i]);
	else
		for (uint64_t r = first; r < first + rows; r++)
			for (uint64_t i = 0; i < t->cols; i++)
				*x++ *= power_of_two(shift[r]);
}
