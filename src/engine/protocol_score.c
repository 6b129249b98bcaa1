/*
 * protocol_score.c: the messages of protocol_score.h, field by field.  Plain C, compiled into both
 * the engine and the PostgreSQL library.
 */
#include "protocol_score.h"

_Static_assert(sizeof(float) == sizeof(uint32_t), "values travel as ids do");

void
g2_score_encode(g2_writer *w, const g2_score *m)
{
	g2_put_span(w, m->model);
	g2_put_span(w, m->text);
	g2_put_u32(w, m->kind);
	g2_put_u32(w, m->flags);
	g2_put_u32(w, m->stride);
	g2_put_u32(w, m->current_user);
	g2_put_span(w, m->cache_salt);
	g2_put_u32(w, m->queue_timeout_ms);
	g2_put_span(w, m->task);
	g2_put_span(w, m->template_text);
	g2_put_span(w, m->condition);
	g2_put_names(w, m->labels, m->n_labels);
	g2_put_names(w, m->example_texts, m->n_examples);
	g2_put_names(w, m->example_labels, m->n_examples);
}

bool
g2_score_decode(const void *p, size_t n, g2_score *m)
{
	g2_reader	r = g2_read(p, n);

	m->model = g2_get_span(&r);
	m->text = g2_get_span(&r);
	m->kind = g2_get_u32(&r);
	m->flags = g2_get_u32(&r);
	m->stride = g2_get_u32(&r);
	m->current_user = g2_get_u32(&r);
	m->cache_salt = g2_get_span(&r);
	m->queue_timeout_ms = g2_get_u32(&r);
	m->task = g2_get_span(&r);
	m->template_text = g2_get_span(&r);
	m->condition = g2_get_span(&r);
	m->n_labels = g2_get_names(&r, m->labels, G2_MAX_LABELS);
	m->n_examples = g2_get_names(&r, m->example_texts, G2_MAX_EXAMPLES);
	if (g2_get_names(&r, m->example_labels, G2_MAX_EXAMPLES) != m->n_examples)
		return false;
	return !r.failed;
}

/* An element of the answer: the head has announced it. */
static void
must_be_there(g2_reader *r)
{
	if (r->at == r->end)
		r->failed = true;
}

void
g2_score_sum_encode(g2_writer *w, const g2_score_sum *m)
{
	g2_put_u32(w, m->n);
	g2_put_f64(w, m->logprob);
}

void
g2_score_sum_get(g2_reader *r, g2_score_sum *m)
{
	must_be_there(r);
	m->n = g2_get_u32(r);
	m->logprob = g2_get_f64(r);
}

void
g2_token_score_encode(g2_writer *w, const g2_token_score *m)
{
	g2_put_u32(w, m->token);
	g2_put_f64(w, m->logprob);
	g2_put_span(w, m->piece);
}

void
g2_token_score_get(g2_reader *r, g2_token_score *m)
{
	must_be_there(r);
	m->token = g2_get_u32(r);
	m->logprob = g2_get_f64(r);
	m->piece = g2_get_span(r);
}

void
g2_embedding_encode(g2_writer *w, const g2_embedding *m)
{
	g2_put_u32(w, m->n_tokens);
	g2_put_u32(w, m->n);
	g2_put(w, m->values, (size_t) m->n * sizeof(float));
}

void
g2_embedding_get(g2_reader *r, g2_embedding *m)
{
	must_be_there(r);
	m->n_tokens = g2_get_u32(r);
	m->n = g2_get_u32(r);
	m->values = g2_get_ids(r, m->n);
}
