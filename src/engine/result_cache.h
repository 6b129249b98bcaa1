/*
 * result_cache.h: answers that were given, for requests that can have no other: greedy or with a
 * seed of the user's.  The least recently used ones go first.
 *
 * Only the engine's thread touches a cache; g2_result_key may be called by any thread, and belongs
 * on a helper's, as it takes time for long prompts.  An answer is its owner's: the key holds
 * database, current user and salt, and memory is zeroed when an answer leaves.
 */
#ifndef G2_RESULT_CACHE_H
#define G2_RESULT_CACHE_H

#include "pack.h"
#include "protocol_score.h"
#include "util.h"

/* What a result depends on beside its request, and who may share it. */
typedef struct g2_result_identity
{
	const char *content_hash;	/* of the model, hexadecimal */
	const char *format;			/* of its weights */
	const char *arithmetic;		/* what the device's bits are called, as g2_info has it */
	uint32_t	database;		/* OID; the request has current user and salt */
} g2_result_identity;

/*
 * SHA-256 over all of it and every field of the request that has a say in the answer: all but the
 * model's name (the content hash says more), the queue's timeout, and the flags that say how the
 * answer is handed over.  False without memory.
 */
extern bool g2_result_key(const g2_generate *m, const g2_result_identity *identity,
						  uint8_t key[G2_HASH], g2_error *err);
extern bool g2_score_key(const g2_score *m, const g2_result_identity *identity,
						 uint8_t key[G2_HASH], g2_error *err);

typedef struct g2_result_cache g2_result_cache;

typedef struct g2_result_cache_stats
{
	uint64_t	hits;
	uint64_t	misses;
	uint64_t	bytes;			/* with what the cache itself needs */
	uint64_t	entries;
} g2_result_cache_stats;

/* capacity: bytes, with what the cache itself needs; 0 = keeps nothing. */
extern bool g2_result_cache_open(uint64_t capacity, g2_result_cache **out, g2_error *err);
extern void g2_result_cache_close(g2_result_cache *cache);

/* A smaller capacity takes effect at once. */
extern void g2_result_cache_set_capacity(g2_result_cache *cache, uint64_t capacity);

/* The value is valid until the next call but of stats. */
extern bool g2_result_cache_get(g2_result_cache *cache, const uint8_t key[G2_HASH],
								g2_span *value);

/* Copies the value; one of the same key is replaced.  What needs more than 1/8 of the capacity, or
 * memory that is not there, is not kept. */
extern void g2_result_cache_put(g2_result_cache *cache, const uint8_t key[G2_HASH],
								const void *value, size_t n);
extern void g2_result_cache_clear(g2_result_cache *cache);
extern g2_result_cache_stats g2_result_cache_get_stats(const g2_result_cache *cache);

#endif							/* G2_RESULT_CACHE_H */
