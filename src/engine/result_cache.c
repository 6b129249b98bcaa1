/*
 * result_cache.c: a hash table with chains, and a list in the order of last use.
 */
#include "result_cache.h"

#include "text.h"

#define FIRST_BUCKETS 256
#define LARGEST_PART 8			/* a value has at most 1/8 of the capacity */

typedef struct entry
{
	struct entry *chain;		/* of its bucket */
	struct entry *older;
	struct entry *newer;
	size_t		len;
	uint8_t		key[G2_RESULT_KEY];
	char		value[];
} entry;

struct g2_result_cache
{
	uint64_t	capacity;
	uint64_t	bytes;			/* of entries */
	uint32_t	n;
	entry	  **buckets;		/* [n_buckets], a power of two; NULL: none yet */
	uint32_t	n_buckets;
	entry	   *oldest;
	entry	   *newest;
};

static size_t
entry_bytes(size_t len)
{
	return sizeof(entry) + len;
}

static entry **
bucket_of(const g2_result_cache *c, const uint8_t *key)
{
	uint32_t	h;

	memcpy(&h, key, sizeof h);
	return &c->buckets[h & (c->n_buckets - 1)];
}

/* ---- the list ---- */

static void
list_remove(g2_result_cache *c, entry *e)
{
	*(e->older ? &e->older->newer : &c->oldest) = e->newer;
	*(e->newer ? &e->newer->older : &c->newest) = e->older;
}

static void
list_append(g2_result_cache *c, entry *e)
{
	e->older = c->newest;
	e->newer = NULL;
	*(c->newest ? &c->newest->newer : &c->oldest) = e;
	c->newest = e;
}

/* ---- entries ---- */

static void
drop(g2_result_cache *c, entry *e)
{
	entry	  **at = bucket_of(c, e->key);

	while (*at != e)
		at = &(*at)->chain;
	*at = e->chain;
	list_remove(c, e);
	c->bytes -= entry_bytes(e->len);
	c->n--;
	g2_wipe_free(e, entry_bytes(e->len));
}

static void
shrink(g2_result_cache *c, uint64_t to)
{
	while (c->oldest && c->bytes > to)
		drop(c, c->oldest);
}

/* Twice the buckets; without memory the chains grow longer instead. */
static void
grow(g2_result_cache *c)
{
	uint32_t	n = c->n_buckets ? c->n_buckets * 2 : FIRST_BUCKETS;
	entry	  **buckets = g2_alloc_array(n, sizeof *buckets);

	if (!buckets)
		return;
	g2_free(c->buckets);
	c->buckets = buckets;
	c->n_buckets = n;
	for (entry *e = c->oldest; e; e = e->newer)
	{
		entry	  **bucket = bucket_of(c, e->key);

		e->chain = *bucket;
		*bucket = e;
	}
}

static entry *
find(const g2_result_cache *c, const uint8_t *key)
{
	entry	   *e = c->buckets ? *bucket_of(c, key) : NULL;

	while (e && memcmp(e->key, key, G2_RESULT_KEY) != 0)
		e = e->chain;
	return e;
}

const char *
g2_result_cache_find(g2_result_cache *c, const uint8_t *key, size_t *len)
{
	entry	   *e = find(c, key);

	if (!e)
		return NULL;
	list_remove(c, e);
	list_append(c, e);
	*len = e->len;
	return e->value;
}

void
g2_result_cache_put(g2_result_cache *c, const uint8_t *key, const void *value, size_t len)
{
	entry	   *e = find(c, key),
			  **bucket;

	if (e)
		drop(c, e);
	if (len > c->capacity / LARGEST_PART || entry_bytes(len) > c->capacity / LARGEST_PART)
		return;
	if (c->n >= c->n_buckets)
		grow(c);
	if (!c->buckets || !(e = g2_alloc(entry_bytes(len))))
		return;
	shrink(c, c->capacity - entry_bytes(len));
	e->len = len;
	memcpy(e->key, key, G2_RESULT_KEY);
	memcpy(e->value, value, len);
	bucket = bucket_of(c, key);
	e->chain = *bucket;
	*bucket = e;
	list_append(c, e);
	c->bytes += entry_bytes(len);
	c->n++;
}

void
g2_result_cache_set_capacity(g2_result_cache *c, uint64_t capacity)
{
	c->capacity = capacity;
	shrink(c, capacity);
}

uint64_t
g2_result_cache_bytes(const g2_result_cache *c)
{
	return c->bytes;
}

uint32_t
g2_result_cache_entries(const g2_result_cache *c)
{
	return c->n;
}

bool
g2_result_cache_open(uint64_t capacity, g2_result_cache **out, g2_error *err)
{
	g2_result_cache *c = g2_alloc(sizeof *c);

	if (!c)
		return g2_fail_memory(err, sizeof *c);
	c->capacity = capacity;
	*out = c;
	return true;
}

void
g2_result_cache_close(g2_result_cache *c)
{
	if (!c)
		return;
	shrink(c, 0);
	g2_free(c->buckets);
	g2_free(c);
}
