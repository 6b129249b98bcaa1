/*
 * group.c: sequences grow by tokens, end by length, end token, stop string or their last score, and
 * become an answer.
 */
#include "group.h"

#include "beams.h"
#include "constraint.h"

static bool
copy_given(g2_group *group, const g2_ids *given, g2_error *err)
{
	for (uint32_t i = 0; given && i < group->o.n; i++)
		for (size_t t = 0; t < given[i].len; t++)
			if (!g2_ids_push(&group->sequences[i].ids, given[i].data[t]))
				return g2_fail_memory(err, given[i].len * sizeof(uint32_t));
	return true;
}

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
	/* The last token is not fed, so it needs no place; but for its norm. */
	shared = (uint32_t) group->prompt.len / G2_BLOCK;
	all = g2_blocks_for(group->prompt.len + options->max_new - (options->want != G2_WANT_NORM));
	group->most_blocks = shared + options->n * (all - shared);
	for (uint32_t i = 0; i < options->n; i++)
		g2_draft_init(&group->sequences[i].draft);
	g2_group_rewind(group);
	if (!copy_given(group, options->given, err) ||
		(options->n_best > 0 && !g2_beams_open(group, err)))
	{
		g2_group_free(group);
		return false;
	}
	group->unspent = g2_group_given(group) +
		(g2_group_scores(group) ? 0 : (uint64_t) options->n * options->max_new);
	*out = group;
	return true;
}

/* ---- the limit per minute ---- */

/* Who has no limit is not charged. */
void
g2_group_reserve(g2_group *group, bool on)
{
	g2_role    *role = group->o.session->role;

	if (group->reserves)
		role->reserved -= group->unspent;
	group->reserves = on && g2_session_limit(group->o.session, G2_LIMIT_MINUTE) > 0;
	if (group->reserves)
		role->reserved += group->unspent;
}

void
g2_group_spend(g2_group *group, uint64_t tokens)
{
	uint64_t	kept = G2_MIN(tokens, group->unspent);

	group->unspent -= kept;
	if (group->reserves)
		group->o.session->role->reserved -= kept;
	g2_session_spend(group->o.session, tokens);
}

/* ---- the end ---- */

void
g2_sequence_clear(g2_sequence *sequence)
{
	g2_wipe_free(sequence->ids.data, sequence->ids.cap * sizeof *sequence->ids.data);
	sequence->ids = (g2_ids) {0};
	g2_text_free(&sequence->text);
	g2_ngrams_close(&sequence->ngrams);
}

void
g2_group_free(g2_group *group)
{
	if (!group)
		return;
	for (uint32_t i = 0; i < group->o.n; i++)
		g2_sequence_clear(&group->sequences[i]);
	g2_beams_close(group);
	g2_wipe_free(group->prompt.data, group->prompt.cap * sizeof *group->prompt.data);
	g2_free(group);
}

bool
g2_group_index(g2_group *group, g2_error *err)
{
	g2_sequence *first = &group->sequences[0];
	uint32_t	room = (uint32_t) group->prompt.len + group->o.max_new;

	for (uint32_t i = 0; group->o.no_repeat_ngram > 0 && i < group->o.n; i++)
	{
		g2_sequence *sequence = &group->sequences[i];
		bool		same = i > 0 && first->ids.len == 0;	/* nothing but the prompt */

		if (sequence->finish)
			continue;
		if (!(same ? g2_ngrams_copy(&sequence->ngrams, &first->ngrams, err) :
			  g2_ngrams_open(&sequence->ngrams, group->o.no_repeat_ngram, room, err)))
			return false;
		if (i == 0)
			g2_ngrams_find(group, 0);
	}
	return true;
}

/* ---- positions and blocks ---- */

bool
g2_group_prefilling(const g2_group *group)
{
	if (!group->forked)
		return true;
	for (uint32_t i = 0; i < group->o.n; i++)
		if (!group->sequences[i].finish && !g2_group_decodes(group, i))
			return true;
	return false;
}

void
g2_group_rewind(g2_group *group)
{
	group->forked = group->o.n == 1;
	for (uint32_t i = 0; i < group->o.n; i++)
	{
		group->sequences[i].position = 0;
		group->sequences[i].n_chained = 0;
		group->sequences[i].chain = group->o.prefix;
	}
}

bool
g2_group_next_block(const g2_group *group, uint32_t i, g2_prefix *next)
{
	const g2_sequence *sequence = &group->sequences[i];
	uint32_t	first = sequence->n_chained * G2_BLOCK,
				end = group->beams ? (uint32_t) group->prompt.len : g2_group_tokens(group, i),
				tokens[G2_BLOCK];

	if (!group->o.use_cache || first + G2_BLOCK > end)
		return false;
	for (uint32_t t = 0; t < G2_BLOCK; t++)
		tokens[t] = g2_group_token(group, i, first + t);
	return g2_prefix_next(&sequence->chain, tokens, next);
}

uint32_t
g2_group_adoptable(const g2_group *group, uint32_t i)
{
	if (g2_group_scores(group) && group->forked)
		return group->o.first + group->sequences[i].scored - g2_group_ahead(group);
	return g2_group_tokens(group, i) - 1;
}

bool
g2_group_adopt(g2_group *group, uint32_t i, g2_error *err)
{
	g2_sequence *sequence = &group->sequences[i];
	g2_prefix	next;

	while (sequence->position == sequence->n_chained * G2_BLOCK &&
		   sequence->position + G2_BLOCK <= g2_group_adoptable(group, i) &&
		   sequence->table.n == sequence->n_chained && g2_group_next_block(group, i, &next))
	{
		uint32_t	block = g2_kv_find(group->o.kv, &next);

		if (block == G2_NO_BLOCK)
			break;
		if (!g2_kv_adopt(group->o.kv, &sequence->table, block, err))
			return false;
		sequence->chain = next;
		sequence->n_chained++;
		sequence->position += G2_BLOCK;
		if (group->preemptions == 0 && sequence->position <= group->prompt.len)
			group->cached_tokens += G2_BLOCK;
	}
	return true;
}

void
g2_group_publish(g2_group *group, uint32_t i)
{
	g2_sequence *sequence = &group->sequences[i];
	g2_prefix	next;

	while ((sequence->n_chained + 1) * G2_BLOCK <= sequence->position &&
		   g2_group_next_block(group, i, &next))
	{
		g2_kv_publish(group->o.kv, sequence->table.blocks[sequence->n_chained], &next);
		sequence->chain = next;
		sequence->n_chained++;
	}
}

bool
g2_group_fork(g2_group *group, g2_error *err)
{
	const g2_sequence *first = &group->sequences[0];

	group->forked = true;
	for (uint32_t i = 1; i < group->o.n; i++)
	{
		g2_sequence *sequence = &group->sequences[i];

		if (sequence->finish)
			continue;
		if (!g2_kv_share(group->o.kv, &sequence->table, &first->table, first->table.n, err))
			return false;
		sequence->position = first->position;
		sequence->n_chained = first->n_chained;
		sequence->chain = first->chain;
	}
	/* It led the way for the others though it had ended before. */
	if (first->finish)
		g2_kv_release(group->o.kv, &group->sequences[0].table);
	return true;
}

/* ---- tokens and text ---- */

/* Where the text behind the sequence's tokens stands. */
static g2_decoder
decoder_of(const g2_group *group, const g2_sequence *sequence)
{
	return sequence->ids.len > 0 ? sequence->decoder :
		g2_tokenizer_after(group->o.tokenizer, group->prompt.data, group->prompt.len);
}

/* Where a stop string begins that the bytes from `old` on complete, or SIZE_MAX. */
static size_t
find_stop(const g2_group *group, const g2_buf *text, size_t old)
{
	size_t		longest = 0,
				from;

	if (text->len == old)
		return SIZE_MAX;
	for (uint32_t i = 0; i < group->o.n_stops; i++)
		longest = G2_MAX(longest, group->o.stops[i].len);
	from = old >= longest ? old - longest + 1 : 0;
	return g2_text_find(text->data, text->len, from, group->o.stops, group->o.n_stops);
}

/* Appends the token's text and cuts it before a stop string that this completes. */
static bool
append_text(const g2_group *group, g2_sequence *sequence, uint32_t token)
{
	size_t		old = sequence->text.len,
				stop;

	if (!g2_tokenizer_decode(group->o.tokenizer, &sequence->decoder, token, &sequence->text))
		return false;
	stop = find_stop(group, &sequence->text, old);
	if (stop != SIZE_MAX)
	{
		sequence->text.len = stop;
		sequence->finish = G2_FINISH_STOP;
	}
	return true;
}

/* Bytes of the text that can be given away while more may come: not those that may begin a stop
 * string or an unfinished character. */
static size_t
settled_text(const g2_group *group, const g2_sequence *sequence)
{
	const char *text = sequence->text.data;
	size_t		len = sequence->text.len;

	if (len == sequence->streamed)
		return len;				/* there may be no text at all */
	for (uint32_t i = 0; i < group->o.n_stops; i++)
	{
		const g2_bytes *stop = &group->o.stops[i];
		size_t		most = G2_MIN(stop->len - 1, sequence->text.len - sequence->streamed);

		for (size_t tail = most; tail > sequence->text.len - len; tail--)
			if (memcmp(text + sequence->text.len - tail, stop->data, tail) == 0)
				len = sequence->text.len - tail;
	}
	if (len == 0)
		return 0;				/* there may be no text at all yet */
	return sequence->streamed + g2_text_complete(text + sequence->streamed,
												 len - sequence->streamed);
}

static bool
stream_token(g2_group *group, uint32_t token, double logprob)
{
	g2_sequence *sequence = &group->sequences[0];
	bool		is_end = sequence->finish != 0;
	size_t		end = is_end ? sequence->text.len : settled_text(group, sequence);
	g2_buf		piece = {0};
	bool		ok = true;

	if (end > sequence->streamed)
		ok = (is_end ? g2_text_clean : g2_text_clean_part)
			(sequence->text.data + sequence->streamed, end - sequence->streamed, &piece);
	if (ok)
		group->o.stream(group, &(g2_stream) {
			.pos = (uint32_t) sequence->ids.len - 1, .token = token, .logprob = logprob,
			.piece = {piece.data, (uint32_t) piece.len},
		});
	sequence->streamed = G2_MAX(end, sequence->streamed);
	g2_text_free(&piece);
	return ok;
}

bool
g2_group_extend(const g2_group *group, g2_sequence *sequence, uint32_t token, double logprob,
				bool is_end, g2_error *err)
{
	if (group->o.tokenizer && sequence->ids.len == 0)
		sequence->decoder = decoder_of(group, sequence);
	if (!g2_ids_push(&sequence->ids, token))
		return g2_fail_memory(err, sequence->ids.len * sizeof token);
	sequence->logprob += logprob;
	if (is_end)
		sequence->finish = G2_FINISH_EOS;
	else if (group->o.tokenizer && !append_text(group, sequence, token))
		return g2_fail_memory(err, sequence->text.len);
	else if (!g2_constraint_accept(group, sequence, token, err))
		return false;
	if (!sequence->finish && sequence->ids.len >= group->o.max_new)
		sequence->finish = G2_FINISH_LENGTH;
	return true;
}

bool
g2_group_foresee(const g2_group *group, uint32_t i, uint32_t token, g2_finish *finish,
				 g2_error *err)
{
	const g2_sequence *sequence = &group->sequences[i];
	size_t		tail = G2_MIN(sequence->text.len, (size_t) G2_MAX_STOP_BYTES);
	g2_decoder	decoder;
	g2_buf		text = {0};
	bool		ok = true;

	*finish = sequence->ids.len + 1 >= group->o.max_new ? G2_FINISH_LENGTH : 0;
	if (token == group->o.end_token)
		*finish = G2_FINISH_EOS;
	else if (group->o.tokenizer && group->o.n_stops > 0)
	{
		decoder = decoder_of(group, sequence);
		if (tail > 0)
			ok = g2_buf_append(&text, sequence->text.data + sequence->text.len - tail, tail);
		ok = ok && g2_tokenizer_decode(group->o.tokenizer, &decoder, token, &text);
		if (ok && find_stop(group, &text, tail) != SIZE_MAX)
			*finish = G2_FINISH_STOP;
		g2_text_free(&text);
	}
	return ok || g2_fail_memory(err, tail);
}

bool
g2_group_accept(g2_group *group, uint32_t i, uint32_t token, double logprob, bool is_end,
				g2_error *err)
{
	g2_sequence *sequence = &group->sequences[i];

	if (!g2_group_extend(group, sequence, token, logprob, is_end, err))
		return false;
	if (sequence->finish)
		group->n_live--;
	if (group->o.stream && !stream_token(group, token, logprob))
		return g2_fail_memory(err, sequence->text.len);
	return true;
}

void
g2_group_accept_score(g2_group *group, uint32_t i, double logprob, const float *norm)
{
	g2_sequence *sequence = &group->sequences[i];

	group->o.score(group, i, sequence->scored++, logprob, norm);
	if (group->o.first + sequence->scored < group->prompt.len + sequence->ids.len)
		return;
	sequence->finish = G2_FINISH_LENGTH;
	group->n_live--;
}

static uint64_t
own_tokens(const g2_group *group)
{
	uint64_t	n = 0;

	for (uint32_t i = 0; i < group->o.n; i++)
		n += group->sequences[i].ids.len;
	return n;
}

uint64_t
g2_group_given(const g2_group *group)
{
	return group->prompt.len + (g2_group_scores(group) ? own_tokens(group) : 0);
}

uint64_t
g2_group_made(const g2_group *group)
{
	if (group->beams)
		return group->beams->made;
	return g2_group_scores(group) ? 0 : own_tokens(group);
}

static void
put_sequence(const g2_sequence *sequence, g2_writer *w)
{
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

const g2_sequence *
g2_group_answers(const g2_group *group)
{
	return group->beams ? group->beams->ended : group->sequences;
}

bool
g2_group_answer(const g2_group *group, uint64_t elapsed_us, g2_writer *w, g2_error *err)
{
	const g2_sequence *sequences = g2_group_answers(group);
	const g2_completions_head head = {
		.n = group->beams ? group->o.n_best : group->o.n,
		.prompt_tokens = (uint32_t) group->prompt.len,
		.cached_tokens = group->cached_tokens,
		.queue_us = (uint64_t) (group->admitted_at - group->queued_at),
		.seed = group->o.sampling.seed,
		.elapsed_us = elapsed_us,
	};

	g2_completions_head_encode(w, &head);
	for (uint32_t i = 0; i < head.n; i++)
		put_sequence(&sequences[i], w);
	if (w->failed)
		return g2_fail_memory(err, w->len);
	return true;
}
