/*
 * attempt.h: something that may fail, done so that a failure leaves nothing behind.
 */
#ifndef GPT2_ATTEMPT_H
#define GPT2_ATTEMPT_H

#include "postgres.h"

/* Calls step(arg) inside a subtransaction.  NULL: it went well.  Otherwise what it did in the
 * database is undone, and this is the error, palloc'd; what ends the whole query (a cancel, a
 * shutdown) is raised instead.  Memory context and resource owner are the caller's again. */
extern ErrorData *gpt2_attempt(void (*step) (void *), void *arg);

#endif							/* GPT2_ATTEMPT_H */
