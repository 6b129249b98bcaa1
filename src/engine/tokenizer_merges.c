/*
 * tokenizer_merges.c: the byte alphabet, and the merges of byte-level BPE.
 *
 * GPT-2 writes each byte of a piece as one character (bytes_to_unicode in encoder.py: the "byte
 * alphabet"), so that a piece is a readable string; its bytes come from reading it backwards.
 *
 * Bytes without a piece are an error, unless the vocabulary has an unknown piece, which then
 * stands for each of them (as in Hugging Face's GPT2Tokenizer); decoding does not give the text
 * back then.
 */
#include "tokenizer_compile.h"

#include <stdlib.h>

#include "json.h"

/* ---------------------------------------------------------------- the byte alphabet */

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

size_t
g2_alphabet_decode(const char *name, size_t len, char *out)
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

bool
g2_tok_find_alphabet(g2_compiler *c)
{
	for (int b = 0; b < 256; b++)
		c->byte_ids[b] = G2_NO_TOKEN;
	for (uint32_t id = 0; id < c->n_ids; id++)
	{
		const g2_tok_entry *e = &c->entries[id];
		char		byte;

		/* no character of the alphabet is longer than two bytes */
		if (e->len <= 2 && !(e->flags & G2_PIECE_SPECIAL) &&
			g2_alphabet_decode(g2_tok_name(c, id), e->len, NULL) == 1)
		{
			g2_alphabet_decode(g2_tok_name(c, id), e->len, &byte);
			c->byte_ids[(unsigned char) byte] = id;
		}
	}
	for (int b = 0; b < 256; b++)
		if (c->byte_ids[b] == G2_NO_TOKEN && c->header.unknown == G2_NO_TOKEN)
		{
			g2_fail(c->err, G2_E_BAD_JSON, "\"%s\" has no piece for byte 0x%02X", c->path,
					(unsigned) b);
			return g2_fail_hint(c->err, "A byte-level vocabulary has a piece for each of the 256 "
								"bytes, or the piece \"<unk>\".");
		}
	return true;
}

/* ---------------------------------------------------------------- merges */

/* Id of one side of a merge, or G2_NO_TOKEN with err filled. */
static uint32_t
merge_side(g2_compiler *c, const char *name, size_t len, size_t place)
{
	uint32_t	id = g2_tok_find_name(c, name, len);
	char		excerpt[G2_JSON_EXCERPT];

	if (id == G2_NO_TOKEN)
		g2_fail(c->err, G2_E_BAD_FILE, "\"%s\", %s %zu: the vocabulary has no piece \"%s\"",
				c->merges_path, c->merges_place, place, g2_json_excerpt(excerpt, name, len));
	else if (g2_alphabet_decode(name, len, NULL) == SIZE_MAX)
	{
		/* text becomes characters of the alphabet, so this would never be used */
		g2_fail(c->err, G2_E_BAD_FILE, "\"%s\", %s %zu: piece \"%s\" is not made of characters "
				"of the byte alphabet", c->merges_path, c->merges_place, place,
				g2_json_excerpt(excerpt, name, len));
		id = G2_NO_TOKEN;
	}
	return id;
}

static bool
push_merge(g2_compiler *c, g2_tok_merge m)
{
	if (c->n_merges == G2_BPE_MAX_RANKS)
		return g2_fail(c->err, G2_E_LIMIT, "\"%s\" has more than %u merges", c->merges_path,
					   G2_BPE_MAX_RANKS);
	if (c->n_merges == c->cap_merges)
	{
		uint32_t	cap = c->cap_merges ? c->cap_merges * 2 : 1024;
		g2_tok_merge *merges = g2_realloc_array(c->merges, cap, sizeof *merges);

		if (!merges)
			return g2_fail_memory(c->err, cap * sizeof *merges);
		c->merges = merges;
		c->cap_merges = cap;
	}
	c->merges[c->n_merges++] = m;
	c->entries[m.left].marks |= G2_ENTRY_MENTIONED;
	c->entries[m.right].marks |= G2_ENTRY_MENTIONED;
	c->entries[m.result].marks |= G2_ENTRY_MENTIONED | G2_ENTRY_MERGED;
	return true;
}

bool
g2_tok_add_merge(g2_compiler *c, const char *left, size_t left_len, const char *right,
				 size_t right_len, size_t place)
{
	char		excerpt[G2_JSON_EXCERPT];
	g2_tok_merge m = {.place = place,.rank = c->n_merges};

	if ((m.left = merge_side(c, left, left_len, place)) == G2_NO_TOKEN ||
		(m.right = merge_side(c, right, right_len, place)) == G2_NO_TOKEN)
		return false;
	c->joined.len = 0;
	if (!g2_buf_append(&c->joined, left, left_len) ||
		!g2_buf_append(&c->joined, right, right_len))
		return g2_fail_memory(c->err, left_len + right_len);
	m.result = g2_tok_find_name(c, c->joined.data, c->joined.len);
	if (m.result == G2_NO_TOKEN)
		return g2_fail(c->err, G2_E_BAD_FILE, "\"%s\", %s %zu: the vocabulary has no piece "
					   "\"%s\", which this merge makes", c->merges_path, c->merges_place, place,
					   g2_json_excerpt(excerpt, c->joined.data, c->joined.len));
	return push_merge(c, m);
}

bool
g2_tok_add_merge_line(g2_compiler *c, const char *text, size_t len, size_t place)
{
	const char *space = memchr(text, ' ', len);
	size_t		left_len = space ? (size_t) (space - text) : 0,
				right_len = space ? len - left_len - 1 : 0;

	if (left_len == 0 || right_len == 0 || memchr(space + 1, ' ', right_len))
		return g2_fail(c->err, G2_E_BAD_FILE, "\"%s\", %s %zu: expected two pieces separated by "
					   "one space", c->merges_path, c->merges_place, place);
	return g2_tok_add_merge(c, text, left_len, space + 1, right_len, place);
}

/* Lines end in LF or CRLF; empty ones do not count; the first may be a "#version" comment. */
bool
g2_tok_read_merges(g2_compiler *c, const g2_tokenizer_file *file)
{
	const char *p = file->data,
			   *end = p + file->len;

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
			!g2_tok_add_merge_line(c, p, len, line))
			return false;
		p = lf ? lf + 1 : end;
	}
	return g2_tok_sort_merges(c);
}

static int
merge_compare(const void *a, const void *b)
{
	const g2_tok_merge *x = a,
			   *y = b;

	if (x->left != y->left)
		return x->left < y->left ? -1 : 1;
	if (x->right != y->right)
		return x->right < y->right ? -1 : 1;
	return x->rank < y->rank ? -1 : x->rank > y->rank;
}

bool
g2_tok_sort_merges(g2_compiler *c)
{
	size_t		repeated = 0;

	if (c->n_merges > 1)
		qsort(c->merges, c->n_merges, sizeof *c->merges, merge_compare);
	for (uint32_t i = 1; i < c->n_merges; i++)
		if (c->merges[i].left == c->merges[i - 1].left &&
			c->merges[i].right == c->merges[i - 1].right &&
			(repeated == 0 || c->merges[i].place < repeated))
			repeated = c->merges[i].place;
	if (repeated != 0)
		return g2_fail(c->err, G2_E_BAD_FILE, "\"%s\", %s %zu: this merge occurs twice",
					   c->merges_path, c->merges_place, repeated);
	return true;
}
