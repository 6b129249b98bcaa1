/*
 * tokenizer.h: text to token ids and back.
 *
 * Phases: compile (once, when a model is packed: files -> one position-independent block of bytes,
 * stored inside the pack), open (checks every offset of such a block and makes an immutable view
 * of it), encode / decode (any number of threads at once on one view).
 *
 * Kinds: byte-level BPE (Radford et al. 2019, openai/gpt-2 encoder.py), WordPiece (Devlin et al.
 * 2018, google-research/bert tokenization.py), whole words, single characters.
 */
#ifndef G2_TOKENIZER_H
#define G2_TOKENIZER_H

#include <stdatomic.h>

#include "util.h"

#define G2_NO_TOKEN UINT32_MAX
#define G2_MAX_PIECE 65536			/* bytes of one token */
#define G2_MAX_VOCAB (1u << 18)
#define G2_MAX_NORMALIZED (32u << 20)	/* bytes of a text after normalization */

typedef struct g2_tokenizer g2_tokenizer;

/* One file; data is NULL when it is absent.  The path is for messages only. */
typedef struct g2_tokenizer_file
{
	const char *path;
	const char *data;
	size_t		len;
} g2_tokenizer_file;

/* What a vocab.txt leaves open (tokenizer_config.json has it). */
typedef struct g2_wordpiece_options
{
	bool		lower;
	bool		strip_accents;
	bool		part_cjk;		/* each CJK character is a word */
} g2_wordpiece_options;

/*
 * A tokenizer's files; the bytes are untrusted.  The first that is there decides:
 * tokenizer.json	everything in one file, as Hugging Face's tokenizers writes it
 * vocab.json		object of piece -> id; with merges.txt (optional "#version" line, then
 *					"left right") byte-level BPE, without it single characters
 * vocab.txt		WordPiece: one piece a line, the first has id 0
 */
typedef struct g2_tokenizer_files
{
	g2_tokenizer_file json;
	g2_tokenizer_file vocab;
	g2_tokenizer_file merges;
	g2_tokenizer_file words;
	g2_wordpiece_options wordpiece;
	uint32_t   *ignored;			/* may be NULL; gets the id of a special token that the model has no
								 * row for, or G2_NO_TOKEN */
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
 * Errors: 22032 (piece and byte offset or line in the message) for malformed JSON, ids negative,
 * fractional, duplicate, >= n_vocab (but for special tokens, which are left out) or with a hole
 * below the highest, a duplicate or empty piece,
 * a piece longer than G2_MAX_PIECE, a lone surrogate in an escape, a byte without a piece (unless
 * there is an unknown piece, which then stands for it); 22P03 for merges (line number in the
 * message): a malformed line, a merge of an unknown token or of one outside the byte alphabet,
 * whose result is unknown, or that occurs twice, and for a vocab.txt that is not UTF-8; 0A000
 * naming what a tokenizer.json asks for and is not supported (an added token that texts may have, of
 * more than 255 bytes, too: it is looked for at each byte of them); 58P01 when a file is absent; 53400
 * for n_vocab over G2_MAX_VOCAB or over a million merges.  CRLF, empty lines (in a vocab.txt only
 * at its end) and a BOM are accepted.
 */
extern bool g2_tokenizer_compile(const g2_tokenizer_files *files, uint32_t n_vocab, g2_buf *blob,
								 g2_error *err);

/* Checks the block completely (22P03) and makes a view; data must be at an address divisible by 4
 * and stay mapped while the view lives. */
extern bool g2_tokenizer_open(const void *data, size_t len, g2_tokenizer **out, g2_error *err);
extern void g2_tokenizer_close(g2_tokenizer *tok);

/* "gpt2-bpe", "wordpiece", "words" or "characters". */
extern const char *g2_tokenizer_name(const g2_tokenizer *tok);

/* Number of ids that have a piece (<= the model's vocabulary size). */
extern uint32_t g2_tokenizer_size(const g2_tokenizer *tok);

/*
 * Appends the ids of text[0..len) to out.  Any bytes are accepted.  For byte-level BPE without a
 * normalizer, what is not valid UTF-8 becomes single-byte pieces of its own, so that decoding
 * gives every text back (unless the vocabulary has an unknown piece in the place of bytes); the
 * other kinds read each such byte as U+FFFD.  Special tokens are never produced, but the unknown
 * one.  O(len log len) at worst.  Returns false, with out as it was, with 57014 soon after *cancel
 * becomes true (cancel may be NULL), 54000 when more than max_ids ids would come out (0 = no
 * limit) or the text has more than G2_MAX_NORMALIZED bytes once it is normalized, 53400 for one
 * word of more than 4 MiB or a pattern that takes too long, 22023 for a word or character that a
 * vocabulary without an unknown piece lacks.
 */
extern bool g2_tokenizer_encode(const g2_tokenizer *tok, const char *text, size_t len,
								size_t max_ids, const atomic_bool *cancel, g2_ids *out,
								g2_error *err);

/* Where a text that is decoded token by token stands; zero = at its start. */
typedef struct g2_decoder
{
	uint32_t	last;			/* the last character, where spaces depend on it; 0 = none */
} g2_decoder;

/* The state behind these tokens: what follows a prompt is decoded as if both were one text. */
extern g2_decoder g2_tokenizer_after(const g2_tokenizer *tok, const uint32_t *ids, size_t n);

/*
 * Appends the text of one more token.  Tokens one at a time give the same text as all at once.
 * Ids without a piece, and hidden ones, have none.  False: no memory.
 *
 * Where pieces are words, a space stands between two of them, but none before a continuation
 * ("##ing"), beside a CJK character or full-width punctuation, before . , ? ! and around '.
 */
extern bool g2_tokenizer_decode(const g2_tokenizer *tok, g2_decoder *decoder, uint32_t id,
								g2_buf *out);

/* The bytes of one id as the vocabulary has them; NULL when the id has no piece.  Special tokens
 * have their literal name, continuations their mark. */
extern const char *g2_tokenizer_piece(const g2_tokenizer *tok, uint32_t id, size_t *len);

/* All ids (g2_tokenizer_size) in the order of their pieces' bytes; they live with tok. */
extern const uint32_t *g2_tokenizer_order(const g2_tokenizer *tok);

/* The id whose piece is exactly this byte string (special tokens by name), or G2_NO_TOKEN. */
extern uint32_t g2_tokenizer_find(const g2_tokenizer *tok, const char *piece, size_t len);

/* The token that stands for what the vocabulary lacks, or G2_NO_TOKEN. */
extern uint32_t g2_tokenizer_unknown(const g2_tokenizer *tok);

/* True for tokens that no text can produce (<|endoftext|> and other added tokens, [UNK]): neither
 * a byte nor the result of a merge, or declared as special. */
extern bool g2_tokenizer_is_special(const g2_tokenizer *tok, uint32_t id);

/* True for tokens that are neither special nor without text. */
extern bool g2_tokenizer_is_text(const g2_tokenizer *tok, uint32_t id);

/* The ids that have no text ([UNK], [PAD], [CLS], [SEP], [MASK]), ascending: a model that makes
 * one says nothing, so that none but the end of text should be chosen.  They live with tok. */
extern const uint32_t *g2_tokenizer_hidden(const g2_tokenizer *tok, uint32_t *n);

#endif							/* G2_TOKENIZER_H */
