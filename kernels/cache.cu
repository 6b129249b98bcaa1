/*
 * cache.cu: what goes into the KV cache: keys and values of new rows; blocks copied and zeroed.
 */
#include "device_kernels.h"

#include "device.cuh"
#include "device_math.h"

#define THREADS 128u
#define COPY_WORDS (THREADS * 4)	/* of a block of threads, so that one copy keeps a device busy */

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
	uint32_t	block;

	if (position == G2D_RESTS)
		return;
	block = g2d_tables(a.pass)[a.pass->rows[row].table + position / G2D_KEYS];
	for (uint32_t i = threadIdx.x; i < n; i += THREADS)
	{
		const uint32_t head = i / dim,
					d = i % dim;
		const size_t keys = g2d_cache_at(a.cache.n_blocks, a.cache.n_head, dim, a.layer, block, 0,
										 head),
					values = g2d_cache_at(a.cache.n_blocks, a.cache.n_head, dim, a.layer, block, 1,
										  head);

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

/* Words of 16 bytes of a block in a layer, K and V. */
__host__ __device__ static uint32_t
layer_words(const g2d_cache &c)
{
	return 2 * c.n_head * c.head_dim * G2D_KEYS * (c.format == G2_FORMAT_F32 ? 4 : 2) / 16;
}

__device__ static uint4 *
layer_block(const g2d_cache &c, uint32_t layer, uint32_t block)
{
	return static_cast<uint4 *>(c.kv) + ((size_t) layer * c.n_blocks + block) * layer_words(c);
}

/* Grid: (layers, pieces of a layer's words). */
__global__ void __launch_bounds__(THREADS)
block_copy_kernel(g2d_cache c, uint32_t to, uint32_t from)
{
	const uint32_t first = blockIdx.y * COPY_WORDS,
				words = layer_words(c),
				end = words - first < COPY_WORDS ? words : first + COPY_WORDS;

	for (uint32_t i = first + threadIdx.x; i < end; i += THREADS)
		layer_block(c, blockIdx.x, to)[i] = layer_block(c, blockIdx.x, from)[i];
}

void
g2d_launch_block_copy(rt_stream stream, const g2d_cache *cache, uint32_t to, uint32_t from)
{
	dev_launch(stream, block_copy_kernel,
			   dim3(cache->n_layer, (layer_words(*cache) + COPY_WORDS - 1) / COPY_WORDS),
			   dim3(THREADS), 0, *cache, to, from);
}

/* Grid: (layers, blocks). */
__global__ void __launch_bounds__(THREADS)
block_zero_kernel(g2d_cache c, const uint32_t *blocks)
{
	for (uint32_t i = threadIdx.x; i < layer_words(c); i += THREADS)
		layer_block(c, blockIdx.x, blocks[blockIdx.y])[i] = uint4{0, 0, 0, 0};
}

void
g2d_launch_block_zero(rt_stream stream, const g2d_cache *cache, const uint32_t *blocks, uint32_t n)
{
	const uint32_t most = 32768;	/* of a grid's second dimension */

	for (uint32_t first = 0; first < n; first += most)
		dev_launch(stream, block_zero_kernel,
				   dim3(cache->n_layer, n - first < most ? n - first : most), dim3(THREADS), 0, *cache,
				   blocks + first);
}
