/*
 * registry_settings.h: a registry's copy of the settings that it needs; private to registry.c.
 */
#ifndef G2_REGISTRY_SETTINGS_H
#define G2_REGISTRY_SETTINGS_H

#include "registry_load.h"

typedef struct g2_registry_settings
{
	g2_shared_paths *paths;
	g2_format	format;
	uint64_t	model_memory;	/* bytes of the packs of loaded models; 0 = no limit */
	uint64_t	pack_cache_size;	/* bytes of all packs; 0 = no limit */
	uint32_t	n_preload;
	char	   *preload[G2_MAX_PRELOAD];	/* different names */
} g2_registry_settings;

/* 22023 for a weight format that does not exist. */
extern bool g2_registry_settings_copy(const g2_settings *from, g2_registry_settings *s,
									  g2_error *err);
extern void g2_registry_settings_free(g2_registry_settings *s);

/* 22023 for a name that is no format's. */
extern bool g2_format_parse(g2_span span, g2_format *format, g2_error *err);

/* The model of that name is in gpt2.preload_models. */
extern bool g2_is_preloaded(const g2_registry_settings *s, g2_span name);

#endif							/* G2_REGISTRY_SETTINGS_H */
