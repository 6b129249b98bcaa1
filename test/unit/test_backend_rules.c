/*
 * test_backend_rules.c: a back end's memory, and what it refuses: operations on the cache wait
 * their turn, bad plans and models are refused, failed allocations reported.
 */
#include "backend_fixture.h"

#include "protocol.h"

/* ---- the cache ---- */

/* A copied block serves as well as its source; a zeroed one does not; both wait their turn. */
static void
test_kv_operations(void **state)
{
	device		d = open_device(2, ISA);
	uint32_t	table[2][2] = {{3, 7}, {11, 12}},
				position[33],
				last = 32;
	float		logits[3][VOCAB];
	g2_plan_sequence seq = {G2_TOKEN_NONE, 0, 32, table[0]},
				seq2 = {G2_TOKEN_NONE, 0, 1, table[1]};
	g2_output	out = {.want = G2_WANT_LOGITS};
	g2_plan		fill = {.model = d.model, .n_steps = 1, .n_rows = 32, .token = text,
		.position = position, .n_sequences = 1, .sequences = &seq},
				next = {.model = d.model, .n_steps = 1, .n_rows = 1, .token = text + 32,
		.position = &last, .n_sequences = 1, .sequences = &seq2, .n_outputs = 1, .outputs = &out};
	g2_result	r0 = {0},
				r1 = {.logits = logits[0]};
	float	   *expected;
	g2_error	err;

	(void) state;
	for (uint32_t i = 0; i < 33; i++)
		position[i] = i;
	expected = all_logits(&d, 33, 33, 0);
	/* Both plans are queued before the first runs: the copy must fall between them. */
	submit(&d, &fill, &r0);
	assert_true(api->kv_copy(d.model, 11, 3, &err));
	submit(&d, &next, &r1);
	assert_true(finish(&d, &r0, &err) && finish(&d, &r1, &err));
	assert_memory_equal(logits[0], expected + 32 * VOCAB, sizeof logits[0]);

	assert_true(api->kv_zero(d.model, &table[1][0], 1, &err));
	r1.logits = logits[1];
	run(&d, &next, &r1);
	assert_memory_not_equal(logits[1], logits[0], sizeof logits[0]);
	assert_true(api->kv_copy(d.model, 11, 3, &err));
	r1.logits = logits[2];
	run(&d, &next, &r1);
	assert_memory_equal(logits[2], logits[0], sizeof logits[0]);

	assert_false(api->kv_copy(d.model, BLOCKS, 0, &err));
	assert_int_equal(err.code, G2_E_INTERNAL);
	assert_false(api->kv_copy(d.model, 0, BLOCKS, &err));
	assert_false(api->kv_zero(d.model, (uint32_t[]) {1, BLOCKS}, 2, &err));
	assert_false(api->kv_reserve(d.model, 4, &err));
	assert_true(api->kv_copy(d.model, 1, 0, &err));	/* dropped with the model */
	close_device(&d);
	free(expected);
}

/* A model may go while another's plan still carries operations on its cache. */
static void
test_unload_in_flight(void **state)
{
	enum
	{
		OTHER_BLOCKS = CUDA ? 256 : 4096
	};
	device		d = open_device(2, ISA);
	uint32_t	table[] = {0, 1},
				position[32],
				blocks[OTHER_BLOCKS];
	g2_plan_sequence seq = {G2_TOKEN_NONE, 0, 32, table};
	g2_plan		plan = {.model = d.model, .n_steps = 1, .n_rows = 32, .token = text,
		.position = position, .n_sequences = 1, .sequences = &seq};
	g2_result	result = {0};
	g2_error	err;

	(void) state;
	for (uint32_t i = 0; i < 32; i++)
		position[i] = i;
	for (uint32_t i = 0; i < OTHER_BLOCKS; i++)
		blocks[i] = i;
	for (int round = 0; round < 50; round++)
	{
		g2_backend_model *other;

		other = load_model(d.backend, &weights);
		assert_true(reserve_blocks(api, other, OTHER_BLOCKS, &err));
		assert_true(api->kv_zero(other, blocks, OTHER_BLOCKS, &err));
		submit(&d, &plan, &result);
		assert_true(api->kv_copy(other, 1, 0, &err));	/* never carried by a plan */
		api->model_unload(d.backend, other);
		assert_true(finish(&d, &result, &err));
	}
	close_device(&d);
}

/* ---- what is refused ---- */

typedef struct bad_case
{
	uint32_t	token[2];
	uint32_t	position[2];
	uint32_t	table[2];
	g2_plan_sequence seq[2];
	g2_output	out[2];
	g2_plan		plan;
	g2_result	result;
	uint32_t	result_token[8];
	double		result_logprob[8];
	uint32_t	top_token[8];
	double		top_logprob[8];
	double		top_score[8];
} bad_case;

/* A good plan of two sequences to be spoilt. */
static void
good_case(device *d, bad_case *c)
{
	*c = (bad_case) {.token = {1, 2}, .position = {0, 40}, .table = {0, 1}};
	c->seq[0] = (g2_plan_sequence) {0, 0, 1, c->table};
	c->seq[1] = (g2_plan_sequence) {1, 1, 1, c->table};
	c->out[0] = (g2_output) {.want = G2_WANT_TOKEN};
	c->out[1] = (g2_output) {.row = 1, .slot = 1, .want = G2_WANT_TOKEN};
	c->plan = (g2_plan) {d->model, 1, 2, c->token, c->position, 2, c->seq, 2, c->out, 3};
	c->result = (g2_result) {.token = c->result_token, .logprob = c->result_logprob};
}

static void
give_tops(bad_case *c)
{
	c->result.top_token = c->top_token;
	c->result.top_logprob = c->top_logprob;
	c->result.top_score = c->top_score;
}

static void
refused(device *d, bad_case *c, const char *what)
{
	g2_error	err = {0};

	if (api->step_submit(d->backend, &c->plan, &c->result, &err))
	{
		print_error("accepted: %s\n", what);
		fail();
	}
	assert_int_equal(err.code, G2_E_INTERNAL);
	good_case(d, c);
}

#define REFUSED(change) (change, refused(&d, &c, #change))

static void
test_bad_plans(void **state)
{
	device		d = open_device(1, ISA);
	bad_case	c;

	(void) state;
	set_slot(&d, 0, 0.0f, 1.0f, G2_TOKEN_NONE, NULL, 0);
	set_slot(&d, 1, 0.0f, 1.0f, G2_TOKEN_NONE, text, 5);
	good_case(&d, &c);
	REFUSED(c.token[0] = VOCAB);
	REFUSED(c.token[0] = G2_TOKEN_NONE);
	REFUSED(c.token[0] = G2_TOKEN_PREVIOUS);
	REFUSED((c.token[1] = G2_TOKEN_PREVIOUS, c.seq[1].slot = SLOTS));
	REFUSED((c.token[1] = G2_TOKEN_PREVIOUS, c.seq[1].slot = 7));
	REFUSED(c.position[1] = CTX);
	REFUSED((c.position[1] = CTX - 1, c.plan.n_steps = 2));
	REFUSED(c.plan.n_steps = 0);
	REFUSED(c.plan.n_steps = G2_MAX_STEPS + 1);
	REFUSED((c.plan.n_steps = 2, c.out[0].want = G2_WANT_LOGPROB));
	REFUSED((c.plan.n_steps = 2, c.out[0].want |= G2_WANT_TOP));
	REFUSED((c.plan.n_steps = 2, c.plan.n_outputs = 1));
	REFUSED((c.plan.n_steps = 2, c.out[1].mask = (const uint64_t[8]) {1}));
	REFUSED((c.plan.n_steps = 2, c.out[0].slot = 1, c.out[1].slot = 0));
	REFUSED(c.plan.n_rows = 0);
	REFUSED(c.plan.n_rows = 1);
	REFUSED(c.plan.n_rows = 3);
	REFUSED(c.plan.n_sequences = 1);
	REFUSED(c.plan.n_sequences = 3);
	REFUSED(c.plan.model = NULL);
	REFUSED(c.plan.token = NULL);
	REFUSED(c.plan.outputs = NULL);
	REFUSED(c.seq[1].first_row = 0);
	REFUSED(c.seq[1].n_rows = 0);
	REFUSED(c.seq[1].n_rows = UINT32_MAX);
	REFUSED(c.seq[0].n_rows = 2);
	REFUSED((c.seq[0].n_rows = 2, c.plan.n_sequences = 1));
	REFUSED(c.seq[1].blocks = NULL);
	REFUSED(c.table[1] = BLOCKS);
	REFUSED(c.out[1].row = 2);
	REFUSED(c.out[1].slot = 0);
	REFUSED(c.out[1].slot = SLOTS);
	REFUSED(c.out[1].slot = 9);
	REFUSED(c.out[1].want = 64);
	REFUSED((c.out[1].banned = NULL, c.out[1].n_banned = 1));
	REFUSED((c.plan.n_steps = 2, c.out[1].banned = c.token, c.out[1].n_banned = 1));
	REFUSED(c.out[1].want = G2_WANT_CANDIDATES);	/* no room for them */
	REFUSED((give_tops(&c), c.out[1].want = G2_WANT_CANDIDATES | G2_WANT_TOKEN));
	REFUSED((give_tops(&c), c.out[1].want = G2_WANT_CANDIDATES | G2_WANT_TOP));
	REFUSED((give_tops(&c), c.out[1].want = G2_WANT_CANDIDATES, c.out[1].slot = 9));
	REFUSED((give_tops(&c), c.out[1].want = G2_WANT_CANDIDATES, c.out[1].slot = SLOTS));
	REFUSED((give_tops(&c), c.out[1].want = G2_WANT_CANDIDATES, c.result.top_score = NULL));
	REFUSED((give_tops(&c), c.out[1].want = G2_WANT_CANDIDATES, c.plan.n_top = VOCAB + 1));
	REFUSED((give_tops(&c), c.out[1].want = G2_WANT_CANDIDATES, c.plan.n_steps = 2));
	REFUSED((c.out[1].want = G2_WANT_LOGPROB, c.out[1].target = VOCAB));
	REFUSED((c.out[1].want = G2_WANT_LOGPROB, c.result.logprob = NULL));
	REFUSED(c.out[1].want = G2_WANT_TOP);
	REFUSED(c.out[1].want = G2_WANT_LOGITS);
	REFUSED(c.out[1].want = G2_WANT_NORM);
	REFUSED(c.result.token = NULL);
	run(&d, &c.plan, &c.result);	/* and the good one is good */

	/* A slot whose last token the model does not have: seen when the plan runs. */
	set_slot(&d, 0, 0.0f, 1.0f, G2_TOKEN_NONE, (uint32_t[]) {VOCAB + 5}, 1);
	c.token[0] = G2_TOKEN_PREVIOUS;
	submit(&d, &c.plan, &c.result);
	{
		g2_error	err = {0};

		assert_false(finish(&d, &c.result, &err));
		assert_int_equal(err.code, G2_E_INTERNAL);
		assert_false(api->slot_set(d.backend, SLOTS, &(g2_slot_state) {0}, &err));
		assert_int_equal(err.code, G2_E_INTERNAL);
		assert_false(api->slot_set(d.backend, 0, &(g2_slot_state) {.sampling.n_biases = 1}, &err));
		assert_int_equal(err.code, G2_E_INTERNAL);
		/* More new tokens than tokens. */
		assert_false(api->slot_set(d.backend, 0, &(g2_slot_state) {.next_index = 1}, &err));
		assert_int_equal(err.code, G2_E_INTERNAL);
	}
	close_device(&d);
}

/* All that a slot or an output may ask for. */
static void
test_decoding(void **state)
{
	static const g2_bias bias = {3, 1};
	static const g2_sampling samplings[] = {
		{.typical_p = 0.5f},
		{.presence_penalty = 1},
		{.frequency_penalty = -1},
		{.biases = &bias, .n_biases = 1},
		{.min_new = 2},
	};
	const g2_output outputs[] = {
		{.want = G2_WANT_TOKEN, .banned = text, .n_banned = 1},
		{.want = G2_WANT_TOKEN, .mask = (const uint64_t[(VOCAB + 63) / 64]) {1}},
		{.want = G2_WANT_CANDIDATES},
	};
	device		d = open_device(1, ISA);
	bad_case	c;

	(void) state;
	for (size_t i = 0; i < G2_LENGTH(samplings); i++)
	{
		g2_slot_state slot = {.sampling = samplings[i], .most_new = 5};

		slot.sampling.repetition_penalty = slot.sampling.top_p = 1;
		assert_true(api->slot_set(d.backend, 0, &slot, NULL));
	}
	set_slot(&d, 0, 0.0f, 1.0f, G2_TOKEN_NONE, NULL, 0);
	set_slot(&d, 1, 0.0f, 1.0f, G2_TOKEN_NONE, NULL, 0);
	for (size_t i = 0; i < G2_LENGTH(outputs); i++)
	{
		good_case(&d, &c);
		give_tops(&c);
		c.out[0] = outputs[i];
		run(&d, &c.plan, &c.result);
	}
	close_device(&d);
}

static void
load_refused(device *d, const g2_weights *w, g2_code code)
{
	g2_backend_model *m = NULL;
	g2_error	err = {0};

	assert_false(api->model_load(d->backend, w, &m, &err));
	assert_int_equal(err.code, code);
}

#define LOAD_REFUSED(change, code) \
	do { \
		g2_weights	w = weights; \
		change; \
		load_refused(&d, &w, code); \
	} while (0)

static void
test_bad_models(void **state)
{
	device		d = open_device(1, ISA);
	g2_backend_model *m;
	g2_error	err;

	(void) state;
	LOAD_REFUSED(w.arch.norm = G2_NORM_RMS, G2_E_UNSUPPORTED);
	LOAD_REFUSED(w.arch.position = G2_POSITION_ROPE_HALF, G2_E_UNSUPPORTED);
	LOAD_REFUSED(w.arch.activation = G2_ACT_SILU, G2_E_UNSUPPORTED);
	LOAD_REFUSED(w.arch.gated_mlp = 1, G2_E_UNSUPPORTED);
	LOAD_REFUSED(w.arch.fused_qkv = 0, G2_E_UNSUPPORTED);
	LOAD_REFUSED(w.arch.n_kv_head = 1, G2_E_UNSUPPORTED);
	LOAD_REFUSED(w.arch.attn_window = 64, G2_E_UNSUPPORTED);
	LOAD_REFUSED(w.arch.n_vocab = 300000, G2_E_UNSUPPORTED);
	LOAD_REFUSED(w.arch.head_dim = 2048, G2_E_UNSUPPORTED);
	LOAD_REFUSED(w.format = (g2_format) 9, G2_E_UNSUPPORTED);
	LOAD_REFUSED(w.arch.n_ff = 7, G2_E_INTERNAL);
	LOAD_REFUSED(w.arch.n_layer = 0, G2_E_INTERNAL);
	LOAD_REFUSED(w.head.n_padded = 48, G2_E_INTERNAL);
	LOAD_REFUSED(w.positions = NULL, G2_E_INTERNAL);
	assert_true(api->model_load(d.backend, &weights, &m, &err));
	assert_true(api->kv_block_bytes(m) == LAYERS * HEADS * 32 *
				(HEAD_DIM + (HEAD_DIM + 15) / 16 * 16) * sizeof(float));
	api->model_unload(d.backend, m);
	close_device(&d);
}

static void
test_options(void **state)
{
	g2_backend *b;
	g2_error	err;

	(void) state;
	assert_false(api->open(&(g2_backend_options) {.threads = 1, .slots = UINT32_MAX, .isa = ISA}, 0,
						   &b, &err));
	assert_int_equal(err.code, G2_E_INTERNAL);
	/* As many as suit the device are enough for a request with most texts. */
	if (!api->open(&(g2_backend_options) {.threads = 1, .isa = ISA, .device_memory = 64 << 20}, 0, &b,
				   &err))
		fail_msg("%s", err.message);
	assert_true(api->slots(b, 0) >= G2_MAX_SEQUENCES);
	assert_int_equal(api->slots(b, 1), 0);
	api->close(b);
#if CUDA
	assert_false(api->open(&(g2_backend_options) {.slots = 1, .device = 63}, 0, &b, &err));
	assert_int_equal(err.code, G2_E_UNSUPPORTED);
	assert_false(api->open(&(g2_backend_options) {.slots = 1, .device_memory = (uint64_t) 1 << 40}, 0,
						   &b, &err));
	assert_int_equal(err.code, G2_E_MEMORY);
#else
	assert_false(api->open(&(g2_backend_options) {.slots = 1, .isa = ISA}, 0, &b, &err));
	assert_int_equal(err.code, G2_E_INTERNAL);
	assert_false(api->open(&(g2_backend_options) {.threads = 1, .slots = 1, .isa = "mmx"}, 0, &b,
						   &err));
	assert_int_equal(err.code, G2_E_PARAM);
#endif
	api->close(NULL);
}

/* ---- memory ---- */

/* The whole life, with the n-th allocation failing: 53200, and the next attempt works. */
static bool
life(int fd, long fail_at, g2_error *err)
{
	g2_backend_options options = {.threads = 2, .slots = 4, .isa = ISA};
	g2_backend *b = NULL;
	g2_backend_model *m = NULL;
	uint32_t	token[] = {5},
				position[] = {0},
				table[] = {0},
				answer;
	g2_plan_sequence seq = {0, 0, 1, table};
	g2_output	out = {.want = G2_WANT_TOKEN};
	g2_slot_state slot = {.sampling = {.repetition_penalty = 1.1f, .presence_penalty = 1},
		.history = token, .n_history = 1, .next_index = 1, .most_new = 5};
	g2_plan		plan = {.n_steps = 1, .n_rows = 1, .token = token, .position = position,
		.n_sequences = 1, .sequences = &seq, .n_outputs = 1, .outputs = &out};
	g2_result	result = {.token = &answer};
	bool		ok;

	g2_alloc_fail_at(fail_at);
	ok = api->open(&options, fd, &b, err) && api->model_load(b, &weights, &m, err) &&
		(!api->model_fill || api->model_fill(m, &weights, err)) &&
		reserve_blocks(api, m, 4, err) && api->slot_set(b, 0, &slot, err) &&
		api->kv_copy(m, 1, 0, err) && api->kv_zero(m, table, 1, err);
	plan.model = m;
	ok = ok && api->step_submit(b, &plan, &result, err);
	g2_alloc_fail_at(0);
	if (ok)
	{
		device		d = {fd, b, m};

		assert_true(finish(&d, &result, err));
		assert_true(answer < VOCAB);
	}
	if (m)
		api->model_unload(b, m);
	if (b)
		api->close(b);
	return ok;
}

static void
test_allocation_failures(void **state)
{
	int			fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	long		n = 1;
	g2_error	err = {0};
	device		d;

	(void) state;
	while (!life(fd, n, &err))
	{
		assert_int_equal(err.code, G2_E_MEMORY);
		err.code = G2_OK;
		n++;
	}
	assert_true(n > 8);
	close(fd);

	/* Address space, too, can run out. */
	d = open_device(1, ISA);
	api->model_unload(d.backend, d.model);
	d.model = load_model(d.backend, &weights);
	assert_false(api->kv_reserve(d.model, UINT32_MAX, &err));
	assert_int_equal(err.code, G2_E_MEMORY);
	assert_true(api->kv_reserve(d.model, 2, &err));
	close_device(&d);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kv_operations),
		cmocka_unit_test(test_unload_in_flight),
		cmocka_unit_test(test_bad_plans),
		cmocka_unit_test(test_decoding),
		cmocka_unit_test(test_bad_models),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_allocation_failures),
	};
	int			rc;

	choose_backend();
	make_model();
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	free_model();
	return rc;
}
