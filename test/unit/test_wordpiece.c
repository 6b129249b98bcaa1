/*
 * test_wordpiece.c: BERT vocabularies and character vocabularies, made here and, where the
 * directory of real models is given by GPT2_SHARED_MODELS, those of Chinese models.
 */
#include "tokenizer_fixture.h"

#include "json.h"
#include "tokenizer_golden.h"

static const char small_vocab[] =
	"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhello\nworld\n##ing\n##s\nplay\n,\n!\n'\n##y\nun\n"
	"##aff\n##able\ncafe\n\xE4\xB8\xAD\n\xE6\x96\x87\n\xEF\xBC\x8C\n\xE3\x80\x82\n\xE3\x81\x82\n"
	"##\xE3\x81\x84\n\xD8\xB3\n##\xD9\x84\xD8\xA7\xD9\x85\n\xE1\x84\x92\n##\xE1\x85\xA1\n"
	"##\xE1\x86\xAB\n\xF0\x9F\x98\x80\n##";

static void
make_words(model *m, const char *text, size_t len, bool lower)
{
	g2_error	err;
	g2_tokenizer_files f = {.words = {"vocab.txt", text, len},.wordpiece = {lower, lower, true}};

	memset(m, 0, sizeof *m);
	if (!g2_tokenizer_compile(&f, 30000, &m->blob, &err) ||
		!g2_tokenizer_open(m->blob.data, m->blob.len, &m->tok, &err))
		fail_msg("%s", err.message);
}

static void
make_characters(model *m, const char *json)
{
	g2_error	err;
	g2_tokenizer_files f = {.vocab = {"vocab.json", json, strlen(json)}};

	memset(m, 0, sizeof *m);
	if (!g2_tokenizer_compile(&f, 100, &m->blob, &err) ||
		!g2_tokenizer_open(m->blob.data, m->blob.len, &m->tok, &err))
		fail_msg("%s", err.message);
}

static void
decodes_to(const g2_tokenizer *tok, const g2_ids *ids, const char *wanted)
{
	g2_decoder	decoder = {0};
	g2_buf		out = {0};

	for (size_t i = 0; i < ids->len; i++)
		assert_true(g2_tokenizer_decode(tok, &decoder, ids->data[i], &out));
	g2_buf_append(&out, "", 1);
	assert_string_equal(out.data, wanted);
	g2_buf_free(&out);
}

static void
test_words(void **state)
{
	static const struct
	{
		const char *text;
		const char *pieces;
		const char *decoded;
	}			cases[] = {
		{"hello  World", "hello world", "hello world"},
		{"Hello, playing plays!", "hello , play ##ing play ##s !", "hello, playing plays!"},
		{"unaffable unaffables", "un ##aff ##able un ##aff ##able ##s", "unaffable unaffables"},
		{"unafraid hello", "[UNK] hello", "hello"},
		{"CAF\xC3\x89 caf\xC3\xA9 cafe\xCC\x81", "cafe cafe cafe", "cafe cafe cafe"},
		{"play'play", "play ' play", "play'play"},
		{"[CLS] hello[MASK]", "[UNK] [UNK] [UNK] hello [UNK] [UNK] [UNK]", "hello"},
		{"\xE4\xB8\xAD\xE6\x96\x87hello\xEF\xBC\x8C\xE4\xB8\xAD hello world\xE3\x80\x82",
			"\xE4\xB8\xAD \xE6\x96\x87 hello \xEF\xBC\x8C \xE4\xB8\xAD hello world \xE3\x80\x82",
		"\xE4\xB8\xAD\xE6\x96\x87hello\xEF\xBC\x8C\xE4\xB8\xADhello world\xE3\x80\x82"},
		{"\xE3\x81\x82\xE3\x81\x84\xE4\xB8\xAD", "\xE3\x81\x82 ##\xE3\x81\x84 \xE4\xB8\xAD",
		"\xE3\x81\x82\xE3\x81\x84\xE4\xB8\xAD"},
		{"\xD8\xB3\xD9\x84\xD8\xA7\xD9\x85 \xD8\xB3",
			"\xD8\xB3 ##\xD9\x84\xD8\xA7\xD9\x85 \xD8\xB3",
		"\xD8\xB3\xD9\x84\xD8\xA7\xD9\x85 \xD8\xB3"},
		/* Hangul syllables fall into their letters */
		{"\xED\x95\x9C hello", "\xE1\x84\x92 ##\xE1\x85\xA1 ##\xE1\x86\xAB hello",
		"\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB hello"},
		{"\xF0\x9F\x98\x80 hello\xF0\x9F\x98\x80", "\xF0\x9F\x98\x80 [UNK]", "\xF0\x9F\x98\x80"},
		/* control characters vanish, other white space is a space, junk is no character */
		{"hel\x01lo\tworld\xC2\xA0hello\xE2\x80\xA8world", "hello world hello world",
		"hello world hello world"},
		{"hello\xFF\xC3 world\xED\xA0\x80", "hello world", "hello world"},
		{"#", "[UNK]", ""},
		{" \n", "", ""},
	};
	model		m;
	g2_ids		ids = {0};

	(void) state;
	make_words(&m, small_vocab, sizeof small_vocab - 1, true);
	assert_string_equal(g2_tokenizer_name(m.tok), "wordpiece");
	for (size_t i = 0; i < G2_LENGTH(cases); i++)
	{
		g2_buf		pieces = {0};

		encode(m.tok, cases[i].text, strlen(cases[i].text), &ids);
		for (size_t k = 0; k < ids.len; k++)
		{
			size_t		n;
			const char *piece = g2_tokenizer_piece(m.tok, ids.data[k], &n);

			g2_buf_printf(&pieces, "%s%.*s", k ? " " : "", (int) n, piece);
		}
		g2_buf_append(&pieces, "", 1);
		assert_string_equal(pieces.data, cases[i].pieces);
		decodes_to(m.tok, &ids, cases[i].decoded);
		g2_buf_free(&pieces);
	}
	g2_free(ids.data);
	free_model(&m);
}

/* What a model adds to a prompt reads on from it. */
static void
test_after_prompt(void **state)
{
	model		m;
	g2_buf		out = {0};
	g2_decoder	decoder;
	const uint32_t prompt[] = {5, 1, 4},	/* hello [UNK] [MASK] */
				chinese[] = {18};

	(void) state;
	make_words(&m, small_vocab, sizeof small_vocab - 1, true);
	decoder = g2_tokenizer_after(m.tok, prompt, 3);
	assert_true(g2_tokenizer_decode(m.tok, &decoder, 9, &out));
	assert_true(g2_tokenizer_decode(m.tok, &decoder, 7, &out));
	assert_true(g2_tokenizer_decode(m.tok, &decoder, 3, &out));
	assert_true(g2_tokenizer_decode(m.tok, &decoder, 29999, &out));
	assert_int_equal(out.len, 8);
	assert_memory_equal(out.data, " playing", 8);
	out.len = 0;
	decoder = g2_tokenizer_after(m.tok, chinese, 1);
	assert_true(g2_tokenizer_decode(m.tok, &decoder, 5, &out));
	decoder = g2_tokenizer_after(m.tok, NULL, 0);
	assert_true(g2_tokenizer_decode(m.tok, &decoder, 5, &out));
	assert_int_equal(out.len, 10);
	assert_memory_equal(out.data, "hellohello", 10);
	g2_buf_free(&out);
	free_model(&m);
}

static void
test_hidden(void **state)
{
	model		m;
	uint32_t	n;
	const uint32_t *hidden;

	(void) state;
	make_words(&m, small_vocab, sizeof small_vocab - 1, true);
	hidden = g2_tokenizer_hidden(m.tok, &n);
	assert_int_equal(n, 5);
	for (uint32_t i = 0; i < n; i++)
	{
		assert_int_equal(hidden[i], i);
		assert_true(g2_tokenizer_is_special(m.tok, i));
	}
	assert_int_equal(g2_tokenizer_find(m.tok, "[SEP]", 5), 3);
	free_model(&m);
	make_small(&m);
	(void) g2_tokenizer_hidden(m.tok, &n);
	assert_int_equal(n, 0);
	free_model(&m);
}

/* A word of 100 characters is looked up, a longer one is unknown at once. */
static void
test_long_words(void **state)
{
	static const char vocab[] = "[UNK]\n\xC3\xA9\n##\xC3\xA9";
	model		m;
	g2_ids		ids = {0};
	g2_error	err;
	g2_buf		text = {0};

	(void) state;
	make_words(&m, vocab, sizeof vocab - 1, false);
	for (int i = 0; i < 100; i++)
		g2_buf_append(&text, "\xC3\xA9", 2);
	encode(m.tok, text.data, text.len, &ids);
	assert_int_equal(ids.len, 100);
	ids.len = 0;
	assert_true(g2_tokenizer_encode(m.tok, text.data, text.len, 100, NULL, &ids, &err));
	ids.len = 0;
	assert_false(g2_tokenizer_encode(m.tok, text.data, text.len, 99, NULL, &ids, &err));
	assert_string_equal(g2_sqlstate(err.code), "54000");
	assert_int_equal(ids.len, 0);
	g2_buf_append(&text, "\xC3\xA9", 2);
	encode(m.tok, text.data, text.len, &ids);
	assert_int_equal(ids.len, 1);
	assert_int_equal(ids.data[0], 0);
	g2_buf_free(&text);
	g2_free(ids.data);
	free_model(&m);
}

static void
test_speed(void **state)
{
	model		m;
	g2_ids		ids = {0};
	g2_buf		text = {0};
	double		ms[2];

	(void) state;
	make_words(&m, small_vocab, sizeof small_vocab - 1, true);
	for (int i = 0; i < 2; i++)
	{
		int64_t		start;

		while (text.len < (i + 1) * 1000000u)
			g2_buf_printf(&text, "hello unaffable \xE4\xB8\xAD\xE6\x96\x87\xEF\xBC\x8C");
		start = g2_now_us();
		encode(m.tok, text.data, text.len, &ids);
		ms[i] = (double) (g2_now_us() - start) / 1000;
	}
	print_message("WordPiece, 1 MB: %.0f ms, 2 MB: %.0f ms\n", ms[0], ms[1]);
	assert_true(ms[0] < 20000 && ms[1] < 40000);
	memset(text.data, 'a', text.len);
	encode(m.tok, text.data, text.len, &ids);
	assert_int_equal(ids.len, 1);
	g2_buf_free(&text);
	g2_free(ids.data);
	free_model(&m);
}

static void
refuse_words(const char *text, size_t len, uint32_t n_vocab, const char *state, const char *part)
{
	g2_tokenizer_files f = {.words = {"vocab.txt", text, len}};
	g2_buf		blob = {0};
	g2_error	err;

	assert_false(g2_tokenizer_compile(&f, n_vocab, &blob, &err));
	if (!strstr(err.message, part))
		print_error("\"%s\", wanted \"%s\"\n", err.message, part);
	assert_string_equal(g2_sqlstate(err.code), state);
	assert_non_null(strstr(err.message, part));
	assert_non_null(strstr(err.message, "vocab.txt"));
	g2_buf_free(&blob);
}

static void
test_bad_words(void **state)
{
	(void) state;
	refuse_words("", 0, 10, "22032", "has no pieces");
	refuse_words("\n\r\n", 3, 10, "22032", "has no pieces");
	refuse_words("a\nb", 3, 10, "22032", "has no piece \"[UNK]\"");
	refuse_words("[UNK]\na\n\nb", 10, 10, "22032", "at line 3 is empty");
	refuse_words("[UNK]\na\nb\na\n", 12, 10, "22032",
				 "\"a\" occurs twice in \"vocab.txt\", again at line 4");
	refuse_words("[UNK]\na\nb\n", 10, 2, "22032", "at line 3 has id 2, but vocab_size is 2");
	refuse_words("[UNK]\n\xFF\n", 8, 10, "22P03", "not valid UTF-8 at byte 6");
	refuse_words("[UNK]\n\xED\xA0\x80\n", 10, 10, "22P03", "not valid UTF-8 at byte 6");
}

static void
test_line_ends(void **state)
{
	static const char windows[] = "\xEF\xBB\xBF[UNK]\r\na\r\n\xE2\x80\xA8\r\n\r\n",
				unix_lines[] = "[UNK]\na\n\xE2\x80\xA8";
	model		m,
				n;

	(void) state;
	make_words(&m, windows, sizeof windows - 1, true);
	make_words(&n, unix_lines, sizeof unix_lines - 1, true);
	assert_int_equal(m.blob.len, n.blob.len);
	assert_memory_equal(m.blob.data, n.blob.data, m.blob.len);
	assert_int_equal(g2_tokenizer_find(m.tok, "\xE2\x80\xA8", 3), 2);
	free_model(&m);
	free_model(&n);
}

/* ---------------------------------------------------------------- characters */

static void
test_characters(void **state)
{
	model		m;
	g2_ids		ids = {0};
	g2_error	err;

	(void) state;
	make_characters(&m, "{\"<end>\": 0, \"a\": 1, \"\\n\": 2, \" \": 3, \"\xE4\xB8\xAD\": 4, "
					"\"\\ud83d\\ude00\": 5}");
	assert_string_equal(g2_tokenizer_name(m.tok), "characters");
	encode(m.tok, "a \xF0\x9F\x98\x80\n\xE4\xB8\xAD" "a", 11, &ids);
	assert_int_equal(ids.len, 6);
	assert_memory_equal(ids.data, ((uint32_t[]) {1, 3, 5, 2, 4, 1}), 6 * sizeof(uint32_t));
	decodes_to(m.tok, &ids, "a \xF0\x9F\x98\x80\n\xE4\xB8\xAD" "a");
	assert_true(g2_tokenizer_is_special(m.tok, 0));
	ids.len = 0;
	assert_false(g2_tokenizer_encode(m.tok, "ab", 2, 0, NULL, &ids, &err));
	assert_string_equal(g2_sqlstate(err.code), "22023");
	assert_string_equal(err.message, "the model's vocabulary lacks a character of the text");
	assert_int_equal(ids.len, 0);
	free_model(&m);

	make_characters(&m, "{\"a\": 0, \"<unk>\": 1}");
	encode(m.tok, "ab\xFF" "a", 4, &ids);
	assert_int_equal(ids.len, 4);
	assert_memory_equal(ids.data, ((uint32_t[]) {0, 1, 1, 0}), 4 * sizeof(uint32_t));
	decodes_to(m.tok, &ids, "aa");
	g2_free(ids.data);
	free_model(&m);
}

static void
test_bad_characters(void **state)
{
	static const char json[] = "{\"a\": 0, \"bc\": 1}";
	g2_tokenizer_files f = {.vocab = {"vocab.json", json, sizeof json - 1},
	.merges = {.path = "merges.txt"}};
	g2_buf		blob = {0};
	g2_error	err;
	model		bytes = {0};

	(void) state;
	assert_false(g2_tokenizer_compile(&f, 10, &blob, &err));
	assert_string_equal(g2_sqlstate(err.code), "58P01");
	assert_string_equal(err.message, "the tokenizer has no \"merges.txt\"");
	assert_non_null(strstr(err.detail, "piece \"bc\" at byte 9 is no single one"));
	/* single characters all, but those of the bytes */
	add_alphabet(&bytes);
	g2_buf_printf(&bytes.vocab, "}");
	f.vocab = (g2_tokenizer_file) {"vocab.json", bytes.vocab.data, bytes.vocab.len};
	assert_false(g2_tokenizer_compile(&f, 300, &blob, &err));
	assert_string_equal(g2_sqlstate(err.code), "58P01");
	free_model(&bytes);
	g2_buf_free(&blob);
}

/* ---------------------------------------------------------------- faults */

static void
use_damaged(const char *data, size_t len)
{
	static const char text[] = "Hello, unaffables \xE4\xB8\xAD\xE6\x96\x87 caf\xC3\xA9 ##ing\xFF";
	g2_tokenizer *tok;
	g2_ids		ids = {0};
	g2_buf		out = {0};
	g2_decoder	decoder = {0};
	g2_error	err = {0};

	if (!g2_tokenizer_open(data, len, &tok, &err))
	{
		assert_string_equal(g2_sqlstate(err.code), "22P03");
		return;
	}
	if (g2_tokenizer_encode(tok, text, sizeof text - 1, 0, NULL, &ids, &err))
		for (size_t i = 0; i < ids.len; i++)
			assert_true(ids.data[i] < g2_tokenizer_size(tok));
	for (uint32_t id = 0; id <= g2_tokenizer_size(tok); id++)
		assert_true(g2_tokenizer_decode(tok, &decoder, id, &out));
	g2_free(ids.data);
	g2_buf_free(&out);
	g2_tokenizer_close(tok);
}

static void
test_damaged_block(void **state)
{
	static const unsigned char masks[] = {0x01, 0x02, 0x80, 0xFF};
	model		m;
	char	   *copy;

	(void) state;
	make_words(&m, small_vocab, sizeof small_vocab - 1, true);
	for (size_t cut = 0; cut < m.blob.len; cut++)
	{
		char	   *part = malloc(cut ? cut : 1);

		assert_non_null(part);
		memcpy(part, m.blob.data, cut);
		use_damaged(part, cut);
		free(part);
	}
	copy = malloc(m.blob.len);
	assert_non_null(copy);
	memcpy(copy, m.blob.data, m.blob.len);
	for (size_t i = 0; i < m.blob.len; i++)
		for (size_t k = 0; k < G2_LENGTH(masks); k++)
		{
			copy[i] ^= (char) masks[k];
			use_damaged(copy, m.blob.len);
			copy[i] ^= (char) masks[k];
		}
	free(copy);
	free_model(&m);
}

static void
test_out_of_memory(void **state)
{
	static const char text[] = "Hello playing \xE4\xB8\xAD\xE6\x96\x87, caf\xC3\xA9";
	const g2_tokenizer_files f = {.words = {"v", small_vocab, sizeof small_vocab - 1},
	.wordpiece = {true, true, true}};

	(void) state;
	check_out_of_memory(&f, 100, text, sizeof text - 1);
}

/* ---------------------------------------------------------------- real models */

static void
check_real(const char *file, const char *key, bool lower, int at_least)
{
	model		m;
	g2_buf		text = {0},
				lines = {0};

	if (!golden_read(file, &text) || !golden_read("chinese/tokenizer_vectors.jsonl", &lines))
	{
		print_message("skipped: no %s in GPT2_SHARED_MODELS\n", file);
		g2_buf_free(&text);
		skip();
	}
	make_words(&m, text.data, text.len, lower);
	golden_check(m.tok, &lines, key, at_least);
	g2_buf_free(&text);
	g2_buf_free(&lines);
	free_model(&m);
}

static void
test_chinese(void **state)
{
	(void) state;
	check_real("chinese/vocab.txt", "ids", true, 290);
	check_real("chinese/vocab.txt", "ids_cased", false, 290);
	check_real("chinese/vocab_small.txt", "ids_small", true, 290);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_after_prompt),
		cmocka_unit_test(test_hidden),
		cmocka_unit_test(test_long_words),
		cmocka_unit_test(test_speed),
		cmocka_unit_test(test_bad_words),
		cmocka_unit_test(test_line_ends),
		cmocka_unit_test(test_characters),
		cmocka_unit_test(test_bad_characters),
		cmocka_unit_test(test_damaged_block),
		cmocka_unit_test(test_out_of_memory),
		cmocka_unit_test(test_chinese),
	};

	return cmocka_run_group_tests_name("wordpiece", tests, NULL, NULL);
}
