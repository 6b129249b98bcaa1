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

/* The n weights of a column in a group of a q8 or q4 panel.  A tight loop: each line is a miss, and the
 * processor is to see many of them at a time. */
static void
group_column(g2_format format, const uint8_t *group, uint32_t column, uint32_t n, float scale,
			 float *x)
{
	group += column * 4;
	if (format == G2_FORMAT_Q8)
		for (uint32_t k = 0; k < n; k++)
			x[k] = (float) (group[k / 4 * 4 * G2_PANEL + k % 4] - 128) * scale;
	else
		for (uint32_t k = 0; k < n; k++)
			x[k] = (float) ((group[k / 8 * 4 * G2_PANEL + k % 4] >> (k / 4 % 2 * 4) & 15) - 8) *
				scale;
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
			for (uint32_t k = 0; k < m->k; k += G2_GROUP)
				group_column(m->format, (const uint8_t *) panel + weight_bytes(m->format, k), c,
							 G2_MIN(m->k - k, (uint32_t) G2_GROUP),
							 g2_from_bf16(scale[(size_t) (k / G2_GROUP) * G2_PANEL + c]), x + k);
	}
}
