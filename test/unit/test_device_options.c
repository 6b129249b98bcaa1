/*
 * test_device_options.c: requests to a model on a CUDA device through the whole engine, over the
 * emulated back end as gpt2_cuda.so beside this program: every decoding option is answered there as
 * on the CPU, and models have the device's memory in common.
 */
#include "engine_watch.h"

#include "engine_state.h"

static const g2_synth_options wide_model = {
	.n_layer = 1, .n_embd = 128, .n_head = 2, .n_ff = 64, .n_ctx = 64, .n_vocab = 257,
	.sigma = 0.5, .seed = 7,
};

static void
open_with_cache(const char *device, uint64_t kv_cache_size)
{
	g2_settings s = settings();

	s.kv_cache_size = kv_cache_size;
	s.device = g2_span_of(device);
	s.device_memory = 128 << 20;
	s.weight_format = g2_span_of("f32");
	open_with(&s);
}

static void
open_with_device(const char *device)
{
	open_with_cache(device, settings().kv_cache_size);
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

static const g2_kv *
cache_of(const char *name)
{
	for (const g2_model *m = g2_registry_models(engine->registry); m; m = m->next)
		if (strcmp(m->name, name) == 0)
			return &m->kv;
	fail_msg("%s is not there", name);
	return NULL;
}

static void
load_on(const char *name, const char *device)
{
	reply		r = {0};

	send_load(&r, 0, name, "f32", device);
	run_until(&r);
	assert_int_equal(r.type, G2_MSG_DONE);
	free_replies(&r, 1);
	leave(&r);
}

/* All that the model may have holds prefixes then. */
static void
fill_cache(const char *name)
{
	g2_kv	   *kv = (g2_kv *) cache_of(name);
	g2_block_table table = {0};
	g2_error	err;

	assert_int_equal(g2_kv_prepare(kv, &table, 0, g2_kv_room(kv) * G2_BLOCK - 1, &err), G2_KV_DONE);
	for (uint32_t i = 0; i < table.n; i++)
	{
		g2_prefix	prefix = {{1}};

		memcpy(prefix.hash + 1, &i, sizeof i);
		g2_kv_publish(kv, table.blocks[i], &prefix);
	}
	g2_kv_release(kv, &table);
	assert_true(kv->n_cached > 0 && kv->n_held == 0);
}

/* The setting is for each device, and bounded by what that has. */
static void
test_budgets(void **state)
{
	const g2_kv_pool *pools;

	(void) state;
	open_with_cache("auto", 8 << 20);
	load_on("wide", "cuda");
	load_on("tiny", "cpu");
	pools = engine->kv_pools;
	assert_int_equal(pools[0].budget, 8 << 20);
	assert_int_equal(pools[1].budget, 8 << 20);
	assert_ptr_equal(cache_of("tiny")->pool, &pools[0]);
	assert_ptr_equal(cache_of("wide")->pool, &pools[1]);
	assert_int_equal(cache_of("tiny")->slab_blocks, 1);
	assert_int_equal(cache_of("wide")->slab_bytes, 2 << 20);
	assert_int_equal(cache_of("wide")->n_blocks, 4 * cache_of("wide")->slab_blocks);
	assert_int_not_equal(pools[0].index, pools[1].index);
	close_engine();
	open_with_cache("auto", 0);
	pools = engine->kv_pools;
	assert_true(pools[1].budget > 0 && pools[1].budget < (128u << 20) / 4 * 3);
	assert_true(pools[0].budget > pools[1].budget);
	close_engine();
	open_with_cache("auto", (uint64_t) 1 << 40);
	pools = engine->kv_pools;
	assert_true(pools[0].budget == (uint64_t) 1 << 40);
	assert_true(pools[1].budget > 0 && pools[1].budget < 128u << 20);
	close_engine();
}

/* One model's prefixes have all the memory of the device: another is loaded, and answers. */
static void
test_load_into_cache(void **state)
{
	reply		r[3] = {0};
	uint32_t	cached;

	(void) state;
	open_with_cache("cuda", (uint64_t) 1 << 40);
	for (int i = 0; i < 3; i++)
	{
		g2_generate m = generate_wide();

		if (i == 1)
		{
			fill_cache("wide");
			cached = cache_of("wide")->n_cached;
			load_on("wide2", "cuda");
			assert_true(cache_of("wide")->n_cached > 0 && cache_of("wide")->n_cached < cached);
			m.model = g2_span_of("wide2");
		}
		send_generate(&r[i], 0, &m);
		run_until(&r[i]);
	}
	same_answer(&r[0], &r[2]);
	same_answer(&r[0], &r[1]);	/* it has the same weights */
	free_replies(r, 3);
	close_engine();
}

static int
set_up_wide(void **state)
{
	set_up(state);
	for (int i = 0; i < 2; i++)
	{
		const char *name = i == 0 ? "wide" : "wide2";

		fixture_synth(&places, name, &wide_model);
		fixture_tokenizer(fixture_folder(&places, name));
		tb_text(fixture_folder(&places, name), "gpt2.json",
				"{\"end_token\": \"<|endoftext|>\", \"start_token\": \"<|endoftext|>\"}");
	}
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_answers), cmocka_unit_test(test_budgets),
		cmocka_unit_test(test_load_into_cache),
	};

	return cmocka_run_group_tests(tests, set_up_wide, tear_down);
}
