/*
 * test_server.c: the server on real Unix sockets, with clients that behave and clients that do not.
 */
#include <sys/resource.h>

#include "server_fixture.h"

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
		assert_true(same_completions(wanted[b->kind[frame.id]].data,
									 wanted[b->kind[frame.id]].len, payload, frame.length));
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
	g2_tokenize_encode(&w, &(g2_tokenize) {g2_span_of("tiny"), {text, (uint32_t) n}, 0, 0});
	send_frame(&c, G2_MSG_TOKENIZE, 1, w.data, w.len);
	ask_info();
	do
		assert_true(receive(&c, &frame, &payload));
	while (frame.type == G2_MSG_NOTICE);
	/* 24 M ids are 96 MB: more than one message holds. */
	assert_int_equal(frame.type, G2_MSG_ERROR);
	w.len = 0;
	g2_tokenize_encode(&w, &(g2_tokenize) {g2_span_of("tiny"), {text, 4 << 20}, 0, 0});
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

/* Microseconds of the processor that the whole process has used. */
static int64_t
processor_us(void)
{
	struct rusage u;

	assert_int_equal(getrusage(RUSAGE_SELF, &u), 0);
	return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * INT64_C(1000000) + u.ru_utime.tv_usec +
		u.ru_stime.tv_usec;
}

static void expect_log(const char *part);

/* No descriptor, and no client whose end would give one back: the server tells so, is idle, and goes
 * on when somebody else has given one back. */
static void
test_no_descriptor(void **state)
{
	struct rlimit limit,
				low;
	client		c;
	int64_t		since,
				used;

	(void) state;
	start();
	c = (client) {.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
	assert_true(c.fd >= 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	low = limit;
	low.rlim_cur = (rlim_t) c.fd + 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	assert_int_equal(connect(c.fd, (struct sockaddr *) &address, sizeof address), 0);
	send_hello(&c, G2_PROTOCOL_MAGIC, G2_PROTOCOL_MAJOR);
	expect_log("could not accept a connection");
	since = g2_now_us();
	used = processor_us();
	assert_int_equal(poll(&(struct pollfd) {.fd = c.fd, .events = POLLIN}, 1, 500), 0);
	used = processor_us() - used;
	if (used > (g2_now_us() - since) / 4)
		fail_msg("%lld us of the processor used in %lld us", (long long) used,
				 (long long) (g2_now_us() - since));
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	expect_welcome(&c);
	leave(&c);
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

#define TEST(f) cmocka_unit_test_setup_teardown(f, count_before, count_after)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_handshake), TEST(test_bad_frames), TEST(test_byte_by_byte),
		TEST(test_many_clients), TEST(test_slow_reader), TEST(test_in_flight),
		TEST(test_large_frame), TEST(test_descriptor_limit), TEST(test_no_descriptor),
		TEST(test_control), TEST(test_sigterm),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
