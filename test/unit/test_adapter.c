/*
 * test_adapter.c: what LoRA adapters beside their base compute: the logits of the merged model, the
 * same bits for every instruction set, number of threads, chunk and batch, in every format.
 */
#include "adapter_fixture.h"
#include "outliers.h"
#include "pack_fixture.h"
#include "vector_device.h"

#define N_IDS 40

/* Logits of n_ids tokens, [n_ids][n_vocab], from the device with the model. */
static float *
logits_on(device *d, uint32_t n_ids, uint32_t chunk)
{
	uint32_t	ids[N_IDS],
				positions[N_IDS];
	answer		a = {0};

	for (uint32_t i = 0; i < n_ids; i++)
	{
		ids[i] = (i * 37 + 11) % d->n_vocab;
		positions[i] = i;
	}
	forward(d, ids, n_ids, positions, n_ids, chunk, false, &a);
	return a.logits;
}

static float *
logits_as(const char *name, g2_format format, const char *isa, uint32_t threads, uint32_t n_ids,
		  uint32_t chunk)
{
	g2_pack    *pack = open_as(name, format);
	device		d;
	float	   *logits = NULL;

	if (device_open(&d, isa, threads))
	{
		device_load(&d, pack, 1);
		logits = logits_on(&d, n_ids, chunk);
		device_unload(&d);
		device_close(&d);
	}
	g2_pack_close(pack);
	return logits;
}

/* The largest difference, relative to the largest value of a. */
static double
distance(const float *a, const float *b, size_t n)
{
	double		most = 0,
				size = 0;

	for (size_t i = 0; i < n; i++)
	{
		most = fmax(most, fabs((double) a[i] - b[i]));
		size = fmax(size, fabs(a[i]));
	}
	return most / size;
}

/* Ranks below, at and beyond a panel; all matrices, or some. */
static void
test_merged(void **state)
{
	static const struct
	{
		uint32_t	rank,
					modules;
	}			cases[] = {{1, 15}, {8, 15}, {48, 15}, {70, 15}, {4, 1}, {4, 2}, {4, 4}, {4, 8}};
	const size_t n = (size_t) N_IDS * base_model.n_vocab;

	(void) state;
	fixture_synth(&fx, "base", &base_model);
	for (size_t i = 0; i < G2_LENGTH(cases); i++)
	{
		test_adapter t = adapter_make(&base_model, cases[i].rank, 2 * cases[i].rank, 0.1f,
									  cases[i].modules, i + 1);
		char		merged[16];

		snprintf(merged, sizeof merged, "merged%zu", i);
		adapter_write(&t, &fx, "adapter", "base", "");
		adapter_merge(&t, &fx, "base", merged);
		for (g2_format f = 0; f < G2_FORMATS; f++)
		{
			float	   *base = logits_as("base", f, "auto", 1, N_IDS, N_IDS),
					   *adapted = logits_as("adapter", f, "auto", 1, N_IDS, N_IDS),
					   *whole = logits_as(merged, f, "auto", 1, N_IDS, N_IDS);
			double		moved = distance(whole, base, n),
						apart = distance(whole, adapted, n);

			/* of bf16, q8, q4 the merged model's rounding is in it; in q4 that is nearly all */
			if (moved < 0.05 || apart > (f == G2_FORMAT_F32 ? 1e-5 :
										 f == G2_FORMAT_Q4 ? 1.0 : 0.5 * moved))
				fail_msg("rank %u of %u, %s: moved by %g, apart by %g", cases[i].rank,
						 cases[i].modules, g2_format_name(f), moved, apart);
			free(base);
			free(adapted);
			free(whole);
		}
		adapter_free(&t);
	}
}

/* Nothing added: the base's bits. */
static void
test_zero(void **state)
{
	test_adapter t = adapter_make(&base_model, 8, 16, 0, 15, 1);
	const size_t bytes = (size_t) N_IDS * base_model.n_vocab * sizeof(float);

	(void) state;
	fixture_synth(&fx, "base", &base_model);
	adapter_write(&t, &fx, "adapter", "base", "");
	for (g2_format f = 0; f < G2_FORMATS; f++)
	{
		float	   *base = logits_as("base", f, "auto", 1, N_IDS, N_IDS),
				   *adapted = logits_as("adapter", f, "auto", 1, N_IDS, N_IDS);

		assert_memory_equal(base, adapted, bytes);
		free(base);
		free(adapted);
	}
	adapter_free(&t);
}

/* Of bf16 the products of the base may differ between instruction sets, of the rest nothing. */
static void
test_same_bits(void **state)
{
	test_adapter t = adapter_make(&base_model, 8, 16, 0.1f, 15, 3);
	const size_t bytes = (size_t) N_IDS * base_model.n_vocab * sizeof(float);

	(void) state;
	fixture_synth(&fx, "base", &base_model);
	adapter_write(&t, &fx, "adapter", "base", "");
	for (g2_format f = 0; f < G2_FORMATS; f++)
	{
		float	   *expected = NULL;

		for (size_t i = 0; i < G2_LENGTH(isas); i++)
		{
			static const uint32_t chunks[] = {N_IDS, 1, 7},
						threads[] = {1, 3, 2};

			for (size_t c = 0; c < G2_LENGTH(chunks); c++)
			{
				float	   *logits = logits_as("adapter", f, isas[i], threads[c], N_IDS,
											   chunks[c]);

				if (!logits)
					break;
				if (!expected)
					expected = logits;
				else
				{
					if (memcmp(logits, expected, bytes) != 0)
						fail_msg("%s, %s, %u threads, %u rows at a time", g2_format_name(f),
								 isas[i], threads[c], chunks[c]);
					free(logits);
				}
			}
			if (f == G2_FORMAT_BF16)
			{
				free(expected);
				expected = NULL;
			}
		}
		free(expected);
	}
	adapter_free(&t);
}

/* Eleven sequences together, and each alone. */
static void
test_batch(void **state)
{
	enum {N = 11, IDS = 9, NEW = 12};
	test_adapter t = adapter_make(&base_model, 8, 16, 0.1f, 15, 4);
	uint32_t	ids[N * IDS],
				together[N * NEW],
				alone[NEW];
	g2_pack    *pack;
	device		d;

	(void) state;
	fixture_synth(&fx, "base", &base_model);
	adapter_write(&t, &fx, "adapter", "base", "");
	for (uint32_t i = 0; i < N * IDS; i++)
		ids[i] = (i * 29 + i / IDS) % base_model.n_vocab;
	pack = open_as("adapter", G2_FORMAT_Q8);
	assert_true(device_open(&d, "auto", 2));
	device_load(&d, pack, N);
	greedy(&d, ids, N, IDS, 0, NEW, 4, together);
	for (uint32_t s = 0; s < N; s++)
	{
		greedy(&d, ids + s * IDS, 1, IDS, 0, NEW, 1, alone);
		assert_memory_equal(alone, together + s * NEW, sizeof alone);
	}
	device_unload(&d);
	device_close(&d);
	g2_pack_close(pack);
	adapter_free(&t);
}

/* Channels that are evened out in q8 and q4 are so for the adapter, too: a model with outliers by
 * powers of two, and an adapter that reads them, compute what they were made from. */
static void
test_outliers(void **state)
{
	static const struct
	{
		uint32_t	matrix,		/* layer * 4 + module */
					channel;
		float		factor;
	}			outliers[] = {{0, 0, 32}, {0, 95, 16}, {4, 40, 1.0f / 64}, {6, 7, 128}};
	test_adapter t = adapter_make(&plain_model, 8, 16, 0.5f, 15, 5);
	const size_t bytes = (size_t) plain_model.n_ctx * plain_model.n_vocab * sizeof(float);

	(void) state;
	fixture_synth(&fx, "plain", &plain_model);
	make_outliers(&fx, "plain", "outliers");
	adapter_write(&t, &fx, "a", "plain", "");
	for (size_t i = 0; i < G2_LENGTH(outliers); i++)
		for (uint32_t j = 0; j < t.rank; j++)
			t.a[outliers[i].matrix][j * plain_model.n_embd + outliers[i].channel] /=
				outliers[i].factor;
	adapter_write(&t, &fx, "b", "outliers", "");
	for (g2_format f = 0; f < G2_FORMATS; f++)
	{
		float	   *a = logits_as("a", f, "auto", 1, plain_model.n_ctx, 8),
				   *b = logits_as("b", f, "auto", 1, plain_model.n_ctx, 8),
				   *base = logits_as("plain", f, "auto", 1, plain_model.n_ctx, 8);

		assert_memory_equal(a, b, bytes);
		assert_true(memcmp(a, base, bytes) != 0);
		free(a);
		free(b);
		free(base);
	}
	adapter_free(&t);
}

/* lora_alpha / sqrt(r), and bfloat16 tensors. */
static void
test_scale(void **state)
{
	test_adapter t = adapter_make(&base_model, 16, 8, 0.1f, 15, 6);
	const size_t bytes = (size_t) N_IDS * base_model.n_vocab * sizeof(float);
	float	   *a,
			   *b;

	(void) state;
	fixture_synth(&fx, "base", &base_model);
	adapter_write(&t, &fx, "root", "base", ", \"use_rslora\": true");
	t.alpha = 32;				/* 8 / 4 = 32 / 16 */
	adapter_write(&t, &fx, "plain", "some/hub/base", "");
	a = logits_as("root", G2_FORMAT_F32, "auto", 1, N_IDS, N_IDS);
	b = logits_as("plain", G2_FORMAT_F32, "auto", 1, N_IDS, N_IDS);
	assert_memory_equal(a, b, bytes);
	free(a);
	free(b);
	adapter_free(&t);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_merged),
		TEST(test_zero),
		TEST(test_same_bits),
		TEST(test_batch),
		TEST(test_outliers),
		TEST(test_scale),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
