/*
 * check.c: CHECK_MODEL: what is right and wrong with a model's folder, without loading it.
 *
 * A helper thread reads the folder and writes the answer's payload into request->text.  Who may ask
 * is the backend's business.
 */
#include "answer.h"
#include "engine_state.h"

typedef struct rows
{
	g2_writer	w;
	uint32_t	n;
} rows;

static void
add_row(void *arg, const char *item, g2_check_result result, const char *detail, const char *hint)
{
	rows	   *r = arg;

	g2_check_row_encode(&r->w, &(g2_check_row) {
		.item = g2_span_of(item), .result = (uint32_t) result, .detail = g2_span_of(detail),
		.hint = g2_span_of(hint),
	});
	r->n++;
}

static bool
look(g2_request *request, rows *r)
{
	const g2_model_paths *paths = g2_shared_paths_get(request->m.check.paths);
	g2_span		span = request->m.check.model;
	char		name[G2_MAX_NAME + 1] = "";
	char	   *path = NULL;

	if (!g2_model_name_check(span.data, span.len, &request->error))
		return false;
	memcpy(name, span.data, span.len);
	if (!g2_model_find(paths, name, &path, &request->error))
		return false;
	g2_model_check(paths, name, path, add_row, r);
	g2_free(path);
	return !r->w.failed || g2_fail_memory(&request->error, r->w.len);
}

static void
check_run(g2_job *job)
{
	g2_request *request = (g2_request *) job;
	rows		r = {.w = g2_answer_writer()};

	g2_put_u32(&r.w, 0);
	request->ok = !atomic_load(&request->canceled) && look(request, &r);
	if (request->ok)
	{
		memcpy(r.w.data, &r.n, sizeof r.n);
		request->ok = g2_buf_append(&request->text, r.w.data, r.w.len) ||
			g2_fail_memory(&request->error, r.w.len);
	}
	g2_answer_free(&r.w);
}

static void
check_done(g2_job *job)
{
	g2_request *request = (g2_request *) job;
	g2_writer	w = g2_answer_writer();

	g2_shared_paths_release(request->m.check.paths);
	if (atomic_load(&request->canceled))
		g2_request_drop(request);
	else if (!request->ok)
		g2_request_refuse(request, &request->error);
	else
	{
		g2_put(&w, request->text.data, request->text.len);
		g2_answer(request, G2_MSG_MODEL_CHECK, &w);
		g2_request_free(request);
	}
}

void
g2_request_check_model(g2_request *request)
{
	request->phase = G2_PHASE_WORK;
	request->m.check.paths = g2_registry_hold_paths(request->engine->registry);
	request->job.run = check_run;
	request->job.done = check_done;
	g2_helper_submit(request->engine->long_helper, &request->job);
}
