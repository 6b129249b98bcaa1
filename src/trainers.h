/*
 * trainers.h: the processes that train models, as children of the supervisor.
 */
#ifndef GPT2_TRAINERS_H
#define GPT2_TRAINERS_H

#include "postgres.h"

/* At most so many run at a time; they bound memory and threads together. */
#define GPT2_MAX_TRAINERS 4
#define GPT2_TRAINER_DESCRIPTORS 1

/* Listens for backends that want to train, in place of what did so before. */
extern void gpt2_trainers_open(void);

/* Where they connect, to be waited for. */
extern pgsocket gpt2_trainers_socket(void);

/* Does what is due: starts a process for each that has connected, takes notice of those that have
 * ended, and of a socket that was removed. */
extern void gpt2_trainers_attend(void);

/* Ends all of them.  What they have done is kept: the same CALL goes on from it. */
extern void gpt2_trainers_stop(void);

#endif							/* GPT2_TRAINERS_H */
