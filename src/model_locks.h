/*
 * model_locks.h: heavyweight locks of models, the same for all databases.
 */
#ifndef GPT2_MODEL_LOCKS_H
#define GPT2_MODEL_LOCKS_H

#include "postgres.h"

/* Of the models' folders: one change at a time.  Held for no longer than files are changed, and never
 * while anybody is waited for; given up at the latest at the transaction's end. */
extern void gpt2_lock_folders(void);
extern void gpt2_unlock_folders(void);

/* Of a new model's name, by who trains it, or removes its trainings: false where another session has
 * it.  The session's outlives transactions and errors, and has to be given up; else it is given up at
 * the latest at the transaction's end. */
extern bool gpt2_lock_new_model(const char *name, bool of_session);
extern void gpt2_unlock_new_model(const char *name, bool of_session);

#endif							/* GPT2_MODEL_LOCKS_H */
