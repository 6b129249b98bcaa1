/*
 * logit_bias.h: the option logit_bias.
 */
#ifndef GPT2_LOGIT_BIAS_H
#define GPT2_LOGIT_BIAS_H

#include "postgres.h"

#include "utils/jsonb.h"

#include "engine/protocol.h"

/* Fills the biases of *decoding from an object of token ids and numbers; raises 22023 for what is
 * not that, 54000 for more than G2_MAX_BIASES. */
extern void gpt2_read_logit_bias(const JsonbValue *value, g2_decoding *decoding);

#endif							/* GPT2_LOGIT_BIAS_H */
