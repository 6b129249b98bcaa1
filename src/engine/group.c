/*
 * group.c: sequences grow by tokens, end by length, end token or stop string, and become an answer.
 */
#include "group.h"

bool
g2_group_new(const g2_group_options *options, g2_ids *prompt, g2_group **out, g2_error *err)
{
	size_t		bytes = sizeof(g2_group) + options->n * sizeof(g2_sequence);
	g2_group   *group = g2_alloc(bytes);
	uint32_t	shared,
				all;

	if (!group)
		return g2_fail_memory(err, bytes);
	group->o = *options;
	group->prompt = *prompt;
	memset(prompt, 0, sizeof *prompt);
	group->n_live = options->n;
	/* The last token is never fed, so it needs no place. */
	shared = (uint32_t) group->prompt.len / G2_BLOCK;
	all = g2_blocks_for(group->prompt.len + options->max_new - 1);
	group->need_blocks = shared + options->n * (all - shared);
	*out = group;
	return true;
}

void
g2_group_free(g2_group *group)
{
	if (!group)
		return;
	for (uint32_t i = 0; i < group->o.n; i++)
	{
		g2_ids	   *ids = &group->sequences[i].ids;

		g2_wipe_free(ids->data, ids->cap * sizeof *ids->data);
		g2_text_free(&group->sequences[i].text);
	}
	g2_wipe_free(group->prompt.data, group->prompt.cap * sizeof *group->prompt.data);
	g2_free(group);
}

/* Appends the token's bytes and cuts the text before a stop string that they complete. */
static bool
append_text(g2_group *group, g2_sequence *sequence, uint32_t token)
{
	size_t		len = 0,
				old = sequence->text.len,
				from,
				stop,
				longest = 0;
	const char *piece;

	if (!group->o.tokenizer || !(piece = g2_tokenizer_piece(group->o.tokenizer, token, &len)))
		return true;			/* a padding row of the vocabulary has no text */
	if (!g2_buf_append(&sequence->text, piece, len))
		return false;
	for (uint32_t i = 0; i < group->o.n_stops; i++)
		longest = G2_MAX(longest, group->o.stops[i].len);
	from = old >= longest ? old - longest + 1 : 0;
	stop = g2_text_find(sequence->text.data, sequence->text.len, from, group->o.stops,
						group->o.n_stops);
	if (stop != SIZE_MAX)
	{
		sequence->text.len = stop;
		sequence->finish = G2_FINISH_STOP;
	}
	return true;
}

bool
g2_group_accept(g2_group *group, uint32_t i, uint32_t token, double logprob, bool is_end,
				g2_error *err)
{
	g2_sequence *sequence = &group->sequences[i];

	if (!g2_ids_push(&sequence->ids, token))
		return g2_fail_memory(err, sequence->ids.len * sizeof token);
	sequence->logprob += logprob;
	if (is_end)
		sequence->finish = G2_FINISH_EOS;
	else if (!append_text(group, sequence, token))
		return g2_fail_memory(err, sequence->text.len);
	if (!sequence->finish && sequence->ids.len >= group->o.max_new)
		sequence->finish = G2_FINISH_LENGTH;
	if (sequence->finish)
		group->n_live--;
	return true;
}

bool
g2_group_answer(const g2_group *group, uint64_t elapsed_us, g2_writer *w, g2_error *err)
{
	const g2_completions_head head = {
		.n = group->o.n,
		.prompt_tokens = (uint32_t) group->prompt.len,
		.seed = group->o.sampling.seed,
		.elapsed_us = elapsed_us,
	};

	g2_completions_head_encode(w, &head);
	for (uint32_t i = 0; i < group->o.n; i++)
	{
		const g2_sequence *sequence = &group->sequences[i];
		g2_buf		text = {0};
		g2_completion completion = {
			.finish = sequence->finish,
			.logprob = sequence->logprob,
			.n_ids = (uint32_t) sequence->ids.len,
			.ids = (const char *) sequence->ids.data,
		};

		if (!g2_text_clean(sequence->text.data, sequence->text.len, &text))
			w->failed = true;
		completion.text.data = text.data;
		completion.text.len = (uint32_t) text.len;
		g2_completion_encode(w, &completion);
		g2_text_free(&text);
	}
	if (w->failed)
		return g2_fail_memory(err, w->len);
	return true;
}
