/*
 * test_grammar_random.c: texts made at random within the masks, over JSON schemas made at random and
 * with budgets from the least possible on, are all valid by a validator of its own.
 */
#include "grammar_fixture.h"
#include "schema_check.h"

#define DOCUMENTS 1000

static uint32_t
pick(const g2_mask *mask)
{
	uint32_t	n = 0,
				chosen;

	for (uint32_t w = 0; w < mask->n_words; w++)
		n += (uint32_t) __builtin_popcountll(mask->bits[w]);
	assert_true(n > 0);
	chosen = random_below(n);
	for (uint32_t id = 0;; id++)
		if ((mask->bits[id / 64] >> id % 64 & 1) && chosen-- == 0)
			return id;
}

/* A text that ends as sequences do; every token is drawn from the mask. */
static void
make_text(const g2_grammar *grammar, uint32_t budget, g2_buf *out)
{
	uint32_t	state = G2_GRAMMAR_START;

	for (uint32_t left = budget; left > 0; left--)
	{
		const g2_mask *mask = g2_masks_get(masks, grammar, state, left, end_token,
										   vocabulary.next);
		uint32_t	token;
		size_t		len;
		const char *piece;

		assert_non_null(mask);
		if (!mask->goes_on)
			assert_true(grammar->dfa.accepts[state]);
		token = grammar->dfa.accepts[state] && (!mask->goes_on || random_below(3) == 0) ?
			end_token : pick(mask);
		assert_true(mask->bits[token / 64] >> token % 64 & 1);
		if (token == end_token)
			break;
		piece = g2_tokenizer_piece(vocabulary.tok, token, &len);
		state = g2_dfa_run(&grammar->dfa, state, piece, len);
		assert_int_not_equal(state, G2_DFA_DEAD);
		assert_true(g2_buf_append(out, piece, len));
	}
	assert_true(grammar->dfa.accepts[state]);
	g2_masks_trim(masks);
}

static uint32_t n_invalid;		/* of what the validator has seen: it does say no */

static void
check_document(const cJSON *schema, const char *printed, const g2_grammar *grammar)
{
	uint32_t	shortest = g2_grammar_shortest(grammar, false);

	for (int i = 0; i < 4; i++)
	{
		g2_buf		text = {0};
		uint32_t	budget = shortest + (i == 0 ? 0 : random_below(i == 1 ? 5 : 200));
		cJSON	   *value;

		make_text(grammar, budget, &text);
		assert_int_equal(g2_utf8_valid_prefix(text.data, text.len), text.len);
		value = cJSON_ParseWithLengthOpts(text.data, text.len, NULL, false);
		if (!value || !valid(schema, schema, value))
			fail_msg("%s: %.*s", printed, (int) text.len, text.data);
		cJSON_Delete(value);
		g2_buf_free(&text);
	}
	for (int i = 0; i < 4; i++)
	{
		cJSON	   *value = random_value(2);
		char	   *text = cJSON_PrintUnformatted(value);

		if (!valid(schema, schema, value))
		{
			n_invalid++;
			assert_false(allows(grammar, text));
		}
		free(text);
		cJSON_Delete(value);
	}
}

static void
test_random_documents(void **state)
{
	uint32_t	unsatisfied = 0,
				large = 0;

	(void) state;
	for (int i = 0; i < DOCUMENTS; i++)
	{
		cJSON	   *schema = random_document(3);
		char	   *printed = cJSON_PrintUnformatted(schema);
		g2_error	err;
		g2_grammar *grammar = compile(G2_CONSTRAINT_SCHEMA, printed, &err);

		if (grammar)
			check_document(schema, printed, grammar);
		else if (err.code == G2_E_PARAM && strstr(err.message, "no text satisfies"))
			unsatisfied++;
		else if (err.code == G2_E_TOO_LONG)
			large++;
		else
			fail_msg("%s: %s", printed, err.message);
		g2_grammar_free(grammar);
		free(printed);
		cJSON_Delete(schema);
	}
	print_message("%d schemas, %u without a value, %u too large\n", DOCUMENTS, unsatisfied, large);
	assert_true(n_invalid > DOCUMENTS);
	assert_true(unsatisfied < DOCUMENTS / 5);
	assert_true(large < DOCUMENTS / 50);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_documents),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
