/*
 * test_formats.c: products with bf16, q8 and q4 weights, and what makes their operands.  The
 * portable kernels are compared with naive arithmetic to the bit, the other sets with the portable
 * ones; only bf16 has bits of its own where an instruction rounds its own way.
 */
#include "kernels_fixture.h"

#include "bf16.h"
#include "vecmath.h"

static const g2_format formats[] = {G2_FORMAT_BF16, G2_FORMAT_Q8, G2_FORMAT_Q4};

/* A random matrix: its panels, which end where the heap's block ends. */
static g2_matrix
random_matrix(g2_format format, uint32_t k, uint32_t panels)
{
	size_t		bytes = g2_panel_bytes(format, k),
				scales = g2_panel_scales(format, k);
	uint8_t    *data = malloc(bytes * panels);

	assert_non_null(data);
	for (size_t i = 0; i < bytes * panels; i++)
	{
		size_t		at = i % bytes;

		if (format == G2_FORMAT_BF16 || at >= scales)
		{
			uint16_t	h = g2_to_bf16(random_float());

			if (i % 2 == 0 && i + 1 < bytes * panels)
				memcpy(data + i, &h, sizeof h);
			continue;
		}
		/* The extremes of q8 often. */
		data[i] = (uint8_t) random_word();
		if (format == G2_FORMAT_Q8)
			data[i] = random_below(4) == 0 ? 255 : random_below(4) == 0 ? 1 : G2_MAX(data[i], 1);
	}
	if (format == G2_FORMAT_BF16 && k % 2 == 1)
		for (uint32_t c = 0; c < panels * G2_PANEL; c++)
			memset(data + c / G2_PANEL * bytes + (size_t) (k / 2) * G2_PANEL * 4 +
				   c % G2_PANEL * 4 + 2, 0, 2);
	return (g2_matrix) {data, format, k, panels * G2_PANEL, panels * G2_PANEL};
}

static g2_operand
new_operand(g2_format format, uint32_t rows, uint32_t k, void **memory)
{
	g2_operand	o;
	size_t		bytes = g2_operand_layout(format, rows, k, NULL, &o);

	*memory = aligned_alloc(G2_ALIGN, G2_ROUND_UP(bytes, (size_t) G2_ALIGN));
	assert_non_null(*memory);
	memset(*memory, 0xa5, bytes);
	assert_int_equal(g2_operand_layout(format, rows, k, *memory, &o), bytes);
	return o;
}

/* ---- operands ---- */

/* The byte of q8 at (row, k). */
static int8_t
byte_at(const g2_operand *o, uint32_t row, uint32_t k, uint32_t n_groups)
{
	return ((const int8_t *) o->x)[((size_t) (row / 4) * n_groups * 8 + k / 4) * 16 +
								   row % 4 * 4 + k % 4];
}

static void
check_row(const g2_operand *o, g2_format format, const float *x, uint32_t row, uint32_t k)
{
	uint32_t	groups = (k + 31) / 32;

	for (uint32_t g = 0; g < groups; g++)
	{
		size_t		at = ((size_t) (row / 4) * groups + g) * 4 + row % 4;
		float		largest = 0;
		int32_t		sum = 0;
		bool		finite = true;

		for (uint32_t i = g * 32; x && i < G2_MIN(k, g * 32 + 32); i++)
		{
			finite &= isfinite(x[i]) != 0;
			largest = fmaxf(largest, fabsf(x[i]));
		}
		if (!finite)
			assert_true(isnan(o->scale[at]));
		else
			assert_true(o->scale[at] == (largest < 0x1p-100f ? 0 : largest / 127));
		for (uint32_t i = g * 32; i < g * 32 + 32; i++)
		{
			float		q = 0;

			if (finite && largest >= 0x1p-100f && x && i < k)
				q = nearbyintf(x[i] * (127 / largest));
			assert_true(byte_at(o, row, i, groups) == (int) q);
			assert_true(fabsf(q) <= 127);
			sum += (int) q;
		}
		assert_int_equal(o->start[at], -(format == G2_FORMAT_Q8 ? 128 : 8) * sum);
	}
}

/* Rows that quantizing could stumble over. */
static void
spoil_rows(float *x, size_t ldx, uint32_t rows, uint32_t k)
{
	static const float odd[] = {0, -0.0f, 1e-40f, 0x1p-100f, 0x1p-101f, 3.4e38f, -3.4e38f, INFINITY,
		-INFINITY, NAN, 127, 0.5f, 1.5f, -2.5f, 126.5f};

	for (uint32_t r = 0; r < rows; r++)
		for (uint32_t i = 0; i < k; i++)
			switch (r % 4)
			{
				case 1:
					x[r * ldx + i] = odd[random_below(7)];
					break;
				case 2:
					x[r * ldx + i] = i % 32 == 0 ? 127 : odd[11 + i % 4];	/* ties */
					break;
				case 3:
					if (random_below(50) == 0)
						x[r * ldx + i] = odd[random_below(G2_LENGTH(odd))];
					break;
				default:
					break;
			}
}

static void
operand_case(g2_format format, uint32_t rows, uint32_t k)
{
	size_t		ldx = k + random_below(9),
				bytes;
	float	   *x = random_floats((rows - 1) * ldx + k);
	void	   *first = NULL;
	g2_operand	o;

	bytes = g2_operand_layout(format, rows, k, NULL, &o);
	spoil_rows(x, ldx, rows, k);
	for (int s = 0; s < n_sets; s++)
	{
		void	   *memory;

		o = new_operand(format, rows, k, &memory);
		sets[s]->convert[format](x, ldx, 0, rows, k, &o);
		/* Once more, some rows at a time. */
		for (uint32_t r = 0; r < rows; r += 4)
			sets[s]->convert[format](x, ldx, r, G2_MIN(r + 4, rows), k, &o);
		if (s > 0)
		{
			assert_memory_equal(memory, first, bytes);
			free(memory);
			continue;
		}
		first = memory;
		for (uint32_t r = 0; r < G2_ROUND_UP(rows, 4u); r++)
			if (format != G2_FORMAT_BF16)
				check_row(&o, format, r < rows ? x + r * ldx : NULL, r, k);
			else
				for (uint32_t i = 0; i < G2_ROUND_UP(k, 2u); i++)
					assert_int_equal(((uint16_t *) o.x)[((size_t) (r / 4) * ((k + 1) / 2) + i / 2)
														* 8 + r % 4 * 2 + i % 2],
									 r < rows && i < k ? g2_to_bf16(x[r * ldx + i]) : 0);
	}
	free(first);
	free(x);
}

static void
test_operands(void **state)
{
	(void) state;
	for (size_t f = 0; f < G2_LENGTH(formats); f++)
		for (uint32_t k = 1; k < 140; k += 1 + random_below(5))
			operand_case(formats[f], 1 + random_below(13), k);
}

/* ---- products ---- */

/* What weights.h says the weight is, before its scale. */
static int
weight_at(const g2_matrix *m, uint32_t k, uint32_t column)
{
	const uint8_t *panel = (const uint8_t *) m->data +
		column / 48 * g2_panel_bytes(m->format, m->k);
	uint32_t	c = column % 48,
				byte;

	if (m->format == G2_FORMAT_Q8)
		return panel[((k / 32 * 8 + k % 32 / 4) * 48 + c) * 4 + k % 4] - 128;
	byte = panel[((k / 32 * 4 + k % 32 / 8) * 48 + c) * 4 + k % 4];
	return (int) (k / 4 % 2 == 0 ? byte & 15 : byte >> 4) - 8;
}

static float
naive_int(const g2_matrix *m, const g2_operand *x, uint32_t row, uint32_t column)
{
	uint32_t	groups = (m->k + 31) / 32;
	const uint16_t *scales = (const uint16_t *) ((const char *) m->data +
												 column / 48 * g2_panel_bytes(m->format, m->k) +
												 g2_panel_scales(m->format, m->k));
	float		sum = 0;

	for (uint32_t g = 0; g < groups; g++)
	{
		int32_t		dot = 0;
		float		scale = g2_from_bf16(scales[g * 48 + column % 48]) *
			x->scale[((size_t) (row / 4) * groups + g) * 4 + row % 4];

		for (uint32_t k = g * 32; k < g * 32 + 32; k++)
			dot += weight_at(m, k, column) * byte_at(x, row, k, groups);
		sum = fmaf((float) dot, scale, sum);
	}
	return sum;
}

/* bf16 without an instruction: fused, the even k of a pair first. */
static float
naive_bf16(const g2_matrix *m, const float *x, uint32_t column)
{
	const uint16_t *w = (const uint16_t *) m->data +
		(size_t) (column / 48) * g2_panel_bytes(m->format, m->k) / 2;
	float		sum = 0;

	for (uint32_t k = 0; k < m->k; k++)
		sum = fmaf(g2_from_bf16(w[((size_t) (k / 2) * 48 + column % 48) * 2 + k % 2]),
				   g2_from_bf16(g2_to_bf16(x[k])), sum);
	return sum;
}

static bool
same_bits(const g2_kernels *k, g2_format format)
{
	return format != G2_FORMAT_BF16 || strcmp(k->bf16_family, "fma") == 0;
}

/* Rows and panels in pieces: the bits must not change. */
static void
product_in_pieces(const g2_kernels *kernels, const g2_product *p, g2_format format, uint32_t rows,
				  uint32_t panels, float *scratch)
{
	for (uint32_t row = 0, end; row < rows; row = end)
	{
		end = row + 4 * (1 + random_below(3));
		end = G2_MIN(rows, end);
		for (uint32_t panel = 0, to; panel < panels; panel = to)
		{
			to = panel + 1 + random_below(3);
			to = G2_MIN(panels, to);
			kernels->product[format](p, panel, to, row, end, scratch);
		}
	}
}

static void
product_case(g2_format format, uint32_t rows, uint32_t k, uint32_t panels)
{
	g2_matrix	m = random_matrix(format, k, panels);
	uint32_t	n = panels * G2_PANEL;
	size_t		ldx = k + random_below(20),
				ldy = n + random_below(20),
				len = (rows - 1) * ldy + n;
	float	   *x = random_floats((rows - 1) * ldx + k),
			   *bias = random_floats(n),
			   *first = NULL,
			   *scratch = malloc(G2_PRODUCT_SCRATCH * sizeof(float));
	void	   *memory;
	g2_operand	o = new_operand(format, rows, k, &memory);

	sets[0]->convert[format](x, ldx, 0, rows, k, &o);
	for (int s = 0; s < n_sets; s++)
	{
		float	   *y = random_floats(len),
				   *again = copy_floats(y, len);
		g2_product	p = {.x = o, .w = m.data, .k = k, .activation = G2_NO_ACTIVATION, .y = y,
			.ldy = ldy};

		sets[s]->product[format](&p, 0, panels, 0, rows, scratch);
		p.y = again;
		product_in_pieces(sets[s], &p, format, rows, panels, scratch);
		for (uint32_t r = 0; r < rows; r++)
			for (uint32_t c = 0; c < n; c++)
			{
				float		e = s > 0 ? first[r * ldy + c] : format == G2_FORMAT_BF16 ?
					naive_bf16(&m, x + r * ldx, c) : naive_int(&m, &o, r, c);

				assert_memory_equal(&again[r * ldy + c], &y[r * ldy + c], sizeof e);
				if (same_bits(sets[s], format))
					assert_memory_equal(&y[r * ldy + c], &e, sizeof e);
				else
					assert_close(y[r * ldy + c], e, sqrt(k));
			}
		free(again);
		if (s == 0)
			first = y;
		else
			free(y);
	}
	free(first);
	free(x);
	free(bias);
	free(scratch);
	free(memory);
	free((void *) m.data);
}

static void
test_products(void **state)
{
	(void) state;
	for (size_t f = 0; f < G2_LENGTH(formats); f++)
	{
		for (uint32_t rows = 1; rows <= 40; rows++)
			product_case(formats[f], rows, 1 + random_below(140), 1 + random_below(4));
		/* Longer than a strip, and more rows than are taken together. */
		for (uint32_t rows = 1; rows <= 9; rows++)
			product_case(formats[f], rows, 250 + random_below(300), 2);
		product_case(formats[f], 101, 290, 2);
	}
}

/* A matrix that is one row per k, so that a product with a unit vector gives a column back. */
static void
test_columns(void **state)
{
	(void) state;
	for (size_t f = 0; f < G2_LENGTH(formats); f++)
	{
		uint32_t	k = 75;
		g2_matrix	m = random_matrix(formats[f], k, 2);
		float	   *column = random_floats(k);

		for (uint32_t c = 0; c < 2 * G2_PANEL; c++)
		{
			g2_matrix_column(&m, c, column);
			for (uint32_t i = 0; i < k; i++)
			{
				const char *panel = (const char *) m.data + c / 48 * g2_panel_bytes(m.format, k);
				const uint16_t *h = (const uint16_t *) panel,
						   *scale = (const uint16_t *) (panel + g2_panel_scales(m.format, k));
				float		e = m.format == G2_FORMAT_BF16 ?
					g2_from_bf16(h[(i / 2 * 48 + c % 48) * 2 + i % 2]) :
					(float) weight_at(&m, i, c) * g2_from_bf16(scale[i / 32 * 48 + c % 48]);

				assert_true(column[i] == e);
			}
		}
		free(column);
		free((void *) m.data);
	}
}

/* NaN and inf in a row reach all of its results, and no other row. */
static void
test_not_finite(void **state)
{
	float		scratch[G2_PRODUCT_SCRATCH];

	(void) state;
	for (size_t f = 0; f < G2_LENGTH(formats); f++)
		for (int s = 0; s < n_sets; s++)
		{
			g2_matrix	m = random_matrix(formats[f], 64, 1);
			float	   *x = random_floats(5 * 64),
					   *y = random_floats(5 * 48);
			void	   *memory;
			g2_operand	o = new_operand(formats[f], 5, 64, &memory);
			g2_product	p = {.x = o, .w = m.data, .k = 64, .activation = G2_NO_ACTIVATION,
				.y = y, .ldy = 48};

			x[64 + 3] = NAN;
			x[3 * 64 + 40] = INFINITY;
			sets[s]->convert[formats[f]](x, 64, 0, 5, 64, &o);
			sets[s]->product[formats[f]](&p, 0, 1, 0, 5, scratch);
			for (uint32_t i = 0; i < 5 * 48; i++)
				assert_int_equal(isfinite(y[i]) != 0, i / 48 != 1 && i / 48 != 3);
			free(x);
			free(y);
			free(memory);
			free((void *) m.data);
		}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_operands),
		cmocka_unit_test(test_products),
		cmocka_unit_test(test_columns),
		cmocka_unit_test(test_not_finite),
	};

	find_sets();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
