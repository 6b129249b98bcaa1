/*
 * quantize.h: f32 weights to the formats of packs (weights.h).
 */
#ifndef G2_QUANTIZE_H
#define G2_QUANTIZE_H

#include "weights.h"

/*
 * w: [k][48] of a panel, k a multiple of G2_GROUP (bf16: of 2) and padded with zeros.  To weights:
 * g2_panel_scales(format, k) bytes, and scales: [k / 32][48] (q8, q4).  importance: [k], how much
 * an error of a row's weights counts (q4; NULL: all alike).  The same bytes on every machine.
 *
 * q8: scale = largest magnitude / 127, rounded up to bf16; w / scale to nearest even.
 * q4: of a few scales the one with the least error, squared and weighted by importance.
 */
extern void g2_quantize(g2_format format, const float *w, uint32_t k, const float *importance,
						void *weights, uint16_t *scales);

#endif							/* G2_QUANTIZE_H */
