/*
 * test_streams.c: GENERATE with G2_GEN_STREAM: what came token by token is what comes as a whole,
 * whatever stop strings hold back and wherever tokens cut characters.
 */
#include "engine_driver.h"

/* Bytes that make characters of one to four bytes, and that break them. */
static const unsigned char some_bytes[] = {
	'a', 'b', 0xC3, 0xA9, 0xE2, 0x82, 0xAC, 0xF0, 0x9F, 0x98, 0x80, 0,
};

#define N_BYTES sizeof some_bytes
#define N_PIECES (256 + N_BYTES * N_BYTES * (1 + N_BYTES))	/* bytes, pairs, triples */

/* Their beginnings come often; some end in the middle of a character, or begin there. */
static const char *const some_stops[] = {
	"ab", "aab", "bbb", "abab\xC3\xA9", "\xC3\xA9", "b\xC3\xA9", "\xC3\xA9" "a", "\xE2\x82\xAC",
	"\xE2\x82\xAC\xE2\x82\xAC", "\xF0\x9F\x98\x80", "a\xF0\x9F\x98\x80", "\x82\xAC", "\xA9" "b",
	"nothing of it", "a\xC3",
};

/* ---- a model whose tokens end anywhere in characters ---- */

/* The character of a byte in vocab.json and merges.txt. */
static uint32_t
character_of(unsigned char byte)
{
	uint32_t	other = 256;

	for (int b = 0;; b++)
	{
		bool		printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;

		if (b == byte)
			return printable ? (uint32_t) b : other;
		other += !printable;
	}
}

static void
put_piece(g2_buf *vocab, const unsigned char *bytes, size_t n, uint32_t id)
{
	g2_buf_printf(vocab, "%s\"", id ? "," : "{");
	for (size_t i = 0; i < n; i++)
		g2_buf_printf(vocab, "\\u%04x", (unsigned) character_of(bytes[i]));
	g2_buf_printf(vocab, "\":%u", (unsigned) id);
}

/* The last of the bytes is joined to those before it. */
static void
put_merge(g2_buf *merges, const unsigned char *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
	{
		uint32_t	c = character_of(bytes[i]);

		if (i == n - 1)
			g2_buf_printf(merges, " ");
		if (c < 0x80)
			g2_buf_printf(merges, "%c", (char) c);
		else
			g2_buf_printf(merges, "%c%c", (char) (0xC0 | c >> 6), (char) (0x80 | (c & 0x3F)));
	}
	g2_buf_printf(merges, "\n");
}

static void
put_all(g2_buf *vocab, g2_buf *merges, size_t n, uint32_t *id)
{
	size_t		count = 1;

	for (size_t i = 0; i < n; i++)
		count *= N_BYTES;
	for (size_t i = 0; i < count; i++)
	{
		unsigned char bytes[3];

		for (size_t k = 0, rest = i; k < n; k++, rest /= N_BYTES)
			bytes[k] = some_bytes[rest % N_BYTES];
		put_piece(vocab, bytes, n, (*id)++);
		put_merge(merges, bytes, n);
	}
}

static void
make_cutting_model(void)
{
	g2_synth_options options = tiny_model;
	g2_buf		vocab = {0},
				merges = {0};
	uint32_t	id = 0;

	options.n_vocab = N_PIECES + 1;
	fixture_synth(&places, "cutting", &options);
	for (; id < 256; id++)
		put_piece(&vocab, &(unsigned char) {(unsigned char) id}, 1, id);
	g2_buf_printf(&merges, "#version: 0.2\n");
	put_all(&vocab, &merges, 2, &id);
	put_all(&vocab, &merges, 3, &id);
	assert_int_equal(id, N_PIECES);
	g2_buf_printf(&vocab, ",\"<|endoftext|>\":%u}", (unsigned) id);
	tb_write(fixture_folder(&places, "cutting"), "vocab.json", vocab.data, vocab.len);
	tb_write(fixture_folder(&places, "cutting"), "merges.txt", merges.data, merges.len);
	tb_text(fixture_folder(&places, "cutting"), "gpt2.json",
			"{\"end_token\": \"<|endoftext|>\", \"start_token\": \"<|endoftext|>\"}");
	g2_buf_free(&vocab);
	g2_buf_free(&merges);
}

/* ---- streams beside whole answers ---- */

static g2_completion
only_completion(const reply *r)
{
	g2_reader	in = g2_read(r->data, r->len);
	g2_completions_head head;
	g2_completion c;

	if (r->type != G2_MSG_COMPLETIONS)
		expect_error(r, "00000", "");
	check_completions(r->data, r->len, 1);
	g2_completions_head_get(&in, &head);
	g2_completion_get(&in, &c);
	return c;
}

static void
check_stream(const streamed *s, const g2_completion *c)
{
	assert_false(s->gap);
	assert_int_equal(s->n, c->n_ids);
	assert_memory_equal(s->ids, c->ids, s->n * sizeof *s->ids);
	assert_true(s->logprob == c->logprob);
	assert_int_equal(s->len, c->text.len);
	if (s->len > 0)
		assert_memory_equal(s->text, c->text.data, s->len);
}

/* What the texts had, so that nothing is tested for nothing. */
static struct
{
	uint32_t	stopped,
				ended,
				broken,
				whole;			/* characters of several bytes */
}			seen;

static void
look_at(const g2_completion *c)
{
	uint32_t	n = 0;

	seen.stopped += c->finish == G2_FINISH_STOP;
	seen.ended += c->finish == G2_FINISH_EOS;
	for (uint32_t i = 0; i + 2 < c->text.len; i++)
		n += memcmp(c->text.data + i, "\xEF\xBF\xBD", 3) == 0;
	seen.broken += n;
	for (uint32_t i = 0; i < c->text.len; i++)
		seen.whole += (unsigned char) c->text.data[i] >= 0xC0;
	seen.whole -= n;
}

static void
send_stream(reply *r, streamed *s, const g2_generate *m)
{
	g2_generate with = *m;

	memset(s, 0, sizeof *s);
	r->streamed = s;
	with.flags |= G2_GEN_STREAM;
	send_generate(r, 0, &with);
}

/* Each of n random requests as a whole, then all of them streamed at once. */
static void
compare(const char *model, uint32_t n)
{
	static char texts[64][128];
	static reply whole[64],
				parts[64];
	static streamed s[64];
	g2_generate m[64];

	for (uint32_t i = 0; i < n; i++)
	{
		m[i] = random_generate(texts[i]);
		m[i].model = g2_span_of(model);
		m[i].n = 1;
		m[i].decoding.n_beams = 0;
		m[i].temperature = 0.5 * random_below(4);
		m[i].n_stops = random_below(4);
		for (uint32_t k = 0; k < m[i].n_stops; k++)
			m[i].stops[k] = g2_span_of(some_stops[random_below(G2_LENGTH(some_stops))]);
		send_generate(whole, i, &m[i]);
	}
	run_idle();
	for (uint32_t i = 0; i < n; i++)
		send_stream(&parts[i], &s[i], &m[i]);
	run_idle();
	for (uint32_t i = 0; i < n; i++)
	{
		g2_completion c = only_completion(&parts[i]);

		same_answer(&whole[i], &parts[i]);
		check_stream(&s[i], &c);
		look_at(&c);
		leave(&parts[i]);
	}
	free_replies(whole, n);
	free_replies(parts, n);
	leave(whole);
}

static void
test_cut_characters(void **state)
{
	(void) state;
	open_engine();
	for (int round = 0; round < 20; round++)
		compare("cutting", 30);
	assert_true(seen.stopped > 20 && seen.broken > 1000 && seen.whole > 100);
	close_engine();
}

static void
test_bytes(void **state)
{
	(void) state;
	open_engine();
	memset(&seen, 0, sizeof seen);
	for (int round = 0; round < 10; round++)
		compare("tiny", 30);
	assert_true(seen.ended > 0 && seen.broken > 1000);
	close_engine();
}

/* Preempted again and again, a stream has each of its tokens once. */
static void
test_preempted(void **state)
{
	g2_settings s = settings();

	(void) state;
	s.kv_cache_size = 1;
	open_with(&s);
	for (int round = 0; round < 4; round++)
		compare("cutting", 20);
	close_engine();
}

/* A model without a tokenizer streams tokens without text. */
static void
test_no_text(void **state)
{
	static const uint32_t ids[] = {1, 2, 3};
	static streamed s;
	reply		r = {0};
	g2_generate m = generate("");
	g2_completion c;

	(void) state;
	open_engine();
	m.model = g2_span_of("bare");
	m.flags |= G2_GEN_PROMPT_IDS;
	m.prompt = (g2_span) {(const char *) ids, sizeof ids};
	send_stream(&r, &s, &m);
	run_until(&r);
	c = only_completion(&r);
	check_stream(&s, &c);
	assert_int_equal(s.n, m.max_new);
	free_replies(&r, 1);
	close_engine();
}

/* ---- when ---- */

/* The first token comes by itself, before any other is made. */
static void
test_first_at_once(void **state)
{
	static streamed s;
	reply		r = {0};
	g2_generate m = generate("once upon a time");
	int64_t		start = g2_now_us();
	g2_completion c;

	(void) state;
	open_engine();
	for (int round = 0; round < 3; round++)
	{
		m.max_new = 60;
		m.seed = 1;
		send_stream(&r, &s, &m);
		while (s.n == 0)
			turn(start);
		assert_int_equal(s.n, 1);
		assert_int_equal(r.type, 0);
		while (s.n == 1)
			turn(start);
		assert_int_equal(r.type, 0);
		run_until(&r);
		c = only_completion(&r);
		check_stream(&s, &c);
		free_replies(&r, 1);
	}
	close_engine();
}

/* Nothing comes after a cancel, or for who has left. */
static void
test_cancel(void **state)
{
	enum {N = 12};
	static reply r[N];
	static streamed s[N];
	g2_generate m = generate("a long story");

	(void) state;
	open_engine();
	m.max_new = 100;
	m.model = g2_span_of("cutting");
	for (uint32_t round = 0; round < 6; round++)
	{
		int64_t		start = g2_now_us();
		uint32_t	before[N];

		for (uint32_t i = 0; i < N; i++)
		{
			m.seed = round * N + i;
			send_stream(&r[i], &s[i], &m);
		}
		while (s[0].n < 10 * round && !r[0].type)
			turn(start);
		for (uint32_t i = 0; i < N; i++)
		{
			before[i] = s[i].n;
			if (i % 2)
				leave(&r[i]);
			else
				assert_int_equal(g2_engine_cancel(client_of(&r[i]), 0), r[i].type == 0);
		}
		run_idle();
		for (uint32_t i = 0; i < N; i++)
		{
			assert_int_equal(s[i].n, before[i]);
			leave(&r[i]);
		}
		free_replies(r, N);
	}
	close_engine();
}

static void
test_one_only(void **state)
{
	static streamed s;
	reply		r = {0};
	g2_generate m = generate("hello");

	(void) state;
	open_engine();
	m.n = 2;
	send_stream(&r, &s, &m);
	expect_error(&r, "22023", "only one sequence can be streamed");
	assert_int_equal(s.n, 0);
	free_replies(&r, 1);
	close_engine();
}

/* Every allocation fails in turn: an error, or an answer that tells which tokens are missing. */
static void
test_no_memory(void **state)
{
	static streamed s;
	uint32_t	succeeded = 0,
				gaps = 0;

	(void) state;
	open_engine();
	for (long n = 1; succeeded < 20; n++)
	{
		reply		r = {0};
		g2_generate m = generate("some text");

		m.model = g2_span_of("cutting");
		m.seed = 3;
		m.n_stops = 1;
		m.stops[0] = g2_span_of("abab");
		client_of(&r);
		g2_alloc_fail_at(n);
		send_stream(&r, &s, &m);
		run_idle();
		g2_alloc_fail_at(0);
		assert_int_equal(r.answers, 1);
		if (r.type == G2_MSG_ERROR)
			expect_error(&r, "53200", "out of memory");
		else
		{
			g2_completion c = only_completion(&r);

			assert_true(s.n <= c.n_ids);
			gaps += s.n < c.n_ids;
			if (s.n == c.n_ids)
			{
				check_stream(&s, &c);
				succeeded++;
			}
		}
		free_replies(&r, 1);
		leave(&r);
		check_idle();
		assert_true(n < 5000);
	}
	assert_true(gaps > 0);
	close_engine();
}

static int
set_up_all(void **state)
{
	int			result = set_up(state);

	make_cutting_model();
	return result;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cut_characters),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_preempted),
		cmocka_unit_test(test_no_text),
		cmocka_unit_test(test_first_at_once),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_one_only),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, set_up_all, tear_down);
}
