/*
 * synth.h: Hugging Face folders with seeded random weights, for tests and benches.
 *
 * The same folder is made byte for byte by test/vectors/synth.py.  Element i (row-major, in the
 * Hugging Face Conv1D layout) of tensor number t (order below) with seed s:
 *     words of Philox4x32-10(key = s, counter = (i low 32, i high 32, 1, t)):
 *         4 words = 8 halves of 16 bits (low half first); and of counter (i low, i high, 2, t):
 *         the first 2 words = 4 halves: 12 uniform 16-bit integers in all
 *     g = sum of the 12 integers - 12 * 32767.5 taken as (2 * sum - 12 * 65535)   (an exact int)
 *     value = (float) g * (float) (sigma / 131072.0)      one f32 multiplication
 * (a sum of twelve uniforms has standard deviation 1 in units of 65536; 2 * that is 131072.)
 * Layer-norm gains are 1 + value, biases and everything else value.  sigma is an argument.
 * Tensor order: wte, wpe, then per layer ln_1.weight, ln_1.bias, attn.c_attn.weight,
 * attn.c_attn.bias, attn.c_proj.weight, attn.c_proj.bias, ln_2.weight, ln_2.bias,
 * mlp.c_fc.weight, mlp.c_fc.bias, mlp.c_proj.weight, mlp.c_proj.bias; ln_f.weight, ln_f.bias;
 * lm_head.weight when not tied.  t counts from 0 in that order.  Stored in the file in that order.
 */
#ifndef G2_SYNTH_H
#define G2_SYNTH_H

#include "weights.h"
#include "util.h"

typedef struct g2_synth_options
{
	uint32_t	n_layer, n_embd, n_head, n_ff, n_ctx, n_vocab;
	uint32_t	activation;		/* g2_activation */
	bool		untied;			/* a lm_head.weight of its own */
	bool		prefix;			/* names start with "transformer." */
	double		sigma;
	uint64_t	seed;
	double		embed_sigma;	/* of wte; 0 = sigma.  Far larger, tied: a token is most like itself, so
								 * that texts repeat themselves */
} g2_synth_options;

/* Writes config.json and model.safetensors (F32) into folder, which is made when missing. */
extern bool g2_synth(const char *folder, const g2_synth_options *options, g2_error *err);

#endif							/* G2_SYNTH_H */
