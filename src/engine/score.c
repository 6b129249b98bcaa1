/*
 * score.c: windows over a text, the sums that they leave, and the answer.
 */
#include "score.h"

#include <math.h>

#include "cut.h"
#include "request.h"

/* ---- checks before anything is spent ---- */

bool
g2_score_check(const g2_score *m, g2_error *err)
{
	if (m->kind < G2_SCORE_TOKENS || m->kind > G2_SCORE_LABELS)
		return g2_fail(err, G2_E_INTERNAL, "malformed request: no score of kind %u", m->kind);
	if (m->cache_salt.len > G2_MAX_SALT)
		return g2_fail(err, G2_E_PARAM, "gpt2.prefix_cache_salt must have at most %d bytes",
					   G2_MAX_SALT);
	if (m->kind != G2_SCORE_LABELS)
		return true;
	if (m->n_labels == 0)
		return g2_fail(err, G2_E_PARAM, "there must be at least one label");
	for (uint32_t i = 0; i < m->n_labels; i++)
	{
		if (m->labels[i].len == 0)
			return g2_fail(err, G2_E_PARAM, "a label must not be empty");
		if (m->labels[i].len > G2_MAX_LABEL_BYTES)
		{
			g2_fail(err, G2_E_TOO_LONG, "a label must have at most %d bytes",
					G2_MAX_LABEL_BYTES);
			return g2_fail_hint(err, "Give labels short names.");
		}
	}
	return true;
}

/* ---- the helper thread's part ---- */

static bool
make_values(g2_request *request, size_t n)
{
	g2_scoring *s = &request->scoring;

	s->values = g2_alloc_array(G2_MAX(n, (size_t) 1), sizeof *s->values);
	if (!s->values)
		return g2_fail_memory(&request->error, n * sizeof *s->values);
	s->n_values = n;
	return true;
}

static bool
set_stride(g2_request *request)
{
	uint32_t	n_ctx = request->model->pack->weights.arch.n_ctx,
				stride = request->m.score.stride;

	if (n_ctx < 2 && request->m.score.kind != G2_SCORE_EMBED)
	{
		g2_fail(&request->error, G2_E_UNSUPPORTED,
				"model \"%s\" cannot score tokens: its context holds one", request->model->name);
		return g2_fail_hint(&request->error, "A token is scored by what stands before it.");
	}
	if (stride >= n_ctx)
	{
		g2_fail(&request->error, G2_E_PARAM,
				"stride must be between 1 and %u, one less than the context of model \"%s\"",
				n_ctx - 1, request->model->name);
		g2_fail_hint(&request->error, "Half of the context is the default.");
		return g2_fail_options(&request->error);
	}
	if (request->m.score.kind == G2_SCORE_EMBED)
		request->scoring.stride = n_ctx;	/* each token has its norm once */
	else
		request->scoring.stride = stride > 0 ? stride : G2_MAX(n_ctx / 2, 1u);
	return true;
}

/* One window is all there is to be; a start token stays. */
static bool
cut_to_context(g2_request *request)
{
	uint32_t	flags = request->m.score.flags,
				n_ctx = request->model->pack->weights.arch.n_ctx,
				first = (flags & G2_SCORE_ADD_START) != 0;
	g2_ids	   *ids = &request->ids;

	if (!(flags & (G2_SCORE_TRUNCATE_LEFT | G2_SCORE_TRUNCATE_RIGHT | G2_SCORE_TRUNCATE_NOT)) ||
		ids->len <= n_ctx)
		return true;
	if (flags & G2_SCORE_TRUNCATE_NOT)
	{
		g2_fail(&request->error, G2_E_TOO_LONG,
				"the text does not fit into the context of model \"%s\"", request->model->name);
		g2_fail_detail(&request->error, "The context holds %u tokens; the text has %zu.", n_ctx,
					   ids->len);
		return g2_fail_hint(&request->error, "Without the option \"truncate\" it is read in "
							"windows.");
	}
	g2_cut_ids(ids, flags & G2_SCORE_TRUNCATE_LEFT ? G2_CUT_LEFT : G2_CUT_RIGHT, first, n_ctx);
	request->truncated = true;
	return true;
}

static bool
work_text(g2_request *request)
{
	const g2_score *m = &request->m.score;
	g2_error   *err = &request->error;

	if (!set_stride(request) ||
		((m->flags & G2_SCORE_ADD_START) && !g2_request_add_start(request, &request->ids)))
		return false;
	if (!g2_request_encode(request, m->text, G2_MAX_SCORED, &request->ids))
	{
		if (err->code == G2_E_TOO_LONG)
		{
			g2_fail(err, G2_E_TOO_LONG, "the text has more than %u tokens", G2_MAX_SCORED);
			g2_fail_hint(err, "Split the text; gpt_count_tokens counts its tokens.");
		}
		return false;
	}
	if (!cut_to_context(request))
		return false;
	request->scoring.next = m->kind != G2_SCORE_EMBED;
	return make_values(request, m->kind == G2_SCORE_TOKENS ? request->ids.len :
					   m->kind == G2_SCORE_LOSS ? 1 : request->model->pack->weights.arch.n_embd);
}

bool
g2_score_work(g2_request *request)
{
	if (request->m.score.kind != G2_SCORE_LABELS)
		return work_text(request);
	return g2_labels_encode(request) && make_values(request, request->m.score.n_labels);
}

uint64_t
g2_score_tokens(const g2_request *request)
{
	uint64_t	n = request->ids.len;

	for (uint32_t i = 0; i < request->scoring.n_labels; i++)
		n += request->scoring.labels[i].len;
	return n;
}

/* ---- groups ---- */

bool
g2_score_more(const g2_request *request)
{
	return request->scoring.next < request->ids.len;
}

static void
take_score(g2_group *group, uint32_t i, uint32_t index, double logprob, const float *norm)
{
	g2_request *request = group->o.user;
	g2_scoring *s = &request->scoring;

	switch (request->m.score.kind)
	{
		case G2_SCORE_TOKENS:
			s->values[s->next + index] = logprob;
			break;
		case G2_SCORE_LOSS:
			s->values[0] += logprob;
			break;
		case G2_SCORE_LABELS:
			s->values[i] += logprob;
			break;
		default:
			for (size_t d = 0; d < s->n_values; d++)
				s->values[d] += (double) norm[d];
			break;
	}
}

/* Labels: all of the prompt stays in request->ids, as the answer counts it. */
bool
g2_score_group(g2_request *request, g2_group_options *o, g2_ids *prompt, g2_error *err)
{
	g2_scoring *s = &request->scoring;
	uint32_t	n_ctx = request->model->pack->weights.arch.n_ctx,
				end = G2_MIN(s->window + n_ctx, (uint32_t) request->ids.len);

	o->want = request->m.score.kind == G2_SCORE_EMBED ? G2_WANT_NORM : G2_WANT_LOGPROB;
	o->score = take_score;
	o->n_embd = request->model->pack->weights.arch.n_embd;
	o->first = s->next - s->window;
	/* The time limit is one of waiting for the start. */
	if (s->window > 0)
		o->queue_timeout_ms = 0;
	if (s->n_labels > 0)
	{
		o->n = s->n_labels;
		o->given = s->labels;
		o->first = end;
		for (uint32_t i = 0; i < s->n_labels; i++)
			o->max_new = G2_MAX(o->max_new, (uint32_t) s->labels[i].len);
	}
	for (uint32_t t = s->window; t < end; t++)
		if (!g2_ids_push(prompt, request->ids.data[t]))
		{
			g2_wipe_free(prompt->data, prompt->cap * sizeof *prompt->data);
			return g2_fail_memory(err, end * sizeof *prompt->data);
		}
	return true;
}

void
g2_score_group_done(g2_request *request, const g2_group *group)
{
	g2_scoring *s = &request->scoring;

	s->next = s->window + (uint32_t) group->prompt.len;
	s->window += s->stride;
	s->cached_tokens += group->cached_tokens;
	s->queue_us += (uint64_t) (group->admitted_at - group->queued_at);
}

/* ---- the answer ---- */

/* Bytes of a character that is not complete come with a later piece. */
static void
put_token(const g2_request *request, size_t i, g2_decoder *decoder, g2_buf *pending,
		  g2_writer *w)
{
	bool		is_end = i + 1 == request->ids.len;
	size_t		end;
	g2_buf		clean = {0};

	if (!g2_tokenizer_decode(request->model->pack->tokenizer, decoder, request->ids.data[i],
							 pending))
		w->failed = true;
	end = is_end || pending->len == 0 ? pending->len :
		g2_text_complete(pending->data, pending->len);
	if (end > 0 &&
		!(is_end ? g2_text_clean : g2_text_clean_part) (pending->data, end, &clean))
		w->failed = true;
	g2_token_score_encode(w, &(g2_token_score) {
		.token = request->ids.data[i], .logprob = i == 0 ? NAN : request->scoring.values[i],
		.piece = {clean.data, (uint32_t) clean.len},
	});
	if (end > 0)
		memmove(pending->data, pending->data + end, pending->len - end);
	pending->len -= end;
	g2_text_free(&clean);
}

static void
put_tokens(const g2_request *request, g2_writer *w)
{
	size_t		first = (request->m.score.flags & G2_SCORE_ADD_START) != 0;
	g2_decoder	decoder = {0};
	g2_buf		pending = {0};

	g2_put_u32(w, (uint32_t) (request->ids.len - first));
	for (size_t i = first; i < request->ids.len && !w->failed; i++)
		put_token(request, i, &decoder, &pending, w);
	g2_text_free(&pending);
}

static void
put_embedding(const g2_request *request, g2_writer *w)
{
	const g2_scoring *s = &request->scoring;
	size_t		n_tokens = request->ids.len;
	float	   *mean = g2_alloc_array(s->n_values, sizeof *mean);

	for (size_t d = 0; mean && d < s->n_values; d++)
		mean[d] = n_tokens > 0 ? (float) (s->values[d] / (double) n_tokens) : 0;
	if (!mean)
		w->failed = true;
	else
		g2_embedding_encode(w, &(g2_embedding) {
			.n_tokens = (uint32_t) n_tokens, .n = (uint32_t) s->n_values,
			.values = (const char *) mean,
		});
	g2_wipe_free(mean, s->n_values * sizeof *mean);
}

void
g2_score_answer(const g2_request *request, uint64_t elapsed_us, g2_writer *w)
{
	const g2_scoring *s = &request->scoring;

	g2_completions_head_encode(w, &(g2_completions_head) {
		.n = G2_MAX(s->n_labels, 1u), .prompt_tokens = (uint32_t) g2_score_tokens(request),
		.cached_tokens = (uint32_t) s->cached_tokens, .elapsed_us = elapsed_us,
		.queue_us = s->queue_us, .marks = request->truncated ? G2_HEAD_TRUNCATED : 0,
	});
	switch (request->m.score.kind)
	{
		case G2_SCORE_TOKENS:
			put_tokens(request, w);
			break;
		case G2_SCORE_EMBED:
			put_embedding(request, w);
			break;
		case G2_SCORE_LOSS:
			g2_score_sum_encode(w, &(g2_score_sum) {
				.n = (uint32_t) G2_MAX(request->ids.len, 1u) - 1, .logprob = s->values[0],
			});
			break;
		default:
			for (uint32_t i = 0; i < s->n_labels; i++)
				g2_score_sum_encode(w, &(g2_score_sum) {
					.n = (uint32_t) s->labels[i].len, .logprob = s->values[i],
				});
			break;
	}
}

void
g2_scoring_clear(g2_scoring *s)
{
	for (uint32_t i = 0; s->labels && i < s->n_labels; i++)
		g2_wipe_free(s->labels[i].data, s->labels[i].cap * sizeof *s->labels[i].data);
	g2_free(s->labels);
	g2_wipe_free(s->values, s->n_values * sizeof *s->values);
	memset(s, 0, sizeof *s);
}
