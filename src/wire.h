/*
 * wire.h: frames over a non-blocking stream socket, for PostgreSQL's processes.
 *
 * A wire owns its descriptor and its buffers, which live in TopMemoryContext.  None of these
 * functions raises an error or waits, so they can be called while a transaction is being aborted;
 * lack of memory shows as false or as a lost wire.  (The writer of payloads is no wire.)
 */
#ifndef GPT2_WIRE_H
#define GPT2_WIRE_H

#include "postgres.h"

#include "engine/protocol.h"

typedef struct Gpt2Buffer
{
	char	   *data;
	size_t		begin;			/* bytes before it have been taken or sent */
	size_t		end;
	size_t		cap;
} Gpt2Buffer;

typedef struct Gpt2Wire
{
	int			fd;				/* -1 = closed */
	bool		in_ended;		/* nothing will arrive any more, or framing was broken */
	bool		out_ended;		/* nothing can be sent any more */
	Gpt2Buffer	in;
	Gpt2Buffer	out;
} Gpt2Wire;

#define GPT2_WIRE_CLOSED {.fd = -1}

/* A writer that grows in the current memory context (and raises beyond G2_MAX_PAYLOAD); free
 * w.data with pfree. */
extern g2_writer gpt2_writer(void);

/* A payload that cannot be read: an internal error. */
pg_noreturn extern void gpt2_malformed_answer(void);

extern void gpt2_wire_open(Gpt2Wire *wire, int fd);
extern void gpt2_wire_close(Gpt2Wire *wire);

/* Queues a frame; false when there is no memory for it (the wire is as before then). */
extern bool gpt2_wire_send(Gpt2Wire *wire, g2_message type, uint64 id,
						   const void *payload, size_t len);

/* Sends what can be sent; true when nothing is left.  When the other end is gone, what it said
 * before is read. */
extern bool gpt2_wire_flush(Gpt2Wire *wire);

/* Bytes that wait to be sent. */
extern size_t gpt2_wire_queued(const Gpt2Wire *wire);

/* Reads what is there. */
extern void gpt2_wire_fill(Gpt2Wire *wire);

/* The next whole frame; its payload is valid until the next fill or flush. */
extern bool gpt2_wire_next(Gpt2Wire *wire, g2_frame *frame, const char **payload);

/* All frames that were there have been taken and used: a large buffer is given back. */
extern void gpt2_wire_taken(Gpt2Wire *wire);

/* The other end is gone.  Frames that arrived before may still be taken. */
extern bool gpt2_wire_lost(const Gpt2Wire *wire);

#endif							/* GPT2_WIRE_H */
