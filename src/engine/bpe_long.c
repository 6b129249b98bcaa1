/*
 * bpe_long.c: merges of long pieces (a million letters without a space are one piece) in
 * O(n log n), with the same result as the plain loop of bpe.c.
 *
 * The elements of the piece are a doubly linked list.  Each knows the rank of the pair that it
 * begins.  Places with a pair are queued in groups: the places of one rank that one round made, in
 * ascending order.  A round takes all groups of the lowest rank, merges at their places from left
 * to right, and notes the pairs that this makes; when it is over they become groups in turn.
 * Text that repeats itself has few groups, so that the queue stays small and nearly all memory is
 * walked in one direction; a heap of single places is slower the more of it is outside the cache.
 *
 * A queued place is stale when it has been merged away or begins another pair by now.  Both sides
 * of the pair of a place only grow, so a pair never comes back to it and its rank tells.
 */
#include "bpe.h"

#define NO_PLACE UINT32_MAX
#define FEW 64					/* as many keys are sorted by insertion */
#define DIGIT_BITS 11
#define DIGITS (1u << DIGIT_BITS)

/* A key is (high << 32 | low).  Both halves are sorted by two digits. */
_Static_assert(G2_BPE_MAX_PIECE <= DIGITS * DIGITS, "a place has two digits");
_Static_assert(G2_BPE_MAX_RANKS <= DIGITS * DIGITS, "a rank has two digits");

/* The elements, each at the place of its first byte. */
typedef struct chain
{
	uint32_t   *id;
	uint32_t   *prev;
	uint32_t   *next;			/* NO_PLACE at the ends */
	uint32_t   *rank;			/* of the pair (place, next); none too when merged away */
} chain;

/* ---------------------------------------------------------------- keys */

static inline uint32_t
high(uint64_t key)
{
	return (uint32_t) (key >> 32);
}

static bool
reserve_keys(g2_bpe_keys *keys, size_t n, g2_error *err)
{
	size_t		cap = G2_MAX(n, keys->cap * 2);
	uint64_t   *data;

	if (n <= keys->cap)
		return true;
	data = g2_realloc_array(keys->data, cap, sizeof *data);
	if (!data)
		return g2_fail_memory(err, cap * sizeof *data);
	keys->data = data;
	keys->cap = cap;
	return true;
}

static inline bool
push_key(g2_bpe_keys *keys, uint32_t high_half, uint32_t low_half, g2_error *err)
{
	if (keys->len == keys->cap && !reserve_keys(keys, G2_MAX(keys->len + 1, FEW), err))
		return false;
	keys->data[keys->len++] = (uint64_t) high_half << 32 | low_half;
	return true;
}

/*
 * Sorts by the half of the keys that starts at bit first (0 or 32), without changing the order of
 * keys in which it is equal; few keys are sorted as a whole.  Two passes of a radix sort.
 */
static bool
sort_keys(g2_bpe_work *work, g2_bpe_keys *keys, int first, g2_error *err)
{
	uint64_t   *from = keys->data,
			   *to;
	size_t		sorted_to = 1;

	/* one rank, as in text that repeats itself, and places of groups that do not overlap */
	while (sorted_to < keys->len && from[sorted_to - 1] <= from[sorted_to])
		sorted_to++;
	if (sorted_to >= keys->len)
		return true;
	if (keys->len <= FEW)
	{
		for (size_t i = 1; i < keys->len; i++)
		{
			uint64_t	key = from[i];
			size_t		k = i;

			for (; k > 0 && from[k - 1] > key; k--)
				from[k] = from[k - 1];
			from[k] = key;
		}
		return true;
	}
	if (!reserve_keys(&work->sorting, keys->len, err))
		return false;
	to = work->sorting.data;
	for (int shift = first; shift < first + 2 * DIGIT_BITS; shift += DIGIT_BITS)
	{
		uint32_t	place[DIGITS] = {0},
					sum = 0;
		uint64_t   *sorted = to;

		for (size_t i = 0; i < keys->len; i++)
			place[from[i] >> shift & (DIGITS - 1)]++;
		for (size_t d = 0; d < DIGITS; d++)
		{
			uint32_t	count = place[d];

			place[d] = sum;
			sum += count;
		}
		for (size_t i = 0; i < keys->len; i++)
			to[place[from[i] >> shift & (DIGITS - 1)]++] = from[i];
		to = from;
		from = sorted;
	}
	return true;				/* after two passes the keys are back in their own array */
}

/* ---------------------------------------------------------------- queue of groups */

/* A binary heap of (rank << 32 | index of the group). */
static bool
queue_push(g2_bpe_keys *q, uint32_t rank, size_t group, g2_error *err)
{
	size_t		i = q->len;
	uint64_t	key;

	if (!push_key(q, rank, (uint32_t) group, err))
		return false;
	key = q->data[i];
	for (; i > 0 && q->data[(i - 1) / 2] > key; i = (i - 1) / 2)
		q->data[i] = q->data[(i - 1) / 2];
	q->data[i] = key;
	return true;
}

static uint64_t
queue_pop(g2_bpe_keys *q)
{
	uint64_t	top = q->data[0],
				key = q->data[--q->len];
	size_t		i = 0,
				child;

	for (; (child = 2 * i + 1) < q->len; i = child)
	{
		if (child + 1 < q->len && q->data[child + 1] < q->data[child])
			child++;
		if (q->data[child] >= key)
			break;
		q->data[i] = q->data[child];
	}
	q->data[i] = key;
	return top;
}

/* Turns the pairs that the last round made into groups. */
static bool
queue_fresh(g2_bpe_work *work, g2_error *err)
{
	g2_bpe_keys *fresh = &work->fresh;

	if (work->queue.len == 0)
		work->groups.len = work->places.len = 0;
	/* they were made from left to right, so by rank is by rank and place */
	if (!sort_keys(work, fresh, 32, err))
		return false;
	for (size_t i = 0, end; i < fresh->len; i = end)
	{
		uint32_t	rank = high(fresh->data[i]),
					first = (uint32_t) work->places.len;

		for (end = i; end < fresh->len && high(fresh->data[end]) == rank; end++)
			if (g2_bpe_canceled(work, err))
				return false;
			else if (!g2_ids_push(&work->places, (uint32_t) fresh->data[end]))
				return g2_fail_memory(err, work->places.cap * 2 * sizeof(uint32_t));
		if (!push_key(&work->groups, first, (uint32_t) (end - i), err) ||
			!queue_push(&work->queue, rank, work->groups.len - 1, err))
			return false;
	}
	fresh->len = 0;
	return true;
}

/* Takes the groups of the lowest rank: their places, ascending, are work->places[*first...][*n]. */
static bool
take_batch(g2_bpe_work *work, uint32_t *rank, size_t *first, size_t *n, g2_error *err)
{
	uint64_t	group;
	g2_bpe_keys *batch = &work->batch;

	*rank = high(work->queue.data[0]);
	group = work->groups.data[(uint32_t) queue_pop(&work->queue)];
	*first = high(group);
	*n = (uint32_t) group;
	if (work->queue.len == 0 || high(work->queue.data[0]) != *rank)
		return true;

	batch->len = 0;
	for (;;)
	{
		if (!reserve_keys(batch, batch->len + (uint32_t) group, err) ||
			g2_bpe_canceled(work, err))
			return false;
		for (uint32_t i = 0; i < (uint32_t) group; i++)
			batch->data[batch->len++] = work->places.data[high(group) + i];
		if (work->queue.len == 0 || high(work->queue.data[0]) != *rank)
			break;
		group = work->groups.data[(uint32_t) queue_pop(&work->queue)];
	}
	if (!sort_keys(work, batch, 0, err))
		return false;
	*first = work->places.len;
	*n = batch->len;
	for (size_t i = 0; i < batch->len; i++)
		if (!g2_ids_push(&work->places, (uint32_t) batch->data[i]))
			return g2_fail_memory(err, work->places.cap * 2 * sizeof(uint32_t));
	return true;
}

/* ---------------------------------------------------------------- pieces */

/* Looks up the pair that begins at place; the next round will know it. */
static bool
note_pair(const g2_bpe *bpe, g2_bpe_work *work, const chain *c, uint32_t place, g2_error *err)
{
	uint32_t	next = c->next[place];

	c->rank[place] = next == NO_PLACE ? G2_BPE_NO_RANK
		: g2_bpe_rank(bpe, c->id[place], c->id[next]);
	return c->rank[place] == G2_BPE_NO_RANK || push_key(&work->fresh, c->rank[place], place, err);
}

static bool
build_chain(const g2_bpe *bpe, g2_bpe_work *work, const char *piece, uint32_t n, chain *c,
			g2_error *err)
{
	if (work->cap_links < n)
	{
		g2_free(work->links);
		work->cap_links = 0;
		work->links = g2_alloc_array(n, 4 * sizeof *work->links);
		if (!work->links)
			return g2_fail_memory(err, n * 4ULL * sizeof *work->links);
		work->cap_links = n;
	}
	c->id = work->links;
	c->prev = c->id + n;
	c->next = c->prev + n;
	c->rank = c->next + n;
	for (uint32_t i = 0; i < n; i++)
	{
		c->id[i] = bpe->byte_ids[(unsigned char) piece[i]];
		c->prev[i] = i > 0 ? i - 1 : NO_PLACE;
		c->next[i] = i + 1 < n ? i + 1 : NO_PLACE;
	}
	work->queue.len = work->fresh.len = 0;
	for (uint32_t i = 0; i < n; i++)
		if (g2_bpe_canceled(work, err) || !note_pair(bpe, work, c, i, err))
			return false;
	return true;
}

/* Makes the pair at place one element. */
static bool
merge_at(const g2_bpe *bpe, g2_bpe_work *work, const chain *c, uint32_t place, uint32_t rank,
		 g2_error *err)
{
	uint32_t	right = c->next[place],
				next = c->next[right],
				prev = c->prev[place];

	c->id[place] = bpe->results[rank];
	c->rank[right] = G2_BPE_NO_RANK;
	c->next[place] = next;
	if (next != NO_PLACE)
		c->prev[next] = place;
	/* left before right: queue_fresh relies on it */
	return (prev == NO_PLACE || note_pair(bpe, work, c, prev, err)) &&
		note_pair(bpe, work, c, place, err);
}

bool
g2_bpe_long_piece(const g2_bpe *bpe, g2_bpe_work *work, const char *piece, uint32_t n,
				  g2_ids *out, g2_error *err)
{
	chain		c;

	if (!build_chain(bpe, work, piece, n, &c, err))
		return false;
	for (;;)
	{
		uint32_t	rank;
		size_t		first,
					n_places;

		if (!queue_fresh(work, err))
			return false;
		if (work->queue.len == 0)
			break;
		if (!take_batch(work, &rank, &first, &n_places, err))
			return false;
		for (size_t i = first; i < first + n_places; i++)
		{
			uint32_t	place = work->places.data[i];

			if (g2_bpe_canceled(work, err) ||
				(c.rank[place] == rank && !merge_at(bpe, work, &c, place, rank, err)))
				return false;
		}
	}
	for (uint32_t i = 0; i != NO_PLACE; i = c.next[i])
		if (g2_bpe_canceled(work, err) || !g2_bpe_emit(bpe, work, c.id[i], out, err))
			return false;
	return true;
}
