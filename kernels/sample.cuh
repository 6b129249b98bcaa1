/*
 * sample.cuh: sums and searches over the logits of a row, by all threads of a block; every sum is
 * one of integers, so that it does not matter who adds what.  Used by sample.cu.
 */
#ifndef G2_SAMPLE_CUH
#define G2_SAMPLE_CUH

#include "device_kernels.h"

#include "device.cuh"
#include "device_math.h"
#include "sampler_math.h"

#define SAMPLE_THREADS 256u
#define SAMPLE_WARPS (SAMPLE_THREADS / G2_WARP)
#define DIGITS 2048u			/* values of a digit of at most 11 bits of a key */
#define NOBODY UINT32_MAX

struct sample_shared
{
	uint64_t	histogram[DIGITS];
	uint64_t	part[SAMPLE_THREADS];
	uint64_t	coarse[G2_WARP];
	uint64_t	before;
	uint32_t	found;
	double		block_sum[256];	/* 2^18 / 1,024 */
};

/* The logits of a row as the sampler takes them. */
struct sample_row
{
	const float *logits;
	uint32_t	n;
	const uint64_t *banned;		/* bits; NULL: none */
	const uint64_t *seen;		/* NULL: no penalty */
	float		penalty;
	float		max;			/* of what at() gives */
	float		temperature;

	__device__ float at(uint32_t i) const
	{
		float		x = logits[i];

		if (banned && (banned[i / 64] >> i % 64 & 1))
			x = -INFINITY;
		if (seen && (seen[i / 64] >> i % 64 & 1))
			x = g2_penalized(x, penalty);
		return x;
	}
};

/* Keeps what ranks up to `key` and, of equal keys, `id`, and weighs at least `least`. */
struct sample_filter
{
	uint32_t	key;
	uint32_t	id;
	uint64_t	least;

	__device__ bool above(uint32_t k, uint32_t i) const
	{
		return k > key || (k == key && i <= id);
	}
};

/* What the filters so far leave: both prefixes, and the least weight. */
struct sample_kept
{
	sample_filter top_k;
	sample_filter top_p;
	uint64_t	least;

	__device__ uint64_t weight(const sample_row &row, uint32_t i) const
	{
		const float x = row.at(i);
		const uint32_t key = g2_rank_key(x);
		uint64_t	w;

		if (!top_k.above(key, i) || !top_p.above(key, i))
			return 0;
		w = g2_sample_weight(x, row.max, row.temperature);
		return w >= least ? w : 0;
	}
};

/* ---- over the block ---- */

template <typename F>
__device__ inline uint64_t
block_fold(sample_shared *s, uint64_t v, F combine)
{
	for (unsigned mask = G2_WARP / 2; mask > 0; mask /= 2)
		v = combine(v, dev_exchange(v, mask));
	dev_barrier();				/* what was folded before has been read */
	if (threadIdx.x % G2_WARP == 0)
		s->part[threadIdx.x / G2_WARP] = v;
	dev_barrier();
	v = s->part[0];
	for (uint32_t w = 1; w < SAMPLE_WARPS; w++)
		v = combine(v, s->part[w]);
	return v;
}

struct fold_max
{
	__device__ uint64_t operator()(uint64_t a, uint64_t b) const
	{
		return a > b ? a : b;
	}
};

struct fold_sum
{
	__device__ uint64_t operator()(uint64_t a, uint64_t b) const
	{
		return a + b;
	}
};

/*
 * Each thread brings a part, in the order of the threads.  Returns the first thread with which the
 * sum of parts reaches target (>= 1), and what it was before; NOBODY if it does not.
 */
__device__ inline uint32_t
block_find(sample_shared *s, uint64_t part, uint64_t target, uint64_t *before)
{
	const uint32_t each = SAMPLE_THREADS / G2_WARP;
	uint32_t	found;

	dev_barrier();
	s->part[threadIdx.x] = part;
	dev_barrier();
	if (threadIdx.x < G2_WARP)
	{
		uint64_t	sum = 0;

		for (uint32_t i = 0; i < each; i++)
			sum += s->part[threadIdx.x * each + i];
		s->coarse[threadIdx.x] = sum;
	}
	dev_barrier();
	if (threadIdx.x == 0)
	{
		uint64_t	sum = 0;
		uint32_t	c = 0,
					i;

		while (c < G2_WARP && sum + s->coarse[c] < target)
			sum += s->coarse[c++];
		for (i = c * each; c < G2_WARP && sum + s->part[i] < target; i++)
			sum += s->part[i];
		s->found = c < G2_WARP ? i : NOBODY;
		s->before = sum;
	}
	dev_barrier();
	found = s->found;
	*before = s->before;
	return found;
}

/* The ids of a thread where order matters: a range of its own, ascending with the thread. */
__device__ inline void
own_range(uint32_t n, uint32_t *first, uint32_t *end)
{
	const uint32_t each = (n + SAMPLE_THREADS - 1) / SAMPLE_THREADS;

	*first = threadIdx.x * each < n ? threadIdx.x * each : n;
	*end = n - *first < each ? n : *first + each;
}

/* The sum of the parts of the threads before. */
__device__ inline uint64_t
block_before(sample_shared *s, uint64_t part)
{
	uint64_t	sum = 0;

	dev_barrier();
	s->part[threadIdx.x] = part;
	dev_barrier();
	for (uint32_t i = 0; i < threadIdx.x; i++)
		sum += s->part[i];
	return sum;
}

/* What the one thread that knows tells all. */
__device__ inline uint32_t
block_tell(sample_shared *s, bool knows, uint32_t v)
{
	dev_barrier();
	if (knows)
		s->found = v;
	dev_barrier();
	return s->found;
}

/* ---- prefixes in rank order ---- */

/*
 * The last member of the shortest rank prefix of what `kept` leaves whose weights (or, with `ones`,
 * whose number) add up to target; 1 <= target <= sum of all.  By histograms over the key's digits
 * (11 + 11 + 10 bits), of which each looks only at keys with the digits found so far.
 */
__device__ inline sample_filter
find_prefix(sample_shared *s, const sample_row &row, const sample_kept &kept, bool ones,
			uint64_t target)
{
	uint32_t	key = 0,
				first,
				end;
	uint64_t	above = 0,		/* sum of the keys known to lie above the one searched for */
				before,
				ties = 0;

	for (uint32_t level = 0; level < 3; level++)
	{
		const uint32_t bits = level < 2 ? 11 : 10,
					fixed = level * 11,
					shift = 32 - fixed - bits,
					digits = 1u << bits,
					each = digits / SAMPLE_THREADS;
		uint64_t	part = 0;
		uint32_t	owner,
					digit = 0;

		for (uint32_t i = threadIdx.x; i < digits; i += SAMPLE_THREADS)
			s->histogram[i] = 0;
		dev_barrier();
		for (uint32_t i = threadIdx.x; i < row.n; i += SAMPLE_THREADS)
		{
			const uint32_t k = g2_rank_key(row.at(i));

			if (fixed > 0 && k >> (32 - fixed) != key >> (32 - fixed))
				continue;
			if (ones)
				dev_shared_add(&s->histogram[k >> shift & (digits - 1)], 1);
			else
				dev_shared_add(&s->histogram[k >> shift & (digits - 1)], kept.weight(row, i));
		}
		dev_barrier();
		for (uint32_t i = 0; i < each; i++)	/* the first thread has the highest digits */
			part += s->histogram[digits - 1 - threadIdx.x * each - i];
		owner = block_find(s, part, target - above, &before);
		if (threadIdx.x == owner)
		{
			digit = digits - 1 - threadIdx.x * each;
			while (before + s->histogram[digit] < target - above)
				before += s->histogram[digit--];
			s->before = before;
		}
		digit = block_tell(s, threadIdx.x == owner, digit);
		above += s->before;
		key |= digit << shift;
		dev_barrier();
	}
	/* What is left are equal keys, which weigh the same: the last of so many, ids ascending. */
	own_range(row.n, &first, &end);
	for (uint32_t i = first; i < end; i++)
		if (g2_rank_key(row.at(i)) == key)
			ties += ones ? 1 : kept.weight(row, i);
	const uint32_t owner = block_find(s, ties, target - above, &before);
	uint32_t	id = 0;

	if (threadIdx.x == owner)
		for (id = first; id < end; id++)
			if (g2_rank_key(row.at(id)) == key)
			{
				before += ones ? 1 : kept.weight(row, id);
				if (before >= target - above)
					break;
			}
	return {key, block_tell(s, threadIdx.x == owner, id), 0};
}

#endif							/* G2_SAMPLE_CUH */
