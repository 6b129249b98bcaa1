/*
 * weights.c: where things stand in a panel.
 */
#include "weights.h"

#include "bf16.h"
#include "util.h"

#define PANEL_ALIGN ((size_t) 64)

/* Bytes of the weights themselves, whole lines. */
static size_t
weight_bytes(g2_format format, uint32_t k)
{
	size_t		groups = ((size_t) k + G2_GROUP - 1) / G2_GROUP;

	switch (format)
	{
		case G2_FORMAT_F32:
			return (size_t) k * G2_PANEL * sizeof(float);
		case G2_FORMAT_BF16:
			return G2_ROUND_UP((size_t) k, 2) * G2_PANEL * sizeof(uint16_t);
		case G2_FORMAT_Q8:
			return groups * G2_GROUP * G2_PANEL;
		case G2_FORMAT_Q4:
			return groups * G2_GROUP * G2_PANEL / 2;
		default:
			return 0;
	}
}

size_t
g2_panel_scales(g2_format format, uint32_t k)
{
	return G2_ROUND_UP(weight_bytes(format, k), PANEL_ALIGN);
}

size_t
g2_panel_bytes(g2_format format, uint32_t k)
{
	size_t		groups = ((size_t) k + G2_GROUP - 1) / G2_GROUP,
				scales = format == G2_FORMAT_Q8 || format == G2_FORMAT_Q4 ?
		groups * G2_PANEL * sizeof(uint16_t) : 0;

	return g2_panel_scales(format, k) + G2_ROUND_UP(scales, PANEL_ALIGN);
}

/* The weight at (k, column) of a q8 or q4 panel, without its scale. */
static int
quantized(g2_format format, const uint8_t *panel, uint32_t k, uint32_t column)
{
	const uint8_t *group = panel +
		(size_t) (k / G2_GROUP) * G2_GROUP * G2_PANEL / (format == G2_FORMAT_Q8 ? 1 : 2);
	uint32_t	quad = k % G2_GROUP / 4;

	if (format == G2_FORMAT_Q8)
		return group[(quad * G2_PANEL + column) * 4 + k % 4] - 128;
	return (group[(quad / 2 * G2_PANEL + column) * 4 + k % 4] >> (quad % 2 * 4) & 15) - 8;
}

void
g2_matrix_column(const g2_matrix *m, uint32_t n, float *x)
{
	const char *panel = (const char *) m->data + n / G2_PANEL * g2_panel_bytes(m->format, m->k);
	const float *f = (const float *) panel;
	const uint16_t *h = (const uint16_t *) panel,
			   *scale = (const uint16_t *) (panel + g2_panel_scales(m->format, m->k));
	uint32_t	c = n % G2_PANEL;

	switch (m->format)
	{
		case G2_FORMAT_F32:
			for (uint32_t k = 0; k < m->k; k++)
				x[k] = f[(size_t) k * G2_PANEL + c];
			break;
		case G2_FORMAT_BF16:
			for (uint32_t k = 0; k < m->k; k++)
				x[k] = g2_from_bf16(h[((size_t) (k / 2) * G2_PANEL + c) * 2 + k % 2]);
			break;
		default:
			for (uint32_t k = 0; k < m->k; k++)
				x[k] = (float) quantized(m->format, (const uint8_t *) panel, k, c) *
					g2_from_bf16(scale[(size_t) (k / G2_GROUP) * G2_PANEL + c]);
	}
}
