/*
 * pickle.h: the list of tensors in a checkpoint's data.pkl, without running anything.
 *
 * A pickle is a program for a stack machine that can name any function and call it.  Here a few
 * of its instructions are understood, those that torch.save writes for a dictionary of tensors,
 * and a fixed list of names; a "call" of one of these makes a record.  All else is refused.
 */
#ifndef G2_PICKLE_H
#define G2_PICKLE_H

#include "util.h"

#define G2_PICKLE_MAX (8u << 20)	/* bytes */
#define G2_PICKLE_MAX_VALUES (1u << 18)
#define G2_PICKLE_MAX_TENSORS 16384
#define G2_PICKLE_MAX_RANK 8

/* Kinds of storage; a name for each is in safetensors' list. */
typedef enum g2_storage
{
	G2_STORAGE_F64, G2_STORAGE_F32, G2_STORAGE_F16, G2_STORAGE_BF16, G2_STORAGE_I64,
	G2_STORAGE_I32, G2_STORAGE_I16, G2_STORAGE_I8, G2_STORAGE_U8, G2_STORAGE_BOOL,
	G2_STORAGE_N
} g2_storage;

/* A part of the pickle's text; no NUL behind it. */
typedef struct g2_pickle_text
{
	const char *data;
	size_t		len;
} g2_pickle_text;

typedef struct g2_pickle_tensor
{
	g2_pickle_text name;
	g2_pickle_text key;			/* of its storage: the last part of an entry's name */
	g2_storage	storage;
	uint64_t	storage_count;	/* elements of the storage */
	uint64_t	offset;			/* elements into it */
	uint32_t	rank;
	uint64_t	shape[G2_PICKLE_MAX_RANK];
	uint64_t	count;			/* product of shape; offset + count <= storage_count */
} g2_pickle_tensor;

/*
 * The tensors of the dictionary that the pickle makes, in its order; g2_free the array.  The texts
 * point into data.  22P03 for what is malformed; 0A000 for an instruction or a name outside of
 * the lists (named, with its byte offset), a result that is no dictionary of tensors, and a tensor
 * that is not contiguous; 53400 over a limit above.
 */
extern bool g2_pickle_tensors(const char *path, const void *data, size_t len,
							  g2_pickle_tensor **out, uint32_t *n, g2_error *err);

/* "F32", as safetensors names it, and the bytes of an element. */
extern const char *g2_storage_name(g2_storage storage);
extern size_t g2_storage_size(g2_storage storage);

#endif							/* G2_PICKLE_H */
