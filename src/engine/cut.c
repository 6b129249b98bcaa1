/*
 * cut.c: where a text is cut, and how much of it is left, counted in tokens.
 */
#include "cut.h"

#include "request.h"

static const char white[] = " \t\n\r\f\v";

static bool
is_white(char c)
{
	return c != '\0' && strchr(white, c) != NULL;
}

g2_span
g2_cut_trim(g2_span s)
{
	while (s.len > 0 && is_white(s.data[0]))
	{
		s.data++;
		s.len--;
	}
	while (s.len > 0 && is_white(s.data[s.len - 1]))
		s.len--;
	return s;
}

/* ---- at an end ---- */

void
g2_cut_ids(g2_ids *ids, g2_cut side, size_t first, size_t keep)
{
	if (side == G2_CUT_LEFT)
		memmove(ids->data + first, ids->data + (ids->len - keep) + first,
				(keep - first) * sizeof *ids->data);
	ids->len = keep;
}

/* Bytes that do not belong together are a character each: no more than 3 are looked at. */
size_t
g2_cut_character(const char *text, size_t n)
{
	size_t		at = n;

	while (at > 0 && n - at < 3 && ((unsigned char) text[at] & 0xC0) == 0x80)
		at--;
	return at > 0 && ((unsigned char) text[at] & 0xC0) != 0x80 ? at : n;
}

bool
g2_cut_bytes(g2_request *request, g2_span text, const g2_ids *ids, size_t n, size_t *bytes)
{
	g2_decoder	decoder = {0};
	g2_buf		decoded = {0};
	bool		ok = true;

	for (size_t i = 0; ok && i < n; i++)
		ok = g2_tokenizer_decode(request->model->pack->tokenizer, &decoder, ids->data[i],
								 &decoded) ||
			g2_fail_memory(&request->error, decoded.len);
	*bytes = text.len;
	if (n < ids->len && decoded.len < text.len)
		*bytes = g2_cut_character(text.data, decoded.len);
	g2_text_free(&decoded);
	return ok;
}

/* The text's first or last `keep` tokens, or near them. */
static bool
part_of(g2_request *request, g2_span text, g2_cut side, const g2_ids *ids, size_t keep,
		g2_span *part)
{
	size_t		bytes;

	if (!g2_cut_bytes(request, text, ids, side == G2_CUT_LEFT ? ids->len - keep : keep, &bytes))
		return false;
	if (side == G2_CUT_LEFT)
		*part = (g2_span) {text.data + bytes, text.len - (uint32_t) bytes};
	else
		*part = (g2_span) {text.data, (uint32_t) bytes};
	return true;
}

/* Where a word is cut the rest of it may have other tokens than before, so this goes on until the
 * prompt is short enough. */
bool
g2_cut_text(g2_request *request, g2_span text, g2_cut side, size_t room,
			g2_cut_encode_fn encode, void *arg, bool *fits)
{
	g2_ids		ids = {0};
	bool		ok = g2_request_encode(request, text, 0, &ids);
	size_t		keep = ids.len;

	*fits = true;
	while (ok && *fits && request->ids.len > room)
	{
		size_t		excess = request->ids.len - room;
		g2_span		part;

		*fits = keep > 0;
		keep -= G2_MIN(excess, keep);
		ok = !*fits || (part_of(request, text, side, &ids, keep, &part) && encode(arg, part));
	}
	g2_wipe_free(ids.data, ids.cap * sizeof *ids.data);
	return ok;
}

/* ---- at a good place ---- */

/* Bytes of the end of a sentence in full-width punctuation at s, or 0. */
static size_t
wide_stop(const char *s, size_t n)
{
	/* 。！？ */
	static const char *const stops[] = {"\xE3\x80\x82", "\xEF\xBC\x81", "\xEF\xBC\x9F"};

	for (size_t i = 0; n >= 3 && i < G2_LENGTH(stops); i++)
		if (memcmp(s, stops[i], 3) == 0)
			return 3;
	return 0;
}

/* A sentence has ended before the white space at text[at]: a full stop, perhaps in quotes. */
static bool
ends_sentence(const char *text, size_t at)
{
	while (at > 0 && strchr("\"')]", text[at - 1]) && text[at - 1] != '\0')
		at--;
	return at > 0 && strchr(".!?", text[at - 1]) && text[at - 1] != '\0';
}

size_t
g2_cut_place(const char *text, size_t n)
{
	enum
	{
		WORD, LINE, SENTENCE, PARAGRAPH, N_PLACES
	};
	size_t		last[N_PLACES] = {0};
	bool		blank = false;	/* nothing but white space since the last line break */

	for (size_t i = n / 2; i < n; i++)
	{
		size_t		stop = wide_stop(text + i, n - i);

		if (stop > 0)
			last[SENTENCE] = i + stop;
		if (!is_white(text[i]))
		{
			blank = false;
			continue;
		}
		last[WORD] = i + 1;
		if (ends_sentence(text, i))
			last[SENTENCE] = i + 1;
		if (text[i] != '\n')
			continue;
		last[LINE] = i + 1;
		if (blank)
			last[PARAGRAPH] = i + 1;
		blank = true;
	}
	for (int place = PARAGRAPH; place >= WORD; place--)
		if (last[place] > 0)
			return last[place];
	return n;
}
