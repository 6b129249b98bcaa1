/*
 * change.cuh: what changes a row before a token is chosen from it: bias, penalties, bans, a mask, in
 * the order of sampler.h and with its functions (on the CPU: penalties.c).  Used by sample.cu.
 *
 * A block's threads share a copy of the row.  Where one names tokens, each has some of the names; else
 * every SAMPLE_THREADS-th id is a thread's own, from step to step, so that no barrier is needed.
 */
#ifndef G2_CHANGE_CUH
#define G2_CHANGE_CUH

#include "sample.cuh"

__device__ inline bool
has(const uint64_t *set, uint32_t i)
{
	return set[i / 64] >> i % 64 & 1;
}

/* What of it there is for an output of a slot; a pointer is NULL where there is none. */
struct row_change
{
	const g2_bias *biases;
	uint32_t	n_biases;
	const uint64_t *seen;
	float		repetition;
	const g2_count *counts;
	uint32_t	n_counts;
	float		presence;
	float		frequency;
	const uint64_t *banned;		/* by the slot */
	const uint64_t *barred;		/* by this output alone */
	const uint64_t *mask;		/* no others */
	uint32_t	too_early;		/* the end token before min_new, or NOBODY */

	__device__ row_change(const g2d_sample &a, const g2d_slot &slot, const g2d_output &o)
	{
		const g2_sampling &p = slot.sampling;
		const size_t words = g2d_set_words(a.n_vocab);

		biases = a.slots.biases + (size_t) o.slot * G2_MOST_BIASES;
		n_biases = p.n_biases;
		seen = slot.has_seen ? a.slots.seen + (size_t) o.slot * G2D_SEEN_WORDS : NULL;
		repetition = p.repetition_penalty;
		counts = a.slots.counts + (size_t) o.slot * G2D_MOST_CTX;
		n_counts = slot.n_counts;
		presence = p.presence_penalty;
		frequency = p.frequency_penalty;
		banned = slot.has_banned ? a.slots.banned + (size_t) o.slot * G2D_SEEN_WORDS : NULL;
		barred = o.banned == G2D_NO_SET ? NULL : a.sets + o.banned * words;
		mask = o.mask == G2D_NO_SET ? NULL : a.sets + o.mask * words;
		too_early = slot.next_index < p.min_new ? slot.end_token : NOBODY;
	}

	__device__ bool any() const
	{
		return n_biases > 0 || seen || n_counts > 0 || banned || barred || mask ||
			too_early != NOBODY;
	}

	__device__ bool bans(uint32_t i) const
	{
		return (banned && has(banned, i)) || i == too_early || (barred && has(barred, i)) ||
			(mask && !has(mask, i));
	}

	/* Changes x [n], of which each thread has just written its own ids; all threads see the result. */
	__device__ void apply(float *x, uint32_t n) const
	{
		dev_barrier();
		for (uint32_t i = threadIdx.x; i < n_biases; i += SAMPLE_THREADS)
			if (biases[i].token < n)
				x[biases[i].token] = g2s_add(x[biases[i].token], biases[i].bias);
		dev_barrier();
		for (uint32_t i = threadIdx.x; seen && i < n; i += SAMPLE_THREADS)
			if (has(seen, i))
				x[i] = g2_penalized(x[i], repetition);
		dev_barrier();
		for (uint32_t i = threadIdx.x; i < n_counts; i += SAMPLE_THREADS)
			if (counts[i].token < n)
				x[counts[i].token] = g2_penalized_count(x[counts[i].token], counts[i].n, presence,
														frequency);
		dev_barrier();
		for (uint32_t i = threadIdx.x; i < n; i += SAMPLE_THREADS)
			if (bans(i))
				x[i] = -INFINITY;
		dev_barrier();
	}
};

#endif							/* G2_CHANGE_CUH */
