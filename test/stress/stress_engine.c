/*
 * stress_engine.c: an engine behind its socket, with 32 clients that ask, cancel, hang up and come
 * again at random, while settings change and a model is unloaded under them.  It is built once with
 * ThreadSanitizer and once without: see `make stress`.
 *
 *     stress_engine SECONDS [SEED]
 *
 * Every answer must be the one that the request got when it was alone; in the end nothing may live
 * in the engine.  A thread per client, each with memory of its own; the engine's threads are those
 * of g2_serve, which runs on one more thread.  Exit status 0 when all is well.
 */
#include "kinds.h"

#define CLIENTS 32
#define MAX_OPEN 12				/* requests of one client */
#define SETTINGS_MS 50			/* between changes of the settings */

typedef struct request
{
	uint64_t	id;
	const kind *k;				/* NULL: one that looks at the engine */
	uint16_t	wanted_type;
	g2_buf		pieces;			/* of a stream */
	g2_buf		ids;
} request;

typedef struct fake
{
	pthread_t	thread;
	uint32_t	number;
	uint64_t	random;
	int64_t		deadline;
	int			fd;
	g2_buf		in;
	size_t		taken;
	uint64_t	last_id;
	request		open[MAX_OPEN];
	uint32_t	n_open;
	uint64_t	answered,
				canceled,
				hung_up,
				streamed;
} fake;

static fake fakes[CLIENTS];

/* cmocka's checks belong to the main thread.  No exit(), which takes libraries down that the
 * engine's threads still use. */
static void
die(const fake *f, const char *what, uint64_t id)
{
	printf("FAIL stress_engine: client %u, request %llu: %s\n", f->number,
		   (unsigned long long) id, what);
	fflush(stdout);
	_exit(1);
}

static uint32_t
below(fake *f, uint32_t n)
{
	f->random = f->random * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t) (f->random >> 33) % n;
}

/* ---- sending ---- */

static void
put_bytes(fake *f, const void *data, size_t len)
{
	client		c = {.fd = f->fd};

	send_all(&c, data, len);
}

static void
put_frame(g2_buf *out, uint16_t type, uint64_t id, const void *payload, size_t len)
{
	g2_frame	frame = {(uint32_t) len, type, 0, id};

	g2_buf_append(out, &frame, sizeof frame);
	g2_buf_append(out, payload, len);
}

static request *
open_request(fake *f, const kind *k, uint16_t wanted_type)
{
	request    *r = &f->open[f->n_open++];

	*r = (request) {.id = ++f->last_id, .k = k, .wanted_type = wanted_type};
	return r;
}

static void
close_request(fake *f, request *r)
{
	g2_buf_free(&r->pieces);
	g2_buf_free(&r->ids);
	*r = f->open[--f->n_open];
}

/* Several at once, so that they share a step. */
static void
ask(fake *f)
{
	g2_buf		out = {0};

	for (uint32_t n = 1 + below(f, 4); n > 0 && f->n_open < MAX_OPEN; n--)
	{
		const kind *k = &kinds[below(f, n_kinds)];
		request    *r = open_request(f, k, k->wanted_type);

		put_frame(&out, k->type, r->id, k->payload.data, k->payload.len);
	}
	put_bytes(f, out.data, out.len);
	g2_buf_free(&out);
}

static void
look(fake *f)
{
	static const uint16_t types[][2] = {
		{G2_MSG_INFO, G2_MSG_INFO_ROW},
		{G2_MSG_MODELS, G2_MSG_MODEL_LIST},
		{G2_MSG_REQUESTS, G2_MSG_REQUEST_LIST},
		{G2_MSG_USAGE, G2_MSG_USAGE_LIST},
		{G2_MSG_ENGINE, G2_MSG_ENGINE_LIST},
		{G2_MSG_PROGRESSES, G2_MSG_PROGRESS_LIST},
	};
	const uint16_t *type = types[below(f, G2_LENGTH(types))];
	g2_buf		out = {0};

	if (f->n_open == MAX_OPEN)
		return;
	put_frame(&out, type[0], open_request(f, NULL, type[1])->id, NULL, 0);
	put_bytes(f, out.data, out.len);
	g2_buf_free(&out);
}

static void
unload(fake *f)
{
	g2_writer	w = {.grow = grow};
	g2_buf		out = {0};

	if (f->n_open == MAX_OPEN)
		return;
	g2_put_string(&w, "bare");
	put_frame(&out, G2_MSG_UNLOAD, open_request(f, NULL, G2_MSG_DONE)->id, w.data, w.len);
	put_bytes(f, out.data, out.len);
	g2_buf_free(&out);
	free(w.data);
}

static void
cancel(fake *f)
{
	g2_buf		out = {0};
	request    *r;

	if (f->n_open == 0)
		return;
	r = &f->open[below(f, f->n_open)];
	put_frame(&out, G2_MSG_CANCEL, r->id, NULL, 0);
	put_bytes(f, out.data, out.len);
	g2_buf_free(&out);
	close_request(f, r);
	f->canceled++;
}

static void
come(fake *f)
{
	g2_writer	w = {.grow = grow};
	g2_buf		out = {0};

	f->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (f->fd < 0 || connect(f->fd, (struct sockaddr *) &address, sizeof address) != 0)
		die(f, "cannot connect", 0);
	g2_hello_encode(&w, &(g2_hello) {.magic = G2_PROTOCOL_MAGIC, .major = G2_PROTOCOL_MAJOR,
					.pid = f->number, .database = f->number % 2,
					.session_user = 10 + f->number % 5, .library_version = g2_span_of("1")});
	put_frame(&out, G2_MSG_HELLO, 0, w.data, w.len);
	w.len = 0;
	g2_session_message_encode(&w, &(g2_session_message) {.session_user = 10 + f->number % 5,
							  .user_name = g2_span_of("somebody"),
							  .limits = {G2_LIMIT_UNSET, f->number % 5 ? G2_LIMIT_UNSET : 4,
							  G2_LIMIT_UNSET}});
	put_frame(&out, G2_MSG_SESSION, 0, w.data, w.len);
	put_bytes(f, out.data, out.len);
	g2_buf_free(&out);
	free(w.data);
}

static void
go(fake *f)
{
	close(f->fd);
	while (f->n_open > 0)
		close_request(f, &f->open[0]);
	f->taken = f->in.len = 0;
}

/* In the middle of a frame, sometimes, and with answers unread. */
static void
hang_up(fake *f)
{
	if (below(f, 2))
		put_bytes(f, "half", 4);
	go(f);
	come(f);
	f->hung_up++;
}

/* ---- receiving ---- */

static void
on_stream(fake *f, request *r, const char *payload, size_t len)
{
	g2_stream	s;

	if (!g2_stream_decode(payload, len, &s))
		die(f, "malformed STREAM", r->id);
	if (!r->k || !r->k->streams || s.pos != r->ids.len / sizeof s.token)
		die(f, "a STREAM that does not belong here", r->id);
	g2_buf_append(&r->ids, &s.token, sizeof s.token);
	g2_buf_append(&r->pieces, s.piece.data, s.piece.len);
	f->streamed++;
}

/* The pieces are the text, the tokens are the tokens. */
static void
check_stream(const fake *f, const request *r, const char *payload, size_t len)
{
	g2_reader	reader = g2_read(payload, len);
	g2_completions_head head;
	g2_completion c;

	g2_completions_head_get(&reader, &head);
	g2_completion_get(&reader, &c);
	if (c.n_ids * sizeof(uint32_t) != r->ids.len || memcmp(c.ids, r->ids.data, r->ids.len) != 0)
		die(f, "other tokens in the stream than in the answer", r->id);
	if (c.text.len != r->pieces.len ||
		(c.text.len > 0 && memcmp(c.text.data, r->pieces.data, c.text.len) != 0))
		die(f, "another text in the stream than in the answer", r->id);
}

/* An unload ends the load that requests wait for; and the model may not be loaded just then. */
static bool
comes_of_unloading(const request *r, uint16_t type, const char *payload, size_t len)
{
	g2_error_message m;

	if (type != G2_MSG_ERROR || !g2_error_decode(payload, len, &m))
		return false;
	if (r->k)
		return r->k->unloaded && strcmp(m.sqlstate, "57014") == 0;
	return r->wanted_type == G2_MSG_DONE && strcmp(m.sqlstate, "42704") == 0;
}

static void
other_type(const fake *f, const request *r, uint16_t type, const char *payload, size_t len)
{
	g2_error_message m;

	printf("wanted type %u, got %u\n", r->wanted_type, type);
	if (type == G2_MSG_ERROR && g2_error_decode(payload, len, &m))
		printf("%s: %.*s\n", m.sqlstate, (int) m.message.len, m.message.data);
	die(f, "an answer of another type", r->id);
}

static void
on_answer(fake *f, request *r, uint16_t type, const char *payload, size_t len)
{
	g2_buf		got = {0};

	if (comes_of_unloading(r, type, payload, len))
	{
		close_request(f, r);
		return;
	}
	if (type != r->wanted_type)
		other_type(f, r, type, payload, len);
	if (r->k)
	{
		if (!normalize(type, payload, len, &got))
			die(f, "a malformed answer", r->id);
		if (got.len != r->k->wanted.len || memcmp(got.data, r->k->wanted.data, got.len) != 0)
			die(f, "another answer than alone", r->id);
		if (r->k->streams && type == G2_MSG_COMPLETIONS)
			check_stream(f, r, payload, len);
		g2_buf_free(&got);
	}
	close_request(f, r);
	f->answered++;
}

static void
on_frame(fake *f, const g2_frame *frame, const char *payload)
{
	request    *r = NULL;

	if (frame->type == G2_MSG_WELCOME || frame->type == G2_MSG_NOTICE)
		return;
	for (uint32_t i = 0; i < f->n_open; i++)
		if (f->open[i].id == frame->id)
			r = &f->open[i];
	if (!r)
	{
		if (frame->id == 0 || frame->id > f->last_id)
			die(f, "an answer that nobody asked for", frame->id);
		return;					/* it was cancelled */
	}
	if (frame->type == G2_MSG_STREAM)
		on_stream(f, r, payload, frame->length);
	else
		on_answer(f, r, frame->type, payload, frame->length);
}

/* Takes what comes within so many milliseconds. */
static void
pump(fake *f, int timeout_ms)
{
	struct pollfd ready = {.fd = f->fd, .events = POLLIN};
	client		c = {.in = f->in, .taken = f->taken};
	g2_frame	frame;
	const char *payload;
	ssize_t		n;

	if (poll(&ready, 1, timeout_ms) <= 0)
		return;
	if (!g2_buf_reserve(&c.in, 65536))
		die(f, "no memory", 0);
	n = recv(f->fd, c.in.data + c.in.len, 65536, 0);
	if (n <= 0)
		die(f, "the engine hung up", 0);
	c.in.len += (size_t) n;
	while (c.in.len - c.taken >= sizeof frame)
	{
		memcpy(&frame, c.in.data + c.taken, sizeof frame);
		if (frame.length > G2_MAX_PAYLOAD)
			die(f, "a frame that is too long", frame.id);
		if (c.in.len - c.taken < sizeof frame + frame.length)
			break;
		payload = c.in.data + c.taken + sizeof frame;
		c.taken += sizeof frame + frame.length;
		on_frame(f, &frame, payload);
	}
	memmove(c.in.data, c.in.data + c.taken, c.in.len - c.taken);
	f->in = c.in;
	f->in.len -= c.taken;
	f->taken = 0;
}

/* ---- a client's life ---- */

static void
act(fake *f)
{
	uint32_t	dice = below(f, 1000);

	if (dice < 600)
		ask(f);
	else if (dice < 720)
		cancel(f);
	else if (dice < 780)
		look(f);
	else if (dice < 790)
		hang_up(f);
	else if (dice < 800 && f->number == 0)
		unload(f);
	pump(f, (int) below(f, 4));
}

static void *
live(void *arg)
{
	fake	   *f = arg;
	int64_t		limit;

	come(f);
	while (g2_now_us() < f->deadline)
		act(f);
	limit = g2_now_us() + HANG_US;
	while (f->n_open > 0)
	{
		pump(f, 1000);
		if (g2_now_us() > limit)
			die(f, "no answer", f->open[0].id);
	}
	go(f);
	g2_buf_free(&f->in);
	return NULL;
}

/* ---- the main thread ---- */

/* What a reload may change in a running engine, at random; what it says is read and dropped. */
static void
change_settings(void)
{
	static const uint32_t step_tokens[] = {0, 1, 16, 64};
	static const uint64_t result_cache[] = {0, G2_NO_RESULT_CACHE, 4096};
	g2_settings s = settings();
	char		ignored[65536];

	s.kv_cache_size = 1 << 20;
	s.step_tokens = step_tokens[random_below(G2_LENGTH(step_tokens))];
	s.result_cache_size = result_cache[random_below(G2_LENGTH(result_cache))];
	s.nice = random_below(3);
	send_settings(&s);
	while (recv(control.fd, ignored, sizeof ignored, MSG_DONTWAIT) > 0)
		;
}

/* Little memory for blocks, so that sequences wait for it and are preempted. */
static void
start_small(void)
{
	g2_settings s = settings();
	g2_frame	frame;
	const char *payload;

	start_thread();
	s.kv_cache_size = 1 << 20;
	send_settings(&s);
	do
		assert_true(receive(&control, &frame, &payload));
	while (frame.type != G2_MSG_READY);
}

static void
run_clients(int64_t deadline)
{
	for (uint32_t i = 0; i < CLIENTS; i++)
	{
		fakes[i].number = i;
		fakes[i].random = random_state + i * 0x9E3779B97F4A7C15u;
		fakes[i].deadline = deadline;
		assert_int_equal(pthread_create(&fakes[i].thread, NULL, live, &fakes[i]), 0);
	}
	while (g2_now_us() < deadline)
	{
		change_settings();
		poll(NULL, 0, SETTINGS_MS);
	}
	for (uint32_t i = 0; i < CLIENTS; i++)
		assert_int_equal(pthread_join(fakes[i].thread, NULL), 0);
}

int
main(int argc, char **argv)
{
	double		seconds = argc > 1 ? atof(argv[1]) : 20;
	fake		sum = {0};

	if (argc > 2)
		random_state = strtoull(argv[2], NULL, 10);
	set_up(NULL);
	start_small();
	make_kinds();
	learn_answers();
	run_clients(g2_now_us() + (int64_t) (seconds * 1e6));
	expect_idle();
	if (!stop())
		fail_msg("the engine did not end well: %s", serve_error.message);
	for (uint32_t i = 0; i < CLIENTS; i++)
	{
		sum.answered += fakes[i].answered;
		sum.canceled += fakes[i].canceled;
		sum.hung_up += fakes[i].hung_up;
		sum.streamed += fakes[i].streamed;
	}
	/* A test that did nothing is none. */
	assert_true(sum.answered > 0 && sum.canceled > 0 && sum.streamed > 0);
	free_kinds();
	tear_down(NULL);
	printf("ok   stress_engine: %llu answered, %llu cancelled, %llu times hung up, %llu tokens"
		   " streamed\n", (unsigned long long) sum.answered, (unsigned long long) sum.canceled,
		   (unsigned long long) sum.hung_up, (unsigned long long) sum.streamed);
	return 0;
}
