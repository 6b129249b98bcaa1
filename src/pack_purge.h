/*
 * pack_purge.h: removing packed weights.
 */
#ifndef GPT2_PACK_PURGE_H
#define GPT2_PACK_PURGE_H

/* Removes all packs, and what writing one has left behind, from gpt2.pack_directory. */
extern void gpt2_purge_packs(void);

/* Removes those of the model whose folder has this path, without a link in it. */
extern void gpt2_purge_packs_of(const char *real_folder);

#endif							/* GPT2_PACK_PURGE_H */
