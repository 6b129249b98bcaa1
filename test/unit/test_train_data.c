/*
 * test_train_data.c: learned tokenizers, windows of tokens and the order they are taken in.
 */
#include "train_job.h"

#include <stddef.h>

#include "tokenizer_folder.h"

/* ---- rows and tokenizers ---- */

typedef struct bench
{
	char	   *root;
	char		folder[512];
	g2t_place	place;
	g2t_writer	rows;
	g2_buf		blob;
	g2_tokenizer *tokenizer;
	uint32_t	n_vocab;
} bench;

static void
open_bench(bench *b)
{
	g2_error	err;

	memset(b, 0, sizeof *b);
	b->root = tb_folder();
	snprintf(b->folder, sizeof b->folder, "%s/tokenizer", b->root);
	assert_int_equal(mkdir(b->folder, 0700), 0);
	EXPECT_OK(g2t_place_open(b->root, "job", 0, &b->place, &err), err);
	EXPECT_OK(g2t_writer_open(&b->place, G2T_ROWS_FILE, &b->rows, &err), err);
}

static void
add_row(bench *b, const char *prompt, const char *text)
{
	g2_error	err;

	EXPECT_OK(g2t_spool_write(&b->rows, prompt != NULL, prompt, prompt ? strlen(prompt) : 0, text,
							  strlen(text), &err), err);
}

static void
learn(bench *b, g2t_tokenizer_kind kind, uint32_t max_vocab)
{
	g2_error	err;
	uint32_t	ignored;

	EXPECT_OK(g2t_writer_finish(&b->rows, &err), err);
	g2t_writer_close(&b->rows);
	EXPECT_OK(g2t_learn(&b->place, kind, max_vocab, b->folder, NULL, &b->n_vocab, &err), err);
	EXPECT_OK(g2_tokenizer_of_folder(b->folder, NULL, G2_MAX_VOCAB, &b->blob, &b->tokenizer,
									 &ignored, &err), err);
	assert_non_null(b->tokenizer);
	assert_int_equal(g2_tokenizer_size(b->tokenizer), b->n_vocab);
}

static void
close_bench(bench *b)
{
	g2_tokenizer_close(b->tokenizer);
	g2_buf_free(&b->blob);
	g2t_place_close(&b->place);
	tb_remove(b->root);
}

/* Number of tokens; the text comes back where `back` says so. */
static size_t
encode(const bench *b, const char *text, bool back)
{
	g2_ids		ids = {0};
	g2_buf		out = {0};
	g2_decoder	decoder = {0};
	g2_error	err;
	size_t		n;

	EXPECT_OK(g2_tokenizer_encode(b->tokenizer, text, strlen(text), 0, NULL, &ids, &err), err);
	for (size_t i = 0; i < ids.len; i++)
		assert_true(g2_tokenizer_decode(b->tokenizer, &decoder, ids.data[i], &out));
	if (back)
	{
		assert_int_equal(out.len, strlen(text));
		assert_memory_equal(out.data, text, out.len);
	}
	n = ids.len;
	g2_free(ids.data);
	g2_buf_free(&out);
	return n;
}

static void
test_characters(void **state)
{
	bench		b;

	(void) state;
	open_bench(&b);
	add_row(&b, NULL, "\xE4\xBD\xA0\xE5\xA5\xBD \"\\\n\xF0\x9F\x98\x80\xE4\xBD\xA0");
	add_row(&b, "a", "b");
	learn(&b, G2T_CHAR, 0);
	assert_int_equal(b.n_vocab, 2 + 9);
	assert_int_equal(encode(&b, "\xE5\xA5\xBD\xF0\x9F\x98\x80\"\\\n ab", true), 8);
	assert_int_equal(encode(&b, "axb", false), 3);	/* x is unknown */
	/* the most frequent comes first */
	assert_int_equal(g2_tokenizer_find(b.tokenizer, "\xE4\xBD\xA0", 3), 2);
	assert_true(g2_tokenizer_is_special(b.tokenizer,
										g2_tokenizer_find(b.tokenizer, "<|endoftext|>", 13)));
	close_bench(&b);

	open_bench(&b);
	add_row(&b, NULL, "aaabbc");
	learn(&b, G2T_CHAR, 4);
	assert_int_equal(b.n_vocab, 4);	/* c is the rarest */
	assert_int_equal(encode(&b, "ab", true), 2);
	close_bench(&b);
}

static void
test_bytes(void **state)
{
	bench		b;

	(void) state;
	open_bench(&b);
	add_row(&b, NULL, "x");
	learn(&b, G2T_BYTE, 0);
	assert_int_equal(b.n_vocab, 257);
	assert_int_equal(encode(&b, "caf\xC3\xA9 \xE4\xBD\xA0", true), 9);
	close_bench(&b);
}

/* Counts: "aa" 7 in the words aaaa, aab; then "aab" ...; ties go to the smaller ids. */
static void
test_bpe(void **state)
{
	bench		b;
	g2t_merge  *merges;
	uint32_t	n;
	g2_error	err;

	(void) state;
	open_bench(&b);
	add_row(&b, NULL, "low low low low low");
	add_row(&b, "lower lower", "newest newest newest newest newest newest widest widest widest");
	learn(&b, G2T_BPE, 257 + 6);
	assert_int_equal(b.n_vocab, 257 + 6);
	EXPECT_OK(g2t_learn_bpe(&b.place, 3, NULL, &merges, &n, &err), err);
	assert_int_equal(n, 3);
	/* e s: 9 times, as s t and (with its blank) "we" less; the smaller ids of those with 9 */
	assert_int_equal(merges[0].left, 'e');
	assert_int_equal(merges[0].right, 's');
	assert_int_equal(merges[1].left, 256);
	assert_int_equal(merges[1].right, 't');
	g2_free(merges);
	assert_true(encode(&b, " newest", true) < 6);
	encode(&b, "\xE4\xBD\xA0 newer \x01", true);
	close_bench(&b);

	/* No room for a merge. */
	open_bench(&b);
	add_row(&b, NULL, "low low");
	learn(&b, G2T_BPE, 257);
	assert_int_equal(b.n_vocab, 257);
	close_bench(&b);

	/* No pair occurs twice: it stops early. */
	open_bench(&b);
	add_row(&b, NULL, "abcd");
	learn(&b, G2T_BPE, 5000);
	assert_int_equal(b.n_vocab, 257);
	close_bench(&b);
}

/* Many words of few letters: merges go on as long as they are asked for. */
static void
test_bpe_large(void **state)
{
	bench		b;
	uint64_t	s = 1;

	(void) state;
	open_bench(&b);
	for (int i = 0; i < 500; i++)
	{
		char		text[256];
		size_t		n = 0;

		while (n < 200)
		{
			s = s * 6364136223846793005u + 1442695040888963407u;
			text[n++] = "abcde  f"[s >> 61];
		}
		text[n] = '\0';
		add_row(&b, NULL, text);
	}
	learn(&b, G2T_BPE, 1500);
	assert_int_equal(b.n_vocab, 1500);
	encode(&b, "abc fade  bad cafe", true);
	close_bench(&b);
}

/* ---- windows ---- */

/* Which a prompt has, too. */
static void
test_unknown(void **state)
{
	bench		b;
	g2t_data_counts c;
	g2_error	err;

	(void) state;
	open_bench(&b);
	add_row(&b, NULL, "aaabb");
	add_row(&b, "ca", "acd");
	learn(&b, G2T_CHAR, 4);		/* a and b */
	EXPECT_OK(g2t_windows_make(&b.place, b.tokenizer, 1, 8, 0, NULL, &c, &err), err);
	assert_int_equal(c.unknown_tokens, 3);
	close_bench(&b);
	open_bench(&b);
	add_row(&b, NULL, "aaabb");
	learn(&b, G2T_BYTE, 0);
	EXPECT_OK(g2t_windows_make(&b.place, b.tokenizer, 1, 8, 0, NULL, &c, &err), err);
	assert_int_equal(c.unknown_tokens, 0);
	close_bench(&b);
}

static void
test_windows(void **state)
{
	bench		b;
	g2t_data_counts c;
	g2t_windows w;
	g2t_step	step;
	g2_error	err;
	uint64_t	cursor = 0,
				rows = 0,
				learned = 0;
	double		steps;

	(void) state;
	open_bench(&b);
	add_row(&b, NULL, "abcdefghij");	/* 10 and the end: 10 inputs, in windows of 4: 4, 4, 2 */
	add_row(&b, "abcdef", "xy");	/* 8 inputs, of which the last 3 targets are learned */
	add_row(&b, NULL, "");			/* the end alone */
	add_row(&b, NULL, "ab");		/* every fourth row is held out */
	learn(&b, G2T_CHAR, 0);
	EXPECT_OK(g2t_windows_make(&b.place, b.tokenizer, 1, 4, 0.25, NULL, &c, &err), err);
	assert_int_equal(c.rows, 4);
	assert_int_equal(c.short_rows, 1);
	assert_int_equal(c.cut_rows, 2);
	assert_int_equal(c.held_out_rows, 1);
	assert_int_equal(c.tokens, 10 + 3);
	assert_int_equal(c.held_out_tokens, 2);
	memset(&c, 0, sizeof c);
	EXPECT_OK(g2t_windows_counts(&b.place, &c, &err), err);
	assert_int_equal(c.tokens, 13);

	EXPECT_OK(g2t_windows_open(&b.place, false, 7, 4, b.n_vocab, &w, &err), err);
	assert_int_equal(w.n, 4);		/* the prompt's first window has nothing to learn */
	EXPECT_OK(g2t_step_open(8, &step, &err), err);
	while (cursor < w.n)
	{
		EXPECT_OK(g2t_windows_take(&w, w.n, &cursor, &step, &err), err);
		assert_true(step.n <= 8 && step.n_sequences > 0);
		rows += step.n;
		learned += step.learned;
	}
	assert_int_equal(rows, 4 + 4 + 2 + 4);
	assert_int_equal(learned, 13);
	EXPECT_OK(g2t_windows_steps(&w, 8, 1, &steps, &err), err);
	assert_int_equal((int) steps, 2);
	/* Steps go on into the next epoch: several take less than as many times the first. */
	for (double epochs = 0.3; epochs < 40; epochs *= 1.7)
	{
		int			n = 0;

		for (cursor = 0; (double) cursor < epochs * (double) w.n; n++)
			EXPECT_OK(g2t_windows_take(&w, UINT64_MAX, &cursor, &step, &err), err);
		EXPECT_OK(g2t_windows_steps(&w, 8, epochs, &steps, &err), err);
		assert_int_equal((int) steps, n);
	}
	/* more than are counted: 14 rows an epoch, in steps of 8 that are not always full */
	EXPECT_OK(g2t_windows_steps(&w, 8, 1e6, &steps, &err), err);
	assert_true(steps > 14e6 / 8 && steps < 2e6);
	g2t_step_close(&step);
	g2t_windows_close(&w);
	close_bench(&b);
}

static void
test_order(void **state)
{
	const uint64_t sizes[] = {1, 2, 3, 17, 64, 65, 1000};

	(void) state;
	for (size_t i = 0; i < G2_LENGTH(sizes); i++)
	{
		uint8_t		seen[1000] = {0};
		bool		moved = false;

		for (uint64_t j = 0; j < sizes[i]; j++)
		{
			uint64_t	k = g2t_permute(3, 1, j, sizes[i]);

			assert_true(k < sizes[i] && !seen[k]);
			seen[k] = 1;
			moved |= k != g2t_permute(3, 2, j, sizes[i]);
		}
		assert_true(moved || sizes[i] < 17);	/* another epoch has another order */
	}
}

/* ---- files ---- */

static void
test_damaged(void **state)
{
	bench		b;
	g2t_data_counts c;
	g2_error	err;
	char	   *data;
	size_t		len;

	(void) state;
	open_bench(&b);
	add_row(&b, NULL, "abc");
	learn(&b, G2T_CHAR, 0);
	data = tb_read(b.place.path, G2T_ROWS_FILE, &len);
	tb_write(b.place.path, G2T_ROWS_FILE, data, len - 1);
	assert_false(g2t_windows_make(&b.place, b.tokenizer, 1, 4, 0, NULL, &c, &err));
	assert_int_equal(err.code, G2_E_IO);
	memset(data + 4, 0xFF, 4);
	tb_write(b.place.path, G2T_ROWS_FILE, data, len);
	assert_false(g2t_windows_make(&b.place, b.tokenizer, 1, 4, 0, NULL, &c, &err));
	assert_int_equal(err.code, G2_E_IO);
	assert_false(g2t_windows_made(&b.place));
	free(data);
	close_bench(&b);
}

/* One value of a file, in place of what is there; the windows are refused, and then made good. */
static void
check_damage(const bench *b, const char *file, size_t at, uint32_t value)
{
	char	   *data;
	size_t		len;
	g2t_windows w;
	g2t_step	step;
	uint64_t	cursor = 0;
	uint32_t	old;
	g2_error	err;

	data = tb_read(b->place.path, file, &len);
	assert_true(at + sizeof value <= len);
	memcpy(&old, data + at, sizeof old);
	memcpy(data + at, &value, sizeof value);
	tb_write(b->place.path, file, data, len);
	EXPECT_OK(g2t_windows_open(&b->place, false, 7, 4, b->n_vocab, &w, &err), err);
	EXPECT_OK(g2t_step_open(8, &step, &err), err);
	assert_false(g2t_windows_take(&w, w.n, &cursor, &step, &err));
	assert_int_equal(err.code, G2_E_IO);
	g2t_step_close(&step);
	g2t_windows_close(&w);
	memcpy(data + at, &old, sizeof old);
	tb_write(b->place.path, file, data, len);
	free(data);
}

/* Numbers that would be taken for places in memory. */
static void
test_damaged_windows(void **state)
{
	const size_t window = sizeof(g2t_data_counts);
	bench		b;
	g2t_data_counts c;
	g2_error	err;

	(void) state;
	open_bench(&b);
	add_row(&b, NULL, "abcd");
	learn(&b, G2T_CHAR, 0);
	EXPECT_OK(g2t_windows_make(&b.place, b.tokenizer, 1, 4, 0, NULL, &c, &err), err);
	check_damage(&b, "tokens", 0, b.n_vocab);
	check_damage(&b, "tokens", 16, 0x7FFFFFFF);
	check_damage(&b, "windows", window + offsetof(g2t_window, n), 5);
	check_damage(&b, "windows", window + offsetof(g2t_window, n), 0);
	check_damage(&b, "windows", window + offsetof(g2t_window, n), 3);
	check_damage(&b, "windows", window + offsetof(g2t_window, at), 1000);
	check_damage(&b, "windows", window + offsetof(g2t_window, learned), 0);
	close_bench(&b);
}

/* One process at a time. */
static void
test_lock(void **state)
{
	bench		b;
	g2t_place	other;
	g2_error	err;

	(void) state;
	open_bench(&b);
	assert_false(g2t_place_open(b.root, "job", 0, &other, &err));
	assert_int_equal(err.code, G2_E_VERSION);
	g2t_writer_close(&b.rows);
	g2t_place_close(&b.place);
	EXPECT_OK(g2t_place_open(b.root, "job", 0, &other, &err), err);
	g2t_place_remove(&other);
	close_bench(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_characters),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_bpe),
		cmocka_unit_test(test_bpe_large),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_windows),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_damaged_windows),
		cmocka_unit_test(test_lock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
