/*
 * safetensors.h: reader of untrusted safetensors files
 * (github.com/huggingface/safetensors, "Format": 8-byte little-endian header length, JSON, data).
 *
 * open reads and checks the header only; tensor data are read on demand, converted to f32.
 */
#ifndef G2_SAFETENSORS_H
#define G2_SAFETENSORS_H

#include "util.h"

#define G2_ST_MAX_HEADER (100u << 20)
#define G2_ST_MAX_RANK 8

typedef enum g2_dtype
{
	G2_DTYPE_F32, G2_DTYPE_F16, G2_DTYPE_BF16,
	G2_DTYPE_OTHER				/* known to the format, of no use to us (I64, BOOL, ...) */
} g2_dtype;

typedef struct g2_tensor
{
	const char *name;
	g2_dtype	dtype;
	uint32_t	rank;
	uint64_t	shape[G2_ST_MAX_RANK];
	uint64_t	begin;			/* byte offsets in the file */
	uint64_t	end;
} g2_tensor;

typedef struct g2_safetensors g2_safetensors;

/* 22P03 with file, field and byte offset for whatever is wrong with the header (the list of bad
 * inputs is in test_safetensors.c); the limit of memory is 64 MB beyond the start. */
extern bool g2_safetensors_open(const char *folder, const char *name, g2_safetensors **out,
								g2_error *err);
extern void g2_safetensors_close(g2_safetensors *st);

/* The tensor of that name or NULL. */
extern const g2_tensor *g2_safetensors_find(const g2_safetensors *st, const char *name);

/* n elements from element `first` on, as f32; a NaN or infinity among them is 22P03 naming the
 * tensor and the element. */
extern bool g2_safetensors_read(const g2_safetensors *st, const g2_tensor *tensor, uint64_t first,
								uint64_t n, float *out, g2_error *err);

#endif							/* G2_SAFETENSORS_H */
