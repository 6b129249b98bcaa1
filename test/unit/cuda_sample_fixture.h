/*
 * cuda_sample_fixture.h: a row of logits and a slot as the emulated device has them, for tests of what
 * is chosen there.
 */
#ifndef CUDA_SAMPLE_FIXTURE_H
#define CUDA_SAMPLE_FIXTURE_H

#include "cuda_fixture.h"

#include <algorithm>

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
	std::vector<g2_bias> biases;
	std::vector<g2_count> counts;
	std::vector<g2d_slot> slots;
	std::vector<char> pass;
	std::vector<char> chunk;
	std::vector<g2d_top> top;
	std::vector<g2d_top> unsorted;
	std::vector<float> changed;
	std::vector<uint64_t> sets;
	uint32_t	mask = G2D_NO_SET;
	uint32_t	barred = G2D_NO_SET;
	g2d_result	result;
	uint32_t	position;

	explicit device_row(const std::vector<float> &l)
		: logits(l), best((l.size() + 15) / 16), bad(1), seen(n_slots * G2D_SEEN_WORDS),
		  banned(n_slots * G2D_SEEN_WORDS), biases(n_slots * G2_MOST_BIASES),
		  counts(n_slots * G2D_MOST_CTX), slots(n_slots), pass(sizeof(g2d_pass)),
		  chunk(sizeof(g2d_chunk) + sizeof(g2d_output)), top(l.size()), unsorted(l.size()),
		  changed(l.size()), result(), position(3)
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
		c->outputs[0] = {0, 1, want, target, 0, G2_TOKEN_NONE, mask, barred};
		a.sets = sets.data();
		a.chunk = c;
		a.pass = reinterpret_cast<g2d_pass *>(pass.data());
		a.position_of = &position;
		a.slots = {slots.data(), seen.data(), banned.data(), biases.data(), counts.data()};
		a.logits = logits.data();
		a.ld = a.n_vocab = (uint32_t) logits.size();
		a.best = best.data();
		a.best_ld = (uint32_t) best.size();
		a.bad = bad.data();
		a.results = &result;
		a.top = top.data();
		a.unsorted = unsorted.data();
		a.changed = changed.data();
		g2d_launch_sample(stream, &a, 1);
		finish_work();
	}
};

static inline bool
same_double(double a, double b)
{
	return memcmp(&a, &b, sizeof a) == 0 || (a != a && b != b);
}

/* What a token is chosen behind, as tests say it; the CPU's past points to it. */
struct past
{
	uint32_t	index = 0;
	uint32_t	end_token = G2_TOKEN_NONE;
	std::vector<uint32_t> seen;
	std::vector<g2_count> counts;
	uint32_t	most_counts = 0;
	std::vector<uint64_t> mask;
	std::vector<uint32_t> barred;

	g2_past
	on_cpu() const
	{
		g2_past		p = {};

		p.index = index;
		p.end_token = end_token;
		p.seen = seen.data();
		p.n_seen = (uint32_t) seen.size();
		p.counts = counts.data();
		p.n_counts = (uint32_t) counts.size();
		p.banned = barred.data();
		p.n_banned = (uint32_t) barred.size();
		p.mask = mask.empty() ? NULL : mask.data();
		return p;
	}

	/* To slot 1 and the sets of a row. */
	void
	on_device(device_row *d, const g2_sampling &s) const
	{
		const uint32_t words = g2d_set_words((uint32_t) d->logits.size());
		g2d_slot   *slot = &d->slots[1];

		slot->sampling = s;
		slot->next_index = index;
		slot->end_token = end_token;
		slot->has_seen = s.repetition_penalty != 1.0f;
		slot->has_banned = s.n_banned > 0;
		slot->n_counts = (uint32_t) counts.size();
		slot->most_counts = most_counts;
		for (uint32_t id : seen)
			d->seen[G2D_SEEN_WORDS + id / 64] |= (uint64_t) 1 << id % 64;
		for (uint32_t i = 0; i < s.n_banned; i++)
			if (s.banned[i] != s.spared &&
				g2_bias_find(s.biases, s.n_biases, s.banned[i]) == s.n_biases)
				d->banned[G2D_SEEN_WORDS + s.banned[i] / 64] |= (uint64_t) 1 << s.banned[i] % 64;
		d->sets.resize(2 * words);
		d->barred = barred.empty() ? G2D_NO_SET : 0;
		for (uint32_t id : barred)
			if (id < d->logits.size())
				d->sets[id / 64] |= (uint64_t) 1 << id % 64;
		d->mask = mask.empty() ? G2D_NO_SET : 1;
		std::copy_n(mask.begin(), mask.empty() ? 0 : words, d->sets.begin() + words);
		std::copy_n(s.biases, s.n_biases, d->biases.begin() + G2_MOST_BIASES);
		std::copy(counts.begin(), counts.end(), d->counts.begin() + G2D_MOST_CTX);
	}
};

/* Logits of several kinds. */
static inline std::vector<float>
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

#endif							/* CUDA_SAMPLE_FIXTURE_H */
