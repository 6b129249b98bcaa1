/*
 * tokenizer_words.c: vocabularies without merges: BERT's vocab.txt, and plain characters.
 *
 * A vocab.txt has one piece a line; lines end at LF only, as U+2028 and its kin are pieces of
 * real vocabularies.  Its text is changed and cut as in google-research/bert, tokenization.py.
 *
 * A character vocabulary is a vocab.json without merges.txt: an object of character -> id.  Longer
 * names are allowed for special tokens only, which have the form <...>.
 */
#include "json.h"
#include "pretokenizer.h"
#include "tokenizer_compile.h"
#include "unicode.h"

#define MAX_WORD_CHARS 100		/* of BERT's wordpiece tokenizer */

static const char bert_punctuation[] = "[!-/:-@\\[-`{-~\\p{P}]";
static const char every_character[] = "(?s:.)";

/* ---------------------------------------------------------------- BERT */

void
g2_tok_bert_specials(g2_compiler *c)
{
	static const char *const names[] = {"[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"};

	for (size_t i = 0; i < G2_LENGTH(names); i++)
	{
		uint32_t	id = g2_tok_find_name(c, names[i], strlen(names[i]));

		if (id != G2_NO_TOKEN)
			c->entries[id].flags |= G2_PIECE_SPECIAL | G2_PIECE_HIDDEN;
	}
}

bool
g2_tok_bert_changes(g2_compiler *c, bool clean, const g2_wordpiece_options *options)
{
	return (!clean || g2_tok_add_step(c, G2_STEP_CLEAN, 0, "", 0)) &&
		(!options->part_cjk || g2_tok_add_step(c, G2_STEP_PART_CJK, 0, "", 0)) &&
		(!options->strip_accents || (g2_tok_add_step(c, G2_STEP_NFD, 0, "", 0) &&
									 g2_tok_add_step(c, G2_STEP_NO_ACCENTS, 0, "", 0))) &&
		(!options->lower || g2_tok_add_step(c, G2_STEP_LOWER, 0, "", 0));
}

bool
g2_tok_bert_cuts(g2_compiler *c)
{
	static const char space[] = "[" G2_PATTERN_SPACE "]+";

	return g2_tok_add_step(c, G2_STEP_PATTERN, G2_CUT_DROP_MATCHES, space, sizeof space - 1) &&
		g2_tok_add_step(c, G2_STEP_PATTERN, 0, bert_punctuation, sizeof bert_punctuation - 1);
}

static bool
read_lines(g2_compiler *c, const g2_tokenizer_file *file)
{
	const char *p = file->data,
			   *end = p + file->len;
	size_t		valid = g2_utf8_valid_prefix(p, file->len);

	if (valid != file->len)
		return g2_fail(c->err, G2_E_BAD_FILE, "\"%s\" is not valid UTF-8 at byte %zu", file->path,
					   valid);
	if (end - p >= 3 && memcmp(p, "\xEF\xBB\xBF", 3) == 0)
		p += 3;
	while (end > p && (end[-1] == '\n' || end[-1] == '\r'))
		end--;
	for (size_t line = 1; p < end; line++)
	{
		const char *lf = memchr(p, '\n', (size_t) (end - p)),
				   *stop = lf ? lf : end;
		size_t		len = (size_t) (stop - p);

		if (len > 0 && p[len - 1] == '\r')
			len--;
		if (!g2_tok_add(c, p, len, (int64_t) line - 1, line, c->err))
			return false;
		p = lf ? lf + 1 : end;
	}
	return g2_tok_index(c);
}

bool
g2_tok_read_words(g2_compiler *c, const g2_tokenizer_files *files)
{
	c->header.kind = G2_TOK_WORDPIECE;
	c->header.flags = G2_TOK_SPACED;
	c->header.max_chars = MAX_WORD_CHARS;
	c->header.prefix_len = 2;
	c->path = files->words.path;
	c->place = "line";
	if (!g2_buf_append(&c->strings, "##", 2))
		return g2_fail_memory(c->err, 2);
	if (!read_lines(c, &files->words))
		return false;
	c->header.unknown = g2_tok_find_name(c, "[UNK]", 5);
	if (c->header.unknown == G2_NO_TOKEN)
		return g2_fail(c->err, G2_E_BAD_JSON, "\"%s\" has no piece \"[UNK]\"", c->path);
	g2_tok_bert_specials(c);
	return g2_tok_bert_changes(c, true, &files->wordpiece) && g2_tok_bert_cuts(c);
}

/* ---------------------------------------------------------------- characters */

/* What stands for all bytes is byte-level, few as its pieces may be; so is what has longer ones. */
static bool
refuse_byte_level(g2_compiler *c, const char *merges_path)
{
	char		excerpt[G2_JSON_EXCERPT];

	for (uint32_t id = 0; id < c->n_ids; id++)
	{
		const g2_tok_entry *e = &c->entries[id];
		const char *name = g2_tok_name(c, id);

		if (g2_utf8_count(name, e->len) == 1 || (name[0] == '<' && name[e->len - 1] == '>'))
			continue;
		g2_fail(c->err, G2_E_NO_FILE, "the tokenizer has no \"%s\"", merges_path);
		return g2_fail_detail(c->err, "Without it \"%s\" must be a vocabulary of characters, but "
							  "piece \"%s\" at byte %zu is no single one.", c->path,
							  g2_json_excerpt(excerpt, name, e->len), e->offset);
	}
	if (!g2_tok_find_alphabet(c))
	{
		*c->err = (g2_error) {0};
		return true;
	}
	return g2_fail(c->err, G2_E_NO_FILE, "the tokenizer has no \"%s\"", merges_path);
}

bool
g2_tok_read_characters(g2_compiler *c, const g2_tokenizer_files *files)
{
	c->header.kind = G2_TOK_WORDS;
	c->header.flags = G2_TOK_CHARACTERS;
	c->path = files->vocab.path;
	if (!g2_json_each_int(files->vocab.path, files->vocab.data, files->vocab.len, g2_tok_add, c,
						  c->err) || !g2_tok_index(c) ||
		!refuse_byte_level(c, files->merges.path))
		return false;
	for (uint32_t id = 0; id < c->n_ids; id++)
		if (g2_utf8_count(g2_tok_name(c, id), c->entries[id].len) != 1)
			c->entries[id].flags |= G2_PIECE_SPECIAL | G2_PIECE_HIDDEN;
	c->header.unknown = g2_tok_find_name(c, "<unk>", 5);
	return g2_tok_add_step(c, G2_STEP_PATTERN, 0, every_character, sizeof every_character - 1);
}
