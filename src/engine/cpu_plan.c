/*
 * cpu_plan.c: a plan, from its rules to its result.
 *
 * Checking runs on the scheduler's thread, running on the driver thread.  A run is, per step:
 * gather rows into passes of at most G2_FORWARD_ROWS, put each through the layers, and for the
 * outputs on its rows through the head, at most G2_HEAD_ROWS rows at a time; then every output
 * (sampling, logprobs, copies) is a task of its own, which may touch only its own slot.
 *
 * A sequence whose slot has ended rests: its rows are left out, its outputs say so.
 */
#include "cpu_plan.h"

#include <math.h>

#include "sampler.h"

#define WANT_ALL (G2_WANT_TOKEN | G2_WANT_LOGPROB | G2_WANT_TOP | G2_WANT_LOGITS | G2_WANT_NORM)
#define WANT_OF_HEAD (WANT_ALL & ~(uint32_t) G2_WANT_NORM)

/* ---- rules ---- */

static bool
bad_plan(g2_error *err, const char *rule, uint32_t at)
{
	return g2_fail(err, G2_E_INTERNAL, "invalid plan: %s (%u)", rule, at);
}

static bool
check_token(const g2_plan *plan, const g2_plan_limits *limits, uint32_t slot, uint32_t row,
			g2_error *err)
{
	uint32_t	token = plan->token[row];

	if (token == G2_TOKEN_PREVIOUS)
	{
		if (slot >= limits->n_slots || !limits->slots[slot].set ||
			!limits->slots[slot].has_token)
			return bad_plan(err, "previous token of a slot that has none, row", row);
	}
	else if (token >= plan->model->weights->arch.n_vocab)
		return bad_plan(err, "token id out of range, row", row);
	return true;
}

static bool
check_sequence(const g2_plan *plan, const g2_plan_limits *limits, const g2_plan_sequence *s,
			   uint32_t i, g2_error *err)
{
	const g2_backend_model *m = plan->model;
	uint32_t	n_ctx = m->weights->arch.n_ctx,
				first,
				last;

	if (s->n_rows == 0 || s->n_rows > plan->n_rows - s->first_row || !s->blocks)
		return bad_plan(err, "rows of sequence", i);
	first = plan->position[s->first_row];
	if (first >= n_ctx || s->n_rows + (plan->n_steps - 1) > n_ctx - first)
		return bad_plan(err, "position beyond the context, sequence", i);
	for (uint32_t r = 0; r < s->n_rows; r++)
	{
		if (plan->position[s->first_row + r] != first + r)
			return bad_plan(err, "positions with a gap, sequence", i);
		if (!check_token(plan, limits, s->slot, s->first_row + r, err))
			return false;
	}
	last = first + s->n_rows - 1 + (plan->n_steps - 1);
	for (uint32_t b = 0; b <= last / G2_BLOCK; b++)
		if (s->blocks[b] >= m->n_blocks)
			return bad_plan(err, "block out of range, sequence", i);
	return true;
}

static bool
check_output(const g2_plan *plan, const g2_result *result, g2_plan_limits *limits,
			 const g2_output *o, uint32_t i, g2_error *err)
{
	uint32_t	n_vocab = plan->model->weights->arch.n_vocab;

	if (o->row >= plan->n_rows || (o->want & ~(uint32_t) WANT_ALL) != 0)
		return bad_plan(err, "row or wish of output", i);
	if (o->want & G2_WANT_TOKEN)
	{
		if (o->slot >= limits->n_slots || !limits->slots[o->slot].set)
			return bad_plan(err, "slot not set, output", i);
		if (limits->slots[o->slot].stamp == limits->stamp)
			return bad_plan(err, "slot samples twice, output", i);
		limits->slots[o->slot].stamp = limits->stamp;
	}
	else if ((o->want & G2_WANT_LOGPROB) && o->target >= n_vocab)
		return bad_plan(err, "target id out of range, output", i);
	if (((o->want & G2_WANT_TOKEN) && !result->token) ||
		((o->want & G2_WANT_LOGPROB) && !result->logprob) ||
		((o->want & G2_WANT_TOP) &&
		 (!result->top_token || !result->top_logprob || plan->n_top > n_vocab)) ||
		((o->want & G2_WANT_LOGITS) && !result->logits) ||
		((o->want & G2_WANT_NORM) && !result->norm))
		return bad_plan(err, "no room for the result of output", i);
	return true;
}

/* Several steps: one row, one output and one slot per sequence. */
static bool
check_steps(const g2_plan *plan, g2_error *err)
{
	if (plan->n_steps == 0 || plan->n_steps > G2_MAX_STEPS)
		return bad_plan(err, "number of steps", plan->n_steps);
	if (plan->n_steps == 1)
		return true;
	if (plan->n_outputs != plan->n_sequences)
		return bad_plan(err, "several steps need one output per sequence", plan->n_outputs);
	for (uint32_t i = 0; i < plan->n_sequences; i++)
	{
		const g2_plan_sequence *s = &plan->sequences[i];
		const g2_output *o = &plan->outputs[i];

		if (s->n_rows != 1 || o->row != s->first_row || o->slot != s->slot ||
			!(o->want & G2_WANT_TOKEN) || (o->want & ~(uint32_t) (G2_WANT_TOKEN |
																  G2_WANT_LOGPROB)) != 0)
			return bad_plan(err, "not allowed with several steps, sequence", i);
	}
	return true;
}

bool
g2_plan_check(const g2_plan *plan, const g2_result *result, g2_plan_limits *limits,
			  g2_error *err)
{
	uint32_t	row = 0;

	if (!plan || !plan->model || !result || !plan->token || !plan->position || !plan->sequences ||
		(plan->n_outputs > 0 && !plan->outputs))
		return bad_plan(err, "an array is missing", 0);
	if (!plan->model->kv)
		return bad_plan(err, "model without a KV cache", 0);
	if (plan->n_rows == 0 || plan->n_rows > INT32_MAX || plan->n_sequences > plan->n_rows)
		return bad_plan(err, "number of rows", plan->n_rows);
	if (!check_steps(plan, err))
		return false;
	for (uint32_t i = 0; i < plan->n_sequences; i++)
	{
		if (plan->sequences[i].first_row != row)
			return bad_plan(err, "rows not in the order of sequences, sequence", i);
		if (!check_sequence(plan, limits, &plan->sequences[i], i, err))
			return false;
		row += plan->sequences[i].n_rows;
	}
	if (row != plan->n_rows)
		return bad_plan(err, "rows of no sequence from", row);
	limits->stamp++;
	for (uint32_t i = 0; i < plan->n_outputs; i++)
		if (!check_output(plan, result, limits, &plan->outputs[i], i, err))
			return false;
	return true;
}

void
g2_plan_note(const g2_plan *plan, g2_plan_limits *limits)
{
	for (uint32_t i = 0; i < plan->n_outputs; i++)
		if (plan->outputs[i].want & G2_WANT_TOKEN)
			limits->slots[plan->outputs[i].slot].has_token = true;
}

/* ---- outputs ---- */

typedef struct plan_run
{
	const g2_pass *pass;
	const g2_plan *plan;
	g2_result  *result;
	g2_slot    *slots;
	uint32_t	step;
} plan_run;

#define NOT_IN_PASS UINT32_MAX
#define RESTS (UINT32_MAX - 1)

/* Ids of the bits set, ascending; returns their number. */
static uint32_t
list_seen(const uint64_t *seen, uint32_t n_vocab, uint32_t *ids)
{
	uint32_t	n = 0;

	for (uint32_t i = 0; i < (n_vocab + 63) / 64; i++)
		for (uint64_t bits = seen[i]; bits != 0; bits &= bits - 1)
		{
			uint32_t	id = i * 64 + (uint32_t) __builtin_ctzll(bits);

			if (id < n_vocab)
				ids[n++] = id;
		}
	return n;
}

/* Samples the slot's next token and advances the slot.  scratch: see g2_workspace_layout. */
static uint32_t
sample_slot(g2_slot *slot, float *logits, uint32_t n_vocab, char *scratch)
{
	size_t		part = G2_ROUND_UP(n_vocab * sizeof(float), (size_t) G2_ALIGN);
	float	   *copy = (float *) scratch;
	uint32_t   *ids = (uint32_t *) (scratch + part),
				n_ids = 0,
				token;

	/* Outputs may share a row, so what changes logits works on a copy. */
	if (slot->seen || slot->sampling.n_banned > 0)
		logits = memcpy(copy, logits, n_vocab * sizeof(float));
	if (slot->seen)
		n_ids = list_seen(slot->seen, n_vocab, ids);
	token = g2_sample(&slot->sampling, logits, n_vocab, ids, n_ids, slot->next_index,
					  scratch + 2 * part);
	slot->next_index++;
	slot->last_token = token;
	slot->ended = token == slot->end_token;
	if (slot->seen)
		slot->seen[token / 64] |= (uint64_t) 1 << token % 64;
	return token;
}

/* What a resting sequence's output gives. */
static void
rest_output(const plan_run *run, uint32_t i)
{
	const g2_output *o = &run->plan->outputs[i];
	const g2_arch *arch = &run->plan->model->weights->arch;
	g2_result  *r = run->result;
	size_t		at = (size_t) run->step * run->plan->n_outputs + i;

	if (o->want & G2_WANT_TOKEN)
	{
		r->token[at] = G2_TOKEN_NONE;
		if (r->ended)
			r->ended[at] = 0;
	}
	if (o->want & G2_WANT_LOGPROB)
		r->logprob[at] = NAN;
	if (o->want & G2_WANT_TOP)
		for (uint32_t t = 0; t < run->plan->n_top; t++)
		{
			r->top_token[(size_t) i * run->plan->n_top + t] = G2_TOKEN_NONE;
			r->top_logprob[(size_t) i * run->plan->n_top + t] = NAN;
		}
	if (o->want & G2_WANT_LOGITS)
		memset(r->logits + (size_t) i * arch->n_vocab, 0, arch->n_vocab * sizeof(float));
	if (o->want & G2_WANT_NORM)
		memset(r->norm + (size_t) i * arch->n_embd, 0, arch->n_embd * sizeof(float));
}

static void
output_task(void *arg, uint32_t task, uint32_t thread)
{
	plan_run   *run = arg;
	g2_workspace *ws = run->pass->ws;
	const g2_plan *plan = run->plan;
	const g2_backend_model *m = plan->model;
	uint32_t	i = ws->chosen[task],
				head_row = ws->chosen_row[task],
				n_vocab = m->weights->arch.n_vocab,
				n_embd = m->weights->arch.n_embd,
				token;
	const g2_output *o = &plan->outputs[i];
	g2_result  *r = run->result;
	float	   *logits = ws->logits + (size_t) head_row * m->weights->head.n_padded;
	char	   *scratch = ws->scratch + thread * ws->scratch_bytes;
	size_t		at = (size_t) run->step * plan->n_outputs + i;
	double		norm = 0.0;

	if (o->want & G2_WANT_NORM)
		memcpy(r->norm + (size_t) i * n_embd, ws->final + head_row * m->ld_embd,
			   n_embd * sizeof(float));
	if (o->want & G2_WANT_LOGITS)
		memcpy(r->logits + (size_t) i * n_vocab, logits, n_vocab * sizeof(float));
	if (o->want & (G2_WANT_LOGPROB | G2_WANT_TOP))
		norm = g2_log_sum_exp(logits, n_vocab);
	if (o->want & G2_WANT_TOP)
	{
		uint32_t   *top = r->top_token + (size_t) i * plan->n_top;

		g2_top(logits, n_vocab, plan->n_top, top, scratch);
		for (uint32_t t = 0; t < plan->n_top; t++)
			r->top_logprob[(size_t) i * plan->n_top + t] = (double) logits[top[t]] - norm;
	}
	token = o->target;
	if (o->want & G2_WANT_TOKEN)
	{
		g2_slot    *slot = &run->slots[o->slot];

		token = r->token[at] = slot->ended ? G2_TOKEN_NONE :
			sample_slot(slot, logits, n_vocab, scratch);
		if (r->ended)
			r->ended[at] = token != G2_TOKEN_NONE && slot->ended;
	}
	if (o->want & G2_WANT_LOGPROB)
		r->logprob[at] = token == G2_TOKEN_NONE ? NAN : (double) logits[token] - norm;
}

/* The head and the outputs for what has been chosen. */
static void
flush_outputs(plan_run *run, uint32_t n_chosen)
{
	bool		want_logits = false;

	if (n_chosen == 0)
		return;
	for (uint32_t i = 0; i < n_chosen; i++)
		want_logits |= (run->plan->outputs[run->pass->ws->chosen[i]].want & WANT_OF_HEAD) != 0;
	g2_forward_head(run->pass, want_logits);
	g2_pool_run(run->pass->pool, n_chosen, output_task, run);
	run->pass->ws->n_head_rows = 0;
}

/* Outputs on the rows of the pass that has just gone through the layers. */
static void
run_outputs(plan_run *run)
{
	g2_workspace *ws = run->pass->ws;
	uint32_t	n_chosen = 0,
				last = NOT_IN_PASS;

	ws->n_head_rows = 0;
	for (uint32_t i = 0; i < run->plan->n_outputs; i++)
	{
		uint32_t	row = ws->row_in_pass[run->plan->outputs[i].row];

		if (row == NOT_IN_PASS || row == RESTS || run->plan->outputs[i].want == 0)
			continue;
		if (ws->n_head_rows == G2_HEAD_ROWS && row != last)
		{
			flush_outputs(run, n_chosen);
			n_chosen = 0;
			last = NOT_IN_PASS;
		}
		if (row != last)
			ws->head_row[ws->n_head_rows++] = row;
		last = row;
		ws->chosen[n_chosen] = i;
		ws->chosen_row[n_chosen++] = ws->n_head_rows - 1;
	}
	flush_outputs(run, n_chosen);
}

/* ---- steps ---- */

static bool
rests(const plan_run *run, const g2_plan_sequence *s)
{
	if (run->step > 0)
		return run->slots[s->slot].ended;
	for (uint32_t r = 0; r < s->n_rows; r++)
		if (run->plan->token[s->first_row + r] == G2_TOKEN_PREVIOUS && run->slots[s->slot].ended)
			return true;
	return false;
}

/* Ends the pass that is being gathered: its layers, its outputs. */
static void
flush_pass(plan_run *run, uint32_t *first, uint32_t end)
{
	g2_workspace *ws = run->pass->ws;

	if (ws->n_rows > 0)
	{
		g2_forward_layers(run->pass);
		run_outputs(run);
	}
	for (uint32_t r = *first; r < end; r++)
		if (ws->row_in_pass[r] != RESTS)
			ws->row_in_pass[r] = NOT_IN_PASS;
	*first = end;
	ws->n_rows = ws->n_spans = 0;
}

/* Adds rows first .. first + n - 1 of a sequence to the pass. */
static void
gather(plan_run *run, const g2_plan_sequence *s, uint32_t first, uint32_t n)
{
	g2_workspace *ws = run->pass->ws;
	const g2_plan *plan = run->plan;

	ws->spans[ws->n_spans++] = (g2_span) {ws->n_rows, n, plan->position[first] + run->step,
		s->blocks};
	for (uint32_t r = first; r < first + n; r++)
	{
		uint32_t	token = run->step > 0 ? G2_TOKEN_PREVIOUS : plan->token[r];

		ws->token[ws->n_rows] = token == G2_TOKEN_PREVIOUS ? run->slots[s->slot].last_token :
			token;
		ws->position[ws->n_rows] = plan->position[r] + run->step;
		ws->row_in_pass[r] = ws->n_rows++;
	}
}

static void
run_step(plan_run *run)
{
	g2_workspace *ws = run->pass->ws;
	const g2_plan *plan = run->plan;
	uint32_t	pass_first = 0;

	ws->n_rows = ws->n_spans = 0;
	for (uint32_t r = 0; r < plan->n_rows; r++)
		ws->row_in_pass[r] = NOT_IN_PASS;
	for (uint32_t i = 0; i < plan->n_sequences; i++)
	{
		const g2_plan_sequence *s = &plan->sequences[i];
		bool		resting = rests(run, s);

		for (uint32_t done = 0; done < s->n_rows;)
		{
			uint32_t	first = s->first_row + done,
						n = G2_MIN(s->n_rows - done, G2_FORWARD_ROWS - ws->n_rows);

			if (resting)
			{
				n = s->n_rows;
				for (uint32_t r = first; r < first + n; r++)
					ws->row_in_pass[r] = RESTS;
			}
			else
				gather(run, s, first, n);
			done += n;
			if (ws->n_rows == G2_FORWARD_ROWS)
				flush_pass(run, &pass_first, first + n);
		}
	}
	flush_pass(run, &pass_first, plan->n_rows);
	for (uint32_t i = 0; i < plan->n_outputs; i++)
		if (ws->row_in_pass[plan->outputs[i].row] == RESTS)
			rest_output(run, i);
}

/* A slot may come from a model with more tokens; only now is it known what it holds. */
static bool
check_previous(const g2_plan *plan, const g2_slot *slots, g2_error *err)
{
	for (uint32_t i = 0; i < plan->n_sequences; i++)
	{
		const g2_plan_sequence *s = &plan->sequences[i];

		for (uint32_t r = 0; r < s->n_rows; r++)
			if (plan->token[s->first_row + r] == G2_TOKEN_PREVIOUS &&
				slots[s->slot].last_token >= plan->model->weights->arch.n_vocab)
				return bad_plan(err, "previous token out of range, sequence", i);
	}
	return true;
}

bool
g2_plan_run(const g2_pass *pass, const g2_plan *plan, g2_result *result, g2_slot *slots,
			g2_error *err)
{
	plan_run	run = {.pass = pass, .plan = plan, .result = result, .slots = slots};

	if (!check_previous(plan, slots, err))
		return false;
	for (; run.step < plan->n_steps; run.step++)
		run_step(&run);
	return true;
}
