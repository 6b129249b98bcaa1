/*
 * count.c: what a request counts for in the usage counters of its role, database and model.
 */
#include "engine_state.h"

/* A model that is not there has no name: with such names anybody could fill the table. */
static const char *
counted_model(const g2_request *request)
{
	const g2_model *model = request->model;

	if (!model || (model->state == G2_MODEL_FAILED && model->error.code == G2_E_NOT_FOUND))
		return "";
	return model->name;
}

void
g2_request_count(const g2_request *request, const g2_usage_delta *delta)
{
	g2_engine  *engine = request->engine;

	if (request->type != G2_MSG_GENERATE && request->type != G2_MSG_SCORE)
		return;
	g2_usage_add(engine->usage, request->session->role->oid, request->session->database,
				 counted_model(request), delta);
	engine->save_at = G2_MIN(engine->save_at, g2_now_us() + G2_SAVE_EVERY_US);
}

/* What the group has used. */
static g2_usage_delta
used_by(const g2_request *request, const g2_group *group)
{
	g2_usage_delta delta = {
		.sequences = group->o.n,
		.completion_tokens = g2_group_made(group),
		.compute_us = (uint64_t) group->compute_us,
		.cost = group->compute_us * request->engine->price_per_us,
	};

	/* One that was never admitted has used nothing of its prompt. */
	if (group->admitted_at != 0)
	{
		delta.prompt_tokens = g2_group_given(group);
		delta.cached_tokens = group->cached_tokens;
		delta.queue_us = (uint64_t) (group->admitted_at - group->queued_at);
	}
	return delta;
}

void
g2_request_count_group(const g2_request *request, const g2_group *group)
{
	const g2_usage_delta delta = used_by(request, group);

	g2_request_count(request, &delta);
}

void
g2_request_count_end(const g2_request *request, const g2_group *group, bool is_last,
					 const g2_error *error)
{
	g2_usage_delta delta = used_by(request, group);

	delta.calls = is_last;
	delta.truncated = is_last && request->truncated;
	delta.cancelled = error && error->code == G2_E_CANCELED;
	delta.errors = error && error->code != G2_E_CANCELED;
	g2_request_count(request, &delta);
}
