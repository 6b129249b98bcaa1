/*
 * arrival.c: clients, and the requests that they send, up to the point where work begins.
 *
 * Phases of a request: decoded and checked -> (its model is loading: waits) -> work (work.c).  A
 * cancelled request is marked; it is freed where its phase ends: at once while it waits, when its
 * job ends, or when its group is given up.
 */
#include "arrival.h"

#include <stdio.h>

#include "answer.h"

#define MAX_HELD ((uint64_t) 1 << 30)	/* bytes of all requests that are not answered yet */
#define BIG_REQUEST (1u << 20)	/* such requests get only half of MAX_HELD */
#define TELL_LOADING_US 1000000	/* a wait for a model that lasts longer is told ... */
#define TELL_EVERY_US 100000	/* ... so often: not one by one to thousands that came together */
#define ROLE_SHARE 64			/* a role may have so many times as many requests as are left */

/* ---- the lists of requests ---- */

/* Into that of all, and that of its client. */
static void
link_request(g2_engine *engine, g2_request *request)
{
	g2_client  *client = request->client;

	request->own_prev = client->last;
	if (client->last)
		client->last->own_next = request;
	else
		client->first = request;
	client->last = request;
	request->prev = engine->last;
	if (engine->last)
		engine->last->next = request;
	else
		engine->first = request;
	engine->last = request;
	engine->n_requests++;
}

/* Nobody listens to it any more. */
static void
leave_client(g2_request *request)
{
	g2_client  *client = request->client;

	if (!client)
		return;
	if (request->own_prev)
		request->own_prev->own_next = request->own_next;
	else
		client->first = request->own_next;
	if (request->own_next)
		request->own_next->own_prev = request->own_prev;
	else
		client->last = request->own_prev;
	request->client = NULL;
}

void
g2_request_free(g2_request *request)
{
	g2_engine  *engine = request->engine;

	leave_client(request);
	if (request->prev)
		request->prev->next = request->next;
	else
		engine->first = request->next;
	if (request->next)
		request->next->prev = request->prev;
	else
		engine->last = request->prev;
	if (--engine->n_requests == 0)
		engine->idle_since = g2_now_us();
	engine->held_bytes -= request->payload.len;
	if (request->model)
		g2_registry_release(request->model);
	g2_request_clear(request, engine->grammars);
	g2_session_release(request->session);
	g2_free(request);
}

static bool
fail_disabled(g2_error *err)
{
	g2_fail(err, G2_E_CANCELED, "gpt2 is switched off");
	return g2_fail_hint(err, "It is the setting gpt2.enabled that says so.");
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
	/* Somebody has to notice; a new session may be of the new library. */
	(void) g2_engine_replaced(engine);
	*out = client;
	return true;
}

static void
cancel_request(g2_request *request)
{
	atomic_store(&request->canceled, true);
	leave_client(request);
	if (request->phase == G2_PHASE_MODEL)
		g2_request_drop(request);
	else if (request->phase == G2_PHASE_TURN)
		g2_request_withdraw(request);
	else if (request->phase == G2_PHASE_GROUP && request->group)
		g2_scheduler_cancel(request->engine->scheduler, request->group);
	else if (request->phase == G2_PHASE_GROUP)
		g2_split_cancel(request);
}

bool
g2_engine_cancel(g2_client *client, uint64_t id)
{
	g2_request *r = client->first;

	while (r && r->id != id)
		r = r->own_next;
	if (r)
		cancel_request(r);
	return r != NULL;
}

void
g2_engine_detach(g2_client *client)
{
	while (client->first)
		cancel_request(client->first);
	g2_progress_forget(&client->engine->progresses, client);
	g2_session_close(client->session);
	g2_free(client);
}

void
g2_engine_cancel_all(g2_engine *engine)
{
	for (g2_request *r = engine->first, *next; r; r = next)
	{
		next = r->next;
		cancel_request(r);
	}
}

void
g2_engine_disable(g2_engine *engine)
{
	g2_error	err;

	fail_disabled(&err);
	for (g2_request *r = engine->first, *next; r; r = next)
	{
		next = r->next;
		if (!r->client)
			continue;
		g2_answer_error(r, &err);
		cancel_request(r);
	}
	engine->ending = G2_ENDING_DISABLED;
}

/* ---- requests that are answered at once ---- */

static bool
unload(g2_request *request, g2_error *err)
{
	g2_engine  *engine = request->engine;
	g2_reader	r = g2_read(request->payload.data, request->payload.len);
	g2_span		name = g2_get_span(&r);

	if (r.failed)
		return g2_fail(err, G2_E_INTERNAL, "malformed request of type %d", (int) request->type);
	if (!g2_registry_unload(engine->registry, name, err))
		return false;
	g2_engine_log(engine, G2_LEVEL_LOG, "unloaded model \"%.*s\"", (int) name.len, name.data);
	return true;
}

/* False: it is a request for work. */
static bool
answer_at_once(g2_request *request)
{
	g2_engine  *engine = request->engine;
	g2_writer	w = g2_answer_writer();
	g2_message	type = G2_MSG_DONE;
	g2_error	err;
	bool		ok = true;

	switch (request->type)
	{
		case G2_MSG_INFO:
		case G2_MSG_MODELS:
		case G2_MSG_REQUESTS:
		case G2_MSG_USAGE:
		case G2_MSG_ENGINE:
		case G2_MSG_PROGRESSES:
			type = g2_watch(engine, request->type, &w);
			break;
		case G2_MSG_USAGE_RESET:
			g2_usage_reset(engine->usage);
			engine->save_at = g2_now_us();
			break;
		case G2_MSG_RESTART:
			engine->ending = G2_ENDING_RESTART;
			break;
		case G2_MSG_UNLOAD:
			ok = unload(request, &err);
			break;
		default:
			return false;
	}
	if (ok)
		g2_answer(request, type, &w);
	else
		g2_answer_error(request, &err);
	g2_request_free(request);
	return true;
}

/* ---- models ---- */

/* Who has waited for a model for a second is told so, once. */
void
g2_engine_tell_loading(g2_engine *engine)
{
	int64_t		now = g2_now_us();
	char		message[384];

	engine->loading_tick = INT64_MAX;
	for (g2_request *r = engine->first; r; r = r->next)
	{
		if (r->phase != G2_PHASE_MODEL || r->told_loading)
			continue;
		if (now - r->arrived_us < TELL_LOADING_US)
		{
			engine->loading_tick = G2_MIN(engine->loading_tick,
										  G2_MAX(r->arrived_us + TELL_LOADING_US,
												 now + TELL_EVERY_US));
			continue;
		}
		if (atomic_load(&r->model->packing_bytes) > 0)
			snprintf(message, sizeof message,
					 "loading model \"%s\" (first use, packing %.1f MB)", r->model->name,
					 (double) atomic_load(&r->model->packing_bytes) / 1e6);
		else
			snprintf(message, sizeof message, "loading model \"%s\"", r->model->name);
		g2_answer_notice(r, G2_LEVEL_NOTICE, message);
		r->told_loading = true;
	}
}

static void
log_load(g2_engine *engine, const g2_model *model)
{
	const g2_pack *pack = model->pack;

	if (model->state == G2_MODEL_FAILED)
	{
		g2_engine_log(engine, G2_LEVEL_LOG, "could not load model \"%s\": %s", model->name,
					  model->error.message);
		return;
	}
	g2_engine_log(engine, G2_LEVEL_LOG,
				  "loaded model \"%s\" (%s, %.1f million parameters) in %.0f ms", model->name,
				  g2_format_name(model->format), (double) pack->description.parameters / 1e6,
				  (double) (g2_now_us() - model->load_started) / 1e3);
	for (uint32_t i = 0; i < pack->description.n_warnings; i++)
		g2_engine_log(engine, G2_LEVEL_WARNING, "model \"%s\": %s", model->name,
					  pack->description.warning[i]);
}

bool
g2_engine_permits(void *arg, g2_model *model)
{
	g2_engine  *engine = arg;
	g2_request *next;
	bool		any = false;

	for (g2_request *r = engine->first; r; r = next)
	{
		next = r->next;
		if (r->phase == G2_PHASE_MODEL && r->model == model)
			any |= g2_request_permitted(r);
	}
	return any;
}

void
g2_engine_loaded(void *arg, g2_model *model)
{
	g2_engine  *engine = arg;
	g2_request *next;

	log_load(engine, model);
	for (g2_request *r = engine->first; r; r = next)
	{
		next = r->next;
		if (r->phase != G2_PHASE_MODEL || r->model != model)
			continue;
		if (model->state != G2_MODEL_LOADED)
		{
			g2_request_refuse(r, &model->error);
			continue;
		}
		for (uint32_t i = 0; i < model->pack->description.n_warnings; i++)
			g2_answer_notice(r, G2_LEVEL_WARNING, model->pack->description.warning[i]);
		g2_request_ready(r);
	}
}

/* ---- arrival ---- */

static bool
start_request(g2_request *request, g2_error *err)
{
	g2_span		name,
				format;

	if (!g2_request_decode(request, err))
		return false;
	if (request->type == G2_MSG_CHECK_MODEL)
	{
		g2_request_check_model(request);
		return true;
	}
	name = g2_request_model(request, &format);
	if (!g2_registry_hold(request->engine->registry, name, format, g2_request_device(request),
						  &request->model, err))
		return false;
	if (request->model->state == G2_MODEL_LOADED)
		g2_request_ready(request);
	else if (g2_request_permitted(request))
	{
		request->phase = G2_PHASE_MODEL;
		request->engine->loading_tick = G2_MIN(request->engine->loading_tick,
											   request->arrived_us + TELL_LOADING_US);
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

/* Whether requests for work are taken at all.  The last few places are for roles that have few, so
 * that one does not shut out all others. */
static bool
accepts_work(const g2_request *request, g2_error *err)
{
	const g2_engine *engine = request->engine;
	uint32_t	waiting = engine->n_requests - 1,
				left = engine->max_queued - G2_MIN(engine->max_queued, waiting);

	if (engine->disabled)
		return fail_disabled(err);
	if (request->session->role->n_requests > (uint64_t) ROLE_SHARE * left)
	{
		g2_fail(err, G2_E_LIMIT, "%u requests are waiting: no more are taken", waiting);
		return g2_fail_hint(err, "Retry later, or with fewer rows at a time.");
	}
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
	if (keep_payload(request, payload, len, &err) &&
		(answer_at_once(request) ||
		 (accepts_work(request, &err) && start_request(request, &err))))
		return;
	g2_request_refuse(request, &err);
}
