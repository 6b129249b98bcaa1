/*
 * watch.c: what can be seen of the engine: itself, models, sequences, counters.
 */
#include "engine_state.h"

#include <unistd.h>

#include "answer.h"

static g2_message
watch_info(g2_engine *engine, g2_writer *w)
{
	g2_backend_device device;
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
		.restart_pending = g2_engine_replaced(engine),
	};

	engine->api->describe(engine->backend, &device);
	info.cuda_device = g2_span_of(device.name ? device.name : "");
	info.cuda_driver = g2_span_of(device.driver ? device.driver : "");
	for (const g2_model *m = g2_registry_models(engine->registry); m; m = m->next)
		if (m->state == G2_MODEL_LOADED)
		{
			info.kv_blocks_total += g2_kv_capacity(&m->kv);
			info.kv_blocks_used += m->kv.n_held;
		}
	g2_info_encode(w, &info);
	return G2_MSG_INFO_ROW;
}

/* ---- sequences ---- */

/* Groups of a request that are queued or run: its own, or those of its parts.  After the last,
 * NULL; *at is 0 before the first. */
static const g2_group *
next_group(const g2_request *r, uint32_t *at)
{
	const g2_split *s = &r->split;

	if (r->phase != G2_PHASE_GROUP)
		return NULL;
	if (r->group)
		return (*at)++ == 0 ? r->group : NULL;
	while (*at < s->next)
		if (s->parts[(*at)++].group)
			return s->parts[*at - 1].group;
	return NULL;
}

static g2_request_state
state_of(const g2_request *r, const g2_group *group)
{
	if (r->phase == G2_PHASE_MODEL)
		return G2_STATE_LOADING;
	if (!group)
		return G2_STATE_QUEUED;
	if (group->state == G2_GROUP_QUEUED)
		return g2_queue_throttled(r->session) ? G2_STATE_THROTTLED : G2_STATE_QUEUED;
	return g2_group_prefilling(group) ? G2_STATE_PREFILL : G2_STATE_DECODE;
}

/* Rows of the group's sequences, or of a request without one; how many. */
static uint32_t
put_group(const g2_request *r, const g2_group *group, g2_writer *w)
{
	g2_span		format;
	g2_request_row row = {
		.pid = r->session->pid,
		.session_user = r->session->role->oid,
		.database = r->session->database,
		.model = g2_request_model(r, &format),
		.state = state_of(r, group),
		.max_len = r->type == G2_MSG_GENERATE ? r->m.generate.max_new : 0,
		.queued_at = g2_wall_clock(r->arrived_us),
	};
	uint32_t	n = 0;

	if (!group)
	{
		g2_request_row_encode(w, &row);
		return 1;
	}
	row.prompt_tokens = (uint32_t) group->prompt.len;
	row.max_len = g2_group_scores(group) ? 0 : group->o.max_new;
	row.started_at = group->admitted_at ? g2_wall_clock(group->admitted_at) : 0;
	for (uint32_t i = 0; i < group->o.n; i++)
	{
		if (group->sequences[i].finish)
			continue;
		row.sequence = i;
		row.generated_tokens = g2_group_scores(group) ? 0 :
			(uint32_t) group->sequences[i].ids.len;
		g2_request_row_encode(w, &row);
		n++;
	}
	return n;
}

static uint32_t
put_request(const g2_request *r, g2_writer *w)
{
	uint32_t	at = 0,
				n = 0;
	const g2_group *group = next_group(r, &at);

	if (!group)
		return put_group(r, NULL, w);
	for (; group; group = next_group(r, &at))
		n += put_group(r, group, w);
	return n;
}

/* A count that is known when the rows have been written. */
static void
set_count(g2_writer *w, size_t at, uint32_t n)
{
	if (!w->failed)
		memcpy(w->data + at, &n, sizeof n);
}

static g2_message
watch_requests(const g2_engine *engine, g2_writer *w)
{
	size_t		at = w->len;
	uint32_t	n = 0;

	g2_put_u32(w, 0);
	for (const g2_request *r = engine->first; r; r = r->next)
		if ((r->type == G2_MSG_GENERATE || r->type == G2_MSG_SCORE) && r->client)
			n += put_request(r, w);
	set_count(w, at, n);
	return G2_MSG_REQUEST_LIST;
}

/* ---- models at work ---- */

static double
recent_rate(const g2_work *work)
{
	int64_t		now = g2_now_us() / 1000000;
	uint64_t	tokens = 0;

	for (int64_t s = now - (int64_t) G2_LENGTH(work->recent) + 1; s <= work->second; s++)
		if (s > work->second - (int64_t) G2_LENGTH(work->recent) && s >= 0)
			tokens += work->recent[s % (int64_t) G2_LENGTH(work->recent)];
	return (double) tokens / (double) G2_LENGTH(work->recent);
}

static void
count_sequences(const g2_engine *engine, const g2_model *model, g2_engine_row *row)
{
	for (const g2_request *r = engine->first; r; r = r->next)
	{
		const g2_group *group;
		uint32_t	at = 0;

		if (r->model != model)
			continue;
		while ((group = next_group(r, &at)))
			if (group->state == G2_GROUP_RUNNING)
				row->running += group->n_live;
			else
				row->queued += group->n_live;
	}
}

static g2_message
watch_engine(const g2_engine *engine, g2_writer *w)
{
	size_t		at = w->len;
	uint32_t	n = 0;

	g2_put_u32(w, 0);
	for (const g2_model *m = g2_registry_models(engine->registry); m; m = m->next)
	{
		g2_engine_row row = {
			.model = g2_span_of(m->name),
			.format = g2_span_of(g2_format_name(m->format)),
			.steps = m->work.steps,
			.step_sequences = m->work.step_sequences,
			.prompt_tokens = m->work.prompt_tokens,
			.completion_tokens = m->work.completion_tokens,
			.busy_us = m->work.busy_us,
			.tokens_per_second = recent_rate(&m->work),
			.prefix_asked = m->work.prefix_asked,
			.prefix_hits = m->work.prefix_hits,
			.preemptions = m->work.preemptions,
			.drafted_tokens = m->work.drafted_tokens,
			.drafts_kept = m->work.drafts_kept,
		};

		if (m->state != G2_MODEL_LOADED || m->detached)
			continue;
		row.kv_blocks_used = m->kv.n_held;
		row.kv_blocks_cached = m->kv.n_cached;
		row.kv_blocks_total = g2_kv_capacity(&m->kv);
		row.bytes = g2_pack_own_bytes(m->pack) +
			(uint64_t) (m->kv.n_held + m->kv.n_cached) * m->kv.block_bytes;
		count_sequences(engine, m, &row);
		g2_engine_row_encode(w, &row);
		n++;
	}
	set_count(w, at, n);
	return G2_MSG_ENGINE_LIST;
}

g2_message
g2_watch(g2_engine *engine, g2_message type, g2_writer *w)
{
	switch (type)
	{
		case G2_MSG_MODELS:
			g2_answer_models(engine->registry, engine->api, w);
			return G2_MSG_MODEL_LIST;
		case G2_MSG_REQUESTS:
			return watch_requests(engine, w);
		case G2_MSG_USAGE:
			g2_usage_encode(engine->usage, w);
			return G2_MSG_USAGE_LIST;
		case G2_MSG_ENGINE:
			return watch_engine(engine, w);
		case G2_MSG_PROGRESSES:
			g2_progress_list(engine->progresses, w);
			return G2_MSG_PROGRESS_LIST;
		default:
			return watch_info(engine, w);
	}
}
