/*
 * prompt.c: text and template to the ids of a prompt.
 *
 * Parts (G2_GEN_SPLIT): a part is as much of the text as its prompt has room for, cut at the best
 * place of its second half.  It is sought in a window of WINDOW_BYTES for each position of the
 * context, and depends on the bytes in there alone: so the parts of a text that comes piece by
 * piece (G2_GEN_PARTS) are those of the text as a whole.  That is also why a text that is longer
 * than the window is never one prompt.
 *
 * A part's summary gets at most a quarter of what the template leaves of the context, and the part
 * at least half of the rest: so each round leaves a third less at least.
 */
#include "prompt.h"

#include "request.h"

#define WINDOW_BYTES 16
#define MAX_PARTS 1024u			/* whose prompts are in memory at once */
#define LEAST_ROOM 8			/* tokens that a template must leave of the context */

typedef struct prompt
{
	g2_request *request;
	g2_span		template_text;	/* empty: the text is the prompt */
	g2_span		text;
} prompt;

/* ---- template ---- */

static bool
adds_start(const g2_request *request)
{
	return (request->m.generate.flags & G2_GEN_ADD_START) != 0;
}

/* The ids of the prompt with this text, behind none; at most max_ids (0 = no limit). */
static bool
encode_filled(const prompt *p, g2_span text, size_t max_ids, g2_ids *ids)
{
	g2_request *request = p->request;
	g2_buf		filled = {0};
	bool		ok;

	if (adds_start(request))
	{
		if (!g2_request_add_start(request, ids))
			return false;
		max_ids -= max_ids > 1;
	}
	if (p->template_text.len == 0)
		return g2_request_encode(request, text, max_ids, ids);
	ok = g2_text_fill(p->template_text.data, p->template_text.len, text.data, text.len,
					  G2_MAX_TEXT, &filled, &request->error) &&
		g2_request_encode(request, (g2_span) {filled.data, (uint32_t) filled.len}, max_ids, ids);
	g2_text_free(&filled);
	return ok;
}

static uint32_t
context(const g2_request *request)
{
	return request->model->pack->weights.arch.n_ctx;
}

static bool
fail_template(g2_request *request)
{
	g2_fail(&request->error, G2_E_TOO_LONG,
			"the template does not fit into the context of model \"%s\"", request->model->name);
	g2_fail_detail(&request->error, "The context holds %u tokens.", context(request));
	g2_fail_hint(&request->error, "Shorten the template.");
	return g2_fail_options(&request->error);
}

/* counted: all of the prompt has been encoded, and not only as much as the context holds. */
static bool
fail_long(g2_request *request, bool counted)
{
	uint32_t	n_ctx = context(request);

	g2_fail(&request->error, G2_E_TOO_LONG,
			"the prompt does not fit into the context of model \"%s\"", request->model->name);
	g2_fail_detail(&request->error, "The context holds %u tokens, at least one of them new; "
				   "the prompt has %s%zu.", n_ctx, counted ? "" : "more than ",
				   counted ? request->ids.len : n_ctx);
	return g2_fail_hint(&request->error, "Shorten the text (gpt_count_tokens counts its tokens), "
						"or let it be cut with the option \"truncate\".");
}

bool
g2_prompt_too_long(g2_request *request)
{
	return fail_long(request, true);
}

/* ---- cut ---- */

static bool
encode_part(void *arg, g2_span text)
{
	const prompt *p = arg;

	p->request->ids.len = 0;
	return encode_filled(p, text, 0, &p->request->ids);
}

static g2_cut
side_of(const g2_request *request)
{
	uint32_t	flags = request->m.generate.flags;

	return flags & G2_GEN_TRUNCATE_LEFT ? G2_CUT_LEFT :
		flags & G2_GEN_TRUNCATE_RIGHT ? G2_CUT_RIGHT : G2_CUT_NOT;
}

/* The prompt, which is too long, is left with room for the new tokens; half of the context is the
 * prompt's in any case. */
static bool
cut(prompt *p, g2_cut side)
{
	g2_request *request = p->request;
	const g2_generate *m = &request->m.generate;
	uint32_t	n_ctx = context(request),
				wanted = m->flags & G2_GEN_MAX_LENGTH ? 1 : m->max_new;
	size_t		room = n_ctx - G2_MAX(G2_MIN(wanted, n_ctx / 2), 1u);
	bool		fits = true;

	request->truncated = true;
	if (p->template_text.len == 0)
		g2_cut_ids(&request->ids, side, adds_start(request), room);
	else if (!g2_cut_text(request, p->text, side, room, encode_part, p, &fits))
		return false;
	return fits || fail_template(request);
}

static bool
encode_whole(prompt *p)
{
	g2_request *request = p->request;
	g2_cut		side = side_of(request);
	uint32_t	n_ctx = context(request);

	if (!encode_filled(p, p->text, side == G2_CUT_NOT ? n_ctx : 0, &request->ids))
		return request->error.code == G2_E_TOO_LONG && side == G2_CUT_NOT ?
			fail_long(request, false) : false;
	return side == G2_CUT_NOT || request->ids.len < n_ctx || cut(p, side);
}

/* ---- parts ---- */

/* Room for a part's prompt, and for its text beside the template; sets the part's new tokens. */
static bool
find_room(const prompt *p, size_t *room, size_t *text_room)
{
	g2_request *request = p->request;
	g2_ids		ids = {0};
	uint32_t	n_ctx = context(request);
	size_t		given;

	if (!encode_filled(p, (g2_span) {"", 0}, 0, &ids))
		return false;
	given = ids.len;
	g2_wipe_free(ids.data, ids.cap * sizeof *ids.data);
	if (given + LEAST_ROOM > n_ctx)
		return fail_template(request);
	request->split.max_new = G2_MIN(request->m.generate.max_new, (n_ctx - (uint32_t) given) / 4);
	*room = n_ctx - request->split.max_new;
	*text_room = *room - given;
	return true;
}

/* The ids of the prompt with this text.  *fits is false, with no error and no ids, when it has more
 * than room has. */
static bool
try_part(const prompt *p, g2_span text, size_t room, g2_ids *ids, bool *fits)
{
	bool		ok = encode_filled(p, text, room, ids);

	/* A start token may be there. */
	if (!ok)
		ids->len = 0;
	*fits = ok;
	return ok || p->request->error.code == G2_E_TOO_LONG;
}

/* How much of the window is the next part, and its prompt. */
static bool
take_from_window(const prompt *p, g2_span window, size_t room, size_t text_room, g2_ids *ids,
				 size_t *used)
{
	g2_request *request = p->request;
	g2_ids		of_text = {0};
	bool		ok = g2_request_encode(request, window, 0, &of_text),
				fits = false;
	size_t		keep = G2_MIN(of_text.len, text_room);

	while (ok && !fits)
	{
		ok = keep > 0 ? g2_cut_bytes(request, window, &of_text, keep, used) :
			fail_template(request);
		if (!ok)
			break;
		*used = g2_cut_place(window.data, G2_MAX(*used, (size_t) 1));
		ok = try_part(p, g2_cut_trim((g2_span) {window.data, (uint32_t) *used}), room, ids, &fits);
		keep -= keep / 8 + 1;
	}
	g2_wipe_free(of_text.data, of_text.cap * sizeof *of_text.data);
	return ok;
}

/* The next part of what is left of the text. */
static bool
take_part(const prompt *p, g2_span left, size_t room, size_t text_room, g2_ids *ids, size_t *used)
{
	size_t		window = (size_t) context(p->request) * WINDOW_BYTES;
	bool		fits = false;

	if (left.len <= window)
	{
		*used = left.len;
		if (!try_part(p, g2_cut_trim(left), room, ids, &fits) || fits)
			return fits;
		window = left.len;
	}
	else
		window = g2_cut_character(left.data, window);
	return take_from_window(p, (g2_span) {left.data, (uint32_t) window}, room, text_room, ids,
							used);
}

static bool
add_part(g2_request *request, g2_ids *ids)
{
	g2_split   *s = &request->split;

	if (s->n == s->cap)
	{
		uint32_t	cap = G2_MAX(s->cap * 2, 16u);
		g2_split_part    *parts = g2_realloc_array(s->parts, cap, sizeof *parts);

		if (!parts)
			return g2_fail_memory(&request->error, cap * sizeof *parts);
		s->parts = parts;
		s->cap = cap;
	}
	s->parts[s->n++] = (g2_split_part) {.request = request, .prompt = *ids};
	return true;
}

/* The text, or one that goes on, has no other part that is complete. */
static bool
is_used_up(const prompt *p, g2_span left)
{
	uint32_t	flags = p->request->m.generate.flags;

	if ((flags & G2_GEN_PARTS) && !(flags & G2_GEN_LAST))
		return left.len <= (size_t) context(p->request) * WINDOW_BYTES;
	return g2_cut_trim(left).len == 0;
}

/* The next parts of the text, behind those that were taken before. */
static bool
take_parts(const prompt *p, size_t room, size_t text_room)
{
	g2_split   *s = &p->request->split;

	for (;;)
	{
		g2_span		left = {p->text.data + s->used, p->text.len - (uint32_t) s->used};
		g2_ids		ids = {0};
		size_t		used = 0;

		s->whole = is_used_up(p, left);
		if (s->whole || s->n == MAX_PARTS)
			return true;
		if (!take_part(p, left, room, text_room, &ids, &used) || !add_part(p->request, &ids))
		{
			g2_wipe_free(ids.data, ids.cap * sizeof *ids.data);
			return false;
		}
		s->used += used;
	}
}

static bool
split(const prompt *p)
{
	g2_request *request = p->request;
	size_t		room = 0,
				text_room = 0;
	bool		fits = false;

	if (!find_room(p, &room, &text_room))
		return false;
	if (!(request->m.generate.flags & G2_GEN_PARTS) && request->split.used == 0 &&
		p->text.len <= (size_t) context(request) * WINDOW_BYTES &&
		(!try_part(p, p->text, room, &request->ids, &fits) || fits))
		return fits;
	return take_parts(p, room, text_room);
}

/* ---- all of it ---- */

bool
g2_prompt_make(g2_request *request)
{
	const g2_generate *m = &request->m.generate;
	prompt		p = {request, m->template_text, m->prompt};

	/* A task's stops hold for a prompt of ids too. */
	if (m->task.len > 0 && !request->task.template_text &&
		!g2_task_find(request->model->pack->description.tasks, request->model->pack->tokenizer,
					  m->task, &request->task, &request->error))
		return false;
	if (m->flags & G2_GEN_PROMPT_IDS)
		return (!adds_start(request) || g2_request_add_start(request, &request->ids)) &&
			g2_request_copy_ids(request, m->prompt);
	if (p.template_text.len == 0 && request->task.template_text)
		p.template_text = g2_span_of(request->task.template_text);
	if (request->split.level > 0)
		p.text = (g2_span) {request->split.text.data, (uint32_t) request->split.text.len};
	return m->flags & (G2_GEN_SPLIT | G2_GEN_PARTS) ? split(&p) : encode_whole(&p);
}
