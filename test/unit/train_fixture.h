/*
 * train_fixture.h: what the tests of training share: reference vectors as named arrays, a context,
 * batches made of sequences, a small model.
 */
#ifndef TRAIN_FIXTURE_H
#define TRAIN_FIXTURE_H

#include "vector_file.h"

#include "config.h"
#include "network.h"
#include "optimizer.h"
#include "tokenizer.h"

#define MAX_TENSORS 32
#define MAX_SEQUENCES 8
#define TEST_POSITIONS 128

/* ---- named arrays ---- */

typedef struct named
{
	char		name[48];
	uint32_t	n;
	float	   *x;
	uint32_t   *ids;			/* the same values, where they are whole numbers */
} named;

typedef struct named_set
{
	named		tensor[MAX_TENSORS];
	uint32_t	n;
} named_set;

/* Reads "NAME COUNT VALUES..." after the word "tensor". */
static UNUSED void
read_named(reader *r, named *t)
{
	snprintf(t->name, sizeof t->name, "%s", need_word(r));
	t->n = need_uint(r);
	t->x = need_memory(t->n, sizeof(float));
	t->ids = need_memory(t->n, sizeof(uint32_t));
	for (uint32_t i = 0; i < t->n; i++)
	{
		double		value = need_number(r);

		t->x[i] = (float) value;
		t->ids[i] = value >= 0 && value <= UINT32_MAX ? (uint32_t) value : 0;
	}
}

static UNUSED void
free_set(named_set *set)
{
	for (uint32_t i = 0; i < set->n; i++)
	{
		free(set->tensor[i].x);
		free(set->tensor[i].ids);
	}
	set->n = 0;
}

/* The case of that name, whose tensors follow until "end". */
static UNUSED void
read_operation(const char *name, named_set *set)
{
	reader		r;
	char	   *word;

	reader_open(&r, "gradients");
	while ((word = need_word(&r)))
		if (strcmp(word, "case") == 0 && strcmp(need_word(&r), name) == 0)
			break;
	set->n = 0;
	while (strcmp(need_word(&r), "tensor") == 0)
	{
		assert_true(set->n < MAX_TENSORS);
		read_named(&r, &set->tensor[set->n++]);
	}
	free(r.data);
}

static UNUSED const named *
get(const named_set *set, const char *name)
{
	for (uint32_t i = 0; i < set->n; i++)
		if (strcmp(set->tensor[i].name, name) == 0)
			return &set->tensor[i];
	fail_msg("the vectors have no \"%s\"", name);
	return NULL;
}

/* The largest difference, relative to the largest value that was expected. */
static UNUSED void
expect_near(const char *what, const float *x, const float *expected, size_t n, double tolerance)
{
	double		largest = 0,
				difference = 0;

	for (size_t i = 0; i < n; i++)
	{
		largest = fmax(largest, fabs((double) expected[i]));
		difference = fmax(difference, fabs((double) x[i] - (double) expected[i]));
		assert_true(isfinite(x[i]));
	}
	if (difference > tolerance * fmax(largest, 1e-3))
		fail_msg("%s: differs by %g where the largest is %g", what, difference, largest);
}

/* ---- context, batches, models ---- */

static UNUSED g2t_context
open_context(uint32_t threads)
{
	g2t_context context;
	g2_error	err;

	EXPECT_OK(g2t_context_open(threads, 0, g2t_attention_scratch(TEST_POSITIONS), &context, &err),
			  err);
	return context;
}

/* Sequences of tokens; each gives its length - 1 rows. */
typedef struct sequences
{
	uint32_t	n;
	uint32_t	len[MAX_SEQUENCES];
	uint32_t   *ids[MAX_SEQUENCES];
} sequences;

static UNUSED void
read_sequences(reader *r, sequences *s)
{
	s->n = (uint32_t) need_key(r, "sequences");
	assert_true(s->n <= MAX_SEQUENCES);
	for (uint32_t i = 0; i < s->n; i++)
	{
		s->len[i] = need_uint(r);
		s->ids[i] = need_memory(s->len[i], sizeof(uint32_t));
		for (uint32_t j = 0; j < s->len[i]; j++)
			s->ids[i][j] = need_uint(r);
	}
}

static UNUSED void
free_sequences(sequences *s)
{
	for (uint32_t i = 0; i < s->n; i++)
		free(s->ids[i]);
}

typedef struct test_batch
{
	g2t_batch	batch;
	uint32_t	start[MAX_SEQUENCES + 1];
	uint32_t	tokens[1024];
	uint32_t	targets[1024];
} test_batch;

/* Sequences `from` to `to` of s. */
static UNUSED void
make_batch(const sequences *s, uint32_t from, uint32_t to, test_batch *b)
{
	uint32_t	n = 0,
				first = 0;

	for (uint32_t i = 0; i < from; i++)
		first += s->len[i] - 1;
	for (uint32_t i = from; i < to; i++)
	{
		b->start[i - from] = n;
		for (uint32_t j = 0; j + 1 < s->len[i]; j++, n++)
		{
			b->tokens[n] = s->ids[i][j];
			b->targets[n] = s->ids[i][j + 1];
		}
	}
	b->start[to - from] = n;
	b->batch = (g2t_batch) {.n = n, .n_sequences = to - from, .start = b->start,
	.tokens = b->tokens, .targets = b->targets, .first = first};
}

static UNUSED g2_arch
arch_of(const g2_synth_options *o)
{
	return (g2_arch) {
		.n_layer = o->n_layer, .n_embd = o->n_embd, .n_head = o->n_head, .n_kv_head = o->n_head,
		.head_dim = o->n_embd / o->n_head, .n_ff = o->n_ff, .n_ctx = o->n_ctx,
		.n_vocab = o->n_vocab, .norm_bias = 1, .norm_epsilon = 1e-5f, .fused_qkv = 1,
		.attn_bias = 1, .mlp_bias = 1, .tied_head = 1,
		.attn_scale = 1.0f / sqrtf((float) (o->n_embd / o->n_head)),
	};
}

static UNUSED g2_synth_options
read_options(reader *r)
{
	g2_synth_options o = {.prefix = true};

	o.n_layer = (uint32_t) need_key(r, "n_layer");
	o.n_embd = (uint32_t) need_key(r, "n_embd");
	o.n_head = (uint32_t) need_key(r, "n_head");
	o.n_ff = (uint32_t) need_key(r, "n_ff");
	o.n_ctx = (uint32_t) need_key(r, "n_ctx");
	o.n_vocab = (uint32_t) need_key(r, "n_vocab");
	o.sigma = need_key(r, "sigma");
	o.seed = (uint64_t) need_key(r, "seed");
	return o;
}

/* The model that synth.py makes of these options. */
static UNUSED g2t_parameters
synth_parameters(const g2_synth_options *o, g2t_arrays n_arrays)
{
	g2_arch		arch = arch_of(o);
	char	   *folder = tb_folder();
	g2t_parameters p;
	g2_error	err;

	EXPECT_OK(g2_synth(folder, o, &err), err);
	EXPECT_OK(g2t_parameters_open(&arch, n_arrays, &p, &err), err);
	EXPECT_OK(g2t_parameters_read(folder, &arch, &p, &err), err);
	tb_remove(folder);
	return p;
}

/* Seeded numbers of about -1 to 1. */
static UNUSED void
fill_random(uint64_t seed, size_t n, float *x)
{
	uint64_t	s = seed * 0x9E3779B97F4A7C15u + 1;

	for (size_t i = 0; i < n; i++)
	{
		s ^= s << 13;
		s ^= s >> 7;
		s ^= s << 17;
		x[i] = (float) (int32_t) (s >> 32) / 2147483648.0f;
	}
}

#endif							/* TRAIN_FIXTURE_H */
