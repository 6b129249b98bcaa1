/*
 * penalties.c: what changes a row's logits before a token is chosen from them: bias, penalties,
 * bans, a mask (their order: sampler.h).
 *
 * Each but the mask touches the tokens that it names and no other, so a step costs what is named,
 * not what has been written so far.  Sums are single additions in float, in a fixed order.
 */
#include "sampler.h"

#include <math.h>

#include "sampler_math.h"

bool
g2_sampler_changes(const g2_sampling *s, const g2_past *past)
{
	return past->mask || s->n_biases > 0 || s->n_banned > 0 || past->n_banned > 0 ||
		(s->repetition_penalty != 1.0f && past->n_seen > 0) ||
		((s->presence_penalty != 0.0f || s->frequency_penalty != 0.0f) && past->n_counts > 0) ||
		(past->index < s->min_new && past->end_token != G2_TOKEN_NONE);
}

/* As transformers' SequenceBiasLogitsProcessor with sequences of one token. */
static void
add_biases(const g2_sampling *s, float *logits, uint32_t n)
{
	for (uint32_t i = 0; i < s->n_biases; i++)
		if (s->biases[i].token < n)
			logits[s->biases[i].token] += s->biases[i].bias;
}

static void
penalize_repetition(const g2_sampling *s, const g2_past *past, float *logits, uint32_t n)
{
	for (uint32_t i = 0; i < past->n_seen; i++)
		if (past->seen[i] < n)
			logits[past->seen[i]] = g2_penalized(logits[past->seen[i]], s->repetition_penalty);
}

static void
penalize_answer(const g2_sampling *s, const g2_past *past, float *logits, uint32_t n)
{
	for (uint32_t i = 0; i < past->n_counts; i++)
	{
		const g2_count *c = &past->counts[i];

		if (c->token < n)
			logits[c->token] = g2_penalized_count(logits[c->token], c->n, s->presence_penalty,
												  s->frequency_penalty);
	}
}

static void
ban(const g2_sampling *s, const g2_past *past, float *logits, uint32_t n)
{
	for (uint32_t i = 0; i < s->n_banned; i++)
		if (s->banned[i] != s->spared && s->banned[i] < n &&
			g2_bias_find(s->biases, s->n_biases, s->banned[i]) == s->n_biases)
			logits[s->banned[i]] = -INFINITY;
	for (uint32_t i = 0; i < past->n_banned; i++)
		if (past->banned[i] < n)
			logits[past->banned[i]] = -INFINITY;
	if (past->index < s->min_new && past->end_token < n)
		logits[past->end_token] = -INFINITY;
}

static void
apply_mask(float *logits, uint32_t n, const uint64_t *mask)
{
	for (uint32_t i = 0; i < n; i += 64)
	{
		uint64_t	bits = mask[i / 64];
		uint32_t	end = G2_MIN(n - i, 64u);

		if (bits == UINT64_MAX)
			continue;
		for (uint32_t j = 0; bits == 0 && j < end; j++)
			logits[i + j] = -INFINITY;
		for (uint32_t j = 0; bits != 0 && j < end; j++)
			logits[i + j] = bits >> j & 1 ? logits[i + j] : -INFINITY;
	}
}

void
g2_sampler_change(const g2_sampling *s, const g2_past *past, float *logits, uint32_t n)
{
	add_biases(s, logits, n);
	if (s->repetition_penalty != 1.0f)
		penalize_repetition(s, past, logits, n);
	if (s->presence_penalty != 0.0f || s->frequency_penalty != 0.0f)
		penalize_answer(s, past, logits, n);
	ban(s, past, logits, n);
	if (past->mask)
		apply_mask(logits, n, past->mask);
}
