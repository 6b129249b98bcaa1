/*
 * learn.c: the vocabulary of characters, and the files of learned tokenizers.
 */
#include "learn.h"

#include <stdlib.h>

#include "spool.h"
#include "unicode.h"

#define N_CHARACTERS 0x110000
#define UNKNOWN "<unk>"
#define CHAR_SPECIALS 2			/* UNKNOWN, G2T_END_OF_TEXT: ids 0 and 1 */
#define MAX_CHARACTERS 65536	/* of a vocabulary without a limit of its own */

/* ---- JSON ---- */

static void
put_unit(g2_buf *b, uint32_t unit)
{
	g2_buf_printf(b, "\\u%04x", unit);
}

static void
put_character(g2_buf *b, uint32_t c)
{
	if (c == '"' || c == '\\')
		g2_buf_printf(b, "\\%c", (int) c);
	else if (c >= 0x20 && c < 0x7F)
		g2_buf_printf(b, "%c", (int) c);
	else if (c < 0x10000)
		put_unit(b, c);
	else
	{
		put_unit(b, 0xD800 + ((c - 0x10000) >> 10));
		put_unit(b, 0xDC00 + ((c - 0x10000) & 0x3FF));
	}
}

/* ---- characters ---- */

typedef struct character
{
	uint32_t	code;
	uint64_t	count;
} character;

typedef struct counter
{
	uint64_t   *count;			/* [N_CHARACTERS] */
	const atomic_bool *cancel;
} counter;

static void
count_text(counter *c, const g2_buf *text)
{
	size_t		len = g2_utf8_valid_prefix(text->data, text->len),
				n;

	for (size_t i = 0; i < len; i += n)
		c->count[g2_utf8_char(text->data + i, &n)]++;
}

static bool
count_row(void *arg, const g2t_row *row, g2_error *err)
{
	counter    *c = arg;

	if (c->cancel && atomic_load(c->cancel))
		return g2_fail(err, G2_E_CANCELED, "canceling training due to user request");
	if (row->has_prompt)
		count_text(c, &row->prompt);
	count_text(c, &row->text);
	return true;
}

/* The most frequent first; of those that are as frequent the smaller code. */
static int
compare_characters(const void *a, const void *b)
{
	const character *x = a,
			   *y = b;

	if (x->count != y->count)
		return x->count > y->count ? -1 : 1;
	return x->code < y->code ? -1 : 1;
}

static bool
choose_characters(const uint64_t *count, uint32_t max_vocab, character **out, uint32_t *n,
				  g2_error *err)
{
	uint32_t	found = 0,
				i = 0;

	for (uint32_t c = 0; c < N_CHARACTERS; c++)
		found += count[c] > 0;
	if (max_vocab == 0 && found + CHAR_SPECIALS > MAX_CHARACTERS)
	{
		g2_fail(err, G2_E_LIMIT, "the rows have %u different characters, more than a vocabulary "
				"of %d tokens has room for", found, MAX_CHARACTERS);
		return g2_fail_hint(err, "Set vocab_size, and the rarest become the unknown token; or "
							"use tokenizer => 'bpe'.");
	}
	*out = g2_alloc_array(found, sizeof **out);
	if (!*out)
		return g2_fail_memory(err, found * sizeof **out);
	for (uint32_t c = 0; c < N_CHARACTERS; c++)
		if (count[c] > 0)
			(*out)[i++] = (character) {c, count[c]};
	qsort(*out, found, sizeof **out, compare_characters);
	*n = max_vocab > 0 ? G2_MIN(found, max_vocab - CHAR_SPECIALS) : found;
	return true;
}

static bool
write_characters(const character *c, uint32_t n, const char *folder, g2_error *err)
{
	static const char head[] =
	"{\n"
	"  \"version\": \"1.0\",\n"
	"  \"truncation\": null,\n"
	"  \"padding\": null,\n"
	"  \"added_tokens\": [\n";
	static const char *const specials[CHAR_SPECIALS] = {UNKNOWN, G2T_END_OF_TEXT};
	g2_buf		b = {0};
	bool		ok;

	g2_buf_append(&b, head, sizeof head - 1);
	for (int i = 0; i < CHAR_SPECIALS; i++)
		g2_buf_printf(&b, "    {\"id\": %d, \"content\": \"%s\", \"single_word\": false, "
					  "\"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
					  "\"special\": true}%s\n", i, specials[i],
					  i + 1 < CHAR_SPECIALS ? "," : "");
	g2_buf_printf(&b, "  ],\n"
				  "  \"normalizer\": null,\n"
				  "  \"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": "
				  "\"[\\\\s\\\\S]\"}, \"behavior\": \"Isolated\", \"invert\": false},\n"
				  "  \"post_processor\": null,\n"
				  "  \"decoder\": {\"type\": \"Fuse\"},\n"
				  "  \"model\": {\"type\": \"WordLevel\", \"unk_token\": \"%s\", \"vocab\": {\n",
				  UNKNOWN);
	for (int i = 0; i < CHAR_SPECIALS; i++)
		g2_buf_printf(&b, "    \"%s\": %d%s\n", specials[i], i,
					  i + 1 < CHAR_SPECIALS || n > 0 ? "," : "");
	for (uint32_t i = 0; i < n; i++)
	{
		g2_buf_append(&b, "    \"", 5);
		put_character(&b, c[i].code);
		g2_buf_printf(&b, "\": %u%s\n", CHAR_SPECIALS + i, i + 1 < n ? "," : "");
	}
	g2_buf_printf(&b, "  }}\n}\n");
	ok = g2t_write_text(folder, "tokenizer.json", &b, err);
	g2_buf_free(&b);
	return ok;
}

static bool
learn_characters(const g2t_place *place, uint32_t max_vocab, const char *folder,
				 const atomic_bool *cancel, uint32_t *n_vocab, g2_error *err)
{
	counter		c = {.count = g2_alloc_array(N_CHARACTERS, sizeof *c.count), .cancel = cancel};
	character  *chosen = NULL;
	uint32_t	n = 0;
	bool		ok;

	if (!c.count)
		return g2_fail_memory(err, N_CHARACTERS * sizeof *c.count);
	ok = g2t_spool_each(place, count_row, &c, err) &&
		choose_characters(c.count, max_vocab, &chosen, &n, err) &&
		write_characters(chosen, n, folder, err);
	*n_vocab = n + CHAR_SPECIALS;
	g2_free(chosen);
	g2_free(c.count);
	return ok;
}

/* ---- bytes and their merges ---- */

/* GPT-2's byte alphabet: printable bytes stand for themselves, the others for the characters from
 * 256 on. */
static void
make_alphabet(uint32_t alphabet[256])
{
	uint32_t	other = 0;

	for (uint32_t b = 0; b < 256; b++)
	{
		bool		printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;

		alphabet[b] = printable ? b : 256 + other++;
	}
}

/* The bytes of a token, in the alphabet's characters: JSON escapes for vocab.json, UTF-8 for
 * merges.txt.  Depth is bounded: a token has at most G2_MAX_PIECE bytes. */
static void
put_token(g2_buf *b, const uint32_t alphabet[256], const g2t_merge *merges, uint32_t id, bool json)
{
	if (id >= 256)
	{
		put_token(b, alphabet, merges, merges[id - 256].left, json);
		put_token(b, alphabet, merges, merges[id - 256].right, json);
	}
	else if (json)
		put_character(b, alphabet[id]);
	else if (alphabet[id] < 0x80)
		g2_buf_append(b, (char[]) {(char) alphabet[id]}, 1);
	else
		g2_buf_append(b, (char[]) {(char) (0xC0 | alphabet[id] >> 6),
					  (char) (0x80 | (alphabet[id] & 0x3F))}, 2);
}

static bool
write_bytes(const g2t_merge *merges, uint32_t n, const char *folder, g2_error *err)
{
	uint32_t	alphabet[256];
	g2_buf		vocab = {0},
				text = {0};
	bool		ok;

	make_alphabet(alphabet);
	g2_buf_append(&vocab, "{", 1);
	for (uint32_t id = 0; id < 256 + n; id++)
	{
		g2_buf_printf(&vocab, "%s\n  \"", id ? "," : "");
		put_token(&vocab, alphabet, merges, id, true);
		g2_buf_printf(&vocab, "\": %u", id);
	}
	g2_buf_printf(&vocab, ",\n  \"%s\": %u\n}\n", G2T_END_OF_TEXT, 256 + n);
	g2_buf_printf(&text, "#version: 0.2\n");
	for (uint32_t i = 0; i < n; i++)
	{
		put_token(&text, alphabet, merges, merges[i].left, false);
		g2_buf_append(&text, " ", 1);
		put_token(&text, alphabet, merges, merges[i].right, false);
		g2_buf_append(&text, "\n", 1);
	}
	ok = g2t_write_text(folder, "vocab.json", &vocab, err) &&
		g2t_write_text(folder, "merges.txt", &text, err);
	g2_buf_free(&vocab);
	g2_buf_free(&text);
	return ok;
}

bool
g2t_learn(const g2t_place *place, g2t_tokenizer_kind kind, uint32_t max_vocab, const char *folder,
		  const atomic_bool *cancel, uint32_t *n_vocab, g2_error *err)
{
	g2t_merge  *merges = NULL;
	uint32_t	n = 0;
	bool		ok;

	if (kind == G2T_CHAR)
		return learn_characters(place, max_vocab, folder, cancel, n_vocab, err);
	ok = kind == G2T_BYTE ||
		g2t_learn_bpe(place, max_vocab - G2T_BYTES_VOCAB, cancel, &merges, &n, err);
	ok = ok && write_bytes(merges, n, folder, err);
	*n_vocab = G2T_BYTES_VOCAB + n;
	g2_free(merges);
	return ok;
}
