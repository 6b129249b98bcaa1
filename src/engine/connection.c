/*
 * connection.c: frames over a non-blocking stream socket.
 */
#include "connection.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "text.h"

#define READ_SIZE 65536
#define FILL_SIZE (1u << 20)	/* read at one go */
#define KEEP_SIZE (1u << 20)	/* empty buffers above it are given back */

void
g2_connection_init(g2_connection *c, int fd)
{
	*c = (g2_connection) {.fd = fd, .out = {.grow = g2_realloc}};
}

void
g2_connection_close(g2_connection *c)
{
	if (c->fd >= 0)
		close(c->fd);
	g2_text_free(&c->in);
	g2_wipe_free(c->out.data, c->out.cap);
	c->out = (g2_writer) {0};
	c->fd = -1;
}

/* The bytes that have been taken make room. */
static void
compact(g2_connection *c)
{
	if (c->in_taken == 0)
		return;
	memmove(c->in.data, c->in.data + c->in_taken, c->in.len - c->in_taken);
	c->in.len -= c->in_taken;
	c->in_taken = 0;
	if (c->in.len == 0 && c->in.cap > KEEP_SIZE)
		g2_text_free(&c->in);
}

void
g2_connection_fill(g2_connection *c)
{
	compact(c);
	for (size_t got = 0; !c->failed && got < FILL_SIZE;)
	{
		ssize_t		n;

		if (!g2_buf_reserve(&c->in, READ_SIZE))
		{
			c->failed = true;
			return;
		}
		n = recv(c->fd, c->in.data + c->in.len, READ_SIZE, MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (n <= 0)
		{
			c->failed = true;
			return;
		}
		c->in.len += (size_t) n;
		got += (size_t) n;
		if (n < READ_SIZE)
			return;
	}
}

bool
g2_connection_next(g2_connection *c, g2_frame *frame, const char **payload)
{
	size_t		left = c->in.len - c->in_taken;

	if (left < sizeof *frame)
	{
		compact(c);
		return false;
	}
	memcpy(frame, c->in.data + c->in_taken, sizeof *frame);
	if (frame->length > G2_MAX_PAYLOAD)
	{
		c->failed = true;
		return false;
	}
	if (left < sizeof *frame + frame->length)
		return false;
	*payload = c->in.data + c->in_taken + sizeof *frame;
	c->in_taken += sizeof *frame + frame->length;
	return true;
}

void
g2_connection_send(g2_connection *c, g2_message type, uint64_t id, const void *payload, size_t len)
{
	size_t		begin = g2_frame_begin(&c->out, type, id);

	g2_put(&c->out, payload, len);
	if (!g2_frame_end(&c->out, begin))
		c->failed = true;
}

/* Bytes that have been sent make room: one who never reads all must not make it grow. */
static void
compact_out(g2_connection *c)
{
	size_t		left = c->out.len - c->out_sent;

	if (left == 0 && c->out.cap > KEEP_SIZE)
	{
		g2_wipe_free(c->out.data, c->out.cap);
		c->out = (g2_writer) {.grow = g2_realloc};
	}
	else if (left == 0)
		c->out.len = 0;
	else if (c->out_sent > left && c->out_sent > KEEP_SIZE)
	{
		memmove(c->out.data, c->out.data + c->out_sent, left);
		c->out.len = left;
	}
	else
		return;
	c->out_sent = 0;
}

bool
g2_connection_flush(g2_connection *c)
{
	bool		full = false;

	while (!c->failed && !full && c->out_sent < c->out.len)
	{
		ssize_t		n = send(c->fd, c->out.data + c->out_sent, c->out.len - c->out_sent,
							 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n >= 0)
			c->out_sent += (size_t) n;
		else if (errno == EAGAIN || errno == EWOULDBLOCK)
			full = true;
		else if (errno != EINTR)
			c->failed = true;
	}
	compact_out(c);
	return !full;
}

void
g2_connection_send_error(g2_connection *c, uint64_t id, const char *sqlstate, const char *message,
						 const char *hint)
{
	g2_writer	w = {.grow = c->out.grow};

	g2_error_encode(&w, sqlstate, message, "", hint, false);
	if (w.failed)
		c->failed = true;
	else
		g2_connection_send(c, G2_MSG_ERROR, id, w.data, w.len);
	g2_free(w.data);
}

bool
g2_connection_is_own_user(int fd)
{
	struct ucred peer;
	socklen_t	len = sizeof peer;

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.uid == geteuid();
}
