/*
 * test_tokenizer.c: the byte-level BPE tokenizer, against vocabularies made here: pieces, round
 * trips, and the order of merges.
 */
#include "tokenizer_fixture.h"

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
	};

	return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
