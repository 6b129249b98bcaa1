/*
 * decoding.h: what a GENERATE's decoding options mean: their ranges, what they mean for its model,
 * and the fields of its group.
 */
#ifndef G2_DECODING_H
#define G2_DECODING_H

#include "group.h"

struct g2_request;

/* Ranges and combinations that need no model: 22023 names the option. */
extern bool g2_decoding_check(const g2_generate *m, g2_error *err);

/* Sequences that the request runs: beams, or as many as it wants back. */
extern uint32_t g2_decoding_sequences(const g2_generate *m);

/* The helper thread's part, when the model is known; fills request->error. */
extern bool g2_decoding_work(struct g2_request *request);

/* The group's options, behind g2_decoding_work. */
extern void g2_decoding_set(const struct g2_request *request, g2_group_options *options);

#endif							/* G2_DECODING_H */
