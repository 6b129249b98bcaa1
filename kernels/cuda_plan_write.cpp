/*
 * cuda_plan_write.cpp: a plan from the caller's arrays to what will lie on the device
 * (plan_device.h), written into the entry's pinned memory: passes of rows, each with the chunks of
 * its outputs.
 */
#include "cuda_plan.h"

/* ---- memory ---- */

bool
g2d_in_reserve(g2d_entry *e, size_t more, g2_error *err)
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

/* ---- passes ---- */

/* Gathers the rows of the next pass; false: there are none left. */
static bool
gather(g2d_builder *p, uint32_t *sequence, uint32_t *done)
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
span_blocks(const g2d_builder *p, const g2d_span *s)
{
	return (p->plan->position[s->first + s->rows - 1] + p->plan->n_steps - 1) / G2_BLOCK + 1;
}

/* Counts what the gathered rows take. */
static g2d_pass_note
measure_pass(const g2d_builder *p)
{
	g2d_pass_note n = {};
	size_t		blocks = 0;

	n.n_rows = p->n_rows;
	n.n_sequences = p->n_spans;
	for (uint32_t i = 0; i < p->n_spans; i++)
	{
		const g2d_span *s = &p->spans[i];
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
note_pass(g2d_builder *p, g2_error *err)
{
	if (p->n_passes == p->pass_room)
	{
		uint32_t	room = p->pass_room > 0 ? p->pass_room * 2 : 4;
		g2d_pass_note *n = static_cast<g2d_pass_note *>(g2_realloc_array(p->passes, room, sizeof *n));

		if (!n)
			return g2_fail_memory(err, room * sizeof *n);
		p->passes = n;
		p->pass_room = room;
	}
	p->passes[p->n_passes++] = measure_pass(p);
	return true;
}

/* Tables hold places. */
static bool
write_rows(const g2d_builder *p, g2d_pass *to, g2_error *err)
{
	g2d_tile   *tile = reinterpret_cast<g2d_tile *>(reinterpret_cast<char *>(to) + to->tiles_at);
	uint32_t   *table = reinterpret_cast<uint32_t *>(reinterpret_cast<char *>(to) + to->tables_at),
				at = 0,
				r = 0;

	for (uint32_t i = 0; i < p->n_spans; i++)
	{
		const g2d_span *s = &p->spans[i];
		const g2_plan_sequence *q = &p->plan->sequences[s->sequence];
		const uint32_t blocks = span_blocks(p, s),
					flags = row_flags(p->plan, q);

		for (uint32_t t = 0; t < s->rows; t += G2D_TILE)
			*tile++ = {r + t, G2_MIN(s->rows - t, G2D_TILE)};
		for (uint32_t row = s->first; row < s->first + s->rows; row++)
			to->rows[r++] = {p->plan->token[row], p->plan->position[row],
				q->slot < p->b->limits.n_slots ? q->slot : 0, flags, at};
		for (uint32_t b = 0; b < blocks; b++)
			if (!g2d_place_of(p->m, q->blocks[b], &table[at++], err))
				return false;
	}
	return true;
}

/* Writes the gathered rows as step `step` will find them. */
static bool
write_pass(g2d_builder *p, uint32_t step, g2_error *err)
{
	g2d_entry  *e = p->e;
	g2d_pass_note *n;
	g2d_pass   *to;

	if (!note_pass(p, err))
		return false;
	n = &p->passes[p->n_passes - 1];
	if (!g2d_in_reserve(e, n->bytes + 16, err))
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
	return write_rows(p, to, err);
}

/* ---- chunks ---- */

static bool
note_chunk(g2d_builder *p, size_t at, uint32_t first_emitted, g2_error *err)
{
	if (p->n_chunks == p->chunk_room)
	{
		uint32_t	room = p->chunk_room > 0 ? p->chunk_room * 2 : G2D_CHUNKS;
		g2d_chunk_note *c = static_cast<g2d_chunk_note *>(g2_realloc_array(p->chunks, room, sizeof *c));

		if (!c)
			return g2_fail_memory(err, room * sizeof *c);
		p->chunks = c;
		p->chunk_room = room;
	}
	p->chunks[p->n_chunks++] = {at, 0, first_emitted, 0, 0, 0};
	return true;
}

/* Begins a chunk, with room for the largest. */
static bool
begin_chunk(g2d_builder *p, g2_error *err)
{
	const size_t most = p->m->chunk_bytes;

	if (!g2d_in_reserve(p->e, most + 16, err))
		return false;
	p->e->in_len = G2_ROUND_UP(p->e->in_len, (size_t) 16);
	if (!note_chunk(p, p->e->in_len, p->e->n_emitted, err))
		return false;
	memset(g2d_chunk_at(p, p->n_chunks - 1), 0, offsetof(g2d_chunk, head_row));
	return true;
}

/* The sets of ids of a chunk's outputs, which take words behind the chunk. */
static void
write_sets(const g2d_builder *p, const g2d_chunk_note *n, const g2d_chunk *c)
{
	const uint32_t n_vocab = p->m->arch.n_vocab,
				words = g2d_set_words(n_vocab);
	uint64_t   *sets = reinterpret_cast<uint64_t *>(p->e->in + n->sets_at);

	memset(sets, 0, (size_t) n->n_sets * words * sizeof *sets);
	for (uint32_t i = 0; i < c->n_outputs; i++)
	{
		const g2d_output *to = &c->outputs[i];
		const g2_output *o =
			&p->plan->outputs[p->e->output_of[n->first_emitted + i] % p->plan->n_outputs];
		uint64_t   *banned = sets + (size_t) to->banned * words;

		if (to->mask != G2D_NO_SET)
			memcpy(sets + (size_t) to->mask * words, o->mask, words * sizeof *sets);
		for (uint32_t b = 0; to->banned != G2D_NO_SET && b < o->n_banned; b++)
			if (o->banned[b] < n_vocab)
				banned[o->banned[b] / 64] |= (uint64_t) 1 << o->banned[b] % 64;
	}
}

static bool
end_chunk(g2d_builder *p, g2_error *err)
{
	g2d_chunk  *c = g2d_chunk_at(p, p->n_chunks - 1);
	g2d_chunk_note *n = &p->chunks[p->n_chunks - 1];
	const size_t bytes = (size_t) n->n_sets * g2d_set_words(p->m->arch.n_vocab) * sizeof(uint64_t);

	c->n_top = p->plan->n_top;
	c->task_start[c->n_tasks] = c->n_outputs;
	n->bytes = sizeof *c + c->n_outputs * sizeof(g2d_output);
	p->e->in_len += n->bytes;
	if (n->n_sets == 0)
		return true;
	if (!g2d_in_reserve(p->e, bytes + 16, err))
		return false;
	n->sets_at = G2_ROUND_UP(p->e->in_len, (size_t) 16);
	p->e->in_len = n->sets_at + bytes;
	write_sets(p, n, g2d_chunk_at(p, p->n_chunks - 1));
	return true;
}

/* Outputs of a chunk at most: candidates have a place of their own for each. */
static uint32_t
most_outputs(const g2d_builder *p)
{
	return !(p->want & G2D_WANT_BEST) || p->plan->n_top == 0 ? G2D_OUTPUTS :
		G2_MIN(G2D_OUTPUTS, p->m->top_room / p->plan->n_top);
}

/* Adds output i to the open chunk. */
static bool
add_output(g2d_builder *p, uint32_t i, uint32_t step, g2_error *err)
{
	const g2_plan *plan = p->plan;
	const g2_output *o = &plan->outputs[i];
	const uint32_t row = o->row - p->first_row;
	g2d_chunk  *c = g2d_chunk_at(p, p->n_chunks - 1);
	g2d_chunk_note *n = &p->chunks[p->n_chunks - 1];
	const bool	has_slot = (o->want & (G2_WANT_TOKEN | G2_WANT_CANDIDATES)) != 0,
				follows = g2_plan_follows(plan, i),
				goes_on = i + 1 < plan->n_outputs && g2_plan_follows(plan, i + 1);

	if (c->n_head_rows == 0 || c->head_row[c->n_head_rows - 1] != row)
		c->head_row[c->n_head_rows++] = row;
	if (c->n_outputs == 0 || !follows)
		c->task_start[c->n_tasks++] = c->n_outputs;
	c->outputs[c->n_outputs++] = {c->n_head_rows - 1, has_slot ? o->slot : 0, o->want,
		o->want & G2_WANT_LOGPROB ? o->target : 0, follows,
		goes_on ? plan->token[plan->outputs[i + 1].row] : G2_TOKEN_NONE,
		has_slot && o->mask ? n->n_sets++ : G2D_NO_SET,
		has_slot && o->n_banned > 0 ? n->n_sets++ : G2D_NO_SET};
	n->want |= o->want;
	return emit(p->e, step * plan->n_outputs + i, err);
}

/* Whether the open chunk, if there is one, has no place for an output on this row. */
static bool
chunk_full(const g2d_builder *p, uint32_t row)
{
	const g2d_chunk *c = g2d_chunk_at(p, p->n_chunks - 1);

	return c->n_outputs == most_outputs(p) || p->chunks[p->n_chunks - 1].n_sets + 2 > G2D_SETS ||
		(c->n_head_rows == G2D_HEAD_ROWS && c->head_row[c->n_head_rows - 1] != row);
}

/* Outputs on the rows of the pass. */
static bool
write_chunks(g2d_builder *p, uint32_t step, g2_error *err)
{
	const uint32_t before = p->n_chunks;

	for (uint32_t i = 0; i < p->plan->n_outputs; i++)
	{
		const g2_output *o = &p->plan->outputs[i];

		if (o->row < p->first_row || o->row >= p->end_row || o->want == 0)
			continue;
		if (p->n_chunks > before && chunk_full(p, o->row - p->first_row))
		{
			if (!end_chunk(p, err) || !begin_chunk(p, err))
				return false;
		}
		else if (p->n_chunks == before && !begin_chunk(p, err))
			return false;
		if (!add_output(p, i, step, err))
			return false;
	}
	if (p->n_chunks > before && !end_chunk(p, err))
		return false;
	p->passes[p->n_passes - 1].n_chunks = p->n_chunks - before;
	return true;
}

/* ---- all ---- */

/* Chunks that the graph runs through and the plan does not have. */
bool
g2d_plan_write_empty(g2d_builder *p, uint32_t rows, g2_error *err)
{
	while (p->n_chunks * G2D_HEAD_ROWS < rows)
	{
		if (!begin_chunk(p, err) || !end_chunk(p, err))
			return false;
	}
	return true;
}

/* Writes the passes of the plan: once where they stay on the device, else for each step. */
bool
g2d_plan_write(g2d_builder *p, bool *resident, g2_error *err)
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
