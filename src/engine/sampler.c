/*
 * sampler.c: from logits to the next token (what and in which order: sampler.h).
 *
 * Nothing is sorted.  Rank order (logit descending, id ascending) is that of 32-bit keys made of
 * the logits' bits; top_k and top_p both keep a prefix of that order (typical_p one of another), and
 * such a prefix is named by its last member.  It is found by histograms over the key's digits (11 +
 * 11 + 10 bits), each of which adds up integers per digit value: ones for top_k, weights for the
 * others; from the second on they look only at the members of the digit that the last member has.
 * Candidates stay in ascending id; each filter closes the gaps, so that the next one and the draw
 * have less to do.
 *
 * Every sum is one of integers, so neither order nor width of the loops can change a result; but
 * typical_p's mean, whose order is fixed.  No state, no allocation; any thread, with scratch memory
 * of its own.
 */
#include "sampler.h"

#include <math.h>

#include "kernels.h"
#include "sampler_math.h"

#define DIGITS 2048				/* values of a digit of at most 11 bits */

/* Tokens that may still be chosen, in ascending id: arrays in scratch memory. */
typedef struct candidates
{
	uint32_t	n;
	uint64_t   *w;				/* weights */
	uint32_t   *key;			/* ranks: a larger key is better */
	uint32_t   *id;
	uint32_t   *some;			/* indexes of those that a search still looks at */
	uint64_t   *histogram;		/* [2][DIGITS] */
} candidates;

/* The last kept member in rank order: keys above, and of equal keys those up to its index. */
typedef struct prefix
{
	uint32_t	key;
	uint32_t	index;
} prefix;

size_t
g2_sampler_scratch_bytes(uint32_t n_vocab)
{
	return 2 * DIGITS * sizeof(uint64_t) + (size_t) n_vocab * (sizeof(uint64_t) +
															  3 * sizeof(uint32_t));
}

static void
lay_out(candidates *c, uint32_t n_vocab, void *scratch)
{
	c->n = n_vocab;
	c->histogram = scratch;
	c->w = c->histogram + 2 * DIGITS;
	c->key = (uint32_t *) (c->w + n_vocab);
	c->id = c->key + n_vocab;
	c->some = c->id + n_vocab;
}

static void
fill_keys(candidates *c, const float *logits)
{
	for (uint32_t i = 0; i < c->n; i++)
	{
		c->key[i] = g2_rank_key(logits[i]);
		c->id[i] = i;
	}
}

/* Sums per digit; two histograms in turns, so that equal digits in a row do not wait. */
static inline void
count_digits(const candidates *c, uint32_t n, bool first, bool ones, int shift, uint32_t mask)
{
	uint64_t   *h[2] = {c->histogram, c->histogram + DIGITS};

	memset(h[0], 0, 2 * DIGITS * sizeof(uint64_t));
	for (uint32_t j = 0; j < n; j++)
	{
		uint32_t	i = first ? j : c->some[j];

		h[j & 1][(c->key[i] >> shift) & mask] += ones ? 1 : c->w[i];
	}
	for (uint32_t d = 0; d <= mask; d++)
		h[0][d] += h[1][d];
}

/* Keeps those of the searched that have this digit; returns their number. */
static inline uint32_t
narrow(const candidates *c, uint32_t n, bool first, int shift, uint32_t mask, uint32_t digit)
{
	uint32_t	kept = 0;

	for (uint32_t j = 0; j < n; j++)
	{
		uint32_t	i = first ? j : c->some[j];

		c->some[kept] = i;
		kept += ((c->key[i] >> shift) & mask) == digit;
	}
	return kept;
}

/*
 * The shortest rank prefix whose members' weights (or, with `ones`, whose number) add up to
 * >= target; 1 <= target <= sum of all.
 */
static inline prefix
find_prefix(const candidates *c, bool ones, uint64_t target)
{
	static const int shifts[] = {21, 10, 0};
	static const uint32_t masks[] = {2047, 2047, 1023};
	uint32_t	n = c->n;
	uint64_t	above = 0;		/* sum of the keys known to lie above the one searched for */

	for (int level = 0; level < 3; level++)
	{
		uint32_t	digit = masks[level];

		count_digits(c, n, level == 0, ones, shifts[level], masks[level]);
		while (digit > 0 && above + c->histogram[digit] < target)
			above += c->histogram[digit--];
		n = narrow(c, n, level == 0, shifts[level], masks[level], digit);
	}
	/* What is left are equal keys: ids ascending. */
	for (uint32_t j = 0; j < n; j++)
	{
		above += ones ? 1 : c->w[c->some[j]];
		if (above >= target)
			return (prefix) {c->key[c->some[j]], c->some[j]};
	}
	return (prefix) {0, UINT32_MAX};	/* not reached while target <= sum */
}

/* Drops what ranks behind `last` or weighs less than `least`; returns the sum of the rest. */
static uint64_t
keep(candidates *c, prefix last, uint64_t least)
{
	uint32_t	kept = 0;
	uint64_t	sum = 0;

	for (uint32_t i = 0; i < c->n; i++)
	{
		uint32_t	key = c->key[i];
		uint64_t	w = c->w[i];
		bool		stays = ((key > last.key) | ((key == last.key) & (i <= last.index))) &
			(w >= least);

		c->key[kept] = key;
		c->w[kept] = w;
		c->id[kept] = c->id[i];
		kept += stays;
		sum += stays ? w : 0;
	}
	c->n = kept;
	return sum;
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

/* The lowest id of the mask. */
static uint32_t
first_allowed(const uint64_t *mask, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (mask[i / 64] >> i % 64 & 1)
			return i;
	return 0;
}

/* The mean of (l - max) / T by weight: minus the entropy, but for a constant. */
static double
mean_by_weight(const g2_sampling *s, const float *logits, float max, const candidates *c,
			   uint64_t sum)
{
	double		total = 0.0;

	for (uint32_t i = 0; i < c->n;)
	{
		uint32_t	end = (c->id[i] / G2_SUM_BLOCK + 1) * G2_SUM_BLOCK;
		double		block = 0.0;

		for (; i < c->n && c->id[i] < end; i++)
			if (c->w[i] > 0)
				block += g2_typical_part(c->w[i], g2_sample_exponent(logits[c->id[i]], max,
																	 s->temperature));
		total += block;
	}
	return total / (double) sum;
}

/* Keys become how typical a token is: no filter comes behind it. */
static uint64_t
keep_typical(const g2_sampling *s, const float *logits, float max, candidates *c, uint64_t sum)
{
	double		mean = mean_by_weight(s, logits, max, c, sum);

	for (uint32_t i = 0; i < c->n; i++)
		c->key[i] = g2_typical_key(mean, g2_sample_exponent(logits[c->id[i]], max, s->temperature));
	return keep(c, find_prefix(c, false, g2_mass_target(s->typical_p, sum)), 1);
}

/* top_k, top_p, min_p and typical_p; returns the sum of what they keep. */
static uint64_t
filter(const g2_sampling *s, const float *logits, float max, candidates *c, uint64_t sum)
{
	const prefix everything = {0, UINT32_MAX};

	fill_keys(c, logits);
	if (s->top_k > 0 && s->top_k < c->n)
		sum = keep(c, find_prefix(c, true, s->top_k), 0);
	if (s->top_p < 1.0f)
		sum = keep(c, find_prefix(c, false, g2_mass_target(s->top_p, sum)), 0);
	if (s->min_p > 0.0f)
		sum = keep(c, everything, g2_min_p_least(s->min_p, g2_sample_weight(max, max,
																			 s->temperature)));
	if (s->typical_p > 0.0f)
		sum = keep_typical(s, logits, max, c, sum);
	return sum;
}

uint32_t
g2_sample(const g2_sampling *s, const g2_past *past, float *logits, uint32_t n_vocab,
		  void *scratch)
{
	const g2_kernels *kernels = g2_kernels_best();
	candidates	c;
	uint64_t	sum,
				r;
	float		max;
	bool		clean,
				filtered;

	g2_sampler_change(s, past, logits, n_vocab);
	max = kernels->max(logits, n_vocab, &clean);
	if (past->mask && max == -INFINITY)
		return first_allowed(past->mask, n_vocab);
	if (!(s->temperature > 0.0f) || !clean || max == -INFINITY)
		return greedy(logits, n_vocab, max);

	lay_out(&c, n_vocab, scratch);
	sum = kernels->weights(logits, n_vocab, max, s->temperature, c.w);
	filtered = (s->top_k > 0 && s->top_k < n_vocab) || s->typical_p > 0.0f || s->top_p < 1.0f ||
		s->min_p > 0.0f;
	if (filtered)
		sum = filter(s, logits, max, &c, sum);
	r = g2_sample_draw(s->seed, past->index, s->sequence, sum);
	for (uint32_t i = 0; i < c.n; i++)
	{
		if (r < c.w[i])
			return filtered ? c.id[i] : i;
		r -= c.w[i];
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
	candidates	c;

	n_top = G2_MIN(n_top, n_vocab);
	if (n_top == 0)
		return;
	lay_out(&c, n_vocab, scratch);
	fill_keys(&c, logits);
	keep(&c, find_prefix(&c, true, n_top), 0);
	for (uint32_t i = 0; i < c.n; i++)
		c.w[i] = (uint64_t) ~c.key[i] << 32 | c.id[i];
	heap_sort(c.w, c.n);
	for (uint32_t i = 0; i < c.n; i++)
		ids[i] = (uint32_t) c.w[i];
}
