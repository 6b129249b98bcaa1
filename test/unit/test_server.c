/*
 * test_server.c: the server on real Unix sockets, with clients that behave and clients that do not.
 * The server runs in a thread of its own; a control channel starts and stops it.
 */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
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

static void
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

static void
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

static void
send_generate(client *c, uint64_t id, const g2_generate *m)
{
	g2_writer	w = {.grow = grow};

	g2_generate_encode(&w, m);
	send_frame(c, G2_MSG_GENERATE, id, w.data, w.len);
	free(w.data);
}

/* Reads more; false at the end of the stream. */
static bool
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

static bool
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

static bool
receive(client *c, g2_frame *frame, const char **payload)
{
	while (!buffered(c, frame, payload))
		if (!fill(c))
			return false;
	return true;
}

static client
connect_only(void)
{
	client		c = {.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};

	assert_true(c.fd >= 0);
	assert_int_equal(connect(c.fd, (struct sockaddr *) &address, sizeof address), 0);
	return c;
}

static void
send_hello(client *c, uint32_t magic, uint32_t major)
{
	g2_writer	w = {.grow = grow};

	g2_hello_encode(&w, &(g2_hello) {.magic = magic, .major = major,
					.library_version = g2_span_of("1")});
	send_frame(c, G2_MSG_HELLO, 0, w.data, w.len);
	free(w.data);
}

static void
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

static client
greet(void)
{
	client		c = connect_only();

	send_hello(&c, G2_PROTOCOL_MAGIC, G2_PROTOCOL_MAJOR);
	expect_welcome(&c);
	return c;
}

static void
leave(client *c)
{
	close(c->fd);
	g2_buf_free(&c->in);
	*c = (client) {.fd = -1};
}

static void
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
static void
expect_closed(client *c)
{
	g2_frame	frame;
	const char *payload;

	assert_false(receive(c, &frame, &payload));
	leave(c);
}

static g2_info
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
static void
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

static void *
serve(void *arg)
{
	return g2_serve(arg, &serve_error) ? arg : NULL;
}

static void
listen_anew(void)
{
	unlink(address.sun_path);
	listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_true(listen_fd >= 0);
	assert_int_equal(bind(listen_fd, (struct sockaddr *) &address, sizeof address), 0);
	assert_int_equal(listen(listen_fd, 256), 0);
}

static void
send_settings(const g2_settings *s)
{
	g2_writer	w = {.grow = grow};

	g2_settings_encode(&w, s);
	send_frame(&control, G2_MSG_SETTINGS, 0, w.data, w.len);
	free(w.data);
}

static g2_server_options options;

static void
start_thread(void)
{
	int			pair[2];

	listen_anew();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	control = (client) {.fd = pair[0]};
	options = (g2_server_options) {.listen_fd = listen_fd, .control_fd = pair[1]};
	assert_int_equal(pthread_create(&thread, NULL, serve, &options), 0);
}

static void
start(void)
{
	g2_settings s = settings();
	g2_frame	frame;
	const char *payload;

	start_thread();
	send_settings(&s);
	assert_true(receive(&control, &frame, &payload));
	assert_int_equal(frame.type, G2_MSG_READY);
}

static bool
stop(void)
{
	void	   *ok;

	if (control.fd >= 0)
		leave(&control);
	assert_int_equal(pthread_join(thread, &ok), 0);
	close(listen_fd);
	return ok != NULL;
}

/* ---- tests ---- */

static void
test_handshake(void **state)
{
	client		c;
	g2_generate m = generate("x");

	(void) state;
	start();
	c = connect_only();
	send_hello(&c, 1234, G2_PROTOCOL_MAJOR);
	expect_closed(&c);
	c = connect_only();
	send_hello(&c, G2_PROTOCOL_MAGIC, G2_PROTOCOL_MAJOR + 1);
	expect_error(&c, 0, "55000");
	expect_closed(&c);
	c = connect_only();
	send_generate(&c, 1, &m);
	expect_closed(&c);
	c = connect_only();
	send_frame(&c, G2_MSG_HELLO, 0, NULL, 0);
	expect_closed(&c);
	c = connect_only();			/* says nothing at all */
	leave(&c);
	/* A second HELLO is a request that the engine does not know. */
	c = greet();
	send_hello(&c, G2_PROTOCOL_MAGIC, G2_PROTOCOL_MAJOR);
	expect_error(&c, 0, "55000");
	leave(&c);
	expect_idle();
	assert_true(stop());
}

static void
test_bad_frames(void **state)
{
	static const uint16_t types[] = {0, 2, 3, 4, 5, 18, 63, 64, 65, 66, 4711, 65535};
	g2_frame	frame = {G2_MAX_PAYLOAD + 1, G2_MSG_GENERATE, 0, 1};
	client		c;

	(void) state;
	start();
	c = greet();
	send_all(&c, &frame, sizeof frame);
	expect_closed(&c);
	frame.length = UINT32_MAX;
	c = greet();
	send_all(&c, &frame, sizeof frame);
	expect_closed(&c);
	/* Types that are no requests, and payloads that are none: the connection stays. */
	c = greet();
	for (size_t i = 0; i < G2_LENGTH(types); i++)
	{
		send_frame(&c, types[i], i, "junk", 4);
		expect_error(&c, i, "55000");
	}
	for (uint16_t type = G2_MSG_GENERATE; type <= G2_MSG_UNLOAD; type++)
		if (type != G2_MSG_COMPLETIONS && type != G2_MSG_TOKENS && type != G2_MSG_TEXT)
		{
			send_frame(&c, type, type, "\377\377\377\377junk", 8);
			expect_error(&c, type, "XX000");
		}
	send_frame(&c, G2_MSG_CANCEL, 99, NULL, 0);
	/* The beginning of a frame, and gone. */
	frame.length = 1000;
	send_all(&c, &frame, sizeof frame);
	send_all(&c, "half", 4);
	leave(&c);
	expect_idle();
	assert_true(stop());
}

static void
test_byte_by_byte(void **state)
{
	g2_writer	w = {.grow = grow};
	g2_generate m = generate("hello");
	client		c;
	g2_frame	frame;
	const char *payload;

	(void) state;
	start();
	c = greet();
	for (uint64_t id = 1; id <= 3; id++)
	{
		size_t		begin = g2_frame_begin(&w, G2_MSG_GENERATE, id);

		g2_generate_encode(&w, &m);
		assert_true(g2_frame_end(&w, begin));
	}
	for (size_t i = 0; i < w.len; i++)
		send_all(&c, w.data + i, 1);
	for (int i = 0; i < 3; i++)
	{
		assert_true(receive(&c, &frame, &payload));
		assert_int_equal(frame.type, G2_MSG_COMPLETIONS);
		check_completions(payload, frame.length, 1);
	}
	free(w.data);
	leave(&c);
	assert_true(stop());
}

/* ---- many clients ---- */

#define CLIENTS 32
#define KINDS 24				/* different requests */
#define PER_CLIENT 12

static g2_generate kind_of[KINDS];
static char kind_text[KINDS][128];
static g2_buf wanted[KINDS];	/* their answers */

/* The part of COMPLETIONS that is the same each time: not the elapsed time. */
static bool
same_payload(const g2_buf *want, const char *payload, size_t len)
{
	const size_t head = 3 * sizeof(uint32_t) + sizeof(uint64_t),
				tail = head + sizeof(uint64_t);

	return want->len == len && memcmp(want->data, payload, head) == 0 &&
		memcmp(want->data + tail, payload + tail, len - tail) == 0;
}

static void
learn_answers(void)
{
	client		c = greet();
	g2_frame	frame;
	const char *payload;

	for (uint32_t k = 0; k < KINDS; k++)
	{
		kind_of[k] = random_generate(kind_text[k]);
		send_generate(&c, k, &kind_of[k]);
		do
			assert_true(receive(&c, &frame, &payload));
		while (frame.type == G2_MSG_NOTICE);
		assert_int_equal(frame.type, G2_MSG_COMPLETIONS);
		check_completions(payload, frame.length, kind_of[k].n);
		wanted[k].len = 0;
		assert_true(g2_buf_append(&wanted[k], payload, frame.length));
	}
	leave(&c);
}

typedef struct busy
{
	client		c;
	uint32_t	kind[PER_CLIENT];
	bool		canceled[PER_CLIENT];
	bool		answered[PER_CLIENT];
	uint32_t	sent;
	uint32_t	open;			/* neither answered nor cancelled */
} busy;

static void
busy_send(busy *b)
{
	uint32_t	id = b->sent++;

	b->kind[id] = random_below(KINDS);
	send_generate(&b->c, id, &kind_of[b->kind[id]]);
	b->open++;
	if (random_below(4) == 0)
	{
		uint32_t	victim = random_below(b->sent);

		send_frame(&b->c, G2_MSG_CANCEL, victim, NULL, 0);
		b->open -= !b->canceled[victim] && !b->answered[victim];
		b->canceled[victim] = true;
	}
}

static void
busy_receive(busy *b)
{
	g2_frame	frame;
	const char *payload;

	if (!fill(&b->c))
		fail_msg("the server hung up");
	while (buffered(&b->c, &frame, &payload))
	{
		assert_int_equal(frame.type, G2_MSG_COMPLETIONS);
		assert_true(frame.id < b->sent && !b->answered[frame.id]);
		assert_true(same_payload(&wanted[b->kind[frame.id]], payload, frame.length));
		b->answered[frame.id] = true;
		b->open -= !b->canceled[frame.id];
	}
}

static void
test_many_clients(void **state)
{
	static busy all[CLIENTS];
	struct pollfd fds[CLIENTS];
	uint32_t	done = 0,
				gone = 0;
	int64_t		since = g2_now_us();

	(void) state;
	start();
	learn_answers();
	for (uint32_t i = 0; i < CLIENTS; i++)
		all[i] = (busy) {.c = greet()};
	while (done < CLIENTS)
	{
		uint32_t	n = 0,
					at[CLIENTS];

		for (uint32_t i = 0; i < CLIENTS; i++)
		{
			busy	   *b = &all[i];

			if (b->c.fd < 0)
				continue;
			if (b->sent < PER_CLIENT)
				busy_send(b);
			if (random_below(60) == 0 && gone < 100)
			{
				/* Hangs up in the middle of it all and comes again. */
				leave(&b->c);
				*b = (busy) {.c = greet()};
				gone++;
			}
			if (b->sent == PER_CLIENT && b->open == 0)
			{
				leave(&b->c);
				done++;
				continue;
			}
			at[n] = i;
			fds[n++] = (struct pollfd) {.fd = b->c.fd, .events = POLLIN};
		}
		poll(fds, n, 5);
		for (uint32_t i = 0; i < n; i++)
			if (fds[i].revents)
				busy_receive(&all[at[i]]);
		if (g2_now_us() - since > HANG_US)
			fail_msg("it hangs");
	}
	assert_true(gone > 0);
	expect_idle();
	for (uint32_t k = 0; k < KINDS; k++)
		g2_buf_free(&wanted[k]);
	assert_true(stop());
}

/* Many answers that nobody reads; others are served meanwhile; then all of them are there. */
static void
test_slow_reader(void **state)
{
	enum {N = 3000};
	client		slow;
	g2_frame	frame;
	const char *payload;

	(void) state;
	start();
	slow = greet();
	for (uint64_t id = 1; id <= N; id++)
	{
		send_frame(&slow, G2_MSG_INFO, id, NULL, 0);
		if (id % 500 == 0)
			ask_info();
	}
	for (uint64_t id = 1; id <= N; id++)
	{
		assert_true(receive(&slow, &frame, &payload));
		assert_int_equal(frame.type, G2_MSG_INFO_ROW);
		assert_int_equal(frame.id, id);
	}
	leave(&slow);
	assert_true(stop());
}

/* More than G2_MAX_IN_FLIGHT requests at once: the rest is refused, the connection stays. */
static void
test_in_flight(void **state)
{
	const uint64_t n = G2_MAX_IN_FLIGHT + 600;
	g2_writer	w = {.grow = grow};
	g2_generate m = generate("hello");
	client		c;
	g2_frame	frame;
	const char *payload;
	g2_error_message error;

	(void) state;
	start();
	c = greet();
	m.n = 8;
	m.max_new = 100;
	for (uint64_t id = 1; id <= n; id++)
	{
		size_t		begin = g2_frame_begin(&w, G2_MSG_GENERATE, id);

		g2_generate_encode(&w, &m);
		assert_true(g2_frame_end(&w, begin));
	}
	send_all(&c, w.data, w.len);
	do
		assert_true(receive(&c, &frame, &payload));
	while (frame.type == G2_MSG_COMPLETIONS || frame.type == G2_MSG_NOTICE);
	assert_int_equal(frame.type, G2_MSG_ERROR);
	assert_true(g2_error_decode(payload, frame.length, &error));
	assert_string_equal(error.sqlstate, "53400");
	assert_true(frame.id > G2_MAX_IN_FLIGHT);
	leave(&c);
	expect_idle();
	free(w.data);
	assert_true(stop());
}

/* A text of megabytes in one frame, and small requests of another client beside it. */
static void
test_large_frame(void **state)
{
	const size_t n = 24 << 20;
	char	   *text = malloc(n);
	g2_writer	w = {.grow = grow};
	client		c;
	g2_frame	frame;
	const char *payload;
	g2_tokens	tokens;

	(void) state;
	start();
	assert_non_null(text);
	for (size_t i = 0; i < n; i++)
		text[i] = i % 8 ? 'a' : ' ';
	c = greet();
	g2_tokenize_encode(&w, &(g2_tokenize) {g2_span_of("tiny"), {text, (uint32_t) n}, 0});
	send_frame(&c, G2_MSG_TOKENIZE, 1, w.data, w.len);
	ask_info();
	do
		assert_true(receive(&c, &frame, &payload));
	while (frame.type == G2_MSG_NOTICE);
	/* 24 M ids are 96 MB: more than one message holds. */
	assert_int_equal(frame.type, G2_MSG_ERROR);
	w.len = 0;
	g2_tokenize_encode(&w, &(g2_tokenize) {g2_span_of("tiny"), {text, 4 << 20}, 0});
	send_frame(&c, G2_MSG_TOKENIZE, 2, w.data, w.len);
	assert_true(receive(&c, &frame, &payload));
	assert_int_equal(frame.type, G2_MSG_TOKENS);
	assert_true(g2_tokens_decode(payload, frame.length, &tokens));
	assert_int_equal(tokens.count, 4 << 20);
	leave(&c);
	free(w.data);
	free(text);
	assert_true(stop());
}

/* Sessions beyond the limit of descriptors wait until others have left. */
static void
test_descriptor_limit(void **state)
{
	enum {N = 20};
	client		c[N];
	struct rlimit limit,
				low;
	int			probe;

	(void) state;
	start();
	probe = dup(0);
	assert_true(probe >= 0);
	close(probe);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	low = limit;
	low.rlim_cur = (rlim_t) probe + N + 4;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	for (int i = 0; i < N; i++)
	{
		c[i] = (client) {.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
		if (c[i].fd < 0)
			continue;			/* the server was faster */
		assert_int_equal(connect(c[i].fd, (struct sockaddr *) &address, sizeof address), 0);
		send_hello(&c[i], G2_PROTOCOL_MAGIC, G2_PROTOCOL_MAJOR);
	}
	for (int i = 0; i < N; i++)
		if (c[i].fd >= 0)
		{
			expect_welcome(&c[i]);
			leave(&c[i]);
		}
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	expect_idle();
	assert_true(stop());
}

/* ---- the control channel ---- */

static void
expect_log(const char *part)
{
	g2_frame	frame;
	const char *payload;
	g2_notice	line;

	do
	{
		assert_true(receive(&control, &frame, &payload));
		assert_int_equal(frame.type, G2_MSG_LOG);
		assert_true(g2_notice_decode(payload, frame.length, &line));
	} while (!memmem(line.message.data, line.message.len, part, strlen(part)));
}

static void
test_control(void **state)
{
	g2_settings s = settings();

	(void) state;
	start();
	s.weight_format = g2_span_of("q99");
	send_settings(&s);
	expect_log("q99");
	expect_idle();
	s.weight_format = g2_span_of("f32");
	send_settings(&s);
	send_frame(&control, 4711, 0, "unknown", 7);
	expect_idle();
	assert_true(stop());
	/* Settings that are none, or with which the engine cannot open: the reason, and the end. */
	start_thread();
	send_frame(&control, G2_MSG_SETTINGS, 0, "\377\377\377\377", 4);
	expect_log("malformed");
	assert_false(stop());
	start_thread();
	s.cpu = g2_span_of("z80");
	send_settings(&s);
	expect_log("z80");
	assert_false(stop());
	/* The supervisor dies before it has said anything. */
	start_thread();
	assert_true(stop());
}

static void
test_sigterm(void **state)
{
	g2_settings s = settings();
	client		c;
	g2_generate m = generate("hello");

	(void) state;
	listen_anew();
	control.fd = -1;
	options = (g2_server_options) {.listen_fd = listen_fd, .control_fd = -1, .settings = &s};
	assert_int_equal(pthread_create(&thread, NULL, serve, &options), 0);
	c = greet();
	m.max_new = 100;
	for (uint64_t id = 0; id < 50; id++)
		send_generate(&c, id, &m);
	assert_int_equal(pthread_kill(thread, SIGTERM), 0);
	assert_true(stop());
	while (fill(&c))
		;
	leave(&c);
}

static uint32_t
count_descriptors(void)
{
	DIR		   *dir = opendir("/proc/self/fd");
	uint32_t	n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static uint32_t descriptors;

static int
count_before(void **state)
{
	(void) state;
	descriptors = count_descriptors();
	return 0;
}

static int
count_after(void **state)
{
	(void) state;
	return count_descriptors() == descriptors ? 0 : -1;
}

static int
set_up(void **state)
{
	(void) state;
	signal(SIGPIPE, SIG_IGN);
	make_models();
	assert_true((size_t) snprintf(address.sun_path, sizeof address.sun_path, "%s/s",
								  places.root) < sizeof address.sun_path);
	return 0;
}

static int
tear_down(void **state)
{
	(void) state;
	fixture_close(&places);
	return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, count_before, count_after)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_handshake), TEST(test_bad_frames), TEST(test_byte_by_byte),
		TEST(test_many_clients), TEST(test_slow_reader), TEST(test_in_flight),
		TEST(test_large_frame), TEST(test_descriptor_limit), TEST(test_control),
		TEST(test_sigterm),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
