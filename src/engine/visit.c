/*
 * visit.c: filling a plan from groups.
 */
#include "visit.h"

#include "constraint.h"

_Static_assert(G2_VISIT_STEPS <= G2_MAX_STEPS, "the back end has a limit of its own");

/* ---- room ---- */

bool
g2_visit_open(g2_visit *v, uint32_t n_slots, g2_error *err)
{
	v->n_rows = g2_visit_rows(n_slots);
	v->n_outputs = g2_visit_outputs(n_slots);
	v->n_results = G2_MAX(v->n_outputs, n_slots * G2_VISIT_STEPS);
	v->token = g2_alloc_array(v->n_rows, sizeof *v->token);
	v->position = g2_alloc_array(v->n_rows, sizeof *v->position);
	v->sequences = g2_alloc_array(v->n_rows, sizeof *v->sequences);
	v->parts = g2_alloc_array(v->n_rows, sizeof *v->parts);
	v->outputs = g2_alloc_array(v->n_outputs, sizeof *v->outputs);
	v->targets = g2_alloc_array(v->n_outputs, sizeof *v->targets);
	v->result_token = g2_alloc_array(v->n_results, sizeof *v->result_token);
	v->result_logprob = g2_alloc_array(v->n_results, sizeof *v->result_logprob);
	v->result_ended = g2_alloc_array(v->n_results, sizeof *v->result_ended);
	if (v->token && v->position && v->sequences && v->parts && v->outputs && v->targets &&
		v->result_token && v->result_logprob && v->result_ended)
		return true;
	return g2_fail_memory(err, v->n_outputs * (sizeof *v->outputs + sizeof *v->targets));
}

static void
free_tops(g2_visit *v)
{
	g2_wipe_free(v->top_token, v->top_room * sizeof *v->top_token);
	g2_free(v->top_logprob);
	g2_free(v->top_score);
	v->top_token = NULL;
	v->top_logprob = v->top_score = NULL;
	v->top_room = 0;
}

static void
free_norms(g2_visit *v)
{
	g2_wipe_free(v->result_norm, v->norm_room * sizeof(float));
	v->result_norm = NULL;
	v->norm_room = 0;
}

void
g2_visit_close(g2_visit *v)
{
	g2_wipe_free(v->token, v->n_rows * sizeof *v->token);
	g2_free(v->position);
	g2_free(v->sequences);
	g2_free(v->parts);
	g2_free(v->outputs);
	g2_free(v->targets);
	g2_wipe_free(v->result_token, v->n_results * sizeof *v->result_token);
	g2_free(v->result_logprob);
	g2_free(v->result_ended);
	free_tops(v);
	free_norms(v);
}

/* ---- planning ---- */

void
g2_visit_begin(g2_visit *v, g2_work *work, g2_backend_model *model, uint32_t n_steps)
{
	v->number++;
	v->work = work;
	v->plan = (g2_plan) {
		.model = model,
		.n_steps = n_steps,
		.token = v->token,
		.position = v->position,
		.sequences = v->sequences,
		.outputs = v->outputs,
	};
	v->result = (g2_result) {
		.token = v->result_token,
		.logprob = v->result_logprob,
		.ended = v->result_ended,
		.norm = v->result_norm,
		.top_token = v->top_token,
		.top_logprob = v->top_logprob,
		.top_score = v->top_score,
	};
}

/* The output that follows `drafted` tokens of the sequence's draft. */
static void
add_output(g2_visit *v, g2_group *group, uint32_t sequence, uint32_t row, uint32_t drafted)
{
	const g2_draft *draft = &group->sequences[sequence].draft;
	const g2_ngrams *ngrams = &group->sequences[sequence].ngrams;

	g2_ngrams_find(group, sequence);
	v->targets[v->plan.n_outputs] = (g2_target) {
		.group = group, .sequence = sequence, .drafted = drafted,
		.guess = drafted < draft->n_found ? draft->token[drafted] : G2_NO_TOKEN,
	};
	v->outputs[v->plan.n_outputs++] = (g2_output) {
		.row = row,
		.slot = group->sequences[sequence].slot,
		.want = group->beams ? G2_WANT_CANDIDATES :
			G2_WANT_TOKEN | (group->o.logprobs ? G2_WANT_LOGPROB : 0),
		.banned = ngrams->banned,
		.n_banned = ngrams->n_banned,
	};
}

/* Whose token comes out of the last row of sequence i: its own, or of all at the prompt's end, where
 * all beams are one. */
static void
add_outputs(g2_visit *v, g2_group *group, uint32_t i)
{
	uint32_t	row = v->plan.n_rows - 1;

	if (group->forked)
		add_output(v, group, i, row, 0);
	else if (group->sequences[0].ids.len == 0)
		for (uint32_t s = 0; s < (group->beams ? 1 : group->o.n); s++)
			add_output(v, group, s, row, 0);
}

/* Token t of sequence i gets its score out of this row. */
static void
add_score(g2_visit *v, g2_group *group, uint32_t i, uint32_t row, uint32_t t)
{
	v->targets[v->plan.n_outputs] = (g2_target) {
		.group = group, .sequence = i, .guess = G2_NO_TOKEN,
	};
	v->outputs[v->plan.n_outputs++] = (g2_output) {
		.row = row, .want = group->o.want, .target = g2_group_token(group, i, t),
	};
}

/* The scores that come out of the last n rows, which are of sequence i: its own, or the first one
 * of all at the prompt's end.  What was scored before a preemption is not scored again. */
static void
add_scores(g2_visit *v, g2_group *group, uint32_t i, uint32_t n)
{
	uint32_t	row = v->plan.n_rows - n,
				t = group->sequences[i].position + g2_group_ahead(group);

	for (uint32_t r = 0; group->forked && r < n; r++)
		if (t + r >= group->o.first + group->sequences[i].scored)
			add_score(v, group, i, row + r, t + r);
	if (group->forked || t + n - 1 < group->o.first)
		return;
	for (uint32_t s = 0; s < group->o.n; s++)
		if (group->sequences[s].scored == 0)
			add_score(v, group, s, row + n - 1, group->o.first);
}

static void
add_row(g2_visit *v, uint32_t token, uint32_t position)
{
	v->token[v->plan.n_rows] = token;
	v->position[v->plan.n_rows++] = position;
}

/* The draft of sequence i, whose other rows have been added. */
static void
add_draft(g2_visit *v, g2_group *group, uint32_t i)
{
	const g2_sequence *sequence = &group->sequences[i];

	for (uint32_t d = 0; d < sequence->draft.n; d++)
	{
		add_row(v, sequence->draft.token[d], sequence->position + 1 + d);
		add_output(v, group, i, v->plan.n_rows - 1, d + 1);
	}
	v->sequences[v->plan.n_sequences - 1].n_rows += sequence->draft.n;
	v->parts[v->plan.n_sequences - 1].n_draft = sequence->draft.n;
}

/* n rows of sequence i, whose blocks are there, and its draft. */
static void
add_rows(g2_visit *v, g2_group *group, uint32_t i, uint32_t n)
{
	const g2_sequence *sequence = &group->sequences[i];
	g2_part    *part = &v->parts[v->plan.n_sequences];

	*part = (g2_part) {
		.group = group, .sequence = i, .decodes = g2_group_decodes(group, i),
	};
	if (!part->decodes && sequence->position == sequence->n_chained * G2_BLOCK)
		part->has_next = g2_group_next_block(group, i, &part->next);
	v->sequences[v->plan.n_sequences++] = (g2_plan_sequence) {
		.slot = sequence->slot,
		.first_row = v->plan.n_rows,
		.n_rows = n,
		.blocks = sequence->table.blocks,
	};
	for (uint32_t r = 0; r < n; r++)
		add_row(v, g2_group_token(group, i, sequence->position + r), sequence->position + r);
	if (g2_group_scores(group))
		add_scores(v, group, i, n);
	else if (n == g2_group_rows(group, i))
		add_outputs(v, group, i);
	if (part->decodes)
		add_draft(v, group, i);
}

/* Somebody in this plan computes the block that sequence i needs next. */
static bool
in_the_making(const g2_visit *v, const g2_group *group, uint32_t i)
{
	const g2_sequence *sequence = &group->sequences[i];
	g2_prefix	next;

	if (sequence->position != sequence->n_chained * G2_BLOCK ||
		sequence->position + G2_BLOCK > g2_group_adoptable(group, i) ||
		!g2_group_next_block(group, i, &next))
		return false;
	for (uint32_t p = 0; p < v->plan.n_sequences; p++)
		if (v->parts[p].has_next && v->sequences[p].n_rows >= G2_BLOCK &&
			memcmp(&v->parts[p].next, &next, sizeof next) == 0)
			return true;
	return false;
}

/* What may come out of the outputs from `first` on. */
static bool
set_masks(g2_visit *v, uint32_t first, g2_error *err)
{
	for (uint32_t o = first; o < v->plan.n_outputs; o++)
	{
		const g2_target *t = &v->targets[o];

		if (!g2_constraint_mask(t->group, t->sequence, t->drafted, &v->outputs[o].mask, err))
			return false;
	}
	return true;
}

static g2_kv_outcome
add_sequence(g2_visit *v, g2_group *group, uint32_t i, uint32_t max_prompt,
			 uint32_t *prompt_rows, g2_error *err)
{
	g2_sequence *sequence = &group->sequences[i];
	bool		decodes = g2_group_decodes(group, i),
				together = group->beams && group->forked && g2_group_prefilling(group);
	uint32_t	first_output = v->plan.n_outputs,
				n = g2_group_rows(group, i),
				n_draft = decodes ? sequence->draft.n : 0;
	g2_kv_outcome outcome;

	if (together && decodes)
		return G2_KV_DONE;
	if (!decodes)
	{
		if (*prompt_rows == max_prompt)
			return G2_KV_DONE;
		if (!g2_group_adopt(group, i, err))
			return G2_KV_FAILED;
		if (in_the_making(v, group, i))
			return G2_KV_DONE;
		n = G2_MIN(g2_group_rows(group, i) - together, max_prompt - *prompt_rows);
	}
	outcome = g2_kv_prepare(group->o.kv, &sequence->table, sequence->position,
							sequence->position + G2_MAX(n + n_draft, v->plan.n_steps) - 1, err);
	if (outcome != G2_KV_DONE)
		return outcome;
	add_rows(v, group, i, n);
	if (!decodes)
		*prompt_rows += n;
	return set_masks(v, first_output, err) ? G2_KV_DONE : G2_KV_FAILED;
}

/* Room for norms, where the group wants them. */
static bool
make_norms(g2_visit *v, const g2_group *group, g2_error *err)
{
	size_t		n = (size_t) v->n_outputs * group->o.n_embd;

	if (group->o.want != G2_WANT_NORM || n <= v->norm_room)
		return true;
	free_norms(v);
	v->result.norm = v->result_norm = g2_alloc_array(n, sizeof(float));
	if (!v->result_norm)
		return g2_fail_memory(err, n * sizeof(float));
	v->norm_room = n;
	return true;
}

/* Room for the candidates of beams, where the group is a beam search. */
static bool
make_tops(g2_visit *v, const g2_group *group, g2_error *err)
{
	uint32_t	n_top = 2 * group->o.n;
	size_t		n = (size_t) v->n_outputs * n_top;

	if (!group->beams)
		return true;
	if (n > v->top_room)
	{
		uint32_t   *token = g2_alloc_array(n, sizeof *token);
		double	   *logprob = g2_alloc_array(n, sizeof *logprob),
				   *score = g2_alloc_array(n, sizeof *score);

		if (!token || !logprob || !score)
		{
			g2_free(token);
			g2_free(logprob);
			g2_free(score);
			return g2_fail_memory(err, n * (sizeof *token + 2 * sizeof *score));
		}
		free_tops(v);			/* nothing is in them yet */
		v->result.top_token = v->top_token = token;
		v->result.top_logprob = v->top_logprob = logprob;
		v->result.top_score = v->top_score = score;
		v->top_room = n;
	}
	v->plan.n_top = G2_MAX(v->plan.n_top, n_top);
	return true;
}

g2_kv_outcome
g2_visit_add(g2_visit *v, g2_group *group, uint32_t max_prompt, uint32_t *prompt_rows,
			 g2_error *err)
{
	const g2_plan before = v->plan;
	uint32_t	n = group->forked ? group->o.n : 1;

	*prompt_rows = 0;
	if (!make_norms(v, group, err) || !make_tops(v, group, err))
		return G2_KV_FAILED;
	for (uint32_t i = 0; i < n; i++)
	{
		g2_kv_outcome outcome;

		if (group->forked && group->sequences[i].finish)
			continue;
		outcome = add_sequence(v, group, i, max_prompt, prompt_rows, err);
		if (outcome != G2_KV_DONE)
		{
			v->plan = before;
			return outcome;
		}
	}
	if (v->plan.n_rows > before.n_rows)
		group->visit = v->number;
	return G2_KV_DONE;
}
