/*
 * admin.h: what the functions of administration share.
 */
#ifndef GPT2_ADMIN_H
#define GPT2_ADMIN_H

#include "postgres.h"

#include "fmgr.h"

#include "engine/protocol_watch.h"

/* Sends the request (its payload is freed), waits for DONE; starts an engine where none runs. */
extern void gpt2_run_until_done(g2_message type, g2_writer *w);

/* Sets the usage counters to zero, whoever has them. */
extern void gpt2_reset_usage(void);

/* Unloads the model where an engine runs and has it, or is loading it; starts none.  An error where it
 * does not answer. */
extern void gpt2_unload_if_loaded(const char *model);

/* Argument 0, the name of a model, must not be null. */
extern void gpt2_require_name(FunctionCallInfo fcinfo);

#endif							/* GPT2_ADMIN_H */
