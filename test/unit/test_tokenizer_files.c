/*
 * test_tokenizer_files.c: bad tokenizer files with their exact codes, damaged blocks, no memory.
 */
#include "tokenizer_fixture.h"

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
		{"\"ab\":300", "has id 300, but vocab_size is 300"},
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
	refuse_vocab("{\"a\":0}", 7, 0, G2_E_BAD_JSON, "has id 0, but vocab_size is 0");
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
	g2_tokenizer_files f = {.vocab = {.path = "v"},.merges = {"m", "", 0}};
	g2_buf		blob = {0};
	g2_error	err;

	(void) state;
	assert_false(g2_tokenizer_compile(&f, 10, &blob, &err));
	assert_string_equal(g2_sqlstate(err.code), "58P01");
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
		{"#version: 0.2\na b\nx yz\n", "\"merges.txt\", line 3: the vocabulary has no piece "
		"\"yz\""},
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
		("\xEF\xBB\xBF" "a b\nb c\nab c\n\n"),
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

/* ---------------------------------------------------------------- faults */

static const char fault_text[] = "the the aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\xFF 12 b";

static void
test_out_of_memory(void **state)
{
	model		m;

	(void) state;
	make_small(&m);
	check_out_of_memory(&(g2_tokenizer_files) {
		.vocab = {"v", m.vocab.data, m.vocab.len}, .merges = {"m", m.merges.data, m.merges.len},
	}, m.next, fault_text, sizeof fault_text - 1);
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

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_vocabulary),
		cmocka_unit_test(test_missing_files),
		cmocka_unit_test(test_bad_merges),
		cmocka_unit_test(test_line_ends),
		cmocka_unit_test(test_out_of_memory),
		cmocka_unit_test(test_damaged_block),
	};

	return cmocka_run_group_tests_name("tokenizer_files", tests, NULL, NULL);
}
