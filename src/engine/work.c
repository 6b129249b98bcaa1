/*
 * work.c: what becomes of a request whose model is there: text on a helper thread, a group in the
 * scheduler or an answer out of the result cache, and what it counts for.
 */
#include "engine_state.h"

#include "answer.h"

/* ---- counting ---- */

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

/* is_last: it ends its request. */
static void
count_end(const g2_request *request, const g2_group *group, bool is_last, const g2_error *error)
{
	g2_usage_delta delta = used_by(request, group);

	delta.calls = is_last;
	delta.truncated = is_last && request->truncated;
	delta.cancelled = error && error->code == G2_E_CANCELED;
	delta.errors = error && error->code != G2_E_CANCELED;
	g2_request_count(request, &delta);
}

void
g2_request_refuse(g2_request *request, const g2_error *err)
{
	g2_request_count(request, &(g2_usage_delta) {.calls = 1, .errors = 1});
	g2_answer_error(request, err);
	g2_request_free(request);
}

void
g2_request_drop(g2_request *request)
{
	g2_request_count(request, &(g2_usage_delta) {.calls = 1, .cancelled = 1});
	g2_request_free(request);
}

/* ---- the result cache ---- */

/* Whether the same request has the same answer next time, and may have it from memory. */
static bool
is_cacheable(const g2_request *request)
{
	const g2_generate *m = &request->m.generate;

	if (request->type == G2_MSG_SCORE)
		return !(request->m.score.flags & G2_SCORE_NO_CACHE);
	return request->type == G2_MSG_GENERATE &&
		!(m->flags & (G2_GEN_NO_CACHE | G2_GEN_STREAM)) &&
		(m->temperature == 0 || (m->flags & G2_GEN_SEEDED));
}

static bool
make_key(g2_request *request)
{
	const g2_engine *engine = request->engine;
	const g2_model *model = request->model;
	const g2_result_identity identity = {
		.content_hash = model->pack->content_hash,
		.format = g2_format_name(model->format),
		.arithmetic = engine->api->model_arithmetic(model->device_model),
		.database = request->session->database,
	};

	if (!is_cacheable(request))
		return false;
	return request->type == G2_MSG_SCORE ?
		g2_score_key(&request->m.score, &identity, request->key, NULL) :
		g2_result_key(&request->m.generate, &identity, request->key, NULL);
}

static g2_message
answer_type(const g2_request *request)
{
	return request->type == G2_MSG_SCORE ? G2_MSG_SCORES : G2_MSG_COMPLETIONS;
}

/* Answers from the cache; false: it is not there. */
static bool
answer_from_cache(g2_request *request)
{
	g2_span		payload;
	g2_writer	w = g2_answer_writer();
	g2_reader	r;
	g2_completions_head head;

	if (!g2_result_cache_get(request->engine->results, request->key, &payload))
		return false;
	r = g2_read(payload.data, payload.len);
	g2_completions_head_get(&r, &head);
	head.cached_tokens = head.prompt_tokens;
	head.elapsed_us = (uint64_t) (g2_now_us() - request->arrived_us);
	head.queue_us = 0;
	head.marks |= G2_HEAD_RESULT_HIT;
	g2_completions_head_encode(&w, &head);
	g2_put(&w, r.at, (size_t) (r.end - r.at));
	g2_request_count(request, &(g2_usage_delta) {
		.calls = 1, .sequences = head.n, .prompt_tokens = head.prompt_tokens,
		.cached_tokens = head.prompt_tokens, .result_hits = 1, .truncated = request->truncated,
	});
	g2_answer(request, answer_type(request), &w);
	g2_request_free(request);
	return true;
}

/* ---- groups ---- */

/* What the group does not know: the parts that were summarized before, and what was cut off. */
static void
complete_head(const g2_request *request, g2_writer *w)
{
	g2_reader	r = g2_read(w->data, w->len);
	g2_writer	again = *w;
	g2_completions_head head;

	g2_completions_head_get(&r, &head);
	head.prompt_tokens += (uint32_t) request->split.prompt_tokens;
	head.cached_tokens += (uint32_t) request->split.cached_tokens;
	head.queue_us += request->split.queue_us;
	head.marks |= request->truncated ? G2_HEAD_TRUNCATED : 0;
	again.len = 0;
	g2_completions_head_encode(&again, &head);
}

static void
answer_group(g2_request *request, const g2_group *group)
{
	g2_writer	w = g2_answer_writer();
	g2_error	err;

	if (!g2_group_answer(group, (uint64_t) (g2_now_us() - request->arrived_us), &w, &err))
	{
		g2_answer_free(&w);
		g2_answer_error(request, &err);
		return;
	}
	complete_head(request, &w);
	if (request->has_key)
		g2_result_cache_put(request->engine->results, request->key, w.data, w.len);
	g2_answer(request, G2_MSG_COMPLETIONS, &w);
}

static void
group_done(g2_group *group, const g2_error *error)
{
	g2_request *request = group->o.user;

	count_end(request, group, true, error);
	if (atomic_load(&request->canceled))
		;						/* nobody listens */
	else if (error)
		g2_answer_error(request, error);
	else
		answer_group(request, group);
	g2_group_free(group);
	g2_request_free(request);
}

static void
group_stream(g2_group *group, const g2_stream *token)
{
	g2_request *request = group->o.user;

	if (!atomic_load(&request->canceled))
		g2_answer_stream(request, token);
}

bool
g2_request_start_group(g2_request *request, const g2_group_options *options, g2_ids *prompt,
					   g2_group **group, g2_error *err)
{
	if (!g2_group_new(options, prompt, group, err))
	{
		g2_wipe_free(prompt->data, prompt->cap * sizeof *prompt->data);
		memset(prompt, 0, sizeof *prompt);
		*group = NULL;
		return false;
	}
	if (!g2_scheduler_add(request->engine->scheduler, *group, err))
	{
		g2_group_free(*group);
		*group = NULL;
		return false;
	}
	request->phase = G2_PHASE_GROUP;
	return true;
}

static void
generate(g2_request *request)
{
	g2_group_options options;

	g2_request_group_options(request, &options);
	options.masks = request->engine->masks;
	options.done = group_done;
	options.user = request;
	if (request->m.generate.flags & G2_GEN_STREAM)
		options.stream = group_stream;
	/* A limit holds whether somebody else has asked the same before or not. */
	if (request->has_key && request->split.prompt_tokens == 0 &&
		g2_queue_allows(&options, request->ids.len, &request->error) && answer_from_cache(request))
		return;
	if (!g2_request_start_group(request, &options, &request->ids, &request->group,
								&request->error))
		g2_request_refuse(request, &request->error);
}

/* Parts of the text; a limit holds for them and all before. */
static void
generate_parts(g2_request *request)
{
	g2_group_options options;

	g2_request_group_options(request, &options);
	options.max_new = (uint32_t) G2_MIN((uint64_t) request->split.n * request->split.max_new,
										UINT32_MAX);
	if (!g2_queue_allows(&options, g2_split_tokens(&request->split), &request->error))
		g2_request_refuse(request, &request->error);
	else if (request->split.prompt_tokens > 0 || !request->has_key || !answer_from_cache(request))
		g2_split_run(request);
}

/* ---- scores ---- */

static void
answer_scores(g2_request *request)
{
	g2_writer	w = g2_answer_writer();

	g2_score_answer(request, (uint64_t) (g2_now_us() - request->arrived_us), &w);
	if (request->has_key && !w.failed)
		g2_result_cache_put(request->engine->results, request->key, w.data, w.len);
	g2_answer(request, G2_MSG_SCORES, &w);
	g2_request_free(request);
}

static void score_done(g2_group *group, const g2_error *error);

/* The group of the next window, or of the labels. */
static bool
start_scores(g2_request *request, g2_error *err)
{
	g2_group_options options;
	g2_ids		prompt = {0};

	g2_request_group_options(request, &options);
	options.done = score_done;
	options.user = request;
	return g2_score_group(request, &options, &prompt, err) &&
		g2_request_start_group(request, &options, &prompt, &request->group, err);
}

static void
score_done(g2_group *group, const g2_error *error)
{
	g2_request *request = group->o.user;
	bool		more = false;

	if (!error)
	{
		g2_score_group_done(request, group);
		more = g2_score_more(request) && !atomic_load(&request->canceled);
	}
	count_end(request, group, !more, error);
	if (error && !atomic_load(&request->canceled))
		g2_answer_error(request, error);
	g2_group_free(group);
	request->group = NULL;
	if (more && !start_scores(request, &request->error))
		g2_request_refuse(request, &request->error);
	else if (error || (!more && atomic_load(&request->canceled)))
		g2_request_free(request);
	else if (!more)
		answer_scores(request);
}

static void
score(g2_request *request)
{
	g2_group_options options;

	g2_request_group_options(request, &options);
	/* The whole text counts, not only its first window, and all labels. */
	if (!g2_queue_allows(&options, g2_score_tokens(request), &request->error))
		g2_request_refuse(request, &request->error);
	else if (request->has_key && answer_from_cache(request))
		return;
	else if (!g2_score_more(request))
	{
		g2_request_count(request, &(g2_usage_delta) {
			.calls = 1, .prompt_tokens = request->ids.len, .truncated = request->truncated,
		});
		answer_scores(request);
	}
	else if (!start_scores(request, &request->error))
		g2_request_refuse(request, &request->error);
}

/* ---- text ---- */

static void
answer_text(g2_request *request)
{
	static const uint32_t none = 0;
	g2_writer	w = g2_answer_writer();

	if (request->type == G2_MSG_TOKENIZE)
	{
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
	g2_request_free(request);
}

static void
work_run(g2_job *job)
{
	g2_request *request = (g2_request *) job;

	if (atomic_load(&request->canceled))
		return;
	g2_request_work(request, request->engine->grammars);
	request->has_key = request->ok && make_key(request);
}

void
g2_request_go_on(g2_request *request)
{
	if (atomic_load(&request->canceled))
		g2_request_drop(request);
	else if (!request->ok)
		g2_request_refuse(request, &request->error);
	else if (g2_split_has_parts(request))
		generate_parts(request);
	else if (request->type == G2_MSG_GENERATE)
		generate(request);
	else if (request->type == G2_MSG_SCORE)
		score(request);
	else
		answer_text(request);
}

/* ---- the model is there ---- */

bool
g2_request_permitted(g2_request *request)
{
	const g2_model *model = request->model;
	g2_writer	w = g2_answer_writer();

	if (!model->roles.restricted || request->type == G2_MSG_LOAD ||
		g2_session_may_use(request->session, g2_span_of(model->name),
						   g2_request_user(request), model->roles.token))
		return true;
	g2_model_roles_encode(model, &w);
	g2_answer(request, G2_MSG_ROLES, &w);
	g2_request_free(request);
	return false;
}

void
g2_request_ready(g2_request *request)
{
	g2_writer	w = g2_answer_writer();

	if (!g2_request_permitted(request))
		return;
	if (request->type == G2_MSG_LOAD)
	{
		g2_answer(request, G2_MSG_DONE, &w);
		g2_request_free(request);
		return;
	}
	request->job.run = work_run;
	request->job.done = g2_request_worked;
	g2_request_queue_work(request);
}
