/*
 * learn_bpe.c: merges of byte-level BPE, learned from the spooled rows.
 *
 * Phases: count the rows' words (GPT-2's pattern cuts them); then, again and again, merge the pair
 * of neighbours that occurs most often, counting each word as often as it occurs.  Of pairs that
 * are as frequent the one with the smaller ids goes first: the result depends on the rows alone.
 *
 * Counts of pairs are kept up to date as words change, and a heap gives the largest: an entry whose
 * count has changed since is put back when it comes up.  Each pair knows the words that it was in.
 *
 * Memory is bounded: when there are too many different words, the rarest are forgotten.
 */
#include "learn.h"

#include <stdlib.h>

#include "pretokenizer.h"
#include "spool.h"

#define MAX_WORD 256			/* bytes; what is longer teaches nothing */
#define MAX_WORDS (1u << 20)
#define NO_WORD UINT32_MAX
#define MAX_TOKEN 128			/* bytes of a merged token: a run of one character is no word */

/* ---- hash tables: open addressing, a power of two places, never full ---- */

static uint64_t
mix(uint64_t x)
{
	x ^= x >> 32;
	x *= 0x9E3779B97F4A7C15u;
	x ^= x >> 29;
	x *= 0xBF58476D1CE4E5B9u;
	return x ^ x >> 32;
}

typedef struct word
{
	size_t		at;				/* of its bytes; later of its symbols */
	uint32_t	len;
	uint64_t	count;
} word;

typedef struct pair
{
	uint64_t	key;			/* left << 32 | right */
	int64_t		count;
	uint32_t   *words;			/* that it is or was in; a word may occur twice */
	uint32_t	n_words;
	uint32_t	cap_words;
} pair;

typedef struct heap_entry
{
	int64_t		count;
	uint64_t	key;
} heap_entry;

typedef struct learner
{
	const atomic_bool *cancel;
	g2_cut	   *cut;
	g2_buf		bytes;			/* of all words */
	word	   *words;
	uint32_t	n_words;
	uint32_t	cap_words;
	uint32_t   *word_places;	/* [n_places] index + 1; 0 = free */
	size_t		n_word_places;

	uint32_t   *symbols;		/* of all words, each in the place of its bytes */
	pair	   *pairs;
	uint32_t	n_pairs;
	uint32_t	cap_pairs;
	uint32_t   *pair_places;
	size_t		n_pair_places;
	heap_entry *heap;
	size_t		n_heap;
	size_t		cap_heap;
	uint32_t   *token_bytes;	/* [256 + max_merges] length of each token */
} learner;

static bool
is_canceled(const learner *l, g2_error *err)
{
	if (!l->cancel || !atomic_load(l->cancel))
		return false;
	g2_fail(err, G2_E_CANCELED, "canceling training due to user request");
	return true;
}

/* Room for one more element, doubling. */
static bool
grow(void **array, uint32_t n, uint32_t *cap, size_t size, g2_error *err)
{
	uint32_t	more = *cap ? *cap * 2 : 1024;
	void	   *p;

	if (n < *cap)
		return true;
	p = g2_realloc_array(*array, more, size);
	if (!p)
		return g2_fail_memory(err, (uint64_t) more * size);
	*array = p;
	*cap = more;
	return true;
}

/* ---- words ---- */

static uint64_t
hash_bytes(const char *p, size_t n)
{
	uint64_t	h = n;

	for (size_t i = 0; i < n; i++)
		h = h * 0x100000001B3u ^ (unsigned char) p[i];
	return mix(h);
}

static uint32_t *
word_place(const learner *l, const char *p, size_t n)
{
	size_t		i = hash_bytes(p, n) & (l->n_word_places - 1);

	while (l->word_places[i] != 0)
	{
		const word *w = &l->words[l->word_places[i] - 1];

		if (w->len == n && memcmp(l->bytes.data + w->at, p, n) == 0)
			break;
		i = (i + 1) & (l->n_word_places - 1);
	}
	return &l->word_places[i];
}

/* Forgets the words that occur at most `least` times. */
static void
forget_words(learner *l, uint64_t least)
{
	uint32_t	kept = 0;
	size_t		at = 0;

	memset(l->word_places, 0, l->n_word_places * sizeof *l->word_places);
	for (uint32_t i = 0; i < l->n_words; i++)
	{
		word		w = l->words[i];

		if (w.count <= least)
			continue;
		memmove(l->bytes.data + at, l->bytes.data + w.at, w.len);
		w.at = at;
		at += w.len;
		l->words[kept++] = w;
		*word_place(l, l->bytes.data + w.at, w.len) = kept;
	}
	l->n_words = kept;
	l->bytes.len = at;
}

static bool
count_word(learner *l, const char *p, size_t n, g2_error *err)
{
	uint32_t   *place = word_place(l, p, n);

	if (*place != 0)
	{
		l->words[*place - 1].count++;
		return true;
	}
	if (l->n_words == MAX_WORDS)
	{
		for (uint64_t least = 1; l->n_words > MAX_WORDS / 2; least *= 2)
			forget_words(l, least);
		place = word_place(l, p, n);
	}
	if (!grow((void **) &l->words, l->n_words, &l->cap_words, sizeof *l->words, err))
		return false;
	l->words[l->n_words++] = (word) {.at = l->bytes.len, .len = (uint32_t) n, .count = 1};
	*place = l->n_words;
	return g2_buf_append(&l->bytes, p, n) || g2_fail_memory(err, l->bytes.len);
}

static bool
count_text(learner *l, const g2_buf *text, g2_error *err)
{
	const char *p;
	size_t		n;

	g2_cut_start(l->cut, text->data, text->len);
	for (;;)
	{
		if (!g2_cut_next(l->cut, &p, &n, err))
			return false;
		if (!p)
			return true;
		if (n > 1 && n <= MAX_WORD && !count_word(l, p, n, err))
			return false;
	}
}

static bool
count_row(void *arg, const g2t_row *row, g2_error *err)
{
	learner    *l = arg;

	return !is_canceled(l, err) && (!row->has_prompt || count_text(l, &row->prompt, err)) &&
		count_text(l, &row->text, err);
}

static bool
count_words(learner *l, const g2t_place *place, g2_error *err)
{
	g2_pretokenizer *pattern;
	bool		ok;

	l->n_word_places = 2 * MAX_WORDS;
	l->word_places = g2_alloc_array(l->n_word_places, sizeof *l->word_places);
	if (!l->word_places)
		return g2_fail_memory(err, l->n_word_places * sizeof *l->word_places);
	if (!g2_pretokenizer_create(g2_pattern_gpt2, strlen(g2_pattern_gpt2), 0, &pattern, err))
		return false;
	ok = g2_cut_create(pattern, &l->cut, err) && g2t_spool_each(place, count_row, l, err);
	g2_cut_free(l->cut);
	g2_pretokenizer_free(pattern);
	return ok;
}

/* ---- pairs ---- */

static bool
comes_first(heap_entry a, heap_entry b)
{
	return a.count != b.count ? a.count > b.count : a.key < b.key;
}

static bool
heap_push(learner *l, heap_entry e, g2_error *err)
{
	uint32_t	cap = (uint32_t) l->cap_heap;
	size_t		i = l->n_heap;

	if (!grow((void **) &l->heap, (uint32_t) l->n_heap, &cap, sizeof *l->heap, err))
		return false;
	l->cap_heap = cap;
	l->n_heap++;
	while (i > 0 && comes_first(e, l->heap[(i - 1) / 2]))
	{
		l->heap[i] = l->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	l->heap[i] = e;
	return true;
}

static heap_entry
heap_pop(learner *l)
{
	heap_entry	top = l->heap[0],
				last = l->heap[--l->n_heap];
	size_t		i = 0;

	for (;;)
	{
		size_t		child = 2 * i + 1;

		if (child + 1 < l->n_heap && comes_first(l->heap[child + 1], l->heap[child]))
			child++;
		if (child >= l->n_heap || !comes_first(l->heap[child], last))
			break;
		l->heap[i] = l->heap[child];
		i = child;
	}
	l->heap[i] = last;
	return top;
}

static uint32_t *
pair_place(const learner *l, uint64_t key)
{
	size_t		i = mix(key) & (l->n_pair_places - 1);

	while (l->pair_places[i] != 0 && l->pairs[l->pair_places[i] - 1].key != key)
		i = (i + 1) & (l->n_pair_places - 1);
	return &l->pair_places[i];
}

static bool
grow_pair_places(learner *l, g2_error *err)
{
	size_t		n = l->n_pair_places ? l->n_pair_places * 2 : 1u << 16;
	uint32_t   *places = g2_alloc_array(n, sizeof *places);

	if (!places)
		return g2_fail_memory(err, n * sizeof *places);
	g2_free(l->pair_places);
	l->pair_places = places;
	l->n_pair_places = n;
	for (uint32_t i = 0; i < l->n_pairs; i++)
		*pair_place(l, l->pairs[i].key) = i + 1;
	return true;
}

/* Adds to the count of a pair, which learns that word number w has it (NO_WORD: it knows). */
static bool
count_pair(learner *l, uint32_t left, uint32_t right, uint32_t w, int64_t by, g2_error *err)
{
	uint64_t	key = (uint64_t) left << 32 | right;
	uint32_t   *place;
	pair	   *p;

	if (2 * (size_t) l->n_pairs >= l->n_pair_places && !grow_pair_places(l, err))
		return false;
	place = pair_place(l, key);
	if (*place == 0)
	{
		if (!grow((void **) &l->pairs, l->n_pairs, &l->cap_pairs, sizeof *l->pairs, err))
			return false;
		l->pairs[l->n_pairs] = (pair) {.key = key};
		*place = ++l->n_pairs;
	}
	p = &l->pairs[*place - 1];
	p->count += by;
	if (w == NO_WORD || (p->n_words > 0 && p->words[p->n_words - 1] == w))
		return true;
	if (!grow((void **) &p->words, p->n_words, &p->cap_words, sizeof *p->words, err))
		return false;
	p->words[p->n_words++] = w;
	return true;
}

static bool
start_pairs(learner *l, g2_error *err)
{
	l->symbols = g2_alloc_array(l->bytes.len, sizeof *l->symbols);
	if (!l->symbols)
		return g2_fail_memory(err, l->bytes.len * sizeof *l->symbols);
	for (size_t i = 0; i < l->bytes.len; i++)
		l->symbols[i] = (unsigned char) l->bytes.data[i];
	for (uint32_t w = 0; w < l->n_words; w++)
	{
		const uint32_t *s = l->symbols + l->words[w].at;

		if (w % 4096 == 0 && is_canceled(l, err))
			return false;
		for (uint32_t i = 0; i + 1 < l->words[w].len; i++)
			if (!count_pair(l, s[i], s[i + 1], w, (int64_t) l->words[w].count, err))
				return false;
	}
	for (uint32_t i = 0; i < l->n_pairs; i++)
		if (!heap_push(l, (heap_entry) {l->pairs[i].count, l->pairs[i].key}, err))
			return false;
	return true;
}

/* Counts the pairs of a word's symbols `by` times; those with the token `fresh` are new to it. */
static bool
count_word_pairs(learner *l, uint32_t w, int64_t by, uint32_t fresh, g2_error *err)
{
	const uint32_t *s = l->symbols + l->words[w].at;

	for (uint32_t i = 0; i + 1 < l->words[w].len; i++)
	{
		bool		is_new = s[i] == fresh || s[i + 1] == fresh;

		if (!count_pair(l, s[i], s[i + 1], is_new ? w : NO_WORD, by, err))
			return false;
	}
	return true;
}

static bool
merge_in_word(learner *l, uint32_t w, uint32_t left, uint32_t right, uint32_t id, g2_error *err)
{
	word	   *wd = &l->words[w];
	uint32_t   *s = l->symbols + wd->at;
	uint32_t	n = 0;
	bool		found = false;

	for (uint32_t i = 0; !found && i + 1 < wd->len; i++)
		found = s[i] == left && s[i + 1] == right;
	if (!found)
		return true;
	if (!count_word_pairs(l, w, -(int64_t) wd->count, id, err))
		return false;
	for (uint32_t i = 0; i < wd->len; n++)
		if (i + 1 < wd->len && s[i] == left && s[i + 1] == right)
		{
			s[n] = id;
			i += 2;
		}
		else
			s[n] = s[i++];
	wd->len = n;
	return count_word_pairs(l, w, (int64_t) wd->count, id, err);
}

/* Replaces the pair in all its words, and lists the pairs that came about. */
static bool
merge(learner *l, uint32_t index, uint32_t id, g2_error *err)
{
	uint32_t	left = (uint32_t) (l->pairs[index].key >> 32),
				right = (uint32_t) l->pairs[index].key,
				before = l->n_pairs;
	uint32_t   *words = l->pairs[index].words;
	uint32_t	n = l->pairs[index].n_words;
	bool		ok = true;

	l->pairs[index].words = NULL;	/* others are added meanwhile */
	l->pairs[index].n_words = l->pairs[index].cap_words = 0;
	l->token_bytes[id] = l->token_bytes[left] + l->token_bytes[right];
	for (uint32_t i = 0; ok && i < n; i++)
		ok = merge_in_word(l, words[i], left, right, id, err);
	g2_free(words);
	for (uint32_t i = before; ok && i < l->n_pairs; i++)
		ok = heap_push(l, (heap_entry) {l->pairs[i].count, l->pairs[i].key}, err);
	return ok;
}

static bool
learn_merges(learner *l, uint32_t max_merges, g2t_merge *merges, uint32_t *n, g2_error *err)
{
	while (*n < max_merges && l->n_heap > 0)
	{
		heap_entry	e = heap_pop(l);
		uint32_t	index = *pair_place(l, e.key) - 1,
					left = (uint32_t) (e.key >> 32),
					right = (uint32_t) e.key;

		if (is_canceled(l, err))
			return false;
		if (l->pairs[index].count != e.count)
		{
			e.count = l->pairs[index].count;
			if (e.count >= 2 && !heap_push(l, e, err))
				return false;
			continue;
		}
		if (e.count < 2)
			break;
		if (l->token_bytes[left] + l->token_bytes[right] > MAX_TOKEN)
			continue;
		merges[*n] = (g2t_merge) {left, right};
		if (!merge(l, index, 256 + (*n)++, err))
			return false;
	}
	return true;
}

static void
free_learner(learner *l)
{
	for (uint32_t i = 0; i < l->n_pairs; i++)
		g2_free(l->pairs[i].words);
	g2_free(l->pairs);
	g2_free(l->pair_places);
	g2_free(l->heap);
	g2_free(l->symbols);
	g2_free(l->words);
	g2_free(l->word_places);
	g2_free(l->token_bytes);
	g2_buf_free(&l->bytes);
}

bool
g2t_learn_bpe(const g2t_place *place, uint32_t max_merges, const atomic_bool *cancel,
			  g2t_merge **merges, uint32_t *n, g2_error *err)
{
	learner		l = {.cancel = cancel};
	bool		ok;

	*n = 0;
	*merges = g2_alloc_array(max_merges, sizeof **merges);
	l.token_bytes = g2_alloc_array(256 + (size_t) max_merges, sizeof *l.token_bytes);
	if (!*merges || !l.token_bytes)
		ok = g2_fail_memory(err, max_merges * sizeof **merges);
	else
	{
		for (int b = 0; b < 256; b++)
			l.token_bytes[b] = 1;
		ok = count_words(&l, place, err) && start_pairs(&l, err) &&
			learn_merges(&l, max_merges, *merges, n, err);
	}
	free_learner(&l);
	if (!ok)
	{
		g2_free(*merges);
		*merges = NULL;
	}
	return ok;
}
