/*
 * trainings.h: the directories of trainings, as backends see them.
 */
#ifndef GPT2_TRAININGS_H
#define GPT2_TRAININGS_H

#include "compat.h"

#include "storage/lockdefs.h"

#include "engine/protocol_train.h"

/* Calls `take` for each training whose owner's privileges the current user has, or all_of_them: those
 * that run, and those that were stopped and can be gone on with. */
extern void gpt2_for_each_training(bool all_of_them,
								   void (*take) (const char *directory,
												 const g2_train_progress *p, void *arg),
								   void *arg);

extern bool gpt2_training_is_running(const char *directory);

/* 55006: such a lock of a model's name (model_locks.h) is not to be had.  The training that stands in
 * the way is told as far as the current user may see it. */
pg_noreturn extern void gpt2_raise_in_training(const char *message, const char *name, LOCKMODE mode);

#endif							/* GPT2_TRAININGS_H */
