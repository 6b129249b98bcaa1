/*
 * split.c: the parts of a text: their groups, what they make, and the next round.
 *
 * Each round is shorter than the one before by a third at least, but for tokens that the model
 * invents with more bytes than they were read with: MAX_LEVEL ends that.
 */
#include "split.h"

#include "answer.h"
#include "cut.h"
#include "engine_state.h"

#define MAX_RUNNING 32			/* parts of one request at once: it does not fill the queue */
#define MAX_LEVEL 40

bool
g2_split_has_parts(const g2_request *request)
{
	return request->split.n > 0 || (request->type == G2_MSG_GENERATE &&
									(request->m.generate.flags & G2_GEN_PARTS));
}

uint64_t
g2_split_tokens(const g2_split *s)
{
	uint64_t	tokens = s->prompt_tokens;

	for (uint32_t i = 0; i < s->n; i++)
		tokens += s->parts[i].prompt.len;
	return tokens;
}

static void
clear_parts(g2_split *s)
{
	for (uint32_t i = 0; i < s->n; i++)
	{
		g2_wipe_free(s->parts[i].prompt.data, s->parts[i].prompt.cap * sizeof(uint32_t));
		g2_text_free(&s->parts[i].text);
	}
	g2_free(s->parts);
	s->parts = NULL;
	s->n = s->cap = s->next = 0;
}

void
g2_split_clear(g2_split *s)
{
	clear_parts(s);
	g2_text_free(&s->text);
	g2_text_free(&s->made);
}

/* ---- the end of a round ---- */

/* Puts what the parts have made behind what those before have; what made nothing has no line. */
static bool
join(g2_split *s, g2_error *err)
{
	for (uint32_t i = 0; i < s->n; i++)
	{
		const g2_buf *text = &s->parts[i].text;

		if (text->len > 0 && s->made.len > 0)
			g2_buf_append(&s->made, "\n", 1);
		g2_buf_append(&s->made, text->data, text->len);
	}
	if (s->made.failed)
		return g2_fail_memory(err, s->made.len);
	if (s->made.len <= G2_MAX_TEXT)
		return true;
	g2_fail(err, G2_E_TOO_LONG, "the summaries of the parts have more than %u bytes", G2_MAX_TEXT);
	return g2_fail_hint(err, "Split the text.");
}

/* What has been made is all that is asked for. */
static void
answer(g2_request *request)
{
	const g2_split *s = &request->split;
	g2_writer	w = g2_answer_writer();

	g2_completions_head_encode(&w, &(g2_completions_head) {
		.n = 1, .prompt_tokens = (uint32_t) s->prompt_tokens,
		.cached_tokens = (uint32_t) s->cached_tokens, .queue_us = s->queue_us,
		.elapsed_us = (uint64_t) (g2_now_us() - request->arrived_us),
	});
	g2_completion_encode(&w, &(g2_completion) {
		.finish = G2_FINISH_EOS, .text = {s->made.data, (uint32_t) s->made.len},
	});
	g2_put_u64(&w, s->used);
	if (request->has_key && !w.failed)
		g2_result_cache_put(request->engine->results, request->key, w.data, w.len);
	g2_request_count(request, &(g2_usage_delta) {.calls = 1});
	g2_answer(request, G2_MSG_COMPLETIONS, &w);
	g2_request_free(request);
}

/* What has been made is the next round's text; false: there have been too many. */
static bool
next_round(g2_split *s)
{
	g2_text_free(&s->text);
	s->text = s->made;
	memset(&s->made, 0, sizeof s->made);
	s->used = 0;
	if (s->level++ < MAX_LEVEL)
		return true;
	g2_fail(&s->error, G2_E_TOO_LONG, "the summaries of the parts do not get shorter");
	return g2_fail_hint(&s->error, "Ask for shorter summaries, with a smaller max_len.");
}

/* What the parts have made is the answer; where they have made nothing it is empty, unless a
 * constraint wants something. */
static bool
is_answer(const g2_request *request)
{
	const g2_generate *m = &request->m.generate;

	return (m->flags & G2_GEN_PARTS) ||
		(request->split.made.len == 0 && m->constraint_kind == G2_CONSTRAINT_NONE);
}

/* All parts that had a prompt have ended. */
static void
end_parts(g2_request *request)
{
	g2_split   *s = &request->split;

	if (atomic_load(&request->canceled))
	{
		g2_request_drop(request);
		return;
	}
	if (!s->failed)
		s->failed = !join(s, &s->error);
	clear_parts(s);
	if (s->failed)
		g2_request_refuse(request, &s->error);
	else if (!s->whole)
		g2_request_queue_work(request);
	else if (is_answer(request))
		answer(request);
	else if (next_round(s))
		g2_request_queue_work(request);
	else
		g2_request_refuse(request, &s->error);
}

/* ---- groups ---- */

static void start_parts(g2_request *request);

void
g2_split_cancel(g2_request *request)
{
	g2_split   *s = &request->split;

	for (uint32_t i = 0; i < s->next; i++)
		if (s->parts[i].group)
			g2_scheduler_cancel(request->engine->scheduler, s->parts[i].group);
}

static void
fail(g2_request *request, const g2_error *error)
{
	g2_split   *s = &request->split;

	if (s->failed)
		return;
	s->failed = true;
	s->error = *error;
	g2_split_cancel(request);
}

static bool
keep_text(g2_split_part *part, const g2_group *group, g2_error *err)
{
	const g2_buf *made = &g2_group_answers(group)[0].text;
	g2_buf		clean = {0};
	g2_span		text;
	bool		ok = g2_text_clean(made->data, made->len, &clean);

	text = g2_cut_trim((g2_span) {clean.data, (uint32_t) clean.len});
	ok = ok && (text.len == 0 || g2_buf_append(&part->text, text.data, text.len));
	g2_text_free(&clean);
	return ok || g2_fail_memory(err, made->len);
}

static void
part_done(g2_group *group, const g2_error *error)
{
	g2_split_part    *part = group->o.user;
	g2_request *request = part->request;
	g2_split   *s = &request->split;
	g2_error	err;

	part->group = NULL;
	s->running--;
	g2_request_count_group(request, group);
	if (error)
		fail(request, error);
	else if (!keep_text(part, group, &err))
		fail(request, &err);
	else
	{
		s->prompt_tokens += group->prompt.len;
		s->cached_tokens += group->cached_tokens;
		s->queue_us += (uint64_t) (group->admitted_at - group->queued_at);
	}
	g2_group_free(group);
	start_parts(request);
}

static bool
start_part(g2_request *request, g2_split_part *part, g2_error *err)
{
	g2_group_options options;

	g2_request_group_options(request, &options);
	options.max_new = request->split.max_new;
	options.done = part_done;
	options.user = part;
	return g2_request_start_group(request, &options, &part->prompt, &part->group, err);
}

static void
start_parts(g2_request *request)
{
	g2_split   *s = &request->split;

	while (s->next < s->n && s->running < MAX_RUNNING && !s->failed &&
		   !atomic_load(&request->canceled))
	{
		g2_error	err;

		s->running++;
		if (start_part(request, &s->parts[s->next++], &err))
			continue;
		s->running--;
		fail(request, &err);
	}
	if (s->running == 0)
		end_parts(request);
}

void
g2_split_run(g2_request *request)
{
	request->phase = G2_PHASE_GROUP;
	start_parts(request);
}
