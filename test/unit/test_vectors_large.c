/*
 * test_vectors_large.c: the CPU back end against Hugging Face transformers in float32, for a model
 * with the shape of GPT-2 small (124M); test_vectors.c does the same for small models.
 *
 * Environment:
 *     GPT2_TEST_QUICK      set: skipped
 */
#include "vector_models.h"

/*
 * Everything in the machine's best instruction set, where the short prompt's greedy tokens begin
 * with a plan that reads it again and the long one's go on from the cache, and chunks are only for
 * the prompt that is longer than one; in portable code, which takes long, the beginning of the
 * short prompt, one row beyond the first block.
 */
static void
test_large_model(void **state)
{
	static const how whole_short = {0, 0, true, true, UINT32_MAX, G2_MAX_STEPS},
				whole_long = {0, 0, true, false, UINT32_MAX, G2_MAX_STEPS},
				chunks = {300, 0, false, false, 1, 1},
				portable = {0, G2_BLOCK + 1, false, false, 0, 1};
	vec_model	m;
	answer		first[MAX_CASES] = {0};
	g2_pack    *pack;
	device		d;
	const char *isa;

	if (getenv("GPT2_TEST_QUICK"))
	{
		print_message("             skipped: GPT2_TEST_QUICK is set\n");
		skip();
	}
	read_model(*state, &m);
	assert_int_equal(m.n_cases, 2);
	assert_true(m.cases[1].n_ids > chunks.chunk);
	pack = make_model(&m);
	assert_true(device_open(&d, "auto", 2));
	device_load(&d, pack, 1);
	isa = g2_cpu_backend.isa(d.backend);
	run_all(&d, isa, &m, &whole_short, 1, &m.cases[0], first);
	run_all(&d, isa, &m, &whole_long, 1, &m.cases[1], first);
	run_all(&d, isa, &m, &chunks, 1, &m.cases[1], first);
	device_unload(&d);
	device_close(&d);
	assert_true(device_open(&d, "portable", 2));
	device_load(&d, pack, 1);
	run_all(&d, "portable", &m, &portable, 1, &m.cases[0], first);
	device_unload(&d);
	device_close(&d);
	for (uint32_t i = 0; i < m.n_cases; i++)
		answer_free(&first[i]);
	drop_model(&m, pack);
	free_model(&m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		MODEL_TEST("gpt2-124m", test_large_model),
	};

	/* print_message goes through stdio: what a crash leaves behind should be complete. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	return cmocka_run_group_tests_name("vectors of a large model", tests, make_work, remove_work);
}
