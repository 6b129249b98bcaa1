/*
 * test_cuda_top.cpp: the best candidates and their logprobs on the emulated device, beside the CPU's: the
 * same to the bit.
 */
#include "cuda_sample_fixture.h"

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

/* The last strip is a part of one, and behind its best are -inf of an earlier one. */
static void
test_top_of_last_strip(void **)
{
	std::vector<float> l(33, -INFINITY);

	l[32] = 1.0f;
	device_row	d(l);

	d.run(G2_WANT_TOP, 0, 2);
	assert_int_equal(d.top[0].token, 32);
	assert_int_equal(d.top[1].token, 0);
}

/* The best by score behind all that may change it; the slot stays as it was. */
static void
test_candidates(void **)
{
	static const uint32_t banned[] = {0, 2, 5, 9, 100};
	const std::vector<g2_bias> biases = {{1, 2.5f}, {9, -4.0f}, {640, 7.0f}};
	uint32_t	n = 0;

	for (uint32_t kind = 0; kind < 7; kind++)
		for (uint32_t n_top : {1u, 6u, 300u})
			for (uint32_t way = 0; way < 4; way++, n++)
			{
				std::vector<float> l = some_logits(kind, 1300);
				device_row	d(l);
				aligned<char> scratch(g2_sampler_scratch_bytes((uint32_t) l.size()));
				std::vector<uint32_t> ids(n_top);
				std::vector<float> score(l.size());
				g2_sampling s = {};
				past		p;
				g2_past		behind;
				double		norm;

				s.repetition_penalty = way >= 1 ? 1.3f : 1.0f;
				s.presence_penalty = way >= 2 ? 0.4f : 0.0f;
				s.frequency_penalty = way >= 2 ? 0.3f : 0.0f;
				s.biases = biases.data();
				s.n_biases = way >= 3 ? 3 : 0;
				s.banned = banned;
				s.n_banned = way >= 3 ? 5 : 0;
				s.spared = 5;
				s.min_new = way >= 2 ? 9 : 0;
				p.index = 4;
				p.end_token = 17;
				p.seen = {3, 4, 640, 1299};
				p.counts = {{640, 2}, {4, 1}, {1200, 1}};
				p.most_counts = 8;
				if (way >= 1)
					p.barred = {8, 700, 1400};
				if (kind == 6)
					l[3] = d.logits[3] = NAN, d.bad[0] = 1;
				p.on_device(&d, s);
				emu_seed(n);
				d.run(G2_WANT_CANDIDATES, 0, n_top);
				behind = p.on_cpu();
				norm = g2_log_sum_exp(l.data(), (uint32_t) l.size());
				for (size_t i = 0; i < l.size(); i++)
					score[i] = (float) ((double) l[i] - norm);
				g2_sampler_change(&s, &behind, score.data(), (uint32_t) l.size());
				g2_top(score.data(), (uint32_t) l.size(), n_top, ids.data(), scratch.at());
				for (uint32_t t = 0; t < n_top; t++)
				{
					assert_int_equal(d.top[t].token, ids[t]);
					assert_true(same_double((double) d.top[t].score, (double) score[ids[t]]));
					assert_true(same_double(d.top[t].logprob, (double) l[ids[t]] - norm));
				}
				assert_int_equal(d.slots[1].next_index, 4);
				assert_int_equal(d.slots[1].n_counts, 3);
			}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_top),
		cmocka_unit_test(test_top_of_last_strip),
		cmocka_unit_test(test_candidates),
	};

	return cmocka_run_group_tests(tests, open_stream, close_stream);
}
