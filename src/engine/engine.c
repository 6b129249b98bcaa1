/*
 * engine.c: requests from arrival to answer.
 *
 * Phases of a request: decoded and checked -> (its model is loading: waits) -> helper thread ->
 * group in the scheduler -> answered and freed.  A cancelled request is marked; it is freed where
 * its phase ends: at once, when its job ends, or when its group is given up.
 *
 * Everything here belongs to the thread that calls g2_engine_run.
 */
#include "engine.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "answer.h"
#include "machine.h"
#include "scheduler.h"

#define HELPER_THREADS 2
#define LONG_TEXT 65536			/* requests above it queue for a thread of their own */
#define MAX_HELD ((uint64_t) 1 << 30)	/* bytes of all requests that are not answered yet */
#define BIG_REQUEST (1u << 20)	/* such requests get only half of MAX_HELD */
#define TELL_LOADING_US 1000000	/* a wait for a model that lasts longer is told */

struct g2_engine
{
	int			epoll_fd;
	int			device_fd;		/* eventfd of the back end */
	int			helper_fd;		/* eventfd of helper and registry */
	int			timer_fd;		/* for notices about loads */
	bool		timer_on;
	const g2_backend_api *api;
	g2_backend *backend;
	g2_helper  *helper;
	g2_helper  *long_helper;	/* so that long texts hold up nobody but each other */
	g2_registry *registry;
	g2_scheduler *scheduler;
	g2_people	people;
	g2_kv_pool	kv_pool;
	g2_request *first;
	g2_request *last;
	uint32_t	n_requests;
	uint64_t	held_bytes;		/* their payloads */
	uint32_t	threads;
	int64_t		started_at;		/* wall clock, microseconds since 1970 */
	g2_log_fn	log;
	void	   *log_arg;
};

struct g2_client
{
	g2_engine  *engine;
	void	   *owner;
	g2_answer_fn answer;
	uint32_t	pid;
	uint32_t	database;
	g2_session *session;		/* of its session user, by now */
};

static void request_ready(g2_request *request);

static void engine_log(g2_engine *engine, g2_level level, const char *fmt,...) G2_PRINTF(3, 4);

static void
engine_log(g2_engine *engine, g2_level level, const char *fmt,...)
{
	char		line[1024];
	va_list		ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	engine->log(engine->log_arg, level, line);
}

/* ---- the list of requests ---- */

static void
link_request(g2_engine *engine, g2_request *request)
{
	request->prev = engine->last;
	if (engine->last)
		engine->last->next = request;
	else
		engine->first = request;
	engine->last = request;
	engine->n_requests++;
}

static void
free_request(g2_request *request)
{
	g2_engine  *engine = request->engine;

	if (request->prev)
		request->prev->next = request->next;
	else
		engine->first = request->next;
	if (request->next)
		request->next->prev = request->prev;
	else
		engine->last = request->prev;
	engine->n_requests--;
	engine->held_bytes -= request->payload.len;
	if (request->model)
		g2_registry_release(request->model);
	g2_request_clear(request);
	g2_session_release(request->session);
	g2_free(request);
}

/* ---- models ---- */

static void
arm_timer(g2_engine *engine, bool on)
{
	const struct itimerspec t = {
		.it_interval.tv_sec = on,
		.it_value.tv_sec = on,
	};

	/* Set again by every arrival it would never expire. */
	if (engine->timer_on == on)
		return;
	engine->timer_on = on;
	timerfd_settime(engine->timer_fd, 0, &t, NULL);
}

/* Who has waited for a model for a second is told so, once. */
static void
tell_loading(g2_engine *engine)
{
	bool		waiting = false;
	int64_t		now = g2_now_us();
	char		message[384];

	for (g2_request *r = engine->first; r; r = r->next)
	{
		if (r->phase != G2_PHASE_MODEL || r->told_loading)
			continue;
		waiting = true;
		if (now - r->arrived_us < TELL_LOADING_US)
			continue;
		if (atomic_load(&r->model->packing_bytes) > 0)
			snprintf(message, sizeof message,
					 "loading model \"%s\" (first use, packing %.1f MB)", r->model->name,
					 (double) atomic_load(&r->model->packing_bytes) / 1e6);
		else
			snprintf(message, sizeof message, "loading model \"%s\"", r->model->name);
		g2_answer_notice(r, G2_LEVEL_NOTICE, message);
		r->told_loading = true;
	}
	if (!waiting)
		arm_timer(engine, false);
}

static void
log_load(g2_engine *engine, const g2_model *model)
{
	const g2_pack *pack = model->pack;

	if (model->state == G2_MODEL_FAILED)
	{
		engine_log(engine, G2_LEVEL_LOG, "could not load model \"%s\": %s", model->name,
				   model->error.message);
		return;
	}
	engine_log(engine, G2_LEVEL_LOG, "loaded model \"%s\" (%s, %.1f million parameters) in %.0f ms",
			   model->name, g2_format_name(model->format),
			   (double) pack->description.parameters / 1e6,
			   (double) (g2_now_us() - model->load_started) / 1e3);
	for (uint32_t i = 0; i < pack->description.n_warnings; i++)
		engine_log(engine, G2_LEVEL_WARNING, "model \"%s\": %s", model->name,
				   pack->description.warning[i]);
}

/* A load has ended: those that waited go on, or get its error. */
static void
model_loaded(void *arg, g2_model *model)
{
	g2_engine  *engine = arg;
	g2_request *next;

	log_load(engine, model);
	for (g2_request *r = engine->first; r; r = next)
	{
		next = r->next;
		if (r->phase != G2_PHASE_MODEL || r->model != model)
			continue;
		if (model->state == G2_MODEL_LOADED)
		{
			for (uint32_t i = 0; i < model->pack->description.n_warnings; i++)
				g2_answer_notice(r, G2_LEVEL_WARNING, model->pack->description.warning[i]);
			request_ready(r);
		}
		else
		{
			g2_answer_error(r, &model->error);
			free_request(r);
		}
	}
}

/* ---- work and groups ---- */

static void
group_done(g2_group *group, const g2_error *error)
{
	g2_request *request = group->o.user;
	g2_error	err;

	if (atomic_load(&request->canceled))
		;						/* nobody listens */
	else if (error)
		g2_answer_error(request, error);
	else
	{
		g2_writer	w = g2_answer_writer();

		if (g2_group_answer(group, (uint64_t) (g2_now_us() - request->arrived_us), &w, &err))
			g2_answer(request, G2_MSG_COMPLETIONS, &w);
		else
		{
			g2_answer_free(&w);
			g2_answer_error(request, &err);
		}
	}
	g2_group_free(group);
	free_request(request);
}

static void
group_stream(g2_group *group, const g2_stream *token)
{
	g2_request *request = group->o.user;

	if (!atomic_load(&request->canceled))
		g2_answer_stream(request, token);
}

static bool
start_group(g2_request *request, g2_error *err)
{
	g2_group_options options;

	g2_request_group_options(request, &options);
	options.done = group_done;
	if (request->m.generate.flags & G2_GEN_STREAM)
		options.stream = group_stream;
	options.user = request;
	if (!g2_group_new(&options, &request->ids, &request->group, err))
		return false;
	if (!g2_scheduler_add(request->engine->scheduler, request->group, err))
	{
		g2_group_free(request->group);
		return false;
	}
	request->phase = G2_PHASE_GROUP;
	return true;
}

static void
work_run(g2_job *job)
{
	g2_request *request = (g2_request *) job;

	if (!atomic_load(&request->canceled))
		g2_request_work(request);
}

static void
work_done(g2_job *job)
{
	g2_request *request = (g2_request *) job;
	g2_writer	w = g2_answer_writer();

	if (atomic_load(&request->canceled))
	{
		free_request(request);
		return;
	}
	if (!request->ok)
		g2_answer_error(request, &request->error);
	else if (request->type == G2_MSG_GENERATE)
	{
		if (start_group(request, &request->error))
			return;
		g2_answer_error(request, &request->error);
	}
	else if (request->type == G2_MSG_TOKENIZE)
	{
		static const uint32_t none = 0;

		/* No ids are an empty array; NULL is for those who only count. */
		g2_tokens_encode(&w, (uint32_t) request->ids.len, request->m.tokenize.count_only ? NULL :
						 request->ids.len > 0 ? request->ids.data : &none);
		g2_answer(request, G2_MSG_TOKENS, &w);
	}
	else
	{
		g2_put_span(&w, (g2_span) {request->text.data, (uint32_t) request->text.len});
		g2_answer(request, G2_MSG_TEXT, &w);
	}
	free_request(request);
}

/* The model is there. */
static void
request_ready(g2_request *request)
{
	g2_writer	w = g2_answer_writer();

	if (request->type == G2_MSG_LOAD)
	{
		g2_answer(request, G2_MSG_DONE, &w);
		free_request(request);
		return;
	}
	request->phase = G2_PHASE_WORK;
	request->job.run = work_run;
	request->job.done = work_done;
	g2_helper_submit(request->payload.len > LONG_TEXT ? request->engine->long_helper :
					 request->engine->helper, &request->job);
}

/* ---- requests that are answered at once ---- */

static void
encode_info(const g2_engine *engine, g2_writer *w)
{
	g2_info		info = {
		.version = g2_span_of(G2_VERSION),
		.arithmetic = g2_span_of(engine->api->arithmetic(engine->backend, G2_FORMAT_F32)),
		.isa = g2_span_of(engine->api->isa(engine->backend)),
		.threads = engine->threads,
		.supervisor_pid = (uint32_t) getppid(),
		.engine_pid = (uint32_t) getpid(),
		.started_at = engine->started_at,
		.live_requests = engine->n_requests,
		.live_sequences = g2_scheduler_live(engine->scheduler),
	};

	for (const g2_model *m = g2_registry_models(engine->registry); m; m = m->next)
		if (m->state == G2_MODEL_LOADED)
		{
			info.kv_blocks_total += m->kv.n_blocks;
			info.kv_blocks_used += g2_kv_held(&m->kv);
		}
	g2_info_encode(w, &info);
}

static void
answer_at_once(g2_request *request)
{
	g2_engine  *engine = request->engine;
	g2_writer	w = g2_answer_writer();
	g2_reader	r = g2_read(request->payload.data, request->payload.len);
	g2_span		name;
	g2_error	err;

	switch (request->type)
	{
		case G2_MSG_INFO:
			encode_info(engine, &w);
			g2_answer(request, G2_MSG_INFO_ROW, &w);
			break;
		case G2_MSG_MODELS:
			g2_answer_models(engine->registry, engine->api->name, &w);
			g2_answer(request, G2_MSG_MODEL_LIST, &w);
			break;
		default:
			name = g2_get_span(&r);
			if (r.failed)
			{
				g2_fail(&err, G2_E_INTERNAL, "malformed request of type %d", (int) request->type);
				g2_answer_error(request, &err);
			}
			else if (g2_registry_unload(engine->registry, name, &err))
			{
				engine_log(engine, G2_LEVEL_LOG, "unloaded model \"%.*s\"", (int) name.len,
						   name.data);
				g2_answer(request, G2_MSG_DONE, &w);
			}
			else
				g2_answer_error(request, &err);
			break;
	}
	free_request(request);
}

/* ---- arrival ---- */

static bool
start_request(g2_request *request, g2_error *err)
{
	g2_span		name,
				format;

	if (!g2_request_decode(request, err))
		return false;
	name = g2_request_model(request, &format);
	if (!g2_registry_hold(request->engine->registry, name, format, &request->model, err))
		return false;
	if (request->model->state == G2_MODEL_LOADED)
		request_ready(request);
	else
	{
		request->phase = G2_PHASE_MODEL;
		arm_timer(request->engine, true);
	}
	return true;
}

/* Keeps the payload, if there is room for it. */
static bool
keep_payload(g2_request *request, const void *payload, size_t len, g2_error *err)
{
	g2_engine  *engine = request->engine;
	uint64_t	limit = len > BIG_REQUEST ? MAX_HELD / 2 : MAX_HELD;

	if (engine->held_bytes + len > limit)
	{
		g2_fail(err, G2_E_LIMIT, "the requests in flight hold more than %llu MB",
				(unsigned long long) (limit >> 20));
		return g2_fail_hint(err, "Retry when others are done, or send shorter texts.");
	}
	if (!g2_buf_append(&request->payload, payload, len))
		return g2_fail_memory(err, len);
	engine->held_bytes += len;
	return true;
}

void
g2_engine_submit(g2_client *client, uint64_t id, g2_message type, const void *payload, size_t len)
{
	g2_engine  *engine = client->engine;
	g2_request *request = g2_alloc(sizeof *request);
	g2_error	err;

	if (!request)
	{
		g2_request	fallback = {.answer = client->answer, .owner = client->owner, .id = id};

		g2_fail_memory(&err, sizeof *request);
		g2_answer_error(&fallback, &err);
		return;
	}
	request->engine = engine;
	request->client = client;
	request->session = client->session;
	request->owner = client->owner;
	request->answer = client->answer;
	request->id = id;
	request->type = type;
	request->arrived_us = g2_now_us();
	g2_session_hold(request->session);
	link_request(engine, request);
	if (keep_payload(request, payload, len, &err))
	{
		if (type == G2_MSG_INFO || type == G2_MSG_MODELS || type == G2_MSG_UNLOAD)
		{
			answer_at_once(request);
			return;
		}
		if (start_request(request, &err))
			return;
	}
	g2_answer_error(request, &err);
	free_request(request);
}

static void
cancel_request(g2_request *request)
{
	atomic_store(&request->canceled, true);
	request->client = NULL;
	if (request->phase == G2_PHASE_MODEL)
		free_request(request);
	else if (request->phase == G2_PHASE_GROUP)
		g2_scheduler_cancel(request->engine->scheduler, request->group);
}

bool
g2_engine_cancel(g2_client *client, uint64_t id)
{
	for (g2_request *r = client->engine->first; r; r = r->next)
		if (r->client == client && r->id == id)
		{
			cancel_request(r);
			return true;
		}
	return false;
}

/* ---- clients ---- */

bool
g2_engine_attach(g2_engine *engine, void *owner, g2_answer_fn answer, const g2_hello *hello,
				 g2_client **out, g2_error *err)
{
	g2_client  *client = g2_alloc(sizeof *client);

	if (!client)
		return g2_fail_memory(err, sizeof *client);
	*client = (g2_client) {
		.engine = engine, .owner = owner, .answer = answer, .pid = hello->pid,
		.database = hello->database,
	};
	if (!g2_session_open(&engine->people, hello->pid, hello->database, hello->session_user,
						 &client->session, err))
	{
		g2_free(client);
		return false;
	}
	*out = client;
	return true;
}

void
g2_engine_detach(g2_client *client)
{
	for (g2_request *r = client->engine->first, *next; r; r = next)
	{
		next = r->next;
		if (r->client == client)
			cancel_request(r);
	}
	g2_session_close(client->session);
	g2_free(client);
}

static bool
set_session(g2_client *client, const g2_session_message *m, g2_error *err)
{
	g2_session *session;

	if (client->session->role->oid != m->session_user)
	{
		if (!g2_session_open(&client->engine->people, client->pid, client->database,
							 m->session_user, &session, err))
			return false;
		g2_session_close(client->session);
		client->session = session;
	}
	g2_session_set(client->session, m);
	return true;
}

bool
g2_engine_tell(g2_client *client, g2_message type, const void *payload, size_t len, g2_error *err)
{
	g2_session_message session;
	g2_access	access;

	if (type == G2_MSG_SESSION && g2_session_message_decode(payload, len, &session))
		return set_session(client, &session, err);
	if (type == G2_MSG_ACCESS && g2_access_decode(payload, len, &access))
		return g2_session_grant(client->session, &access, err);
	return g2_fail(err, G2_E_INTERNAL, "malformed message of type %d", (int) type);
}

uint32_t
g2_engine_live(const g2_engine *engine)
{
	return engine->n_requests;
}

/* ---- the engine itself ---- */

static void
drain(int fd)
{
	uint64_t	count;

	while (read(fd, &count, sizeof count) > 0)
		;
}

void
g2_engine_run(g2_engine *engine)
{
	uint64_t	expired = 0;

	/* Drained before the results are taken: an end that comes after is then seen next time. */
	drain(engine->device_fd);
	drain(engine->helper_fd);
	g2_helper_collect(engine->helper);
	g2_helper_collect(engine->long_helper);
	g2_registry_collect(engine->registry);
	if (read(engine->timer_fd, &expired, sizeof expired) > 0)
		tell_loading(engine);
	g2_scheduler_run(engine->scheduler);
}

int
g2_engine_fd(const g2_engine *engine)
{
	return engine->epoll_fd;
}

bool
g2_engine_configure(g2_engine *engine, const g2_settings *settings, g2_error *err)
{
	return g2_registry_configure(engine->registry, settings, err);
}

static bool
open_descriptors(g2_engine *engine, g2_error *err)
{
	int			fds[3];

	engine->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	fds[0] = engine->device_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fds[1] = engine->helper_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fds[2] = engine->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	for (size_t i = 0; i < G2_LENGTH(fds); i++)
	{
		struct epoll_event event = {.events = EPOLLIN};

		if (fds[i] < 0 || epoll_ctl(engine->epoll_fd, EPOLL_CTL_ADD, fds[i], &event) != 0)
			return g2_fail_errno(err, errno, "set up", "event descriptors");
	}
	return true;
}

static bool
open_parts(g2_engine *engine, const g2_settings *settings, g2_error *err)
{
	char		isa[32];
	uint64_t	kv_budget = settings->kv_cache_size;
	g2_backend_options backend_options = {.slots = G2_SLOTS, .isa = isa};
	g2_registry_options registry_options = {
		.event_fd = engine->helper_fd,
		.loaded = model_loaded,
		.arg = engine,
	};

	snprintf(isa, sizeof isa, "%.*s", (int) G2_MIN(settings->cpu.len, sizeof isa - 1),
			 settings->cpu.len ? settings->cpu.data : "");
	if (!isa[0])
		strcpy(isa, "auto");
	if (kv_budget == 0)
		kv_budget = G2_MIN((uint64_t) 1 << 30, g2_machine_memory() / 8);
	engine->threads = settings->threads ? settings->threads : g2_machine_cores();
	backend_options.threads = engine->threads;
	engine->api = &g2_cpu_backend;
	if (!engine->api->open(&backend_options, engine->device_fd, &engine->backend, err))
		return false;
	registry_options.api = engine->api;
	registry_options.backend = engine->backend;
	engine->kv_pool.budget = kv_budget;
	registry_options.kv_pool = &engine->kv_pool;
	return g2_registry_open(&registry_options, &engine->registry, err) &&
		g2_registry_configure(engine->registry, settings, err) &&
		g2_helper_open(HELPER_THREADS, engine->helper_fd, &engine->helper, err) &&
		g2_helper_open(1, engine->helper_fd, &engine->long_helper, err) &&
		g2_scheduler_open(engine->api, engine->backend, engine->device_fd, &engine->people,
						  &engine->scheduler, err);
}

bool
g2_engine_open(const g2_settings *settings, g2_log_fn log, void *log_arg, g2_engine **out,
			   g2_error *err)
{
	g2_engine  *engine = g2_alloc(sizeof *engine);
	struct timespec now;

	if (!engine)
		return g2_fail_memory(err, sizeof *engine);
	engine->log = log;
	engine->log_arg = log_arg;
	g2_people_init(&engine->people);
	engine->epoll_fd = engine->device_fd = engine->helper_fd = engine->timer_fd = -1;
	clock_gettime(CLOCK_REALTIME, &now);
	engine->started_at = (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
	if (!open_descriptors(engine, err) || !open_parts(engine, settings, err))
	{
		g2_engine_close(engine);
		return false;
	}
	*out = engine;
	return true;
}

void
g2_engine_close(g2_engine *engine)
{
	if (!engine)
		return;
	for (g2_request *r = engine->first, *next; r; r = next)
	{
		next = r->next;
		cancel_request(r);
	}
	g2_helper_close(engine->helper);	/* frees the requests that it has */
	g2_helper_close(engine->long_helper);
	g2_scheduler_close(engine->scheduler);	/* likewise */
	g2_registry_close(engine->registry);
	g2_people_close(&engine->people);
	if (engine->backend)
		engine->api->close(engine->backend);
	if (engine->epoll_fd >= 0)
		close(engine->epoll_fd);
	if (engine->device_fd >= 0)
		close(engine->device_fd);
	if (engine->helper_fd >= 0)
		close(engine->helper_fd);
	if (engine->timer_fd >= 0)
		close(engine->timer_fd);
	g2_free(engine);
}
