/*
 * visit.c: filling a plan from groups, and taking its result apart again.
 */
#include "visit.h"

_Static_assert(G2_MAX_SEQUENCES <= G2_SLOTS, "a group must find slots for all its sequences");
_Static_assert(G2_SLOTS < G2_VISIT_ROWS, "prompts must find room beside all that decode");
_Static_assert(G2_VISIT_STEPS <= G2_MAX_STEPS, "the back end has a limit of its own");

/* ---- planning ---- */

void
g2_visit_begin(g2_visit *v, g2_backend_model *model, uint32_t n_steps)
{
	v->number++;
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
	};
}

static void
add_output(g2_visit *v, g2_group *group, uint32_t sequence, uint32_t row)
{
	v->targets[v->plan.n_outputs] = (g2_target) {group, sequence};
	v->outputs[v->plan.n_outputs++] = (g2_output) {
		.row = row,
		.slot = group->sequences[sequence].slot,
		.want = G2_WANT_TOKEN | (group->o.logprobs ? G2_WANT_LOGPROB : 0),
	};
}

/* The next chunk of the group's prompt; sequence 0 holds the blocks until the prompt is whole. */
static bool
add_prompt(g2_visit *v, g2_group *group, uint32_t max_rows, g2_error *err)
{
	g2_sequence *first = &group->sequences[0];
	uint32_t	left = (uint32_t) group->prompt.len - group->prefilled,
				n = G2_MIN(left, max_rows);

	if (!g2_kv_prepare(group->o.kv, &first->table, group->prefilled, group->prefilled + n - 1, err))
		return false;
	v->sequences[v->plan.n_sequences++] = (g2_plan_sequence) {
		.slot = G2_TOKEN_NONE,
		.first_row = v->plan.n_rows,
		.n_rows = n,
		.blocks = first->table.blocks,
	};
	for (uint32_t i = 0; i < n; i++)
	{
		v->token[v->plan.n_rows] = group->prompt.data[group->prefilled + i];
		v->position[v->plan.n_rows++] = group->prefilled + i;
	}
	group->prefilled += n;
	first->position = group->prefilled;
	if (n == left)
		for (uint32_t i = 0; i < group->o.n; i++)
			add_output(v, group, i, v->plan.n_rows - 1);
	return true;
}

/* One row for each sequence that decodes; the positions of all steps are made writable. */
static bool
add_decode(g2_visit *v, g2_group *group, g2_error *err)
{
	for (uint32_t i = 0; i < group->o.n; i++)
	{
		g2_sequence *sequence = &group->sequences[i];

		if (sequence->finish)
			continue;
		if (!g2_kv_prepare(group->o.kv, &sequence->table, sequence->position,
						   sequence->position + v->plan.n_steps - 1, err))
			return false;
		v->sequences[v->plan.n_sequences++] = (g2_plan_sequence) {
			.slot = sequence->slot,
			.first_row = v->plan.n_rows,
			.n_rows = 1,
			.blocks = sequence->table.blocks,
		};
		v->token[v->plan.n_rows] = sequence->ids.data[sequence->ids.len - 1];
		v->position[v->plan.n_rows] = sequence->position;
		add_output(v, group, i, v->plan.n_rows++);
	}
	return true;
}

bool
g2_visit_add(g2_visit *v, g2_group *group, uint32_t max_rows, g2_error *err)
{
	const g2_plan before = v->plan;

	if (g2_group_prefilling(group) ? add_prompt(v, group, max_rows, err) :
		add_decode(v, group, err))
	{
		group->visit = v->number;
		return true;
	}
	v->plan = before;
	return false;
}

/* ---- results ---- */

/* The prompt is in the cache: the other sequences get their share of its blocks. */
static bool
fork_prompt(g2_group *group)
{
	g2_sequence *first = &group->sequences[0];

	for (uint32_t i = 1; i < group->o.n; i++)
	{
		if (!g2_kv_share(group->o.kv, &group->sequences[i].table, &first->table, first->table.n,
						 NULL))
			return false;
		group->sequences[i].position = first->position;
	}
	return true;
}

static bool
take_output(const g2_visit *v, uint32_t step, uint32_t output)
{
	const g2_target *t = &v->targets[output];
	g2_group   *group = t->group;
	g2_sequence *sequence = &group->sequences[t->sequence];
	size_t		at = (size_t) step * v->plan.n_outputs + output;

	if (sequence->finish || v->result.token[at] == G2_TOKEN_NONE)
		return true;			/* ended in an earlier step of this visit: overshoot */
	if (sequence->ids.len > 0)
		sequence->position++;	/* the token before this one is in the cache now */
	if (!g2_group_accept(group, t->sequence, v->result.token[at],
						 group->o.logprobs ? v->result.logprob[at] : 0.0,
						 v->result.ended[at] != 0, NULL))
		return false;
	if (sequence->finish)
		g2_kv_release(group->o.kv, &sequence->table);
	return true;
}

void
g2_visit_take(g2_visit *v)
{
	/* Forks come first: a sequence that ends with its first token gives its blocks back. */
	for (uint32_t o = 0; o < v->plan.n_outputs; o++)
	{
		g2_group   *group = v->targets[o].group;

		if (v->targets[o].sequence == 0 && group->sequences[0].ids.len == 0)
			group->failed = !fork_prompt(group);
	}
	for (uint32_t step = 0; step < v->plan.n_steps; step++)
		for (uint32_t o = 0; o < v->plan.n_outputs; o++)
			if (!v->targets[o].group->failed && !take_output(v, step, o))
				v->targets[o].group->failed = true;
}
