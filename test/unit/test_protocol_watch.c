/*
 * test_protocol_watch.c: the messages that say what the engine is, has, does and has done, the
 * settings, and the file of saved counters.
 */
#include "protocol_fixture.h"

/* ---- one of each ---- */

static void
model_encode(g2_writer *w)
{
	g2_model_row row = {
		.name = S("demo"), .state = G2_MODEL_LOADED, .percent = 99, .architecture = S("gpt2"),
		.parameters = 124439808, .context_length = 1024, .vocab_size = 50257,
		.tokenizer = S("gpt2-bpe"), .format = S("f32"), .device = S("cpu"), .bytes = 1u << 31,
		.content_hash = S("00ff"), .error = S("none"), .loaded_at = -1, .last_used_at = 5,
		.restricted = 1, .n_roles = 2, .roles = {S("hr"), S("finance")}, .base = S("base"),
		.owner = {S("boss"), 16384, 1ull << 62},
	};

	g2_model_row_encode(w, &row);
}

PART(model, model_row)

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

WHOLE(info, info)

static void
request_encode(g2_writer *w)
{
	g2_request_row row = {
		.pid = 4711, .session_user = 10, .database = 5, .model = S("demo"),
		.state = G2_STATE_THROTTLED, .sequence = 255, .prompt_tokens = 1000,
		.generated_tokens = 49, .max_len = 50, .queued_at = INT64_MAX, .started_at = -1,
	};

	g2_request_row_encode(w, &row);
}

PART(request, request_row)

static void
usage_encode(g2_writer *w)
{
	g2_usage_row row = {
		.month = 24300, .role = 10, .database = 5, .model = S("demo"), .calls = 1,
		.sequences = 2, .prompt_tokens = 3, .cached_tokens = 4, .completion_tokens = 5,
		.result_hits = 6, .truncated = 7, .errors = 8, .cancelled = 9, .queue_us = UINT64_MAX,
		.compute_us = 11, .cost = 0.125,
	};

	g2_usage_row_encode(w, &row);
}

PART(usage, usage_row)

static void
engine_encode(g2_writer *w)
{
	g2_engine_row row = {
		.model = S("demo"), .format = S("f32"), .steps = 1, .step_sequences = 2,
		.prompt_tokens = 3, .completion_tokens = 4, .busy_us = 5, .tokens_per_second = 412.5,
		.kv_blocks_used = 6, .kv_blocks_cached = 7, .kv_blocks_total = 8, .prefix_asked = 9,
		.prefix_hits = 10, .preemptions = 11, .running = 12, .queued = 13, .bytes = UINT64_MAX,
		.drafted_tokens = 14, .drafts_kept = 13,
	};

	g2_engine_row_encode(w, &row);
}

PART(engine, engine_row)

static void
progress_encode(g2_writer *w)
{
	g2_progress_row row = {
		.number = UINT64_MAX, .ended = 1, .pid = 2, .session_user = 3, .database = 4,
		.command = S("CALL gpt_batch"), .relation = 5, .total = -1, .done = 6, .failed = 7,
		.tokens = UINT64_MAX, .started_at = INT64_MIN,
	};

	g2_progress_row_encode(w, &row);
}

PART(progress, progress_row)

static void
settings_encode(g2_writer *w)
{
	g2_settings s = {
		.n_directories = 2, .directories = {S("/a"), S("b")}, .pack_directory = S("p"),
		.weight_format = S("f32"), .device = S("auto"), .cpu = S("avx2"), .threads = 3,
		.kv_cache_size = 1u << 30, .keep_free = 12345, .disabled = 1, .nice = 19,
		.step_tokens = 512, .model_memory = 1u << 31, .result_cache_size = G2_NO_RESULT_CACHE,
		.idle_timeout_s = 600, .price_per_hour = 2.5, .n_preload = 2,
		.preload = {S("demo"), S("gpt2")}, .limits = {G2_UNLIMITED, 0, INT64_MAX},
		.system_identifier = UINT64_MAX, .timeline = 3, .max_queued = 1000, .has_limits = 1,
		.pack_cache_size = UINT64_C(5) << 40, .no_speculation = 1, .device_memory = UINT64_C(3) << 33,
	};

	g2_settings_encode(w, &s);
}

WHOLE(settings, settings)

static const kind kinds[] = {
	ROW(model, 21), KIND(info, 15), ROW(request, 11), ROW(usage, 16), ROW(engine, 19),
	ROW(progress, 12),
	KIND(settings, 26),
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
test_too_many(void **state)
{
	static g2_settings s,
				out;
	g2_writer	w = writer();

	(void) state;
	s.n_directories = G2_MAX_DIRECTORIES;
	g2_settings_encode(&w, &s);
	assert_true(g2_settings_decode(w.data, w.len, &out));
	w.data[0]++;
	assert_false(g2_settings_decode(w.data, w.len, &out));
	w.len = 0;
	s.n_preload = G2_MAX_PRELOAD;
	g2_settings_encode(&w, &s);
	assert_true(g2_settings_decode(w.data, w.len, &out));
	assert_int_equal(out.n_preload, G2_MAX_PRELOAD);
	/* The only bytes of this value. */
	*(char *) memchr(w.data, G2_MAX_PRELOAD, w.len) += 1;
	assert_false(g2_settings_decode(w.data, w.len, &out));
	free(w.data);
}

static void
test_too_many_roles(void **state)
{
	static g2_model_row row = {.n_roles = G2_MAX_ROLES},
				out;
	const uint32_t more = G2_MAX_ROLES + 1;
	g2_writer	w = writer();
	g2_reader	r;

	(void) state;
	g2_model_row_encode(&w, &row);
	r = g2_read(w.data, w.len);
	g2_model_row_get(&r, &out);
	assert_false(r.failed);
	assert_int_equal(out.n_roles, G2_MAX_ROLES);
	/* The count stands before so many empty names, and two fields more of that size. */
	memcpy(w.data + w.len - (G2_MAX_ROLES + 3) * sizeof more, &more, sizeof more);
	r = g2_read(w.data, w.len);
	g2_model_row_get(&r, &out);
	assert_true(r.failed);
	free(w.data);
}

/* Rows that a count announces must be there. */
static void
test_missing_rows(void **state)
{
	(void) state;
	for (size_t i = 0; i < G2_LENGTH(kinds); i++)
		assert_int_equal(decode_exactly(&kinds[i], "", 0, NULL), !kinds[i].is_row);
}

/* Rows of a newer and an older writer in one list: each is read to its own end. */
static void
test_rows_of_any_length(void **state)
{
	(void) state;
	for (size_t i = 0; i < G2_LENGTH(kinds); i++)
	{
		g2_writer	w = writer();
		g2_reader	r;
		uint32_t	len;

		if (!kinds[i].is_row)
			continue;
		kinds[i].encode(&w);
		g2_put(&w, "newer", 5);
		len = (uint32_t) w.len - sizeof len;
		memcpy(w.data, &len, sizeof len);
		g2_put_u32(&w, 0);		/* a row without any field */
		r = g2_read(w.data, w.len);
		for (int row = 0; row < 2; row++)
		{
			message		m;

			memset(&m, 0xAA, sizeof m);
			assert_true(kinds[i].decode(r.at, (size_t) (r.end - r.at), &m));
			if (row == 1)
			{
				g2_writer	again = writer();

				kinds[i].again(&again, &m);
				for (size_t b = sizeof len; b < again.len; b++)
					assert_int_equal(again.data[b], 0);
				free(again.data);
			}
			g2_get_span(&r);
		}
		assert_true(r.at == r.end);
		free(w.data);
	}
}

/* ---- the file ---- */

static g2_writer
usage_file(void)
{
	g2_writer	w = writer(),
				rows = writer();
	g2_usage_header header;

	g2_put_u32(&rows, 2);
	usage_encode(&rows);
	usage_encode(&rows);
	header = g2_usage_file_header(7, 3, rows.data, rows.len);
	g2_put(&w, &header, sizeof header);
	g2_put(&w, rows.data, rows.len);
	free(rows.data);
	return w;
}

/* From memory of exactly n bytes. */
static bool
check_file(const char *p, size_t n, uint64_t system_identifier, uint32_t timeline)
{
	char	   *copy = malloc(n ? n : 1);
	g2_span		payload;
	bool		ok;

	assert_non_null(copy);
	memcpy(copy, p, n);
	ok = g2_usage_file_check(copy, n, system_identifier, timeline, &payload);
	if (ok)
	{
		assert_int_equal(payload.len, n - sizeof(g2_usage_header));
		assert_ptr_equal(payload.data, copy + sizeof(g2_usage_header));
	}
	free(copy);
	return ok;
}

static void
test_usage_file(void **state)
{
	g2_writer	w = usage_file();

	(void) state;
	assert_int_equal(sizeof(g2_usage_header), 32);
	assert_true(check_file(w.data, w.len, 7, 3));
	assert_false(check_file(w.data, w.len, 8, 3));
	assert_false(check_file(w.data, w.len, 7, 4));
	for (size_t n = 0; n < w.len; n++)
		assert_false(check_file(w.data, n, 7, 3));
	for (size_t bit = 0; bit < 8 * w.len; bit++)
	{
		w.data[bit / 8] ^= (char) (1 << bit % 8);
		assert_false(check_file(w.data, w.len, 7, 3));
		w.data[bit / 8] ^= (char) (1 << bit % 8);
	}
	g2_put_u8(&w, 0);
	assert_false(check_file(w.data, w.len, 7, 3));
	free(w.data);
}

static void
test_usage_file_bounds(void **state)
{
	char	   *big = calloc(1, G2_MAX_USAGE_FILE + 1);
	g2_usage_header header = g2_usage_file_header(7, 3, NULL, 0);
	size_t		n = G2_MAX_USAGE_FILE;

	(void) state;
	assert_non_null(big);
	assert_true(check_file((const char *) &header, sizeof header, 7, 3));
	for (; n <= G2_MAX_USAGE_FILE + 1; n++)
	{
		header = g2_usage_file_header(7, 3, big + sizeof header, n - sizeof header);
		memcpy(big, &header, sizeof header);
		assert_int_equal(check_file(big, n, 7, 3), n <= G2_MAX_USAGE_FILE);
		memset(big, 0, sizeof header);
	}
	free(big);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_extended), cmocka_unit_test(test_lying_counts),
		cmocka_unit_test(test_too_many), cmocka_unit_test(test_too_many_roles),
		cmocka_unit_test(test_missing_rows), cmocka_unit_test(test_rows_of_any_length),
		cmocka_unit_test(test_usage_file), cmocka_unit_test(test_usage_file_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
