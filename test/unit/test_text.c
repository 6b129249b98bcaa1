/*
 * test_text.c: bytes as text against a naive reference, templates, stop strings.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "text.h"

static uint64_t random_state = 1;

static uint32_t
random_below(uint32_t n)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t) (random_state >> 33) % n;
}

/* ---- a reference that decodes by arithmetic instead of by tables ---- */

/* Length of the character at s, 0: none; -1: the bytes end inside what may be one. */
static int
reference_character(const unsigned char *s, size_t n)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	int			len = s[0] < 0x80 ? 1 : s[0] < 0xC0 ? 0 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 :
		s[0] < 0xF8 ? 4 : 0;
	uint32_t	lo,
				hi;
	int			have = (int) G2_MIN((size_t) len, n);

	if (len < 2)
		return len;
	/* The range of code points that the bytes so far leave open. */
	lo = s[0] & (0x7Fu >> len);
	for (int i = 1; i < have; i++)
	{
		if ((s[i] & 0xC0) != 0x80)
			return 0;
		lo = lo << 6 | (s[i] & 0x3Fu);
	}
	hi = lo;
	for (int i = have; i < len; i++)
	{
		lo = lo << 6;
		hi = hi << 6 | 0x3F;
	}
	for (uint32_t c = lo; c <= hi; c++)
	{
		if (c < least[len] || (c >= 0xD800 && c <= 0xDFFF) || c > 0x10FFFF)
			continue;
		return have == len ? len : -1;
	}
	return 0;
}

static void
reference_clean(const unsigned char *s, size_t n, g2_buf *out)
{
	for (size_t at = 0; at < n;)
	{
		int			len = reference_character(s + at, n - at);
		size_t		bytes = len == 0 ? 1 : (size_t) len;

		if (len < 0)
			return;
		/* A character that goes wrong is one, up to where it does. */
		while (len == 0 && bytes < n - at && reference_character(s + at, bytes + 1) < 0)
			bytes++;
		if (len == 0 || s[at] == 0)
			g2_buf_append(out, "\xEF\xBF\xBD", 3);
		else
			g2_buf_append(out, s + at, bytes);
		at += bytes;
	}
}

static void
check_clean(const void *bytes, size_t n)
{
	unsigned char *copy = malloc(n ? n : 1);
	g2_buf		got = {0},
				want = {0};

	assert_non_null(copy);
	memcpy(copy, bytes, n);
	assert_true(g2_text_clean((const char *) copy, n, &got));
	reference_clean(copy, n, &want);
	assert_int_equal(got.len, want.len);
	if (got.len > 0)
		assert_memory_equal(got.data, want.data, want.len);
	assert_int_equal(g2_utf8_valid_prefix(got.data ? got.data : "", got.len), got.len);
	assert_null(got.len ? memchr(got.data, 0, got.len) : NULL);
	free(copy);
	g2_buf_free(&got);
	g2_buf_free(&want);
}

static void
test_clean_cuts(void **state)
{
	static const char *const texts[] = {
		"a\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x98\x80z", "\xE2\x82\xAC\xE2\x82\xAC", "\xF4\x8F\xBF\xBF",
		"\xED\x9F\xBF\xEE\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBF",
	};

	(void) state;
	for (size_t t = 0; t < G2_LENGTH(texts); t++)
		for (size_t from = 0; from <= strlen(texts[t]); from++)
			for (size_t to = from; to <= strlen(texts[t]); to++)
				check_clean(texts[t] + from, to - from);
}

static void
test_clean_bad(void **state)
{
	static const struct
	{
		const char *bytes;
		size_t		n;
		const char *want;
	}			cases[] = {
#define CASE(bytes, want) {bytes, sizeof(bytes) - 1, want}
#define R "\xEF\xBF\xBD"
		CASE("", ""), CASE("\0", R), CASE("a\0b", "a" R "b"), CASE("\x80", R),
		CASE("\xBF" "a", R "a"),
		CASE("\xC0\x80", R R), CASE("\xC1\xBF", R R), CASE("\xE0\x80\x80", R R R),
		CASE("\xED\xA0\x80", R R R), CASE("\xF0\x80\x80\x80", R R R R),
		CASE("\xF4\x90\x80\x80", R R R R), CASE("\xF5\x80", R R), CASE("\xFF\xFE", R R),
		CASE("\xE4\xB8", ""), CASE("\xE4", ""), CASE("x\xF0\x9F\x98", "x"),
		CASE("\xE4\xB8" "a", R "a"), CASE("\xF0\x9F\x98\xE4\xB8\xAD", R "\xE4\xB8\xAD"),
		CASE("\xF0\x9F\xF0\x9F\x98" "a", R R "a"), CASE("\xF0\x9F\x98\xFF\x98", R R R),
		/* the example of the Unicode standard, chapter 3.9 */
		CASE("\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64",
			 R R R "b" R "c" R R "d"),
		CASE("\xE0\x9F", R R), CASE("\xED\xA0", R R), CASE("\xC2\0", R R), CASE("\xE4\0", R R),
		CASE("\xC3\xE4\xB8", R),
#undef R
#undef CASE
	};

	(void) state;
	for (size_t i = 0; i < G2_LENGTH(cases); i++)
	{
		g2_buf		out = {0};

		check_clean(cases[i].bytes, cases[i].n);
		assert_true(g2_text_clean(cases[i].bytes, cases[i].n, &out));
		assert_int_equal(out.len, strlen(cases[i].want));
		if (out.len > 0)
			assert_memory_equal(out.data, cases[i].want, out.len);
		g2_buf_free(&out);
	}
}

static void
test_clean_all_short(void **state)
{
	static const unsigned char interesting[] = {
		0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1,
		0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF
	};
	const size_t k = sizeof interesting;
	unsigned char s[4];

	(void) state;
	for (size_t i = 0; i < 65536; i++)
		check_clean((unsigned char[]) {(unsigned char) (i >> 8), (unsigned char) i}, 2);
	for (size_t i = 0; i < k * k * k * k; i++)
	{
		for (size_t j = 0, x = i; j < 4; j++, x /= k)
			s[j] = interesting[x % k];
		check_clean(s, 3);
		check_clean(s, 4);
	}
}

static void
test_clean_random(void **state)
{
	unsigned char s[300];

	(void) state;
	for (int round = 0; round < 3000; round++)
	{
		size_t		n = random_below(sizeof s);

		for (size_t i = 0; i < n; i++)
			s[i] = (unsigned char) (random_below(3) ? random_below(256) : random_below(2) * 'a');
		check_clean(s, n);
	}
}

/* 8 MB of NULs, or of bytes that are no text, must not take quadratic time (hours). */
/* Cut anywhere where a character may not go on, the parts make the whole. */
static void
test_clean_parts(void **state)
{
	static const unsigned char pool[] = {'a', 0x80, 0xBF, 0xC3, 0xE4, 0xED, 0xF0, 0xF4, 0};
	char		s[24];

	(void) state;
	for (int round = 0; round < 200000; round++)
	{
		g2_buf		whole = {0},
					parts = {0};
		size_t		n = random_below(sizeof s + 1),
					done = 0;

		for (size_t i = 0; i < n; i++)
			s[i] = (char) pool[random_below(sizeof pool)];
		assert_true(g2_text_clean(s, n, &whole));
		for (size_t have = 1; have < n; have += 1 + random_below(3))
		{
			size_t		end = done + g2_text_complete(s + done, have - done);

			assert_true(g2_text_clean_part(s + done, end - done, &parts));
			done = end;
		}
		assert_true(g2_text_clean(s + done, n - done, &parts));
		assert_int_equal(parts.len, whole.len);
		if (whole.len > 0)
			assert_memory_equal(parts.data, whole.data, whole.len);
		g2_buf_free(&whole);
		g2_buf_free(&parts);
	}
}

static void
test_clean_linear(void **state)
{
	const size_t n = 8 << 20;
	char	   *s = calloc(1, n);
	int64_t		start = g2_now_us();

	(void) state;
	assert_non_null(s);
	for (int fill = 0; fill < 2; fill++)
	{
		g2_buf		out = {0};

		memset(s, fill ? 0x80 : 0, n);
		assert_true(g2_text_clean(s, n, &out));
		assert_int_equal(out.len, 3 * n);
		g2_buf_free(&out);
	}
	assert_true(g2_now_us() - start < 20 * 1000000);
	free(s);
}

/* ---- templates ---- */

static void
check_fill(const char *template_text, const char *input, const char *want)
{
	g2_buf		out = {0};
	g2_error	err;
	size_t		len = strlen(want);

	assert_true(g2_text_fill(template_text, strlen(template_text), input, strlen(input), len, &out,
							 &err));
	assert_int_equal(out.len, len);
	if (len > 0)
		assert_memory_equal(out.data, want, len);
	g2_buf_free(&out);
	if (len == 0)
		return;
	assert_false(g2_text_fill(template_text, strlen(template_text), input, strlen(input), len - 1,
							  &out, &err));
	assert_int_equal(err.code, G2_E_TOO_LONG);
	assert_int_equal(out.cap, 0);
}

static void
test_fill(void **state)
{
	(void) state;
	check_fill("{input}\nTL;DR:", "text", "text\nTL;DR:");
	check_fill("{input}", "", "");
	check_fill("", "text", "");
	check_fill("a {input} b {input}", "x", "a x b x");
	check_fill("{{input}}", "x", "{x}");
	check_fill("{input", "x", "{input");
	check_fill("{Input} {label} {}", "x", "{Input} {label} {}");
	check_fill("{input}{input}", "{input}", "{input}{input}");
	check_fill("no mark", "x", "no mark");
}

/* A template of many marks and a long text would ask for terabytes. */
static void
test_fill_bomb(void **state)
{
	const size_t marks = 100000,
				n = 1 << 20;
	char	   *template_text = malloc(marks * 7),
			   *input = calloc(1, n);
	g2_buf		out = {0};
	g2_error	err;

	(void) state;
	assert_non_null(template_text);
	assert_non_null(input);
	for (size_t i = 0; i < marks; i++)
		memcpy(template_text + 7 * i, "{input}", 7);
	assert_false(g2_text_fill(template_text, marks * 7, input, n, 32u << 20, &out, &err));
	assert_int_equal(err.code, G2_E_TOO_LONG);
	assert_int_equal(out.cap, 0);
	free(template_text);
	free(input);
}

/* ---- stop strings ---- */

static void
test_find(void **state)
{
	const g2_bytes needles[] = {{"END", 3}, {"\n", 1}, {"NDX", 3}, {"\0", 1}};
	static const char text[] = "some ENDX\n\0";

	(void) state;
	assert_int_equal(g2_text_find(text, 11, 0, needles, 4), 5);
	assert_int_equal(g2_text_find(text, 11, 6, needles, 4), 6);
	assert_int_equal(g2_text_find(text, 11, 7, needles, 4), 9);
	assert_int_equal(g2_text_find(text, 11, 10, needles, 4), 10);
	assert_int_equal(g2_text_find(text, 11, 11, needles, 4), SIZE_MAX);
	assert_int_equal(g2_text_find(text, 11, 12, needles, 4), SIZE_MAX);
	assert_int_equal(g2_text_find(text, 7, 0, needles, 4), SIZE_MAX);
	assert_int_equal(g2_text_find(text, 11, 0, needles, 0), SIZE_MAX);
	assert_int_equal(g2_text_find(NULL, 0, 0, needles, 4), SIZE_MAX);
	assert_int_equal(g2_text_find(text, 2, 0, needles, 1), SIZE_MAX);
}

/* Every n-th allocation fails in turn: false, and no memory left behind (sanitizers look). */
static void
test_no_memory(void **state)
{
	(void) state;
	for (long n = 1; n < 4; n++)
	{
		char		s[4096] = {0};
		g2_buf		out = {0};
		g2_error	err;

		g2_alloc_fail_at(n);
		if (!g2_text_clean(s, sizeof s, &out))
			assert_true(out.failed);
		g2_text_free(&out);
		g2_alloc_fail_at(1);
		assert_false(g2_text_fill("{input}", 7, s, sizeof s, SIZE_MAX, &out, &err));
		assert_int_equal(err.code, G2_E_MEMORY);
		g2_alloc_fail_at(0);
		g2_text_free(&out);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clean_cuts), cmocka_unit_test(test_clean_bad),
		cmocka_unit_test(test_clean_all_short), cmocka_unit_test(test_clean_random),
		cmocka_unit_test(test_clean_parts),
		cmocka_unit_test(test_clean_linear), cmocka_unit_test(test_fill),
		cmocka_unit_test(test_fill_bomb), cmocka_unit_test(test_find),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
