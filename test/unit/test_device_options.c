/*
 * test_device_options.c: requests to a model on a CUDA device through the whole engine, over the
 * emulated back end as gpt2_cuda.so beside this program: what is answered there as on the CPU, and
 * the options that the device lacks, which are refused by name.
 */
#include "engine_watch.h"

static const g2_synth_options wide_model = {
	.n_layer = 1, .n_embd = 128, .n_head = 2, .n_ff = 64, .n_ctx = 64, .n_vocab = 257,
	.sigma = 0.5, .seed = 7,
};

static void
open_with_device(const char *device)
{
	g2_settings s = settings();

	s.device = g2_span_of(device);
	s.device_memory = 128 << 20;
	s.weight_format = g2_span_of("f32");
	open_with(&s);
}

static g2_generate
generate_wide(void)
{
	g2_generate m = generate("hello");

	m.model = g2_span_of("wide");
	return m;
}

/* f32 has the same bits on both. */
static void
test_same_answer(void **state)
{
	reply		r[2] = {0};
	g2_generate m = generate_wide();

	(void) state;
	m.n = 3;
	m.repetition_penalty = 1.2;
	m.top_p = 0.9;
	for (int i = 0; i < 2; i++)
	{
		open_with_device(i == 0 ? "cpu" : "cuda");
		send_generate(&r[i], 0, &m);
		run_until(&r[i]);
		assert_int_equal(r[i].type, G2_MSG_COMPLETIONS);
		check_completions(r[i].data, r[i].len, 3);
		close_engine();
	}
	assert_true(same_completions(r[0].data, r[0].len, r[1].data, r[1].len));
	free_replies(r, 2);
}

#define CHANGE(name, statement) static void name(g2_generate *m) { statement; }

static const uint32_t bias[] = {'e', 0x40400000};

CHANGE(typical, m->decoding.typical_p = 0.5)
CHANGE(presence, m->decoding.presence_penalty = 1)
CHANGE(frequency, m->decoding.frequency_penalty = 1)
CHANGE(biases, m->decoding.n_biases = 1; m->decoding.biases = (const char *) bias)
CHANGE(min_new, m->decoding.min_new = 2)
CHANGE(ngram, m->decoding.no_repeat_ngram = 2)
CHANGE(beams, m->decoding.n_beams = 2; m->temperature = 0)
CHANGE(choice, m->constraint_kind = G2_CONSTRAINT_CHOICE; m->constraint = g2_span_of("[\"yes\"]"))
CHANGE(regex, m->constraint_kind = G2_CONSTRAINT_REGEX; m->constraint = g2_span_of("[ab]+"))
CHANGE(schema, m->constraint_kind = G2_CONSTRAINT_SCHEMA;
	   m->constraint = g2_span_of("{\"type\": \"boolean\"}"))

static const struct
{
	const char *option;
	void		(*change) (g2_generate *m);
}			lacking[] = {
	{"typical_p", typical}, {"presence_penalty", presence}, {"frequency_penalty", frequency},
	{"logit_bias", biases}, {"min_new_tokens", min_new}, {"no_repeat_ngram_size", ngram},
	{"num_beams", beams}, {"choice", choice}, {"regex", regex}, {"json_schema", schema},
};

static void
test_lacking(void **state)
{
	(void) state;
	open_with_device("cuda");
	for (size_t i = 0; i < G2_LENGTH(lacking); i++)
	{
		reply		r = {0};
		g2_generate m = generate_wide();
		char		expected[64];

		snprintf(expected, sizeof expected, "%s is not supported on the CUDA device",
				 lacking[i].option);
		lacking[i].change(&m);
		send_generate(&r, 0, &m);
		run_until(&r);
		expect_error(&r, "0A000", expected);
		free_replies(&r, 1);
	}
	close_engine();
}

/* As the hint says. */
static void
test_on_the_cpu(void **state)
{
	reply		r[2] = {0};
	g2_generate m = generate_wide();

	(void) state;
	open_with_device("auto");
	send_load(r, 0, "wide", "", "cpu");
	run_until(&r[0]);
	for (size_t i = 0; i < G2_LENGTH(lacking); i++)
	{
		m = generate_wide();
		lacking[i].change(&m);
		send_generate(r, 1, &m);
		run_until(&r[1]);
		assert_int_equal(r[1].type, G2_MSG_COMPLETIONS);
		free_replies(&r[1], 1);
	}
	free_replies(r, 1);
	close_engine();
}

static int
set_up_wide(void **state)
{
	set_up(state);
	fixture_synth(&places, "wide", &wide_model);
	fixture_tokenizer(fixture_folder(&places, "wide"));
	tb_text(fixture_folder(&places, "wide"), "gpt2.json",
			"{\"end_token\": \"<|endoftext|>\", \"start_token\": \"<|endoftext|>\"}");
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_answer),
		cmocka_unit_test(test_lacking),
		cmocka_unit_test(test_on_the_cpu),
	};

	return cmocka_run_group_tests(tests, set_up_wide, tear_down);
}
