/*
 * tokenizer_format.h: the block of bytes that a compiled tokenizer is.  Internal to the tokenizer.
 *
 * In the byte order of the machine, position-independent, to be mapped at an address divisible by
 * 4.  The sections follow each other in this order without gaps; their places follow from the
 * counts in the header, so that there are no offsets to distrust but those into the piece bytes
 * and the strings:
 *
 *	 header
 *	 piece_starts	u32 [n_ids + 1]		into piece_bytes
 *	 order			u32 [n_ids]			the ids by (bytes of the piece, special, id)
 *	 steps			g2_tok_step [n_steps]	what happens to a text before it is words
 *	 byte_ids		u32 [256]			BPE only, as the next three: id of each byte, or
 *										G2_NO_TOKEN (needs header.unknown)
 *	 left_starts	u32 [n_ids + 1]		into pairs: those whose left side is this id
 *	 pairs			{right, rank} [n_ranks]		sorted by (left, right)
 *	 results		u32 [n_ranks]		what the pair of this rank becomes
 *	 flags			u8 [n_ids]			G2_PIECE_...
 *	 piece_bytes	u8 [n_piece_bytes]
 *	 strings		u8 [n_string_bytes]	the continuing prefix, then the steps' patterns
 *
 * There are no hash tables: sorted ones are as good here, a check of them is one linear walk, and
 * no choice of pieces makes them slow.
 */
#ifndef G2_TOKENIZER_FORMAT_H
#define G2_TOKENIZER_FORMAT_H

#include "bpe.h"

#define G2_TOK_MAGIC "g2 token"
#define G2_TOK_VERSION 2
#define G2_TOK_MAX_STEPS 24
#define G2_TOK_MAX_STRINGS 32768	/* bytes of all strings */
#define G2_TOK_MAX_PREFIX 16
#define G2_TOK_MAX_ADDED 255	/* bytes of a piece that is looked for at every byte of a text */

/* How the words of a text become ids. */
typedef enum g2_tok_kind_id
{
	G2_TOK_BPE = 1,				/* byte-level pairs */
	G2_TOK_WORDPIECE,			/* the longest piece that fits, again and again */
	G2_TOK_WORDS,				/* whole words */
	G2_TOK_N_KINDS
} g2_tok_kind_id;

/* header.flags */
enum
{
	G2_TOK_WHOLE = 1,			/* BPE: a word that is a piece is taken without merging */
	G2_TOK_SPACED = 2,			/* decoding puts spaces between words */
	G2_TOK_CHARACTERS = 4		/* the words are single characters: a name for people */
};

/* flags of a piece */
enum
{
	G2_PIECE_SPECIAL = 1,		/* no text can produce it */
	G2_PIECE_HIDDEN = 2,		/* has no text: never printed */
	G2_PIECE_RAW = 4,			/* is looked for in the text as it comes */
	G2_PIECE_NORMAL = 8			/* is looked for in the normalized text */
};

/* Steps: first those that change the text, then the patterns that cut it. */
typedef enum g2_tok_op
{
	G2_STEP_LEAD_SPACE = 1,		/* a space before a text that does not start with white space */
	G2_STEP_CLEAN,				/* BERT: no control characters, all white space is a space */
	G2_STEP_PART_CJK,			/* BERT: spaces around CJK characters */
	G2_STEP_NFC,
	G2_STEP_NFD,
	G2_STEP_NFKC,
	G2_STEP_NFKD,
	G2_STEP_NO_ACCENTS,			/* without nonspacing marks */
	G2_STEP_NO_MARKS,			/* without any marks */
	G2_STEP_LOWER,
	G2_STEP_PATTERN,			/* string: a pattern of PCRE2; the first of the steps that cut */
	G2_STEP_N_OPS
} g2_tok_op;

/* flags of G2_STEP_PATTERN */
enum
{
	G2_CUT_DROP_MATCHES = 1,
	G2_CUT_DROP_GAPS = 2
};

typedef struct g2_tok_step
{
	uint32_t	op;
	uint32_t	flags;
	uint32_t	start;			/* of its string, into strings */
	uint32_t	len;
} g2_tok_step;

typedef struct g2_tok_header
{
	char		magic[8];
	uint32_t	version;
	uint32_t	kind;
	uint32_t	flags;
	uint32_t	n_ids;
	uint32_t	n_ranks;
	uint32_t	n_piece_bytes;
	uint32_t	n_steps;
	uint32_t	n_string_bytes;
	uint32_t	prefix_len;		/* WordPiece: "##" */
	uint32_t	max_chars;		/* WordPiece: a longer word is unknown */
	uint32_t	unknown;		/* id that stands for what has none, or G2_NO_TOKEN */
	uint32_t	reserved;		/* 0 */
} g2_tok_header;

/* Byte places of the sections; the counts must be within their limits, so that nothing wraps. */
typedef struct g2_tok_places
{
	size_t		piece_starts;
	size_t		order;
	size_t		steps;
	size_t		byte_ids;
	size_t		left_starts;
	size_t		pairs;
	size_t		results;
	size_t		flags;
	size_t		piece_bytes;
	size_t		strings;
	size_t		end;
} g2_tok_places;

static inline g2_tok_places
g2_tok_find_places(const g2_tok_header *h)
{
	g2_tok_places p;
	size_t		u = sizeof(uint32_t),
				bpe = h->kind == G2_TOK_BPE;

	p.piece_starts = sizeof *h;
	p.order = p.piece_starts + ((size_t) h->n_ids + 1) * u;
	p.steps = p.order + (size_t) h->n_ids * u;
	p.byte_ids = p.steps + h->n_steps * sizeof(g2_tok_step);
	p.left_starts = p.byte_ids + bpe * 256 * u;
	p.pairs = p.left_starts + bpe * ((size_t) h->n_ids + 1) * u;
	p.results = p.pairs + bpe * (size_t) h->n_ranks * sizeof(g2_bpe_pair);
	p.flags = p.results + bpe * (size_t) h->n_ranks * u;
	p.piece_bytes = p.flags + h->n_ids;
	p.strings = p.piece_bytes + h->n_piece_bytes;
	p.end = p.strings + h->n_string_bytes;
	return p;
}

/* Order of byte strings: like memcmp, a prefix first. */
static inline int
g2_tok_compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int			order = memcmp(a, b, G2_MIN(a_len, b_len));

	return order ? order : a_len < b_len ? -1 : a_len > b_len;
}

#endif							/* G2_TOKENIZER_FORMAT_H */
