/*
 * server.c: connections of backends, the control channel, one event loop.
 *
 * One thread does everything here.  Each turn of the loop: read what has arrived and hand the
 * requests to the engine, let the engine advance once (so that what arrived together shares a
 * step), send the answers.
 *
 * The listening socket belongs to the supervisor, so connects succeed while this process is
 * replaced; settings come over the control channel, log lines go there.
 *
 * Where no descriptor is to be had for a connection, the listening socket stays readable: it is not
 * looked at until a client has left, or for a moment, as others of the process may give one back.
 */
#include "server.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "connection.h"
#include "machine.h"

#define EVENTS 128
#define MAX_OUT (256u << 20)	/* unsent answers of one connection; beyond it is dropped */
#define MAX_LOG (1u << 20)		/* unsent log lines; more are lost */
#define ACCEPT_PAUSE_US 100000	/* after a connection that could not be accepted */
#define ACCEPT_TELL_US 60000000	/* that is told so often at most */

typedef struct client
{
	g2_connection c;			/* first */
	struct client *next;
	bool		wants_out;		/* EPOLLOUT is asked for */
	uint32_t	in_flight;		/* requests not answered yet */
	g2_client  *peer;			/* NULL until it is greeted */
} client;

typedef struct server
{
	int			epoll_fd;
	int			listen_fd;
	int			signal_fd;
	bool		accepting;		/* false before the engine is open, and in a pause */
	int64_t		accept_at;		/* the end of the pause, INT64_MAX = none */
	int64_t		accept_told_at;	/* when one was told of; 0 = never */
	bool		stop;
	bool		has_control;
	g2_connection control;
	client	   *clients;
	g2_engine  *engine;
} server;

/* What an epoll event is about; a client's events carry the client itself. */
static char tag_listen,
			tag_control,
			tag_engine,
			tag_signal;

/* ---- logging ---- */

static void
log_line(void *arg, g2_level level, const char *message)
{
	server	   *s = arg;
	g2_writer	w = {.grow = NULL};

	if (!s->has_control)
	{
		fprintf(stderr, "gpt2_engine: %s\n", message);
		return;
	}
	if (s->control.out.len - s->control.out_sent > MAX_LOG)
		return;
	w.grow = s->control.out.grow;
	g2_notice_encode(&w, level, message, "");
	if (!w.failed)
		g2_connection_send(&s->control, G2_MSG_LOG, 0, w.data, w.len);
	g2_free(w.data);
}

/* ---- epoll ---- */

static bool
watch(server *s, int fd, uint32_t events, void *tag, g2_error *err)
{
	struct epoll_event event = {.events = events, .data.ptr = tag};

	if (epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0)
		return true;
	return g2_fail_errno(err, errno, "watch", "a descriptor");
}

static void
watch_out(server *s, client *c, bool on)
{
	struct epoll_event event = {
		.events = EPOLLIN | EPOLLRDHUP | (on ? EPOLLOUT : 0),
		.data.ptr = c,
	};

	if (c->wants_out == on)
		return;
	c->wants_out = on;
	epoll_ctl(s->epoll_fd, EPOLL_CTL_MOD, c->c.fd, &event);
}

/* ---- when to accept ---- */

static void
pause_accepting(server *s, int cause)
{
	int64_t		now = g2_now_us();
	char		message[256];

	epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, s->listen_fd, NULL);
	s->accepting = false;
	s->accept_at = now + ACCEPT_PAUSE_US;
	if (s->accept_told_at != 0 && now - s->accept_told_at < ACCEPT_TELL_US)
		return;
	s->accept_told_at = now;
	snprintf(message, sizeof message, "could not accept a connection: %s; it is tried again",
			 strerror(cause));
	log_line(s, G2_LEVEL_WARNING, message);
}

static void
accept_again(server *s)
{
	s->accepting = watch(s, s->listen_fd, EPOLLIN, &tag_listen, NULL);
	s->accept_at = s->accepting ? INT64_MAX : g2_now_us() + ACCEPT_PAUSE_US;
}

/* ---- clients ---- */

static void
on_answer(void *owner, g2_message type, uint64_t id, const void *payload, size_t len)
{
	client	   *c = owner;

	g2_connection_send(&c->c, type, id, payload, len);
	if (type != G2_MSG_NOTICE && type != G2_MSG_STREAM)
		c->in_flight--;
	if (c->c.out.len - c->c.out_sent > MAX_OUT)
		c->c.failed = true;
}

static void
greet(server *s, client *c, const char *payload, size_t len)
{
	g2_hello	hello;
	g2_writer	w = {.grow = c->c.out.grow};
	g2_welcome	welcome = {
		.major = G2_PROTOCOL_MAJOR,
		.minor = G2_PROTOCOL_MINOR,
		.pid = (uint32_t) getpid(),
		.engine_version = g2_span_of(G2_VERSION),
	};

	if (!g2_hello_decode(payload, len, &hello) || hello.magic != G2_PROTOCOL_MAGIC)
	{
		c->c.failed = true;
		return;
	}
	if (hello.major != G2_PROTOCOL_MAJOR)
	{
		char		message[128];

		snprintf(message, sizeof message,
				 "the engine speaks protocol %d, the library protocol %u", G2_PROTOCOL_MAJOR,
				 hello.major);
		g2_connection_send_error(&c->c, 0, "55000", message,
								 "Reconnect, so that the new library is loaded.");
		g2_connection_flush(&c->c);
		c->c.failed = true;
		return;
	}
	if (!g2_engine_attach(s->engine, c, on_answer, &hello, &c->peer, NULL))
	{
		c->c.failed = true;
		return;
	}
	g2_welcome_encode(&w, &welcome);
	if (!w.failed)
		g2_connection_send(&c->c, G2_MSG_WELCOME, 0, w.data, w.len);
	g2_free(w.data);
}

static void
on_frame(server *s, client *c, const g2_frame *frame, const char *payload)
{
	g2_error	err;

	if (!c->peer)
	{
		if (frame->type == G2_MSG_HELLO)
			greet(s, c, payload, frame->length);
		else
			c->c.failed = true;
		return;
	}
	switch ((g2_message) frame->type)
	{
		case G2_MSG_CANCEL:
			if (g2_engine_cancel(c->peer, frame->id))
				c->in_flight--;
			break;
		case G2_MSG_SESSION:
		case G2_MSG_ACCESS:
		case G2_MSG_PROGRESS:
		case G2_MSG_PARK:
			if (!g2_engine_tell(c->peer, (g2_message) frame->type, payload, frame->length, &err))
			{
				log_line(s, G2_LEVEL_WARNING, err.message);
				c->c.failed = true;
			}
			break;
		case G2_MSG_GENERATE:
		case G2_MSG_SCORE:
		case G2_MSG_TOKENIZE:
		case G2_MSG_DETOKENIZE:
		case G2_MSG_LOAD:
		case G2_MSG_CHECK_MODEL:
		case G2_MSG_UNLOAD:
		case G2_MSG_MODELS:
		case G2_MSG_INFO:
		case G2_MSG_REQUESTS:
		case G2_MSG_USAGE:
		case G2_MSG_USAGE_RESET:
		case G2_MSG_ENGINE:
		case G2_MSG_PROGRESSES:
		case G2_MSG_RESTART:
			if (c->in_flight >= G2_MAX_IN_FLIGHT)
			{
				g2_connection_send_error(&c->c, frame->id, "53400",
										 "too many requests in flight on one connection",
										 "Wait for the answers of some.");
				break;
			}
			c->in_flight++;
			g2_engine_submit(c->peer, frame->id, (g2_message) frame->type, payload,
							 frame->length);
			break;
		default:
			/* A request of a later minor version. */
			g2_connection_send_error(&c->c, frame->id, "55000",
									 "the engine does not know this request",
									 "Restart the engine: it is older than the library.");
			break;
	}
}

static void
on_client(server *s, client *c, uint32_t events)
{
	g2_frame	frame;
	const char *payload;

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP))
		g2_connection_fill(&c->c);
	while (!c->c.failed && g2_connection_next(&c->c, &frame, &payload))
		on_frame(s, c, &frame, payload);
}

/* Answers leave; clients that failed are forgotten, with all that they asked for. */
static void
settle_clients(server *s)
{
	for (client **at = &s->clients; *at;)
	{
		client	   *c = *at;

		if (!c->c.failed)
			watch_out(s, c, !g2_connection_flush(&c->c));
		if (!c->c.failed)
		{
			at = &c->next;
			continue;
		}
		if (c->peer)
			g2_engine_detach(c->peer);
		*at = c->next;
		g2_connection_close(&c->c);
		g2_free(c);
		if (!s->accepting)
			accept_again(s);
	}
}

static void
accept_clients(server *s)
{
	for (;;)
	{
		int			fd = accept4(s->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		client	   *c;

		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0)
		{
			if (errno != EAGAIN && errno != EWOULDBLOCK)
				pause_accepting(s, errno);
			return;
		}
		c = g2_connection_is_own_user(fd) ? g2_alloc(sizeof *c) : NULL;
		if (!c)
		{
			close(fd);
			continue;
		}
		g2_connection_init(&c->c, fd);
		if (!watch(s, fd, EPOLLIN | EPOLLRDHUP, c, NULL))
		{
			g2_connection_close(&c->c);
			g2_free(c);
			continue;
		}
		c->next = s->clients;
		s->clients = c;
	}
}

/* ---- control channel ---- */

/* The engine opens with the first settings; only then are connections accepted. */
static bool
open_engine(server *s, const g2_settings *settings, g2_error *err)
{
	if (s->has_control && !g2_machine_nice_session(settings->nice))
		log_line(s, G2_LEVEL_DEBUG, "the nice value of the engine's session could not be set");
	if (!g2_engine_open(settings, log_line, s, &s->engine, err))
		return false;
	s->accepting = true;
	if (!watch(s, g2_engine_fd(s->engine), EPOLLIN, &tag_engine, err) ||
		!watch(s, s->listen_fd, EPOLLIN, &tag_listen, err))
		return false;
	if (s->has_control)
		g2_connection_send(&s->control, G2_MSG_READY, 0, NULL, 0);
	return true;
}

static bool
on_settings(server *s, const char *payload, size_t len, g2_error *err)
{
	g2_settings settings;

	if (!g2_settings_decode(payload, len, &settings))
		return g2_fail(err, G2_E_INTERNAL, "malformed settings");
	if (!s->engine)
		return open_engine(s, &settings, err);
	if (!g2_engine_configure(s->engine, &settings, err))
		log_line(s, G2_LEVEL_WARNING, err->message);
	return true;
}

static bool
on_control(server *s, g2_error *err)
{
	g2_frame	frame;
	const char *payload;

	g2_connection_fill(&s->control);
	while (g2_connection_next(&s->control, &frame, &payload))
		if (frame.type == G2_MSG_SETTINGS && !on_settings(s, payload, frame.length, err))
			return false;
	if (s->control.failed)
		s->stop = true;			/* the supervisor is gone */
	return true;
}

/* ---- the loop ---- */

/* The engine ends by itself; one that is idle says so, or it would be started again. */
static void
end_if_wanted(server *s)
{
	g2_ending	ending = g2_engine_ending(s->engine);

	if (ending == G2_ENDING_NONE)
		return;
	s->stop = true;
	if (ending == G2_ENDING_IDLE && s->has_control)
		g2_connection_send(&s->control, G2_MSG_IDLE, 0, NULL, 0);
}

/* For epoll: until accepting goes on, rounded up. */
static int
wait_ms(const server *s)
{
	if (s->accept_at == INT64_MAX)
		return -1;
	return (int) (G2_MAX(s->accept_at - g2_now_us(), 0) / 1000) + 1;
}

static bool
turn(server *s, g2_error *err)
{
	struct epoll_event events[EVENTS];
	int			n = epoll_wait(s->epoll_fd, events, EVENTS, wait_ms(s));

	if (n < 0 && errno != EINTR)
		return g2_fail_errno(err, errno, "wait for", "events");
	for (int i = 0; i < n; i++)
	{
		void	   *tag = events[i].data.ptr;

		if (tag == &tag_listen)
			accept_clients(s);
		else if (tag == &tag_signal)
			s->stop = true;
		else if (tag == &tag_control)
		{
			if (!on_control(s, err))
				return false;
		}
		else if (tag != &tag_engine)
			on_client(s, tag, events[i].events);
	}
	if (s->engine)
	{
		g2_engine_run(s->engine);
		settle_clients(s);
		end_if_wanted(s);
		if (g2_engine_ending(s->engine) == G2_ENDING_LOST)
			return g2_fail(err, G2_E_SYSTEM, "the CUDA device was lost");
	}
	if (g2_now_us() >= s->accept_at)
		accept_again(s);
	if (s->has_control)
		g2_connection_flush(&s->control);
	return true;
}

static bool
open_server(server *s, const g2_server_options *options, g2_error *err)
{
	sigset_t	term;

	s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, NULL);
	s->signal_fd = signalfd(-1, &term, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->epoll_fd < 0 || s->signal_fd < 0)
		return g2_fail_errno(err, errno, "set up", "event descriptors");
	if (!watch(s, s->signal_fd, EPOLLIN, &tag_signal, err))
		return false;
	if (s->has_control)
		return watch(s, options->control_fd, EPOLLIN | EPOLLRDHUP, &tag_control, err);
	return open_engine(s, options->settings, err);
}

bool
g2_serve(const g2_server_options *options, g2_error *err)
{
	server		s = {
		.epoll_fd = -1,
		.signal_fd = -1,
		.listen_fd = options->listen_fd,
		.has_control = options->control_fd >= 0,
		.accept_at = INT64_MAX,
	};
	bool		ok;

	signal(SIGPIPE, SIG_IGN);
	g2_connection_init(&s.control, options->control_fd);
	ok = open_server(&s, options, err);
	while (ok && !s.stop)
		ok = turn(&s, err);
	if (!ok && s.has_control)
	{
		/* The supervisor may be slow to read, but it is not to miss the reason. */
		log_line(&s, G2_LEVEL_WARNING, err->message);
		g2_connection_flush(&s.control);
	}
	for (client *c = s.clients; c; c = c->next)
	{
		/* So that this is not taken for a crash. */
		g2_connection_send(&c->c, G2_MSG_GOODBYE, 0, NULL, 0);
		g2_connection_flush(&c->c);
		c->c.failed = true;
	}
	if (s.engine)
		settle_clients(&s);
	g2_engine_close(s.engine);
	g2_connection_close(&s.control);
	if (s.signal_fd >= 0)
		close(s.signal_fd);
	if (s.epoll_fd >= 0)
		close(s.epoll_fd);
	return ok;
}
