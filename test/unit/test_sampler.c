/*
 * test_sampler.c: the sampler against a naive one in double that sorts, and its draws against the
 * exact probabilities (chi-square over 20,000 draws; seeds are fixed, so the outcome is too).
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "philox.h"
#include "sampler.h"

static const g2_sampling defaults = {.temperature = 1.0f, .top_p = 1.0f,
	.repetition_penalty = 1.0f};

static float
noise(uint32_t i, uint32_t stream)
{
	return (float) (int32_t) g2_philox4x32(5, i, stream, 77, 0).word[0] * 0x1p-31f;
}

static uint32_t
sample_masked(const g2_sampling *s, const float *logits, uint32_t n, const uint32_t *seen,
			  uint32_t n_seen, const uint64_t *mask, uint32_t index)
{
	float	   *copy = malloc(n * sizeof *copy);
	void	   *scratch = aligned_alloc(64, G2_ROUND_UP(g2_sampler_scratch_bytes(n), (size_t) 64));
	uint32_t	id;

	memcpy(copy, logits, n * sizeof *copy);
	id = g2_sample(s, &(g2_past) {
		.index = index, .end_token = G2_TOKEN_NONE, .seen = seen, .n_seen = n_seen, .mask = mask,
	}, copy, n, scratch);
	if (s->repetition_penalty == 1.0f && s->n_banned == 0 && !mask)
		assert_memory_equal(copy, logits, n * sizeof *copy);
	free(copy);
	free(scratch);
	return id;
}

static uint32_t
sample(const g2_sampling *s, const float *logits, uint32_t n, const uint32_t *seen,
	   uint32_t n_seen, uint32_t index)
{
	return sample_masked(s, logits, n, seen, n_seen, NULL, index);
}

static void
test_philox(void **state)
{
	static const uint32_t zeros[] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
				ones[] = {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd};
	g2_philox	r = g2_philox4x32(0, 0, 0, 0, 0);

	(void) state;
	assert_memory_equal(r.word, zeros, sizeof zeros);
	r = g2_philox4x32(UINT64_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX);
	assert_memory_equal(r.word, ones, sizeof ones);
}

/* ---- a naive sampler: probabilities by sorting, in double ---- */

typedef struct ranked
{
	double		logit;
	uint32_t	id;
} ranked;

static int
by_rank(const void *a, const void *b)
{
	const ranked *x = a,
			   *y = b;

	if (x->logit != y->logit)
		return x->logit > y->logit ? -1 : 1;
	return x->id < y->id ? -1 : 1;
}

static void
naive(const g2_sampling *s, const float *logits, uint32_t n, const uint32_t *seen,
	  uint32_t n_seen, double *p)
{
	ranked	   *r = malloc(n * sizeof *r);
	double		sum = 0.0,
				prefix = 0.0;
	uint32_t	kept = s->top_k > 0 && s->top_k < n ? s->top_k : n,
				k = 0;

	for (uint32_t i = 0; i < n; i++)
		r[i] = (ranked) {logits[i], i};
	for (uint32_t i = 0; i < n_seen; i++)
		r[seen[i]].logit *= r[seen[i]].logit < 0.0 ? s->repetition_penalty :
			1.0 / s->repetition_penalty;
	qsort(r, n, sizeof *r, by_rank);
	memset(p, 0, n * sizeof *p);
	for (uint32_t i = 0; i < kept; i++)
		sum += p[r[i].id] = exp((r[i].logit - r[0].logit) / s->temperature);
	while (k < kept && prefix < s->top_p * sum)
		prefix += p[r[k++].id];
	for (uint32_t i = s->top_p < 1.0f ? k : kept; i < n; i++)
		p[r[i].id] = 0.0;
	sum = 0.0;
	for (uint32_t i = 0; i < n; i++)
	{
		p[i] = p[i] < s->min_p ? 0.0 : p[i];
		sum += p[i];
	}
	for (uint32_t i = 0; i < n; i++)
		p[i] /= sum;
	free(r);
}

/* Chi-square of the draws against p; cells under 5 expected draws are put together. */
static void
check_draws(const g2_sampling *s, const float *logits, uint32_t n, const uint32_t *seen,
			uint32_t n_seen)
{
	enum
	{
		DRAWS = 20000
	};
	double	   *p = malloc(n * sizeof *p),
				chi = 0.0,
				rest = 0.0,
				rest_count = 0.0,
				cells = 0.0;
	uint32_t   *count = calloc(n, sizeof *count);

	naive(s, logits, n, seen, n_seen, p);
	for (uint32_t i = 0; i < DRAWS; i++)
	{
		uint32_t	id = sample(s, logits, n, seen, n_seen, i);

		assert_true(id < n);
		assert_true(p[id] > 0.0);
		count[id]++;
	}
	for (uint32_t i = 0; i < n; i++)
	{
		double		e = p[i] * DRAWS;

		if (e < 5.0)
		{
			rest += e;
			rest_count += count[i];
			continue;
		}
		chi += (count[i] - e) * (count[i] - e) / e;
		cells++;
	}
	if (rest >= 5.0)
	{
		chi += (rest_count - rest) * (rest_count - rest) / rest;
		cells++;
	}
	/* Mean cells - 1, deviation sqrt(2 (cells - 1)): four deviations. */
	cells = fmax(cells - 1.0, 1.0);
	print_message("chi-square %.1f, %.0f degrees of freedom\n", chi, cells);
	assert_true(chi < cells + 4.0 * sqrt(2.0 * cells));
	free(p);
	free(count);
}

static void
test_draws(void **state)
{
	enum
	{
		N = 60
	};
	static const uint32_t seen[] = {3, 50, 17, 0};
	float		logits[N];
	g2_sampling s = defaults;

	(void) state;
	for (uint32_t i = 0; i < N; i++)
		logits[i] = 3.0f * noise(i, 1);
	s.seed = 42;
	check_draws(&s, logits, N, NULL, 0);
	s.temperature = 0.6f;
	check_draws(&s, logits, N, NULL, 0);
	s.top_k = 10;
	check_draws(&s, logits, N, NULL, 0);
	s.top_p = 0.8f;
	check_draws(&s, logits, N, NULL, 0);
	s.top_k = 0;
	s.temperature = 1.5f;
	check_draws(&s, logits, N, NULL, 0);
	s.min_p = 0.2f;
	check_draws(&s, logits, N, NULL, 0);
	s.top_p = 1.0f;
	check_draws(&s, logits, N, NULL, 0);
	s.min_p = 0.0f;
	s.repetition_penalty = 1.8f;
	check_draws(&s, logits, N, seen, 4);
	s.sequence = 3;
	s.seed = UINT64_MAX;
	check_draws(&s, logits, N, seen, 4);
}

/* The set of tokens that can come out is the naive one's, for random settings and sizes. */
static void
test_kept_sets(void **state)
{
	(void) state;
	for (uint32_t c = 0; c < 400; c++)
	{
		uint32_t	n = 1 + g2_philox4x32(1, c, 0, 0, 0).word[1] % 3000;
		float	   *logits = malloc(n * sizeof *logits);
		double	   *p = malloc(n * sizeof *p);
		g2_sampling s = defaults;

		for (uint32_t i = 0; i < n; i++)
			logits[i] = 9.0f * noise(i, 100 + c);
		s.temperature = 0.3f + fabsf(noise(c, 2));
		s.top_k = c % 3 ? 0 : 1 + c % 50;
		s.top_p = c % 2 ? 1.0f : fabsf(noise(c, 3));
		s.min_p = c % 5 ? 0.0f : 0.3f * fabsf(noise(c, 4));
		naive(&s, logits, n, NULL, 0, p);
		for (uint32_t i = 0; i < 60; i++)
		{
			s.seed = i;
			assert_true(p[sample(&s, logits, n, NULL, 0, c)] > 0.0);
		}
		free(logits);
		free(p);
	}
}

/* The limits exactly: equal logits, where ties go to the lower ids. */
static void
test_ties(void **state)
{
	enum
	{
		N = 100
	};
	float		logits[N];
	bool		hit[N];
	struct
	{
		uint32_t	top_k;
		float		top_p;
		float		min_p;
		uint32_t	kept;
	}			cases[] = {{7, 1.0f, 0.0f, 7}, {0, 0.25f, 0.0f, 25}, {10, 0.5f, 0.0f, 5},
		{0, 1e-9f, 0.0f, 1}, {0, 1.0f, 1.0f, N}, {N, 1.0f, 0.0f, N}, {1, 1.0f, 0.0f, 1}};

	(void) state;
	for (uint32_t i = 0; i < N; i++)
		logits[i] = i % 2 ? 0.0f : -0.0f;
	for (size_t c = 0; c < G2_LENGTH(cases); c++)
	{
		g2_sampling s = defaults;
		uint32_t	n = 0;

		memset(hit, 0, sizeof hit);
		s.top_k = cases[c].top_k;
		s.top_p = cases[c].top_p;
		s.min_p = cases[c].min_p;
		for (uint32_t i = 0; i < 3000; i++)
			hit[sample(&s, logits, N, NULL, 0, i)] = true;
		while (n < N && hit[n])
			n++;
		assert_int_equal(n, cases[c].kept);
		for (; n < N; n++)
			assert_false(hit[n]);
	}
	assert_int_equal(sample(&(g2_sampling) {.repetition_penalty = 1.0f}, logits, N, NULL, 0, 0),
					 0);
}

static void
test_extremes(void **state)
{
	float		logits[50];
	g2_sampling s = defaults;

	(void) state;
	for (uint32_t i = 0; i < 50; i++)
		logits[i] = noise(i, 9);
	logits[31] = 5.0f;
	s.temperature = 1e-40f;
	assert_int_equal(sample(&s, logits, 50, NULL, 0, 0), 31);
	s.temperature = 0.0f;
	assert_int_equal(sample(&s, logits, 50, NULL, 0, 0), 31);
	s.temperature = 1e30f;
	assert_true(sample(&s, logits, 50, NULL, 0, 0) < 50);
	s.temperature = 1.0f;
	s.top_p = 1e-30f;
	assert_int_equal(sample(&s, logits, 50, NULL, 0, 0), 31);
	s.top_p = 1.0f;

	/* One token; a NaN, an infinity, nothing at all. */
	assert_int_equal(sample(&s, logits, 1, NULL, 0, 0), 0);
	logits[7] = NAN;
	assert_int_equal(sample(&s, logits, 50, NULL, 0, 0), 31);
	assert_true(isnan(g2_logprob(logits, 50, 31)));
	logits[9] = logits[20] = INFINITY;
	assert_int_equal(sample(&s, logits, 50, NULL, 0, 0), 9);
	assert_true(isnan(g2_logprob(logits, 50, 3)));
	logits[7] = logits[9] = logits[20] = -INFINITY;
	for (uint32_t i = 0; i < 500; i++)
	{
		uint32_t	id = sample(&s, logits, 50, NULL, 0, i);

		assert_true(id < 50 && id != 7 && id != 9 && id != 20);
	}
	assert_true(g2_logprob(logits, 50, 7) == -INFINITY);
	for (uint32_t i = 0; i < 50; i++)
		logits[i] = i < 25 ? NAN : -INFINITY;
	assert_int_equal(sample(&s, logits, 25, NULL, 0, 0), 0);
	assert_true(sample(&s, logits, 50, NULL, 0, 0) < 50);
	assert_true(sample(&s, logits + 25, 25, NULL, 0, 0) == 0);
	assert_true(isnan(g2_logprob(logits + 25, 25, 0)));
}

/* With two tokens and T = 1e-40, equal logits stay a fair draw; unequal ones are greedy. */
static void
test_tiny_temperature(void **state)
{
	g2_sampling s = defaults;
	uint32_t	ones = 0;

	(void) state;
	s.temperature = 1e-40f;
	for (uint32_t i = 0; i < 1000; i++)
	{
		ones += sample(&s, (float[]) {2.0f, 2.0f}, 2, NULL, 0, i);
		assert_int_equal(sample(&s, (float[]) {1.999999f, 2.0f}, 2, NULL, 0, i), 1);
	}
	assert_true(ones > 430 && ones < 570);
}

static void
test_penalty(void **state)
{
	/* transformers: score < 0 ? score * penalty : score / penalty */
	float		logits[] = {4.0f, 3.0f, -1.0f, -1.5f};
	g2_sampling s = {.repetition_penalty = 2.0f};
	uint32_t	seen[] = {0, 2};

	(void) state;
	assert_int_equal(sample(&s, logits, 4, seen, 2, 0), 1);
	assert_int_equal(sample(&s, logits, 4, seen, 0, 0), 0);
	assert_int_equal(sample(&s, logits + 2, 2, seen, 1, 0), 1);	/* -1 * 2 < -1.5 */
	seen[1] = 1000;				/* not a token of this model */
	assert_int_equal(sample(&s, logits, 4, seen, 2, 0), 1);
}

/* What a mask leaves out counts as -inf: before top_k and the others, which then have less to
 * choose from.  Sizes around a word of the mask. */
static void
test_mask(void **state)
{
	static const uint32_t sizes[] = {1, 2, 63, 64, 65, 130, 300};
	float		logits[300],
				masked[300];
	uint64_t	mask[5];

	(void) state;
	for (uint32_t round = 0; round < 400; round++)
	{
		uint32_t	n = sizes[round % G2_LENGTH(sizes)],
					seen[3] = {round % n, round * 7 % n, n - 1};
		g2_sampling s = defaults;

		memset(mask, 0, sizeof mask);
		for (uint32_t i = 0; i < n; i++)
		{
			bool		allowed = round % 4 == 0 ? i == round * 11 % n :
				(round + i * 2654435761u) % 7 < 3 || i == round % n;

			logits[i] = masked[i] = 6 * noise(i, round);
			if (allowed)
				mask[i / 64] |= (uint64_t) 1 << i % 64;
			else
				masked[i] = -INFINITY;
		}
		s.temperature = (float) (round % 3);
		s.top_k = round % 5 == 0 ? 3 : 0;
		s.top_p = round % 5 == 1 ? 0.7f : 1;
		s.min_p = round % 5 == 2 ? 0.2f : 0;
		s.repetition_penalty = round % 2 ? 1.3f : 1;
		for (uint32_t index = 0; index < 20; index++)
		{
			uint32_t	id = sample_masked(&s, logits, n, seen, 3, mask, index);

			assert_int_equal(id, sample(&s, masked, n, seen, 3, index));
			assert_true(mask[id / 64] >> id % 64 & 1);
		}
	}
}

/* Where what is allowed has no probability, or none that is a number, it is still what comes. */
static void
test_mask_without_logits(void **state)
{
	float		logits[100];
	uint64_t	mask[2] = {0, 1 << 5 | 1 << 9};
	g2_sampling s = defaults;

	(void) state;
	for (int t = 0; t < 2; t++)
	{
		s.temperature = (float) t;
		for (int i = 0; i < 100; i++)
			logits[i] = i == 3 ? INFINITY : 1;
		assert_true(sample_masked(&s, logits, 100, NULL, 0, mask, 0) >= 69);
		logits[69] = logits[73] = -INFINITY;
		assert_int_equal(sample_masked(&s, logits, 100, NULL, 0, mask, 0), 69);
		logits[69] = logits[73] = NAN;
		assert_int_equal(sample_masked(&s, logits, 100, NULL, 0, mask, 0), 69);
		logits[73] = -5;
		assert_int_equal(sample_masked(&s, logits, 100, NULL, 0, mask, 0), 73);
		logits[3] = NAN;
		assert_int_equal(sample_masked(&s, logits, 100, NULL, 0, mask, 0), 73);
		assert_int_equal(sample_masked(&s, logits, 100, NULL, 0, (uint64_t[]) {0, 0}, 0), 0);
	}
}

/* Banned tokens are never chosen, however good they are, but for the one that is spared. */
static void
test_banned(void **state)
{
	static const uint32_t banned[] = {1, 3, 4};
	const float logits[] = {1, 9, 0.5f, 8, 7, 0};
	g2_sampling s = defaults;
	uint32_t	counts[6] = {0};

	(void) state;
	s.banned = banned;
	s.n_banned = 3;
	s.spared = G2_TOKEN_NONE;
	for (uint32_t i = 0; i < 2000; i++)
		counts[sample(&s, logits, 6, NULL, 0, i)]++;
	assert_int_equal(counts[1] + counts[3] + counts[4], 0);
	assert_true(counts[0] > counts[2] && counts[2] > counts[5] && counts[5] > 0);
	s.temperature = 0;
	assert_int_equal(sample(&s, logits, 6, NULL, 0, 0), 0);
	s.spared = 3;
	assert_int_equal(sample(&s, logits, 6, NULL, 0, 0), 3);
	s.repetition_penalty = 2;
	assert_int_equal(sample(&s, logits, 6, (const uint32_t[]) {1, 3}, 2, 0), 3);
}

static void
test_logprob_and_top(void **state)
{
	enum
	{
		N = 5000
	};
	static float logits[N];
	static uint32_t ids[N];
	static ranked r[N];
	void	   *scratch = malloc(g2_sampler_scratch_bytes(N));
	double		sum = 0.0;

	(void) state;
	for (uint32_t i = 0; i < N; i++)
	{
		logits[i] = floorf(400.0f * noise(i, 12)) / 20.0f;	/* many ties */
		r[i] = (ranked) {logits[i], i};
		sum += exp(logits[i]);
	}
	for (uint32_t i = 0; i < N; i += 7)
		assert_true(fabs(g2_logprob(logits, N, i) - (logits[i] - log(sum))) < 1e-7);
	qsort(r, N, sizeof *r, by_rank);
	for (uint32_t n = 0; n <= N; n = n * 3 + 1)
	{
		g2_top(logits, N, n, ids, scratch);
		for (uint32_t i = 0; i < n; i++)
			assert_int_equal(ids[i], r[i].id);
	}
	g2_top(logits, N, N, ids, scratch);
	for (uint32_t i = 0; i < N; i++)
		assert_int_equal(ids[i], r[i].id);
	for (uint32_t i = 0; i < N; i++)
		logits[i] = i % 3 ? NAN : (float) i;
	g2_top(logits, N, 2, ids, scratch);
	assert_int_equal(ids[0], 4998);
	assert_int_equal(ids[1], 4995);
	free(scratch);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_philox),
		cmocka_unit_test(test_draws),
		cmocka_unit_test(test_kept_sets),
		cmocka_unit_test(test_ties),
		cmocka_unit_test(test_extremes),
		cmocka_unit_test(test_tiny_temperature),
		cmocka_unit_test(test_penalty),
		cmocka_unit_test(test_banned),
		cmocka_unit_test(test_mask),
		cmocka_unit_test(test_mask_without_logits),
		cmocka_unit_test(test_logprob_and_top),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
