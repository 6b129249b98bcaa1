/*
 * serve.c: gpt2_train serve: one training for one backend (engine/protocol_train.h), started by the
 * supervisor with the backend's connection.
 *
 * The main thread reads the rows, trains and says what it has to say.  While it trains, another
 * thread waits for the end of the connection, which cancels the training; so does SIGTERM.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "commands.h"
#include "connection.h"
#include "file.h"
#include "job.h"
#include "pool.h"
#include "spool.h"

#define LOCK_WAIT_MS 10000		/* for a process that writes its last checkpoint */
#define MAX_UNSENT (1u << 16)	/* of notices; more are lost */
#define KEEP_SECONDS (14 * 24 * 3600)	/* of a training that nobody goes on with */
#define PROGRESS_ROWS 1000
#define LOOK_MS 1000			/* between two looks for a signal, while nothing is said */

typedef struct serving
{
	g2_connection connection;
	g2_buf		payload;		/* of TRAIN; the options point into it */
	g2_train	options;
	g2t_job		job;
	pthread_t	watcher;
	bool		watches;
} serving;

/* Also set by a signal's handler. */
static atomic_bool cancel;
static atomic_bool terminated;

/* ---- frames ---- */

static void
send_frame(serving *s, int type, const g2_writer *w)
{
	g2_connection_send(&s->connection, (g2_message) type, 0, w->data, w->len);
	(void) g2_connection_flush(&s->connection);
}

/* Waits until all is sent, or nobody takes it. */
static void
send_rest(serving *s)
{
	struct pollfd p = {.fd = s->connection.fd, .events = POLLOUT};

	while (!s->connection.failed && !g2_connection_flush(&s->connection))
		if (poll(&p, 1, 1000) <= 0 || (p.revents & (POLLERR | POLLHUP)))
			break;
}

static void
send_notice(void *arg, g2_level level, const char *message, const char *hint)
{
	serving    *s = arg;
	g2_writer	w = {.grow = s->connection.out.grow};

	if (s->connection.out.len - s->connection.out_sent > MAX_UNSENT)
		return;
	g2_notice_encode(&w, level, message, hint ? hint : "");
	if (!w.failed)
		send_frame(s, G2_MSG_NOTICE, &w);
	g2_free(w.data);
}

static void
send_error(serving *s, const g2_error *err)
{
	g2_writer	w = {.grow = s->connection.out.grow};

	g2_error_encode(&w, g2_sqlstate(err->code), err->message, err->detail, err->hint, false);
	if (!w.failed)
		send_frame(s, G2_MSG_ERROR, &w);
	g2_free(w.data);
}

/* The next frame; false at the connection's end. */
static bool
receive(serving *s, g2_frame *frame, const char **payload, g2_error *err)
{
	struct pollfd p = {.fd = s->connection.fd, .events = POLLIN};

	for (;;)
	{
		if (g2_connection_next(&s->connection, frame, payload))
			return true;
		if (atomic_load(&cancel) || s->connection.failed)
			return g2_fail(err, G2_E_CANCELED, "canceling training due to user request");
		/* A signal may come just before. */
		if (poll(&p, 1, LOOK_MS) > 0)
			g2_connection_fill(&s->connection);
	}
}

static bool
fail_frame(g2_error *err)
{
	return g2_fail(err, G2_E_INTERNAL, "malformed message to gpt2_train");
}

/* ---- what is asked for ---- */

static bool
greet(serving *s, g2_error *err)
{
	g2_frame	frame;
	const char *payload;
	g2_hello	hello;
	struct ucred peer;
	socklen_t	len = sizeof peer;

	if (getsockopt(s->connection.fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0 ||
		peer.uid != geteuid())
		return g2_fail(err, G2_E_PERMISSION, "gpt2_train serves processes of its own user only");
	if (!receive(s, &frame, &payload, err))
		return false;
	if (frame.type != G2_MSG_HELLO || !g2_hello_decode(payload, frame.length, &hello) ||
		hello.magic != G2_PROTOCOL_MAGIC)
		return fail_frame(err);
	s->job.progress.pid = hello.pid;
	if (hello.major == G2_PROTOCOL_MAJOR)
		return true;
	g2_fail(err, G2_E_VERSION, "gpt2_train speaks protocol %d, the library protocol %u",
			G2_PROTOCOL_MAJOR, hello.major);
	return g2_fail_hint(err, "Reconnect, so that the installed library is loaded.");
}

static bool
read_options(serving *s, g2_error *err)
{
	g2_frame	frame;
	const char *payload;

	if (!receive(s, &frame, &payload, err))
		return false;
	if (frame.type != G2_MSG_TRAIN)
		return fail_frame(err);
	if (!g2_buf_append(&s->payload, payload, frame.length))
		return g2_fail_memory(err, frame.length);
	if (!g2_train_decode(s->payload.data, s->payload.len, &s->options))
		return fail_frame(err);
	return g2t_job_check(&s->options, err);
}

/* ---- rows ---- */

static bool
write_rows(serving *s, g2t_writer *w, const char *payload, size_t len, g2_error *err)
{
	g2_reader	r = g2_read(payload, len);
	g2_train_row row;

	while (g2_train_row_get(&r, &row))
	{
		if (!g2t_spool_write(w, row.has_prompt != 0, row.prompt.data, row.prompt.len,
							 row.text.data, row.text.len, err))
			return false;
		if (s->job.progress.rows++ % PROGRESS_ROWS == 0)
			g2t_progress(&s->job, G2_TRAIN_READING);
	}
	return !r.failed || fail_frame(err);
}

static bool
receive_rows(serving *s, g2t_writer *w, g2_error *err)
{
	for (;;)
	{
		g2_frame	frame;
		const char *payload;
		g2_reader	r;
		uint64_t	nulls;

		if (!receive(s, &frame, &payload, err))
			return false;
		if (frame.type == G2_MSG_TRAIN_ROWS)
		{
			if (!write_rows(s, w, payload, frame.length, err))
				return false;
			continue;
		}
		if (frame.type != G2_MSG_TRAIN_ROWS_END)
			return fail_frame(err);
		r = g2_read(payload, frame.length);
		nulls = g2_get_u64(&r);
		if (nulls > 0)
			g2t_notice(&s->job, G2_LEVEL_NOTICE, NULL, "%llu rows are NULL and are left out",
					   (unsigned long long) nulls);
		return g2t_writer_finish(w, err);
	}
}

static bool
get_rows(serving *s, g2_error *err)
{
	bool		wants = !g2t_place_has(&s->job.place, G2T_ROWS_FILE),
				ok = true;
	g2_writer	w = {.grow = s->connection.out.grow};
	g2t_writer	rows;

	g2t_progress(&s->job, G2_TRAIN_READING);
	g2_put_u32(&w, wants);
	if (!w.failed)
		send_frame(s, G2_MSG_TRAIN_READY, &w);
	g2_free(w.data);
	if (!wants)
	{
		g2t_notice(&s->job, G2_LEVEL_NOTICE, "Another seed begins anew, with the rows of now.",
				   "going on with the rows that were read before");
		return true;
	}
	ok = g2t_writer_open(&s->job.place, G2T_ROWS_FILE, &rows, err) && receive_rows(s, &rows, err);
	g2t_writer_close(&rows);
	return ok;
}

/* ---- the training ---- */

/* The backend has nothing more to say: whatever comes is its end. */
static void *
watch(void *arg)
{
	struct pollfd p = {.fd = *(int *) arg, .events = POLLIN | POLLRDHUP};

	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
	atomic_store(&cancel, true);
	return NULL;
}

static bool
start_watcher(serving *s, g2_error *err)
{
	sigset_t	all,
				old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	s->watches = pthread_create(&s->watcher, NULL, watch, &s->connection.fd) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return s->watches || g2_fail(err, G2_E_SYSTEM, "could not start a thread");
}

/* Nothing is worth going on with: no rows, or the same would only fail again. */
static bool
is_vain(const serving *s, g2_code code)
{
	const g2t_place *place = &s->job.place;

	return !g2t_place_has(place, G2T_ROWS_FILE) || code == G2_E_PARAM || code == G2_E_TOO_LONG ||
		code == G2_E_LIMIT || code == G2_E_UNSUPPORTED || code == G2_E_BAD_JSON ||
		code == G2_E_BAD_FILE ||
		(code == G2_E_MEMORY && !g2t_place_has(place, G2T_CHECKPOINT_FILE));
}

static void
fill_progress(serving *s)
{
	g2_train_progress *p = &s->job.progress;

	p->owner_oid = s->options.owner.oid;
	p->database = s->options.database;
	snprintf(p->model, sizeof p->model, "%s", g2t_text(s->options.model));
}

/* What a process that was killed has left of the same training, when its model was moved, is no
 * training to go on with. */
static bool
open_place(g2t_job *job, const char *name, g2_error *err)
{
	if (!g2t_place_open(G2_TRAIN_DIRECTORY, name, LOCK_WAIT_MS, &job->place, err))
		return false;
	if (!g2t_place_is_done(&job->place))
		return true;
	g2t_place_remove(&job->place);
	return g2t_place_open(G2_TRAIN_DIRECTORY, name, LOCK_WAIT_MS, &job->place, err);
}

static bool
train(serving *s, g2_error *err)
{
	g2t_job    *job = &s->job;
	char		hash[65];
	bool		ok;

	job->options = &s->options;
	job->cancel = &cancel;
	job->notice = send_notice;
	job->arg = s;
	if (!greet(s, err) || !read_options(s, err) ||
		!g2t_job_hash(&s->options, hash, job->base_hash, err))
		return false;
	job->checkpoint_seconds = s->options.checkpoint_seconds;
	fill_progress(s);
	g2_pool_be_nice(s->options.nice);
	/* opening the place says what is wrong */
	(void) mkdir(G2_TRAIN_PARENT, G2_DIRECTORY_MODE);
	if (!open_place(job, hash, err))
		return false;
	/* now that its own is in use, however old it is */
	g2t_place_purge(G2_TRAIN_DIRECTORY, KEEP_SECONDS);
	job->place.keep_free = s->options.keep_free;
	ok = g2t_target_check(&job->place, G2_TRAIN_MODELS, err) && g2t_prepare_check(job, err) &&
		get_rows(s, err) && start_watcher(s, err) && g2t_job_run(job, G2_TRAIN_MODELS, err);
	if (!ok && is_vain(s, err->code))
		g2t_place_remove(&job->place);
	g2t_place_close(&job->place);
	return ok;
}

/* ---- the command ---- */

static void
on_term(int signal_number)
{
	(void) signal_number;
	atomic_store(&terminated, true);
	atomic_store(&cancel, true);
}

bool
g2t_cmd_serve(int argc, char **argv, g2_error *err)
{
	serving		s = {.job = {.progress_fd = -1, .place.lock_fd = -1}};
	g2_error	failure = {.code = G2_OK};
	struct sigaction action = {.sa_handler = on_term};

	(void) argv;
	if (argc != 1)
		return g2_fail(err, G2_E_PARAM, "serve takes no options: PostgreSQL starts it");
	/* Rows are in its memory. */
	(void) prctl(PR_SET_DUMPABLE, 0);
	g2_memory_words("the training", "Take a smaller model or context, or lora_rank => 8.");
	sigaction(SIGTERM, &action, NULL);
	g2_connection_init(&s.connection, G2_TRAIN_FD);
	if (train(&s, &failure))
		send_frame(&s, G2_MSG_DONE, &(g2_writer) {.grow = NULL});
	else
	{
		if (failure.code == G2_E_CANCELED && atomic_load(&terminated))
		{
			g2_fail(&failure, G2_E_CANCELED, "the training was told to end");
			g2_fail_hint(&failure, "gpt2.enabled is off, or the server ends. The same CALL goes "
						 "on later from where it was.");
		}
		send_error(&s, &failure);
	}
	send_rest(&s);
	/* The watcher may still wait for the connection's end, which this process's is. */
	return true;
}
