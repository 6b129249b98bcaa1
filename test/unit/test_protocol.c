/*
 * test_protocol.c: the messages between backend and engine: handshake, requests, answers, tokens.
 */
#include "protocol_fixture.h"

static const uint32_t some_ids[] = {1, 50256, 0, UINT32_MAX, 7};

/* ---- one of each ---- */

static void
hello_encode(g2_writer *w)
{
	g2_hello_encode(w, &(g2_hello) {G2_PROTOCOL_MAGIC, 1, 2, 3, 4, 5, S("1.0.0")});
}

WHOLE(hello, hello)

static void
welcome_encode(g2_writer *w)
{
	g2_welcome_encode(w, &(g2_welcome) {1, 7, 4711, S("1.2.3")});
}

WHOLE(welcome, welcome)

static void
session_encode(g2_writer *w)
{
	g2_session_message_encode(w, &(g2_session_message) {10, S("alice"),
							  {G2_LIMIT_UNSET, G2_UNLIMITED, INT64_MAX}, 3});
}

WHOLE(session, session_message)

static void
access_encode(g2_writer *w)
{
	g2_access_encode(w, &(g2_access) {S("demo"), 10, UINT64_MAX});
}

WHOLE(access, access)

static void
roles_encode(g2_writer *w)
{
	g2_roles	m = {.token = 99, .n = 3, .roles = {S("hr"), S(""), S("two words")},
	.owner = {S("boss"), UINT32_MAX, UINT64_MAX}};

	g2_roles_encode(w, &m);
}

WHOLE(roles, roles)

static char *
text_of(g2_span s)
{
	char	   *text = calloc(1, (size_t) s.len + 1);

	assert_non_null(text);
	memcpy(text, s.data, s.len);
	return text;
}

static void
error_encode(g2_writer *w)
{
	g2_error_encode(w, "22023", "top_p is wrong", "It is 7.", "Say 1.", true);
}

static bool
error_decode(const void *p, size_t n, message *m)
{
	return g2_error_decode(p, n, &m->error);
}

static void
error_again(g2_writer *w, const message *m)
{
	char	   *texts[3] = {text_of(m->error.message), text_of(m->error.detail),
	text_of(m->error.hint)};

	g2_error_encode(w, m->error.sqlstate, texts[0], texts[1], texts[2], m->error.of_options);
	for (int i = 0; i < 3; i++)
		free(texts[i]);
}

static void
notice_encode(g2_writer *w)
{
	g2_notice_encode(w, G2_LEVEL_WARNING, "loading", "Wait.");
}

static bool
notice_decode(const void *p, size_t n, message *m)
{
	return g2_notice_decode(p, n, &m->notice);
}

static void
notice_again(g2_writer *w, const message *m)
{
	char	   *texts[2] = {text_of(m->notice.message), text_of(m->notice.hint)};

	g2_notice_encode(w, (g2_level) m->notice.level, texts[0], texts[1]);
	free(texts[0]);
	free(texts[1]);
}

static void
generate_encode(g2_writer *w)
{
	g2_generate m = {
		.model = S("demo"), .prompt = S("a\0b"), .max_new = 50, .n = 3,
		.flags = G2_GEN_LOGPROBS | G2_GEN_MAX_LENGTH | G2_GEN_NO_CACHE, .temperature = 0.7,
		.top_k = 40, .top_p = 0.9, .min_p = 0.01, .repetition_penalty = 1.1, .seed = UINT64_MAX,
		.n_stops = 3, .stops = {S("\n"), S(""), S("END")}, .task = S("summarize"),
		.template_text = S("{input}:"), .current_user = 10, .cache_salt = S("salt"),
		.queue_timeout_ms = 30000,
		.decoding = {
			.typical_p = 0.5, .presence_penalty = -1, .frequency_penalty = 2, .no_repeat_ngram = 3,
			.min_new = 4, .n_beams = 5, .length_penalty = 0.6, .n_biases = 2,
			.biases = "\1\0\0\0bias\2\0\0\0bias",
		},
		.constraint_kind = G2_CONSTRAINT_REGEX,
		.constraint = S("[a-z]+"),
	};

	g2_generate_encode(w, &m);
}

WHOLE(generate, generate)

static void
head_encode(g2_writer *w)
{
	g2_completions_head_encode(w, &(g2_completions_head) {256, 1, 2, 3, 4, UINT64_MAX, 1});
}

PART(head, completions_head)

static void
completion_encode(g2_writer *w)
{
	g2_completion_encode(w, &(g2_completion) {G2_FINISH_STOP, -1.5, G2_LENGTH(some_ids),
						 (const char *) some_ids, S("text")});
}

PART(completion, completion)

static void
stream_encode(g2_writer *w)
{
	g2_stream_encode(w, &(g2_stream) {7, 50256, -0.25, S("piece")});
}

WHOLE(stream, stream)

static void
tokenize_encode(g2_writer *w)
{
	g2_tokenize_encode(w, &(g2_tokenize) {S("demo"), S("some text"), 1, 10});
}

WHOLE(tokenize, tokenize)

static void
tokens_encode(g2_writer *w)
{
	g2_tokens_encode(w, G2_LENGTH(some_ids), some_ids);
}

static bool
tokens_decode(const void *p, size_t n, message *m)
{
	return g2_tokens_decode(p, n, &m->tokens);
}

static uint32_t *
ids_of(const char *bytes, uint32_t count)
{
	uint32_t   *ids = malloc((count + 1) * sizeof *ids);

	assert_non_null(ids);
	if (count > 0)
		memcpy(ids, bytes, count * sizeof *ids);
	return ids;
}

static void
tokens_again(g2_writer *w, const message *m)
{
	uint32_t   *ids = m->tokens.ids ? ids_of(m->tokens.ids, m->tokens.count) : NULL;

	g2_tokens_encode(w, m->tokens.count, ids);
	free(ids);
}

static void
detokenize_encode(g2_writer *w)
{
	g2_detokenize_encode(w, S("demo"), G2_LENGTH(some_ids), some_ids, 7);
}

static bool
detokenize_decode(const void *p, size_t n, message *m)
{
	return g2_detokenize_decode(p, n, &m->detokenize);
}

static void
detokenize_again(g2_writer *w, const message *m)
{
	uint32_t   *ids = ids_of(m->detokenize.ids, m->detokenize.count);

	g2_detokenize_encode(w, m->detokenize.model, m->detokenize.count, ids,
						  m->detokenize.current_user);
	free(ids);
}

static void
load_encode(g2_writer *w)
{
	g2_load_encode(w, &(g2_load) {S("demo"), S("f32"), S("cpu")});
}

WHOLE(load, load)

static const kind kinds[] = {
	KIND(hello, 7), KIND(welcome, 4), KIND(session, 6), KIND(access, 3), KIND(roles, 4),
	KIND(error, 4), KIND(notice, 2), KIND(generate, 27), KIND(head, 7), KIND(completion, 3),
	KIND(stream, 4), KIND(tokenize, 4), KIND(tokens, 2), KIND(detokenize, 3), KIND(load, 3),
};

/* ---- tests over all of them ---- */

static void
test_round_trip(void **state)
{
	(void) state;
	check_all(kinds, G2_LENGTH(kinds), check_round_trip);
}

static void
test_truncated(void **state)
{
	(void) state;
	check_all(kinds, G2_LENGTH(kinds), check_truncated);
}

static void
test_extended(void **state)
{
	(void) state;
	check_all(kinds, G2_LENGTH(kinds), check_extended);
}

static void
test_lying_counts(void **state)
{
	(void) state;
	check_all(kinds, G2_LENGTH(kinds), check_lying_counts);
}

/* ---- single rules ---- */

static void
test_too_many_stops(void **state)
{
	static g2_generate m = {.n = 1};
	static g2_generate out;
	g2_writer	w = writer();

	(void) state;
	for (m.n_stops = 0; m.n_stops < G2_MAX_STOPS; m.n_stops++)
		m.stops[m.n_stops] = S("x");
	g2_generate_encode(&w, &m);
	assert_true(g2_generate_decode(w.data, w.len, &out));
	assert_int_equal(out.n_stops, G2_MAX_STOPS);
	/* One more: the count is found where it stands. */
	for (size_t at = w.len - sizeof(uint32_t) + 1; at-- > 0;)
	{
		const uint32_t count = G2_MAX_STOPS,
					more = G2_MAX_STOPS + 1;

		if (memcmp(w.data + at, &count, sizeof count) != 0)
			continue;
		memcpy(w.data + at, &more, sizeof more);
		break;
	}
	assert_false(g2_generate_decode(w.data, w.len, &out));
	free(w.data);
}

static void
test_too_many_sequences(void **state)
{
	g2_writer	w = writer();
	g2_completions_head head;
	g2_reader	r;

	(void) state;
	g2_completions_head_encode(&w, &(g2_completions_head) {.n = G2_MAX_SEQUENCES + 1});
	r = g2_read(w.data, w.len);
	g2_completions_head_get(&r, &head);
	assert_true(r.failed);
	free(w.data);
}

static void
test_roles(void **state)
{
	static g2_roles m = {.token = 1, .n = G2_MAX_ROLES},
				out;
	const uint32_t more = G2_MAX_ROLES + 1;
	g2_writer	w = writer();

	(void) state;
	for (uint32_t i = 0; i < m.n; i++)
		m.roles[i] = S("x");
	g2_roles_encode(&w, &m);
	assert_true(g2_roles_decode(w.data, w.len, &out));
	assert_int_equal(out.n, G2_MAX_ROLES);
	memcpy(w.data + sizeof m.token, &more, sizeof more);
	g2_put_string(&w, "x");
	assert_false(g2_roles_decode(w.data, w.len, &out));
	/* A token of 0 means none: it must not let anybody in. */
	w.len = 0;
	m.token = 0;
	m.n = 1;
	g2_roles_encode(&w, &m);
	assert_false(g2_roles_decode(w.data, w.len, &out));
	free(w.data);
}

static void
test_limits(void **state)
{
	static const int64_t bad[] = {G2_LIMIT_UNSET - 1, -1000, INT64_MIN};

	(void) state;
	for (int i = 0; i < G2_N_LIMITS; i++)
		for (size_t b = 0; b < G2_LENGTH(bad); b++)
		{
			g2_session_message m = {.user_name = S("alice")};
			g2_writer	w = writer();

			g2_session_message_encode(&w, &m);
			assert_true(g2_session_message_decode(w.data, w.len, &m));
			m.limits[i] = bad[b];
			w.len = 0;
			g2_session_message_encode(&w, &m);
			assert_false(g2_session_message_decode(w.data, w.len, &m));
			free(w.data);
		}
}

/* Elements that a count announces must be there: a reader would go round for nothing otherwise. */
static void
test_missing_elements(void **state)
{
	g2_reader	r = g2_read(NULL, 0);
	g2_completion completion;

	(void) state;
	g2_completion_get(&r, &completion);
	assert_true(r.failed);
}

static void
test_sqlstates(void **state)
{
	static const char *const bad[] = {"2202", "22 23", "2202a", "\0\0\0\0\0", "22023"};
	g2_error_message m;

	(void) state;
	for (size_t i = 0; i + 1 < G2_LENGTH(bad); i++)
		assert_false(g2_error_decode(bad[i], 5, &m));
	assert_true(g2_error_decode(bad[4], 5, &m));
	assert_string_equal(m.sqlstate, "22023");
	assert_int_equal(m.message.len, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_extended), cmocka_unit_test(test_lying_counts),
		cmocka_unit_test(test_too_many_stops), cmocka_unit_test(test_too_many_sequences),
		cmocka_unit_test(test_roles), cmocka_unit_test(test_limits),
		cmocka_unit_test(test_missing_elements), cmocka_unit_test(test_sqlstates),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
