/*
 * bpe.h: byte-pair merges inside one piece of text.
 *
 * The tables are immutable views into a tokenizer's block (tokenizer_format.h); a g2_bpe_work is
 * the scratch memory of one encode call and belongs to one thread.
 */
#ifndef G2_BPE_H
#define G2_BPE_H

#include "tokenizer.h"

/* Bytes of one piece, each of which takes some 50 bytes of scratch memory.  Over it: 53400. */
#define G2_BPE_MAX_PIECE (1u << 22)
#define G2_BPE_MAX_RANKS (1u << 20)

typedef struct g2_bpe_pair
{
	uint32_t	right;
	uint32_t	rank;
} g2_bpe_pair;

typedef struct g2_bpe
{
	const uint32_t *byte_ids;	/* [256] id of each byte; G2_NO_TOKEN: the vocabulary lacks it */
	const uint32_t *left_starts;	/* [ids + 1] the pairs that begin with an id, sorted by right */
	const g2_bpe_pair *pairs;
	const uint32_t *results;	/* [ranks] what the pair of this rank becomes */
	uint32_t	unknown;		/* written for bytes that the vocabulary lacks */
} g2_bpe;

typedef struct g2_bpe_keys
{
	uint64_t   *data;
	size_t		len;
	size_t		cap;
} g2_bpe_keys;

/* What every kind of tokenizer needs while it encodes.  The caller sets the first three; the rest,
 * of long pieces (bpe_long.c), starts as zero. */
typedef struct g2_bpe_work
{
	const atomic_bool *cancel;	/* may be NULL */
	size_t		first_id;		/* length of out before the call */
	size_t		max_ids;		/* ids that the call may add; SIZE_MAX = any number */
	unsigned	ticks;

	uint32_t   *links;			/* [4][cap_links] */
	size_t		cap_links;
	g2_bpe_keys fresh;
	g2_bpe_keys sorting;
	g2_bpe_keys batch;
	g2_bpe_keys groups;
	g2_bpe_keys queue;
	g2_ids		places;
} g2_bpe_work;

/* Appends the ids of one piece.  False: 57014, 53200, 53400, or 54000 over max_ids. */
extern bool g2_bpe_encode(const g2_bpe *bpe, g2_bpe_work *work, const char *piece, size_t len,
						  g2_ids *out, g2_error *err);
extern void g2_bpe_work_free(g2_bpe_work *work);

/* ---- shared by bpe.c, bpe_long.c and the kinds of tokenizers ---- */

#define G2_BPE_NO_RANK UINT32_MAX

/* Rank of a pair, or G2_BPE_NO_RANK.  Either side may be G2_NO_TOKEN, which no pair has. */
extern uint32_t g2_bpe_rank(const g2_bpe *bpe, uint32_t left, uint32_t right);

/* To be asked at each step of anything long; looks at the flag now and then, or, before what may be
 * long by itself, at once. */
extern bool g2_bpe_canceled(g2_bpe_work *work, g2_error *err);
extern bool g2_bpe_canceled_now(const g2_bpe_work *work, g2_error *err);

/* One more id (the unknown one for G2_NO_TOKEN), as far as max_ids allows. */
extern bool g2_bpe_emit(const g2_bpe *bpe, g2_bpe_work *work, uint32_t id, g2_ids *out,
						g2_error *err);
extern bool g2_bpe_too_many(const g2_bpe_work *work, g2_error *err);
extern bool g2_bpe_long_piece(const g2_bpe *bpe, g2_bpe_work *work, const char *piece, uint32_t n,
							  g2_ids *out, g2_error *err);

#endif							/* G2_BPE_H */
