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

#define SAMPLE_THREADS 512u
#define SAMPLE_WARPS (SAMPLE_THREADS / G2_WARP)
#define DIGITS 2048u			/* values of a digit of at most 11 bits of a key */
#define NOBODY UINT32_MAX

struct sample_shared
{
	uint64_t	histogram[DIGITS];
	uint64_t	part[SAMPLE_THREADS];
	uint64_t	coarse[G2_WARP];
	uint64_t	before;
	uint64_t	above;			/* not `before`, which some threads may still be reading */
	uint32_t	found;
	double		block_sum[256];	/* 2^18 / 1,024 */
};

/* The logits of a row as a token is chosen from them. */
struct sample_row
{
	const float *logits;
	uint32_t	n;
	float		max;			/* of them */
	float		temperature;

	__device__ float exponent(uint32_t i) const
	{
		return g2_sample_exponent(logits[i], max, temperature);
	}
};

/* Orders in which filters keep a prefix: of larger keys, of equal ones the lower id. */
struct by_logit
{
	__device__ uint32_t operator()(const sample_row &row, uint32_t i) const
	{
		return g2_rank_key(row.logits[i]);
	}
};

struct by_typicality
{
	double		mean;			/* of exponents by weight */

	__device__ uint32_t operator()(const sample_row &row, uint32_t i) const
	{
		return g2_typical_key(mean, row.exponent(i));
	}
};

/* The last member of a prefix. */
struct sample_prefix
{
	uint32_t	key;
	uint32_t	id;

	__device__ bool has(uint32_t k, uint32_t i) const
	{
		return k > key || (k == key && i <= id);
	}
};

/* What the filters so far leave: three prefixes, and the least weight. */
struct sample_kept
{
	sample_prefix top_k = {0, NOBODY};
	bool		only_typical = false;
	by_typicality typicality = {0.0};
	sample_prefix typical = {0, NOBODY};
	sample_prefix top_p = {0, NOBODY};
	uint64_t	least = 0;

	__device__ uint64_t weight(const sample_row &row, uint32_t i) const
	{
		const uint32_t key = by_logit()(row, i);
		uint64_t	w;

		if (!top_k.has(key, i) || !top_p.has(key, i) ||
			(only_typical && !typical.has(typicality(row, i), i)))
			return 0;
		w = g2_sample_weight(row.logits[i], row.max, row.temperature);
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
 * The last member of the shortest prefix, in an order, of what `kept` leaves whose weights (or, with
 * `ones`, whose number) add up to target; 1 <= target <= sum of all.  By histograms over the key's
 * digits (11 + 11 + 10 bits), of which each looks only at keys with the digits found so far.
 */
template <typename ORDER>
__device__ inline sample_prefix
find_prefix(sample_shared *s, const sample_row &row, const sample_kept &kept, const ORDER &order,
			bool ones, uint64_t target)
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
			const uint32_t k = order(row, i);

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
			s->above = before;
		}
		digit = block_tell(s, threadIdx.x == owner, digit);
		above += s->above;
		key |= digit << shift;
		dev_barrier();
	}
	/* What is left are equal keys: ids ascending. */
	own_range(row.n, &first, &end);
	for (uint32_t i = first; i < end; i++)
		if (order(row, i) == key)
			ties += ones ? 1 : kept.weight(row, i);
	const uint32_t owner = block_find(s, ties, target - above, &before);
	uint32_t	id = 0;

	if (threadIdx.x == owner)
		for (id = first; id < end; id++)
			if (order(row, id) == key)
			{
				before += ones ? 1 : kept.weight(row, id);
				if (before >= target - above)
					break;
			}
	return {key, block_tell(s, threadIdx.x == owner, id)};
}

#endif							/* G2_SAMPLE_CUH */
