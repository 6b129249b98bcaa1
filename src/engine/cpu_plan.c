/*
 * cpu_plan.c: a plan, run: from its rows to its result.
 *
 * All on the driver thread.  Per step: gather rows into passes of at most G2_FORWARD_ROWS, put each
 * through the layers, and for the outputs on its rows through the head, at most G2_HEAD_ROWS rows
 * at a time; then every output (sampling, logprobs, copies) is a task of its own, which may touch
 * only its own slot; those of a draft are one task, in order.
 *
 * A sequence whose slot has ended rests: its rows are left out, its outputs say so.
 */
#include "cpu_plan.h"

#include <math.h>

#include "sampler.h"

#define WANT_OF_HEAD (G2_WANT_TOKEN | G2_WANT_LOGPROB | G2_WANT_TOP | G2_WANT_LOGITS | \
	G2_WANT_CANDIDATES)

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

/* What the slot's next token is chosen behind; ids [n_vocab] is room for its lists. */
static g2_past
past_of(const g2_slot *slot, const g2_output *o, uint32_t n_vocab, uint32_t *ids)
{
	g2_past		past = {
		.index = slot->next_index, .end_token = slot->end_token, .counts = slot->counts,
		.n_counts = slot->n_counts, .banned = o->banned, .n_banned = o->n_banned, .mask = o->mask,
	};

	if (slot->seen)
	{
		past.n_seen = list_seen(slot->seen, n_vocab, ids);
		past.seen = ids;
	}
	return past;
}

/* Scratch memory of an output: g2_workspace_layout. */
typedef struct output_scratch
{
	float	   *logits;			/* [n_vocab] a copy to be changed */
	uint32_t   *ids;			/* [n_vocab] */
	void	   *sampler;
} output_scratch;

static output_scratch
lay_out_scratch(char *scratch, uint32_t n_vocab)
{
	size_t		part = G2_ROUND_UP(n_vocab * sizeof(float), (size_t) G2_ALIGN);

	return (output_scratch) {
		(float *) scratch, (uint32_t *) (scratch + part), scratch + 2 * part
	};
}

/* Samples the slot's next token and advances the slot. */
static uint32_t
sample_slot(g2_slot *slot, const g2_output *o, float *logits, uint32_t n_vocab, char *scratch)
{
	output_scratch room = lay_out_scratch(scratch, n_vocab);
	g2_past		past = past_of(slot, o, n_vocab, room.ids);
	uint32_t	token;

	/* Outputs may share a row, so what changes logits works on a copy. */
	if (g2_sampler_changes(&slot->sampling, &past))
		logits = memcpy(room.logits, logits, n_vocab * sizeof(float));
	token = g2_sample(&slot->sampling, &past, logits, n_vocab, room.sampler);
	slot->next_index++;
	slot->last_token = token;
	slot->ended = token == slot->end_token;
	if (slot->seen)
		slot->seen[token / 64] |= (uint64_t) 1 << token % 64;
	if (slot->counts)
		g2_count_token(slot->counts, &slot->n_counts, slot->most_counts, token);
	return token;
}

/* The best tokens of output i by score.  norm: g2_log_sum_exp of its logits. */
static void
find_candidates(const plan_run *run, uint32_t i, const float *logits, double norm, char *scratch)
{
	const g2_output *o = &run->plan->outputs[i];
	const g2_slot *slot = &run->slots[o->slot];
	uint32_t	n_vocab = run->plan->model->weights->arch.n_vocab,
				n_top = run->plan->n_top;
	output_scratch room = lay_out_scratch(scratch, n_vocab);
	g2_past		past = past_of(slot, o, n_vocab, room.ids);
	size_t		at = (size_t) i * n_top;
	uint32_t   *top = run->result->top_token + at;

	for (uint32_t t = 0; t < n_vocab; t++)
		room.logits[t] = (float) ((double) logits[t] - norm);
	g2_sampler_change(&slot->sampling, &past, room.logits, n_vocab);
	g2_top(room.logits, n_vocab, n_top, top, room.sampler);
	for (uint32_t t = 0; t < n_top; t++)
	{
		run->result->top_logprob[at + t] = (double) logits[top[t]] - norm;
		run->result->top_score[at + t] = (double) room.logits[top[t]];
	}
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
	if (o->want & (G2_WANT_TOP | G2_WANT_CANDIDATES))
		for (uint32_t t = 0; t < run->plan->n_top; t++)
		{
			r->top_token[(size_t) i * run->plan->n_top + t] = G2_TOKEN_NONE;
			r->top_logprob[(size_t) i * run->plan->n_top + t] = NAN;
			if (o->want & G2_WANT_CANDIDATES)
				r->top_score[(size_t) i * run->plan->n_top + t] = NAN;
		}
	if (o->want & G2_WANT_LOGITS)
		memset(r->logits + (size_t) i * arch->n_vocab, 0, arch->n_vocab * sizeof(float));
	if (o->want & G2_WANT_NORM)
		memset(r->norm + (size_t) i * arch->n_embd, 0, arch->n_embd * sizeof(float));
}

/* Samples for output i, unless its slot has ended or refused what this output is based on. */
static uint32_t
sample_output(const plan_run *run, uint32_t i, float *logits, char *scratch)
{
	const g2_plan *plan = run->plan;
	g2_slot    *slot = &run->slots[plan->outputs[i].slot];
	uint32_t	token;

	if (!g2_plan_follows(plan, i))
		slot->refused = false;
	if (slot->ended || slot->refused)
		return G2_TOKEN_NONE;
	token = sample_slot(slot, &plan->outputs[i], logits, plan->model->weights->arch.n_vocab,
						scratch);
	if (i + 1 < plan->n_outputs && g2_plan_follows(plan, i + 1))
		slot->refused = token != plan->token[plan->outputs[i + 1].row];
	return token;
}

static void
run_output(const plan_run *run, uint32_t i, uint32_t head_row, char *scratch)
{
	const g2_workspace *ws = run->pass->ws;
	const g2_plan *plan = run->plan;
	const g2_backend_model *m = plan->model;
	uint32_t	n_vocab = m->weights->arch.n_vocab,
				n_embd = m->weights->arch.n_embd,
				token;
	const g2_output *o = &plan->outputs[i];
	g2_result  *r = run->result;
	float	   *logits = ws->logits + (size_t) head_row * m->weights->head.n_padded;
	size_t		at = (size_t) run->step * plan->n_outputs + i;
	double		norm = 0.0;

	if (o->want & G2_WANT_NORM)
		memcpy(r->norm + (size_t) i * n_embd, ws->final + head_row * m->ld_embd,
			   n_embd * sizeof(float));
	if (o->want & G2_WANT_LOGITS)
		memcpy(r->logits + (size_t) i * n_vocab, logits, n_vocab * sizeof(float));
	if (o->want & (G2_WANT_LOGPROB | G2_WANT_TOP | G2_WANT_CANDIDATES))
		norm = g2_log_sum_exp(logits, n_vocab);
	if (o->want & G2_WANT_TOP)
	{
		uint32_t   *top = r->top_token + (size_t) i * plan->n_top;

		g2_top(logits, n_vocab, plan->n_top, top, scratch);
		for (uint32_t t = 0; t < plan->n_top; t++)
			r->top_logprob[(size_t) i * plan->n_top + t] = (double) logits[top[t]] - norm;
	}
	if (o->want & G2_WANT_CANDIDATES)
		find_candidates(run, i, logits, norm, scratch);
	token = o->target;
	if (o->want & G2_WANT_TOKEN)
	{
		token = r->token[at] = sample_output(run, i, logits, scratch);
		if (r->ended)
			r->ended[at] = token != G2_TOKEN_NONE && run->slots[o->slot].ended;
	}
	if (o->want & G2_WANT_LOGPROB)
		r->logprob[at] = token == G2_TOKEN_NONE ? NAN : (double) logits[token] - norm;
}

static void
output_task(void *arg, uint32_t task, uint32_t thread)
{
	plan_run   *run = arg;
	const g2_workspace *ws = run->pass->ws;

	for (uint32_t c = ws->task_start[task]; c < ws->task_start[task + 1]; c++)
		run_output(run, ws->chosen[c], ws->chosen_row[c],
				   ws->scratch + thread * ws->scratch_bytes);
}

/* The head and the outputs for what has been chosen. */
static void
flush_outputs(plan_run *run, uint32_t n_chosen)
{
	g2_workspace *ws = run->pass->ws;
	bool		want_logits = false;
	uint32_t	n_tasks = 0;

	if (n_chosen == 0)
		return;
	for (uint32_t c = 0; c < n_chosen; c++)
	{
		want_logits |= (run->plan->outputs[ws->chosen[c]].want & WANT_OF_HEAD) != 0;
		if (c == 0 || !g2_plan_follows(run->plan, ws->chosen[c]))
			ws->task_start[n_tasks++] = c;
	}
	ws->task_start[n_tasks] = n_chosen;
	g2_forward_head(run->pass, want_logits);
	g2_pool_run(run->pass->pool, n_tasks, output_task, run);
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
				return g2_fail(err, G2_E_INTERNAL,
							   "invalid plan: previous token out of range, sequence (%u)", i);
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
