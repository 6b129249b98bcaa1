/*
 * result_cache.c: a hash table of answers, strung in order of their last use.
 *
 * The keys are digests, so their first bits are the hash.  The table's size follows from the
 * capacity alone: it is made with the first answer that is kept, and nothing is rehashed but when
 * the capacity changes.
 */
#include "result_cache.h"

#include "text.h"

#define SMALLEST_CAPACITY 4096	/* below, nothing is kept */
#define LARGEST_CAPACITY (UINT64_MAX / 2)
#define BYTES_PER_BUCKET 512	/* of capacity: about one short answer */
#define MAX_BUCKETS (UINT64_C(1) << 22)	/* more are not worth their memory */
#define ALLOCATION_BYTES 16		/* what the allocator needs for one allocation, about */

typedef struct entry
{
	struct entry *chain;		/* next of the bucket */
	struct entry *newer;
	struct entry *older;
	uint8_t		key[G2_HASH];
	uint32_t	len;
	char		value[];
} entry;

struct g2_result_cache
{
	uint64_t	capacity;
	uint64_t	bytes;
	entry	  **buckets;		/* [n_buckets], a power of two; NULL = nothing was kept yet */
	uint64_t	n_buckets;
	entry	   *newest;
	entry	   *oldest;
	uint64_t	entries;
	uint64_t	hits;
	uint64_t	misses;
};

/* ---- keys ---- */

/* What does not change the answer: how it is handed over, and whether caches are used. */
#define FLAGS_OF_DELIVERY (G2_GEN_STREAM | G2_GEN_SEEDED | G2_GEN_NO_CACHE)

/* A writer of the key's text, begun with the identity and the kind of request.  It has room for
 * `bytes` of the request, so that it is never moved: a move would leave a copy. */
static bool
key_begin(const g2_result_identity *identity, g2_message type, size_t bytes, g2_writer *w,
		  g2_error *err)
{
	bytes += 1024 + strlen(identity->content_hash) + strlen(identity->format) +
		strlen(identity->arithmetic);
	*w = (g2_writer) {.data = g2_alloc(bytes), .cap = bytes, .grow = g2_realloc};
	if (!w->data)
		return g2_fail_memory(err, bytes);
	g2_put_string(w, identity->content_hash);
	g2_put_string(w, identity->format);
	g2_put_string(w, identity->arithmetic);
	g2_put_u32(w, identity->database);
	g2_put_u32(w, type);
	return true;
}

static bool
key_end(g2_writer *w, uint8_t key[G2_HASH], g2_error *err)
{
	g2_hash    *hash = g2_hash_new(err);
	bool		ok = false;

	if (hash)
		ok = w->failed ? g2_fail_memory(err, w->len)
			: (g2_hash_add(hash, w->data, w->len), g2_hash_end(hash, key, err));
	g2_hash_free(hash);
	g2_wipe_free(w->data, w->cap);
	return ok;
}

static size_t
bytes_of_names(const g2_span *names, uint32_t n)
{
	size_t		bytes = 0;

	for (uint32_t i = 0; i < n; i++)
		bytes += sizeof(uint32_t) + names[i].len;
	return bytes;
}

/*
 * The protocol's own encoding puts a length before everything that has one, so different requests
 * have different texts, and a field that is added to it has its say here too.
 */
bool
g2_result_key(const g2_generate *m, const g2_result_identity *identity, uint8_t key[G2_HASH],
			  g2_error *err)
{
	g2_generate of = *m;
	g2_writer	w;

	of.model = (g2_span) {"", 0};
	of.flags &= ~(uint32_t) FLAGS_OF_DELIVERY;
	of.queue_timeout_ms = 0;
	if (!key_begin(identity, G2_MSG_GENERATE,
				   (size_t) m->prompt.len + m->task.len + m->template_text.len +
				   m->cache_salt.len + m->constraint.len + bytes_of_names(m->stops, m->n_stops) +
				   m->decoding.n_biases * G2_BIAS_BYTES, &w, err))
		return false;
	g2_generate_encode(&w, &of);
	return key_end(&w, key, err);
}

bool
g2_score_key(const g2_score *m, const g2_result_identity *identity, uint8_t key[G2_HASH],
			 g2_error *err)
{
	g2_score	of = *m;
	g2_writer	w;

	of.model = (g2_span) {"", 0};
	of.flags &= ~(uint32_t) G2_SCORE_NO_CACHE;
	of.queue_timeout_ms = 0;
	if (!key_begin(identity, G2_MSG_SCORE,
				   (size_t) m->text.len + m->task.len + m->template_text.len +
				   m->condition.len + m->cache_salt.len +
				   bytes_of_names(m->labels, m->n_labels) +
				   bytes_of_names(m->example_texts, m->n_examples) +
				   bytes_of_names(m->example_labels, m->n_examples), &w, err))
		return false;
	g2_score_encode(&w, &of);
	return key_end(&w, key, err);
}

/* ---- the table ---- */

static uint64_t
bytes_of(const entry *e)
{
	return sizeof *e + e->len + ALLOCATION_BYTES;
}

static uint64_t
bytes_of_buckets(uint64_t n)
{
	return n > 0 ? n * sizeof(entry *) + ALLOCATION_BYTES : 0;
}

/* Their memory is at most 1/64 of the capacity, and some bytes. */
static uint64_t
buckets_for(uint64_t capacity)
{
	uint64_t	n = 1;

	if (capacity < SMALLEST_CAPACITY)
		return 0;
	while (n < MAX_BUCKETS && n <= capacity / BYTES_PER_BUCKET / 2)
		n *= 2;
	return n;
}

static entry **
bucket_of(const g2_result_cache *cache, const uint8_t key[G2_HASH])
{
	uint64_t	h;

	memcpy(&h, key, sizeof h);
	return &cache->buckets[h & (cache->n_buckets - 1)];
}

/* Where the pointer to the key's entry is, or the end of its chain. */
static entry **
find(const g2_result_cache *cache, const uint8_t key[G2_HASH])
{
	entry	  **at = bucket_of(cache, key);

	while (*at && memcmp((*at)->key, key, G2_HASH) != 0)
		at = &(*at)->chain;
	return at;
}

static void
link_newest(g2_result_cache *cache, entry *e)
{
	e->newer = NULL;
	e->older = cache->newest;
	*(cache->newest ? &cache->newest->newer : &cache->oldest) = e;
	cache->newest = e;
}

static void
unlink_entry(g2_result_cache *cache, entry *e)
{
	*(e->newer ? &e->newer->older : &cache->newest) = e->older;
	*(e->older ? &e->older->newer : &cache->oldest) = e->newer;
}

/* at: where find found it. */
static void
drop(g2_result_cache *cache, entry **at)
{
	entry	   *e = *at;

	*at = e->chain;
	unlink_entry(cache, e);
	cache->bytes -= bytes_of(e);
	cache->entries--;
	g2_wipe_free(e, sizeof *e + e->len);
}

static void
drop_until(g2_result_cache *cache, uint64_t bytes)
{
	while (cache->bytes > bytes && cache->oldest)
		drop(cache, find(cache, cache->oldest->key));
}

/* ---- capacity ---- */

/* Makes a table of n buckets and moves the entries there. */
static bool
make_buckets(g2_result_cache *cache, uint64_t n)
{
	entry	  **buckets = g2_alloc_array(n, sizeof *buckets);

	if (!buckets)
		return false;
	g2_free(cache->buckets);
	cache->bytes -= bytes_of_buckets(cache->n_buckets);
	cache->bytes += bytes_of_buckets(n);
	cache->buckets = buckets;
	cache->n_buckets = n;
	for (entry *e = cache->oldest; e; e = e->newer)
	{
		entry	  **bucket = bucket_of(cache, e->key);

		e->chain = *bucket;
		*bucket = e;
	}
	return true;
}

void
g2_result_cache_clear(g2_result_cache *cache)
{
	drop_until(cache, 0);
	g2_free(cache->buckets);
	cache->buckets = NULL;
	cache->n_buckets = 0;
	cache->bytes = 0;
}

void
g2_result_cache_set_capacity(g2_result_cache *cache, uint64_t capacity)
{
	uint64_t	n;

	cache->capacity = G2_MIN(capacity, LARGEST_CAPACITY);
	n = buckets_for(cache->capacity);
	if (!cache->buckets)
		return;
	/* As if the table were the new one already, so that no more go, and fewer move, than must. */
	drop_until(cache, cache->capacity + bytes_of_buckets(cache->n_buckets) - bytes_of_buckets(n));
	if (n == 0 || (n != cache->n_buckets && !make_buckets(cache, n)))
		g2_result_cache_clear(cache);
}

bool
g2_result_cache_open(uint64_t capacity, g2_result_cache **out, g2_error *err)
{
	g2_result_cache *cache = g2_alloc(sizeof *cache);

	if (!cache)
		return g2_fail_memory(err, sizeof *cache);
	cache->capacity = G2_MIN(capacity, LARGEST_CAPACITY);
	*out = cache;
	return true;
}

void
g2_result_cache_close(g2_result_cache *cache)
{
	if (!cache)
		return;
	g2_result_cache_clear(cache);
	g2_free(cache);
}

/* ---- use ---- */

bool
g2_result_cache_get(g2_result_cache *cache, const uint8_t key[G2_HASH], g2_span *value)
{
	entry	   *e = cache->buckets ? *find(cache, key) : NULL;

	if (!e)
	{
		cache->misses++;
		return false;
	}
	cache->hits++;
	unlink_entry(cache, e);
	link_newest(cache, e);
	*value = (g2_span) {e->value, e->len};
	return true;
}

void
g2_result_cache_put(g2_result_cache *cache, const uint8_t key[G2_HASH], const void *value,
					size_t n)
{
	uint64_t	bytes = sizeof(entry) + (uint64_t) n + ALLOCATION_BYTES;
	entry	   *e,
			  **at;

	if (cache->buckets && *(at = find(cache, key)))
		drop(cache, at);
	if (n > G2_MAX_PAYLOAD || bytes > cache->capacity / 8 ||
		cache->capacity < SMALLEST_CAPACITY)
		return;
	if (!cache->buckets && !make_buckets(cache, buckets_for(cache->capacity)))
		return;
	e = g2_alloc(sizeof *e + n);
	if (!e)
		return;
	drop_until(cache, cache->capacity - bytes);
	memcpy(e->key, key, G2_HASH);
	e->len = (uint32_t) n;
	if (n > 0)
		memcpy(e->value, value, n);
	at = bucket_of(cache, key);
	e->chain = *at;
	*at = e;
	link_newest(cache, e);
	cache->bytes += bytes;
	cache->entries++;
}

g2_result_cache_stats
g2_result_cache_get_stats(const g2_result_cache *cache)
{
	return (g2_result_cache_stats) {
		.hits = cache->hits,
		.misses = cache->misses,
		.bytes = cache->bytes,
		.entries = cache->entries,
	};
}
