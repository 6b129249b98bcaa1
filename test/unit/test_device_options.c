/*
 * test_device_options.c: requests to a model on a CUDA device through the whole engine, over the
 * emulated back end as gpt2_cuda.so beside this program: every decoding option is answered there as
 * on the CPU.
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

#define CHANGE(name, statement) static void name(g2_generate *m) { statement; }

static const uint32_t bias[] = {'e', 0x40400000, 256, 0x40a00000};	/* 3; 5 for the end token */

CHANGE(plain, m->top_k = 40)
CHANGE(biases, m->decoding.n_biases = 2; m->decoding.biases = (const char *) bias)
CHANGE(min_new, biases(m); m->decoding.min_new = 10)
CHANGE(ngram, m->decoding.no_repeat_ngram = 1)
CHANGE(greedy_ngram, m->temperature = 0; m->n = 1; m->decoding.no_repeat_ngram = 2)
CHANGE(choice, m->constraint_kind = G2_CONSTRAINT_CHOICE;
	   m->constraint = g2_span_of("[\"yes\", \"no\", \"never\"]"))
CHANGE(regex, m->constraint_kind = G2_CONSTRAINT_REGEX; m->constraint = g2_span_of("[abc]{4,9}");
	   m->decoding.no_repeat_ngram = 2)
CHANGE(schema, m->constraint_kind = G2_CONSTRAINT_SCHEMA;
	   m->constraint = g2_span_of("{\"type\": \"boolean\"}"))
CHANGE(typical, m->decoding.typical_p = 0.5)
CHANGE(presence, m->decoding.presence_penalty = 1.5)
CHANGE(frequency, presence(m); m->decoding.frequency_penalty = 0.7; m->temperature = 0; m->n = 1)
CHANGE(all_penalties, frequency(m); m->temperature = 1; m->n = 3; biases(m); typical(m))
CHANGE(beams, m->decoding.n_beams = 5; m->temperature = 0; m->top_p = 1)
CHANGE(beams_changed, beams(m); frequency(m); m->n = 2; m->decoding.no_repeat_ngram = 2; min_new(m);
	   m->decoding.length_penalty = 0.5)

static void (*const same[]) (g2_generate *m) = {
	plain, biases, min_new, ngram, greedy_ngram, choice, regex, schema, typical, presence, frequency,
	all_penalties, beams, beams_changed,
};

/* f32 has the same bits on both. */
static void
test_same_answers(void **state)
{
	reply		r[2][G2_LENGTH(same)] = {0};

	(void) state;
	for (int on = 0; on < 2; on++)
	{
		open_with_device(on ? "cuda" : "cpu");
		for (size_t i = 0; i < G2_LENGTH(same); i++)
		{
			g2_generate m = generate_wide();

			m.n = 3;
			m.repetition_penalty = 1.2;
			m.top_p = 0.9;
			same[i](&m);
			send_generate(&r[on][i], 0, &m);
			run_until(&r[on][i]);
			assert_int_equal(r[on][i].type, G2_MSG_COMPLETIONS);
			check_completions(r[on][i].data, r[on][i].len, m.n);
		}
		close_engine();
	}
	for (size_t i = 0; i < G2_LENGTH(same); i++)
		assert_true(same_completions(r[0][i].data, r[0][i].len, r[1][i].data, r[1][i].len));
	free_replies(r[0], 2 * G2_LENGTH(same));
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
		cmocka_unit_test(test_same_answers),
	};

	return cmocka_run_group_tests(tests, set_up_wide, tear_down);
}
