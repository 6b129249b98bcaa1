/*
 * test_result_key.c: keys of the cache of answers: requests that differ where it matters have
 * different ones.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "result_cache.h"

#define S(text) ((g2_span) {text, sizeof(text) - 1})

static g2_generate
request(void)
{
	return (g2_generate) {
		.model = S("demo"), .prompt = S("a prompt"), .max_new = 50, .n = 2,
		.flags = G2_GEN_LOGPROBS, .temperature = 0.5, .top_k = 40, .top_p = 0.9, .min_p = 0.1,
		.repetition_penalty = 1.1, .seed = 7, .n_stops = 2, .stops = {S("ab"), S("c")},
		.task = S("summarize"), .template_text = S("{input}"), .current_user = 10,
		.cache_salt = S("salt"), .queue_timeout_ms = 5, .constraint_kind = G2_CONSTRAINT_REGEX,
		.constraint = S("[a]"),
	};
}

static const g2_result_identity identity = {"00ff", "f32", "exact-1", 5};

static void
key_for(const g2_generate *m, const g2_result_identity *of, uint8_t key[G2_HASH])
{
	g2_error	err;

	assert_true(g2_result_key(m, of, key, &err));
}

/* Requests and identities that differ from the first in one place, each of which matters. */
static size_t
variants(g2_generate *m, g2_result_identity *of)
{
	size_t		n = 0;

#define VARIANT(change) (m[n] = request(), of[n] = identity, change, n++)
	VARIANT((void) 0);
	VARIANT(m[n].prompt = S("a prompt "));
	VARIANT(m[n].prompt = S(""));
	VARIANT(m[n].max_new++);
	VARIANT(m[n].n++);
	VARIANT(m[n].flags = 0);
	VARIANT(m[n].flags |= G2_GEN_MAX_LENGTH);
	VARIANT(m[n].flags |= G2_GEN_PROMPT_IDS);
	VARIANT(m[n].flags |= G2_GEN_NO_STOP_DEFAULTS);
	VARIANT(m[n].temperature = 0);
	VARIANT(m[n].top_k = 0);
	VARIANT(m[n].top_p = 0.91);
	VARIANT(m[n].min_p = 0);
	VARIANT(m[n].repetition_penalty = 1);
	VARIANT(m[n].seed = 8);
	VARIANT(m[n].n_stops = 1);
	VARIANT(m[n].n_stops = 0);
	VARIANT((m[n].stops[0] = S("a"), m[n].stops[1] = S("bc")));	/* the same bytes, cut elsewhere */
	VARIANT((m[n].stops[0] = S("c"), m[n].stops[1] = S("ab")));
	VARIANT(m[n].task = S(""));
	VARIANT((m[n].task = S(""), m[n].template_text = S("summarize{input}")));
	VARIANT(m[n].template_text = S(""));
	VARIANT(m[n].current_user = 11);
	VARIANT(m[n].cache_salt = S(""));
	VARIANT(m[n].cache_salt = S("sal"));
	VARIANT(m[n].flags |= G2_GEN_ADD_START);
	VARIANT(m[n].decoding.typical_p = 0.5);
	VARIANT(m[n].decoding.presence_penalty = 1);
	VARIANT(m[n].decoding.frequency_penalty = 1);
	VARIANT(m[n].decoding.no_repeat_ngram = 2);
	VARIANT(m[n].decoding.min_new = 2);
	VARIANT(m[n].decoding.n_beams = 2);
	VARIANT(m[n].decoding.length_penalty = 2);
	VARIANT((m[n].decoding.n_biases = 1, m[n].decoding.biases = "0000bias"));
	VARIANT((m[n].decoding.n_biases = 1, m[n].decoding.biases = "0001bias"));
	VARIANT((m[n].decoding.n_biases = 1, m[n].decoding.biases = "0000bibi"));
	VARIANT(m[n].constraint_kind = G2_CONSTRAINT_CHOICE);
	VARIANT(m[n].constraint = S("[b]"));
	VARIANT((m[n].constraint_kind = G2_CONSTRAINT_NONE, m[n].constraint = S("")));
	VARIANT(of[n].content_hash = "00fe");
	VARIANT(of[n].format = "q8");
	VARIANT(of[n].arithmetic = "exact-2");
	VARIANT((of[n].content_hash = "00f", of[n].format = "ff32"));
	VARIANT(of[n].database = 6);
#undef VARIANT
	return n;
}

static void
test_keys(void **state)
{
	static g2_generate m[50];
	static g2_result_identity of[50];
	static uint8_t keys[50][G2_HASH];
	size_t		n = variants(m, of);
	uint8_t		key[G2_HASH];

	(void) state;
	for (size_t i = 0; i < n; i++)
		key_for(&m[i], &of[i], keys[i]);
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < i; j++)
			if (memcmp(keys[i], keys[j], G2_HASH) == 0)
				fail_msg("requests %zu and %zu have the same key", j, i);
	/* What has no say in the answer. */
	m[0].model = S("the same under another name");
	m[0].queue_timeout_ms = 0;
	m[0].flags |= G2_GEN_STREAM | G2_GEN_SEEDED | G2_GEN_NO_CACHE;
	key_for(&m[0], &of[0], key);
	assert_memory_equal(key, keys[0], G2_HASH);
}

static g2_score
score(void)
{
	return (g2_score) {
		.model = S("demo"), .text = S("a text"), .kind = G2_SCORE_LABELS, .stride = 5,
		.current_user = 10, .cache_salt = S("salt"), .queue_timeout_ms = 5,
		.task = S("classify"), .template_text = S("{input}"), .condition = S("is it"),
		.n_labels = 2, .labels = {S("ab"), S("c")}, .n_examples = 1,
		.example_texts = {S("x")}, .example_labels = {S("ab")},
	};
}

static size_t
score_variants(g2_score *m)
{
	size_t		n = 0;

#define VARIANT(change) (m[n] = score(), change, n++)
	VARIANT((void) 0);
	VARIANT(m[n].text = S(""));
	VARIANT(m[n].kind = G2_SCORE_LOSS);
	VARIANT(m[n].flags = G2_SCORE_ADD_START);
	VARIANT(m[n].stride = 0);
	VARIANT(m[n].current_user = 11);
	VARIANT(m[n].cache_salt = S(""));
	VARIANT(m[n].task = S("filter"));
	VARIANT(m[n].template_text = S(""));
	VARIANT(m[n].condition = S(""));
	VARIANT(m[n].n_labels = 1);
	VARIANT((m[n].labels[0] = S("a"), m[n].labels[1] = S("bc")));
	VARIANT(m[n].n_examples = 0);
	VARIANT(m[n].example_texts[0] = S("y"));
	VARIANT(m[n].example_labels[0] = S("c"));
#undef VARIANT
	return n;
}

static void
test_score_keys(void **state)
{
	static g2_score m[20];
	static uint8_t keys[20][G2_HASH];
	size_t		n = score_variants(m);
	uint8_t		key[G2_HASH];
	g2_error	err;

	(void) state;
	for (size_t i = 0; i < n; i++)
		assert_true(g2_score_key(&m[i], &identity, keys[i], &err));
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < i; j++)
			if (memcmp(keys[i], keys[j], G2_HASH) == 0)
				fail_msg("scores %zu and %zu have the same key", j, i);
	m[0].model = S("the same under another name");
	m[0].queue_timeout_ms = 0;
	m[0].flags |= G2_SCORE_NO_CACHE;
	assert_true(g2_score_key(&m[0], &identity, key, &err));
	assert_memory_equal(key, keys[0], G2_HASH);
}

static void
test_key_without_memory(void **state)
{
	g2_generate m = request();
	uint8_t		key[G2_HASH];
	g2_error	err;
	long		n;

	(void) state;
	for (n = 1;; n++)
	{
		bool		ok;

		err.code = G2_OK;
		g2_alloc_fail_at(n);
		ok = g2_result_key(&m, &identity, key, &err);
		g2_alloc_fail_at(0);
		if (ok)
			break;
		assert_int_equal(err.code, G2_E_MEMORY);
	}
	assert_int_equal(n, 3);		/* text and hash: the text is not moved while it is written */
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys), cmocka_unit_test(test_score_keys),
		cmocka_unit_test(test_key_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
