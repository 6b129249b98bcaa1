/*
 * guc.h: the settings gpt2.*, defined in guc.c.
 */
#ifndef GPT2_GUC_H
#define GPT2_GUC_H

#include "postgres.h"

#include "engine/protocol.h"

/* USERSET: the session's defaults of arguments. */
extern char *gpt2_model;			/* gpt2.model; "" = never set: the demonstration model */
extern int	gpt2_max_len;			/* gpt2.max_len, new tokens */
extern double gpt2_temperature;		/* -1 = automatic */
#define GPT2_MAX_TEMPERATURE 100
extern int	gpt2_top_k;				/* -1 = automatic */
extern double gpt2_top_p;			/* -1 = automatic */

/* SIGHUP: the engine's, sent by the supervisor. */
extern char *gpt2_model_path;
extern char *gpt2_weight_format;
extern char *gpt2_device;
extern char *gpt2_cpu;
extern int	gpt2_threads;			/* 0 = automatic */
extern int	gpt2_kv_cache_size;		/* kB; 0 = automatic */
extern char *gpt2_pack_directory;
extern bool gpt2_enabled;			/* read by the supervisor */

extern void gpt2_define_settings(void);

/* The directories of gpt2.model_path as absolute paths; palloc'd, ends with NULL. */
extern char **gpt2_model_directories(void);

/* What the engine is to know (spans are palloc'd); keep_free is the supervisor's. */
extern void gpt2_engine_settings(g2_settings *settings);

#endif							/* GPT2_GUC_H */
