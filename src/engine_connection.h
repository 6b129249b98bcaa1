/*
 * engine_connection.h: the backend's one connection to the engine.
 */
#ifndef GPT2_ENGINE_CONNECTION_H
#define GPT2_ENGINE_CONNECTION_H

#include "datatype/timestamp.h"

#include "link.h"

/* Frames go through this wire while the connection is open. */
extern Gpt2Wire gpt2_connection;

/* Connected, and the engine has said welcome. */
extern bool gpt2_connection_is_open(void);

/* Of the open one: another for each that this backend has opened; from 1. */
extern uint64 gpt2_connection_number(void);

/* Opens it, and starts supervisor and engine where they are not there.  Interruptible; raises an
 * error when that takes too long or is refused. */
extern void gpt2_connection_open(void);

/* Opens it if an engine is there already; it is given that long to answer. */
typedef enum Gpt2Found
{
	FOUND_NONE,
	FOUND_SILENT,				/* one that does not answer: it hangs, or needs long for its start */
	FOUND_ENGINE
} Gpt2Found;

extern Gpt2Found gpt2_connection_try(TimestampTz deadline);

/* Sends what is queued, waits until something arrives or can be sent, at most so long, and reads
 * it.  Interruptible. */
extern void gpt2_connection_wait(long milliseconds);

extern void gpt2_connection_close(void);

/* Queues a frame; raises an error when there is no memory for it. */
extern void gpt2_connection_send(g2_message type, uint64 id, const void *payload, size_t len);

/* Queues a SESSION message, where the engine does not know yet what it would say.  It goes before
 * the first request, and before any other that something has changed for. */
extern void gpt2_connection_tell_session(void);

#endif							/* GPT2_ENGINE_CONNECTION_H */
