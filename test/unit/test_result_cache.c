/*
 * test_result_cache.c: the cache of answers against a list that does the same the slow way, under
 * missing memory and changing capacity.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "result_cache.h"

#define KEYS 200

static uint64_t random_state = 1;

static uint32_t
random_below(uint32_t n)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t) (random_state >> 33) % n;
}

static g2_result_cache *
open_cache(uint64_t capacity)
{
	g2_result_cache *cache;
	g2_error	err;

	assert_true(g2_result_cache_open(capacity, &cache, &err));
	return cache;
}

/* Few values of the first bytes, so that chains are long. */
static void
key_of(uint32_t i, uint8_t key[G2_HASH])
{
	memset(key, 0, G2_HASH);
	key[0] = (uint8_t) (i % 5);
	memcpy(key + 20, &i, sizeof i);
}

static void
put(g2_result_cache *cache, uint32_t i, const void *value, size_t n)
{
	uint8_t		key[G2_HASH];

	key_of(i, key);
	g2_result_cache_put(cache, key, value, n);
}

static bool
get(g2_result_cache *cache, uint32_t i, g2_span *value)
{
	uint8_t		key[G2_HASH];

	key_of(i, key);
	return g2_result_cache_get(cache, key, value);
}

static bool
has(g2_result_cache *cache, uint32_t i)
{
	g2_span		value;

	return get(cache, i, &value);
}

/* ---- single rules ---- */

static void
test_hit_and_miss(void **state)
{
	g2_result_cache *cache = open_cache(1 << 20);
	g2_result_cache_stats stats;
	g2_span		value;

	(void) state;
	assert_false(get(cache, 1, &value));
	put(cache, 1, "one", 3);
	put(cache, 6, "", 0);		/* the same bucket */
	assert_true(get(cache, 1, &value));
	assert_int_equal(value.len, 3);
	assert_memory_equal(value.data, "one", 3);
	assert_true(get(cache, 6, &value));
	assert_int_equal(value.len, 0);
	assert_false(get(cache, 11, &value));
	put(cache, 1, "another", 7);
	assert_true(get(cache, 1, &value));
	assert_memory_equal(value.data, "another", 7);
	stats = g2_result_cache_get_stats(cache);
	assert_int_equal(stats.hits, 3);
	assert_int_equal(stats.misses, 2);
	assert_int_equal(stats.entries, 2);
	assert_true(stats.bytes > 7 && stats.bytes < 1 << 20);
	g2_result_cache_clear(cache);
	assert_false(get(cache, 1, &value));
	stats = g2_result_cache_get_stats(cache);
	assert_int_equal(stats.entries, 0);
	assert_int_equal(stats.bytes, 0);
	assert_int_equal(stats.hits, 3);
	put(cache, 1, "again", 5);
	assert_true(has(cache, 1));
	g2_result_cache_close(cache);
	g2_result_cache_close(NULL);
}

static void
test_limits(void **state)
{
	enum {capacity = 64 << 10};
	static const char big[capacity];
	g2_result_cache *cache = open_cache(capacity);
	uint32_t	largest = capacity / 8;

	(void) state;
	/* The largest that is kept is an eighth less what the cache needs for it. */
	for (; largest > 0; largest--)
	{
		put(cache, 1, big, largest);
		if (has(cache, 1))
			break;
	}
	assert_in_range(largest, capacity / 8 - 200, capacity / 8 - 1);
	/* What cannot be kept still ends what was there. */
	put(cache, 1, big, largest + 1);
	assert_false(has(cache, 1));
	put(cache, 1, big, SIZE_MAX / 2);
	assert_false(has(cache, 1));
	for (uint32_t i = 0; i < 8; i++)
		put(cache, i, big, largest);
	/* Seven of an eighth, and the table has no room for the eighth. */
	assert_int_equal(g2_result_cache_get_stats(cache).entries, 7);
	assert_false(has(cache, 0));
	assert_true(g2_result_cache_get_stats(cache).bytes <= capacity);
	g2_result_cache_close(cache);
}

static void
test_order(void **state)
{
	g2_result_cache *cache = open_cache(8 << 10);
	static const char value[700];

	(void) state;
	for (uint32_t i = 0; i < 10; i++)
		put(cache, i, value, sizeof value);
	assert_int_equal(g2_result_cache_get_stats(cache).entries, 10);
	assert_true(has(cache, 0));
	assert_true(has(cache, 1));
	/* Used again, they outlive the others. */
	for (uint32_t i = 100; i < 108; i++)
		put(cache, i, value, sizeof value);
	assert_true(has(cache, 0));
	assert_true(has(cache, 1));
	for (uint32_t i = 2; i < 10; i++)
		assert_false(has(cache, i));
	g2_result_cache_close(cache);
}

static void
test_set_capacity(void **state)
{
	g2_result_cache *cache = open_cache(1 << 20);
	static const char value[500];
	uint32_t	n = 0;

	(void) state;
	for (uint32_t i = 0; i < 1000; i++)
		put(cache, i, value, sizeof value);
	assert_int_equal(g2_result_cache_get_stats(cache).entries, 1000);
	g2_result_cache_set_capacity(cache, 4 << 20);
	assert_int_equal(g2_result_cache_get_stats(cache).entries, 1000);
	g2_result_cache_set_capacity(cache, 100 << 10);
	assert_true(g2_result_cache_get_stats(cache).bytes <= 100 << 10);
	for (uint32_t i = 0; i < 1000; i++)
		if (has(cache, i))
			n++;
		else
			assert_int_equal(n, 0);	/* the newest have stayed */
	assert_in_range(n, 165, 180);	/* as many as there is room for */
	assert_int_equal(g2_result_cache_get_stats(cache).entries, n);
	/* No memory for the new table: nothing is kept, and then it goes on. */
	g2_alloc_fail_at(1);
	g2_result_cache_set_capacity(cache, 1 << 20);
	g2_alloc_fail_at(0);
	assert_int_equal(g2_result_cache_get_stats(cache).bytes, 0);
	put(cache, 1, value, sizeof value);
	assert_true(has(cache, 1));
	for (uint64_t capacity = 0; capacity < 4096; capacity += 4095)
	{
		g2_result_cache_set_capacity(cache, capacity);
		assert_int_equal(g2_result_cache_get_stats(cache).bytes, 0);
		put(cache, 1, value, 0);
		assert_false(has(cache, 1));
		assert_int_equal(g2_result_cache_get_stats(cache).bytes, 0);
	}
	g2_result_cache_set_capacity(cache, UINT64_MAX);
	put(cache, 1, "x", 1);
	assert_true(has(cache, 1));
	g2_result_cache_close(cache);
}

static void
test_no_memory(void **state)
{
	g2_result_cache *cache;
	g2_error	err;

	(void) state;
	g2_alloc_fail_at(1);
	assert_false(g2_result_cache_open(1 << 20, &cache, &err));
	g2_alloc_fail_at(0);
	assert_int_equal(err.code, G2_E_MEMORY);
	cache = open_cache(1 << 20);
	for (long n = 1; n <= 3; n++)
	{
		g2_result_cache_clear(cache);
		g2_alloc_fail_at(n);
		put(cache, 1, "x", 1);
		g2_alloc_fail_at(0);
		assert_int_equal(has(cache, 1), n == 3);	/* the table, then the entry */
	}
	/* An answer that cannot be replaced is gone: the old one must not be given any more. */
	g2_alloc_fail_at(1);
	put(cache, 1, "y", 1);
	g2_alloc_fail_at(0);
	assert_false(has(cache, 1));
	g2_result_cache_close(cache);
}

/* ---- random work against a list ---- */

/* The same cache the slow way: values in order of their last use, their sizes measured. */
typedef struct model
{
	uint32_t	keys[KEYS];		/* the newest first */
	uint32_t	n;
	char		value[KEYS][4096];
	uint32_t	len[KEYS];		/* by key */
} model;

static uint32_t
model_find(const model *m, uint32_t key)
{
	uint32_t	i = 0;

	while (i < m->n && m->keys[i] != key)
		i++;
	return i;
}

static void
model_remove(model *m, uint32_t at)
{
	memmove(&m->keys[at], &m->keys[at + 1], (m->n - at - 1) * sizeof m->keys[0]);
	m->n--;
}

static void
model_push(model *m, uint32_t key)
{
	memmove(&m->keys[1], &m->keys[0], m->n * sizeof m->keys[0]);
	m->keys[0] = key;
	m->n++;
}

/* What the cache charges for an empty answer, and for its table, found from outside. */
static uint64_t
overhead(uint64_t capacity, uint64_t *table)
{
	g2_result_cache *cache = open_cache(capacity);
	uint64_t	bytes[2];

	for (uint32_t i = 0; i < 2; i++)
	{
		put(cache, i, "", 0);
		bytes[i] = g2_result_cache_get_stats(cache).bytes;
	}
	g2_result_cache_close(cache);
	*table = bytes[0] - (bytes[1] - bytes[0]);
	return bytes[1] - bytes[0];
}

static uint64_t
model_bytes(const model *m, uint64_t each)
{
	uint64_t	bytes = 0;

	for (uint32_t i = 0; i < m->n; i++)
		bytes += each + m->len[m->keys[i]];
	return bytes;
}

static void
model_put(model *m, uint32_t key, uint32_t len, uint64_t capacity, uint64_t each, uint64_t table)
{
	uint32_t	at = model_find(m, key);

	if (at < m->n)
		model_remove(m, at);
	if (each + len > capacity / 8)
		return;
	while (model_bytes(m, each) + table + each + len > capacity)
		m->n--;
	for (uint32_t i = 0; i < len; i++)
		m->value[key][i] = (char) random_below(256);
	m->len[key] = len;
	model_push(m, key);
}

static void
random_run(uint64_t capacity, int steps)
{
	static model m;
	uint64_t	table,
				each = overhead(capacity, &table),
				hits = 0,
				misses = 0;
	g2_result_cache *cache = open_cache(capacity);

	m.n = 0;
	for (int step = 0; step < steps; step++)
	{
		uint32_t	key = random_below(KEYS),
					at = model_find(&m, key);
		g2_span		value;
		g2_result_cache_stats stats;

		if (random_below(1000) == 0)
		{
			g2_result_cache_clear(cache);
			m.n = 0;
		}
		else if (random_below(3) == 0)
		{
			uint32_t	len = random_below(random_below(10) ? 300 : 4096);

			model_put(&m, key, len, capacity, each, table);
			put(cache, key, m.value[key], len);
		}
		else if (get(cache, key, &value) != (at < m.n))
			fail_msg("step %d: key %u is %s", step, key, at < m.n ? "missing" : "there");
		else if (at < m.n)
		{
			assert_int_equal(value.len, m.len[key]);
			assert_memory_equal(value.data, m.value[key], value.len);
			model_remove(&m, at);
			model_push(&m, key);
			hits++;
		}
		else
			misses++;
		stats = g2_result_cache_get_stats(cache);
		assert_int_equal(stats.entries, m.n);
		assert_true(stats.bytes <= capacity);
		if (m.n > 0)
			assert_int_equal(stats.bytes, model_bytes(&m, each) + table);
		assert_int_equal(stats.hits, hits);
		assert_int_equal(stats.misses, misses);
	}
	assert_true(hits > 100 && misses > 100);
	g2_result_cache_close(cache);
}

static void
test_random(void **state)
{
	(void) state;
	random_run(6 << 10, 20000);
	random_run(20 << 10, 20000);
	random_run(100 << 10, 20000);
}

/* Any allocation fails, capacities change: what is given is right, and the bounds hold. */
static void
test_random_without_memory(void **state)
{
	static char value[KEYS][600];
	static uint32_t len[KEYS];
	g2_result_cache *cache = open_cache(50000);
	uint64_t	capacity = 50000,
				hits = 0;

	(void) state;
	for (int step = 0; step < 50000; step++)
	{
		uint32_t	key = random_below(KEYS);
		g2_span		found;

		if (random_below(4) == 0)
			g2_alloc_fail_at(1 + random_below(2));
		switch (random_below(100))
		{
			case 0:
				capacity = random_below(100000);
				g2_result_cache_set_capacity(cache, capacity);
				break;
			case 1:
				g2_result_cache_clear(cache);
				break;
			default:
				if (random_below(2))
				{
					len[key] = random_below(sizeof value[0]);
					memset(value[key], (int) random_below(256), len[key]);
					put(cache, key, value[key], len[key]);
				}
				else if (get(cache, key, &found))
				{
					hits++;
					assert_int_equal(found.len, len[key]);
					assert_memory_equal(found.data, value[key], found.len);
				}
		}
		g2_alloc_fail_at(0);
		assert_true(g2_result_cache_get_stats(cache).bytes <= capacity);
	}
	assert_true(hits > 1000);
	g2_result_cache_close(cache);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hit_and_miss), cmocka_unit_test(test_limits),
		cmocka_unit_test(test_order), cmocka_unit_test(test_set_capacity),
		cmocka_unit_test(test_no_memory), cmocka_unit_test(test_random),
		cmocka_unit_test(test_random_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
