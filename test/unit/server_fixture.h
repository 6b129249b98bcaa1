/*
 * server_fixture.h: a server in a thread of its own, started and stopped over its control channel,
 * and clients of it that wait for what they want to read.
 */
#ifndef SERVER_FIXTURE_H
#define SERVER_FIXTURE_H

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "engine_fixture.h"

#include "server.h"

#define WAIT_MS 60000

typedef struct client
{
	int			fd;
	g2_buf		in;
	size_t		taken;
} client;

static struct sockaddr_un address = {.sun_family = AF_UNIX};
static int	listen_fd;
static client control;
static pthread_t thread;
static g2_error serve_error;

/* ---- a client ---- */

static UNUSED void
send_all(client *c, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0)
	{
		ssize_t		n = send(c->fd, p, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return;				/* closed: what the server says is looked at elsewhere */
		p += n;
		len -= (size_t) n;
	}
}

static UNUSED void
send_frame(client *c, uint16_t type, uint64_t id, const void *payload, size_t len)
{
	g2_frame	frame = {(uint32_t) len, type, 0, id};
	char	   *whole = malloc(sizeof frame + len);

	assert_non_null(whole);
	memcpy(whole, &frame, sizeof frame);
	if (len > 0)
		memcpy(whole + sizeof frame, payload, len);
	send_all(c, whole, sizeof frame + len);
	free(whole);
}

static UNUSED void
send_generate(client *c, uint64_t id, const g2_generate *m)
{
	g2_writer	w = {.grow = grow};

	g2_generate_encode(&w, m);
	send_frame(c, G2_MSG_GENERATE, id, w.data, w.len);
	free(w.data);
}

/* Reads more; false at the end of the stream. */
static UNUSED bool
fill(client *c)
{
	struct pollfd ready = {.fd = c->fd, .events = POLLIN};
	ssize_t		n;

	if (poll(&ready, 1, WAIT_MS) != 1)
		fail_msg("no answer");
	if (c->taken > 0)
	{
		memmove(c->in.data, c->in.data + c->taken, c->in.len - c->taken);
		c->in.len -= c->taken;
		c->taken = 0;
	}
	assert_true(g2_buf_reserve(&c->in, 65536));
	n = recv(c->fd, c->in.data + c->in.len, 65536, 0);
	if (n <= 0)
		return false;
	c->in.len += (size_t) n;
	return true;
}

static UNUSED bool
buffered(client *c, g2_frame *frame, const char **payload)
{
	if (c->in.len - c->taken < sizeof *frame)
		return false;
	memcpy(frame, c->in.data + c->taken, sizeof *frame);
	assert_true(frame->length <= G2_MAX_PAYLOAD);
	if (c->in.len - c->taken < sizeof *frame + frame->length)
		return false;
	*payload = c->in.data + c->taken + sizeof *frame;
	c->taken += sizeof *frame + frame->length;
	return true;
}

static UNUSED bool
receive(client *c, g2_frame *frame, const char **payload)
{
	while (!buffered(c, frame, payload))
		if (!fill(c))
			return false;
	return true;
}

static UNUSED client
connect_only(void)
{
	client		c = {.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};

	assert_true(c.fd >= 0);
	assert_int_equal(connect(c.fd, (struct sockaddr *) &address, sizeof address), 0);
	return c;
}

static UNUSED void
send_hello(client *c, uint32_t magic, uint32_t major)
{
	g2_writer	w = {.grow = grow};

	g2_hello_encode(&w, &(g2_hello) {.magic = magic, .major = major,
					.library_version = g2_span_of("1")});
	send_frame(c, G2_MSG_HELLO, 0, w.data, w.len);
	free(w.data);
}

static UNUSED void
expect_welcome(client *c)
{
	g2_frame	frame;
	const char *payload;
	g2_welcome	welcome;

	assert_true(receive(c, &frame, &payload));
	assert_int_equal(frame.type, G2_MSG_WELCOME);
	assert_true(g2_welcome_decode(payload, frame.length, &welcome));
	assert_int_equal(welcome.major, G2_PROTOCOL_MAJOR);
}

static UNUSED client
greet(void)
{
	client		c = connect_only();

	send_hello(&c, G2_PROTOCOL_MAGIC, G2_PROTOCOL_MAJOR);
	expect_welcome(&c);
	return c;
}

static UNUSED void
leave(client *c)
{
	close(c->fd);
	g2_buf_free(&c->in);
	*c = (client) {.fd = -1};
}

static UNUSED void
expect_error(client *c, uint64_t id, const char *sqlstate)
{
	g2_frame	frame;
	const char *payload;
	g2_error_message m;

	assert_true(receive(c, &frame, &payload));
	assert_int_equal(frame.type, G2_MSG_ERROR);
	assert_int_equal(frame.id, id);
	assert_true(g2_error_decode(payload, frame.length, &m));
	assert_string_equal(m.sqlstate, sqlstate);
}

/* The server closes the connection and says nothing more. */
static UNUSED void
expect_closed(client *c)
{
	g2_frame	frame;
	const char *payload;

	assert_false(receive(c, &frame, &payload));
	leave(c);
}

static UNUSED g2_info
ask_info(void)
{
	client		c = greet();
	g2_frame	frame;
	const char *payload;
	g2_info		info;

	send_frame(&c, G2_MSG_INFO, 1, NULL, 0);
	assert_true(receive(&c, &frame, &payload));
	assert_int_equal(frame.type, G2_MSG_INFO_ROW);
	assert_true(g2_info_decode(payload, frame.length, &info));
	leave(&c);
	return info;
}

/* All that the clients asked for is gone. */
static UNUSED void
expect_idle(void)
{
	int64_t		start = g2_now_us();
	g2_info		info;

	do
	{
		info = ask_info();
		if (g2_now_us() - start > HANG_US)
			fail_msg("%u requests, %u sequences, %u blocks stay", info.live_requests - 1,
					 info.live_sequences, (unsigned) info.kv_blocks_used);
	} while (info.live_requests > 1 || info.live_sequences > 0 || info.kv_blocks_used > 0);
}

/* ---- the server ---- */

static UNUSED void *
serve(void *arg)
{
	return g2_serve(arg, &serve_error) ? arg : NULL;
}

static UNUSED void
listen_anew(void)
{
	unlink(address.sun_path);
	listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_true(listen_fd >= 0);
	assert_int_equal(bind(listen_fd, (struct sockaddr *) &address, sizeof address), 0);
	assert_int_equal(listen(listen_fd, 256), 0);
}

static UNUSED void
send_settings(const g2_settings *s)
{
	g2_writer	w = {.grow = grow};

	g2_settings_encode(&w, s);
	send_frame(&control, G2_MSG_SETTINGS, 0, w.data, w.len);
	free(w.data);
}

static g2_server_options options;

static UNUSED void
start_thread(void)
{
	int			pair[2];

	listen_anew();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	control = (client) {.fd = pair[0]};
	options = (g2_server_options) {.listen_fd = listen_fd, .control_fd = pair[1]};
	assert_int_equal(pthread_create(&thread, NULL, serve, &options), 0);
}

static UNUSED void
start(void)
{
	g2_settings s = settings();
	g2_frame	frame;
	const char *payload;

	start_thread();
	send_settings(&s);
	/* Where the session's nice value may not be written, a line for the log says so first. */
	do
		assert_true(receive(&control, &frame, &payload));
	while (frame.type == G2_MSG_LOG);
	assert_int_equal(frame.type, G2_MSG_READY);
}

static UNUSED bool
stop(void)
{
	void	   *ok;

	if (control.fd >= 0)
		leave(&control);
	assert_int_equal(pthread_join(thread, &ok), 0);
	close(listen_fd);
	return ok != NULL;
}

static UNUSED int
set_up(void **state)
{
	(void) state;
	signal(SIGPIPE, SIG_IGN);
	make_models();
	assert_true((size_t) snprintf(address.sun_path, sizeof address.sun_path, "%s/s",
								  places.root) < sizeof address.sun_path);
	return 0;
}

static UNUSED int
tear_down(void **state)
{
	(void) state;
	fixture_close(&places);
	return 0;
}

#endif							/* SERVER_FIXTURE_H */
