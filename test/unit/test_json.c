/*
 * test_json.c: what json.c accepts and refuses, with exact codes and byte offsets.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "json.h"

/* Parses an exact-size copy, so that a sanitizer sees any read beyond the end. */
static cJSON *
parse_copy(const char *text, size_t len, bool no_duplicates, g2_error *err)
{
	char	   *copy = malloc(len ? len : 1);
	cJSON	   *tree;

	assert_non_null(copy);
	memcpy(copy, text, len);
	memset(err, 0, sizeof *err);
	tree = g2_json_parse("x.json", copy, len, no_duplicates, err);
	assert_int_equal(tree == NULL, err->code != G2_OK);
	free(copy);
	return tree;
}

static void
accept(const char *text)
{
	g2_error	err;
	cJSON	   *tree = parse_copy(text, strlen(text), true, &err);

	if (!tree)
		print_error("refused %s: %s\n", text, err.message);
	assert_non_null(tree);
	cJSON_Delete(tree);
}

static void
refuse(const char *text, size_t len, g2_code code, const char *part)
{
	g2_error	err;
	cJSON	   *tree = parse_copy(text, len, true, &err);

	if (tree || err.code != code || !strstr(err.message, part))
		print_error("%.60s: \"%s\", wanted \"%s\"\n", text, err.message, part);
	assert_null(tree);
	assert_string_equal(g2_sqlstate(err.code), g2_sqlstate(code));
	assert_non_null(strstr(err.message, part));
	assert_int_equal(g2_utf8_valid_prefix(err.message, strlen(err.message)), strlen(err.message));
}

static void
test_accepted(void **state)
{
	static const char *const texts[] = {
		"{}", "[]", "0", "-0", "1", " 1 ", "1.5e+3", "1E-3", "\"\"", "true", "false", "null",
		"\t[1 , 2]\r\n", "{\"a\":{\"a\":[{\"a\":1},{\"a\":2}]}}", "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
		"\"\\u00e9\\uD83D\\uDE00\"", "\"\xC3\xA9\xF0\x9F\x98\x80\"", "\xEF\xBB\xBF{\"a\":1}",
		"[[],{},[[]]]", "1e999",
		"123456789012345678901234567890123456789012345678901234567890123",
	};

	(void) state;
	for (size_t i = 0; i < G2_LENGTH(texts); i++)
		accept(texts[i]);
}

static void
test_refused(void **state)
{
	static const struct
	{
		const char *text;
		const char *part;
	}			cases[] = {
		{"", "at byte 0: unexpected end"},
		{" \n", "at byte 2: unexpected end"},
		{"\xEF\xBB\xBF", "at byte 3: unexpected end"},
		{"{", "at byte 1: key expected"},
		{"[", "at byte 1: unexpected end"},
		{"[1", "at byte 2: unexpected end"},
		{"[1,", "at byte 3: unexpected end"},
		{"[1,]", "at byte 3: value expected"},
		{"[1 2]", "at byte 3: comma or closing bracket expected"},
		{"[}", "at byte 1: value expected"},
		{"[1}", "at byte 2: comma or closing bracket expected"},
		{"{\"a\":1,}", "at byte 7: key expected"},
		{"{\"a\" 1}", "at byte 5: colon expected"},
		{"{\"a\":}", "at byte 5: value expected"},
		{"{\"1\":1,", "at byte 7: key expected"},
		{"{a:1}", "at byte 1: key expected"},
		{"{'a':1}", "at byte 1: key expected"},
		{"1 2", "at byte 2: something follows"},
		{"{}x", "at byte 2: something follows"},
		{"tru", "at byte 0: value expected"},
		{"nul", "at byte 0: value expected"},
		{"True", "at byte 0: value expected"},
		{"NaN", "at byte 0: value expected"},
		{"+1", "at byte 0: value expected"},
		{".5", "at byte 0: value expected"},
		{"01", "at byte 0: malformed number"},
		{"-", "at byte 0: malformed number"},
		{"1.", "at byte 0: malformed number"},
		{"1e", "at byte 0: malformed number"},
		{"1e+", "at byte 0: malformed number"},
		{"0x10", "at byte 1: something follows"},
		{"1234567890123456789012345678901234567890123456789012345678901234", "63 characters"},
		{"\"a", "at byte 0: unfinished string"},
		{"\"a\\", "at byte 2: unfinished escape"},
		{"\"a\\x\"", "at byte 2: unknown escape"},
		{"\"\\u12\"", "at byte 1: \\u without four"},
		{"\"\\u12g4\"", "at byte 1: \\u without four"},
		{"\"\\u0000\"", "at byte 1: NUL character"},
		{"\"a\nb\"", "at byte 2: control character"},
		{"\"\\ud800\"", "at byte 1: lone surrogate"},
		{"\"\\udc00\"", "at byte 1: lone surrogate"},
		{"\"\\ud800x\"", "at byte 1: lone surrogate"},
		{"\"\\ud800\\u0041\"", "at byte 1: lone surrogate"},
		{"\"\\ud800\\ud800\"", "at byte 1: lone surrogate"},
		{"\"\\ud83d\\ude0\"", "at byte 1: lone surrogate"},
		{"\"\xFF\"", "at byte 1: invalid UTF-8"},
		{"\"\xED\xA0\x80\"", "at byte 1: invalid UTF-8"},
		{"\"\xC0\x80\"", "at byte 1: invalid UTF-8"},
		{"\"\xC3", "at byte 1: invalid UTF-8"},
		{"{\"a\":1,\"a\":2}", "at byte 7: key \"a\" occurs twice"},
		{"{\"a\":1,\"\\u0061\":2}", "at byte 7: key \"a\" occurs twice"},
		{"{\"\xC3\xA9\":1,\"\\u00E9\":2}", "at byte 8: key \"\xC3\xA9\" occurs twice"},
		{"{\"\xF0\x9F\x98\x80\":1,\"\\uD83D\\ude00\":2}", "at byte 10: key"},
		{"[{\"b\":1,\"c\":{\"d\":[],\"d\":{}}}]", "at byte 20: key \"d\" occurs twice"},
		{"{\"\":1,\"\":2}", "at byte 6: key \"\" occurs twice"},
		{"{\"\\n\":1,\"\\u000a\":2}", "at byte 8: key \"?\" occurs twice"},
	};

	(void) state;
	for (size_t i = 0; i < G2_LENGTH(cases); i++)
		refuse(cases[i].text, strlen(cases[i].text), G2_E_BAD_JSON, cases[i].part);
	refuse("\0", 1, G2_E_BAD_JSON, "at byte 0: NUL character");
	refuse("\"a\0\"", 4, G2_E_BAD_JSON, "at byte 2: NUL character");
	refuse("1\0", 2, G2_E_BAD_JSON, "at byte 1: NUL character");
}

static void
test_duplicates_allowed(void **state)
{
	g2_error	err;
	cJSON	   *tree = parse_copy("{\"a\":1,\"a\":2}", 13, false, &err);

	(void) state;
	assert_non_null(tree);
	cJSON_Delete(tree);
}

static void
test_depth(void **state)
{
	size_t		n = 100000;
	char	   *text = malloc(2 * n);

	(void) state;
	assert_non_null(text);
	memset(text, '[', n);
	memset(text + n, ']', n);
	refuse(text, 2 * n, G2_E_BAD_JSON, "at byte 64: nested more than 64 levels deep");
	for (size_t i = 0; i < n / 5; i++)
		memcpy(text + 5 * i, "{\"\":", 5);
	refuse(text, n, G2_E_BAD_JSON, "");
	for (size_t i = 0; i < n / 4; i++)
		memcpy(text + 4 * i, "{\"\":", 4);
	refuse(text, n, G2_E_BAD_JSON, "at byte 256: nested more than 64 levels deep");
	for (int depth = 64; depth <= 65; depth++)
	{
		memset(text, '[', (size_t) depth);
		memset(text + depth, ']', (size_t) depth);
		text[2 * depth] = '\0';
		if (depth == 64)
			accept(text);
		else
			refuse(text, 2 * (size_t) depth, G2_E_BAD_JSON, "at byte 64: nested");
	}
	free(text);
}

/* Many entries: duplicates are found in near-linear time, and the number has a limit. */
static void
test_many(void **state)
{
	g2_buf		text = {0};
	g2_error	err;
	cJSON	   *tree;
	int64_t		start;

	(void) state;
	g2_buf_printf(&text, "{");
	for (int i = 0; i < 200000; i++)
		g2_buf_printf(&text, "\"a common prefix of the keys %d\":%d,", i, i);
	start = g2_now_us();
	text.data[text.len - 1] = '}';
	tree = parse_copy(text.data, text.len, true, &err);
	assert_non_null(tree);
	cJSON_Delete(tree);
	text.data[text.len - 1] = ',';
	g2_buf_printf(&text, "\"a common prefix of the keys 77\":1}");
	refuse(text.data, text.len, G2_E_BAD_JSON, "key \"a common prefix of the keys 77\" occurs");
	print_message("200,000 keys twice: %.0f ms\n", (double) (g2_now_us() - start) / 1000);
	assert_true(g2_now_us() - start < 20 * 1000000);

	text.len = 0;
	g2_buf_printf(&text, "[0");
	for (int i = 0; i < 1000000; i++)
		g2_buf_append(&text, ",0", 2);
	g2_buf_append(&text, "]", 1);
	refuse(text.data, text.len, G2_E_LIMIT, "\"x.json\" has more than 262144 JSON values");
	assert_false(text.failed);
	g2_buf_free(&text);
}

/* ---------------------------------------------------------------- members */

static const char sample[] =
	"{\"i\":5,\"big\":9007199254740993,\"frac\":1.5,\"s\":\"x\",\"t\":true,\"f\":false,\"n\":null,"
	"\"inf\":1e999,\"neg\":-3,\"a\":[]}";

static void
test_int(void **state)
{
	static const char *const wrong[] = {"frac", "s", "t", "a", "inf", "big"};
	g2_error	err;
	cJSON	   *tree = parse_copy(sample, strlen(sample), true, &err);
	int64_t		v = 0;

	(void) state;
	assert_true(g2_json_int(tree, "x.json", "i", 1, 5, false, 0, &v, &err));
	assert_int_equal(v, 5);
	assert_true(g2_json_int(tree, "x.json", "neg", INT64_MIN, INT64_MAX, false, 0, &v, &err));
	assert_int_equal(v, -3);
	assert_true(g2_json_int(tree, "x.json", "none", 1, 5, true, 77, &v, &err));
	assert_int_equal(v, 77);
	assert_true(g2_json_int(tree, "x.json", "n", 1, 5, true, 78, &v, &err));
	assert_int_equal(v, 78);
	assert_false(g2_json_int(tree, "x.json", "none", 1, 5, false, 0, &v, &err));
	assert_int_equal(err.code, G2_E_BAD_JSON);
	assert_string_equal(err.message, "\"none\" is missing in \"x.json\"");
	assert_false(g2_json_int(tree, "x.json", "i", 6, 9, true, 7, &v, &err));
	assert_int_equal(err.code, G2_E_BAD_JSON);
	assert_string_equal(err.message, "\"i\" in \"x.json\" must be an integer from 6 to 9");
	for (size_t i = 0; i < G2_LENGTH(wrong); i++)
	{
		assert_false(g2_json_int(tree, "x", wrong[i], INT64_MIN, INT64_MAX, true, 7, &v, &err));
		assert_int_equal(err.code, G2_E_BAD_JSON);
	}
	assert_false(g2_json_int(cJSON_GetObjectItem(tree, "a"), "x", "i", 0, 1, true, 7, &v, &err));
	assert_int_equal(err.code, G2_E_BAD_JSON);
	assert_false(g2_json_int(NULL, "x", "i", 0, 1, true, 7, &v, &err));
	assert_int_equal(v, 78);
	cJSON_Delete(tree);
}

static void
test_other_types(void **state)
{
	g2_error	err;
	cJSON	   *tree = parse_copy(sample, strlen(sample), true, &err);
	double		d = 0;
	bool		b = false;
	const char *s = "";

	(void) state;
	assert_true(g2_json_double(tree, "x", "frac", 0, 2, false, 0, &d, &err));
	assert_true(d == 1.5);
	assert_true(g2_json_double(tree, "x", "none", 0, 2, true, 0.25, &d, &err));
	assert_true(d == 0.25);
	assert_false(g2_json_double(tree, "x", "none", 0, 2, false, 0, &d, &err));
	assert_false(g2_json_double(tree, "x", "frac", 0, 1, false, 0, &d, &err));
	assert_false(g2_json_double(tree, "x", "inf", 0, (double) INFINITY, false, 0, &d, &err));
	assert_false(g2_json_double(tree, "x", "s", 0, 2, true, 0, &d, &err));
	assert_int_equal(err.code, G2_E_BAD_JSON);

	assert_true(g2_json_bool(tree, "x", "t", false, &b, &err) && b);
	assert_true(g2_json_bool(tree, "x", "f", true, &b, &err) && !b);
	assert_true(g2_json_bool(tree, "x", "none", true, &b, &err) && b);
	assert_true(g2_json_bool(tree, "x", "n", true, &b, &err) && b);
	assert_false(g2_json_bool(tree, "x", "i", true, &b, &err));
	assert_int_equal(err.code, G2_E_BAD_JSON);

	assert_true(g2_json_string(tree, "x", "s", &s, &err));
	assert_string_equal(s, "x");
	assert_true(g2_json_string(tree, "x", "none", &s, &err));
	assert_null(s);
	assert_true(g2_json_string(tree, "x", "n", &s, &err));
	assert_null(s);
	assert_false(g2_json_string(tree, "x", "i", &s, &err));
	assert_int_equal(err.code, G2_E_BAD_JSON);
	cJSON_Delete(tree);
}

/* ---------------------------------------------------------------- flat objects */

typedef struct seen
{
	g2_buf		log;
	int			stop_at;		/* refuse the n-th entry; 0 = never */
} seen;

static bool
note(void *arg, const char *key, size_t key_len, int64_t value, size_t offset, g2_error *err)
{
	seen	   *s = arg;

	if (s->stop_at > 0 && --s->stop_at == 0)
		return g2_fail(err, G2_E_LIMIT, "stopped");
	g2_buf_printf(&s->log, "%.*s=%lld@%zu;", (int) key_len, key, (long long) value, offset);
	return true;
}

static void
each(const char *text, int stop_at, g2_code code, const char *wanted)
{
	seen		s = {.stop_at = stop_at};
	g2_error	err = {0};
	bool		ok;

	assert_true(g2_buf_printf(&s.log, "%s", ""));
	ok = g2_json_each_int("v.json", text, strlen(text), note, &s, &err);
	assert_int_equal(ok, code == G2_OK);
	assert_int_equal(err.code, code);
	if (!strstr(ok ? s.log.data : err.message, wanted))
		print_error("%s: %s\n", text, ok ? s.log.data : err.message);
	assert_non_null(strstr(ok ? s.log.data : err.message, wanted));
	g2_buf_free(&s.log);
}

static void
test_each_int(void **state)
{
	(void) state;
	each("{}", 0, G2_OK, "");
	each("\xEF\xBB\xBF {\"a\":1, \"\\u0120\\\"\":-20,\"\":0}", 0, G2_OK,
		 "a=1@5;\xC4\xA0\"=-20@12;=0@");
	each("{\"a\":9223372036854775807,\"b\":9223372036854775808}", 0, G2_OK,
		 "a=9223372036854775807@1;b=9223372036854775807@");
	each("{\"a\":-9223372036854775808,\"b\":-9223372036854775809}", 0, G2_OK,
		 "a=-9223372036854775808@1;b=-9223372036854775808@");
	each("{\"a\":1,\"b\":2}", 2, G2_E_LIMIT, "stopped");
	each("", 0, G2_E_BAD_JSON, "at byte 0: object expected");
	each("[]", 0, G2_E_BAD_JSON, "at byte 0: object expected");
	each("{\"a\":1.0}", 0, G2_E_BAD_JSON, "at byte 5: integer expected");
	each("{\"a\":1e3}", 0, G2_E_BAD_JSON, "at byte 5: integer expected");
	each("{\"a\":\"1\"}", 0, G2_E_BAD_JSON, "at byte 5: integer expected");
	each("{\"a\":{}}", 0, G2_E_BAD_JSON, "at byte 5: integer expected");
	each("{\"a\":null}", 0, G2_E_BAD_JSON, "at byte 5: integer expected");
	each("{\"a\":1", 0, G2_E_BAD_JSON, "at byte 6: unexpected end");
	each("{\"a\":1]", 0, G2_E_BAD_JSON, "at byte 6: comma or closing bracket");
	each("{\"a\":1,}", 0, G2_E_BAD_JSON, "at byte 7: key expected");
	each("{\"a\":1}{", 0, G2_E_BAD_JSON, "at byte 7: something follows");
	each("{\"\\udfff\":1}", 0, G2_E_BAD_JSON, "at byte 2: lone surrogate");
}

static void
test_excerpt(void **state)
{
	char		buf[G2_JSON_EXCERPT],
				text[200];

	(void) state;
	assert_string_equal(g2_json_excerpt(buf, NULL, 0), "");
	assert_string_equal(g2_json_excerpt(buf, "a\n\x7F\xFF\xC3\xA9\xE2\x82", 8), "a???\xC3\xA9??");
	for (size_t shift = 0; shift < 4; shift++)
	{
		memset(text, 'x', sizeof text);
		for (size_t i = shift; i + 4 <= sizeof text; i += 4)
			memcpy(text + i, "\xF0\x9F\x98\x80", 4);
		g2_json_excerpt(buf, text, sizeof text);
		assert_true(strlen(buf) < sizeof buf && strlen(buf) >= 57);
		assert_int_equal(g2_utf8_valid_prefix(buf, strlen(buf)), strlen(buf));
		assert_string_equal(buf + strlen(buf) - 3, "...");
	}
}

/* Every allocation fails once: 53200 each time, nothing leaks (under a sanitizer), no crash. */
static void
test_out_of_memory(void **state)
{
	static const char text[] = "{\"a\":[1,\"two\",{\"b\":null}],\"c\":\"\\u00e9\"}";
	cJSON_Hooks hooks = {.malloc_fn = g2_alloc,.free_fn = g2_free};
	cJSON	   *tree = NULL;
	long		n = 0;

	(void) state;
	cJSON_InitHooks(&hooks);
	while (!tree)
	{
		g2_error	err;

		g2_alloc_fail_at(++n);
		tree = parse_copy(text, sizeof text - 1, true, &err);
		g2_alloc_fail_at(0);
		if (!tree)
			assert_string_equal(g2_sqlstate(err.code), "53200");
	}
	cJSON_Delete(tree);
	cJSON_InitHooks(NULL);
	assert_true(n > 10);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accepted),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_duplicates_allowed),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_int),
		cmocka_unit_test(test_other_types),
		cmocka_unit_test(test_each_int),
		cmocka_unit_test(test_excerpt),
		cmocka_unit_test(test_out_of_memory),
	};

	return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
