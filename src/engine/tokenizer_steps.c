/*
 * tokenizer_steps.c: the normalizer and the pre-tokenizer of a tokenizer.json, as steps.
 *
 * The components are those of Hugging Face's tokenizers; each is documented there with the
 * defaults used here.  Its regular expressions are Oniguruma's: where they mean something else
 * under PCRE2 they are rewritten, or refused.
 */
#include "json.h"
#include "pretokenizer.h"
#include "tokenizer_compile.h"

#define MAX_NESTED 4			/* sequences in sequences */

/* \w of Unicode, to stand in a bracket: Alphabetic, marks, decimal digits, connectors.  Rust has
 * the joiners too, and Oniguruma the superscripts and fractions of Latin-1. */
#define WORD "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}" \
	"\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{1F189}"
#define RUST_WORD WORD "\\x{200C}\\x{200D}"
#define ONIGURUMA_WORD WORD "\\xB2\\xB3\\xB9\\xBC-\\xBE"
/* All but White_Space, to stand in a bracket. */
#define NOT_SPACE "\\x00-\\x08\\x0E-\\x1F!-\\x84\\x86-\\x9F\\xA1-\\x{167F}\\x{1681}-\\x{1FFF}" \
	"\\x{200B}-\\x{2027}\\x{202A}-\\x{202E}\\x{2030}-\\x{205E}\\x{2060}-\\x{2FFF}" \
	"\\x{3001}-\\x{10FFFF}"
#define PUNCTUATION "[!-/:-@\\[-`{-~\\p{P}]"

bool
g2_tok_unsupported(const g2_compiler *c, const char *what, const char *name)
{
	char		excerpt[G2_JSON_EXCERPT];

	g2_fail(c->err, G2_E_UNSUPPORTED, "the tokenizer in \"%s\" is not supported: %s \"%s\"",
			c->path, what, g2_json_excerpt(excerpt, name, strlen(name)));
	return g2_fail_hint(c->err, "docs/models.md lists what a tokenizer.json may hold.");
}

/* The "type" of a component. */
static bool
type_of(const g2_compiler *c, const cJSON *component, const char **type)
{
	if (!g2_json_string(component, c->path, "type", type, c->err))
		return false;
	if (!*type)
		return g2_fail(c->err, G2_E_BAD_JSON, "\"type\" is missing in a part of \"%s\"", c->path);
	return true;
}

static bool
flag(const g2_compiler *c, const cJSON *component, const char *key, bool fallback, bool *value)
{
	return g2_json_bool(component, c->path, key, fallback, value, c->err);
}

static bool
add_pattern(g2_compiler *c, uint32_t flags, const char *pattern)
{
	return g2_tok_add_step(c, G2_STEP_PATTERN, flags, pattern, strlen(pattern));
}

/* ---------------------------------------------------------------- normalizers */

static bool
read_bert_normalizer(g2_compiler *c, const cJSON *component)
{
	g2_wordpiece_options o;
	bool		clean;

	return flag(c, component, "clean_text", true, &clean) &&
		flag(c, component, "handle_chinese_chars", true, &o.part_cjk) &&
		flag(c, component, "lowercase", true, &o.lower) &&
		flag(c, component, "strip_accents", o.lower, &o.strip_accents) &&
		g2_tok_bert_changes(c, clean, &o);
}

static bool
read_normalizer(g2_compiler *c, const cJSON *component, int depth)
{
	static const struct
	{
		const char *type;
		g2_tok_op	op;
	}			simple[] = {
		{"NFC", G2_STEP_NFC}, {"NFD", G2_STEP_NFD}, {"NFKC", G2_STEP_NFKC},
		{"NFKD", G2_STEP_NFKD}, {"Lowercase", G2_STEP_LOWER}, {"StripAccents", G2_STEP_NO_MARKS},
	};
	const cJSON *part;
	const char *type;

	if (!component || cJSON_IsNull(component))
		return true;
	if (!type_of(c, component, &type))
		return false;
	for (size_t i = 0; i < G2_LENGTH(simple); i++)
		if (strcmp(type, simple[i].type) == 0)
			return g2_tok_add_step(c, simple[i].op, 0, "", 0);
	if (strcmp(type, "BertNormalizer") == 0)
		return read_bert_normalizer(c, component);
	if (strcmp(type, "Sequence") != 0 || depth == MAX_NESTED)
		return g2_tok_unsupported(c, "normalizer", type);
	cJSON_ArrayForEach(part, cJSON_GetObjectItemCaseSensitive(component, "normalizers"))
		if (!read_normalizer(c, part, depth + 1))
			return false;
	return true;
}

bool
g2_tok_read_normalizer(g2_compiler *c, const cJSON *normalizer)
{
	return read_normalizer(c, normalizer, 0);
}

/* ---------------------------------------------------------------- patterns */

/* The class escape after a backslash, rewritten; NULL: it stays.  inside: of brackets. */
static const char *
rewrite_escape(char letter, bool inside)
{
	switch (letter)
	{
		case 's':
			return inside ? G2_PATTERN_SPACE : "[" G2_PATTERN_SPACE "]";
		case 'S':
			return inside ? NOT_SPACE : "[^" G2_PATTERN_SPACE "]";
		case 'w':
			return inside ? ONIGURUMA_WORD : "[" ONIGURUMA_WORD "]";
		case 'W':
			return inside ? NULL : "[^" ONIGURUMA_WORD "]";
		default:
			return NULL;
	}
}

/* A pattern of Oniguruma as one of PCRE2. */
static bool
rewrite_pattern(const g2_compiler *c, const char *p, g2_buf *out)
{
	bool		inside = false;

	for (; *p; p++)
	{
		if (*p == '\\' && p[1])
		{
			const char *other = rewrite_escape(*++p, inside);

			/* hexadecimal digits there, horizontal space here */
			if (*p == 'h' || *p == 'H' || (*p == 'W' && inside))
				return g2_tok_unsupported(c, "escape in a pattern", (char[]) {'\\', *p, 0});
			if (other ? !g2_buf_append(out, other, strlen(other))
				: !g2_buf_append(out, (char[]) {'\\', *p}, 2))
				return g2_fail_memory(c->err, out->len);
			continue;
		}
		if (inside && (*p == '[' || (*p == '&' && p[1] == '&')))
			return g2_tok_unsupported(c, "class in a class of a pattern", p);
		if (*p == '[')
		{
			inside = true;
			/* a bracket that comes first is one of the characters */
			if (p[1] == ']' || (p[1] == '^' && p[2] == ']'))
				return g2_tok_unsupported(c, "class in a pattern", p);
		}
		else if (*p == ']')
			inside = false;
		if (!g2_buf_append(out, p, 1))
			return g2_fail_memory(c->err, out->len);
	}
	return true;
}

/* A string as a pattern that matches just it. */
static bool
quote_pattern(const g2_compiler *c, const char *p, g2_buf *out)
{
	for (; *p; p++)
	{
		bool		letter = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
		(*p >= '0' && *p <= '9') || (unsigned char) *p >= 0x80;

		if ((!letter && !g2_buf_append(out, "\\", 1)) || !g2_buf_append(out, p, 1))
			return g2_fail_memory(c->err, out->len);
	}
	return true;
}

/* Adds a pattern with one of tokenizers' behaviors; it is compiled once to see that it can be. */
static bool
add_split(g2_compiler *c, g2_buf *pattern, const char *behavior, bool invert)
{
	g2_pretokenizer *trial = NULL;
	uint32_t	flags = 0;
	bool		contiguous = strcmp(behavior, "Contiguous") == 0,
				ok;
	g2_buf		whole = {0};

	if (strcmp(behavior, "Removed") == 0)
		flags = invert ? G2_CUT_DROP_GAPS : G2_CUT_DROP_MATCHES;
	else if (strcmp(behavior, "Isolated") != 0 && !contiguous)
		return g2_tok_unsupported(c, "behavior of a pattern", behavior);
	ok = g2_buf_append(&whole, "(?:", contiguous ? 3 : 0) &&
		g2_buf_append(&whole, pattern->data, pattern->len) &&
		g2_buf_append(&whole, ")+", contiguous ? 2 : 0);
	if (!ok)
		g2_fail_memory(c->err, whole.len);
	ok = ok && g2_pretokenizer_create(whole.data, whole.len, flags, &trial, c->err);
	if (!ok && c->err->code == G2_E_UNSUPPORTED)
		g2_fail_detail(c->err, "The pattern is in \"%s\".", c->path);
	ok = ok && g2_tok_add_step(c, G2_STEP_PATTERN, flags, whole.data, whole.len);
	g2_pretokenizer_free(trial);
	g2_buf_free(&whole);
	return ok;
}

/* {"pattern": {"Regex": "…"} or {"String": "…"}, "behavior": "…", "invert": false} */
static bool
read_split(g2_compiler *c, const cJSON *component)
{
	const cJSON *pattern = cJSON_GetObjectItemCaseSensitive(component, "pattern");
	const char *regex,
			   *string,
			   *behavior;
	bool		invert,
				ok;
	g2_buf		text = {0};

	if (!g2_json_string(pattern, c->path, "Regex", &regex, c->err) ||
		!g2_json_string(pattern, c->path, "String", &string, c->err) ||
		!g2_json_string(component, c->path, "behavior", &behavior, c->err) ||
		!flag(c, component, "invert", false, &invert))
		return false;
	if ((!regex && !string) || !behavior)
		return g2_fail(c->err, G2_E_BAD_JSON, "a Split in \"%s\" has no pattern or no behavior",
					   c->path);
	ok = regex ? rewrite_pattern(c, regex, &text) : quote_pattern(c, string, &text);
	ok = ok && add_split(c, &text, behavior, invert);
	g2_buf_free(&text);
	return ok;
}

/* ---------------------------------------------------------------- pre-tokenizers */

static bool
read_byte_level(g2_compiler *c, const cJSON *component, bool *byte_level)
{
	bool		space,
				regex;

	if (!flag(c, component, "add_prefix_space", true, &space) ||
		!flag(c, component, "use_regex", true, &regex))
		return false;
	*byte_level = true;
	if (space)
	{
		/* each word of a pattern before it would get one */
		if (c->header.n_steps > 0 && c->steps[c->header.n_steps - 1].op == G2_STEP_PATTERN)
			return g2_tok_unsupported(c, "add_prefix_space behind another", "pre_tokenizer");
		if (!g2_tok_add_step(c, G2_STEP_LEAD_SPACE, 0, "", 0))
			return false;
	}
	return !regex || add_pattern(c, 0, g2_pattern_gpt2);
}

static bool
read_digits(g2_compiler *c, const cJSON *component)
{
	bool		single;

	return flag(c, component, "individual_digits", false, &single) &&
		add_pattern(c, 0, single ? "\\p{N}" : "\\p{N}+");
}

static bool
read_punctuation(g2_compiler *c, const cJSON *component)
{
	const char *behavior;
	g2_buf		text = {0};
	bool		ok;

	if (!g2_json_string(component, c->path, "behavior", &behavior, c->err))
		return false;
	ok = g2_buf_append(&text, PUNCTUATION, strlen(PUNCTUATION)) ? true
		: g2_fail_memory(c->err, sizeof PUNCTUATION);
	ok = ok && add_split(c, &text, behavior ? behavior : "Isolated", false);
	g2_buf_free(&text);
	return ok;
}

static bool
read_pretokenizer(g2_compiler *c, const cJSON *component, int depth, bool *byte_level)
{
	const cJSON *part;
	const char *type;

	if (!component || cJSON_IsNull(component))
		return true;
	if (!type_of(c, component, &type))
		return false;
	/* it would see the byte alphabet in place of the text */
	if (*byte_level)
		return g2_tok_unsupported(c, "behind ByteLevel, the pre_tokenizer", type);
	if (strcmp(type, "ByteLevel") == 0)
		return read_byte_level(c, component, byte_level);
	if (strcmp(type, "BertPreTokenizer") == 0)
		return g2_tok_bert_cuts(c);
	if (strcmp(type, "Whitespace") == 0)
		return add_pattern(c, G2_CUT_DROP_GAPS,
						   "[" RUST_WORD "]+|[^" RUST_WORD G2_PATTERN_SPACE "]+");
	if (strcmp(type, "WhitespaceSplit") == 0)
		return add_pattern(c, G2_CUT_DROP_MATCHES, "[" G2_PATTERN_SPACE "]+");
	if (strcmp(type, "Digits") == 0)
		return read_digits(c, component);
	if (strcmp(type, "Punctuation") == 0)
		return read_punctuation(c, component);
	if (strcmp(type, "Split") == 0)
		return read_split(c, component);
	if (strcmp(type, "Sequence") != 0 || depth == MAX_NESTED)
		return g2_tok_unsupported(c, "pre_tokenizer", type);
	cJSON_ArrayForEach(part, cJSON_GetObjectItemCaseSensitive(component, "pretokenizers"))
		if (!read_pretokenizer(c, part, depth + 1, byte_level))
			return false;
	return true;
}

bool
g2_tok_read_pretokenizer(g2_compiler *c, const cJSON *pretokenizer, bool *byte_level)
{
	*byte_level = false;
	return read_pretokenizer(c, pretokenizer, 0, byte_level);
}
