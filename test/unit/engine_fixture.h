/*
 * engine_fixture.h: two tiny models that the tests of engine and server run for real, and requests
 * to them.
 */
#ifndef ENGINE_FIXTURE_H
#define ENGINE_FIXTURE_H

#include <poll.h>

#include "model_fixture.h"

#include "protocol_watch.h"

#define N_CTX 128
#define HANG_US 60000000		/* nothing here takes a second; a sanitizer is slow */

static const g2_synth_options tiny_model = {
	.n_layer = 2, .n_embd = 32, .n_head = 2, .n_ff = 64, .n_ctx = N_CTX, .n_vocab = 257,
	.sigma = 0.5, .seed = 7,
};

static fixture places;

static UNUSED void
make_models(void)
{
	g2_synth_options other = tiny_model;

	fixture_open(&places);
	fixture_synth(&places, "tiny", &tiny_model);
	fixture_tokenizer(fixture_folder(&places, "tiny"));
	tb_text(fixture_folder(&places, "tiny"), "gpt2.json",
			"{\"templates\": {\"shout\": \"{input}!\"}, \"stop\": {\"shout\": [\"e\", \"t\"]},"
			" \"end_token\": \"<|endoftext|>\", \"start_token\": \"<|endoftext|>\"}");
	other.seed = 8;
	other.n_layer = 1;
	fixture_synth(&places, "bare", &other);		/* no tokenizer, no start token */
}

static UNUSED g2_settings
settings(void)
{
	g2_settings s = {
		.n_directories = 1,
		.directories = {g2_span_of(places.models)},
		.pack_directory = g2_span_of(places.packs),
		.threads = 2,
		.kv_cache_size = 8 << 20,
		/* What is asked twice is to be computed twice. */
		.result_cache_size = G2_NO_RESULT_CACHE,
	};

	return s;
}

static UNUSED void *
grow(void *data, size_t bytes)
{
	return realloc(data, bytes);
}

static UNUSED g2_generate
generate(const char *prompt)
{
	g2_generate m = {
		.model = g2_span_of("tiny"), .prompt = g2_span_of(prompt), .max_new = 20, .n = 1,
		.flags = G2_GEN_LOGPROBS, .temperature = 1, .top_p = 1, .repetition_penalty = 1,
		.seed = 5,
	};

	return m;
}

static uint64_t random_state = 1;

static UNUSED uint32_t
random_below(uint32_t n)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t) (random_state >> 33) % n;
}

/* Some decoding options, or a beam search with m->n texts; the model has 256 tokens at least. */
static UNUSED void
random_decoding(g2_generate *m)
{
	static const double penalties[] = {1, 0, 0.6, 2, -1};
	static const uint32_t biases[] = {'e', 0x40400000, 'q', 0xC0000000, 256, 0x3F800000};	/* 3, -2, 1 */

	if (random_below(3) == 0)
		return;
	m->decoding = (g2_decoding) {
		.typical_p = random_below(3) ? 0 : 0.6,
		.presence_penalty = random_below(2) ? 0 : 0.7,
		.frequency_penalty = random_below(2) ? 0 : 0.4,
		.no_repeat_ngram = random_below(2) ? 0 : 2 + random_below(3),
		.min_new = random_below(2) ? 0 : 1 + random_below(m->max_new),
		.length_penalty = penalties[random_below(5)],
		.n_biases = random_below(2) ? 0 : 3,
		.biases = (const char *) biases,
	};
	if (random_below(2))
		return;
	m->decoding.n_beams = G2_MAX(m->n, 2u) + random_below(3);
	m->temperature = 0;
}

/* Some request; the prompt's characters are in `text` (of 128). */
static UNUSED g2_generate
random_generate(char *text)
{
	uint32_t	n = random_below(90);
	g2_generate m;

	for (uint32_t i = 0; i < n; i++)
		text[i] = (char) ('a' + random_below(26));
	text[n] = '\0';
	m = generate(text);
	m.max_new = 1 + random_below(40);
	m.n = 1 + random_below(4);
	m.seed = random_below(1000);
	m.top_k = random_below(2) * 20;
	m.top_p = random_below(2) ? 0.9 : 1;
	m.repetition_penalty = random_below(2) ? 1.2 : 1;
	random_decoding(&m);
	return m;
}

/* Whether a payload of COMPLETIONS is whole and sane. */
static UNUSED void
check_completions(const void *payload, size_t len, uint32_t n)
{
	g2_reader	r = g2_read(payload, len);
	g2_completions_head head;

	g2_completions_head_get(&r, &head);
	assert_int_equal(head.n, n);
	for (uint32_t i = 0; i < n; i++)
	{
		g2_completion c;

		g2_completion_get(&r, &c);
		assert_false(r.failed);
		assert_true(c.finish >= G2_FINISH_LENGTH && c.finish <= G2_FINISH_EOS);
		assert_true(c.n_ids >= 1 && c.n_ids <= N_CTX);
		assert_int_equal(g2_utf8_valid_prefix(c.text.data, c.text.len), c.text.len);
		assert_true(c.logprob <= 0);
	}
	assert_true(r.at == r.end);
}

/* What must be the same of two answers to one request: everything but the times that it took and
 * what was found in a cache. */
static UNUSED bool
same_completions(const char *a, size_t a_len, const char *b, size_t b_len)
{
	const size_t counts = 2 * sizeof(uint32_t),
				seed = counts + sizeof(uint32_t),
				times = seed + sizeof(uint64_t),
				tail = times + 2 * sizeof(uint64_t) + sizeof(uint32_t);

	return a_len == b_len && memcmp(a, b, counts) == 0 &&
		memcmp(a + seed, b + seed, sizeof(uint64_t)) == 0 &&
		memcmp(a + tail, b + tail, a_len - tail) == 0;
}

static UNUSED uint32_t
count_descriptors(void)
{
	DIR		   *dir = opendir("/proc/self/fd");
	uint32_t	n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

#endif							/* ENGINE_FIXTURE_H */
