/*
 * tokenizer_json.c: a tokenizer.json, everything in one file (Hugging Face's tokenizers).
 *
 * Vocabulary and merges, which may have a million values, are walked in the text; what is small
 * becomes a tree.  The kinds of model: BPE over bytes, WordPiece, WordLevel.  What a part asks for
 * and is not supported is an error that names it; the post-processor, truncation and padding are
 * about more than one text or about special tokens, which prompts do not get, and are passed over.
 */
#include "json_slice.h"
#include "tokenizer_compile.h"
#include "unicode.h"

/* Members of the file, and of its model. */
typedef struct parts
{
	g2_json_slice model;
	g2_json_slice vocab;
	g2_json_slice merges;
	cJSON	   *rest;			/* of the file: added_tokens, normalizer, … */
	cJSON	   *options;		/* of the model */
} parts;

static bool
is_key(const char *key, size_t len, const char *name)
{
	return len == strlen(name) && memcmp(key, name, len) == 0;
}

static bool
repeated(const g2_json_slice *value, const char *key, size_t len, g2_error *err)
{
	char		excerpt[G2_JSON_EXCERPT];

	return g2_fail(err, G2_E_BAD_JSON, "malformed JSON in \"%s\" at byte %zu: key \"%s\" occurs "
				   "twice", value->path, value->begin, g2_json_excerpt(excerpt, key, len));
}

static bool
keep_slice(g2_json_slice *to, const char *key, size_t len, const g2_json_slice *value,
		   g2_error *err)
{
	if (to->text)
		return repeated(value, key, len, err);
	*to = *value;
	return true;
}

static bool
keep_tree(cJSON *to, const char *key, size_t len, const g2_json_slice *value, g2_error *err)
{
	char		name[32];
	cJSON	   *tree;

	if (len >= sizeof name)
		return true;			/* none of those that are looked at */
	memcpy(name, key, len);
	name[len] = '\0';
	if (cJSON_GetObjectItemCaseSensitive(to, name))
		return repeated(value, key, len, err);
	tree = g2_json_slice_tree(value, err);
	if (!tree)
		return false;
	if (!cJSON_AddItemToObject(to, name, tree))
	{
		cJSON_Delete(tree);
		return g2_fail_memory(err, len);
	}
	return true;
}

static bool
file_member(void *arg, const char *key, size_t len, const g2_json_slice *value, g2_error *err)
{
	static const char *const known[] = {"added_tokens", "normalizer", "pre_tokenizer", "decoder"};
	parts	   *p = arg;

	if (is_key(key, len, "model"))
		return keep_slice(&p->model, key, len, value, err);
	for (size_t i = 0; i < G2_LENGTH(known); i++)
		if (is_key(key, len, known[i]))
			return keep_tree(p->rest, key, len, value, err);
	return true;
}

static bool
model_member(void *arg, const char *key, size_t len, const g2_json_slice *value, g2_error *err)
{
	parts	   *p = arg;

	if (is_key(key, len, "vocab"))
		return keep_slice(&p->vocab, key, len, value, err);
	if (is_key(key, len, "merges"))
		return keep_slice(&p->merges, key, len, value, err);
	return keep_tree(p->options, key, len, value, err);
}

/* ---------------------------------------------------------------- the model */

/* Files of early versions do not name the type. */
static bool
read_type(g2_compiler *c, const parts *p)
{
	const char *type;

	if (!g2_json_string(p->options, c->path, "type", &type, c->err))
		return false;
	if (!type)
		type = p->merges.text ? "BPE" :
			cJSON_HasObjectItem(p->options, "max_input_chars_per_word") ? "WordPiece" :
			"WordLevel";
	if (strcmp(type, "BPE") == 0)
		c->header.kind = G2_TOK_BPE;
	else if (strcmp(type, "WordPiece") == 0)
		c->header.kind = G2_TOK_WORDPIECE;
	else if (strcmp(type, "WordLevel") == 0)
		c->header.kind = G2_TOK_WORDS;
	else
		return g2_tok_unsupported(c, "model", type);
	if (!p->vocab.text)
		return g2_fail(c->err, G2_E_BAD_JSON, "\"vocab\" is missing in \"%s\"", c->path);
	return true;
}

/* An element of merges: "left right", or ["left", "right"]. */
typedef struct merge_reader
{
	g2_compiler *c;
	g2_buf		side[2];
	size_t		n_sides;
} merge_reader;

static bool
merge_side(void *arg, size_t index, const g2_json_slice *value, g2_error *err)
{
	merge_reader *r = arg;

	r->n_sides = index + 1;
	return index > 1 || g2_json_slice_string(value, &r->side[index], err);
}

static bool
merge_element(void *arg, size_t index, const g2_json_slice *value, g2_error *err)
{
	merge_reader *r = arg;

	if (value->text[value->begin] != '[')
		return g2_json_slice_string(value, &r->side[0], err) &&
			g2_tok_add_merge_line(r->c, r->side[0].data, r->side[0].len, index + 1);
	if (!g2_json_each_element(value, merge_side, r, err))
		return false;
	if (r->n_sides != 2)
		return g2_fail(err, G2_E_BAD_FILE, "\"%s\", merge %zu: expected two pieces", value->path,
					   index + 1);
	return g2_tok_add_merge(r->c, r->side[0].data, r->side[0].len, r->side[1].data,
							r->side[1].len, index + 1);
}

/* Options that change what merges mean, and are off in byte-level tokenizers. */
static bool
check_bpe_options(const g2_compiler *c, const cJSON *o)
{
	static const char *const strings[] = {"continuing_subword_prefix", "end_of_word_suffix"},
			   *const bools[] = {"byte_fallback", "fuse_unk"};
	const char *text;
	bool		on;
	double		dropout;

	for (size_t i = 0; i < G2_LENGTH(strings); i++)
	{
		if (!g2_json_string(o, c->path, strings[i], &text, c->err))
			return false;
		if (text && *text)
			return g2_tok_unsupported(c, "BPE with", strings[i]);
	}
	for (size_t i = 0; i < G2_LENGTH(bools); i++)
	{
		if (!g2_json_bool(o, c->path, bools[i], false, &on, c->err))
			return false;
		if (on && (i == 0 || c->header.unknown != G2_NO_TOKEN))
			return g2_tok_unsupported(c, "BPE with", bools[i]);
	}
	if (!g2_json_double(o, c->path, "dropout", 0, 1, true, 0, &dropout, c->err))
		return false;
	return dropout == 0 || g2_tok_unsupported(c, "BPE with", "dropout");
}

static bool
read_bpe(g2_compiler *c, const parts *p, bool byte_level)
{
	merge_reader r = {.c = c};
	bool		whole,
				ok;

	if (!byte_level)
		return g2_tok_unsupported(c, "BPE without the pre_tokenizer", "ByteLevel");
	if (!check_bpe_options(c, p->options) ||
		!g2_json_bool(p->options, c->path, "ignore_merges", false, &whole, c->err))
		return false;
	c->header.flags |= whole ? G2_TOK_WHOLE : 0;
	c->merges_path = c->path;
	c->merges_place = "merge";
	ok = g2_tok_find_alphabet(c) &&
		(!p->merges.text || g2_json_each_element(&p->merges, merge_element, &r, c->err)) &&
		g2_tok_sort_merges(c);
	g2_buf_free(&r.side[0]);
	g2_buf_free(&r.side[1]);
	return ok;
}

static bool
read_wordpiece(g2_compiler *c, const cJSON *o)
{
	int64_t		max_chars;

	if (!g2_json_int(o, c->path, "max_input_chars_per_word", 1, 10000, true, 100, &max_chars,
					 c->err))
		return false;
	c->header.max_chars = (uint32_t) max_chars;
	g2_tok_bert_specials(c);
	return true;
}

/* The unknown token of the model, by its name in the options. */
static bool
read_unknown(g2_compiler *c, const cJSON *o)
{
	const char *name;
	char		excerpt[G2_JSON_EXCERPT];

	if (!g2_json_string(o, c->path, "unk_token", &name, c->err))
		return false;
	if (!name && c->header.kind == G2_TOK_WORDPIECE)
		name = "[UNK]";
	if (!name)
		return true;
	c->header.unknown = g2_tok_find_name(c, name, strlen(name));
	if (c->header.unknown == G2_NO_TOKEN)
		return c->header.kind == G2_TOK_WORDS ? true :
			g2_fail(c->err, G2_E_BAD_JSON, "\"%s\" has no piece \"%s\", its unk_token", c->path,
					g2_json_excerpt(excerpt, name, strlen(name)));
	if (c->header.kind != G2_TOK_BPE)
		c->entries[c->header.unknown].flags |= G2_PIECE_SPECIAL | G2_PIECE_HIDDEN;
	return true;
}

/* ---------------------------------------------------------------- added tokens */

static bool
check_added_options(const g2_compiler *c, const cJSON *token, const char *content)
{
	static const char *const keys[] = {"single_word", "lstrip", "rstrip"};
	bool		on;

	for (size_t i = 0; i < G2_LENGTH(keys); i++)
	{
		if (!g2_json_bool(token, c->path, keys[i], false, &on, c->err))
			return false;
		if (on)
		{
			g2_tok_unsupported(c, "an added token with", keys[i]);
			return g2_fail_detail(c->err, "The added token is \"%.200s\".", content);
		}
	}
	return strlen(content) <= G2_TOK_MAX_ADDED ||
		g2_tok_unsupported(c, "an added token of more than 255 bytes,", content);
}

/*
 * Special ones are never looked for in a text; the others are, and are pieces of it.  A special one
 * that the model has no row for (a [PAD] that was added for training) is passed over.
 */
static bool
read_added(g2_compiler *c, const cJSON *token)
{
	const char *content;
	int64_t		id;
	bool		special,
				normalized;
	g2_tok_entry *e;

	if (!g2_json_string(token, c->path, "content", &content, c->err) ||
		!g2_json_int(token, c->path, "id", 0, INT32_MAX, false, 0, &id, c->err) ||
		!g2_json_bool(token, c->path, "special", false, &special, c->err) ||
		!g2_json_bool(token, c->path, "normalized", !special, &normalized, c->err))
		return false;
	if (!content)
		return g2_fail(c->err, G2_E_BAD_JSON, "an added token in \"%s\" has no content", c->path);
	if (special && id >= c->n_vocab)
	{
		c->ignored = (uint32_t) id; /* no text has it, and the model cannot make it */
		return true;
	}
	if (!special && !check_added_options(c, token, content))
		return false;
	e = id < c->n_vocab ? &c->entries[id] : NULL;
	if (!(e && e->len == strlen(content) &&
		  memcmp(g2_tok_name(c, (uint32_t) id), content, e->len) == 0) &&
		!g2_tok_add(c, content, strlen(content), id, 0, c->err))
		return false;
	e = &c->entries[id];
	e->marks |= G2_ENTRY_ADDED;
	if (!special)
		e->flags |= normalized ? G2_PIECE_NORMAL : G2_PIECE_RAW;
	else
		e->flags |= G2_PIECE_SPECIAL | (c->header.kind == G2_TOK_BPE ? 0 : G2_PIECE_HIDDEN);
	return true;
}

/* A token that is looked for in the normalized text must be what normalizing leaves of it. */
static bool
check_normalized(g2_compiler *c, uint32_t n_changes)
{
	g2_buf		changed = {0};
	bool		ok = true;

	for (uint32_t id = 0; ok && id < c->n_ids; id++)
	{
		g2_tok_entry *e = &c->entries[id];

		if (!(e->flags & G2_PIECE_NORMAL))
			continue;
		changed.len = 0;
		ok = g2_normalize(c->steps, n_changes, g2_tok_name(c, id), e->len, NULL, &changed,
						  c->err);
		if (ok && (changed.len != e->len ||
				   memcmp(changed.data, g2_tok_name(c, id), e->len) != 0))
		{
			g2_buf_append(&changed, g2_tok_name(c, id), e->len);
			g2_buf_append(&changed, "", 1);
			ok = g2_tok_unsupported(c, "an added token that normalizing changes,",
									changed.failed ? "" : changed.data + changed.len - 1 - e->len);
		}
	}
	g2_buf_free(&changed);
	return ok;
}

/* ---------------------------------------------------------------- all of it */

static bool
read_decoder(g2_compiler *c, const cJSON *decoder)
{
	bool		words = c->header.kind != G2_TOK_BPE;
	const char *type = NULL,
			   *wanted = c->header.kind == G2_TOK_WORDPIECE ? "WordPiece" :
	words ? "Fuse" : "ByteLevel";

	if (decoder && !cJSON_IsNull(decoder) &&
		!g2_json_string(decoder, c->path, "type", &type, c->err))
		return false;
	if (type && strcmp(type, wanted) != 0)
		return g2_tok_unsupported(c, "decoder", type);
	if (words && !(type && c->header.kind == G2_TOK_WORDS))
		c->header.flags |= G2_TOK_SPACED;
	return true;
}

/* The string that marks a continuation is the first of the strings. */
static bool
read_prefix(g2_compiler *c, const cJSON *o)
{
	const char *prefix;

	if (c->header.kind != G2_TOK_WORDPIECE)
		return true;
	if (!g2_json_string(o, c->path, "continuing_subword_prefix", &prefix, c->err))
		return false;
	if (!prefix)
		prefix = "##";
	if (!*prefix || strlen(prefix) > G2_TOK_MAX_PREFIX)
		return g2_tok_unsupported(c, "continuing_subword_prefix", prefix);
	c->header.prefix_len = (uint32_t) strlen(prefix);
	return g2_buf_append(&c->strings, prefix, strlen(prefix)) ? true :
		g2_fail_memory(c->err, strlen(prefix));
}

static bool
read_steps(g2_compiler *c, const parts *p, bool *byte_level)
{
	uint32_t	n_changes;

	if (!read_prefix(c, p->options) ||
		!g2_tok_read_normalizer(c, cJSON_GetObjectItemCaseSensitive(p->rest, "normalizer")))
		return false;
	n_changes = c->header.n_steps;
	if (!check_normalized(c, n_changes) ||
		!g2_tok_read_pretokenizer(c, cJSON_GetObjectItemCaseSensitive(p->rest, "pre_tokenizer"),
								  byte_level))
		return false;
	if (*byte_level && c->header.kind != G2_TOK_BPE)
		return g2_tok_unsupported(c, "for another model than BPE, the pre_tokenizer", "ByteLevel");
	for (uint32_t id = 0; id < c->n_ids; id++)
	{
		if (!(c->entries[id].flags & G2_PIECE_NORMAL))
			continue;
		/* the space would have to come behind each of them */
		if (n_changes > 0 && c->steps[n_changes].op == G2_STEP_LEAD_SPACE)
			return g2_tok_unsupported(c, "behind a normalizer and added tokens,",
									  "add_prefix_space");
		/* without a normalizer both ways to look for them are the same; this one is shorter */
		if (n_changes == 0)
			c->entries[id].flags ^= G2_PIECE_NORMAL | G2_PIECE_RAW;
	}
	return true;
}

static bool
read_parts(g2_compiler *c, parts *p)
{
	const cJSON *added,
			   *token;
	bool		byte_level;

	if (!p->model.text)
		return g2_fail(c->err, G2_E_BAD_JSON, "\"model\" is missing in \"%s\"", c->path);
	if (!g2_json_each_member(&p->model, model_member, p, c->err) || !read_type(c, p) ||
		!g2_json_slice_ints(&p->vocab, g2_tok_add, c, c->err))
		return false;
	added = cJSON_GetObjectItemCaseSensitive(p->rest, "added_tokens");
	cJSON_ArrayForEach(token, added)
		if (!read_added(c, token))
			return false;
	if (!g2_tok_index(c) || !read_unknown(c, p->options) || !read_steps(c, p, &byte_level) ||
		!read_decoder(c, cJSON_GetObjectItemCaseSensitive(p->rest, "decoder")))
		return false;
	switch (c->header.kind)
	{
		case G2_TOK_BPE:
			return read_bpe(c, p, byte_level);
		case G2_TOK_WORDPIECE:
			return read_wordpiece(c, p->options);
		default:
			return true;
	}
}

bool
g2_tok_read_json(g2_compiler *c, const g2_tokenizer_file *file)
{
	parts		p = {.rest = cJSON_CreateObject(),.options = cJSON_CreateObject()};
	g2_json_slice whole;
	bool		ok;

	c->path = file->path;
	if (!p.rest || !p.options)
		ok = g2_fail_memory(c->err, sizeof(cJSON));
	else
		ok = g2_json_whole(file->path, file->data, file->len, &whole, c->err) &&
			g2_json_each_member(&whole, file_member, &p, c->err) && read_parts(c, &p);
	cJSON_Delete(p.rest);
	cJSON_Delete(p.options);
	return ok;
}
