/*
 * tokenizer_compile.c: vocab.json and merges.txt to the block of tokenizer_format.h.
 *
 * Phases: read the vocabulary (entries by id), index it by name, find the byte alphabet, read the
 * merges, decide what each piece's bytes are, write.  Everything is owned by the compiler struct
 * and freed at the end, whatever happened.
 *
 * Names.  GPT-2 writes each byte of a piece as one character (bytes_to_unicode in encoder.py: the
 * "byte alphabet"), so that a piece is a readable string; its bytes come from reading it backwards.
 *
 * Special tokens are those that no text can produce: neither one byte nor the result of a merge.
 * That is <|endoftext|>, <pad> and other added tokens, and also a piece whose merges are missing
 * from merges.txt.  A special token's bytes are read through the byte alphabet as well (the missing
 * merges), except that they are its name as it stands when the name has a character outside the
 * alphabet, or has the form <...> and no merge mentions it.  ASCII names are the same either way.
 *
 * Bytes without a piece are an error, unless the vocabulary has the piece "<unk>", which then
 * stands for each of them (as in Hugging Face's GPT2Tokenizer); decode(encode(s)) is not s then.
 */
#include "tokenizer_format.h"

#include <stdlib.h>

#include "json.h"

#define MENTIONED 1				/* a merge has it on any side */
#define MERGED 2				/* a merge makes it */

typedef struct entry
{
	size_t		name;			/* into names */
	size_t		offset;			/* in the file, for messages */
	uint32_t	len;			/* 0 = no piece has this id */
	uint32_t	flags;
} entry;

typedef struct span
{
	const char *p;
	uint32_t	len;
	uint32_t	id;
	bool		special;
} span;

typedef struct merge
{
	uint32_t	left;
	uint32_t	right;
	uint32_t	result;
	uint32_t	rank;
	size_t		line;			/* in the file, for messages */
} merge;

typedef struct compiler
{
	const g2_tokenizer_files *files;
	g2_error   *err;
	uint32_t	n_vocab;
	uint32_t	n_ids;			/* highest id + 1 */
	g2_buf		names;			/* back to back */
	entry	   *entries;		/* [n_vocab] by id */
	span	   *by_name;		/* [n_ids] sorted */
	uint32_t	byte_ids[256];
	uint32_t	unknown;
	merge	   *merges;			/* by rank until they are sorted to be written */
	uint32_t	n_merges;
	uint32_t	cap_merges;
	g2_buf		joined;			/* scratch: the name that a merge makes */
	g2_buf		pieces;			/* bytes of all pieces by id */
	uint32_t   *starts;			/* [n_ids + 1] into pieces */
} compiler;

/* ---------------------------------------------------------------- names */

/* The byte that this character of the byte alphabet stands for; -1 if it is none. */
static int
alphabet_byte(int32_t c)
{
	if ((c >= '!' && c <= '~') || (c >= 0xA1 && c <= 0xFF && c != 0xAD))
		return c;
	/* the other 68 bytes, in their order, are the characters from U+0100 on */
	c -= 0x100;
	if (c < 0 || c > 67)
		return -1;
	return c < 33 ? c : c < 67 ? c - 33 + 127 : 0xAD;
}

/* Number of bytes that a name (valid UTF-8) stands for, which go to out unless that is NULL;
 * SIZE_MAX when it has a character outside the byte alphabet. */
static size_t
alphabet_decode(const char *name, size_t len, char *out)
{
	size_t		n = 0;

	for (size_t i = 0; i < len; n++)
	{
		unsigned char c = (unsigned char) name[i];
		int			byte;

		if (c < 0x80)
			byte = alphabet_byte(c);
		else if (c < 0xE0)
			byte = alphabet_byte((c & 0x1F) * 64 + (name[i + 1] & 0x3F));
		else
			byte = -1;
		if (byte < 0)
			return SIZE_MAX;
		if (out)
			out[n] = (char) byte;
		i += c < 0x80 ? 1 : 2;
	}
	return n;
}

static const char *
name_of(const compiler *c, uint32_t id)
{
	return c->names.data + c->entries[id].name;
}

static int
span_compare(const void *a, const void *b)
{
	const span *x = a,
			   *y = b;
	int			order = g2_tok_compare(x->p, x->len, y->p, y->len);

	if (order == 0)
		order = x->special - y->special;
	return order ? order : x->id < y->id ? -1 : x->id > y->id;
}

static uint32_t
find_name(const compiler *c, const char *name, size_t len)
{
	uint32_t	lo = 0,
				hi = c->n_ids;

	while (lo < hi)
	{
		uint32_t	mid = lo + (hi - lo) / 2;
		int			order = g2_tok_compare(c->by_name[mid].p, c->by_name[mid].len, name, len);

		if (order == 0)
			return c->by_name[mid].id;
		if (order < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return G2_NO_TOKEN;
}

/* ---------------------------------------------------------------- vocabulary */

/* One member of vocab.json. */
static bool
add_entry(void *arg, const char *key, size_t len, int64_t id, size_t offset, g2_error *err)
{
	compiler   *c = arg;
	size_t		bytes = alphabet_decode(key, len, NULL);
	const char *path = c->files->vocab_path;
	char		x[G2_JSON_EXCERPT],
				y[G2_JSON_EXCERPT];
	entry	   *e;

	if (len == 0)
		return g2_fail(err, G2_E_BAD_JSON, "piece in \"%s\" at byte %zu is empty", path, offset);
	if ((bytes == SIZE_MAX ? len : bytes) > G2_MAX_PIECE)
		return g2_fail(err, G2_E_BAD_JSON, "piece \"%s\" in \"%s\" at byte %zu is longer than "
					   "%d bytes", g2_json_excerpt(x, key, len), path, offset, G2_MAX_PIECE);
	if (id < 0 || id >= c->n_vocab)
		return g2_fail(err, G2_E_BAD_JSON, "piece \"%s\" in \"%s\" at byte %zu has id %lld, but "
					   "vocab_size is %u in config.json", g2_json_excerpt(x, key, len), path, offset,
					   (long long) id, c->n_vocab);
	e = &c->entries[id];
	if (e->len != 0)
		return g2_fail(err, G2_E_BAD_JSON, "piece \"%s\" in \"%s\" at byte %zu has id %lld, which "
					   "piece \"%s\" has too", g2_json_excerpt(x, key, len), path, offset,
					   (long long) id,
					   g2_json_excerpt(y, name_of(c, (uint32_t) id), e->len));
	e->name = c->names.len;
	e->len = (uint32_t) len;
	e->offset = offset;
	c->n_ids = G2_MAX(c->n_ids, (uint32_t) id + 1);
	return g2_buf_append(&c->names, key, len) ? true : g2_fail_memory(err, c->names.len);
}

/* Refuses a piece that occurs twice: then the index has equal neighbours. */
static bool
index_names(compiler *c)
{
	uint32_t	repeated = G2_NO_TOKEN;
	char		excerpt[G2_JSON_EXCERPT];

	c->by_name = g2_alloc_array(c->n_ids, sizeof *c->by_name);
	if (!c->by_name)
		return g2_fail_memory(c->err, c->n_ids * sizeof *c->by_name);
	for (uint32_t id = 0; id < c->n_ids; id++)
		c->by_name[id] = (span) {.p = name_of(c, id),.len = c->entries[id].len,.id = id};
	qsort(c->by_name, c->n_ids, sizeof *c->by_name, span_compare);
	for (uint32_t i = 1; i < c->n_ids; i++)
	{
		const span *x = &c->by_name[i - 1],
				   *y = &c->by_name[i];
		uint32_t	later;

		if (x->len != y->len || memcmp(x->p, y->p, x->len) != 0)
			continue;
		later = c->entries[x->id].offset > c->entries[y->id].offset ? x->id : y->id;
		if (repeated == G2_NO_TOKEN || c->entries[later].offset < c->entries[repeated].offset)
			repeated = later;
	}
	if (repeated == G2_NO_TOKEN)
		return true;
	return g2_fail(c->err, G2_E_BAD_JSON, "piece \"%s\" occurs twice in \"%s\", again at byte %zu",
				   g2_json_excerpt(excerpt, name_of(c, repeated), c->entries[repeated].len),
				   c->files->vocab_path, c->entries[repeated].offset);
}

static bool
read_vocabulary(compiler *c)
{
	const g2_tokenizer_files *f = c->files;

	c->entries = g2_alloc_array(c->n_vocab, sizeof *c->entries);
	if (!c->entries)
		return g2_fail_memory(c->err, c->n_vocab * sizeof *c->entries);
	if (!g2_json_each_int(f->vocab_path, f->vocab, f->vocab_len, add_entry, c, c->err))
		return false;
	if (c->n_ids == 0)
		return g2_fail(c->err, G2_E_BAD_JSON, "\"%s\" has no pieces", f->vocab_path);
	for (uint32_t id = 0; id < c->n_ids; id++)
		if (c->entries[id].len == 0)
			return g2_fail(c->err, G2_E_BAD_JSON, "\"%s\" has no piece with id %u, but has id %u",
						   f->vocab_path, id, c->n_ids - 1);
	return index_names(c);
}

static bool
find_alphabet(compiler *c)
{
	static const char unknown_name[] = "<unk>";

	for (int b = 0; b < 256; b++)
		c->byte_ids[b] = G2_NO_TOKEN;
	for (uint32_t id = 0; id < c->n_ids; id++)
	{
		char		byte;

		/* no character of the alphabet is longer than two bytes */
		if (c->entries[id].len <= 2 &&
			alphabet_decode(name_of(c, id), c->entries[id].len, NULL) == 1)
		{
			alphabet_decode(name_of(c, id), c->entries[id].len, &byte);
			c->byte_ids[(unsigned char) byte] = id;
		}
	}
	c->unknown = find_name(c, unknown_name, sizeof unknown_name - 1);
	for (int b = 0; b < 256; b++)
		if (c->byte_ids[b] == G2_NO_TOKEN && c->unknown == G2_NO_TOKEN)
		{
			g2_fail(c->err, G2_E_BAD_JSON, "\"%s\" has no piece for byte 0x%02X",
					c->files->vocab_path, (unsigned) b);
			return g2_fail_hint(c->err, "A byte-level vocabulary has a piece for each of the 256 "
								"bytes, or the piece \"<unk>\".");
		}
	return true;
}

/* ---------------------------------------------------------------- merges */

/* Id of one side of a merge, or G2_NO_TOKEN with err filled. */
static uint32_t
merge_side(compiler *c, const char *name, size_t len, size_t line)
{
	uint32_t	id = find_name(c, name, len);
	char		excerpt[G2_JSON_EXCERPT];

	if (id == G2_NO_TOKEN)
		g2_fail(c->err, G2_E_BAD_FILE, "\"%s\", line %zu: the vocabulary has no piece \"%s\"",
				c->files->merges_path, line, g2_json_excerpt(excerpt, name, len));
	else if (alphabet_decode(name, len, NULL) == SIZE_MAX)
	{
		/* text becomes characters of the alphabet, so this would never be used */
		g2_fail(c->err, G2_E_BAD_FILE, "\"%s\", line %zu: piece \"%s\" is not made of characters "
				"of the byte alphabet", c->files->merges_path, line,
				g2_json_excerpt(excerpt, name, len));
		id = G2_NO_TOKEN;
	}
	return id;
}

/* One line, without its end. */
static bool
add_merge(compiler *c, const char *text, size_t len, size_t line)
{
	const char *space = memchr(text, ' ', len);
	size_t		left_len = space ? (size_t) (space - text) : 0,
				right_len = space ? len - left_len - 1 : 0;
	const char *path = c->files->merges_path;
	char		excerpt[G2_JSON_EXCERPT];
	merge		m = {.line = line,.rank = c->n_merges};

	if (left_len == 0 || right_len == 0 || memchr(space + 1, ' ', right_len))
		return g2_fail(c->err, G2_E_BAD_FILE, "\"%s\", line %zu: expected two pieces separated by "
					   "one space", path, line);
	if ((m.left = merge_side(c, text, left_len, line)) == G2_NO_TOKEN ||
		(m.right = merge_side(c, space + 1, right_len, line)) == G2_NO_TOKEN)
		return false;
	c->joined.len = 0;
	if (!g2_buf_append(&c->joined, text, left_len) ||
		!g2_buf_append(&c->joined, space + 1, right_len))
		return g2_fail_memory(c->err, len);
	m.result = find_name(c, c->joined.data, c->joined.len);
	if (m.result == G2_NO_TOKEN)
		return g2_fail(c->err, G2_E_BAD_FILE, "\"%s\", line %zu: the vocabulary has no piece "
					   "\"%s\", which this merge makes", path, line,
					   g2_json_excerpt(excerpt, c->joined.data, c->joined.len));
	if (c->n_merges == G2_BPE_MAX_RANKS)
		return g2_fail(c->err, G2_E_LIMIT, "\"%s\" has more than %u merges", path,
					   G2_BPE_MAX_RANKS);
	if (c->n_merges == c->cap_merges)
	{
		uint32_t	cap = c->cap_merges ? c->cap_merges * 2 : 1024;
		merge	   *merges = g2_realloc_array(c->merges, cap, sizeof *merges);

		if (!merges)
			return g2_fail_memory(c->err, cap * sizeof *merges);
		c->merges = merges;
		c->cap_merges = cap;
	}
	c->merges[c->n_merges++] = m;
	c->entries[m.left].flags |= MENTIONED;
	c->entries[m.right].flags |= MENTIONED;
	c->entries[m.result].flags |= MENTIONED | MERGED;
	return true;
}

static int
merge_compare(const void *a, const void *b)
{
	const merge *x = a,
			   *y = b;

	if (x->left != y->left)
		return x->left < y->left ? -1 : 1;
	if (x->right != y->right)
		return x->right < y->right ? -1 : 1;
	return x->rank < y->rank ? -1 : x->rank > y->rank;
}

/* Lines end in LF or CRLF; empty ones do not count; the first may be a "#version" comment. */
static bool
read_merges(compiler *c)
{
	const char *p = c->files->merges,
			   *end = p + c->files->merges_len;
	size_t		repeated = 0;

	if (end - p >= 3 && memcmp(p, "\xEF\xBB\xBF", 3) == 0)
		p += 3;
	for (size_t line = 1; p < end; line++)
	{
		const char *lf = memchr(p, '\n', (size_t) (end - p)),
				   *stop = lf ? lf : end;
		size_t		len = (size_t) (stop - p);

		if (len > 0 && p[len - 1] == '\r')
			len--;
		if (len > 0 && !(line == 1 && len >= 8 && memcmp(p, "#version", 8) == 0) &&
			!add_merge(c, p, len, line))
			return false;
		p = lf ? lf + 1 : end;
	}

	if (c->n_merges > 1)
		qsort(c->merges, c->n_merges, sizeof *c->merges, merge_compare);
	for (uint32_t i = 1; i < c->n_merges; i++)
		if (c->merges[i].left == c->merges[i - 1].left &&
			c->merges[i].right == c->merges[i - 1].right &&
			(repeated == 0 || c->merges[i].line < repeated))
			repeated = c->merges[i].line;
	if (repeated != 0)
		return g2_fail(c->err, G2_E_BAD_FILE, "\"%s\", line %zu: this merge occurs twice",
					   c->files->merges_path, repeated);
	return true;
}

/* ---------------------------------------------------------------- writing */

static bool
is_special(const compiler *c, uint32_t id)
{
	const entry *e = &c->entries[id];

	return !(e->flags & MERGED) && alphabet_decode(name_of(c, id), e->len, NULL) != 1;
}

/* The rule at the top of the file. */
static bool
is_literal(const compiler *c, uint32_t id)
{
	const entry *e = &c->entries[id];
	const char *name = name_of(c, id);
	size_t		n = alphabet_decode(name, e->len, NULL);

	if (n == SIZE_MAX)
		return true;
	return n > 1 && !(e->flags & MENTIONED) && name[0] == '<' && name[e->len - 1] == '>' &&
		e->len <= G2_MAX_PIECE;
}

static bool
make_pieces(compiler *c)
{
	c->starts = g2_alloc_array((size_t) c->n_ids + 1, sizeof *c->starts);
	/* a piece is never longer than its name */
	if (!c->starts || !g2_buf_reserve(&c->pieces, c->names.len))
		return g2_fail_memory(c->err, c->names.len);
	if (c->names.len > UINT32_MAX)
		return g2_fail(c->err, G2_E_LIMIT, "the pieces of \"%s\" have more than %u bytes",
					   c->files->vocab_path, UINT32_MAX);
	for (uint32_t id = 0; id < c->n_ids; id++)
	{
		if (is_literal(c, id))
			g2_buf_append(&c->pieces, name_of(c, id), c->entries[id].len);
		else
			c->pieces.len += alphabet_decode(name_of(c, id), c->entries[id].len,
											 c->pieces.data + c->pieces.len);
		c->starts[id + 1] = (uint32_t) c->pieces.len;
	}
	return true;
}

/* Sorts by_name, which is no longer needed by name, by the bytes of the pieces. */
static void
index_pieces(compiler *c)
{
	for (uint32_t id = 0; id < c->n_ids; id++)
		c->by_name[id] = (span) {.p = c->pieces.data + c->starts[id],
		.len = c->starts[id + 1] - c->starts[id],.id = id,.special = is_special(c, id)};
	qsort(c->by_name, c->n_ids, sizeof *c->by_name, span_compare);
}

static bool
append_u32(g2_buf *b, uint32_t value)
{
	return g2_buf_append(b, &value, sizeof value);
}

/* The block, section by section; only the reservation can fail. */
static bool
write_block(compiler *c, g2_buf *blob)
{
	g2_tok_header h = {.version = G2_TOK_VERSION,.n_ids = c->n_ids,.n_ranks = c->n_merges,
		.n_piece_bytes = (uint32_t) c->pieces.len,.unknown = c->unknown};
	size_t		bytes = g2_tok_find_places(&h).end,
				results;
	uint32_t	next = 0;

	if (!g2_buf_reserve(blob, bytes))
		return g2_fail_memory(c->err, bytes);
	memcpy(h.magic, G2_TOK_MAGIC, sizeof h.magic);
	g2_buf_append(blob, &h, sizeof h);
	g2_buf_append(blob, c->byte_ids, sizeof c->byte_ids);
	g2_buf_append(blob, c->starts, ((size_t) c->n_ids + 1) * sizeof *c->starts);
	for (uint32_t i = 0; i < c->n_ids; i++)
		append_u32(blob, c->by_name[i].id);
	for (uint32_t id = 0; id <= c->n_ids; id++)
	{
		while (next < c->n_merges && c->merges[next].left < id)
			next++;
		append_u32(blob, next);
	}
	for (uint32_t i = 0; i < c->n_merges; i++)
	{
		append_u32(blob, c->merges[i].right);
		append_u32(blob, c->merges[i].rank);
	}
	results = blob->len;
	blob->len += c->n_merges * sizeof(uint32_t);
	for (uint32_t i = 0; i < c->n_merges; i++)
		memcpy(blob->data + results + c->merges[i].rank * sizeof(uint32_t), &c->merges[i].result,
			   sizeof(uint32_t));
	for (uint32_t id = 0; id < c->n_ids; id++)
	{
		char		special = is_special(c, id);

		g2_buf_append(blob, &special, 1);
	}
	return g2_buf_append(blob, c->pieces.data, c->pieces.len);
}

bool
g2_tokenizer_compile(const g2_tokenizer_files *files, uint32_t n_vocab, g2_buf *blob,
					 g2_error *err)
{
	compiler	c = {.files = files,.err = err,.n_vocab = n_vocab};
	bool		ok;

	if (!files->vocab || !files->merges)
		return g2_fail(err, G2_E_NO_FILE, "the tokenizer has no \"%s\"",
					   files->vocab ? files->merges_path : files->vocab_path);
	if (n_vocab > G2_MAX_VOCAB)
		return g2_fail(err, G2_E_LIMIT, "vocabulary size %u is above %u", n_vocab, G2_MAX_VOCAB);
	ok = read_vocabulary(&c) && find_alphabet(&c) && read_merges(&c) && make_pieces(&c);
	if (ok)
	{
		index_pieces(&c);
		ok = write_block(&c, blob);
	}
	g2_buf_free(&c.names);
	g2_buf_free(&c.joined);
	g2_buf_free(&c.pieces);
	g2_free(c.entries);
	g2_free(c.by_name);
	g2_free(c.merges);
	g2_free(c.starts);
	return ok;
}
