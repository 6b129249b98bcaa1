/*
 * test_synth.c: synthetic models are the same bytes everywhere: hashes made by
 * test/vectors/synth.py, and the numbers by their definition.
 */
#include "model_fixture.h"

#include <math.h>

#include "pack.h"
#include "philox.h"

/* SHA-256 over config.json followed by model.safetensors, as synth.py prints it. */
static void
folder_hash(const char *folder, char hex[65])
{
	static const char *const name[] = {"config.json", "model.safetensors"};
	uint8_t		digest[G2_HASH];
	g2_error	err;
	g2_hash    *hash = g2_hash_new(&err);

	assert_non_null(hash);
	for (int i = 0; i < 2; i++)
	{
		size_t		len;
		char	   *data = tb_read(folder, name[i], &len);

		g2_hash_add(hash, data, len);
		free(data);
	}
	EXPECT_OK(g2_hash_end(hash, digest, &err), err);
	g2_hash_free(hash);
	g2_hash_hex(digest, G2_HASH, hex);
}

static void
test_hashes(void **state)
{
	/* synth.py FOLDER n_layer=2 n_embd=8 ... prints the hash */
	static const struct
	{
		g2_synth_options o;
		const char *hash;
	}			known[] = {
		{{2, 8, 2, 32, 16, 50, G2_ACT_GELU_NEW, true, true, 0.02, UINT64_MAX, 0},
		"ddb04fb6b21c94170839b3192e9b2024bcec109eede3b809be4664612457bbce"},
		{{1, 6, 3, 7, 5, 9, G2_ACT_GELU, false, false, 1.5, 7, 0},
		"ba572898870e2eba5a396616fa659029f95ff5fd01d5af9111845ca9cba7d29c"},
		{{3, 64, 4, 256, 192, 1000, G2_ACT_RELU, true, false, 0.1, 123456789012, 0},
		"593dbee9f9d35c0923d2ab304f0bc9803dffb0cb0d98cb5f9e82c73cb58d3d6e"},
	};

	(void) state;
	for (size_t i = 0; i < G2_LENGTH(known); i++)
	{
		char	   *folder = tb_folder();
		char		hex[65];
		g2_error	err;

		EXPECT_OK(g2_synth(folder, &known[i].o, &err), err);
		EXPECT_OK(g2_synth(folder, &known[i].o, &err), err);	/* over the old files */
		folder_hash(folder, hex);
		assert_string_equal(hex, known[i].hash);
		tb_remove(folder);
	}
}

/* synth.h's definition, element by element. */
static void
test_numbers(void **state)
{
	g2_synth_options o = {.n_layer = 1, .n_embd = 37, .n_head = 1, .n_ff = 41, .n_ctx = 3,
		.n_vocab = 2000, .sigma = 0.25, .seed = 0x123456789ABCDEF0};
	char	   *folder = tb_folder();
	g2_safetensors *st;
	g2_error	err;
	double		squares = 0;
	size_t		n = 0;

	(void) state;
	EXPECT_OK(g2_synth(folder, &o, &err), err);
	EXPECT_OK(g2_safetensors_open(folder, "model.safetensors", &st, &err), err);
	assert_int_equal(g2_safetensors_count(st), 16);
	for (uint32_t t = 0; t < 16; t++)
	{
		const g2_tensor *tensor = g2_safetensors_at(st, t);
		size_t		elements = (size_t) (tensor->end - tensor->begin) / 4;
		float	   *x = malloc(elements * 4);

		EXPECT_OK(g2_safetensors_read(st, tensor, 0, elements, x, &err), err);
		for (uint32_t i = 0; i < elements; i++)
		{
			g2_philox	a = g2_philox4x32(o.seed, i, 0, 1, t),
						b = g2_philox4x32(o.seed, i, 0, 2, t);
			int64_t		sum = 0;
			float		value;

			for (int w = 0; w < 4; w++)
				sum += (a.word[w] & 0xFFFF) + (a.word[w] >> 16);
			for (int w = 0; w < 2; w++)
				sum += (b.word[w] & 0xFFFF) + (b.word[w] >> 16);
			value = (float) (2 * sum - 12 * 65535) * (float) (0.25 / 131072.0);
			squares += (double) value * value;
			n++;
			if (strstr(tensor->name, "ln_") && strstr(tensor->name, ".weight"))
				value = 1.0f + value;
			assert_true(x[i] == value);
		}
		free(x);
	}
	assert_true(fabs(sqrt(squares / (double) n) / 0.25 - 1) < 0.01);
	g2_safetensors_close(st);
	tb_remove(folder);
}

static void
test_refused(void **state)
{
	char	   *folder = tb_folder();
	g2_error	err = {0};

	(void) state;
#define BAD(field, value, part) \
	do { \
		g2_synth_options o = small_model; \
		o.field = (value); \
		assert_false(g2_synth(folder, &o, &err)); \
		EXPECT_ERROR(err, G2_E_PARAM, part); \
	} while (0)
	BAD(n_layer, 0, "n_layer");
	BAD(n_embd, 0, "n_embd");
	BAD(n_head, 3, "divisible");
	BAD(n_head, 0, "n_head");
	BAD(n_ctx, 2000000, "n_positions");
	BAD(n_vocab, 1 << 30, "vocab_size");
	BAD(activation, 77, "activation");
	BAD(sigma, -1, "sigma");
	BAD(sigma, (double) NAN, "sigma");
#undef BAD
	assert_int_equal(tb_count(folder), 0);
	assert_false(g2_synth("/nonexistent/folder", &small_model, &err));
	EXPECT_ERROR(err, G2_E_NO_FILE, "create directory");
	tb_remove(folder);
}

static void
test_memory(void **state)
{
	char	   *folder = tb_folder();

	(void) state;
	for (long n = 1;; n++)
	{
		g2_error	err = {0};
		bool		ok;

		g2_alloc_fail_at(n);
		ok = g2_synth(folder, &small_model, &err);
		g2_alloc_fail_at(0);
		if (ok)
			break;
		assert_int_equal(err.code, G2_E_MEMORY);
		assert_true(n < 100);
	}
	tb_remove(folder);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hashes),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
