/*
 * tokenizer_compile.c: a tokenizer's files to the block of tokenizer_format.h.
 *
 * Phases: a reader fills the compiler (entries by id, steps, merges; see tokenizer_compile.h for
 * who reads what); here it is decided what each piece's bytes are, and the block is written.
 * Everything is owned by the compiler and freed at the end, whatever happened.
 *
 * Special tokens of byte-level BPE are those that no text can produce: neither one byte nor the
 * result of a merge.  That is <|endoftext|>, <pad> and other added tokens, and also a piece whose
 * merges are missing.  A special token's bytes are read through the byte alphabet as well (the
 * missing merges), except that they are its name as it stands when the name has a character
 * outside the alphabet, or was declared as an added token, or has the form <...> and no merge
 * mentions it.  ASCII names are the same either way.  Of the other kinds, names are bytes.
 */
#include "tokenizer_compile.h"

#include <stdlib.h>

#include "json.h"
#include "pretokenizer.h"

/* ---------------------------------------------------------------- vocabulary */

static int
span_compare(const void *a, const void *b)
{
	const g2_tok_span *x = a,
			   *y = b;
	int			order = g2_tok_compare(x->p, x->len, y->p, y->len);

	if (order == 0)
		order = x->special - y->special;
	return order ? order : x->id < y->id ? -1 : x->id > y->id;
}

uint32_t
g2_tok_find_name(const g2_compiler *c, const char *name, size_t len)
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

bool
g2_tok_add(void *arg, const char *name, size_t len, int64_t id, size_t offset, g2_error *err)
{
	g2_compiler *c = arg;
	size_t		bytes = c->header.kind == G2_TOK_BPE ? g2_alphabet_decode(name, len, NULL) : len;
	char		x[G2_JSON_EXCERPT],
				y[G2_JSON_EXCERPT];
	g2_tok_entry *e;

	if (len == 0)
		return g2_fail(err, G2_E_BAD_JSON, "piece in \"%s\" at %s %zu is empty", c->path, c->place,
					   offset);
	if ((bytes == SIZE_MAX ? len : bytes) > G2_MAX_PIECE)
		return g2_fail(err, G2_E_BAD_JSON, "piece \"%s\" in \"%s\" at %s %zu is longer than "
					   "%d bytes", g2_json_excerpt(x, name, len), c->path, c->place, offset,
					   G2_MAX_PIECE);
	if (id < 0 || id >= c->n_vocab)
		return g2_fail(err, G2_E_BAD_JSON, "piece \"%s\" in \"%s\" at %s %zu has id %lld, but "
					   "vocab_size is %u in config.json", g2_json_excerpt(x, name, len), c->path,
					   c->place, offset, (long long) id, c->n_vocab);
	e = &c->entries[id];
	if (e->len != 0)
		return g2_fail(err, G2_E_BAD_JSON, "piece \"%s\" in \"%s\" at %s %zu has id %lld, which "
					   "piece \"%s\" has too", g2_json_excerpt(x, name, len), c->path, c->place,
					   offset, (long long) id,
					   g2_json_excerpt(y, g2_tok_name(c, (uint32_t) id), e->len));
	e->name = c->names.len;
	e->len = (uint32_t) len;
	e->offset = offset;
	c->n_ids = G2_MAX(c->n_ids, (uint32_t) id + 1);
	return g2_buf_append(&c->names, name, len) ? true : g2_fail_memory(err, c->names.len);
}

/* A piece that occurs twice makes equal neighbours in the index. */
static bool
refuse_repeated(const g2_compiler *c)
{
	uint32_t	repeated = G2_NO_TOKEN;
	char		excerpt[G2_JSON_EXCERPT];

	for (uint32_t i = 1; i < c->n_ids; i++)
	{
		const g2_tok_span *x = &c->by_name[i - 1],
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
	return g2_fail(c->err, G2_E_BAD_JSON, "piece \"%s\" occurs twice in \"%s\", again at %s %zu",
				   g2_json_excerpt(excerpt, g2_tok_name(c, repeated), c->entries[repeated].len),
				   c->path, c->place, c->entries[repeated].offset);
}

bool
g2_tok_index(g2_compiler *c)
{
	if (c->n_ids == 0)
		return g2_fail(c->err, G2_E_BAD_JSON, "\"%s\" has no pieces", c->path);
	for (uint32_t id = 0; id < c->n_ids; id++)
		if (c->entries[id].len == 0)
			return g2_fail(c->err, G2_E_BAD_JSON, "\"%s\" has no piece with id %u, but has id %u",
						   c->path, id, c->n_ids - 1);
	c->by_name = g2_alloc_array(c->n_ids, sizeof *c->by_name);
	if (!c->by_name)
		return g2_fail_memory(c->err, c->n_ids * sizeof *c->by_name);
	for (uint32_t id = 0; id < c->n_ids; id++)
		c->by_name[id] = (g2_tok_span) {.p = g2_tok_name(c, id),.len = c->entries[id].len,
		.id = id};
	qsort(c->by_name, c->n_ids, sizeof *c->by_name, span_compare);
	return refuse_repeated(c);
}

bool
g2_tok_add_step(g2_compiler *c, g2_tok_op op, uint32_t flags, const char *string, size_t len)
{
	g2_tok_step *step = &c->steps[c->header.n_steps];

	if (c->header.n_steps == G2_TOK_MAX_STEPS || c->strings.len + len > G2_TOK_MAX_STRINGS)
		return g2_fail(c->err, G2_E_UNSUPPORTED, "the tokenizer in \"%s\" is not supported: it "
					   "has more than %d steps, or patterns of more than %d bytes", c->path,
					   G2_TOK_MAX_STEPS, G2_TOK_MAX_STRINGS);
	*step = (g2_tok_step) {.op = op,.flags = flags,.start = (uint32_t) c->strings.len,
	.len = (uint32_t) len};
	if (!g2_buf_append(&c->strings, string, len))
		return g2_fail_memory(c->err, len);
	c->header.n_steps++;
	return true;
}

/* vocab.json and merges.txt. */
static bool
read_bpe(g2_compiler *c, const g2_tokenizer_files *f)
{
	static const char unknown[] = "<unk>";

	c->header.kind = G2_TOK_BPE;
	c->path = f->vocab.path;
	c->merges_path = f->merges.path;
	if (!f->vocab.data || !f->merges.data)
		return g2_fail(c->err, G2_E_NO_FILE, "the tokenizer has no \"%s\"",
					   f->vocab.data ? f->merges.path : f->vocab.path);
	if (!g2_json_each_int(f->vocab.path, f->vocab.data, f->vocab.len, g2_tok_add, c, c->err) ||
		!g2_tok_index(c))
		return false;
	c->header.unknown = g2_tok_find_name(c, unknown, sizeof unknown - 1);
	return g2_tok_find_alphabet(c) && g2_tok_read_merges(c, &f->merges) &&
		g2_tok_add_step(c, G2_STEP_PATTERN, 0, g2_pattern_gpt2, strlen(g2_pattern_gpt2));
}

/* ---------------------------------------------------------------- writing */

/* The rules at the top of the file. */
static bool
bpe_special(const g2_compiler *c, uint32_t id)
{
	const g2_tok_entry *e = &c->entries[id];
	size_t		bytes = g2_alphabet_decode(g2_tok_name(c, id), e->len, NULL);

	if (e->marks & G2_ENTRY_ADDED)
		return !(e->flags & (G2_PIECE_RAW | G2_PIECE_NORMAL));
	if (c->header.flags & G2_TOK_WHOLE)
		return bytes == SIZE_MAX;
	return !(e->marks & G2_ENTRY_MERGED) && bytes != 1;
}

static bool
is_literal(const g2_compiler *c, uint32_t id)
{
	const g2_tok_entry *e = &c->entries[id];
	const char *name = g2_tok_name(c, id);
	size_t		n;

	if (c->header.kind != G2_TOK_BPE || (e->marks & G2_ENTRY_ADDED))
		return true;
	n = g2_alphabet_decode(name, e->len, NULL);
	if (n == SIZE_MAX)
		return true;
	return n > 1 && !(e->marks & G2_ENTRY_MENTIONED) && name[0] == '<' &&
		name[e->len - 1] == '>' && e->len <= G2_MAX_PIECE;
}

static bool
make_pieces(g2_compiler *c)
{
	c->starts = g2_alloc_array((size_t) c->n_ids + 1, sizeof *c->starts);
	/* a piece is never longer than its name */
	if (!c->starts || !g2_buf_reserve(&c->pieces, c->names.len))
		return g2_fail_memory(c->err, c->names.len);
	if (c->names.len > UINT32_MAX)
		return g2_fail(c->err, G2_E_LIMIT, "the pieces of \"%s\" have more than %u bytes",
					   c->path, UINT32_MAX);
	for (uint32_t id = 0; id < c->n_ids; id++)
	{
		g2_tok_entry *e = &c->entries[id];

		if (is_literal(c, id))
			g2_buf_append(&c->pieces, g2_tok_name(c, id), e->len);
		else
			c->pieces.len += g2_alphabet_decode(g2_tok_name(c, id), e->len,
												c->pieces.data + c->pieces.len);
		c->starts[id + 1] = (uint32_t) c->pieces.len;
		if (c->header.kind == G2_TOK_BPE && bpe_special(c, id))
			e->flags |= G2_PIECE_SPECIAL;
	}
	return true;
}

/* Sorts by_name, which is no longer needed by name, by the bytes of the pieces. */
static void
index_pieces(g2_compiler *c)
{
	for (uint32_t id = 0; id < c->n_ids; id++)
		c->by_name[id] = (g2_tok_span) {.p = c->pieces.data + c->starts[id],
		.len = c->starts[id + 1] - c->starts[id],.id = id,
		.special = c->entries[id].flags & G2_PIECE_SPECIAL};
	qsort(c->by_name, c->n_ids, sizeof *c->by_name, span_compare);
}

static void
append_u32(g2_buf *b, uint32_t value)
{
	g2_buf_append(b, &value, sizeof value);
}

static void
write_bpe(const g2_compiler *c, g2_buf *blob)
{
	size_t		results;
	uint32_t	next = 0;

	g2_buf_append(blob, c->byte_ids, sizeof c->byte_ids);
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
}

/* The block, section by section; only the reservation can fail. */
static bool
write_block(g2_compiler *c, g2_buf *blob)
{
	g2_tok_header *h = &c->header;
	size_t		bytes;

	memcpy(h->magic, G2_TOK_MAGIC, sizeof h->magic);
	h->version = G2_TOK_VERSION;
	h->n_ids = c->n_ids;
	h->n_ranks = c->n_merges;
	h->n_piece_bytes = (uint32_t) c->pieces.len;
	h->n_string_bytes = (uint32_t) c->strings.len;
	bytes = g2_tok_find_places(h).end;
	if (!g2_buf_reserve(blob, bytes))
		return g2_fail_memory(c->err, bytes);
	g2_buf_append(blob, h, sizeof *h);
	g2_buf_append(blob, c->starts, ((size_t) c->n_ids + 1) * sizeof *c->starts);
	for (uint32_t i = 0; i < c->n_ids; i++)
		append_u32(blob, c->by_name[i].id);
	g2_buf_append(blob, c->steps, h->n_steps * sizeof *c->steps);
	if (h->kind == G2_TOK_BPE)
		write_bpe(c, blob);
	for (uint32_t id = 0; id < c->n_ids; id++)
		g2_buf_append(blob, &(char) {(char) c->entries[id].flags}, 1);
	g2_buf_append(blob, c->pieces.data, c->pieces.len);
	return g2_buf_append(blob, c->strings.data, c->strings.len);
}

static bool
read_files(g2_compiler *c, const g2_tokenizer_files *f)
{
	if (f->json.data)
		return g2_tok_read_json(c, &f->json);
	if (f->vocab.data && !f->merges.data)
		return g2_tok_read_characters(c, f);
	if (f->words.data && !f->merges.data)
		return g2_tok_read_words(c, f);
	return read_bpe(c, f);
}

bool
g2_tokenizer_compile(const g2_tokenizer_files *files, uint32_t n_vocab, g2_buf *blob,
					 g2_error *err)
{
	g2_compiler c = {.err = err,.n_vocab = n_vocab,.ignored = G2_NO_TOKEN,.place = "byte",
	.merges_place = "line",.header.unknown = G2_NO_TOKEN};
	bool		ok;

	if (n_vocab > G2_MAX_VOCAB)
		return g2_fail(err, G2_E_LIMIT, "vocabulary size %u is above %u", n_vocab, G2_MAX_VOCAB);
	c.entries = g2_alloc_array(n_vocab, sizeof *c.entries);
	if (!c.entries)
		return g2_fail_memory(err, n_vocab * sizeof *c.entries);
	ok = read_files(&c, files) && make_pieces(&c);
	if (ok)
	{
		index_pieces(&c);
		ok = write_block(&c, blob);
	}
	if (files->ignored)
		*files->ignored = c.ignored;
	g2_buf_free(&c.names);
	g2_buf_free(&c.strings);
	g2_buf_free(&c.joined);
	g2_buf_free(&c.pieces);
	g2_free(c.entries);
	g2_free(c.by_name);
	g2_free(c.merges);
	g2_free(c.starts);
	return ok;
}
