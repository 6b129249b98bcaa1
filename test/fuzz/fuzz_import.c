/*
 * fuzz_import.c: any bytes as a PyTorch checkpoint, and as the pickle in one.
 */
#include <stdlib.h>

#include "import.h"
#include "pickle.h"

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g2_pickle_tensor *tensors;
	uint32_t	n;
	g2_error	err = {0};

	if (!g2_import_check(data, size, &err) && err.code != G2_E_BAD_FILE &&
		err.code != G2_E_UNSUPPORTED && err.code != G2_E_LIMIT)
		abort();
	if (g2_pickle_tensors("pickle", data, size, &tensors, &n, &err))
		for (uint32_t i = 0; i < n; i++)
			if (tensors[i].offset > tensors[i].storage_count ||
				tensors[i].count > tensors[i].storage_count - tensors[i].offset ||
				tensors[i].rank > G2_PICKLE_MAX_RANK || tensors[i].storage >= G2_STORAGE_N)
				abort();
	g2_free(tensors);
	return 0;
}
