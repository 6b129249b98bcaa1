/*
 * sampler.h: from logits to the next token, exactly the same on every device.
 *
 * Order of operations: banned tokens, repetition penalty, mask, temperature, top_k, top_p, min_p,
 * draw.
 * Ties go to the lower id.  Weights are integers (so sums are exact in any order, on any device):
 *     w = floor(e^((l - max) / T) * 2^45),  e^x by g2_expf of vecmath.h (the engine's own f32 exp)
 * top_k:  keeps the k best (logit descending, id ascending).
 * top_p:  the shortest rank prefix whose sum >= ceil(p S), p as a 53-bit integer over 2^53.
 * min_p:  keeps w >= ceil(min_p 2^45).
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

/* Working memory for one call: g2_sampler_scratch_bytes(n_vocab) bytes, aligned to 64. */
extern size_t g2_sampler_scratch_bytes(uint32_t n_vocab);

/*
 * Chooses the token for logits[0..n_vocab), which it changes only if repetition_penalty != 1, or
 * with a mask or banned tokens.  seen[0..n_seen) are the distinct ids of prompt and answer.  mask
 * (bits as in g2_output) may be NULL; one without a bit gives 0.  index is that of the new token,
 * from 0.
 */
extern uint32_t g2_sample(const g2_sampling *sampling, float *logits, uint32_t n_vocab,
						  const uint32_t *seen, uint32_t n_seen, const uint64_t *mask,
						  uint32_t index, void *scratch);

/* log softmax(logits)[id], in double over blocks of 1,024 ids in ascending order. */
extern double g2_logprob(const float *logits, uint32_t n_vocab, uint32_t id);

/* log of the sum of e^logits, the same for every id of a row: logprob = logit - this. */
extern double g2_log_sum_exp(const float *logits, uint32_t n_vocab);

/* The n_top <= n_vocab best ids (logit descending, id ascending; a NaN ranks as -inf). */
extern void g2_top(const float *logits, uint32_t n_vocab, uint32_t n_top, uint32_t *ids,
				   void *scratch);

#endif							/* G2_SAMPLER_H */
