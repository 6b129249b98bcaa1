/*
 * learn.h: tokenizers learned from the spooled rows, and the files of theirs that go into a model's
 * folder, as the engine and transformers read them.
 *
 *     char   one token a character (tokenizer.json)
 *     byte   one token a byte (vocab.json, a merges.txt without merges)
 *     bpe    byte-level BPE (Sennrich, Haddow, Birch 2016; GPT-2's pattern and byte alphabet)
 */
#ifndef G2T_LEARN_H
#define G2T_LEARN_H

#include "place.h"
#include "tokenizer.h"

typedef enum g2t_tokenizer_kind
{
	G2T_CHAR, G2T_BYTE, G2T_BPE
} g2t_tokenizer_kind;

#define G2T_END_OF_TEXT "<|endoftext|>"
#define G2T_BYTES_VOCAB 257		/* all bytes and the end token */

/*
 * Learns a tokenizer of at most max_vocab tokens and writes its files into `folder`.  *n_vocab is
 * how many it has.  char with max_vocab 0: all characters there are; with another limit the rarest
 * become the unknown token.  53400 for a vocabulary over the engine's limit, 57014 soon after
 * *cancel.
 */
extern bool g2t_learn(const g2t_place *place, g2t_tokenizer_kind kind, uint32_t max_vocab,
					  const char *folder, const atomic_bool *cancel, uint32_t *n_vocab,
					  g2_error *err);

/* One merge: two tokens become the next id. */
typedef struct g2t_merge
{
	uint32_t	left;
	uint32_t	right;
} g2t_merge;

/* Learns merges until max_vocab ids are taken, ids 0 .. 255 being the bytes; stops early where no
 * pair occurs twice.  *merges is g2_free'd by the caller. */
extern bool g2t_learn_bpe(const g2t_place *place, uint32_t max_merges, const atomic_bool *cancel,
						  g2t_merge **merges, uint32_t *n, g2_error *err);

#endif							/* G2T_LEARN_H */
