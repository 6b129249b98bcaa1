/*
 * tokenizer_compile.h: what the readers of a tokenizer's files share.  Internal to the tokenizer.
 *
 * tokenizer_compile.c (the vocabulary, the block), tokenizer_merges.c (byte alphabet, merges),
 * tokenizer_words.c (vocab.txt, characters), tokenizer_json.c and tokenizer_steps.c
 * (tokenizer.json).
 */
#ifndef G2_TOKENIZER_COMPILE_H
#define G2_TOKENIZER_COMPILE_H

#include <cjson/cJSON.h>

#include "tokenizer_format.h"

/* g2_tok_entry.marks */
enum
{
	G2_ENTRY_MENTIONED = 1,		/* a merge has it on any side */
	G2_ENTRY_MERGED = 2,		/* a merge makes it */
	G2_ENTRY_ADDED = 4			/* declared beside the vocabulary: its name is its text */
};

typedef struct g2_tok_entry
{
	size_t		name;			/* into names */
	size_t		offset;			/* in the file, for messages */
	uint32_t	len;			/* 0 = no piece has this id */
	uint16_t	marks;
	uint16_t	flags;			/* G2_PIECE_... */
} g2_tok_entry;

typedef struct g2_tok_span
{
	const char *p;
	uint32_t	len;
	uint32_t	id;
	bool		special;
} g2_tok_span;

typedef struct g2_tok_merge
{
	uint32_t	left;
	uint32_t	right;
	uint32_t	result;
	uint32_t	rank;
	size_t		place;			/* in the file, for messages */
} g2_tok_merge;

typedef struct g2_compiler
{
	g2_error   *err;
	const char *path;			/* of the vocabulary, and what its offsets count: for messages */
	const char *place;			/* "byte", "line" */
	const char *merges_path;
	const char *merges_place;	/* "line", "merge" */
	uint32_t	n_vocab;
	uint32_t	ignored;		/* a special token >= n_vocab, or G2_NO_TOKEN */

	g2_tok_header header;		/* kind, flags, prefix_len, max_chars, unknown: the readers' */
	g2_tok_step steps[G2_TOK_MAX_STEPS];
	g2_buf		strings;

	uint32_t	n_ids;			/* highest id + 1 */
	g2_buf		names;			/* back to back */
	g2_tok_entry *entries;		/* [n_vocab] by id */
	g2_tok_span *by_name;		/* [n_ids] sorted */
	uint32_t	byte_ids[256];
	g2_tok_merge *merges;		/* by rank until they are sorted to be written */
	uint32_t	n_merges;
	uint32_t	cap_merges;
	g2_buf		joined;			/* scratch: the name that a merge makes */
	g2_buf		pieces;			/* bytes of all pieces by id */
	uint32_t   *starts;			/* [n_ids + 1] into pieces */
} g2_compiler;

/* ---- tokenizer_compile.c ---- */

static inline const char *
g2_tok_name(const g2_compiler *c, uint32_t id)
{
	return c->names.data + c->entries[id].name;
}

/* One piece; a g2_json_int_entry of c. */
extern bool g2_tok_add(void *c, const char *name, size_t len, int64_t id, size_t offset,
					   g2_error *err);

/* All pieces are there: refuses holes and repeated names, and makes by_name. */
extern bool g2_tok_index(g2_compiler *c);

/* The id of this name, once it is indexed, or G2_NO_TOKEN. */
extern uint32_t g2_tok_find_name(const g2_compiler *c, const char *name, size_t len);

/* Appends a step; 0A000 for more than G2_TOK_MAX_STEPS, or too long a string. */
extern bool g2_tok_add_step(g2_compiler *c, g2_tok_op op, uint32_t flags, const char *string,
							size_t len);

/* ---- tokenizer_merges.c ---- */

/* Number of bytes that a name (valid UTF-8) stands for, which go to out unless that is NULL;
 * SIZE_MAX when it has a character outside the byte alphabet. */
extern size_t g2_alphabet_decode(const char *name, size_t len, char *out);

/* The ids of all bytes; with an unknown token some may be without. */
extern bool g2_tok_find_alphabet(g2_compiler *c);

/* The next merge, of left and right. */
extern bool g2_tok_add_merge(g2_compiler *c, const char *left, size_t left_len, const char *right,
							 size_t right_len, size_t place);

/* "left right": one line, without its end. */
extern bool g2_tok_add_merge_line(g2_compiler *c, const char *text, size_t len, size_t place);

/* All lines of a merges.txt. */
extern bool g2_tok_read_merges(g2_compiler *c, const g2_tokenizer_file *file);

/* All merges are there: sorts them by their sides and refuses one that occurs twice. */
extern bool g2_tok_sort_merges(g2_compiler *c);

/* ---- tokenizer_words.c ---- */

/* Marks [UNK], [PAD], [CLS], [SEP], [MASK], those that there are, as special and without text. */
extern void g2_tok_bert_specials(g2_compiler *c);

/* BERT's basic tokenizer as steps: the changes, and the patterns. */
extern bool g2_tok_bert_changes(g2_compiler *c, bool clean, const g2_wordpiece_options *options);
extern bool g2_tok_bert_cuts(g2_compiler *c);

extern bool g2_tok_read_words(g2_compiler *c, const g2_tokenizer_files *files);
extern bool g2_tok_read_characters(g2_compiler *c, const g2_tokenizer_files *files);

/* ---- tokenizer_json.c, tokenizer_steps.c ---- */

extern bool g2_tok_read_json(g2_compiler *c, const g2_tokenizer_file *file);

/* Steps of the normalizer and the pre-tokenizer (NULL or null: none); *byte_level: the words end
 * as characters of the byte alphabet. */
extern bool g2_tok_read_normalizer(g2_compiler *c, const cJSON *normalizer);
extern bool g2_tok_read_pretokenizer(g2_compiler *c, const cJSON *pretokenizer, bool *byte_level);

/* 0A000: "the tokenizer in … is not supported: what \"name\"". */
extern bool g2_tok_unsupported(const g2_compiler *c, const char *what, const char *name);

#endif							/* G2_TOKENIZER_COMPILE_H */
