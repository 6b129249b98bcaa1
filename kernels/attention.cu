/*
 * attention.cu: attention over a bf16 cache, one template for prompts and new tokens: a tile of up
 * to 16 queries of one sequence and head against a segment of 256 keys; a new token is a tile with
 * one query.  m16n8k16 in both.
 *
 * The order is fixed by positions alone.  A segment has one maximum (of all its keys, so that
 * blocks need not wait for each other) and one sum (blocks of 32 keys ascending); weights are
 * rounded to bf16, and are added up as rounded; values are one chain of mma.sync, keys ascending.
 * Segments are combined in ascending order.  Keys that a query does not see weigh exactly 0.
 *
 * A block of 8 warps: each takes a block of 32 keys for the scores, then 8 columns (or 2 x 8) of
 * the values.
 *
 * What the cache holds behind the last query may be anything; it is not multiplied.  The cache
 * holds no infinite value but NaN instead (store_kernel), which reaches the queries that see it,
 * also within a tile.
 */
#include "device_kernels.h"

#include "device.cuh"
#include "device_math.h"

#define WARPS 8u
#define THREADS (WARPS * G2_WARP)
#define P_LD (G2D_SEGMENT / 8 + 1)	/* uint4 of a row of weights in shared memory */

struct attention_shared
{
	float		max[WARPS][G2D_TILE];
	float		sum[WARPS][G2D_TILE];
	uint32_t	nan_from[128];	/* by column of the values: the first query that sees a NaN there */
	uint4		p[G2D_TILE][P_LD];	/* 8 weights each, bf16 */
};

/* What a thread must know of its tile. */
struct tile
{
	uint32_t	row;
	uint32_t	rows;
	uint32_t	first;			/* position of the first query */
	uint32_t	last;
	uint32_t	start;			/* first key of the segment */
	uint32_t	blocks;			/* of 32 keys, in this segment, that any query sees */
	const uint32_t *table;
};

__device__ static uint32_t
pack_bf16(float low, float high)
{
	return (uint32_t) g2d_to_bf16(high) << 16 | g2d_to_bf16(low);
}

/* Register i of b and of a for step s of 16 k: with lane = 4 g + t, k is dealt so that each t has a
 * contiguous part, 4 values a step.  The same deal on both sides changes no sum's members. */
template <uint32_t HEAD_DIM>
__device__ static uint4
query_fragment(const g2d_attention &a, const tile &t, uint32_t head, uint32_t lane, uint32_t s)
{
	const uint32_t d = lane % 4 * (HEAD_DIM / 4) + s * 4;
	float		q[2][4] = {};

	for (uint32_t half = 0; half < 2; half++)
	{
		uint32_t	r = lane / 4 + half * 8;

		if (r < t.rows)
		{
			const uint4 from = dev_load16(a.qkv + (size_t) (t.row + r) * a.ldq + head * HEAD_DIM + d);

			q[half][0] = g2_bits_float(from.x);
			q[half][1] = g2_bits_float(from.y);
			q[half][2] = g2_bits_float(from.z);
			q[half][3] = g2_bits_float(from.w);
		}
	}
	return uint4{pack_bf16(q[0][0], q[0][1]), pack_bf16(q[1][0], q[1][1]),
		pack_bf16(q[0][2], q[0][3]), pack_bf16(q[1][2], q[1][3])};
}

/* Scores of the warp's 32 keys: s[8 keys][4], masked ones -inf. */
template <uint32_t HEAD_DIM>
__device__ static void
scores(const g2d_attention &a, const tile &t, uint32_t head, uint32_t block, float (&s)[4][4])
{
	const uint32_t lane = threadIdx.x % G2_WARP,
				start = t.start + block * G2D_KEYS;
	const uint16_t *keys = static_cast<const uint16_t *>(a.cache.kv) +
		g2d_cache_at(a.cache.n_head, HEAD_DIM, a.layer, t.table[start / G2D_KEYS], 0, head) +
		lane / 4 * HEAD_DIM + lane % 4 * (HEAD_DIM / 4);

#pragma unroll 2				/* heads of 64: all; more at once would not fit the registers */
	for (uint32_t step = 0; step < HEAD_DIM / 16; step += 2)
	{
		const uint4 q0 = query_fragment<HEAD_DIM>(a, t, head, lane, step),
					q1 = query_fragment<HEAD_DIM>(a, t, head, lane, step + 1);

#pragma unroll
		for (uint32_t j = 0; j < 4; j++)
		{
			const uint4 k = dev_load16(keys + j * 8 * HEAD_DIM + step * 4);

			dev_mma_bf16(s[j], q0, uint2{k.x, k.y});
			dev_mma_bf16(s[j], q1, uint2{k.z, k.w});
		}
	}
#pragma unroll
	for (uint32_t j = 0; j < 4; j++)
	{
#pragma unroll
		for (uint32_t i = 0; i < 4; i++)
		{
			const uint32_t r = lane / 4 + i / 2 * 8,
						key = start + j * 8 + lane % 4 * 2 + i % 2;

			s[j][i] = r < t.rows && key <= t.first + r ? g2s_mul(s[j][i], a.scale) : -INFINITY;
		}
	}
}

/* The largest score of each row among the warp's keys, to shared memory; NaN is passed over. */
__device__ static void
note_max(attention_shared *sh, uint32_t block, const float (&s)[4][4])
{
	const uint32_t lane = threadIdx.x % G2_WARP;

	for (uint32_t half = 0; half < 2; half++)
	{
		float		max = -INFINITY;

		for (uint32_t j = 0; j < 4; j++)
			for (uint32_t i = 0; i < 2; i++)
				max = s[j][half * 2 + i] > max ? s[j][half * 2 + i] : max;
		max = dev_max_of(max, 4);
		if (lane % 4 == 0)
			sh->max[block][lane / 4 + half * 8] = max;
	}
}

/* The segment's maximum of a row; -inf where the row sees none of it. */
__device__ static float
segment_max(const attention_shared *sh, const tile &t, uint32_t r)
{
	float		max = -INFINITY;

	for (uint32_t b = 0; b < t.blocks; b++)
		max = sh->max[b][r] > max ? sh->max[b][r] : max;
	return max;
}

/* Word i of four; other threads set the others. */
__device__ static void
set_word(uint4 *to, uint32_t i, uint32_t v)
{
	uint32_t   *word = i == 0 ? &to->x : i == 1 ? &to->y : i == 2 ? &to->z : &to->w;

	*word = v;
}

/* Weights of the warp's keys, and their sum in each row, to shared memory. */
__device__ static void
note_weights(attention_shared *sh, const tile &t, uint32_t block, const float (&s)[4][4])
{
	const uint32_t lane = threadIdx.x % G2_WARP;

	for (uint32_t half = 0; half < 2; half++)
	{
		const uint32_t r = lane / 4 + half * 8;
		const float max = segment_max(sh, t, r);
		const bool	sees = r < t.rows && t.first + r >= t.start;
		float		sum = 0.0f;

		for (uint32_t j = 0; j < 4; j++)
		{
			uint32_t	pair = 0;

			if (sees)
			{
				float		p0 = g2_expf(g2s_sub(s[j][half * 2], max)),
							p1 = g2_expf(g2s_sub(s[j][half * 2 + 1], max));

				pair = pack_bf16(p0, p1);
				sum = g2s_add(sum, g2d_from_bf16((uint16_t) pair));
				sum = g2s_add(sum, g2d_from_bf16((uint16_t) (pair >> 16)));
			}
			set_word(&sh->p[r][block * 4 + j], lane % 4, pair);
		}
		sum = g2s_add(sum, dev_exchange(sum, 1));
		sum = g2s_add(sum, dev_exchange(sum, 2));
		if (lane % 4 == 0)
			sh->sum[block][r] = sum;
	}
}

/* 8 values, of keys from `key` on, without what not every query of the tile sees and is not finite;
 * returns the first query that sees such a one. */
__device__ static uint32_t
clean_values(const tile &t, uint32_t key, uint4 *v)
{
	uint32_t	words[4] = {v->x, v->y, v->z, v->w},
				nan_from = G2D_TILE;

	for (uint32_t i = 0; i < 8; i++, key++)
	{
		const uint32_t half = 0xffffu << i % 2 * 16,
					exponent = 0x7f80u << i % 2 * 16;

		if (key <= t.first)
			continue;
		if (key > t.last)
			words[i / 2] &= ~half;
		else if ((words[i / 2] & exponent) == exponent)
		{
			words[i / 2] &= ~half;
			nan_from = key - t.first < nan_from ? key - t.first : nan_from;
		}
	}
	*v = uint4{words[0], words[1], words[2], words[3]};
	return nan_from;
}

/* Asks for a lane's part of columns 8 c .. 8 c + 7 of the segment's values, all blocks at once: one
 * after the other each would wait for the memory.  Behind the last block it is the last again. */
template <uint32_t HEAD_DIM>
__device__ static void
load_values(const g2d_attention &a, const tile &t, uint32_t head, uint32_t c, uint4 (&v)[WARPS])
{
	const uint32_t lane = threadIdx.x % G2_WARP;

#pragma unroll
	for (uint32_t b = 0; b < WARPS; b++)
	{
		const uint32_t block = t.start / G2D_KEYS + (b < t.blocks ? b : t.blocks - 1);

		v[b] = dev_load16(static_cast<const uint16_t *>(a.cache.kv) +
						  g2d_cache_at(a.cache.n_head, HEAD_DIM, a.layer, t.table[block], 1, head) +
						  (c * 8 + lane / 4) * G2D_KEYS + lane % 4 * 8);
	}
}

/* Columns 8 c .. 8 c + 7 of the weighted values of the segment. */
__device__ static void
values(attention_shared *sh, const tile &t, uint32_t c, uint4 (&v)[WARPS], float (&o)[4])
{
	const uint32_t lane = threadIdx.x % G2_WARP,
				g = lane / 4;
	uint32_t	nan_from = G2D_TILE;

#pragma unroll
	for (uint32_t b = 0; b < WARPS; b++)
	{
		const uint32_t start = t.start + b * G2D_KEYS;

		if (b >= t.blocks)
			break;
		const uint4 p = sh->p[g][b * 4 + lane % 4],
					q = sh->p[g + 8][b * 4 + lane % 4];

		if (start + G2D_KEYS - 1 > t.first)
		{
			uint32_t	from = clean_values(t, start + lane % 4 * 8, &v[b]);

			nan_from = from < nan_from ? from : nan_from;
		}
		dev_mma_bf16(o, uint4{p.x, q.x, p.y, q.y}, uint2{v[b].x, v[b].y});
		dev_mma_bf16(o, uint4{p.z, q.z, p.w, q.w}, uint2{v[b].z, v[b].w});
	}
	for (unsigned mask = 1; mask < 4; mask *= 2)
	{
		uint32_t	other = dev_exchange(nan_from, mask);

		nan_from = other < nan_from ? other : nan_from;
	}
	if (lane % 4 == 0)
		sh->nan_from[c * 8 + g] = nan_from;
	dev_warp_barrier();
#pragma unroll
	for (uint32_t i = 0; i < 4; i++)
		if (g + i / 2 * 8 >= sh->nan_from[c * 8 + lane % 4 * 2 + i % 2])
			o[i] = g2_bits_float(0x7fffffffu);	/* as mma.sync makes them */
}

/* Column `column` of a row's heads. */
__device__ static void
put(const g2d_attention &a, uint32_t row, uint32_t column, float v)
{
	if (a.to.x)
		g2d_put_bf16(static_cast<char *>(a.to.x) + (size_t) row * a.to.ld, column, v);
	else
		a.out[(size_t) row * a.ldo + column] = v;
}

/* Where the part of a row, head and segment stands. */
template <uint32_t HEAD_DIM>
__device__ static float *
part_at(const g2d_attention &a, uint32_t row, uint32_t head, uint32_t segment)
{
	return a.parts + (((size_t) row * a.cache.n_head + head) * a.segments + segment) *
		(HEAD_DIM + 2);
}

/* A query with one segment is done; of one with several, this one's part is kept. */
template <uint32_t HEAD_DIM>
__device__ static void
give(const g2d_attention &a, const attention_shared *sh, const tile &t, uint32_t head, uint32_t c,
	 const float (&o)[4])
{
	const uint32_t lane = threadIdx.x % G2_WARP,
				column = c * 8 + lane % 4 * 2;

	for (uint32_t half = 0; half < 2; half++)
	{
		const uint32_t r = lane / 4 + half * 8,
					position = t.first + r;
		float		sum = 0.0f;

		if (r >= t.rows || position < t.start)
			continue;
		for (uint32_t b = 0; b < t.blocks; b++)
			sum = g2s_add(sum, sh->sum[b][r]);
		if (g2d_segments(position) == 1)
		{
			put(a, t.row + r, head * HEAD_DIM + column, g2s_div(o[half * 2], sum));
			put(a, t.row + r, head * HEAD_DIM + column + 1, g2s_div(o[half * 2 + 1], sum));
			continue;
		}
		float	   *part = part_at<HEAD_DIM>(a, t.row + r, head, t.start / G2D_SEGMENT);

		part[column] = o[half * 2];
		part[column + 1] = o[half * 2 + 1];
		if (column == 0)
		{
			part[HEAD_DIM] = segment_max(sh, t, r);
			part[HEAD_DIM + 1] = sum;
		}
	}
}

/* Grid: (heads, tiles, segments). */
template <uint32_t HEAD_DIM>
__global__ void __launch_bounds__(THREADS, 2)
attention_kernel(g2d_attention a)
{
	attention_shared *sh = dev_shared<attention_shared>();
	const uint32_t head = blockIdx.x,
				warp = threadIdx.x / G2_WARP;
	const g2d_tile *of_pass;
	tile		t;
	float		s[4][4] = {};
	uint4		v[WARPS];

	if (blockIdx.y >= a.pass->n_tiles)
		return;
	of_pass = g2d_tiles(a.pass) + blockIdx.y;
	t.row = of_pass->row;
	t.rows = of_pass->rows;
	t.first = a.position_of[t.row];
	t.last = t.first + t.rows - 1;
	t.start = blockIdx.z * G2D_SEGMENT;
	t.table = g2d_tables(a.pass) + a.pass->rows[t.row].table;
	if (t.first == G2D_RESTS || t.start > t.last)
		return;
	t.blocks = (t.last - t.start) / G2D_KEYS + 1;
	t.blocks = t.blocks < WARPS ? t.blocks : WARPS;

	if (warp < t.blocks)
		scores<HEAD_DIM>(a, t, head, warp, s);
	load_values<HEAD_DIM>(a, t, head, warp, v);	/* they come while scores become weights */
	if (warp < t.blocks)
		note_max(sh, warp, s);
	dev_barrier();
	if (warp < t.blocks)
		note_weights(sh, t, warp, s);
	dev_barrier();
#pragma unroll 1
	for (uint32_t n = 0; n < HEAD_DIM / 8 / WARPS; n++)
	{
		const uint32_t c = n * WARPS + warp;
		float		o[4] = {};

		if (n > 0)
			load_values<HEAD_DIM>(a, t, head, c, v);
		values(sh, t, c, v, o);
		give<HEAD_DIM>(a, sh, t, head, c, o);
	}
}

/* Grid: (rows, heads); a thread a column.  Rows with one segment are done. */
template <uint32_t HEAD_DIM>
__global__ void __launch_bounds__(HEAD_DIM)
combine_kernel(g2d_attention a)
{
	const uint32_t row = blockIdx.x,
				head = blockIdx.y,
				d = threadIdx.x,
				position = a.position_of[row];
	const uint32_t segments = position == G2D_RESTS ? 0 : g2d_segments(position);
	const float *part;
	float		value,
				max,
				sum;

	if (segments < 2)
		return;
	part = part_at<HEAD_DIM>(a, row, head, 0);
	value = part[d];
	max = part[HEAD_DIM];
	sum = part[HEAD_DIM + 1];
	for (uint32_t s = 1; s < segments; s++)
	{
		part += HEAD_DIM + 2;
		const float larger = g2s_max(max, part[HEAD_DIM]),
					before = g2_expf(g2s_sub(max, larger)),
					now = g2_expf(g2s_sub(part[HEAD_DIM], larger));

		value = g2s_fma(part[d], now, g2s_mul(value, before));
		sum = g2s_fma(part[HEAD_DIM + 1], now, g2s_mul(sum, before));
		max = larger;
	}
	put(a, row, head * HEAD_DIM + d, g2s_div(value, sum));
}

template <uint32_t HEAD_DIM>
static void
launch(rt_stream stream, const g2d_attention *a, uint32_t tiles, uint32_t rows)
{
	dev_launch(stream, attention_kernel<HEAD_DIM>, dim3(a->cache.n_head, tiles, a->segments),
			   dim3(THREADS), sizeof(attention_shared), *a);
	if (a->segments > 1)
		dev_launch(stream, combine_kernel<HEAD_DIM>, dim3(rows, a->cache.n_head), dim3(HEAD_DIM), 0,
				   *a);
}

void
g2d_launch_attention(rt_stream stream, const g2d_attention *a, uint32_t tiles, uint32_t rows)
{
	if (a->cache.head_dim == 64)
		launch<64>(stream, a, tiles, rows);
	else
		launch<128>(stream, a, tiles, rows);
}
