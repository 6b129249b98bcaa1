/*
 * prefix.cuh: prefixes of a row in rank order, which are what filters keep.  Used by sample.cu.
 *
 * A vocabulary is read as few times as can be: the last member of a prefix is found in two passes
 * (find_prefix), the k best without one, by the best of each strip that the head has left (keep_strips).
 */
#ifndef G2_PREFIX_CUH
#define G2_PREFIX_CUH

#include "sample.cuh"

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

	return digits - 1 - find_first(s, digits, [=](uint32_t first, uint32_t end) {
		uint64_t	sum = 0;

		for (uint32_t i = first; i < end; i += G2_WARP)
			sum += histogram[digits - 1 - i];
		return sum;
	}, target, above);
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
template <typename ROW, typename ORDER, typename WEIGHT>
__device__ inline sample_found
find_by_digits(sample_shared *s, const ROW &row, const ORDER &order, const WEIGHT &weight, uint64_t target)
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
		for_own_logits(row, [&](uint32_t i, float x) {
			const uint32_t k = order.key(x);

			if (fixed == 0 || k >> (32 - fixed) == key >> (32 - fixed))
				dev_shared_add(&s->histogram[k >> shift & (digits - 1)], weight(i, x));
		});
		dev_barrier();
		key |= find_digit(s, digits, target - above, &before) << shift;
		above += before;
	}
	at = find_weight(s, row, [&](uint32_t i, float x) { return order.key(x) == key ? weight(i, x) : 0; },
					 target - above, &before);
	return {{key, at}, above + before + weight(at, row.logit(at))};
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
template <typename ROW, typename ORDER, typename WEIGHT>
__device__ inline sample_found
find_prefix(sample_shared *s, const ROW &row, const ORDER &order, const WEIGHT &weight, prefix_target to)
{
	uint64_t	far = 0,
				all = 0,
				above,
				target;
	uint32_t	bin;

	clear_histogram(s);
	for_own_logits(row, [&](uint32_t i, float x) {
		const uint32_t own = bin_of(order.distance(x));

		if (own > 0)
			dev_shared_add(&s->histogram[own], weight(i, x));
		else
			far += weight(i, x);	/* as most are of a mask's row: not all to one place */
	});
	far = block_fold(s, far, fold_sum());
	if (threadIdx.x == 0)
		s->histogram[0] = far;
	dev_barrier();
	for (uint32_t i = threadIdx.x; i < DIGITS; i += SAMPLE_THREADS)
		all += s->histogram[i];
	target = to.p > 0.0f ? g2_mass_target(to.p, block_fold(s, all, fold_sum())) : to.sum;
	bin = find_digit(s, DIGITS, target, &above);
	for_own_logits(row, [&](uint32_t i, float x) {
		if (bin_of(order.distance(x)) == bin)
		{
			const uint32_t m = dev_shared_take(&s->n_members);

			if (m < MEMBERS)
				s->member[m].at = i;
		}
	});
	dev_barrier();
	if (s->n_members > MEMBERS)
		return find_by_digits(s, row, order, weight, target);
	if (threadIdx.x < s->n_members)
	{
		const uint32_t i = s->member[threadIdx.x].at;
		const float x = row.logit(i);

		s->member[threadIdx.x] = {weight(i, x), order.key(x), i};
	}
	dev_barrier();
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

/* Numbers what is in a prefix as it comes, and says so: f(number, place, logit); all see what f has
 * written behind this. */
template <typename ROW, typename ORDER, typename F>
__device__ inline void
for_members(sample_shared *s, const ROW &row, const ORDER &order, const sample_prefix &prefix, const F &f)
{
	dev_barrier();
	if (threadIdx.x == 0)
		s->n_members = 0;
	dev_barrier();
	for_own_logits(row, [&](uint32_t i, float x) {
		if (prefix.has(order.key(x), i))
			f(dev_shared_take(&s->n_members), i, x);
	});
	dev_barrier();
}

/*
 * Leaves of a row that nothing has changed the strips that its k best are in, if that makes it shorter:
 * those k whose best are the best, of equal ones the lower.  What is in another strip has all of
 * these bests before it.
 */
__device__ inline void
keep_strips(sample_shared *s, const g2d_sample &a, uint32_t head_row, uint32_t k, sample_row *row)
{
	const strip_row strips = {a.best + (size_t) head_row * a.best_ld, a.best_ld, row->max};
	const by_logit order = {row->max};
	sample_prefix prefix;

	if (k > MEMBERS || k >= a.best_ld)
		return;
	prefix = find_prefix(s, strips, order, one_each(), {k, 0.0f}).prefix;
	for_members(s, strips, order, prefix, [&](uint32_t m, uint32_t i, float) { s->member[m].at = i; });
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

#endif							/* G2_PREFIX_CUH */
