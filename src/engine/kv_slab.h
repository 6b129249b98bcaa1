/*
 * kv_slab.h: memory for blocks, by slabs.  Private to kv.c and kv_slab.c, like all that it changes.
 */
#ifndef G2_KV_SLAB_H
#define G2_KV_SLAB_H

#include "kv.h"

static inline g2_kv_slab *
g2_slab_of(const g2_kv *kv, uint32_t block)
{
	return &kv->slabs[block / kv->slab_blocks];
}

/* Memory for one more slab, whose blocks are free then; false: there is none, or the model has all that
 * it may have. */
extern bool g2_slab_map(g2_kv *kv);

/* A free block of kv->open, which is none any more: the caller holds it. */
extern uint32_t g2_slab_take(g2_kv *kv);

/* A block that is neither held nor cached any more, and zeroed, is free. */
extern void g2_slab_put(g2_kv *kv, uint32_t block);

/* After n_held or n_cached has changed: it may be vacant, or have given its memory back. */
extern void g2_slab_settle(g2_kv_slab *slab);

#endif							/* G2_KV_SLAB_H */
