/*
 * test_cuda_sample.cpp: sampling on the emulated device beside the CPU's sampler: the same tokens,
 * logprobs and candidates, to the bit, from the same logits.
 */
#include "cuda_fixture.h"

extern "C"
{
#include "sampler.h"
}

#include "sampler_math.h"

static const uint32_t n_slots = 2;

/* One row of logits and one slot, as the device has them. */
struct device_row
{
	std::vector<float> logits;
	std::vector<uint64_t> best;
	std::vector<uint32_t> bad;
	std::vector<uint64_t> seen;
	std::vector<uint64_t> banned;
	std::vector<g2d_slot> slots;
	std::vector<char> pass;
	std::vector<char> chunk;
	std::vector<g2d_top> top;
	std::vector<g2d_top> unsorted;
	g2d_result	result;
	uint32_t	position;

	explicit device_row(const std::vector<float> &l)
		: logits(l), best((l.size() + 15) / 16), bad(1), seen(n_slots * G2D_SEEN_WORDS),
		  banned(n_slots * G2D_SEEN_WORDS), slots(n_slots), pass(sizeof(g2d_pass)),
		  chunk(sizeof(g2d_chunk) + sizeof(g2d_output)), top(l.size()), unsorted(l.size()), result(),
		  position(3)
	{
		for (uint32_t i = 0; i < l.size(); i++)
		{
			uint64_t	v = (uint64_t) g2_rank_key(l[i]) << 32 | (uint32_t) ~i;

			best[i / 16] = v > best[i / 16] ? v : best[i / 16];
			bad[0] |= l[i] != l[i];
		}
	}

	void
	run(uint32_t want, uint32_t target, uint32_t n_top)
	{
		g2d_chunk  *c = reinterpret_cast<g2d_chunk *>(chunk.data());
		g2d_sample	a = {};

		memset(c, 0, sizeof *c);
		c->n_head_rows = c->n_tasks = c->n_outputs = 1;
		c->n_top = n_top;
		c->task_start[1] = 1;
		c->outputs[0] = {0, 1, want, target, 0, G2_TOKEN_NONE};
		a.chunk = c;
		a.pass = reinterpret_cast<g2d_pass *>(pass.data());
		a.position_of = &position;
		a.slots = {slots.data(), seen.data(), banned.data()};
		a.logits = logits.data();
		a.ld = a.n_vocab = (uint32_t) logits.size();
		a.best = best.data();
		a.best_ld = (uint32_t) best.size();
		a.bad = bad.data();
		a.results = &result;
		a.top = top.data();
		a.unsorted = unsorted.data();
		g2d_launch_sample(stream, &a, 1);
		finish_work();
	}
};

static bool
same_double(double a, double b)
{
	return memcmp(&a, &b, sizeof a) == 0 || (a != a && b != b);
}

static void
compare(const std::vector<float> &logits, const g2_sampling &s, const std::vector<uint32_t> &seen,
		uint32_t index)
{
	device_row	d(logits);
	std::vector<float> copy(logits);
	aligned<char> scratch(g2_sampler_scratch_bytes((uint32_t) logits.size()));
	g2_past		past = {};
	uint32_t	want;

	d.slots[1].sampling = s;
	d.slots[1].next_index = index;
	d.slots[1].end_token = G2_TOKEN_NONE;
	d.slots[1].has_seen = s.repetition_penalty != 1.0f;
	d.slots[1].has_banned = s.n_banned > 0;
	for (uint32_t id : seen)
		d.seen[G2D_SEEN_WORDS + id / 64] |= (uint64_t) 1 << id % 64;
	for (uint32_t i = 0; i < s.n_banned; i++)
		if (s.banned[i] != s.spared)
			d.banned[G2D_SEEN_WORDS + s.banned[i] / 64] |= (uint64_t) 1 << s.banned[i] % 64;
	d.run(G2_WANT_TOKEN | G2_WANT_LOGPROB, 0, 0);
	past.index = index;
	past.end_token = G2_TOKEN_NONE;
	past.seen = seen.data();
	past.n_seen = (uint32_t) seen.size();
	want = g2_sample(&s, &past, copy.data(), (uint32_t) copy.size(), scratch.at());
	if (d.result.token != want)
		print_error("T %g k %u p %g min %g: %u instead of %u\n", s.temperature, s.top_k, s.top_p,
					s.min_p, d.result.token, want);
	assert_int_equal(d.result.token, want);
	assert_true(same_double(d.result.logprob,
							g2_logprob(logits.data(), (uint32_t) logits.size(), want)));
	assert_int_equal(d.slots[1].last_token, want);
	assert_int_equal(d.slots[1].next_index, index + 1);
	if (d.slots[1].has_seen)
		assert_true(d.seen[G2D_SEEN_WORDS + want / 64] >> want % 64 & 1);
}

/* Logits of several kinds. */
static std::vector<float>
some_logits(uint32_t kind, uint32_t n)
{
	std::vector<float> l = random_floats(n);

	for (uint32_t i = 0; i < n; i++)
		switch (kind)
		{
			case 0:
				l[i] *= 4.0f;
				break;
			case 1:				/* ties */
				l[i] = (float) (random_word() % 3);
				break;
			case 2:				/* all the same */
				l[i] = -1.5f;
				break;
			case 3:				/* far apart */
				l[i] = l[i] * l[i] * l[i] * 40.0f;
				break;
			case 4:
				l[i] = random_word() % 2 ? -INFINITY : l[i];
				break;
			case 5:				/* zeros of both signs */
				l[i] = random_word() % 2 ? -0.0f : 0.0f;
				break;
		}
	return l;
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

static void
test_top(void **)
{
	for (uint32_t kind = 0; kind < 6; kind++)
		for (uint32_t n_top : {1u, 5u, 300u})
		{
			std::vector<float> l = some_logits(kind, 1300);
			device_row	d(l);
			std::vector<uint32_t> ids(n_top);
			aligned<char> scratch(g2_sampler_scratch_bytes((uint32_t) l.size()));

			d.run(G2_WANT_TOP | G2_WANT_LOGPROB, 77, n_top);
			g2_top(l.data(), (uint32_t) l.size(), n_top, ids.data(), scratch.at());
			for (uint32_t t = 0; t < n_top; t++)
			{
				assert_int_equal(d.top[t].token, ids[t]);
				assert_true(same_double(d.top[t].logprob,
										g2_logprob(l.data(), (uint32_t) l.size(), ids[t])));
			}
			assert_true(same_double(d.result.logprob,
									g2_logprob(l.data(), (uint32_t) l.size(), 77)));
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
		cmocka_unit_test(test_not_finite),
		cmocka_unit_test(test_top),
	};

	return cmocka_run_group_tests(tests, open_stream, close_stream);
}
