/*
 * test_vectors_sampling.c: the sampler against the logits processors and warpers of Hugging Face
 * transformers: what they keep, with which probability, and which draw hits whose share
 * (test/vectors/README.md says what is stored).
 *
 * Environment:
 *     GPT2_TEST_QUICK      set: fewer draws
 */
#include "vector_file.h"

#include "philox.h"
#include "sampler.h"

typedef struct sampler_vector
{
	char		name[32];
	uint32_t	n;
	float	   *logits;
} sampler_vector;

typedef struct sampler_case
{
	char		name[32];
	const sampler_vector *vector;
	g2_sampling sampling;
	uint32_t	n_seen;
	uint32_t   *seen;
	uint32_t	n_kept;
	uint32_t   *kept;			/* ascending */
	double	   *p;
	double	   *end;			/* sum of p[0..k] */
} sampler_case;

/* How far a sum of the reference's probabilities may be from the engine's. */
#define SUM_TOLERANCE 2e-6

/* Element i of synth.h's tensor 0. */
static float
vector_element(uint64_t seed, uint32_t i, double sigma)
{
	g2_philox	a = g2_philox4x32(seed, i, 0, 1, 0),
				b = g2_philox4x32(seed, i, 0, 2, 0);
	uint32_t	words[6] = {a.word[0], a.word[1], a.word[2], a.word[3], b.word[0], b.word[1]};
	int32_t		sum = 0;

	for (int w = 0; w < 6; w++)
		sum += (int32_t) ((words[w] & 0xFFFF) + (words[w] >> 16));
	return (float) (2 * sum - 12 * 65535) * (float) (sigma / 131072.0);
}

static void
read_vector(reader *r, sampler_vector *v)
{
	uint64_t	seed;
	double		sigma;

	snprintf(v->name, sizeof v->name, "%s", need_word(r));
	seed = (uint64_t) need_key(r, "seed");
	v->n = (uint32_t) need_key(r, "n");
	sigma = need_key(r, "sigma");
	v->logits = need_memory(v->n, sizeof *v->logits);
	for (uint32_t i = 0; i < v->n; i++)
		v->logits[i] = vector_element(seed, i, sigma);
	expect(r, "first");
	for (uint32_t i = 0; i < 8; i++)
		assert_true(v->logits[i] == (float) need_number(r));
}

static void
read_sampler_case(reader *r, const sampler_vector *vectors, uint32_t n_vectors, sampler_case *c)
{
	const char *vector;
	double		sum = 0;

	memset(c, 0, sizeof *c);
	snprintf(c->name, sizeof c->name, "%s", need_word(r));
	expect(r, "vector");
	vector = need_word(r);
	for (uint32_t i = 0; i < n_vectors; i++)
		if (strcmp(vectors[i].name, vector) == 0)
			c->vector = &vectors[i];
	assert_non_null(c->vector);
	c->sampling.repetition_penalty = (float) need_key(r, "penalty");
	c->sampling.temperature = (float) need_key(r, "temperature");
	c->sampling.top_k = (uint32_t) need_key(r, "top_k");
	c->sampling.top_p = (float) need_key(r, "top_p");
	c->sampling.min_p = (float) need_key(r, "min_p");
	c->sampling.typical_p = (float) need_key(r, "typical_p");
	if (c->sampling.typical_p == 1)
		c->sampling.typical_p = 0;
	expect(r, "seen");
	c->seen = need_ids(r, &c->n_seen);
	c->n_kept = (uint32_t) need_key(r, "kept");
	c->kept = need_memory(c->n_kept, sizeof *c->kept);
	c->p = need_memory(c->n_kept, sizeof *c->p);
	c->end = need_memory(c->n_kept, sizeof *c->end);
	for (uint32_t k = 0; k < c->n_kept; k++)
	{
		c->kept[k] = need_uint(r);
		c->p[k] = need_number(r);
		c->end[k] = sum += c->p[k];
	}
	assert_true(fabs(sum - 1) < SUM_TOLERANCE);
}

/* The uniform number that sampler.h draws for a token's index, in [0, 1). */
static double
uniform(const g2_sampling *sampling, uint32_t index)
{
	g2_philox	x = g2_philox4x32(sampling->seed, index, sampling->sequence, G2_PHILOX_SAMPLE, 0);

	return ldexp((double) (((uint64_t) x.word[1] << 32) | x.word[0]), -64);
}

/* Where u falls among the kept ids. */
static uint32_t
place_of(const sampler_case *c, double u)
{
	uint32_t	lo = 0,
				hi = c->n_kept - 1;

	while (lo < hi)
	{
		uint32_t	mid = (lo + hi) / 2;

		if (c->end[mid] > u)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

static const g2_past *
past_of(const sampler_case *c, uint32_t index, g2_past *past)
{
	*past = (g2_past) {
		.index = index, .end_token = G2_TOKEN_NONE, .seen = c->seen, .n_seen = c->n_seen,
	};
	return past;
}

/* Draws the token of an index and checks it; returns its place among the kept ids. */
static uint32_t
draw(const sampler_case *c, uint32_t index, float *logits, void *scratch)
{
	uint32_t	lo = 0,
				hi = c->n_kept,
				token;
	double		u = uniform(&c->sampling, index);
	g2_past		past;

	memcpy(logits, c->vector->logits, c->vector->n * sizeof *logits);
	token = g2_sample(&c->sampling, past_of(c, index, &past), logits, c->vector->n, scratch);
	while (lo < hi)
	{
		uint32_t	mid = (lo + hi) / 2;

		if (c->kept[mid] < token)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == c->n_kept || c->kept[lo] != token)
		fail_msg("%s: drew %u, which transformers does not keep", c->name, token);
	if (u < c->end[lo] - c->p[lo] - SUM_TOLERANCE || u > c->end[lo] + SUM_TOLERANCE)
		fail_msg("%s: drew %u for u = %.9g, but its share is %.9g .. %.9g", c->name, token, u,
				 c->end[lo] - c->p[lo], c->end[lo]);
	return lo;
}

/*
 * How unlikely the histogram is, as a standard normal number (Wilson and Hilferty's cube root).
 * Places with few expected draws are counted together.
 */
static double
chi_square(const sampler_case *c, const uint32_t *count, uint32_t n_draws)
{
	double		sum = 0,
				rest_count = 0,
				rest_expected = 0,
				df = -1;

	for (uint32_t k = 0; k < c->n_kept; k++)
	{
		double		expected = c->p[k] * n_draws;

		if (expected < 10)
		{
			rest_count += count[k];
			rest_expected += expected;
			continue;
		}
		sum += (count[k] - expected) * (count[k] - expected) / expected;
		df++;
	}
	if (rest_expected >= 10)
	{
		sum += (rest_count - rest_expected) * (rest_count - rest_expected) / rest_expected;
		df++;
	}
	if (df < 1)
		return 0;
	return (cbrt(sum / df) - (1 - 2 / (9 * df))) / sqrt(2 / (9 * df));
}

static void
check_sampler_case(sampler_case *c, uint32_t n_draws)
{
	uint32_t	n = c->vector->n,
				missing = c->n_kept,
				likely = 0;
	float	   *logits = need_memory(n, sizeof *logits);
	uint32_t   *count = need_memory(c->n_kept, sizeof *count);
	size_t		bytes = G2_ROUND_UP(g2_sampler_scratch_bytes(n), 64);
	void	   *scratch = aligned_alloc(64, bytes ? bytes : 64);
	g2_sampling cold = c->sampling;
	g2_past		past;
	double		z;

	assert_non_null(scratch);
	c->sampling.seed = 0x9E3779B97F4A7C15u;
	c->sampling.sequence = 3;
	for (uint32_t i = 0; i < n_draws; i++)
		if (count[draw(c, i, logits, scratch)]++ == 0)
			missing--;
	z = chi_square(c, count, n_draws);
	if (fabs(z) > 4.5)
		fail_msg("%s: the histogram of %u draws is off by %.1f sigma", c->name, n_draws, z);

	/* Every kept id must come: those that did not are drawn where u hits their share. */
	for (uint32_t i = n_draws; missing > 0 && i < 100000000; i++)
		if (count[place_of(c, uniform(&c->sampling, i))] == 0
			&& count[draw(c, i, logits, scratch)]++ == 0)
			missing--;
	if (missing > 0)
		fail_msg("%s: %u of %u kept ids never come", c->name, missing, c->n_kept);

	/* Greedy looks at the penalty and at nothing else; the best need not be typical. */
	for (uint32_t k = 1; k < c->n_kept; k++)
		if (c->p[k] > c->p[likely])
			likely = k;
	for (int i = 0; i < 2 && c->sampling.typical_p == 0; i++)
	{
		cold.temperature = i == 0 ? 0 : 1e-44f;
		memcpy(logits, c->vector->logits, n * sizeof *logits);
		assert_int_equal(g2_sample(&cold, past_of(c, 0, &past), logits, n, scratch),
						 c->kept[likely]);
	}
	free(logits);
	free(count);
	free(scratch);
}

static void
test_sampler(void **state)
{
	sampler_vector vectors[8];
	uint32_t	n_vectors = 0,
				n_cases = 0;
	reader		r;

	(void) state;
	reader_open(&r, "sampling");
	for (char *word; (word = next_word(&r));)
	{
		if (strcmp(word, "vector") == 0)
		{
			assert_true(n_vectors < G2_LENGTH(vectors));
			read_vector(&r, &vectors[n_vectors++]);
		}
		else
		{
			sampler_case c;
			bool		quick = getenv("GPT2_TEST_QUICK") != NULL;

			assert_string_equal(word, "case");
			read_sampler_case(&r, vectors, n_vectors, &c);
			check_sampler_case(&c, c.vector->n < 1000 ? (quick ? 20000 : 200000)
							   : (quick ? 2000 : 20000));
			n_cases++;
			free(c.seen);
			free(c.kept);
			free(c.p);
			free(c.end);
		}
	}
	for (uint32_t i = 0; i < n_vectors; i++)
		free(vectors[i].logits);
	free(r.data);
	print_message("             %u sets of sampling parameters\n", n_cases);
	assert_true(n_cases > 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sampler),
	};

	/* print_message goes through stdio: what a crash leaves behind should be complete. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	return cmocka_run_group_tests_name("vectors of the sampler", tests, NULL, NULL);
}
