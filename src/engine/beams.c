/*
 * beams.c: one step of a beam search: choosing candidates, texts that end, beams that go on.
 */
#include "beams.h"

#include <math.h>

#include "vecmath.h"

bool
g2_beams_open(g2_group *group, g2_error *err)
{
	uint32_t	n = group->o.n;
	g2_beams   *b = group->beams = g2_alloc(sizeof *b);

	if (b)
	{
		b->ended = g2_alloc_array(n, sizeof *b->ended);
		b->candidates = g2_alloc_array(2 * (size_t) n, sizeof *b->candidates);
		b->running = g2_alloc_array(n, sizeof *b->running);
		b->heads = g2_alloc_array(n, sizeof *b->heads);
		b->next = g2_alloc_array(n, sizeof *b->next);
		if (b->ended && b->candidates && b->running && b->heads && b->next)
			return true;
	}
	return g2_fail_memory(err, 3 * (uint64_t) n * sizeof *b->ended);
}

void
g2_beams_close(g2_group *group)
{
	g2_beams   *b = group->beams;

	if (!b)
		return;
	for (uint32_t i = 0; b->ended && i < b->n_ended; i++)
		g2_sequence_clear(&b->ended[i]);
	g2_free(b->ended);
	g2_free(b->candidates);
	g2_free(b->running);
	g2_free(b->heads);
	g2_free(b->next);
	g2_free(b);
	group->beams = NULL;
}

/* ---- scores ---- */

/* len^penalty, the same on every machine: no C library's pow. */
static double
length_factor(uint32_t len, double penalty)
{
	double		power = 1.0;

	if (penalty != floor(penalty))
		return g2_exp(penalty * g2_log((double) len));
	for (double i = 0; i < fabs(penalty); i++)
		power *= (double) len;
	return penalty < 0 ? 1.0 / power : power;
}

/* A NaN, which a broken model gives, is as bad as anything. */
static double
sum_of(const g2_group *group, const g2_beam_rows *rows, uint32_t beam, uint32_t at)
{
	double		sum = group->sequences[beam].score + rows->score[(size_t) beam * rows->width + at];

	return sum > -INFINITY ? sum : -INFINITY;
}

/* The 2 n best of all rows, each of which is in order. */
static void
choose_candidates(g2_group *group, const g2_beam_rows *rows)
{
	g2_beams   *b = group->beams;
	uint32_t	n = 2 * group->o.n;

	memset(b->heads, 0, rows->n * sizeof *b->heads);
	for (uint32_t c = 0; c < n; c++)
	{
		uint32_t	best = UINT32_MAX;
		double		best_sum = 0;
		size_t		at;

		for (uint32_t beam = 0; beam < rows->n; beam++)
		{
			double		sum;

			if (b->heads[beam] == n)
				continue;
			sum = sum_of(group, rows, beam, b->heads[beam]);
			if (best == UINT32_MAX || sum > best_sum)
			{
				best = beam;
				best_sum = sum;
			}
		}
		at = (size_t) best * rows->width + b->heads[best]++;
		b->candidates[c] = (g2_candidate) {best, rows->token[at], best_sum, rows->logprob[at]};
	}
}

/* ---- texts that end ---- */

/* What both may change afterwards; without blocks, and without n-grams. */
static bool
copy_text(g2_sequence *to, const g2_sequence *from, g2_error *err)
{
	*to = *from;
	to->table = (g2_block_table) {0};
	to->ids = (g2_ids) {0};
	to->text = (g2_buf) {0};
	to->ngrams = (g2_ngrams) {0};
	if (from->ids.len > 0)
	{
		to->ids.data = g2_alloc_array(from->ids.cap, sizeof *to->ids.data);
		if (!to->ids.data)
			return g2_fail_memory(err, from->ids.cap * sizeof *to->ids.data);
		to->ids.cap = from->ids.cap;
		to->ids.len = from->ids.len;
		memcpy(to->ids.data, from->ids.data, from->ids.len * sizeof *to->ids.data);
	}
	return from->text.len == 0 || g2_buf_append(&to->text, from->text.data, from->text.len) ||
		g2_fail_memory(err, from->text.len);
}

static bool
keep_text(g2_group *group, const g2_candidate *c, g2_error *err)
{
	g2_beams   *b = group->beams;
	const g2_sequence *beam = &group->sequences[c->beam];
	double		score = c->score / length_factor((uint32_t) beam->ids.len + 1,
												 group->o.length_penalty);
	uint32_t	at = b->n_ended;
	g2_sequence text;

	while (at > 0 && !(b->ended[at - 1].score >= score))
		at--;
	if (at == group->o.n)
		return true;
	if (!copy_text(&text, beam, err) ||
		!g2_group_extend(group, &text, c->token, c->logprob, c->token == group->o.end_token, err))
	{
		g2_sequence_clear(&text);
		return false;
	}
	text.score = score;
	if (b->n_ended == group->o.n)
		g2_sequence_clear(&b->ended[--b->n_ended]);
	memmove(&b->ended[at + 1], &b->ended[at], (b->n_ended - at) * sizeof *b->ended);
	b->ended[at] = text;
	b->n_ended++;
	return true;
}

/* Parts the candidates: texts are kept, *n_running go on. */
static bool
part_candidates(g2_group *group, uint32_t *n_running, g2_error *err)
{
	g2_beams   *b = group->beams;
	uint32_t	n = group->o.n;

	*n_running = 0;
	for (uint32_t i = 0; i < 2 * n && (i < n || *n_running < n); i++)
	{
		const g2_candidate *c = &b->candidates[i];
		g2_finish	finish;

		if (!g2_group_foresee(group, c->beam, c->token, &finish, err))
			return false;
		if (!finish && *n_running < n)
			b->running[(*n_running)++] = *c;
		else if (finish && i < n && !keep_text(group, c, err))
			return false;
	}
	return true;
}

/* ---- beams that go on ---- */

static void
drop_sequence(const g2_group *group, g2_sequence *sequence)
{
	g2_kv_release(group->o.kv, &sequence->table);
	g2_sequence_clear(sequence);
}

/* The last successor of a beam takes over what it has. */
static bool
is_last(const g2_beams *b, uint32_t i, uint32_t n_running)
{
	for (uint32_t later = i + 1; later < n_running; later++)
		if (b->running[later].beam == b->running[i].beam)
			return false;
	return true;
}

/* Those that are not the last get copies, and a share of the blocks. */
static bool
make_copies(const g2_group *group, uint32_t n_running, g2_error *err)
{
	g2_beams   *b = group->beams;

	for (uint32_t i = 0; i < n_running; i++)
	{
		const g2_sequence *from = &group->sequences[b->running[i].beam];

		if (is_last(b, i, n_running))
			continue;
		if (copy_text(&b->next[i], from, err) &&
			g2_ngrams_copy(&b->next[i].ngrams, &from->ngrams, err) &&
			g2_kv_share(group->o.kv, &b->next[i].table, &from->table, from->table.n, err))
			continue;
		drop_sequence(group, &b->next[i]);
		while (i-- > 0)
			if (!is_last(b, i, n_running))
				drop_sequence(group, &b->next[i]);
		return false;
	}
	return true;
}

static bool
move_beams(g2_group *group, uint32_t n_running, g2_error *err)
{
	g2_beams   *b = group->beams;

	if (!make_copies(group, n_running, err))
		return false;
	for (uint32_t i = 0; i < n_running; i++)
	{
		g2_sequence *from = &group->sequences[b->running[i].beam];

		if (!is_last(b, i, n_running))
			continue;
		b->next[i] = *from;
		from->table = (g2_block_table) {0};
		from->ids = (g2_ids) {0};
		from->text = (g2_buf) {0};
		from->ngrams = (g2_ngrams) {0};
	}
	for (uint32_t i = 0; i < group->o.n; i++)
	{
		uint32_t	slot = group->sequences[i].slot;

		drop_sequence(group, &group->sequences[i]);
		if (i < n_running)
			group->sequences[i] = b->next[i];
		else
			group->sequences[i].finish = G2_FINISH_LENGTH;
		group->sequences[i].slot = slot;
	}
	group->n_live = n_running;
	for (uint32_t i = 0; i < n_running; i++)
	{
		group->sequences[i].score = b->running[i].score;
		if (!g2_group_extend(group, &group->sequences[i], b->running[i].token,
							 b->running[i].logprob, false, err))
			return false;
	}
	b->moved = true;
	return true;
}

/* No beam can become better than the texts that have ended. */
static bool
is_decided(const g2_group *group)
{
	const g2_beams *b = group->beams;
	const g2_sequence *best = &group->sequences[0];

	return b->n_ended == group->o.n &&
		!(best->score / length_factor((uint32_t) best->ids.len, group->o.length_penalty) >
		  b->ended[b->n_ended - 1].score);
}

static void
end_search(g2_group *group)
{
	for (uint32_t i = 0; i < group->o.n; i++)
	{
		drop_sequence(group, &group->sequences[i]);
		group->sequences[i].finish = G2_FINISH_LENGTH;
	}
	group->n_live = 0;
}

bool
g2_beams_advance(g2_group *group, const g2_beam_rows *rows, g2_error *err)
{
	uint32_t	n_running;

	choose_candidates(group, rows);
	group->beams->made += group->o.n;
	if (!part_candidates(group, &n_running, err))
		return false;
	if (n_running > 0 && !move_beams(group, n_running, err))
		return false;
	if (n_running == 0 || is_decided(group))
		end_search(group);
	return true;
}
