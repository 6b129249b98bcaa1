/*
 * test_tokenizer_json.c: tokenizer.json against Hugging Face's tokenizers (the vectors that
 * test/vectors/make_tokenizers.py makes), what is refused, no memory.
 */
#include "tokenizer_golden.h"

#define VECTORS "test/vectors/data/tokenizers"

static bool
compile_json(const char *json, size_t len, uint32_t n_vocab, model *m, g2_error *err)
{
	g2_tokenizer_files f = {.json = {"tokenizer.json", json, len}};

	memset(m, 0, sizeof *m);
	memset(err, 0, sizeof *err);
	return g2_tokenizer_compile(&f, n_vocab, &m->blob, err) &&
		g2_tokenizer_open(m->blob.data, m->blob.len, &m->tok, err);
}

static void
test_vectors(void **state)
{
	static const struct
	{
		const char *name;
		const char *kind;
	}			cases[] = {
		{"gpt2", "gpt2-bpe"}, {"prefix", "gpt2-bpe"}, {"split", "gpt2-bpe"},
		{"digits", "gpt2-bpe"}, {"compat", "gpt2-bpe"}, {"uncased", "wordpiece"},
		{"cased", "wordpiece"}, {"accents", "wordpiece"}, {"words", "words"}, {"spaces", "words"},
	};
	g2_buf		lines = {0};

	(void) state;
	assert_true(golden_read_from(VECTORS, "texts.jsonl", &lines));
	for (size_t i = 0; i < G2_LENGTH(cases); i++)
	{
		char		name[64];
		g2_buf		json = {0};
		model		m;
		g2_error	err;

		snprintf(name, sizeof name, "%s.json", cases[i].name);
		assert_true(golden_read_from(VECTORS, name, &json));
		if (!compile_json(json.data, json.len, 1000, &m, &err))
			fail_msg("%s: %s", name, err.message);
		assert_string_equal(g2_tokenizer_name(m.tok), cases[i].kind);
		golden_check(m.tok, &lines, cases[i].name, 160);
		g2_buf_free(&json);
		free_model(&m);
	}
	g2_buf_free(&lines);
}

/* A special token that was added to the tokenizer and not to the model is left out. */
static void
test_no_row(void **state)
{
	static const char json[] = "{\"added_tokens\":[{\"id\":7,\"content\":\"<pad>\","
		"\"special\":true},{\"id\":2,\"content\":\"<end>\",\"special\":true}],"
		"\"model\":{\"type\":\"WordLevel\",\"unk_token\":\"u\",\"vocab\":{\"a\":0,\"u\":1}}}";
	uint32_t	ignored = 0;
	g2_tokenizer_files f = {.json = {"tokenizer.json", json, sizeof json - 1},.ignored = &ignored};
	model		m = {0};
	g2_error	err;

	(void) state;
	assert_true(g2_tokenizer_compile(&f, 3, &m.blob, &err));
	assert_true(g2_tokenizer_open(m.blob.data, m.blob.len, &m.tok, &err));
	assert_int_equal(ignored, 7);
	assert_int_equal(g2_tokenizer_size(m.tok), 3);
	assert_int_equal(g2_tokenizer_find(m.tok, "<pad>", 5), G2_NO_TOKEN);
	assert_int_equal(g2_tokenizer_find(m.tok, "<end>", 5), 2);
	/* with a row for it, it leaves a hole */
	assert_false(g2_tokenizer_compile(&f, 8, &m.blob, &err));
	assert_non_null(strstr(err.message, "has no piece with id 3, but has id 7"));
	free_model(&m);
}

/* The same vocabulary and merges as files of their own make the same tokenizer. */
static void
test_round_trip(void **state)
{
	static const char text[] = "The printer doesn\xE2\x80\x99t print \xE4\xB8\xAD\xE6\x96\x87 "
		"\xED\x95\x9C\xEA\xB8\x80 \xD8\xB3\xD9\x84\xD8\xA7\xD9\x85 "
		"\xF0\x9F\x91\x8D\xF0\x9F\x8F\xBD \xE3\x83\x97\xE3\x83\xAA\n\xFF\xC3 end";
	g2_buf		json = {0},
				out = {0};
	g2_decoder	decoder = {0};
	g2_ids		ids = {0};
	model		m;
	g2_error	err;

	(void) state;
	assert_true(golden_read_from(VECTORS, "gpt2.json", &json));
	assert_true(compile_json(json.data, json.len, 1000, &m, &err));
	encode(m.tok, text, sizeof text - 1, &ids);
	for (size_t i = 0; i < ids.len; i++)
		assert_true(g2_tokenizer_decode(m.tok, &decoder, ids.data[i], &out));
	assert_int_equal(out.len, sizeof text - 1);
	assert_memory_equal(out.data, text, out.len);
	assert_true(g2_tokenizer_is_special(m.tok, g2_tokenizer_find(m.tok, "<|endoftext|>", 13)));
	g2_free(ids.data);
	g2_buf_free(&out);
	g2_buf_free(&json);
	free_model(&m);
}

/* ---------------------------------------------------------------- what is refused */

#define BERT "\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":0,\"a\":1,\"##b\":2}}"
#define WORDS "\"model\":{\"type\":\"WordLevel\",\"unk_token\":\"u\",\"vocab\":{\"u\":0,\"a\":1}}"

static void
test_refused(void **state)
{
	static const struct
	{
		const char *json;
		const char *state;
		const char *part;
	}			cases[] = {
		{"", "22032", "at byte 0: unexpected end"},
		{"[]", "22032", "object expected"},
		{"{", "22032", "key expected"},
		{"{} x", "22032", "something follows"},
		{"{}", "22032", "\"model\" is missing in \"tokenizer.json\""},
		{"{\"model\":null}", "22032", "object expected"},
		{"{\"model\":{}}", "22032", "\"vocab\" is missing"},
		{"{" BERT "," BERT "}", "22032", "key \"model\" occurs twice"},
		{"{\"model\":{\"type\":1,\"vocab\":{\"a\":0}}}", "22032", "\"type\" in"},
		{"{\"model\":{\"type\":\"BPE\",\"type\":\"BPE\"}}", "22032", "key \"type\" occurs twice"},
		{"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",0.0]]}}", "0A000",
		"model \"Unigram\""},
		{"{\"model\":{\"type\":\"WordLevel\",\"vocab\":[\"a\"]}}", "22032", "object expected"},
		{"{\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":20}}}", "22032", "vocab_size is 10"},
		{"{\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":1}}}", "22032", "no piece with id 0"},
		{"{\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":0,\"a\":1}}}", "22032",
		"occurs twice"},
		{"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":0}}}", "22032",
		"has no piece \"[UNK]\", its unk_token"},
		{"{\"model\":{\"type\":\"WordPiece\",\"max_input_chars_per_word\":0,"
			"\"vocab\":{\"[UNK]\":0}}}", "22032", "from 1 to 10000"},
		{"{\"model\":{\"type\":\"WordPiece\",\"continuing_subword_prefix\":\"\","
			"\"vocab\":{\"[UNK]\":0}}}", "0A000", "continuing_subword_prefix"},
		{"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}", "0A000",
		"BPE without the pre_tokenizer \"ByteLevel\""},
		{"{\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\","
			"\"byte_fallback\":true,\"vocab\":{\"a\":0},\"merges\":[]}}", "0A000", "byte_fallback"},
		{"{\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\","
			"\"end_of_word_suffix\":\"</w>\",\"vocab\":{\"a\":0},\"merges\":[]}}", "0A000",
		"end_of_word_suffix"},
		{"{\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\","
			"\"dropout\":0.1,\"vocab\":{\"a\":0},\"merges\":[]}}", "0A000", "dropout"},
		{"{\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\","
			"\"vocab\":{\"a\":0},\"merges\":[]}}", "22032", "no piece for byte 0x00"},
		{"{\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\","
			"\"unk_token\":\"u\",\"vocab\":{\"a\":0,\"u\":1},\"merges\":[\"a b\"]}}", "22P03",
		"merge 1: the vocabulary has no piece \"b\""},
		{"{\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\","
			"\"unk_token\":\"u\",\"vocab\":{\"a\":0,\"u\":1},\"merges\":[[\"a\"]]}}", "22P03",
		"merge 1: expected two pieces"},
		{"{\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\","
			"\"unk_token\":\"u\",\"vocab\":{\"a\":0,\"u\":1},\"merges\":[7]}}", "22032",
		"string expected"},
		{"{\"pre_tokenizer\":{\"type\":\"Metaspace\"}," WORDS "}", "0A000",
		"pre_tokenizer \"Metaspace\""},
		{"{\"pre_tokenizer\":{\"type\":\"ByteLevel\"}," WORDS "}", "0A000", "\"ByteLevel\""},
		{"{\"pre_tokenizer\":{}," WORDS "}", "22032", "\"type\" is missing"},
		{"{\"pre_tokenizer\":7," WORDS "}", "22032", "not in a JSON object"},
		{"{\"pre_tokenizer\":{\"type\":\"Split\"}," WORDS "}", "22032", "not in a JSON object"},
		{"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},"
			"\"behavior\":\"Isolated\"}," WORDS "}", "0A000", "missing closing parenthesis"},
		{"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a&&b]\"},"
			"\"behavior\":\"Isolated\"}," WORDS "}", "0A000", "class in a class"},
		{"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\h\"},"
			"\"behavior\":\"Isolated\"}," WORDS "}", "0A000", "escape in a pattern \"\\h\""},
		{"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},"
			"\"behavior\":\"MergedWithNext\"}," WORDS "}", "0A000", "\"MergedWithNext\""},
		{"{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\"},"
			"{\"type\":\"Digits\"}]}," WORDS "}", "0A000", "behind ByteLevel"},
		{"{\"normalizer\":{\"type\":\"Precompiled\"}," WORDS "}", "0A000",
		"normalizer \"Precompiled\""},
		{"{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Nmt\"}]}," WORDS "}",
		"0A000", "normalizer \"Nmt\""},
		{"{\"normalizer\":{\"type\":\"BertNormalizer\",\"lowercase\":7}," WORDS "}", "22032",
		"\"lowercase\" in"},
		{"{\"decoder\":{\"type\":\"CTC\"}," BERT "}", "0A000", "decoder \"CTC\""},
		{"{\"added_tokens\":[{\"id\":1}]," BERT "}", "22032", "no content"},
		{"{\"added_tokens\":[{\"id\":1,\"content\":\"x\"}]," BERT "}", "22032",
		"has id 1, which piece \"a\" has too"},
		{"{\"added_tokens\":[{\"id\":10,\"content\":\"x\"}]," BERT "}", "22032",
		"vocab_size is 10"},
		{"{\"added_tokens\":[{\"id\":3,\"content\":\"x\",\"lstrip\":true}]," BERT "}", "0A000",
		"an added token with \"lstrip\""},
		{"{\"normalizer\":{\"type\":\"Lowercase\"},\"added_tokens\":[{\"id\":2,\"content\":\"X\"}],"
		WORDS "}", "0A000", "normalizing changes, \"X\""},
	};

	(void) state;
	for (size_t i = 0; i < G2_LENGTH(cases); i++)
	{
		model		m;
		g2_error	err;
		bool		ok = compile_json(cases[i].json, strlen(cases[i].json), 10, &m, &err);

		if (ok || !strstr(err.message, cases[i].part) ||
			strcmp(g2_sqlstate(err.code), cases[i].state) != 0)
			fail_msg("%s: %s \"%s\"", cases[i].json, ok ? "accepted" : g2_sqlstate(err.code),
					 err.message);
		free_model(&m);
	}
}

/* A token that is looked for at each byte of a text has a bound, for time; a special one has none. */
static void
test_long_added(void **state)
{
	static const struct
	{
		size_t		len;
		bool		special;
		bool		accepted;
	}			cases[] = {{255, false, true}, {256, false, false}, {256, true, true}};

	(void) state;
	for (size_t i = 0; i < G2_LENGTH(cases); i++)
	{
		g2_buf		json = {0};
		model		m;
		g2_error	err;

		g2_buf_printf(&json, "{\"added_tokens\":[{\"id\":2,\"special\":%s,\"content\":\"",
					  cases[i].special ? "true" : "false");
		for (size_t c = 0; c < cases[i].len; c++)
			g2_buf_append(&json, "a", 1);
		g2_buf_printf(&json, "\"}]," WORDS "}");
		assert_false(json.failed);
		assert_int_equal(compile_json(json.data, json.len, 10, &m, &err), cases[i].accepted);
		if (!cases[i].accepted)
		{
			assert_int_equal(err.code, G2_E_UNSUPPORTED);
			assert_non_null(strstr(err.message, "an added token of more than 255 bytes, \"aaa"));
		}
		g2_buf_free(&json);
		free_model(&m);
	}
}

/* Nested deeply, in a sequence and in the text. */
static void
test_nesting(void **state)
{
	g2_buf		json = {0};
	model		m;
	g2_error	err;

	(void) state;
	g2_buf_printf(&json, "{\"normalizer\":");
	for (int i = 0; i < 10; i++)
		g2_buf_printf(&json, "{\"type\":\"Sequence\",\"normalizers\":[");
	for (int i = 0; i < 10; i++)
		g2_buf_printf(&json, "]}");
	g2_buf_printf(&json, "," WORDS "}");
	assert_false(compile_json(json.data, json.len, 10, &m, &err));
	assert_string_equal(g2_sqlstate(err.code), "0A000");
	free_model(&m);
	json.len = 0;
	g2_buf_printf(&json, "{\"x\":");
	for (int i = 0; i < 100000; i++)
		g2_buf_append(&json, "[", 1);
	assert_false(compile_json(json.data, json.len, 10, &m, &err));
	assert_string_equal(g2_sqlstate(err.code), "22032");
	free_model(&m);
	/* more steps than a block holds */
	json.len = 0;
	g2_buf_printf(&json, "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[");
	for (int i = 0; i < 30; i++)
		g2_buf_printf(&json, "%s{\"type\":\"NFC\"}", i ? "," : "");
	g2_buf_printf(&json, "]}," WORDS "}");
	assert_false(compile_json(json.data, json.len, 10, &m, &err));
	assert_string_equal(g2_sqlstate(err.code), "0A000");
	free_model(&m);
	g2_buf_free(&json);
}

/* A pattern that backtracks without end gives up. */
static void
test_hostile_pattern(void **state)
{
	static const char json[] = "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":"
		"\"(a+)+$\"},\"behavior\":\"Isolated\"}," WORDS "}";
	char		text[64];
	model		m;
	g2_error	err;
	g2_ids		ids = {0};
	int64_t		start = g2_now_us();

	(void) state;
	memset(text, 'a', sizeof text);
	text[sizeof text - 1] = 'b';
	assert_true(compile_json(json, sizeof json - 1, 10, &m, &err));
	assert_false(g2_tokenizer_encode(m.tok, text, sizeof text, 0, NULL, &ids, &err));
	assert_string_equal(g2_sqlstate(err.code), "53400");
	print_message("gave up after %.0f ms\n", (double) (g2_now_us() - start) / 1000);
	g2_free(ids.data);
	free_model(&m);
}

/* A word that is unknown, with and without a token for it. */
static void
test_unknown_words(void **state)
{
	static const char none[] = "{\"pre_tokenizer\":{\"type\":\"Whitespace\"},"
		"\"decoder\":{\"type\":\"Fuse\"},"
		"\"model\":{\"type\":\"WordLevel\",\"unk_token\":\"u\",\"vocab\":{\"a\":0,\"b\":1}}}",
		with[] = "{\"pre_tokenizer\":{\"type\":\"Whitespace\"}," WORDS "}";
	model		m;
	g2_error	err;
	g2_ids		ids = {0};
	g2_buf		out = {0};
	g2_decoder	decoder = {0};

	(void) state;
	assert_true(compile_json(none, sizeof none - 1, 10, &m, &err));
	encode(m.tok, "a b a", 5, &ids);
	for (size_t i = 0; i < ids.len; i++)
		assert_true(g2_tokenizer_decode(m.tok, &decoder, ids.data[i], &out));
	assert_int_equal(out.len, 3);
	assert_memory_equal(out.data, "aba", 3);
	ids.len = 0;
	assert_false(g2_tokenizer_encode(m.tok, "a c", 3, 0, NULL, &ids, &err));
	assert_string_equal(g2_sqlstate(err.code), "22023");
	free_model(&m);

	assert_true(compile_json(with, sizeof with - 1, 10, &m, &err));
	encode(m.tok, "a u c a", 7, &ids);
	assert_int_equal(ids.len, 4);
	assert_memory_equal(ids.data, ((uint32_t[]) {1, 0, 0, 1}), 4 * sizeof(uint32_t));
	out.len = 0;
	decoder = g2_tokenizer_after(m.tok, NULL, 0);
	for (size_t i = 0; i < ids.len; i++)
		assert_true(g2_tokenizer_decode(m.tok, &decoder, ids.data[i], &out));
	assert_int_equal(out.len, 3);
	assert_memory_equal(out.data, "a a", 3);
	g2_buf_free(&out);
	g2_free(ids.data);
	free_model(&m);
}

/* ---------------------------------------------------------------- faults */

static void
test_out_of_memory(void **state)
{
	static const char text[] = "The Printer <tab> X caf\xC3\xA9 \xEF\xAC\x81 12,";
	g2_buf		json = {0};

	(void) state;
	assert_true(golden_read_from(VECTORS, "compat.json", &json));
	check_out_of_memory(&(g2_tokenizer_files) {.json = {"t", json.data, json.len}}, 1000, text,
						sizeof text - 1);
	g2_buf_free(&json);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_no_row),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_long_added),
		cmocka_unit_test(test_nesting),
		cmocka_unit_test(test_hostile_pattern),
		cmocka_unit_test(test_unknown_words),
		cmocka_unit_test(test_out_of_memory),
	};

	return cmocka_run_group_tests_name("tokenizer_json", tests, NULL, NULL);
}
