/*
 * sample.cuh: sums and searches over the logits of a row, by all threads of a block; every sum is
 * one of integers, so that it does not matter who adds what.  Used by sample.cu.
 *
 * A vocabulary is read as few times as can be: the last member of a prefix is found in two passes
 * (find_prefix), the k best without one, by the best of each strip that the head has left (keep_strips).
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

	__device__ float exponent(uint32_t i) const
	{
		return g2_sample_exponent(logit(i), max, temperature);
	}
};

/*
 * Orders in which filters keep a prefix: of larger keys, of equal ones the lower place.  distance() is
 * not less where the key is smaller, and about the distance from the largest; or not a number.
 */
struct by_logit
{
	const sample_row &row;

	__device__ uint32_t key(uint32_t i) const
	{
		return g2_rank_key(row.logit(i));
	}

	__device__ float distance(uint32_t i) const
	{
		return g2s_sub(row.max, row.logit(i));
	}
};

struct by_typicality
{
	const sample_row &row;
	double		mean;			/* of exponents by weight */

	__device__ uint32_t key(uint32_t i) const
	{
		return g2_typical_key(mean, row.exponent(i));
	}

	__device__ float distance(uint32_t i) const
	{
		return g2s_sub(0.0f, g2_rank_logit(key(i)));
	}
};

/* Strips by their best. */
struct by_best
{
	const uint64_t *best;
	float		max;

	__device__ uint32_t key(uint32_t i) const
	{
		return (uint32_t) (best[i] >> 32);
	}

	__device__ float distance(uint32_t i) const
	{
		return g2s_sub(max, g2_rank_logit(key(i)));
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

	__device__ uint64_t operator()(uint32_t i) const
	{
		const uint32_t key = by_logit{row}.key(i);
		uint64_t	w;

		if (!kept.top_k.has(key, i) || !kept.top_p.has(key, i) ||
			(kept.only_typical && !kept.typical.has(by_typicality{row, kept.mean}.key(i), i)))
			return 0;
		w = g2_sample_weight(row.logit(i), row.max, row.temperature);
		return w >= kept.least ? w : 0;
	}
};

struct one_each
{
	__device__ uint64_t operator()(uint32_t) const
	{
		return 1;
	}
};

/* ---- over the block ---- */

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
 * NOBODY if it does not.  Warps share out all, then what the one has that it is with, until that is one.
 */
template <typename PART>
__device__ inline uint32_t
find_first(sample_shared *s, uint32_t n, const PART &part, uint64_t target, uint64_t *before)
{
	const uint32_t warp = threadIdx.x / G2_WARP;
	uint32_t	first = 0,
				each;

	*before = 0;
	do
	{
		const uint32_t end = first + n;
		uint32_t	stop,
					w = 0;
		uint64_t	sum = 0;

		each = (n + SAMPLE_WARPS - 1) / SAMPLE_WARPS;
		stop = G2_MIN(first + (warp + 1) * each, end);
#pragma unroll 4
		for (uint32_t i = first + warp * each + threadIdx.x % G2_WARP; i < stop; i += G2_WARP)
			sum += part(i);
		fold_warps(s, sum, fold_sum());
		while (w < SAMPLE_WARPS && *before + s->part[w] < target)
			*before += s->part[w++];
		if (w == SAMPLE_WARPS)
			return NOBODY;
		first += w * each;
		n = G2_MIN(each, end - first);
	} while (each > 1);
	return first;
}

/* ---- prefixes in rank order ---- */

/* Higher ones are nearer; 0: too far for the others, of 1/64 each. */
__device__ inline uint32_t
bin_of(float distance)
{
	const float at = g2s_mul(distance, 64.0f);

	if (!(at < (float) (DIGITS - 1)))
		return 0;
	return DIGITS - 1 - (at > 0.0f ? (uint32_t) at : 0);
}

/* The highest digit with which the sum reaches target, and what it was before. */
__device__ inline uint32_t
find_digit(sample_shared *s, uint32_t digits, uint64_t target, uint64_t *above)
{
	const uint64_t *histogram = s->histogram;

	return digits - 1 - find_first(s, digits, [=](uint32_t i) { return histogram[digits - 1 - i]; },
								   target, above);
}

__device__ inline void
clear_histogram(sample_shared *s)
{
	dev_barrier();				/* what was there has been read */
	for (uint32_t i = threadIdx.x; i < DIGITS; i += SAMPLE_THREADS)
		s->histogram[i] = 0;
	if (threadIdx.x == 0)
		s->n_members = 0;
	dev_barrier();
}

/* By the key's digits (11 + 11 + 10 bits), each of keys with the digits found so far; then, of equal
 * keys, by place. */
template <typename ORDER, typename WEIGHT>
__device__ inline sample_found
find_by_digits(sample_shared *s, uint32_t n, const ORDER &order, const WEIGHT &weight, uint64_t target)
{
	uint32_t	key = 0,
				at;
	uint64_t	above = 0,
				before;

	for (uint32_t level = 0; level < 3; level++)
	{
		const uint32_t bits = level < 2 ? 11 : 10,
					fixed = level * 11,
					shift = 32 - fixed - bits,
					digits = 1u << bits;

		clear_histogram(s);
		for (uint32_t i = threadIdx.x; i < n; i += SAMPLE_THREADS)
		{
			const uint32_t k = order.key(i);

			if (fixed == 0 || k >> (32 - fixed) == key >> (32 - fixed))
				dev_shared_add(&s->histogram[k >> shift & (digits - 1)], weight(i));
		}
		dev_barrier();
		key |= find_digit(s, digits, target - above, &before) << shift;
		above += before;
	}
	at = find_first(s, n, [&](uint32_t i) { return order.key(i) == key ? weight(i) : 0; },
					target - above, &before);
	return {{key, at}, above + before + weight(at)};
}

/* A prefix's sum of weights: so much, or (p > 0) that part of all. */
struct prefix_target
{
	uint64_t	sum;
	float		p;
};

/*
 * The last member of the shortest prefix, in an order, whose weights add up to the target, and what they
 * add up to; 1 <= target <= sum of all.
 *
 * A histogram over the distance from the largest says in which bin it is; the bin's members go to
 * shared memory, where each finds its rank.  Seldom are they too many: then by digits.
 */
template <typename ORDER, typename WEIGHT>
__device__ inline sample_found
find_prefix(sample_shared *s, uint32_t n, const ORDER &order, const WEIGHT &weight, prefix_target to)
{
	uint64_t	far = 0,
				all = 0,
				above,
				target;
	uint32_t	bin;

	clear_histogram(s);
#pragma unroll 4
	for (uint32_t i = threadIdx.x; i < n; i += SAMPLE_THREADS)
	{
		bin = bin_of(order.distance(i));
		if (bin > 0)
			dev_shared_add(&s->histogram[bin], weight(i));
		else
			far += weight(i);	/* as most are of a mask's row: not all to one place */
	}
	far = block_fold(s, far, fold_sum());
	if (threadIdx.x == 0)
		s->histogram[0] = far;
	dev_barrier();
	for (uint32_t i = threadIdx.x; i < DIGITS; i += SAMPLE_THREADS)
		all += s->histogram[i];
	target = to.p > 0.0f ? g2_mass_target(to.p, block_fold(s, all, fold_sum())) : to.sum;
	bin = find_digit(s, DIGITS, target, &above);
#pragma unroll 4
	for (uint32_t i = threadIdx.x; i < n; i += SAMPLE_THREADS)
		if (bin_of(order.distance(i)) == bin)
		{
			const uint64_t w = weight(i);
			const uint32_t m = w > 0 ? dev_shared_take(&s->n_members) : MEMBERS;

			if (m < MEMBERS)
				s->member[m] = {w, order.key(i), i};
		}
	dev_barrier();
	if (s->n_members > MEMBERS)
		return find_by_digits(s, n, order, weight, target);
	if (threadIdx.x < s->n_members)
	{
		const sample_member own = s->member[threadIdx.x];
		uint64_t	before = above;

		for (uint32_t m = 0; m < s->n_members; m++)
		{
			const sample_member other = s->member[m];

			if (other.key > own.key || (other.key == own.key && other.at < own.at))
				before += other.weight;
		}
		if (before < target && target <= before + own.weight)
			s->found = {{own.key, own.at}, before + own.weight};
	}
	dev_barrier();
	return s->found;
}

/*
 * Leaves of a row that nothing has changed the strips that its k best are in, if that makes it shorter:
 * those k whose best are the best, of equal ones the lower.  What is in another strip has all of
 * these bests before it.
 */
__device__ inline void
keep_strips(sample_shared *s, const g2d_sample &a, uint32_t head_row, uint32_t k, sample_row *row)
{
	const by_best order = {a.best + (size_t) head_row * a.best_ld, row->max};
	sample_prefix prefix;

	if (k > MEMBERS || k >= a.best_ld)
		return;
	prefix = find_prefix(s, a.best_ld, order, one_each(), {k, 0.0f}).prefix;
	clear_histogram(s);
	for (uint32_t i = threadIdx.x; i < a.best_ld; i += SAMPLE_THREADS)
		if (prefix.has(order.key(i), i))
			s->member[dev_shared_take(&s->n_members)].at = i;
	dev_barrier();
	if (threadIdx.x < k)
	{
		const uint32_t own = s->member[threadIdx.x].at;
		uint32_t	rank = 0;

		for (uint32_t m = 0; m < k; m++)
			rank += s->member[m].at < own;
		s->strips[rank] = own;
	}
	dev_barrier();
	row->strips = s->strips;
	row->n = k * G2D_STRIP;
}

#endif							/* G2_SAMPLE_CUH */
