/*
 * test_protocol_score.c: the messages of protocol_score.h.
 */
#include "protocol_fixture.h"

static const float some_values[] = {1.5f, -0.0f, 3e38f};

static void
score_encode(g2_writer *w)
{
	static const g2_score m = {
		.model = S("demo"), .text = S("a\0b"), .kind = G2_SCORE_LABELS,
		.flags = G2_SCORE_NO_CACHE | G2_SCORE_ADD_START, .stride = 64, .current_user = 10,
		.cache_salt = S("salt"), .queue_timeout_ms = 30000, .task = S("classify"),
		.template_text = S("{input}{label}"), .condition = S("is it"), .n_labels = 3,
		.labels = {S("yes"), S("no"), S("")}, .n_examples = 2,
		.example_texts = {S("x"), S("y")}, .example_labels = {S("no"), S("yes")},
	};

	g2_score_encode(w, &m);
}

WHOLE(score, score)

static void
sum_encode(g2_writer *w)
{
	g2_score_sum_encode(w, &(g2_score_sum) {7, -12.5});
}

PART(sum, score_sum)

static void
token_encode(g2_writer *w)
{
	g2_token_score_encode(w, &(g2_token_score) {50256, -0.25, S("piece")});
}

PART(token, token_score)

static void
embedding_encode(g2_writer *w)
{
	g2_embedding_encode(w, &(g2_embedding) {9, G2_LENGTH(some_values),
						(const char *) some_values});
}

PART(embedding, embedding)

/* Of a score: between two fields up to the examples' labels, whose number must be the texts'; of
 * the others the first byte must be there. */
static const kind kinds[] = {
	KIND(score, 13), KIND(sum, 1), KIND(token, 2), KIND(embedding, 1),
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

static void
test_too_many(void **state)
{
	static g2_score m = {.n_labels = G2_MAX_LABELS, .n_examples = G2_MAX_EXAMPLES},
				out;
	g2_writer	w = writer();

	(void) state;
	for (uint32_t i = 0; i < G2_MAX_LABELS; i++)
		m.labels[i] = S("l");
	for (uint32_t i = 0; i < G2_MAX_EXAMPLES; i++)
		m.example_texts[i] = m.example_labels[i] = S("e");
	g2_score_encode(&w, &m);
	assert_true(g2_score_decode(w.data, w.len, &out));
	assert_int_equal(out.n_labels, G2_MAX_LABELS);
	assert_int_equal(out.n_examples, G2_MAX_EXAMPLES);
	/* One text more than labels. */
	w.len -= sizeof(uint32_t) + 1;
	assert_false(g2_score_decode(w.data, w.len, &out));
	free(w.data);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all), cmocka_unit_test(test_too_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
