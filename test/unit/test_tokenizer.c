/*
 * test_tokenizer.c: the byte-level BPE tokenizer, against vocabularies made here and, where the
 * directory of real models is given by GPT2_SHARED_MODELS, against GPT-2's own.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "bpe.h"
#include "json.h"
#include "pretokenizer.h"
#include "tokenizer.h"

/* ---------------------------------------------------------------- vocabularies made here */

typedef struct model
{
	g2_buf		vocab;			/* not closed by } until finish() */
	g2_buf		merges;
	uint32_t	next;			/* first free id */
	g2_buf		blob;
	g2_tokenizer *tok;
} model;

static uint64_t random_state = 1;

static uint32_t
random_below(uint32_t n)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t) (random_state >> 33) % n;
}

/* bytes_to_unicode of encoder.py, written again: the character of a byte. */
static void
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

static void
add_piece(model *m, const char *name, long id)
{
	g2_buf_printf(&m->vocab, "%s\"%s%s\": %ld", m->vocab.len ? ", " : "{",
				  *name == '"' || *name == '\\' ? "\\" : "", name, id);
	if (id >= (long) m->next)
		m->next = (uint32_t) id + 1;
}

/* The 256 bytes, not in their order: byte b has id (b * 7) % 256. */
static void
add_alphabet(model *m)
{
	for (int b = 0; b < 256; b++)
	{
		char		name[3];

		alphabet_char(b, name);
		add_piece(m, name, b * 7 % 256);
	}
}

static void
add_merge(model *m, const char *left, const char *right)
{
	char		joined[64];

	snprintf(joined, sizeof joined, "%s%s", left, right);
	add_piece(m, joined, m->next);
	g2_buf_printf(&m->merges, "%s %s\n", left, right);
}

static bool
try_compile(model *m, uint32_t n_vocab, g2_error *err)
{
	g2_tokenizer_files f = {"vocab.json", m->vocab.data, m->vocab.len,
	"merges.txt", m->merges.data, m->merges.len};

	memset(err, 0, sizeof *err);
	return g2_tokenizer_compile(&f, n_vocab, &m->blob, err);
}

static void
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
static void
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

static void
free_model(model *m)
{
	g2_tokenizer_close(m->tok);
	g2_buf_free(&m->vocab);
	g2_buf_free(&m->merges);
	g2_buf_free(&m->blob);
}

static void
encode(const g2_tokenizer *tok, const char *text, size_t len, g2_ids *ids)
{
	g2_error	err;

	ids->len = 0;
	if (!g2_tokenizer_encode(tok, text, len, 0, NULL, ids, &err))
		fail_msg("%s", err.message);
}

static void
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

/* ---------------------------------------------------------------- what it does */

static void
test_pieces(void **state)
{
	model		m;
	g2_ids		ids = {0};
	size_t		n;
	uint32_t	the,
				end;

	(void) state;
	make_small(&m);
	assert_int_equal(g2_tokenizer_size(m.tok), 256 + 11 + 1);
	the = g2_tokenizer_find(m.tok, " the", 4);
	assert_int_equal(the, 256 + 4);
	end = g2_tokenizer_find(m.tok, "<|endoftext|>", 13);
	assert_int_equal(end, 256 + 11);
	assert_true(g2_tokenizer_is_special(m.tok, end));
	assert_false(g2_tokenizer_is_special(m.tok, the));
	assert_false(g2_tokenizer_is_special(m.tok, 9999));
	assert_memory_equal(g2_tokenizer_piece(m.tok, the, &n), " the", 4);
	assert_int_equal(n, 4);
	assert_null(g2_tokenizer_piece(m.tok, 256 + 12, &n));
	assert_null(g2_tokenizer_piece(m.tok, G2_NO_TOKEN, &n));
	assert_int_equal(g2_tokenizer_find(m.tok, "", 0), G2_NO_TOKEN);
	assert_int_equal(g2_tokenizer_find(m.tok, NULL, 0), G2_NO_TOKEN);
	assert_int_equal(g2_tokenizer_find(m.tok, " th", 3), G2_NO_TOKEN);
	for (int b = 0; b < 256; b++)
	{
		char		byte = (char) b;

		assert_int_equal(g2_tokenizer_find(m.tok, &byte, 1), b * 7 % 256);
	}

	encode(m.tok, "the the<|endoftext|>", 20, &ids);
	assert_int_equal(ids.data[0], 256 + 2);
	assert_int_equal(ids.data[1], the);
	assert_int_equal(ids.len, 2 + 13);
	encode(m.tok, "", 0, &ids);
	assert_int_equal(ids.len, 0);
	encode(m.tok, NULL, 0, &ids);
	assert_int_equal(ids.len, 0);
	/* white space: the last of a run goes to the next piece */
	encode(m.tok, "a   a", 5, &ids);
	assert_int_equal(ids.len, 4);
	assert_int_equal(ids.data[3], g2_tokenizer_find(m.tok, " a", 2));
	/* an invalid byte parts what a merge would join */
	encode(m.tok, "a\xFF" "a", 3, &ids);
	assert_int_equal(ids.len, 3);
	g2_free(ids.data);
	free_model(&m);
}

/* Which pieces are special, and what their bytes are. */
static void
test_special(void **state)
{
	static const struct
	{
		const char *name;
		const char *bytes;
		bool		special;
	}			cases[] = {
		{"<pad>", "<pad>", true},
		{"<\xC3\xA9>", "<\xC3\xA9>", true}, /* not the byte 0xE9 */
		{"\xC3\xA9\xC3\xA9", "\xE9\xE9", true}, /* no merge makes it, but it is a piece */
		{"\xC4\xA0x", " x", true},
		{"\xEF\xBD\x9C\xC3\xA9", "\xEF\xBD\x9C\xC3\xA9", true}, /* outside the byte alphabet */
		{"\xE4\xB8\xAD", "\xE4\xB8\xAD", true},
		{"\xC4\xA0y", " y", false},
		{"<<\xC3\xA9>", "<<\xE9>", false},
		{"<\xC3\x83\xC2\xA9>", "<\xC3\x83\xC2\xA9>", true},
	};
	model		m = {0};
	uint32_t	first;

	(void) state;
	add_alphabet(&m);
	first = m.next;
	for (size_t i = 0; i < G2_LENGTH(cases); i++)
		add_piece(&m, cases[i].name, m.next);
	add_piece(&m, "\xC3\xA9>", m.next);
	add_piece(&m, "<<", m.next);
	g2_buf_printf(&m.merges, "\xC4\xA0 y\n\xC3\xA9 >\n< <\n<< \xC3\xA9>\n");
	finish(&m);
	for (uint32_t i = 0; i < G2_LENGTH(cases); i++)
	{
		size_t		n;
		const char *piece = g2_tokenizer_piece(m.tok, first + i, &n);

		assert_int_equal(n, strlen(cases[i].bytes));
		assert_memory_equal(piece, cases[i].bytes, n);
		assert_int_equal(g2_tokenizer_is_special(m.tok, first + i), cases[i].special);
		assert_int_equal(g2_tokenizer_find(m.tok, piece, n), first + i);
	}
	free_model(&m);
}

/* Two pieces may have the same bytes when one is a literal name: find prefers the other. */
static void
test_same_bytes(void **state)
{
	model		m = {0};

	(void) state;
	add_alphabet(&m);
	add_piece(&m, "\xE4\xB8\xAD", 256); /* U+4E2D itself */
	add_piece(&m, "\xC2\xB8\xC5\x83", 257);
	add_piece(&m, "\xC3\xA4\xC2\xB8\xC5\x83", 258);	/* its three bytes */
	g2_buf_printf(&m.merges, "\xC2\xB8 \xC5\x83\n\xC3\xA4 \xC2\xB8\xC5\x83\n");
	finish(&m);
	assert_int_equal(g2_tokenizer_find(m.tok, "\xE4\xB8\xAD", 3), 258);
	assert_true(g2_tokenizer_is_special(m.tok, 256));
	free_model(&m);
}

static void
test_unknown(void **state)
{
	model		m = {0};
	g2_ids		ids = {0};

	(void) state;
	add_piece(&m, "b", 0);
	add_piece(&m, "<unk>", 1);
	add_piece(&m, "a", 2);
	add_piece(&m, "ab", 3);
	g2_buf_printf(&m.merges, "a b\n");
	finish(&m);
	encode(m.tok, "ab!xba\xFF", 7, &ids);
	assert_int_equal(ids.len, 6);
	assert_memory_equal(ids.data, ((uint32_t[]) {3, 1, 1, 0, 2, 1}), 6 * sizeof(uint32_t));
	assert_true(g2_tokenizer_is_special(m.tok, 1));
	g2_free(ids.data);
	free_model(&m);
}

static void
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

static void
test_round_trip(void **state)
{
	static const char *const parts[] = {
		"a", "the", " ", "  ", "\n", "'s", "12", "\xC3\xA9", "\xE4\xB8\xAD", "\xF0\x9F\x98\x80",
		"\xC2\x85", "\xE3\x80\x80", "\xE1\xA0\x8E", "\xFF", "\xC3", "\xED\xA0\x80", "!", "aaaa",
	};
	model		m;
	char		bytes[700];
	g2_buf		text = {0};

	(void) state;
	make_small(&m);
	for (int b = 0; b < 256; b++)
		bytes[b] = (char) b;
	check_round_trip(m.tok, bytes, 256);
	for (int i = 0; i < 2000; i++)
	{
		size_t		n = random_below(i % 10 == 0 ? sizeof bytes : 40);

		for (size_t k = 0; k < n; k++)
			bytes[k] = (char) random_below(256);
		check_round_trip(m.tok, bytes, n);
		text.len = 0;
		for (uint32_t k = random_below(60); k > 0; k--)
			g2_buf_printf(&text, "%s", parts[random_below(G2_LENGTH(parts))]);
		check_round_trip(m.tok, text.data, text.len);
	}
	g2_buf_free(&text);
	free_model(&m);
}

/* ---------------------------------------------------------------- the order of merges */

#define REF_RULES 40

typedef struct rules
{
	char		left[REF_RULES][16];
	char		right[REF_RULES][16];
	int			n;
} rules;

/* encoder.py's bpe() as it stands there: words are lists of strings, rules are searched. */
static int
reference_bpe(const rules *r, const char *text, char word[][16])
{
	int			n = 0;

	for (; text[n]; n++)
		snprintf(word[n], 16, "%c", text[n]);
	for (;;)
	{
		int			best = r->n,
					to = 0;

		for (int i = 0; i + 1 < n; i++)
			for (int k = 0; k < best; k++)
				if (strcmp(word[i], r->left[k]) == 0 && strcmp(word[i + 1], r->right[k]) == 0)
					best = k;
		if (best == r->n)
			return n;
		for (int i = 0; i < n; to++)
		{
			char		joined[32];
			bool		hit = i + 1 < n && strcmp(word[i], r->left[best]) == 0 &&
			strcmp(word[i + 1], r->right[best]) == 0;

			snprintf(joined, sizeof joined, "%s%s", word[i], hit ? word[i + 1] : "");
			memcpy(word[to], joined, 16);
			i += hit ? 2 : 1;
		}
		n = to;
	}
}

/* Random rules over three letters, in an order that training would not give. */
static void
random_rules(rules *r, model *m)
{
	char		known[3 + REF_RULES][16] = {"a", "b", "c"};
	int			n_known = 3,
				order[REF_RULES];

	memset(r, 0, sizeof *r);
	for (int tries = 0; tries < 200 && r->n < REF_RULES; tries++)
	{
		const char *left = known[random_below((uint32_t) n_known)],
				   *right = known[random_below((uint32_t) n_known)];
		char		joined[32];
		bool		again = false;

		for (int k = 0; k < r->n; k++)
			again |= strcmp(r->left[k], left) == 0 && strcmp(r->right[k], right) == 0;
		if (again || strlen(left) + strlen(right) > 9)
			continue;
		memcpy(r->left[r->n], left, 16);
		memcpy(r->right[r->n], right, 16);
		r->n++;
		snprintf(joined, sizeof joined, "%s%s", left, right);
		again = false;
		for (int k = 0; k < n_known; k++)
			again |= strcmp(known[k], joined) == 0;
		if (again)
			continue;
		memcpy(known[n_known++], joined, 16);
		add_piece(m, joined, m->next);
	}
	for (int i = 0; i < r->n; i++)
		order[i] = i;
	for (int i = r->n - 1; i > 0; i--)
	{
		int			k = (int) random_below((uint32_t) i + 1),
					old = order[i];

		order[i] = order[k];
		order[k] = old;
	}
	for (int i = 0; i < r->n; i++)
	{
		rules		old = *r;

		if (order[i] > i)		/* swap, so that each rule still occurs once */
		{
			memcpy(r->left[i], old.left[order[i]], 16);
			memcpy(r->right[i], old.right[order[i]], 16);
			memcpy(r->left[order[i]], old.left[i], 16);
			memcpy(r->right[order[i]], old.right[i], 16);
		}
	}
	for (int i = 0; i < r->n; i++)
		g2_buf_printf(&m->merges, "%s %s\n", r->left[i], r->right[i]);
}

static void
test_order_of_merges(void **state)
{
	g2_ids		ids = {0};

	(void) state;
	for (int round = 0; round < 60; round++)
	{
		model		m = {0};
		rules		r;

		add_alphabet(&m);
		random_rules(&r, &m);
		finish(&m);
		for (int i = 0; i < 60; i++)
		{
			char		text[301],
						word[300][16];
			size_t		len = 1 + random_below(i % 3 == 0 ? 300 : 40);
			int			n;

			for (size_t k = 0; k < len; k++)
				text[k] = "aaabbc"[random_below(6)];
			text[len] = '\0';
			n = reference_bpe(&r, text, word);
			encode(m.tok, text, len, &ids);
			assert_int_equal(ids.len, n);
			for (int k = 0; k < n; k++)
				assert_int_equal(ids.data[k], g2_tokenizer_find(m.tok, word[k], strlen(word[k])));
		}
		free_model(&m);
	}
	g2_free(ids.data);
}

/* ---------------------------------------------------------------- bad files */

static void
refuse_vocab(const char *vocab, size_t len, uint32_t n_vocab, g2_code code, const char *part)
{
	model		m = {0};
	g2_error	err;

	g2_buf_append(&m.vocab, vocab, len);
	g2_buf_reserve(&m.vocab, 1);
	g2_buf_reserve(&m.merges, 1);
	assert_false(try_compile(&m, n_vocab, &err));
	if (!strstr(err.message, part))
		print_error("\"%s\", wanted \"%s\"\n", err.message, part);
	assert_string_equal(g2_sqlstate(err.code), g2_sqlstate(code));
	assert_non_null(strstr(err.message, part));
	assert_non_null(strstr(err.message, code == G2_E_BAD_JSON ? "vocab.json" : ""));
	assert_int_equal(m.blob.len, 0);
	free_model(&m);
}

/* The whole byte alphabet, ids 0..255, followed by more. */
static void
refuse_member(const char *more, uint32_t n_vocab, const char *part)
{
	model		m = {0};

	add_alphabet(&m);
	g2_buf_printf(&m.vocab, ",%s}", more);
	refuse_vocab(m.vocab.data, m.vocab.len, n_vocab, G2_E_BAD_JSON, part);
	free_model(&m);
}

static void
test_bad_vocabulary(void **state)
{
	static const struct
	{
		const char *member;
		const char *part;
	}			cases[] = {
		{"\"ab\":300", "has id 300, but the model has 300"},
		{"\"ab\":99999999999999999999", "has id 9223372036854775807"},
		{"\"ab\":4294967296", "has id 4294967296"},
		{"\"ab\":-1", "has id -1"},
		{"\"ab\":256.5", "integer expected"},
		{"\"ab\":256.0", "integer expected"},
		{"\"ab\":2e2", "integer expected"},
		{"\"ab\":\"256\"", "integer expected"},
		{"\"ab\":null", "integer expected"},
		{"\"ab\":true", "integer expected"},
		{"\"ab\":[256]", "integer expected"},
		{"\"ab\":255", "has id 255, which piece \""},
		{"\"ab\":256,\"cd\":256", "piece \"cd\" in \"vocab.json\" at byte"},
		{"\"a\":256", "piece \"a\" occurs twice in \"vocab.json\", again at byte"},
		{"\"\\u0061\":256", "piece \"a\" occurs twice"},
		{"\"ab\":257", "no piece with id 256, but has id 257"},
		{"\"ab\":256,\"cd\":299", "no piece with id 257, but has id 299"},
		{"\"\":256", "is empty"},
		{"\"\\ud800\":256", "lone surrogate"},
		{"\"\\udc00\":256", "lone surrogate"},
		{"\"\\ud800\\u0041\":256", "lone surrogate"},
		{"\"\\u0000\":256", "NUL character"},
		{"\"a\xFF\":256", "invalid UTF-8"},
		{"\"a\nb\":256", "control character"},
		{"\"ab\":256}{", "something follows"},
		{"\"ab\":256]", "comma or closing bracket"},
		{"\"ab\":256,", "key expected"},
		{"\"ab\" 256", "colon expected"},
		{"\"ab", "unfinished string"},
	};
	g2_buf		text = {0};

	(void) state;
	for (size_t i = 0; i < G2_LENGTH(cases); i++)
		refuse_member(cases[i].member, 300, cases[i].part);
	refuse_vocab("", 0, 300, G2_E_BAD_JSON, "at byte 0: object expected");
	refuse_vocab("[]", 2, 300, G2_E_BAD_JSON, "at byte 0: object expected");
	refuse_vocab("{}", 2, 300, G2_E_BAD_JSON, "has no pieces");
	refuse_vocab("{\"a\":0}", 7, 300, G2_E_BAD_JSON, "no piece for byte 0x00");
	refuse_vocab("{\"a\":0}", 7, 0, G2_E_BAD_JSON, "has id 0, but the model has 0");
	refuse_vocab("{\"\0\":0}", 7, 300, G2_E_BAD_JSON, "at byte 2: NUL character");
	refuse_vocab("{}", 2, G2_MAX_VOCAB + 1, G2_E_LIMIT, "vocabulary size 262145");

	/* one byte of the alphabet missing, with its name in the message */
	g2_buf_printf(&text, "{\"<|endoftext|>\":0");
	for (int b = 0; b < 255; b++)
	{
		char		name[3];

		alphabet_char(b < 200 ? b : b + 1, name);
		g2_buf_printf(&text, ",\"%s%s\":%d", *name == '"' || *name == '\\' ? "\\" : "", name,
					  b + 1);
	}
	g2_buf_printf(&text, "}");
	refuse_vocab(text.data, text.len, 300, G2_E_BAD_JSON, "no piece for byte 0xC8");

	/* a piece of 64 KiB and one of a byte more */
	for (size_t n = G2_MAX_PIECE; n <= G2_MAX_PIECE + 1; n++)
	{
		model		m = {0};
		size_t		at;

		add_alphabet(&m);
		g2_buf_printf(&m.vocab, ",\"");
		at = m.vocab.len;
		g2_buf_reserve(&m.vocab, n + 16);
		memset(m.vocab.data + at, 'x', n);
		m.vocab.len += n;
		g2_buf_printf(&m.vocab, "\":256");
		m.next = 257;
		if (n == G2_MAX_PIECE)
			finish(&m);
		else
		{
			g2_buf_printf(&m.vocab, "}");
			refuse_vocab(m.vocab.data, m.vocab.len, 257, G2_E_BAD_JSON, "longer than 65536 bytes");
		}
		free_model(&m);
	}

	/* nesting of 100,000 */
	text.len = 0;
	g2_buf_printf(&text, "{\"a\":");
	for (int i = 0; i < 100000; i++)
		g2_buf_append(&text, "[", 1);
	refuse_vocab(text.data, text.len, 300, G2_E_BAD_JSON, "at byte 5: integer expected");
	g2_buf_free(&text);
}

static void
test_missing_files(void **state)
{
	g2_tokenizer_files f = {.vocab_path = "v",.merges_path = "m",.vocab = "{}",.vocab_len = 2};
	g2_buf		blob = {0};
	g2_error	err;

	(void) state;
	assert_false(g2_tokenizer_compile(&f, 10, &blob, &err));
	assert_string_equal(g2_sqlstate(err.code), "58P01");
	assert_string_equal(err.message, "the tokenizer has no \"m\"");
	f.vocab = NULL;
	assert_false(g2_tokenizer_compile(&f, 10, &blob, &err));
	assert_string_equal(err.message, "the tokenizer has no \"v\"");
}

/* Compiles the alphabet, a few pieces and this merges.txt; NULL or the error's message. */
static const char *
compile_merges(const char *merges, size_t len, g2_buf *blob)
{
	static g2_error err;
	model		m = {0};
	bool		ok;

	add_alphabet(&m);
	g2_buf_printf(&m.vocab, ",\"ab\":256,\"abc\":257,\"bc\":258,\"\xE4\xB8\xAD\":259,"
				  "\"\xE4\xB8\xAD" "a\":260,\"#v\":261}");
	g2_buf_append(&m.merges, merges, len);
	g2_buf_reserve(&m.merges, 1);
	ok = try_compile(&m, 300, &err);
	if (blob)
	{
		blob->len = 0;
		g2_buf_append(blob, m.blob.data, m.blob.len);
	}
	free_model(&m);
	assert_true(ok || err.code == G2_E_BAD_FILE);
	return ok ? NULL : err.message;
}

static void
test_bad_merges(void **state)
{
	static const struct
	{
		const char *text;
		const char *part;
	}			cases[] = {
		{"#version: 0.2\na b\nx yz\n", "\"merges.txt\", line 3: the vocabulary has no piece \"yz\""},
		{"a b\nfoo c\n", "line 2: the vocabulary has no piece \"foo\""},
		{"a b\n\nb b\n", "line 3: the vocabulary has no piece \"bb\", which this merge makes"},
		{"a b\nb c\nab c\na b", "line 4: this merge occurs twice"},
		{"a b\na b\nb c\nb c\n", "line 2: this merge occurs twice"},
		{"ab\n", "line 1: expected two pieces"},
		{"a  b\n", "line 1: expected two pieces"},
		{" a b\n", "line 1: expected two pieces"},
		{"a b \n", "line 1: expected two pieces"},
		{"a b c\n", "line 1: expected two pieces"},
		{"a\tb\n", "line 1: expected two pieces"},
		{" \n", "line 1: expected two pieces"},
		{"a b\n#version: 0.2\n", "line 2: the vocabulary has no piece \"#version:\""},
		{"\xE4\xB8\xAD a\n", "line 1: piece \"\xE4\xB8\xAD\" is not made of"},
		{"\xFF b\n", "line 1: the vocabulary has no piece \"?\""},
		{"a b\r\r\n", "line 1: the vocabulary has no piece \"b?\""},
	};

	(void) state;
	for (size_t i = 0; i < G2_LENGTH(cases); i++)
	{
		const char *message = compile_merges(cases[i].text, strlen(cases[i].text), NULL);

		if (!message || !strstr(message, cases[i].part))
			print_error("%s: \"%s\"\n", cases[i].text, message ? message : "accepted");
		assert_true(message && strstr(message, cases[i].part));
	}
	assert_non_null(strstr(compile_merges("a b\na\0 b\n", 9, NULL), "line 2: the vocabulary has"));
}

static void
test_line_ends(void **state)
{
	static const char *const same[] = {
		"a b\nb c\nab c\n",
		"a b\nb c\nab c",
		"#version: 0.2\na b\nb c\nab c\n",
		"#version: 0.2\r\na b\r\nb c\r\nab c\r\n",
		"\xEF\xBB\xBF#version: 0.2\r\na b\r\nb c\r\nab c",
		"\xEF\xBB\xBF" "a b\nb c\nab c\n\n",
		"\na b\n\nb c\r\n\r\nab c\n\n\n",
	};
	g2_buf		first = {0},
				blob = {0};

	(void) state;
	assert_null(compile_merges(same[0], strlen(same[0]), &first));
	for (size_t i = 1; i < G2_LENGTH(same); i++)
	{
		assert_null(compile_merges(same[i], strlen(same[i]), &blob));
		assert_int_equal(blob.len, first.len);
		assert_memory_equal(blob.data, first.data, first.len);
	}
	assert_null(compile_merges("", 0, &blob));
	assert_null(compile_merges("#version: 0.2", 13, &blob));
	assert_null(compile_merges("# v", 3, &blob));	/* a merge, not a comment */
	g2_buf_free(&first);
	g2_buf_free(&blob);
}

/* ---------------------------------------------------------------- limits */

static void
test_max_ids(void **state)
{
	model		m;
	g2_ids		ids = {0};
	g2_error	err;
	g2_buf		text = {0};

	(void) state;
	make_small(&m);
	assert_true(g2_ids_push(&ids, 77));
	assert_true(g2_tokenizer_encode(m.tok, "x y z", 5, 5, NULL, &ids, &err));
	assert_int_equal(ids.len, 6);
	ids.len = 1;
	assert_false(g2_tokenizer_encode(m.tok, "x y z", 5, 4, NULL, &ids, &err));
	assert_string_equal(g2_sqlstate(err.code), "54000");
	assert_string_equal(err.message, "the text has more than 4 tokens");
	assert_int_equal(ids.len, 1);
	/* long pieces too, and far too long texts at once */
	for (int i = 0; i < 100; i++)
		g2_buf_printf(&text, "xyz");
	assert_true(g2_tokenizer_encode(m.tok, text.data, text.len, 300, NULL, &ids, &err));
	ids.len = 1;
	assert_false(g2_tokenizer_encode(m.tok, text.data, text.len, 299, NULL, &ids, &err));
	assert_int_equal(err.code, G2_E_TOO_LONG);
	assert_false(g2_tokenizer_encode(m.tok, text.data, text.len, 10, NULL, &ids, &err));
	assert_int_equal(err.code, G2_E_TOO_LONG);
	assert_int_equal(ids.len, 1);
	assert_int_equal(ids.data[0], 77);
	g2_free(ids.data);
	g2_buf_free(&text);
	free_model(&m);
}

static double
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

static void
test_long_piece(void **state)
{
	model		m;
	g2_ids		ids = {0};
	double		ms1,
				ms2;

	(void) state;
	make_small(&m);
	ms1 = encode_as(m.tok, 1000000, &ids);
	assert_int_equal(ids.len, 125000);
	for (size_t i = 0; i < ids.len; i++)
		assert_int_equal(ids.data[i], 256 + 6);
	ms2 = encode_as(m.tok, 2000000, &ids);
	print_message("'a' x 1 MB: %.0f ms, 2 MB: %.0f ms (x %.2f)\n", ms1, ms2, ms2 / ms1);
	assert_true(ms1 < 20000 && ms2 < 40000);
	/* over the limit of one piece */
	{
		size_t		n = G2_BPE_MAX_PIECE + 1;
		char	   *text = malloc(n);
		g2_error	err;

		assert_non_null(text);
		memset(text, 'a', n);
		assert_false(g2_tokenizer_encode(m.tok, text, n, 0, NULL, &ids, &err));
		assert_string_equal(g2_sqlstate(err.code), "53400");
		free(text);
	}
	g2_free(ids.data);
	free_model(&m);
}

/* A text of several windows, with characters and junk across their borders. */
static void
test_long_text(void **state)
{
	static const char unit[] = "the caf\xC3\xA9 \xE4\xB8\xAD\xF0\x9F\x98\x80  aaaaa\xFF\xC3 12!?\n";
	size_t		unit_len = sizeof unit - 1,
				n = 2 * G2_CUT_WINDOW / unit_len + 1000;
	model		m;
	g2_buf		text = {0};
	g2_ids		one = {0},
				all = {0};

	(void) state;
	make_small(&m);
	encode(m.tok, unit, unit_len, &one);
	for (size_t i = 0; i < n; i++)
		g2_buf_append(&text, unit, unit_len);
	assert_false(text.failed);
	encode(m.tok, text.data, text.len, &all);
	assert_int_equal(all.len, n * one.len);
	for (size_t i = 0; i < all.len; i += one.len)
		assert_memory_equal(all.data + i, one.data, one.len * sizeof *one.data);
	g2_free(one.data);
	g2_free(all.data);
	g2_buf_free(&text);
	free_model(&m);
}

static void *
cancel_soon(void *arg)
{
	usleep(20000);
	atomic_store((atomic_bool *) arg, true);
	return NULL;
}

static void
test_cancel(void **state)
{
	/* one piece each of the first three */
	static const char *const units[] = {"a", "x", " ", "a ", "\xFF", "1."};
	model		m;
	char	   *text = malloc(12000000);

	(void) state;
	assert_non_null(text);
	make_small(&m);
	for (size_t u = 0; u < G2_LENGTH(units); u++)
	{
		atomic_bool cancel = false;
		g2_ids		ids = {0};
		g2_error	err;
		pthread_t	thread;
		int64_t		start;
		bool		ok;
		size_t		n = u < 3 ? G2_BPE_MAX_PIECE : 12000000;

		for (size_t i = 0; i < n; i++)
			text[i] = units[u][i % strlen(units[u])];
		assert_int_equal(pthread_create(&thread, NULL, cancel_soon, &cancel), 0);
		start = g2_now_us();
		ok = g2_tokenizer_encode(m.tok, text, n, 0, &cancel, &ids, &err);
		pthread_join(thread, NULL);
		print_message("canceled after %.0f ms\n", (double) (g2_now_us() - start) / 1000);
		assert_false(ok);
		assert_string_equal(g2_sqlstate(err.code), "57014");
		assert_int_equal(ids.len, 0);
		g2_free(ids.data);
	}
	free(text);
	free_model(&m);
}

/* ---------------------------------------------------------------- faults */

static const char fault_text[] = "the the aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\xFF 12 b";

static bool
whole_life(const model *files, g2_error *err)
{
	g2_tokenizer_files f = {"v", files->vocab.data, files->vocab.len,
	"m", files->merges.data, files->merges.len};
	g2_buf		blob = {0};
	g2_tokenizer *tok = NULL;
	g2_ids		ids = {0};
	bool		ok;

	ok = g2_tokenizer_compile(&f, files->next, &blob, err) &&
		g2_tokenizer_open(blob.data, blob.len, &tok, err) &&
		g2_tokenizer_encode(tok, fault_text, sizeof fault_text - 1, 0, NULL, &ids, err);
	assert_true(ok || ids.len == 0);
	g2_free(ids.data);
	g2_tokenizer_close(tok);
	g2_buf_free(&blob);
	return ok;
}

/*
 * Every allocation fails once.  PCRE2 does without its machine code when that gets no memory, so
 * a success may still have met the failure: it takes a row of them to be past the last one.
 */
static void
test_out_of_memory(void **state)
{
	model		m;
	g2_error	err;
	int			failures = 0,
				successes = 0;

	(void) state;
	make_small(&m);
	for (long n = 1; successes < 200; n++)
	{
		bool		ok;

		g2_alloc_fail_at(n);
		ok = whole_life(&m, &err);
		g2_alloc_fail_at(0);
		if (!ok)
			assert_string_equal(g2_sqlstate(err.code), "53200");
		successes = ok ? successes + 1 : 0;
		failures += !ok;
	}
	assert_true(failures > 20);
	free_model(&m);
}

/* Uses everything; what comes out does not matter, only that it stays within its tables. */
static void
use_damaged(const char *data, size_t len)
{
	g2_tokenizer *tok;
	g2_ids		ids = {0};
	g2_error	err = {0};

	if (!g2_tokenizer_open(data, len, &tok, &err))
	{
		assert_string_equal(g2_sqlstate(err.code), "22P03");
		return;
	}
	if (g2_tokenizer_encode(tok, fault_text, sizeof fault_text - 1, 0, NULL, &ids, &err))
		for (size_t i = 0; i < ids.len; i++)
			assert_true(ids.data[i] < g2_tokenizer_size(tok));
	for (uint32_t id = 0; id <= g2_tokenizer_size(tok); id++)
	{
		size_t		n;
		const char *piece = g2_tokenizer_piece(tok, id, &n);

		if (piece)
			assert_true(g2_tokenizer_find(tok, piece, n) < g2_tokenizer_size(tok));
	}
	g2_free(ids.data);
	g2_tokenizer_close(tok);
}

static void
test_damaged_block(void **state)
{
	static const unsigned char masks[] = {0x01, 0x80, 0xFF};
	model		m;
	size_t		len;
	char	   *copy;
	g2_tokenizer *tok;
	g2_error	err;

	(void) state;
	make_small(&m);
	len = m.blob.len;
	copy = malloc(len + 8);
	assert_non_null(copy);
	for (size_t cut = 0; cut < len; cut++)
	{
		char	   *part = malloc(cut ? cut : 1);

		assert_non_null(part);
		memcpy(part, m.blob.data, cut);
		assert_false(g2_tokenizer_open(part, cut, &tok, &err));
		assert_int_equal(err.code, G2_E_BAD_FILE);
		free(part);
	}
	memcpy(copy, m.blob.data, len);
	assert_false(g2_tokenizer_open(copy, len + 1, &tok, &err));
	assert_int_equal(err.code, G2_E_BAD_FILE);
	copy = realloc(copy, len);
	for (size_t i = 0; i < len; i++)
		for (size_t k = 0; k < G2_LENGTH(masks); k++)
		{
			copy[i] ^= (char) masks[k];
			use_damaged(copy, len);
			copy[i] ^= (char) masks[k];
		}
	for (int i = 0; i < 20000; i++)
	{
		uint32_t	at = random_below((uint32_t) len / 4) * 4,
					value = random_below(2) ? random_below(300) : 0u - random_below(300);

		memcpy(copy + at, &value, sizeof value);
		use_damaged(copy, len);
		memcpy(copy + at, m.blob.data + at, sizeof value);
	}
	free(copy);
	free_model(&m);
}

/* ---------------------------------------------------------------- real models */

static bool
read_all(const char *name, g2_buf *out)
{
	const char *dir = getenv("GPT2_SHARED_MODELS");
	char		path[4096];
	FILE	   *file;
	size_t		n;

	if (!dir)
		return false;
	snprintf(path, sizeof path, "%s/%s", dir, name);
	file = fopen(path, "rb");
	if (!file)
		return false;
	while (g2_buf_reserve(out, 65536) && (n = fread(out->data + out->len, 1, 65536, file)) > 0)
		out->len += n;
	fclose(file);
	return !out->failed;
}

/* Skips the test where the real files are not there. */
static void
open_real(model *m, const char *folder, uint32_t n_vocab)
{
	char		name[256];
	g2_error	err;
	bool		found;

	memset(m, 0, sizeof *m);
	snprintf(name, sizeof name, "%s/vocab.json", folder);
	found = read_all(name, &m->vocab);
	snprintf(name, sizeof name, "%s/merges.txt", folder);
	if (!found || !read_all(name, &m->merges))
	{
		print_message("skipped: no %s in GPT2_SHARED_MODELS\n", folder);
		free_model(m);
		skip();
	}
	if (!try_compile(m, n_vocab, &err) ||
		!g2_tokenizer_open(m->blob.data, m->blob.len, &m->tok, &err))
		fail_msg("%s", err.message);
}

static bool
same_ids(const g2_tokenizer *tok, const char *text, const uint32_t *wanted, size_t n)
{
	g2_ids		ids = {0};
	bool		same;

	encode(tok, text, strlen(text), &ids);
	same = ids.len == n && (n == 0 || memcmp(ids.data, wanted, n * sizeof *wanted) == 0);
	if (!same)
		print_error("differs: \"%s\"\n", text);
	g2_free(ids.data);
	return same;
}

static void
test_gpt2_vectors(void **state)
{
	model		m;
	g2_buf		lines = {0};
	int			n = 0,
				right = 0;

	(void) state;
	open_real(&m, "gpt2", 50257);
	assert_true(read_all("gpt2/tokenizer_vectors.jsonl", &lines));
	for (char *p = lines.data, *end = p + lines.len, *lf; p < end; p = lf + 1, n++)
	{
		g2_error	err;
		cJSON	   *line,
				   *id;
		g2_ids		wanted = {0};

		lf = memchr(p, '\n', (size_t) (end - p));
		assert_non_null(lf);
		line = g2_json_parse("vectors", p, (size_t) (lf - p), true, &err);
		assert_non_null(line);
		cJSON_ArrayForEach(id, cJSON_GetObjectItem(line, "ids"))
			assert_true(g2_ids_push(&wanted, (uint32_t) id->valueint));
		right += same_ids(m.tok, cJSON_GetObjectItem(line, "text")->valuestring, wanted.data,
						  wanted.len);
		check_round_trip(m.tok, cJSON_GetObjectItem(line, "text")->valuestring,
						 strlen(cJSON_GetObjectItem(line, "text")->valuestring));
		g2_free(wanted.data);
		cJSON_Delete(line);
	}
	print_message("GPT-2 vectors: %d of %d\n", right, n);
	assert_true(n > 2000);
	assert_int_equal(right, n);
	g2_buf_free(&lines);
	free_model(&m);
}

static void
test_gguf_cases(void **state)
{
	static const char mark[] = "\n__ggml_vocab_test__\n";
	model		m;
	g2_buf		in = {0},
				out = {0};
	int			n = 0,
				right = 0;
	char	   *text,
			   *line;

	(void) state;
	open_real(&m, "gpt2", 50257);
	assert_true(read_all("gpt2/gguf/ggml-vocab-gpt-2.gguf.inp", &in));
	assert_true(read_all("gpt2/gguf/ggml-vocab-gpt-2.gguf.out", &out));
	g2_buf_append(&in, "", 1);
	g2_buf_append(&out, "", 1);
	for (text = in.data, line = out.data; text; n++)
	{
		char	   *next = strstr(text, mark),
				   *line_end = strchr(line, '\n'),
				   *p = line;
		g2_ids		wanted = {0};

		if (!next && !line_end)
			break;				/* what follows the last mark may be empty */
		if (next)
			*next = '\0';
		assert_non_null(line_end);
		*line_end = '\0';
		for (;;)
		{
			char	   *stop;
			unsigned long id = strtoul(p, &stop, 10);

			if (stop == p)
				break;
			assert_true(g2_ids_push(&wanted, (uint32_t) id));
			p = stop;
		}
		right += same_ids(m.tok, text, wanted.data, wanted.len);
		g2_free(wanted.data);
		text = next ? next + sizeof mark - 1 : NULL;
		line = line_end + 1;
	}
	print_message("GGUF cases: %d of %d\n", right, n);
	assert_true(n > 40);
	assert_int_equal(right, n);
	g2_buf_free(&in);
	g2_buf_free(&out);
	free_model(&m);
}

static void
test_gpt2_speed(void **state)
{
	model		m;
	g2_ids		ids = {0};
	g2_buf		text = {0};
	g2_error	err;
	int64_t		start = g2_now_us(),
				opened;
	double		ms1,
				ms2;
	g2_tokenizer *again;

	(void) state;
	open_real(&m, "gpt2", 50304);	/* a padded vocabulary */
	assert_int_equal(g2_tokenizer_size(m.tok), 50257);
	opened = g2_now_us();
	assert_true(g2_tokenizer_open(m.blob.data, m.blob.len, &again, &err));
	print_message("GPT-2: read, compiled, opened in %.0f ms, opened again in %.1f ms, %zu bytes\n",
				  (double) (opened - start) / 1000, (double) (g2_now_us() - opened) / 1000,
				  m.blob.len);
	g2_tokenizer_close(again);
	assert_int_equal(g2_tokenizer_find(m.tok, "<|endoftext|>", 13), 50256);
	for (uint32_t id = 0; id < 50257; id++)
	{
		size_t		n;
		const char *piece = g2_tokenizer_piece(m.tok, id, &n);

		assert_int_equal(g2_tokenizer_is_special(m.tok, id), id == 50256);
		assert_int_equal(g2_tokenizer_find(m.tok, piece, n), id);
	}
	ms1 = encode_as(m.tok, 1000000, &ids);
	ms2 = encode_as(m.tok, 2000000, &ids);
	print_message("'a' x 1 MB: %.0f ms, 2 MB: %.0f ms (x %.2f)\n", ms1, ms2, ms2 / ms1);
	assert_true(ms1 < 20000);
	while (text.len < 1000000)
		g2_buf_printf(&text, "The tokenizer's speed on plain English text, %zu bytes of it.\n",
					  text.len);
	start = g2_now_us();
	encode(m.tok, text.data, text.len, &ids);
	print_message("1 MB of words: %.0f ms, %zu tokens\n", (double) (g2_now_us() - start) / 1000,
				  ids.len);
	g2_free(ids.data);
	g2_buf_free(&text);
	free_model(&m);
}

static void
test_tiny(void **state)
{
	model		m;
	size_t		n;

	(void) state;
	open_real(&m, "tiny-hf", 21);
	/* " n" has no merge, so " newer" starts with its space */
	assert_true(same_ids(m.tok, " newer lowest", (uint32_t[]) {10, 9, 3, 2, 15, 14, 3, 5, 6}, 9));
	assert_true(same_ids(m.tok, "low lower", (uint32_t[]) {0, 1, 2, 14, 15}, 5));
	assert_true(same_ids(m.tok, "xe", (uint32_t[]) {19, 3}, 2));
	assert_true(g2_tokenizer_is_special(m.tok, 20));
	assert_memory_equal(g2_tokenizer_piece(m.tok, 17, &n), " newer", 6);
	assert_int_equal(n, 6);
	free_model(&m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_special),
		cmocka_unit_test(test_same_bytes),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_order_of_merges),
		cmocka_unit_test(test_bad_vocabulary),
		cmocka_unit_test(test_missing_files),
		cmocka_unit_test(test_bad_merges),
		cmocka_unit_test(test_line_ends),
		cmocka_unit_test(test_max_ids),
		cmocka_unit_test(test_long_piece),
		cmocka_unit_test(test_long_text),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_out_of_memory),
		cmocka_unit_test(test_damaged_block),
		cmocka_unit_test(test_gpt2_vectors),
		cmocka_unit_test(test_gguf_cases),
		cmocka_unit_test(test_gpt2_speed),
		cmocka_unit_test(test_tiny),
	};

	return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
