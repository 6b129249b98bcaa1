/*
 * fuzz_protocol.c: any bytes through every decoder of protocol.h (the first byte chooses).  What
 * was decoded is read to its last byte, so that a sanitizer sees a span that leaves the payload.
 */
#include <stdlib.h>

#include "protocol_score.h"
#include "protocol_train.h"
#include "protocol_watch.h"
#include "util.h"

static volatile unsigned sum;

static void
touch(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		sum += (unsigned char) p[i];
}

static void
touch_span(g2_span s)
{
	touch(s.data, s.len);
}

static void
touch_names(const g2_span *names, uint32_t n, uint32_t max)
{
	if (n > max)
		abort();
	for (uint32_t i = 0; i < n; i++)
		touch_span(names[i]);
}

static void
fuzz_generate(const void *p, size_t n)
{
	g2_generate m;

	if (!g2_generate_decode(p, n, &m))
		return;
	touch_span(m.model);
	touch_span(m.prompt);
	touch_span(m.task);
	touch_span(m.template_text);
	touch_span(m.cache_salt);
	touch_span(m.constraint);
	touch_names(m.stops, m.n_stops, G2_MAX_STOPS);
	if (m.decoding.n_biases > G2_MAX_BIASES)
		abort();
	touch(m.decoding.biases, m.decoding.n_biases * G2_BIAS_BYTES);
}

static void
fuzz_score(const void *p, size_t n)
{
	g2_score	m;

	if (!g2_score_decode(p, n, &m))
		return;
	touch_span(m.model);
	touch_span(m.text);
	touch_span(m.task);
	touch_span(m.template_text);
	touch_span(m.condition);
	touch_span(m.cache_salt);
	touch_names(m.labels, m.n_labels, G2_MAX_LABELS);
	touch_names(m.example_texts, m.n_examples, G2_MAX_EXAMPLES);
	touch_names(m.example_labels, m.n_examples, G2_MAX_EXAMPLES);
}

/* What may follow the head of SCORES: the second byte chooses. */
static void
fuzz_scores(const void *p, size_t n)
{
	g2_reader	r = g2_read(p, n);
	unsigned	what = g2_get_u8(&r) % 3;

	while (!r.failed)
	{
		g2_token_score token = {.piece = {"", 0}};
		g2_embedding embedding = {.n = 0};
		g2_score_sum of;

		if (what == 0)
			g2_score_sum_get(&r, &of);
		else if (what == 1)
			g2_token_score_get(&r, &token);
		else
			g2_embedding_get(&r, &embedding);
		if (r.failed)
			break;
		touch_span(token.piece);
		touch(embedding.values, (size_t) embedding.n * sizeof(float));
	}
}

static void
fuzz_completions(const void *p, size_t n)
{
	g2_reader	r = g2_read(p, n);
	g2_completions_head head;

	g2_completions_head_get(&r, &head);
	for (uint32_t i = 0; !r.failed && i < head.n; i++)
	{
		g2_completion m;

		g2_completion_get(&r, &m);
		if (r.failed)
			break;
		touch(m.ids, (size_t) m.n_ids * sizeof(uint32_t));
		touch_span(m.text);
	}
}

static void
fuzz_models(const void *p, size_t n)
{
	g2_reader	r = g2_read(p, n);
	uint32_t	count = g2_get_u32(&r);

	for (uint32_t i = 0; !r.failed && i < count; i++)
	{
		g2_model_row m;

		g2_model_row_get(&r, &m);
		if (r.failed)
			break;
		touch_span(m.name);
		touch_span(m.architecture);
		touch_span(m.tokenizer);
		touch_span(m.error);
		touch_span(m.base);
		touch_names(m.roles, m.n_roles, G2_MAX_ROLES);
	}
}

/* Lists of the other rows: the second byte chooses. */
static void
fuzz_rows(const void *p, size_t n)
{
	g2_reader	r = g2_read(p, n);
	unsigned	what = g2_get_u8(&r) % 4;
	uint32_t	count = g2_get_u32(&r);

	for (uint32_t i = 0; !r.failed && i < count; i++)
	{
		g2_span		names[2] = {{"", 0}, {"", 0}};

		if (what == 0)
		{
			g2_request_row m;

			g2_request_row_get(&r, &m);
			names[0] = m.model;
		}
		else if (what == 1)
		{
			g2_usage_row m;

			g2_usage_row_get(&r, &m);
			names[0] = m.model;
		}
		else if (what == 3)
		{
			g2_progress_row m;

			g2_progress_row_get(&r, &m);
			names[0] = m.command;
		}
		else
		{
			g2_engine_row m;

			g2_engine_row_get(&r, &m);
			names[0] = m.model;
			names[1] = m.format;
		}
		if (!r.failed)
			touch_names(names, 2, 2);
	}
}

/* Who asks, and what comes before a final answer. */
static void
fuzz_session(const void *p, size_t n)
{
	g2_session_message session;
	g2_access	access;
	g2_roles	roles;
	g2_stream	stream;

	if (g2_session_message_decode(p, n, &session))
	{
		touch_span(session.user_name);
		for (int i = 0; i < G2_N_LIMITS; i++)
			if (session.limits[i] < G2_LIMIT_UNSET)
				abort();
	}
	if (g2_access_decode(p, n, &access))
		touch_span(access.model);
	if (g2_roles_decode(p, n, &roles))
	{
		if (roles.token == 0)
			abort();
		touch_names(roles.roles, roles.n, G2_MAX_ROLES);
	}
	if (g2_stream_decode(p, n, &stream))
		touch_span(stream.piece);
}

static void
fuzz_tokens(const void *p, size_t n)
{
	g2_tokens	tokens;
	g2_detokenize detokenize;
	g2_tokenize tokenize;

	if (g2_tokens_decode(p, n, &tokens) && tokens.ids)
		touch(tokens.ids, (size_t) tokens.count * sizeof(uint32_t));
	if (g2_detokenize_decode(p, n, &detokenize))
	{
		touch_span(detokenize.model);
		touch(detokenize.ids, (size_t) detokenize.count * sizeof(uint32_t));
	}
	if (g2_tokenize_decode(p, n, &tokenize))
	{
		touch_span(tokenize.model);
		touch_span(tokenize.text);
	}
}

static void
fuzz_small(const void *p, size_t n)
{
	g2_hello	hello;
	g2_welcome	welcome;
	g2_error_message error;
	g2_notice	note;
	g2_load		load;

	if (g2_hello_decode(p, n, &hello))
		touch_span(hello.library_version);
	if (g2_welcome_decode(p, n, &welcome))
		touch_span(welcome.engine_version);
	if (g2_error_decode(p, n, &error))
	{
		touch_span(error.message);
		touch_span(error.hint);
	}
	if (g2_notice_decode(p, n, &note))
		touch_span(note.message);
	if (g2_load_decode(p, n, &load))
		touch_span(load.device);
}

static void
fuzz_settings(const void *p, size_t n)
{
	g2_settings m;
	g2_info		info;

	if (g2_settings_decode(p, n, &m))
	{
		touch_names(m.directories, m.n_directories, G2_MAX_DIRECTORIES);
		touch_span(m.cpu);
		touch_names(m.preload, m.n_preload, G2_MAX_PRELOAD);
	}
	if (g2_info_decode(p, n, &info))
		touch_span(info.cuda_driver);
}

/* What a backend sends to the process that trains for it. */
static void
fuzz_train(const void *p, size_t n)
{
	g2_train	m;
	g2_train_row row;
	g2_reader	r = g2_read(p, n);

	if (g2_train_decode(p, n, &m))
	{
		touch_span(m.model);
		touch_span(m.base);
		touch_span(m.query);
		touch_span(m.owner.name);
		touch_span(m.replaced.name);
	}
	while (g2_train_row_get(&r, &row))
	{
		touch_span(row.text);
		if (row.has_prompt)
			touch_span(row.prompt);
	}
}

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const decoders[]) (const void *, size_t) = {
		fuzz_generate, fuzz_completions, fuzz_models, fuzz_tokens, fuzz_small, fuzz_settings,
		fuzz_rows, fuzz_session, fuzz_score, fuzz_scores, fuzz_train
	};

	if (size > 0)
		decoders[data[0] % G2_LENGTH(decoders)] (data + 1, size - 1);
	return 0;
}
