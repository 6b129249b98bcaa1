/*
 * test_grammar_schema.c: JSON schemas and choices: which texts are allowed, by hand and by enumeration,
 * and what is refused; how many tokens are needed at least; masks that come and go; no memory.
 */
#include "grammar_fixture.h"

#include "grammar_schema.h"

/* ---- by hand ---- */

static void
test_allowed(void **state)
{
	static const struct
	{
		const char *schema;
		const char *allowed[6];
		const char *refused[6];
	}			cases[] = {
		{"{\"type\": \"integer\"}", {"0", "-1", "42", "999999999999999"},
		{"", "-0", "01", "1.5", "1e3", "1000000000000000"}},
		{"{\"type\": \"number\"}", {"0", "-1", "0.5", "-0.25", "123456789.123456"},
		{"1.", ".5", "1.50", "-", "1e3", "1.0"}},
		{"{\"type\": \"integer\", \"minimum\": -3, \"maximum\": 12}", {"-3", "0", "9", "12"},
		{"-4", "13", "100", "-10"}},
		{"{\"type\": \"number\", \"exclusiveMinimum\": 0, \"maximum\": 2}",
		{"0.5", "1", "1.75", "2", "0.000001"}, {"0", "2.5", "-1", "-0.5", "3"}},
		{"{\"type\": \"number\", \"minimum\": -1.5, \"exclusiveMaximum\": 0}",
		{"-1", "-0.25", "-1.5", "-1.25", "-0.000001"}, {"-2", "0", "-1.500001", "-1.6", "1", "-1.50"}},
		{"{\"type\": \"number\", \"minimum\": 0.5, \"maximum\": 1}",
		{"0.5", "0.500001", "0.75", "0.999999", "1"}, {"0.499999", "0", "0.4", "0.05", "1.000001", "0.50"}},
		{"{\"type\": \"number\", \"exclusiveMinimum\": 0.2, \"exclusiveMaximum\": 0.3}",
		{"0.200001", "0.21", "0.299999", "0.25"}, {"0.2", "0.3", "0.31", "0.1", "1.25", "0"}},
		{"{\"type\": \"string\", \"minLength\": 1, \"maxLength\": 2}",
		{"\"a\"", "\"\xE4\xBD\xA0\xE5\xA5\xBD\"", "\"\\n\\\"\"", "\"\xF0\x9F\x98\x80x\""},
		{"\"\"", "\"abc\"", "\"\n\"", "\"\\u0041\"", "a", "\"\xE4\xBD\""}},
		{"{\"type\": \"string\", \"pattern\": \"^[A-Z]{2}\\\"$\"}", {"\"AB\\\"\""},
		{"\"AB\"\"", "\"AB\"", "\"xAB\\\"\""}},
		{"{\"type\": \"string\", \"pattern\": \"b\"}", {"\"b\"", "\"abc\"", "\"\\n b\""},
		{"\"ac\"", "\"\""}},
		{"{\"type\": \"boolean\"}", {"true", "false"}, {"null", "True", "tru"}},
		{"{\"type\": [\"string\", \"null\"], \"maxLength\": 1}", {"null", "\"\"", "\"x\""},
		{"nul", "\"xy\"", "1"}},
		{"{\"type\": \"integer\", \"nullable\": true}", {"null", "1"}, {"\"1\""}},
		{"{\"enum\": [\"a\", 1, null, 0.5, {\"k\": [true, \"x\"]}, \"a\\\"b\\n\"]}",
		{"\"a\"", "1", "null", "0.5", "{\"k\":[true,\"x\"]}", "\"a\\\"b\\n\""},
		{"a", "2", "{\"k\":[true]}", "{}"}},
		{"{\"enum\": [\"a\", 1, null], \"type\": \"string\"}", {"\"a\""}, {"1", "null"}},
		{"{\"const\": {\"b\": -2.5, \"a\": []}}", {"{\"b\":-2.5,\"a\":[]}"},
		{"{\"a\":[],\"b\":-2.5}", "{}"}},
		{"{\"type\": \"array\", \"items\": {\"type\": \"integer\"}, \"minItems\": 1,"
			" \"maxItems\": 3}", {"[1]", "[1,2]", "[1,2,3]"}, {"[]", "[1,]", "[1,2,3,4]", "[,1]"}},
		{"{\"type\": \"array\", \"items\": {\"type\": \"null\"}}", {"[]", "[null,null,null,null]"},
		{"[null", "null"}},
		{"{\"type\": \"array\", \"items\": false}", {"[]"}, {"[1]", "[[]]"}},
		{"{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"integer\"},"
			" \"b\": {\"type\": \"boolean\"}, \"c\": {\"type\": \"null\"}},"
			" \"required\": [\"b\"]}",
			{"{\"b\":true}", "{\"a\":1,\"b\":false}", "{\"b\":true,\"c\":null}",
			"{\"a\":1,\"b\":true,\"c\":null}"},
			{"{}", "{\"a\":1}", "{\"b\":true,\"a\":1}", "{\"b\":true,}", "{,\"b\":true}",
		"{\"b\":true,\"d\":1}"}},
		{"{\"type\": \"object\", \"additionalProperties\": false}", {"{}"}, {"{\"a\":1}"}},
		{"{\"type\": \"object\"}", {"{}", "{\"a\":1,\"b\":{\"c\":[1,2]}}"}, {"[]", "{a:1}"}},
		{"{\"anyOf\": [{\"type\": \"integer\"}, {\"type\": \"object\", \"properties\":"
			" {\"x\": {\"const\": 1}}}]}", {"7", "{}", "{\"x\":1}"}, {"{\"x\":2}", "\"7\""}},
		{"{\"allOf\": [{\"$ref\": \"#/definitions/n~1m\"}], \"definitions\":"
			" {\"n/m\": {\"const\": \"hit\"}}}", {"\"hit\""}, {"\"miss\""}},
		{"{\"$ref\": \"#/$defs/t\", \"$defs\": {\"t\": {\"type\": \"object\", \"properties\":"
			" {\"t\": {\"$ref\": \"#/$defs/t\"}}}}}",
			{"{}", "{\"t\":{}}", "{\"t\":{\"t\":{\"t\":{\"t\":{\"t\":{\"t\":{\"t\":{}}}}}}}}"},
			{"{\"t\":{\"t\":{\"t\":{\"t\":{\"t\":{\"t\":{\"t\":{\"t\":{}}}}}}}}}", "{\"t\":1}"}},
		{"true", {"1", "\"x\"", "[[1],{\"a\":null}]", "[[[1]]]"}, {"[[[[1]]]]", "x", "[1,]"}},
		{"{\"description\": \"anything\"}", {"1", "{}"}, {"?"}},
		{"{\"minLength\": 2}", {"\"ab\""}, {"\"a\"", "1"}},
	};

	(void) state;
	for (size_t c = 0; c < G2_LENGTH(cases); c++)
	{
		g2_error	err;
		g2_grammar *grammar = compile(G2_CONSTRAINT_SCHEMA, cases[c].schema, &err);

		if (!grammar)
			fail_msg("%s: %s", cases[c].schema, err.message);
		for (int i = 0; i < 6; i++)
		{
			if (cases[c].allowed[i] && !allows(grammar, cases[c].allowed[i]))
				fail_msg("%s does not allow %s", cases[c].schema, cases[c].allowed[i]);
			if (cases[c].refused[i] && allows(grammar, cases[c].refused[i]))
				fail_msg("%s allows %s", cases[c].schema, cases[c].refused[i]);
		}
		g2_grammar_free(grammar);
	}
}

/* A number of millionths as a text without zeros at its end. */
static const char *
millionths(int64_t k, char *out, size_t size)
{
	size_t		len = (size_t) snprintf(out, size, "%s%lld.%06lld", k < 0 ? "-" : "",
										(long long) llabs(k) / 1000000,
										(long long) llabs(k) % 1000000);

	while (out[len - 1] == '0')
		out[--len] = '\0';
	if (out[len - 1] == '.')
		out[--len] = '\0';
	return out;
}

static void
check_bounds(const char *lo, bool lo_excluded, const char *hi, bool hi_excluded, int64_t from,
			 int64_t to, int64_t step)
{
	char		schema[256],
				text[64];
	double		least = strtod(lo, NULL),
				most = strtod(hi, NULL);
	g2_error	err;
	g2_grammar *grammar;

	snprintf(schema, sizeof schema, "{\"type\": \"number\", \"%s\": %s, \"%s\": %s}",
			 lo_excluded ? "exclusiveMinimum" : "minimum", lo,
			 hi_excluded ? "exclusiveMaximum" : "maximum", hi);
	grammar = compile(G2_CONSTRAINT_SCHEMA, schema, &err);
	if (!grammar && !strstr(err.message, "no text satisfies"))
		fail_msg("%s: %s", schema, err.message);
	for (int64_t k = from; k <= to; k += step)
	{
		double		d = strtod(millionths(k, text, sizeof text), NULL);
		bool		within = (lo_excluded ? d > least : d >= least) &&
			(hi_excluded ? d < most : d <= most);

		if ((grammar && allows(grammar, text)) != within)
			fail_msg("%s: %s is %s", schema, text, within ? "missing" : "allowed");
	}
	g2_grammar_free(grammar);
}

/* Every number with so many digits, within bounds that have a fraction. */
static void
test_bounds(void **state)
{
	char		lo[64],
				hi[64];

	(void) state;
	for (int i = 0; i < 300; i++)
	{
		/* Bounds between and at the numbers that are looked at. */
		int64_t		unit = i % 3 == 0 ? 1000 : i % 3 == 1 ? 500 : 1,
					a = ((int64_t) random_below(4000000) - 2000000) / unit * unit,
					b = a + (int64_t) random_below(i % 2 ? 3000 : 2000000) / unit * unit;

		millionths(a, lo, sizeof lo);
		millionths(b, hi, sizeof hi);
		check_bounds(lo, i & 4, hi, i & 8, -4200000, 4200000, 1000);
		check_bounds(lo, i & 4, hi, i & 8, a - 50, a + 50, 1);
		check_bounds(lo, i & 4, hi, i & 8, b - 50, b + 50, 1);
	}
	/* Where a bound is no such number, and near the largest ones. */
	check_bounds("0.1234567", false, "0.1234587", true, 123400, 123500, 1);
	check_bounds("1e-9", false, "2.5e-6", false, -5, 10, 1);
	check_bounds("-1e-9", true, "1e-9", true, -5, 5, 1);
	check_bounds("0.30000000000000004", false, "0.7", true, 299990, 700010, 1);
	check_bounds("999999998.9999995", false, "1e10", false, 999999998999990, 999999999999999, 7919);
	check_bounds("-999999999.25", true, "-999999998.5", false, -999999999999999, -999999998400000,
				 99991);
}

static void
test_refused(void **state)
{
	static const struct
	{
		const char *schema;
		g2_code		code;
		const char *part;
	}			bad[] = {
		{"{\"type\": ", G2_E_PARAM, "malformed JSON in \"json_schema\" at byte"},
		{"{\"type\": \"null\", \"type\": \"null\"}", G2_E_PARAM, "occurs twice"},
		{"[]", G2_E_PARAM, "a schema must be an object, true or false"},
		{"{\"properties\": {\"a\": 7}}", G2_E_PARAM, "must be an object, true or false, at /properties/a"},
		{"{\"type\": \"text\"}", G2_E_PARAM, "type must be the name of a type or an array of such "
		"names, at /type"},
		{"{\"type\": []}", G2_E_PARAM, "type must be the name"},
		{"{\"properties\": {\"a\": {\"uniqueItems\": true}}}", G2_E_PARAM,
		"keyword \"uniqueItems\" is not supported, at /properties/a/uniqueItems"},
		{"{\"anyOf\": [{}, {\"oneOf\": []}]}", G2_E_PARAM,
		"keyword \"oneOf\" is not supported, at /anyOf/1/oneOf"},
		{"{\"type\": \"string\", \"format\": \"date\"}", G2_E_PARAM, "keyword \"format\""},
		{"{\"type\": \"object\", \"patternProperties\": {}}", G2_E_PARAM, "\"patternProperties\""},
		{"{\"items\": {\"multipleOf\": 2}}", G2_E_PARAM, "at /items/multipleOf"},
		{"{\"$ref\": \"#/$defs/x\"}", G2_E_PARAM, "$ref does not name a schema"},
		{"{\"$ref\": \"other.json\"}", G2_E_PARAM, "$ref does not name a schema"},
		{"{\"$ref\": \"#/$defs/a\", \"$defs\": {\"a\": {\"not\": {}}}}", G2_E_PARAM,
		"keyword \"not\" is not supported, at /$defs/a/not"},
		{"{\"enum\": []}", G2_E_PARAM, "enum must be an array of at least one value"},
		{"{\"enum\": [1e300]}", G2_E_PARAM, "so large that it is not exact"},
		{"{\"anyOf\": []}", G2_E_PARAM, "anyOf must be an array of at least one schema"},
		{"{\"allOf\": [{}, {}]}", G2_E_PARAM, "allOf of several schemas"},
		{"{\"enum\": [1], \"anyOf\": [{}]}", G2_E_PARAM, "enum and anyOf together"},
		{"{\"enum\": [1], \"minimum\": 2}", G2_E_PARAM, "enum and minimum together"},
		{"{\"anyOf\": [{}], \"type\": \"null\"}", G2_E_PARAM, "anyOf and type together"},
		{"{\"minLength\": -1}", G2_E_PARAM, "minLength must be an integer from 0 on, at /minLength"},
		{"{\"maxItems\": 1.5}", G2_E_PARAM, "maxItems must be an integer from 0 on"},
		{"{\"minimum\": \"1\"}", G2_E_PARAM, "minimum must be a number, at /minimum"},
		{"{\"pattern\": 1}", G2_E_PARAM, "pattern must be a string"},
		{"{\"pattern\": \"a\", \"maxLength\": 3}", G2_E_PARAM, "pattern and maxLength together"},
		{"{\"properties\": {\"a\": {\"pattern\": \"ab)\"}}}", G2_E_PARAM,
		"unmatched \")\" in the json_schema's regex at /properties/a/pattern at character 3"},
		{"{\"properties\": []}", G2_E_PARAM, "properties must be an object"},
		{"{\"required\": [\"a\"]}", G2_E_PARAM, "required names \"a\", which is no property"},
		{"{\"required\": \"a\"}", G2_E_PARAM, "required must be an array of names"},
		{"{\"type\": \"object\", \"additionalProperties\": {}}", G2_E_PARAM,
		"additionalProperties must be true or false"},
		{"{\"nullable\": 1}", G2_E_PARAM, "nullable must be true or false"},
		/* nothing satisfies it */
		{"false", G2_E_PARAM, "no text satisfies the json_schema"},
		{"{\"type\": \"integer\", \"minimum\": 3, \"maximum\": 2}", G2_E_PARAM, "no text satisfies"},
		{"{\"type\": \"string\", \"minLength\": 3, \"maxLength\": 2}", G2_E_PARAM,
		"no text satisfies"},
		{"{\"properties\": {\"a\": {\"$ref\": \"#\"}}, \"required\": [\"a\"]}", G2_E_PARAM,
		"no text satisfies"},
		/* what would take for ever, or all memory */
		{"{\"type\": \"string\", \"maxLength\": 1000000}", G2_E_TOO_LONG, "too complex"},
		{"{\"type\": \"array\", \"minItems\": 4000000000, \"items\": {\"const\": 1}}",
		G2_E_TOO_LONG, "too complex"},
		{"{\"$ref\": \"#/$defs/a\", \"$defs\": {\"a\": {\"anyOf\": [{\"$ref\": \"#/$defs/a\"},"
			" {\"$ref\": \"#/$defs/a\"}, {\"$ref\": \"#/$defs/a\"}, {\"$ref\": \"#/$defs/a\"},"
			" {\"$ref\": \"#/$defs/a\"}, {\"$ref\": \"#/$defs/a\"}, {\"$ref\": \"#/$defs/a\"},"
			" {\"$ref\": \"#/$defs/a\"}]}}}", G2_E_TOO_LONG, "too complex"},
	};

	(void) state;
	for (size_t i = 0; i < G2_LENGTH(bad); i++)
	{
		g2_error	err;
		g2_grammar *grammar = compile(G2_CONSTRAINT_SCHEMA, bad[i].schema, &err);

		if (grammar)
			fail_msg("%s is accepted", bad[i].schema);
		if (err.code != bad[i].code || !strstr(err.message, bad[i].part))
			fail_msg("%s: %s %s", bad[i].schema, g2_sqlstate(err.code), err.message);
	}
}

/* An element, with its number in place of "%d". */
static void
append_numbered(g2_buf *text, const char *element, int number)
{
	const char *at = strstr(element, "%d");

	if (at)
		g2_buf_printf(text, "%.*s%d%s", (int) (at - element), element, number, at + 2);
	else
		g2_buf_printf(text, "%s", element);
}

/* What is walked over counts, also where nothing comes of it: references to it would repeat that
 * without an end. */
static void
test_work(void **state)
{
	static const struct
	{
		const char *before;
		const char *element;	/* with its number */
		const char *behind;
		uint32_t	per_unit;	/* elements */
	}			cases[] = {
		{"{\"type\": \"null\", \"enum\": [", "%d,", "null]}", 1},
		{"{\"type\": [", "\"null\",", "\"null\"]}", 1},
		{"{\"properties\": {\"a\": true}, \"required\": [", "\"a\",", "\"a\"]}", 1},
		{"{\"$ref\": \"#/examples/5000\", \"examples\": [", "0,", "true]}", 16},
		{"{\"$ref\": \"#/examples/b\", \"examples\": {", "\"a%d\": 0,", "\"b\": true}}", 16},
	};
	const int	n = 5000;

	(void) state;
	for (size_t i = 0; i < G2_LENGTH(cases); i++)
	{
		g2_error	err = {0};
		g2_nfa		nfa = {.what = "json_schema", .err = &err};
		g2_buf		text = {0};
		uint32_t	end = g2_nfa_accept(&nfa);

		g2_buf_printf(&text, "%s", cases[i].before);
		for (int e = 0; e < n; e++)
			append_numbered(&text, cases[i].element, e);
		g2_buf_printf(&text, "%s", cases[i].behind);
		assert_false(text.failed);
		if (g2_schema_compile(&nfa, text.data, text.len, end) == G2_NFA_NONE)
			fail_msg("%s: %s", cases[i].before, err.message);
		if (nfa.work < n / cases[i].per_unit)
			fail_msg("%s: %u units of work for %d elements", cases[i].before, nfa.work, n);
		g2_nfa_free(&nfa);
		g2_buf_free(&text);
	}
}

/* A place that is long, and names that are strange, still make a message. */
static void
test_long_place(void **state)
{
	g2_buf		schema = {0};
	g2_error	err;

	(void) state;
	for (int i = 0; i < 20; i++)
		g2_buf_printf(&schema, "{\"properties\": {\"a rather long name of a property\\n\\\"%d\": ", i);
	g2_buf_printf(&schema, "{\"nope\": 1}");
	for (int i = 0; i < 20; i++)
		g2_buf_printf(&schema, "}}");
	g2_buf_append(&schema, "", 1);
	assert_null(compile(G2_CONSTRAINT_SCHEMA, schema.data, &err));
	assert_int_equal(err.code, G2_E_PARAM);
	assert_non_null(strstr(err.message, "keyword \"nope\" is not supported, at .../"));
	assert_non_null(strstr(err.message, "/nope"));
	g2_buf_free(&schema);
}

static void
test_choice(void **state)
{
	g2_error	err;
	g2_grammar *grammar = compile(G2_CONSTRAINT_CHOICE, "[\"yes\", \"no\", \"yesterday\","
								  " \"\xC3\xA4\"]", &err);
	static const char *const bad[] = {"[]", "{}", "7", "[1]", "[\"\"]", "[\"a\", null]", "[\"a\"",
		"[\"a\\ud800\"]"};

	(void) state;
	assert_non_null(grammar);
	assert_true(allows(grammar, "yes"));
	assert_true(allows(grammar, "no"));
	assert_true(allows(grammar, "yesterday"));
	assert_true(allows(grammar, "\xC3\xA4"));
	assert_false(allows(grammar, "yest"));
	assert_false(allows(grammar, ""));
	assert_false(allows(grammar, "yesno"));
	assert_int_equal(g2_grammar_shortest(grammar, false), 2);
	g2_grammar_free(grammar);
	for (size_t i = 0; i < G2_LENGTH(bad); i++)
	{
		assert_null(compile(G2_CONSTRAINT_CHOICE, bad[i], &err));
		assert_int_equal(err.code, G2_E_PARAM);
		assert_non_null(strstr(err.hint, "Write for example"));
	}
}

/* ---- the least number of tokens ---- */

static void
test_least(void **state)
{
	/* The vocabulary has th, the, " the", aa, aaaa, aaaaaaaa, ll, he, 12. */
	static const struct
	{
		const char *regex;
		uint32_t	least;
		uint32_t	some;		/* of a text that is not empty */
	}			cases[] = {
		{"the", 1, 1}, {"thex", 2, 2}, {"hell", 2, 2}, {"a{8}", 1, 1}, {"a{16}", 2, 2},
		{"a{15}", 4, 4}, {"a*", 0, 1}, {"(xyz)?", 0, 3}, {"", 0, UINT32_MAX},
		{"xyz|the|ab", 1, 1}, {"[a-z]{8}", 1, 1}, {"[b-z]{8}", 3, 3}, {"x[0-9]{4}", 3, 3},
		{"\xC3\xA9", 1, 1}, {".{8}", 1, 1}, {"( the){3}", 3, 3},
	};

	(void) state;
	for (size_t i = 0; i < G2_LENGTH(cases); i++)
	{
		g2_error	err;
		g2_grammar *grammar = compile(G2_CONSTRAINT_REGEX, cases[i].regex, &err);

		assert_non_null(grammar);
		if (g2_grammar_shortest(grammar, false) != cases[i].least ||
			g2_grammar_shortest(grammar, true) != cases[i].some)
			fail_msg("%s: %u %u", cases[i].regex, g2_grammar_shortest(grammar, false),
					 g2_grammar_shortest(grammar, true));
		g2_grammar_free(grammar);
	}
}

/* In each state that does not accept, some token leads to one that is a token nearer. */
static void
check_counts(const g2_grammar *grammar)
{
	for (uint32_t s = 0; s < grammar->dfa.n_states; s++)
	{
		const g2_mask *mask;

		assert_int_equal(grammar->least[s] == 0, grammar->dfa.accepts[s]);
		assert_true(grammar->least[s] <= grammar->dfa.least[s]);
		if (grammar->least[s] == 0)
			continue;
		mask = g2_masks_get(masks, grammar, s, grammar->least[s], end_token, vocabulary.next);
		assert_non_null(mask);
		assert_true(mask->goes_on);
		/* One less is not enough, where all ways have been looked at. */
		mask = g2_masks_get(masks, grammar, s, grammar->least[s] - 1, end_token, vocabulary.next);
		assert_non_null(mask);
		assert_false(mask->goes_on && grammar->dfa.n_states < 100);
		g2_masks_trim(masks);
	}
}

static void
test_counts(void **state)
{
	static const char *const regexes[] = {
		"(the|a{3,20}|12*)+x", ".{0,40}hell", "[a-z ]{5,200}", "([b-w]{0,30}x){0,20}",
	};
	g2_error	err;

	(void) state;
	for (size_t i = 0; i < G2_LENGTH(regexes); i++)
	{
		g2_grammar *grammar = compile(G2_CONSTRAINT_REGEX, regexes[i], &err);

		assert_non_null(grammar);
		check_counts(grammar);
		g2_grammar_free(grammar);
	}
}

/* So large that not all edges are looked at. */
static void
test_large_counts(void **state)
{
	g2_error	err;
	g2_grammar *grammar = compile(G2_CONSTRAINT_REGEX, "([^ ]{0,900} the ){2}x[yz]{3}",
								  &err);

	(void) state;
	if (!grammar)
		fail_msg("%s", err.message);
	assert_true(grammar->dfa.n_states > 10000);
	check_counts(grammar);
	g2_grammar_free(grammar);
}

/* ---- memory ---- */

static void
test_memory(void **state)
{
	static const char schema[] = "{\"properties\": {\"a\": {\"type\": \"array\", \"items\":"
		" {\"enum\": [1, \"x\", null]}}, \"b\": {\"pattern\": \"^[a-c]{3}$\"}}}";
	g2_error	err;

	(void) state;
	for (long n = 1;; n++)
	{
		g2_grammar *grammar;

		g2_alloc_fail_at(n);
		grammar = compile(G2_CONSTRAINT_SCHEMA, schema, &err);
		g2_alloc_fail_at(0);
		if (grammar)
		{
			assert_true(n > 10);
			g2_grammar_free(grammar);
			break;
		}
		assert_int_equal(err.code, G2_E_MEMORY);
	}
}

/* Masks that nobody needs any more go, and come again as they were. */
static void
test_masks(void **state)
{
	g2_error	err;
	g2_masks   *few;
	g2_grammar *grammar = compile(G2_CONSTRAINT_REGEX, "[a-z]{100}", &err);
	const g2_mask *mask;
	uint64_t	bits[8];

	(void) state;
	assert_non_null(grammar);
	assert_true(g2_masks_open(2000, &few, &err));
	mask = g2_masks_get(few, grammar, 0, 200, end_token, vocabulary.next);
	assert_true(mask->n_words <= 8);
	memcpy(bits, mask->bits, mask->n_words * sizeof *bits);
	assert_ptr_equal(mask, g2_masks_get(few, grammar, 0, 300, end_token, vocabulary.next));
	for (uint32_t s = 1; s < grammar->dfa.n_states; s++)
	{
		assert_non_null(g2_masks_get(few, grammar, s, 200, end_token, vocabulary.next));
		g2_masks_trim(few);
		assert_true(g2_masks_count(few).bytes <= 2000);
	}
	mask = g2_masks_get(few, grammar, 0, 200, end_token, vocabulary.next);
	assert_memory_equal(mask->bits, bits, mask->n_words * sizeof *bits);
	assert_int_equal(g2_masks_count(few).made, grammar->dfa.n_states + 1);
	g2_alloc_fail_at(1);
	assert_null(g2_masks_get(few, grammar, 1, 200, end_token, vocabulary.next));
	g2_alloc_fail_at(0);
	g2_masks_close(few);
	g2_grammar_free(grammar);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_allowed),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_work),
		cmocka_unit_test(test_long_place),
		cmocka_unit_test(test_choice),
		cmocka_unit_test(test_least),
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_large_counts),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_masks),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
