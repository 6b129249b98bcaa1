/*
 * util.h: memory, checked arithmetic and a growing byte buffer: what every file of the engine uses.
 *
 * All heap memory of the engine goes through g2_alloc and its kin, so that a test can make the
 * n-th allocation fail (g2_alloc_fail_at) and see that every caller reports 53200 and frees.
 */
#ifndef G2_UTIL_H
#define G2_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "error.h"

/* NULL on failure; zeroed.  free() with g2_free (NULL is allowed). */
extern void *g2_alloc(size_t bytes);
extern void *g2_alloc_array(size_t n, size_t size);	/* NULL too when n * size wraps */
extern void *g2_realloc(void *p, size_t bytes);		/* NULL: p is untouched */
extern void *g2_realloc_array(void *p, size_t n, size_t size);
extern char *g2_strdup(const char *s);
extern void g2_free(void *p);

/* Tests only: the n-th allocation from now fails (1 = the next); 0 turns it off. */
extern void g2_alloc_fail_at(long n);

static inline bool
g2_mul_size(size_t a, size_t b, size_t *out)
{
	return !__builtin_mul_overflow(a, b, out);
}

static inline bool
g2_add_size(size_t a, size_t b, size_t *out)
{
	return !__builtin_add_overflow(a, b, out);
}

#define G2_MIN(a, b) ((a) < (b) ? (a) : (b))
#define G2_MAX(a, b) ((a) > (b) ? (a) : (b))
#define G2_ROUND_UP(n, to) (((n) + (to) - 1) / (to) * (to))
#define G2_LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* A growing byte string.  Zero-initialise; `failed` is set by the first append that could not
 * get memory and makes the later ones do nothing, so that only the end needs a check. */
typedef struct g2_buf
{
	char	   *data;
	size_t		len;
	size_t		cap;
	bool		failed;
} g2_buf;

extern bool g2_buf_reserve(g2_buf *b, size_t more);	/* room for `more` bytes after len */
extern bool g2_buf_append(g2_buf *b, const void *p, size_t n);
extern bool g2_buf_printf(g2_buf *b, const char *fmt, ...) G2_PRINTF(2, 3);
extern void g2_buf_free(g2_buf *b);

/* Monotonic clock in microseconds. */
extern int64_t g2_now_us(void);

/* Wall clock of a time of that one, in microseconds since 1970. */
extern int64_t g2_wall_clock(int64_t monotonic_us);

/* Length of the longest prefix of s[0..n) that is complete, valid UTF-8. */
extern size_t g2_utf8_valid_prefix(const char *s, size_t n);

#endif							/* G2_UTIL_H */
