/*
 * vector_models.h: makes the models of the vectors, packs them and compares what a device answers
 * with the reference: logits, loss and greedy tokens within the tolerance, and all runs of a model
 * with each other, bit by bit.
 *
 * A program's models are in a directory of its own, below TMPDIR or /tmp: the large one takes a
 * gigabyte with its pack, too much for memory (/dev/shm).  make_work and remove_work are the setup
 * and teardown of its group of tests.
 */
#ifndef VECTOR_MODELS_H
#define VECTOR_MODELS_H

#include "vector_device.h"

#include <openssl/evp.h>

/*
 * Logits: |d| <= 1e-4 max|logit| of the row is the promise; per element the test asks for more,
 * |d| <= 1e-4 |logit| + 1e-5 max|logit|, so that small logits may not drown in the large one.
 */
#define TOLERANCE 1e-4
#define FLOOR 1e-5
/* Two logits that are this far apart keep their order when each may be off by the tolerance. */
#define SAFE_GAP (2 * TOLERANCE)

/* ---- folders and packs */

static char work[PATH_MAX];		/* work/models, work/packs */

static UNUSED int
make_work(void **state)
{
	const char *tmp = getenv("TMPDIR");

	(void) state;
	snprintf(work, sizeof work, "%s/g2_vectors_XXXXXX", tmp && *tmp ? tmp : "/tmp");
	if (!mkdtemp(work))
		return -1;
	return mkdir(tb_path(work, "models"), 0700);
}

static UNUSED int
remove_work(void **state)
{
	(void) state;
	tb_remove(strdup(work));
	return 0;
}

static UNUSED void
hash_file(EVP_MD_CTX *context, const char *folder, const char *name)
{
	static char block[1 << 16];
	FILE	   *f = fopen(tb_path(folder, name), "rb");
	size_t		n;

	assert_non_null(f);
	while ((n = fread(block, 1, sizeof block, f)) > 0)
		assert_int_equal(EVP_DigestUpdate(context, block, n), 1);
	assert_false(ferror(f));
	fclose(f);
}

static UNUSED void
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

static UNUSED g2_pack *
open_pack_in(const char *directory, const char *name, g2_format format)
{
	g2_model_paths paths = {
		.directories = &directory, .n_directories = 1, .pack_directory = tb_path(work, "packs"),
	};
	atomic_bool cancel = false;
	g2_error	err = {0};
	g2_pack    *pack = NULL;

	EXPECT_OK(g2_pack_open(&paths, name, format, NULL, &cancel, &pack, &err), err);
	assert_non_null(pack);
	return pack;
}

static UNUSED g2_pack *
open_pack(const char *directory, const char *name)
{
	return open_pack_in(directory, name, G2_FORMAT_F32);
}

/* ---- a model of the vectors */

static UNUSED void
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

/* The folder's hash shows that it is the very one which Python made. */
static UNUSED g2_pack *
make_model(const vec_model *m)
{
	const char *models = tb_path(work, "models"),
			   *folder = tb_path(models, m->name);
	g2_error	err = {0};
	g2_pack    *pack;

	EXPECT_OK(g2_synth(folder, &m->options, &err), err);
	check_hash(folder, m->sha256);
	pack = open_pack(models, m->name);
	check_arch(m, &pack->weights.arch);
	return pack;
}

static UNUSED void
drop_model(const vec_model *m, g2_pack *pack)
{
	g2_pack_close(pack);
	tb_remove(strdup(tb_path(tb_path(work, "models"), m->name)));
	tb_remove(strdup(tb_path(work, "packs")));
}

/* ---- its answers */

/* Largest difference relative to the row's largest |logit|. */
static UNUSED double
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

static UNUSED void
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

static UNUSED void
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

static UNUSED void
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

#define MODEL_TEST(model, function) \
	{.name = "vectors of " model, .test_func = function, .initial_state = (void *) model}

#endif							/* VECTOR_MODELS_H */
