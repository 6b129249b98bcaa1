/*
 * test_engine.c: whole requests through the engine on the CPU back end, with a tiny model.
 */
#include <dirent.h>
#include <math.h>

#include "engine_fixture.h"

#include "engine.h"

/* An answer that has come, or will. */
typedef struct reply
{
	g2_message	type;			/* 0: not yet */
	uint32_t	answers;		/* final messages */
	uint32_t	notices;
	uint32_t	order;			/* 1 = the first of all that came */
	char	   *data;
	size_t		len;
} reply;

static g2_engine *engine;
static uint32_t n_replies,
			n_loads;

static void
on_log(void *arg, g2_level level, const char *message)
{
	(void) arg;
	(void) level;
	n_loads += strstr(message, "loaded model \"") == message;
}

static void
on_answer(void *owner, g2_message type, uint64_t id, const void *payload, size_t len)
{
	reply	   *r = (reply *) owner + id;

	if (type == G2_MSG_NOTICE)
	{
		r->notices++;
		return;
	}
	r->type = type;
	r->answers++;
	r->order = ++n_replies;
	free(r->data);
	r->data = malloc(len + 1);
	assert_non_null(r->data);
	if (len > 0)
		memcpy(r->data, payload, len);
	r->len = len;
}

static void
free_replies(reply *r, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(r[i].data);
	memset(r, 0, n * sizeof *r);
}

static void
open_with(const g2_settings *s)
{
	g2_error	err;

	n_loads = 0;
	EXPECT_OK(g2_engine_open(s, on_log, NULL, &engine, &err), err);
}

static void
open_engine(void)
{
	g2_settings s = settings();

	open_with(&s);
}

/* One turn: waits until there is something to do, and does it. */
static void
turn(int64_t since)
{
	struct pollfd ready = {.fd = g2_engine_fd(engine), .events = POLLIN};

	poll(&ready, 1, 1000);
	g2_engine_run(engine);
	if (g2_now_us() - since > HANG_US)
		fail_msg("it hangs");
}

static void
run_until(const reply *r)
{
	int64_t		start = g2_now_us();

	g2_engine_run(engine);
	while (!r->type)
		turn(start);
}

static void
run_idle(void)
{
	int64_t		start = g2_now_us();

	g2_engine_run(engine);
	while (g2_engine_live(engine) > 0)
		turn(start);
}

static void
send_generate(reply *r, uint64_t id, const g2_generate *m)
{
	g2_writer	w = {.grow = grow};

	g2_generate_encode(&w, m);
	g2_engine_submit(engine, r, on_answer, id, G2_MSG_GENERATE, w.data, w.len);
	free(w.data);
}

static void
send_load(reply *r, uint64_t id, const char *name, const char *format, const char *device)
{
	g2_writer	w = {.grow = grow};

	g2_load_encode(&w, &(g2_load) {g2_span_of(name), g2_span_of(format), g2_span_of(device)});
	g2_engine_submit(engine, r, on_answer, id, G2_MSG_LOAD, w.data, w.len);
	free(w.data);
}

static void
send_unload(reply *r, uint64_t id, const char *name)
{
	g2_writer	w = {.grow = grow};

	g2_put_string(&w, name);
	g2_engine_submit(engine, r, on_answer, id, G2_MSG_UNLOAD, w.data, w.len);
	free(w.data);
}

static void
send_tokenize(reply *r, uint64_t id, const char *model, const char *text, size_t len, bool count)
{
	g2_writer	w = {.grow = grow};

	g2_tokenize_encode(&w, &(g2_tokenize) {g2_span_of(model), {text, (uint32_t) len}, count});
	g2_engine_submit(engine, r, on_answer, id, G2_MSG_TOKENIZE, w.data, w.len);
	free(w.data);
}

static void
expect_error(const reply *r, const char *sqlstate, const char *part)
{
	g2_error_message m;

	if (r->type != G2_MSG_ERROR)
		fail_msg("no error for %s %s", sqlstate, part);
	assert_int_equal(r->answers, 1);
	assert_true(g2_error_decode(r->data, r->len, &m));
	if (strcmp(m.sqlstate, sqlstate) != 0 || !memmem(m.message.data, m.message.len, part,
													 strlen(part)))
		fail_msg("%s %.*s, wanted %s %s", m.sqlstate, (int) m.message.len, m.message.data,
				 sqlstate, part);
}

/* All counters are back at zero. */
static void
check_idle(void)
{
	reply		r = {0};
	g2_info		info;

	run_idle();
	g2_engine_submit(engine, &r, on_answer, 0, G2_MSG_INFO, NULL, 0);
	assert_int_equal(r.type, G2_MSG_INFO_ROW);
	assert_true(g2_info_decode(r.data, r.len, &info));
	assert_int_equal(info.live_requests, 1);	/* itself */
	assert_int_equal(info.live_sequences, 0);
	assert_int_equal(info.kv_blocks_used, 0);
	assert_int_equal(g2_engine_live(engine), 0);
	free_replies(&r, 1);
}

static void
close_engine(void)
{
	check_idle();
	g2_engine_close(engine);
}

/* What must be the same: everything but the time that it took. */
static void
same_answer(const reply *a, const reply *b)
{
	const size_t head = 3 * sizeof(uint32_t) + sizeof(uint64_t),
				tail = head + sizeof(uint64_t);

	assert_int_equal(a->type, G2_MSG_COMPLETIONS);
	assert_int_equal(b->type, G2_MSG_COMPLETIONS);
	assert_int_equal(a->len, b->len);
	assert_memory_equal(a->data, b->data, head);
	assert_memory_equal(a->data + tail, b->data + tail, a->len - tail);
}

/* ---- tests ---- */

/* Alone, and among 40 others that come and go: the same ids, texts and log-probability bits. */
static void
test_exact(void **state)
{
	enum {N = 40};
	static char texts[N][128];
	static reply alone[N],
				together[N];
	g2_generate m[N];

	(void) state;
	open_engine();
	for (uint32_t i = 0; i < N; i++)
	{
		m[i] = random_generate(texts[i]);
		send_generate(alone, i, &m[i]);
		run_until(&alone[i]);
		if (alone[i].type != G2_MSG_COMPLETIONS)
			expect_error(&alone[i], "00000", "");
		check_completions(alone[i].data, alone[i].len, m[i].n);
	}
	for (int round = 0; round < 3; round++)
	{
		int64_t		start = g2_now_us();

		for (uint32_t i = 0; i < N; i++)
		{
			send_generate(together, (i * 7) % N, &m[(i * 7) % N]);
			for (uint32_t k = round > 0 ? random_below(4) : 0; k > 0; k--)
				turn(start);
		}
		run_idle();
		for (uint32_t i = 0; i < N; i++)
			same_answer(&alone[i], &together[i]);
		free_replies(together, N);
	}
	free_replies(alone, N);
	close_engine();
}

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
	send_load(r, 1, "tiny", "", "cuda");
	send_unload(r, 2, "tiny");
	g2_engine_submit(engine, r, on_answer, 3, G2_MSG_GENERATE, "abc", 3);
	g2_engine_submit(engine, r, on_answer, 4, G2_MSG_UNLOAD, "\377\377\377", 3);
	g2_detokenize_encode(&w, g2_span_of("tiny"), 2, ids);
	g2_engine_submit(engine, r, on_answer, 5, G2_MSG_DETOKENIZE, w.data, w.len);
	free(w.data);
	send_tokenize(r, 6, "bare", "x", 1, false);
	send_load(r, 7, "nosuch", "", "auto");
	run_idle();
	expect_error(&r[0], "22023", "q99");
	expect_error(&r[1], "0A000", "cuda");
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
	g2_detokenize_encode(&w, g2_span_of("tiny"), 5, ids);
	g2_engine_submit(engine, r, on_answer, 3, G2_MSG_DETOKENIZE, w.data, w.len);
	w.len = 0;
	g2_detokenize_encode(&w, g2_span_of("tiny"), 0, NULL);
	g2_engine_submit(engine, r, on_answer, 4, G2_MSG_DETOKENIZE, w.data, w.len);
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

/* Cancels at any moment: no answer after one, and nothing left behind. */
static void
test_cancel(void **state)
{
	enum {N = 60};
	static char texts[128];
	static reply r[2][N];

	(void) state;
	open_engine();
	for (int round = 0; round < 8; round++)
	{
		int64_t		start = g2_now_us();
		bool		canceled[2][N] = {{false}};
		uint32_t	n = 0;

		while (n < N)
		{
			uint32_t	victim = random_below(N),
						owner = random_below(2);
			g2_generate m = random_generate(texts);

			send_generate(r[0], n, &m);
			send_tokenize(r[1], n++, "tiny", texts, strlen(texts), false);
			if (random_below(2))
				turn(start);
			if (victim < n && g2_engine_cancel(engine, r[owner], victim))
			{
				assert_int_equal(r[owner][victim].type, 0);
				canceled[owner][victim] = true;
				assert_false(g2_engine_cancel(engine, r[owner], victim));
			}
		}
		if (round % 2)
		{
			g2_engine_cancel_owner(engine, r[0]);
			for (uint32_t i = 0; i < N; i++)
				canceled[0][i] = canceled[0][i] || !r[0][i].type;
		}
		check_idle();
		for (uint32_t i = 0; i < 2 * N; i++)
			assert_int_equal(r[i / N][i % N].answers, !canceled[i / N][i % N]);
		free_replies(r[0], 2 * N);
		/* Sometimes the model is not there when they come. */
		send_unload(r[0], 0, "tiny");
		free_replies(r[0], 1);
	}
	close_engine();
}

static uint32_t
count_models(void)
{
	reply		r = {0};
	g2_reader	in;
	uint32_t	n;

	g2_engine_submit(engine, &r, on_answer, 0, G2_MSG_MODELS, NULL, 0);
	assert_int_equal(r.type, G2_MSG_MODEL_LIST);
	in = g2_read(r.data, r.len);
	n = g2_get_u32(&in);
	for (uint32_t i = 0; i < n; i++)
	{
		g2_model_row row;

		g2_model_row_get(&in, &row);
		assert_false(in.failed);
		assert_true(row.state == G2_MODEL_LOADED || row.state == G2_MODEL_LOADING);
		if (row.state == G2_MODEL_LOADED)
			assert_int_equal(row.context_length, N_CTX);
	}
	assert_true(in.at == in.end);
	free_replies(&r, 1);
	return n;
}

static void
test_loads(void **state)
{
	reply		r[10] = {0};
	g2_generate m = generate("hello");

	(void) state;
	open_engine();
	/* Two sessions that want the same model share one load. */
	for (uint64_t i = 0; i < 5; i++)
		send_load(r, i, "tiny", "", "");
	send_generate(r, 5, &m);
	assert_int_equal(count_models(), 1);
	run_idle();
	for (int i = 0; i < 5; i++)
		assert_int_equal(r[i].type, G2_MSG_DONE);
	assert_int_equal(n_loads, 1);
	/* Unloaded while it runs: that goes on; who comes later waits for a second load. */
	m.max_new = 100;
	send_generate(r, 6, &m);
	for (int i = 0; i < 4; i++)
		g2_engine_run(engine);
	send_unload(r, 7, "tiny");
	assert_int_equal(r[7].type, G2_MSG_DONE);
	assert_int_equal(count_models(), 0);
	send_generate(r, 8, &m);
	assert_int_equal(count_models(), 1);
	run_idle();
	same_answer(&r[6], &r[8]);
	assert_int_equal(n_loads, 2);
	/* Unloaded while it loads: who waits is told. */
	send_unload(r, 7, "tiny");
	free_replies(&r[9], 1);
	send_generate(r, 9, &m);
	send_unload(r, 7, "tiny");
	run_idle();
	expect_error(&r[9], "57014", "cancelled");
	assert_int_equal(count_models(), 0);
	free_replies(r, 10);
	close_engine();
}

/* Names that are no models are forgotten. */
static void
test_names(void **state)
{
	static reply r[300];

	(void) state;
	open_engine();
	for (uint64_t i = 0; i < G2_LENGTH(r); i++)
	{
		char		name[32];

		snprintf(name, sizeof name, "nosuch%u", (unsigned) i);
		send_load(r, i, name, "", "");
	}
	run_idle();
	for (size_t i = 0; i < G2_LENGTH(r); i++)
		expect_error(&r[i], "42704", "nosuch");
	assert_int_equal(count_models(), 0);
	free_replies(r, G2_LENGTH(r));
	close_engine();
}

/* Models that take turns give what they give alone. */
static void
test_two_models(void **state)
{
	enum {N = 20};
	static const uint32_t ids[] = {1, 2, 3, 4, 5};
	static reply alone[N],
				together[N];
	g2_generate m[N];

	(void) state;
	open_engine();
	for (uint32_t i = 0; i < N; i++)
	{
		m[i] = generate("");
		m[i].model = g2_span_of(i % 2 ? "bare" : "tiny");
		m[i].flags |= G2_GEN_PROMPT_IDS;
		m[i].prompt = (g2_span) {(const char *) ids, (1 + i % 5) * (uint32_t) sizeof *ids};
		m[i].max_new = 5 + i;
		send_generate(alone, i, &m[i]);
		run_until(&alone[i]);
	}
	for (uint32_t i = 0; i < N; i++)
		send_generate(together, i, &m[i]);
	run_idle();
	for (uint32_t i = 0; i < N; i++)
		same_answer(&alone[i], &together[i]);
	free_replies(alone, N);
	free_replies(together, N);
	close_engine();
}

/* A cache of one context: requests wait for each other, and one that never fits is refused. */
static void
test_small_cache(void **state)
{
	enum {N = 30};
	static reply r[N + 1];
	g2_settings s = settings();
	g2_generate m = generate("a prompt of some thirty characters");

	(void) state;
	s.kv_cache_size = 1;
	open_with(&s);
	m.max_new = 60;
	for (uint32_t i = 0; i < N; i++)
		send_generate(r, i, &m);
	m.n = 8;
	send_generate(r, N, &m);
	run_idle();
	for (uint32_t i = 1; i < N; i++)
		same_answer(&r[0], &r[i]);
	expect_error(&r[N], "53200", "KV cache");
	free_replies(r, N + 1);
	close_engine();
}

/* Three long texts do not hold up a short one. */
static void
test_long_texts(void **state)
{
	static reply r[4];
	const size_t n = 4 << 20;
	char	   *text = malloc(n);

	(void) state;
	assert_non_null(text);
	memset(text, 'a', n);
	open_engine();
	send_load(r, 0, "tiny", "", "");
	run_idle();
	for (uint64_t i = 0; i < 3; i++)
		send_tokenize(r, i, "tiny", text, n, true);
	send_tokenize(r, 3, "tiny", "short", 5, true);
	run_idle();
	assert_true(r[3].order < r[2].order);
	/* Cancelled in the middle, it ends soon: well before the bound. */
	for (uint64_t i = 0; i < 3; i++)
		send_tokenize(r, i, "tiny", text, n, true);
	g2_engine_cancel_owner(engine, r);
	free_replies(r, 4);
	free(text);
	close_engine();
}

/* Closed at any moment: no answers, no leaks. */
static void
test_close(void **state)
{
	static char texts[20][128];
	static reply r[40];

	(void) state;
	for (int round = 0; round < 12; round++)
	{
		int64_t		start = g2_now_us();
		uint32_t	answers = 0,
					after = 0;

		open_engine();
		for (uint32_t i = 0; i < 20; i++)
		{
			g2_generate m = random_generate(texts[i]);

			send_generate(r, i, &m);
			send_tokenize(r, 20 + i, "tiny", texts[i], strlen(texts[i]), false);
		}
		for (int i = 0; i < round; i++)
			turn(start);
		for (uint32_t i = 0; i < 40; i++)
			answers += r[i].answers;
		g2_engine_close(engine);
		for (uint32_t i = 0; i < 40; i++)
			after += r[i].answers;
		assert_int_equal(answers, after);
		free_replies(r, 40);
	}
}

/* Every allocation fails in turn, first while the engine opens, then in one request. */
static void
test_no_memory(void **state)
{
	g2_settings s = settings();
	bool		open = false;
	uint32_t	succeeded = 0;

	(void) state;
	for (long n = 1; !open; n++)
	{
		g2_error	err;

		g2_alloc_fail_at(n);
		open = g2_engine_open(&s, on_log, NULL, &engine, &err);
		g2_alloc_fail_at(0);
		assert_true(n < 1000);
		if (!open)
			assert_int_equal(err.code, G2_E_MEMORY);
	}
	for (long n = 1; succeeded < 60; n++)
	{
		static reply r[3];
		g2_generate m = generate("hello world");

		m.n = 3;
		m.repetition_penalty = 1.5;
		m.task = g2_span_of("shout");
		g2_alloc_fail_at(n);
		send_generate(r, 0, &m);
		send_tokenize(r, 1, "tiny", "some text", 9, false);
		run_idle();
		g2_alloc_fail_at(0);
		for (int i = 0; i < 2; i++)
		{
			assert_int_equal(r[i].answers, 1);
			if (r[i].type == G2_MSG_ERROR)
				expect_error(&r[i], "53200", "out of memory");
		}
		if (r[0].type != G2_MSG_ERROR && r[1].type != G2_MSG_ERROR)
			succeeded++;
		/* Half of the time the model has to be loaded too. */
		if (n % 2)
			send_unload(r, 2, "tiny");
		free_replies(r, 3);
		check_idle();
		assert_true(n < 5000);
	}
	close_engine();
}

static uint32_t
count_descriptors(void)
{
	DIR		   *dir = opendir("/proc/self/fd");
	uint32_t	n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static void
test_descriptors(void **state)
{
	uint32_t	before = count_descriptors();

	(void) state;
	for (int i = 0; i < 3; i++)
	{
		reply		r = {0};

		open_engine();
		send_load(&r, 0, "tiny", "", "");
		run_idle();
		free_replies(&r, 1);
		g2_engine_close(engine);
	}
	assert_int_equal(count_descriptors(), before);
}

static int
set_up(void **state)
{
	(void) state;
	make_models();
	return 0;
}

static int
tear_down(void **state)
{
	(void) state;
	fixture_close(&places);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exact), cmocka_unit_test(test_errors),
		cmocka_unit_test(test_other_errors), cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_stops), cmocka_unit_test(test_tokens),
		cmocka_unit_test(test_cancel), cmocka_unit_test(test_loads),
		cmocka_unit_test(test_names), cmocka_unit_test(test_two_models),
		cmocka_unit_test(test_small_cache), cmocka_unit_test(test_long_texts),
		cmocka_unit_test(test_close), cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_descriptors),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
