/*
 * engine_driver.h: an engine in the test's own thread: requests sent, answers kept, turns taken.
 */
#ifndef ENGINE_DRIVER_H
#define ENGINE_DRIVER_H

#include "engine_fixture.h"

#include "engine.h"

/* What came of a sequence before its end. */
typedef struct streamed
{
	uint32_t	n;				/* tokens */
	bool		gap;			/* one is missing */
	uint32_t	ids[N_CTX];
	double		logprob;		/* sum */
	char		text[N_CTX * 16];	/* the pieces, joined */
	size_t		len;
} streamed;

/* An answer that has come, or will. */
typedef struct reply
{
	streamed   *streamed;		/* NULL: no STREAM may come */
	g2_message	type;			/* 0: not yet */
	uint32_t	answers;		/* final messages */
	uint32_t	notices;
	uint32_t	order;			/* 1 = the first of all that came */
	char	   *data;
	size_t		len;
} reply;

#define MAX_CLIENTS 64

/* Who has asked; each array of replies is a client of its own. */
typedef struct driver_client
{
	reply	   *replies;
	g2_client  *client;
} driver_client;

static g2_engine *engine;
static uint32_t n_replies,
			n_loads,
			n_replaced,		/* lines in the log about another program */
			n_clients;
static driver_client clients[MAX_CLIENTS];

static UNUSED void
on_log(void *arg, g2_level level, const char *message)
{
	(void) arg;
	(void) level;
	n_replaced += strstr(message, "another gpt2 engine is installed") == message;
	n_loads += strstr(message, "loaded model \"") == message;
}

static UNUSED void
take_token(reply *r, const void *payload, size_t len)
{
	streamed   *s = r->streamed;
	g2_stream	m;

	assert_non_null(s);
	assert_int_equal(r->type, 0);
	assert_true(g2_stream_decode(payload, len, &m));
	assert_true(s->n < N_CTX && m.pos >= s->n);
	s->gap |= m.pos != s->n;
	s->ids[s->n++] = m.token;
	s->logprob += m.logprob;
	assert_int_equal(g2_utf8_valid_prefix(m.piece.data, m.piece.len), m.piece.len);
	if (m.piece.len == 0)
		return;
	assert_null(memchr(m.piece.data, '\0', m.piece.len));
	assert_true(s->len + m.piece.len <= sizeof s->text);
	memcpy(s->text + s->len, m.piece.data, m.piece.len);
	s->len += m.piece.len;
}

static UNUSED void
on_answer(void *owner, g2_message type, uint64_t id, const void *payload, size_t len)
{
	reply	   *r = (reply *) owner + id;

	if (type == G2_MSG_NOTICE)
	{
		r->notices++;
		return;
	}
	if (type == G2_MSG_STREAM)
	{
		take_token(r, payload, len);
		return;
	}
	r->type = type;
	r->answers++;
	r->order = ++n_replies;
	free(r->data);
	r->data = malloc(len + 1);
	assert_non_null(r->data);
	if (len > 0)
		memcpy(r->data, payload, len);
	r->len = len;
}

static UNUSED g2_client *
attach_as(reply *r, const g2_hello *hello)
{
	g2_error	err;

	assert_true(n_clients < MAX_CLIENTS);
	clients[n_clients].replies = r;
	EXPECT_OK(g2_engine_attach(engine, r, on_answer, hello, &clients[n_clients].client, &err),
			  err);
	return clients[n_clients++].client;
}

static UNUSED g2_client *
client_of(reply *r)
{
	for (uint32_t i = 0; i < n_clients; i++)
		if (clients[i].replies == r)
			return clients[i].client;
	return attach_as(r, &(g2_hello) {.pid = n_clients});
}

/* It hangs up. */
static UNUSED void
leave(reply *r)
{
	for (uint32_t i = 0; i < n_clients; i++)
		if (clients[i].replies == r)
		{
			g2_engine_detach(clients[i].client);
			clients[i] = clients[--n_clients];
		}
}

/* With whatever it still does. */
static UNUSED void
abandon_engine(void)
{
	while (n_clients > 0)
		leave(clients[0].replies);
	g2_engine_close(engine);
	engine = NULL;
}

static UNUSED void
free_replies(reply *r, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(r[i].data);
	memset(r, 0, n * sizeof *r);
}

static UNUSED void
open_with(const g2_settings *s)
{
	g2_error	err;

	n_loads = n_replaced = 0;
	EXPECT_OK(g2_engine_open(s, on_log, NULL, &engine, &err), err);
}

static UNUSED void
open_engine(void)
{
	g2_settings s = settings();

	open_with(&s);
}

/* One turn: waits until there is something to do, and does it. */
static UNUSED void
turn(int64_t since)
{
	struct pollfd ready = {.fd = g2_engine_fd(engine), .events = POLLIN};

	poll(&ready, 1, 1000);
	g2_engine_run(engine);
	if (g2_now_us() - since > HANG_US)
		fail_msg("it hangs");
}

static UNUSED void
run_until(const reply *r)
{
	int64_t		start = g2_now_us();

	g2_engine_run(engine);
	while (!r->type)
		turn(start);
}

static UNUSED void
run_idle(void)
{
	int64_t		start = g2_now_us();

	g2_engine_run(engine);
	while (g2_engine_live(engine) > 0)
		turn(start);
}

static UNUSED void
send_generate(reply *r, uint64_t id, const g2_generate *m)
{
	g2_writer	w = {.grow = grow};

	g2_generate_encode(&w, m);
	g2_engine_submit(client_of(r), id, G2_MSG_GENERATE, w.data, w.len);
	free(w.data);
}

static UNUSED void
send_load(reply *r, uint64_t id, const char *name, const char *format, const char *device)
{
	g2_writer	w = {.grow = grow};

	g2_load_encode(&w, &(g2_load) {g2_span_of(name), g2_span_of(format), g2_span_of(device)});
	g2_engine_submit(client_of(r), id, G2_MSG_LOAD, w.data, w.len);
	free(w.data);
}

static UNUSED void
send_unload(reply *r, uint64_t id, const char *name)
{
	g2_writer	w = {.grow = grow};

	g2_put_string(&w, name);
	g2_engine_submit(client_of(r), id, G2_MSG_UNLOAD, w.data, w.len);
	free(w.data);
}

static UNUSED void
send_tokenize(reply *r, uint64_t id, const char *model, const char *text, size_t len, bool count)
{
	g2_writer	w = {.grow = grow};

	g2_tokenize_encode(&w, &(g2_tokenize) {g2_span_of(model), {text, (uint32_t) len}, count,
										  0});
	g2_engine_submit(client_of(r), id, G2_MSG_TOKENIZE, w.data, w.len);
	free(w.data);
}

static UNUSED void
expect_error(const reply *r, const char *sqlstate, const char *part)
{
	g2_error_message m;

	if (r->type != G2_MSG_ERROR)
		fail_msg("no error for %s %s", sqlstate, part);
	assert_int_equal(r->answers, 1);
	assert_true(g2_error_decode(r->data, r->len, &m));
	/* Of limits it is said what can be done. */
	if ((strcmp(m.sqlstate, "53400") == 0 || strcmp(m.sqlstate, "54000") == 0) && m.hint.len == 0)
		fail_msg("no hint: %.*s", (int) m.message.len, m.message.data);
	if (strcmp(m.sqlstate, sqlstate) != 0 || !memmem(m.message.data, m.message.len, part,
													 strlen(part)))
		fail_msg("%s %.*s, wanted %s %s", m.sqlstate, (int) m.message.len, m.message.data,
				 sqlstate, part);
}

/* All counters are back at zero. */
static UNUSED void
check_idle(void)
{
	reply		r = {0};
	g2_info		info;

	run_idle();
	g2_engine_submit(client_of(&r), 0, G2_MSG_INFO, NULL, 0);
	assert_int_equal(r.type, G2_MSG_INFO_ROW);
	assert_true(g2_info_decode(r.data, r.len, &info));
	assert_int_equal(info.live_requests, 1);	/* itself */
	assert_int_equal(info.live_sequences, 0);
	assert_int_equal(info.kv_blocks_used, 0);
	assert_int_equal(g2_engine_live(engine), 0);
	free_replies(&r, 1);
	leave(&r);
}

static UNUSED void
close_engine(void)
{
	check_idle();
	abandon_engine();
}

static UNUSED void
same_answer(const reply *a, const reply *b)
{
	assert_int_equal(a->type, G2_MSG_COMPLETIONS);
	assert_int_equal(b->type, G2_MSG_COMPLETIONS);
	assert_true(same_completions(a->data, a->len, b->data, b->len));
}

static UNUSED int
set_up(void **state)
{
	(void) state;
	make_models();
	return 0;
}

static UNUSED int
tear_down(void **state)
{
	(void) state;
	fixture_close(&places);
	return 0;
}

#endif							/* ENGINE_DRIVER_H */
