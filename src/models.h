/*
 * models.h: what a running engine says about models.
 */
#ifndef GPT2_MODELS_H
#define GPT2_MODELS_H

#include "postgres.h"

#include "engine/protocol_watch.h"

/* Calls `take` for each model that a running engine has loaded, is loading or failed to load; for
 * none where none runs.  The row is valid during the call.  False, with a WARNING: one runs that does
 * not answer. */
extern bool gpt2_for_each_model(void (*take) (const g2_model_row *m, void *arg), void *arg);

/* May the current user see and use the model, as the engine knows it? */
extern bool gpt2_model_is_visible(const g2_model_row *m);

#endif							/* GPT2_MODELS_H */
