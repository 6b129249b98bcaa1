/*
 * cache.cu: what goes into the KV cache: keys and values of new rows; blocks copied and zeroed.
 */
#include "device_kernels.h"

#include "device.cuh"
#include "device_math.h"

#define THREADS 128u
#define PIECE_WORDS (THREADS * 4)	/* of a block of threads, so that one copy keeps a device busy */

/* Infinities become NaN, so that what is not finite has one form (attention.cu). */
__device__ static uint16_t
stored_value(float x)
{
	uint16_t	h = g2d_to_bf16(x);

	return (h & 0x7f80u) == 0x7f80u ? 0x7fffu : h;
}

/* Grid: rows. */
__global__ void __launch_bounds__(THREADS)
store_kernel(g2d_attention a)
{
	const uint32_t row = blockIdx.x,
				position = a.position_of[row],
				dim = a.cache.head_dim,
				n = a.cache.n_head * dim,
				lane = position % G2D_KEYS;
	const float *k = a.qkv + (size_t) row * a.ldq + n,
			   *v = k + n;
	uint32_t	place;

	if (position == G2D_RESTS)
		return;
	place = g2d_tables(a.pass)[a.pass->rows[row].table + position / G2D_KEYS];
	for (uint32_t i = threadIdx.x; i < n; i += THREADS)
	{
		const uint32_t head = i / dim,
					d = i % dim;
		const size_t keys = g2d_cache_at(a.cache.n_head, dim, a.layer, place, 0, head),
					values = g2d_cache_at(a.cache.n_head, dim, a.layer, place, 1, head);

		if (a.cache.format == G2_FORMAT_F32)
		{
			static_cast<float *>(a.cache.kv)[keys + d * G2D_KEYS + lane] = k[i];
			static_cast<float *>(a.cache.kv)[values + lane * dim + d] = v[i];
		}
		else
		{
			static_cast<uint16_t *>(a.cache.kv)[keys + lane * dim + d] = g2d_to_bf16(k[i]);
			static_cast<uint16_t *>(a.cache.kv)[values + d * G2D_KEYS + lane] = stored_value(v[i]);
		}
	}
}

void
g2d_launch_store(rt_stream stream, const g2d_attention *a, uint32_t rows)
{
	dev_launch(stream, store_kernel, dim3(rows), dim3(THREADS), 0, *a);
}

/* Words of 16 bytes of a tile, and of a block. */
__host__ __device__ static uint32_t
tile_words(const g2d_cache &c)
{
	return c.head_dim * G2D_KEYS * (c.format == G2_FORMAT_F32 ? 4 : 2) / 16;
}

__host__ __device__ static uint32_t
block_words(const g2d_cache &c)
{
	return 2 * c.n_layer * c.n_head * tile_words(c);
}

__device__ static uint4 *
block_at(const g2d_cache &c, uint32_t place)
{
	return static_cast<uint4 *>(c.kv) + (size_t) place * tile_words(c);
}

/* The words that a block of threads has of all: a piece, counted by blockIdx.x. */
__device__ static uint32_t
piece_end(uint32_t words)
{
	const uint32_t first = blockIdx.x * PIECE_WORDS;

	return words - first < PIECE_WORDS ? words : first + PIECE_WORDS;
}

static uint32_t
pieces(const g2d_cache &c)
{
	return (block_words(c) + PIECE_WORDS - 1) / PIECE_WORDS;
}

/* Grid: pieces. */
__global__ void __launch_bounds__(THREADS)
block_copy_kernel(g2d_cache c, uint32_t to, uint32_t from)
{
	const uint32_t end = piece_end(block_words(c));

	for (uint32_t i = blockIdx.x * PIECE_WORDS + threadIdx.x; i < end; i += THREADS)
		block_at(c, to)[i] = block_at(c, from)[i];
}

void
g2d_launch_block_copy(rt_stream stream, const g2d_cache *cache, uint32_t to, uint32_t from)
{
	dev_launch(stream, block_copy_kernel, dim3(pieces(*cache)), dim3(THREADS), 0, *cache, to, from);
}

/* Grid: (pieces, blocks). */
__global__ void __launch_bounds__(THREADS)
block_zero_kernel(g2d_cache c, g2d_places places)
{
	const uint32_t end = piece_end(block_words(c));

	for (uint32_t i = blockIdx.x * PIECE_WORDS + threadIdx.x; i < end; i += THREADS)
		block_at(c, places.at[blockIdx.y])[i] = uint4{0, 0, 0, 0};
}

void
g2d_launch_block_zero(rt_stream stream, const g2d_cache *cache, const g2d_places *places)
{
	dev_launch(stream, block_zero_kernel, dim3(pieces(*cache), places->n), dim3(THREADS), 0, *cache,
			   *places);
}
