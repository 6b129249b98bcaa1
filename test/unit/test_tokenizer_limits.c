/*
 * test_tokenizer_limits.c: byte-level BPE at its limits: too many tokens, long words, long texts,
 * and being canceled.
 */
#include <pthread.h>
#include <unistd.h>

#include "tokenizer_fixture.h"

#include "bpe.h"
#include "pretokenizer.h"

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

/* A word may take a pattern long: the flag is looked at before each. */
static void
test_canceled_before(void **state)
{
	const atomic_bool cancel = true;
	model		m;
	g2_ids		ids = {0};
	g2_error	err;

	(void) state;
	make_small(&m);
	assert_false(g2_tokenizer_encode(m.tok, "x y", 3, 0, &cancel, &ids, &err));
	assert_string_equal(g2_sqlstate(err.code), "57014");
	assert_int_equal(ids.len, 0);
	g2_free(ids.data);
	free_model(&m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_max_ids),
		cmocka_unit_test(test_long_piece),
		cmocka_unit_test(test_long_text),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_canceled_before),
	};

	return cmocka_run_group_tests_name("tokenizer_limits", tests, NULL, NULL);
}
