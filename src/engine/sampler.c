/*
 * sampler.c: from logits to the next token (what and in which order: sampler.h).
 *
 * Nothing is sorted.  Rank order (logit descending, id ascending) is that of 32-bit keys made of
 * the logits' bits; top_k and top_p both keep a prefix of that order, and such a prefix is named by
 * its last member.  It is found by three histograms over the key's bits (11 + 11 + 10), each of
 * which adds up integers per digit value: ones for top_k, weights for top_p.
 *
 * Every sum is one of integers, so neither order nor width of the loops can change a result.  No
 * state, no allocation; any thread, with scratch memory of its own.
 */
#include "sampler.h"

#include <math.h>

#include "kernels.h"
#include "philox.h"
#include "vecmath.h"

#define DIGITS 2048				/* values of a digit of at most 11 bits */

/* The last kept member in rank order: keys above, and of equal keys the ids up to id. */
typedef struct prefix
{
	uint32_t	key;
	uint32_t	id;
} prefix;

#define EVERYTHING ((prefix) {0, UINT32_MAX})

size_t
g2_sampler_scratch_bytes(uint32_t n_vocab)
{
	return (DIGITS + (size_t) n_vocab) * sizeof(uint64_t);
}

/* Order of the key = order of the logit; -0 is 0, a NaN is -inf. */
static inline uint32_t
rank_key(float logit)
{
	uint32_t	bits = g2_float_bits(logit + 0.0f);

	if (logit != logit)
		bits = 0xff800000u;
	return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static inline bool
within(prefix last, uint32_t key, uint32_t id)
{
	return key > last.key || (key == last.key && id <= last.id);
}

/*
 * The shortest rank prefix whose members' weights (1 each where w is NULL) add up to >= target;
 * 1 <= target <= sum of all.
 */
static prefix
find_prefix(const float *logits, uint32_t n, const uint64_t *w, uint64_t target,
			uint64_t *histogram)
{
	static const int shifts[] = {21, 10, 0};
	static const int bits[] = {11, 11, 10};
	uint32_t	key = 0,
				mask = 0;
	uint64_t	above = 0;		/* weight of the keys known to lie above the one searched for */

	for (int level = 0; level < 3; level++)
	{
		int			shift = shifts[level];
		uint32_t	digits = 1u << bits[level],
					digit = digits - 1;

		memset(histogram, 0, digits * sizeof *histogram);
		for (uint32_t i = 0; i < n; i++)
		{
			uint32_t	k = rank_key(logits[i]);

			if ((k & mask) == key)
				histogram[(k >> shift) & (digits - 1)] += w ? w[i] : 1;
		}
		while (digit > 0 && above + histogram[digit] < target)
			above += histogram[digit--];
		key |= digit << shift;
		mask |= (digits - 1) << shift;
	}
	for (uint32_t i = 0; i < n; i++)
		if (rank_key(logits[i]) == key)
		{
			above += w ? w[i] : 1;
			if (above >= target)
				return (prefix) {key, i};
		}
	return EVERYTHING;			/* not reached while target <= sum */
}

/* The first id that holds the largest logit; 0 if all are NaN. */
static uint32_t
greedy(const float *logits, uint32_t n, float max)
{
	for (uint32_t i = 0; i < n; i++)
		if (logits[i] == max)
			return i;
	return 0;
}

/* As transformers' RepetitionPenaltyLogitsProcessor. */
static void
penalize(float *logits, uint32_t n, float penalty, const uint32_t *seen, uint32_t n_seen)
{
	for (uint32_t i = 0; i < n_seen; i++)
		if (seen[i] < n)
		{
			float	   *l = &logits[seen[i]];

			*l = *l < 0.0f ? *l * penalty : *l / penalty;
		}
}

/* ceil(p sum), p in (0, 1) as an integer over 2^53, in 1 .. sum. */
static uint64_t
top_p_target(float p, uint64_t sum)
{
	unsigned __int128 scaled = (unsigned __int128) (uint64_t) ((double) p * 0x1p53) * sum;
	uint64_t	target = (uint64_t) ((scaled + (((uint64_t) 1 << 53) - 1)) >> 53);

	return G2_MAX(target, 1);
}

/* Zeroes the weights of what top_k, top_p and min_p drop; returns the sum of the rest. */
static uint64_t
filter(const g2_sampling *s, const float *logits, uint32_t n, uint64_t *w, uint64_t sum,
	   uint64_t *histogram)
{
	prefix		last = EVERYTHING;
	uint64_t	least = 0,
				kept = 0;

	if (s->top_k > 0 && s->top_k < n)
	{
		last = find_prefix(logits, n, NULL, s->top_k, histogram);
		sum = 0;
		for (uint32_t i = 0; i < n; i++)
			sum += within(last, rank_key(logits[i]), i) ? w[i] : 0;
	}
	/* A prefix that holds p of top_k's sum lies within top_k's prefix: look among all. */
	if (s->top_p < 1.0f)
		last = find_prefix(logits, n, w, top_p_target(s->top_p, sum), histogram);
	if (s->min_p > 0.0f)
		least = (uint64_t) ceil((double) s->min_p * 0x1p45);
	for (uint32_t i = 0; i < n; i++)
	{
		bool		keep = within(last, rank_key(logits[i]), i) && w[i] >= least;

		w[i] = keep ? w[i] : 0;
		kept += w[i];
	}
	return kept;
}

uint32_t
g2_sample(const g2_sampling *s, float *logits, uint32_t n_vocab, const uint32_t *seen,
		  uint32_t n_seen, uint32_t index, void *scratch)
{
	const g2_kernels *kernels = g2_kernels_best();
	uint64_t   *histogram = scratch,
			   *w = histogram + DIGITS,
				sum,
				r;
	g2_philox	random;
	float		max;
	bool		clean;

	if (s->repetition_penalty != 1.0f)
		penalize(logits, n_vocab, s->repetition_penalty, seen, n_seen);
	max = kernels->max(logits, n_vocab, &clean);
	if (!(s->temperature > 0.0f) || !clean || max == -INFINITY)
		return greedy(logits, n_vocab, max);

	sum = kernels->weights(logits, n_vocab, max, s->temperature, w);
	if ((s->top_k > 0 && s->top_k < n_vocab) || s->top_p < 1.0f || s->min_p > 0.0f)
		sum = filter(s, logits, n_vocab, w, sum, histogram);
	random = g2_philox4x32(s->seed, index, s->sequence, G2_PHILOX_SAMPLE, 0);
	r = (uint64_t) (((unsigned __int128) ((uint64_t) random.word[1] << 32 | random.word[0]) *
					 sum) >> 64);
	for (uint32_t i = 0; i < n_vocab; i++)
	{
		if (r < w[i])
			return i;
		r -= w[i];
	}
	return greedy(logits, n_vocab, max);	/* sum 0: min_p > 1 */
}

double
g2_log_sum_exp(const float *logits, uint32_t n_vocab)
{
	const g2_kernels *kernels = g2_kernels_best();
	bool		clean;
	float		max = kernels->max(logits, n_vocab, &clean);

	if (!clean || max == -INFINITY)
		return NAN;
	return (double) max + g2_log(kernels->sum_exp(logits, n_vocab, max));
}

double
g2_logprob(const float *logits, uint32_t n_vocab, uint32_t id)
{
	return (double) logits[id] - g2_log_sum_exp(logits, n_vocab);
}

/* Moves the largest of heap[0..n) down from i (children 2i + 1, 2i + 2). */
static void
sift_down(uint64_t *heap, uint32_t i, uint32_t n)
{
	for (;;)
	{
		uint32_t	child = 2 * i + 1;
		uint64_t	t = heap[i];

		if (child >= n)
			return;
		if (child + 1 < n && heap[child + 1] > heap[child])
			child++;
		if (heap[child] <= t)
			return;
		heap[i] = heap[child];
		heap[child] = t;
		i = child;
	}
}

static void
heap_sort(uint64_t *a, uint32_t n)
{
	for (uint32_t i = n / 2; i-- > 0;)
		sift_down(a, i, n);
	for (uint32_t end = n; end-- > 1;)
	{
		uint64_t	t = a[0];

		a[0] = a[end];
		a[end] = t;
		sift_down(a, 0, end);
	}
}

void
g2_top(const float *logits, uint32_t n_vocab, uint32_t n_top, uint32_t *ids, void *scratch)
{
	uint64_t   *histogram = scratch,
			   *found = histogram + DIGITS;
	prefix		last;
	uint32_t	n = 0;

	n_top = G2_MIN(n_top, n_vocab);
	if (n_top == 0)
		return;
	last = find_prefix(logits, n_vocab, NULL, n_top, histogram);
	for (uint32_t i = 0; i < n_vocab && n < n_top; i++)
	{
		uint32_t	key = rank_key(logits[i]);

		if (within(last, key, i))
			found[n++] = (uint64_t) ~key << 32 | i;
	}
	heap_sort(found, n);
	for (uint32_t i = 0; i < n; i++)
		ids[i] = (uint32_t) found[i];
}
