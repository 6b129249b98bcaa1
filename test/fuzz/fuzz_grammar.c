/*
 * fuzz_grammar.c: any bytes as a choice, a regex or a JSON schema (the first byte says which).  What
 * is accepted is walked within its masks: the text must be accepted in time, match the expression
 * by PCRE2 too, and be JSON where a schema was given.
 */
#define PCRE2_CODE_UNIT_WIDTH 8

#include <pcre2.h>
#include <stdlib.h>

#include "grammar_mask.h"
#include "json.h"

#define END 256
#define VOCABULARY 264

static g2_tokenizer *tok;
static g2_lexicon *lexicon;
static g2_masks *masks;
static g2_buf blob;

/* The 256 bytes and seven tokens of several. */
static void
set_up(void)
{
	static const char merges[] = "#version: 0.2\na b\nab c\n\" :\n, \"\n1 2\n{ \"\nt r\n";
	static const char *const joined[] = {"ab", "abc", "\\\":", ",\\\"", "12", "{\\\"", "tr"};
	g2_buf		vocab = {0};
	int			other = 0;
	g2_error	err;

	for (int b = 0; b < 256; b++)
	{
		bool		printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;

		g2_buf_printf(&vocab, "%c\"\\u%04x\":%d", b ? ',' : '{', printable ? b : 256 + other++, b);
	}
	g2_buf_printf(&vocab, ",\"<|endoftext|>\":%d", END);
	for (int i = 0; i < 7; i++)
		g2_buf_printf(&vocab, ",\"%s\":%d", joined[i], END + 1 + i);
	g2_buf_printf(&vocab, "}");
	if (!g2_tokenizer_compile(&(g2_tokenizer_files) {
			.vocab = {"vocab.json", vocab.data, vocab.len},
			.merges = {"merges.txt", merges, sizeof merges - 1},
		}, VOCABULARY, &blob, &err) ||
		!g2_tokenizer_open(blob.data, blob.len, &tok, &err) ||
		!g2_lexicon_new(tok, END, &lexicon, &err) || !g2_masks_open(1 << 20, &masks, &err))
		abort();
	g2_buf_free(&vocab);
}

/* One of the allowed tokens, by the bytes of the input. */
static uint32_t
pick(const g2_mask *mask, uint32_t from)
{
	for (uint32_t i = 0; i < VOCABULARY; i++)
	{
		uint32_t	id = (from + i) % VOCABULARY;

		if (id != END && (mask->bits[id / 64] >> id % 64 & 1))
			return id;
	}
	abort();
}

static void
walk(const g2_grammar *grammar, uint32_t budget, const uint8_t *data, size_t size, g2_buf *text)
{
	uint32_t	state = G2_GRAMMAR_START;

	for (uint32_t left = budget; left > 0; left--)
	{
		const g2_mask *mask = g2_masks_get(masks, grammar, state, left, END, VOCABULARY);
		const char *piece;
		size_t		len;

		if (!mask->goes_on)
			break;
		piece = g2_tokenizer_piece(tok, pick(mask, 7 * left + data[left % size]), &len);
		g2_buf_append(text, piece, len);
		state = g2_dfa_run(&grammar->dfa, state, piece, len);
	}
	if (!grammar->dfa.accepts[state] || g2_utf8_valid_prefix(text->data, text->len) != text->len)
		abort();
	g2_masks_trim(masks);
}

static void
check_regex(const char *regex, size_t len, const g2_buf *text)
{
	int			code;
	PCRE2_SIZE	offset;
	pcre2_code *re = pcre2_compile((PCRE2_SPTR) regex, len, PCRE2_UTF | PCRE2_DOLLAR_ENDONLY,
								   &code, &offset, NULL);
	pcre2_match_data *data;

	if (!re)
		return;					/* they differ in what they understand */
	data = pcre2_match_data_create(16, NULL);
	if (pcre2_match(re, (PCRE2_SPTR) text->data, text->len, 0,
					PCRE2_ANCHORED | PCRE2_ENDANCHORED, data, NULL) == PCRE2_ERROR_NOMATCH)
		abort();
	pcre2_match_data_free(data);
	pcre2_code_free(re);
}

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g2_constraint_kind kind;
	g2_grammar *grammar;
	g2_error	err;
	uint32_t	shortest;

	if (size < 2 || size > 4096)
		return 0;
	if (!tok)
		set_up();
	kind = G2_CONSTRAINT_CHOICE + data[0] % 3;
	if (!g2_grammar_compile(kind, (const char *) data + 1, size - 1, lexicon, NULL, &grammar, &err))
	{
		if (err.code != G2_E_PARAM && err.code != G2_E_TOO_LONG && err.code != G2_E_BAD_JSON)
			abort();
		return 0;
	}
	shortest = g2_grammar_shortest(grammar, false);
	for (uint32_t more = 0; more < 40; more += 13)
	{
		g2_buf		text = {0};

		g2_buf_reserve(&text, 1);
		walk(grammar, shortest + more, data, size, &text);
		if (kind == G2_CONSTRAINT_REGEX)
			check_regex((const char *) data + 1, size - 1, &text);
		if (kind == G2_CONSTRAINT_SCHEMA)
		{
			cJSON	   *json = g2_json_parse("text", text.data, text.len, false, &err);

			if (!json)
				abort();
			cJSON_Delete(json);
		}
		g2_buf_free(&text);
	}
	g2_grammar_free(grammar);
	return 0;
}
