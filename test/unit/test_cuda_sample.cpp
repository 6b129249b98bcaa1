/*
 * test_cuda_sample.cpp: sampling on the emulated device beside the CPU's sampler: the same tokens and
 * logprobs, to the bit, from the same logits.
 */
#include "cuda_sample_fixture.h"

/* The slot's counts behind a token, which it had not always counted before. */
static void
check_counts(const device_row &d, const past &before, uint32_t token)
{
	std::vector<g2_count> want(before.counts);
	uint32_t	n = (uint32_t) want.size();

	want.resize(before.most_counts > n ? before.most_counts : n);
	g2_count_token(want.data(), &n, before.most_counts, token);
	assert_int_equal(d.slots[1].n_counts, n);
	for (uint32_t i = 0; i < n; i++)
	{
		assert_int_equal(d.counts[G2D_MOST_CTX + i].token, want[i].token);
		assert_int_equal(d.counts[G2D_MOST_CTX + i].n, want[i].n);
	}
}

static void
compare(const std::vector<float> &logits, const g2_sampling &s, const past &behind)
{
	device_row	d(logits);
	std::vector<float> copy(logits);
	aligned<char> scratch(g2_sampler_scratch_bytes((uint32_t) logits.size()));
	const g2_past past = behind.on_cpu();
	const uint32_t want = g2_sample(&s, &past, copy.data(), (uint32_t) copy.size(), scratch.at());

	behind.on_device(&d, s);
	d.run(G2_WANT_TOKEN | G2_WANT_LOGPROB, 0, 0);
	if (d.result.token != want)
		print_error("T %g k %u p %g min %g typical %g: %u instead of %u\n", s.temperature, s.top_k,
					s.top_p, s.min_p, s.typical_p, d.result.token, want);
	assert_int_equal(d.result.token, want);
	assert_true(!past.mask || (past.mask[want / 64] >> want % 64 & 1));
	assert_true(same_double(d.result.logprob,
							g2_logprob(logits.data(), (uint32_t) logits.size(), want)));
	assert_int_equal(d.slots[1].last_token, want);
	assert_int_equal(d.slots[1].next_index, past.index + 1);
	if (d.slots[1].has_seen)
		assert_true(d.seen[G2D_SEEN_WORDS + want / 64] >> want % 64 & 1);
	if (behind.most_counts > 0)
		check_counts(d, behind, want);
}

static void
compare(const std::vector<float> &logits, const g2_sampling &s, const std::vector<uint32_t> &seen,
		uint32_t index, uint32_t end_token = G2_TOKEN_NONE, const std::vector<uint64_t> &mask = {},
		const std::vector<uint32_t> &barred = {})
{
	past		behind;

	behind.index = index;
	behind.end_token = end_token;
	behind.seen = seen;
	behind.mask = mask;
	behind.barred = barred;
	compare(logits, s, behind);
}

static void
test_tokens(void **)
{
	static const uint32_t sizes[] = {1, 203, 1500};
	static const uint32_t banned[] = {0, 2, 5, 9, 100};
	uint32_t	n = 0;

	for (uint32_t kind = 0; kind < 6; kind++)
		for (uint32_t size : sizes)
			for (uint32_t way = 0; way < 10; way++, n++)
			{
				g2_sampling s = {};
				std::vector<uint32_t> seen;

				s.temperature = way == 0 ? 0.0f : way == 1 ? 1e-30f : 0.8f;
				s.top_k = way == 2 || way == 5 ? 7 : way == 6 ? 400 : 0;
				s.top_p = way == 3 || way >= 5 ? 0.9f : 1.0f;
				s.min_p = way == 4 || way == 7 ? 0.05f : way == 8 ? 2.0f : 0.0f;
				s.repetition_penalty = way >= 7 ? 1.3f : 1.0f;
				s.seed = n;
				s.sequence = n % 3;
				if (way >= 6 && size > 100)
				{
					s.banned = banned;
					s.n_banned = 5;
					s.spared = 9;
				}
				for (uint32_t i = 0; s.repetition_penalty != 1.0f && i < size; i += 3)
					seen.push_back(i);
				emu_seed(n);
				compare(some_logits(kind, size), s, seen, n % 5);
			}
}

/* GPT-2's vocabulary: as many of the best as strips are kept for and one more, too many in one bin, and
 * filters of what has been changed. */
static void
test_vocabulary(void **)
{
	static const uint32_t banned[] = {0, 2, 5, 9, 100};
	uint32_t	n = 0;

	for (uint32_t kind = 0; kind < 6; kind++)
		for (uint32_t top_k : {0u, 1u, 50u, 512u, 513u})
			for (uint32_t way = 0; way < 4; way++, n++)
			{
				g2_sampling s = {};

				if (way == 3 && top_k != 0 && top_k != 50)
					continue;
				s.temperature = n % 3 ? 0.9f : 2.5f;
				s.top_k = top_k;
				s.top_p = way == 1 || way == 3 ? 0.95f : 1.0f;
				s.min_p = way == 2 ? 0.02f : 0.0f;
				s.repetition_penalty = 1.0f;
				s.seed = n;
				s.banned = banned;
				s.n_banned = way == 3 ? 5 : 0;
				emu_seed(n);
				compare(some_logits(kind, 50257), s, {}, n);
			}
}

/* Biases beside bans and penalty, and the end token before min_new, which is among the best. */
static void
test_changes(void **)
{
	static const uint32_t banned[] = {0, 2, 5, 9, 100};
	std::vector<g2_bias> biases;
	uint32_t	n = 0;

	for (uint32_t i = 2; i < 600; i += 7)
		biases.push_back({i, i % 2 ? 1.75f : -3.3f});
	for (uint32_t kind = 0; kind < 6; kind++)
		for (uint32_t size : {6u, 203u, 1500u})
			for (uint32_t way = 0; way < 8; way++, n++)
			{
				std::vector<float> l = some_logits(kind, size);
				g2_sampling s = {};
				uint32_t	end = (uint32_t) (std::max_element(l.begin(), l.end()) - l.begin());

				s.temperature = way % 2 ? 0.8f : 0.0f;
				s.top_p = way == 3 ? 0.9f : 1.0f;
				s.top_k = way == 5 ? 20 : 0;
				s.min_p = way == 7 ? 0.1f : 0.0f;
				s.repetition_penalty = way >= 4 ? 1.3f : 1.0f;
				s.seed = n;
				s.min_new = way >= 2 ? 3 : 0;
				s.biases = biases.data();
				s.n_biases = way == 2 ? 0 : (uint32_t) biases.size();
				if (way >= 6 && size > 100)
				{
					s.banned = banned;
					s.n_banned = 5;
					s.spared = 9;
				}
				std::vector<uint32_t> seen = {0, 2, 3};	/* each once */

				if (end != 0 && end != 2 && end != 3)
					seen.push_back(end);
				emu_seed(n);
				compare(l, s, seen, n % 5, end);
			}
}

/* typical_p alone and between the other filters. */
static void
test_typical(void **)
{
	uint32_t	n = 0;

	for (uint32_t kind = 0; kind < 6; kind++)
		for (uint32_t size : {1u, 203u, 1500u, 2500u})	/* up to three blocks of the mean */
			for (uint32_t way = 0; way < 12; way++, n++)
			{
				g2_sampling s = {};

				s.temperature = way == 11 ? 1e-30f : way % 2 ? 0.7f : 1.6f;
				s.typical_p = way % 4 == 0 ? 0.02f : way % 4 == 1 ? 0.5f : 0.95f;
				s.top_k = way == 4 || way == 7 ? 9 : way == 8 ? 300 : 0;
				s.top_p = way == 5 || way >= 7 ? 0.8f : 1.0f;
				s.min_p = way == 6 || way == 9 ? 0.1f : way == 10 ? 1.0f :
					way == 8 ? 2.0f : 0.0f;
				s.repetition_penalty = way == 3 ? 1.4f : 1.0f;
				s.seed = n;
				emu_seed(n);
				compare(some_logits(kind, size), s, {0, 7, 100}, n % 5);
			}
}

/* Presence and frequency penalties over an answer of a few tokens and of many, and what is counted
 * behind it. */
static void
test_counts(void **)
{
	uint32_t	n = 0;

	for (uint32_t kind = 0; kind < 6; kind++)
		for (uint32_t size : {6u, 203u, 1500u})
			for (uint32_t way = 0; way < 10; way++, n++)
			{
				std::vector<float> l = some_logits(kind, size);
				const uint32_t best = (uint32_t) (std::max_element(l.begin(), l.end()) - l.begin());
				const g2_bias bias = {best, -0.5f};
				g2_sampling s = {};
				past		p;

				s.temperature = way % 2 ? 0.9f : 0.0f;
				s.top_p = way == 5 ? 0.7f : 1.0f;
				s.repetition_penalty = way >= 6 ? 1.2f : 1.0f;
				s.presence_penalty = way == 1 ? 0.0f : way == 2 ? -1.5f : 0.37f;
				s.frequency_penalty = way == 0 ? 0.0f : way == 3 ? -0.21f : 1.13f;
				s.typical_p = way == 7 ? 0.6f : 0.0f;
				s.seed = n;
				s.biases = &bias;
				s.n_biases = way >= 8;
				for (uint32_t i = 0; i < size; i += way < 4 ? 1 + size / 3 : 2)
				{
					p.counts.push_back({way % 2 ? i : size - 1 - i, 1 + random_word() % 4});
					p.seen.push_back(p.counts.back().token);
				}
				if (way == 4)
					p.counts.clear();
				p.index = (uint32_t) p.counts.size();
				/* Room for one more, or for none. */
				p.most_counts = p.index + (way != 9);
				emu_seed(n);
				compare(l, s, p);
			}
}

/* Masks of many and of few ids, what an output alone bans, all of a mask banned. */
static void
test_masks(void **)
{
	uint32_t	n = 0;

	for (uint32_t kind = 0; kind < 6; kind++)
		for (uint32_t size : {6u, 203u, 1500u})
			for (uint32_t way = 0; way < 8; way++, n++)
			{
				std::vector<uint64_t> mask(way == 1 ? 0 : g2d_set_words(size));
				std::vector<uint32_t> barred;
				std::vector<float> l = some_logits(kind, size);
				g2_sampling s = {};

				s.temperature = way % 2 ? 0.9f : 0.0f;
				s.top_p = way >= 4 ? 0.8f : 1.0f;
				s.repetition_penalty = way == 5 ? 1.2f : 1.0f;
				s.seed = n;
				for (uint32_t i = 0; i < mask.size(); i++)
					mask[i] = way < 4 ? random_word() | 0x8 : i == mask.size() / 2 ? 0x28 : 0;
				for (uint32_t i = 0; way != 2 && i < size; i += 1 + random_word() % 3)
					barred.push_back(i);
				if (way >= 6)
					for (uint32_t i : {3u, 5u})
						barred.push_back(i + 64 * (uint32_t) (mask.size() / 2));
				emu_seed(n);
				if (mask.empty() || mask[0] || mask.size() > 1)
					compare(l, s, {1, 3}, n % 5, G2_TOKEN_NONE, mask, barred);
			}
}

static void
test_not_finite(void **)
{
	g2_sampling s = {};

	s.top_p = 1.0f;
	s.repetition_penalty = 1.0f;
	for (float temperature : {0.0f, 1.0f})
	{
		s.temperature = temperature;
		compare({1.0f, NAN, 3.0f, 3.0f}, s, {}, 0);
		compare({NAN, NAN, NAN}, s, {}, 0);
		compare({NAN, -INFINITY, -INFINITY}, s, {}, 0);
		compare({1.0f, INFINITY, 3.0f, INFINITY}, s, {}, 0);
		compare({-INFINITY, -INFINITY}, s, {}, 0);
	}
}

/* The shared functions of single values give what the CPU's loops over 16 lanes give. */
static void
test_shared_functions(void **)
{
	std::vector<float> l = some_logits(3, 999);
	std::vector<uint64_t> w(l.size());
	bool		clean;
	const float max = g2_kernels_portable.max(l.data(), (uint32_t) l.size(), &clean);
	uint64_t	sum = 0;

	for (float temperature : {0.3f, 1.0f, 7.0f})
	{
		sum = g2_kernels_portable.weights(l.data(), (uint32_t) l.size(), max, temperature, w.data());
		for (size_t i = 0; i < l.size(); i++)
		{
			assert_true(w[i] == g2_sample_weight(l[i], max, temperature));
			sum -= w[i];
			assert_true(g2_rank_logit(g2_rank_key(l[i])) == l[i]);
		}
		assert_true(sum == 0);
	}
	assert_true(clean);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shared_functions),
		cmocka_unit_test(test_tokens),
		cmocka_unit_test(test_vocabulary),
		cmocka_unit_test(test_changes),
		cmocka_unit_test(test_typical),
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_masks),
		cmocka_unit_test(test_not_finite),
	};

	return cmocka_run_group_tests(tests, open_stream, close_stream);
}
