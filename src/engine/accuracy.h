/*
 * accuracy.h: how far the formats of one model are from each other, run on the CPU back end.
 */
#ifndef G2_ACCURACY_H
#define G2_ACCURACY_H

#include "model.h"

#define G2_CLEAR_GAP 0.1f		/* nats between the best two, from which a best one is clear */

/* Over all tokens but the first of each text.  The first pack is what the others are held
 * against. */
typedef struct g2_accuracy_sums
{
	uint64_t	tokens;
	double		loss;			/* of -ln p(token) */
	double		divergence;		/* of KL(first pack || this one), nats */
	uint64_t	clear;			/* tokens before which the first pack's best is clear */
	uint64_t	same;			/* of these, those with the same best here */
} g2_accuracy_sums;

typedef struct g2_accuracy g2_accuracy;

/* Packs of the same model, at most G2_FORMATS; they must stay open until g2_accuracy_close.
 * threads = 0: all cores; isa: one of G2_CPU_NAMES. */
extern bool g2_accuracy_open(g2_pack *const *packs, uint32_t n, uint32_t threads, const char *isa,
							 g2_accuracy **out, g2_error *err);
extern void g2_accuracy_close(g2_accuracy *accuracy);

/* Reads a text of 1 .. n_ctx tokens in every format and adds to the sums. */
extern bool g2_accuracy_add(g2_accuracy *accuracy, const uint32_t *ids, uint32_t n,
							g2_error *err);

extern const g2_accuracy_sums *g2_accuracy_of(const g2_accuracy *accuracy, uint32_t pack);

/* The logits [n_vocab] behind a text, in one format. */
extern bool g2_accuracy_logits(g2_accuracy *accuracy, uint32_t pack, const uint32_t *ids,
							   uint32_t n, float *logits, g2_error *err);

/* Largest of n logits; ties: the lower id. */
extern uint32_t g2_accuracy_best(const float *logits, uint32_t n);

#endif							/* G2_ACCURACY_H */
