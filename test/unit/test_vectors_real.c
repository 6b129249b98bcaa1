/*
 * test_vectors_real.c: trained models on the CPU back end, against what their makers stored with
 * them: nano-sort (its own forward pass and all 729 answers) and byte-basic (greedy references).
 *
 * Environment:
 *     GPT2_SHARED_MODELS   directory with the folders nano-sort and byte-basic; unset: skipped
 */
#include "vector_models.h"

#include <cjson/cJSON.h>

/* ---- their files */

/* The folder's path, or skips. */
static const char *
shared_folder(const char *name, char *path, size_t size)
{
	const char *directory = getenv("GPT2_SHARED_MODELS");
	struct stat st;

	if (!directory || !*directory)
	{
		print_message("             skipped: GPT2_SHARED_MODELS is not set\n");
		skip();
	}
	snprintf(path, size, "%s/%s/model.safetensors", directory, name);
	if (stat(path, &st) != 0)
	{
		print_message("             skipped: %s is not there\n", path);
		skip();
	}
	snprintf(path, size, "%s/%s", directory, name);
	return directory;
}

static cJSON *
read_json(const char *folder, const char *name)
{
	size_t		len;
	char	   *text = tb_read(folder, name, &len);
	cJSON	   *json = cJSON_Parse(text);

	assert_non_null(json);
	free(text);
	return json;
}

static int
base64_value(int c)
{
	static const char alphabet[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *p = c ? strchr(alphabet, c) : NULL;

	return p ? (int) (p - alphabet) : -1;
}

/* A tensor {"data": base64 of little-endian float32} of exactly n elements. */
static float *
json_tensor(const cJSON *json, const char *name, uint32_t n)
{
	const cJSON *tensor = cJSON_GetObjectItemCaseSensitive(json, name);
	const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(tensor, "data"));
	float	   *out = need_memory(n, sizeof *out);
	unsigned char *bytes = (unsigned char *) out;
	uint32_t	bits = 0,
				n_bits = 0;
	size_t		len = 0;

	assert_non_null(text);
	for (; *text && *text != '='; text++)
	{
		int			v = base64_value(*text);

		assert_true(v >= 0);
		bits = bits << 6 | (uint32_t) v;
		n_bits += 6;
		if (n_bits >= 8)
		{
			n_bits -= 8;
			assert_true(len < n * sizeof *out);
			bytes[len++] = (unsigned char) (bits >> n_bits);
		}
	}
	assert_int_equal(len, n * sizeof *out);
	return out;
}

static uint32_t *
json_ids(const cJSON *object, const char *name, uint32_t *n)
{
	const cJSON *array = cJSON_GetObjectItemCaseSensitive(object, name);
	uint32_t   *ids;

	assert_true(cJSON_IsArray(array));
	*n = (uint32_t) cJSON_GetArraySize(array);
	ids = need_memory(*n, sizeof *ids);
	for (uint32_t i = 0; i < *n; i++)
		ids[i] = (uint32_t) cJSON_GetArrayItem(array, (int) i)->valuedouble;
	return ids;
}

/* ---- a model that sorts six digits */

#define SORT_DIGITS 6
#define SORT_PROMPTS 729
#define SORT_TOGETHER 243		/* prompts of one plan */

/* The logits of every position of three sequences against the model's own forward pass. */
static double
check_sort_logits(device *d, const cJSON *partials)
{
	const uint32_t batch = 3,
				n = d->n_ctx;
	float	   *idx = json_tensor(partials, "idx", batch * n),
			   *want = json_tensor(partials, "lm_head", batch * n * d->n_vocab);
	uint32_t   *ids = need_memory(n, sizeof *ids),
			   *positions = need_memory(n, sizeof *positions);
	double		worst = 0;

	for (uint32_t b = 0; b < batch; b++)
	{
		answer		a;

		for (uint32_t i = 0; i < n; i++)
		{
			ids[i] = (uint32_t) idx[b * n + i];
			positions[i] = i;
		}
		forward(d, ids, n, positions, n, n, false, &a);
		for (uint32_t i = 0; i < n; i++)
		{
			const float *ref = want + (b * n + i) * d->n_vocab,
					   *got = a.logits + i * d->n_vocab;
			double		absmax = 0,
						off = 0;

			for (uint32_t v = 0; v < d->n_vocab; v++)
			{
				absmax = fmax(absmax, fabsf(ref[v]));
				off = fmax(off, fabsf(got[v] - ref[v]));
			}
			worst = fmax(worst, off / absmax);
			assert_true(off <= TOLERANCE * absmax);
		}
		answer_free(&a);
	}
	free(idx);
	free(want);
	free(ids);
	free(positions);
	return worst;
}

/* All prompts on every instruction set; with partials the logits too. */
static void
check_sort(const g2_pack *pack, const cJSON *partials, const uint32_t *prompts,
		   const uint32_t *want)
{
	uint32_t   *out = need_memory(SORT_PROMPTS * SORT_DIGITS, sizeof *out);

	for (uint32_t i = 0; i < G2_LENGTH(isas); i++)
	{
		device		d;

		if (!device_open(&d, isas[i], 2))
			continue;
		device_load(&d, pack, SORT_TOGETHER);
		for (uint32_t p = 0; p < SORT_PROMPTS * SORT_DIGITS; p += SORT_TOGETHER * SORT_DIGITS)
			greedy(&d, prompts + p, SORT_TOGETHER, SORT_DIGITS, 0, SORT_DIGITS, 4, out + p);
		assert_memory_equal(out, want, SORT_PROMPTS * SORT_DIGITS * sizeof *want);
		print_message("             nano-sort, %s, %s: all 729 sorted\n",
					  g2_format_name(pack->weights.format), isas[i]);
		if (partials)
			print_message("             logits within %.1e\n", check_sort_logits(&d, partials));
		device_unload(&d);
		device_close(&d);
	}
	free(out);
}

/* Its smallest margin is 2.9: a format that loses one of the answers is broken. */
static void
test_nano_sort(void **state)
{
	char		folder[PATH_MAX];
	const char *directory = shared_folder("nano-sort", folder, sizeof folder);
	uint32_t   *prompts = need_memory(SORT_PROMPTS * SORT_DIGITS, sizeof *prompts),
			   *want = need_memory(SORT_PROMPTS * SORT_DIGITS, sizeof *want);
	cJSON	   *partials = read_json(folder, "gpt-nano-sort-t0-partials.json");
	char	   *text,
			   *at;
	size_t		len;

	(void) state;
	at = text = tb_read(folder, "greedy_all_729.tsv", &len);
	for (int i = 0; i < SORT_PROMPTS; i++, at += 2 * SORT_DIGITS + 2)
		for (int k = 0; k < SORT_DIGITS; k++)
		{
			prompts[i * SORT_DIGITS + k] = (uint32_t) (at[k] - '0');
			want[i * SORT_DIGITS + k] = (uint32_t) (at[SORT_DIGITS + 1 + k] - '0');
		}
	assert_int_equal(*at, '\0');
	free(text);
	for (g2_format f = 0; f < G2_FORMATS; f++)
	{
		g2_pack    *pack = open_pack_in(directory, "nano-sort", f);

		check_sort(pack, f == G2_FORMAT_F32 ? partials : NULL, prompts, want);
		g2_pack_close(pack);
	}
	cJSON_Delete(partials);
	free(prompts);
	free(want);
}

/* ---- a byte-level model */

/* One prompt; true when the greedy tokens are the reference's.  They may differ only where its
 * best two logits were closer than the tolerance. */
static bool
check_byte_prompt(device *d, const cJSON *item, double *worst)
{
	const cJSON *logits = cJSON_GetObjectItemCaseSensitive(item, "last_logits");
	double		margin = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(item, "min_margin")),
				absmax = 0,
				off = 0;
	uint32_t	n_ids,
				n_new,
				last;
	uint32_t   *ids = json_ids(item, "prompt_ids", &n_ids),
			   *want = json_ids(item, "greedy_ids", &n_new),
			   *out = need_memory(n_new, sizeof *out);
	answer		a;
	bool		same;

	assert_int_equal(cJSON_GetArraySize(logits), d->n_vocab);
	last = n_ids - 1;
	forward(d, ids, n_ids, &last, 1, n_ids, false, &a);
	for (uint32_t v = 0; v < d->n_vocab; v++)
	{
		double		ref = cJSON_GetArrayItem(logits, (int) v)->valuedouble;

		absmax = fmax(absmax, fabs(ref));
		off = fmax(off, fabs(a.logits[v] - ref));
	}
	*worst = fmax(*worst, off);
	/* The file has four decimals: half a unit of the last on top. */
	assert_true(off <= TOLERANCE * absmax + 0.5e-4);
	greedy(d, ids, 1, n_ids, n_ids - 1, n_new, 16, out);
	same = memcmp(out, want, n_new * sizeof *want) == 0;
	if (!same && margin > SAFE_GAP * absmax)
		fail_msg("greedy tokens differ though the smallest margin is %g", margin);
	answer_free(&a);
	free(ids);
	free(want);
	free(out);
	return same;
}

static void
test_byte_basic(void **state)
{
	char		folder[PATH_MAX];
	const char *directory = shared_folder("byte-basic", folder, sizeof folder);
	cJSON	   *reference = read_json(folder, "greedy_reference.json");
	g2_pack    *pack = open_pack(directory, "byte-basic");

	(void) state;
	for (uint32_t i = 0; i < G2_LENGTH(isas); i++)
	{
		const cJSON *item;
		device		d;
		double		worst = 0;
		int			same = 0;

		if (!device_open(&d, isas[i], 2))
			continue;
		device_load(&d, pack, 1);
		cJSON_ArrayForEach(item, reference)
			same += check_byte_prompt(&d, item, &worst);
		print_message("             byte-basic, %s: logits off by at most %.1e (4 decimals), "
					  "%d of %d continuations\n", isas[i], worst, same,
					  cJSON_GetArraySize(reference));
		device_unload(&d);
		device_close(&d);
	}
	g2_pack_close(pack);
	cJSON_Delete(reference);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nano_sort),
		cmocka_unit_test(test_byte_basic),
	};

	/* print_message goes through stdio: what a crash leaves behind should be complete. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	return cmocka_run_group_tests_name("vectors of trained models", tests, make_work, remove_work);
}
