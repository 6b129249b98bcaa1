/*
 * grammar_mask.c: a hash table of masks, strung in order of their last use.
 */
#include "grammar_mask.h"

#define FIRST_BUCKETS 256

struct g2_masks
{
	size_t		capacity;
	size_t		bytes;
	uint32_t	n;
	uint32_t	n_buckets;		/* a power of two */
	g2_mask   **buckets;
	g2_mask    *newest;
	g2_mask    *oldest;
	uint64_t	found;
	uint64_t	made;
};

bool
g2_masks_open(size_t capacity, g2_masks **out, g2_error *err)
{
	g2_masks   *masks = g2_alloc(sizeof *masks);

	if (masks)
		masks->buckets = g2_alloc_array(FIRST_BUCKETS, sizeof *masks->buckets);
	if (!masks || !masks->buckets)
	{
		g2_free(masks);
		return g2_fail_memory(err, sizeof *masks + FIRST_BUCKETS * sizeof(void *));
	}
	masks->capacity = capacity;
	masks->n_buckets = FIRST_BUCKETS;
	*out = masks;
	return true;
}

static size_t
bytes_of(const g2_mask *mask)
{
	return sizeof *mask + mask->n_words * sizeof *mask->bits;
}

static g2_mask **
bucket_of(const g2_masks *masks, uint64_t grammar, uint32_t state, uint32_t left)
{
	uint64_t	h = (grammar * 0x9E3779B97F4A7C15u ^ state) * 0x9E3779B97F4A7C15u ^ left;

	h *= 0x9E3779B97F4A7C15u;
	return &masks->buckets[(h >> 32) & (masks->n_buckets - 1)];
}

/* ---- the order of use ---- */

static void
unlink_mask(g2_masks *masks, g2_mask *mask)
{
	if (mask->newer)
		mask->newer->older = mask->older;
	else
		masks->newest = mask->older;
	if (mask->older)
		mask->older->newer = mask->newer;
	else
		masks->oldest = mask->newer;
}

static void
link_newest(g2_masks *masks, g2_mask *mask)
{
	mask->newer = NULL;
	mask->older = masks->newest;
	if (masks->newest)
		masks->newest->newer = mask;
	else
		masks->oldest = mask;
	masks->newest = mask;
}

static void
forget(g2_masks *masks, g2_mask *mask)
{
	g2_mask   **at = bucket_of(masks, mask->grammar, mask->state, mask->left);

	while (*at != mask)
		at = &(*at)->chain;
	*at = mask->chain;
	unlink_mask(masks, mask);
	masks->bytes -= bytes_of(mask);
	masks->n--;
	g2_free(mask);
}

void
g2_masks_trim(g2_masks *masks)
{
	while (masks->bytes > masks->capacity)
		forget(masks, masks->oldest);
}

void
g2_masks_close(g2_masks *masks)
{
	if (!masks)
		return;
	while (masks->oldest)
		forget(masks, masks->oldest);
	g2_free(masks->buckets);
	g2_free(masks);
}

/* ---- making one ---- */

static void
set_bit(g2_mask *mask, uint32_t id)
{
	if (id < mask->n_words * 64)
		mask->bits[id / 64] |= (uint64_t) 1 << id % 64;
}

static void
fill(g2_mask *mask, const g2_grammar *grammar)
{
	g2_walk		w;

	g2_walk_begin(&w, grammar->lexicon, &grammar->dfa, mask->state);
	while (g2_walk_next(&w))
	{
		uint32_t	least = grammar->least[w.state];

		if (least >= mask->left)
			continue;
		set_bit(mask, w.token);
		mask->enough = G2_MAX(mask->enough, least + 1);
		mask->goes_on = true;
	}
	if (grammar->dfa.accepts[mask->state] && mask->end_token != G2_NO_TOKEN)
		set_bit(mask, mask->end_token);
}

static void
grow_buckets(g2_masks *masks)
{
	g2_mask   **buckets = g2_alloc_array((size_t) masks->n_buckets * 2, sizeof *buckets);

	if (!buckets)
		return;					/* chains get longer */
	g2_free(masks->buckets);
	masks->buckets = buckets;
	masks->n_buckets *= 2;
	for (g2_mask *mask = masks->newest; mask; mask = mask->older)
	{
		g2_mask   **at = bucket_of(masks, mask->grammar, mask->state, mask->left);

		mask->chain = *at;
		*at = mask;
	}
}

static g2_mask *
make(g2_masks *masks, const g2_grammar *grammar, uint32_t state, uint32_t left,
	 uint32_t end_token, uint32_t n_vocab)
{
	uint32_t	n_words = (n_vocab + 63) / 64;
	g2_mask    *mask = g2_alloc(sizeof *mask + n_words * sizeof *mask->bits),
			  **at;

	if (!mask)
		return NULL;
	mask->grammar = grammar->id;
	mask->state = state;
	mask->left = left;
	mask->end_token = end_token;
	mask->n_words = n_words;
	fill(mask, grammar);
	if (masks->n >= masks->n_buckets)
		grow_buckets(masks);
	at = bucket_of(masks, mask->grammar, state, left);
	mask->chain = *at;
	*at = mask;
	link_newest(masks, mask);
	masks->bytes += bytes_of(mask);
	masks->n++;
	masks->made++;
	return mask;
}

static g2_mask *
find_or_make(g2_masks *masks, const g2_grammar *grammar, uint32_t state, uint32_t left,
			 uint32_t end_token, uint32_t n_vocab)
{
	for (g2_mask *mask = *bucket_of(masks, grammar->id, state, left); mask; mask = mask->chain)
		if (mask->grammar == grammar->id && mask->state == state && mask->left == left &&
			mask->end_token == end_token && mask->n_words == (n_vocab + 63) / 64)
		{
			unlink_mask(masks, mask);
			link_newest(masks, mask);
			masks->found++;
			return mask;
		}
	return make(masks, grammar, state, left, end_token, n_vocab);
}

const g2_mask *
g2_masks_get(g2_masks *masks, const g2_grammar *grammar, uint32_t state, uint32_t left,
			 uint32_t end_token, uint32_t n_vocab)
{
	const g2_mask *mask = find_or_make(masks, grammar, state, UINT32_MAX, end_token, n_vocab);

	return !mask || left >= mask->enough ? mask :
		find_or_make(masks, grammar, state, left, end_token, n_vocab);
}

g2_masks_counts
g2_masks_count(const g2_masks *masks)
{
	return (g2_masks_counts) {masks->bytes, masks->found, masks->made};
}
