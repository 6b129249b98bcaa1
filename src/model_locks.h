/*
 * model_locks.h: heavyweight locks of models, the same for all databases.
 */
#ifndef GPT2_MODEL_LOCKS_H
#define GPT2_MODEL_LOCKS_H

#include "postgres.h"

#include "storage/lockdefs.h"

/* Of the models' folders: one change at a time.  Held for no longer than files are changed, and never
 * while anybody is waited for; given up at the latest at the transaction's end. */
extern void gpt2_lock_folders(void);
extern void gpt2_unlock_folders(void);

/* Of a model's name, as the file system has it.  The modes are PostgreSQL's for how they conflict:
 * any number need a model, one changes what is of its name meanwhile, nobody else has one that goes. */
#define GPT2_MODEL_NEEDED AccessShareLock	/* stays as it is: an adapter of it is trained */
#define GPT2_MODEL_CHANGED ShareUpdateExclusiveLock /* trained, its trainings removed, given away */
#define GPT2_MODEL_GOES AccessExclusiveLock /* replaced or removed */

/* False where somebody's stands in the way, be it that of this session's own training: nobody waits.
 * Given up at the latest at the transaction's end. */
extern bool gpt2_lock_model(const char *name, LOCKMODE mode);
extern void gpt2_unlock_model(const char *name, LOCKMODE mode);

/* The same for this session's training: they outlive transactions and errors, until all of them are
 * given up. */
extern bool gpt2_lock_for_training(const char *name, LOCKMODE mode);
extern void gpt2_unlock_training(void);

/* The backend of one that stands in the way of such a lock, another than this one where there is one;
 * 0 = none does any more. */
extern int	gpt2_model_lock_holder(const char *name, LOCKMODE mode);

#endif							/* GPT2_MODEL_LOCKS_H */
