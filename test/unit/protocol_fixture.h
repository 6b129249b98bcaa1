/*
 * protocol_fixture.h: what every message of protocol.h must stand: there and back, cut at every
 * byte, extended at its end, and counts that its payload does not hold.
 */
#ifndef PROTOCOL_FIXTURE_H
#define PROTOCOL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "protocol_score.h"
#include "protocol_train.h"
#include "protocol_watch.h"
#include "util.h"

#define UNUSED __attribute__((unused))
#define S(text) ((g2_span) {text, sizeof(text) - 1})

/* All messages, one at a time. */
typedef union message
{
	g2_hello	hello;
	g2_welcome	welcome;
	g2_session_message session;
	g2_access	access;
	g2_roles	roles;
	g2_error_message error;
	g2_notice	notice;
	g2_generate generate;
	g2_completions_head head;
	g2_completion completion;
	g2_stream	stream;
	g2_score	score;
	g2_score_sum sum;
	g2_token_score token;
	g2_embedding embedding;
	g2_tokenize tokenize;
	g2_tokens	tokens;
	g2_detokenize detokenize;
	g2_load		load;
	g2_model_row model;
	g2_info		info;
	g2_request_row request;
	g2_usage_row usage;
	g2_engine_row engine;
	g2_progress_row progress;
	g2_settings settings;
	g2_train	train;
} message;

typedef struct kind
{
	const char *name;
	void		(*encode) (g2_writer *w);
	bool		(*decode) (const void *p, size_t n, message *m);
	/* Writes it again from what was decoded. */
	void		(*again) (g2_writer *w, const message *m);
	/* How many of its fields a writer may leave out, with all that follow. */
	size_t		optional;
	bool		is_row;			/* a span of its own: the fields are those in it */
} kind;

#define KIND(name, optional) {#name, name##_encode, name##_decode, name##_again, optional, false}
#define ROW(name, optional) {#name, name##_encode, name##_decode, name##_again, optional, true}

/* decode and again of a message whose functions are g2_<function>_decode and _encode. */
#define WHOLE(name, function) \
	static bool \
	name##_decode(const void *p, size_t n, message *m) \
	{ \
		return g2_##function##_decode(p, n, &m->name); \
	} \
	static void \
	name##_again(g2_writer *w, const message *m) \
	{ \
		g2_##function##_encode(w, &m->name); \
	}

/* The same of a part of a message, g2_<function>_get. */
#define PART(name, function) \
	static bool \
	name##_decode(const void *p, size_t n, message *m) \
	{ \
		g2_reader	r = g2_read(p, n); \
		g2_##function##_get(&r, &m->name); \
		return !r.failed; \
	} \
	static void \
	name##_again(g2_writer *w, const message *m) \
	{ \
		g2_##function##_encode(w, &m->name); \
	}

static UNUSED void *
grow(void *data, size_t bytes)
{
	return realloc(data, bytes);
}

static UNUSED g2_writer
writer(void)
{
	return (g2_writer) {.grow = grow};
}

/* Decodes from memory of exactly n bytes, so that a sanitizer sees any read beyond it; what was
 * decoded is written again before that memory goes. */
static UNUSED bool
decode_exactly(const kind *k, const char *p, size_t n, g2_writer *again)
{
	char	   *copy = malloc(n ? n : 1);
	message		m;
	bool		ok;

	assert_non_null(copy);
	if (n > 0)
		memcpy(copy, p, n);
	memset(&m, 0xAA, sizeof m);
	ok = k->decode(n ? copy : NULL, n, &m);
	if (ok && again)
		k->again(again, &m);
	free(copy);
	return ok;
}

static UNUSED void
check_round_trip(const kind *k)
{
	g2_writer	w = writer(),
				again = writer();

	k->encode(&w);
	assert_false(w.failed);
	assert_true(decode_exactly(k, w.data, w.len, &again));
	if (again.len != w.len || memcmp(again.data, w.data, w.len) != 0)
		fail_msg("%s is not what it was", k->name);
	free(w.data);
	free(again.data);
}

/* p[0..n) as a payload of this kind: a row gets its length before it. */
static UNUSED bool
decode_fields(const kind *k, const char *p, size_t n, g2_writer *again)
{
	g2_writer	w = writer();
	bool		ok;

	if (k->is_row)
		g2_put_u32(&w, (uint32_t) n);
	g2_put(&w, p, n);
	ok = decode_exactly(k, w.data, w.len, again);
	free(w.data);
	return ok;
}

/*
 * Fields cut anywhere are refused, or (cut between two fields, as an older writer's would be) read
 * as if zeros followed.
 */
static UNUSED void
check_truncated(const kind *k)
{
	g2_writer	w = writer();
	size_t		skip = k->is_row ? sizeof(uint32_t) : 0,
				accepted = 0;

	k->encode(&w);
	for (size_t n = 0; k->is_row && n < w.len; n++)
		if (decode_exactly(k, w.data, n, NULL))
			fail_msg("%s: a cut row was taken", k->name);
	for (size_t n = skip; n < w.len; n++)
	{
		g2_writer	again = writer();
		size_t		same = skip;

		if (!decode_fields(k, w.data + skip, n - skip, &again))
			continue;
		accepted++;
		while (same < again.len && same < w.len && again.data[same] == w.data[same])
			same++;
		assert_true(same >= n);
		for (; same < again.len; same++)
			assert_int_equal(again.data[same], 0);
		free(again.data);
	}
	/* More would mean that cut fields are taken, fewer that an older writer is refused. */
	if (accepted != k->optional)
		fail_msg("%s: %zu cuts were taken", k->name, accepted);
	free(w.data);
}

static UNUSED void
check_extended(const kind *k)
{
	g2_writer	w = writer(),
				again = writer(),
				inside = writer();
	size_t		len,
				skip = k->is_row ? sizeof(uint32_t) : 0;

	k->encode(&w);
	len = w.len;
	g2_put(&w, "\377\377\377\377\377\377", 6);
	assert_true(decode_exactly(k, w.data, w.len, &again));
	assert_int_equal(again.len, len);
	assert_memory_equal(again.data, w.data, len);
	assert_true(decode_fields(k, w.data + skip, w.len - skip, &inside));
	assert_int_equal(inside.len, len);
	assert_memory_equal(inside.data, w.data, len);
	free(w.data);
	free(again.data);
	free(inside.data);
}

/* Every u32 of the payload replaced by counts and lengths that lie. */
static UNUSED void
check_lying_counts(const kind *k)
{
	static const uint32_t lies[] = {0, 1, 64, 65, 255, 257, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF,
	0x40000000, 0x3FFFFFFF};
	g2_writer	w = writer();

	k->encode(&w);
	for (size_t at = 0; at + sizeof(uint32_t) <= w.len; at++)
		for (size_t l = 0; l < G2_LENGTH(lies); l++)
		{
			uint32_t	saved;

			memcpy(&saved, w.data + at, sizeof saved);
			memcpy(w.data + at, &lies[l], sizeof lies[l]);
			decode_exactly(k, w.data, w.len, NULL);
			memcpy(w.data + at, &saved, sizeof saved);
		}
	free(w.data);
}

static UNUSED void
check_all(const kind *kinds, size_t n, void (*check) (const kind *k))
{
	for (size_t i = 0; i < n; i++)
		check(&kinds[i]);
}

#endif							/* PROTOCOL_FIXTURE_H */
