/*
 * test_tokenizer_real.c: byte-level BPE with the vocabularies of real models, where their
 * directory is given by GPT2_SHARED_MODELS.
 */
#include "tokenizer_golden.h"

/* Skips the test where the real files are not there. */
static void
open_real(model *m, const char *folder, uint32_t n_vocab)
{
	char		name[256];
	g2_error	err;
	bool		found;

	memset(m, 0, sizeof *m);
	snprintf(name, sizeof name, "%s/vocab.json", folder);
	found = golden_read(name, &m->vocab);
	snprintf(name, sizeof name, "%s/merges.txt", folder);
	if (!found || !golden_read(name, &m->merges))
	{
		print_message("skipped: no %s in GPT2_SHARED_MODELS\n", folder);
		free_model(m);
		skip();
	}
	if (!try_compile(m, n_vocab, &err) ||
		!g2_tokenizer_open(m->blob.data, m->blob.len, &m->tok, &err))
		fail_msg("%s", err.message);
}

static void
test_gpt2_vectors(void **state)
{
	model		m;
	g2_buf		lines = {0};

	(void) state;
	open_real(&m, "gpt2", 50257);
	assert_true(golden_read("gpt2/tokenizer_vectors.jsonl", &lines));
	golden_check(m.tok, &lines, "ids", 2000);
	g2_buf_free(&lines);
	free_model(&m);
}

/* The merges' lines as elements of a JSON array. */
static void
append_merges(g2_buf *json, const g2_buf *merges)
{
	const char *p = memchr(merges->data, '\n', merges->len);
	bool		first = true;

	for (p++; p < merges->data + merges->len; p++)
	{
		if (first || *p == '\n')
			g2_buf_printf(json, "%s", first ? "\"" : "\",\"");
		first = false;
		if (*p == '"' || *p == '\\')
			g2_buf_append(json, "\\", 1);
		if (*p != '\n')
			g2_buf_append(json, p, 1);
	}
}

/* The same vocabulary and merges as one tokenizer.json make the same block. */
static void
test_gpt2_json(void **state)
{
	static const char tail[] = "]}}";
	model		m;
	g2_buf		json = {0},
				merges = {0},
				blob = {0};
	g2_tokenizer_files f = {0};
	g2_error	err;

	(void) state;
	open_real(&m, "gpt2", 50257);
	g2_buf_append(&merges, m.merges.data, m.merges.len);
	while (merges.data[merges.len - 1] == '\n')
		merges.len--;
	g2_buf_printf(&json, "{\"version\":\"1.0\",\"added_tokens\":[{\"id\":50256,\"special\":true,"
				  "\"content\":\"<|endoftext|>\",\"normalized\":true}],\"normalizer\":null,"
				  "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
				  "\"trim_offsets\":true},\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{"
				  "\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":\"\","
				  "\"end_of_word_suffix\":\"\",\"fuse_unk\":false,\"vocab\":");
	g2_buf_append(&json, m.vocab.data, m.vocab.len);
	g2_buf_printf(&json, ",\"merges\":[");
	append_merges(&json, &merges);
	g2_buf_append(&json, "\"", 1);
	g2_buf_append(&json, tail, sizeof tail - 1);
	f.json = (g2_tokenizer_file) {"tokenizer.json", json.data, json.len};
	if (!g2_tokenizer_compile(&f, 50257, &blob, &err))
		fail_msg("%s", err.message);
	assert_int_equal(blob.len, m.blob.len);
	assert_memory_equal(blob.data, m.blob.data, blob.len);
	g2_buf_free(&json);
	g2_buf_free(&merges);
	g2_buf_free(&blob);
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
	assert_true(golden_read("gpt2/gguf/ggml-vocab-gpt-2.gguf.inp", &in));
	assert_true(golden_read("gpt2/gguf/ggml-vocab-gpt-2.gguf.out", &out));
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
		right += golden_same(m.tok, text, wanted.data, wanted.len);
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
	assert_true(golden_same(m.tok, " newer lowest",
							(uint32_t[]) {10, 9, 3, 2, 15, 14, 3, 5, 6}, 9));
	assert_true(golden_same(m.tok, "low lower", (uint32_t[]) {0, 1, 2, 14, 15}, 5));
	assert_true(golden_same(m.tok, "xe", (uint32_t[]) {19, 3}, 2));
	assert_true(g2_tokenizer_is_special(m.tok, 20));
	assert_memory_equal(g2_tokenizer_piece(m.tok, 17, &n), " newer", 6);
	assert_int_equal(n, 6);
	free_model(&m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gpt2_vectors),
		cmocka_unit_test(test_gpt2_json),
		cmocka_unit_test(test_gguf_cases),
		cmocka_unit_test(test_gpt2_speed),
		cmocka_unit_test(test_tiny),
	};

	return cmocka_run_group_tests_name("tokenizer_real", tests, NULL, NULL);
}
