/*
 * drop_model.h: gpt_drop_model, and what it leaves behind when it is killed.
 */
#ifndef GPT2_DROP_MODEL_H
#define GPT2_DROP_MODEL_H

#include "postgres.h"

/* Removes what is left of models whose removal was interrupted. */
extern void gpt2_purge_dropped_models(void);

#endif							/* GPT2_DROP_MODEL_H */
