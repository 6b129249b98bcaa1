/*
 * device_layout.h: where things stand in a device's memory; index arithmetic only, for gcc, g++ and
 * nvcc alike.
 *
 * Weights of bf16 and q8 products: units of 32 bytes of k (16 values of bf16, a group of 32 of q8)
 * by strips of 16 outputs are fragments of 512 bytes in the order in which a warp's lanes take them
 * for mma.sync, [strip][unit][lane][16 bytes]: a lane loads its part of a fragment at once, the
 * warp 512 bytes in a row, and no fragment passes through shared memory where each is used once.  k
 * is padded to 4 units, outputs to 128, all with zeros.  q8: signed bytes (the CPU's are unsigned
 * with an offset of 128), scales [strip][unit][16] as bf16, as the CPU has them.
 *
 * Operands, the rows of x of such a product: [row][unit][32 bytes]; in a unit the words of 4 bytes
 * stand as 0 4 1 5 2 6 3 7, so that a lane's two words are neighbours.  q8: scales [row][unit] f32.
 *
 * f32: weights as the CPU has them (weights.h), operands [row][ld] floats.
 *
 * KV cache: a block is [layer][K|V][head][32 x head_dim] in one piece, which stands anywhere in the
 * device's memory: tables hold places, which count such tiles of a head from where that begins.
 * bf16: K [32][head_dim], V [head_dim][32] (so that the pairs of keys that mma.sync wants are
 * neighbours).  f32: K [head_dim][32], V [32][head_dim], as the CPU has them.
 */
#ifndef G2_DEVICE_LAYOUT_H
#define G2_DEVICE_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include "philox.h"				/* G2_HD */

#define G2D_UNIT 32u			/* bytes of k */
#define G2D_STRIP 16u			/* outputs */
#define G2D_FRAGMENT 512u		/* bytes */
#define G2D_UNITS_ALIGN 4u
#define G2D_OUTPUTS_ALIGN 128u
#define G2D_ROWS_ALIGN 64u		/* operands have room for so many */
#define G2D_KEYS 32u			/* of a block: G2_BLOCK */
#define G2D_SEGMENT 256u		/* keys with one maximum and sum */

G2_HD static inline uint32_t
g2d_round_up(uint32_t n, uint32_t to)
{
	return (n + to - 1) / to * to;
}

/* Units that hold k values of `size` bytes; with their padding. */
G2_HD static inline uint32_t
g2d_units(uint32_t k, uint32_t size)
{
	return (k * size + G2D_UNIT - 1) / G2D_UNIT;
}

G2_HD static inline uint32_t
g2d_units_padded(uint32_t k, uint32_t size)
{
	return g2d_round_up(g2d_units(k, size), G2D_UNITS_ALIGN);
}

/* Where byte `k` (counted along k) of an output's weights stands. */
G2_HD static inline size_t
g2d_weight_at(uint32_t units_padded, uint32_t output, uint32_t k)
{
	uint32_t	row = output % G2D_STRIP,
				word = k % G2D_UNIT / 4,
				lane = row % 8 * 4 + word % 4,
				reg = word / 4 * 2 + row / 8;

	return ((size_t) (output / G2D_STRIP) * units_padded + k / G2D_UNIT) * G2D_FRAGMENT +
		lane * 16 + reg * 4 + k % 4;
}

/* Index of the scale of a unit of an output's weights. */
G2_HD static inline size_t
g2d_weight_scale_at(uint32_t units_padded, uint32_t output, uint32_t unit)
{
	return ((size_t) (output / G2D_STRIP) * units_padded + unit) * G2D_STRIP + output % G2D_STRIP;
}

/* Where byte `k` of a row of an operand stands in it. */
G2_HD static inline uint32_t
g2d_operand_at(uint32_t k)
{
	uint32_t	word = k % G2D_UNIT / 4;

	return k / G2D_UNIT * G2D_UNIT + (word % 4 * 2 + word / 4) * 4 + k % 4;
}

/* Index of the first element of K (part 0) or V (part 1) of a block's layer and head. */
G2_HD static inline size_t
g2d_cache_at(uint32_t n_head, uint32_t head_dim, uint32_t layer, uint32_t place, uint32_t part,
			 uint32_t head)
{
	return ((size_t) place + (layer * 2 + part) * n_head + head) * G2D_KEYS * head_dim;
}

/* Segments of keys 0 .. position. */
G2_HD static inline uint32_t
g2d_segments(uint32_t position)
{
	return position / G2D_SEGMENT + 1;
}

#endif							/* G2_DEVICE_LAYOUT_H */
