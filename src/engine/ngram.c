/*
 * ngram.c: an index of the places of a text by the n - 1 tokens before each.
 *
 * A hash table with open addressing, at most half full; a bucket holds the latest place of its n - 1
 * tokens, which are compared there, so a hash that is met twice costs time and nothing else.  The
 * hash rolls: a sum of tokens times powers of one factor, modulo 2^64.
 */
#include "ngram.h"

#include "group.h"

#define FACTOR UINT64_C(0x9E3779B97F4A7C15)

bool
g2_ngrams_open(g2_ngrams *ngrams, uint32_t n, uint32_t room, g2_error *err)
{
	*ngrams = (g2_ngrams) {0};
	if (n == 0)
		return true;
	ngrams->n = n;
	ngrams->room = room;
	ngrams->oldest_factor = 1;
	for (uint32_t i = 1; i < n; i++)
		ngrams->oldest_factor *= FACTOR;
	ngrams->buckets = 16;
	while (ngrams->buckets < 2 * (uint64_t) room)
		ngrams->buckets *= 2;
	ngrams->latest = g2_alloc_array(ngrams->buckets, sizeof *ngrams->latest);
	ngrams->before = g2_alloc_array(room, sizeof *ngrams->before);
	ngrams->banned = g2_alloc_array(room, sizeof *ngrams->banned);
	if (ngrams->latest && ngrams->before && ngrams->banned)
		return true;
	g2_ngrams_close(ngrams);
	return g2_fail_memory(err, (uint64_t) room * 4 * sizeof(uint32_t));
}

bool
g2_ngrams_copy(g2_ngrams *to, const g2_ngrams *from, g2_error *err)
{
	if (!g2_ngrams_open(to, from->n, from->room, err))
		return false;
	if (from->n == 0)
		return true;
	to->len = from->len;
	to->hash = from->hash;
	memcpy(to->latest, from->latest, from->buckets * sizeof *to->latest);
	memcpy(to->before, from->before, from->len * sizeof *to->before);
	return true;
}

void
g2_ngrams_close(g2_ngrams *ngrams)
{
	g2_free(ngrams->latest);
	g2_free(ngrams->before);
	g2_wipe_free(ngrams->banned, ngrams->room * sizeof *ngrams->banned);
	*ngrams = (g2_ngrams) {0};
}

/* The n - 1 tokens before both places are the same. */
static bool
same(const g2_group *group, uint32_t i, uint32_t a, uint32_t b)
{
	for (uint32_t back = 1; back < group->sequences[i].ngrams.n; back++)
		if (g2_group_token(group, i, a - back) != g2_group_token(group, i, b - back))
			return false;
	return true;
}

/* The bucket of the tokens before place len: theirs, or an empty one. */
static uint32_t *
find_bucket(const g2_group *group, uint32_t i)
{
	const g2_ngrams *ngrams = &group->sequences[i].ngrams;
	uint64_t	h = ngrams->hash * FACTOR;
	uint32_t	b = (uint32_t) (h >> 32) & (ngrams->buckets - 1);

	while (ngrams->latest[b] != 0 && !same(group, i, ngrams->latest[b] - 1, ngrams->len))
		b = (b + 1) & (ngrams->buckets - 1);
	return &ngrams->latest[b];
}

/* The token at place len, which is there, is behind the n - 1 before it. */
static void
index_token(const g2_group *group, uint32_t i, g2_ngrams *ngrams)
{
	uint32_t	len = ngrams->len,
				n = ngrams->n;

	if (len + 1 >= n)
	{
		uint32_t   *bucket = find_bucket(group, i);

		ngrams->before[len] = *bucket;
		*bucket = len + 1;
	}
	if (n > 1 && len + 1 >= n)
		ngrams->hash -= ngrams->oldest_factor * (g2_group_token(group, i, len + 1 - n) + 1);
	if (n > 1)
		ngrams->hash = (ngrams->hash + g2_group_token(group, i, len) + 1) * FACTOR;
	ngrams->len++;
}

void
g2_ngrams_find(g2_group *group, uint32_t i)
{
	g2_ngrams  *ngrams = &group->sequences[i].ngrams;
	uint32_t	len = (uint32_t) (group->prompt.len + group->sequences[i].ids.len);

	ngrams->n_banned = 0;
	if (ngrams->n == 0)
		return;
	while (ngrams->len < len)
		index_token(group, i, ngrams);
	if (len + 1 < ngrams->n)
		return;
	for (uint32_t place = *find_bucket(group, i); place != 0; place = ngrams->before[place - 1])
		ngrams->banned[ngrams->n_banned++] = g2_group_token(group, i, place - 1);
}
