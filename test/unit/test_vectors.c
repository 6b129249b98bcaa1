/*
 * test_vectors.c: the CPU back end and the sampler against Hugging Face transformers in float32
 * (test/vectors/README.md says what is stored and why the tolerances are what they are).
 *
 * Each model is made here with g2_synth (its SHA-256 shows that it is the very one which Python
 * made), packed in f32 and run through the table of functions of backend.h: logits, loss and
 * greedy tokens, in every instruction set of the machine, in one plan and in chunks.  Beyond the
 * tolerance against the reference, all of these runs must give the same bits.
 *
 * Environment:
 *     GPT2_TEST_VECTORS    directory of the .vec files (default test/vectors/data)
 *     GPT2_SHARED_MODELS   directory with the folders nano-sort and byte-basic; unset: skipped
 *     GPT2_TEST_QUICK      set: without the 124M model, fewer draws
 */
#define _DEFAULT_SOURCE
#define _XOPEN_SOURCE 700		/* nftw */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <cjson/cJSON.h>
#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <math.h>
#include <openssl/evp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend.h"
#include "model.h"
#include "philox.h"
#include "sampler.h"
#include "synth.h"
#include "util.h"

/*
 * Logits: |d| <= 1e-4 max|logit| of the row is the promise; per element the test asks for more,
 * |d| <= 1e-4 |logit| + 1e-5 max|logit|, so that small logits may not drown in the large one.
 */
#define TOLERANCE 1e-4
#define FLOOR 1e-5
/* Two logits that are this far apart keep their order when each may be off by the tolerance. */
#define SAFE_GAP (2 * TOLERANCE)

#define MAX_CASES 4
#define N_SLOTS 256
#define N_TOP 5
#define TIMEOUT_MS 120000

#define CHECK(ok, err) \
	do { \
		if (!(ok)) \
			fail_msg("%s: %s (%s) %s", #ok, (err)->message, g2_sqlstate((err)->code), \
					 (err)->detail); \
	} while (0)

/* ---------------------------------------------------------------- files of vectors */

/* Words separated by white space; a line that starts with # is a comment. */
typedef struct reader
{
	char	   *data;
	char	   *at;
	char		path[PATH_MAX];
} reader;

static char *
read_whole_file(const char *path, size_t *len)
{
	FILE	   *f = fopen(path, "rb");
	char	   *data;
	long		n;

	if (!f)
		fail_msg("%s: %s (run the test in the repository's root, or set GPT2_TEST_VECTORS)",
				 path, strerror(errno));
	assert_int_equal(fseek(f, 0, SEEK_END), 0);
	n = ftell(f);
	assert_true(n >= 0);
	rewind(f);
	data = malloc((size_t) n + 1);
	assert_non_null(data);
	assert_int_equal(fread(data, 1, (size_t) n, f), (size_t) n);
	data[n] = '\0';
	fclose(f);
	if (len)
		*len = (size_t) n;
	return data;
}

static void
reader_open(reader *r, const char *name)
{
	const char *directory = getenv("GPT2_TEST_VECTORS");

	snprintf(r->path, sizeof r->path, "%s/%s.vec", directory ? directory : "test/vectors/data",
			 name);
	r->data = r->at = read_whole_file(r->path, NULL);
}

/* The next word, NULL at the end. */
static char *
next_word(reader *r)
{
	char	   *word;

	for (;;)
	{
		r->at += strspn(r->at, " \n");
		if (*r->at != '#')
			break;
		r->at += strcspn(r->at, "\n");
	}
	if (*r->at == '\0')
		return NULL;
	word = r->at;
	r->at += strcspn(r->at, " \n");
	if (*r->at != '\0')
		*r->at++ = '\0';
	return word;
}

static char *
need_word(reader *r)
{
	char	   *word = next_word(r);

	if (!word)
		fail_msg("%s: ends early", r->path);
	return word;
}

static void
expect(reader *r, const char *key)
{
	char	   *word = need_word(r);

	if (strcmp(word, key) != 0)
		fail_msg("%s: \"%s\" where \"%s\" should be", r->path, word, key);
}

static double
need_number(reader *r)
{
	char	   *word = need_word(r),
			   *end;
	double		value = strtod(word, &end);

	if (*end != '\0' || !isfinite(value))
		fail_msg("%s: \"%s\" is not a number", r->path, word);
	return value;
}

static uint32_t
need_uint(reader *r)
{
	double		value = need_number(r);

	if (value < 0 || value > UINT32_MAX || value != floor(value))
		fail_msg("%s: %g is not a uint32", r->path, value);
	return (uint32_t) value;
}

static double
need_key(reader *r, const char *key)
{
	expect(r, key);
	return need_number(r);
}

static void *
need_memory(size_t n, size_t size)
{
	void	   *p = calloc(n ? n : 1, size);

	assert_non_null(p);
	return p;
}

/* "N id id ..." */
static uint32_t *
need_ids(reader *r, uint32_t *n)
{
	uint32_t   *ids;

	*n = need_uint(r);
	assert_true(*n < (1u << 20));
	ids = need_memory(*n, sizeof *ids);
	for (uint32_t i = 0; i < *n; i++)
		ids[i] = need_uint(r);
	return ids;
}

typedef struct vec_row
{
	uint32_t	position;
	double		absmax;
	uint32_t	best;
	double		best_logit;
	double		gap;			/* best to second, relative to absmax */
	double		lse;			/* log of the sum of exponentials */
	float	   *logits;			/* [n_sample] */
} vec_row;

typedef struct vec_case
{
	char		name[32];
	uint32_t	n_ids;
	uint32_t   *ids;
	double		loss;			/* NAN: a prompt of one token has none */
	uint32_t	n_rows;
	vec_row    *rows;
	uint32_t	n_greedy;
	double		greedy_gap;
	uint32_t   *greedy;
} vec_case;

typedef struct vec_model
{
	char		name[64];
	g2_synth_options options;
	char		sha256[65];
	uint32_t	n_sample;
	uint32_t   *sample;			/* ids whose logits are stored */
	uint32_t	n_cases;
	vec_case	cases[MAX_CASES];
} vec_model;

static void
read_row(reader *r, const vec_model *m, vec_row *row)
{
	row->position = need_uint(r);
	row->absmax = need_key(r, "absmax");
	row->best = (uint32_t) need_key(r, "best");
	row->best_logit = need_number(r);
	row->gap = need_key(r, "gap");
	row->lse = need_key(r, "lse");
	row->logits = need_memory(m->n_sample, sizeof *row->logits);
	expect(r, "logits");
	for (uint32_t i = 0; i < m->n_sample; i++)
		row->logits[i] = (float) need_number(r);
}

static void
read_case(reader *r, const vec_model *m, vec_case *c)
{
	snprintf(c->name, sizeof c->name, "%s", need_word(r));
	c->loss = NAN;
	for (;;)
	{
		const char *key = need_word(r);

		if (strcmp(key, "end") == 0)
			return;
		if (strcmp(key, "ids") == 0)
		{
			c->ids = need_ids(r, &c->n_ids);
			c->rows = need_memory(c->n_ids, sizeof *c->rows);
		}
		else if (strcmp(key, "noise") == 0)
			need_number(r);
		else if (strcmp(key, "loss") == 0)
			c->loss = need_number(r);
		else if (strcmp(key, "at") == 0)
		{
			assert_true(c->n_rows < c->n_ids);
			read_row(r, m, &c->rows[c->n_rows++]);
		}
		else if (strcmp(key, "greedy") == 0)
		{
			uint32_t	n = need_uint(r);

			c->greedy_gap = need_key(r, "gap");
			expect(r, "ids");
			c->greedy = need_memory(n, sizeof *c->greedy);
			for (c->n_greedy = 0; c->n_greedy < n; c->n_greedy++)
				c->greedy[c->n_greedy] = need_uint(r);
		}
		else
			fail_msg("%s: unknown key \"%s\"", r->path, key);
	}
}

static void
read_model(const char *name, vec_model *m)
{
	g2_synth_options *o = &m->options;
	reader		r;

	memset(m, 0, sizeof *m);
	snprintf(m->name, sizeof m->name, "%s", name);
	reader_open(&r, name);
	expect(&r, "model");
	o->n_layer = (uint32_t) need_key(&r, "n_layer");
	o->n_embd = (uint32_t) need_key(&r, "n_embd");
	o->n_head = (uint32_t) need_key(&r, "n_head");
	o->n_ff = (uint32_t) need_key(&r, "n_ff");
	o->n_ctx = (uint32_t) need_key(&r, "n_ctx");
	o->n_vocab = (uint32_t) need_key(&r, "n_vocab");
	o->activation = (uint32_t) need_key(&r, "activation");
	o->untied = need_key(&r, "untied") != 0;
	o->prefix = need_key(&r, "prefix") != 0;
	o->sigma = need_key(&r, "sigma");
	o->seed = (uint64_t) need_key(&r, "seed");
	expect(&r, "sha256");
	snprintf(m->sha256, sizeof m->sha256, "%s", need_word(&r));
	expect(&r, "sample");
	m->sample = need_ids(&r, &m->n_sample);
	for (char *word; (word = next_word(&r));)
	{
		assert_string_equal(word, "case");
		assert_true(m->n_cases < MAX_CASES);
		read_case(&r, m, &m->cases[m->n_cases++]);
	}
	assert_true(m->n_cases > 0);
	free(r.data);
}

static void
free_model(vec_model *m)
{
	for (uint32_t i = 0; i < m->n_cases; i++)
	{
		vec_case   *c = &m->cases[i];

		for (uint32_t j = 0; j < c->n_rows; j++)
			free(c->rows[j].logits);
		free(c->rows);
		free(c->ids);
		free(c->greedy);
	}
	free(m->sample);
}

/* ---------------------------------------------------------------- a directory of our own */

static char work[PATH_MAX];		/* work/models, work/packs */

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void) st;
	(void) type;
	(void) ftw;
	return remove(path);
}

static void
remove_tree(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int
make_work(void **state)
{
	const char *tmp = getenv("TMPDIR");
	char		path[PATH_MAX + 16];

	(void) state;
	snprintf(work, sizeof work, "%s/g2_vectors_XXXXXX", tmp && *tmp ? tmp : "/tmp");
	if (!mkdtemp(work))
		return -1;
	snprintf(path, sizeof path, "%s/models", work);
	return mkdir(path, 0700);
}

static int
remove_work(void **state)
{
	(void) state;
	remove_tree(work);
	return 0;
}

static void
hash_file(EVP_MD_CTX *context, const char *folder, const char *name)
{
	static char block[1 << 16];
	char		path[PATH_MAX + 64];
	FILE	   *f;
	size_t		n;

	snprintf(path, sizeof path, "%s/%s", folder, name);
	f = fopen(path, "rb");
	assert_non_null(f);
	while ((n = fread(block, 1, sizeof block, f)) > 0)
		assert_int_equal(EVP_DigestUpdate(context, block, n), 1);
	assert_false(ferror(f));
	fclose(f);
}

static void
check_hash(const char *folder, const char *want)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	unsigned char digest[EVP_MAX_MD_SIZE];
	char		hex[65];

	assert_non_null(context);
	assert_int_equal(EVP_DigestInit_ex(context, EVP_sha256(), NULL), 1);
	hash_file(context, folder, "config.json");
	hash_file(context, folder, "model.safetensors");
	assert_int_equal(EVP_DigestFinal_ex(context, digest, NULL), 1);
	EVP_MD_CTX_free(context);
	for (int i = 0; i < 32; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	assert_string_equal(hex, want);
}

static g2_pack *
open_pack(const char *directory, const char *name)
{
	char		packs[PATH_MAX + 16];
	g2_model_paths paths = {.directories = &directory, .n_directories = 1};
	atomic_bool cancel = false;
	g2_error	err = {0};
	g2_pack    *pack = NULL;

	snprintf(packs, sizeof packs, "%s/packs", work);
	paths.pack_directory = packs;
	CHECK(g2_pack_open(&paths, name, G2_FORMAT_F32, NULL, &cancel, &pack, &err), &err);
	assert_non_null(pack);
	return pack;
}

/* ---------------------------------------------------------------- the device */

static const char *const isas[] = {"portable", "avx2", "avx512"};

typedef struct device
{
	g2_backend *backend;
	int			fd;
	g2_backend_model *model;
	uint32_t	n_vocab;
	uint32_t	n_ctx;
	uint32_t	n_blocks;		/* per sequence */
	uint32_t	n_sequences;	/* that the cache has room for */
	uint32_t   *blocks;			/* [n_sequences][n_blocks] */
} device;

/* False: the machine does not have the instruction set. */
static bool
device_open(device *d, const char *isa, uint32_t threads)
{
	const g2_backend_options options = {.threads = threads, .slots = N_SLOTS, .isa = isa};
	g2_error	err = {0};

	memset(d, 0, sizeof *d);
	d->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(d->fd >= 0);
	if (!g2_cpu_backend.open(&options, d->fd, &d->backend, &err))
	{
		close(d->fd);
		if (strcmp(isa, "portable") == 0 || strcmp(isa, "auto") == 0)
			fail_msg("%s: %s", isa, err.message);
#if defined(__x86_64__)
		if (strcmp(isa, "avx2") == 0 && __builtin_cpu_supports("avx2")
			&& __builtin_cpu_supports("fma"))
			fail_msg("%s, which this machine has: %s", isa, err.message);
#endif
		return false;
	}
	return true;
}

/* Sequences have their blocks interleaved and in descending order, so that a block table which
 * is not looked at gives wrong answers.  Whatever was in the blocks before stays there. */
static void
device_load(device *d, const g2_pack *pack, uint32_t n_sequences)
{
	const g2_arch *arch = &pack->weights.arch;
	g2_error	err = {0};
	uint32_t	total;

	d->n_vocab = arch->n_vocab;
	d->n_ctx = arch->n_ctx;
	d->n_blocks = (arch->n_ctx + G2_BLOCK - 1) / G2_BLOCK;
	d->n_sequences = n_sequences;
	total = d->n_blocks * n_sequences;
	CHECK(g2_cpu_backend.model_load(d->backend, &pack->weights, &d->model, &err), &err);
	CHECK(g2_cpu_backend.kv_reserve(d->model, total, &err), &err);
	d->blocks = need_memory(total, sizeof *d->blocks);
	for (uint32_t s = 0; s < n_sequences; s++)
		for (uint32_t b = 0; b < d->n_blocks; b++)
			d->blocks[s * d->n_blocks + b] = total - 1 - (b * n_sequences + s);
}

static void
device_unload(device *d)
{
	g2_cpu_backend.model_unload(d->backend, d->model);
	free(d->blocks);
	d->blocks = NULL;
}

static void
device_close(device *d)
{
	g2_cpu_backend.close(d->backend);
	close(d->fd);
}

static void
device_run(device *d, const g2_plan *plan, g2_result *result)
{
	struct pollfd p = {.fd = d->fd, .events = POLLIN};
	g2_error	err = {0};
	bool		failed = false;
	g2_result  *ended;

	CHECK(g2_cpu_backend.step_submit(d->backend, plan, result, &err), &err);
	while (!(ended = g2_cpu_backend.step_result(d->backend, &failed, &err)))
	{
		uint64_t	n;
		int			ready = poll(&p, 1, TIMEOUT_MS);

		if (ready < 0 && errno == EINTR)
			continue;
		if (ready <= 0)
			fail_msg("no word from the device after %d s", TIMEOUT_MS / 1000);
		if (read(d->fd, &n, sizeof n) < 0)
			assert_int_equal(errno, EAGAIN);
	}
	if (failed)
		fail_msg("plan failed: %s (%s)", err.message, g2_sqlstate(err.code));
	assert_ptr_equal(ended, result);
}

static void
slot_greedy(device *d, uint32_t slot, const uint32_t *history, uint32_t n_history)
{
	const g2_slot_state state = {
		.sampling = {.temperature = 0, .top_p = 1, .repetition_penalty = 1},
		.end_token = G2_TOKEN_NONE, .history = history, .n_history = n_history,
	};
	g2_error	err = {0};

	CHECK(g2_cpu_backend.slot_set(d->backend, slot, &state, &err), &err);
}

/* What a forward pass over a prompt gave. */
typedef struct answer
{
	uint32_t	n_rows;
	float	   *logits;			/* [n_rows][n_vocab], in the order of the positions asked for */
	double	   *logprob;		/* [n_ids - 1] of each next token, NULL = not asked for */
} answer;

static void
answer_free(answer *a)
{
	free(a->logits);
	free(a->logprob);
}

/* The best of the row's candidates, against the row itself. */
static void
check_top(const float *row, uint32_t n_vocab, const uint32_t *top, const double *logprob)
{
	uint32_t	n = G2_MIN(N_TOP, n_vocab);

	for (uint32_t k = 0; k < n; k++)
	{
		assert_true(top[k] < n_vocab);
		if (k > 0)
			assert_true(row[top[k - 1]] > row[top[k]]
						|| (row[top[k - 1]] == row[top[k]] && top[k - 1] < top[k]));
		assert_true(fabs(logprob[k] - g2_logprob(row, n_vocab, top[k])) < 1e-9);
	}
	for (uint32_t i = 0; i < n_vocab; i++)
	{
		bool		is_top = false;

		for (uint32_t k = 0; k < n; k++)
			is_top |= top[k] == i;
		assert_true(is_top || row[i] <= row[top[n - 1]]);
	}
}

/*
 * Runs ids[0..n_ids) in plans of at most `chunk` rows and collects the logits of `positions`
 * (ascending) and, with want_loss, the log probability of each next token.
 */
static void
forward(device *d, const uint32_t *ids, uint32_t n_ids, const uint32_t *positions,
		uint32_t n_positions, uint32_t chunk, bool want_loss, answer *a)
{
	uint32_t   *at = need_memory(n_ids, sizeof *at);
	g2_output  *outputs = need_memory(2 * (size_t) n_ids, sizeof *outputs);
	double	   *logprob = need_memory(2 * (size_t) n_ids, sizeof *logprob);
	uint32_t   *top = need_memory((size_t) n_ids * 2 * N_TOP, sizeof *top);
	double	   *top_logprob = need_memory((size_t) n_ids * 2 * N_TOP, sizeof *top_logprob);
	uint32_t	n_top = G2_MIN(N_TOP, d->n_vocab),
				next = 0;

	a->n_rows = n_positions;
	a->logits = need_memory((size_t) n_positions * d->n_vocab, sizeof(float));
	a->logprob = want_loss ? need_memory(n_ids, sizeof(double)) : NULL;
	for (uint32_t i = 0; i < n_ids; i++)
		at[i] = i;
	for (uint32_t first = 0; first < n_ids; first += chunk)
	{
		uint32_t	n = G2_MIN(chunk, n_ids - first),
					n_outputs = 0,
					n_logits;
		const g2_plan_sequence sequence = {
			.slot = G2_TOKEN_NONE, .first_row = 0, .n_rows = n, .blocks = d->blocks,
		};
		g2_plan		plan = {
			.model = d->model, .n_steps = 1, .n_rows = n, .token = ids + first,
			.position = at + first, .n_sequences = 1, .sequences = &sequence,
			.outputs = outputs, .n_top = n_top,
		};
		g2_result	result = {
			.logprob = logprob, .top_token = top, .top_logprob = top_logprob,
		};

		/* Rows with logits first, then those with a log probability: a row may have both. */
		for (; next < n_positions && positions[next] < first + n; next++)
			outputs[n_outputs++] = (g2_output) {
				.row = positions[next] - first, .slot = G2_TOKEN_NONE,
				.want = G2_WANT_LOGITS | G2_WANT_TOP,
			};
		n_logits = n_outputs;
		for (uint32_t i = 0; want_loss && i < n && first + i + 1 < n_ids; i++)
			outputs[n_outputs++] = (g2_output) {
				.row = i, .slot = G2_TOKEN_NONE, .want = G2_WANT_LOGPROB,
				.target = ids[first + i + 1],
			};
		plan.n_outputs = n_outputs;
		/* Room for every output as backend.h has it; memory that nobody touches costs nothing. */
		result.logits = need_memory((size_t) n_outputs * d->n_vocab, sizeof(float));
		device_run(d, &plan, &result);
		memcpy(a->logits + (size_t) (next - n_logits) * d->n_vocab, result.logits,
			   (size_t) n_logits * d->n_vocab * sizeof(float));
		for (uint32_t k = 0; k < n_logits; k++)
			check_top(result.logits + (size_t) k * d->n_vocab, d->n_vocab, top + k * n_top,
					  top_logprob + k * n_top);
		for (uint32_t k = n_logits; k < n_outputs; k++)
			a->logprob[first + outputs[k].row] = logprob[k];
		free(result.logits);
	}
	assert_int_equal(next, n_positions);
	free(at);
	free(outputs);
	free(logprob);
	free(top);
	free(top_logprob);
}

/*
 * n_new greedy tokens for each of n prompts of the same length (ids[n][n_ids]) at once, in visits
 * of at most `steps` steps.  The cache holds the first `cached` < n_ids positions already.  out is
 * [n][n_new].
 */
static void
greedy(device *d, const uint32_t *ids, uint32_t n, uint32_t n_ids, uint32_t cached,
	   uint32_t n_new, uint32_t steps, uint32_t *out)
{
	uint32_t	own = n_ids - cached,	/* rows of a prompt */
				n_rows = n * own;
	uint32_t   *token = need_memory(n_rows, sizeof *token),
			   *position = need_memory(n_rows, sizeof *position),
			   *chosen = need_memory((size_t) n * G2_MAX_STEPS, sizeof *chosen);
	uint8_t    *ended = need_memory((size_t) n * G2_MAX_STEPS, 1);
	g2_plan_sequence *sequences = need_memory(n, sizeof *sequences);
	g2_output  *outputs = need_memory(n, sizeof *outputs);
	g2_result	result = {.token = chosen, .ended = ended};
	g2_plan		plan = {
		.model = d->model, .n_steps = 1, .n_rows = n_rows, .token = token,
		.position = position, .n_sequences = n, .sequences = sequences, .n_outputs = n,
		.outputs = outputs,
	};

	assert_true(n <= N_SLOTS && n <= d->n_sequences && n_ids + n_new <= d->n_ctx + 1);
	for (uint32_t i = 0; i < n_rows; i++)
	{
		position[i] = cached + i % own;
		token[i] = ids[(size_t) (i / own) * n_ids + position[i]];
	}
	for (uint32_t s = 0; s < n; s++)
	{
		uint32_t	slot = N_SLOTS - 1 - s;

		slot_greedy(d, slot, ids + (size_t) s * n_ids, n_ids);
		sequences[s] = (g2_plan_sequence) {
			.slot = slot, .first_row = s * own, .n_rows = own,
			.blocks = d->blocks + (size_t) s * d->n_blocks,
		};
		outputs[s] = (g2_output) {
			.row = (s + 1) * own - 1, .slot = slot, .want = G2_WANT_TOKEN,
		};
	}
	device_run(d, &plan, &result);
	for (uint32_t s = 0; s < n; s++)
		out[(size_t) s * n_new] = chosen[s];

	plan.n_rows = n;
	for (uint32_t s = 0; s < n; s++)
	{
		sequences[s].first_row = s;
		sequences[s].n_rows = 1;
		outputs[s].row = s;
	}
	for (uint32_t have = 1; have < n_new; have += plan.n_steps)
	{
		plan.n_steps = G2_MIN(steps, n_new - have);
		for (uint32_t s = 0; s < n; s++)
		{
			position[s] = n_ids + have - 1;
			/* One step: the ids themselves; more: let the slot remember. */
			token[s] = steps == 1 ? out[(size_t) s * n_new + have - 1] : G2_TOKEN_PREVIOUS;
		}
		device_run(d, &plan, &result);
		for (uint32_t k = 0; k < plan.n_steps; k++)
			for (uint32_t s = 0; s < n; s++)
			{
				assert_int_equal(ended[k * n + s], 0);
				out[(size_t) s * n_new + have + k] = chosen[k * n + s];
			}
	}
	free(token);
	free(position);
	free(chosen);
	free(ended);
	free(sequences);
	free(outputs);
}

/* ---------------------------------------------------------------- models against the vectors */

/* Largest difference relative to the row's largest |logit|. */
static double
check_row(const vec_model *m, const vec_case *c, const vec_row *want, const float *row)
{
	double		worst = 0,
				sum = 0;
	uint32_t	best = 0;

	for (uint32_t i = 1; i < m->options.n_vocab; i++)
		if (row[i] > row[best])
			best = i;
	for (uint32_t i = 0; i < m->n_sample; i++)
	{
		double		ref = want->logits[i],
					off = fabs(row[m->sample[i]] - ref);

		worst = fmax(worst, off);
		if (!(off <= TOLERANCE * fabs(ref) + FLOOR * want->absmax))
			fail_msg("%s %s: position %u, logit of %u is %.9g, not %.9g", m->name, c->name,
					 want->position, m->sample[i], row[m->sample[i]], ref);
	}
	if (want->gap >= SAFE_GAP)
		assert_int_equal(best, want->best);
	worst = fmax(worst, fabs(row[want->best] - want->best_logit));
	/* The sum over all ids sees the logits that are not stored. */
	for (uint32_t i = 0; i < m->options.n_vocab; i++)
		sum += exp((double) row[i] - row[best]);
	worst = fmax(worst, fabs(row[best] + log(sum) - want->lse));
	if (!(worst <= TOLERANCE * want->absmax))
		fail_msg("%s %s: position %u is off by %g of %g", m->name, c->name, want->position, worst,
				 want->absmax);
	return worst / want->absmax;
}

typedef struct errors
{
	double		logits;
	double		loss;			/* NAN: not looked at */
} errors;

static void
check_answer(const vec_model *m, const vec_case *c, const answer *a, errors *e)
{
	for (uint32_t i = 0; i < a->n_rows; i++)
		e->logits = fmax(e->logits, check_row(m, c, &c->rows[i],
											  a->logits + (size_t) i * m->options.n_vocab));
	if (a->logprob && c->n_ids > 1)
	{
		double		loss = 0;

		for (uint32_t i = 0; i + 1 < c->n_ids; i++)
			loss -= a->logprob[i] / (c->n_ids - 1);
		e->loss = fmax(e->loss, fabs(loss / c->loss - 1));
		if (!(fabs(loss - c->loss) <= TOLERANCE * c->loss))
			fail_msg("%s %s: loss is %.9g, not %.9g", m->name, c->name, loss, c->loss);
	}
}

/* How a case is run. */
typedef struct how
{
	uint32_t	chunk;			/* rows of a plan at most, 0 = the whole prompt */
	uint32_t	max_ids;		/* no more of the prompt than this, 0 = all of it */
	bool		loss;
	bool		again;			/* greedy tokens: read the prompt again, or go on from the cache? */
	uint32_t	max_new;		/* greedy tokens at most */
	uint32_t	steps;			/* of a visit, for these */
} how;

static void
run_case(device *d, const vec_model *m, const vec_case *c, const how *h, answer *first, errors *e)
{
	uint32_t	n_ids = h->max_ids ? G2_MIN(c->n_ids, h->max_ids) : c->n_ids,
				n_new = G2_MIN(c->n_greedy, h->max_new),
				n = 0;
	uint32_t   *positions = need_memory(c->n_rows, sizeof *positions);
	answer		a;

	for (; n < c->n_rows && c->rows[n].position < n_ids; n++)
		positions[n] = c->rows[n].position;
	forward(d, c->ids, n_ids, positions, n, h->chunk ? h->chunk : n_ids, h->loss, &a);
	free(positions);
	check_answer(m, c, &a, e);

	/* Instruction sets, threads, chunks: nothing of it may show in a single bit. */
	if (first->logits)
	{
		uint32_t	same = G2_MIN(n, first->n_rows);

		if (memcmp(a.logits, first->logits, (size_t) same * d->n_vocab * sizeof(float)) != 0)
			fail_msg("%s %s, %s, chunk %u: other bits than the first run", m->name, c->name,
					 g2_cpu_backend.isa(d->backend), h->chunk);
		if (a.logprob && first->logprob)
			assert_memory_equal(a.logprob, first->logprob, (c->n_ids - 1) * sizeof(double));
		answer_free(&a);
	}
	else
		*first = a;

	if (n_new > 0)
	{
		uint32_t   *out = need_memory(n_new, sizeof *out);

		assert_int_equal(n_ids, c->n_ids);
		greedy(d, c->ids, 1, n_ids, h->again ? 0 : n_ids - 1, n_new, h->steps, out);
		for (uint32_t i = 0; i < n_new && c->greedy_gap >= SAFE_GAP; i++)
			if (out[i] != c->greedy[i])
				fail_msg("%s %s: greedy token %u is %u, not %u", m->name, c->name, i, out[i],
						 c->greedy[i]);
		free(out);
	}
}

static void
run_all(device *d, const char *isa, const vec_model *m, const how *hows, uint32_t n_hows,
		const vec_case *only, answer *first)
{
	errors		e = {0, NAN};
	int64_t		start = g2_now_us();

	for (uint32_t k = 0; k < n_hows; k++)
		for (uint32_t i = 0; i < m->n_cases; i++)
			if (!only || only == &m->cases[i])
				run_case(d, m, &m->cases[i], &hows[k], &first[i], &e);
	print_message("             %s, %s: logits within %.1e, ", m->name, isa, e.logits);
	if (!isnan(e.loss))
		print_message("loss within %.1e, ", e.loss);
	print_message("%.2f s\n", (double) (g2_now_us() - start) / 1e6);
}

static g2_pack *
make_model(const vec_model *m)
{
	char		models[PATH_MAX + 16],
				folder[PATH_MAX + 96];
	g2_error	err = {0};

	snprintf(models, sizeof models, "%s/models", work);
	snprintf(folder, sizeof folder, "%s/%s", models, m->name);
	CHECK(g2_synth(folder, &m->options, &err), &err);
	check_hash(folder, m->sha256);
	return open_pack(models, m->name);
}

static void
drop_model(const vec_model *m, g2_pack *pack)
{
	char		path[PATH_MAX + 96];

	g2_pack_close(pack);
	snprintf(path, sizeof path, "%s/models/%s", work, m->name);
	remove_tree(path);
	snprintf(path, sizeof path, "%s/packs", work);
	remove_tree(path);
}

static void
check_arch(const vec_model *m, const g2_arch *arch)
{
	assert_int_equal(arch->n_layer, m->options.n_layer);
	assert_int_equal(arch->n_embd, m->options.n_embd);
	assert_int_equal(arch->n_head, m->options.n_head);
	assert_int_equal(arch->head_dim, m->options.n_embd / m->options.n_head);
	assert_int_equal(arch->n_ff, m->options.n_ff);
	assert_int_equal(arch->n_ctx, m->options.n_ctx);
	assert_int_equal(arch->n_vocab, m->options.n_vocab);
	assert_int_equal(arch->activation, m->options.activation);
	assert_int_equal(arch->tied_head, !m->options.untied);
}

static void
test_model(void **state)
{
	/* Whole, in chunks of 7 (across block borders), of 1 (matrix-vector) and of a block. */
	static const how hows[] = {
		{0, 0, true, true, UINT32_MAX, 1},
		{7, 0, true, false, UINT32_MAX, 13},
		{1, 0, true, true, UINT32_MAX, G2_MAX_STEPS},
		{G2_BLOCK, 0, false, false, UINT32_MAX, G2_MAX_STEPS},
	};
	vec_model	m;
	answer		first[MAX_CASES] = {0};
	g2_pack    *pack;

	read_model(*state, &m);
	pack = make_model(&m);
	check_arch(&m, &pack->weights.arch);
	for (uint32_t i = 0; i < G2_LENGTH(isas); i++)
	{
		device		d;

		/* Threads differ too, so that the comparison of bits covers them. */
		if (!device_open(&d, isas[i], 1 + i % 2))
			continue;
		device_load(&d, pack, 1);
		/* Portable code calls fmaf() for each product: the first two will do. */
		run_all(&d, isas[i], &m, hows, i == 0 ? 2 : G2_LENGTH(hows), NULL, first);
		device_unload(&d);
		device_close(&d);
	}
	for (uint32_t i = 0; i < m.n_cases; i++)
		answer_free(&first[i]);
	drop_model(&m, pack);
	free_model(&m);
}

/* GPT-2 small's shape: everything in the machine's best instruction set; in portable code, which
 * takes long, the beginning of the short prompt, one row beyond the first block. */
static void
test_large_model(void **state)
{
	static const how best[] = {
		{0, 0, true, false, UINT32_MAX, G2_MAX_STEPS},
		{300, 0, false, false, 1, 1},
	};
	static const how portable[] = {{0, G2_BLOCK + 1, false, false, 0, 1}};
	vec_model	m;
	answer		first[MAX_CASES] = {0};
	g2_pack    *pack;
	device		d;

	if (getenv("GPT2_TEST_QUICK"))
	{
		print_message("             skipped: GPT2_TEST_QUICK is set\n");
		skip();
	}
	read_model(*state, &m);
	pack = make_model(&m);
	check_arch(&m, &pack->weights.arch);
	assert_true(device_open(&d, "auto", 2));
	device_load(&d, pack, 1);
	run_all(&d, g2_cpu_backend.isa(d.backend), &m, best, G2_LENGTH(best), NULL, first);
	device_unload(&d);
	device_close(&d);
	assert_true(device_open(&d, "portable", 2));
	device_load(&d, pack, 1);
	run_all(&d, "portable", &m, portable, G2_LENGTH(portable), &m.cases[0], first);
	device_unload(&d);
	device_close(&d);
	for (uint32_t i = 0; i < m.n_cases; i++)
		answer_free(&first[i]);
	drop_model(&m, pack);
	free_model(&m);
}

/* ---------------------------------------------------------------- trained models, where present */

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
	char		path[PATH_MAX + 64];
	char	   *text;
	cJSON	   *json;

	snprintf(path, sizeof path, "%s/%s", folder, name);
	text = read_whole_file(path, NULL);
	json = cJSON_Parse(text);
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

static void
test_nano_sort(void **state)
{
	char		folder[PATH_MAX],
				path[PATH_MAX + 64];
	const char *directory = shared_folder("nano-sort", folder, sizeof folder);
	uint32_t   *prompts = need_memory(SORT_PROMPTS * SORT_DIGITS, sizeof *prompts),
			   *want = need_memory(SORT_PROMPTS * SORT_DIGITS, sizeof *want),
			   *out = need_memory(SORT_PROMPTS * SORT_DIGITS, sizeof *out);
	cJSON	   *partials = read_json(folder, "gpt-nano-sort-t0-partials.json");
	g2_pack    *pack = open_pack(directory, "nano-sort");
	char	   *text,
			   *at;

	(void) state;
	snprintf(path, sizeof path, "%s/greedy_all_729.tsv", folder);
	at = text = read_whole_file(path, NULL);
	for (int i = 0; i < SORT_PROMPTS; i++, at += 2 * SORT_DIGITS + 2)
		for (int k = 0; k < SORT_DIGITS; k++)
		{
			prompts[i * SORT_DIGITS + k] = (uint32_t) (at[k] - '0');
			want[i * SORT_DIGITS + k] = (uint32_t) (at[SORT_DIGITS + 1 + k] - '0');
		}
	assert_int_equal(*at, '\0');
	free(text);

	for (uint32_t i = 0; i < G2_LENGTH(isas); i++)
	{
		device		d;
		double		worst;

		if (!device_open(&d, isas[i], 2))
			continue;
		device_load(&d, pack, SORT_TOGETHER);
		worst = check_sort_logits(&d, partials);
		for (uint32_t p = 0; p < SORT_PROMPTS * SORT_DIGITS; p += SORT_TOGETHER * SORT_DIGITS)
			greedy(&d, prompts + p, SORT_TOGETHER, SORT_DIGITS, 0, SORT_DIGITS, 4, out + p);
		assert_memory_equal(out, want, SORT_PROMPTS * SORT_DIGITS * sizeof *want);
		print_message("             nano-sort, %s: logits within %.1e, all 729 sorted\n", isas[i],
					  worst);
		device_unload(&d);
		device_close(&d);
	}
	g2_pack_close(pack);
	cJSON_Delete(partials);
	free(prompts);
	free(want);
	free(out);
}

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

/* ---------------------------------------------------------------- the sampler */

typedef struct sampler_vector
{
	char		name[32];
	uint32_t	n;
	float	   *logits;
} sampler_vector;

typedef struct sampler_case
{
	char		name[32];
	const sampler_vector *vector;
	g2_sampling sampling;
	uint32_t	n_seen;
	uint32_t   *seen;
	uint32_t	n_kept;
	uint32_t   *kept;			/* ascending */
	double	   *p;
	double	   *end;			/* sum of p[0..k] */
} sampler_case;

/* How far a sum of the reference's probabilities may be from the engine's. */
#define SUM_TOLERANCE 2e-6

/* Element i of synth.h's tensor 0. */
static float
vector_element(uint64_t seed, uint32_t i, double sigma)
{
	g2_philox	a = g2_philox4x32(seed, i, 0, 1, 0),
				b = g2_philox4x32(seed, i, 0, 2, 0);
	uint32_t	words[6] = {a.word[0], a.word[1], a.word[2], a.word[3], b.word[0], b.word[1]};
	int32_t		sum = 0;

	for (int w = 0; w < 6; w++)
		sum += (int32_t) ((words[w] & 0xFFFF) + (words[w] >> 16));
	return (float) (2 * sum - 12 * 65535) * (float) (sigma / 131072.0);
}

static void
read_vector(reader *r, sampler_vector *v)
{
	uint64_t	seed;
	double		sigma;

	snprintf(v->name, sizeof v->name, "%s", need_word(r));
	seed = (uint64_t) need_key(r, "seed");
	v->n = (uint32_t) need_key(r, "n");
	sigma = need_key(r, "sigma");
	v->logits = need_memory(v->n, sizeof *v->logits);
	for (uint32_t i = 0; i < v->n; i++)
		v->logits[i] = vector_element(seed, i, sigma);
	expect(r, "first");
	for (uint32_t i = 0; i < 8; i++)
		assert_true(v->logits[i] == (float) need_number(r));
}

static void
read_sampler_case(reader *r, const sampler_vector *vectors, uint32_t n_vectors, sampler_case *c)
{
	const char *vector;
	double		sum = 0;

	memset(c, 0, sizeof *c);
	snprintf(c->name, sizeof c->name, "%s", need_word(r));
	expect(r, "vector");
	vector = need_word(r);
	for (uint32_t i = 0; i < n_vectors; i++)
		if (strcmp(vectors[i].name, vector) == 0)
			c->vector = &vectors[i];
	assert_non_null(c->vector);
	c->sampling.repetition_penalty = (float) need_key(r, "penalty");
	c->sampling.temperature = (float) need_key(r, "temperature");
	c->sampling.top_k = (uint32_t) need_key(r, "top_k");
	c->sampling.top_p = (float) need_key(r, "top_p");
	c->sampling.min_p = (float) need_key(r, "min_p");
	expect(r, "seen");
	c->seen = need_ids(r, &c->n_seen);
	c->n_kept = (uint32_t) need_key(r, "kept");
	c->kept = need_memory(c->n_kept, sizeof *c->kept);
	c->p = need_memory(c->n_kept, sizeof *c->p);
	c->end = need_memory(c->n_kept, sizeof *c->end);
	for (uint32_t k = 0; k < c->n_kept; k++)
	{
		c->kept[k] = need_uint(r);
		c->p[k] = need_number(r);
		c->end[k] = sum += c->p[k];
	}
	assert_true(fabs(sum - 1) < SUM_TOLERANCE);
}

/* The uniform number that sampler.h draws for a token's index, in [0, 1). */
static double
uniform(const g2_sampling *sampling, uint32_t index)
{
	g2_philox	x = g2_philox4x32(sampling->seed, index, sampling->sequence, G2_PHILOX_SAMPLE, 0);

	return ldexp((double) (((uint64_t) x.word[1] << 32) | x.word[0]), -64);
}

/* Where u falls among the kept ids. */
static uint32_t
place_of(const sampler_case *c, double u)
{
	uint32_t	lo = 0,
				hi = c->n_kept - 1;

	while (lo < hi)
	{
		uint32_t	mid = (lo + hi) / 2;

		if (c->end[mid] > u)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

/* Draws the token of an index and checks it; returns its place among the kept ids. */
static uint32_t
draw(const sampler_case *c, uint32_t index, float *logits, void *scratch)
{
	uint32_t	lo = 0,
				hi = c->n_kept,
				token;
	double		u = uniform(&c->sampling, index);

	memcpy(logits, c->vector->logits, c->vector->n * sizeof *logits);
	token = g2_sample(&c->sampling, logits, c->vector->n, c->seen, c->n_seen, index, scratch);
	while (lo < hi)
	{
		uint32_t	mid = (lo + hi) / 2;

		if (c->kept[mid] < token)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == c->n_kept || c->kept[lo] != token)
		fail_msg("%s: drew %u, which transformers does not keep", c->name, token);
	if (u < c->end[lo] - c->p[lo] - SUM_TOLERANCE || u > c->end[lo] + SUM_TOLERANCE)
		fail_msg("%s: drew %u for u = %.9g, but its share is %.9g .. %.9g", c->name, token, u,
				 c->end[lo] - c->p[lo], c->end[lo]);
	return lo;
}

/*
 * How unlikely the histogram is, as a standard normal number (Wilson and Hilferty's cube root).
 * Places with few expected draws are counted together.
 */
static double
chi_square(const sampler_case *c, const uint32_t *count, uint32_t n_draws)
{
	double		sum = 0,
				rest_count = 0,
				rest_expected = 0,
				df = -1;

	for (uint32_t k = 0; k < c->n_kept; k++)
	{
		double		expected = c->p[k] * n_draws;

		if (expected < 10)
		{
			rest_count += count[k];
			rest_expected += expected;
			continue;
		}
		sum += (count[k] - expected) * (count[k] - expected) / expected;
		df++;
	}
	if (rest_expected >= 10)
	{
		sum += (rest_count - rest_expected) * (rest_count - rest_expected) / rest_expected;
		df++;
	}
	if (df < 1)
		return 0;
	return (cbrt(sum / df) - (1 - 2 / (9 * df))) / sqrt(2 / (9 * df));
}

static void
check_sampler_case(sampler_case *c, uint32_t n_draws)
{
	uint32_t	n = c->vector->n,
				missing = c->n_kept,
				likely = 0;
	float	   *logits = need_memory(n, sizeof *logits);
	uint32_t   *count = need_memory(c->n_kept, sizeof *count);
	size_t		bytes = G2_ROUND_UP(g2_sampler_scratch_bytes(n), 64);
	void	   *scratch = aligned_alloc(64, bytes ? bytes : 64);
	g2_sampling cold = c->sampling;
	double		z;

	assert_non_null(scratch);
	c->sampling.seed = 0x9E3779B97F4A7C15u;
	c->sampling.sequence = 3;
	for (uint32_t i = 0; i < n_draws; i++)
		if (count[draw(c, i, logits, scratch)]++ == 0)
			missing--;
	z = chi_square(c, count, n_draws);
	if (fabs(z) > 4.5)
		fail_msg("%s: the histogram of %u draws is off by %.1f sigma", c->name, n_draws, z);

	/* Every kept id must come: those that did not are drawn where u hits their share. */
	for (uint32_t i = n_draws; missing > 0 && i < 100000000; i++)
		if (count[place_of(c, uniform(&c->sampling, i))] == 0
			&& count[draw(c, i, logits, scratch)]++ == 0)
			missing--;
	if (missing > 0)
		fail_msg("%s: %u of %u kept ids never come", c->name, missing, c->n_kept);

	/* Greedy looks at the penalty and at nothing else. */
	for (uint32_t k = 1; k < c->n_kept; k++)
		if (c->p[k] > c->p[likely])
			likely = k;
	for (int i = 0; i < 2; i++)
	{
		cold.temperature = i == 0 ? 0 : 1e-44f;
		memcpy(logits, c->vector->logits, n * sizeof *logits);
		assert_int_equal(g2_sample(&cold, logits, n, c->seen, c->n_seen, 0, scratch),
						 c->kept[likely]);
	}
	free(logits);
	free(count);
	free(scratch);
}

static void
test_sampler(void **state)
{
	sampler_vector vectors[8];
	uint32_t	n_vectors = 0,
				n_cases = 0;
	reader		r;

	(void) state;
	reader_open(&r, "sampling");
	for (char *word; (word = next_word(&r));)
	{
		if (strcmp(word, "vector") == 0)
		{
			assert_true(n_vectors < G2_LENGTH(vectors));
			read_vector(&r, &vectors[n_vectors++]);
		}
		else
		{
			sampler_case c;
			bool		quick = getenv("GPT2_TEST_QUICK") != NULL;

			assert_string_equal(word, "case");
			read_sampler_case(&r, vectors, n_vectors, &c);
			check_sampler_case(&c, c.vector->n < 1000 ? (quick ? 20000 : 200000)
							   : (quick ? 2000 : 20000));
			n_cases++;
			free(c.seen);
			free(c.kept);
			free(c.p);
			free(c.end);
		}
	}
	for (uint32_t i = 0; i < n_vectors; i++)
		free(vectors[i].logits);
	free(r.data);
	print_message("             %u sets of sampling parameters\n", n_cases);
	assert_true(n_cases > 0);
}

/* ---------------------------------------------------------------- */

#define MODEL_TEST(model, function) \
	{.name = "vectors of " model, .test_func = function, .initial_state = (void *) model}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sampler),
		MODEL_TEST("one-head", test_model),
		MODEL_TEST("bare-untied", test_model),
		MODEL_TEST("head-20", test_model),
		MODEL_TEST("untied-64", test_model),
		MODEL_TEST("head-8", test_model),
		MODEL_TEST("tiny", test_model),
		MODEL_TEST("head-1", test_model),
		MODEL_TEST("head-12", test_model),
		MODEL_TEST("head-128", test_model),
		cmocka_unit_test(test_nano_sort),
		cmocka_unit_test(test_byte_basic),
		MODEL_TEST("gpt2-124m", test_large_model),
	};

	/* print_message goes through stdio: what a crash leaves behind should be complete. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	return cmocka_run_group_tests_name("vectors", tests, make_work, remove_work);
}
