/*
 * visit_take.c: what a visit's result does to the groups of its plan, and to what is counted.
 */
#include "visit.h"

#define MAX_CHARGE 4			/* times what a visit's rows cost otherwise, at most */

/* Prompt tokens that its role has not paid for yet: what is computed again after a preemption was
 * not its wish. */
static void
spend_prompt(const g2_part *part, uint32_t n_rows)
{
	g2_group   *group = part->group;
	uint32_t	position = group->sequences[part->sequence].position,
				end = G2_MIN(position + n_rows, (uint32_t) group->prompt.len),
				begin = G2_MAX(position, group->spent);

	if (end <= begin)
		return;
	g2_group_spend(group, end - begin);
	group->spent = end;
}

/* The device's time is shared by rows: what a row costs is the same for prompts and new tokens. */
static void
charge(g2_visit *v)
{
	double		usual = v->plan.n_steps * g2_cost_step(&v->work->cost, v->plan.n_rows),
				fair = (double) v->result.busy_us;

	/* That something else held up the device is no role's fault. */
	if (usual > 0)
		fair = G2_MIN(fair, MAX_CHARGE * usual);
	for (uint32_t p = 0; p < v->plan.n_sequences; p++)
	{
		g2_group   *group = v->parts[p].group;
		double		share = (double) v->sequences[p].n_rows / v->plan.n_rows;

		group->compute_us += (double) v->result.busy_us * share;
		group->o.session->role->service += fair * share;
		if (!v->parts[p].decodes)
			spend_prompt(&v->parts[p], v->sequences[p].n_rows);
	}
}

/* The rows of step 0 are in the cache now. */
static void
take_rows(g2_visit *v)
{
	for (uint32_t p = 0; p < v->plan.n_sequences; p++)
	{
		g2_group   *group = v->parts[p].group;
		g2_sequence *sequence = &group->sequences[v->parts[p].sequence];

		sequence->position += v->sequences[p].n_rows - v->parts[p].n_draft;
		v->work->drafted_tokens += v->parts[p].n_draft;
		g2_group_publish(group, v->parts[p].sequence);
		if (!v->parts[p].decodes)
			v->work->prompt_tokens += v->sequences[p].n_rows;
		if (!group->forked && sequence->position == group->prompt.len)
			group->failed = !g2_group_fork(group, NULL);
		if (!v->parts[p].decodes && group->preemptions == 0 &&
			sequence->position == group->prompt.len)
		{
			v->work->prefix_asked += group->prompt.len - 1;
			v->work->prefix_hits += group->cached_tokens;
		}
	}
}

/* n tokens more, of which n_rows rows were fed. */
static void
count_made(g2_visit *v, g2_group *group, uint32_t n, uint32_t n_rows)
{
	v->work->completion_tokens += n;
	v->work->recent[v->work->second % G2_LENGTH(v->work->recent)] += n;
	v->work->step_sequences += n_rows;
	g2_group_spend(group, n);
}

static bool
take_output(g2_visit *v, uint32_t step, uint32_t output)
{
	const g2_target *t = &v->targets[output];
	g2_group   *group = t->group;
	g2_sequence *sequence = &group->sequences[t->sequence];
	size_t		at = (size_t) step * v->plan.n_outputs + output;

	if (sequence->finish || v->result.token[at] == G2_TOKEN_NONE)
		return true;			/* it had ended in this visit, or the draft was refused */
	if (step == 0 && t->guess != G2_NO_TOKEN)
		g2_draft_learn(&sequence->draft, t->guess, v->result.token[at]);
	v->work->drafts_kept += t->drafted > 0;
	if (step > 0 || t->drafted)
	{
		sequence->position++;	/* the token before this one is in the cache now */
		g2_group_publish(group, t->sequence);
	}
	count_made(v, group, 1, 1);
	if (!g2_group_accept(group, t->sequence, v->result.token[at],
						 group->o.logprobs ? v->result.logprob[at] : 0.0,
						 v->result.ended[at] != 0, NULL))
		return false;
	if (sequence->finish)
		g2_kv_release(group->o.kv, &sequence->table);
	return true;
}

/* The candidates of all beams, of which this is the first output. */
static bool
take_beams(g2_visit *v, uint32_t output)
{
	g2_group   *group = v->targets[output].group;
	size_t		at = (size_t) output * v->plan.n_top;
	g2_beam_rows rows = {
		.width = v->plan.n_top, .token = v->top_token + at, .logprob = v->top_logprob + at,
		.score = v->top_score + at,
	};

	while (output < v->plan.n_outputs && v->targets[output++].group == group)
		rows.n++;
	count_made(v, group, group->o.n, rows.n);
	return g2_beams_advance(group, &rows, NULL);
}

static void
take_score(g2_visit *v, uint32_t output)
{
	const g2_target *t = &v->targets[output];
	g2_group   *group = t->group;
	g2_sequence *sequence = &group->sequences[t->sequence];
	bool		norm = group->o.want == G2_WANT_NORM;

	/* Tokens of the prompt are paid for by their rows. */
	if (group->o.first + sequence->scored >= group->prompt.len)
		g2_group_spend(group, 1);
	g2_group_accept_score(group, t->sequence, norm ? 0.0 : v->result.logprob[output],
						  norm ? v->result.norm + (size_t) output * group->o.n_embd : NULL);
	if (sequence->finish)
		g2_kv_release(group->o.kv, &sequence->table);
}

/* recent[] is of the seconds up to now. */
static void
turn_seconds(g2_work *work)
{
	int64_t		now = g2_now_us() / 1000000;

	if (now - work->second >= (int64_t) G2_LENGTH(work->recent))
		memset(work->recent, 0, sizeof work->recent);
	else
		while (work->second < now)
			work->recent[++work->second % (int64_t) G2_LENGTH(work->recent)] = 0;
	work->second = now;
}

void
g2_visit_take(g2_visit *v)
{
	turn_seconds(v->work);
	v->work->steps += v->plan.n_steps;
	v->work->busy_us += (uint64_t) v->result.busy_us;
	charge(v);
	/* Forks come first: a sequence that ends with its first token gives its blocks back. */
	take_rows(v);
	for (uint32_t step = 0; step < v->plan.n_steps; step++)
		for (uint32_t o = 0; o < v->plan.n_outputs; o++)
		{
			g2_group   *group = v->targets[o].group;

			if (group->failed)
				continue;
			if (g2_group_scores(group))
				take_score(v, o);
			else if (group->beams)
				group->failed = (o == 0 || v->targets[o - 1].group != group) && !take_beams(v, o);
			else if (!take_output(v, step, o))
				group->failed = true;
		}
}
