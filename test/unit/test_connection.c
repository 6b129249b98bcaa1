/*
 * test_connection.c: frames over a socket pair: cut anywhere, read in portions, sent to somebody
 * who reads slowly, in buffers that do not grow with the bytes that went through them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "connection.h"

static uint64_t random_state = 1;

static uint32_t
random_below(uint32_t n)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t) (random_state >> 33) % n;
}

/* Two ends; blocking sockets, since a connection must not wait on those either. */
static void
open_pair(g2_connection *a, g2_connection *b)
{
	int			fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	g2_connection_init(a, fds[0]);
	g2_connection_init(b, fds[1]);
}

/* The payload of frame number id: its length and bytes follow from it. */
static size_t
payload_of(uint64_t id, char *payload)
{
	size_t		n = id % 7 ? id * 37 % 900 : id * 9973 % 200000;

	for (size_t i = 0; i < n; i++)
		payload[i] = (char) (id + i);
	return n;
}

static uint64_t
take_all(g2_connection *c, uint64_t next)
{
	static char want[200000];
	g2_frame	frame;
	const char *payload;

	while (g2_connection_next(c, &frame, &payload))
	{
		assert_int_equal(frame.id, next);
		assert_int_equal(frame.type, G2_MSG_TEXT);
		assert_int_equal(frame.length, payload_of(next++, want));
		if (frame.length > 0)
			assert_memory_equal(payload, want, frame.length);
	}
	return next;
}

/* The reader is always behind, so that what is to be sent is never nothing. */
static void
test_slow_reader(void **state)
{
	static char payload[200000];
	g2_connection a,
				b;
	uint64_t	sent = 0,
				taken = 0;
	size_t		most = 0;

	(void) state;
	open_pair(&a, &b);
	while (sent < 4000)
	{
		while (a.out.len - a.out_sent < 3000000)
		{
			g2_connection_send(&a, G2_MSG_TEXT, sent, payload, payload_of(sent, payload));
			sent++;
		}
		g2_connection_flush(&a);
		assert_true(a.out.len > a.out_sent);
		g2_connection_fill(&b);
		taken = take_all(&b, taken);
		most = a.out.cap > most ? a.out.cap : most;
	}
	/* Some 60 MB went through it. */
	assert_true(most <= 16u << 20);
	assert_true(b.in.cap <= 4u << 20);
	while (taken < sent)
	{
		g2_connection_flush(&a);
		g2_connection_fill(&b);
		taken = take_all(&b, taken);
	}
	assert_true(g2_connection_flush(&a));
	assert_false(a.failed || b.failed);
	/* Empty buffers of this size are given back. */
	assert_true(a.out.cap <= 1u << 20);
	assert_true(b.in.cap <= 1u << 20);
	g2_connection_close(&a);
	g2_connection_fill(&b);
	assert_true(b.failed);
	g2_connection_close(&b);
	assert_int_equal(b.fd, -1);
}

/* Bytes that come in portions of any size. */
static void
test_cuts(void **state)
{
	static char payload[200000];
	g2_connection a,
				b;
	uint64_t	taken = 0;
	size_t		at = 0;

	(void) state;
	open_pair(&a, &b);
	for (uint64_t id = 0; id < 120; id++)
		g2_connection_send(&a, G2_MSG_TEXT, id, payload, payload_of(id, payload));
	while (at < a.out.len)
	{
		size_t		n = 1 + random_below(random_below(2) ? 20 : 20000);

		n = G2_MIN(n, a.out.len - at);
		assert_int_equal(send(a.fd, a.out.data + at, n, 0), n);
		at += n;
		g2_connection_fill(&b);
		taken = take_all(&b, taken);
	}
	assert_int_equal(taken, 120);
	g2_connection_close(&a);
	g2_connection_close(&b);
}

/* One fill leaves the rest for the next turn. */
static void
test_portion(void **state)
{
	const size_t n = 8 << 20;
	char	   *payload = calloc(1, n);
	int			size = 16 << 20;
	g2_connection a,
				b;
	g2_frame	frame;
	const char *got;
	size_t		before = 0;
	uint32_t	fills = 0;

	(void) state;
	assert_non_null(payload);
	open_pair(&a, &b);
	setsockopt(a.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	g2_connection_send(&a, G2_MSG_TEXT, 1, payload, n);
	while (!g2_connection_next(&b, &frame, &got))
	{
		g2_connection_flush(&a);
		g2_connection_fill(&b);
		assert_true(b.in.len - before <= (1u << 20) + 65536);
		before = b.in.len;
		fills++;
	}
	assert_true(fills >= 8);
	assert_int_equal(frame.length, n);
	assert_true(b.in.cap > n);
	/* Once the frame has been dealt with its memory goes back. */
	assert_false(g2_connection_next(&b, &frame, &got));
	assert_true(b.in.cap <= 1u << 20);
	free(payload);
	g2_connection_close(&a);
	g2_connection_close(&b);
}

static void
test_too_long(void **state)
{
	const g2_frame frame = {G2_MAX_PAYLOAD + 1, G2_MSG_TEXT, 0, 1};
	char	   *payload = calloc(1, G2_MAX_PAYLOAD + 1);
	g2_connection a,
				b;
	g2_frame	got;
	const char *p;

	(void) state;
	assert_non_null(payload);
	open_pair(&a, &b);
	assert_int_equal(send(a.fd, &frame, sizeof frame, 0), sizeof frame);
	g2_connection_fill(&b);
	assert_false(g2_connection_next(&b, &got, &p));
	assert_true(b.failed);
	g2_connection_send(&a, G2_MSG_TEXT, 1, payload, G2_MAX_PAYLOAD + 1);
	assert_true(a.failed);
	free(payload);
	g2_connection_close(&a);
	g2_connection_close(&b);
}

static void
test_no_memory(void **state)
{
	g2_connection a,
				b;

	(void) state;
	open_pair(&a, &b);
	g2_alloc_fail_at(1);
	g2_connection_send(&a, G2_MSG_TEXT, 1, "x", 1);
	assert_true(a.failed);
	g2_alloc_fail_at(1);
	g2_connection_fill(&b);
	assert_true(b.failed);
	g2_alloc_fail_at(0);
	g2_connection_close(&a);
	g2_connection_close(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slow_reader), cmocka_unit_test(test_cuts),
		cmocka_unit_test(test_portion), cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
