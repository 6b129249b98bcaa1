/*
 * cuda_plan.cpp: a plan, from what was written for the device (cuda_plan_write.cpp) to launches, to the
 * caller's results.
 *
 * First everything is written into the entry's pinned memory, which may grow then; afterwards
 * copies and launches go to the stream.  Three ways:
 *   - rows that all fit one pass and four chunks stay on the device for all steps of the plan ...
 *   - ... and, where each sequence has one row, a step is a graph;
 *   - else each pass of each step goes there on its own, and each of its chunks.
 *
 * What comes back, also pinned: [passes] whether they failed, [emitted] results, then for plans of
 * one step [emitted][n_top] candidates, [emitted][n_vocab] logits, [emitted][n_embd] norms, as
 * wanted.
 */
#include "cuda_plan.h"

#define WANT_OF_HEAD (G2_WANT_TOKEN | G2_WANT_LOGPROB | G2D_WANT_BEST | G2_WANT_LOGITS)
#define WANT_ROWS (G2D_WANT_BEST | G2_WANT_LOGITS | G2_WANT_NORM)

/* Where the parts of what comes back start. */
typedef struct out_layout
{
	size_t		results;
	size_t		top;
	size_t		logits;
	size_t		norm;
	size_t		end;
} out_layout;

static out_layout
lay_out(const g2d_entry *e, uint32_t want)
{
	const g2_arch *a = &e->plan.model->arch;
	const size_t n = (size_t) e->n_emitted * e->repeats;
	out_layout	l;

	l.results = G2_ROUND_UP(e->n_status * sizeof(uint32_t), (size_t) 16);
	l.top = l.results + n * sizeof(g2d_result);
	l.logits = l.top + (want & G2D_WANT_BEST ? n * e->plan.n_top * sizeof(g2d_top) : 0);
	l.norm = l.logits + (want & G2_WANT_LOGITS ? n * a->n_vocab * sizeof(float) : 0);
	l.end = l.norm + (want & G2_WANT_NORM ? n * a->n_embd * sizeof(float) : 0);
	return l;
}

static uint32_t
all_wants(const g2_plan *plan)
{
	uint32_t	want = 0;

	for (uint32_t i = 0; i < plan->n_outputs; i++)
		want |= plan->outputs[i].want;
	return want;
}

/* ---- to the stream ---- */

static bool
out_reserve(g2d_entry *e, size_t bytes, g2_error *err)
{
	size_t		room = e->out_room > 0 ? e->out_room : 4096;
	void	   *p;

	while (room < bytes)
		room *= 2;
	if (room == e->out_room)
		return true;
	if (!rt_host_alloc(room, &p, err))
		return false;
	rt_host_free(e->out);
	e->out = static_cast<char *>(p);
	e->out_room = room;
	return true;
}

static bool
send_pass(const g2d_builder *p, const g2d_pass_note *pass, g2_error *err)
{
	return rt_copy_in(p->b->stream, p->m->ws.pass, p->e->in + pass->at, pass->bytes, err);
}

static bool
send_chunk(const g2d_builder *p, uint32_t c, uint32_t area, g2_error *err)
{
	return rt_copy_in(p->b->stream, p->m->ws.chunk[area], g2d_chunk_at(p, c), p->chunks[c].bytes, err);
}

static void
launch_layers(const g2d_builder *p, const g2d_pass_note *pass)
{
	g2d_forward_layers(p->m, pass->n_rows, pass->n_tiles, pass->segments);
}

/* Chunks have the place of sets in turns. */
static bool
launch_chunk(const g2d_builder *p, uint32_t c, uint32_t area, g2_error *err)
{
	const g2d_chunk *chunk = g2d_chunk_at(p, c);
	const g2d_chunk_note *n = &p->chunks[c];

	if (n->n_sets > 0 &&
		!rt_copy_in(p->b->stream, p->m->ws.sets, p->e->in + n->sets_at,
					(size_t) n->n_sets * g2d_set_words(p->m->arch.n_vocab) * sizeof(uint64_t), err))
		return false;
	g2d_forward_chunk(p->m, area, chunk->n_head_rows, chunk->n_tasks, (n->want & WANT_OF_HEAD) != 0);
	return true;
}

/* Rows of `width` floats, of outputs that want them, to their places: one copy for rows that stand one
 * behind the other. */
static bool
fetch_wanted(const g2d_builder *p, const g2d_chunk *chunk, uint32_t want, float *to, const float *from,
			 size_t width, g2_error *err)
{
	for (uint32_t i = 0, n; i < chunk->n_outputs; i += n)
	{
		const g2d_output *o = &chunk->outputs[i];

		n = 1;
		if (!(o->want & want))
			continue;
		while (i + n < chunk->n_outputs && (o[n].want & want) && o[n].head_row == o->head_row + n)
			n++;
		if (!rt_copy_out(p->b->stream, to + i * width, from + o->head_row * width,
						 n * width * sizeof(float), err))
			return false;
	}
	return true;
}

/* Candidates, logits and norms of a chunk that has just been launched. */
static bool
fetch_rows(const g2d_builder *p, uint32_t c, const out_layout *l, g2_error *err)
{
	const g2d_workspace *ws = &p->m->ws;
	const g2d_chunk *chunk = g2d_chunk_at(p, c);
	const uint32_t n_vocab = p->m->arch.n_vocab,
				n_embd = p->m->arch.n_embd,
				n_top = p->plan->n_top;
	const size_t first = p->chunks[c].first_emitted;
	char	   *out = p->e->out;

	if ((p->chunks[c].want & G2D_WANT_BEST) && n_top > 0 &&
		!rt_copy_out(p->b->stream, out + l->top + first * n_top * sizeof(g2d_top), ws->top,
					 (size_t) chunk->n_outputs * n_top * sizeof(g2d_top), err))
		return false;
	return fetch_wanted(p, chunk, G2_WANT_LOGITS,
						reinterpret_cast<float *>(out + l->logits) + first * n_vocab, ws->logits, n_vocab,
						err) &&
		fetch_wanted(p, chunk, G2_WANT_NORM,
					 reinterpret_cast<float *>(out + l->norm) + first * n_embd, ws->final, n_embd, err);
}

static bool
fetch_results(const g2d_builder *p, const out_layout *l, size_t first, size_t n, g2_error *err)
{
	return n == 0 || rt_copy_out(p->b->stream, p->e->out + l->results + first * sizeof(g2d_result),
								 p->m->ws.results, n * sizeof(g2d_result), err);
}

static bool
fetch_status(const g2d_builder *p, uint32_t pass, g2_error *err)
{
	return rt_copy_out(p->b->stream, p->e->out + pass * sizeof(uint32_t),
					   &p->m->ws.pass->failed, sizeof(uint32_t), err);
}

/* ---- the three ways ---- */

/* Rows that a graph is launched for; 0: this plan is none for a graph. */
static uint32_t
graph_rows(const g2d_builder *p)
{
	const g2d_pass_note *pass = &p->passes[0];
	const uint32_t rows = g2d_bucket_rows(pass->n_rows);

	if (pass->n_sequences != pass->n_rows || p->n_chunks == 0 || (p->want & WANT_ROWS) != 0 ||
		p->n_chunks > (rows + G2D_HEAD_ROWS - 1) / G2D_HEAD_ROWS)
		return 0;
	for (uint32_t c = 0; c < p->n_chunks; c++)
	{
		const uint32_t most = G2_MIN(rows - c * G2D_HEAD_ROWS, G2D_HEAD_ROWS);

		if (g2d_chunk_at(p, c)->n_head_rows > most || g2d_chunk_at(p, c)->n_tasks > most ||
			p->chunks[c].n_sets > 0)
			return 0;
	}
	return rows;
}

/* The one pass and its chunks stay on the device for all steps. */
static bool
launch_resident(g2d_builder *p, uint32_t rows_of_graph, const out_layout *l, g2_error *err)
{
	const g2d_pass_note *pass = &p->passes[0];

	if (!send_pass(p, pass, err))
		return false;
	for (uint32_t c = 0; c < p->n_chunks; c++)
	{
		g2d_chunk_at(p, c)->base = p->chunks[c].first_emitted;
		g2d_chunk_at(p, c)->stride = p->e->n_emitted;
		if (!send_chunk(p, c, c, err))
			return false;
	}
	for (uint32_t step = 0; step < p->plan->n_steps; step++)
	{
		if (rows_of_graph > 0)
		{
			if (!g2d_forward_step(p->m, rows_of_graph, pass->segments, err))
				return false;
			continue;
		}
		launch_layers(p, pass);
		for (uint32_t c = 0; c < p->n_chunks; c++)
		{
			if (!launch_chunk(p, c, c, err) || !fetch_rows(p, c, l, err))
				return false;
		}
		g2d_launch_advance(p->b->stream, p->m->ws.pass);
	}
	return fetch_status(p, 0, err) &&
		fetch_results(p, l, 0, (size_t) p->e->n_emitted * p->e->repeats, err);
}

/* Each pass on its own, its chunks one after the other. */
static bool
launch_passes(g2d_builder *p, const out_layout *l, g2_error *err)
{
	for (uint32_t i = 0; i < p->n_passes; i++)
	{
		const g2d_pass_note *pass = &p->passes[i];

		if (!send_pass(p, pass, err))
			return false;
		launch_layers(p, pass);
		for (uint32_t c = pass->first_chunk; c < pass->first_chunk + pass->n_chunks; c++)
		{
			if (!send_chunk(p, c, 0, err) || !launch_chunk(p, c, 0, err))
				return false;
			if (!fetch_rows(p, c, l, err) ||
				!fetch_results(p, l, p->chunks[c].first_emitted, g2d_chunk_at(p, c)->n_outputs, err))
				return false;
		}
		if (!fetch_status(p, i, err))
			return false;
	}
	return true;
}

static bool
launch_all(g2d_builder *p, g2_error *err)
{
	g2d_entry  *e = p->e;
	bool		resident;
	uint32_t	rows = 0;
	out_layout	l;
	size_t		pending_at;

	if (!g2d_plan_write(p, &resident, err))
		return false;
	e->repeats = resident ? p->plan->n_steps : 1;
	e->n_status = p->n_passes;
	if (resident && (rows = graph_rows(p)) > 0 && !g2d_plan_write_empty(p, rows, err))
		return false;
	l = lay_out(e, p->want);
	pending_at = G2_ROUND_UP(e->in_len, (size_t) 16);
	return g2d_in_reserve(e, g2d_pending_bytes(p->b) + 16, err) && out_reserve(e, l.end, err) &&
		g2d_pending_launch(p->b, e->in + pending_at, err) &&
		rt_event_record(p->b->stream, e->begin, err) &&
		(resident ? launch_resident(p, rows, &l, err) : launch_passes(p, &l, err)) &&
		rt_event_record(p->b->stream, e->end, err) && rt_check(err);
}

bool
g2d_plan_launch(g2_backend *b, g2d_entry *e, g2_error *err)
{
	g2d_builder *p = static_cast<g2d_builder *>(g2_alloc(sizeof *p));
	g2_error	ignored;
	bool		ok;

	if (!p)
		return g2_fail_memory(err, sizeof *p);
	p->b = b;
	p->e = e;
	p->plan = &e->plan;
	p->m = e->plan.model;
	p->want = all_wants(&e->plan);
	e->in_len = 0;
	e->n_emitted = 0;
	ok = launch_all(p, err);
	if (!ok)
		rt_wait(b->stream, &ignored);	/* what was launched reads the entry's memory */
	g2_free(p->passes);
	g2_free(p->chunks);
	g2_free(p);
	return ok;
}

/* ---- results ---- */

static void
take_output(const g2d_entry *e, const out_layout *l, size_t emitted, uint32_t flat)
{
	const g2_plan *plan = &e->plan;
	const uint32_t i = flat % plan->n_outputs,
				n_vocab = plan->model->arch.n_vocab,
				n_embd = plan->model->arch.n_embd;
	const g2_output *o = &plan->outputs[i];
	const g2d_result *from = reinterpret_cast<const g2d_result *>(e->out + l->results) + emitted;
	const g2d_top *top = reinterpret_cast<const g2d_top *>(e->out + l->top) +
		emitted * plan->n_top;
	g2_result  *r = e->result;

	if (o->want & G2_WANT_TOKEN)
	{
		r->token[flat] = from->token;
		if (r->ended)
			r->ended[flat] = (uint8_t) from->ended;
	}
	if (o->want & G2_WANT_LOGPROB)
		r->logprob[flat] = from->logprob;
	for (uint32_t t = 0; (o->want & G2D_WANT_BEST) && t < plan->n_top; t++)
	{
		const size_t at = (size_t) i * plan->n_top + t;

		r->top_token[at] = top[t].token;
		r->top_logprob[at] = top[t].logprob;
		if (o->want & G2_WANT_CANDIDATES)
			r->top_score[at] = (double) top[t].score;
	}
	if (o->want & G2_WANT_LOGITS)
		memcpy(r->logits + (size_t) i * n_vocab,
			   e->out + l->logits + emitted * n_vocab * sizeof(float), n_vocab * sizeof(float));
	if (o->want & G2_WANT_NORM)
		memcpy(r->norm + (size_t) i * n_embd, e->out + l->norm + emitted * n_embd * sizeof(float),
			   n_embd * sizeof(float));
}

bool
g2d_plan_take(const g2d_entry *e, g2_error *err)
{
	const uint32_t *status = reinterpret_cast<const uint32_t *>(e->out);
	const out_layout l = lay_out(e, all_wants(&e->plan));

	for (uint32_t i = 0; i < e->n_status; i++)
		if (status[i] != 0)
			return g2_fail(err, G2_E_INTERNAL, "invalid plan: previous token out of range");
	for (uint32_t step = 0; step < e->repeats; step++)
		for (uint32_t i = 0; i < e->n_emitted; i++)
			take_output(e, &l, (size_t) step * e->n_emitted + i,
						step * e->plan.n_outputs + e->output_of[i]);
	return true;
}
