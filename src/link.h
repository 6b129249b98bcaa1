/*
 * link.h: what a backend's connections to the programs that the supervisor starts have in common:
 * the engine's (engine_connection.c) and that of a training (train_connection.c).
 *
 * A link is a wire and who waits for it: one wait event set, which lives as long as the connection.
 * No lock is held while it waits.
 */
#ifndef GPT2_LINK_H
#define GPT2_LINK_H

#include "wire.h"

#include "datatype/timestamp.h"
#include "storage/latch.h"

#define GPT2_LINK_MS 1000		/* to wait at one go: the client may have gone */

typedef struct Gpt2Waiter
{
	WaitEventSet *set;			/* NULL = the wire is closed */
	int			socket;			/* its position in the set */
	uint32		wants;			/* what is waited for there */
} Gpt2Waiter;

/* Connects to the socket.  False: nobody listens, or too many wait (*busy); whatever else fails is
 * an error.  What an error leaves open is closed by its caller. */
extern bool gpt2_link_open(Gpt2Wire *wire, Gpt2Waiter *waiter, const char *path, bool *busy);

/* May be called at any time, and twice. */
extern void gpt2_link_close(Gpt2Wire *wire, Gpt2Waiter *waiter);

/* Sends what is queued, waits until something arrives or can be sent, at most so long, and reads
 * it.  Interruptible. */
extern void gpt2_link_wait(Gpt2Wire *wire, Gpt2Waiter *waiter, long milliseconds,
						   uint32 wait_event);

/* An error where no supervisor can run: there is no use in waiting for one. */
extern void gpt2_link_check_server(void);

/*
 * Nobody listens at the path.  A supervisor that serves all the same has lost its socket: somebody
 * has removed the file, and nobody will ever reach it.  It is ended after some time, and the next
 * one makes another.  *since: 0 at first.
 */
extern void gpt2_link_end_unreachable(const char *path, TimestampTz *since);

/* Interruptible sleep, for the time when there is no connection to wait for. */
extern void gpt2_pause(long milliseconds, uint32 wait_event);

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

#endif							/* GPT2_LINK_H */
