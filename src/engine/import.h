/*
 * import.h: a PyTorch checkpoint as a safetensors file.
 */
#ifndef G2_IMPORT_H
#define G2_IMPORT_H

#include "util.h"

typedef struct g2_import_result
{
	uint32_t	n_tensors;
	uint64_t	bytes;			/* of their data */
} g2_import_result;

/*
 * Makes folder/model.safetensors from folder/pytorch_model.bin, all at once or not at all.  Never
 * replaces a file.  Of tensors that are the same part of the same storage (a head that is tied to
 * the embedding) the first is kept.  Errors: as pickle.h and zip.h; 58P01 without the checkpoint;
 * 22023 when there is a model.safetensors; 0A000 for the parts of a divided checkpoint.
 */
extern bool g2_import(const char *folder, g2_import_result *result, g2_error *err);

/* For fuzzing: reads the checkpoint in memory as far as its tensors' places. */
extern bool g2_import_check(const void *data, size_t len, g2_error *err);

#endif							/* G2_IMPORT_H */
