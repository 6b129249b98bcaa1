/*
 * result_cache.h: answers that the same request would get again.
 *
 * A key is a SHA-256 of all that an answer depends on and of who may share it (work.c makes it);
 * a value is an answer's payload.  What was used longest ago goes first when the capacity is
 * reached.  Memory only, wiped when it is freed: values are texts of somebody's.
 *
 * The engine's thread owns it.
 */
#ifndef G2_RESULT_CACHE_H
#define G2_RESULT_CACHE_H

#include "util.h"

#define G2_RESULT_KEY 32		/* bytes */

typedef struct g2_result_cache g2_result_cache;

/* capacity: bytes with all bookkeeping; 0 = keeps nothing. */
extern bool g2_result_cache_open(uint64_t capacity, g2_result_cache **out, g2_error *err);
extern void g2_result_cache_close(g2_result_cache *cache);
extern void g2_result_cache_set_capacity(g2_result_cache *cache, uint64_t capacity);

/* The value, valid until the next call; NULL: there is none. */
extern const char *g2_result_cache_find(g2_result_cache *cache, const uint8_t *key, size_t *len);

/* Keeps a copy; not of a value that would take more than an eighth of the capacity, nor where
 * there is no memory. */
extern void g2_result_cache_put(g2_result_cache *cache, const uint8_t *key, const void *value,
								size_t len);

/* Bytes and entries that it holds. */
extern uint64_t g2_result_cache_bytes(const g2_result_cache *cache);
extern uint32_t g2_result_cache_entries(const g2_result_cache *cache);

#endif							/* G2_RESULT_CACHE_H */
