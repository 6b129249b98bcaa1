/*
 * wire.c: frames over a non-blocking stream socket, for PostgreSQL's processes.
 */
#include "compat.h"

#include <sys/socket.h>
#include <unistd.h>

#include "utils/memutils.h"

#include "wire.h"

#define READ_SIZE 65536
#define KEEP_BYTES (1024 * 1024)	/* an empty buffer above this is given back */

/* ---- buffers ---- */

/* Room for `more` bytes behind end; what has been taken makes room. */
static bool
reserve(Gpt2Buffer *b, size_t more)
{
	size_t		used = b->end - b->begin,
				cap = Max(b->cap, 4096);
	char	   *data;

	if (b->begin > 0)
	{
		memmove(b->data, b->data + b->begin, used);
		b->begin = 0;
		b->end = used;
	}
	if (more <= b->cap - used)
		return true;
	while (cap - used < more)
		cap *= 2;
	data = MemoryContextAllocExtended(TopMemoryContext, cap,
									  MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
	if (!data)
		return false;
	if (b->data)
	{
		memcpy(data, b->data, used);
		pfree(b->data);
	}
	b->data = data;
	b->cap = cap;
	return true;
}

static void
release(Gpt2Buffer *b)
{
	if (b->data)
		pfree(b->data);
	memset(b, 0, sizeof *b);
}

static void
release_if_empty(Gpt2Buffer *b)
{
	if (b->begin < b->end)
		return;
	b->begin = b->end = 0;
	if (b->cap > KEEP_BYTES)
		release(b);
}

static void
append(Gpt2Buffer *b, const void *data, size_t len)
{
	if (len > 0)
		memcpy(b->data + b->end, data, len);
	b->end += len;
}

/* ---- payloads ---- */

/* A payload is limited, so its writer is. */
static void *
writer_grow(void *data, size_t bytes)
{
	if (bytes > G2_MAX_PAYLOAD)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("request to the gpt2 engine is too large"),
				 errdetail("The limit is %u MB.", G2_MAX_PAYLOAD >> 20),
				 errhint("Send shorter texts.")));
	return data ? repalloc(data, bytes) : palloc(bytes);
}

g2_writer
gpt2_writer(void)
{
	return (g2_writer) {.grow = writer_grow};
}

void
gpt2_malformed_answer(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INTERNAL_ERROR),
			 errmsg("malformed answer of the gpt2 engine")));
}

/* ---- the wire ---- */

void
gpt2_wire_open(Gpt2Wire *wire, int fd)
{
	memset(wire, 0, sizeof *wire);
	wire->fd = fd;
}

void
gpt2_wire_close(Gpt2Wire *wire)
{
	if (wire->fd >= 0)
		close(wire->fd);
	release(&wire->in);
	release(&wire->out);
	memset(wire, 0, sizeof *wire);
	wire->fd = -1;
}

bool
gpt2_wire_send(Gpt2Wire *wire, g2_message type, uint64 id, const void *payload, size_t len)
{
	g2_frame	frame = {(uint32) len, (uint16) type, 0, id};

	Assert(len <= G2_MAX_PAYLOAD);
	if (!reserve(&wire->out, sizeof frame + len))
		return false;
	append(&wire->out, &frame, sizeof frame);
	append(&wire->out, payload, len);
	return true;
}

bool
gpt2_wire_flush(Gpt2Wire *wire)
{
	Gpt2Buffer *out = &wire->out;

	while (out->begin < out->end && !wire->out_ended)
	{
		ssize_t		n = send(wire->fd, out->data + out->begin, out->end - out->begin,
							 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n >= 0)
			out->begin += (size_t) n;
		else if (errno == EAGAIN || errno == EWOULDBLOCK)
			return false;
		else if (errno != EINTR)
		{
			wire->out_ended = true;
			gpt2_wire_fill(wire);
		}
	}
	release_if_empty(out);
	return out->begin == out->end;
}

size_t
gpt2_wire_queued(const Gpt2Wire *wire)
{
	return wire->out.end - wire->out.begin;
}

void
gpt2_wire_fill(Gpt2Wire *wire)
{
	Gpt2Buffer *in = &wire->in;

	release_if_empty(in);
	while (!wire->in_ended && in->end - in->begin < sizeof(g2_frame) + G2_MAX_PAYLOAD)
	{
		ssize_t		n;

		if (!reserve(in, READ_SIZE))
		{
			wire->in_ended = true;
			return;
		}
		n = recv(wire->fd, in->data + in->end, READ_SIZE, MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (n <= 0)
		{
			wire->in_ended = true;
			return;
		}
		in->end += (size_t) n;
		/* A short read has emptied the socket; of one whose end is near, everything is read. */
		if (n < READ_SIZE && !wire->out_ended)
			return;
	}
}

bool
gpt2_wire_next(Gpt2Wire *wire, g2_frame *frame, const char **payload)
{
	Gpt2Buffer *in = &wire->in;
	size_t		left = in->end - in->begin;

	if (left < sizeof *frame)
		return false;
	memcpy(frame, in->data + in->begin, sizeof *frame);
	if (frame->length > G2_MAX_PAYLOAD)
	{
		wire->in_ended = true;
		return false;
	}
	if (left < sizeof *frame + frame->length)
		return false;
	*payload = in->data + in->begin + sizeof *frame;
	in->begin += sizeof *frame + frame->length;
	return true;
}

void
gpt2_wire_taken(Gpt2Wire *wire)
{
	release_if_empty(&wire->in);
}

bool
gpt2_wire_lost(const Gpt2Wire *wire)
{
	return wire->in_ended || wire->out_ended;
}
