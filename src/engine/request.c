/*
 * request.c: what the fields of a request mean: ranges, templates, prompts, token budgets.
 */
#include "request.h"

#include <float.h>
#include <stdio.h>

#include "prompt.h"

#define MAX_ANSWER_IDS (G2_MAX_PAYLOAD / sizeof(uint32_t) - 2)	/* TOKENS */

/* ---- checks before anything is spent ---- */

static bool
check_stops(const g2_generate *m, g2_error *err)
{
	for (uint32_t i = 0; i < m->n_stops; i++)
	{
		if (m->stops[i].len == 0)
			return g2_fail(err, G2_E_PARAM, "a stop string must not be empty");
		if (m->stops[i].len > G2_MAX_STOP_BYTES)
		{
			g2_fail(err, G2_E_TOO_LONG, "a stop string must have at most %d bytes",
					G2_MAX_STOP_BYTES);
			return g2_fail_hint(err, "Its beginning will do.");
		}
	}
	return true;
}

/* Comparisons are written so that NaN fails them. */
static bool
check_sampling(const g2_generate *m, g2_error *err)
{
	if (!(m->temperature >= 0 && m->temperature <= 100))
		return g2_fail(err, G2_E_PARAM, "temperature must be between 0 and 100");
	if (m->n > 1 && m->temperature == 0 && m->decoding.n_beams <= 1)
	{
		g2_fail(err, G2_E_PARAM, "n > 1 needs a temperature above 0");
		return g2_fail_hint(err, "At temperature 0 all sequences would be the same.");
	}
	if (!(m->top_p > 0 && m->top_p <= 1))
		return g2_fail(err, G2_E_PARAM, "top_p must be above 0 and at most 1");
	if (!(m->min_p >= 0 && m->min_p <= 1))
		return g2_fail(err, G2_E_PARAM, "min_p must be between 0 and 1");
	if (!(m->repetition_penalty > 0 && m->repetition_penalty <= 100))
		return g2_fail(err, G2_E_PARAM, "repetition_penalty must be above 0 and at most 100");
	return true;
}

/* A text is longer than what one call takes. */
static bool
fail_long(const char *what, g2_error *err)
{
	g2_fail(err, G2_E_TOO_LONG, "%s must have at most %u bytes", what, G2_MAX_TEXT);
	return g2_fail_hint(err, "Split the text.");
}

static bool
check_generate(const g2_generate *m, g2_error *err)
{
	if (m->prompt.len > G2_MAX_TEXT)
		return fail_long("the prompt", err);
	if (m->template_text.len > G2_MAX_TEXT)
		return fail_long("the template", err);
	if ((m->flags & G2_GEN_PROMPT_IDS) && m->prompt.len % sizeof(uint32_t) != 0)
		return g2_fail(err, G2_E_INTERNAL, "malformed prompt ids");
	if (m->max_new == 0)
		return g2_fail(err, G2_E_PARAM, "max_len must be at least 1");
	if (m->n == 0)
		return g2_fail(err, G2_E_PARAM, "n must be between 1 and %d", G2_MAX_SEQUENCES);
	if (m->n > G2_MAX_SEQUENCES)
	{
		g2_fail(err, G2_E_TOO_LONG, "n must be between 1 and %d", G2_MAX_SEQUENCES);
		return g2_fail_hint(err, "Make several calls.");
	}
	if ((m->flags & (G2_GEN_SPLIT | G2_GEN_PARTS)) && (m->n > 1 || (m->flags & G2_GEN_MAX_LENGTH)))
		return g2_fail(err, G2_E_INTERNAL, "malformed request for a summary in parts");
	if (m->n > 1 && (m->flags & G2_GEN_STREAM))
		return g2_fail(err, G2_E_PARAM, "only one sequence can be streamed");
	if (m->cache_salt.len > G2_MAX_SALT)
		return g2_fail(err, G2_E_PARAM, "gpt2.prefix_cache_salt must have at most %d bytes",
					   G2_MAX_SALT);
	return check_sampling(m, err) && check_stops(m, err) && g2_decoding_check(m, err) &&
		g2_constraint_check(m, err);
}

const char *
g2_request_device(const g2_request *request)
{
	if (request->type != G2_MSG_LOAD)
		return NULL;
	return g2_span_is(request->m.load.device, "cpu") ? "cpu" :
		g2_span_is(request->m.load.device, "cuda") ? "cuda" : NULL;
}

static bool
check_device(g2_span device, g2_error *err)
{
	char		name[32];

	if (device.len == 0 || g2_span_is(device, "auto") || g2_span_is(device, "cpu") ||
		g2_span_is(device, "cuda"))
		return true;
	snprintf(name, sizeof name, "%.*s", (int) G2_MIN(device.len, sizeof name - 1), device.data);
	name[g2_utf8_valid_prefix(name, strlen(name))] = '\0';
	g2_fail(err, G2_E_UNSUPPORTED, "device \"%s\" is not supported", name);
	return g2_fail_hint(err, "The devices are \"auto\", \"cpu\" and \"cuda\".");
}

bool
g2_request_decode(g2_request *request, g2_error *err)
{
	const char *p = request->payload.data;
	size_t		n = request->payload.len;
	bool		ok = false;

	switch (request->type)
	{
		case G2_MSG_GENERATE:
			if (!(ok = g2_generate_decode(p, n, &request->m.generate)))
				break;
			return check_generate(&request->m.generate, err);
		case G2_MSG_SCORE:
			if (!(ok = g2_score_decode(p, n, &request->m.score)))
				break;
			if (request->m.score.text.len > G2_MAX_TEXT)
				return fail_long("the text", err);
			return g2_score_check(&request->m.score, err);
		case G2_MSG_TOKENIZE:
			if (!(ok = g2_tokenize_decode(p, n, &request->m.tokenize)))
				break;
			if (request->m.tokenize.text.len > G2_MAX_TEXT)
				return fail_long("the text", err);
			break;
		case G2_MSG_DETOKENIZE:
			ok = g2_detokenize_decode(p, n, &request->m.detokenize);
			break;
		case G2_MSG_LOAD:
			if (!(ok = g2_load_decode(p, n, &request->m.load)))
				break;
			return check_device(request->m.load.device, err);
		case G2_MSG_CHECK_MODEL:
			{
				g2_reader	r = g2_read(p, n);

				request->m.check.model = g2_get_element(&r);
				ok = !r.failed;
				break;
			}
		default:
			break;
	}
	if (!ok)
		return g2_fail(err, G2_E_INTERNAL, "malformed request of type %d", (int) request->type);
	return true;
}

g2_span
g2_request_model(const g2_request *request, g2_span *format)
{
	*format = (g2_span) {"", 0};
	switch (request->type)
	{
		case G2_MSG_GENERATE:
			return request->m.generate.model;
		case G2_MSG_SCORE:
			return request->m.score.model;
		case G2_MSG_TOKENIZE:
			return request->m.tokenize.model;
		case G2_MSG_DETOKENIZE:
			return request->m.detokenize.model;
		default:
			*format = request->m.load.format;
			return request->m.load.model;
	}
}

uint32_t
g2_request_user(const g2_request *request)
{
	switch (request->type)
	{
		case G2_MSG_GENERATE:
			return request->m.generate.current_user;
		case G2_MSG_SCORE:
			return request->m.score.current_user;
		case G2_MSG_TOKENIZE:
			return request->m.tokenize.current_user;
		case G2_MSG_DETOKENIZE:
			return request->m.detokenize.current_user;
		default:
			return 0;
	}
}

/* ---- the helper thread's part ---- */

static bool
need_tokenizer(const g2_request *request, g2_error *err)
{
	if (request->model->pack->tokenizer)
		return true;
	g2_fail(err, G2_E_UNSUPPORTED, "model \"%s\" has no tokenizer files", request->model->name);
	return g2_fail_hint(err, "Put its tokenizer.json, or vocab.json and merges.txt, or "
						"vocab.txt, into the model's folder.");
}

bool
g2_request_encode(g2_request *request, g2_span text, size_t max_ids, g2_ids *ids)
{
	g2_error   *err = &request->error;

	if (!need_tokenizer(request, err))
		return false;
	return g2_tokenizer_encode(request->model->pack->tokenizer, text.data, text.len, max_ids,
							   &request->canceled, ids, err);
}

bool
g2_request_copy_ids(g2_request *request, g2_span ids)
{
	uint32_t	n_vocab = request->model->pack->weights.arch.n_vocab;

	for (uint32_t i = 0; i < ids.len / sizeof(uint32_t); i++)
	{
		uint32_t	id;

		memcpy(&id, ids.data + i * sizeof id, sizeof id);
		if (id >= n_vocab)
			return g2_fail(&request->error, G2_E_PARAM,
						   "token id %u is not below the vocabulary's size %u", id, n_vocab);
		if (!g2_ids_push(&request->ids, id))
			return g2_fail_memory(&request->error, ids.len);
	}
	return true;
}

/* How many new tokens: what was asked for, as far as the context has room. */
static bool
set_budget(g2_request *request)
{
	const g2_generate *m = &request->m.generate;
	uint32_t	n_ctx = request->model->pack->weights.arch.n_ctx,
				n_prompt = (uint32_t) request->ids.len;

	request->max_new = G2_MIN(m->max_new, n_ctx - n_prompt);
	if (m->flags & G2_GEN_MAX_LENGTH)
	{
		if (n_prompt >= m->max_new)
		{
			g2_fail(&request->error, G2_E_PARAM,
					"max_length (%u) must be above the prompt's length (%u tokens)", m->max_new,
					n_prompt);
			return g2_fail_hint(&request->error, "It counts the prompt too; max_len does not.");
		}
		request->max_new = G2_MIN(m->max_new, n_ctx) - n_prompt;
	}
	/* The answer has to fit into one message. */
	if ((uint64_t) g2_decoding_sequences(m) * request->max_new > G2_MAX_NEW_TOKENS)
	{
		g2_fail(&request->error, G2_E_TOO_LONG, "%s times max_len must be at most %u new tokens",
				m->decoding.n_beams > 1 ? "num_beams" : "n", G2_MAX_NEW_TOKENS);
		return g2_fail_hint(&request->error, "Ask for fewer or shorter sequences in one call.");
	}
	return true;
}

bool
g2_request_add_start(g2_request *request, g2_ids *ids)
{
	uint32_t	start = request->model->pack->description.start_token;

	if (start == G2_NO_TOKEN)
	{
		g2_fail(&request->error, G2_E_PARAM, "model \"%s\" has no start token",
				request->model->name);
		g2_fail_hint(&request->error, "Leave the option \"add_start\" out.");
		return g2_fail_options(&request->error);
	}
	return g2_ids_push(ids, start) || g2_fail_memory(&request->error, sizeof start);
}

/* Parts are made without the constraint, which is for what is made of them; but what is wrong with
 * it is said before them.  It stays compiled. */
static bool
check_constraint(g2_request *request, g2_grammars *grammars)
{
	const g2_grammar *grammar;

	if (request->split.prompt_tokens > 0)
		return true;			/* some have ended */
	if (!g2_constraint_prepare(grammars, &request->m.generate, request->model->pack,
							   request->m.generate.max_new, &request->canceled, &grammar,
							   &request->error))
		return false;
	g2_grammars_release(grammars, grammar);
	return true;
}

static bool
work_generate(g2_request *request, g2_grammars *grammars)
{
	const g2_description *d = &request->model->pack->description;
	uint32_t	n_ctx = request->model->pack->weights.arch.n_ctx;

	if (!g2_decoding_work(request) || !g2_prompt_make(request))
		return false;
	/* The parts' prompts are made; and of nothing there is no summary. */
	if (g2_split_has_parts(request))
		return check_constraint(request, grammars);
	if (request->ids.len == 0)
	{
		if (d->start_token == G2_NO_TOKEN)
		{
			g2_fail(&request->error, G2_E_PARAM,
					"the prompt is empty and model \"%s\" has no start token",
					request->model->name);
			return g2_fail_hint(&request->error, "Begin the text with something.");
		}
		if (!g2_ids_push(&request->ids, d->start_token))
			return g2_fail_memory(&request->error, sizeof(uint32_t));
	}
	if (request->ids.len > n_ctx - 1)
		return g2_prompt_too_long(request);
	return set_budget(request) &&
		g2_constraint_prepare(grammars, &request->m.generate, request->model->pack,
							  request->max_new, &request->canceled, &request->grammar,
							  &request->error);
}

/* A piece may have 64 kB: the ids of one message can stand for more than any memory holds. */
static bool
join_pieces(g2_request *request, g2_buf *bytes)
{
	g2_decoder	decoder = {0};

	for (size_t i = 0; i < request->ids.len; i++)
	{
		if (!g2_tokenizer_decode(request->model->pack->tokenizer, &decoder, request->ids.data[i],
								 bytes))
			return g2_fail_memory(&request->error, bytes->len);
		if (bytes->len > G2_MAX_TEXT)
		{
			g2_fail(&request->error, G2_E_TOO_LONG, "the text of the tokens has more than %u bytes",
					G2_MAX_TEXT);
			return g2_fail_hint(&request->error, "Give fewer token ids at a time.");
		}
	}
	return true;
}

static bool
work_detokenize(g2_request *request)
{
	const g2_detokenize *m = &request->m.detokenize;
	g2_buf		bytes = {0};
	bool		ok;

	if (!need_tokenizer(request, &request->error) ||
		!g2_request_copy_ids(request, (g2_span) {m->ids, m->count * (uint32_t) sizeof(uint32_t)}))
		return false;
	ok = join_pieces(request, &bytes);
	if (ok && !g2_text_clean(bytes.data, bytes.len, &request->text))
		ok = g2_fail_memory(&request->error, bytes.len);
	g2_text_free(&bytes);
	return ok;
}

void
g2_request_work(g2_request *request, g2_grammars *grammars)
{
	switch (request->type)
	{
		case G2_MSG_GENERATE:
			request->ok = work_generate(request, grammars);
			break;
		case G2_MSG_SCORE:
			request->ok = g2_score_work(request);
			break;
		case G2_MSG_TOKENIZE:
			/* More ids than an answer can carry are not wanted either. */
			request->ok = g2_request_encode(request, request->m.tokenize.text,
											request->m.tokenize.count_only ? 0 : MAX_ANSWER_IDS,
											&request->ids);
			break;
		default:
			request->ok = work_detokenize(request);
			break;
	}
}

/* Whose group it is, and what model it runs on. */
static void
set_common(const g2_request *request, bool use_cache, g2_span salt, g2_group_options *o)
{
	const g2_pack *pack = request->model->pack;

	o->tokenizer = pack->tokenizer;
	o->session = request->session;
	o->kv = &request->model->kv;
	o->work = &request->model->work;
	o->model = request->model->device_model;
	o->n_vocab = pack->weights.arch.n_vocab;
	o->n_embd = pack->weights.arch.n_embd;
	o->use_cache = use_cache &&
		g2_prefix_root(pack->content_hash, request->model->format, request->session->database,
					   g2_request_user(request), salt, &o->prefix);
}

static void
set_generate(const g2_request *request, g2_group_options *o)
{
	const g2_generate *m = &request->m.generate;

	*o = (g2_group_options) {
		.sampling = {
			.temperature = (float) m->temperature,
			.top_k = m->top_k,
			/* What is above 0 stays so as a float. */
			.top_p = G2_MAX((float) m->top_p, FLT_MIN),
			.min_p = (float) m->min_p,
			.repetition_penalty = G2_MAX((float) m->repetition_penalty, FLT_MIN),
			.seed = m->seed,
		},
		.n = m->n,
		.max_new = request->max_new,
		.end_token = request->model->pack->description.end_token,
		.logprobs = (m->flags & (G2_GEN_LOGPROBS | G2_GEN_STREAM)) != 0,
		.queue_timeout_ms = m->queue_timeout_ms,
	};
	if (request->model->pack->tokenizer)
	{
		o->sampling.banned = g2_tokenizer_hidden(request->model->pack->tokenizer,
												 &o->sampling.n_banned);
		o->sampling.spared = request->model->pack->description.end_token;
	}
	set_common(request, !(m->flags & G2_GEN_NO_CACHE), m->cache_salt, o);
	g2_decoding_set(request, o);
	o->grammar = request->grammar;
	for (uint32_t i = 0; i < m->n_stops; i++)
		o->stops[o->n_stops++] = (g2_bytes) {m->stops[i].data, m->stops[i].len};
	/* A stop string of the task could cut a text before it is what it has to be. */
	if (m->n_stops == 0 && !o->grammar && !(m->flags & G2_GEN_NO_STOP_DEFAULTS))
		for (uint32_t i = 0; i < request->task.n_stops; i++)
			o->stops[o->n_stops++] = (g2_bytes) {request->task.stops[i],
				strlen(request->task.stops[i])};
}

void
g2_request_group_options(const g2_request *request, g2_group_options *o)
{
	const g2_score *m = &request->m.score;

	if (request->type == G2_MSG_GENERATE)
	{
		set_generate(request, o);
		return;
	}
	*o = (g2_group_options) {
		.n = 1, .end_token = G2_NO_TOKEN, .queue_timeout_ms = m->queue_timeout_ms,
	};
	set_common(request, !(m->flags & G2_SCORE_NO_CACHE), m->cache_salt, o);
}

void
g2_request_clear(g2_request *request, g2_grammars *grammars)
{
	g2_grammars_release(grammars, request->grammar);
	g2_scoring_clear(&request->scoring);
	g2_split_clear(&request->split);
	g2_text_free(&request->payload);
	g2_wipe_free(request->ids.data, request->ids.cap * sizeof *request->ids.data);
	g2_text_free(&request->text);
	g2_free(request->biases);
	g2_task_free(&request->task);
}
