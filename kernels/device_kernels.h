/*
 * device_kernels.h: the kernels of the CUDA back end as the host launches them, one family a file.
 * Rows of activations are [rows][ld] floats; all memory is the device's.  A launch cannot fail
 * here: errors show at the stream (runtime.h).
 */
#ifndef G2_DEVICE_KERNELS_H
#define G2_DEVICE_KERNELS_H

#include "plan_device.h"
#include "runtime.h"

/* A matrix on the device, by format: fragments (device_layout.h), or the CPU's panels (f32). */
typedef struct g2d_matrix
{
	const void *w;
	const uint16_t *scale;		/* q8 */
	g2_format	format;
	uint32_t	k;
	uint32_t	n;
	uint32_t	n_padded;		/* to 128; f32: to 48 */
	uint32_t	units;
	uint32_t	units_padded;
} g2d_matrix;

/* Rows as a product of the format takes them. */
typedef struct g2d_operand
{
	void	   *x;
	float	   *scale;			/* q8: [rows][units_padded] */
	uint32_t	ld;				/* f32: floats of a row; else its bytes */
	uint32_t	units_padded;
} g2d_operand;

/* Keys and values of a model (device_layout.h). */
typedef struct g2d_cache
{
	void	   *kv;				/* place 0: the beginning of the memory that the engine has */
	uint32_t	n_layer;
	uint32_t	n_head;
	uint32_t	head_dim;
	g2_format	format;			/* F32: floats; else bf16 */
} g2d_cache;

/* ---- embed.cu: x[row] = embedding of its token + that of its position ---- */

typedef struct g2d_embed
{
	g2d_matrix	embed;
	const float *positions;		/* [n_ctx][n_embd] */
	g2d_pass   *pass;
	g2d_slots	slots;
	uint32_t   *position_of;	/* [rows] out: where the row stands in this step, or G2D_RESTS */
	float	   *x;
	uint32_t	ld;
} g2d_embed;

extern void g2d_launch_embed(rt_stream stream, const g2d_embed *a, uint32_t rows);

/* ---- norm.cu: layer norm, and rows in the form that a product takes ---- */

typedef struct g2d_norm
{
	const float *x;
	uint32_t	ld;
	uint32_t	n;
	const float *gain;
	const float *bias;			/* or NULL */
	float		epsilon;
	g2d_operand to;
	g2_format	format;			/* of the product */
	const g2d_chunk *chunk;		/* NULL: all rows; else rows head_row[] of the pass ... */
	const uint32_t *position_of;
	float	   *y;				/* ... with the result as floats too, [head rows][n]; zeros where a
								 * row rests */
	uint32_t   *bad;			/* [head rows] set to 0 */
} g2d_norm;

extern void g2d_launch_norm(rt_stream stream, const g2d_norm *a, uint32_t rows);

/* Rows of k floats. */
extern void g2d_launch_convert(rt_stream stream, const float *x, uint32_t ld, uint32_t k,
							   g2_format format, const g2d_operand *to, uint32_t rows);

/* ---- product_*.cu: y = activation(x w + bias) + residual ---- */

/*
 * What a block of a product of bf16 or q8 does (product_tile.cuh): a strip of 16 columns and up to 32
 * rows, or a tile of 128 columns and so many rows; q8 has tiles of 64.  No bit depends on it.
 */
typedef enum g2d_shape
{
	G2D_STRIPS,
	G2D_TILES_64,
	G2D_TILES_96,
	G2D_TILES_192
} g2d_shape;

#define G2D_STRIPS_MOST_ROWS 256u

static inline uint64_t
g2d_tiles(uint32_t rows, uint32_t n_padded, uint32_t tile_rows)
{
	return (uint64_t) (n_padded / G2D_OUTPUTS_ALIGN) * ((rows + tile_rows - 1) / tile_rows);
}

/*
 * The shape for so many rows on a device of so many multiprocessors.
 *
 * Between 33 and 256 rows it depends on how much of the device tiles of 64 keep busy.  For each unit
 * of k one fetches 6 KB, the 16 strips that make as many sums 24 KB; but strips are on all
 * multiprocessors, and tiles on as many as there are tiles.  So tiles come to be as fast where they are
 * on a quarter.  Of an H200's 132, up to 32 tiles are left to strips, which are 64 rows of 124M's qkv
 * (18 tiles) and 256 of its attn_out (24), and none of a head (393).
 *
 * Of the tiles it is those that are done first.  In bf16 shared memory is what limits them: for
 * each unit of k a tile of 64, 96 or 192 rows moves 18, 21 or 38 KB through it; a multiprocessor
 * does its tiles one after the other.  So 1,024 rows of 124M's ff_up, 24 tiles wide, are 384 tiles of 64,
 * up to three on each of an H200's multiprocessors, 54 KB; or 264 of 96, two, 42 KB; or 144 of 192, two,
 * 76 KB.
 */
static inline g2d_shape
g2d_shape_of(g2_format format, uint32_t rows, uint32_t n_padded, uint32_t processors)
{
	static const struct
	{
		g2d_shape	shape;
		uint32_t	rows;
		uint32_t	kilobytes;
	}			tiles[] = {{G2D_TILES_64, 64, 18}, {G2D_TILES_96, 96, 21}, {G2D_TILES_192, 192, 38}};
	uint64_t	least = UINT64_MAX;
	g2d_shape	best = G2D_TILES_64;

	if (rows <= 32 || (rows <= G2D_STRIPS_MOST_ROWS && g2d_tiles(rows, n_padded, 64) * 4 < processors))
		return G2D_STRIPS;
	for (uint32_t i = 0; i < 3 && format == G2_FORMAT_BF16; i++)
	{
		const uint64_t turns = (g2d_tiles(rows, n_padded, tiles[i].rows) + processors - 1) / processors;

		if (turns * tiles[i].kilobytes < least)
		{
			least = turns * tiles[i].kilobytes;
			best = tiles[i].shape;
		}
	}
	return best;
}

typedef struct g2d_product
{
	g2d_operand x;
	g2d_matrix	w;
	const float *bias;			/* or NULL */
	const float *residual;		/* [rows][ld] or NULL; may be y */
	uint32_t	activation;
	float	   *y;				/* [rows][ld]; only columns below w.n are written ... */
	uint32_t	ld;
	g2d_operand to;				/* ... or, with x, as the next product of bf16 takes them */
	uint32_t	rows;
	g2d_shape	shape;			/* of bf16 and q8: which kernel it is */
	uint64_t   *best;			/* the head's: [rows][best_ld] the best of each strip of 16 columns,
								 * rank_key << 32 | ~column; else NULL */
	uint32_t	best_ld;
	uint32_t   *bad;			/* [rows] set to 1 where a column is NaN; with best */
} g2d_product;

extern void g2d_launch_product_f32(rt_stream stream, const g2d_product *p);
extern void g2d_launch_product_bf16(rt_stream stream, const g2d_product *p);
extern void g2d_launch_product_q8(rt_stream stream, const g2d_product *p);

/* ---- attention*.cu ---- */

typedef struct g2d_attention
{
	g2d_cache	cache;
	const g2d_pass *pass;
	const uint32_t *position_of;
	const float *qkv;			/* [rows][ldq] q, k, v */
	uint32_t	ldq;
	float	   *out;			/* [rows][ldo] ... */
	uint32_t	ldo;
	g2d_operand to;				/* ... or, with x, as a product of bf16 takes them */
	float	   *parts;			/* [rows][n_head][segments][head_dim + 2] where there are several */
	uint32_t	segments;		/* of the longest row in this launch, at least */
	uint32_t	layer;
	float		scale;
} g2d_attention;

/* K and V of rows into the cache; all tiles attend behind it. */
extern void g2d_launch_store(rt_stream stream, const g2d_attention *a, uint32_t rows);
extern void g2d_launch_attention(rt_stream stream, const g2d_attention *a, uint32_t tiles,
								 uint32_t rows);
extern void g2d_launch_attention_f32(rt_stream stream, const g2d_attention *a, uint32_t rows);

/* ---- sample.cu: from logits to results ---- */

typedef struct g2d_sample
{
	const g2d_chunk *chunk;
	g2d_pass   *pass;
	const uint32_t *position_of;
	g2d_slots	slots;
	const uint64_t *sets;		/* [sets of the chunk][g2d_set_words] */
	const float *logits;		/* [head rows][ld] */
	uint32_t	ld;
	uint32_t	n_vocab;
	const uint64_t *best;		/* see g2d_product */
	uint32_t	best_ld;
	const uint32_t *bad;
	g2d_result *results;
	g2d_top	   *top;			/* [outputs of the chunk][n_top] */
	g2d_top	   *unsorted;		/* as large */
	float	   *changed;		/* [G2D_SAMPLE_BLOCKS][n_vocab] rows behind bias, penalties, bans, mask */
} g2d_sample;

#define G2D_SAMPLE_BLOCKS G2D_HEAD_ROWS	/* which take tasks in turns */

extern void g2d_launch_sample(rt_stream stream, const g2d_sample *a, uint32_t tasks);

/* The next step of the pass. */
extern void g2d_launch_advance(rt_stream stream, g2d_pass *pass);

/* ---- cache.cu: blocks of the cache, by their places ---- */

#define G2D_PLACES 256u			/* that go along as an argument */

typedef struct g2d_places
{
	uint32_t	n;
	uint32_t	at[G2D_PLACES];
} g2d_places;

extern void g2d_launch_block_copy(rt_stream stream, const g2d_cache *cache, uint32_t to,
								  uint32_t from);
extern void g2d_launch_block_zero(rt_stream stream, const g2d_cache *cache, const g2d_places *places);

#endif							/* G2_DEVICE_KERNELS_H */
