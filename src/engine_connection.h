/*
 * engine_connection.h: the backend's one connection to the engine.
 */
#ifndef GPT2_ENGINE_CONNECTION_H
#define GPT2_ENGINE_CONNECTION_H

#include "wire.h"

/* Frames go through this wire while the connection is open. */
extern Gpt2Wire gpt2_connection;

/* Connected, and the engine has said welcome. */
extern bool gpt2_connection_is_open(void);

/* Of the open one: another for each that this backend has opened; from 1. */
extern uint64 gpt2_connection_number(void);

/* Opens it, and starts supervisor and engine where they are not there.  Interruptible; raises an
 * error when that takes too long or is refused. */
extern void gpt2_connection_open(void);

/* Opens it if an engine is there already. */
extern bool gpt2_connection_try(void);

/* Sends what is queued, waits until something arrives or can be sent, at most so long, and reads
 * it.  Interruptible. */
extern void gpt2_connection_wait(long milliseconds);

extern void gpt2_connection_close(void);

/* Queues a frame; raises an error when there is no memory for it. */
extern void gpt2_connection_send(g2_message type, uint64 id, const void *payload, size_t len);

/* Queues a SESSION message, where the engine does not know yet what it would say.  It goes before
 * the first request, and before any other that something has changed for. */
extern void gpt2_connection_tell_session(void);

/* ---- what a connection to the supervisor's other programs needs too ---- */

/* The client that has gone, looked at once a second at most, then interrupts. */
extern void gpt2_check_interrupts(void);

/* Interruptible sleep, for the time when there is no connection to wait for. */
extern void gpt2_pause(long milliseconds, uint32 wait_event);

/* The server's programs run as its user: an error where somebody else listens at the path. */
extern void gpt2_check_peer(int fd, const char *path);

/* The payload of HELLO, palloc'd. */
extern g2_writer gpt2_hello(void);

/* The SQLSTATE of a payload of ERROR, as ereport has it. */
extern int	gpt2_error_sqlstate(const char *payload, size_t len);

/* Raises the error in the payload of a G2_MSG_ERROR, and notes whether it is of the call's options:
 * ErrorData has no room for that.  Who asks has set it to false before. */
extern void gpt2_raise_error(const char *payload, size_t len);
extern bool gpt2_error_of_options;

/* Raises the notice in the payload of a G2_MSG_NOTICE; a malformed one is dropped. */
extern void gpt2_raise_notice(const char *payload, size_t len);

/* An UTF-8 text of the engine in the database encoding; NULL for an empty one. */
extern char *gpt2_message_text(g2_span s);

#endif							/* GPT2_ENGINE_CONNECTION_H */
