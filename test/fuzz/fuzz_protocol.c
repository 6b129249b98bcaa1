/*
 * fuzz_protocol.c: any bytes through every decoder of protocol.c (the first byte chooses).  What
 * was decoded is read to its last byte, so that a sanitizer sees a span that leaves the payload.
 */
#include <stdlib.h>

#include "protocol.h"
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
fuzz_generate(const void *p, size_t n)
{
	g2_generate m;

	if (!g2_generate_decode(p, n, &m))
		return;
	touch_span(m.model);
	touch_span(m.prompt);
	touch_span(m.task);
	touch_span(m.template_text);
	if (m.n_stops > G2_MAX_STOPS)
		abort();
	for (uint32_t i = 0; i < m.n_stops; i++)
		touch_span(m.stops[i]);
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
	}
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
		if (m.n_directories > G2_MAX_DIRECTORIES)
			abort();
		for (uint32_t i = 0; i < m.n_directories; i++)
			touch_span(m.directories[i]);
		touch_span(m.cpu);
	}
	if (g2_info_decode(p, n, &info))
		touch_span(info.cuda_driver);
}

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const decoders[]) (const void *, size_t) = {
		fuzz_generate, fuzz_completions, fuzz_models, fuzz_tokens, fuzz_small, fuzz_settings
	};

	if (size > 0)
		decoders[data[0] % G2_LENGTH(decoders)] (data + 1, size - 1);
	return 0;
}
