/*
 * connection.h: the backend's one connection to the engine.
 */
#ifndef GPT2_CONNECTION_H
#define GPT2_CONNECTION_H

#include "wire.h"

/* Frames go through this wire while the connection is open. */
extern Gpt2Wire gpt2_connection;

/* Connected, and the engine has said welcome. */
extern bool gpt2_connection_is_open(void);

/* Opens it, and starts supervisor and engine where they are not there.  Interruptible; raises an
 * error when that takes too long or is refused. */
extern void gpt2_connection_open(void);

/* Opens it if an engine is there already. */
extern bool gpt2_connection_try(void);

/* Sends what is queued, waits until something arrives or can be sent, at most so long, and reads
 * it.  Interruptible. */
extern void gpt2_connection_wait(long milliseconds);

extern void gpt2_connection_close(void);

/* Raises the error in the payload of a G2_MSG_ERROR. */
extern void gpt2_raise_error(const char *payload, size_t len);

/* An UTF-8 text of the engine in the database encoding; NULL for an empty one. */
extern char *gpt2_message_text(g2_span s);

#endif							/* GPT2_CONNECTION_H */
