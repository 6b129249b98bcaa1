/*
 * fuzz_config.c: any bytes as config.json.  An accepted one must give a graph that passes the
 * check of packs and whose layout does not wrap.
 */
#include <stdlib.h>

#include "config.h"
#include "layout.h"

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g2_config	config;
	g2_layout	layout;
	g2_error	err = {0};
	uint64_t	at = 0;

	if (!g2_config_parse("fuzz", (const char *) data, size, &config, &err))
	{
		if (err.code == G2_OK || g2_utf8_valid_prefix(err.message, strlen(err.message)) !=
			strlen(err.message))
			abort();
		return 0;
	}
	if (!g2_arch_check(&config.arch, "fuzz", &err))
		abort();
	if (!g2_layout_make(&config.arch, G2_FORMAT_Q4, &layout, &err))
		return 0;
	for (uint32_t i = 0; i < layout.n; i++)
	{
		const g2_layout_tensor *t = &layout.tensor[i];

		if (t->offset < at || t->offset % G2_LAYOUT_ALIGN != 0 || t->bytes > UINT64_C(1) << 50)
			abort();
		at = t->offset + t->bytes;
	}
	/* 4 bits a weight at least. */
	if (at > layout.bytes || layout.bytes < g2_arch_parameters(&config.arch) / 2)
		abort();
	g2_layout_free(&layout);
	return 0;
}
