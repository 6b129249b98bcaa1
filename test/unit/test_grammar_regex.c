/*
 * test_grammar_regex.c: regular expressions, by enumeration: every short text over a small alphabet
 * against PCRE2, for expressions that are written here and made at random; every character of
 * Unicode against sets; every number of a range.  What is refused, and where.
 */
#define PCRE2_CODE_UNIT_WIDTH 8

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <pcre2.h>

#include "grammar_dfa.h"
#include "grammar_regex.h"

static uint64_t random_state = 1;

static uint32_t
random_below(uint32_t n)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t) (random_state >> 33) % n;
}

/* False: err says why.  Nothing matches: n_states = 0. */
static bool
compile(const char *regex, g2_regex_mode mode, g2_char_form form, g2_dfa *dfa, g2_error *err)
{
	g2_nfa		nfa = {.what = "regex",.err = err};
	uint32_t	end = g2_nfa_accept(&nfa),
				start = g2_regex_compile(&nfa, regex, strlen(regex), mode, form, end);
	bool		ok = !nfa.failed;

	*dfa = (g2_dfa) {.n_states = 0};
	if (ok && start != G2_NFA_NONE)
		ok = g2_dfa_build(&nfa, start, dfa, err);
	g2_nfa_free(&nfa);
	return ok;
}

static void
must_compile(const char *regex, g2_regex_mode mode, g2_char_form form, g2_dfa *dfa)
{
	g2_error	err;

	if (!compile(regex, mode, form, dfa, &err))
		fail_msg("%s: %s %s", regex, g2_sqlstate(err.code), err.message);
}

static bool
matches(const g2_dfa *dfa, const char *text, size_t len)
{
	uint32_t	state = dfa->n_states == 0 ? G2_DFA_DEAD : g2_dfa_run(dfa, 0, text, len);

	return state != G2_DFA_DEAD && dfa->accepts[state];
}

/* ---- against PCRE2 ---- */

/* Every text of at most max_len characters of the alphabet. */
static void
compare_all(const char *regex, const char *alphabet, size_t max_len, bool search)
{
	g2_dfa		dfa;
	int			code;
	PCRE2_SIZE	offset;
	uint32_t	ends = search ? 0 : PCRE2_ANCHORED | PCRE2_ENDANCHORED;
	pcre2_code *re = pcre2_compile((PCRE2_SPTR) regex, PCRE2_ZERO_TERMINATED,
								   PCRE2_UTF | PCRE2_DOLLAR_ENDONLY, &code, &offset, NULL);
	pcre2_match_data *data;
	char		text[16] = {0};
	size_t		n = strlen(alphabet),
				texts = 1;

	if (!re)
		fail_msg("PCRE2 does not compile %s", regex);
	data = pcre2_match_data_create(16, NULL);
	must_compile(regex, search ? G2_REGEX_SEARCH : G2_REGEX_WHOLE, G2_CHARS_RAW, &dfa);
	for (size_t len = 0; len <= max_len; len++, texts *= n)
		for (size_t t = 0; t < texts; t++)
		{
			size_t		rest = t;
			int			found;

			for (size_t i = 0; i < len; i++, rest /= n)
				text[i] = alphabet[rest % n];
			found = pcre2_match(re, (PCRE2_SPTR) text, len, 0, ends, data, NULL);
			if (matches(&dfa, text, len) != (found >= 0))
				fail_msg("%s on \"%.*s\": PCRE2 says %d", regex, (int) len, text, found);
		}
	g2_dfa_free(&dfa);
	pcre2_match_data_free(data);
	pcre2_code_free(re);
}

static void
test_written(void **state)
{
	static const char *const regexes[] = {
		"", "a", "ab", "a|b", "a|", "|a", "(|a)b", "a*", "a+", "a?", "a{0}", "a{2}", "a{1,}",
		"a{0,2}", "a{2,3}b", "(ab)*", "(a|b)*a(a|b){2}", "(a*)*", "(a*)+b", "(a|b|)*c", "(a?){3}",
		"(a|ab)(c|bc)", "[ab]c", "[^a]b", "[a-c]*b", "[^a-b]", "[]a]", ".*", "a.c", "^ab$",
		"^a|b$", "^(a|b)$", "a*?b", "a+?", "a{1,2}?b", "(?:ab)+", "((a))", "\\x61b", "\\x{62}",
		"[\\x61-c]", "[[:alpha:]]", "[^[:alpha:]]", "(a{2}){2}", "(((a|b)c)*|ab)+", "\\w", "\\W",
		"[\\w-]", "[a\\-c]", "[-a]", "[a-]", "a{,2}", "(a|b){3,5}", "a\\.b", "a\\", "()", "(()|a)b",
	};
	g2_dfa		dfa;
	g2_error	err;
	uint32_t	compared = 0;

	(void) state;
	for (size_t i = 0; i < G2_LENGTH(regexes); i++)
	{
		/* Some are not regular expressions here; which ones, test_refused says. */
		if (!compile(regexes[i], G2_REGEX_WHOLE, G2_CHARS_RAW, &dfa, &err))
			continue;
		g2_dfa_free(&dfa);
		compare_all(regexes[i], "abc-.", 5, false);
		compared++;
	}
	assert_int_equal(compared, G2_LENGTH(regexes) - 3);
}

static void
test_search(void **state)
{
	static const char *const regexes[] = {
		"a", "^a", "a$", "^a$", "ab|c", "^ab|c$", "^a*$", "b{2}", "^(a|b)*c$", "", "^", "$", "^$",
	};

	(void) state;
	for (size_t i = 0; i < G2_LENGTH(regexes); i++)
		compare_all(regexes[i], "abc\n", 5, true);
}

static void
make_regex(g2_buf *out, int depth)
{
	static const char *const atoms[] = {"a", "b", "c", ".", "[ab]", "[^a]", "[b-c]"};
	static const char *const repeats[] = {"*", "+", "?", "{2}", "{1,}", "{0,2}", "{1,3}", "*?"};
	uint32_t	n = 1 + random_below(3);

	for (uint32_t i = 0; i < n; i++)
	{
		if (i > 0 && random_below(3) == 0)
			g2_buf_printf(out, "|");
		if (depth > 0 && random_below(3) == 0)
		{
			g2_buf_printf(out, "(");
			make_regex(out, depth - 1);
			g2_buf_printf(out, ")");
		}
		else
			g2_buf_printf(out, "%s", atoms[random_below(G2_LENGTH(atoms))]);
		if (random_below(3) == 0)
			g2_buf_printf(out, "%s", repeats[random_below(G2_LENGTH(repeats))]);
	}
}

static void
test_random(void **state)
{
	(void) state;
	for (int i = 0; i < 600; i++)
	{
		g2_buf		regex = {0};

		make_regex(&regex, 3);
		assert_true(g2_buf_append(&regex, "", 1));
		compare_all(regex.data, "abc", 5, i % 4 == 0);
		g2_buf_free(&regex);
	}
}

/* ---- characters ---- */

static size_t
encode(uint32_t c, char out[4])
{
	size_t		n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
	static const int first[] = {0, 0, 0xC0, 0xE0, 0xF0};

	for (size_t i = n; i-- > 1; c >>= 6)
		out[i] = (char) (0x80 | (c & 0x3F));
	out[0] = (char) (first[n] | (int) c);
	return n;
}

/* Every character, and every sequence of two bytes, is in the set exactly where it should be. */
static void
check_set(const char *regex, const g2_char_range *ranges, size_t n)
{
	g2_dfa		dfa;
	char		text[4];

	must_compile(regex, G2_REGEX_WHOLE, G2_CHARS_RAW, &dfa);
	for (uint32_t c = 0; c <= G2_MAX_CHAR; c++)
	{
		bool		wanted = false;

		for (size_t i = 0; i < n; i++)
			wanted |= c >= ranges[i].lo && c <= ranges[i].hi;
		wanted &= c != 0 && (c < 0xD800 || c > 0xDFFF);
		if (matches(&dfa, text, encode(c, text)) != wanted)
			fail_msg("%s on U+%04X", regex, c);
	}
	for (int a = 0; a < 256; a++)
		for (int b = 0; b < 256; b++)
		{
			text[0] = (char) a;
			text[1] = (char) b;
			if (g2_utf8_valid_prefix(text, 2) != 2)
				assert_false(matches(&dfa, text, 2));
		}
	g2_dfa_free(&dfa);
}

static void
test_characters(void **state)
{
	static const g2_char_range dot[] = {{0, 9}, {11, 12}, {14, 0x2027}, {0x202A, G2_MAX_CHAR}},
				all[] = {{0, G2_MAX_CHAR}},
				one[] = {{0x20AC, 0x20AC}},
				some[] = {{0x7F, 0x801}, {0xD000, 0xE100}, {0x1F600, 0x20000}},
				others[] = {{0, 'a' - 1}, {'z' + 1, 0x3FF}, {0x500, 0xFFFE}, {0x10001, G2_MAX_CHAR}};

	(void) state;
	check_set(".", dot, 4);
	check_set("[\\s\\S]", all, 1);
	check_set("\xE2\x82\xAC", one, 1);
	check_set("\\u20ac", one, 1);
	check_set("[\\x7f-\\u0801\\ud000-\\ud7ff\\ue000-\\ue100\\ud83d\\ude00-\\u{20000}]", some, 3);
	check_set("[^a-z\\u0400-\\u04ff\\uffff-\\x{10000}]", others, 4);
	for (int i = 0; i < 20; i++)
	{
		uint32_t	a = 1 + random_below(i < 10 ? 0x900 : 0xD7FE),
					b = 1 + random_below(i < 10 ? 0x900 : 0xD7FE);
		g2_char_range r = {G2_MIN(a, b), G2_MAX(a, b)};
		char		regex[64];

		snprintf(regex, sizeof regex, "[\\x{%x}-\\x{%x}]", r.lo, r.hi);
		check_set(regex, &r, 1);
	}
}

/* In a JSON string, what needs a backslash has one. */
static void
test_json_form(void **state)
{
	static const struct
	{
		const char *text;
		bool		matches;
	}			texts[] = {
		{"a", true}, {"\\\"", true}, {"\\\\", true}, {"\\n", true}, {"\\t", true}, {"\\b", true},
		{"\xC3\xA4", true}, {"\"", false}, {"\\", false}, {"\n", false}, {"\\u0041", false},
		{"\\/", false}, {"\x01", false}, {"/", true}, {"\x7F", true},
	};
	g2_dfa		dfa;

	(void) state;
	must_compile("[\\s\\S]", G2_REGEX_WHOLE, G2_CHARS_JSON, &dfa);
	for (size_t i = 0; i < G2_LENGTH(texts); i++)
		if (matches(&dfa, texts[i].text, strlen(texts[i].text)) != texts[i].matches)
			fail_msg("%s", texts[i].text);
	g2_dfa_free(&dfa);
	must_compile("\"x", G2_REGEX_WHOLE, G2_CHARS_JSON, &dfa);
	assert_true(matches(&dfa, "\\\"x", 3));
	assert_false(matches(&dfa, "\"x", 2));
	g2_dfa_free(&dfa);
}

/* ---- numbers ---- */

static void
check_numbers(uint64_t lo, uint64_t hi, uint64_t from, uint64_t to)
{
	g2_error	err;
	g2_nfa		nfa = {.what = "regex",.err = &err};
	uint32_t	start = g2_nfa_numbers(&nfa, lo, hi, g2_nfa_accept(&nfa));
	g2_dfa		dfa;
	char		text[32];

	assert_false(nfa.failed);
	assert_true(g2_dfa_build(&nfa, start, &dfa, &err));
	for (uint64_t i = from; i <= to; i++)
	{
		int			n = snprintf(text, sizeof text, "0%llu", (unsigned long long) i);

		if (matches(&dfa, text + 1, (size_t) n - 1) != (i >= lo && i <= hi))
			fail_msg("%s in %llu .. %llu", text + 1, (unsigned long long) lo,
					 (unsigned long long) hi);
		assert_false(matches(&dfa, text, (size_t) n));
	}
	g2_dfa_free(&dfa);
	g2_nfa_free(&nfa);
}

static void
test_numbers(void **state)
{
	(void) state;
	check_numbers(0, 0, 0, 1000);
	check_numbers(0, 9, 0, 1000);
	check_numbers(1, 5, 0, 1000);
	check_numbers(7, 1000, 0, 20000);
	for (int i = 0; i < 100; i++)
	{
		uint32_t	a = random_below(i < 50 ? 300 : 20000),
					b = random_below(i < 50 ? 300 : 20000);

		check_numbers(G2_MIN(a, b), G2_MAX(a, b), 0, 20000);
	}
	check_numbers(999999999999990u, 999999999999999u, 999999999999980u, 1000000000000010u);
}

/* ---- what is refused ---- */

static void
test_refused(void **state)
{
	static const struct
	{
		const char *regex;
		g2_code		code;
		const char *part;
	}			bad[] = {
		{"a(b", G2_E_PARAM, "unmatched \"(\" in the regex at character 2"},
		{"ab)", G2_E_PARAM, "unmatched \")\" in the regex at character 3"},
		{"\xC3\xA4[b", G2_E_PARAM, "unmatched \"[\" in the regex at character 2"},
		{"*a", G2_E_PARAM, "nothing to repeat in the regex at character 1"},
		{"a|+", G2_E_PARAM, "nothing to repeat in the regex at character 3"},
		{"(?=a)", G2_E_PARAM, "lookahead is not supported in the regex at character 1"},
		{"a(?!b)", G2_E_PARAM, "lookahead is not supported in the regex at character 2"},
		{"(?<=a)", G2_E_PARAM, "lookbehind and named groups"},
		{"(?<n>a)", G2_E_PARAM, "lookbehind and named groups"},
		{"(?i)a", G2_E_PARAM, "this kind of group"},
		{"(a)\\1", G2_E_PARAM, "back references are not supported in the regex at character 4"},
		{"\\bword", G2_E_PARAM, "places between characters"},
		{"\\p{L}", G2_E_PARAM, "Unicode properties"},
		{"\\y", G2_E_PARAM, "an unknown escape"},
		{"a\\", G2_E_PARAM, "a backslash at the end in the regex at character 2"},
		{"\\0", G2_E_PARAM, "the character NUL"},
		{"\\x00", G2_E_PARAM, "the character NUL"},
		{"\\xg0", G2_E_PARAM, "a malformed character number"},
		{"\\ud800", G2_E_PARAM, "a malformed character number"},
		{"\\u{110000}", G2_E_PARAM, "a malformed character number"},
		{"\\x{", G2_E_PARAM, "a malformed character number"},
		{"a^b", G2_E_PARAM, "^ stands inside in the regex at character 2"},
		{"a$b", G2_E_PARAM, "$ stands inside in the regex at character 2"},
		{"(^a)", G2_E_PARAM, "^ stands inside"},
		{"a{2", G2_E_PARAM, "begins no repetition in the regex at character 2"},
		{"a{,2}", G2_E_PARAM, "begins no repetition"},
		{"a{x}", G2_E_PARAM, "begins no repetition"},
		{"a{3,2}", G2_E_PARAM, "a repetition ends below its beginning"},
		{"a{1001}", G2_E_PARAM, "a repetition of more than 1000"},
		{"a{99999999999999999999}", G2_E_PARAM, "a repetition of more than 1000"},
		{"a**", G2_E_PARAM, "a repetition is repeated in the regex at character 2"},
		{"a{2}{3}", G2_E_PARAM, "a repetition is repeated"},
		{"{2}", G2_E_PARAM, "nothing to repeat"},
		{"[]a]", G2_E_PARAM, "brackets hold nothing"},
		{"[b-a]", G2_E_PARAM, "a range ends before its beginning"},
		{"[a-\\d]", G2_E_PARAM, "a range of classes"},
		{"[[:nope:]]", G2_E_PARAM, "an unknown class"},
		{"[[:d:]]", G2_E_PARAM, "an unknown class"},
		{"\xC3", G2_E_PARAM, "not valid UTF-8"},
		/* what would take for ever, or all memory */
		{"((a{1000}){1000}){1000}", G2_E_TOO_LONG, "too complex"},
		{"((((){1000}){1000}){1000}){1000}", G2_E_TOO_LONG, "too complex"},
		{"(a|b)*a(a|b){30}", G2_E_TOO_LONG, "too complex"},
		{".*a.{20}", G2_E_TOO_LONG, "too complex"},
		{"((.{0,1000}x){0,100}y){0,100}", G2_E_TOO_LONG, "too complex"},
	};

	(void) state;
	for (size_t i = 0; i < G2_LENGTH(bad); i++)
	{
		g2_dfa		dfa;
		g2_error	err = {0};

		if (compile(bad[i].regex, G2_REGEX_WHOLE, G2_CHARS_RAW, &dfa, &err))
			fail_msg("%s is accepted", bad[i].regex);
		if (err.code != bad[i].code || !strstr(err.message, bad[i].part))
			fail_msg("%s: %s %s", bad[i].regex, g2_sqlstate(err.code), err.message);
		if (!err.hint[0] && !strstr(bad[i].part, "UTF-8"))
			fail_msg("%s: no hint", bad[i].regex);
		g2_dfa_free(&dfa);
	}
}

static void
test_depth(void **state)
{
	char		regex[2 * G2_REGEX_MAX_DEPTH + 4];
	g2_dfa		dfa;
	g2_error	err;

	(void) state;
	for (int depth = G2_REGEX_MAX_DEPTH; depth <= G2_REGEX_MAX_DEPTH + 1; depth++)
	{
		memset(regex, '(', (size_t) depth);
		memset(regex + depth, ')', (size_t) depth);
		regex[2 * depth] = '\0';
		assert_int_equal(compile(regex, G2_REGEX_WHOLE, G2_CHARS_RAW, &dfa, &err),
						 depth == G2_REGEX_MAX_DEPTH);
		g2_dfa_free(&dfa);
	}
	assert_int_equal(err.code, G2_E_TOO_LONG);
}

/* Nothing is kept beyond what the states need, by which constraints in use are limited. */
static void
test_bytes(void **state)
{
	g2_dfa		dfa;

	(void) state;
	/* One state more than the last power of two. */
	must_compile("[a-c]{0,128}", G2_REGEX_WHOLE, G2_CHARS_RAW, &dfa);
	assert_int_equal(dfa.n_states, 129);
	assert_true(malloc_usable_size(dfa.next) < (dfa.n_states + 20) * dfa.n_classes * 4);
	assert_true(malloc_usable_size(dfa.least) < (dfa.n_states + 20) * 4);
	assert_true(malloc_usable_size(dfa.accepts) < dfa.n_states + 80);
	g2_dfa_free(&dfa);
}

/* A cancel ends what takes long. */
static void
test_cancel(void **state)
{
	atomic_bool canceled = true;
	g2_error	err;
	g2_nfa		nfa = {.what = "regex",.err = &err,.cancel = &canceled};
	const char *regex = "(a{1000}){1000}";

	(void) state;
	g2_regex_compile(&nfa, regex, strlen(regex), G2_REGEX_WHOLE, G2_CHARS_RAW,
					 g2_nfa_accept(&nfa));
	assert_true(nfa.failed);
	assert_int_equal(err.code, G2_E_CANCELED);
	g2_nfa_free(&nfa);
}

static void
test_memory(void **state)
{
	const char *regex = "(a|b[c-z\\u0400-\\uffff]{2,9}|.x)*y{3}";
	g2_dfa		dfa;
	g2_error	err;

	(void) state;
	for (long n = 1;; n++)
	{
		bool		ok;

		g2_alloc_fail_at(n);
		ok = compile(regex, G2_REGEX_WHOLE, G2_CHARS_RAW, &dfa, &err);
		g2_alloc_fail_at(0);
		g2_dfa_free(&dfa);
		if (ok)
		{
			assert_true(n > 5);
			break;
		}
		assert_int_equal(err.code, G2_E_MEMORY);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_written),
		cmocka_unit_test(test_search),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_characters),
		cmocka_unit_test(test_json_form),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
