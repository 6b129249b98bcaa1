/*
 * reserve_blocks.h: memory for blocks that a test uses without kv.c.
 */
#ifndef RESERVE_BLOCKS_H
#define RESERVE_BLOCKS_H

#include "backend.h"

/* For blocks 0 .. n - 1 of the model, on devices with slabs and without. */
static inline bool
reserve_blocks(const g2_backend_api *api, g2_backend_model *model, uint32_t n, g2_error *err)
{
	uint32_t	in_slab;
	size_t		bytes;

	if (!api->kv_reserve(model, n, err))
		return false;
	if (!api->kv_slab)
		return true;
	in_slab = api->kv_slab(model, &bytes);
	for (uint32_t slab = 0; slab * in_slab < n; slab++)
		if (!api->kv_map(model, slab))
			return g2_fail(err, G2_E_MEMORY, "no slab is spare");
	return true;
}

#endif							/* RESERVE_BLOCKS_H */
