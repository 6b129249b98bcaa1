/*
 * tokenizer_format.h: the block of bytes that a compiled tokenizer is.  Internal to the tokenizer.
 *
 * In the byte order of the machine, position-independent, to be mapped at an address divisible by
 * 4.  The sections follow each other in this order without gaps; their places follow from the
 * counts in the header, so that there are no offsets to distrust but those into the piece bytes:
 *
 *	 header
 *	 byte_ids		u32 [256]			id of each byte, or G2_NO_TOKEN (needs header.unknown)
 *	 piece_starts	u32 [n_ids + 1]		into piece_bytes
 *	 order			u32 [n_ids]			the ids by (bytes of the piece, special, id)
 *	 left_starts	u32 [n_ids + 1]		into pairs: those whose left side is this id
 *	 pairs			{right, rank} [n_ranks]		sorted by (left, right)
 *	 results		u32 [n_ranks]		what the pair of this rank becomes
 *	 special		u8 [n_ids]			1 = no text can produce it
 *	 piece_bytes	u8 [n_piece_bytes]
 *
 * There are no hash tables: sorted ones are as good here, a check of them is one linear walk, and
 * no choice of pieces makes them slow.
 */
#ifndef G2_TOKENIZER_FORMAT_H
#define G2_TOKENIZER_FORMAT_H

#include "bpe.h"

#define G2_TOK_MAGIC "g2 bpe\r\n"
#define G2_TOK_VERSION 1

typedef struct g2_tok_header
{
	char		magic[8];
	uint32_t	version;
	uint32_t	n_ids;
	uint32_t	n_ranks;
	uint32_t	n_piece_bytes;
	uint32_t	unknown;		/* id that stands for bytes without one, or G2_NO_TOKEN */
	uint32_t	reserved;		/* 0 */
} g2_tok_header;

/* Byte places of the sections; the counts must be within their limits, so that nothing wraps. */
typedef struct g2_tok_places
{
	size_t		byte_ids;
	size_t		piece_starts;
	size_t		order;
	size_t		left_starts;
	size_t		pairs;
	size_t		results;
	size_t		special;
	size_t		piece_bytes;
	size_t		end;
} g2_tok_places;

static inline g2_tok_places
g2_tok_find_places(const g2_tok_header *h)
{
	g2_tok_places p;

	p.byte_ids = sizeof *h;
	p.piece_starts = p.byte_ids + 256 * sizeof(uint32_t);
	p.order = p.piece_starts + ((size_t) h->n_ids + 1) * sizeof(uint32_t);
	p.left_starts = p.order + (size_t) h->n_ids * sizeof(uint32_t);
	p.pairs = p.left_starts + ((size_t) h->n_ids + 1) * sizeof(uint32_t);
	p.results = p.pairs + (size_t) h->n_ranks * sizeof(g2_bpe_pair);
	p.special = p.results + (size_t) h->n_ranks * sizeof(uint32_t);
	p.piece_bytes = p.special + h->n_ids;
	p.end = p.piece_bytes + h->n_piece_bytes;
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
