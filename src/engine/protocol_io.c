/*
 * protocol_io.c: numbers, strings and frames of protocol.h.  Plain C, compiled into both the engine
 * and the PostgreSQL library; allocates through the writer's grow function only.
 */
#include "protocol.h"

#include <string.h>

static bool
reserve(g2_writer *w, size_t more)
{
	size_t		need,
				cap = w->cap ? w->cap : 512;
	void	   *data;

	if (w->failed || __builtin_add_overflow(w->len, more, &need))
	{
		w->failed = true;
		return false;
	}
	if (need <= w->cap)
		return true;
	while (cap < need)
		if (__builtin_mul_overflow(cap, (size_t) 2, &cap))
			cap = need;
	data = w->grow(w->data, cap);
	if (!data)
	{
		w->failed = true;
		return false;
	}
	w->data = data;
	w->cap = cap;
	return true;
}

void
g2_put(g2_writer *w, const void *p, size_t n)
{
	if (!reserve(w, n))
		return;
	if (n > 0)
		memcpy(w->data + w->len, p, n);
	w->len += n;
}

void
g2_put_u8(g2_writer *w, uint8_t v)
{
	g2_put(w, &v, sizeof v);
}

void
g2_put_u32(g2_writer *w, uint32_t v)
{
	g2_put(w, &v, sizeof v);
}

void
g2_put_u64(g2_writer *w, uint64_t v)
{
	g2_put(w, &v, sizeof v);
}

void
g2_put_f64(g2_writer *w, double v)
{
	g2_put(w, &v, sizeof v);
}

void
g2_put_span(g2_writer *w, g2_span s)
{
	g2_put_u32(w, s.len);
	g2_put(w, s.data, s.len);
}

void
g2_put_string(g2_writer *w, const char *s)
{
	g2_put_span(w, g2_span_of(s));
}

void
g2_put_names(g2_writer *w, const g2_span *names, uint32_t n)
{
	g2_put_u32(w, n);
	for (uint32_t i = 0; i < n; i++)
		g2_put_span(w, names[i]);
}

g2_span
g2_span_of(const char *s)
{
	g2_span		span = {s ? s : "", s ? (uint32_t) strlen(s) : 0};

	return span;
}

bool
g2_span_is(g2_span span, const char *s)
{
	return span.len == strlen(s) && memcmp(span.data, s, span.len) == 0;
}

g2_reader
g2_read(const void *payload, size_t len)
{
	const char *at = len > 0 ? payload : "";

	return (g2_reader) {at, at + len, false};
}

void
g2_get(g2_reader *r, void *to, size_t n)
{
	size_t		left = (size_t) (r->end - r->at);

	memset(to, 0, n);
	if (left == 0)
		return;
	if (left < n)
	{
		r->failed = true;
		r->at = r->end;
		return;
	}
	memcpy(to, r->at, n);
	r->at += n;
}

uint8_t
g2_get_u8(g2_reader *r)
{
	uint8_t		v;

	g2_get(r, &v, sizeof v);
	return v;
}

uint32_t
g2_get_u32(g2_reader *r)
{
	uint32_t	v;

	g2_get(r, &v, sizeof v);
	return v;
}

uint64_t
g2_get_u64(g2_reader *r)
{
	uint64_t	v;

	g2_get(r, &v, sizeof v);
	return v;
}

double
g2_get_f64(g2_reader *r)
{
	double		v;

	g2_get(r, &v, sizeof v);
	return v;
}

g2_span
g2_get_span(g2_reader *r)
{
	g2_span		s = {"", g2_get_u32(r)};

	if (s.len > (size_t) (r->end - r->at))
	{
		r->failed = true;
		r->at = r->end;
		s.len = 0;
	}
	if (s.len > 0)
	{
		s.data = r->at;
		r->at += s.len;
	}
	return s;
}

g2_span
g2_get_element(g2_reader *r)
{
	if (r->at == r->end)
		r->failed = true;
	return g2_get_span(r);
}

uint32_t
g2_get_names(g2_reader *r, g2_span *names, uint32_t max)
{
	uint32_t	n = g2_get_u32(r);

	if (n > max)
	{
		r->failed = true;
		return 0;
	}
	for (uint32_t i = 0; i < n; i++)
		names[i] = g2_get_element(r);
	return n;
}

const char *
g2_get_ids(g2_reader *r, uint32_t count)
{
	const char *ids = r->at;

	if (count > (size_t) (r->end - r->at) / sizeof(uint32_t))
	{
		r->failed = true;
		r->at = r->end;
		return NULL;
	}
	r->at += (size_t) count * sizeof(uint32_t);
	return ids;
}

size_t
g2_frame_begin(g2_writer *w, g2_message type, uint64_t id)
{
	g2_frame	frame = {0, (uint16_t) type, 0, id};
	size_t		begin = w->len;

	g2_put(w, &frame, sizeof frame);
	return begin;
}

bool
g2_frame_end(g2_writer *w, size_t begin)
{
	size_t		payload;
	uint32_t	length;

	if (w->failed)
		return false;
	payload = w->len - begin - sizeof(g2_frame);
	if (payload > G2_MAX_PAYLOAD)
	{
		w->len = begin;
		return false;
	}
	length = (uint32_t) payload;
	memcpy(w->data + begin + offsetof(g2_frame, length), &length, sizeof length);
	return true;
}
