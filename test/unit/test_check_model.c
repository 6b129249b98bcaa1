/*
 * test_check_model.c: CHECK_MODEL: what is said about good and bad folders, thing by thing.
 */
#include "adapter_fixture.h"
#include "engine_driver.h"

#define MAX_ROWS 16

typedef struct checked
{
	reply		r;
	uint32_t	n;
	g2_check_row rows[MAX_ROWS];
} checked;

static void
check(const char *model, checked *c)
{
	g2_writer	w = {.grow = grow};
	g2_reader	in;

	memset(c, 0, sizeof *c);
	g2_put_string(&w, model);
	g2_engine_submit(client_of(&c->r), 0, G2_MSG_CHECK_MODEL, w.data, w.len);
	free(w.data);
	run_until(&c->r);
	leave(&c->r);
	if (c->r.type == G2_MSG_ERROR)
		return;
	assert_int_equal(c->r.type, G2_MSG_MODEL_CHECK);
	in = g2_read(c->r.data, c->r.len);
	c->n = g2_get_u32(&in);
	assert_true(c->n <= MAX_ROWS);
	for (uint32_t i = 0; i < c->n; i++)
		g2_check_row_get(&in, &c->rows[i]);
	assert_false(in.failed);
	assert_ptr_equal(in.at, in.end);
}

static const g2_check_row *
row_of(const checked *c, const char *item)
{
	for (uint32_t i = 0; i < c->n; i++)
		if (c->rows[i].item.len == strlen(item) &&
			memcmp(c->rows[i].item.data, item, strlen(item)) == 0)
			return &c->rows[i];
	fail_msg("no row \"%s\"", item);
	return NULL;
}

static void
expect(const checked *c, const char *item, g2_check_result result, const char *part)
{
	const g2_check_row *row = row_of(c, item);

	if (row->result != (uint32_t) result ||
		!memmem(row->detail.data, row->detail.len, part, strlen(part)))
		fail_msg("%s: %u, \"%.*s\"; wanted %d, \"%s\"", item, row->result,
				 (int) row->detail.len, row->detail.data, (int) result, part);
}

static void
done(checked *c)
{
	free_replies(&c->r, 1);
}

static void
test_good(void **state)
{
	static const char *const items[] = {"folder", "config.json", "weights", "tokenizer",
	"gpt2.json", "roles", "special tokens"};
	checked		c;

	(void) state;
	open_engine();
	check("tiny", &c);
	assert_int_equal(c.n, G2_LENGTH(items));
	for (size_t i = 0; i < G2_LENGTH(items); i++)
		expect(&c, items[i], G2_CHECK_OK, "");
	expect(&c, "config.json", G2_CHECK_OK, "2 layers of 32, 2 heads, context 128, vocabulary 257");
	expect(&c, "tokenizer", G2_CHECK_OK, "gpt2-bpe, 257 tokens");
	expect(&c, "special tokens", G2_CHECK_OK, "start 256, end 256");
	expect(&c, "roles", G2_CHECK_OK, "for everybody");
	done(&c);
	/* It has been looked at, not loaded. */
	assert_int_equal(n_loads, 0);
	check("bare", &c);
	expect(&c, "tokenizer", G2_CHECK_FAILED, "no tokenizer files");
	assert_true(row_of(&c, "tokenizer")->hint.len > 0);
	expect(&c, "weights", G2_CHECK_OK, "tensors in 1 file");
	expect(&c, "special tokens", G2_CHECK_OK, "start none, end none");
	done(&c);
	close_engine();
}

/* Each fault is seen beside the others. */
static void
test_bad(void **state)
{
	const char *folder = fixture_folder(&places, "tiny");
	checked		c;

	(void) state;
	open_engine();
	tb_text(folder, "gpt2.json", "{\"rolez\": []}");
	tb_text(folder, "merges.txt", "#version: 0.2\nq\n");
	tb_text(folder, "model.safetensors", "abc");
	check("tiny", &c);
	expect(&c, "config.json", G2_CHECK_OK, "");
	expect(&c, "weights", G2_CHECK_FAILED, "model.safetensors");
	expect(&c, "tokenizer", G2_CHECK_FAILED, "merges.txt");
	expect(&c, "gpt2.json", G2_CHECK_FAILED, "rolez");
	expect(&c, "roles", G2_CHECK_OK, "");
	done(&c);
	tb_text(folder, "gpt2.json", "{\"roles\": [], \"owner\": \"ann\"}");
	check("tiny", &c);
	expect(&c, "roles", G2_CHECK_OK, "for its owner");
	done(&c);
	tb_text(folder, "gpt2.json", "{\"roles\": [\"hr\"], \"owner\": \"ann\"}");
	check("tiny", &c);
	expect(&c, "roles", G2_CHECK_OK, "for its owner and members of 1 role");
	done(&c);
	tb_text(folder, "gpt2.json", "{\"roles\": \"hr\"}");
	tb_text(folder, "config.json", "{\"model_type\": \"bert\"}");
	check("tiny", &c);
	expect(&c, "config.json", G2_CHECK_FAILED, "bert");
	expect(&c, "weights", G2_CHECK_SKIPPED, "config.json");
	expect(&c, "tokenizer", G2_CHECK_SKIPPED, "config.json");
	expect(&c, "roles", G2_CHECK_FAILED, "roles");
	expect(&c, "special tokens", G2_CHECK_SKIPPED, "config.json");
	done(&c);
	check("nosuch", &c);
	expect_error(&c.r, "42704", "nosuch");
	done(&c);
	check("../tiny", &c);
	expect_error(&c.r, "42602", "");
	done(&c);
	close_engine();
}

/* An adapter, and each fault of one. */
static void
test_adapter_folder(void **state)
{
	static const char *const items[] = {"folder", "adapter_config.json", "base", "weights",
	"gpt2.json", "roles"};
	test_adapter t = adapter_make(&tiny_model, 4, 8, 0.1f, 5, 1);
	const char *folder = strdup(fixture_folder(&places, "a"));
	checked		c;

	(void) state;
	open_engine();
	adapter_write(&t, &places, "a", "tiny", "");
	check("a", &c);
	assert_int_equal(c.n, G2_LENGTH(items));
	for (size_t i = 0; i < G2_LENGTH(items); i++)
		expect(&c, items[i], G2_CHECK_OK, "");
	expect(&c, "adapter_config.json", G2_CHECK_OK, "LoRA, rank 4, scale 2");
	expect(&c, "base", G2_CHECK_OK, "tiny");
	expect(&c, "weights", G2_CHECK_OK, "adapters of 4 matrices, rank 4");
	done(&c);
	tb_text(folder, "adapter_model.safetensors", "abc");
	check("a", &c);
	expect(&c, "base", G2_CHECK_OK, "tiny");
	expect(&c, "weights", G2_CHECK_FAILED, "adapter_model.safetensors");
	done(&c);
	/* which has a say in what base is asked for */
	tb_text(folder, "gpt2.json", "{\"rolez\": []}");
	check("a", &c);
	expect(&c, "adapter_config.json", G2_CHECK_FAILED, "rolez");
	expect(&c, "gpt2.json", G2_CHECK_FAILED, "rolez");
	done(&c);
	tb_text(folder, "gpt2.json", "{}");
	adapter_write(&t, &places, "a", "nosuch", "");
	check("a", &c);
	expect(&c, "base", G2_CHECK_FAILED, "not there");
	expect(&c, "weights", G2_CHECK_SKIPPED, "base");
	done(&c);
	tb_text(folder, "adapter_config.json", "{\"r\": 4}");
	check("a", &c);
	expect(&c, "adapter_config.json", G2_CHECK_FAILED, "base_model_name_or_path");
	expect(&c, "base", G2_CHECK_SKIPPED, "adapter_config.json");
	expect(&c, "weights", G2_CHECK_SKIPPED, "base");
	done(&c);
	close_engine();
	free((char *) folder);
	adapter_free(&t);
}

static void
test_cancel(void **state)
{
	(void) state;
	open_engine();
	for (int i = 0; i < 20; i++)
	{
		reply		r = {0};
		g2_writer	w = {.grow = grow};

		g2_put_string(&w, "bare");
		g2_engine_submit(client_of(&r), 0, G2_MSG_CHECK_MODEL, w.data, w.len);
		free(w.data);
		assert_true(g2_engine_cancel(client_of(&r), 0));
		run_idle();
		assert_int_equal(r.type, 0);
		leave(&r);
	}
	close_engine();
}

static void
test_no_memory(void **state)
{
	bool		failed = true;

	(void) state;
	open_engine();
	for (long n = 1; failed; n++)
	{
		checked		c;
		g2_writer	w = {.grow = grow};

		memset(&c, 0, sizeof c);
		client_of(&c.r);
		g2_put_string(&w, "bare");
		g2_alloc_fail_at(n);
		g2_engine_submit(client_of(&c.r), 0, G2_MSG_CHECK_MODEL, w.data, w.len);
		run_until(&c.r);
		g2_alloc_fail_at(0);
		free(w.data);
		/* Where one thing could not be looked at, its row says so. */
		failed = c.r.type == G2_MSG_ERROR ||
			memmem(c.r.data, c.r.len, "out of memory", strlen("out of memory"));
		if (c.r.type == G2_MSG_ERROR)
			expect_error(&c.r, "53200", "memory");
		run_idle();
		leave(&c.r);
		done(&c);
		assert_true(n < 5000);
	}
	close_engine();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_adapter_folder),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
