/*
 * tokenizer.h: text to token ids and back.
 *
 * Phases: compile (once, when a model is packed: files -> one position-independent block of bytes,
 * stored inside the pack), open (checks every offset of such a block and makes an immutable view
 * of it), encode / decode (any number of threads at once on one view).
 *
 * Kind so far: GPT-2 byte-level BPE (Radford et al. 2019, openai/gpt-2 encoder.py).
 */
#ifndef G2_TOKENIZER_H
#define G2_TOKENIZER_H

#include <stdatomic.h>

#include "util.h"

#define G2_NO_TOKEN UINT32_MAX
#define G2_MAX_PIECE 65536			/* bytes of one token */
#define G2_MAX_VOCAB (1u << 18)

typedef struct g2_tokenizer g2_tokenizer;

/* Contents of a tokenizer's files; a NULL pointer means that the file is absent.  Paths are for
 * messages only.  The bytes are untrusted. */
typedef struct g2_tokenizer_files
{
	const char *vocab_path;			/* vocab.json: object of piece -> id */
	const char *vocab;
	size_t		vocab_len;
	const char *merges_path;		/* merges.txt: optional "#version" line, then "left right" */
	const char *merges;
	size_t		merges_len;
} g2_tokenizer_files;

/* A growing array of ids; zero-initialise, free data with g2_free. */
typedef struct g2_ids
{
	uint32_t   *data;
	size_t		len;
	size_t		cap;
} g2_ids;

extern bool g2_ids_push(g2_ids *ids, uint32_t id);	/* false: out of memory */

/*
 * Compiles the files into blob (appended).  n_vocab is the model's vocabulary size (rows of wte).
 * Errors: 22032 (piece and byte offset in the message) for malformed JSON, ids negative,
 * fractional, duplicate, >= n_vocab or with a hole below the highest, a duplicate or empty piece,
 * a piece longer than G2_MAX_PIECE, a lone surrogate in an escape, a byte without a piece (unless
 * there is a piece "<unk>", which then stands for it); 22P03 for merges (line number in the
 * message): a malformed line, a merge of an unknown token or of one outside the byte alphabet,
 * whose result is unknown, or that occurs twice; 58P01 when a file is absent; 53400 for n_vocab
 * over G2_MAX_VOCAB or over a million merges.  CRLF, empty lines and a BOM are accepted.
 */
extern bool g2_tokenizer_compile(const g2_tokenizer_files *files, uint32_t n_vocab, g2_buf *blob,
								 g2_error *err);

/* Checks the block completely (22P03) and makes a view; data must be at an address divisible by 4
 * and stay mapped while the view lives. */
extern bool g2_tokenizer_open(const void *data, size_t len, g2_tokenizer **out, g2_error *err);
extern void g2_tokenizer_close(g2_tokenizer *tok);

/* Number of ids that have a piece (<= the model's vocabulary size). */
extern uint32_t g2_tokenizer_size(const g2_tokenizer *tok);

/*
 * Appends the ids of text[0..len) to out.  Any bytes are accepted: what is not valid UTF-8 becomes
 * single-byte pieces of its own, so that decode(encode(s)) == s for every s (unless the vocabulary
 * has "<unk>" in the place of bytes).  Special tokens are never produced, but that "<unk>".
 * O(len log len) at worst.  Returns false, with out as it was, with 57014 soon after *cancel
 * becomes true (cancel may be NULL), 54000 when more than max_ids ids would come out (0 = no
 * limit), 53400 for one word of more than 4 MiB.
 */
extern bool g2_tokenizer_encode(const g2_tokenizer *tok, const char *text, size_t len,
								size_t max_ids, const atomic_bool *cancel, g2_ids *out,
								g2_error *err);

/* The bytes of one id; NULL when the id has no piece.  Special tokens have their literal name. */
extern const char *g2_tokenizer_piece(const g2_tokenizer *tok, uint32_t id, size_t *len);

/* The id whose piece is exactly this byte string (special tokens by name), or G2_NO_TOKEN. */
extern uint32_t g2_tokenizer_find(const g2_tokenizer *tok, const char *piece, size_t len);

/* True for tokens that no text can produce (<|endoftext|> and other added tokens): neither a byte
 * nor the result of a merge. */
extern bool g2_tokenizer_is_special(const g2_tokenizer *tok, uint32_t id);

#endif							/* G2_TOKENIZER_H */
