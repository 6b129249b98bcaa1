/*
 * engine_watch.h: what tests ask an engine about itself, and what they tell it about who asks.
 */
#ifndef ENGINE_WATCH_H
#define ENGINE_WATCH_H

#include "engine_driver.h"

#define MAX_ROWS 512
#define UNSET G2_LIMIT_UNSET

static const g2_hello somebody = {.pid = 4711, .database = 5, .session_user = 10},
			another = {.pid = 4712, .database = 6, .session_user = 11};

static reply watched;			/* the last list; strings in its rows point into it */

/* Asks for a list; at its first row, of *n. */
static UNUSED g2_reader
watch(g2_message type, g2_message answer, uint32_t *n)
{
	g2_reader	in;

	free_replies(&watched, 1);
	g2_engine_submit(client_of(&watched), 0, type, NULL, 0);
	leave(&watched);
	assert_int_equal(watched.type, answer);
	in = g2_read(watched.data, watched.len);
	*n = g2_get_u32(&in);
	assert_true(*n <= MAX_ROWS);
	return in;
}

/* uint32_t watch_NAME(rows): fills them; how many there are. */
#define WATCH(name, row_type, get, request, answer) \
static UNUSED uint32_t \
watch_##name(row_type rows[MAX_ROWS]) \
{ \
	uint32_t	n; \
	g2_reader	in = watch(request, answer, &n); \
 \
	for (uint32_t i = 0; i < n; i++) \
		get(&in, &rows[i]); \
	assert_false(in.failed); \
	assert_true(in.at == in.end); \
	return n; \
}

WATCH(requests, g2_request_row, g2_request_row_get, G2_MSG_REQUESTS, G2_MSG_REQUEST_LIST)
WATCH(usage, g2_usage_row, g2_usage_row_get, G2_MSG_USAGE, G2_MSG_USAGE_LIST)
WATCH(engine, g2_engine_row, g2_engine_row_get, G2_MSG_ENGINE, G2_MSG_ENGINE_LIST)

static UNUSED bool
is_text(g2_span s, const char *text)
{
	return s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

/* The counters of one key; zeros where there are none. */
static UNUSED g2_usage_row
usage_of(uint32_t role, uint32_t database, const char *model)
{
	g2_usage_row rows[MAX_ROWS],
				found = {0};
	uint32_t	n = watch_usage(rows);

	for (uint32_t i = 0; i < n; i++)
	{
		if (rows[i].role != role || rows[i].database != database || !is_text(rows[i].model, model))
			continue;
		assert_int_equal(found.calls, 0);
		found = rows[i];
	}
	return found;
}

static UNUSED g2_engine_row
engine_row_of(const char *model)
{
	g2_engine_row rows[MAX_ROWS];
	uint32_t	n = watch_engine(rows);

	for (uint32_t i = 0; i < n; i++)
		if (is_text(rows[i].model, model))
			return rows[i];
	fail_msg("model %s is not at work", model);
	return (g2_engine_row) {0};
}

/* The state of a request of this backend; 0 = it has none. */
static UNUSED uint32_t
state_of_pid(uint32_t pid)
{
	g2_request_row rows[MAX_ROWS];
	uint32_t	n = watch_requests(rows);

	for (uint32_t i = 0; i < n; i++)
		if (rows[i].pid == pid)
			return rows[i].state;
	return 0;
}

/* Turns until a request of this backend is in the state. */
static UNUSED void
run_to_state(uint32_t pid, g2_request_state state)
{
	int64_t		start = g2_now_us();

	g2_engine_run(engine);
	while (state_of_pid(pid) != state)
		turn(start);
}

/* ---- requests and answers ---- */

/* n tokens of the model without an end token, so that lengths are what was asked for. */
static UNUSED g2_generate
of_ids(uint32_t n, uint32_t first)
{
	static uint32_t ids[8][N_CTX];
	static uint32_t next;
	g2_generate m = generate("");

	next = (next + 1) % 8;
	for (uint32_t i = 0; i < n; i++)
		ids[next][i] = (first + i) % 200;
	m.model = g2_span_of("bare");
	m.flags |= G2_GEN_PROMPT_IDS;
	m.prompt = (g2_span) {(const char *) ids[next], n * (uint32_t) sizeof **ids};
	return m;
}

static UNUSED g2_completions_head
head_of(const reply *r)
{
	g2_reader	in = g2_read(r->data, r->len);
	g2_completions_head head;

	if (r->type != G2_MSG_COMPLETIONS)
		expect_error(r, "00000", "");
	g2_completions_head_get(&in, &head);
	assert_false(in.failed);
	return head;
}

/* SESSION with UNSET, G2_UNLIMITED or a limit for each. */
static UNUSED void
say_session(reply *r, uint32_t user, const char *name, int64_t call, int64_t sequences,
			int64_t minute)
{
	g2_writer	w = {.grow = grow};
	g2_error	err;

	g2_session_message_encode(&w, &(g2_session_message) {
		.session_user = user, .user_name = g2_span_of(name),
		.limits = {[G2_LIMIT_CALL] = call, [G2_LIMIT_SEQUENCES] = sequences,
		[G2_LIMIT_MINUTE] = minute},
	});
	EXPECT_OK(g2_engine_tell(client_of(r), G2_MSG_SESSION, w.data, w.len, &err), err);
	free(w.data);
}

#endif							/* ENGINE_WATCH_H */
