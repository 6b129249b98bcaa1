/*
 * pack_convert.h: source files -> tensors of a pack, private to pack_*.c.
 */
#ifndef G2_PACK_CONVERT_H
#define G2_PACK_CONVERT_H

#include "pack.h"
#include "weights_source.h"

/* Everything belongs to pack_write.c but the buffers. */
typedef struct g2_converter
{
	int			fd;				/* the pack being written */
	const char *path;
	const g2_layout *layout;
	const uint32_t *by_name;	/* g2_source_sort */
	const g2_source *source;
	uint64_t	weights_offset;
	g2_hash    *hash;			/* of the source's bytes, in the order in which they are read */
	uint64_t	sum;			/* g2_pack_sum so far */
	uint64_t	unsynced;		/* bytes written since write-back was started */
	g2_progress *progress;		/* may be NULL */
	const atomic_bool *cancel;	/* may be NULL */
	float	   *in;				/* a group of a tensor's rows as f32 */
	float	   *out;			/* a panel, or a part of one, [k][48] */
	char	   *packed;			/* the same in the pack's format */
	float	   *importance;		/* of the tensor's rows (quantize.h) */
	int8_t	  **shift;			/* of the layout's tensors, NULL where none (pack_equalize.h) */
	uint16_t   *half;			/* as the file has them, when of 16 bits */
	size_t		in_size;		/* elements */
} g2_converter;

extern bool g2_convert_start(g2_converter *c, g2_error *err);
extern void g2_convert_end(g2_converter *c);

/* Reads a safetensors file once from front to back: hashes all of it and writes the tensors of the
 * layout to their places. */
extern bool g2_convert_weights(g2_converter *c, const g2_safetensors *st, g2_error *err);

/* Hashes any other file of the folder, which must have the size. */
extern bool g2_convert_other(g2_converter *c, const char *folder, const char *name, uint64_t size,
							 g2_error *err);

#endif							/* G2_PACK_CONVERT_H */
