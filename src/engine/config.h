/*
 * config.h: config.json of a Hugging Face folder -> g2_arch, and the bounds that every g2_arch
 * keeps, whether it comes from config.json or from a pack.  With these bounds no size computed
 * from a g2_arch wraps 64 bits.
 */
#ifndef G2_CONFIG_H
#define G2_CONFIG_H

#include "util.h"
#include "weights.h"
#include "tokenizer.h"

#define G2_MAX_LAYERS 1024
#define G2_MAX_EMBD 65536
#define G2_MAX_FF (1u << 20)
#define G2_MAX_CTX (1u << 20)
#define G2_MAX_JSON_FILE (1u << 20)	/* bytes of config.json and the other small JSON files: cJSON
									 * takes up to 40 times as much */

typedef struct g2_config
{
	g2_arch		arch;
	char		architecture[64];	/* "gpt2" */
	int64_t		start_id;		/* bos_token_id as it stands there, -1 = none */
	int64_t		end_id;			/* eos_token_id */
} g2_config;

/* 22032 for malformed JSON and for fields missing or out of range (named, with the range); 0A000
 * for an architecture, activation or switch that the engine does not have. */
extern bool g2_config_parse(const char *path, const char *text, size_t len, g2_config *config,
							g2_error *err);

/* The bounds of the sizes alone; 22032 naming the field.  `where` is for the message. */
extern bool g2_arch_check_sizes(const g2_arch *arch, const char *where, g2_error *err);

/* The whole struct, as it may come out of a pack. */
extern bool g2_arch_check(const g2_arch *arch, const char *where, g2_error *err);

/* Number of weights. */
extern uint64_t g2_arch_parameters(const g2_arch *arch);

#endif							/* G2_CONFIG_H */
