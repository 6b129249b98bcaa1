/*
 * test_protocol.c: every message there and back, cut at every byte, extended at its end, and with
 * counts that its payload does not hold.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "protocol.h"
#include "util.h"

#define S(text) ((g2_span) {text, sizeof(text) - 1})

/* All messages, one at a time. */
typedef union message
{
	g2_hello	hello;
	g2_welcome	welcome;
	g2_error_message error;
	g2_notice	notice;
	g2_generate generate;
	g2_completions_head head;
	g2_completion completion;
	g2_tokenize tokenize;
	g2_tokens	tokens;
	g2_detokenize detokenize;
	g2_load		load;
	g2_model_row row;
	g2_info		info;
	g2_settings settings;
} message;

typedef struct kind
{
	const char *name;
	void		(*encode) (g2_writer *w);
	bool		(*decode) (const void *p, size_t n, message *m);
	/* Writes it again from what was decoded. */
	void		(*again) (g2_writer *w, const message *m);
} kind;

static const uint32_t some_ids[] = {1, 50256, 0, UINT32_MAX, 7};

static void *
grow(void *data, size_t bytes)
{
	return realloc(data, bytes);
}

static g2_writer
writer(void)
{
	return (g2_writer) {.grow = grow};
}

/* ---- one of each ---- */

static void
hello_encode(g2_writer *w)
{
	g2_hello_encode(w, &(g2_hello) {G2_PROTOCOL_MAGIC, 1, 2, 3, 4, 5, S("1.0.0")});
}

static bool
hello_decode(const void *p, size_t n, message *m)
{
	return g2_hello_decode(p, n, &m->hello);
}

static void
hello_again(g2_writer *w, const message *m)
{
	g2_hello_encode(w, &m->hello);
}

static void
welcome_encode(g2_writer *w)
{
	g2_welcome_encode(w, &(g2_welcome) {1, 7, 4711, S("1.2.3")});
}

static bool
welcome_decode(const void *p, size_t n, message *m)
{
	return g2_welcome_decode(p, n, &m->welcome);
}

static void
welcome_again(g2_writer *w, const message *m)
{
	g2_welcome_encode(w, &m->welcome);
}

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
	g2_error_encode(w, "22023", "top_p is wrong", "It is 7.", "Say 1.");
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

	g2_error_encode(w, m->error.sqlstate, texts[0], texts[1], texts[2]);
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
		.flags = G2_GEN_LOGPROBS | G2_GEN_MAX_LENGTH, .temperature = 0.7, .top_k = 40,
		.top_p = 0.9, .min_p = 0.01, .repetition_penalty = 1.1, .seed = UINT64_MAX, .n_stops = 3,
		.stops = {S("\n"), S(""), S("END")}, .task = S("summarize"),
		.template_text = S("{input}:"),
	};

	g2_generate_encode(w, &m);
}

static bool
generate_decode(const void *p, size_t n, message *m)
{
	return g2_generate_decode(p, n, &m->generate);
}

static void
generate_again(g2_writer *w, const message *m)
{
	g2_generate_encode(w, &m->generate);
}

static void
head_encode(g2_writer *w)
{
	g2_completions_head_encode(w, &(g2_completions_head) {256, 1, 2, 3, 4, 5, 1});
}

static bool
head_decode(const void *p, size_t n, message *m)
{
	g2_reader	r = g2_read(p, n);

	g2_completions_head_get(&r, &m->head);
	return !r.failed;
}

static void
head_again(g2_writer *w, const message *m)
{
	g2_completions_head_encode(w, &m->head);
}

static void
completion_encode(g2_writer *w)
{
	g2_completion_encode(w, &(g2_completion) {G2_FINISH_STOP, -1.5, G2_LENGTH(some_ids),
						 (const char *) some_ids, S("text")});
}

static bool
completion_decode(const void *p, size_t n, message *m)
{
	g2_reader	r = g2_read(p, n);

	g2_completion_get(&r, &m->completion);
	return !r.failed;
}

static void
completion_again(g2_writer *w, const message *m)
{
	g2_completion_encode(w, &m->completion);
}

static void
tokenize_encode(g2_writer *w)
{
	g2_tokenize_encode(w, &(g2_tokenize) {S("demo"), S("some text"), 1, 10});
}

static bool
tokenize_decode(const void *p, size_t n, message *m)
{
	return g2_tokenize_decode(p, n, &m->tokenize);
}

static void
tokenize_again(g2_writer *w, const message *m)
{
	g2_tokenize_encode(w, &m->tokenize);
}

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

static bool
load_decode(const void *p, size_t n, message *m)
{
	return g2_load_decode(p, n, &m->load);
}

static void
load_again(g2_writer *w, const message *m)
{
	g2_load_encode(w, &m->load);
}

static void
row_encode(g2_writer *w)
{
	g2_model_row row = {
		.name = S("demo"), .state = G2_MODEL_LOADED, .percent = 99, .architecture = S("gpt2"),
		.parameters = 124439808, .context_length = 1024, .vocab_size = 50257,
		.tokenizer = S("gpt2-bpe"), .format = S("f32"), .device = S("cpu"), .bytes = 1u << 31,
		.content_hash = S("00ff"), .error = S("none"), .loaded_at = -1, .last_used_at = 5,
		.restricted = 1,
	};

	g2_model_row_encode(w, &row);
}

static bool
row_decode(const void *p, size_t n, message *m)
{
	g2_reader	r = g2_read(p, n);

	g2_model_row_get(&r, &m->row);
	return !r.failed;
}

static void
row_again(g2_writer *w, const message *m)
{
	g2_model_row_encode(w, &m->row);
}

static void
info_encode(g2_writer *w)
{
	g2_info		info = {
		.version = S("1"), .arithmetic = S("exact-1"), .isa = S("avx2"), .blas = S("b"),
		.cuda_device = S("c"), .cuda_driver = S("d"), .threads = 8, .supervisor_pid = 1,
		.engine_pid = 2, .started_at = -3, .live_requests = 4, .live_sequences = 5,
		.kv_blocks_used = 6, .kv_blocks_total = 7, .restart_pending = 1,
	};

	g2_info_encode(w, &info);
}

static bool
info_decode(const void *p, size_t n, message *m)
{
	return g2_info_decode(p, n, &m->info);
}

static void
info_again(g2_writer *w, const message *m)
{
	g2_info_encode(w, &m->info);
}

static void
settings_encode(g2_writer *w)
{
	g2_settings s = {
		.n_directories = 2, .directories = {S("/a"), S("b")}, .pack_directory = S("p"),
		.weight_format = S("f32"), .device = S("auto"), .cpu = S("avx2"), .threads = 3,
		.kv_cache_size = 1u << 30, .keep_free = 12345,
	};

	g2_settings_encode(w, &s);
}

static bool
settings_decode(const void *p, size_t n, message *m)
{
	return g2_settings_decode(p, n, &m->settings);
}

static void
settings_again(g2_writer *w, const message *m)
{
	g2_settings_encode(w, &m->settings);
}

#define KIND(name) {#name, name##_encode, name##_decode, name##_again}
static const kind kinds[] = {
	KIND(hello), KIND(welcome), KIND(error), KIND(notice), KIND(generate), KIND(head),
	KIND(completion), KIND(tokenize), KIND(tokens), KIND(detokenize), KIND(load), KIND(row),
	KIND(info), KIND(settings),
};

/* ---- tests over all of them ---- */

/* Decodes from memory of exactly n bytes, so that a sanitizer sees any read beyond it; what was
 * decoded is written again before that memory goes. */
static bool
decode_exactly(const kind *k, const char *p, size_t n, g2_writer *again)
{
	char	   *copy = malloc(n ? n : 1);
	message		m;
	bool		ok;

	assert_non_null(copy);
	memcpy(copy, p, n);
	memset(&m, 0xAA, sizeof m);
	ok = k->decode(n ? copy : NULL, n, &m);
	if (ok && again)
		k->again(again, &m);
	free(copy);
	return ok;
}

static void
test_round_trip(void **state)
{
	(void) state;
	for (size_t i = 0; i < G2_LENGTH(kinds); i++)
	{
		g2_writer	w = writer(),
					again = writer();

		kinds[i].encode(&w);
		assert_false(w.failed);
		assert_true(decode_exactly(&kinds[i], w.data, w.len, &again));
		if (again.len != w.len || memcmp(again.data, w.data, w.len) != 0)
			fail_msg("%s is not what it was", kinds[i].name);
		free(w.data);
		free(again.data);
	}
}

/*
 * A payload cut anywhere is refused, or (cut between two fields, as an older writer's would be)
 * reads as if zeros followed.
 */
static void
test_truncated(void **state)
{
	(void) state;
	for (size_t i = 0; i < G2_LENGTH(kinds); i++)
	{
		g2_writer	w = writer();
		size_t		accepted = 0;

		kinds[i].encode(&w);
		for (size_t n = 0; n < w.len; n++)
		{
			g2_writer	again = writer();
			size_t		same = 0;

			if (!decode_exactly(&kinds[i], w.data, n, &again))
				continue;
			accepted++;
			/* The row's own length, in its first bytes, differs when it is written again. */
			if (kinds[i].encode == row_encode)
				fail_msg("a cut row was taken");
			while (same < again.len && same < w.len && again.data[same] == w.data[same])
				same++;
			assert_true(same >= n);
			for (; same < again.len; same++)
				assert_int_equal(again.data[same], 0);
			free(again.data);
		}
		/* More than the number of fields can be would mean that cut fields are taken. */
		if (accepted > 32)
			fail_msg("%s: %zu cuts were taken", kinds[i].name, accepted);
		free(w.data);
	}
}

static void
test_extended(void **state)
{
	(void) state;
	for (size_t i = 0; i < G2_LENGTH(kinds); i++)
	{
		g2_writer	w = writer(),
					again = writer();
		size_t		len;

		kinds[i].encode(&w);
		len = w.len;
		g2_put(&w, "\377\377\377\377\377\377", 6);
		assert_true(decode_exactly(&kinds[i], w.data, w.len, &again));
		assert_int_equal(again.len, len);
		assert_memory_equal(again.data, w.data, len);
		free(w.data);
		free(again.data);
	}
}

/* Every u32 of the payload replaced by counts and lengths that lie. */
static void
test_lying_counts(void **state)
{
	static const uint32_t lies[] = {0, 1, 64, 65, 255, 257, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF,
	0x40000000, 0x3FFFFFFF};

	(void) state;
	for (size_t i = 0; i < G2_LENGTH(kinds); i++)
	{
		g2_writer	w = writer();

		kinds[i].encode(&w);
		for (size_t at = 0; at + sizeof(uint32_t) <= w.len; at++)
			for (size_t l = 0; l < G2_LENGTH(lies); l++)
			{
				uint32_t	saved;

				memcpy(&saved, w.data + at, sizeof saved);
				memcpy(w.data + at, &lies[l], sizeof lies[l]);
				decode_exactly(&kinds[i], w.data, w.len, NULL);
				memcpy(w.data + at, &saved, sizeof saved);
			}
		free(w.data);
	}
}

/* ---- single rules ---- */

static void
test_too_many(void **state)
{
	static g2_generate m = {.n = 1};
	static g2_settings s;
	static g2_generate out;
	static g2_settings out_settings;
	g2_writer	w = writer();

	(void) state;
	for (m.n_stops = 0; m.n_stops < G2_MAX_STOPS; m.n_stops++)
		m.stops[m.n_stops] = S("x");
	g2_generate_encode(&w, &m);
	assert_true(g2_generate_decode(w.data, w.len, &out));
	assert_int_equal(out.n_stops, G2_MAX_STOPS);
	/* One more: the count is found where it stands. */
	for (size_t at = w.len; at-- > 0;)
	{
		const uint32_t count = G2_MAX_STOPS,
					more = G2_MAX_STOPS + 1;

		if (memcmp(w.data + at, &count, sizeof count) != 0)
			continue;
		memcpy(w.data + at, &more, sizeof more);
		break;
	}
	assert_false(g2_generate_decode(w.data, w.len, &out));
	w.len = 0;
	s.n_directories = G2_MAX_DIRECTORIES;
	g2_settings_encode(&w, &s);
	assert_true(g2_settings_decode(w.data, w.len, &out_settings));
	w.data[0]++;
	assert_false(g2_settings_decode(w.data, w.len, &out_settings));
	w.len = 0;
	g2_completions_head_encode(&w, &(g2_completions_head) {.n = G2_MAX_SEQUENCES + 1});
	{
		g2_reader	r = g2_read(w.data, w.len);
		g2_completions_head head;

		g2_completions_head_get(&r, &head);
		assert_true(r.failed);
	}
	free(w.data);
}

/* Elements that a count announces must be there: a reader would go round for nothing otherwise. */
static void
test_missing_elements(void **state)
{
	g2_reader	r = g2_read(NULL, 0);
	g2_completion completion;
	g2_model_row row;

	(void) state;
	g2_completion_get(&r, &completion);
	assert_true(r.failed);
	r = g2_read("", 0);
	g2_model_row_get(&r, &row);
	assert_true(r.failed);
}

static void
test_frames(void **state)
{
	g2_writer	w = writer();
	size_t		begin;
	g2_frame	frame;
	char	   *big = calloc(1, G2_MAX_PAYLOAD);

	(void) state;
	assert_non_null(big);
	assert_int_equal(sizeof(g2_frame), 16);
	begin = g2_frame_begin(&w, G2_MSG_TEXT, 99);
	g2_put(&w, "abc", 3);
	assert_true(g2_frame_end(&w, begin));
	memcpy(&frame, w.data, sizeof frame);
	assert_int_equal(frame.length, 3);
	assert_int_equal(frame.type, G2_MSG_TEXT);
	assert_int_equal(frame.id, 99);
	assert_int_equal(frame.reserved, 0);
	/* The largest goes, one byte more is taken off again. */
	begin = g2_frame_begin(&w, G2_MSG_TEXT, 1);
	g2_put(&w, big, G2_MAX_PAYLOAD);
	assert_true(g2_frame_end(&w, begin));
	w.len = begin;
	begin = g2_frame_begin(&w, G2_MSG_TEXT, 1);
	g2_put(&w, big, G2_MAX_PAYLOAD);
	g2_put_u8(&w, 0);
	assert_false(g2_frame_end(&w, begin));
	assert_int_equal(w.len, begin);
	assert_false(w.failed);
	free(big);
	free(w.data);
}

static int	grows_left;

static void *
failing_grow(void *data, size_t bytes)
{
	return grows_left-- > 0 ? realloc(data, bytes) : NULL;
}

static void
test_no_memory(void **state)
{
	(void) state;
	for (int n = 0; n < 8; n++)
	{
		g2_writer	w = {.grow = failing_grow};
		size_t		begin;
		bool		ok;

		grows_left = n;
		begin = g2_frame_begin(&w, G2_MSG_TEXT, 1);
		for (int i = 0; i < 1000; i++)
			g2_put_string(&w, "some words");
		ok = g2_frame_end(&w, begin);
		assert_int_equal(ok, !w.failed);
		assert_int_equal(ok, n >= 6);	/* 512 << 5 holds 14016 bytes */
		free(w.data);
	}
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
		cmocka_unit_test(test_too_many), cmocka_unit_test(test_missing_elements),
		cmocka_unit_test(test_frames), cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_sqlstates),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
