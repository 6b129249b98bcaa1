/*
 * sampler.h: from logits to the next token, exactly the same on every device.
 *
 * Order of operations: bias, repetition penalty, presence and frequency penalty, banned tokens (the
 * end token among them before min_new), mask, temperature, top_k, top_p, min_p, typical_p (that of
 * transformers' generate()), draw.
 * Ties go to the lower id.  Weights are integers (so sums are exact in any order, on any device):
 *     w = floor(e^((l - max) / T) * 2^45),  e^x by g2_expf of vecmath.h (the engine's own f32 exp)
 * top_k:  keeps the k best (logit descending, id ascending).
 * top_p:  the shortest rank prefix whose sum >= ceil(p S), p as a 53-bit integer over 2^53.
 * min_p:  keeps w >= ceil(min_p W), W = 2^45, the largest w.
 * typical_p:  orders by |log p + entropy|, ascending (Meister et al., "Locally Typical Sampling",
 *         2023), and keeps the shortest prefix whose sum >= ceil(p S).  With x = (l - max) / T that
 *         is |mean - x|, the mean by weight over blocks of 1,024 ids in ascending order in double,
 *         rounded to float before it is compared.
 * draw:   r = floor(u S / 2^64), u = word 0 + 2^32 word 1 of Philox(seed; token index, sequence,
 *         SAMPLE); the answer is the first kept token in ascending id whose cumulative weight
 *         exceeds r.
 * Temperature 0, or one so small that (l - max) / T is not finite for the second best, is greedy.
 * Logits with a NaN or +inf: the greedy choice, NaN ignored (id 0 when all are NaN); every logprob
 * of such a row is NaN.  -inf is a logit of probability 0.  Greedy is the lowest id among the best.
 * A mask makes the logits of all others -inf; where no id of it has more, it is its lowest.
 */
#ifndef G2_SAMPLER_H
#define G2_SAMPLER_H

#include "backend.h"
#include "plan_check.h"

/* How often the answer holds a token. */
typedef struct g2_count
{
	uint32_t	token;
	uint32_t	n;
} g2_count;

/* The answer holds one more of this token.  What is more than was announced, `most` distinct ones, is
 * not counted. */
static inline void
g2_count_token(g2_count *counts, uint32_t *n_counts, uint32_t most, uint32_t token)
{
	uint32_t	i = 0;

	while (i < *n_counts && counts[i].token != token)
		i++;
	if (i == most)
		return;
	if (i == *n_counts)
	{
		counts[i].token = token;
		counts[i].n = 0;
		++*n_counts;
	}
	counts[i].n++;
}

/* Distinct tokens that are counted of a slot's answer; 0: no penalty counts. */
static inline uint32_t
g2_counts_of(const g2_slot_state *state)
{
	if (state->sampling.presence_penalty == 0.0f && state->sampling.frequency_penalty == 0.0f)
		return 0;
	return G2_MIN(G2_MAX(state->most_new, state->next_index), G2_MAX_VOCAB);
}

/* What a token is chosen behind. */
typedef struct g2_past
{
	uint32_t	index;			/* of the new token, from 0 */
	uint32_t	end_token;		/* G2_TOKEN_NONE = none */
	const uint32_t *seen;		/* [n_seen] distinct ids of prompt and answer */
	uint32_t	n_seen;
	const g2_count *counts;		/* [n_counts] distinct ids of the answer */
	uint32_t	n_counts;
	const uint32_t *banned;		/* [n_banned] beside those of g2_sampling, this time */
	uint32_t	n_banned;
	const uint64_t *mask;		/* bits as in g2_output: no others; NULL = all */
} g2_past;

/* Working memory for one call: g2_sampler_scratch_bytes(n_vocab) bytes, aligned to 64. */
extern size_t g2_sampler_scratch_bytes(uint32_t n_vocab);

/* penalties.c: whether bias, penalties, bans or a mask have anything to change behind this past. */
extern bool g2_sampler_changes(const g2_sampling *sampling, const g2_past *past);

/* Applies them to logits[0..n_vocab), or to log-probabilities. */
extern void g2_sampler_change(const g2_sampling *sampling, const g2_past *past, float *logits,
							  uint32_t n_vocab);

/* Chooses the token for logits[0..n_vocab), to which g2_sampler_change is applied. */
extern uint32_t g2_sample(const g2_sampling *sampling, const g2_past *past, float *logits,
						  uint32_t n_vocab, void *scratch);

/* log softmax(logits)[id], in double over blocks of 1,024 ids in ascending order. */
extern double g2_logprob(const float *logits, uint32_t n_vocab, uint32_t id);

/* log of the sum of e^logits, the same for every id of a row: logprob = logit - this. */
extern double g2_log_sum_exp(const float *logits, uint32_t n_vocab);

/* The n_top <= n_vocab best ids (logit descending, id ascending; a NaN ranks as -inf). */
extern void g2_top(const float *logits, uint32_t n_vocab, uint32_t n_top, uint32_t *ids,
				   void *scratch);

#endif							/* G2_SAMPLER_H */
