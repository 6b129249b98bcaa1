/*
 * test_vectors.c: the CPU back end against Hugging Face transformers in float32, for nine small
 * models of odd shapes (test/vectors/README.md says what is stored and why the tolerances are what
 * they are).
 *
 * Each model is made here with g2_synth, packed in f32 and run through the table of functions of
 * backend.h: logits, loss and greedy tokens, in every instruction set of the machine, in one plan
 * and in chunks.  Beyond the tolerance against the reference, all of these runs must give the same
 * bits.
 */
#include "vector_models.h"

static void
test_model(void **state)
{
	/* Whole, in chunks of 7 (across block borders), of 1 (matrix-vector) and of a block. */
	static const how hows[] = {
		{0, 0, true, true, UINT32_MAX, 1},
		{7, 0, true, false, UINT32_MAX, 13},
		{1, 0, true, true, UINT32_MAX, G2_MAX_STEPS},
		{G2_BLOCK, 0, false, false, UINT32_MAX, G2_MAX_STEPS},
	};
	vec_model	m;
	answer		first[MAX_CASES] = {0};
	g2_pack    *pack;

	read_model(*state, &m);
	pack = make_model(&m);
	for (uint32_t i = 0; i < G2_LENGTH(isas); i++)
	{
		device		d;

		/* Threads differ too, so that the comparison of bits covers them. */
		if (!device_open(&d, isas[i], 1 + i % 2))
			continue;
		device_load(&d, pack, 1);
		/* Portable code calls fmaf() for each product: the first two will do. */
		run_all(&d, isas[i], &m, hows, i == 0 ? 2 : G2_LENGTH(hows), NULL, first);
		device_unload(&d);
		device_close(&d);
	}
	for (uint32_t i = 0; i < m.n_cases; i++)
		answer_free(&first[i]);
	drop_model(&m, pack);
	free_model(&m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		MODEL_TEST("one-head", test_model),
		MODEL_TEST("bare-untied", test_model),
		MODEL_TEST("head-20", test_model),
		MODEL_TEST("untied-64", test_model),
		MODEL_TEST("head-8", test_model),
		MODEL_TEST("tiny", test_model),
		MODEL_TEST("head-1", test_model),
		MODEL_TEST("head-12", test_model),
		MODEL_TEST("head-128", test_model),
	};

	/* print_message goes through stdio: what a crash leaves behind should be complete. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	return cmocka_run_group_tests_name("vectors", tests, make_work, remove_work);
}
