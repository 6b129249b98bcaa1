/*
 * test_train_passes.c: what a step's passes leave in the gradients.
 */
#include "train_fixture.h"

/* A step's first pass sets every gradient, whatever was there, with a head of its own too; and with
 * no target anywhere there is none. */
static void
test_first_pass(void **state)
{
	const g2_synth_options o = {.n_layer = 1, .n_embd = 32, .n_head = 2, .n_ff = 64, .n_ctx = 16,
	.n_vocab = 40};
	g2t_context context = open_context(2);

	(void) state;
	for (int tied = 0; tied < 2; tied++)
	{
		const uint32_t start[] = {0, 5},
					tokens[] = {1, 2, 1, 39, 4},
					none[] = {G2_NO_TOKEN, G2_NO_TOKEN, G2_NO_TOKEN, G2_NO_TOKEN, G2_NO_TOKEN};
		g2t_batch	b = {.n = 5, .n_sequences = 1, .start = start, .tokens = tokens,
		.targets = tokens};
		g2_arch		arch = arch_of(&o);
		g2t_parameters p,
					adapters = {0};
		g2t_network *net;
		float	   *g;
		g2_error	err;

		arch.tied_head = (uint32_t) tied;
		EXPECT_OK(g2t_parameters_open(&arch, G2T_TWO_MOMENTS, &p, &err), err);
		g2t_parameters_start(&p, 1, 1, NULL);
		EXPECT_OK(g2t_network_open(&arch, &context, &p, &adapters,
								   &(g2t_network_options) {.rows = 5}, &net, &err), err);
		g2t_network_backward(net, &b, 0, 1.0f);
		g = need_memory(p.floats, sizeof(float));
		memcpy(g, p.g, p.floats * sizeof(float));
		g2t_network_backward(net, &b, 0, 1.0f);
		assert_memory_equal(p.g, g, p.floats * sizeof(float));
		b.targets = none;
		assert_true(g2t_network_backward(net, &b, 0, 1.0f) == 0.0);
		assert_true(g2t_gradient_norm(&context, &p) == 0.0);
		free(g);
		g2t_network_close(net);
		g2t_parameters_close(&p);
	}
	g2t_context_close(&context);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_pass),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
