/*
 * weights_source.h: the safetensors files of a model folder as one set of tensors, checked against
 * the graph.
 */
#ifndef G2_WEIGHTS_SOURCE_H
#define G2_WEIGHTS_SOURCE_H

#include "layout.h"
#include "safetensors.h"

#define G2_SOURCE_MAX_FILES 256

typedef struct g2_source_file
{
	char	   *name;
	g2_safetensors *st;
} g2_source_file;

typedef struct g2_source
{
	g2_source_file *file;		/* sorted by name */
	uint32_t	n;
	const char *prefix;			/* "" or "transformer." */
} g2_source;

/* Only the names of the files, from model.safetensors.index.json where it counts; st is NULL. */
extern bool g2_source_list(const char *folder, g2_source *source, g2_error *err);

/*
 * Opens model.safetensors, or the files that model.safetensors.index.json names, and checks that
 * every tensor of the layout is there once, with the layout's shape and a dtype that can be read.
 * Reads headers only.
 */
extern bool g2_source_open(const char *folder, const g2_layout *layout, g2_source *source,
						   g2_error *err);
extern void g2_source_close(g2_source *source);

/* Rows of the layout's tensor, which the source has. */
extern bool g2_source_read(const g2_source *source, const g2_layout_tensor *want, uint64_t first,
						   uint64_t rows, float *values, g2_error *err);

/* The tensor of the layout that a tensor of a file is; -1: of no use (attn.bias and the like). */
extern int64_t g2_source_index(const g2_source *source, const g2_layout *layout,
							   const uint32_t *by_name, const char *name);

/* Indices of the layout's tensors sorted by name, for g2_source_index; g2_free it. */
extern uint32_t *g2_source_sort(const g2_layout *layout, g2_error *err);

#endif							/* G2_WEIGHTS_SOURCE_H */
