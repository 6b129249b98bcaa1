/*
 * test_requests.c: what the fields of a request mean, and every error that one can have.
 */
#include <math.h>

#include "engine_driver.h"

typedef struct bad
{
	const char *sqlstate;
	const char *part;
	void		(*change) (g2_generate *m);
} bad;

#define CHANGE(name, statement) static void name(g2_generate *m) { statement; }
static const uint32_t bad_ids[] = {1, 257},
			many_ids[N_CTX] = {1};
static char long_text[G2_MAX_TEXT / 16 + 1];

CHANGE(no_tokens, m->max_new = 0)
CHANGE(no_sequence, m->n = 0)
CHANGE(many_sequences, m->n = G2_MAX_SEQUENCES + 1)
CHANGE(huge_n, m->n = 0x7FFFFFFF)
CHANGE(greedy_n, m->n = 2; m->temperature = 0)
CHANGE(cold, m->temperature = -1)
CHANGE(hot, m->temperature = 101)
CHANGE(nan_temperature, m->temperature = NAN)
CHANGE(zero_top_p, m->top_p = 0)
CHANGE(big_top_p, m->top_p = 1.5)
CHANGE(nan_top_p, m->top_p = NAN)
CHANGE(low_min_p, m->min_p = -0.1)
CHANGE(nan_min_p, m->min_p = NAN)
CHANGE(zero_penalty, m->repetition_penalty = 0)
CHANGE(nan_penalty, m->repetition_penalty = NAN)
CHANGE(huge_penalty, m->repetition_penalty = INFINITY)
CHANGE(empty_stop, m->n_stops = 1; m->stops[0] = g2_span_of(""))
CHANGE(long_stop, m->n_stops = 1; m->stops[0] = ((g2_span) {long_text, G2_MAX_STOP_BYTES + 1}))
CHANGE(half_id, m->flags |= G2_GEN_PROMPT_IDS; m->prompt = g2_span_of("abc"))
CHANGE(bad_id, m->flags |= G2_GEN_PROMPT_IDS;
	   m->prompt = ((g2_span) {(const char *) bad_ids, sizeof bad_ids}))
CHANGE(context_ids, m->flags |= G2_GEN_PROMPT_IDS;
	   m->prompt = ((g2_span) {(const char *) many_ids, sizeof many_ids}))
CHANGE(context_text, m->prompt = ((g2_span) {long_text, N_CTX}))
CHANGE(longer_text, m->prompt = ((g2_span) {long_text, sizeof long_text - 1}))
CHANGE(max_length, m->flags |= G2_GEN_MAX_LENGTH; m->max_new = 5; m->prompt = g2_span_of("12345"))
CHANGE(no_task, m->task = g2_span_of("sing"))
CHANGE(no_model, m->model = g2_span_of("nosuch"))
CHANGE(dots, m->model = g2_span_of("../tiny"))
CHANGE(no_name, m->model = g2_span_of(""))
CHANGE(no_tokenizer, m->model = g2_span_of("bare"))
CHANGE(no_start, m->model = g2_span_of("bare"); m->prompt = g2_span_of("");
	   m->flags |= G2_GEN_PROMPT_IDS)

static const bad bads[] = {
	{"22023", "max_len", no_tokens}, {"22023", "n must", no_sequence},
	{"54000", "n must", many_sequences}, {"54000", "n must", huge_n},
	{"22023", "n > 1", greedy_n}, {"22023", "temperature", cold}, {"22023", "temperature", hot},
	{"22023", "temperature", nan_temperature}, {"22023", "top_p", zero_top_p},
	{"22023", "top_p", big_top_p}, {"22023", "top_p", nan_top_p}, {"22023", "min_p", low_min_p},
	{"22023", "min_p", nan_min_p}, {"22023", "repetition_penalty", zero_penalty},
	{"22023", "repetition_penalty", nan_penalty}, {"22023", "repetition_penalty", huge_penalty},
	{"22023", "stop string", empty_stop}, {"54000", "stop string", long_stop},
	{"XX000", "prompt ids", half_id}, {"22023", "257", bad_id}, {"54000", "context", context_ids},
	{"54000", "context", context_text}, {"54000", "context", longer_text},
	{"22023", "max_length", max_length}, {"22023", "\"sing\"", no_task},
	{"42704", "nosuch", no_model}, {"42602", "", dots}, {"42602", "", no_name},
	{"0A000", "tokenizer", no_tokenizer}, {"22023", "empty", no_start},
};

static void
test_errors(void **state)
{
	(void) state;
	open_engine();
	memset(long_text, 'x', sizeof long_text - 1);
	for (size_t i = 0; i < G2_LENGTH(bads); i++)
	{
		reply		r = {0};
		g2_generate m = generate("hello");

		bads[i].change(&m);
		send_generate(&r, 0, &m);
		run_until(&r);
		expect_error(&r, bads[i].sqlstate, bads[i].part);
		free_replies(&r, 1);
	}
	close_engine();
}

static void
test_other_errors(void **state)
{
	const uint32_t ids[] = {5, 300};
	reply		r[8] = {0};
	g2_writer	w = {.grow = grow};

	(void) state;
	open_engine();
	send_load(r, 0, "tiny", "q99", "");
	send_load(r, 1, "tiny", "", "tpu");
	send_unload(r, 2, "tiny");
	g2_engine_submit(client_of(r), 3, G2_MSG_GENERATE, "abc", 3);
	g2_engine_submit(client_of(r), 4, G2_MSG_UNLOAD, "\377\377\377", 3);
	g2_detokenize_encode(&w, g2_span_of("tiny"), 2, ids, 0);
	g2_engine_submit(client_of(r), 5, G2_MSG_DETOKENIZE, w.data, w.len);
	free(w.data);
	send_tokenize(r, 6, "bare", "x", 1, false);
	send_load(r, 7, "nosuch", "", "auto");
	run_idle();
	expect_error(&r[0], "22023", "q99");
	expect_error(&r[1], "0A000", "tpu");
	expect_error(&r[2], "42704", "not loaded");
	expect_error(&r[3], "XX000", "malformed");
	expect_error(&r[4], "XX000", "malformed");
	expect_error(&r[5], "22023", "300");
	expect_error(&r[6], "0A000", "tokenizer");
	expect_error(&r[7], "42704", "nosuch");
	free_replies(r, 8);
	close_engine();
}

static void
first_completion(const reply *r, g2_completions_head *head, g2_completion *c)
{
	g2_reader	in = g2_read(r->data, r->len);

	assert_int_equal(r->type, G2_MSG_COMPLETIONS);
	g2_completions_head_get(&in, head);
	g2_completion_get(&in, c);
	assert_false(in.failed);
}

static void
test_lengths(void **state)
{
	static const uint32_t ids[N_CTX - 1] = {1};
	reply		r[6] = {0};
	g2_completions_head head;
	g2_completion c;
	g2_generate m = generate("12345");

	(void) state;
	open_engine();
	m.temperature = 0;
	m.flags |= G2_GEN_MAX_LENGTH;
	m.max_new = 6;
	send_generate(r, 0, &m);
	m.max_new = UINT32_MAX;
	send_generate(r, 1, &m);
	m.flags = 0;
	send_generate(r, 2, &m);
	m.prompt = (g2_span) {(const char *) ids, sizeof ids};
	m.flags = G2_GEN_PROMPT_IDS;
	send_generate(r, 3, &m);
	m = generate("");
	send_generate(r, 4, &m);
	/* Smallest values that are above 0 as doubles, but not as floats. */
	m = generate("abc");
	m.top_p = 1e-300;
	m.repetition_penalty = 1e-300;
	m.temperature = 1e-300;
	send_generate(r, 5, &m);
	run_idle();
	first_completion(&r[0], &head, &c);
	assert_true(c.n_ids == 1 && head.prompt_tokens == 5);
	for (int i = 1; i <= 2; i++)
	{
		first_completion(&r[i], &head, &c);
		assert_true(c.n_ids == N_CTX - 5 || c.finish == G2_FINISH_EOS);
	}
	first_completion(&r[3], &head, &c);
	assert_int_equal(c.n_ids, 1);
	assert_int_equal(head.prompt_tokens, N_CTX - 1);
	first_completion(&r[4], &head, &c);
	assert_int_equal(head.prompt_tokens, 1);
	first_completion(&r[5], &head, &c);
	free_replies(r, 6);
	close_engine();
}

/* A task's stops hold where the request has none of its own. */
static void
test_stops(void **state)
{
	reply		r[3] = {0};
	g2_generate m = generate("hello");
	g2_completions_head head;
	g2_completion c;

	(void) state;
	open_engine();
	m.max_new = 100;
	m.task = g2_span_of("shout");
	send_generate(r, 0, &m);
	m.flags |= G2_GEN_NO_STOP_DEFAULTS;
	send_generate(r, 1, &m);
	m.flags = 0;
	m.template_text = g2_span_of("{input}{input}");
	m.n_stops = 1;
	m.stops[0] = g2_span_of("nothing that random bytes say");
	send_generate(r, 2, &m);
	run_idle();
	for (int i = 0; i < 3; i++)
	{
		uint32_t	last;

		first_completion(&r[i], &head, &c);
		assert_int_equal(head.prompt_tokens, i < 2 ? 6 : 10);
		memcpy(&last, c.ids + (c.n_ids - 1) * sizeof last, sizeof last);
		if (c.finish == G2_FINISH_STOP)
		{
			assert_int_equal(i, 0);
			assert_true(last == 'e' || last == 't');
		}
		if (i == 0)
			assert_true(!memchr(c.text.data, 'e', c.text.len) &&
						!memchr(c.text.data, 't', c.text.len));
	}
	free_replies(r, 3);
	close_engine();
}

static void
test_tokens(void **state)
{
	const uint32_t ids[] = {'a', 0, 0xC3, 256, 0xE4};
	reply		r[5] = {0};
	g2_writer	w = {.grow = grow};
	g2_tokens	tokens;
	g2_reader	in;
	g2_span		text;

	(void) state;
	open_engine();
	send_tokenize(r, 0, "tiny", "ab\xFF", 3, false);
	send_tokenize(r, 1, "tiny", "ab\xFF", 3, true);
	send_tokenize(r, 2, "tiny", "", 0, false);
	g2_detokenize_encode(&w, g2_span_of("tiny"), 5, ids, 0);
	g2_engine_submit(client_of(r), 3, G2_MSG_DETOKENIZE, w.data, w.len);
	w.len = 0;
	g2_detokenize_encode(&w, g2_span_of("tiny"), 0, NULL, 0);
	g2_engine_submit(client_of(r), 4, G2_MSG_DETOKENIZE, w.data, w.len);
	run_idle();
	assert_true(g2_tokens_decode(r[0].data, r[0].len, &tokens));
	assert_int_equal(tokens.count, 3);
	assert_memory_equal(tokens.ids, ((uint32_t[]) {'a', 'b', 0xFF}), 12);
	assert_true(g2_tokens_decode(r[1].data, r[1].len, &tokens));
	assert_int_equal(tokens.count, 3);
	assert_null(tokens.ids);
	/* No tokens are an array too. */
	assert_true(g2_tokens_decode(r[2].data, r[2].len, &tokens));
	assert_int_equal(tokens.count, 0);
	assert_non_null(tokens.ids);
	in = g2_read(r[3].data, r[3].len);
	text = g2_get_span(&in);
	assert_int_equal(text.len, 1 + 3 + 3 + 13);
	assert_memory_equal(text.data, "a\xEF\xBF\xBD\xEF\xBF\xBD<|endoftext|>", text.len);
	in = g2_read(r[4].data, r[4].len);
	assert_int_equal(g2_get_span(&in).len, 0);
	assert_false(in.failed);
	free(w.data);
	free_replies(r, 5);
	close_engine();
}

/* Who asks for one thing does not wait for all that somebody else has asked for. */
static void
test_helpers_turns(void **state)
{
	enum
	{
		N = 300
	};
	static reply many[N];
	reply		one = {0};
	uint32_t	before = 0;

	(void) state;
	memset(long_text, 'a', 60000);
	open_engine();
	send_load(&one, 0, "tiny", "", "");
	run_until(&one);
	free_replies(&one, 1);
	for (uint32_t i = 0; i < N; i++)
		send_tokenize(many, i, "tiny", long_text, 60000, true);
	send_tokenize(&one, 0, "tiny", "ab", 2, true);
	run_until(&one);
	for (uint32_t i = 0; i < N; i++)
		before += many[i].type != 0;
	assert_true(before < 20);
	/* Its own come in order of arrival; those that are cancelled do not come. */
	g2_engine_cancel(client_of(many), 100);
	g2_engine_cancel(client_of(many), N - 1);
	run_idle();
	for (uint32_t i = 0; i < N; i++)
		assert_int_equal(many[i].answers, i != 100 && i != N - 1);
	free_replies(many, N);
	free_replies(&one, 1);
	/* The engine may end, or the client leave, with most of them still waiting. */
	for (uint32_t i = 0; i < N; i++)
		send_tokenize(many, i, "tiny", long_text, 60000, true);
	leave(many);
	check_idle();
	for (uint32_t i = 0; i < N; i++)
		send_tokenize(many, i, "tiny", long_text, 60000, true);
	abandon_engine();
	free_replies(many, N);
}

/* The queue is bounded, and one role does not use it up for all others. */
static void
test_full_queue(void **state)
{
	static reply many[150];
	reply		one = {0};
	g2_settings s = settings();
	g2_writer	w = {.grow = grow};
	g2_error	err;

	(void) state;
	s.max_queued = 130;
	open_with(&s);
	g2_session_message_encode(&w, &(g2_session_message) {.session_user = 7,
							  .user_name = g2_span_of("other")});
	EXPECT_OK(g2_engine_tell(client_of(&one), G2_MSG_SESSION, w.data, w.len, &err), err);
	for (uint32_t i = 0; i < G2_LENGTH(many); i++)
		send_tokenize(many, i, "tiny", "ab", 2, true);
	send_tokenize(&one, 0, "tiny", "ab", 2, true);
	for (uint32_t i = 0; i < G2_LENGTH(many); i++)
		if (i < 128)
			assert_int_equal(many[i].type, 0);
		else
			expect_error(&many[i], "53400", "128 requests are waiting");
	assert_int_equal(one.type, 0);
	run_idle();
	assert_int_equal(one.type, G2_MSG_TOKENS);
	assert_int_equal(many[127].type, G2_MSG_TOKENS);
	free(w.data);
	free_replies(many, G2_LENGTH(many));
	free_replies(&one, 1);
	close_engine();
}

/* Long requests of one role, in however many sessions, leave room for those of another. */
static void
test_long_ones(void **state)
{
	enum
	{
		SESSIONS = 6, EACH = 4, BYTES = 70000
	};
	static reply many[SESSIONS][EACH],
				other[1],
				loaded[1];
	char	   *text = malloc(BYTES);

	(void) state;
	assert_non_null(text);
	memset(text, 'a', BYTES);
	open_engine();
	send_load(loaded, 0, "tiny", "", "");
	run_until(loaded);
	for (uint32_t s = 0; s < SESSIONS; s++)
	{
		attach_as(many[s], &(g2_hello) {.pid = s, .session_user = 10});
		for (uint32_t i = 0; i < EACH; i++)
			send_tokenize(many[s], i, "tiny", text, BYTES, true);
	}
	attach_as(other, &(g2_hello) {.pid = SESSIONS, .session_user = 11});
	n_replies = 0;
	send_tokenize(other, 0, "tiny", text, BYTES, true);
	/* some wait that nobody waits for any more */
	assert_true(g2_engine_cancel(client_of(many[SESSIONS - 1]), EACH - 1));
	leave(many[SESSIONS - 2]);
	run_idle();
	assert_int_equal(other->type, G2_MSG_TOKENS);
	if (other->order > 5)
		fail_msg("%u long requests of another role came first", other->order - 1);
	for (uint32_t s = 0; s < SESSIONS; s++)
	{
		for (uint32_t i = 0; i < EACH; i++)
			if (s != SESSIONS - 2 && !(s == SESSIONS - 1 && i == EACH - 1))
				assert_int_equal(many[s][i].type, G2_MSG_TOKENS);
		free_replies(many[s], EACH);
	}
	free_replies(other, 1);
	free_replies(loaded, 1);
	free(text);
	close_engine();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_other_errors),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_stops),
		cmocka_unit_test(test_tokens),
		cmocka_unit_test(test_helpers_turns),
		cmocka_unit_test(test_full_queue),
		cmocka_unit_test(test_long_ones),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
