/*
 * decoding.c: decoding options of a GENERATE.
 */
#include "decoding.h"

#include <float.h>

#include "request.h"

/* NaN fails. */
static bool
in_range(double value, double limit)
{
	return value >= -limit && value <= limit;
}

static g2_bias
bias_at(const g2_decoding *d, uint32_t i)
{
	g2_bias		bias;

	_Static_assert(sizeof bias == G2_BIAS_BYTES, "as in the message");
	_Static_assert(G2_MAX_BIASES <= G2_MOST_BIASES, "a slot has room for those of a message");
	memcpy(&bias, d->biases + i * sizeof bias, sizeof bias);
	return bias;
}

static bool
check_biases(const g2_decoding *d, g2_error *err)
{
	uint32_t	last = 0;

	for (uint32_t i = 0; i < d->n_biases; i++)
	{
		g2_bias		bias = bias_at(d, i);

		if (i > 0 && bias.token <= last)
			return g2_fail(err, G2_E_INTERNAL, "malformed logit_bias");
		if (!in_range((double) bias.bias, G2_MAX_BIAS))
			return g2_fail(err, G2_E_PARAM, "logit_bias of token %u must be between %d and %d",
						   bias.token, -G2_MAX_BIAS, G2_MAX_BIAS);
		last = bias.token;
	}
	return true;
}

static bool
check_beams(const g2_generate *m, g2_error *err)
{
	const g2_decoding *d = &m->decoding;

	if (d->n_beams > G2_MAX_BEAMS)
		return g2_fail(err, G2_E_PARAM, "num_beams must be between 1 and %d", G2_MAX_BEAMS);
	if (!in_range(d->length_penalty, G2_MAX_LENGTH_PENALTY))
		return g2_fail(err, G2_E_PARAM, "length_penalty must be between %d and %d",
					   -G2_MAX_LENGTH_PENALTY, G2_MAX_LENGTH_PENALTY);
	if (d->n_beams <= 1)
		return true;
	if (m->temperature != 0)
	{
		g2_fail(err, G2_E_PARAM, "num_beams cannot be combined with sampling");
		return g2_fail_hint(err, "Use temperature 0 with num_beams.");
	}
	if (m->n > d->n_beams)
	{
		g2_fail(err, G2_E_PARAM, "n (%u) must not be above num_beams (%u)", m->n, d->n_beams);
		return g2_fail_hint(err, "A search gives the n best of its beams.");
	}
	if (m->flags & G2_GEN_STREAM)
		return g2_fail(err, G2_E_PARAM, "a search with num_beams cannot be streamed");
	return true;
}

bool
g2_decoding_check(const g2_generate *m, g2_error *err)
{
	const g2_decoding *d = &m->decoding;

	if (!(d->typical_p >= 0 && d->typical_p <= 1))
		return g2_fail(err, G2_E_PARAM, "typical_p must be above 0 and at most 1");
	if (!in_range(d->presence_penalty, G2_MAX_BIAS))
		return g2_fail(err, G2_E_PARAM, "presence_penalty must be between %d and %d",
					   -G2_MAX_BIAS, G2_MAX_BIAS);
	if (!in_range(d->frequency_penalty, G2_MAX_BIAS))
		return g2_fail(err, G2_E_PARAM, "frequency_penalty must be between %d and %d",
					   -G2_MAX_BIAS, G2_MAX_BIAS);
	if (d->no_repeat_ngram > G2_MAX_NGRAM)
		return g2_fail(err, G2_E_PARAM, "no_repeat_ngram_size must be between 0 and %d",
					   G2_MAX_NGRAM);
	if (d->min_new > m->max_new)
	{
		g2_fail(err, G2_E_PARAM, "min_new_tokens (%u) must not be above the greatest length (%u)",
				d->min_new, m->max_new);
		return g2_fail_hint(err, "Raise max_len, or lower min_new_tokens.");
	}
	return check_biases(d, err) && check_beams(m, err);
}

uint32_t
g2_decoding_sequences(const g2_generate *m)
{
	return m->decoding.n_beams > 1 ? m->decoding.n_beams : m->n;
}

bool
g2_decoding_work(g2_request *request)
{
	const g2_decoding *d = &request->m.generate.decoding;
	uint32_t	n_vocab = request->model->pack->weights.arch.n_vocab;

	if (d->n_beams > 1 && 2 * d->n_beams > n_vocab)
	{
		g2_fail(&request->error, G2_E_PARAM, "num_beams (%u) is more than half of the vocabulary of "
				"model \"%s\" (%u tokens)", d->n_beams, request->model->name, n_vocab);
		g2_fail_hint(&request->error, "Use fewer beams.");
		return g2_fail_options(&request->error);
	}
	/* A text of several parts comes here again. */
	if (d->n_biases == 0 || request->biases)
		return true;
	request->biases = g2_alloc_array(d->n_biases, sizeof *request->biases);
	if (!request->biases)
		return g2_fail_memory(&request->error, d->n_biases * sizeof *request->biases);
	for (uint32_t i = 0; i < d->n_biases; i++)
		request->biases[i] = bias_at(d, i);
	/* Ascending, so that the last is the largest. */
	if (request->biases[d->n_biases - 1].token >= n_vocab)
	{
		g2_fail(&request->error, G2_E_PARAM,
				"logit_bias names token %u, but model \"%s\" has only %u tokens",
				request->biases[d->n_biases - 1].token, request->model->name, n_vocab);
		g2_fail_hint(&request->error, "Ids count from 0; gpt_tokenize gives those of a text.");
		return g2_fail_options(&request->error);
	}
	return true;
}

void
g2_decoding_set(const g2_request *request, g2_group_options *o)
{
	const g2_decoding *d = &request->m.generate.decoding;
	g2_sampling *s = &o->sampling;

	/* What is above 0 stays so as a float: 0 is off. */
	if (d->typical_p > 0 && d->typical_p < 1)
		s->typical_p = G2_MAX((float) d->typical_p, FLT_MIN);
	s->presence_penalty = (float) d->presence_penalty;
	s->frequency_penalty = (float) d->frequency_penalty;
	s->min_new = d->min_new;
	s->biases = request->biases;
	s->n_biases = d->n_biases;
	o->no_repeat_ngram = d->no_repeat_ngram;
	if (d->n_beams <= 1)
		return;
	o->n_best = o->n;
	o->n = d->n_beams;
	o->length_penalty = d->length_penalty;
}
