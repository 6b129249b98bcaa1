/*
 * test_scores.c: scores against Hugging Face transformers in float32 (the vectors scores.vec):
 * log-probabilities of tokens, loss by sliding windows, means of the final norm, labels.
 *
 * The promise is 1e-4.
 */
#include "score_fixture.h"

#include "vector_file.h"

#define TOLERANCE 1e-4
#define MAX_BYTES 1024

static reader file;
static vec_model shape;

static int
make_scored(void **state)
{
	(void) state;
	read_shape("scores", &file, &shape);
	fixture_open(&places);
	fixture_synth(&places, "scored", &shape.options);
	fixture_tokenizer(fixture_folder(&places, "scored"));
	return 0;
}

static int
drop_scored(void **state)
{
	(void) state;
	free(file.data);
	fixture_close(&places);
	return 0;
}

static void
near(const char *what, double got, double want)
{
	if (!(fabs(got - want) <= TOLERANCE * fmax(1, fabs(want))))
		fail_msg("%s is %.9g, not %.9g", what, got, want);
}

/* "N id id ...", of a text: its bytes are its ids. */
static g2_span
read_text(char *bytes)
{
	uint32_t	n,
			   *ids = need_ids(&file, &n);

	assert_true(n <= MAX_BYTES);
	for (uint32_t i = 0; i < n; i++)
		bytes[i] = (char) ids[i];
	free(ids);
	return (g2_span) {bytes, n};
}

static g2_reader
ask(const g2_score *m, reply *r)
{
	g2_reader	in;
	g2_completions_head head;

	free_replies(r, 1);
	send_score(r, 0, m);
	run_until(r);
	head = scores_head(r, &in);
	assert_int_equal(head.n, G2_MAX(m->n_labels, 1u));
	return in;
}

/* ---- texts ---- */

static void
check_tokens(const g2_score *m, reply *r)
{
	g2_reader	in = ask(m, r);
	uint32_t	n = g2_get_u32(&in);

	assert_int_equal(n, m->text.len);
	expect(&file, "logprobs");
	assert_int_equal(need_uint(&file), n - 1);
	for (uint32_t i = 0; i < n; i++)
	{
		g2_token_score token;

		g2_token_score_get(&in, &token);
		assert_int_equal(token.token, (unsigned char) m->text.data[i]);
		assert_int_equal(token.piece.len, 1);
		assert_int_equal(token.piece.data[0], m->text.data[i]);
		if (i == 0)
			assert_true(isnan(token.logprob));
		else
			near("a log-probability", token.logprob, need_number(&file));
	}
	assert_false(in.failed);
	assert_true(in.at == in.end);
}

static void
check_loss(const g2_score *m, reply *r)
{
	g2_reader	in = ask(m, r);
	g2_score_sum sum;

	g2_score_sum_get(&in, &sum);
	assert_false(in.failed);
	assert_int_equal(sum.n, m->text.len - 1);
	if (sum.n > 0)
		near("the loss", -sum.logprob / sum.n, need_key(&file, "loss"));
}

static void
check_embedding(const g2_score *m, reply *r)
{
	g2_reader	in = ask(m, r);
	g2_embedding e;

	g2_embedding_get(&in, &e);
	assert_false(in.failed);
	assert_int_equal(e.n_tokens, m->text.len);
	assert_int_equal(e.n, shape.options.n_embd);
	expect(&file, "embedding");
	assert_int_equal(need_uint(&file), e.n);
	for (uint32_t i = 0; i < e.n; i++)
	{
		float		value;

		memcpy(&value, e.values + i * sizeof value, sizeof value);
		near("a value of the embedding", (double) value, need_number(&file));
	}
}

static void
check_text(reply *r)
{
	static char bytes[MAX_BYTES];
	uint32_t	n = need_uint(&file);
	g2_score	m = {.model = g2_span_of("scored")};

	m.stride = (uint32_t) need_key(&file, "stride");
	expect(&file, "ids");
	m.text = read_text(bytes);
	assert_int_equal(m.text.len, n);
	m.kind = G2_SCORE_TOKENS;
	check_tokens(&m, r);
	m.kind = G2_SCORE_LOSS;
	check_loss(&m, r);
	m.kind = G2_SCORE_EMBED;
	check_embedding(&m, r);
}

/* ---- labels ---- */

static void
check_labels(reply *r)
{
	static char bytes[MAX_BYTES],
				label_bytes[8][MAX_BYTES];
	double		want[8];
	g2_score	m = {
		.model = g2_span_of("scored"), .kind = G2_SCORE_LABELS,
		.template_text = g2_span_of("{input}{label}"),
	};
	g2_reader	in;

	m.n_labels = need_uint(&file);
	assert_true(m.n_labels <= G2_LENGTH(want));
	expect(&file, "ids");
	m.text = read_text(bytes);
	for (uint32_t i = 0; i < m.n_labels; i++)
	{
		expect(&file, "label");
		m.labels[i] = read_text(label_bytes[i]);
		want[i] = need_key(&file, "logprob");
	}
	in = ask(&m, r);
	for (uint32_t i = 0; i < m.n_labels; i++)
	{
		g2_score_sum sum;

		g2_score_sum_get(&in, &sum);
		assert_false(in.failed);
		assert_int_equal(sum.n, m.labels[i].len);
		near("a label's log-likelihood", sum.logprob, want[i]);
	}
}

static void
test_vectors(void **state)
{
	g2_settings s = settings();
	reply		r = {0};
	uint32_t	n_texts = 0,
				n_labels = 0;

	(void) state;
	s.weight_format = g2_span_of("f32");
	open_with(&s);
	for (char *word; (word = next_word(&file));)
		if (strcmp(word, "text") == 0)
		{
			check_text(&r);
			n_texts++;
		}
		else
		{
			assert_string_equal(word, "labels");
			check_labels(&r);
			n_labels++;
		}
	assert_true(n_texts >= 9 && n_labels >= 5);
	free_replies(&r, 1);
	close_engine();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
	};

	return cmocka_run_group_tests_name("scores", tests, make_scored, drop_scored);
}
