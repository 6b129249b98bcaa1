/*
 * test_task.c: tasks by name, from a model's gpt2.json and built in.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "task.h"

static const char tasks[] =
	"{\"templates\": {\"summarize\": \"S: {input}\", \"translate\": \"T: {input}\","
	" \"\": \"empty\"},"
	" \"stop\": {\"summarize\": [\"\\n\", \"\", 7, \"END\"], \"lonely\": [\"x\"]}}";

static bool
find(const char *json, const char *name, g2_task *task, g2_error *err)
{
	return g2_task_find(json, NULL, g2_span_of(name), task, err);
}

static void
test_found(void **state)
{
	g2_task		task;
	g2_error	err;

	(void) state;
	assert_true(find(tasks, "summarize", &task, &err));
	assert_string_equal(task.template_text, "S: {input}");
	assert_int_equal(task.n_stops, 2);
	assert_string_equal(task.stops[0], "\n");
	assert_string_equal(task.stops[1], "END");
	g2_task_free(&task);
	assert_true(find(tasks, "translate", &task, &err));
	assert_string_equal(task.template_text, "T: {input}");
	assert_int_equal(task.n_stops, 0);
	g2_task_free(&task);
}

static void
test_built_in(void **state)
{
	static const char *const files[] = {NULL, "{}", "{\"stop\": {\"summarize\": [\"z\"]}}"};
	g2_task		task;
	g2_error	err;

	(void) state;
	for (size_t i = 0; i < G2_LENGTH(files); i++)
	{
		assert_true(find(files[i], "summarize", &task, &err));
		assert_string_equal(task.template_text, "{input}\nTL;DR:");
		assert_int_equal(task.n_stops, i == 2);
		g2_task_free(&task);
	}
}

static void
refuse(const char *json, g2_span name, const char *shown)
{
	g2_task		task;
	g2_error	err;

	assert_false(g2_task_find(json, NULL, name, &task, &err));
	assert_int_equal(err.code, G2_E_PARAM);
	assert_non_null(strstr(err.message, shown));
	assert_int_equal(g2_utf8_valid_prefix(err.message, strlen(err.message)), strlen(err.message));
	assert_true(err.hint[0] != '\0');
	g2_task_free(&task);
}

static void
test_not_found(void **state)
{
	char		name[600];

	(void) state;
	refuse(NULL, g2_span_of("nothing"), "\"nothing\"");
	refuse(tasks, g2_span_of("lonely"), "\"lonely\"");
	/* A name that is too long or holds a NUL is not that of another task. */
	memset(name, 'n', sizeof name);
	refuse(tasks, (g2_span) {name, sizeof name}, "nnn");
	refuse(tasks, (g2_span) {"summarize\0x", 11}, "summarize");
	for (size_t i = 0; i + 1 < sizeof name; i += 2)
		memcpy(name + i, "\xC3\xA9", 2);
	refuse(tasks, (g2_span) {name + 2, sizeof name - 2}, "\xC3\xA9");
}

static void
test_many_stops(void **state)
{
	g2_buf		json = {0};
	g2_task		task;
	g2_error	err;

	(void) state;
	g2_buf_printf(&json, "{\"templates\": {\"t\": \"{input}\"}, \"stop\": {\"t\": [");
	for (int i = 0; i < 100; i++)
		g2_buf_printf(&json, "%s\"s%d\"", i ? ", " : "", i);
	g2_buf_printf(&json, "]}}");
	assert_true(find(json.data, "t", &task, &err));
	assert_int_equal(task.n_stops, G2_MAX_STOPS);
	g2_task_free(&task);
	g2_buf_free(&json);
}

static void
test_no_memory(void **state)
{
	bool		ok = false;

	(void) state;
	for (long n = 1; !ok && n < 100; n++)
	{
		g2_task		task;
		g2_error	err;

		g2_alloc_fail_at(n);
		ok = find(tasks, "summarize", &task, &err);
		g2_alloc_fail_at(0);
		if (!ok)
			assert_int_equal(err.code, G2_E_MEMORY);
		g2_task_free(&task);
	}
	assert_true(ok);
}

/* A vocab.txt with these characters beside what a BERT vocabulary has. */
static g2_tokenizer *
wordpiece(const char *characters, g2_buf *blob)
{
	const char *const begins = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\n";
	g2_buf		words = {0};
	g2_tokenizer_files files = {0};
	g2_tokenizer *tokenizer;
	g2_error	err;

	g2_buf_append(&words, begins, strlen(begins));
	g2_buf_append(&words, characters, strlen(characters));
	files.words = (g2_tokenizer_file) {"vocab.txt", words.data, words.len};
	files.wordpiece = (g2_wordpiece_options) {true, true, true};
	assert_true(g2_tokenizer_compile(&files, 100, blob, &err));
	assert_true(g2_tokenizer_open(blob->data, blob->len, &tokenizer, &err));
	g2_buf_free(&words);
	return tokenizer;
}

/* Another language, another default; what the model says itself wins. */
static void
test_chinese(void **state)
{
	static const struct
	{
		const char *characters;
		const char *json;
		const char *template_text;
	}			cases[] = {
		{"\xE6\x91\x98\n\xE8\xA6\x81\n", NULL,
		"{input}\n\xE6\x91\x98\xE8\xA6\x81\xEF\xBC\x9A"},
		{"\xE6\x91\x98\n\xE8\xA6\x81\n", "{\"templates\": {\"summarize\": \"S {input}\"}}",
		"S {input}"},
		{"\xE6\x91\x98\n", NULL, "{input}\nTL;DR:"},
		{"c\nd\n", NULL, "{input}\nTL;DR:"},
	};

	(void) state;
	for (size_t i = 0; i < G2_LENGTH(cases); i++)
	{
		g2_buf		blob = {0};
		g2_tokenizer *tokenizer = wordpiece(cases[i].characters, &blob);
		g2_task		task;
		g2_error	err;

		assert_true(g2_task_find(cases[i].json, tokenizer, g2_span_of("summarize"), &task, &err));
		assert_string_equal(task.template_text, cases[i].template_text);
		g2_task_free(&task);
		assert_true(g2_task_find(cases[i].json, tokenizer, g2_span_of("filter"), &task, &err));
		assert_non_null(strstr(task.template_text, "{condition}"));
		g2_task_free(&task);
		g2_tokenizer_close(tokenizer);
		g2_buf_free(&blob);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_found), cmocka_unit_test(test_built_in),
		cmocka_unit_test(test_chinese),
		cmocka_unit_test(test_not_found), cmocka_unit_test(test_many_stops),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
