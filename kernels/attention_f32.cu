/*
 * attention_f32.cu: attention over an f32 cache, in the CPU's order: keys in blocks of 32
 * ascending, one running maximum and sum, a lane a key; then a lane a column of the values, keys
 * ascending.
 *  The reference, a warp for each query and head: slow beside attention.cu.
 */
#include "device_kernels.h"

#include "device.cuh"
#include "device_math.h"

#define MAX_COLUMNS 4u			/* of a lane: head_dim 128 */

struct f32_shared
{
	float		p[G2D_KEYS];
};

/* Lanes i and i + 16, then the tree of 16; all get it. */
__device__ static float
warp_sum(float v)
{
	for (unsigned mask = 16; mask > 0; mask /= 2)
		v = g2s_add(v, dev_exchange(v, mask));
	return v;
}

/* Grid: (rows, heads). */
__global__ void __launch_bounds__(G2_WARP)
attention_f32_kernel(g2d_attention a)
{
	f32_shared *sh = dev_shared<f32_shared>();
	const uint32_t row = blockIdx.x,
				head = blockIdx.y,
				lane = threadIdx.x,
				dim = a.cache.head_dim,
				position = a.position_of[row];
	const float *q = a.qkv + (size_t) row * a.ldq + head * dim;
	const uint32_t *table;
	float		max = -INFINITY,
				sum = 0.0f,
				value[MAX_COLUMNS] = {};

	if (position == G2D_RESTS)
		return;
	table = g2d_tables(a.pass) + a.pass->rows[row].table;
	for (uint32_t start = 0; start <= position; start += G2D_KEYS)
	{
		const float *k = static_cast<const float *>(a.cache.kv) +
			g2d_cache_at(a.cache.n_head, dim, a.layer, table[start / G2D_KEYS], 0, head),
				   *v = static_cast<const float *>(a.cache.kv) +
			g2d_cache_at(a.cache.n_head, dim, a.layer, table[start / G2D_KEYS], 1, head);
		const uint32_t keys = position - start + 1 < G2D_KEYS ? position - start + 1 : G2D_KEYS;
		float		s = 0.0f,
					larger,
					shrink;

		for (uint32_t d = 0; d < dim; d++)
			s = g2s_fma(q[d], k[d * G2D_KEYS + lane], s);
		s = lane < keys ? g2s_mul(s, a.scale) : -INFINITY;
		larger = g2s_max(max, dev_max_of(s, G2_WARP));
		shrink = g2_expf(g2s_sub(max, larger));
		s = g2_expf(g2s_sub(s, larger));
		sum = g2s_fma(sum, shrink, warp_sum(s));
		max = larger;
		sh->p[lane] = s;
		dev_warp_barrier();
		for (uint32_t i = 0, d = lane; d < dim; i++, d += G2_WARP)
		{
			value[i] = g2s_mul(value[i], shrink);
			for (uint32_t key = 0; key < keys; key++)
				value[i] = g2s_fma(sh->p[key], v[key * dim + d], value[i]);
		}
		dev_warp_barrier();
	}
	for (uint32_t i = 0, d = lane; d < dim; i++, d += G2_WARP)
		a.out[(size_t) row * a.ldo + head * dim + d] = g2s_div(value[i], sum);
}

void
g2d_launch_attention_f32(rt_stream stream, const g2d_attention *a, uint32_t rows)
{
	dev_launch(stream, attention_f32_kernel, dim3(rows, a->cache.n_head), dim3(G2_WARP),
			   sizeof(f32_shared), *a);
}
