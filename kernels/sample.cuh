/*
 * sample.cuh: sums and searches over the logits of a row, by all threads of a block; every sum is
 * one of integers, so that it does not matter who adds what.  Used by prefix.cuh and sample.cu.
 */
#ifndef G2_SAMPLE_CUH
#define G2_SAMPLE_CUH

#include "device_kernels.h"

#include "device.cuh"
#include "device_math.h"
#include "sampler_math.h"

#define SAMPLE_THREADS 512u
#define SAMPLE_WARPS (SAMPLE_THREADS / G2_WARP)
#define DIGITS 2048u			/* bins of a histogram; values of a digit of at most 11 bits of a key */
#define MEMBERS SAMPLE_THREADS	/* that shared memory has room for: one a thread */
#define NOBODY UINT32_MAX

struct sample_member
{
	uint64_t	weight;
	uint32_t	key;
	uint32_t	at;				/* in the row */
};

/* The last member of a prefix. */
struct sample_prefix
{
	uint32_t	key;
	uint32_t	at;

	__device__ bool has(uint32_t k, uint32_t i) const
	{
		return k > key || (k == key && i <= at);
	}
};

struct sample_found
{
	sample_prefix prefix;
	uint64_t	sum;			/* of its weights */
};

struct sample_shared
{
	uint64_t	histogram[DIGITS];
	uint64_t	part[SAMPLE_WARPS];
	sample_member member[MEMBERS];
	uint32_t	n_members;		/* may be more than there is room for */
	uint32_t	strips[MEMBERS];
	sample_found found;
	double		block_sum[256];	/* 2^18 / 1,024 */
};

/* The logits of a row as a token is chosen from them: of all ids, or of those of some strips of 16. */
struct sample_row
{
	const float *logits;
	uint32_t	n_ids;
	float		max;			/* of them */
	float		temperature;
	uint32_t	n;
	const uint32_t *strips;		/* [n / 16] ascending, so that ids ascend too; or NULL */

	__device__ sample_row(const float *logits_, uint32_t n_, float max_, float temperature_)
		: logits(logits_), n_ids(n_), max(max_), temperature(temperature_), n(n_), strips(NULL) {}

	__device__ uint32_t id(uint32_t i) const
	{
		return strips ? strips[i / G2D_STRIP] * G2D_STRIP + i % G2D_STRIP : i;
	}

	/* Behind the last id: like the least, and behind all such. */
	__device__ float logit(uint32_t i) const
	{
		return id(i) < n_ids ? logits[id(i)] : -INFINITY;
	}

	__device__ float exponent(float logit) const
	{
		return g2_sample_exponent(logit, max, temperature);
	}
};

/* The best of each strip of a row. */
struct strip_row
{
	const uint64_t *best;
	uint32_t	n;
	float		max;

	__device__ float logit(uint32_t i) const
	{
		return g2_rank_logit((uint32_t) (best[i] >> 32));
	}
};

/*
 * Orders in which filters keep a prefix: of larger keys, of equal ones the lower place.  distance() is
 * not less where the key is smaller, and about the distance from the largest; or not a number.
 */
struct by_logit
{
	float		max;

	__device__ uint32_t key(float logit) const
	{
		return g2_rank_key(logit);
	}

	__device__ float distance(float logit) const
	{
		return g2s_sub(max, logit);
	}
};

struct by_typicality
{
	const sample_row &row;
	double		mean;			/* of exponents by weight */

	__device__ uint32_t key(float logit) const
	{
		return g2_typical_key(mean, row.exponent(logit));
	}

	__device__ float distance(float logit) const
	{
		return g2s_sub(0.0f, g2_rank_logit(key(logit)));
	}
};

/* What the filters so far leave: three prefixes, and the least weight. */
struct sample_kept
{
	sample_prefix top_k = {0, NOBODY};
	bool		only_typical = false;
	double		mean = 0.0;
	sample_prefix typical = {0, NOBODY};
	sample_prefix top_p = {0, NOBODY};
	uint64_t	least = 0;
};

struct kept_weight
{
	const sample_row &row;
	const sample_kept &kept;

	__device__ uint64_t operator()(uint32_t i, float logit) const
	{
		const uint32_t key = g2_rank_key(logit);
		uint64_t	w;

		if (!kept.top_k.has(key, i) || !kept.top_p.has(key, i) ||
			(kept.only_typical && !kept.typical.has(by_typicality{row, kept.mean}.key(logit), i)))
			return 0;
		w = g2_sample_weight(logit, row.max, row.temperature);
		return w >= kept.least ? w : 0;
	}
};

struct one_each
{
	__device__ uint64_t operator()(uint32_t, float) const
	{
		return 1;
	}
};

/* ---- over the block ---- */

/* f(i, logit) for every step-th place of a row from the first on; logits are asked for four ahead. */
template <typename ROW, typename F>
__device__ inline void
for_logits(const ROW &row, uint32_t first, uint32_t end, uint32_t step, const F &f)
{
	const uint32_t ahead = 4;
	float		next[ahead];

#pragma unroll
	for (uint32_t j = 0; j < ahead; j++)
		next[j] = first + j * step < end ? row.logit(first + j * step) : 0.0f;
#pragma unroll 1
	for (uint32_t i = first; i < end; i += step)
	{
		const float logit = next[0];

#pragma unroll
		for (uint32_t j = 1; j < ahead; j++)
			next[j - 1] = next[j];
		next[ahead - 1] = i + ahead * step < end ? row.logit(i + ahead * step) : 0.0f;
		f(i, logit);
	}
}

/* Every thread its own places. */
template <typename ROW, typename F>
__device__ inline void
for_own_logits(const ROW &row, const F &f)
{
	for_logits(row, threadIdx.x, row.n, SAMPLE_THREADS, f);
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

/* Leaves what each warp's v are together in s->part. */
template <typename F>
__device__ inline void
fold_warps(sample_shared *s, uint64_t v, F combine)
{
	for (unsigned mask = G2_WARP / 2; mask > 0; mask /= 2)
		v = combine(v, dev_exchange(v, mask));
	dev_barrier();				/* what was folded before has been read */
	if (threadIdx.x % G2_WARP == 0)
		s->part[threadIdx.x / G2_WARP] = v;
	dev_barrier();
}

template <typename F>
__device__ inline uint64_t
block_fold(sample_shared *s, uint64_t v, F combine)
{
	fold_warps(s, v, combine);
	v = s->part[0];
	for (uint32_t w = 1; w < SAMPLE_WARPS; w++)
		v = combine(v, s->part[w]);
	return v;
}

/*
 * The first of 0 .. n - 1 with which the sum of parts reaches target (>= 1), and what it was before;
 * NOBODY if it does not.  sum(first, end) is that of a thread: of every 32nd part.  Warps share out all,
 * then what the one has that it is with, until that is one.
 */
template <typename SUM>
__device__ inline uint32_t
find_first(sample_shared *s, uint32_t n, const SUM &sum, uint64_t target, uint64_t *before)
{
	const uint32_t warp = threadIdx.x / G2_WARP;
	uint32_t	first = 0,
				each;

	*before = 0;
	do
	{
		const uint32_t end = first + n;
		uint32_t	w = 0;

		each = (n + SAMPLE_WARPS - 1) / SAMPLE_WARPS;
		fold_warps(s, sum(first + warp * each + threadIdx.x % G2_WARP,
						  G2_MIN(first + (warp + 1) * each, end)), fold_sum());
		while (w < SAMPLE_WARPS && *before + s->part[w] < target)
			*before += s->part[w++];
		if (w == SAMPLE_WARPS)
			return NOBODY;
		first += w * each;
		n = G2_MIN(each, end - first);
	} while (each > 1);
	return first;
}

/* Of the weights of a row. */
template <typename ROW, typename WEIGHT>
__device__ inline uint32_t
find_weight(sample_shared *s, const ROW &row, const WEIGHT &weight, uint64_t target, uint64_t *before)
{
	return find_first(s, row.n, [&](uint32_t first, uint32_t end) {
		uint64_t	sum = 0;

		for_logits(row, first, end, G2_WARP, [&](uint32_t i, float x) { sum += weight(i, x); });
		return sum;
	}, target, before);
}

#endif							/* G2_SAMPLE_CUH */
