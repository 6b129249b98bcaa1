/*
 * test_unicode.c: normalization of texts: forms, order of marks, texts of many parts, invalid
 * bytes, and that no text takes more than linear time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "unicode.h"

static void
check(g2_tok_op op, const char *text, size_t len, const char *wanted, size_t wanted_len)
{
	g2_tok_step step = {.op = op};
	g2_buf		out = {0};
	g2_error	err;

	if (!g2_normalize(&step, 1, text, len, NULL, &out, &err))
		fail_msg("%s", err.message);
	assert_int_equal(out.len, wanted_len);
	assert_memory_equal(out.data ? out.data : "", wanted, wanted_len);
	g2_buf_free(&out);
}

static void
test_forms(void **state)
{
	static const struct
	{
		g2_tok_op	op;
		const char *text;
		const char *wanted;
	}			cases[] = {
		{G2_STEP_NFC, "e\u0301 \u00E9 \u212B \uFB01", "\u00E9 \u00E9 \u00C5 \uFB01"},
		{G2_STEP_NFD, "\u00E9\u01D5", "e\u0301U\u0308\u0304"},
		{G2_STEP_NFKC, "\uFB01 \u2460 \uFF21 \u3392", "fi 1 A MHz"},
		{G2_STEP_NFKD, "\u00BD\uFB01\u00E9", "1\u2044" "2fie\u0301"},
		/* syllables of letters, and letters of syllables */
		{G2_STEP_NFC, "\u1100\u1161\u11A8\u1100\u1161", "\uAC01\uAC00"},
		{G2_STEP_NFD, "\uAC01\uAC00", "\u1100\u1161\u11A8\u1100\u1161"},
		/* marks in the order of their classes (220 before 230), those of one class as they are */
		{G2_STEP_NFD, "a\u0301\u0316\u0300\u0323b\u0316\u0301",
		"a\u0316\u0323\u0301\u0300b\u0316\u0301"},
		{G2_STEP_NFC, "a\u0323\u0301\u0316", "\u1EA1\u0316\u0301"},
		{G2_STEP_NFD, "\u0301\u0316", "\u0316\u0301"},
		/* a mark of class 0 keeps those beside it apart */
		{G2_STEP_NFD, "a\u0301\u0903\u0316", "a\u0301\u0903\u0316"},
		{G2_STEP_NO_ACCENTS, "e\u0301\u0903\u20DD", "e\u0903\u20DD"},
		{G2_STEP_NO_MARKS, "e\u0301\u0903\u20DD", "e"},
		{G2_STEP_LOWER, "\u0130\u1E9E\u03A3\u0416\u4E2D", "i\u0307\u00DF\u03C3\u0436\u4E2D"},
		{G2_STEP_CLEAN, "a\tb\u200Bc\u3000d\uFFFD\xC2\x85.", "a bc d."},
		{G2_STEP_PART_CJK, "a\u4E2D\u3042\uAC00", "a \u4E2D \u3042\uAC00"},
		{G2_STEP_LEAD_SPACE, "a", " a"},
		{G2_STEP_LEAD_SPACE, " a", " a"},
		/* what is no character */
		{G2_STEP_NFC, "\xC3(\xFF\xE4\xB8", "\uFFFD(\uFFFD\uFFFD\uFFFD"},
		{G2_STEP_NFC, "", ""},
	};

	(void) state;
	for (size_t i = 0; i < G2_LENGTH(cases); i++)
		check(cases[i].op, cases[i].text, strlen(cases[i].text), cases[i].wanted,
			  strlen(cases[i].wanted));
}

/* n times a unit of text, which must become n times another. */
static void
check_repeated(g2_tok_op op, size_t n, const char *unit, const char *wanted)
{
	g2_buf		text = {0},
				all = {0};

	for (size_t i = 0; i < n; i++)
	{
		g2_buf_append(&text, unit, strlen(unit));
		g2_buf_append(&all, wanted, strlen(wanted));
	}
	assert_false(text.failed || all.failed);
	check(op, text.data, text.len, all.data, all.len);
	g2_buf_free(&text);
	g2_buf_free(&all);
}

static void
test_parts(void **state)
{
	(void) state;
	for (size_t n = 4090; n < 4100; n++)
	{
		check_repeated(G2_STEP_NFC, n, "e\u0301", "\u00E9");
		check_repeated(G2_STEP_NFC, n, "\u4E2D", "\u4E2D");
	}
	check_repeated(G2_STEP_NFC, 100000, "ae\u0301\u0316 \xFF", "a\u00E9\u0316 \uFFFD");
	/* nowhere a place to part */
	check_repeated(G2_STEP_NFC, 100000, "\u1100\u1161", "\uAC00");
	check_repeated(G2_STEP_NFD, 50000, "\u00E9", "e\u0301");
}

/* Nothing but marks, in the worst order: sorted as one run. */
static void
test_marks(void **state)
{
	const size_t n = 120000;
	g2_buf		text = {0},
				wanted = {0};
	int64_t		start;

	(void) state;
	for (size_t i = 0; i < n; i++)
		g2_buf_append(&text, "\u0301\u0316", 4);
	for (size_t i = 0; i < 2 * n; i++)
		g2_buf_append(&wanted, i < n ? "\u0316" : "\u0301", 2);
	assert_false(text.failed || wanted.failed);
	start = g2_now_us();
	check(G2_STEP_NFD, text.data, text.len, wanted.data, wanted.len);
	print_message("%zu marks: %lld us\n", 2 * n, (long long) (g2_now_us() - start));
	/* by comparing each with those before it this takes seconds */
	assert_true(g2_now_us() - start < 2000000);
	g2_buf_free(&text);
	g2_buf_free(&wanted);
}

static void
test_limits(void **state)
{
	g2_tok_step steps[] = {{.op = G2_STEP_NFKC},{.op = G2_STEP_LOWER}};
	atomic_bool cancel = true;
	g2_buf		text = {0},
				out = {0};
	g2_error	err;

	(void) state;
	/* one character of 3 bytes becomes 18 of 33 */
	for (size_t i = 0; i < 1200000; i++)
		g2_buf_append(&text, "\uFDFA", 3);
	assert_false(text.failed);
	assert_false(g2_normalize(steps, 2, text.data, text.len, NULL, &out, &err));
	assert_string_equal(g2_sqlstate(err.code), "54000");
	assert_true(out.len <= G2_MAX_NORMALIZED);
	out.len = 0;
	assert_false(g2_normalize(steps, 2, text.data, text.len, &cancel, &out, &err));
	assert_string_equal(g2_sqlstate(err.code), "57014");
	/* every allocation that fails is reported */
	for (long n = 1;; n++)
	{
		bool		ok;

		g2_buf_free(&out);
		g2_alloc_fail_at(n);
		ok = g2_normalize(steps, 2, "e\u0301 \uFDFA", 7, NULL, &out, &err);
		g2_alloc_fail_at(0);
		if (ok)
			break;
		assert_string_equal(g2_sqlstate(err.code), "53200");
	}
	g2_buf_free(&text);
	g2_buf_free(&out);
}

static void
test_classes(void **state)
{
	static const uint32_t cjk[] = {0x3400, 0x4E00, 0x9FFF, 0xF900, 0x20000, 0x2FA1F},
				wide[] = {0x2014, 0x201C, 0x2026, 0x3002, 0x3042, 0x30D7, 0xFF0C, 0xFF21, 0x4E2D},
				neither[] = {'a', '.', 0xE9, 0x416, 0xAC00, 0x1100, 0x1F600, 0x627};

	(void) state;
	for (size_t i = 0; i < G2_LENGTH(cjk); i++)
		assert_true(g2_is_cjk(cjk[i]) && g2_is_wide(cjk[i]));
	for (size_t i = 0; i < G2_LENGTH(wide); i++)
		assert_true(g2_is_wide(wide[i]));
	for (size_t i = 0; i < G2_LENGTH(neither); i++)
		assert_false(g2_is_wide(neither[i]) || g2_is_cjk(neither[i]));
	assert_false(g2_is_cjk(0x3042));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forms),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_marks),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_classes),
	};

	return cmocka_run_group_tests_name("unicode", tests, NULL, NULL);
}
