/*
 * fuzz_safetensors.c: any bytes as a safetensors file, and as the header of one.  What is accepted
 * must keep the promises of safetensors.h: tensors that fill the data without gaps, each found by
 * its name, with a size that shape and dtype explain.
 */
#include <stdlib.h>

#include "safetensors.h"

static void
check(const char *data, size_t len, uint64_t file_size)
{
	g2_safetensors *st;
	uint64_t	at;
	g2_error	err = {0};

	if (!g2_safetensors_parse("fuzz", data, len, file_size, &st, &err))
	{
		if (err.code == G2_OK || g2_utf8_valid_prefix(err.message, strlen(err.message)) !=
			strlen(err.message))
			abort();
		return;
	}
	at = g2_safetensors_data_begin(st);
	for (uint32_t i = 0; i < g2_safetensors_count(st); i++)
	{
		const g2_tensor *t = g2_safetensors_at(st, i);
		uint64_t	n = g2_dtype_size(t->dtype);

		if (t->begin != at || t->end < at || t->rank > G2_ST_MAX_RANK ||
			g2_safetensors_find(st, t->name) != t)
			abort();
		for (uint32_t r = 0; r < t->rank; r++)
			n *= t->shape[r];
		if (t->dtype != G2_DTYPE_OTHER && n != t->end - t->begin)
			abort();
		at = t->end;
	}
	if (at != file_size)
		abort();
	g2_safetensors_close(st);
}

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *file;

	check((const char *) data, size, size);
	if (size < 2)
		return 0;
	/* the first byte: how much data stands behind the header, which is the rest */
	file = malloc(8 + size - 1);
	if (!file)
		return 0;
	for (int i = 0; i < 8; i++)
		file[i] = (char) ((uint64_t) (size - 1) >> (8 * i));
	memcpy(file + 8, data + 1, size - 1);
	check(file, 8 + size - 1, 8 + size - 1 + data[0]);
	free(file);
	return 0;
}
