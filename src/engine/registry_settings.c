/*
 * registry_settings.c: the settings of a registry, in memory of its own.
 */
#include "registry_settings.h"

#include <stdio.h>

bool
g2_format_parse(g2_span span, g2_format *format, g2_error *err)
{
	char		name[16];

	snprintf(name, sizeof name, "%.*s", (int) G2_MIN(span.len, sizeof name), span.data);
	return g2_format_from_name(name, format, err);
}

bool
g2_is_preloaded(const g2_registry_settings *s, g2_span name)
{
	for (uint32_t i = 0; i < s->n_preload; i++)
		if (g2_span_is(name, s->preload[i]))
			return true;
	return false;
}

void
g2_registry_settings_free(g2_registry_settings *s)
{
	for (uint32_t i = 0; i < s->n_preload; i++)
		g2_free(s->preload[i]);
	g2_shared_paths_release(s->paths);
	memset(s, 0, sizeof *s);
}

bool
g2_registry_settings_copy(const g2_settings *from, g2_registry_settings *s, g2_error *err)
{
	*s = (g2_registry_settings) {
		.format = G2_FORMAT_F32, .model_memory = from->model_memory,
		.pack_cache_size = from->pack_cache_size,
	};
	if ((from->weight_format.len > 0 && !g2_format_parse(from->weight_format, &s->format, err)) ||
		!(s->paths = g2_shared_paths_new(from, err)))
		return false;
	for (uint32_t i = 0; i < from->n_preload; i++)
	{
		if (g2_is_preloaded(s, from->preload[i]))
			continue;
		if (!(s->preload[s->n_preload] = g2_span_dup(from->preload[i])))
		{
			g2_registry_settings_free(s);
			return g2_fail_memory(err, from->preload[i].len);
		}
		s->n_preload++;
	}
	return true;
}
