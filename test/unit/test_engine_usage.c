/*
 * test_engine_usage.c: what requests count for, by role, database and model, and how the counters
 * get into their file and back.
 */
#include "engine_watch.h"

#include "engine_state.h"

/* New tokens of all its sequences. */
static uint64_t
made_of(const reply *r)
{
	g2_reader	in = g2_read(r->data, r->len);
	g2_completions_head head;
	uint64_t	made = 0;

	g2_completions_head_get(&in, &head);
	for (uint32_t i = 0; i < head.n; i++)
	{
		g2_completion c;

		g2_completion_get(&in, &c);
		made += c.n_ids;
	}
	assert_false(in.failed);
	return made;
}

/* ---- counting ---- */

static void
test_usage(void **state)
{
	g2_settings s = settings();
	g2_usage_row rows[MAX_ROWS],
				used;
	reply		r[6] = {0};
	g2_generate m = generate("a prompt of some more than thirty-two bytes"),
				wrong = m;
	uint64_t	made = 0,
				queue_us = 0;
	uint32_t	before = g2_usage_month_now();

	(void) state;
	s.price_per_hour = 7200;	/* 2 of them a microsecond of a millionth */
	open_with(&s);
	attach_as(r, &somebody);
	assert_int_equal(watch_usage(rows), 0);
	for (uint64_t i = 0; i < 3; i++)
	{
		m.n = 1 + (uint32_t) i;
		m.seed = i;
		send_generate(r, i, &m);
		run_idle();
		made += made_of(&r[i]);
		queue_us += head_of(&r[i]).queue_us;
	}
	send_load(r, 3, "tiny", "", "");
	send_tokenize(r, 4, "tiny", "text", 4, false);
	run_idle();
	assert_int_equal(watch_usage(rows), 1);
	used = usage_of(10, 5, "tiny");
	assert_true(used.month == before || used.month == g2_usage_month_now());
	assert_int_equal(used.calls, 3);
	assert_int_equal(used.sequences, 6);
	assert_int_equal(used.prompt_tokens, 3 * m.prompt.len);
	assert_int_equal(used.cached_tokens, 2 * G2_BLOCK);
	assert_int_equal(used.completion_tokens, made);
	assert_int_equal(used.queue_us, queue_us);
	assert_int_equal(used.result_hits + used.errors + used.cancelled + used.truncated, 0);
	assert_true(used.compute_us > 0);
	/* compute_us has lost less than a microsecond of each call. */
	assert_true(used.cost >= 2e-6 * (double) used.compute_us - 1e-9 &&
				used.cost <= 2e-6 * (double) (used.compute_us + 3));
	/* Errors: before and after the model is known.  Other keys have rows of their own. */
	wrong.max_new = 0;
	send_generate(r, 3, &wrong);
	wrong = m;
	wrong.task = g2_span_of("sing");
	send_generate(r, 4, &wrong);
	attach_as(&r[5], &another);
	send_generate(&r[5], 0, &m);
	run_idle();
	used = usage_of(10, 5, "");
	assert_int_equal(used.calls, 1);
	assert_int_equal(used.errors, 1);
	used = usage_of(10, 5, "tiny");
	assert_int_equal(used.calls, 4);
	assert_int_equal(used.errors, 1);
	assert_int_equal(used.sequences, 6);
	used = usage_of(11, 6, "tiny");
	assert_int_equal(used.calls, 1);
	assert_int_equal(used.cached_tokens, 0);
	assert_int_equal(watch_usage(rows), 3);
	free_replies(r, 6);
	close_engine();
}

/* Whenever it is cancelled, it has been a call. */
static void
test_canceled(void **state)
{
	static const uint32_t states[] = {
		G2_STATE_LOADING, G2_STATE_QUEUED, G2_STATE_PREFILL, G2_STATE_DECODE,
	};
	reply		r = {0};
	g2_generate m = of_ids(70, 1);
	g2_usage_row used;

	(void) state;
	m.max_new = 50;
	for (uint64_t i = 0; i < G2_LENGTH(states); i++)
	{
		open_engine();
		attach_as(&r, &somebody);
		send_generate(&r, 0, &m);
		if (states[i] != G2_STATE_LOADING)
			run_to_state(4711, states[i]);
		assert_int_equal(state_of_pid(4711), states[i]);
		if (i % 2)
			assert_true(g2_engine_cancel(client_of(&r), 0));
		else
			leave(&r);
		run_idle();
		used = usage_of(10, 5, "bare");
		assert_int_equal(used.calls, 1);
		assert_int_equal(used.cancelled, 1);
		assert_int_equal(used.errors, 0);
		assert_int_equal(used.prompt_tokens, states[i] >= G2_STATE_PREFILL ? 70 : 0);
		/* The step in flight is made, and counts. */
		assert_true(states[i] < G2_STATE_PREFILL ? used.completion_tokens == 0 :
					states[i] == G2_STATE_PREFILL ? used.completion_tokens == 1 :
					used.completion_tokens > 1);
		assert_int_equal(r.type, 0);
		close_engine();
	}
}

static void
test_result_hits(void **state)
{
	g2_settings s = settings();
	reply		r[2] = {0};
	g2_generate m = generate("hello");
	g2_usage_row computed,
				used;

	(void) state;
	s.result_cache_size = 1 << 20;
	open_with(&s);
	m.flags |= G2_GEN_SEEDED;
	m.n = 2;
	attach_as(r, &somebody);
	send_generate(r, 0, &m);
	run_idle();
	computed = usage_of(10, 5, "tiny");
	send_generate(r, 1, &m);
	run_idle();
	same_answer(&r[0], &r[1]);
	used = usage_of(10, 5, "tiny");
	assert_int_equal(used.calls, 2);
	assert_int_equal(used.sequences, 4);
	assert_int_equal(used.result_hits, 1);
	assert_int_equal(used.prompt_tokens, 2 * computed.prompt_tokens);
	assert_int_equal(used.cached_tokens, computed.prompt_tokens);
	assert_int_equal(used.completion_tokens, computed.completion_tokens);
	assert_int_equal(used.compute_us, computed.compute_us);
	free_replies(r, 2);
	close_engine();
}

static void
reset_usage(void)
{
	reply		r = {0};

	g2_engine_submit(client_of(&r), 0, G2_MSG_USAGE_RESET, NULL, 0);
	assert_int_equal(r.type, G2_MSG_DONE);
	free_replies(&r, 1);
	leave(&r);
}

/* ---- the file ---- */

static void
open_as(uint64_t cluster, uint32_t timeline)
{
	g2_settings s = settings();

	s.system_identifier = cluster;
	s.timeline = timeline;
	open_with(&s);
}

static void
work_as(const g2_hello *who)
{
	reply		r = {0};
	g2_generate m = generate("hello");

	attach_as(&r, who);
	send_generate(&r, 0, &m);
	run_until(&r);
	leave(&r);
	assert_int_equal(r.type, G2_MSG_COMPLETIONS);
	free_replies(&r, 1);
}

/* Rows in the file, as it is now; -1: there is none. */
static int
saved_rows(uint64_t cluster, uint32_t timeline)
{
	size_t		len;
	char	   *data;
	g2_span		payload;
	g2_reader	in;
	int			n;

	if (access(G2_USAGE_FILE, F_OK) != 0)
		return -1;
	data = tb_read(".", G2_USAGE_FILE, &len);
	assert_true(g2_usage_file_check(data, len, cluster, timeline, &payload));
	in = g2_read(payload.data, payload.len);
	n = (int) g2_get_u32(&in);
	free(data);
	return n;
}

static void
run_until_saved(uint64_t cluster, int rows)
{
	int64_t		start = g2_now_us();

	while (saved_rows(cluster, 1) != rows)
		turn(start);
}

static int
new_place(void **state)
{
	(void) state;
	unlink(G2_USAGE_FILE);
	return 0;
}

/* Another engine of the same cluster goes on where the last one ended; one of another cluster or
 * timeline begins anew. */
static void
test_saved(void **state)
{
	g2_usage_row rows[MAX_ROWS],
				before,
				after;

	(void) state;
	open_as(42, 1);
	work_as(&somebody);
	work_as(&another);
	before = usage_of(10, 5, "tiny");
	assert_int_equal(saved_rows(42, 1), -1);
	close_engine();
	assert_int_equal(saved_rows(42, 1), 2);
	/* Engines that count nothing leave the file as it is. */
	open_as(43, 1);
	assert_int_equal(watch_usage(rows), 0);
	close_engine();
	open_as(42, 2);
	assert_int_equal(watch_usage(rows), 0);
	close_engine();
	open_as(0, 1);
	assert_int_equal(watch_usage(rows), 0);
	work_as(&somebody);
	close_engine();
	open_as(42, 1);
	assert_int_equal(watch_usage(rows), 2);
	after = usage_of(10, 5, "tiny");
	assert_int_equal(after.month, before.month);
	assert_memory_equal(&after.calls, &before.calls,
						sizeof after - offsetof(g2_usage_row, calls));
	work_as(&somebody);
	assert_int_equal(usage_of(10, 5, "tiny").calls, 2);
	close_engine();
	open_as(43, 1);
	work_as(&somebody);
	close_engine();
	assert_int_equal(saved_rows(43, 1), 1);
}

/* Without an end of the engine they are saved within ten seconds of the first change; a reset at
 * once. */
static void
test_saved_soon(void **state)
{
	g2_usage_row rows[MAX_ROWS];
	int64_t		first;

	(void) state;
	open_as(42, 1);
	g2_engine_run(engine);
	assert_true(engine->timer_at == INT64_MAX);
	work_as(&somebody);
	first = engine->save_at;
	assert_true(first > g2_now_us() && first <= g2_now_us() + G2_SAVE_EVERY_US);
	assert_true(engine->timer_at <= first);
	work_as(&another);
	assert_true(engine->save_at == first);
	assert_int_equal(saved_rows(42, 1), -1);
	engine->save_at = g2_now_us();	/* the ten seconds are over */
	g2_engine_run(engine);
	run_until_saved(42, 2);
	assert_true(engine->save_at == INT64_MAX);
	reset_usage();
	assert_int_equal(watch_usage(rows), 0);
	run_until_saved(42, 0);
	work_as(&another);
	assert_int_equal(usage_of(11, 6, "tiny").calls, 1);
	abandon_engine();
	assert_int_equal(saved_rows(42, 1), 1);
}

static void
say_timeline(reply *r, uint32_t timeline)
{
	g2_writer	w = {.grow = grow};
	g2_error	err;

	g2_session_message_encode(&w, &(g2_session_message) {
		.session_user = somebody.session_user, .user_name = g2_span_of("ann"),
		.timeline = timeline,
	});
	EXPECT_OK(g2_engine_tell(client_of(r), G2_MSG_SESSION, w.data, w.len, &err), err);
	free(w.data);
}

/* A standby is promoted under a running engine: its counters start at zero, and are saved as those
 * of the new timeline.  Sessions that have not heard of it, or say nothing, change nothing. */
static void
test_promoted(void **state)
{
	g2_usage_row rows[MAX_ROWS];
	reply		r = {0};

	(void) state;
	open_as(42, 1);
	work_as(&somebody);
	work_as(&another);
	attach_as(&r, &somebody);
	say_timeline(&r, 0);
	say_timeline(&r, 1);
	assert_int_equal(watch_usage(rows), 2);
	say_timeline(&r, 2);
	assert_int_equal(watch_usage(rows), 0);
	work_as(&another);
	say_timeline(&r, 1);
	say_timeline(&r, 2);
	assert_int_equal(usage_of(11, 6, "tiny").calls, 1);
	leave(&r);
	close_engine();
	assert_int_equal(saved_rows(42, 2), 1);
	/* Counters that are not saved are nobody's. */
	open_as(0, 0);
	work_as(&somebody);
	attach_as(&r, &somebody);
	say_timeline(&r, 3);
	assert_int_equal(watch_usage(rows), 1);
	leave(&r);
	close_engine();
}

static uint32_t warnings;

static void
count_warnings(void *arg, g2_level level, const char *message)
{
	(void) arg;
	warnings += level == G2_LEVEL_WARNING && strstr(message, "could not save");
}

/* Where they cannot be saved that is said once, and tried again. */
static void
test_unsaved(void **state)
{
	g2_settings s = settings();
	g2_error	err;
	int64_t		start = g2_now_us();

	(void) state;
	s.system_identifier = 42;
	s.timeline = 1;
	warnings = 0;
	EXPECT_OK(g2_engine_open(&s, count_warnings, NULL, &engine, &err), err);
	work_as(&somebody);
	assert_int_equal(rename("pg_stat", "elsewhere"), 0);
	for (int i = 0; i < 3; i++)
	{
		engine->save_at = g2_now_us();
		g2_engine_run(engine);
		while (engine->save.copy)
			turn(start);
		assert_int_equal(warnings, 1);
		assert_true(engine->save_at <= g2_now_us() + G2_SAVE_EVERY_US);
	}
	/* Nor is there memory for it now. */
	engine->save_at = g2_now_us();
	g2_alloc_fail_at(1);
	g2_engine_run(engine);
	g2_alloc_fail_at(0);
	assert_null(engine->save.copy);
	assert_true(engine->save_at <= g2_now_us() + G2_SAVE_EVERY_US);
	assert_int_equal(rename("elsewhere", "pg_stat"), 0);
	engine->save_at = g2_now_us();
	g2_engine_run(engine);
	run_until_saved(42, 1);
	assert_int_equal(warnings, 1);
	abandon_engine();
}

static int
set_up_all(void **state)
{
	set_up(state);
	assert_int_equal(chdir(places.root), 0);
	return mkdir("pg_stat", 0700);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_usage),
		cmocka_unit_test(test_canceled),
		cmocka_unit_test(test_result_hits),
		cmocka_unit_test_setup(test_saved, new_place),
		cmocka_unit_test_setup(test_saved_soon, new_place),
		cmocka_unit_test_setup(test_promoted, new_place),
		cmocka_unit_test_setup(test_unsaved, new_place),
	};

	return cmocka_run_group_tests(tests, set_up_all, tear_down);
}
