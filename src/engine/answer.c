/*
 * answer.c: payloads of answers.
 */
#include "answer.h"

g2_writer
g2_answer_writer(void)
{
	return (g2_writer) {.grow = g2_realloc};
}

void
g2_answer_free(g2_writer *w)
{
	g2_wipe_free(w->data, w->cap);
	*w = g2_answer_writer();
}

static void
send(g2_request *request, g2_message type, const void *payload, size_t len)
{
	request->answer(request->owner, type, request->id, payload, len);
}

/* The error that needs no memory: state, message, and nothing else, as g2_error_encode. */
static void
send_no_memory(g2_request *request)
{
	static const char message[] = "out of memory";
	const uint32_t len = sizeof message - 1;
	char		payload[5 + 3 * sizeof len + sizeof message - 1] = "53200";

	memcpy(payload + 5, &len, sizeof len);
	memcpy(payload + 5 + sizeof len, message, len);
	send(request, G2_MSG_ERROR, payload, sizeof payload);
}

void
g2_answer_error(g2_request *request, const g2_error *err)
{
	g2_writer	w = g2_answer_writer();

	g2_error_encode(&w, g2_sqlstate(err->code), err->message, err->detail, err->hint,
					err->of_options);
	if (w.failed)
		send_no_memory(request);
	else
		send(request, G2_MSG_ERROR, w.data, w.len);
	g2_answer_free(&w);
}

void
g2_answer(g2_request *request, g2_message type, g2_writer *w)
{
	g2_error	err;

	if (w->failed)
		send_no_memory(request);
	else if (w->len > G2_MAX_PAYLOAD)
	{
		g2_fail(&err, G2_E_TOO_LONG, "the answer has more than %u bytes", G2_MAX_PAYLOAD);
		g2_fail_hint(&err, "Ask for fewer or shorter sequences in one call.");
		g2_answer_error(request, &err);
	}
	else
		send(request, type, w->data, w->len);
	g2_answer_free(w);
}

void
g2_answer_notice(g2_request *request, g2_level level, const char *message)
{
	g2_writer	w = g2_answer_writer();

	g2_notice_encode(&w, level, message, "");
	if (!w.failed)
		send(request, G2_MSG_NOTICE, w.data, w.len);
	g2_answer_free(&w);
}

/* One that there is no memory for leaves a gap, which the final answer tells: its sender sees fewer
 * tokens than the completion has. */
void
g2_answer_stream(g2_request *request, const g2_stream *token)
{
	g2_writer	w = g2_answer_writer();

	g2_stream_encode(&w, token);
	if (!w.failed)
		send(request, G2_MSG_STREAM, w.data, w.len);
	g2_answer_free(&w);
}

/* ---- rows of models ---- */

static void
put_model(const g2_model *m, const g2_backend_api *api, g2_writer *w)
{
	uint64_t	total = atomic_load(&m->progress.total);
	g2_model_row row = {
		.name = g2_span_of(m->name),
		.state = m->state,
		.percent = total ? (uint32_t) (atomic_load(&m->progress.done) * 100 / total) : 0,
		.format = g2_span_of(g2_format_name(m->format)),
		.device = g2_span_of(""),
		.error = g2_span_of(m->state == G2_MODEL_FAILED ? m->error.message : ""),
		.loaded_at = m->loaded_at,
		.last_used_at = m->last_used_at,
	};

	if (m->state == G2_MODEL_LOADED)
	{
		const g2_description *d = &m->pack->description;

		row.architecture = g2_span_of(d->architecture);
		row.parameters = d->parameters;
		row.context_length = d->arch.n_ctx;
		row.vocab_size = d->arch.n_vocab;
		row.tokenizer = g2_span_of(d->tokenizer);
		row.bytes = g2_pack_own_bytes(m->pack);
		row.device = g2_span_of(api->device ? api->device(m->device_model) : api->name);
		row.content_hash = g2_span_of(m->pack->content_hash);
		row.base = g2_span_of(g2_pack_base(m->pack));
		row.restricted = m->roles.restricted;
		row.owner = m->roles.owner;
		for (; row.n_roles < m->roles.n; row.n_roles++)
			row.roles[row.n_roles] = g2_span_of(m->roles.names[row.n_roles]);
	}
	g2_model_row_encode(w, &row);
}

void
g2_answer_models(const g2_registry *registry, const g2_backend_api *api, g2_writer *w)
{
	uint32_t	n = 0;

	for (const g2_model *m = g2_registry_models(registry); m; m = m->next)
		n += !m->detached;
	g2_put_u32(w, n);
	for (const g2_model *m = g2_registry_models(registry); m; m = m->next)
		if (!m->detached)
			put_model(m, api, w);
}
