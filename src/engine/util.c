/*
 * util.c: memory with an injectable failure, the byte buffer, the clock, UTF-8 checks.
 */
#include "util.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static atomic_long fail_at;		/* 0 = off; otherwise allocations until the one that fails */

void
g2_alloc_fail_at(long n)
{
	atomic_store(&fail_at, n);
}

static bool
injected_failure(void)
{
	if (atomic_load_explicit(&fail_at, memory_order_relaxed) == 0)
		return false;
	return atomic_fetch_sub(&fail_at, 1) == 1;
}

void *
g2_alloc(size_t bytes)
{
	return injected_failure() ? NULL : calloc(1, bytes ? bytes : 1);
}

void *
g2_alloc_array(size_t n, size_t size)
{
	size_t		bytes;

	return g2_mul_size(n, size, &bytes) ? g2_alloc(bytes) : NULL;
}

void *
g2_realloc(void *p, size_t bytes)
{
	return injected_failure() ? NULL : realloc(p, bytes ? bytes : 1);
}

void *
g2_realloc_array(void *p, size_t n, size_t size)
{
	size_t		bytes;

	return g2_mul_size(n, size, &bytes) ? g2_realloc(p, bytes) : NULL;
}

char *
g2_strdup(const char *s)
{
	size_t		n = strlen(s) + 1;
	char	   *copy = g2_alloc(n);

	return copy ? memcpy(copy, s, n) : NULL;
}

void
g2_free(void *p)
{
	free(p);
}

bool
g2_buf_reserve(g2_buf *b, size_t more)
{
	size_t		need,
				cap = b->cap ? b->cap : 256;
	char	   *data;

	if (b->failed || !g2_add_size(b->len, more, &need))
	{
		b->failed = true;
		return false;
	}
	if (need <= b->cap)
		return true;
	while (cap < need)
		if (!g2_mul_size(cap, 2, &cap))
			cap = need;
	data = g2_realloc(b->data, cap);
	if (!data)
	{
		b->failed = true;
		return false;
	}
	b->data = data;
	b->cap = cap;
	return true;
}

bool
g2_buf_append(g2_buf *b, const void *p, size_t n)
{
	if (!g2_buf_reserve(b, n))
		return false;
	if (n > 0)
		memcpy(b->data + b->len, p, n);
	b->len += n;
	return true;
}

bool
g2_buf_printf(g2_buf *b, const char *fmt, ...)
{
	va_list		ap;
	int			n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0 || !g2_buf_reserve(b, (size_t) n + 1))
		return false;
	va_start(ap, fmt);
	vsnprintf(b->data + b->len, (size_t) n + 1, fmt, ap);
	va_end(ap);
	b->len += (size_t) n;
	return true;
}

void
g2_buf_free(g2_buf *b)
{
	g2_free(b->data);
	memset(b, 0, sizeof *b);
}

int64_t
g2_now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t
g2_wall_clock(int64_t monotonic_us)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000 - (g2_now_us() - monotonic_us);
}

/* Bytes of the valid sequence that starts at s, 0 if there is none (Unicode 15, table 3-7). */
static size_t
utf8_sequence(const unsigned char *s, size_t n)
{
	unsigned char lo = 0x80,
				hi = 0xBF;
	size_t		len;

	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xC2 && s[0] <= 0xDF)
		len = 2;
	else if (s[0] >= 0xE0 && s[0] <= 0xEF)
		len = 3;
	else if (s[0] >= 0xF0 && s[0] <= 0xF4)
		len = 4;
	else
		return 0;
	if (n < len)
		return 0;
	switch (s[0])
	{
		case 0xE0:
			lo = 0xA0;
			break;
		case 0xED:
			hi = 0x9F;
			break;
		case 0xF0:
			lo = 0x90;
			break;
		case 0xF4:
			hi = 0x8F;
			break;
	}
	if (s[1] < lo || s[1] > hi)
		return 0;
	for (size_t i = 2; i < len; i++)
		if (s[i] < 0x80 || s[i] > 0xBF)
			return 0;
	return len;
}

size_t
g2_utf8_valid_prefix(const char *s, size_t n)
{
	size_t		i = 0,
				len;

	while (i < n && (len = utf8_sequence((const unsigned char *) s + i, n - i)) > 0)
		i += len;
	return i;
}
