/*
 * test_watch.c: what can be seen of the engine: a program that was replaced, REQUESTS and ENGINE
 * rows against requests that are known.
 */
#include "engine_watch.h"

#include <sys/time.h>
#include <unistd.h>

#include "backend.h"
#include "engine_state.h"

static int64_t
wall_clock_us(void)
{
	struct timeval now;

	gettimeofday(&now, NULL);
	return (int64_t) now.tv_sec * 1000000 + now.tv_usec;
}

/* ---- INFO ---- */

static bool
restart_pending(void)
{
	reply		r = {0};
	g2_info		info;

	g2_engine_submit(client_of(&r), 0, G2_MSG_INFO, NULL, 0);
	assert_int_equal(r.type, G2_MSG_INFO_ROW);
	assert_true(g2_info_decode(r.data, r.len, &info));
	free_replies(&r, 1);
	leave(&r);
	return info.restart_pending != 0;
}

/* Another file in the place of the program: INFO says so, and the log once. */
static void
test_replaced(void **state)
{
	char		file[4096],
				link[4096],
				next[4096];

	(void) state;
	open_engine();
	assert_false(restart_pending());
	snprintf(file, sizeof file, "%s/program", places.models);
	snprintf(link, sizeof link, "%s/running", places.models);
	snprintf(next, sizeof next, "%s/next", places.models);
	tb_text(places.models, "program", "old");
	assert_int_equal(symlink(file, link), 0);
	g2_program_note(&engine->program, link);
	assert_false(restart_pending());
	/* While the package's files are exchanged. */
	assert_int_equal(rename(file, next), 0);
	assert_false(restart_pending());
	tb_text(places.models, "program", "new");
	assert_int_equal(n_replaced, 0);
	for (int i = 0; i < 3; i++)
		assert_true(restart_pending());
	assert_int_equal(n_replaced, 1);
	/* A link that says nothing: not known is not replaced. */
	g2_program_note(&engine->program, next);
	assert_false(restart_pending());
	assert_int_equal(unlink(file) + unlink(link) + unlink(next), 0);
	close_engine();
}

/* ---- REQUESTS ---- */

static void
check_row(const g2_request_row *row, const g2_generate *m, int64_t sent)
{
	assert_int_equal(row->pid, 4711);
	assert_int_equal(row->session_user, 10);
	assert_int_equal(row->database, 5);
	assert_true(is_text(row->model, "bare"));
	assert_int_equal(row->max_len, m->max_new);
	/* Two clocks are read one after the other. */
	assert_true(row->queued_at >= sent - 1000 && row->queued_at <= wall_clock_us() + 1000);
	if (row->state >= G2_STATE_PREFILL)
		assert_true(row->started_at >= row->queued_at &&
					row->started_at <= wall_clock_us() + 1000);
	else
		assert_int_equal(row->started_at, 0);
}

/* A request of two sequences goes through all states in order, and is gone at its end. */
static void
test_states(void **state)
{
	g2_request_row rows[MAX_ROWS];
	reply		r = {0};
	g2_generate m = of_ids(70, 1);
	int64_t		start = g2_now_us(),
				sent = wall_clock_us();
	uint32_t	last = 0,
				seen = 0,
				made = 0;

	(void) state;
	open_engine();
	m.n = 2;
	m.max_new = 50;
	assert_int_equal(watch_requests(rows), 0);
	attach_as(&r, &somebody);
	send_generate(&r, 0, &m);
	for (; !r.type; turn(start))
	{
		uint32_t	n = watch_requests(rows);
		bool		known = rows[0].state >= G2_STATE_PREFILL;

		assert_int_equal(n, known ? 2 : 1);
		for (uint32_t i = 0; i < n; i++)
		{
			check_row(&rows[i], &m, sent);
			assert_int_equal(rows[i].sequence, i);
			assert_int_equal(rows[i].state, rows[0].state);
			assert_int_equal(rows[i].prompt_tokens, known ? 70 : 0);
			assert_true(rows[i].generated_tokens <= 50);
		}
		assert_true(rows[0].state >= last);
		assert_true(rows[0].state == G2_STATE_DECODE ? rows[0].generated_tokens >= 1 :
					rows[0].generated_tokens == 0);
		assert_true(rows[0].state != G2_STATE_DECODE || rows[0].generated_tokens >= made);
		last = rows[0].state;
		made = rows[0].generated_tokens;
		seen |= 1u << last;
	}
	assert_int_equal(seen, 1u << G2_STATE_LOADING | 1u << G2_STATE_QUEUED |
					 1u << G2_STATE_PREFILL | 1u << G2_STATE_DECODE);
	assert_true(made > 1);
	assert_int_equal(watch_requests(rows), 0);
	free_replies(&r, 1);
	close_engine();
}

/* The row of this backend's request, when it has been tokenized. */
static g2_request_row
row_of(uint32_t pid)
{
	g2_request_row rows[MAX_ROWS];
	int64_t		start = g2_now_us();

	for (;; turn(start))
	{
		uint32_t	n = watch_requests(rows);

		for (uint32_t i = 0; i < n; i++)
			if (rows[i].pid == pid && rows[i].prompt_tokens > 0)
				return rows[i];
	}
}

/* Behind one that has all places, and behind a limit of its role; nothing of who has left. */
static void
test_waiting(void **state)
{
	g2_request_row rows[MAX_ROWS],
				row;
	reply		r[4] = {0};
	g2_generate all = of_ids(40, 1),
				one = all;
	uint32_t	n_slots;

	(void) state;
	open_engine();
	n_slots = engine->api->slots(engine->backend, 0);
	all.max_new = one.max_new = 88;
	all.n = n_slots;
	attach_as(&r[0], &somebody);
	attach_as(&r[1], &(g2_hello) {.pid = 2, .session_user = 10});
	send_generate(&r[0], 0, &all);
	run_to_state(4711, G2_STATE_DECODE);
	send_generate(&r[1], 0, &one);
	/* Other kinds of requests are not listed. */
	send_tokenize(&r[3], 0, "tiny", "text", 4, false);
	assert_int_equal(watch_requests(rows), n_slots + 1);
	row = row_of(2);
	assert_int_equal(row.state, G2_STATE_QUEUED);
	assert_int_equal(row.prompt_tokens, 40);
	assert_int_equal(row.started_at, 0);
	assert_int_equal(engine_row_of("bare").queued, 1);
	leave(&r[1]);
	assert_int_equal(watch_requests(rows), n_slots);
	leave(&r[0]);
	assert_int_equal(watch_requests(rows), 0);
	run_idle();
	/* One role's limit. */
	attach_as(&r[1], &another);
	attach_as(&r[2], &(g2_hello) {.pid = 3, .session_user = another.session_user});
	say_session(&r[1], another.session_user, "eva", G2_LIMIT_UNSET, n_slots - 5,
				G2_LIMIT_UNSET);
	say_session(&r[2], another.session_user, "eva", G2_LIMIT_UNSET, n_slots - 5,
				G2_LIMIT_UNSET);
	all.n -= 5;
	send_generate(&r[1], 0, &all);
	run_to_state(another.pid, G2_STATE_DECODE);
	send_generate(&r[2], 0, &one);
	run_to_state(3, G2_STATE_THROTTLED);
	leave(&r[1]);
	run_until(&r[2]);
	assert_int_equal(r[2].type, G2_MSG_COMPLETIONS);
	free_replies(r, 4);
	close_engine();
}

/* ---- ENGINE ---- */

/* One request after another, whose numbers are known. */
static void
test_engine_rows(void **state)
{
	g2_engine_row rows[MAX_ROWS],
				row;
	reply		r[3] = {0};
	g2_generate m = of_ids(70, 1);
	uint64_t	bytes;

	(void) state;
	open_engine();
	m.max_new = 20;
	m.n = 3;
	attach_as(r, &somebody);
	send_load(r, 0, "bare", "", "");
	assert_int_equal(watch_engine(rows), 0);	/* it is not there yet */
	run_idle();
	free_replies(r, 1);
	assert_int_equal(watch_engine(rows), 1);
	row = engine_row_of("bare");
	assert_true(is_text(row.format, "f32"));
	assert_true(row.kv_blocks_total >= N_CTX / G2_BLOCK && row.bytes > 0);
	assert_int_equal(row.steps + row.step_sequences + row.prompt_tokens + row.completion_tokens +
					 row.busy_us + row.kv_blocks_used + row.kv_blocks_cached + row.prefix_asked +
					 row.prefix_hits + row.preemptions + row.running + row.queued, 0);
	bytes = row.bytes;
	send_generate(r, 0, &m);
	run_to_state(4711, G2_STATE_DECODE);
	row = engine_row_of("bare");
	assert_int_equal(row.running, 3);
	assert_true(row.kv_blocks_used >= 5);	/* two are shared, each has one of its own */
	assert_true(row.bytes > bytes);
	run_idle();
	row = engine_row_of("bare");
	assert_int_equal(row.prompt_tokens, 70);
	assert_int_equal(row.completion_tokens, 60);
	assert_int_equal(row.step_sequences, 60);
	assert_int_equal(row.steps, 20);
	assert_true(row.busy_us > 0 && row.tokens_per_second > 0);
	assert_int_equal(row.prefix_asked, 69);
	assert_int_equal(row.prefix_hits, 0);
	assert_int_equal(row.running + row.queued + row.kv_blocks_used, 0);
	assert_true(row.kv_blocks_cached >= 2);
	/* Again: two blocks of the prompt are there. */
	send_generate(r, 1, &m);
	run_idle();
	same_answer(&r[0], &r[1]);
	assert_int_equal(head_of(&r[1]).cached_tokens, 64);
	row = engine_row_of("bare");
	assert_int_equal(row.prompt_tokens, 76);
	assert_int_equal(row.prefix_asked, 2 * 69);
	assert_int_equal(row.prefix_hits, 64);
	/* Another user shares nothing of it. */
	m.current_user = 99;
	send_generate(r, 2, &m);
	run_idle();
	same_answer(&r[0], &r[2]);
	assert_int_equal(head_of(&r[2]).cached_tokens, 0);
	assert_int_equal(engine_row_of("bare").prefix_hits, 64);
	free_replies(r, 3);
	close_engine();
}

/* Two that grow over what the cache holds: one gives way, is counted, and both are as alone. */
static void
test_preemption(void **state)
{
	g2_settings s = settings();
	reply		r[2][4] = {{{0}}};
	g2_generate m[4];
	g2_engine_row row;
	g2_usage_row used;

	(void) state;
	s.kv_cache_size = 1;
	open_with(&s);
	for (uint32_t i = 0; i < 4; i++)
	{
		m[i] = of_ids(20, 10 * i);
		m[i].max_new = 80;
		m[i].flags |= G2_GEN_NO_CACHE;
		send_generate(r[0], i, &m[i]);
		run_idle();
	}
	row = engine_row_of("bare");
	assert_int_equal(row.kv_blocks_total, N_CTX / G2_BLOCK);
	assert_int_equal(row.preemptions, 0);
	assert_int_equal(row.kv_blocks_cached, 0);
	attach_as(r[1], &somebody);
	for (uint32_t i = 0; i < 4; i++)
		send_generate(r[1], i, &m[i]);
	run_idle();
	for (uint32_t i = 0; i < 4; i++)
		same_answer(&r[0][i], &r[1][i]);
	assert_true(engine_row_of("bare").preemptions > 0);
	/* What was computed twice is computed tokens, but nobody is charged for it as new ones. */
	assert_true(engine_row_of("bare").prompt_tokens > 8 * 20);
	used = usage_of(10, 5, "bare");
	assert_int_equal(used.prompt_tokens, 4 * 20);
	assert_int_equal(used.completion_tokens, 4 * 80);
	free_replies(r[0], 8);
	close_engine();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replaced), cmocka_unit_test(test_states),
		cmocka_unit_test(test_waiting),
		cmocka_unit_test(test_engine_rows),
		cmocka_unit_test(test_preemption),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
