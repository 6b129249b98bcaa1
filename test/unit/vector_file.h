/*
 * vector_file.h: reads the files of reference vectors (test/vectors/README.md says what is in
 * them).
 *
 * Environment:
 *     GPT2_TEST_VECTORS    directory of the .vec files (default test/vectors/data)
 */
#ifndef VECTOR_FILE_H
#define VECTOR_FILE_H

#include "st_builder.h"

#include <errno.h>
#include <limits.h>
#include <math.h>

#include "synth.h"

#define MAX_CASES 4

/* ---- words and numbers */

/* Words separated by white space; a line that starts with # is a comment. */
typedef struct reader
{
	char	   *data;
	char	   *at;
	char		path[PATH_MAX];
} reader;

static UNUSED void
reader_open(reader *r, const char *name)
{
	const char *directory = getenv("GPT2_TEST_VECTORS");
	char		file[64];
	size_t		len;

	directory = directory ? directory : "test/vectors/data";
	snprintf(file, sizeof file, "%s.vec", name);
	snprintf(r->path, sizeof r->path, "%s/%s", directory, file);
	if (access(r->path, R_OK) != 0)
		fail_msg("%s: %s (run the test in the repository's root, or set GPT2_TEST_VECTORS)",
				 r->path, strerror(errno));
	r->data = r->at = tb_read(directory, file, &len);
}

/* The next word, NULL at the end. */
static UNUSED char *
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

static UNUSED char *
need_word(reader *r)
{
	char	   *word = next_word(r);

	if (!word)
		fail_msg("%s: ends early", r->path);
	return word;
}

static UNUSED void
expect(reader *r, const char *key)
{
	char	   *word = need_word(r);

	if (strcmp(word, key) != 0)
		fail_msg("%s: \"%s\" where \"%s\" should be", r->path, word, key);
}

static UNUSED double
need_number(reader *r)
{
	char	   *word = need_word(r),
			   *end;
	double		value = strtod(word, &end);

	if (*end != '\0' || !isfinite(value))
		fail_msg("%s: \"%s\" is not a number", r->path, word);
	return value;
}

static UNUSED uint32_t
need_uint(reader *r)
{
	double		value = need_number(r);

	if (value < 0 || value > UINT32_MAX || value != floor(value))
		fail_msg("%s: %g is not a uint32", r->path, value);
	return (uint32_t) value;
}

static UNUSED double
need_key(reader *r, const char *key)
{
	expect(r, key);
	return need_number(r);
}

static UNUSED void *
need_memory(size_t n, size_t size)
{
	void	   *p = calloc(n ? n : 1, size);

	assert_non_null(p);
	return p;
}

/* "N id id ..." */
static UNUSED uint32_t *
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

/* ---- the file of a model */

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

static UNUSED void
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

static UNUSED void
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

/* Opens a model's file and reads what the model is. */
static UNUSED void
read_shape(const char *name, reader *r, vec_model *m)
{
	g2_synth_options *o = &m->options;

	memset(m, 0, sizeof *m);
	snprintf(m->name, sizeof m->name, "%s", name);
	reader_open(r, name);
	expect(r, "model");
	o->n_layer = (uint32_t) need_key(r, "n_layer");
	o->n_embd = (uint32_t) need_key(r, "n_embd");
	o->n_head = (uint32_t) need_key(r, "n_head");
	o->n_ff = (uint32_t) need_key(r, "n_ff");
	o->n_ctx = (uint32_t) need_key(r, "n_ctx");
	o->n_vocab = (uint32_t) need_key(r, "n_vocab");
	o->activation = (uint32_t) need_key(r, "activation");
	o->untied = need_key(r, "untied") != 0;
	o->prefix = need_key(r, "prefix") != 0;
	o->sigma = need_key(r, "sigma");
	o->seed = (uint64_t) need_key(r, "seed");
	expect(r, "sha256");
	snprintf(m->sha256, sizeof m->sha256, "%s", need_word(r));
}

static UNUSED void
read_model(const char *name, vec_model *m)
{
	reader		r;

	read_shape(name, &r, m);
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

static UNUSED void
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

#endif							/* VECTOR_FILE_H */
