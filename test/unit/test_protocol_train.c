/*
 * test_protocol_train.c: the messages of protocol_train.h, and the progress file's sum.
 */
#include "protocol_fixture.h"

static void
train_encode(g2_writer *w)
{
	static const g2_train m = {
		.model = S("new"), .base = S("/models/demo"), .query = S("SELECT 1"), .owner = {S("alice"), 10, 1ull << 63}, .database = 5, .tokenizer = 2, .vocab_size = 300, .n_layer = 2,
		.n_head = 3, .n_embd = 48, .context = 64, .lora_rank = 8, .lora_alpha = 16, .steps = 9,
		.epochs = 1.5, .batch_tokens = 100, .optimizer = 1, .schedule = 2,
		.warmup_steps = G2_TRAIN_AUTO, .learning_rate = 1e-3, .beta1 = 0.9, .beta2 = 0.99,
		.weight_decay = 0.1, .grad_clip = 1, .dropout = 0.2, .eval_fraction = 0.05,
		.eval_every = 7, .patience = 3, .seed = UINT64_MAX, .replace = 1, .threads = 2,
		.nice = 10, .memory = 1ull << 40, .replaced = {S("bob"), 11, 7}, .keep_adapter = 1,
		.keep_free = 1ull << 33, .checkpoint_seconds = 20,
	};

	g2_train_encode(w, &m);
}

WHOLE(train, train)

/* Every field may be the first that an older writer did not know. */
static const kind kinds[] = {
	KIND(train, 41),
};

static void
test_all(void **state)
{
	(void) state;
	check_all(kinds, G2_LENGTH(kinds), check_round_trip);
	check_all(kinds, G2_LENGTH(kinds), check_truncated);
	check_all(kinds, G2_LENGTH(kinds), check_extended);
	check_all(kinds, G2_LENGTH(kinds), check_lying_counts);
}

/* Rows follow each other until the payload ends; cut anywhere else they are refused. */
static void
test_rows(void **state)
{
	const g2_train_row rows[] = {
		{.has_prompt = 1, .prompt = S("p"), .text = S("text\0x")}, {.text = S("")},
	};
	g2_writer	w = writer();
	size_t		ends[2];

	(void) state;
	for (size_t i = 0; i < G2_LENGTH(rows); i++)
	{
		g2_train_row_encode(&w, &rows[i]);
		ends[i] = w.len;
	}
	for (size_t n = 0; n <= w.len; n++)
	{
		char	   *copy = malloc(n ? n : 1);
		g2_reader	r;
		g2_train_row row;
		size_t		got = 0;

		if (n > 0)
			memcpy(copy, w.data, n);
		r = g2_read(copy, n);
		while (g2_train_row_get(&r, &row))
		{
			assert_int_equal(row.has_prompt, rows[got].has_prompt);
			assert_int_equal(row.text.len, rows[got].text.len);
			assert_memory_equal(row.text.data, rows[got].text.data, row.text.len);
			assert_int_equal(row.prompt.len, rows[got].prompt.len);
			got++;
		}
		assert_int_equal(got, (n >= ends[0]) + (n >= ends[1]));
		assert_int_equal(r.failed, n != 0 && n != ends[0] && n != ends[1]);
		free(copy);
	}
	free(w.data);
}

static void
test_sum(void **state)
{
	g2_train_progress p = {.phase = 3, .model = "m"};
	uint32_t	sum = g2_train_progress_sum(&p);

	(void) state;
	p.sum = sum;
	assert_int_equal(g2_train_progress_sum(&p), sum);
	p.model[255] = 1;
	assert_int_not_equal(g2_train_progress_sum(&p), sum);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all), cmocka_unit_test(test_rows), cmocka_unit_test(test_sum),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
