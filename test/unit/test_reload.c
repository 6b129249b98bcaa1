/*
 * test_reload.c: a stream of requests to an engine while the model's folder is replaced: every one
 * is answered, with the old weights' tokens up to some request and with the new ones' from there.
 */
#include "engine_driver.h"

#define N_STREAM 8				/* requests in flight */

/* The ids of an answer's only sequence. */
typedef struct answer_ids
{
	uint32_t	n;
	uint32_t	ids[N_CTX];
} answer_ids;

static answer_ids
ids_of(const reply *r)
{
	answer_ids	a = {0};
	g2_reader	in = g2_read(r->data, r->len);
	g2_completions_head head;
	g2_completion c;

	assert_int_equal(r->type, G2_MSG_COMPLETIONS);
	assert_int_equal(r->answers, 1);
	g2_completions_head_get(&in, &head);
	g2_completion_get(&in, &c);
	assert_false(in.failed);
	assert_int_equal(head.n, 1);
	assert_true(c.n_ids <= N_CTX);
	a.n = c.n_ids;
	memcpy(a.ids, c.ids, c.n_ids * sizeof *a.ids);
	return a;
}

static void
start_one(reply *r)
{
	g2_generate m = generate("a prompt");

	m.max_new = 40;
	free_replies(r, 1);
	send_generate(r, 0, &m);
}

static answer_ids
ask(void)
{
	reply		r = {0};
	answer_ids	a;

	start_one(&r);
	run_until(&r);
	a = ids_of(&r);
	free_replies(&r, 1);
	return a;
}

static void
replace_weights(uint64_t seed)
{
	g2_synth_options options = tiny_model;
	char	   *folder = strdup(fixture_folder(&places, "tiny"));

	options.seed = seed;
	fixture_synth(&places, "fresh", &options);
	fixture_tokenizer(fixture_folder(&places, "fresh"));
	assert_int_equal(rename(folder, tb_path(places.root, "gone")), 0);
	assert_int_equal(rename(fixture_folder(&places, "fresh"), folder), 0);
	free(folder);
}

static void
test_stream(void **state)
{
	static reply r[N_STREAM];
	static bool after[N_STREAM];	/* sent when a new answer had been seen */
	answer_ids	before,
				now;
	uint32_t	n_new = 0;
	int64_t		start;

	(void) state;
	open_engine();
	before = ask();
	now = ask();
	assert_memory_equal(&now, &before, sizeof now);
	for (int i = 0; i < N_STREAM; i++)
		start_one(&r[i]);
	replace_weights(77);
	start = g2_now_us();
	for (uint32_t i = 0; n_new < 100; i = (i + 1) % N_STREAM)
	{
		run_until(&r[i]);
		now = ids_of(&r[i]);
		if (memcmp(&now, &before, sizeof now) != 0)
			n_new++;
		else
			assert_false(after[i]);
		if (g2_now_us() - start > HANG_US)
			fail_msg("the model is not loaded again");
		after[i] = n_new > 0;
		start_one(&r[i]);
	}
	run_idle();
	free_replies(r, N_STREAM);
	assert_int_equal(n_loads, 2);
	now = ask();
	close_engine();
	/* the new ones are those that the new folder gives alone */
	open_engine();
	before = ask();
	assert_memory_equal(&now, &before, sizeof now);
	close_engine();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stream),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
