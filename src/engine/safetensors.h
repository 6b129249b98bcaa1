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
#define G2_ST_MAX_TENSORS 65536
#define G2_ST_MAX_NAME 256		/* bytes of a tensor's name */

typedef enum g2_dtype
{
	G2_DTYPE_F32, G2_DTYPE_F16, G2_DTYPE_BF16,
	G2_DTYPE_OTHER				/* known to the format, of no use to us (I64, BOOL, ...) */
} g2_dtype;

typedef struct g2_tensor
{
	const char *name;
	g2_dtype	dtype;
	const char *dtype_name;		/* as the file has it; static storage */
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

/*
 * The same on the first len bytes of a file of file_size bytes, which must hold the whole header:
 * for fuzzing.  The result has no file behind it, so that nothing can be read from it.
 */
extern bool g2_safetensors_parse(const char *path, const void *data, size_t len,
								 uint64_t file_size, g2_safetensors **out, g2_error *err);

/* The tensor of that name or NULL. */
extern const g2_tensor *g2_safetensors_find(const g2_safetensors *st, const char *name);

/* The tensors in the order of their data, which they fill without holes from data_begin on. */
extern uint32_t g2_safetensors_count(const g2_safetensors *st);
extern const g2_tensor *g2_safetensors_at(const g2_safetensors *st, uint32_t i);
extern uint64_t g2_safetensors_data_begin(const g2_safetensors *st);

/* Bytes of the file, at an offset in it. */
extern bool g2_safetensors_pread(const g2_safetensors *st, void *to, size_t n, uint64_t offset,
								 g2_error *err);

/* For messages. */
extern const char *g2_safetensors_path(const g2_safetensors *st);

/* Bytes of one element; 0 for G2_DTYPE_OTHER. */
extern size_t g2_dtype_size(g2_dtype dtype);

/* Converts n elements that the caller has read himself, from element `first` on; raw may be out
 * for F32.  A NaN or an infinity: as g2_safetensors_read. */
extern bool g2_safetensors_convert(const g2_safetensors *st, const g2_tensor *tensor,
								   uint64_t first, const void *raw, size_t n, float *out,
								   g2_error *err);

/* n elements from element `first` on, as f32; a NaN or infinity among them is 22P03 naming the
 * tensor and the element. */
extern bool g2_safetensors_read(const g2_safetensors *st, const g2_tensor *tensor, uint64_t first,
								uint64_t n, float *out, g2_error *err);

#endif							/* G2_SAFETENSORS_H */
