/*
 * test_accuracy.c: the comparison of formats: what it counts, and what it says of the demo model,
 * whose folder is looked for below the working directory.
 */
#include "pack_fixture.h"

#include <math.h>

#include "accuracy.h"

#define N_IDS 90

static const g2_synth_options random_model = {
	.n_layer = 2, .n_embd = 64, .n_head = 4, .n_ff = 256, .n_ctx = N_IDS, .n_vocab = 97,
	.sigma = 0.15, .seed = 4,
};

static g2_pack *packs[G2_FORMATS];

/* Of a model in one of the fixture's directories; f32 first. */
static g2_accuracy *
open_accuracy(const char *name, uint32_t n)
{
	static const g2_format formats[] = {
		G2_FORMAT_F32, G2_FORMAT_BF16, G2_FORMAT_Q8, G2_FORMAT_Q4,
	};
	g2_accuracy *accuracy = NULL;
	g2_error	err = {0};

	for (uint32_t i = 0; i < n; i++)
		EXPECT_OK(g2_pack_open(&fx.paths, name, formats[i], NULL, NULL, &packs[i], &err), err);
	EXPECT_OK(g2_accuracy_open(packs, n, 2, "auto", &accuracy, &err), err);
	return accuracy;
}

static void
close_accuracy(g2_accuracy *accuracy)
{
	g2_accuracy_close(accuracy);
	for (size_t i = 0; i < G2_LENGTH(packs); i++)
	{
		g2_pack_close(packs[i]);
		packs[i] = NULL;
	}
}

static void
random_ids(uint32_t *ids, uint32_t seed)
{
	for (uint32_t i = 0; i < N_IDS; i++)
		ids[i] = (i * 2654435761u + seed * 40503u) % random_model.n_vocab;
}

/* The sums of one text, from the logits behind each of its beginnings, in double. */
static void
naive_sums(g2_accuracy *a, uint32_t pack, const uint32_t *ids, g2_accuracy_sums *sums)
{
	enum
	{
		V = 97
	};
	float		p[V],
				q[V];
	g2_error	err = {0};

	for (uint32_t n = 1; n < N_IDS; n++)
	{
		double		sum_p = 0,
					sum_q = 0,
					gap = INFINITY;
		uint32_t	best = 0;

		EXPECT_OK(g2_accuracy_logits(a, 0, ids, n, p, &err), err);
		EXPECT_OK(g2_accuracy_logits(a, pack, ids, n, q, &err), err);
		for (uint32_t i = 0; i < V; i++)
		{
			sum_p += exp(p[i]);
			sum_q += exp(q[i]);
			best = p[i] > p[best] ? i : best;
		}
		for (uint32_t i = 0; i < V; i++)
		{
			sums->divergence += exp(p[i]) / sum_p *
				(log(exp(p[i]) / sum_p) - log(exp(q[i]) / sum_q));
			gap = i == best ? gap : fmin(gap, p[best] - p[i]);
		}
		sums->tokens++;
		sums->loss -= log(exp(q[ids[n]]) / sum_q);
		sums->clear += gap > G2_CLEAR_GAP;
		sums->same += gap > G2_CLEAR_GAP && g2_accuracy_best(q, V) == best;
	}
}

static void
test_sums(void **state)
{
	uint32_t	ids[N_IDS];
	g2_accuracy *a;
	g2_error	err = {0};
	g2_accuracy_sums want[G2_FORMATS] = {{0}};

	(void) state;
	fixture_synth(&fx, "m", &random_model);
	a = open_accuracy("m", G2_FORMATS);
	for (uint32_t text = 0; text < 2; text++)
	{
		random_ids(ids, text);
		EXPECT_OK(g2_accuracy_add(a, ids, N_IDS, &err), err);
		for (uint32_t i = 0; i < G2_FORMATS; i++)
			naive_sums(a, i, ids, &want[i]);
	}
	for (uint32_t i = 0; i < G2_FORMATS; i++)
	{
		const g2_accuracy_sums *s = g2_accuracy_of(a, i);

		assert_int_equal(s->tokens, 2 * (N_IDS - 1));
		assert_int_equal(s->tokens, want[i].tokens);
		assert_int_equal(s->clear, want[i].clear);
		assert_int_equal(s->same, want[i].same);
		assert_true(s->clear > 0 && s->clear < s->tokens);
		assert_true(fabs(s->loss / want[i].loss - 1) < 1e-5);
		assert_true(fabs(s->divergence - want[i].divergence) < 1e-4 * (double) s->tokens);
	}
	assert_true(g2_accuracy_of(a, 0)->divergence == 0);
	assert_int_equal(g2_accuracy_of(a, 0)->same, g2_accuracy_of(a, 0)->clear);
	assert_true(g2_accuracy_of(a, 2)->divergence > 0);
	assert_true(g2_accuracy_of(a, 3)->divergence > g2_accuracy_of(a, 2)->divergence);
	close_accuracy(a);
}

static void
test_refusals(void **state)
{
	uint32_t	ids[N_IDS + 1] = {0};
	float		logits[97];
	g2_accuracy *a;
	g2_error	err = {0};

	(void) state;
	fixture_synth(&fx, "m", &random_model);
	a = open_accuracy("m", 1);
	assert_false(g2_accuracy_add(a, ids, 0, &err));
	EXPECT_ERROR(err, G2_E_TOO_LONG, "between 1 and 90 tokens");
	assert_false(g2_accuracy_logits(a, 0, ids, N_IDS + 1, logits, &err));
	EXPECT_ERROR(err, G2_E_TOO_LONG, "between 1 and 90 tokens");
	ids[3] = random_model.n_vocab;
	assert_false(g2_accuracy_add(a, ids, 5, &err));
	EXPECT_ERROR(err, G2_E_PARAM, "token id 97");
	EXPECT_OK(g2_accuracy_add(a, ids, 1, &err), err);
	assert_int_equal(g2_accuracy_of(a, 0)->tokens, 0);
	EXPECT_OK(g2_accuracy_add(a, ids, 3, &err), err);
	assert_int_equal(g2_accuracy_of(a, 0)->tokens, 2);
	close_accuracy(a);
	assert_false(g2_accuracy_open(packs, 0, 1, "auto", &a, &err));
}

static void
test_memory(void **state)
{
	g2_accuracy *a = NULL;
	g2_error	err = {0};
	long		n = 1;
	bool		ok = false;

	(void) state;
	fixture_synth(&fx, "m", &random_model);
	close_accuracy(open_accuracy("m", 2));
	EXPECT_OK(g2_pack_open(&fx.paths, "m", G2_FORMAT_Q8, NULL, NULL, &packs[0], &err), err);
	for (; !ok && n < 500; n++)
	{
		g2_alloc_fail_at(n);
		ok = g2_accuracy_open(packs, 1, 1, "auto", &a, &err);
		g2_alloc_fail_at(0);
		if (!ok)
			assert_int_equal(err.code, G2_E_MEMORY);
	}
	assert_true(ok && n > 3);
	close_accuracy(a);
}

/* ---- the demo model ---- */

/* Its held-out text, cut at the end tokens as gpt2_engine verify does. */
static void
read_demo(g2_accuracy *a)
{
	static const char mark[] = "<|endoftext|>";
	size_t		len;
	char	   *text = tb_read("models/demo", "held_out.txt", &len);
	g2_error	err = {0};

	for (char *at = text, *end; (end = strstr(at, mark)) != NULL; at = end + strlen(mark))
	{
		g2_ids		ids = {0};

		at += strspn(at, "\n");
		EXPECT_OK(g2_tokenizer_encode(packs[0]->tokenizer, at, (size_t) (end - at), 0, NULL, &ids,
									  &err), err);
		EXPECT_OK(g2_accuracy_add(a, ids.data, (uint32_t) ids.len, &err), err);
		g2_free(ids.data);
	}
	free(text);
}

static void
test_demo(void **state)
{
	static const struct
	{
		double		divergence;
		double		same;
	}			bound[] = {{0, 1}, {1e-4, 0.999}, {1e-3, 0.995}, {3e-2, 0.97}};
	g2_accuracy *a;

	(void) state;
	if (access("models/demo/model.safetensors", R_OK) != 0)
	{
		print_message("no models/demo below the working directory\n");
		skip();
	}
	fx.directories[0] = "models";
	a = open_accuracy("demo", G2_FORMATS);
	read_demo(a);
	for (uint32_t i = 0; i < G2_FORMATS; i++)
	{
		const g2_accuracy_sums *s = g2_accuracy_of(a, i);

		print_message("%-4s perplexity %.4f, divergence %.1e, same next token %.3f %%\n",
					  g2_format_name(packs[i]->weights.format), exp(s->loss / (double) s->tokens),
					  s->divergence / (double) s->tokens, 100 * (double) s->same / (double) s->clear);
		assert_true(s->tokens > 10000 && s->clear > s->tokens / 2);
		assert_true(exp(s->loss / (double) s->tokens) < 3);
		assert_true(s->divergence <= bound[i].divergence * (double) s->tokens);
		assert_true((double) s->same >= bound[i].same * (double) s->clear);
	}
	close_accuracy(a);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_sums),
		TEST(test_refusals),
		TEST(test_memory),
		TEST(test_demo),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
