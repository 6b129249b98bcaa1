/*
 * plan_check.c: the rules of backend.h for plans.
 */
#include "plan_check.h"

#define WANT_ALL (G2_WANT_TOKEN | G2_WANT_LOGPROB | G2_WANT_TOP | G2_WANT_LOGITS | G2_WANT_NORM | \
	G2_WANT_CANDIDATES)

static bool
bad_plan(g2_error *err, const char *rule, uint32_t at)
{
	return g2_fail(err, G2_E_INTERNAL, "invalid plan: %s (%u)", rule, at);
}

static bool
check_token(const g2_plan *plan, const g2_plan_bounds *bounds, const g2_plan_limits *limits,
			uint32_t slot, uint32_t row, g2_error *err)
{
	uint32_t	token = plan->token[row];

	if (token == G2_TOKEN_PREVIOUS)
	{
		if (slot >= limits->n_slots || !limits->slots[slot].set ||
			!limits->slots[slot].has_token)
			return bad_plan(err, "previous token of a slot that has none, row", row);
	}
	else if (token >= bounds->n_vocab)
		return bad_plan(err, "token id out of range, row", row);
	return true;
}

static bool
check_sequence(const g2_plan *plan, const g2_plan_bounds *bounds, const g2_plan_limits *limits,
			   const g2_plan_sequence *s, uint32_t i, g2_error *err)
{
	uint32_t	n_ctx = bounds->n_ctx,
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
		if (!check_token(plan, bounds, limits, s->slot, s->first_row + r, err))
			return false;
	}
	last = first + s->n_rows - 1 + (plan->n_steps - 1);
	for (uint32_t b = 0; b <= last / G2_BLOCK; b++)
		if (s->blocks[b] >= bounds->n_blocks)
			return bad_plan(err, "block out of range, sequence", i);
	return true;
}

static bool
check_output(const g2_plan *plan, const g2_plan_bounds *bounds, const g2_result *result,
			 g2_plan_limits *limits, const g2_output *o, uint32_t i, g2_error *err)
{
	uint32_t	n_vocab = bounds->n_vocab;

	if (o->row >= plan->n_rows || (o->want & ~(uint32_t) WANT_ALL) != 0)
		return bad_plan(err, "row or wish of output", i);
	if ((o->want & G2_WANT_CANDIDATES) && (o->want & (G2_WANT_TOKEN | G2_WANT_TOP)))
		return bad_plan(err, "candidates beside a token or the best, output", i);
	if (o->n_banned > 0 && (!o->banned || plan->n_steps > 1))
		return bad_plan(err, "banned tokens of output", i);
	if (o->want & G2_WANT_TOKEN)
	{
		if (o->slot >= limits->n_slots || !limits->slots[o->slot].set)
			return bad_plan(err, "slot not set, output", i);
		if (limits->slots[o->slot].stamp == limits->stamp && !g2_plan_follows(plan, i))
			return bad_plan(err, "slot samples twice, output", i);
		limits->slots[o->slot].stamp = limits->stamp;
	}
	else if ((o->want & G2_WANT_CANDIDATES) &&
			 (o->slot >= limits->n_slots || !limits->slots[o->slot].set))
		return bad_plan(err, "slot not set, output", i);
	else if ((o->want & G2_WANT_LOGPROB) && o->target >= n_vocab)
		return bad_plan(err, "target id out of range, output", i);
	if (((o->want & G2_WANT_TOKEN) && !result->token) ||
		((o->want & G2_WANT_LOGPROB) && !result->logprob) ||
		((o->want & (G2_WANT_TOP | G2_WANT_CANDIDATES)) &&
		 (!result->top_token || !result->top_logprob || plan->n_top > n_vocab)) ||
		((o->want & G2_WANT_CANDIDATES) && !result->top_score) ||
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
			!(o->want & G2_WANT_TOKEN) || o->mask || (o->want & ~(uint32_t) (G2_WANT_TOKEN |
																  G2_WANT_LOGPROB)) != 0)
			return bad_plan(err, "not allowed with several steps, sequence", i);
	}
	return true;
}

bool
g2_plan_check(const g2_plan *plan, const g2_plan_bounds *bounds, const g2_result *result,
			  g2_plan_limits *limits, g2_error *err)
{
	uint32_t	row = 0;

	if (!plan || !plan->model || !result || !plan->token || !plan->position || !plan->sequences ||
		(plan->n_outputs > 0 && !plan->outputs))
		return bad_plan(err, "an array is missing", 0);
	if (bounds->n_blocks == 0)
		return bad_plan(err, "model without a KV cache", 0);
	if (plan->n_rows == 0 || plan->n_rows > INT32_MAX || plan->n_sequences > plan->n_rows)
		return bad_plan(err, "number of rows", plan->n_rows);
	if (!check_steps(plan, err))
		return false;
	for (uint32_t i = 0; i < plan->n_sequences; i++)
	{
		if (plan->sequences[i].first_row != row)
			return bad_plan(err, "rows not in the order of sequences, sequence", i);
		if (!check_sequence(plan, bounds, limits, &plan->sequences[i], i, err))
			return false;
		row += plan->sequences[i].n_rows;
	}
	if (row != plan->n_rows)
		return bad_plan(err, "rows of no sequence from", row);
	limits->stamp++;
	for (uint32_t i = 0; i < plan->n_outputs; i++)
		if (!check_output(plan, bounds, result, limits, &plan->outputs[i], i, err))
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

bool
g2_slot_check_state(const g2_plan_limits *limits, uint32_t slot, const g2_slot_state *state,
					g2_error *err)
{
	if (slot >= limits->n_slots || (state->n_history > 0 && !state->history) ||
		state->next_index > state->n_history)
		return g2_fail(err, G2_E_INTERNAL, "slot %u out of range, or without its history", slot);
	for (uint32_t i = 0; i < state->n_history; i++)
		if (state->history[i] >= G2_MAX_VOCAB)
			return g2_fail(err, G2_E_INTERNAL, "token id %u out of range", state->history[i]);
	if (state->sampling.n_biases > G2_MOST_BIASES ||
		(state->sampling.n_biases > 0 && !state->sampling.biases))
		return g2_fail(err, G2_E_INTERNAL, "slot %u with %u biases", slot, state->sampling.n_biases);
	return true;
}
