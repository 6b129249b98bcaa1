/*
 * cuda_plan.cpp: a plan, from the caller's arrays to what lies on the device (plan_device.h), to
 * launches, to the caller's results.
 *
 * First everything is written into the entry's pinned memory, which may grow then; afterwards copies
 * and launches go to the stream.  Three ways:
 *   - rows that all fit one pass and four chunks stay on the device for all steps of the plan ...
 *   - ... and, where each sequence has one row, a step is a graph;
 *   - else each pass of each step goes there on its own, and each of its chunks.
 *
 * What comes back, also pinned: [passes] whether they failed, [emitted] results, then for plans of one
 * step [emitted][n_top] candidates, [emitted][n_vocab] logits, [emitted][n_embd] norms, as wanted.
 */
#include "cuda_state.h"

#define WANT_OF_HEAD (G2_WANT_TOKEN | G2_WANT_LOGPROB | G2_WANT_TOP | G2_WANT_LOGITS)
#define WANT_ROWS (G2_WANT_TOP | G2_WANT_LOGITS | G2_WANT_NORM)

/* Rows of one sequence within a pass. */
typedef struct span
{
	uint32_t	sequence;
	uint32_t	first;			/* row of the plan */
	uint32_t	rows;
} span;

/* What was written for a chunk. */
typedef struct chunk_note
{
	size_t		at;				/* in the pinned memory */
	size_t		bytes;
	uint32_t	first_emitted;
	uint32_t	want;			/* of all its outputs */
} chunk_note;

/* What was written for a pass. */
typedef struct pass_note
{
	size_t		at;
	size_t		bytes;
	uint32_t	n_rows;
	uint32_t	n_sequences;
	uint32_t	n_tiles;
	uint32_t	segments;
	uint32_t	first_chunk;
	uint32_t	n_chunks;
} pass_note;

typedef struct builder
{
	g2_backend *b;
	g2d_entry  *e;
	const g2_plan *plan;
	g2_backend_model *m;
	uint32_t	want;			/* of all outputs */
	span		spans[G2D_PASS_ROWS];
	uint32_t	n_spans;
	uint32_t	n_rows;
	uint32_t	first_row;		/* of the plan */
	uint32_t	end_row;
	pass_note  *passes;
	uint32_t	n_passes;
	uint32_t	pass_room;
	chunk_note *chunks;
	uint32_t	n_chunks;
	uint32_t	chunk_room;
} builder;

/* ---- memory ---- */

/* Pinned memory for `more` bytes behind what was written.  Nothing of the entry is on the stream. */
static bool
in_reserve(g2d_entry *e, size_t more, g2_error *err)
{
	size_t		room = e->in_room > 0 ? e->in_room : 4096;
	void	   *p;

	while (room < e->in_len + more)
		room *= 2;
	if (room == e->in_room)
		return true;
	if (!rt_host_alloc(room, &p, err))
		return false;
	if (e->in_len > 0)
		memcpy(p, e->in, e->in_len);
	rt_host_free(e->in);
	e->in = static_cast<char *>(p);
	e->in_room = room;
	return true;
}

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

/* Notes which output the next result is. */
static bool
emit(g2d_entry *e, uint32_t output, g2_error *err)
{
	if (e->n_emitted == e->output_room)
	{
		size_t		room = e->output_room > 0 ? e->output_room * 2 : 256;
		uint32_t   *p = static_cast<uint32_t *>(g2_realloc_array(e->output_of, room, sizeof *p));

		if (!p)
			return g2_fail_memory(err, room * sizeof *p);
		e->output_of = p;
		e->output_room = room;
	}
	e->output_of[e->n_emitted++] = output;
	return true;
}

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
	l.logits = l.top + (want & G2_WANT_TOP ? n * e->plan.n_top * sizeof(g2d_top) : 0);
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

/* ---- passes ---- */

/* Gathers the rows of the next pass; false: there are none left. */
static bool
gather(builder *p, uint32_t *sequence, uint32_t *done)
{
	p->n_spans = p->n_rows = 0;
	while (*sequence < p->plan->n_sequences && p->n_rows < G2D_PASS_ROWS)
	{
		const g2_plan_sequence *s = &p->plan->sequences[*sequence];
		uint32_t	n = G2_MIN(s->n_rows - *done, G2D_PASS_ROWS - p->n_rows);

		p->spans[p->n_spans++] = {*sequence, s->first_row + *done, n};
		p->n_rows += n;
		*done += n;
		if (*done == s->n_rows)
		{
			(*sequence)++;
			*done = 0;
		}
	}
	if (p->n_rows == 0)
		return false;
	p->first_row = p->spans[0].first;
	p->end_row = p->first_row + p->n_rows;	/* rows stand in the order of sequences */
	return true;
}

/* Whether a sequence of an ended slot rests in the first step too. */
static uint32_t
row_flags(const g2_plan *plan, const g2_plan_sequence *s)
{
	for (uint32_t r = 0; r < s->n_rows; r++)
		if (plan->token[s->first_row + r] == G2_TOKEN_PREVIOUS)
			return G2D_ROW_RESTS_FIRST;
	return 0;
}

/* Blocks that a span reads and writes, the plan's steps included. */
static uint32_t
span_blocks(const builder *p, const span *s)
{
	return (p->plan->position[s->first + s->rows - 1] + p->plan->n_steps - 1) / G2_BLOCK + 1;
}

/* Counts what the gathered rows take. */
static pass_note
measure_pass(const builder *p)
{
	pass_note	n = {};
	size_t		blocks = 0;

	n.n_rows = p->n_rows;
	n.n_sequences = p->n_spans;
	for (uint32_t i = 0; i < p->n_spans; i++)
	{
		const span *s = &p->spans[i];
		const uint32_t last = p->plan->position[s->first + s->rows - 1] + p->plan->n_steps - 1;

		n.n_tiles += (s->rows + G2D_TILE - 1) / G2D_TILE;
		n.segments = G2_MAX(n.segments, g2d_segments(last));
		blocks += span_blocks(p, s);
	}
	n.bytes = sizeof(g2d_pass) + n.n_rows * sizeof(g2d_row) + n.n_tiles * sizeof(g2d_tile) +
		blocks * sizeof(uint32_t);
	n.first_chunk = p->n_chunks;
	return n;
}

static bool
note_pass(builder *p, g2_error *err)
{
	if (p->n_passes == p->pass_room)
	{
		uint32_t	room = p->pass_room > 0 ? p->pass_room * 2 : 4;
		pass_note  *n = static_cast<pass_note *>(g2_realloc_array(p->passes, room, sizeof *n));

		if (!n)
			return g2_fail_memory(err, room * sizeof *n);
		p->passes = n;
		p->pass_room = room;
	}
	p->passes[p->n_passes++] = measure_pass(p);
	return true;
}

static void
write_rows(const builder *p, g2d_pass *to)
{
	g2d_tile   *tile = reinterpret_cast<g2d_tile *>(reinterpret_cast<char *>(to) + to->tiles_at);
	uint32_t   *table = reinterpret_cast<uint32_t *>(reinterpret_cast<char *>(to) + to->tables_at),
				at = 0,
				r = 0;

	for (uint32_t i = 0; i < p->n_spans; i++)
	{
		const span *s = &p->spans[i];
		const g2_plan_sequence *q = &p->plan->sequences[s->sequence];
		const uint32_t blocks = span_blocks(p, s),
					flags = row_flags(p->plan, q);

		for (uint32_t t = 0; t < s->rows; t += G2D_TILE)
			*tile++ = {r + t, G2_MIN(s->rows - t, G2D_TILE)};
		for (uint32_t row = s->first; row < s->first + s->rows; row++)
			to->rows[r++] = {p->plan->token[row], p->plan->position[row],
				q->slot < p->b->limits.n_slots ? q->slot : 0, flags, at};
		memcpy(table + at, q->blocks, blocks * sizeof *table);
		at += blocks;
	}
}

/* Writes the gathered rows as step `step` will find them. */
static bool
write_pass(builder *p, uint32_t step, g2_error *err)
{
	g2d_entry  *e = p->e;
	pass_note  *n;
	g2d_pass   *to;

	if (!note_pass(p, err))
		return false;
	n = &p->passes[p->n_passes - 1];
	if (!in_reserve(e, n->bytes + 16, err))
		return false;
	n->at = G2_ROUND_UP(e->in_len, (size_t) 16);
	e->in_len = n->at + n->bytes;
	to = reinterpret_cast<g2d_pass *>(e->in + n->at);
	memset(to, 0, sizeof *to);
	to->n_rows = n->n_rows;
	to->n_tiles = n->n_tiles;
	to->step = step;
	to->tiles_at = (uint32_t) (sizeof *to + n->n_rows * sizeof(g2d_row));
	to->tables_at = to->tiles_at + n->n_tiles * (uint32_t) sizeof(g2d_tile);
	write_rows(p, to);
	return true;
}

/* ---- chunks ---- */

static bool
note_chunk(builder *p, size_t at, uint32_t first_emitted, g2_error *err)
{
	if (p->n_chunks == p->chunk_room)
	{
		uint32_t	room = p->chunk_room > 0 ? p->chunk_room * 2 : G2D_CHUNKS;
		chunk_note *c = static_cast<chunk_note *>(g2_realloc_array(p->chunks, room, sizeof *c));

		if (!c)
			return g2_fail_memory(err, room * sizeof *c);
		p->chunks = c;
		p->chunk_room = room;
	}
	p->chunks[p->n_chunks++] = {at, 0, first_emitted, 0};
	return true;
}

static g2d_chunk *
chunk_at(const builder *p, uint32_t c)
{
	return reinterpret_cast<g2d_chunk *>(p->e->in + p->chunks[c].at);
}

/* Begins a chunk, with room for the largest. */
static bool
begin_chunk(builder *p, g2_error *err)
{
	const size_t most = p->m->chunk_bytes;

	if (!in_reserve(p->e, most + 16, err))
		return false;
	p->e->in_len = G2_ROUND_UP(p->e->in_len, (size_t) 16);
	if (!note_chunk(p, p->e->in_len, p->e->n_emitted, err))
		return false;
	memset(chunk_at(p, p->n_chunks - 1), 0, offsetof(g2d_chunk, head_row));
	return true;
}

static void
end_chunk(builder *p)
{
	g2d_chunk  *c = chunk_at(p, p->n_chunks - 1);

	c->n_top = p->plan->n_top;
	c->task_start[c->n_tasks] = c->n_outputs;
	p->chunks[p->n_chunks - 1].bytes = sizeof *c + c->n_outputs * sizeof(g2d_output);
	p->e->in_len += p->chunks[p->n_chunks - 1].bytes;
}

/* Outputs of a chunk at most: candidates have a place of their own for each. */
static uint32_t
most_outputs(const builder *p)
{
	return !(p->want & G2_WANT_TOP) || p->plan->n_top == 0 ? G2D_OUTPUTS :
		G2_MIN(G2D_OUTPUTS, p->m->top_room / p->plan->n_top);
}

/* Adds output i to the open chunk. */
static bool
add_output(builder *p, uint32_t i, uint32_t step, g2_error *err)
{
	const g2_plan *plan = p->plan;
	const g2_output *o = &plan->outputs[i];
	const uint32_t row = o->row - p->first_row;
	g2d_chunk  *c = chunk_at(p, p->n_chunks - 1);
	const bool	follows = g2_plan_follows(plan, i),
				goes_on = i + 1 < plan->n_outputs && g2_plan_follows(plan, i + 1);

	if (c->n_head_rows == 0 || c->head_row[c->n_head_rows - 1] != row)
		c->head_row[c->n_head_rows++] = row;
	if (c->n_outputs == 0 || !follows)
		c->task_start[c->n_tasks++] = c->n_outputs;
	c->outputs[c->n_outputs++] = {c->n_head_rows - 1, o->want & G2_WANT_TOKEN ? o->slot : 0, o->want,
		o->want & G2_WANT_TOKEN || o->want & G2_WANT_LOGPROB ? o->target : 0, follows,
		goes_on ? plan->token[plan->outputs[i + 1].row] : G2_TOKEN_NONE};
	p->chunks[p->n_chunks - 1].want |= o->want;
	return emit(p->e, step * plan->n_outputs + i, err);
}

/* Whether the open chunk, if there is one, has no place for an output on this row. */
static bool
chunk_full(const builder *p, uint32_t row)
{
	const g2d_chunk *c = chunk_at(p, p->n_chunks - 1);

	return c->n_outputs == most_outputs(p) ||
		(c->n_head_rows == G2D_HEAD_ROWS && c->head_row[c->n_head_rows - 1] != row);
}

/* Outputs on the rows of the pass. */
static bool
write_chunks(builder *p, uint32_t step, g2_error *err)
{
	const uint32_t before = p->n_chunks;

	for (uint32_t i = 0; i < p->plan->n_outputs; i++)
	{
		const g2_output *o = &p->plan->outputs[i];

		if (o->row < p->first_row || o->row >= p->end_row || o->want == 0)
			continue;
		if (p->n_chunks > before && chunk_full(p, o->row - p->first_row))
		{
			end_chunk(p);
			if (!begin_chunk(p, err))
				return false;
		}
		else if (p->n_chunks == before && !begin_chunk(p, err))
			return false;
		if (!add_output(p, i, step, err))
			return false;
	}
	if (p->n_chunks > before)
		end_chunk(p);
	p->passes[p->n_passes - 1].n_chunks = p->n_chunks - before;
	return true;
}

/* ---- to the stream ---- */

static bool
send_pass(const builder *p, const pass_note *pass, g2_error *err)
{
	return rt_copy_in(p->b->stream, p->m->ws.pass, p->e->in + pass->at, pass->bytes, err);
}

static bool
send_chunk(const builder *p, uint32_t c, uint32_t area, g2_error *err)
{
	return rt_copy_in(p->b->stream, p->m->ws.chunk[area], chunk_at(p, c), p->chunks[c].bytes, err);
}

static void
launch_layers(const builder *p, const pass_note *pass)
{
	g2d_forward_layers(p->m, pass->n_rows, pass->n_tiles, pass->segments);
}

static void
launch_chunk(const builder *p, uint32_t c, uint32_t area)
{
	const g2d_chunk *chunk = chunk_at(p, c);

	g2d_forward_chunk(p->m, area, chunk->n_head_rows, chunk->n_tasks,
					  (p->chunks[c].want & WANT_OF_HEAD) != 0);
}

/* Candidates, logits and norms of a chunk that has just been launched. */
static bool
fetch_rows(const builder *p, uint32_t c, const out_layout *l, g2_error *err)
{
	const g2d_workspace *ws = &p->m->ws;
	const g2d_chunk *chunk = chunk_at(p, c);
	const uint32_t n_vocab = p->m->arch.n_vocab,
				n_embd = p->m->arch.n_embd,
				n_top = p->plan->n_top;
	const size_t first = p->chunks[c].first_emitted;
	char	   *out = p->e->out;

	if ((p->chunks[c].want & G2_WANT_TOP) && n_top > 0 &&
		!rt_copy_out(p->b->stream, out + l->top + first * n_top * sizeof(g2d_top), ws->top,
					 (size_t) chunk->n_outputs * n_top * sizeof(g2d_top), err))
		return false;
	for (uint32_t i = 0; i < chunk->n_outputs; i++)
	{
		const g2d_output *o = &chunk->outputs[i];

		if ((o->want & G2_WANT_LOGITS) &&
			!rt_copy_out(p->b->stream, out + l->logits + (first + i) * n_vocab * sizeof(float),
						 ws->logits + (size_t) o->head_row * n_vocab, n_vocab * sizeof(float), err))
			return false;
		if ((o->want & G2_WANT_NORM) &&
			!rt_copy_out(p->b->stream, out + l->norm + (first + i) * n_embd * sizeof(float),
						 ws->final + (size_t) o->head_row * n_embd, n_embd * sizeof(float), err))
			return false;
	}
	return true;
}

static bool
fetch_results(const builder *p, const out_layout *l, size_t first, size_t n, g2_error *err)
{
	return n == 0 || rt_copy_out(p->b->stream, p->e->out + l->results + first * sizeof(g2d_result),
								 p->m->ws.results, n * sizeof(g2d_result), err);
}

static bool
fetch_status(const builder *p, uint32_t pass, g2_error *err)
{
	return rt_copy_out(p->b->stream, p->e->out + pass * sizeof(uint32_t),
					   &p->m->ws.pass->failed, sizeof(uint32_t), err);
}

/* ---- the three ways ---- */

/* Rows that a graph is launched for; 0: this plan is none for a graph. */
static uint32_t
graph_rows(const builder *p)
{
	const pass_note *pass = &p->passes[0];
	const uint32_t rows = g2d_bucket_rows(pass->n_rows);

	if (pass->n_sequences != pass->n_rows || p->n_chunks == 0 || (p->want & WANT_ROWS) != 0 ||
		p->n_chunks > (rows + G2D_HEAD_ROWS - 1) / G2D_HEAD_ROWS)
		return 0;
	for (uint32_t c = 0; c < p->n_chunks; c++)
	{
		const uint32_t most = G2_MIN(rows - c * G2D_HEAD_ROWS, G2D_HEAD_ROWS);

		if (chunk_at(p, c)->n_head_rows > most || chunk_at(p, c)->n_tasks > most)
			return 0;
	}
	return rows;
}

/* Chunks that the graph runs through and the plan does not have. */
static bool
write_empty_chunks(builder *p, uint32_t rows, g2_error *err)
{
	while (p->n_chunks * G2D_HEAD_ROWS < rows)
	{
		if (!begin_chunk(p, err))
			return false;
		end_chunk(p);
	}
	return true;
}

/* The one pass and its chunks stay on the device for all steps. */
static bool
launch_resident(builder *p, uint32_t rows_of_graph, const out_layout *l, g2_error *err)
{
	const pass_note *pass = &p->passes[0];

	if (!send_pass(p, pass, err))
		return false;
	for (uint32_t c = 0; c < p->n_chunks; c++)
	{
		chunk_at(p, c)->base = p->chunks[c].first_emitted;
		chunk_at(p, c)->stride = p->e->n_emitted;
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
			launch_chunk(p, c, c);
			if (!fetch_rows(p, c, l, err))
				return false;
		}
		g2d_launch_advance(p->b->stream, p->m->ws.pass);
	}
	return fetch_status(p, 0, err) &&
		fetch_results(p, l, 0, (size_t) p->e->n_emitted * p->e->repeats, err);
}

/* Each pass on its own, its chunks one after the other. */
static bool
launch_passes(builder *p, const out_layout *l, g2_error *err)
{
	for (uint32_t i = 0; i < p->n_passes; i++)
	{
		const pass_note *pass = &p->passes[i];

		if (!send_pass(p, pass, err))
			return false;
		launch_layers(p, pass);
		for (uint32_t c = pass->first_chunk; c < pass->first_chunk + pass->n_chunks; c++)
		{
			if (!send_chunk(p, c, 0, err))
				return false;
			launch_chunk(p, c, 0);
			if (!fetch_rows(p, c, l, err) ||
				!fetch_results(p, l, p->chunks[c].first_emitted, chunk_at(p, c)->n_outputs, err))
				return false;
		}
		if (!fetch_status(p, i, err))
			return false;
	}
	return true;
}

/* Writes the passes of the plan: once where they stay on the device, else for each step. */
static bool
write_all(builder *p, bool *resident, g2_error *err)
{
	const bool	one_pass = p->plan->n_rows <= G2D_PASS_ROWS;
	const uint32_t steps = one_pass ? 1 : p->plan->n_steps;

	for (uint32_t step = 0; step < steps; step++)
	{
		uint32_t	sequence = 0,
					done = 0;

		while (gather(p, &sequence, &done))
			if (!write_pass(p, step, err) || !write_chunks(p, step, err))
				return false;
	}
	*resident = one_pass && p->n_chunks <= G2D_CHUNKS &&
		(size_t) p->e->n_emitted * p->plan->n_steps <= G2D_RESULTS;
	return *resident || !one_pass || p->plan->n_steps == 1 ||
		g2_fail(err, G2_E_INTERNAL, "invalid plan: several steps with too many outputs (%u)",
				p->plan->n_outputs);
}

static bool
launch_all(builder *p, g2_error *err)
{
	g2d_entry  *e = p->e;
	bool		resident;
	uint32_t	rows = 0;
	out_layout	l;
	size_t		pending_at;

	if (!write_all(p, &resident, err))
		return false;
	e->repeats = resident ? p->plan->n_steps : 1;
	e->n_status = p->n_passes;
	if (resident && (rows = graph_rows(p)) > 0 && !write_empty_chunks(p, rows, err))
		return false;
	l = lay_out(e, p->want);
	pending_at = G2_ROUND_UP(e->in_len, (size_t) 16);
	return in_reserve(e, g2d_pending_bytes(p->b) + 16, err) && out_reserve(e, l.end, err) &&
		g2d_pending_launch(p->b, e->in + pending_at, err) &&
		rt_event_record(p->b->stream, e->begin, err) &&
		(resident ? launch_resident(p, rows, &l, err) : launch_passes(p, &l, err)) &&
		rt_event_record(p->b->stream, e->end, err) && rt_check(err);
}

bool
g2d_plan_launch(g2_backend *b, g2d_entry *e, g2_error *err)
{
	builder	   *p = static_cast<builder *>(g2_alloc(sizeof *p));
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
	for (uint32_t t = 0; (o->want & G2_WANT_TOP) && t < plan->n_top; t++)
	{
		r->top_token[(size_t) i * plan->n_top + t] = top[t].token;
		r->top_logprob[(size_t) i * plan->n_top + t] = top[t].logprob;
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
