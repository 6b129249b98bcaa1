/*
 * protocol.c: the messages of protocol.h, field by field.  Plain C, compiled into both the engine
 * and the PostgreSQL library.
 */
#include "protocol.h"

#include <string.h>

/* ---- handshake ---- */

void
g2_hello_encode(g2_writer *w, const g2_hello *m)
{
	g2_put_u32(w, m->magic);
	g2_put_u32(w, m->major);
	g2_put_u32(w, m->minor);
	g2_put_u32(w, m->pid);
	g2_put_u32(w, m->database);
	g2_put_u32(w, m->session_user);
	g2_put_span(w, m->library_version);
}

bool
g2_hello_decode(const void *p, size_t n, g2_hello *m)
{
	g2_reader	r = g2_read(p, n);

	m->magic = g2_get_u32(&r);
	m->major = g2_get_u32(&r);
	m->minor = g2_get_u32(&r);
	m->pid = g2_get_u32(&r);
	m->database = g2_get_u32(&r);
	m->session_user = g2_get_u32(&r);
	m->library_version = g2_get_span(&r);
	return !r.failed;
}

void
g2_welcome_encode(g2_writer *w, const g2_welcome *m)
{
	g2_put_u32(w, m->major);
	g2_put_u32(w, m->minor);
	g2_put_u32(w, m->pid);
	g2_put_span(w, m->engine_version);
}

bool
g2_welcome_decode(const void *p, size_t n, g2_welcome *m)
{
	g2_reader	r = g2_read(p, n);

	m->major = g2_get_u32(&r);
	m->minor = g2_get_u32(&r);
	m->pid = g2_get_u32(&r);
	m->engine_version = g2_get_span(&r);
	return !r.failed;
}

void
g2_session_message_encode(g2_writer *w, const g2_session_message *m)
{
	g2_put_u32(w, m->session_user);
	g2_put_span(w, m->user_name);
	for (int i = 0; i < G2_N_LIMITS; i++)
		g2_put_u64(w, (uint64_t) m->limits[i]);
	g2_put_u32(w, m->timeline);
}

bool
g2_session_message_decode(const void *p, size_t n, g2_session_message *m)
{
	g2_reader	r = g2_read(p, n);

	m->session_user = g2_get_u32(&r);
	m->user_name = g2_get_span(&r);
	for (int i = 0; i < G2_N_LIMITS; i++)
	{
		m->limits[i] = (int64_t) g2_get_u64(&r);
		if (m->limits[i] < G2_LIMIT_UNSET)
			return false;
	}
	m->timeline = g2_get_u32(&r);
	return !r.failed;
}

void
g2_access_encode(g2_writer *w, const g2_access *m)
{
	g2_put_span(w, m->model);
	g2_put_u32(w, m->current_user);
	g2_put_u64(w, m->token);
}

bool
g2_access_decode(const void *p, size_t n, g2_access *m)
{
	g2_reader	r = g2_read(p, n);

	m->model = g2_get_span(&r);
	m->current_user = g2_get_u32(&r);
	m->token = g2_get_u64(&r);
	return !r.failed;
}

/* ---- answers ---- */

bool
g2_owner_same(const g2_owner *a, const g2_owner *b)
{
	if (a->name.len == 0 || b->name.len == 0)
		return false;
	if (a->oid != 0 && b->oid != 0 && a->cluster != 0 && a->cluster == b->cluster)
		return a->oid == b->oid;
	return a->name.len == b->name.len && memcmp(a->name.data, b->name.data, a->name.len) == 0;
}

void
g2_owner_put(g2_writer *w, const g2_owner *m)
{
	g2_put_span(w, m->name);
	g2_put_u32(w, m->oid);
	g2_put_u64(w, m->cluster);
}

g2_owner
g2_owner_get(g2_reader *r)
{
	g2_owner	m = {.name = g2_get_span(r)};

	m.oid = g2_get_u32(r);
	m.cluster = g2_get_u64(r);
	return m;
}

void
g2_roles_encode(g2_writer *w, const g2_roles *m)
{
	g2_put_u64(w, m->token);
	g2_put_names(w, m->roles, m->n);
	g2_owner_put(w, &m->owner);
}

bool
g2_roles_decode(const void *p, size_t n, g2_roles *m)
{
	g2_reader	r = g2_read(p, n);

	m->token = g2_get_u64(&r);
	m->n = g2_get_names(&r, m->roles, G2_MAX_ROLES);
	m->owner = g2_owner_get(&r);
	return !r.failed && m->token != 0;
}

void
g2_error_encode(g2_writer *w, const char *sqlstate, const char *message, const char *detail,
				const char *hint, bool of_options)
{
	g2_put(w, sqlstate, 5);
	g2_put_string(w, message);
	g2_put_string(w, detail);
	g2_put_string(w, hint);
	g2_put_u32(w, of_options);
}

bool
g2_error_decode(const void *p, size_t n, g2_error_message *m)
{
	g2_reader	r = g2_read(p, n);

	g2_get(&r, m->sqlstate, 5);
	m->sqlstate[5] = '\0';
	for (int i = 0; i < 5; i++)
	{
		char		c = m->sqlstate[i];

		if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z')))
			return false;
	}
	m->message = g2_get_span(&r);
	m->detail = g2_get_span(&r);
	m->hint = g2_get_span(&r);
	m->of_options = g2_get_u32(&r);
	return !r.failed;
}

void
g2_notice_encode(g2_writer *w, g2_level level, const char *message, const char *hint)
{
	g2_put_u32(w, (uint32_t) level);
	g2_put_string(w, message);
	g2_put_string(w, hint);
}

bool
g2_notice_decode(const void *p, size_t n, g2_notice *m)
{
	g2_reader	r = g2_read(p, n);

	m->level = g2_get_u32(&r);
	m->message = g2_get_span(&r);
	m->hint = g2_get_span(&r);
	return !r.failed && m->level >= G2_LEVEL_DEBUG && m->level <= G2_LEVEL_WARNING;
}

/* ---- generation ---- */

static void
put_decoding(g2_writer *w, const g2_decoding *d)
{
	g2_put_f64(w, d->typical_p);
	g2_put_f64(w, d->presence_penalty);
	g2_put_f64(w, d->frequency_penalty);
	g2_put_u32(w, d->no_repeat_ngram);
	g2_put_u32(w, d->min_new);
	g2_put_u32(w, d->n_beams);
	g2_put_f64(w, d->length_penalty);
	g2_put_u32(w, d->n_biases);
	g2_put(w, d->biases, d->n_biases * G2_BIAS_BYTES);
}

static void
get_decoding(g2_reader *r, g2_decoding *d)
{
	d->typical_p = g2_get_f64(r);
	d->presence_penalty = g2_get_f64(r);
	d->frequency_penalty = g2_get_f64(r);
	d->no_repeat_ngram = g2_get_u32(r);
	d->min_new = g2_get_u32(r);
	d->n_beams = g2_get_u32(r);
	d->length_penalty = g2_get_f64(r);
	d->n_biases = g2_get_u32(r);
	if (d->n_biases > G2_MAX_BIASES)
		r->failed = true;
	d->biases = g2_get_ids(r, r->failed ? 0 : 2 * d->n_biases);
}

void
g2_generate_encode(g2_writer *w, const g2_generate *m)
{
	g2_put_span(w, m->model);
	g2_put_span(w, m->prompt);
	g2_put_u32(w, m->max_new);
	g2_put_u32(w, m->n);
	g2_put_u32(w, m->flags);
	g2_put_f64(w, m->temperature);
	g2_put_u32(w, m->top_k);
	g2_put_f64(w, m->top_p);
	g2_put_f64(w, m->min_p);
	g2_put_f64(w, m->repetition_penalty);
	g2_put_u64(w, m->seed);
	g2_put_u32(w, m->n_stops);
	for (uint32_t i = 0; i < m->n_stops; i++)
		g2_put_span(w, m->stops[i]);
	g2_put_span(w, m->task);
	g2_put_span(w, m->template_text);
	g2_put_u32(w, m->current_user);
	g2_put_span(w, m->cache_salt);
	g2_put_u32(w, m->queue_timeout_ms);
	put_decoding(w, &m->decoding);
	g2_put_u32(w, m->constraint_kind);
	g2_put_span(w, m->constraint);
}

bool
g2_generate_decode(const void *p, size_t n, g2_generate *m)
{
	g2_reader	r = g2_read(p, n);

	m->model = g2_get_span(&r);
	m->prompt = g2_get_span(&r);
	m->max_new = g2_get_u32(&r);
	m->n = g2_get_u32(&r);
	m->flags = g2_get_u32(&r);
	m->temperature = g2_get_f64(&r);
	m->top_k = g2_get_u32(&r);
	m->top_p = g2_get_f64(&r);
	m->min_p = g2_get_f64(&r);
	m->repetition_penalty = g2_get_f64(&r);
	m->seed = g2_get_u64(&r);
	m->n_stops = g2_get_u32(&r);
	if (m->n_stops > G2_MAX_STOPS)
		return false;
	for (uint32_t i = 0; i < m->n_stops; i++)
		m->stops[i] = g2_get_element(&r);
	m->task = g2_get_span(&r);
	m->template_text = g2_get_span(&r);
	m->current_user = g2_get_u32(&r);
	m->cache_salt = g2_get_span(&r);
	m->queue_timeout_ms = g2_get_u32(&r);
	get_decoding(&r, &m->decoding);
	m->constraint_kind = g2_get_u32(&r);
	m->constraint = g2_get_span(&r);
	return !r.failed;
}

void
g2_completions_head_encode(g2_writer *w, const g2_completions_head *m)
{
	g2_put_u32(w, m->n);
	g2_put_u32(w, m->prompt_tokens);
	g2_put_u32(w, m->cached_tokens);
	g2_put_u64(w, m->seed);
	g2_put_u64(w, m->elapsed_us);
	g2_put_u64(w, m->queue_us);
	g2_put_u32(w, m->marks);
}

void
g2_completions_head_get(g2_reader *r, g2_completions_head *m)
{
	m->n = g2_get_u32(r);
	m->prompt_tokens = g2_get_u32(r);
	m->cached_tokens = g2_get_u32(r);
	m->seed = g2_get_u64(r);
	m->elapsed_us = g2_get_u64(r);
	m->queue_us = g2_get_u64(r);
	m->marks = g2_get_u32(r);
	if (m->n > G2_MAX_SEQUENCES)
		r->failed = true;
}

void
g2_completion_encode(g2_writer *w, const g2_completion *m)
{
	g2_put_u32(w, m->finish);
	g2_put_f64(w, m->logprob);
	g2_put_u32(w, m->n_ids);
	g2_put(w, m->ids, (size_t) m->n_ids * sizeof(uint32_t));
	g2_put_span(w, m->text);
}

void
g2_completion_get(g2_reader *r, g2_completion *m)
{
	if (r->at == r->end)
		r->failed = true;		/* announced by the head */
	m->finish = g2_get_u32(r);
	m->logprob = g2_get_f64(r);
	m->n_ids = g2_get_u32(r);
	m->ids = g2_get_ids(r, m->n_ids);
	m->text = g2_get_span(r);
}

void
g2_stream_encode(g2_writer *w, const g2_stream *m)
{
	g2_put_u32(w, m->pos);
	g2_put_u32(w, m->token);
	g2_put_f64(w, m->logprob);
	g2_put_span(w, m->piece);
}

bool
g2_stream_decode(const void *p, size_t n, g2_stream *m)
{
	g2_reader	r = g2_read(p, n);

	m->pos = g2_get_u32(&r);
	m->token = g2_get_u32(&r);
	m->logprob = g2_get_f64(&r);
	m->piece = g2_get_span(&r);
	return !r.failed;
}

/* ---- tokens ---- */

void
g2_tokenize_encode(g2_writer *w, const g2_tokenize *m)
{
	g2_put_span(w, m->model);
	g2_put_span(w, m->text);
	g2_put_u32(w, m->count_only);
	g2_put_u32(w, m->current_user);
}

bool
g2_tokenize_decode(const void *p, size_t n, g2_tokenize *m)
{
	g2_reader	r = g2_read(p, n);

	m->model = g2_get_span(&r);
	m->text = g2_get_span(&r);
	m->count_only = g2_get_u32(&r);
	m->current_user = g2_get_u32(&r);
	return !r.failed;
}

void
g2_tokens_encode(g2_writer *w, uint32_t count, const uint32_t *ids)
{
	g2_put_u32(w, count);
	g2_put_u32(w, ids != NULL);
	if (ids)
		g2_put(w, ids, (size_t) count * sizeof *ids);
}

bool
g2_tokens_decode(const void *p, size_t n, g2_tokens *m)
{
	g2_reader	r = g2_read(p, n);

	m->count = g2_get_u32(&r);
	m->ids = g2_get_u32(&r) ? g2_get_ids(&r, m->count) : NULL;
	return !r.failed;
}

void
g2_detokenize_encode(g2_writer *w, g2_span model, uint32_t count, const uint32_t *ids,
					 uint32_t current_user)
{
	g2_put_span(w, model);
	g2_put_u32(w, count);
	g2_put(w, ids, (size_t) count * sizeof *ids);
	g2_put_u32(w, current_user);
}

bool
g2_detokenize_decode(const void *p, size_t n, g2_detokenize *m)
{
	g2_reader	r = g2_read(p, n);

	m->model = g2_get_span(&r);
	m->count = g2_get_u32(&r);
	m->ids = g2_get_ids(&r, m->count);
	m->current_user = g2_get_u32(&r);
	return !r.failed;
}

/* ---- models ---- */

void
g2_load_encode(g2_writer *w, const g2_load *m)
{
	g2_put_span(w, m->model);
	g2_put_span(w, m->format);
	g2_put_span(w, m->device);
}

bool
g2_load_decode(const void *p, size_t n, g2_load *m)
{
	g2_reader	r = g2_read(p, n);

	m->model = g2_get_span(&r);
	m->format = g2_get_span(&r);
	m->device = g2_get_span(&r);
	return !r.failed;
}
