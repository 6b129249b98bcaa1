/*
 * tokenizer_fixture.h: small vocabularies made in the tests of the tokenizer, and how they use it.
 */
#ifndef TOKENIZER_FIXTURE_H
#define TOKENIZER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tokenizer.h"

typedef struct model
{
	g2_buf		vocab;			/* not closed by } until finish() */
	g2_buf		merges;
	uint32_t	next;			/* first free id */
	g2_buf		blob;
	g2_tokenizer *tok;
} model;

static uint64_t random_state = 1;

static inline uint32_t
random_below(uint32_t n)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t) (random_state >> 33) % n;
}

/* bytes_to_unicode of encoder.py, written again: the character of a byte. */
static inline void
alphabet_char(int byte, char out[3])
{
	int			c = byte,
				n = 0;

	for (int b = 0; b <= byte; b++)
	{
		bool		printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;

		c = printable ? b : 256 + n++;
	}
	if (c < 0x80)
		snprintf(out, 3, "%c", c);
	else
		snprintf(out, 3, "%c%c", 0xC0 | c >> 6, 0x80 | (c & 0x3F));
}

static inline void
add_piece(model *m, const char *name, long id)
{
	g2_buf_printf(&m->vocab, "%s\"%s%s\": %ld", m->vocab.len ? ", " : "{",
				  *name == '"' || *name == '\\' ? "\\" : "", name, id);
	if (id >= (long) m->next)
		m->next = (uint32_t) id + 1;
}

/* The 256 bytes, not in their order: byte b has id (b * 7) % 256. */
static inline void
add_alphabet(model *m)
{
	for (int b = 0; b < 256; b++)
	{
		char		name[3];

		alphabet_char(b, name);
		add_piece(m, name, b * 7 % 256);
	}
}

static inline void
add_merge(model *m, const char *left, const char *right)
{
	char		joined[64];

	snprintf(joined, sizeof joined, "%s%s", left, right);
	add_piece(m, joined, m->next);
	g2_buf_printf(&m->merges, "%s %s\n", left, right);
}

static inline bool
try_compile(model *m, uint32_t n_vocab, g2_error *err)
{
	g2_tokenizer_files f = {.vocab = {"vocab.json", m->vocab.data, m->vocab.len},
	.merges = {"merges.txt", m->merges.data, m->merges.len}};

	memset(err, 0, sizeof *err);
	return g2_tokenizer_compile(&f, n_vocab, &m->blob, err);
}

static inline void
finish(model *m)
{
	g2_error	err;

	g2_buf_printf(&m->vocab, "}");
	g2_buf_reserve(&m->merges, 1);
	if (!try_compile(m, m->next, &err) ||
		!g2_tokenizer_open(m->blob.data, m->blob.len, &m->tok, &err))
		fail_msg("%s", err.message);
}

/* Bytes, the merges of a few words, and an end token. */
static inline void
make_small(model *m)
{
	static const char *const pairs[][2] = {
		{"t", "h"}, {"\xC4\xA0", "a"}, {"th", "e"}, {"a", "a"}, {"\xC4\xA0", "the"}, {"aa", "aa"},
		{"aaaa", "aaaa"}, {"l", "l"}, {"h", "e"}, {"\xC3\x83", "\xC2\xA9"}, {"1", "2"},
	};

	memset(m, 0, sizeof *m);
	add_alphabet(m);
	g2_buf_printf(&m->merges, "#version: 0.2\n");
	for (size_t i = 0; i < G2_LENGTH(pairs); i++)
		add_merge(m, pairs[i][0], pairs[i][1]);
	add_piece(m, "<|endoftext|>", m->next);
	finish(m);
}

static inline void
free_model(model *m)
{
	g2_tokenizer_close(m->tok);
	g2_buf_free(&m->vocab);
	g2_buf_free(&m->merges);
	g2_buf_free(&m->blob);
}

static inline void
encode(const g2_tokenizer *tok, const char *text, size_t len, g2_ids *ids)
{
	g2_error	err;

	ids->len = 0;
	if (!g2_tokenizer_encode(tok, text, len, 0, NULL, ids, &err))
		fail_msg("%s", err.message);
}

static inline void
decode(const g2_tokenizer *tok, const g2_ids *ids, g2_buf *out)
{
	out->len = 0;
	for (size_t i = 0; i < ids->len; i++)
	{
		size_t		n;
		const char *piece = g2_tokenizer_piece(tok, ids->data[i], &n);

		assert_non_null(piece);
		assert_false(g2_tokenizer_is_special(tok, ids->data[i]));
		g2_buf_append(out, piece, n);
	}
	assert_false(out->failed);
}

static inline void
check_round_trip(const g2_tokenizer *tok, const char *text, size_t len)
{
	g2_ids		ids = {0};
	g2_buf		back = {0};

	encode(tok, text, len, &ids);
	decode(tok, &ids, &back);
	assert_int_equal(back.len, len);
	if (len > 0)
		assert_memory_equal(back.data, text, len);
	g2_free(ids.data);
	g2_buf_free(&back);
}

/* Milliseconds that n letters "a" take, which are one word. */
static inline double
encode_as(const g2_tokenizer *tok, size_t n, g2_ids *ids)
{
	char	   *text = malloc(n);
	int64_t		start;

	assert_non_null(text);
	memset(text, 'a', n);
	start = g2_now_us();
	encode(tok, text, n, ids);
	start = g2_now_us() - start;
	free(text);
	return (double) start / 1000;
}

static inline bool
whole_life(const g2_tokenizer_files *files, uint32_t n_vocab, const char *text, size_t len,
		   g2_error *err)
{
	g2_buf		blob = {0};
	g2_tokenizer *tok = NULL;
	g2_ids		ids = {0};
	bool		ok;

	ok = g2_tokenizer_compile(files, n_vocab, &blob, err) &&
		g2_tokenizer_open(blob.data, blob.len, &tok, err) &&
		g2_tokenizer_encode(tok, text, len, 0, NULL, &ids, err);
	assert_true(ok || ids.len == 0);
	g2_free(ids.data);
	g2_tokenizer_close(tok);
	g2_buf_free(&blob);
	return ok;
}

/*
 * Every allocation of a tokenizer's life fails once.  PCRE2 does without its machine code when that
 * gets no memory, so a success may still have met the failure: it takes a row of them to be past
 * the last one.
 */
static inline void
check_out_of_memory(const g2_tokenizer_files *files, uint32_t n_vocab, const char *text,
					size_t len)
{
	g2_error	err;
	int			failures = 0,
				successes = 0;

	for (long n = 1; successes < 200; n++)
	{
		bool		ok;

		g2_alloc_fail_at(n);
		ok = whole_life(files, n_vocab, text, len, &err);
		g2_alloc_fail_at(0);
		if (!ok)
			assert_string_equal(g2_sqlstate(err.code), "53200");
		successes = ok ? successes + 1 : 0;
		failures += !ok;
	}
	assert_true(failures > 20);
}

#endif							/* TOKENIZER_FIXTURE_H */
