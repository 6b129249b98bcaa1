/*
 * test_penalties.c: what changes logits before a token is chosen (bias, penalties, bans), typical_p,
 * and the index of n-grams: each against a naive form of its definition.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "group.h"
#include "philox.h"
#include "sampler.h"
#include "vecmath.h"

#define N 300

static uint32_t
random_word(uint32_t i, uint32_t stream)
{
	return g2_philox4x32(11, i, stream, 5, 0).word[0];
}

static float
noise(uint32_t i, uint32_t stream)
{
	return (float) (int32_t) random_word(i, stream) * 0x1p-31f;
}

/* ---- logits ---- */

/* Bias, then the repetition penalty, then the other two, then bans. */
static void
test_order(void **state)
{
	static const g2_bias biases[] = {{0, 2}, {3, -1}, {5, 0}, {400, 9}};
	static const uint32_t seen[] = {0, 1, 2, 900},
				banned[] = {4, 5, 6, 500},
				banned_now[] = {7, 600};
	static const g2_count counts[] = {{1, 1}, {2, 3}, {700, 2}};
	float		logits[] = {-1, 3, -3, 0.5f, 9, 9, 9, 9, 9, 1};
	const g2_sampling s = {
		.repetition_penalty = 2, .presence_penalty = 0.5f, .frequency_penalty = 0.25f,
		.biases = biases, .n_biases = 4, .banned = banned, .n_banned = 4, .spared = 6, .min_new = 2,
	};
	g2_past		past = {
		.index = 1, .end_token = 8, .seen = seen, .n_seen = 4, .counts = counts, .n_counts = 3,
		.banned = banned_now, .n_banned = 2,
	};

	(void) state;
	assert_true(g2_sampler_changes(&s, &past));
	g2_sampler_change(&s, &past, logits, 10);
	assert_true(logits[0] == 0.5f);		/* (-1 + 2) / 2 */
	assert_true(logits[1] == 0.75f);	/* 3 / 2 - 0.25 - 0.5 */
	assert_true(logits[2] == -7.25f);	/* -3 * 2 - 0.75 - 0.5 */
	assert_true(logits[3] == -0.5f);
	assert_true(logits[4] == -INFINITY);
	assert_true(logits[5] == 9);		/* named in the bias, so not banned */
	assert_true(logits[6] == 9);		/* spared */
	assert_true(logits[7] == -INFINITY);
	assert_true(logits[8] == -INFINITY);	/* the end token comes too early */
	assert_true(logits[9] == 1);
	logits[8] = 4;
	past.index = 2;
	g2_sampler_change(&s, &past, logits, 10);
	assert_true(logits[8] == 4);
}

static void
test_nothing_to_change(void **state)
{
	const g2_sampling s = {.repetition_penalty = 1, .min_new = 3};
	const g2_sampling penalties = {
		.repetition_penalty = 2, .presence_penalty = 1, .frequency_penalty = 1,
	};

	(void) state;
	assert_false(g2_sampler_changes(&s, &(g2_past) {.index = 3, .end_token = 2}));
	assert_false(g2_sampler_changes(&s, &(g2_past) {.index = 0, .end_token = G2_TOKEN_NONE}));
	assert_true(g2_sampler_changes(&s, &(g2_past) {.index = 2, .end_token = 2}));
	assert_false(g2_sampler_changes(&penalties, &(g2_past) {.end_token = G2_TOKEN_NONE}));
}

/* ---- typical_p ---- */

typedef struct ranked
{
	double		distance;
	uint32_t	id;
} ranked;

static int
by_distance(const void *a, const void *b)
{
	const ranked *x = a,
			   *y = b;

	if (x->distance != y->distance)
		return x->distance < y->distance ? -1 : 1;
	return x->id < y->id ? -1 : 1;
}

/* What the definition keeps, and whether rounding could decide it. */
static bool
naive_typical(const float *logits, uint32_t n, double temperature, double typical_p, bool *kept)
{
	ranked		r[N];
	double		p[N],
				sum = 0,
				entropy = 0,
				mass = 0;
	uint32_t	k = 0;

	for (uint32_t i = 0; i < n; i++)
		sum += p[i] = exp((double) logits[i] / temperature);
	for (uint32_t i = 0; i < n; i++)
		entropy -= p[i] / sum * log(p[i] / sum);
	for (uint32_t i = 0; i < n; i++)
		r[i] = (ranked) {fabs(-log(p[i] / sum) - entropy), i};
	qsort(r, n, sizeof *r, by_distance);
	memset(kept, 0, n * sizeof *kept);
	while (k < n && mass < typical_p)
	{
		mass += p[r[k].id] / sum;
		kept[r[k++].id] = true;
		if (fabs(mass - typical_p) < 1e-5)
			return false;
	}
	return k == n || r[k].distance - r[k - 1].distance > 1e-5;
}

static void
test_typical(void **state)
{
	static float logits[N],
				copy[N];
	void	   *scratch = malloc(g2_sampler_scratch_bytes(N));
	uint32_t	compared = 0,
				n_untypical = 0;

	(void) state;
	for (uint32_t c = 0; c < 300; c++)
	{
		uint32_t	n = 2 + random_word(c, 1) % (N - 1);
		g2_sampling s = {
			.temperature = 0.4f + fabsf(noise(c, 2)), .top_p = 1, .repetition_penalty = 1,
			.typical_p = 0.02f + 0.96f * fabsf(noise(c, 3)),
		};
		bool		kept[N];
		uint32_t	best = 0;

		for (uint32_t i = 0; i < n; i++)
			logits[i] = 5 * noise(i, 100 + c);
		if (!naive_typical(logits, n, (double) s.temperature, (double) s.typical_p, kept))
			continue;
		compared++;
		for (uint32_t i = 0; i < 200; i++)
		{
			const g2_past past = {.index = i, .end_token = G2_TOKEN_NONE};

			memcpy(copy, logits, sizeof copy);
			assert_true(kept[g2_sample(&s, &past, copy, n, scratch)]);
		}
		/* top_p and min_p come before it: of the best token alone it keeps that, typical or not. */
		for (uint32_t i = 1; i < n; i++)
			best = logits[i] > logits[best] ? i : best;
		n_untypical += !kept[best];
		s.top_p = c % 2 ? 1e-6f : 1;
		s.min_p = c % 2 ? 0 : 1;
		memcpy(copy, logits, sizeof copy);
		assert_int_equal(g2_sample(&s, &(g2_past) {.end_token = G2_TOKEN_NONE}, copy, n, scratch),
						 best);
	}
	assert_true(compared > 200 && n_untypical > 20);
	free(scratch);
}

/* -inf is a token of no probability, before and behind the others. */
static void
test_typical_of_few(void **state)
{
	g2_sampling s = {.temperature = 1, .top_p = 1, .repetition_penalty = 1, .typical_p = 1e-6f};
	void	   *scratch = malloc(g2_sampler_scratch_bytes(4));

	(void) state;
	for (uint32_t i = 0; i < 50; i++)
	{
		float		one[] = {-INFINITY, -INFINITY, 3, -INFINITY},
					equal[] = {-INFINITY, 2, 2, -INFINITY};
		const g2_past past = {.index = i, .end_token = G2_TOKEN_NONE};

		assert_int_equal(g2_sample(&s, &past, one, 4, scratch), 2);
		assert_int_equal(g2_sample(&s, &past, equal, 4, scratch), 1);	/* ties: the lower id */
	}
	free(scratch);
}

/* ---- n-grams ---- */

/* A group of one sequence; its own memory. */
static g2_group *
make_group(const uint32_t *prompt, uint32_t n_prompt, uint32_t n, uint32_t max_new)
{
	const g2_group_options options = {.n = 2, .max_new = max_new, .no_repeat_ngram = n};
	g2_ids		ids = {0};
	g2_group   *group;
	g2_error	err;

	for (uint32_t i = 0; i < n_prompt; i++)
		assert_true(g2_ids_push(&ids, prompt[i]));
	assert_true(g2_group_new(&options, &ids, &group, &err));
	assert_true(g2_group_index(group, &err));
	return group;
}

static void
compare_banned(g2_group *group, uint32_t i, uint32_t n, uint32_t vocabulary)
{
	uint32_t	len = (uint32_t) (group->prompt.len + group->sequences[i].ids.len);
	bool		want[N] = {false},
				got[N] = {false};

	for (uint32_t end = n - 1; end < len && len + 1 >= n; end++)
	{
		bool		same = true;

		for (uint32_t back = 1; back < n; back++)
			same &= g2_group_token(group, i, end - back) == g2_group_token(group, i, len - back);
		if (same)
			want[g2_group_token(group, i, end)] = true;
	}
	g2_ngrams_find(group, i);
	for (uint32_t b = 0; b < group->sequences[i].ngrams.n_banned; b++)
		got[group->sequences[i].ngrams.banned[b]] = true;
	assert_memory_equal(got, want, vocabulary * sizeof *got);
}

static void
test_ngrams(void **state)
{
	static const uint32_t sizes[] = {1, 2, 3, 4, 7, 40};

	(void) state;
	for (size_t k = 0; k < G2_LENGTH(sizes); k++)
		for (uint32_t vocabulary = 1; vocabulary <= 16; vocabulary += 5)
		{
			uint32_t	prompt[60],
						n_prompt = 1 + random_word(vocabulary, 20 + sizes[k]) % 60;
			g2_group   *group;

			for (uint32_t i = 0; i < n_prompt; i++)
				prompt[i] = random_word(i, 40 + vocabulary) % vocabulary;
			group = make_group(prompt, n_prompt, sizes[k], 250);
			for (uint32_t t = 0; t < 250; t++)
				for (uint32_t i = 0; i < 2; i++)
				{
					/* Not at every step: what was not asked for is indexed later. */
					if (random_word(t, 60) % 3)
						compare_banned(group, i, sizes[k], vocabulary);
					assert_true(g2_ids_push(&group->sequences[i].ids,
											random_word(t, 70 + i) % vocabulary));
				}
			g2_group_free(group);
		}
}

/* ---- e^x in double ---- */

static void
test_exp(void **state)
{
	(void) state;
	assert_true(g2_exp(0) == 1);
	for (uint32_t i = 0; i < 20000; i++)
	{
		double		x = 690 * (double) noise(i, 80) * (i % 2 ? 1 : 0.01);

		assert_true(fabs(g2_exp(x) - exp(x)) <= 1e-15 * exp(x));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order), cmocka_unit_test(test_nothing_to_change),
		cmocka_unit_test(test_typical), cmocka_unit_test(test_typical_of_few),
		cmocka_unit_test(test_ngrams), cmocka_unit_test(test_exp),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
