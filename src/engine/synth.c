/*
 * synth.c: writes Hugging Face folders with seeded random weights (the numbers' definition and the
 * order of the tensors are in synth.h; test/vectors/synth.py makes the same bytes).
 *
 * Phases: check the options, list the tensors (the list gives header, sizes and numbers), write
 * config.json, write model.safetensors as header and then one tensor after the other through a
 * buffer.  Nothing is shared; the folder belongs to the caller.
 */
#include "synth.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "config.h"
#include "file.h"
#include "philox.h"

#define SYNTH_BLOCK 65536		/* elements made and written at a time */
#define SYNTH_TENSORS_PER_LAYER 12

typedef struct synth_tensor
{
	char		name[64];
	uint32_t	rank;
	uint64_t	shape[2];
	bool		gain;			/* 1 + value */
} synth_tensor;

typedef struct synth_list
{
	synth_tensor *tensor;
	uint32_t	n;
} synth_list;

/* Sum of the two 16-bit halves of each word. */
static inline uint32_t
synth_halves(uint32_t word)
{
	return (word & 0xFFFF) + (word >> 16);
}

static void
synth_fill_portable(float *out, uint64_t first, size_t n, uint64_t seed, uint32_t tensor,
					float scale)
{
	for (size_t j = 0; j < n; j++)
	{
		uint64_t	i = first + j;
		g2_philox	a = g2_philox4x32(seed, (uint32_t) i, (uint32_t) (i >> 32), 1, tensor),
					b = g2_philox4x32(seed, (uint32_t) i, (uint32_t) (i >> 32), 2, tensor);
		uint32_t	sum = synth_halves(a.word[0]) + synth_halves(a.word[1])
			+ synth_halves(a.word[2]) + synth_halves(a.word[3])
			+ synth_halves(b.word[0]) + synth_halves(b.word[1]);

		out[j] = (float) (2 * (int32_t) sum - 12 * 65535) * scale;
	}
}

#if defined(__x86_64__)

/*
 * Four Philox functions at once, one in each 64-bit lane: the product instruction reads the low 32
 * bits of a lane only, so what the upper halves hold in between does not matter.
 */
__attribute__((target("avx2"))) static void
synth_philox_avx2(__m256i x[4], uint64_t key)
{
	const __m256i m0 = _mm256_set1_epi64x(0xD2511F53),
				m1 = _mm256_set1_epi64x(0xCD9E8D57);
	uint32_t	k0 = (uint32_t) key,
				k1 = (uint32_t) (key >> 32);

	for (int round = 0; round < 10; round++)
	{
		__m256i		p0 = _mm256_mul_epu32(x[0], m0),
					p1 = _mm256_mul_epu32(x[2], m1);

		x[0] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p1, 32), x[1]),
								_mm256_set1_epi64x(k0));
		x[1] = p1;
		x[2] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p0, 32), x[3]),
								_mm256_set1_epi64x(k1));
		x[3] = p0;
		k0 += 0x9E3779B9u;
		k1 += 0xBB67AE85u;
	}
}

__attribute__((target("avx2"))) static __m256i
synth_halves_avx2(__m256i x)
{
	const __m256i low = _mm256_set1_epi64x(0xFFFF);

	return _mm256_add_epi64(_mm256_and_si256(x, low),
							_mm256_and_si256(_mm256_srli_epi64(x, 16), low));
}

/* n is a multiple of four; the counter's low word does not wrap within the block. */
__attribute__((target("avx2"))) static void
synth_fill_avx2(float *out, uint64_t first, size_t n, uint64_t seed, uint32_t tensor, float scale)
{
	const __m256i high = _mm256_set1_epi64x((long long) (first >> 32)),
				t = _mm256_set1_epi64x(tensor),
				pick = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);

	for (size_t j = 0; j < n; j += 4)
	{
		__m256i		low = _mm256_add_epi64(_mm256_set1_epi64x((uint32_t) (first + j)),
										   _mm256_setr_epi64x(0, 1, 2, 3)),
					a[4] = {low, high, _mm256_set1_epi64x(1), t},
					b[4] = {low, high, _mm256_set1_epi64x(2), t},
					sum;
		__m128i		g;

		synth_philox_avx2(a, seed);
		synth_philox_avx2(b, seed);
		sum = _mm256_add_epi64(synth_halves_avx2(a[0]), synth_halves_avx2(a[1]));
		sum = _mm256_add_epi64(sum, synth_halves_avx2(a[2]));
		sum = _mm256_add_epi64(sum, synth_halves_avx2(a[3]));
		sum = _mm256_add_epi64(sum, synth_halves_avx2(b[0]));
		sum = _mm256_add_epi64(sum, synth_halves_avx2(b[1]));
		g = _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(sum, pick));
		g = _mm_sub_epi32(_mm_slli_epi32(g, 1), _mm_set1_epi32(12 * 65535));
		_mm_storeu_ps(out + j, _mm_mul_ps(_mm_cvtepi32_ps(g), _mm_set1_ps(scale)));
	}
}
#endif

static void
synth_fill(float *out, uint64_t first, size_t n, uint64_t seed, uint32_t tensor, float scale)
{
	size_t		done = 0;

#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx2"))
	{
		done = n & ~(size_t) 3;
		synth_fill_avx2(out, first, done, seed, tensor, scale);
	}
#endif
	synth_fill_portable(out + done, first + done, n - done, seed, tensor, scale);
}

static void
synth_add(synth_list *list, const g2_synth_options *o, const char *name, uint64_t rows,
		  uint64_t cols)
{
	synth_tensor *t = &list->tensor[list->n++];
	bool		prefix = o->prefix && strcmp(name, "lm_head.weight") != 0;
	size_t		len = strlen(name);

	snprintf(t->name, sizeof t->name, "%s%s", prefix ? "transformer." : "", name);
	t->rank = cols > 0 ? 2 : 1;
	t->shape[0] = rows;
	t->shape[1] = cols;
	/* the layer norms: ln_1.weight, ln_2.weight, ln_f.weight */
	t->gain = len >= 11 && strncmp(name + len - 11, "ln_", 3) == 0
		&& strcmp(name + len - 7, ".weight") == 0;
}

/* The tensors in the order of the file. */
static bool
synth_tensors(const g2_synth_options *o, synth_list *list, g2_error *err)
{
	const uint64_t e = o->n_embd,
				ff = o->n_ff;
	const struct
	{
		const char *name;
		uint64_t	rows,
					cols;
	}			layer[SYNTH_TENSORS_PER_LAYER] = {
		{"ln_1.weight", e, 0}, {"ln_1.bias", e, 0},
		{"attn.c_attn.weight", e, 3 * e}, {"attn.c_attn.bias", 3 * e, 0},
		{"attn.c_proj.weight", e, e}, {"attn.c_proj.bias", e, 0},
		{"ln_2.weight", e, 0}, {"ln_2.bias", e, 0},
		{"mlp.c_fc.weight", e, ff}, {"mlp.c_fc.bias", ff, 0},
		{"mlp.c_proj.weight", ff, e}, {"mlp.c_proj.bias", e, 0},
	};
	size_t		n = (size_t) o->n_layer * SYNTH_TENSORS_PER_LAYER + 5;
	char		name[64];

	list->n = 0;
	list->tensor = g2_alloc_array(n, sizeof *list->tensor);
	if (!list->tensor)
		return g2_fail_memory(err, n * sizeof *list->tensor);
	synth_add(list, o, "wte.weight", o->n_vocab, e);
	synth_add(list, o, "wpe.weight", o->n_ctx, e);
	for (uint32_t l = 0; l < o->n_layer; l++)
		for (int i = 0; i < SYNTH_TENSORS_PER_LAYER; i++)
		{
			snprintf(name, sizeof name, "h.%u.%s", l, layer[i].name);
			synth_add(list, o, name, layer[i].rows, layer[i].cols);
		}
	synth_add(list, o, "ln_f.weight", e, 0);
	synth_add(list, o, "ln_f.bias", e, 0);
	if (o->untied)
		synth_add(list, o, "lm_head.weight", o->n_vocab, e);
	return true;
}

static uint64_t
synth_elements(const synth_tensor *t)
{
	return t->rank == 2 ? t->shape[0] * t->shape[1] : t->shape[0];
}

/* The bytes of Python's json.dumps(config, indent=2) and a newline. */
static bool
synth_config(const g2_synth_options *o, g2_buf *b)
{
	static const char *const activation[] = {
		[G2_ACT_GELU_NEW] = "gelu_new", [G2_ACT_GELU] = "gelu", [G2_ACT_RELU] = "relu",
	};

	return g2_buf_printf(b,
						 "{\n"
						 "  \"activation_function\": \"%s\",\n"
						 "  \"architectures\": [\n"
						 "    \"GPT2LMHeadModel\"\n"
						 "  ],\n"
						 "  \"bos_token_id\": null,\n"
						 "  \"eos_token_id\": null,\n"
						 "  \"layer_norm_epsilon\": 1e-05,\n"
						 "  \"model_type\": \"gpt2\",\n"
						 "  \"n_ctx\": %u,\n"
						 "  \"n_embd\": %u,\n"
						 "  \"n_head\": %u,\n"
						 "  \"n_inner\": %u,\n"
						 "  \"n_layer\": %u,\n"
						 "  \"n_positions\": %u,\n"
						 "  \"tie_word_embeddings\": %s,\n"
						 "  \"vocab_size\": %u\n"
						 "}\n",
						 activation[o->activation], o->n_ctx, o->n_embd, o->n_head, o->n_ff,
						 o->n_layer, o->n_ctx, o->untied ? "false" : "true", o->n_vocab);
}

/* Length of the JSON, the JSON with compact separators, spaces up to a multiple of 8. */
static bool
synth_header(const synth_list *list, g2_buf *b)
{
	uint64_t	offset = 0,
				len;

	g2_buf_append(b, "\0\0\0\0\0\0\0\0{", 9);
	for (uint32_t i = 0; i < list->n; i++)
	{
		const synth_tensor *t = &list->tensor[i];
		uint64_t	end = offset + synth_elements(t) * sizeof(float);

		g2_buf_printf(b, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%llu", i ? "," : "", t->name,
					  (unsigned long long) t->shape[0]);
		if (t->rank == 2)
			g2_buf_printf(b, ",%llu", (unsigned long long) t->shape[1]);
		g2_buf_printf(b, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long) offset,
					  (unsigned long long) end);
		offset = end;
	}
	g2_buf_append(b, "}", 1);
	while (!b->failed && b->len % 8 != 0)
		g2_buf_append(b, " ", 1);
	if (b->failed)
		return false;
	len = b->len - 8;
	for (int i = 0; i < 8; i++)
		b->data[i] = (char) (len >> (8 * i));
	return true;
}

static bool
synth_write_tensor(int fd, const char *path, const g2_synth_options *o, const synth_tensor *t,
				   uint32_t number, float *block, g2_error *err)
{
	const uint64_t n = synth_elements(t);
	const double sigma = number == 0 && o->embed_sigma > 0 ? o->embed_sigma : o->sigma;
	const float scale = (float) (sigma / 131072.0);

	for (uint64_t i = 0; i < n; i += SYNTH_BLOCK)
	{
		size_t		m = (size_t) G2_MIN(n - i, SYNTH_BLOCK);

		synth_fill(block, i, m, o->seed, number, scale);
		for (size_t j = 0; t->gain && j < m; j++)
			block[j] = 1.0f + block[j];
		if (!g2_file_write(fd, path, block, m * sizeof(float), err))
			return false;
	}
	return true;
}

static int
synth_create(const char *folder, const char *name, g2_buf *path, g2_error *err)
{
	int			fd;

	path->len = 0;
	if (!g2_buf_printf(path, "%s/%s", folder, name))
	{
		g2_fail_memory(err, strlen(folder));
		return -1;
	}
	fd = open(path->data, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
	if (fd < 0)
		g2_fail_errno(err, errno, "create", path->data);
	return fd;
}

/* close() can be the call that reports a full disk. */
static bool
synth_close(int fd, const char *path, bool ok, g2_error *err)
{
	if (close(fd) != 0 && ok)
		return g2_fail_errno(err, errno, "close", path);
	return ok;
}

static bool
synth_write(const char *folder, const g2_synth_options *o, const synth_list *list, g2_buf *text,
			g2_buf *path, float *block, g2_error *err)
{
	bool		ok;
	int			fd;

	if (!synth_config(o, text))
		return g2_fail_memory(err, text->len);
	fd = synth_create(folder, "config.json", path, err);
	if (fd < 0)
		return false;
	ok = g2_file_write(fd, path->data, text->data, text->len, err);
	if (!synth_close(fd, path->data, ok, err))
		return false;

	text->len = 0;
	if (!synth_header(list, text))
		return g2_fail_memory(err, text->len);
	fd = synth_create(folder, "model.safetensors", path, err);
	if (fd < 0)
		return false;
	ok = g2_file_write(fd, path->data, text->data, text->len, err);
	for (uint32_t t = 0; ok && t < list->n; t++)
		ok = synth_write_tensor(fd, path->data, o, &list->tensor[t], t, block, err);
	return synth_close(fd, path->data, ok, err);
}

static bool
synth_check(const g2_synth_options *o, g2_error *err)
{
	g2_arch		arch = {
		.n_layer = o->n_layer, .n_embd = o->n_embd, .n_head = o->n_head, .n_kv_head = o->n_head,
		.n_ff = o->n_ff, .n_ctx = o->n_ctx, .n_vocab = o->n_vocab, .norm_epsilon = 1e-5f,
		.activation = o->activation, .tied_head = !o->untied,
	};

	if (o->activation > G2_ACT_RELU)
		return g2_fail(err, G2_E_PARAM, "activation of a synthetic model must be gelu_new, gelu "
					   "or relu");
	if (!(o->sigma >= 0.0 && o->sigma <= 1000.0 && o->embed_sigma >= 0.0 &&
		  o->embed_sigma <= 1000.0))
		return g2_fail(err, G2_E_PARAM, "sigma of a synthetic model must be between 0 and 1000");
	if (!g2_arch_check_sizes(&arch, "synthetic model", err))
	{
		if (err)
			err->code = G2_E_PARAM;
		return false;
	}
	return true;
}

bool
g2_synth(const char *folder, const g2_synth_options *options, g2_error *err)
{
	synth_list	list = {0};
	g2_buf		text = {0},
				path = {0};
	float	   *block;
	bool		ok;

	if (!synth_check(options, err))
		return false;
	if (mkdir(folder, 0777) != 0 && errno != EEXIST)
		return g2_fail_errno(err, errno, "create directory", folder);
	block = g2_alloc_array(SYNTH_BLOCK, sizeof *block);
	ok = block ? synth_tensors(options, &list, err)
		: g2_fail_memory(err, SYNTH_BLOCK * sizeof *block);
	ok = ok && synth_write(folder, options, &list, &text, &path, block, err);
	g2_free(block);
	g2_free(list.tensor);
	g2_buf_free(&text);
	g2_buf_free(&path);
	return ok;
}
