/*
 * pack_purge.h: removing packed weights.
 */
#ifndef GPT2_PACK_PURGE_H
#define GPT2_PACK_PURGE_H

/* Removes all packs, and what writing one has left behind, from gpt2.pack_directory. */
extern void gpt2_purge_packs(void);

#endif							/* GPT2_PACK_PURGE_H */
