/*
 * test_config.c: config.json -> g2_arch, field by field.
 */
#include "st_builder.h"

#include <math.h>

#include "config.h"

/* A whole config with the given members replaced: "key":value pairs, NULL removes the key. */
typedef struct change
{
	const char *key;
	const char *value;
} change;

static const change base[] = {
	{"model_type", "\"gpt2\""}, {"architectures", "[\"GPT2LMHeadModel\"]"}, {"n_layer", "2"},
	{"n_head", "3"}, {"n_embd", "48"}, {"n_positions", "16"}, {"n_ctx", "16"},
	{"vocab_size", "100"}, {"n_inner", "null"}, {"activation_function", "\"gelu_new\""},
	{"layer_norm_epsilon", "1e-05"},
};

static bool
parse(const change *c, size_t n, g2_config *config, g2_error *err)
{
	g2_buf		text = {0};
	bool		ok;

	g2_buf_append(&text, "{\"unknown\":[1,{}]", 17);
	for (size_t i = 0; i < G2_LENGTH(base); i++)
	{
		bool		changed = false;

		for (size_t j = 0; j < n; j++)
			changed |= strcmp(c[j].key, base[i].key) == 0;
		if (!changed)
			g2_buf_printf(&text, ",\"%s\":%s", base[i].key, base[i].value);
	}
	for (size_t j = 0; j < n; j++)
		if (c[j].value)
			g2_buf_printf(&text, ",\"%s\":%s", c[j].key, c[j].value);
	g2_buf_append(&text, "}", 1);
	memset(err, 0, sizeof *err);
	ok = g2_config_parse("/models/x/config.json", text.data, text.len, config, err);
	g2_buf_free(&text);
	return ok;
}

static g2_config
accept1(const char *key, const char *value)
{
	change		c = {key, value};
	g2_config	config;
	g2_error	err;

	EXPECT_OK(parse(&c, 1, &config, &err), err);
	return config;
}

static void
refuse1(const char *key, const char *value, g2_code code, const char *part)
{
	change		c = {key, value};
	g2_config	config;
	g2_error	err;

	assert_false(parse(&c, 1, &config, &err));
	EXPECT_ERROR(err, code, part);
	assert_non_null(strstr(err.message, "config.json"));
}

static void
test_good(void **state)
{
	g2_config	c = accept1("x", "1");

	(void) state;
	assert_int_equal(c.arch.n_layer, 2);
	assert_int_equal(c.arch.n_head, 3);
	assert_int_equal(c.arch.n_kv_head, 3);
	assert_int_equal(c.arch.n_embd, 48);
	assert_int_equal(c.arch.head_dim, 16);
	assert_int_equal(c.arch.n_ff, 192);
	assert_int_equal(c.arch.n_ctx, 16);
	assert_int_equal(c.arch.n_vocab, 100);
	assert_int_equal(c.arch.tied_head, 1);
	assert_int_equal(c.arch.activation, G2_ACT_GELU_NEW);
	assert_true(c.arch.attn_scale == 0.25f);
	assert_true(c.arch.norm_epsilon == 1e-5f);
	assert_string_equal(c.architecture, "gpt2");
	assert_int_equal(c.start_id, -1);
	assert_int_equal(c.end_id, -1);
	assert_true(g2_arch_check(&c.arch, "x", NULL));
	/* 100*48 + 16*48 + 2*(4*48 + 48*144+144 + 48*48+48 + 2*48*192+192+48) + 2*48 */
	assert_int_equal(g2_arch_parameters(&c.arch), 62208);
}

static void
test_variants(void **state)
{
	(void) state;
	assert_int_equal(accept1("n_inner", "50").arch.n_ff, 50);
	assert_int_equal(accept1("n_positions", NULL).arch.n_ctx, 16);
	assert_int_equal(accept1("n_positions", "20").arch.n_ctx, 20);
	assert_int_equal(accept1("activation_function", "\"gelu\"").arch.activation, G2_ACT_GELU);
	assert_int_equal(accept1("activation_function", "\"relu\"").arch.activation, G2_ACT_RELU);
	assert_int_equal(accept1("activation_function", "\"gelu_pytorch_tanh\"").arch.activation,
					 G2_ACT_GELU_NEW);
	assert_int_equal(accept1("tie_word_embeddings", "false").arch.tied_head, 0);
	assert_int_equal(accept1("tie_word_embeddings", "true").arch.tied_head, 1);
	assert_true(accept1("scale_attn_weights", "false").arch.attn_scale == 1.0f);
	assert_int_equal(accept1("eos_token_id", "50256").end_id, 50256);
	assert_int_equal(accept1("eos_token_id", "[7,8]").end_id, 7);
	assert_int_equal(accept1("eos_token_id", "[]").end_id, -1);
	assert_int_equal(accept1("bos_token_id", "-5").start_id, -5);
	accept1("architectures", "[\"GPT2Model\"]");
	accept1("architectures", NULL);
	accept1("model_type", NULL);
	accept1("scale_attn_by_inverse_layer_idx", "false");
}

static void
test_sizes(void **state)
{
	static const char *const key[] = {"n_layer", "n_head", "n_embd", "vocab_size"};
	static const char *const bad[] = {"0", "-1", "1.5", "1e300", "\"12\"", "true", "[1]",
		"99999999999999999999", "1048577"};

	(void) state;
	for (size_t k = 0; k < G2_LENGTH(key); k++)
	{
		for (size_t i = 0; i < G2_LENGTH(bad); i++)
			refuse1(key[k], bad[i], G2_E_BAD_JSON, key[k]);
		refuse1(key[k], NULL, G2_E_BAD_JSON, key[k]);
		refuse1(key[k], "null", G2_E_BAD_JSON, key[k]);
	}
	refuse1("n_positions", "0", G2_E_BAD_JSON, "n_positions");
	refuse1("n_positions", "1048577", G2_E_BAD_JSON, "n_positions");
	refuse1("n_layer", "1025", G2_E_BAD_JSON, "from 1 to 1024");
	refuse1("n_embd", "65537", G2_E_BAD_JSON, "from 1 to 65536");
	refuse1("vocab_size", "262145", G2_E_BAD_JSON, "from 1 to 262144");
	refuse1("n_inner", "0", G2_E_BAD_JSON, "n_inner");
	refuse1("n_inner", "-3072", G2_E_BAD_JSON, "n_inner");
	refuse1("n_head", "5", G2_E_BAD_JSON, "not divisible");
	refuse1("layer_norm_epsilon", "0", G2_E_BAD_JSON, "layer_norm_epsilon");
	refuse1("layer_norm_epsilon", "\"1e-5\"", G2_E_BAD_JSON, "layer_norm_epsilon");
	refuse1("eos_token_id", "\"x\"", G2_E_BAD_JSON, "eos_token_id");
	refuse1("eos_token_id", "1.5", G2_E_BAD_JSON, "eos_token_id");
	refuse1("tie_word_embeddings", "1", G2_E_BAD_JSON, "tie_word_embeddings");
}

static void
test_no_context(void **state)
{
	change		c[] = {{"n_positions", NULL}, {"n_ctx", NULL}};
	g2_config	config;
	g2_error	err;

	(void) state;
	assert_false(parse(c, 2, &config, &err));
	EXPECT_ERROR(err, G2_E_BAD_JSON, "n_positions");
	c[1].value = "0";
	assert_false(parse(c, 2, &config, &err));
	EXPECT_ERROR(err, G2_E_BAD_JSON, "n_ctx");
}

static void
test_unsupported(void **state)
{
	change		none[] = {{"model_type", NULL}, {"architectures", NULL}};
	change		act = {"activation_function", "\"swish\""};
	g2_config	config;
	g2_error	err;

	(void) state;
	refuse1("model_type", "\"llama\"", G2_E_UNSUPPORTED, "llama");
	refuse1("architectures", "[\"GPT2ForSequenceClassification\"]", G2_E_UNSUPPORTED,
			"GPT2ForSequenceClassification");
	refuse1("architectures", "[1]", G2_E_BAD_JSON, "architectures");
	refuse1("architectures", "\"GPT2Model\"", G2_E_BAD_JSON, "architectures");
	refuse1("model_type", "7", G2_E_BAD_JSON, "model_type");
	refuse1("scale_attn_by_inverse_layer_idx", "true", G2_E_UNSUPPORTED,
			"scale_attn_by_inverse_layer_idx");
	refuse1("reorder_and_upcast_attn", "true", G2_E_UNSUPPORTED, "reorder_and_upcast_attn");
	refuse1("add_cross_attention", "true", G2_E_UNSUPPORTED, "add_cross_attention");
	refuse1("activation_function", "\"a\\nb\"", G2_E_UNSUPPORTED, "a?b");
	refuse1("activation_function", "3", G2_E_BAD_JSON, "activation_function");
	assert_false(parse(none, 2, &config, &err));
	EXPECT_ERROR(err, G2_E_BAD_JSON, "model_type");
	assert_false(parse(&act, 1, &config, &err));
	EXPECT_ERROR(err, G2_E_UNSUPPORTED, "swish");
	assert_non_null(strstr(err.hint, "gelu_new"));
}

static void
test_malformed(void **state)
{
	static const char *const bad[] = {"", "{", "[]", "3", "null", "{\"n_layer\":1}}",
		"{\"a\":1,\"a\":2}", "\xFF"};
	g2_config	config;
	g2_error	err = {0};

	(void) state;
	for (size_t i = 0; i < G2_LENGTH(bad); i++)
	{
		assert_false(g2_config_parse("config.json", bad[i], strlen(bad[i]), &config, &err));
		EXPECT_ERROR(err, G2_E_BAD_JSON, "config.json");
	}
}

/* What a pack may claim is held to the same bounds. */
static void
test_arch_check(void **state)
{
	g2_arch		good = accept1("x", "1").arch,
				a;

	(void) state;
#define BAD(field, v) (a = good, a.field = (v), assert_false(g2_arch_check(&a, "x", NULL)))
	BAD(n_layer, 0);
	BAD(n_layer, 1025);
	BAD(n_head, 5);
	BAD(n_kv_head, 1);
	BAD(head_dim, 8);
	BAD(n_ff, 0);
	BAD(n_vocab, UINT32_MAX);
	BAD(norm, 7);
	BAD(norm_bias, 2);
	BAD(norm_epsilon, NAN);
	BAD(position, 1);
	BAD(activation, 99);
	BAD(gated_mlp, 1);
	BAD(attn_scale, INFINITY);
	BAD(attn_scale, NAN);
	BAD(attn_window, 1);
	BAD(tied_head, 2);
#undef BAD
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_variants),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_no_context),
		cmocka_unit_test(test_unsupported),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_arch_check),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
