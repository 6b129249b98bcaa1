/*
 * labels.c: the prompt that labels continue.
 *
 * The template is cut at {label}.  A label's tokens are those of the spaces before that place and
 * the label: GPT-2's pieces begin with their space, so that the prompt must end without it.  What
 * stands behind {label} is seen in examples only.
 *
 * No more is tokenized than the context holds, but for a text that may be cut, which has to be seen
 * as a whole.
 */
#include "labels.h"

#include "cut.h"
#include "request.h"

#define BETWEEN_EXAMPLES "\n\n"

typedef struct prompt
{
	g2_request *request;
	g2_bytes	before;			/* of the template, up to the label's spaces */
	g2_bytes	space;
	g2_bytes	after;
	g2_buf		list;			/* the labels, for {labels} */
	g2_buf		text;			/* what is filled */
} prompt;

static g2_bytes
bytes_of(g2_span s)
{
	return (g2_bytes) {s.data, s.len};
}

static void
cut_template(g2_bytes template_text, prompt *p)
{
	static const g2_bytes mark = {"{label}", 7};
	size_t		at = g2_text_find(template_text.data, template_text.len, 0, &mark, 1),
				end;

	end = at == SIZE_MAX ? template_text.len : at;
	p->after = (g2_bytes) {"", 0};
	if (at != SIZE_MAX)
		p->after = (g2_bytes) {template_text.data + at + mark.len,
			template_text.len - at - mark.len};
	p->before = (g2_bytes) {template_text.data, end};
	while (p->before.len > 0 && p->before.data[p->before.len - 1] == ' ')
		p->before.len--;
	p->space = at == SIZE_MAX ? (g2_bytes) {" ", 1} :
		(g2_bytes) {p->before.data + p->before.len, end - p->before.len};
}

/* A text that stands behind the label only would have no say in it. */
static bool
check_template(const prompt *p, g2_bytes template_text)
{
	static const g2_bytes mark = {"{input}", 7};
	size_t		at = g2_text_find(template_text.data, template_text.len, 0, &mark, 1);
	g2_error   *err = &p->request->error;

	if (at == SIZE_MAX || at < p->before.len)
		return true;
	g2_fail(err, G2_E_PARAM, "the template has {input} behind {label} only");
	g2_fail_hint(err, "What stands behind {label} is not read before it: write {input} first.");
	return g2_fail_options(err);
}

static bool
find_template(prompt *p)
{
	g2_request *request = p->request;
	g2_bytes	template_text = bytes_of(request->m.score.template_text);

	if (template_text.len == 0)
	{
		if (!g2_task_find(request->model->pack->description.tasks, request->model->pack->tokenizer,
						  request->m.score.task, &request->task, &request->error))
			return false;
		template_text = bytes_of(g2_span_of(request->task.template_text));
	}
	cut_template(template_text, p);
	return check_template(p, template_text);
}

/* ---- the text ---- */

static bool
list_labels(prompt *p)
{
	const g2_score *m = &p->request->m.score;

	for (uint32_t i = 0; i < m->n_labels; i++)
	{
		g2_buf_append(&p->list, ", ", i > 0 ? 2 : 0);
		g2_buf_append(&p->list, m->labels[i].data, m->labels[i].len);
	}
	return !p->list.failed || g2_fail_memory(&p->request->error, p->list.len);
}

/* Appends a part of the template. */
static bool
fill(prompt *p, g2_bytes part, g2_span input)
{
	const g2_mark marks[] = {
		{"{input}", bytes_of(input)},
		{"{labels}", {p->list.data, p->list.len}},
		{"{condition}", bytes_of(p->request->m.score.condition)},
	};
	/* Labels and what stands between examples may have gone beyond it already. */
	size_t		left = G2_MAX_TEXT - G2_MIN(p->text.len, (size_t) G2_MAX_TEXT);
	g2_error   *err = &p->request->error;

	if (g2_text_fill_marks(part, marks, G2_LENGTH(marks), left, &p->text, err))
		return true;
	if (err->code != G2_E_TOO_LONG)
		return false;
	g2_fail(err, G2_E_TOO_LONG, "template, examples and text have more than %u bytes",
			G2_MAX_TEXT);
	return g2_fail_hint(err, "Give fewer or shorter examples, or a shorter text.");
}

static bool
fill_example(prompt *p, g2_span text, g2_span label)
{
	if (!fill(p, p->before, text))
		return false;
	g2_buf_append(&p->text, p->space.data, p->space.len);
	g2_buf_append(&p->text, label.data, label.len);
	if (!fill(p, p->after, text))
		return false;
	return g2_buf_append(&p->text, BETWEEN_EXAMPLES, strlen(BETWEEN_EXAMPLES)) ||
		g2_fail_memory(&p->request->error, p->text.len);
}

/* The prompt with this much of the text. */
static bool
fill_prompt(prompt *p, g2_span text)
{
	const g2_score *m = &p->request->m.score;
	bool		ok = true;

	p->text.len = 0;
	for (uint32_t i = 0; ok && i < m->n_examples; i++)
		ok = fill_example(p, m->example_texts[i], m->example_labels[i]);
	return ok && fill(p, p->before, text);
}

/* Its ids; at most max_ids (0 = no limit). */
static bool
encode_prompt(prompt *p, size_t max_ids)
{
	p->request->ids.len = 0;
	return g2_request_encode(p->request, (g2_span) {p->text.data, (uint32_t) p->text.len},
							 max_ids, &p->request->ids);
}

/* ---- fitting it into the context ---- */

static bool
is_too_long(const g2_request *request)
{
	return request->error.code == G2_E_TOO_LONG;
}

static bool
no_room(g2_request *request)
{
	g2_fail(&request->error, G2_E_TOO_LONG,
			"template, examples and labels do not fit into the context of model \"%s\"",
			request->model->name);
	g2_fail_detail(&request->error, "The context holds %u tokens.",
				   request->model->pack->weights.arch.n_ctx);
	g2_fail_hint(&request->error, request->m.score.n_examples > 0 ?
				 "Give fewer or shorter examples." :
				 "Shorten the labels, the template or the condition.");
	/* A condition is an argument, which may differ from row to row. */
	return request->m.score.condition.len == 0 && g2_fail_options(&request->error);
}

static bool
encode_part(void *arg, g2_span text)
{
	return fill_prompt(arg, text) && encode_prompt(arg, 0);
}

static bool
too_long(g2_request *request, size_t room)
{
	g2_fail(&request->error, G2_E_TOO_LONG,
			"the text does not fit into the context of model \"%s\"", request->model->name);
	g2_fail_detail(&request->error, "The context has room for %zu tokens before the label; "
				   "template, examples and text have more.", room);
	return g2_fail_hint(&request->error, "Shorten the text, or let it be cut with the option "
						"\"truncate\".");
}

static bool
cut_text(prompt *p, size_t room)
{
	g2_request *request = p->request;
	uint32_t	flags = request->m.score.flags;
	bool		fits;

	request->truncated = true;
	return g2_cut_text(request, request->m.score.text,
					   flags & G2_SCORE_TRUNCATE_LEFT ? G2_CUT_LEFT : G2_CUT_RIGHT, room,
					   encode_part, p, &fits) &&
		(fits || no_room(request));
}

static bool
fit_prompt(prompt *p)
{
	g2_request *request = p->request;
	bool		whole = (request->m.score.flags & G2_SCORE_TRUNCATE_NOT) != 0;
	size_t		room = request->model->pack->weights.arch.n_ctx,
				longest = 1;

	for (uint32_t i = 0; i < request->scoring.n_labels; i++)
		longest = G2_MAX(longest, request->scoring.labels[i].len);
	/* The last token of a label is not fed. */
	if (longest > room)
		return no_room(request);
	room -= longest - 1;
	/* What stands around the text has to fit in any case. */
	if (!fill_prompt(p, g2_span_of("")))
		return false;
	if (!encode_prompt(p, room))
		return is_too_long(request) ? no_room(request) : false;
	if (!fill_prompt(p, request->m.score.text))
		return false;
	if (!encode_prompt(p, whole ? room : 0))
		return is_too_long(request) && whole ? too_long(request, room) : false;
	if (request->ids.len > room && !cut_text(p, room))
		return false;
	if (request->ids.len > 0)
		return true;
	g2_fail(&request->error, G2_E_PARAM, "nothing stands before the label");
	return g2_fail_hint(&request->error, "Begin the template with something.");
}

/* ---- labels ---- */

static bool
encode_labels(prompt *p)
{
	g2_request *request = p->request;
	const g2_score *m = &request->m.score;
	g2_scoring *s = &request->scoring;
	uint32_t	n_ctx = request->model->pack->weights.arch.n_ctx;

	s->labels = g2_alloc_array(m->n_labels, sizeof *s->labels);
	if (!s->labels)
		return g2_fail_memory(&request->error, m->n_labels * sizeof *s->labels);
	s->n_labels = m->n_labels;
	for (uint32_t i = 0; i < m->n_labels; i++)
	{
		p->text.len = 0;
		g2_buf_append(&p->text, p->space.data, p->space.len);
		if (!g2_buf_append(&p->text, m->labels[i].data, m->labels[i].len))
			return g2_fail_memory(&request->error, p->text.len);
		if (!g2_request_encode(request, (g2_span) {p->text.data, (uint32_t) p->text.len}, n_ctx,
							   &s->labels[i]))
			return is_too_long(request) ? no_room(request) : false;
		if (s->labels[i].len == 0)
		{
			g2_fail(&request->error, G2_E_PARAM, "label %u has no token", i + 1);
			return g2_fail_options(&request->error);
		}
	}
	return true;
}

bool
g2_labels_encode(g2_request *request)
{
	prompt		p = {.request = request};
	bool		ok = find_template(&p) && list_labels(&p) && encode_labels(&p) && fit_prompt(&p);

	g2_text_free(&p.list);
	g2_text_free(&p.text);
	return ok;
}
