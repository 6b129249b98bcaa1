/*
 * decoding.h: options that say how tokens are chosen, beside the arguments.
 */
#ifndef GPT2_DECODING_H
#define GPT2_DECODING_H

#include "options.h"

/* Puts them into the request, whose length, n and temperature are known; raises 22023. */
extern void gpt2_resolve_decoding(const Gpt2Options *options, g2_generate *wire);

#endif							/* GPT2_DECODING_H */
