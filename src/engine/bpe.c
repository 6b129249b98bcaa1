/*
 * bpe.c: byte-pair merges (Sennrich et al. 2016) in the order of openai/gpt-2 encoder.py.
 *
 * That order is: take the pair of lowest rank that stands anywhere in the piece, merge all of its
 * occurrences from left to right, repeat.  Pairs that a round makes are looked at only when the
 * round is over, which matters for merge lists that training would not write (a later merge that
 * makes a pair of lower rank).
 *
 * A short piece, which is nearly every word, is scanned again in each round: O(n^2), on the stack.
 * Long ones are in bpe_long.c.
 */
#include "bpe.h"

#define SHORT_PIECE 32
#define NEW_ELEMENT (G2_BPE_NO_RANK - 1)
#define CANCEL_MASK 0xFFF		/* look at the flag every so many steps, about every 0.1 ms */

bool
g2_bpe_canceled_now(const g2_bpe_work *work, g2_error *err)
{
	if (!work->cancel || !atomic_load_explicit(work->cancel, memory_order_relaxed))
		return false;
	g2_fail(err, G2_E_CANCELED, "canceled while tokenizing");
	return true;
}

bool
g2_bpe_canceled(g2_bpe_work *work, g2_error *err)
{
	return (++work->ticks & CANCEL_MASK) == 0 && g2_bpe_canceled_now(work, err);
}

bool
g2_bpe_too_many(const g2_bpe_work *work, g2_error *err)
{
	g2_fail(err, G2_E_TOO_LONG, "the text has more than %zu tokens", work->max_ids);
	return g2_fail_hint(err, "Split the text.");
}

bool
g2_bpe_emit(const g2_bpe *bpe, g2_bpe_work *work, uint32_t id, g2_ids *out, g2_error *err)
{
	if (out->len - work->first_id >= work->max_ids)
		return g2_bpe_too_many(work, err);
	if (!g2_ids_push(out, id == G2_NO_TOKEN ? bpe->unknown : id))
		return g2_fail_memory(err, out->cap * 2 * sizeof *out->data);
	return true;
}

uint32_t
g2_bpe_rank(const g2_bpe *bpe, uint32_t left, uint32_t right)
{
	size_t		lo,
				end,
				n;

	if (left == G2_NO_TOKEN)
		return G2_BPE_NO_RANK;
	lo = bpe->left_starts[left];
	end = bpe->left_starts[left + 1];
	/* the last pair whose right is not above the wanted one; no branch depends on the data */
	for (n = end - lo; n > 1; n -= n / 2)
		lo = bpe->pairs[lo + n / 2].right <= right ? lo + n / 2 : lo;
	return lo < end && bpe->pairs[lo].right == right ? bpe->pairs[lo].rank : G2_BPE_NO_RANK;
}

static bool
short_piece(const g2_bpe *bpe, g2_bpe_work *work, const char *piece, size_t n, g2_ids *out,
			g2_error *err)
{
	uint32_t	id[SHORT_PIECE],
				rank[SHORT_PIECE];	/* of the pair (i, i + 1); the last has none */

	for (size_t i = 0; i < n; i++)
		id[i] = bpe->byte_ids[(unsigned char) piece[i]];
	for (size_t i = 0; i < n; i++)
		rank[i] = i + 1 < n ? g2_bpe_rank(bpe, id[i], id[i + 1]) : G2_BPE_NO_RANK;

	for (;;)
	{
		uint32_t	best = G2_BPE_NO_RANK;
		size_t		to = 0;
		bool		stale = false;	/* the element to the right is new */

		for (size_t i = 0; i < n; i++)
			best = G2_MIN(best, rank[i]);
		if (best == G2_BPE_NO_RANK)
			break;
		/* a new element is marked as one, which no rank reaches, until all are merged */
		for (size_t i = 0; i < n; to++)
		{
			bool		merge = rank[i] == best;

			id[to] = merge ? bpe->results[best] : id[i];
			rank[to] = merge ? NEW_ELEMENT : rank[i];
			i += merge ? 2 : 1;
		}
		n = to;
		for (size_t i = n; i-- > 0;)
		{
			bool		merged = rank[i] == NEW_ELEMENT;

			if (merged || stale)
				rank[i] = i + 1 < n ? g2_bpe_rank(bpe, id[i], id[i + 1]) : G2_BPE_NO_RANK;
			stale = merged;
		}
	}
	for (size_t i = 0; i < n; i++)
		if (!g2_bpe_emit(bpe, work, id[i], out, err))
			return false;
	return true;
}

bool
g2_bpe_encode(const g2_bpe *bpe, g2_bpe_work *work, const char *piece, size_t len, g2_ids *out,
			  g2_error *err)
{
	if (len == 0)
		return true;
	if (g2_bpe_canceled(work, err))
		return false;
	if (len <= SHORT_PIECE)
		return short_piece(bpe, work, piece, len, out, err);
	if (len > G2_BPE_MAX_PIECE)
	{
		g2_fail(err, G2_E_LIMIT, "the text has a word of %zu bytes, more than %u", len,
				G2_BPE_MAX_PIECE);
		return g2_fail_hint(err, "Split the text, or put spaces into it.");
	}
	return g2_bpe_long_piece(bpe, work, piece, (uint32_t) len, out, err);
}

void
g2_bpe_work_free(g2_bpe_work *work)
{
	g2_free(work->links);
	g2_free(work->fresh.data);
	g2_free(work->sorting.data);
	g2_free(work->batch.data);
	g2_free(work->groups.data);
	g2_free(work->queue.data);
	g2_free(work->places.data);
	memset(work, 0, sizeof *work);
}
