/*
 * connection.h: frames over a non-blocking stream socket: what has arrived, what is to be sent.
 */
#ifndef G2_CONNECTION_H
#define G2_CONNECTION_H

#include "protocol.h"
#include "util.h"

/* The socket need not be non-blocking: nothing here waits. */

typedef struct g2_connection
{
	int			fd;
	bool		failed;			/* the other end is gone, or broke the rules of framing */
	g2_buf		in;
	size_t		in_taken;		/* bytes of in that have been taken */
	g2_writer	out;
	size_t		out_sent;
} g2_connection;

extern void g2_connection_init(g2_connection *c, int fd);
extern void g2_connection_close(g2_connection *c);

/* Reads what is there, but not so much at a time that other connections would wait for it. */
extern void g2_connection_fill(g2_connection *c);

/* The next whole frame; its payload is valid until the next call.  False: none yet. */
extern bool g2_connection_next(g2_connection *c, g2_frame *frame, const char **payload);

/* Queues a frame. */
extern void g2_connection_send(g2_connection *c, g2_message type, uint64_t id,
							   const void *payload, size_t len);

/* Queues an ERROR. */
extern void g2_connection_send_error(g2_connection *c, uint64_t id, const char *sqlstate,
									 const char *message, const char *hint);

/* Sends what can be sent; true when nothing is left. */
extern bool g2_connection_flush(g2_connection *c);

/* The other end of the socket is a process of this one's user. */
extern bool g2_connection_is_own_user(int fd);

#endif							/* G2_CONNECTION_H */
